package cli

import (
	"cmp"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
)

// commandMap is every command by what it is for; each screen begins here.
var commandMap = []struct {
	heading string
	rows    [][4]string // name, what it is for, and the same again
}{
	{"Begin", [][4]string{
		{"setup", "find services, propose jails", "enforce", "ban, after observing"},
		{"doctor", "is it really working?", "check", "mistakes in the files"},
	}},
	{"See", [][4]string{
		{"status", "all jails, or one", "banned", "who, until when, why"},
		{"why", "from a ban to its log lines", "history", "bans of the past"},
		{"top", "a live screen", "watch", "events as they happen"},
	}},
	{"Act", [][4]string{
		{"ban", "an address or network", "unban", "lift bans"},
		{"allow", "who is never banned", "import", "take over other bans"},
	}},
	{"Tell", [][4]string{
		{"notify", "who is told of bans", "report", "abuse reports"},
	}},
	{"Change", [][4]string{
		{"config", "settings, jails, library", "reload", "read it; bans stay"},
		{"regex", "try a filter on a log", "replay", "try all on old logs"},
	}},
	{"Run", [][4]string{
		{"run", "the daemon", "stop", "the daemon"},
		{"ping", "is the daemon there?", "version", "of this program"},
		{"completion", "for bash, zsh, fish", "help", "more of a command"},
	}},
}

// helpCommand is help COMMAND.
func (a *app) helpCommand(root *cobra.Command) *cobra.Command {
	return &cobra.Command{
		Use:   "help [COMMAND]",
		Short: "More of a command",
		ValidArgsFunction: func(_ *cobra.Command, args []string, _ string) (names []string, _ cobra.ShellCompDirective) {
			if cmd, _, err := root.Find(args); err == nil {
				for _, sub := range cmd.Commands() {
					if sub.IsAvailableCommand() {
						names = append(names, sub.Name())
					}
				}
			}
			return names, cobra.ShellCompDirectiveNoFileComp
		},
		RunE: func(_ *cobra.Command, args []string) error {
			cmd, rest, err := root.Find(args)
			if err != nil || len(rest) > 0 {
				return usageError{fmt.Errorf("there is no command %q", strings.Join(args, " "))}
			}
			cmd.InitDefaultHelpFlag()
			if a.json {
				a.print(helpReply{cmd.CommandPath(), cmd.Short, cmp.Or(cmd.Long, cmd.Short)})
				return nil
			}
			a.help(cmd, nil)
			return nil
		},
	}
}

// helpReply is the help of a command as JSON.
type helpReply struct {
	Command string `json:"command"`
	Short   string `json:"short"`
	Text    string `json:"text"`
}

// help prints what a command is for, on a screen of 80 columns.
func (a *app) help(cmd *cobra.Command, _ []string) {
	if !cmd.HasParent() {
		a.printf("%s\n\n", filled(cmd.Long))
		for _, group := range commandMap {
			heading := group.heading
			for _, r := range group.rows {
				a.printf("%s\n", strings.TrimRight(pad(heading, 8, false)+pad(r[0], 12, false)+pad(r[1], 30, false)+pad(r[2], 9, false)+r[3], " "))
				heading = ""
			}
		}
		a.printf("\n%s", cmd.LocalFlags().FlagUsagesWrapped(screenWidth))
		a.printf("\nEvery command takes these. bantam help COMMAND tells more, man bantam all.\n")
		return
	}
	long := cmd.Long
	if long == "" {
		long = cmd.Short
		if !strings.HasSuffix(long, "?") {
			long = strings.TrimSuffix(long, ".") + "."
		}
	}
	use := cmd.UseLine()
	if cmd.HasAvailableSubCommands() {
		use = cmd.CommandPath() + " COMMAND"
	}
	a.printf("%s\n\nUsage: %s\n", filled(long), strings.TrimSuffix(use, " [flags]"))
	if cmd.HasAvailableSubCommands() {
		a.printf("\nCommands:\n")
		for _, sub := range cmd.Commands() {
			if sub.IsAvailableCommand() {
				a.printf("  %-11s %s\n", sub.Name(), hanging(screenWidth, 14, sub.Short))
			}
		}
	}
	if cmd.Example != "" {
		a.printf("\nExamples:\n%s\n", cmd.Example)
	}
	if cmd.HasAvailableLocalFlags() {
		a.printf("\nFlags:\n%s", cmd.LocalFlags().FlagUsagesWrapped(screenWidth))
	}
	a.printf("\nAlso -c, --json and --socket, as every command: see bantam help.\n")
}

// filled is text in lines that fit the screen: paragraphs between empty lines are filled, and what is indented stays as it
// stands.
func filled(text string) string {
	var out, words []string
	flush := func() {
		out = append(out, wrapped(screenWidth, " ", words)...)
		words = nil
	}
	for line := range strings.SplitSeq(strings.Trim(text, "\n"), "\n") {
		if strings.TrimSpace(line) != "" && !strings.HasPrefix(line, " ") && !strings.HasPrefix(line, "\t") {
			words = append(words, strings.Fields(line)...)
			continue
		}
		flush()
		out = append(out, line)
	}
	flush()
	return strings.Join(out, "\n")
}
