// Package cli is the command line: one file per command, and what they share in
// this one. testdata/*.txt shows what each prints, and runs it.
//
// What comes from logs is printed escaped: a user name is an attacker's text, and a
// terminal obeys what it is shown.
package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"bantam"
	"bantam/internal/config"
	"bantam/internal/control"
)

// Exit codes.
const (
	ExitOK         = 0
	ExitFailed     = 1 // it could not be done; the message says why
	ExitUsage      = 2 // the command line is not understood
	ExitNotRunning = 3 // there is no daemon to ask
	ExitBeside     = 4 // run: another server does its work here
)

// DefaultSocket is where the daemon's API listens.
const DefaultSocket = "/run/bantam/bantam.sock"

// An app is one run of the program: where it prints and what it was told.
type app struct {
	stdout, stderr io.Writer
	library        fs.FS

	config string // -c
	socket string // --socket
	json   bool   // --json
	colour bool   // stdout shows colours
	wide   int    // columns of the terminal that stdout is, 0 for none
	all    bool   // status --all
}

// Main runs the command line args, of which the first is the name the program was
// called by, and returns its exit code. ctx ends what waits or runs.
func Main(ctx context.Context, args []string, library fs.FS, stdout, stderr io.Writer) int {
	a := &app{stdout: stdout, stderr: stderr, library: library, colour: colourful(stdout, os.Getenv), wide: terminalWidth(stdout)}
	switch name := filepath.Base(args[0]); name {
	case "fail2ban-regex":
		return a.fail2banRegex(ctx, args[1:])
	case "fail2ban-client", "fail2ban-server":
		return a.fail2banClient(ctx, name, args[1:])
	}
	root := a.root()
	root.SetArgs(args[1:])
	root.SetOut(stdout)
	root.SetErr(stderr)
	err := root.ExecuteContext(ctx)
	if err != nil && slices.Contains(args, "--json") {
		a.json = true // also if a mistake stands before it
	}
	return a.explain(err)
}

// usageError is a command line that is not understood.
type usageError struct{ error }

func (a *app) root() *cobra.Command {
	root := &cobra.Command{
		Use:   "bantam",
		Short: "Keep attackers out",
		Long: `Bantam reads logs, notices who keeps failing, and shuts them out in the kernel.

Called alone it shows the state of everything.`,
		Args:          cobra.NoArgs,
		SilenceErrors: true, SilenceUsage: true,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.status(cmd.Context(), "") },
	}
	root.PersistentFlags().StringVarP(&a.config, "config", "c", "", `folder of the configuration; "library" for what is built in`)
	root.PersistentFlags().StringVar(&a.socket, "socket", DefaultSocket, "socket of the daemon")
	root.PersistentFlags().BoolVar(&a.json, "json", false, "print JSON")
	root.CompletionOptions.DisableDefaultCmd = true // ours needs no package of bash's
	root.SetHelpFunc(a.help)
	root.SetHelpCommand(a.helpCommand(root))
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usageError{err} })
	root.AddCommand(
		a.runCommand(),
		a.stopCommand(),
		a.reloadCommand(),
		a.setupCommand(),
		a.enforceCommand(),
		a.checkCommand(),
		a.doctorCommand(),
		a.statusCommand(),
		a.topCommand(),
		a.watchCommand(),
		a.bannedCommand(),
		a.historyCommand(),
		a.whyCommand(),
		a.banCommand(),
		a.unbanCommand(),
		a.allowCommand(),
		a.regexCommand(),
		a.replayCommand(),
		a.configCommand(),
		a.importCommand(),
		a.notifyCommand(),
		a.reportCommand(),
		a.pingCommand(),
		a.versionCommand(),
		a.completionCommand(root),
		a.manCommand(),
	)
	return root
}

// explain prints an error as a person reads it and returns the exit code.
func (a *app) explain(err error) int {
	if err == nil {
		return ExitOK
	}
	code, text, hint := ExitFailed, err.Error(), ""
	var usage usageError
	var refused *control.Error
	var problem *config.Problem
	switch {
	case errors.As(err, &usage):
		code, hint = ExitUsage, "bantam help shows the commands, bantam help COMMAND its flags"
		if errors.As(usage.error, &refused) {
			hint = refused.Hint
		}
	case errors.Is(err, control.ErrNotRunning):
		code, hint = ExitNotRunning, "start it with: sudo bantam run; or name its --socket"
		if a.socket == DefaultSocket && underSystemd() {
			hint = "start it with: sudo systemctl start bantam; or in sight: sudo bantam run"
		}
	case errors.As(err, &refused):
		hint = refused.Hint
		var beside besideError
		if errors.As(err, &beside) {
			code = ExitBeside
		}
	case errors.As(err, &problem):
		hint = problem.Hint
	case strings.HasPrefix(text, "unknown command"):
		code, hint = ExitUsage, "bantam help shows the commands"
		if near := a.near(text); near != "" {
			hint = "did you mean " + near + "? " + hint
		}
	}
	switch {
	case errors.Is(err, errSilent):
	case a.json:
		a.print(&control.Error{Text: text, Hint: hint})
	default:
		fmt.Fprintln(a.stderr, "bantam: "+strings.ReplaceAll(safeLines(text), "\n", "\nbantam: "))
		if hint != "" {
			fmt.Fprintln(a.stderr, "bantam: hint: "+safe(hint))
		}
	}
	return code
}

// near are the commands that somebody may have meant who typed one that cobra's error says is unknown.
func (a *app) near(text string) string {
	var word, parent string
	if _, err := fmt.Sscanf(text, "unknown command %q for %q", &word, &parent); err != nil || parent != "bantam" {
		return ""
	}
	root := a.root()
	root.SuggestionsMinimumDistance = 2 // letters
	return strings.Join(root.SuggestionsFor(word), " or ")
}

