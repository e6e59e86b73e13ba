package daemon

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"bantam"
	"bantam/internal/control"
	"bantam/internal/filter"
	"bantam/library"
)

// planOf is the plan of a folder with this jail.local.
func planOf(t *testing.T, jails string) *plan {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "jail.local"), []byte(jails), 0o600); err != nil {
		t.Fatal(err)
	}
	p, err := makePlan(dir, library.FS)
	if err != nil {
		t.Fatal(err)
	}
	if len(p.aside) > 0 {
		t.Fatal(p.aside)
	}
	return p
}

// hostile is a line that the expression of slow takes too many steps in.
var hostile = strings.Repeat("a", 2000)

const slow = `[sshd]
enabled = false
[a]
enabled = true
observe = true
logpath = /no/such/log
filter =
datepattern = {NONE}
failregex = ^never <HOST>$
    ^(.*)(.*)(.*)b\1\2\3 <HOST>$
[b]
enabled = true
observe = true
logpath = /no/such/other
filter =
datepattern = {NONE}
failregex = ^never <HOST>$
    ^(.*)(.*)(.*)b\1\2\3 <HOST>$
[c]
enabled = true
observe = true
logpath = /no/such/log
filter =
datepattern = {NONE}
failregex = ^never <HOST>$
`

func TestFaultsAreToldOnceAnHour(t *testing.T) {
	p := planOf(t, slow)
	line := bantam.Line{Text: []byte(hostile + "b" + hostile + "c 192.0.2.1"), Read: time.Unix(1e9, 0)}
	judge := func() { filter.New(p.filters["b"]).Judge(&line, nil) }
	var out bytes.Buffer
	log := slog.New(slog.NewTextHandler(&out, nil))
	told, now := faultLog{}, time.Unix(1e9, 0)
	after := func(d time.Duration) string {
		out.Reset()
		now = now.Add(d)
		told.tell(log, p, now)
		return out.String()
	}
	if got := after(0); got != "" {
		t.Errorf("without a fault it tells\n%s", got)
	}
	judge()
	if got := after(time.Minute); strings.Count(got, "\n") != 1 || !strings.Contains(got, `level=WARN msg="an expression took too many steps and was no match" jail=a jails=2 option="failregex 2" count=1`) {
		t.Errorf("after a fault it tells\n%s", got)
	}
	judge()
	judge()
	if got := after(59 * time.Minute); got != "" {
		t.Errorf("within the hour it tells\n%s", got)
	}
	if got := after(time.Minute); strings.Count(got, "\n") != 1 || !strings.Contains(got, "count=2") {
		t.Errorf("after the hour it tells\n%s", got)
	}
	if got := after(2 * time.Hour); got != "" {
		t.Errorf("without another it tells\n%s", got)
	}
	p = planOf(t, slow)
	if after(time.Minute); len(told) != 0 {
		t.Errorf("%d filters of a plan that was replaced are remembered", len(told))
	}
}

func TestFaultsStandInTheStatus(t *testing.T) {
	p := planOf(t, slow)
	line := bantam.Line{Text: []byte(hostile + "b" + hostile + "c 192.0.2.1"), Read: time.Unix(1e9, 0)}
	filter.New(p.filters["a"]).Judge(&line, nil)
	if got, want := p.faults("a"), []control.Fault{{Option: "failregex 2", Overruns: 1}}; !slices.Equal(got, want) {
		t.Errorf("jail a has the faults %v, want %v", got, want)
	}
	for _, jail := range []string{"c", "manual", "none"} {
		if got := p.faults(jail); len(got) > 0 {
			t.Errorf("jail %s has the faults %v", jail, got)
		}
	}
}

// Jails whose filters are alike share what takes memory, and stay apart in what they find.
func TestJailsShareExpressions(t *testing.T) {
	p := planOf(t, slow)
	if len(p.compiled) != 2 {
		t.Errorf("%d filters are compiled for three jails with two", len(p.compiled))
	}
	line := bantam.Line{Text: []byte("never 192.0.2.1"), Read: time.Unix(1e9, 0)}
	var jails []string
	for _, f := range filter.New(p.filters["a"], p.filters["b"], p.filters["c"]).Judge(&line, nil) {
		jails = append(jails, f.Jail)
	}
	if !slices.Equal(jails, []string{"a", "b", "c"}) {
		t.Errorf("it fails in %q", jails)
	}
}
