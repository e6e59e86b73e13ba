// Package logtest reads annotated logs and checks filters against them. It is for
// tests.
//
// An annotated log is a log with a note above each line that says what must come of
// it:
//
//	#: year 2025, zone UTC
//	#: fail 192.0.2.7 at 2025-03-02T10:15:04Z user=root
//	Mar  2 10:15:04 gate sshd[812]: Failed password for root from 192.0.2.7 port 4022 ssh2
//	#: pass, it says nothing about who it was
//	Mar  2 10:15:05 gate sshd[812]: something else
//
// The notes are:
//
//	#: year Y, zone Z     what lines without year and zone mean; may come again
//	#: options K=V …      options of the filter from here on, which starts anew with
//	                      them; none for the defaults
//	#: fail ADDR at TIME user=U, why
//	                      the next line is one failure: the address or name, the
//	                      time in RFC 3339, and the user, which may be in Go's
//	                      quotes. Time, user and why may be missing.
//	#: pass, why          the next line is no failure
//
// Several fail notes above one line mean several failures. A line without a note is
// an error, and so is a note without a line. Empty lines and lines that begin with
// "# " are comments.
package logtest

import (
	"bufio"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"bantam"
	"bantam/internal/filter"
)

// A Failure is what a note promises.
type Failure struct {
	Host string    // address or host name
	Time time.Time // zero: nothing promised
	User *string   // nil: nothing promised
}

// A Line is a line of a log and what must come of it; no failures is a promise too.
type Line struct {
	Number   int // in the file, from 1 on
	Text     string
	Failures []Failure
	Why      string
}

// A Section is a run of lines for one filter with its options.
type Section struct {
	Options map[string]string
	Year    int
	Zone    *time.Location
	Lines   []Line
}

// maxLine is the longest line that is read, in bytes.
const maxLine = 1 << 20

// Parse reads an annotated log. The error names the line.
func Parse(r io.Reader) ([]Section, error) {
	scanner := bufio.NewScanner(r)
	scanner.Buffer(nil, maxLine)
	current := Section{Year: 2025, Zone: time.UTC, Options: map[string]string{}}
	var out []Section
	var next *Line // notes that wait for their line
	number := 0
	flush := func() {
		if len(current.Lines) > 0 {
			out = append(out, current)
			current.Lines = nil
		}
	}
	for scanner.Scan() {
		number++
		text := scanner.Text()
		note, isNote := strings.CutPrefix(text, "#: ")
		if !isNote {
			switch {
			case text == "" || text == "#" || strings.HasPrefix(text, "# "):
			case next == nil:
				return nil, fmt.Errorf("line %d: there is no note above it", number)
			default:
				next.Number, next.Text = number, text
				current.Lines = append(current.Lines, *next)
				next = nil
			}
			continue
		}
		word, rest, _ := strings.Cut(note, " ")
		word, comma := strings.CutSuffix(word, ",")
		if comma {
			rest = ", " + rest
		}
		var err error
		switch word {
		case "fail":
			if next == nil {
				next = &Line{}
			} else if len(next.Failures) == 0 {
				err = fmt.Errorf("it is told to pass already")
			}
			var f Failure
			if err == nil {
				f, next.Why, err = parseFailure(rest)
				next.Failures = append(next.Failures, f)
			}
		case "pass":
			if next != nil {
				err = fmt.Errorf("there is a note already")
			}
			next = &Line{Why: strings.TrimPrefix(rest, ", ")}
		case "year", "options":
			if next != nil {
				err = fmt.Errorf("the note above lacks its line")
				break
			}
			flush()
			if word == "options" {
				current.Options, err = parseOptions(rest)
			} else {
				err = current.parseYear(rest)
			}
		default:
			err = fmt.Errorf("unknown word %q", word)
		}
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", number, err)
		}
	}
	if err := scanner.Err(); err != nil {
		return nil, fmt.Errorf("line %d: %w", number+1, err)
	}
	if next != nil {
		return nil, fmt.Errorf("line %d: the last note lacks its line", number)
	}
	flush()
	return out, nil
}

