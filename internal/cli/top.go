package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	tea "charm.land/bubbletea/v2"
	"github.com/spf13/cobra"

	"bantam"
	"bantam/internal/control"
	"bantam/internal/jail"
)

// How often the daemon is asked, how long it may take to answer, and how many of each are asked for.
const (
	topEvery   = 2 * time.Second
	topPatient = 5 * time.Second
	topRows    = 50
)

func (a *app) topCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "top",
		Short: "A live screen: rates, the last bans, who is near to one",
		Long: `Show, every two seconds anew, the jails with their rates, the last bans, and who fails and is nearest to
a ban. It needs a terminal; with --json it prints the figures once.

  j k, arrows  move     enter  the jail of the line     esc  back
  u            unban    p      pause     ?  help          q  quit`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if a.json {
				f := a.figures(cmd.Context())
				if f.err == nil {
					a.print(f)
				}
				return f.err
			}
			if terminal(a.stdout) == nil || terminal(os.Stdin) == nil {
				return control.Refuse("bantam status shows the same once", "bantam top needs a terminal")
			}
			return a.top(cmd.Context())
		},
	}
}

// top runs the screen until somebody ends it.
func (a *app) top(ctx context.Context) error {
	first := a.figures(ctx)
	if first.err != nil {
		return first.err
	}
	screen := &topScreen{app: a, ctx: ctx, width: screenWidth, height: 24}
	screen.take(first)
	_, err := tea.NewProgram(screen, tea.WithContext(ctx), tea.WithOutput(a.stdout)).Run()
	if errors.Is(err, tea.ErrInterrupted) || ctx.Err() != nil {
		return nil
	}
	return err
}

// topFigures are what the daemon answered at a time.
type topFigures struct {
	At      time.Time         `json:"at"`
	Status  control.Status    `json:"status"`
	Failing []control.Failing `json:"failing"`
	Last    []control.PastBan `json:"last"`
	err     error
}

func (a *app) figures(ctx context.Context) (f topFigures) {
	ctx, cancel := context.WithTimeout(ctx, topPatient)
	defer cancel()
	client := control.NewClient(a.socket)
	if f.Status, f.err = control.Call(ctx, client, control.GetStatus, control.None{}); f.err != nil {
		return f
	}
	failing, err := control.Call(ctx, client, control.GetFailing, control.FailingRequest{Limit: topRows})
	if f.err = err; err != nil {
		return f
	}
	last, err := control.Call(ctx, client, control.GetHistory, control.HistoryRequest{Limit: topRows})
	f.At, f.Failing, f.Last, f.err = time.Now(), failing.Failing, last.Bans, err
	return f
}

// A rate is what a jail did lately.
type rate struct {
	lines, failures float64 // a second, a minute
	known           bool
}

// A topScreen is what top shows.
type topScreen struct {
	*app
	ctx           context.Context
	width, height int

	now   topFigures // the last that were had
	rates map[string]rate
	gone  time.Time // since when nobody answers, zero if somebody does
	why   error

	row    int    // the selected one
	jail   string // the one that is looked at, "" for all
	paused bool
	help   bool
	ask    bantam.ID // whom to unban, if that is confirmed
	note   string    // what became of it
}

// tick asks for the next figures.
type tick struct{}

// unbanned says what became of an order.
type unbanned struct{ text string }

func (s *topScreen) Init() tea.Cmd { return s.later() }

func (s *topScreen) later() tea.Cmd {
	return tea.Tick(topEvery, func(time.Time) tea.Msg { return tick{} })
}

func (s *topScreen) Update(msg tea.Msg) (tea.Model, tea.Cmd) {
	switch m := msg.(type) {
	case tea.WindowSizeMsg:
		s.width, s.height = m.Width, m.Height
	case tick:
		if s.paused {
			return s, s.later()
		}
		return s, func() tea.Msg { return s.figures(s.ctx) }
	case topFigures:
		s.take(m)
		return s, s.later()
	case unbanned:
		s.note = m.text
	case tea.KeyPressMsg:
		return s, s.key(m.String())
	}
	s.row = max(0, min(s.row, len(s.rows())-1))
	return s, nil
}

