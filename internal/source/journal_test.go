package source

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"bantam"
)

const journalRemote = "/lib/systemd/systemd-journal-remote"

// export is an entry in the Journal Export Format; what holds a newline is written in
// the binary form. Fields come in pairs.
func export(fields ...string) string {
	var b strings.Builder
	for i := 0; i < len(fields); i += 2 {
		name, value := fields[i], fields[i+1]
		if !strings.Contains(value, "\n") {
			fmt.Fprintf(&b, "%s=%s\n", name, value)
			continue
		}
		b.WriteString(name + "\n")
		b.Write(binary.LittleEndian.AppendUint64(nil, uint64(len(value))))
		b.WriteString(value + "\n")
	}
	b.WriteString("\n")
	return b.String()
}

func TestEntryLine(t *testing.T) {
	cases := []struct {
		name   string
		fields []string
		want   string
	}{
		{
			"host, identifier, process and message",
			[]string{"_HOSTNAME", "gate", "SYSLOG_IDENTIFIER", "sshd", "_COMM", "sshd-session", "SYSLOG_PID", "812", "_PID", "9", "MESSAGE", "Failed password"},
			"gate sshd[812]: Failed password",
		},
		{
			"the command stands in for the identifier, the trusted for the told process",
			[]string{"_HOSTNAME", "gate", "_COMM", "sshd", "_PID", "9", "MESSAGE", "m"},
			"gate sshd[9]: m",
		},
		{"no process, no brackets", []string{"_HOSTNAME", "gate", "_COMM", "sshd", "MESSAGE", "m"}, "gate sshd: m"},
		{"no identifier, no process and no colon", []string{"_HOSTNAME", "gate", "_PID", "9", "MESSAGE", "m"}, "gate m"},
		{"no host", []string{"_COMM", "sshd", "MESSAGE", "m"}, "sshd: m"},
		{"a hexadecimal process is written in decimal", []string{"_COMM", "a", "_PID", "0x1f", "MESSAGE", "m"}, "a[31]: m"},
		{"a process that is no number stays as it is", []string{"_COMM", "a", "SYSLOG_PID", "x-1", "MESSAGE", "m"}, "a[x-1]: m"},
		{
			"the kernel's messages bear the seconds since boot",
			[]string{"_HOSTNAME", "gate", "SYSLOG_IDENTIFIER", "kernel", "__MONOTONIC_TIMESTAMP", "99", "_SOURCE_MONOTONIC_TIMESTAMP", "12345678", "MESSAGE", "IN=eth0"},
			"gate kernel: [   12.345678] IN=eth0",
		},
		{"messages are joined by blanks", []string{"_COMM", "a", "MESSAGE", "one", "MESSAGE", "two"}, "a: one two"},
		{"a message of two lines stays one line", []string{"_COMM", "a", "MESSAGE", "one\ntwo\n"}, `a: one\ntwo\n`},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			var e entry
			if err := newExportReader(strings.NewReader(export(c.fields...))).next(&e); err != nil {
				t.Fatal(err)
			}
			if got := string(e.line(nil)); got != c.want {
				t.Errorf("line %q, want %q", got, c.want)
			}
		})
	}
}

func TestExportBounds(t *testing.T) {
	long := strings.Repeat("x", 10<<20)
	binaryField := func(size uint64, data string) string {
		return "MESSAGE\n" + string(binary.LittleEndian.AppendUint64(nil, size)) + data
	}
	cases := []struct {
		name, in string
		want     []int // lengths of the messages
		err      error
	}{
		{"a long text field is cut", "MESSAGE=" + long + "\n_COMM=a\n\nMESSAGE=b\n\n", []int{MaxLine, 1}, io.EOF},
		{"a long binary field is cut", binaryField(10<<20, long+"\n") + "_COMM=a\n\nMESSAGE=b\n\n", []int{MaxLine, 1}, io.EOF},
		{"a length nobody believes ends the stream", binaryField(1<<62, "x"), nil, nil},
		{"a length beyond the data ends the stream", binaryField(100, "x"), nil, io.ErrUnexpectedEOF},
		{"a cut entry is not taken", "MESSAGE=a\n\nMESSAGE=b\n", []int{1}, io.ErrUnexpectedEOF},
		{"empty lines between entries are passed over", "\n\nMESSAGE=a\n\n\n\nMESSAGE=b\n\n", []int{1, 1}, io.EOF},
		{"a name without end ends the stream", strings.Repeat("N", 1<<20), nil, nil},
		{"the end within a name", "MESSAGE", nil, io.ErrUnexpectedEOF},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			x := newExportReader(strings.NewReader(c.in))
			var e entry
			var got []int
			var err error
			for err = x.next(&e); err == nil; err = x.next(&e) {
				got = append(got, len(e.message))
			}
			if fmt.Sprint(got) != fmt.Sprint(c.want) {
				t.Errorf("messages of lengths %v, want %v", got, c.want)
			}
			if c.err != nil && !errors.Is(err, c.err) {
				t.Errorf("error %v, want %v", err, c.err)
			}
			if cap(x.value) > 3*MaxLine {
				t.Errorf("the reader holds %d bytes", cap(x.value))
			}
		})
	}
}

