package cli

import (
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"bantam/internal/action"
	"bantam/internal/config"
	"bantam/internal/daemon"
	"bantam/internal/source"
)

// checkReply is what check prints as JSON.
type checkReply struct {
	Config   string           `json:"config,omitempty"` // empty means the library
	Jails    []string         `json:"jails"`
	Actions  []checkedAction  `json:"actions"`
	Told     []config.Told    `json:"told"`
	Problems []config.Problem `json:"problems"`
}

// checkedAction says by whom a jail's action is carried out.
type checkedAction struct {
	Jail   string `json:"jail"`
	Action string `json:"action"`
	By     string `json:"by"`            // native, shell or python
	Why    string `json:"why,omitempty"` // it is shell

	tells bool // and so is shown with whom
}

// howTold is how somebody is told, in words.
func howTold(t config.Told) string {
	to := ""
	switch {
	case t.Desks:
		to = " to each network's abuse desk"
	case len(t.To) > 0:
		to = " to " + strings.Join(t.To, ", ")
	}
	if t.On == nil {
		return "reported by " + t.Channel + to
	}
	if !slices.Equal(t.On, []string{"ban"}) {
		to += ", of " + strings.Join(t.On, " ")
	}
	if t.Every > 0 {
		to += ", gathered for " + length(time.Duration(t.Every)*time.Second)
	}
	return "told by " + t.Channel + to
}

func (a *app) checkCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "check",
		Short: "What is wrong with the configuration",
		Long: `Read and check the configuration as the daemon would, and name all that is wrong with
its file, line and a hint. The exit code is 1 if something would keep a jail from
running; warnings do not count.

It also says who carries out each action: the program itself (native), the system's
shell by the commands of the action's file, or a python3 by its class; and who is told of bans,
by which channel. Whether messages arrive is for bantam notify test to say.`,
		Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			cfg, problems, err := daemon.Check(a.folder(), a.library)
			if err != nil {
				return err
			}
			problems = explained(cfg, problems)
			reply := checkReply{Config: cfg.Dir, Jails: []string{}, Actions: []checkedAction{}, Told: cfg.Told(), Problems: problems}
			for _, j := range cfg.Jails {
				reply.Jails = append(reply.Jails, j.Name)
				for _, c := range j.Actions {
					by := c.Kind
					if c.Made {
						by = action.Native
					}
					reply.Actions = append(reply.Actions, checkedAction{j.Name, c.Title, by, c.WhyShell, c.Kind == action.Native && config.Tells(c.Name)})
				}
			}
			if reply.Problems == nil {
				reply.Problems = []config.Problem{}
			}
			errors := 0
			for _, p := range problems {
				if !p.Warning {
					errors++
				}
			}
			if a.json {
				a.print(reply)
			} else {
				a.printProblems(reply, errors)
			}
			if errors > 0 {
				return errSilent
			}
			return nil
		},
	}
}

func (a *app) printProblems(r checkReply, errors int) {
	jails := map[config.Problem]int{} // that have the same problem in the same place
	same := func(p config.Problem) config.Problem {
		if p.File != "" {
			p.Jail = ""
		}
		return p
	}
	for _, p := range r.Problems {
		jails[same(p)]++
	}
	for _, p := range r.Problems {
		n := jails[same(p)]
		if n == 0 {
			continue
		}
		jails[same(p)] = 0
		kind, many := "", ""
		if p.Warning {
			kind = "warning: "
		}
		if n > 1 {
			many = fmt.Sprintf(" (%s)", plural(n, "jail"))
		}
		a.printf("%s%s%s\n", kind, strings.ReplaceAll(safeLines(p.String()), "\n", "\n  "), many)
		if p.Hint != "" {
			a.printf("  hint: %s\n", safe(p.Hint))
		}
	}
	a.printActions(r.Actions)
	for _, t := range r.Told {
		a.printf("%s: %s\n", safe(few(t.Jails)), safe(howTold(t)))
	}
	from := "library defaults"
	if r.Config != "" {
		from = safe(r.Config)
	}
	if errors == 0 {
		a.printf("%s: %s, nothing that keeps one from running\n", from, plural(len(r.Jails), "jail"))
	} else {
		a.printf("%s: %s, %s\n", from, plural(len(r.Jails), "jail"), plural(errors, "error"))
	}
}

// maxNamed is how many jails are named for an action that many have.
const maxNamed = 5

// printActions says who carries out what, once for all jails whose action has the same name.
func (a *app) printActions(actions []checkedAction) {
	type what struct{ action, by string }
	jails := map[what][]string{}
	var order []what
	for _, c := range actions {
		if c.tells {
			continue
		}
		w := what{c.Action, c.By}
		if len(jails[w]) == 0 {
			order = append(order, w)
		}
		jails[w] = append(jails[w], c.Jail)
	}
	by := map[string]string{action.Native: "by bantam itself", action.Shell: "by shell", action.Python: "by python3"}
	for _, w := range order {
		a.printHanging(2, fmt.Sprintf("action %s, %s: %s", safe(w.action), by[w.by], safe(few(jails[w]))))
	}
}

