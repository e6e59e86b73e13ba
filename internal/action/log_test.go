package action

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"

	"bantam"
)

// diary is a log action at work in a bubble, and the file that it writes.
type diary struct {
	*testing.T
	actions *Actions
	worker  *worker
	file    string
	said    bytes.Buffer // its own log; the bubble's goroutines take turns
}

// newDiary writes file in a folder of the test's with these lines; all happens in jail sshd.
func newDiary(t *testing.T, file, ban, unban, ignore string) *diary {
	t.Helper()
	d := &diary{T: t, file: filepath.Join(t.TempDir(), file)}
	log := slog.New(slog.NewTextHandler(&d.said, nil))
	c := Config{Jail: "sshd", Name: LogName, Title: "log", Kind: Native, Params: map[string]string{
		"file": d.file, "ban": ban, "unban": unban, "ignore": ignore, "name": "sshd",
	}}
	if err := checkLog(&c); err != nil {
		t.Fatal(err)
	}
	effect, err := open(log, &World{Log: log, Place: malaysia.Place}, c)
	if err != nil {
		t.Fatal(err)
	}
	d.worker = newWorker(log, c, effect, nil)
	d.actions = &Actions{log: log, byJail: map[string][]*worker{"sshd": {d.worker}}}
	ctx, cancel := context.WithCancel(t.Context())
	go d.worker.run(ctx)
	t.Cleanup(func() { cancel(); <-d.worker.ended })
	return d
}

func (d *diary) text() string {
	d.Helper()
	synctest.Wait()
	text, err := os.ReadFile(d.file)
	if err != nil && !os.IsNotExist(err) {
		d.Fatal(err)
	}
	return string(text)
}

func TestALineForEachEvent(t *testing.T) {
	full := [3]string{"<ip> from <country>, <failures> times", "<ip> free", "<ip> is ours"}
	for _, tt := range []struct {
		name     string
		lines    [3]string // ban, unban, ignore
		decision bantam.Decision
		want     string
	}{
		{"a ban", full, about(bantam.Start, "175.136.1.1"), "175.136.1.1 from MY, 5 times\n"},
		{"its end", full, about(bantam.End, "175.136.1.1"), "175.136.1.1 free\n"},
		{"a ban from before a restart was written down then", full, about(bantam.Restore, "175.136.1.1"), ""},
		{"a ban that goes on longer is no new one", full, about(bantam.Prolong, "175.136.1.1"), ""},
		{"an event that has no line", [3]string{"", "<ip> free", ""}, about(bantam.Start, "175.136.1.1"), ""},
		{"a line of blanks is none", [3]string{"  ", "<ip> free", ""}, about(bantam.Start, "175.136.1.1"), ""},
		{"an address of nobody knows where", full, about(bantam.Start, "2001:db8::1"), "2001:db8::1 from unknown, 5 times\n"},
		{"a prefix", full, about(bantam.Start, "2001:db8::/64"), "2001:db8::/64 from unknown, 5 times\n"},
		{"a tag that nobody knows stays", [3]string{"<ip> <nonsense>", "", ""}, about(bantam.Start, "192.0.2.1"), "192.0.2.1 <nonsense>\n"},
		{"blanks around a line stay", [3]string{" <ip> ", "", ""}, about(bantam.Start, "192.0.2.1"), " 192.0.2.1 \n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := newDiary(t, "bans.log", tt.lines[0], tt.lines[1], tt.lines[2])
				d.worker.add(tt.decision)
				if got := d.text(); got != tt.want {
					t.Errorf("the file has %q, want %q", got, tt.want)
				}
			})
		})
	}
}

func TestWhatAnAttackerWroteStaysOnItsLine(t *testing.T) {
	for _, tt := range []struct{ name, user, want string }{
		{"a newline", "root\n192.0.2.9 free", `root\n192.0.2.9 free`},
		{"a carriage return", "root\rfree", `root\u000dfree`},
		{"an escape sequence", "\x1b]0;owned\a", `\u001b]0;owned\u0007`},
		{"a turn of the reading direction", "\u202egnp.exe", `\u202egnp.exe`},
		{"a line separator", "a\u2028b", `a\u2028b`},
		{"a control byte that is no UTF-8", "\x9b2J", "\ufffd2J"},
		{"a tag is not looked through again", "<ip> <country>", "<ip> <country>"},
		{"letters of the world", "Zoë 李", "Zoë 李"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := newDiary(t, "bans.log", "<ip> as <F-USER>", "", "")
				d.worker.add(about(bantam.Start, "192.0.2.1", func(b *bantam.Ban) { b.Data = map[string]string{"user": tt.user} }))
				if got, want := d.text(), "192.0.2.1 as "+tt.want+"\n"; got != want {
					t.Errorf("the file has %q, want %q", got, want)
				}
			})
		})
	}
}

func TestTheFileMayBeRenamedAtAnyTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDiary(t, "bans.log", "<ip>", "", "")
		d.worker.add(about(bantam.Start, "192.0.2.1"))
		if got := d.text(); got != "192.0.2.1\n" {
			t.Errorf("the first file has %q", got)
		}
		if err := os.Rename(d.file, d.file+".1"); err != nil {
			t.Fatal(err)
		}
		d.worker.add(about(bantam.Start, "192.0.2.2"))
		if got := d.text(); got != "192.0.2.2\n" {
			t.Errorf("the second file has %q", got)
		}
		if info, err := os.Stat(d.file); err != nil || info.Mode().Perm()&0o137 != 0 {
			t.Errorf("the file is %v, %v", info.Mode(), err)
		}
	})
}

func TestAFolderThatIsNotThereIsWaitedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDiary(t, "later/bans.log", "<ip>", "", "<ip> ignored")
		d.worker.add(about(bantam.Start, "192.0.2.1"))
		d.actions.Ignored(&bantam.Failure{Jail: "sshd", ID: about(bantam.Start, "192.0.2.7").Ban.ID})
		if got := d.text(); got != "" {
			t.Errorf("there is %q", got)
		}
		if st := d.worker.status(); st.Failing != 1 || !strings.Contains(st.Err, "no such file or directory") {
			t.Errorf("the status is %+v", st)
		}
		if said := d.said.String(); !strings.Contains(said, "cannot write down who is ignored") {
			t.Errorf("its log says %s", said)
		}
		if err := os.Mkdir(filepath.Dir(d.file), 0o700); err != nil {
			t.Fatal(err)
		}
		time.Sleep(lastRest)
		if got := d.text(); got != "192.0.2.1\n" || d.worker.status().Failing != 0 {
			t.Errorf("later there is %q, %+v", got, d.worker.status())
		}
	})
}

func TestWhoIsIgnoredIsWrittenDownOnceAnHour(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDiary(t, "bans.log", "", "", "<ip> from <country> as <F-USER> is ours")
		ignored := func(jail, addr string) {
			d.actions.Ignored(&bantam.Failure{Jail: jail, ID: about(bantam.Start, addr).Ban.ID, Data: map[string]string{"user": "eve\n"}})
		}
		const a, b = "175.136.1.1 from MY as eve\\n is ours\n", "192.0.2.1 from unknown as eve\\n is ours\n"
		for _, step := range []struct {
			name string
			do   func()
			want string // the whole file
		}{
			{"the first failure", func() { ignored("sshd", "175.136.1.1") }, a},
			{"many more", func() {
				for range 100 {
					ignored("sshd", "175.136.1.1")
				}
			}, a},
			{"somebody else", func() { ignored("sshd", "192.0.2.1") }, a + b},
			{"another jail", func() { ignored("nginx", "192.0.2.2") }, a + b},
			{"within the hour", func() { time.Sleep(ignoredAgain - 1); ignored("sshd", "175.136.1.1") }, a + b},
			{"after it", func() { time.Sleep(time.Nanosecond); ignored("sshd", "175.136.1.1") }, a + b + a},
		} {
			step.do()
			if got := d.text(); got != step.want {
				t.Fatalf("%s: the file has %q, want %q", step.name, got, step.want)
			}
		}
	})
}

// However many are ignored, what is remembered of them has a bound.
func TestMemoryOfWhoIsIgnoredIsBounded(t *testing.T) {
	l := newLog(quiet(), &World{}, &Config{Params: map[string]string{"ignore": "<ip>"}})
	now := time.Now()
	for i := range 3 * maxIgnored {
		if !l.news(bantam.TextID(fmt.Sprint(i)), now) {
			t.Fatalf("the %d. is no news", i)
		}
		l.written()
		if n := len(l.ignored); n > maxIgnored {
			t.Fatalf("%d are remembered", n)
		}
	}
}

// A file that hangs, as on a server that is gone, has few lines wait for it.
func TestLinesThatWaitForAFileAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDiary(t, "bans.log", "", "", "<ip>")
		hung := make(chan struct{})
		d.worker.ask(func(context.Context) { <-hung })
		synctest.Wait()
		ignored := func(n int) {
			d.actions.Ignored(&bantam.Failure{Jail: "sshd", ID: bantam.TextID(fmt.Sprint(n))})
		}
		for n := range 4 * maxUnwritten {
			ignored(n)
		}
		close(hung)
		if n := strings.Count(d.text(), "\n"); n != maxUnwritten {
			t.Errorf("%d lines waited, want %d", n, maxUnwritten)
		}
		ignored(2 * maxUnwritten) // of whom nothing was written
		if n := strings.Count(d.text(), "\n"); n != maxUnwritten+1 {
			t.Errorf("there are %d lines later", n)
		}
	})
}

func TestALogThatCannotBeWritten(t *testing.T) {
	for _, tt := range []struct {
		name, file, line, want string
	}{
		{"no file", "", "<ip>", `file="": an absolute path is wanted`},
		{"a file of which nobody knows where it is", "bans.log", "<ip>", `file="bans.log": an absolute path is wanted`},
		{"nothing to write", "/var/log/bans.log", " ", "it has no line to write"},
	} {
		err := checkLog(&Config{Params: map[string]string{"file": tt.file, "ban": tt.line}})
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %s", tt.name, err, tt.want)
		}
	}
}

func FuzzOneLine(f *testing.F) {
	f.Add("root")
	f.Add("a\nb\x1b[2J\u202e")
	f.Add("\xff\xfe")
	f.Fuzz(func(t *testing.T, text string) {
		line := onOneLine(text)
		if onOneLine(line) != line {
			t.Errorf("%q is escaped twice: %q", text, line)
		}
		if strings.ContainsAny(line, "\n\r\x1b\u0085\u2028\u2029\u202e") || !utf8.ValidString(line) || len(line) > 6*len(text) {
			t.Errorf("%q becomes %q", text, line)
		}
	})
}

func BenchmarkLogLine(b *testing.B) {
	l := newLog(quiet(), &World{Log: quiet(), Place: malaysia.Place}, &Config{Jail: "sshd", Params: map[string]string{
		"file": filepath.Join(b.TempDir(), "bans.log"), "ban": "<ip> from <country> as <F-USER>",
	}})
	d := about(bantam.Start, "175.136.1.1")
	b.ReportAllocs()
	for b.Loop() {
		if _, err := l.Do(b.Context(), &d); err != nil {
			b.Fatal(err)
		}
	}
}
