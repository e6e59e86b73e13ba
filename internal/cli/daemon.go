package cli

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/signal"
	"slices"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"bantam"
	"bantam/internal/control"
	"bantam/internal/daemon"
	"bantam/internal/source"
)

// bantamNone is no address.
var bantamNone bantam.ID

func (a *app) runCommand() *cobra.Command {
	var pidFile string
	var observe bool
	cmd := &cobra.Command{
		Use:   "run",
		Short: "Watch and ban, until stopped",
		Long: `Run the daemon in the foreground: watch the logs, ban in the kernel.

Without -c the folder is /etc/bantam if it holds a jail.conf or jail.local, else /etc/fail2ban,
else none; it is looked for anew at each reload.

SIGTERM and SIGINT stop it and leave the bans in place, where the kernel ends them in
their time; SIGHUP reloads the configuration; SIGUSR1 opens the log file anew.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.run(cmd.Context(), pidFile, observe) },
	}
	cmd.Flags().StringVar(&pidFile, "pidfile", "", "file for the process number")
	cmd.Flags().BoolVar(&observe, "observe-until-setup", false, "ban nobody as long as there is no configuration folder")
	return cmd
}

// besideError is a start that another server at the same work forbids.
type besideError struct{ error }

func (e besideError) Unwrap() error { return e.error }

func (a *app) run(ctx context.Context, pidFile string, observe bool) error {
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	hangups := make(chan os.Signal, 1)
	signal.Notify(hangups, syscall.SIGHUP, syscall.SIGUSR1)
	defer signal.Stop(hangups)

	d, err := daemon.New(ctx, daemon.Options{
		Find: a.folder, ObserveUntilSetup: observe, Library: a.library, Socket: a.socket, PIDFile: pidFile, Stderr: a.stderr, Stdout: a.stdout,
		DropPrivileges: a.stderr == os.Stderr, // not those of a program that runs this as a part
	})
	if err != nil {
		var refused *control.Error
		if errors.As(err, &refused) && refused.Status == http.StatusConflict {
			return besideError{err}
		}
		return err
	}
	ended := make(chan error, 1)
	go func() { ended <- d.Run(ctx) }()
	if err := a.firstScreen(ctx); err != nil && ctx.Err() == nil {
		stop()
		return errors.Join(err, <-ended)
	}
	for {
		select {
		case err := <-ended:
			return err
		case sig := <-hangups:
			if sig == syscall.SIGUSR1 {
				d.Reopen()
			} else {
				_, _ = d.Reload(ctx, control.None{}) // what is wrong is in the log
			}
		}
	}
}

// firstScreen says what is watched and what is waited for, once every source has
// had its first look, or a second has passed.
func (a *app) firstScreen(ctx context.Context) error {
	enough := time.After(time.Second)
	for tick := time.NewTicker(5 * time.Millisecond); ; {
		st, err := control.Call(ctx, control.NewClient(a.socket), control.GetStatus, control.None{})
		if err != nil {
			tick.Stop()
			return err
		}
		if starting(st) {
			select {
			case <-tick.C:
				continue
			case <-enough:
			}
		}
		tick.Stop()
		if a.json {
			a.print(st)
		} else {
			a.screen(st, sessions(time.Now()), time.Now())
		}
		return nil
	}
}

func starting(st control.Status) bool {
	return slices.ContainsFunc(st.Jails, func(j control.JailStatus) bool {
		return slices.ContainsFunc(j.Sources, func(s source.Status) bool { return s.State == source.Starting })
	})
}

func (a *app) stopCommand() *cobra.Command {
	var unban bool
	cmd := &cobra.Command{
		Use:   "stop",
		Short: "Stop the daemon",
		Long: `Stop the daemon and wait until it has ended. Bans stay in the kernel and end in their
time, so a restart leaves no gap; --unban takes them all out. The database keeps
them either way, and the next start puts them back.

Without a daemon --unban takes out what one has left: the table "inet bantam", and the
sets and chains of the actions that the configuration in -c names. Fail2Ban's are left
alone while it runs.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			client := control.NewClient(a.socket)
			st, err := control.Call(cmd.Context(), client, control.GetStatus, control.None{})
			if unban && errors.Is(err, control.ErrNotRunning) {
				return a.clear(cmd.Context())
			}
			if err != nil {
				return err
			}
			if _, err := control.Call(cmd.Context(), client, control.Stop, control.StopRequest{Unban: unban}); err != nil {
				return err
			}
			if err := a.awaitEnd(cmd.Context(), client); err != nil {
				return err
			}
			switch {
			case a.json:
				a.print(control.StopRequest{Unban: unban})
			case st.Firewall == "":
				a.printf("stopped\n")
			case unban:
				a.printf("stopped; every ban is out of the kernel\n")
			default:
				a.printf("stopped; the bans stay in the kernel until they end\n")
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&unban, "unban", false, "take every ban out of the kernel")
	return cmd
}

// clear takes out of the kernel what a daemon has left.
func (a *app) clear(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, stopWait)
	defer cancel()
	if err := daemon.Clear(ctx, a.folder(), a.library); err != nil {
		return fmt.Errorf("take out what a daemon has left: %w", err)
	}
	if a.json {
		a.print(control.StopRequest{Unban: true})
	} else {
		a.printf("no daemon ran; nothing of Bantam's is left in the kernel\n")
	}
	return nil
}

// stopWait is how long stop waits for the daemon to end.
const stopWait = 15 * time.Second

// awaitEnd waits until nobody answers any more.
func (a *app) awaitEnd(ctx context.Context, client *control.Client) error {
	ctx, cancel := context.WithTimeout(ctx, stopWait)
	defer cancel()
	for tick := time.NewTicker(5 * time.Millisecond); ; {
		_, err := control.Call(ctx, client, control.Ping, control.None{})
		if errors.Is(err, control.ErrNotRunning) {
			tick.Stop()
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return &control.Error{Text: "the daemon was asked to stop and is still there", Hint: "its log says what it waits for"}
		}
	}
}

func (a *app) reloadCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "reload",
		Short: "Read the configuration again; bans stay",
		Long: `Check the configuration and, if nothing in it is wrong, put it to work. Bans, counts
and positions stay. If something is wrong, nothing changes.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			reply, printed, err := ask(cmd.Context(), a, control.Reload, control.None{})
			if err != nil || printed {
				return err
			}
			for _, w := range reply.Warnings {
				a.printf("warning: %s\n", safe(w))
			}
			a.printf("reloaded: %s\n", plural(len(reply.Jails), "jail"))
			return nil
		},
	}
}

func (a *app) pingCommand() *cobra.Command {
	return &cobra.Command{
		Use: "ping", Short: "Is the daemon there?", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			pong, printed, err := ask(cmd.Context(), a, control.Ping, control.None{})
			if err == nil && !printed {
				a.printf("bantam %s answers (pid %d)\n", safe(pong.Version), pong.PID)
			}
			return err
		},
	}
}

func (a *app) versionCommand() *cobra.Command {
	return &cobra.Command{
		Use: "version", Short: "The version of this program", Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			if a.json {
				a.print(map[string]string{"version": bantam.Version})
			} else {
				a.printf("bantam %s\n", bantam.Version)
			}
			return nil
		},
	}
}