// parseYear reads "2025, zone UTC".
func (s *Section) parseYear(text string) error {
	year, zone, hasZone := strings.Cut(text, ", zone ")
	n, err := strconv.Atoi(year)
	if err != nil {
		return fmt.Errorf("year %q: %w", year, err)
	}
	s.Year = n
	if hasZone {
		if s.Zone, err = time.LoadLocation(zone); err != nil {
			return fmt.Errorf("zone %q: %w", zone, err)
		}
	}
	return nil
}

func parseOptions(text string) (map[string]string, error) {
	options := make(map[string]string)
	for _, word := range strings.Fields(text) {
		key, value, ok := strings.Cut(word, "=")
		if !ok {
			return nil, fmt.Errorf("option %q lacks a value", word)
		}
		options[key] = value
	}
	return options, nil
}

// parseFailure reads "ADDR at TIME user=U, why".
func parseFailure(text string) (f Failure, why string, err error) {
	word, rest := cutWord(text)
	if word == "" {
		return f, "", fmt.Errorf("who fails?")
	}
	f.Host = word
	if after, ok := strings.CutPrefix(rest, " at "); ok {
		word, rest = cutWord(after)
		if f.Time, err = time.Parse(time.RFC3339, word); err != nil {
			return f, "", err
		}
	}
	if after, ok := strings.CutPrefix(rest, " user="); ok {
		var user string
		if quoted, err := strconv.QuotedPrefix(after); err == nil {
			rest = after[len(quoted):]
			if user, err = strconv.Unquote(quoted); err != nil {
				return f, "", fmt.Errorf("user %s: %w", quoted, err)
			}
		} else {
			user, rest = cutWord(after)
		}
		f.User = &user
	}
	if rest != "" && !strings.HasPrefix(rest, ", ") {
		return f, "", fmt.Errorf("%q is not understood", rest)
	}
	return f, strings.TrimPrefix(rest, ", "), nil
}

// cutWord cuts at the first blank or comma-blank, which stays.
func cutWord(s string) (word, rest string) {
	end := strings.IndexByte(s, ' ')
	if end < 0 {
		return s, ""
	}
	if end > 0 && s[end-1] == ',' {
		end--
	}
	return s[:end], s[end:]
}

// Now is the wall time at which a section's lines are read: the end of its year, so
// that dates without a year are of that year. The source is still catching up then,
// which leaves the dates as they are.
func (s *Section) Now() time.Time {
	return time.Date(s.Year, 12, 31, 23, 59, 59, 0, s.Zone)
}

// Check runs a section's lines through a fresh filter and returns what is not as
// promised, one error for each line.
func (s *Section) Check(c filter.Config) []error {
	c.Local = s.Zone
	rules, err := filter.Compile(c)
	if err != nil {
		return []error{err}
	}
	f := filter.New(rules)
	var errs []error
	for _, l := range s.Lines {
		got := f.Judge(&bantam.Line{Text: []byte(l.Text), Read: s.Now()}, nil)
		if err := l.compare(got); err != nil {
			errs = append(errs, fmt.Errorf("line %d: %w\n\t%q", l.Number, err, l.Text))
		}
	}
	return errs
}

// compare says how the failures differ from the promised ones.
func (l *Line) compare(got []bantam.Failure) error {
	var gotHosts, wantHosts []string
	for _, g := range got {
		gotHosts = append(gotHosts, Host(&g))
	}
	for _, w := range l.Failures {
		wantHosts = append(wantHosts, w.Host)
	}
	if g, w := strings.Join(gotHosts, " "), strings.Join(wantHosts, " "); g != w {
		return fmt.Errorf("fails %q, want %q", g, w)
	}
	for i, w := range l.Failures {
		switch g := got[i]; {
		case !w.Time.IsZero() && !g.Time.Truncate(time.Second).Equal(w.Time):
			return fmt.Errorf("%s fails at %s, want %s", w.Host, g.Time.UTC().Format(time.RFC3339), w.Time.UTC().Format(time.RFC3339))
		case w.User != nil && g.User != *w.User:
			return fmt.Errorf("%s fails as %q, want %q", w.Host, g.User, *w.User)
		}
	}
	return nil
}

// Host is who failed, as a note would write it.
func Host(f *bantam.Failure) string {
	if f.Host != "" {
		return f.Host
	}
	return f.ID.String()
}
