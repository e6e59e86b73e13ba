package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"bantam/internal/config"
	"bantam/internal/control"
	"bantam/internal/daemon"
)

func (a *app) setCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "set KEY VALUE | set SERVICE Fail2Ban enabled|disabled",
		Short: "Change a setting; a running daemon takes it up, bans stay",
		Long: `Change one setting of the folder in use, and let a running daemon read it; its bans stay.

  BanTime 1800                   how long a ban lasts: seconds, 10m, 1d; -1 is
                                 for ever
  FindTime 15m                   for how long a failure counts
  MaxRetry 3                     failures that make a ban
  IgnoreIP 192.0.2.7,10.0.0.0/8  who is never banned
  FilterLocalNetworks disabled   nobody of the local networks is banned
  Mail enabled                   a mail about each ban
  MailRecipient you@example.org  to whom
  RecidiveBanTime 1w             so RecidiveFindTime, RecidiveMaxRetry
  sshd Fail2Ban disabled         a service's jails, or a jail, off or on

Settings are kept in ` + config.SettingsFile + `, whose other lines stay as they are. If
the change makes something wrong that was right before, it is taken back and you are told.`,
		Example:            "  bantam config set BanTime 1h\n  bantam config set sshd Fail2Ban disabled",
		Args:               cobra.ArbitraryArgs,
		ValidArgsFunction:  a.completeSetting,
		DisableFlagParsing: true, // -1 is a value
		RunE: func(cmd *cobra.Command, args []string) error {
			args, err := parseValues(cmd, args)
			if errors.Is(err, pflag.ErrHelp) {
				return cmd.Help()
			}
			if err != nil {
				return usageError{err}
			}
			if len(args) < 2 {
				return usageError{errors.New("bantam config set takes a key and its value: " + strings.Join(config.SettingNames(), ", ") + "; or SERVICE Fail2Ban")}
			}
			return a.changeSetting(cmd.Context(), args, false)
		},
	}
}

// parseValues reads the flags among args; what begins with a minus sign and a digit is none.
func parseValues(cmd *cobra.Command, args []string) ([]string, error) {
	const mark = "\x00"
	words := slices.Clone(args)
	for i, word := range words {
		if len(word) > 1 && word[0] == '-' && word[1] >= '0' && word[1] <= '9' {
			words[i] = mark + word
		}
	}
	cmd.InheritedFlags() // which makes them this command's, too
	if err := cmd.Flags().Parse(words); err != nil {
		return nil, err
	}
	if help, err := cmd.Flags().GetBool("help"); err == nil && help {
		return nil, pflag.ErrHelp
	}
	words = cmd.Flags().Args()
	for i := range words {
		words[i] = strings.TrimPrefix(words[i], mark)
	}
	return words, nil
}

func (a *app) unsetCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "unset KEY | unset SERVICE Fail2Ban",
		Short: "Take a setting back: what the other files say holds again",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 {
				return usageError{errors.New("bantam config unset takes a key")}
			}
			return nil
		},
		ValidArgsFunction: a.completeSetting,
		RunE:              func(cmd *cobra.Command, args []string) error { return a.changeSetting(cmd.Context(), args, true) },
	}
}

func (a *app) getCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "get KEY | get SERVICE Fail2Ban",
		Short: "The value of a setting",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 {
				return usageError{errors.New("bantam config get takes a key")}
			}
			return nil
		},
		ValidArgsFunction: a.completeSetting,
		RunE: func(_ *cobra.Command, args []string) error {
			s, err := config.GetSetting(a.folder(), a.library, args)
			switch {
			case err != nil:
				return err
			case a.json:
				a.print(s)
			default:
				a.printf("%s\n", safe(s.Value))
			}
			return nil
		},
	}
}