// take shows figures in place of the old ones.
func (s *topScreen) take(f topFigures) {
	if f.err != nil {
		if s.why = f.err; s.gone.IsZero() {
			s.gone = time.Now()
		}
		return
	}
	if s.paused {
		return
	}
	s.gone, s.why = time.Time{}, nil
	rates := map[string]rate{}
	passed := f.At.Sub(s.now.At).Seconds()
	if s.now.Status.Since.Equal(f.Status.Since) && passed > 0 { // the same daemon
		old := map[string]control.JailStatus{}
		for _, j := range s.now.Status.Jails {
			old[j.Jail] = j
		}
		for _, j := range f.Status.Jails {
			was, ok := old[j.Jail]
			lines := linesOf(j) - linesOf(was)
			if !ok || lines < 0 || j.Failures < was.Failures {
				continue // its sources are others now
			}
			rates[j.Jail] = rate{float64(lines) / passed, float64(j.Failures-was.Failures) / passed * 60, true}
		}
	}
	s.now, s.rates = f, rates
}

func linesOf(j control.JailStatus) (n int64) {
	for _, src := range j.Sources {
		n += src.Lines
	}
	return n
}

// key does what a key is for.
func (s *topScreen) key(key string) tea.Cmd {
	if asked := s.ask; !asked.IsZero() {
		s.ask = bantam.ID{}
		if key != "y" {
			s.note = asked.String() + " stays banned"
			return nil
		}
		s.note = "unbanning " + asked.String()
		return func() tea.Msg { return s.unban(asked) }
	}
	s.note = ""
	rows := s.rows()
	switch key {
	case "q", "ctrl+c":
		return tea.Quit
	case "j", "down":
		s.row++
	case "k", "up":
		s.row--
	case "home", "g":
		s.row = 0
	case "end", "G":
		s.row = len(rows) - 1
	case "p", "space":
		s.paused = !s.paused
	case "?", "h":
		s.help = !s.help
	case "esc", "backspace", "left":
		s.help, s.jail, s.row = false, "", 0
	case "enter", "right":
		if s.row < len(rows) {
			s.jail, s.row = rows[s.row].jail, 0
		}
	case "u":
		switch {
		case s.row >= len(rows) || rows[s.row].banned.IsZero():
			s.note = "only a ban that runs can be lifted: select one"
		default:
			s.ask = rows[s.row].banned
		}
	}
	s.row = max(0, min(s.row, len(s.rows())-1))
	return nil
}

// unban lifts all bans of an ID.
func (s *topScreen) unban(id bantam.ID) unbanned {
	ctx, cancel := context.WithTimeout(s.ctx, topPatient)
	defer cancel()
	reply, err := control.Call(ctx, control.NewClient(s.socket), control.Unban, control.UnbanRequest{ID: id})
	var refused *control.Error
	switch {
	case errors.As(err, &refused) && refused.Hint != "":
		return unbanned{refused.Text + ": " + refused.Hint}
	case err != nil:
		return unbanned{err.Error()}
	case len(reply.Bans) == 0:
		return unbanned{id.String() + " was not banned any more"}
	}
	return unbanned{fmt.Sprintf("unbanned %s in %s", id, plural(len(reply.Bans), "jail"))}
}

// A topRow is a line of the screen that can be selected.
type topRow struct {
	section int
	cells   []cell
	jail    string
	banned  bantam.ID // who is banned, if the line is a ban that runs
}

// Sections of the screen.
const (
	topJails = iota
	topBans
	topFailing
	topSections
)