func FuzzExport(f *testing.F) {
	f.Add([]byte(export("__CURSOR", "s=1", "__REALTIME_TIMESTAMP", "5", "MESSAGE", "a\nb", "_PID", "0x7")))
	f.Add([]byte("MESSAGE\n\xff\xff\xff\xff\xff\xff\xff\xffx\n\n"))
	f.Add([]byte("=\n\n=x\n"))
	f.Fuzz(func(t *testing.T, in []byte) {
		x := newExportReader(bytes.NewReader(in))
		var e entry
		for n := 0; x.next(&e) == nil; n++ {
			if n > len(in) {
				t.Fatal("more entries than bytes")
			}
			line := e.line(nil)
			if bytes.IndexByte(e.message, '\n') < 0 && bytes.IndexByte(line, '\n') >= 0 && bytes.IndexByte(in, 0) < 0 {
				// Other fields than the message come from the sender, too.
				t.Fatalf("line %q breaks", line)
			}
			if len(line) > MaxLine {
				t.Fatalf("line of %d bytes", len(line))
			}
		}
	})
}

// A testJournal is a journal file made for a test.
type testJournal struct {
	t    *testing.T
	dir  string
	n    int
	boot string
}

func newTestJournal(t *testing.T) *testJournal {
	t.Helper()
	if _, err := exec.LookPath("journalctl"); err != nil {
		t.Skip("no journalctl here")
	}
	if _, err := os.Stat(journalRemote); err != nil {
		t.Skip("no systemd-journal-remote here to make a journal with")
	}
	return &testJournal{t: t, dir: t.TempDir(), boot: "0123456789abcdef0123456789abcdef"}
}

// add appends entries of one unit at the given times.
func (j *testJournal) add(unit string, at time.Time, messages ...string) {
	j.t.Helper()
	var in strings.Builder
	for i, m := range messages {
		us := fmt.Sprint(at.UnixMicro() + int64(i))
		in.WriteString(export("__REALTIME_TIMESTAMP", us, "__MONOTONIC_TIMESTAMP", fmt.Sprint(1000+j.n),
			"_BOOT_ID", j.boot, "_MACHINE_ID", j.boot, "_HOSTNAME", "gate", "SYSLOG_IDENTIFIER", "sshd", "_PID", "7",
			"_SYSTEMD_UNIT", unit, "_SOURCE_REALTIME_TIMESTAMP", us, "MESSAGE", m))
		j.n++
	}
	cmd := exec.Command(journalRemote, "-o", filepath.Join(j.dir, "test.journal"), "-")
	cmd.Stdin = strings.NewReader(in.String())
	if out, err := cmd.CombinedOutput(); err != nil {
		j.t.Fatalf("%s: %v\n%s", journalRemote, err, out)
	}
}

func (j *testJournal) config(jail string, words ...string) Config {
	return Config{
		Jail: jail, Backend: Systemd, JournalMatch: [][]string{words}, FindTime: 10 * time.Minute,
		JournalFiles: []string{filepath.Join(j.dir, "*.journal")},
	}
}