// few are the first of some jails, and how many more there are.
func few(names []string) string {
	more := ""
	if len(names) > maxNamed {
		names, more = names[:maxNamed], fmt.Sprintf(" and %d more", len(names)-maxNamed)
	}
	return strings.Join(names, ", ") + more
}

// explained is problems with what the daemon does not look for: a filter's expressions each
// with their place, those that never match, and files that are not there.
func explained(cfg *config.Config, problems []config.Problem) []config.Problem {
	jails := map[string]*config.Jail{}
	for i := range cfg.Jails {
		jails[cfg.Jails[i].Name] = &cfg.Jails[i]
	}
	var out []config.Problem
	told := map[config.Problem]bool{} // of a file that several filters use
	for _, p := range problems {
		j := jails[p.Jail]
		if j == nil || p.Key != "filter" || !aboutOption.MatchString(p.Text) {
			out = append(out, p)
			continue
		}
		for _, one := range byOption(j, p) {
			if !told[one] {
				told[one] = true
				out = append(out, one)
			}
		}
	}
	for i := range cfg.Jails {
		if j := &cfg.Jails[i]; j.Err == nil {
			out = append(out, absent(cfg, j)...)
		}
	}
	for i := range out {
		out[i].Text = short(out[i].Text)
	}
	return out
}

// maxText is how much of a problem's text is shown: expressions in it may be of any length.
const maxText = 2000

// short is s cut to maxText bytes.
func short(s string) string {
	if len(s) <= maxText {
		return s
	}
	return strings.ToValidUTF8(s[:maxText], "") + "…"
}

// aboutOption is how the filter names the option that is wrong, and which line of it.
var aboutOption = regexp.MustCompile(`(?m)^(failregex|ignoreregex|prefregex|datepattern|usedns|maxlines|logencoding|logtimezone)(?: (\d+))?: `)

// byOption cuts what is wrong with a filter into one problem for each option, at its place.
func byOption(j *config.Jail, p config.Problem) []config.Problem {
	var out []config.Problem
	starts := aboutOption.FindAllStringSubmatchIndex(p.Text, -1)
	if head := strings.TrimSpace(p.Text[:starts[0][0]]); head != "" {
		one := p
		one.Text = head
		out = append(out, one)
	}
	for i, at := range starts {
		end := len(p.Text)
		if i+1 < len(starts) {
			end = starts[i+1][0]
		}
		one := p
		option, number := p.Text[at[2]:at[3]], ""
		if at[4] >= 0 {
			number = p.Text[at[4]:at[5]]
		}
		n, _ := strconv.Atoi(number) // none is zero
		one.Key, one.Text = strings.TrimSpace(option+" "+number), strings.TrimSpace(p.Text[at[1]:end])
		if file, line, ok := j.Place(option, n); ok {
			one.File, one.Line = file, line
			if one.Warning {
				one.Jail = "" // it is about the file
			}
		}
		out = append(out, one)
	}
	return out
}

// absent warns of logs and lists that a jail names and that are not there, and of old
// lines that nothing tells from new ones.
func absent(cfg *config.Config, j *config.Jail) []config.Problem {
	var out []config.Problem
	warn := func(key, text, hint string) {
		p := config.Problem{Jail: j.Name, Key: key, Text: text, Hint: hint, Warning: true}
		if v, ok := cfg.Value(j.Name, key); ok {
			p.File, p.Line = v.File, v.Line
		}
		out = append(out, p)
	}
	var none []string
	for _, path := range j.Source.Paths {
		if path.Pattern == source.Stdin {
			continue
		}
		if found, err := filepath.Glob(path.Pattern); err == nil && len(found) == 0 {
			none = append(none, strconv.Quote(path.Pattern))
		}
	}
	if len(none) > 0 && (len(none) < len(j.Source.Paths) || j.Source.JournalMatch == nil) {
		warn("logpath", "there is no file "+strings.Join(none, ", ")+" for ["+j.Name+"]", "the jail waits for it; is the path right?")
	}
	if slices.Contains(j.Filter.DatePattern, "{NONE}") && slices.ContainsFunc(j.Source.Paths, func(p source.Path) bool { return !p.Tail }) {
		p := config.Problem{Jail: j.Name, Key: "datepattern", Text: "a log without dates that is new to Bantam counts as written now, all of it", Hint: "write tail behind its path in logpath to begin at its end", Warning: true}
		p.File, p.Line, _ = j.Place("datepattern", 1)
		out = append(out, p)
	}
	for _, word := range j.Lookup.IgnoreIP {
		if name, ok := strings.CutPrefix(word, "file:"); ok && filepath.IsAbs(name) {
			if found, err := filepath.Glob(filepath.Clean(name)); err == nil && len(found) == 0 {
				warn("ignoreip", "there is no file "+strconv.Quote(name), "it is read once it is there")
			}
		}
	}
	return out
}
