package doctor

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"bantam/internal/config"
)

// Lengths of bans beyond which they are hardly meant: a century is what a forgotten unit makes of a permanent one.
const (
	shortBan = time.Minute
	longBan  = 10 * 365 * 24 * time.Hour
)

// lookAtConfiguration sums up what check says, and looks for what is sound and hardly meant.
func (e *examination) lookAtConfiguration(context.Context) {
	if e.config == nil {
		hint := "bantam check"
		if p, is := errors.AsType[*config.Problem](e.wrong); is {
			hint = cmp.Or(p.Hint, hint)
		}
		e.fault(hint, "the configuration cannot be read: %v", e.wrong)
		return
	}
	from := cmp.Or(e.config.Dir, "the library")
	var wrong, warnings []config.Problem
	for _, p := range e.problems {
		if p.Key == "dbfile" && p.Warning {
			continue // lookAtDatabase has said so
		}
		if p.Warning {
			warnings = append(warnings, p)
		} else {
			wrong = append(wrong, p)
		}
	}
	e.tellProblems(Wrong, "errors", from, wrong)
	e.tellProblems(Doubtful, "warnings", from, warnings)
	if len(wrong)+len(warnings) == 0 {
		e.ok("%s: %s, nothing to say against it", from, plural(len(e.config.Jails), "jail"))
	}
	e.lookAtBreadth()
	for i := range e.config.Jails {
		j := &e.config.Jails[i]
		if j.Err != nil {
			continue
		}
		switch length := j.Jail.BanTime; {
		case length > 0 && length < shortBan:
			e.doubt("is a unit missing? 10m, 1h", "[%s] bans for %s only", j.Name, length)
		case length > longBan:
			e.doubt("bantime = -1 bans for ever", "[%s] bans for more than ten years", j.Name)
		}
	}
}

// tellProblems tells the first of some problems, and how many there are.
func (e *examination) tellProblems(state State, noun, from string, problems []config.Problem) {
	if len(problems) == 0 {
		return
	}
	first, _, _ := strings.Cut(problems[0].String(), "\n")
	if len(problems) == 1 {
		if hint := problems[0].Hint; hint != "" {
			first += " (" + hint + ")"
		}
		e.add(state, "mend it, then bantam check and sudo bantam reload", "%s: %s", from, first)
		return
	}
	e.add(state, "bantam check shows them all", "%s: %d %s, the first: %s", from, len(problems), noun, first)
}

// lookAtBreadth tells of rules by which nobody can be banned.
func (e *examination) lookAtBreadth() {
	by := map[string][]string{} // jails by prefix
	var order []string
	for i := range e.config.Jails {
		j := &e.config.Jails[i]
		if p, is := covers(j.Lookup.IgnoreIP); is {
			if !slices.Contains(order, p.String()) {
				order = append(order, p.String())
			}
			by[p.String()] = append(by[p.String()], j.Name)
		}
	}
	for _, p := range order {
		e.fault("take "+p+" out of ignoreip", "%s can ban nobody: ignoreip has %s", jailsOf(by[p]), p)
	}
	for _, p := range e.allowed {
		if everything(p) {
			e.fault("sudo bantam allow remove "+p.String(), "nobody can be banned: the allow list has %s", p)
		}
	}
}
