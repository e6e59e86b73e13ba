package cli

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"bantam/library"
)

var update = flag.Bool("update", false, "write docs/reference/commands.md anew")

const commandsPage = "../../docs/reference/commands.md"

const pageHead = `# Commands

Every command and flag. ` + "`bantam help COMMAND`" + ` shows the same; this page is checked against it.

A time is written as ` + "`10m`, `2h`, `1w` or `1d 12h`" + `. ` + "`-c`, `--socket` and `--json`" + ` may stand anywhere.

## Exit codes

| Code | Meaning |
| --- | --- |
| %d | it was done |
| %d | it could not be done; or the answer is no: ` + "`check`" + ` and ` + "`doctor`" + ` found something wrong, ` + "`banned`" + ` and ` + "`why`" + ` of somebody who is not banned, ` + "`why`" + ` of a line that would not count |
| %d | the command line is not understood |
| %d | there is no daemon to ask; ` + "`watch`" + `: it stopped |
| %d | ` + "`run`" + ` did not start, because Fail2Ban or another Bantam does its work here |

Called as ` + "`fail2ban-regex`" + ` it ends as the original does: 0 whether or not anything matched, %d for wrong use or what cannot be
read, %d for an option it does not know. With ` + "`--json`" + ` an error is an object with ` + "`error` and perhaps `hint`" + ` on standard output.
`

// page is docs/reference/commands.md as the commands themselves say it.
func page() string {
	var b strings.Builder
	fmt.Fprintf(&b, pageHead, ExitOK, ExitFailed, ExitUsage, ExitNotRunning, ExitBeside, regexWrong, regexUsage)
	a := &app{library: library.FS}
	root := a.root()
	pageOf(&b, root)
	pageOf(&b, a.fail2banRegexCommand())
	clientPage(&b)
	return b.String()
}

// clientPage is what the program does as fail2ban-client and fail2ban-server.
func clientPage(b *strings.Builder) {
	b.WriteString(`
## fail2ban-client, fail2ban-server

    fail2ban-client [OPTIONS] <COMMAND>

Ask and steer the server as Fail2Ban's programs do, on its socket.

` + "`fail2ban-server`" + ` without a command starts the server; all else is the same. Started in a place of its own, by ` + "`-s`" + ` or by
` + "`socket`" + ` in fail2ban.local, the server has the API's socket beside Fail2Ban's, as ` + "`bantam.sock`" + `. The exit code is 0, or 255
if something could not be done. Options stand before the command.

| Flag | Takes | Meaning |
| --- | --- | --- |
`)
	cell := func(s string) string { return strings.ReplaceAll(s, "|", "\\|") }
	for _, o := range clientOptions() {
		if o.hidden {
			continue
		}
		takes := o.takes
		if takes == "" {
			takes = "–"
		}
		fmt.Fprintf(b, "| `%s` | %s | %s |\n", strings.Join(o.names(), "`, `"), cell(takes), cell(o.help))
	}
	for _, c := range clientCommands {
		if c.form == "" {
			fmt.Fprintf(b, "\n| %s | |\n| --- | --- |\n", strings.ToLower(c.does))
			continue
		}
		fmt.Fprintf(b, "| `%s` | %s |\n", cell(c.form), cell(c.does))
	}
}

func pageOf(b *strings.Builder, cmd *cobra.Command) {
	if cmd.Hidden || cmd.Name() == "help" {
		return
	}
	if cmd.HasParent() && cmd.Parent().Name() == "completion" {
		return // one for each shell, alike
	}
	use := cmd.UseLine()
	use = strings.TrimSuffix(use, " [flags]")
	short := cmd.Short
	if !strings.HasSuffix(short, "?") {
		short = strings.TrimSuffix(short, ".") + "."
	}
	fmt.Fprintf(b, "\n## %s\n\n    %s\n\n%s\n", cmd.CommandPath(), use, short)
	if cmd.Long != "" {
		fmt.Fprintf(b, "\n%s\n", strings.TrimSpace(cmd.Long))
	}
	var rows []string
	cmd.LocalFlags().VisitAll(func(f *pflag.Flag) {
		if f.Name == "help" || f.Hidden {
			return
		}
		name := "`--" + f.Name + "`"
		if f.Shorthand != "" {
			name = "`-" + f.Shorthand + "`, " + name
		}
		rows = append(rows, fmt.Sprintf("| %s | %s | %s |", name, f.Value.Type(), strings.ReplaceAll(f.Usage, "|", "\\|")))
	})
	if len(rows) > 0 {
		fmt.Fprintf(b, "\n| Flag | Takes | Meaning |\n| --- | --- | --- |\n%s\n", strings.Join(rows, "\n"))
	}
	for _, sub := range cmd.Commands() {
		pageOf(b, sub)
	}
}

func TestCommandsPage(t *testing.T) {
	want := page()
	if *update {
		if err := os.WriteFile(commandsPage, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(commandsPage)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) == want {
		return
	}
	g, w := strings.Split(string(got), "\n"), strings.Split(want, "\n")
	for i := range min(len(g), len(w)) {
		if g[i] != w[i] {
			t.Fatalf("%s:%d is\n%s\nand the command says\n%s\nwrite it anew with: go test ./internal/cli -run TestCommandsPage -update", commandsPage, i+1, g[i], w[i])
		}
	}
	t.Errorf("%s has %d lines, the commands say %d", commandsPage, len(g), len(w))
}
