package daemon

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"bantam"
	"bantam/internal/config"
	"bantam/internal/control"
	"bantam/library"
)

// running is a daemon with two jails that only observe.
func running(t testing.TB) *Daemon {
	t.Helper()
	return runningBy(t, map[string]string{
		"jail.conf": "[DEFAULT]\nobserve = true\naction =\nbackend = polling\n" +
			"[j1]\nenabled = true\nfailregex = ^bad <HOST>$\nlogpath = DIR/a.log\n" +
			"[j2]\nenabled = true\nfailregex = ^worse <HOST>$\nlogpath = DIR/a.log\nignoreip = 10.0.0.0/8\n",
		"fail2ban.conf": "[Definition]\nsocket = DIR/f2b.sock\npidfile =\ndbfile = None\nlogtarget = STDERR\n",
		"a.log":         "",
	})
}

// runningBy runs a daemon by the files of a folder, DIR in them, until the test ends.
func runningBy(t testing.TB, files map[string]string) *Daemon {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(strings.ReplaceAll(text, "DIR", dir)), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	d, err := New(ctx, Options{Config: dir, Library: library.FS, Socket: filepath.Join(dir, "s"), Stderr: io.Discard})
	if err != nil {
		cancel()
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- d.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return d
}

// do gives a command to a daemon.
func (d *Daemon) do(t testing.TB, line string) (any, error) {
	t.Helper()
	var words control.List
	for word := range strings.FieldsSeq(line) {
		words = append(words, word)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	return d.answer(ctx, control.Peer{}, words)
}

// Exporters and scripts go by the types of the replies.
func TestRepliesHaveTheOriginalsShapes(t *testing.T) {
	d := running(t)
	for _, step := range []struct{ line, want string }{
		{"ping", "'pong'"},
		{"version", "'1.1.2'"},
		{"status", "[('Number of jail', 2), ('Jail list', 'j1, j2')]"},
		{"status j1", "[('Filter', [('Currently failed', 0), ('Total failed', 0), ('File list', ['DIR/a.log'])]), ('Actions', [('Currently banned', 0), ('Total banned', 0), ('Banned IP list', [])])]"},
		{"stats", "{'j1': ['polling', (0, 0), (0, 0)], 'j2': ['polling', (0, 0), (0, 0)]}"},
		{"set j1 banip 203.0.113.9 2001:db8::1", "2"},
		{"set j1 banip 203.0.113.9", "0"},
		{"banned", "[{'j1': ['203.0.113.9', '2001:db8::1']}, {'j2': []}]"},
		{"banned 203.0.113.9 192.0.2.1", "[['j1'], []]"},
		{"get j1 banip", "['2001:db8::1', '203.0.113.9']"}, // the second ban of the other has moved its end
		{"get j1 datepattern", "(None, 'Default Detectors')"},
		{"get j1 findtime", "600"},
		{"get dbfile", "None"},
		{"get dbpurgeage", "None"},
		{"set manual banip 192.0.2.77", "1"},
		{"status", "[('Number of jail', 3), ('Jail list', 'j1, j2, manual')]"},
		{"unban --all", "3"},
	} {
		got, err := d.do(t, step.line)
		text := strings.ReplaceAll(control.Repr(got), d.options.Config, "DIR")
		if err != nil || text != step.want {
			t.Errorf("%s: %s, %v; want %s", step.line, text, err, step.want)
		}
	}
	for line, want := range map[string]*control.Exception{
		"get nope bantime":  control.NoSuchJail("nope"),
		"get j1":            {Class: "builtins.IndexError", Args: control.Tuple{"list index out of range"}},
		"set j1 bogus":      control.Invalid("Invalid command 'bogus' (no set action or not yet implemented)"),
		"get j1 action x y": {Class: "builtins.KeyError", Args: control.Tuple{"Invalid Action name: x"}},
		"set j1 unbanip --report-absent 192.0.2.1 b": {Class: "builtins.ValueError", Args: control.Tuple{"not banned: ['192.0.2.1', 'b']"}},
		"add j1":               {Class: "fail2ban.exceptions.DuplicateJailException", Args: control.Tuple{"j1"}},
		"set manual bantime 5": errManual,
	} {
		_, err := d.do(t, line)
		var e *control.Exception
		if !errors.As(err, &e) || !reflect.DeepEqual(e, want) {
			t.Errorf("%s: %#v, want %#v", line, err, want)
		}
	}
}

func TestTrapS14_ARunningBanKeepsItsEnd(t *testing.T) {
	d := running(t)
	for _, line := range []string{"set j1 banip 203.0.113.9", "set j1 bantime -1"} {
		if _, err := d.do(t, line); err != nil {
			t.Fatal(err)
		}
	}
	bans, err := d.jails.Bans(t.Context(), "j1", bantam.ID{})
	if err != nil || len(bans) != 1 || bans[0].Permanent() {
		t.Errorf("%v, %v", bans, err)
	}
}

func TestTrapS46_EachLineOfAnAttemptCounts(t *testing.T) {
	d := running(t)
	if got, err := d.do(t, "set j2 attempt 10.9.8.7"); err != nil || got != 0 {
		t.Errorf("who is ignored: %v, %v", got, err)
	}
	if got, err := d.do(t, "set j1 attempt 203.0.113.9 one two three"); err != nil || got != 1 {
		t.Errorf("%v, %v", got, err)
	}
	bans := awaitBans(t, d, "j1", 1)
	if b := bans[0]; b.Failures != 3 || strings.Join(b.Lines, " ") != "one two three" {
		t.Errorf("%+v", b)
	}
}

// awaitBans waits until a jail has so many bans.
func awaitBans(t *testing.T, d *Daemon, jail string, n int) []bantam.Ban {
	t.Helper()
	deadline := time.After(10 * time.Second)
	for tick := time.Tick(time.Millisecond); ; {
		bans, err := d.jails.Bans(t.Context(), jail, bantam.ID{})
		if err != nil {
			t.Fatal(err)
		}
		if len(bans) == n {
			return bans
		}
		select {
		case <-tick:
		case <-deadline:
			t.Fatalf("%d bans, not %d", len(bans), n)
		}
	}
}

func TestTrapS55_FalseIsFalse(t *testing.T) {
	d := running(t)
	for _, step := range []struct{ line, want string }{
		{"set j1 bantime.overalljails true", "True"},
		{"set j1 bantime.overalljails false", "None"},
	} {
		if got, err := d.do(t, step.line); err != nil || control.Repr(got) != step.want {
			t.Errorf("%s: %v, %v", step.line, got, err)
		}
	}
}

func TestTrapS54_AnAddressBesideAListIsIgnored(t *testing.T) {
	d := running(t)
	list := filepath.Join(t.TempDir(), "list")
	if err := os.WriteFile(list, []byte("192.0.2.0/24\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	got, err := d.do(t, "set j1 addignoreip file:"+list+" 198.51.100.1")
	if want := []string{"file:" + list, "198.51.100.1"}; err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%v, %v", got, err)
	}
}

// A wrong change refuses only that command: what runs is as it was.
func TestAWrongChangeChangesNothing(t *testing.T) {
	d := running(t)
	before := d.plan.Load()
	for _, line := range []string{
		"set j1 addfailregex (<HOST>", "set j1 addfailregex ^nobody$", "set j1 findtime 0", "set j1 findtime x", "set j1 bantime 0",
		"set j1 datepattern %Y%Y", "set j1 logencoding klingon", "set j1 logtimezone Mars", "set j1 maxretry -1", "set j1 prefregex (x",
		"set j1 addignoreip 1.2.3.4/99x", "set j1 bantime.formula import_os", "set j1 ignorecommand /bin/true", "set j1 delaction x",
		"set j1 addlogpath /nonexistent/x", "set j1 addaction iptables", "set j1 action x actionban true", "multi-set j1 action x",
	} {
		if got, err := d.do(t, line); err == nil {
			t.Errorf("%s: %v", line, got)
		}
		if d.plan.Load() != before {
			t.Fatalf("%s has changed the plan", line)
		}
	}
}

// Commands come through the socket only for root, and only where the configuration lets them.
func TestCommandsComeThroughTheSocketOnlyIfAllowed(t *testing.T) {
	d := running(t)
	root, other := control.Peer{UID: 0}, control.Peer{UID: 1000}
	as := func(p control.Peer, words ...any) (any, error) {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		return d.answer(ctx, p, words)
	}
	if _, err := as(root, "set", "j1", "addaction", "own"); err != error(errCommands) {
		t.Errorf("not allowed by the configuration: %v", err)
	}
	d.changeDaemon(func(c *config.Daemon) { c.RuntimeCommands = true })
	if _, err := as(other, "set", "j1", "addaction", "own"); err != error(errCommands) {
		t.Errorf("not root: %v", err)
	}
	for _, step := range []struct {
		words control.List
		want  string
	}{
		{control.List{"set", "j1", "addaction", "own"}, "'own'"},
		{control.List{"set", "j1", "action", "own", "actionban", "true <ip>"}, "'true <ip>'"},
		{control.List{"set", "j1", "action", "own", "timeout", "5"}, "'5'"},
		{control.List{"multi-set", "j1", "action", "own", control.List{control.List{"actionunban", "false"}}}, "True"},
		{control.List{"get", "j1", "actions"}, "['own']"},
		{control.List{"get", "j1", "action", "own", "actionban"}, "'true <ip>'"},
		{control.List{"get", "j1", "action", "own", "actionunban"}, "'false'"},
		{control.List{"get", "j1", "action", "own", "timeout"}, "5"},
		{control.List{"set", "j1", "delaction", "own"}, "None"},
		{control.List{"get", "j1", "actions"}, "[]"},
	} {
		if got, err := as(root, step.words...); err != nil || control.Repr(got) != step.want {
			t.Errorf("%v: %s, %v; want %s", step.words, control.Repr(got), err, step.want)
		}
	}
}

// What does not change is not compiled again.
func TestAChangeKeepsTheFiltersOfOthers(t *testing.T) {
	d := running(t)
	before := d.plan.Load().filters["j2"]
	if _, err := d.do(t, "set j1 maxretry 2"); err != nil {
		t.Fatal(err)
	}
	if d.plan.Load().filters["j2"] != before {
		t.Error("the filters were made anew for a number")
	}
}

func TestAnIdleJailKeepsItsFailuresForLater(t *testing.T) {
	d := running(t)
	for _, line := range []string{"set j1 maxretry 1", "set j1 idle on", "set j1 attempt 203.0.113.1", "set j2 maxretry 1", "set j2 attempt 203.0.113.2"} {
		if _, err := d.do(t, line); err != nil {
			t.Fatal(err)
		}
	}
	awaitBans(t, d, "j2", 1)
	if bans, err := d.jails.Bans(t.Context(), "j1", bantam.ID{}); err != nil || len(bans) > 0 {
		t.Errorf("an idle jail has banned: %v, %v", bans, err)
	}
	if _, err := d.do(t, "start j1"); err != nil {
		t.Fatal(err)
	}
	awaitBans(t, d, "j1", 1)
}

// The memory that an idle jail takes is bounded; the newest failures are kept.
func TestAnIdleJailForgetsTheOldest(t *testing.T) {
	i := newIdle()
	i.rest("j")
	out := make(chan bantam.Failure, 1)
	for n := range mostHeld + 10 {
		i.pass(bantam.Failure{Jail: "j", Regex: n}, out)
	}
	i.wake("j")
	if got := i.ready(); len(got) != mostHeld || got[0].Regex != 10 || got[mostHeld-1].Regex != mostHeld+9 {
		t.Errorf("%d are left", len(got))
	}
	if i.pass(bantam.Failure{Jail: "j", Regex: 1}, out); len(out) != 1 {
		t.Error("it holds on to them though awake")
	}
}

// FuzzCommand gives a daemon any words: it answers, and goes on.
func FuzzCommand(f *testing.F) {
	for _, line := range []string{
		"status\x00j1\x00stats", "set\x00j1\x00addfailregex\x00^x <HOST>$", "get\x00j1\x00banip\x00--with-time", "set\x00j1\x00banip\x00192.0.2.1",
		"unban\x00--all", "set\x00j1\x00bantime.formula\x00ban.Time*2", "add\x00j3", "start\x00j3", "stop\x00j3", "reload\x00j1", "banned\x00x",
		"set\x00j1\x00datepattern\x00{^LN-BEG}%Y", "multi-set\x00j1\x00addfailregex", "set\x00j1\x00attempt\x001.2.3.4\x00x", "set\x00j1\x00findtime\x001d",
	} {
		f.Add(line)
	}
	d := running(f)
	f.Fuzz(func(t *testing.T, line string) {
		var words control.List
		for word := range strings.SplitSeq(line, "\x00") {
			words = append(words, word)
		}
		// These would end the daemon, wait, write files or ask name servers.
		for i, word := range words {
			if word == "sleep" || word == "logtarget" || word == "addlogpath" || word == "unbanip" || word == "addignoreip" ||
				i == 0 && (word == "unban" && len(words) > 1 && words[1] != "--all" || word == "stop" && len(words) == 1) {
				return
			}
		}
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		v, err := d.answer(ctx, control.Peer{}, words)
		if errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("%q took too long", words)
		}
		if _, err := control.Pickle(v); err != nil {
			t.Fatalf("%q: %v", words, err)
		}
		if v, err := d.answer(ctx, control.Peer{}, control.List{"ping"}); err != nil || v != "pong" {
			t.Fatalf("after %q: %v, %v", words, v, err)
		}
	})
}

func BenchmarkStatusOfAJail(b *testing.B) {
	d := running(b)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := d.do(b, "status j1"); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkChangeOfABanTime(b *testing.B) {
	d := running(b)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := d.do(b, "set j1 bantime 700"); err != nil {
			b.Fatal(err)
		}
	}
}
