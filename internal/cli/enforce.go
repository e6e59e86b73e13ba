package cli

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"bantam/internal/control"
	"bantam/internal/setup"
)

// enforceReply is what enforce prints as JSON.
type enforceReply struct {
	control.EnforceReply
	// Confirmed is true if it stands, Written the file that says so from now on.
	Confirmed bool   `json:"confirmed"`
	Written   string `json:"written,omitempty"`
}

// enforceFlags are enforce's own.
type enforceFlags struct {
	length             time.Duration
	confirm, undo, yes bool
}

func (a *app) enforceCommand() *cobra.Command {
	var f enforceFlags
	cmd := &cobra.Command{
		Use:   "enforce",
		Short: "Leave observe mode; undone in 60 s unless confirmed",
		Long: `Carry out what the daemon has only observed, for a minute at first. Who is not shut out
by it confirms: with Enter at the prompt, or with bantam enforce --confirm from anywhere.
Otherwise the daemon observes again by itself and takes its bans out of the kernel.

It is about jails that observe because [DEFAULT] says so. Bans that were observed and have
not ended begin in earnest. Confirmed, the line observe = true leaves the file, if bantam
setup wrote it; a file of somebody else's is named and left alone.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if f.length <= 0 || f.length > time.Hour {
				return usageError{fmt.Errorf("--for takes a time up to an hour, as in 60s")}
			}
			return a.enforce(cmd.Context(), f)
		},
	}
	cmd.Flags().DurationVar(&f.length, "for", time.Minute, "how long to wait to be confirmed")
	cmd.Flags().BoolVar(&f.confirm, "confirm", false, "keep what is on trial")
	cmd.Flags().BoolVar(&f.undo, "undo", false, "end the trial now")
	cmd.Flags().BoolVarP(&f.yes, "yes", "y", false, "without a trial")
	cmd.MarkFlagsMutuallyExclusive("confirm", "undo", "yes")
	return cmd
}

func (a *app) enforce(ctx context.Context, f enforceFlags) error {
	req := control.EnforceRequest{Seconds: f.length.Seconds(), Confirm: f.confirm, Undo: f.undo}
	if f.yes {
		req.Seconds = -1
	}
	reply, err := control.Call(ctx, control.NewClient(a.socket), control.Enforce, req)
	switch {
	case err != nil:
		return err
	case f.undo:
		if !a.json {
			a.printf("observing again; nobody is banned\n")
		} else {
			a.print(enforceReply{EnforceReply: reply})
		}
		return nil
	case f.confirm, f.yes:
		return a.settled(ctx, reply)
	case a.json:
		a.print(enforceReply{EnforceReply: reply})
		return nil
	}
	a.printf("%s on trial: bans are carried out", plural(len(reply.Jails), "jail"))
	if len(reply.Jails) > 0 {
		a.printf(" (%s)", safe(few(reply.Jails)))
	}
	a.printf("\nUndone in %s unless you confirm it. Log in once more, from another window,\nto see that you still can.\n\n", length(f.length))
	if terminal(os.Stdin) == nil {
		a.printf("Confirm with: bantam enforce --confirm\n")
		return nil
	}
	return a.awaitConfirmed(ctx, reply)
}

// awaitConfirmed asks at the terminal until the trial is over.
func (a *app) awaitConfirmed(ctx context.Context, begun control.EnforceReply) error {
	a.printf("Keep it? Enter or y for yes, n for no: ")
	ctx, cancel := context.WithDeadline(ctx, begun.Trial.Until)
	defer cancel()
	answers := make(chan string, 1)
	go func() { // it waits for the terminal, as long as the program runs
		line, err := bufio.NewReader(os.Stdin).ReadString('\n')
		if err == nil {
			answers <- strings.ToLower(strings.TrimSpace(line))
		}
	}()
	select {
	case answer := <-answers:
		client := control.NewClient(a.socket)
		if answer == "" || strings.HasPrefix("yes", answer) {
			if _, err := control.Call(ctx, client, control.Enforce, control.EnforceRequest{Confirm: true}); err != nil {
				return err
			}
			return a.settled(ctx, begun)
		}
		if _, err := control.Call(ctx, client, control.Enforce, control.EnforceRequest{Undo: true}); err != nil {
			return err
		}
		a.printf("Observing again; nobody is banned.\n")
		return nil
	case <-ctx.Done():
		a.printf("\n")
		return control.Refuse("bantam enforce tries again; --for 5m gives more time", "not confirmed in time: it observes again")
	}
}

// settled takes the line out that has jails observe, and says how it stands.
func (a *app) settled(ctx context.Context, reply control.EnforceReply) error {
	out := enforceReply{EnforceReply: reply, Confirmed: true}
	path := filepath.Join(reply.Place.Dir, reply.Place.File)
	if filepath.IsAbs(reply.Place.File) {
		path = reply.Place.File
	}
	mine, err := setup.TakeObserve(path, reply.Place.Line)
	why := ""
	switch {
	case err != nil:
		why = fmt.Sprintf("the line cannot be taken out: %v", err)
	case !mine:
		why = "bantam setup did not write that, so it is left alone"
	default:
		if _, err := control.Call(ctx, control.NewClient(a.socket), control.Reload, control.None{}); err != nil {
			return fmt.Errorf("%s has jails observe no more, and the daemon enforces; but the reload failed: %w", path, err)
		}
		out.Written = path
	}
	if why != "" {
		return errors.Join(control.Refuse("take that line out, and: bantam reload",
			"it enforces until the next reload or start, and then observes again:\n%s:%d says observe = true; %s", path, reply.Place.Line, why))
	}
	if a.json {
		a.print(out)
	} else {
		a.printf("Enforcing: %s. %s says so.\n", safe(few(reply.Jails)), safe(path))
	}
	return nil
}
