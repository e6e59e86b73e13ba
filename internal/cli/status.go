package cli

import (
	"context"
	"fmt"
	"math"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"bantam/internal/control"
	"bantam/internal/jail"
	"bantam/internal/source"
)

func (a *app) statusCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "status [JAIL]",
		Short: "The state of everything, or of one jail",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 1 {
				return usageError{fmt.Errorf("bantam status takes one jail")}
			}
			return nil
		},
		ValidArgsFunction: func(cmd *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
			return a.jailNames(cmd.Context()), cobra.ShellCompDirectiveNoFileComp
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.status(cmd.Context(), strings.Join(args, ""))
		},
	}
}

// status shows everything, or one jail if it is named.
func (a *app) status(ctx context.Context, name string) error {
	st, err := control.Call(ctx, control.NewClient(a.socket), control.GetStatus, control.None{})
	if err != nil {
		return err
	}
	if name == "" {
		if a.json {
			a.print(st)
		} else {
			a.screen(st, time.Now())
			if st.Config == "" && st.Firewall == "" {
				a.printf("Nobody is banned until you run: sudo bantam setup\n")
			}
		}
		return nil
	}
	for _, j := range st.Jails {
		if j.Jail != name {
			continue
		}
		if a.json {
			a.print(j)
			return nil
		}
		bans, err := control.Call(ctx, control.NewClient(a.socket), control.GetBans, control.BansRequest{Jail: name})
		if err != nil && j.Aside == "" {
			return err
		}
		a.jailScreen(j, bans)
		return nil
	}
	var known []string
	for _, j := range st.Jails {
		known = append(known, j.Jail)
	}
	return control.Refuse("bantam status lists the jails", "%s", &jail.UnknownJailError{Jail: name, Known: known})
}

