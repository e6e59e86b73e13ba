package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"bantam"
	"bantam/internal/control"
)

func (a *app) watchCommand() *cobra.Command {
	var r control.WatchRequest
	cmd := &cobra.Command{
		Use:   "watch",
		Short: "What happens, as it happens",
		Long: `Print what happens from now on, a line each: failures that are found and ignored, bans, their ends and
what lasts longer, reloads, jails that are set aside. It ends with ctrl-c, or when the daemon stops; then
the exit code is 3. Whoever reads too slowly loses lines and is told how many; no ban waits.

With --json each line is an object.`,
		Example: "  bantam watch\n  bantam watch --jail sshd --json",
		Args:    noArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return a.watch(cmd.Context(), r) },
	}
	cmd.Flags().StringVarP(&r.Jail, "jail", "j", "", "only of this jail")
	a.completeJail(cmd)
	return cmd
}

func (a *app) watch(ctx context.Context, r control.WatchRequest) (err error) {
	events, err := control.Follow(ctx, control.NewClient(a.socket), control.Watch, r)
	if err != nil {
		return err
	}
	defer func() { _ = events.Close() }() // it has been read as far as is wanted
	if !a.json {
		fmt.Fprintln(a.stderr, "watching; ctrl-c ends it")
	}
	lines := json.NewEncoder(safeJSON{a.stdout})
	lines.SetEscapeHTML(false)
	stopped := false
	for {
		e, err := events.Next()
		switch {
		case ctx.Err() != nil:
			return nil
		case stopped && err != nil:
			return fmt.Errorf("%w any more", control.ErrNotRunning)
		case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
			return control.Refuse("begin again; bantam ping says whether the daemon runs", "the daemon has broken off: this reader was too slow, or the daemon died")
		case err != nil:
			return err
		}
		stopped = e.Kind == control.EventStop
		if a.json {
			if err := lines.Encode(e); err != nil {
				return fmt.Errorf("print: %w", err)
			}
			continue
		}
		what, tint := eventText(&e)
		text := e.At.Local().Format(time.TimeOnly) + "  " + what
		if _, err := fmt.Fprintln(a.stdout, a.tinted(tint, text)); err != nil {
			return fmt.Errorf("print: %w", err)
		}
	}
}

// eventText says an event in one safe line without its time, and how it looks.
func eventText(e *control.Event) (text string, t tint) {
	jail, who := safe(e.Jail), safe(strings.TrimSpace(e.ID.String()+" "+e.Country))
	var more []string
	add := func(format string, args ...any) { more = append(more, fmt.Sprintf(format, args...)) }
	verb := e.Kind
	switch e.Kind {
	case control.EventFailure:
		t = faint
		if e.User != "" {
			add("as %s", safe(e.User))
		}
		if e.Regex > 0 {
			add("failregex %d", e.Regex)
		}
	case control.EventIgnored:
		t = faint
		add("let off by %s", safe(e.Text))
	case control.EventBan, control.EventProlong, control.EventRestore:
		t = strong
		switch {
		case e.End.IsZero():
			add("for ever")
		default:
			add("for %s", length(e.End.Sub(e.At).Round(time.Second)))
		}
		if e.By == bantam.ByOperator {
			add("by hand")
		} else if e.Failures > 0 {
			add("%s", plural(e.Failures, "failure"))
		}
		if e.Text != "" {
			add("%s", safe(e.Text))
		}
		if e.Count > 1 {
			add("ban number %d", e.Count)
		}
		if e.Observed {
			t = doubt
			add("observed only")
		}
	case control.EventUnban:
		add("%s", map[string]string{
			bantam.CauseExpired: "its time is up", bantam.CauseOperator: "by hand", bantam.CauseAllowed: "never to be banned any more", bantam.CauseRemoved: "its jail is gone",
		}[e.Text])
		if e.Observed {
			add("observed only")
		}
	case control.EventHeld:
		t = doubt
		add("%s", safe(e.Text))
	case control.EventReload:
		return fmt.Sprintf("%-8s %s at work", "reload", plural(e.Count, "jail")), strong
	case control.EventAside:
		return fmt.Sprintf("%-8s %s: %s", "aside", jail, safe(e.Text)), wrong
	case control.EventLost:
		return fmt.Sprintf("%-8s %s: this reader is too slow", "lost", plural(e.Count, "event")), wrong
	case control.EventStop:
		return "stop     the daemon stops", strong
	default:
		verb = safe(verb)
		add("%s", safe(e.Text))
	}
	return strings.TrimRight(fmt.Sprintf("%-8s %s  %s  %s", verb, pad(jail, 10, false), pad(who, 18, false), strings.Join(more, ", ")), " "), t
}
