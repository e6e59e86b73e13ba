package library_test

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"testing"
	"time"

	"bantam"
	"bantam/internal/config"
	"bantam/internal/filter"
	"bantam/internal/logtest"
	"bantam/library"
)

// syslogHead is what stands before a message in a file of syslog's: time, host and program. In the journal the time is
// no part of the line.
var syslogHead = regexp.MustCompile(`^(?:<\d+>)?(?:[A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d|\d{4}-\d\d-\d\dT[\d:.]+(?:Z|[+-]\d\d:?\d\d)) (\S+ [^\s:\[]+(?:\[\d+\])?: )`)

// A jail that reads the journal has a filter that understands it: of its log some failures are as syslog's files have
// them, and the same without their time.
func TestJailsOfTheJournalUnderstandIt(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "jail.local"), []byte("[DEFAULT]\nenabled = true\naction =\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := config.Load(dir, library.FS)
	if err != nil {
		t.Fatal(err)
	}
	text, err := library.FS.ReadFile("jail.conf")
	if err != nil {
		t.Fatal(err)
	}
	jails := 0
	for i := range c.Jails {
		j := &c.Jails[i]
		kernel := slices.ContainsFunc(j.Source.JournalMatch, func(m []string) bool { return slices.Contains(m, "_TRANSPORT=kernel") })
		if len(j.Source.JournalMatch) == 0 || kernel {
			continue
		}
		jails++
		name := j.Name
		if m := regexp.MustCompile(`(?m)^\[` + j.Name + `\]\n(?:[^\[].*\n|\n)*?filter = ([\w-]+)`).FindSubmatch(text); m != nil {
			name = string(m[1])
		}
		understood := 0
		for _, s := range annotated(t, name) {
			cfg := load(t, name, s.Options)
			cfg.Local = s.Zone
			rules, err := filter.Compile(cfg)
			if err != nil {
				t.Fatal(err)
			}
			for _, l := range s.Lines {
				m := syslogHead.FindStringSubmatchIndex(l.Text)
				if m == nil || len(l.Failures) != 1 {
					continue
				}
				got := filter.New(rules).Judge(&bantam.Line{Text: []byte(l.Text[m[2]:]), Time: s.Now(), Read: s.Now().Add(time.Second)}, nil)
				if len(got) == 1 && logtest.Host(&got[0]) == l.Failures[0].Host {
					understood++
				}
			}
		}
		if understood == 0 {
			t.Errorf("the jail %s reads the journal by %q, and no line of %s.log is one of it", j.Name, j.Source.JournalMatch, name)
		}
	}
	if jails < 50 {
		t.Errorf("only %d jails read the journal", jails)
	}
}