var topColumns = [topSections][]column{
	{{title: "JAIL", least: 6}, {title: "LINES/S", right: true}, {title: "FAILED/MIN", right: true, least: 6, yield: 2}, {title: "FAILING", right: true}, {title: "BANNED", right: true}, {title: "STATE", least: 5, yield: 1}},
	{{title: "LAST BANS", least: 12}, {title: "JAIL", least: 6, yield: 1}, {title: "SINCE"}, {title: "ENDED", least: 8, yield: 2}, {title: "WHY", least: 6, yield: 3}},
	{{title: "NEAR A BAN", least: 12}, {title: "JAIL", least: 6, yield: 1}, {title: "COUNT", right: true}, {title: "LAST"}, {title: "AS", least: 4, yield: 1}},
}

// rows are all lines that can be selected, section by section.
func (s *topScreen) rows() (rows []topRow) {
	now := s.now.At
	for _, j := range s.now.Status.Jails {
		if s.jail != "" && j.Jail != s.jail || j.Jail == jail.Manual && j.Banned == 0 && s.jail == "" {
			continue
		}
		row := topRow{section: topJails, jail: j.Jail}
		if j.Aside != "" {
			row.cells = []cell{{safe(j.Jail), wrong}, {}, {}, {}, {}, {"set aside", wrong}}
			rows = append(rows, row)
			continue
		}
		_, state, _ := watched(j, now)
		look := asEver
		if state != "ok" {
			look = doubt
		} else if j.Observe {
			state = "observes"
		}
		lines, failures := "-", "-"
		if r := s.rates[j.Jail]; r.known {
			lines, failures = perTime(r.lines), perTime(r.failures)
		}
		row.cells = []cell{{text: safe(j.Jail)}, {text: lines}, {text: failures}, {text: count(uint64(j.Failing))}, {text: count(uint64(j.Banned))}, {state, look}}
		rows = append(rows, row)
	}
	for i := range s.now.Last {
		b := &s.now.Last[i]
		if s.jail != "" && b.Jail != s.jail {
			continue
		}
		row := topRow{section: topBans, jail: b.Jail}
		look := asEver
		if b.Ended.IsZero() {
			row.banned = b.ID
		} else {
			look = faint
		}
		row.cells = cells(safe(strings.TrimSpace(b.ID.String()+" "+b.Country)), safe(b.Jail), tabled(b.Time, now), howEnded(b, now), why(b.Ban))
		for k := range row.cells {
			row.cells[k].tint = look
		}
		rows = append(rows, row)
	}
	for _, f := range s.now.Failing {
		if s.jail != "" && f.Jail != s.jail {
			continue
		}
		look := asEver
		if f.Count+1 >= f.MaxRetry {
			look = doubt
		}
		rows = append(rows, topRow{section: topFailing, jail: f.Jail, cells: []cell{
			{safe(strings.TrimSpace(f.ID.String() + " " + f.Country)), look},
			{text: safe(f.Jail)},
			{text: fmt.Sprintf("%d/%d", f.Count, f.MaxRetry)},
			{text: tabled(f.Last, now)},
			{text: safe(f.User)},
		}})
	}
	return rows
}

// perTime is a rate as a table shows it.
func perTime(r float64) string {
	switch {
	case r == 0:
		return "0"
	case r < 10:
		return fmt.Sprintf("%.1f", r)
	}
	return count(uint64(r))
}

func (s *topScreen) View() tea.View {
	v := tea.NewView(strings.Join(s.lines(), "\n"))
	v.AltScreen = true
	v.WindowTitle = "bantam top"
	return v
}

// lines are the screen: as many as there is room for, none wider.
func (s *topScreen) lines() []string {
	if s.width <= 0 || s.height <= 0 {
		return nil
	}
	var lines []string
	if s.height > 2 {
		lines = append(lines, s.head())
	}
	body := s.height - len(lines) - 1
	switch {
	case s.help:
		lines = append(lines, shorten(topHelp, body)...)
	default:
		lines = append(lines, s.body(body)...)
	}
	for len(lines) < s.height-1 {
		lines = append(lines, "")
	}
	lines = append(lines, s.foot())
	for i := range lines {
		lines[i] = fit(lines[i], s.width)
	}
	return shorten(lines, s.height)
}