// screen is the state of everything on one screen of 80 columns.
func (a *app) screen(st control.Status, now time.Time) {
	from := "library defaults"
	if st.Config != "" {
		from = safe(st.Config)
	}
	a.printf("bantam %s · %s · %s · up %s · %s\n\n", st.Version, safe(st.Mode(now)), from, length(now.Sub(st.Since)), size(st.Memory))

	w := tabwriter.NewWriter(a.stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "JAIL\tWATCHES\tFAILING\tBANNED\tDROPPED\tSTATE")
	for _, j := range st.Jails {
		if j.Aside != "" {
			fmt.Fprintf(w, "%s\t-\t-\t-\t-\tset aside\n", safe(j.Jail))
			continue
		}
		watches, state := watched(j, now)
		failing, dropped := strconv.Itoa(j.Failing), "-"
		if j.Jail == jail.Manual {
			failing = "-"
		}
		if j.Dropped != nil {
			dropped = count(j.Dropped.Packets)
		}
		if j.Observe && st.Firewall != "" {
			state += ", observes only"
		}
		if j.Held > 0 {
			state += ", held back: " + strconv.Itoa(j.Held)
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%d\t%s\t%s\n", safe(j.Jail), watches, failing, j.Banned, dropped, state)
	}
	_ = w.Flush()

	for _, j := range st.Jails {
		if j.Aside != "" {
			a.printf("\n%s is set aside: %s\n", safe(j.Jail), safeLines(j.Aside))
		}
	}
	if st.Unsaved > 0 {
		a.printf("\nThe database takes nothing: %s (%s in memory)\n", safe(st.StoreError), plural(st.Unsaved, "decision"))
	}
	for _, act := range st.Actions {
		switch {
		case act.Failing > 0:
			a.printf("\nThe action %s fails for %s and tries again: %s\n", safe(act.Action), plural(act.Failing, "offender"), safe(act.Err))
		case act.Err != "":
			a.printf("\nThe action %s hangs, %s waiting: %s\n", safe(act.Action), plural(act.Pending, "decision"), safe(act.Err))
		}
		if act.GaveUp > 0 {
			a.printf("\nThe action %s gave up on %s; the log says why\n", safe(act.Action), plural(int(act.GaveUp), "decision"))
		}
	}
	if st.Privileges != "" {
		a.printf("\nPrivileges: %s", safe(st.Privileges))
	}
	a.printf("\nNever banned: this machine, and %s of the allow list\n", plural(st.Allowed, "entry"))
	a.printf("Next: bantam banned | bantam unban ADDRESS | bantam status JAIL | bantam help\n")
}

// watched says in a few words what a jail watches and how that goes.
func watched(j control.JailStatus, now time.Time) (watches, state string) {
	if j.Jail == jail.Manual {
		return "bans by hand", "ok"
	}
	var reading, waiting []string
	state = "ok"
	for _, s := range j.Sources {
		switch s.State {
		case source.Reading:
			reading = append(reading, s.Name)
			switch {
			case !s.Live:
				state = "catching up"
			case !s.Silent.IsZero() && state == "ok":
				state = "silent since " + stamp(s.Silent, now)
			}
		case source.Ended:
			reading = append(reading, s.Name)
		case source.Waiting, source.Starting:
			waiting = append(waiting, s.Name)
		default:
			reading = append(reading, s.Name)
			state = safe(s.State)
		}
	}
	names := reading
	if len(reading) == 0 {
		names, state = waiting, "waits for the file"
	}
	switch len(names) {
	case 0:
		return "nothing", "no source"
	case 1:
		return safe(names[0]), state
	}
	return fmt.Sprintf("%s and %d more", safe(names[0]), len(names)-1), state
}

// lastLine says how old a source's last line is, and whether that is unlike it.
func lastLine(s source.Status, now time.Time) string {
	if s.Last.IsZero() {
		return ""
	}
	text := ", the last " + length(max(0, now.Sub(s.Last))) + " ago"
	if !s.Silent.IsZero() {
		text += fmt.Sprintf(": silent, it used to have %.0f an hour", s.PerHour)
	}
	return text
}

// jailScreen is one jail in full.
func (a *app) jailScreen(j control.JailStatus, bans control.BansReply) {
	if j.Aside != "" {
		a.printf("%s is set aside: %s\n", safe(j.Jail), safeLines(j.Aside))
		return
	}
	bantime := "for ever"
	if j.BanTime >= 0 {
		bantime = "for " + length(seconds(j.BanTime))
	}
	if j.Jail == jail.Manual {
		a.printf("%s: bans by hand, on all ports\n", safe(j.Jail))
	} else {
		a.printf("%s: %s in %s ban %s\n", safe(j.Jail), plural(j.MaxRetry, "failure"), length(seconds(j.FindTime)), bantime)
	}
	if j.Observe {
		a.printf("It only observes: nobody is banned.\n")
	}
	for _, s := range j.Sources {
		a.printf("  %-12s %s: %s, %s%s\n", "watches", safe(s.Name), safe(s.State), plural64(s.Lines, "line"), lastLine(s, time.Now()))
	}
	a.printf("  %-12s %s now, %s since the start\n", "failures", plural(j.Failing, "offender"), count(j.Failures))
	a.printf("  %-12s %d now, %s since the start\n", "bans", j.Banned, count(j.Bans))
	if j.Held > 0 {
		a.printf("  %-12s %d now, of who administrates this machine\n", "held back", j.Held)
	}
	if j.Dropped != nil {
		a.printf("  %-12s %s packets, %s\n", "dropped", count(j.Dropped.Packets), size(j.Dropped.Bytes))
	}
	for _, f := range j.Faults {
		a.printf("  %-12s %s: %s searches took too many steps, %s matches were nearly missed\n", "faults", safe(f.Option), count(f.Overruns), count(f.Misses))
	}
	if len(bans.Bans) > 0 {
		a.printf("\n")
		a.printBans(bans.Bans, bantamNone)
	}
}

func seconds(s float64) time.Duration {
	return time.Duration(min(s, math.MaxInt64/float64(time.Second)) * float64(time.Second))
}

// count is a number as a table shows it: 214, 1.2k, 3.4M.
func count(n uint64) string {
	switch {
	case n < 1000:
		return strconv.FormatUint(n, 10)
	case n < 1_000_000:
		return strconv.FormatFloat(float64(n)/1e3, 'f', 1, 64) + "k"
	}
	return strconv.FormatFloat(float64(n)/1e6, 'f', 1, 64) + "M"
}

// size is a number of bytes as people say it.
func size(n uint64) string {
	if n < 1000 {
		return fmt.Sprintf("%d B", n)
	}
	if n < 1_000_000 {
		return fmt.Sprintf("%d kB", n/1000)
	}
	return fmt.Sprintf("%d MB", n/1_000_000)
}

func itoa(n int) string { return strconv.Itoa(n) }

func plural(n int, noun string) string { return plural64(int64(n), noun) }

func plural64(n int64, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	if before, found := strings.CutSuffix(noun, "y"); found {
		noun = before + "ie"
	}
	return fmt.Sprintf("%d %ss", n, noun)
}