// errSilent ends a command that has already said what is wrong.
var errSilent = errors.New("said already")

// print writes v as JSON for people and programs.
func (a *app) print(v any) {
	e := json.NewEncoder(safeJSON{a.stdout})
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	if err := e.Encode(v); err != nil {
		fmt.Fprintln(a.stderr, "bantam: print:", err)
	}
}

func (a *app) printf(format string, args ...any) { fmt.Fprintf(a.stdout, format, args...) }

// ask asks the daemon, and prints the reply as JSON if that is wanted.
func ask[Request, Reply any](ctx context.Context, a *app, e control.Endpoint[Request, Reply], req Request) (reply Reply, printed bool, err error) {
	reply, err = control.Call(ctx, control.NewClient(a.socket), e, req)
	if err == nil && a.json {
		a.print(reply)
	}
	return reply, a.json, err
}

// folder is the configuration in use; empty means the library alone.
func (a *app) folder() string {
	return config.Find(a.config, "/etc/bantam", "/etc/fail2ban")
}

// safe is text for a terminal: what is not printable is escaped, so that neither
// control sequences nor reversed writing reach it.
func safe(s string) string {
	if strings.IndexFunc(s, func(r rune) bool { return !unicode.IsPrint(r) || r == unicode.ReplacementChar }) < 0 {
		return s
	}
	var b strings.Builder
	for _, r := range s {
		switch {
		case r == unicode.ReplacementChar:
			b.WriteString(`\ufffd`)
		case unicode.IsPrint(r):
			b.WriteRune(r)
		case r < 0x100:
			fmt.Fprintf(&b, `\x%02x`, r)
		default:
			fmt.Fprintf(&b, `\u%04x`, r)
		}
	}
	return b.String()
}

// safeLines is safe for text of several lines, which stay lines.
func safeLines(s string) string {
	lines := strings.Split(s, "\n")
	for i, line := range lines {
		lines[i] = safe(line)
	}
	return strings.Join(lines, "\n")
}

// safeJSON writes JSON with its characters escaped that are not printable. JSON wants that of few of them only (RFC 8259, 7),
// and of none of those that reverse what follows.
type safeJSON struct{ to io.Writer }

func (s safeJSON) Write(text []byte) (int, error) {
	if !slices.ContainsFunc(text, func(b byte) bool { return b >= 0x7f }) {
		return s.to.Write(text)
	}
	out := make([]byte, 0, len(text))
	for rest := text; len(rest) > 0; {
		r, n := utf8.DecodeRune(rest)
		switch {
		case r < 0x7f || unicode.IsPrint(r) && r != unicode.ReplacementChar:
			out = append(out, rest[:n]...)
		case r > 0xffff:
			high, low := utf16.EncodeRune(r)
			out = fmt.Appendf(out, `\u%04x\u%04x`, high, low)
		default:
			out = fmt.Appendf(out, `\u%04x`, r)
		}
		rest = rest[n:]
	}
	if _, err := s.to.Write(out); err != nil {
		return 0, err
	}
	return len(text), nil
}

// parseIDs reads addresses and prefixes from the command line.
func parseIDs(args []string) ([]bantam.ID, error) {
	ids := make([]bantam.ID, len(args))
	for i, arg := range args {
		id, err := bantam.ParsePrefix(arg)
		if err != nil {
			return nil, usageError{err}
		}
		ids[i] = id
	}
	return ids, nil
}

// parseID reads an address, a prefix, or a text, which a filter may have taken for the offender. Of a text wrong is
// what to say if nobody was banned by it.
func parseID(arg string) (id bantam.ID, wrong error) {
	id, err := bantam.ParsePrefix(arg)
	if err != nil {
		return bantam.TextID(arg), usageError{err}
	}
	return id, nil
}

// length is a duration as people say it: its two largest units, "2d 4h", "5m".
func length(d time.Duration) string {
	if d < 0 {
		return "for ever"
	}
	if d < time.Second {
		return "0s"
	}
	var parts []string
	for _, u := range []struct {
		name string
		unit time.Duration
	}{{"w", 7 * 24 * time.Hour}, {"d", 24 * time.Hour}, {"h", time.Hour}, {"m", time.Minute}, {"s", time.Second}} {
		if n := d / u.unit; n > 0 {
			parts = append(parts, fmt.Sprintf("%d%s", n, u.name))
			d -= n * u.unit
		} else if len(parts) > 0 {
			break
		}
		if len(parts) == 2 {
			break
		}
	}
	return strings.Join(parts, " ")
}

// until says when a ban ends, seen from now.
func until(b bantam.Ban, now time.Time) string {
	if b.Permanent() {
		return "for ever"
	}
	return fmt.Sprintf("until %s (%s)", stamp(b.End, now), length(b.End.Sub(now)))
}

// tabled is stamp in a table, where a day of this year or nearly so has no year.
func tabled(t, now time.Time) string {
	t, now = t.Local(), now.Local()
	switch away := t.Sub(now).Abs(); {
	case t.Format(time.DateOnly) == now.Format(time.DateOnly):
		return t.Format(time.TimeOnly)
	case away < 180*24*time.Hour:
		return t.Format("Jan _2 15:04")
	}
	return t.Format(time.DateOnly)
}

// stamp is a time in local time, with its day only if that is not today.
func stamp(t, now time.Time) string {
	t, now = t.Local(), now.Local()
	if t.Format(time.DateOnly) == now.Format(time.DateOnly) {
		return t.Format(time.TimeOnly)
	}
	return t.Format(time.DateTime)
}