func shorten(lines []string, most int) []string { return lines[:max(0, min(most, len(lines)))] }

var topHelp = []string{
	"", "  j k, arrows   move", "  enter         only the jail of the line", "  esc           all jails again",
	"  u             unban who is banned in the line", "  p             pause, and go on",
	"  q             quit", "",
	"  LINES/S and FAILED/MIN are of the last two seconds, FAILING those whose", "  failures still count. COUNT is what is compared with maxretry.",
}

func (s *topScreen) head() string {
	st := &s.now.Status
	if !s.gone.IsZero() {
		what := "the daemon does not answer"
		if errors.Is(s.why, control.ErrNotRunning) {
			what = "no daemon runs"
		}
		return s.tinted(wrong, fmt.Sprintf("%s since %s; waiting for it. Below is what was.", what, stamp(s.gone, time.Now())))
	}
	mode := "enforcing"
	if st.Firewall == "" {
		mode = s.tinted(doubt, "observing")
	}
	banned := 0
	for _, j := range st.Jails {
		banned += j.Banned
	}
	parts := []string{"bantam " + safe(st.Version), mode, fmt.Sprintf("%d banned", banned), "up " + length(s.now.At.Sub(st.Since)), size(st.Memory), s.now.At.Local().Format(time.TimeOnly)}
	if s.paused {
		parts = append(parts, s.tinted(doubt, "paused"))
	}
	if s.jail != "" {
		parts = append(parts, "only "+safe(s.jail))
	}
	return strings.Join(parts, " · ")
}

func (s *topScreen) foot() string {
	switch {
	case !s.ask.IsZero():
		return s.tinted(strong, fmt.Sprintf("unban %s in all jails? y, or any other key for no", safe(s.ask.String())))
	case s.note != "":
		return s.tinted(strong, safe(s.note))
	}
	return s.tinted(faint, "q quit  j/k move  enter jail  esc all  u unban  p pause  ? help")
}

// body is the three tables in so many lines, each with a part of them, around the selected line.
func (s *topScreen) body(room int) (lines []string) {
	rows := s.rows()
	var sections [topSections][]int // rows of each
	for i, r := range rows {
		sections[r.section] = append(sections[r.section], i)
	}
	shares := share(room, [topSections]int{len(sections[topJails]), len(sections[topBans]), len(sections[topFailing])})
	for n, list := range sections {
		if shares[n] == 0 {
			continue
		}
		if n > 0 && len(lines) > 0 {
			lines = append(lines, "")
		}
		shown, selected := shares[n], -1
		for k, i := range list {
			if i == s.row {
				selected = k
			}
		}
		from := max(0, min(selected-shown/2, len(list)-shown))
		var part [][]cell
		for _, i := range list[from:min(len(list), from+shown)] {
			part = append(part, rows[i].cells)
		}
		for k, line := range s.table(s.width-2, topColumns[n], part) {
			mark := "  "
			if k > 0 && from+k-1 == selected {
				mark = s.tinted(strong, "> ")
			}
			lines = append(lines, mark+line)
		}
	}
	return lines
}

// share gives each section its rows out of so many lines: a section takes one for its head, and, but for the first, one
// between. What one does not need the others have. Where there is no room for all, the first ones stay.
func share(room int, want [topSections]int) (rows [topSections]int) {
	left := room
	for n := range want {
		head := 1
		if n > 0 {
			head = 2
		}
		if want[n] > 0 && left > head {
			rows[n] = 1
			left -= head + 1
		}
	}
	for grew := true; grew && left > 0; {
		grew = false
		for n := range want {
			if left > 0 && rows[n] > 0 && rows[n] < want[n] {
				rows[n]++
				left--
				grew = true
			}
		}
	}
	return rows
}