func TestJournal(t *testing.T) {
	t.Run("entries of the match since findtime come as lines, then new ones", func(t *testing.T) {
		j := newTestJournal(t)
		now := time.Now()
		j.add("ssh.service", now.Add(-time.Hour), "too old")
		j.add("ssh.service", now.Add(-5*time.Minute), "fail a", "two\nlines")
		j.add("other.service", now.Add(-4*time.Minute), "foreign")
		b := newBench(t)
		b.configure(j.config("sshd", "_SYSTEMD_UNIT=ssh.service"))
		b.run()
		got := b.sees(Journal, "gate sshd[7]: fail a", `gate sshd[7]: two\nlines`)
		if got[0].live {
			t.Error("an entry from before the start is live")
		}
		if want := now.Add(-5 * time.Minute).Truncate(time.Microsecond); !got[0].time.Equal(want) {
			t.Errorf("event time %v, want %v", got[0].time, want)
		}
		if got[0].pos.Mark == "" || got[0].pos.Offset != now.Add(-5*time.Minute).UnixMicro() || got[0].pos.Source != Journal {
			t.Errorf("position %+v", got[0].pos)
		}
		j.add("ssh.service", time.Now(), "fail b")
		got = b.sees(Journal, "gate sshd[7]: fail a", `gate sshd[7]: two\nlines`, "gate sshd[7]: fail b")
		if !got[2].live {
			t.Error("an entry from after the start is not live")
		}
		if st := b.untilState(Journal, Reading); st.Lines != 3 || !st.Live {
			t.Errorf("status %+v, want 3 lines and live", st)
		}
		b.fails("sshd", "gate sshd[7]: fail a", "gate sshd[7]: fail b")
	})
	t.Run("what was read before a restart is known", func(t *testing.T) {
		j := newTestJournal(t)
		at := time.Now().Add(-5 * time.Minute)
		j.add("ssh.service", at, "fail a", "fail b", "fail c")
		b := newBench(t)
		b.configure(j.config("sshd", "_SYSTEMD_UNIT=ssh.service"))
		b.run()
		first := b.fails("sshd", "gate sshd[7]: fail a", "gate sshd[7]: fail b", "gate sshd[7]: fail c")
		b.stop()
		b = newBench(t)
		b.configureFrom(func(jail, source string) (bantam.Position, bool) {
			return first[1].Position, jail == "sshd" && source == Journal
		}, j.config("sshd", "_SYSTEMD_UNIT=ssh.service"))
		b.run()
		b.fails("sshd", "known gate sshd[7]: fail a", "known gate sshd[7]: fail b", "gate sshd[7]: fail c")
	})
	t.Run("a jail that joins at a reload gets what is past, the others get nothing twice", func(t *testing.T) {
		j := newTestJournal(t)
		j.add("ssh.service", time.Now().Add(-5*time.Minute), "fail a")
		b := newBench(t)
		b.configure(j.config("sshd", "_SYSTEMD_UNIT=ssh.service"))
		b.run()
		b.fails("sshd", "gate sshd[7]: fail a")
		b.configure(j.config("sshd", "_SYSTEMD_UNIT=ssh.service"), j.config("more", "_SYSTEMD_UNIT=ssh.service"))
		b.fails("more", "gate sshd[7]: fail a")
		j.add("ssh.service", time.Now(), "fail b")
		b.fails("more", "gate sshd[7]: fail a", "gate sshd[7]: fail b")
		b.fails("sshd", "gate sshd[7]: fail a", "gate sshd[7]: fail b")
		if n := len(b.sources.Status()); n != 1 {
			t.Errorf("%d readers for one match", n)
		}
	})
	t.Run("a journalctl that ends is started again after its last entry", func(t *testing.T) {
		j := newTestJournal(t)
		j.add("ssh.service", time.Now().Add(-time.Minute), "a")
		b := newBench(t)
		// Ends after the backlog, as it does without --follow.
		script := filepath.Join(t.TempDir(), "journalctl")
		must(t, os.WriteFile(script, []byte("#!/bin/sh\nfor a; do shift; [ \"$a\" = --follow ] || set -- \"$@\" \"$a\"; done\nexec journalctl \"$@\"\n"), 0o700))
		b.sources.system.program = script
		b.configure(j.config("sshd", "_SYSTEMD_UNIT=ssh.service"))
		b.run()
		b.sees(Journal, "gate sshd[7]: a")
		j.add("ssh.service", time.Now(), "b")
		b.sees(Journal, "gate sshd[7]: a", "gate sshd[7]: b")
		j.add("ssh.service", time.Now(), "c")
		b.sees(Journal, "gate sshd[7]: a", "gate sshd[7]: b", "gate sshd[7]: c")
	})
}

