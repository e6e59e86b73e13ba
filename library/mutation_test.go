package library_test

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"bantam"
	"bantam/internal/filter"
	"bantam/internal/logtest"
)

// A place is a part of a line that whoever is logged may have chosen: the user that the filter
// found, what stands in quotes or angle brackets, what is asked for behind a method, and the value behind a word for
// what clients say of themselves.
type place struct {
	begin, end int
	quote      byte // that ends it, and that services escape; 0 for none
}

// ours are what stands before parts in quotes that nobody but the administrator chooses, by filter.
var ours = map[string][]string{
	"nginx-limit-req": {`by zone "`},
	"dovecot":         {")<"},                 // the session, which the server makes up
	"grafana":         {"referer="},           // which has no quotation marks as long as there is no blank in it
	"auditd":          {"acct=", "hostname="}, // likewise, and a name that the resolver has checked
	"exim-spam":       {"(host="},             // the same
	"pf-scan":         {"<"},                  // syslog's priority
}

// places are those of a line beside its offender.
func places(line, host, user string) (out []place) {
	add := func(begin, end int, quote byte) {
		if part := line[begin:end]; !strings.Contains(part, host) && !slices.ContainsFunc(out, func(p place) bool { return p.begin == begin && p.end == end }) {
			out = append(out, place{begin, end, quote})
		}
	}
	if user != "" {
		for from := 0; ; {
			i := strings.Index(line[from:], user)
			if i < 0 {
				break
			}
			begin := from + i
			from = begin + len(user)
			whole := func(i int) bool {
				return i < 0 || i >= len(line) || !(line[i] >= 'a' && line[i] <= 'z' || line[i] >= 'A' && line[i] <= 'Z' || line[i] >= '0' && line[i] <= '9')
			}
			if whole(begin-1) && whole(from) {
				quote := byte(0)
				if begin > 0 && from < len(line) && line[begin-1] == line[from] && strings.IndexByte(`"'`, line[from]) >= 0 {
					quote = line[from]
				}
				add(begin, from, quote)
			}
		}
	}
	for _, pair := range []string{`""`, "<>", "''", "``"} {
		for from := 0; ; {
			i := strings.IndexByte(line[from:], pair[0])
			if i < 0 {
				break
			}
			begin := from + i + 1
			n := strings.IndexByte(line[begin:], pair[1])
			if n < 0 {
				break
			}
			if n > 0 {
				add(begin, begin+n, pair[1])
			}
			from = begin + n + 1
		}
	}
	for _, m := range chosen.FindAllStringSubmatchIndex(line, -1) {
		quote := byte(0)
		for _, q := range quoted.FindAllStringIndex(line, -1) {
			if q[0] < m[2] && m[3] <= q[1] {
				quote = '"'
			}
		}
		add(m[2], m[3], quote)
	}
	return out
}

// quoted is a text in quotation marks.
var quoted = regexp.MustCompile(`"(?:[^"\\]|\\.)*"`)

// chosen are a request's page, host and words of its own, and the names by which protocols let a client call itself.
var chosen = regexp.MustCompile(`(?:\b(?:GET|POST|HEAD|PUT|OPTIONS|PROPFIND|CONNECT) |\b(?i:user|username|login|account|acct|name|helo|ehlo|ident|ruser|logname|agent|user_agent|useragent|ua|uri|url|path|host|hostname|referer|referrer|from|to|id|realm|sasl_username|authentication_id|msg|data|reason|subject)[=:] ?)([^\s"'<>\[\](),;]+)`)

// attacks are texts that name the victim: those of a list, and the ends of this very line, as they would be
// if the victim was the offender.
func attacks(line, host string) []string {
	var out []string
	for _, e := range evil {
		out = append(out, strings.ReplaceAll(e, "%s", victim))
	}
	other := strings.ReplaceAll(line, host, victim)
	at := strings.Index(other, victim)
	for from := max(0, at-60); from <= at; from++ {
		if from == 0 || other[from-1] == ' ' {
			out = append(out, "x "+other[from:], "x"+other[from:])
		}
	}
	// A whole line, with a line's end in front as services write those, and with what would end the field.
	for _, end := range []string{"x ", `x\n`, `x\r\n`, `x\x0a`, "x#012", `x\012`, "x^J", "x\r", "x\t", `x" `, `x\" `, "x' ", "x) ", "x] ", "x> ", "x, ", "x; ", "x | "} {
		out = append(out, end+other)
	}
	return append(out, rest(other)...)
}

