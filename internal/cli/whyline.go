package cli

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"bantam"
	"bantam/internal/control"
	"bantam/internal/daemon"
	"bantam/internal/source"
)

// Bounds of what is asked about at once.
const (
	judgedAtOnce = 500
	judgedBytes  = 256 << 10
)

// whyLines tells what becomes of log lines: of one, or, if there is none, of those on standard input.
func (a *app) whyLines(ctx context.Context, line string, jails []string) error {
	lines := func(yield func(string, error) bool) { yield(line, nil) }
	if line == "" {
		lines = inputLines
	}
	var some []string
	var all []control.JudgedLine
	n, bytes, follows, byDaemon := 0, 0, false, true
	judge := func() error {
		if len(some) == 0 {
			return nil
		}
		reply, err := a.judge(ctx, control.JudgeRequest{Lines: some, Jails: jails})
		if err != nil {
			return err
		}
		byDaemon = reply.Daemon
		for i := range reply.Lines {
			follows = follows || slices.ContainsFunc(reply.Lines[i].Jails, func(j control.Judged) bool { return hits(j.Stage) })
			switch {
			case a.json:
				all = append(all, reply.Lines[i])
			case line == "":
				a.briefly(&reply.Lines[i])
			default:
				a.printJudged(&reply.Lines[i], time.Now())
			}
		}
		some, bytes = some[:0], 0
		return nil
	}
	for text, err := range lines {
		if err != nil {
			return err
		}
		if strings.TrimSpace(text) == "" {
			continue
		}
		n++
		if some, bytes = append(some, text), bytes+len(text); len(some) == judgedAtOnce || bytes >= judgedBytes {
			if err := judge(); err != nil {
				return err
			}
		}
	}
	if err := judge(); err != nil {
		return err
	}
	switch {
	case n == 0:
		return usageError{errors.New("there is no line to judge")}
	case a.json:
		a.print(control.JudgeReply{Lines: all, Daemon: byDaemon})
	case !byDaemon:
		a.printf("\nNo daemon runs here: judged by the configuration, as if nobody had failed before.\n")
	}
	if !follows {
		return errSilent
	}
	return nil
}

// hits reports whether a stage is one of a line that concerns an offender.
func hits(stage string) bool {
	return stage == control.StageCounts || stage == control.StageBans || stage == control.StageBanned
}

// inputLines are the lines of standard input, each up to what a source would read of it.
func inputLines(yield func(string, error) bool) {
	in := bufio.NewReaderSize(os.Stdin, source.MaxLine)
	for {
		line, more, err := in.ReadLine()
		text := string(line)
		for more && err == nil {
			_, more, err = in.ReadLine()
		}
		if errors.Is(err, io.EOF) {
			return
		}
		if !yield(text, err) || err != nil {
			return
		}
	}
}

// judge asks the daemon, or where none runs the configuration.
func (a *app) judge(ctx context.Context, r control.JudgeRequest) (control.JudgeReply, error) {
	reply, err := control.Call(ctx, control.NewClient(a.socket), control.Judge, r)
	if errors.Is(err, control.ErrNotRunning) {
		return daemon.JudgeLines(ctx, a.folder(), a.library, r)
	}
	return reply, err
}

// reached is how far a jail got with a line: the jails that got furthest are told first.
var reached = map[string]int{
	control.StageAside: 0, control.StageDate: 1, control.StagePrefregex: 2, control.StageFailregex: 3,
	control.StageIgnoreregex: 4, control.StageSession: 5, control.StageNobody: 6, control.StageName: 7, control.StageIgnored: 8,
	control.StageOld: 9, control.StageBanned: 10, control.StageCounts: 11, control.StageBans: 12,
}

// verdict says in one line what a jail makes of a line.
func verdict(j *control.Judged) string {
	within := fmt.Sprintf("failure %d of %d within %s", j.Count, j.MaxRetry, length(seconds(j.FindTime)))
	switch j.Stage {
	case control.StageAside:
		return "the jail is set aside: " + safe(j.Text)
	case control.StageDate:
		return "no date is found in it, and nothing matches the line as a whole"
	case control.StagePrefregex:
		return "prefregex does not match"
	case control.StageFailregex:
		return fmt.Sprintf("none of its %s matches", plural(j.Tried, "expression"))
	case control.StageIgnoreregex:
		return safe(j.Rule.Option) + " matches: it is let pass"
	case control.StageSession:
		return "it matches, and is no failure by itself: it tells of a session whose other lines decide"
	case control.StageNobody:
		return "it matches, and names nobody who may be counted (usedns)"
	case control.StageName:
		return fmt.Sprintf("it matches, and %s cannot be resolved: %s", safe(j.Host), safe(j.Text))
	case control.StageIgnored:
		return fmt.Sprintf("it matches, and %s is let off by %s", safe(j.ID.String()), safe(j.Text))
	case control.StageOld:
		return "it matches, and is older than findtime: read now, it would not count"
	case control.StageBanned:
		return "it matches, and " + safe(j.ID.String()) + " is banned already"
	case control.StageBans:
		if j.Observe {
			return "it completes a ban, which would only be observed: " + within
		}
		return "it completes a ban: " + within
	case control.StageCounts:
		if j.Again {
			return fmt.Sprintf("it matches, and its user is counted already (distinct = user): %d of %d within %s", j.Count, j.MaxRetry, length(seconds(j.FindTime)))
		}
		return "it counts: " + within
	}
	return safe(j.Stage)
}

