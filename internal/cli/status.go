package cli

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"bantam/internal/control"
	"bantam/internal/jail"
	"bantam/internal/machine"
	"bantam/internal/source"
)

func (a *app) statusCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "status [JAIL]",
		Short: "The state of everything, or of one jail",
		Long: `Show the state of everything on one screen, or of one jail in full. Where there are many jails, those
that have something to say come first. LINES/H is how many lines an hour the jail's logs used to have, FAILED counts
failures since the start, BANNED is who is banned now.`,
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
	cmd.Flags().BoolVar(&a.all, "all", false, "show every jail, however many there are")
	return cmd
}

// sessions are where administrators are logged in from now, as far as this machine tells.
func sessions(now time.Time) (addrs []string) {
	all, _ := machine.Machine{}.Sessions(now) // what cannot be read is not shown
	for _, s := range all {
		if addr := s.Addr.Unmap().String(); s.Live && !slices.Contains(addrs, addr) {
			addrs = append(addrs, addr)
		}
	}
	return addrs
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
			a.screen(st, sessions(time.Now()), time.Now())
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
		bans, err := control.Call(ctx, control.NewClient(a.socket), control.GetBans, control.BansRequest{Jail: name, Limit: mostBans})
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

// mostBans is how many bans of either family the screen of one jail shows.
const mostBans = 10

// Bounds of the first screen, which fits a terminal of 24 lines with a prompt below it.
const (
	screenLines = 23
	leastRows   = 5 // jails that are shown in any case
	mostNotes   = 4 // troubles that are told in full
)

// screen is the state of everything on one screen of 80 columns and 24 lines. you are the addresses of administrators
// who are logged in.
func (a *app) screen(st control.Status, you []string, now time.Time) {
	mode, tint := safe(st.Mode(now)), strong
	if st.Firewall == "" || st.Trial != nil {
		tint = doubt
	}
	from := "library defaults"
	if st.Config != "" {
		from = safe(st.Config)
	}
	var out, below []string
	head := wrapped(screenWidth, " · ", []string{"bantam " + safe(st.Version), mode, from, "up " + length(now.Sub(st.Since)) + ", " + size(st.Memory)})
	head[0] = strings.Replace(head[0], mode, a.tinted(tint, mode), 1)
	out = append(append(out, head...), "")

	rows, notes, observed := a.jailRows(st, now)
	below = a.troubles(st, notes)
	below = append(below, "")
	held := 0
	for i := range st.Jails {
		held += st.Jails[i].Held
	}
	if held > 0 {
		below = append(below, fmt.Sprintf("%s: %s of who administrates this machine; bantam banned says who", a.tinted(doubt, "Held back"), plural(held, "ban")))
	}
	if observed > 0 {
		below = append(below, fmt.Sprintf("%s: %s written down, nobody shut out by them", a.tinted(doubt, "Observed only"), plural(observed, "ban")))
	}
	never := []string{"Never banned: this machine, ignoreip"}
	if st.Allowed > 0 {
		never[0] += ", " + itoa(st.Allowed) + " allowed"
	}
	if len(you) > 0 {
		never = append(never, "(logged in: "+safe(strings.Join(you, ", "))+")")
	}
	for _, line := range wrapped(screenWidth, " ", never) {
		below = append(below, fit(line, screenWidth))
	}
	who := "ADDRESS"
	for _, j := range st.Jails {
		if _, is := j.LastBan.Prefix(); is && j.Banned > 0 {
			who = j.LastBan.String()
			break
		}
	}
	below = append(below, wrapped(screenWidth, " | ", []string{"Next: bantam why " + who, "bantam unban ADDRESS", "bantam top", "bantam help"})[0])

	taken := len(out) + 1 // with the table's head
	for _, line := range below {
		taken += max(1, (width(line)+screenWidth-1)/screenWidth) // as a terminal breaks it
	}
	if room := max(leastRows, screenLines-taken); len(rows) > room && !a.all {
		// Those that have something to say come first, in the order of all.
		slices.SortStableFunc(rows, func(x, y jailRow) int { return cmp.Compare(y.says, x.says) })
		hidden := rows[room-1:]
		rows = rows[:room-1]
		rest, worse := "all ok", 0
		for _, r := range hidden {
			if r.says == saysTrouble {
				worse++
			}
		}
		if worse > 0 {
			rest = a.tinted(doubt, fmt.Sprintf("%d of them not ok", worse))
		}
		below = append([]string{fmt.Sprintf("and %d more, %s: bantam status --all", len(hidden), rest)}, below...)
	}
	var shown [][]cell
	for _, r := range rows {
		shown = append(shown, r.cells)
	}
	out = append(out, a.table(screenWidth, statusColumns, shown)...)
	for _, line := range append(out, below...) {
		a.printf("%s\n", line)
	}
}

var statusColumns = []column{
	{title: "JAIL", least: 12, yield: 2},
	{title: "SOURCE", least: 8, yield: 3},
	{title: "LINES/H", right: true},
	{title: "FAILED", right: true},
	{title: "BANNED", right: true},
	{title: "LAST BAN", least: 18, yield: 2},
	{title: "STATE", least: 8, yield: 1},
}

// A jailRow is a jail on the first screen.
type jailRow struct {
	cells []cell
	says  int
}

// How much a jail has to say.
const (
	saysNothing = iota
	saysFigures // it has banned somebody, or somebody fails
	saysTrouble
)

// jailRows are the jails on the first screen, what is to be said below them, and how many bans are only observed.
func (a *app) jailRows(st control.Status, now time.Time) (rows []jailRow, notes []string, observed int) {
	for _, j := range st.Jails {
		if j.Aside != "" {
			rows = append(rows, jailRow{[]cell{{safe(j.Jail), wrong}, {text: "-"}, {text: "-"}, {text: "-"}, {text: "-"}, {text: "-"}, {"set aside", wrong}}, saysTrouble})
			notes = append(notes, fmt.Sprintf("%s is set aside: %s", safe(j.Jail), safeLines(j.Aside)))
			continue
		}
		if j.Observe {
			observed += j.Banned
		}
		if j.Jail == jail.Manual && j.Banned == 0 && j.Bans == 0 && len(st.Jails) > 1 {
			continue // it has nothing to say until somebody bans by hand
		}
		watches, state, more := watched(j, now)
		if more != "" {
			notes = append(notes, safe(j.Jail)+": "+more)
		}
		row := jailRow{says: saysNothing}
		tint := asEver
		switch {
		case state != "ok":
			row.says, tint = saysTrouble, doubt
		case j.Banned > 0 || j.Failing > 0:
			row.says = saysFigures
		}
		if j.Observe && st.Firewall != "" {
			if state == "ok" {
				state = "observes"
			} else {
				state += ", observes"
			}
		}
		perHour, failed := 0.0, "-"
		for _, s := range j.Sources {
			perHour += s.PerHour
		}
		lines := "-"
		if perHour > 0 {
			lines = count(uint64(math.Round(perHour)))
		}
		if j.Jail != jail.Manual {
			failed = count(j.Failures)
		}
		last := "-"
		if !j.LastBan.IsZero() {
			last = safe(strings.TrimSpace(j.LastBan.String() + " " + j.LastCountry))
		}
		row.cells = []cell{{text: safe(j.Jail)}, {text: watches}, {text: lines}, {text: failed}, {text: count(uint64(j.Banned))}, {text: last}, {state, tint}}
		rows = append(rows, row)
	}
	return rows, notes, observed
}

// troubles are what is wrong, said below the jails.
func (a *app) troubles(st control.Status, notes []string) (lines []string) {
	if st.Unsaved > 0 {
		notes = append([]string{fmt.Sprintf("The database takes nothing: %s (%s in memory)", safe(st.StoreError), plural(st.Unsaved, "decision"))}, notes...)
	}
	for _, act := range st.Actions {
		switch {
		case act.Failing > 0:
			notes = append(notes, fmt.Sprintf("The action %s fails for %s and tries again: %s", safe(act.Action), plural(act.Failing, "offender"), safe(act.Err)))
		case act.Err != "":
			notes = append(notes, fmt.Sprintf("The action %s hangs, %s waiting: %s", safe(act.Action), plural(act.Pending, "decision"), safe(act.Err)))
		}
		if act.GaveUp > 0 {
			notes = append(notes, fmt.Sprintf("The action %s gave up on %s; the log says why", safe(act.Action), plural(int(act.GaveUp), "decision")))
		}
	}
	if st.Privileges != "" && a.all {
		notes = append(notes, "Privileges: "+safe(st.Privileges))
	}
	if len(notes) == 0 {
		return nil
	}
	rest := 0
	if len(notes) > mostNotes && !a.all {
		rest, notes = len(notes)-mostNotes+1, notes[:mostNotes-1]
	}
	lines = append(lines, "")
	for _, note := range notes {
		lines = append(lines, strings.Split(note, "\n")...)
	}
	if rest > 0 {
		lines = append(lines, fmt.Sprintf("and %d more of this kind: bantam status --all", rest))
	}
	return lines
}

// watched says in a few words what a jail watches and how that goes, and in more words what is not as it should be.
func watched(j control.JailStatus, now time.Time) (watches, state, more string) {
	if j.Jail == jail.Manual {
		return "by hand", "ok", ""
	}
	var reading, waiting []string
	state = "ok"
	for _, s := range j.Sources {
		switch s.State {
		case source.Reading:
			switch {
			case !s.Live:
				state = "catching up"
			case !s.Silent.IsZero() && state == "ok":
				state = "silent " + length(now.Sub(s.Silent))
				more = fmt.Sprintf("%s silent since %s, usually %.0f lines an hour", safe(s.Name), stamp(s.Silent, now), s.PerHour)
			}
		case source.Ended:
		case source.Waiting, source.Starting:
			waiting = append(waiting, s.Name)
			continue
		default:
			state, more = "not read", safe(s.Name)+": "+safe(s.State)
		}
		reading = append(reading, s.Name)
	}
	names := reading
	if len(reading) == 0 {
		if names, state = waiting, "no file"; len(waiting) > 0 {
			more = "waits for " + safe(waiting[0])
		}
	}
	switch len(names) {
	case 0:
		return "nothing", "no source", "it has no source: logpath and journalmatch name none"
	case 1:
		return safe(path.Base(names[0])), state, more
	}
	return fmt.Sprintf("%d files", len(names)), state, more
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
	a.printf("  %-12s %s now, %s since the start\n", "bans", count(uint64(j.Banned)), count(j.Bans))
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
		if more := j.Banned + j.Held - len(bans.Bans); more > 0 {
			a.printf("and %d more, older ones: bantam banned --jail %s\n", more, safe(inShell(j.Jail)))
		}
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
