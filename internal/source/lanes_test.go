package source

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"bantam"
)

// What journalctl would show for matches, and nothing else, is handed on.
func TestMatches(t *testing.T) {
	fields := []string{"_SYSTEMD_UNIT", "ssh.service", "_COMM", "sshd", "_UID", "0", "_COMM", "sshd-session"}
	for _, c := range []struct {
		name    string
		matches string
		want    bool
	}{
		{"none fit all", "", true},
		{"a field", "_COMM=sshd", true},
		{"the second value of a field", "_COMM=sshd-session", true},
		{"another value", "_COMM=ssh", false},
		{"a field that is not there", "_PID=1", false},
		{"one field twice is either", "_COMM=x _COMM=sshd", true},
		{"two fields are both", "_COMM=sshd _UID=1", false},
		{"two fields, both there", "_UID=0 _COMM=sshd", true},
		{"a plus is an alternative", "_COMM=x + _UID=0", true},
		{"none of the alternatives", "_COMM=x + _UID=1", false},
		{"a plus at the end adds nothing", "_COMM=x +", false},
		{"a value with an equals sign", "_UID=0=0", false},
	} {
		q := queryOf(&Config{JournalMatch: [][]string{strings.Fields(c.matches)}})
		e := entry{wanted: map[string]bool{"_SYSTEMD_UNIT": true, "_COMM": true, "_UID": true, "_PID": true}}
		if err := newExportReader(strings.NewReader(export(fields...))).next(&e); err != nil {
			t.Fatal(err)
		}
		if got := q.fits(&e); got != c.want {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
}

// counted makes journalctl count its starts in a file.
func counted(t *testing.T, b *bench) (starts func() int) {
	t.Helper()
	dir := t.TempDir()
	script := filepath.Join(dir, "journalctl")
	must(t, os.WriteFile(script, []byte("#!/bin/sh\necho >>"+dir+"/starts\nexec journalctl \"$@\"\n"), 0o700))
	b.sources.system.program = script
	return func() int {
		text, _ := os.ReadFile(dir + "/starts")
		return strings.Count(string(text), "\n")
	}
}

func TestOneReaderForAllJails(t *testing.T) {
	j := newTestJournal(t)
	now := time.Now()
	j.add("ssh.service", now.Add(-5*time.Minute), "fail ssh")
	j.add("web.service", now.Add(-4*time.Minute), "fail web")
	j.add("other.service", now.Add(-3*time.Minute), "fail other")
	b := newBench(t)
	starts := counted(t, b)
	b.configure(
		j.config("sshd", "_SYSTEMD_UNIT=ssh.service"), j.config("more", "_SYSTEMD_UNIT=ssh.service"),
		j.config("web", "_SYSTEMD_UNIT=web.service", "_COMM=x", "+", "_SYSTEMD_UNIT=web.service"),
	)
	b.run()
	b.fails("sshd", "gate sshd[7]: fail ssh")
	b.fails("more", "gate sshd[7]: fail ssh")
	b.fails("web", "gate sshd[7]: fail web")
	j.add("web.service", time.Now(), "fail again")
	b.fails("web", "gate sshd[7]: fail web", "gate sshd[7]: fail again")
	b.fails("sshd", "gate sshd[7]: fail ssh")
	if n := starts(); n != 1 {
		t.Errorf("journalctl was started %d times, want once", n)
	}
	var got []string
	for _, st := range b.sources.Status() {
		got = append(got, fmt.Sprintf("%s %v %d", st.Match, st.Jails, st.Lines))
	}
	want := "[_SYSTEMD_UNIT=ssh.service [more sshd] 1 _SYSTEMD_UNIT=web.service _COMM=x + _SYSTEMD_UNIT=web.service [web] 2]"
	if fmt.Sprint(got) != want {
		t.Errorf("status %v, want %v", got, want)
	}
	// A jail with another query joins the same reader, and nobody gets anything twice.
	b.configure(
		j.config("sshd", "_SYSTEMD_UNIT=ssh.service"), j.config("more", "_SYSTEMD_UNIT=ssh.service"),
		j.config("web", "_SYSTEMD_UNIT=web.service"), j.config("all"),
	)
	b.fails("all", "gate sshd[7]: fail ssh", "gate sshd[7]: fail web", "gate sshd[7]: fail other", "gate sshd[7]: fail again")
	j.add("ssh.service", time.Now(), "fail last")
	b.fails("sshd", "gate sshd[7]: fail ssh", "gate sshd[7]: fail last")
	b.fails("web", "gate sshd[7]: fail web", "gate sshd[7]: fail again")
}

// The file that is written becomes an old one, a new one goes on, and the old one is
// vacuumed away: nothing is lost, nothing comes twice, in operation and after a restart.
func TestJournalIsRotatedAndVacuumed(t *testing.T) {
	j := newTestJournal(t)
	rotate := func(name string) {
		must(t, os.Rename(filepath.Join(j.dir, "test.journal"), filepath.Join(j.dir, name)))
	}
	j.add("ssh.service", time.Now().Add(-5*time.Minute), "fail a", "fail b")
	b := newBench(t)
	c := j.config("sshd", "_SYSTEMD_UNIT=ssh.service")
	c.JournalFiles, c.JournalDir = nil, j.dir
	b.configure(c)
	b.run()
	b.fails("sshd", "gate sshd[7]: fail a", "gate sshd[7]: fail b")
	rotate("test@1.journal")
	j.add("ssh.service", time.Now(), "fail c")
	b.fails("sshd", "gate sshd[7]: fail a", "gate sshd[7]: fail b", "gate sshd[7]: fail c")
	must(t, os.Remove(filepath.Join(j.dir, "test@1.journal")))
	j.add("ssh.service", time.Now(), "fail d")
	last := b.fails("sshd", "gate sshd[7]: fail a", "gate sshd[7]: fail b", "gate sshd[7]: fail c", "gate sshd[7]: fail d")[3]
	b.stop()

	// While nobody reads, the entry that was read last is vacuumed away.
	rotate("test@2.journal")
	j.add("ssh.service", time.Now(), "fail e")
	must(t, os.Remove(filepath.Join(j.dir, "test@2.journal")))
	b = newBench(t)
	b.configureFrom(func(string, string) (bantam.Position, bool) { return last.Position, true }, c)
	b.run()
	b.fails("sshd", "gate sshd[7]: fail e")
}

// Past reads what the journal holds, and ends.
func TestPastOfAJournal(t *testing.T) {
	j := newTestJournal(t)
	at := time.Now().Add(-48 * time.Hour).Truncate(time.Microsecond)
	j.add("ssh.service", at, "fail a", "fail b")
	j.add("other.service", at, "foreign")
	if _, err := exec.LookPath("journalctl"); err != nil {
		t.Skip("no journalctl here")
	}
	c := j.config("sshd", "_SYSTEMD_UNIT=ssh.service")
	pasts, err := Pasts([]Config{c}, nil)
	must(t, err)
	var got []string
	must(t, pasts[0].Read(t.Context(), func(line *bantam.Line) error {
		got = append(got, line.Time.UTC().Format(time.RFC3339Nano)+" "+string(line.Text))
		return nil
	}, nil))
	stamp := func(d time.Duration) string { return at.Add(d).UTC().Format(time.RFC3339Nano) }
	want := []string{stamp(0) + " gate sshd[7]: fail a", stamp(time.Microsecond) + " gate sshd[7]: fail b"}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("lines %q, want %q", got, want)
	}
}