// briefly prints a line and what the jails that got furthest make of it.
func (a *app) briefly(l *control.JudgedLine) {
	a.printf("%s\n", safe(l.Line))
	most := 0
	for i := range l.Jails {
		most = max(most, reached[l.Jails[i].Stage])
	}
	if most < reached[control.StageIgnoreregex] {
		a.printf("    nothing matches\n")
		return
	}
	for i := range l.Jails {
		if j := &l.Jails[i]; reached[j.Stage] >= reached[control.StageIgnoreregex] {
			a.printf("    %s: %s\n", safe(j.Jail), verdict(j))
		}
	}
}

// printJudged prints all that is to be said of a line.
func (a *app) printJudged(l *control.JudgedLine, now time.Time) {
	a.printf("%s\n", safe(l.Line))
	others := map[string][]string{} // jails by the same verdict
	var order []string
	matched := false
	for i := range l.Jails {
		j := &l.Jails[i]
		if reached[j.Stage] >= reached[control.StageIgnoreregex] {
			matched = true
			a.printMatched(j, now)
			continue
		}
		text := verdict(j)
		if j.Stage == control.StageFailregex {
			text = "no failregex matches"
			if j.Tried == 0 {
				text = "it has no failregex"
			}
		}
		if others[text] == nil {
			order = append(order, text)
		}
		others[text] = append(others[text], safe(j.Jail))
	}
	if !matched {
		a.printf("\nno jail counts it:\n")
	} else if len(order) > 0 {
		a.printf("\nother jails:\n")
	}
	for _, text := range order {
		a.printf("  %s: %s\n", named(others[text]), text)
	}
	if !matched && len(l.Jails) == 1 && l.Jails[0].Rule != nil {
		a.printRule("expression", l.Jails[0].Rule)
	}
	if !matched {
		a.printf("\nNext: bantam config show JAIL | bantam regex LOG -f FILTER | bantam status\n")
	}
}

// named are some of many names.
func named(names []string) string {
	const most = 6
	if len(names) <= most {
		return strings.Join(names, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(names[:most], ", "), len(names)-most)
}

// row prints a word and what belongs to it.
func (a *app) row(word, format string, args ...any) {
	a.printf("  %-10s %s\n", word, fmt.Sprintf(format, args...))
}

func (a *app) printRule(word string, r *control.Rule) {
	place := ""
	if r.File != "" {
		place = fmt.Sprintf(", %s:%d", safe(r.File), r.Line)
	}
	a.row(word, "%s%s", safe(r.Option), place)
	a.row("", "%s", fit(safe(r.Expression), 4*screenWidth))
}

// printMatched prints what a jail makes of a line that an expression matched.
func (a *app) printMatched(j *control.Judged, now time.Time) {
	a.printf("\n%s: %s\n", a.tinted(strong, safe(j.Jail)), verdict(j))
	if j.Rule != nil {
		a.printRule("matched", j.Rule)
	}
	if j.Host != "" {
		who := safe(j.Host)
		if j.ID.String() != j.Host && !j.ID.IsZero() {
			who += " is " + safe(j.ID.String())
		}
		if j.Country != "" {
			who += " (" + safe(j.Country) + ")"
		}
		a.row("host", "%s", who)
	}
	a.printData(j.Data)
	switch {
	case j.Undated && !j.Time.IsZero():
		a.row("time", "no date is found in it: it counts as written when it is read")
	case !j.Time.IsZero():
		a.row("time", "%s", stamp(j.Time, now))
	}
	if j.MaxRetry > 0 {
		a.row("counter", "%d now, %d with it, of %d within %s", j.Before, j.Count, j.MaxRetry, length(seconds(j.FindTime)))
	}
	bantime := "for ever"
	if j.BanTime >= 0 {
		bantime = "for " + length(seconds(j.BanTime))
	}
	switch {
	case j.Stage == control.StageCounts && j.Again:
		a.row("follows", "nothing until another user is tried")
	case j.Stage == control.StageCounts:
		a.row("follows", "%d more ban it %s", j.MaxRetry-j.Count, bantime)
	case j.Stage == control.StageBans:
		a.row("follows", "a ban %s, longer if there were earlier ones and bantime.increment is set", bantime)
	case j.Stage == control.StageBanned:
		a.row("follows", "nothing: the ban runs %s", until(bantam.Ban{End: j.End}, now))
	}
}

// printData prints captured parts, but for those that are the host, and those by which a filter puts lines together.
func (a *app) printData(data map[string]string) {
	for _, key := range slices.Sorted(maps.Keys(data)) {
		inner := slices.Contains([]string{"ip4", "ip6", "dns", "fid", "cidr", "content", "nofail"}, key) || strings.HasPrefix(key, "mlf")
		if data[key] != "" && !inner {
			a.row(safe(key), "%s", fit(safe(data[key]), screenWidth))
		}
	}
}