// rest are the ends of a line behind each of its blanks, which is what a field must hold for all that follows to be
// read from it.
func rest(line string) (out []string) {
	words := strings.Fields(line)
	if len(words) > 12 {
		words = words[len(words)-12:]
	}
	for i := range words {
		out = append(out, "x "+strings.Join(words[i:], " ")+" ")
	}
	return out
}

// Whatever an attacker has put into the fields that are his, it is never somebody else who fails: every line of
// every log beside a filter is tried with its user and its quoted parts replaced.
func TestNoFieldMovesTheAddress(t *testing.T) {
	for _, name := range filterNames(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tried, moved := 0, 0
			for _, s := range annotated(t, name) {
				c := load(t, name, s.Options)
				c.Local = s.Zone
				rules, err := filter.Compile(c)
				if err != nil {
					t.Fatal(err)
				}
				var judge *filter.Filter
				for _, l := range s.Lines {
					if len(l.Failures) != 1 || strings.Contains(l.Text, victim) {
						continue
					}
					host, user := l.Failures[0].Host, ""
					if l.Failures[0].User != nil {
						user = *l.Failures[0].User
					}
					if !strings.Contains(l.Text, host) {
						continue // the line before it has the address
					}
					for _, p := range places(l.Text, host, user) {
						if slices.ContainsFunc(ours[name], func(before string) bool { return strings.HasSuffix(l.Text[:p.begin], before) }) {
							continue
						}
						for i, text := range attacks(l.Text, host) {
							if i%lessAttacks != p.begin%lessAttacks {
								continue
							}
							if p.quote != 0 {
								text = strings.ReplaceAll(text, string(p.quote), `\`+string(p.quote))
							}
							if p.quote == '>' {
								text = strings.ReplaceAll(text, `\>`, "")
							}
							line := l.Text[:p.begin] + text + l.Text[p.end:]
							tried++
							if judge == nil || !rules.Alone() {
								judge = filter.New(rules)
							}
							for _, f := range judge.Judge(&bantam.Line{Text: []byte(line), Read: s.Now(), Live: true}, nil) {
								if got := logtest.Host(&f); strings.Contains(got, victim) {
									if moved++; moved <= 5 {
										t.Errorf("line %d, options %v: %q blames %s", l.Number, s.Options, line, got)
									}
								}
							}
						}
					}
				}
			}
			if moved > 5 {
				t.Errorf("%d of %d lines blame the victim", moved, tried)
			}
		})
	}
}

// No line of a service concerns the filter of another, but for pairs with a reason in overlaps.txt.
func TestFiltersKeepToTheirService(t *testing.T) {
	reasons := overlaps(t)
	names := filterNames(t)
	var rules []*filter.Rules
	for _, name := range names {
		r, err := filter.Compile(load(t, name, nil))
		if err != nil {
			t.Fatal(err)
		}
		rules = append(rules, r)
	}
	used := map[string]bool{}
	for _, name := range names {
		told := map[string]bool{}
		for _, s := range annotated(t, name) {
			all := filter.New(rules...)
			for _, l := range s.Lines {
				for _, f := range all.Judge(&bantam.Line{Text: []byte(l.Text), Read: s.Now(), Live: true}, nil) {
					pair := f.Jail + " " + name
					if f.Jail == name || told[pair] {
						continue
					}
					told[pair] = true
					if reasons[pair] == "" {
						t.Errorf("the filter %s takes a line of %s for its own: %s.log:%d: %s", f.Jail, name, name, l.Number, l.Text)
					}
					used[pair] = true
				}
			}
		}
	}
	for pair := range reasons {
		if !used[pair] {
			t.Errorf("overlaps.txt has a reason for %q, which does not happen", pair)
		}
	}
}

// overlaps are the pairs "FILTER SERVICE: why" of overlaps.txt.
func overlaps(t *testing.T) map[string]string {
	t.Helper()
	text, err := os.ReadFile("overlaps.txt")
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]string{}
	for line := range strings.Lines(string(text)) {
		if line = strings.TrimSpace(line); line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		pair, why, ok := strings.Cut(line, ": ")
		if !ok || len(strings.Fields(pair)) != 2 || why == "" {
			t.Fatalf("overlaps.txt: %q is not FILTER SERVICE: WHY", line)
		}
		out[pair] = why
	}
	return out
}