func (a *app) completeSetting(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	var names []string
	if words, err := parseValues(cmd, args); cmd.DisableFlagParsing && err == nil {
		args = words
	}
	switch {
	case len(args) == 0:
		jails, _ := config.Names(a.folder(), a.library)
		names = append(config.SettingNames(), jails...)
	case len(args) == 1 && !slices.Contains(config.SettingNames(), args[0]):
		names = []string{"Fail2Ban"}
	case len(args) == 2 || strings.HasPrefix(args[0], "Mail") || args[0] == "FilterLocalNetworks":
		names = []string{"enabled", "disabled"}
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}

// showSettings lists what holds.
func (a *app) showSettings() error {
	dir := a.folder()
	all, err := config.Settings(dir, a.library)
	if err != nil {
		return err
	}
	if a.json {
		a.print(struct {
			Config   string           `json:"config,omitempty"` // empty means the library
			Settings []config.Setting `json:"settings"`
		}{dir, all})
		return nil
	}
	from := "library defaults"
	if dir != "" {
		from = dir
	}
	a.printf("settings of %s\n", safe(from))
	name, value := 0, 0
	for _, s := range all {
		name, value = max(name, utf8.RuneCountInString(safe(s.Name()))), max(value, min(utf8.RuneCountInString(safe(s.Value)), 20))
	}
	for _, s := range all {
		from := origin(s.File, s.Line)
		switch text := safe(s.Value); {
		case text == "":
			a.printf("%-*s  %-*s  %s\n", name, safe(s.Name()), value, "-", from)
		case utf8.RuneCountInString(text) <= value:
			a.printf("%-*s  %-*s  %s\n", name, safe(s.Name()), value, text, from)
		default:
			a.printf("%-*s  %-*s  %s\n", name, safe(s.Name()), value, "", from)
			a.printWrapped(text)
		}
	}
	return nil
}

// printWrapped prints a list of words, indented, on lines of 80 columns.
func (a *app) printWrapped(text string) {
	line := "   "
	for word := range strings.FieldsSeq(text) {
		if len(line)+1+len(word) > 80 && strings.TrimSpace(line) != "" {
			a.printf("%s\n", line)
			line = "   "
		}
		line += " " + word
	}
	a.printf("%s\n", line)
}

// origin is where something was written.
func origin(file string, line int) string {
	switch {
	case file == "":
		return "default"
	case line == 0:
		return safe(file)
	}
	return fmt.Sprintf("%s:%d", safe(file), line)
}

// setReply is a change as JSON.
type setReply struct {
	config.Changed
	// Written is the file of settings.
	Written string `json:"written"`
	// Reloaded is true if a running daemon has taken it up.
	Reloaded bool `json:"reloaded"`
	// Note says why none has.
	Note string `json:"note,omitempty"`
}

// settingsFolder is where settings are written.
func (a *app) settingsFolder() (string, error) {
	if a.config == "library" {
		return "", control.Refuse("name a folder with -c, or leave -c out", "the library is inside the program: nothing can be set in it")
	}
	if dir := a.folder(); dir != "" {
		return dir, nil
	}
	return "/etc/bantam", nil
}

func (a *app) changeSetting(ctx context.Context, words []string, unset bool) error {
	dir, err := a.settingsFolder()
	if err != nil {
		return err
	}
	before := mistakes(a.checked(dir))
	changed, err := config.ChangeSetting(dir, a.library, words, unset, func() error {
		for _, m := range mistakes(a.checked(dir)) { // the first is what the others come from
			if !slices.ContainsFunc(before, func(b mistake) bool { return b.text == m.text }) {
				return control.Refuse("nothing was changed", "with this setting the configuration would be wrong: %s", m.err)
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	reply := setReply{Changed: changed, Written: filepath.Join(dir, config.SettingsFile)}
	warnings, err := a.takeUp(ctx, dir, &reply)
	if a.json && err == nil {
		a.print(reply)
		return nil
	}
	if err != nil {
		var refused *control.Error
		if errors.As(err, &refused) {
			return control.Refuse(refused.Hint, "%s is written to %s, but the running daemon did not take it up: %s", changed.Name(), reply.Written, refused.Text)
		}
		return fmt.Errorf("%s is written to %s, but the running daemon did not take it up: %w", changed.Name(), reply.Written, err)
	}
	a.printChange(reply, unset)
	for _, w := range warnings {
		a.printf("warning: %s\n", safe(w))
	}
	return nil
}

// checked is all that is wrong with a folder that is there.
func (a *app) checked(dir string) ([]config.Problem, error) {
	if _, err := os.Stat(dir); errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	_, problems, err := daemon.Check(dir, a.library)
	return problems, err
}

// A mistake is an error of a configuration, with what it says but for its line, which moves.
type mistake struct {
	text string
	err  error
}

// mistakes are the errors among problems, in their order.
func mistakes(problems []config.Problem, err error) (out []mistake) {
	if err != nil {
		out = append(out, mistake{err.Error(), err})
	}
	for _, p := range problems {
		if !p.Warning {
			key := p
			key.Line = 0
			out = append(out, mistake{p.Jail + " " + key.String(), &p})
		}
	}
	return out
}

// takeUp lets the daemon that runs on the folder, if there is one, read it again.
func (a *app) takeUp(ctx context.Context, dir string, reply *setReply) (warnings []string, err error) {
	client := control.NewClient(a.socket)
	st, err := control.Call(ctx, client, control.GetStatus, control.None{})
	if errors.Is(err, control.ErrNotRunning) {
		reply.Note = "bantam is not running: it counts from the next start"
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if !sameFolder(st.Config, dir) {
		uses := "the library alone"
		if st.Config != "" {
			uses = st.Config
		}
		reply.Note = "the running bantam uses " + uses + ": it counts from its next start with " + dir
		return nil, nil
	}
	loaded, err := control.Call(ctx, client, control.Reload, control.None{})
	if err != nil {
		return nil, err
	}
	reply.Reloaded = true
	return loaded.Warnings, nil
}

func sameFolder(a, b string) bool {
	one, err := os.Stat(a)
	if a == "" || err != nil {
		return false
	}
	other, err := os.Stat(b)
	return err == nil && os.SameFile(one, other)
}

func (a *app) printChange(r setReply, unset bool) {
	value, was := r.Value, r.Was.Value
	if value == "" {
		value = "-"
	}
	if was == "" {
		was = "-"
	}
	line := safe(r.Name()) + " is " + safe(value)
	switch {
	case unset:
		line += ", by " + origin(r.File, r.Line)
	case value != was:
		line += ", was " + safe(was) + " (" + origin(r.Was.File, r.Was.Line) + ")"
	}
	a.printf("%s\n", line)
	if r.Overruled {
		a.printf("  %s says so and wins over the setting; change it there\n", origin(r.File, r.Line))
	}
	if len(r.Jails) > 0 && !slices.Equal(r.Jails, []string{r.Service}) {
		a.printf("  its jails: %s\n", safe(strings.Join(r.Jails, ", ")))
	}
	if len(r.Own) > 0 {
		a.printf("  not for %s: own value in their sections\n", safe(few(r.Own)))
	}
	a.printf("written to %s\n", safe(r.Written))
	if r.Reloaded {
		a.printf("reloaded; bans stay\n")
	} else {
		a.printf("%s\n", safe(r.Note))
	}
}