func TestJournalTroubles(t *testing.T) {
	config := Config{Jail: "sshd", Backend: Systemd, JournalMatch: [][]string{{"_COMM=sshd"}}, FindTime: time.Minute}
	t.Run("a missing journalctl is said", func(t *testing.T) {
		b := newBench(t)
		b.sources.system.program = "no-such-journalctl"
		b.configure(config)
		b.run()
		b.untilState(Journal, "not installed")
	})
	t.Run("what journalctl complains of is said, and it is started again", func(t *testing.T) {
		marks := filepath.Join(t.TempDir(), "starts")
		script := filepath.Join(t.TempDir(), "journalctl")
		must(t, os.WriteFile(script, []byte("#!/bin/sh\necho >>"+marks+"\necho first >&2\necho no such journal >&2\nexit 1\n"), 0o700))
		b := newBench(t)
		b.sources.system.program = script
		b.configure(config)
		b.run()
		b.untilState(Journal, "no such journal")
	})
	t.Run("garbage ends that journalctl and is said", func(t *testing.T) {
		script := filepath.Join(t.TempDir(), "journalctl")
		must(t, os.WriteFile(script, []byte("#!/bin/sh\nhead -c 200000 /dev/zero | tr '\\0' x\nexec sleep 1000\n"), 0o700))
		b := newBench(t)
		b.sources.system.program = script
		b.configure(config)
		b.run()
		b.untilState(Journal, "journal export")
	})
	t.Run("a journalctl that says nothing is ended at once when the daemon stops", func(t *testing.T) {
		script := filepath.Join(t.TempDir(), "journalctl")
		must(t, os.WriteFile(script, []byte("#!/bin/sh\nsleep 1000 & wait\n"), 0o700))
		b := newBench(t)
		b.sources.system.program = script
		b.configure(config)
		b.run()
		b.untilState(Journal, Reading)
		began := time.Now()
		b.stop()
		if d := time.Since(began); d > 2*time.Second {
			t.Errorf("stopping took %v", d)
		}
	})
}

func TestJournalArguments(t *testing.T) {
	c := Config{
		JournalDir: "/j", JournalNamespace: "n",
		JournalMatch: [][]string{{"_SYSTEMD_UNIT=a", "+", "_COMM=b"}, {"_COMM=c", "_UID=0"}},
	}
	j := newJournal(queryOf(&c), hostJournal, defaultTiming, nil)
	j.now = []*lane{{query: queryOf(&c)}}
	j.since = 1_700_000_000_900_000
	got := strings.Join(j.args(), " ")
	want := "--output=export --output-fields=" + journalFields + ",_SYSTEMD_UNIT,_UID --follow --no-tail --no-pager --quiet" +
		" --since=@1700000000 --directory=/j --namespace=n -- _SYSTEMD_UNIT=a + _COMM=b + _COMM=c _UID=0"
	if got != want {
		t.Errorf("arguments\n%s, want\n%s", got, want)
	}
}

func TestAuto(t *testing.T) {
	program := filepath.Join(t.TempDir(), "journalctl")
	must(t, os.WriteFile(program, []byte("#!/bin/sh\n"), 0o700))
	match := [][]string{{"_COMM=sshd"}}
	cases := []struct {
		name           string
		file, journal  bool
		match          [][]string
		program, wants string
	}{
		{"the file if it is there", true, true, match, program, "file"},
		{"the journal if there is no file", false, true, match, program, "journal"},
		{"the file to come if there is no match", false, true, nil, program, "file"},
		{"the file to come if there is no journal", false, false, match, program, "file"},
		{"the file to come if there is no journalctl", false, true, match, "no-such-journalctl", "file"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			path := filepath.Join(dir, "auth.log")
			if c.file {
				write(t, path, "")
			}
			if c.journal {
				must(t, os.Mkdir(filepath.Join(dir, "machine"), 0o700))
				write(t, filepath.Join(dir, "machine", "system.journal"), "")
			}
			b := newBench(t)
			b.sources.system = journalSystem{program: c.program, dirs: []string{dir}}
			b.configure(Config{Jail: "sshd", Paths: []Path{{Pattern: path}}, JournalMatch: c.match, Backend: Auto})
			want := path
			if c.wants == "journal" {
				want = Journal
			}
			if st := b.sources.Status(); len(st) != 1 || st[0].Name != want {
				t.Errorf("status %+v, want the %s", st, c.wants)
			}
		})
	}
}
