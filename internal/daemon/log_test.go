package daemon

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"bantam"
	"bantam/internal/config"
)

// A logged is a log of a test's own, and what it wrote to standard error.
type logged struct {
	*slog.Logger
	w      *logWriter
	stdout bytes.Buffer
	stderr bytes.Buffer
}

// newLog opens a log to a target, in Fail2Ban's form or not.
func newLog(t testing.TB, fail2ban bool, target string) *logged {
	t.Helper()
	l := &logged{}
	var err error
	l.Logger, l.w, err = openLog(&config.Daemon{Fail2Ban: fail2ban, LogTarget: target}, &l.stdout, &l.stderr)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

var (
	stampForm = regexp.MustCompile(`(?m)^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} `)
	timeForm  = regexp.MustCompile(`time=\S+ `)
)

// plainLines are the lines of a log without their time and the number of the process.
func plainLines(text string) string {
	text = timeForm.ReplaceAllString(stampForm.ReplaceAllString(text, ""), "")
	return strings.ReplaceAll(text, "["+pid+"]", "[PID]")
}

var (
	someTime = time.Date(2026, 1, 15, 10, 0, 0, 0, time.Local)
	someID   = bantam.AddrID(netip.MustParseAddr("192.0.2.1"))
)

func TestLinesAreFail2Bans(t *testing.T) {
	for _, c := range []struct {
		name string
		part string
		log  func(*slog.Logger)
		want string
	}{
		{"a ban", "server", func(l *slog.Logger) {
			l.Log(t.Context(), levelNotice, "banned", "jail", "sshd", "addr", someID, "until", "x")
		}, "fail2ban.actions        [PID]: NOTICE  [sshd] Ban 192.0.2.1"},
		{"the end of a ban", "server", func(l *slog.Logger) {
			l.Log(t.Context(), levelNotice, "unbanned", "jail", "sshd", "addr", someID, "why", "expired")
		}, "fail2ban.actions        [PID]: NOTICE  [sshd] Unban 192.0.2.1"},
		{"a ban of before", "server", func(l *slog.Logger) {
			l.Log(t.Context(), levelNotice, "ban restored", "jail", "sshd", "addr", someID)
		}, "fail2ban.actions        [PID]: NOTICE  [sshd] Restore Ban 192.0.2.1"},
		{"failures while banned", "server", func(l *slog.Logger) {
			l.Log(t.Context(), levelNotice, "ban prolonged", "jail", "sshd", "addr", someID)
		}, "fail2ban.actions        [PID]: NOTICE  [sshd] 192.0.2.1 already banned"},
		{"a longer ban", "server", func(l *slog.Logger) {
			l.Log(t.Context(), levelNotice, "ban is longer", "jail", "k", "addr", someID, "count", 2, "length", duration(6*time.Second), "until", "2026-11-21 18:03:41")
		}, "fail2ban.observer       [PID]: NOTICE  [k] Increase Ban 192.0.2.1 (2 # 6s -> 2026-11-21 18:03:41)"},
		{
			"who is ignored", "filter", func(l *slog.Logger) { l.Info("ignored", "jail", "j", "addr", someID, "by", "ip") },
			"fail2ban.filter         [PID]: INFO    [j] Ignore 192.0.2.1 by ip",
		},
		{
			"a failure by way of slog", "filter", func(l *slog.Logger) { l.Info("found", "jail", "j", "addr", someID, "time", someTime) },
			"fail2ban.filter         [PID]: INFO    [j] Found 192.0.2.1 - 2026-01-15 10:00:00",
		},
		{
			"what has no counterpart is told with what is known", "database", func(l *slog.Logger) { l.Warn("cannot purge the database", "err", errors.New("disk is full")) },
			`fail2ban.database       [PID]: WARNING cannot purge the database err="disk is full"`,
		},
		{
			"a jail's trouble begins with the jail", "server", func(l *slog.Logger) { l.Error("jail set aside", "jail", "j", "err", "no filter") },
			`fail2ban.server         [PID]: ERROR   [j] jail set aside err="no filter"`,
		},
		{"an action's error names its jail as scrapers look for it", "actions", func(l *slog.Logger) {
			l.With("jail", "j", "action", "a").Error("Failed to execute ban jail 'j' action 'a'", "addr", "192.0.2.1")
		}, "fail2ban.actions        [PID]: ERROR   Failed to execute ban jail 'j' action 'a' jail=j action=a addr=192.0.2.1"},
		{
			"a group is part of its keys", "server", func(l *slog.Logger) { l.WithGroup("g").Info("x", "a", 1) },
			"fail2ban.server         [PID]: INFO    x g.a=1",
		},
	} {
		l := newLog(t, true, "STDERR")
		c.log(part(l.Logger, c.part))
		if got := plainLines(l.stderr.String()); got != c.want+"\n" {
			t.Errorf("%s:\n got %q\nwant %q", c.name, got, c.want+"\n")
		}
	}
}

func TestFoundLines(t *testing.T) {
	f := bantam.Failure{Jail: "sshd", ID: someID, Time: someTime}
	l := newLog(t, true, "STDERR")
	l.w.found(&f, foundIt)
	f.Known = true
	l.w.found(&f, foundIt)
	l.w.found(&bantam.Failure{Jail: "sshd", Time: someTime}, foundIt)
	f.Known, f.ID = false, bantam.PrefixID(netip.MustParsePrefix("2001:db8::/64"))
	l.w.found(&f, attempted)
	if err := l.w.setLevel("NOTICE"); err != nil {
		t.Fatal(err)
	}
	l.w.found(&f, foundIt)
	want := "fail2ban.filter         [PID]: INFO    [sshd] Found 192.0.2.1 - 2026-01-15 10:00:00\n" +
		"fail2ban.filter         [PID]: INFO    [sshd] Attempt 2001:db8::/64 - 2026-01-15 10:00:00\n"
	if got := plainLines(l.stderr.String()); got != want {
		t.Errorf("%s", got)
	}
	if text := l.stderr.String(); !regexp.MustCompile(`^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} fail2ban\.`).MatchString(text) {
		t.Errorf("%q begins with no time", text)
	}
	l = newLog(t, false, "STDERR")
	l.w.found(&bantam.Failure{Jail: "sshd", ID: someID, Time: someTime}, foundIt)
	if got := plainLines(l.stderr.String()); !strings.HasPrefix(got, "level=INFO msg=found jail=sshd addr=192.0.2.1") ||
		!strings.Contains(l.stderr.String(), " time="+someTime.Format(time.RFC3339)+"\n") {
		t.Errorf("%s", got)
	}
}

// An attacker who chooses a name or an id ends no line, begins none, and steers no terminal. A
// closing bracket is escaped, too: recidive's rule takes the last one for the jail's.
func TestAttackersTextIsData(t *testing.T) {
	l := newLog(t, true, "STDERR")
	hostile := "x\n2026-01-15 00:00:00,123 fail2ban.actions        [1]: NOTICE  [sshd] Ban 198.51.100.7"
	id := bantam.TextID("x] Ban 198.51.100.7")
	l.Log(t.Context(), levelNotice, "banned", "jail", "j", "addr", bantam.TextID(hostile))
	l.Log(t.Context(), levelNotice, "banned", "jail", "j", "addr", id)
	l.w.found(&bantam.Failure{Jail: "j", ID: bantam.TextID("\x1b[2J\x00\xff"), Time: someTime}, foundIt)
	l.Log(t.Context(), levelNotice, "no counterpart", "addr", id, "text", hostile, "long", strings.Repeat("ä", mostShown))
	got := plainLines(l.stderr.String())
	if n := strings.Count(got, "\n"); n != 4 {
		t.Errorf("%d lines:\n%s", n, got)
	}
	for line := range strings.Lines(got) {
		if len(line) > mostShown+800 || regexp.MustCompile(`[\x00-\x09\x0b-\x1f\x7f\xff]`).MatchString(line) {
			t.Errorf("%q", line)
		}
		if regexp.MustCompile(`NOTICE\s+\[(?:.*)\]\s+Ban\s+198\.51\.100\.7\s*$`).MatchString(line) {
			t.Errorf("a filter would find a ban in %q", line)
		}
	}
}

func TestWithoutFail2BanConfLinesAreStructured(t *testing.T) {
	l := newLog(t, false, "STDERR")
	l.Info("starting", "version", "1")
	l.Log(t.Context(), levelNotice, "banned", "jail", "sshd", "addr", someID, "by", "fail ures")
	l.Warn("trouble", "err", errors.New("a=b"), "empty", "", "time", someTime.UTC(), "n", 3)
	want := "level=INFO msg=starting version=1\n" +
		"level=NOTICE msg=banned jail=sshd addr=192.0.2.1 by=\"fail ures\"\n" +
		"level=WARN msg=trouble err=\"a=b\" empty=\"\" n=3\n"
	got := regexp.MustCompile(` time=2026\S+`).ReplaceAllString(l.stderr.String(), "")
	if got = plainLines(got); got != want {
		t.Errorf("%s", got)
	}
}

func TestLevels(t *testing.T) {
	all := []slog.Level{levelCritical, slog.LevelError, slog.LevelWarn, levelNotice, slog.LevelInfo, levelMsg, slog.LevelDebug, levelTrace, levelHeavy}
	for _, c := range []struct {
		set  string
		want int // of all
		name string
	}{
		{"CRITICAL", 1, "CRITICAL"},
		{"error", 2, "ERROR"},
		{"WARNING", 3, "WARNING"},
		{"NOTICE", 4, "NOTICE"},
		{"INFO", 5, "INFO"},
		{"MSG", 6, "MSG"},
		{"DEBUG", 7, "DEBUG"},
		{"TRACEDEBUG", 8, "TRACEDEBUG"},
		{"HEAVYDEBUG", 9, "HEAVYDEBUG"},
		{"21", 4, "21"},
		{"20", 5, "20"},
		{"1", 9, "1"},
		{"99", 1, "99"},
	} {
		l := newLog(t, true, "STDERR")
		if err := l.w.setLevel(c.set); err != nil {
			t.Fatal(err)
		}
		for _, level := range all {
			l.Log(t.Context(), level, "x")
		}
		if got := strings.Count(l.stderr.String(), "\n"); got != c.want || l.w.levelName() != c.name {
			t.Errorf("%s lets %d of %d levels pass and is called %s; want %d, %s", c.set, got, len(all), l.w.levelName(), c.want, c.name)
		}
	}
	l := newLog(t, true, "STDERR")
	if err := l.w.setLevel("LOUD"); err == nil {
		t.Error("LOUD is taken for a level")
	}
}

func TestTargetsAndTheirOptions(t *testing.T) {
	for target, want := range map[string]string{
		"STDOUT":               "D fail2ban.actions        [PID]: NOTICE  [j] Ban 192.0.2.1\n",
		"sysout":               "fail2ban.actions        [PID]: NOTICE  [j] Ban 192.0.2.1\n",
		"STDOUT[padding=off]":  "D fail2ban.actions[PID]: NOTICE [j] Ban 192.0.2.1\n",
		"STDOUT[datetime=off]": "fail2ban.actions        [PID]: NOTICE  [j] Ban 192.0.2.1\n",
		"SYSOUT[datetime=on]":  "D fail2ban.actions        [PID]: NOTICE  [j] Ban 192.0.2.1\n",
		`STDOUT[format="%(levelname)-8s|%(name)20s|%(levelno)04d %% %(message)s", padding=off]`: "NOTICE  |    fail2ban.actions|0025 % [j] Ban 192.0.2.1\n",
	} {
		l := newLog(t, true, target)
		l.Log(t.Context(), levelNotice, "banned", "jail", "j", "addr", someID)
		got := stampForm.ReplaceAllString(l.stdout.String(), "D ")
		if got = plainLines(got); got != want || l.stderr.Len() > 0 {
			t.Errorf("%s: %q, want %q; on standard error %q", target, got, want, l.stderr.String())
		}
	}
	for target, want := range map[string]string{
		"STDOUT[padding=maybe]":        `padding: "maybe" is none of on and off`,
		"STDOUT[colour=red]":           `unknown option "colour"`,
		"STDOUT[padding=on":            "the bracket is not closed",
		`STDOUT[format="x]`:            "is not closed",
		`STDOUT[format="%(nope)s"]`:    `there is no field "nope"`,
		`STDOUT[format="%d"]`:          "a field is written %(name)s",
		`STDOUT[format="%(name)d"]`:    "the field name ends with one of the letters s",
		`STDOUT[format="%(name)999s"]`: "too wide",
		"SYSLOG[facility=nobody]":      `"nobody" is none of syslog's`,
		"[padding=on]":                 "names no place",
	} {
		if _, err := parseTarget(target); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", target, err, want)
		}
	}
}

// A daemon that protects and cannot log is better than none.
func TestAPlaceThatCannotBeUsedLeavesStandardError(t *testing.T) {
	l := newLog(t, true, filepath.Join(t.TempDir(), "no", "such", "file"))
	l.Log(t.Context(), levelNotice, "banned", "jail", "j", "addr", someID)
	if got := l.stderr.String(); !strings.Contains(got, "cannot log where logtarget says") || !strings.Contains(got, "[j] Ban 192.0.2.1") || l.w.targetName() != "STDERR" {
		t.Errorf("%s: %s", l.w.targetName(), got)
	}
}

func read(t *testing.T, file string) string {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return plainLines(string(b))
}

func TestTheLogMovesAndIsRotated(t *testing.T) {
	dir := t.TempDir()
	first, second := filepath.Join(dir, "1.log"), filepath.Join(dir, "2.log")
	l := newLog(t, true, first)
	l.Info("one")
	if err := l.w.setTarget(second); err != nil {
		t.Fatal(err)
	}
	if err := l.w.setTarget(filepath.Join(dir, "no", "3.log")); err == nil {
		t.Error("a file in no folder was opened")
	}
	if err := os.Rename(second, second+".1"); err != nil {
		t.Fatal(err)
	}
	l.Info("two")
	if rolled, err := l.w.flush(); err != nil || !rolled {
		t.Error(rolled, err)
	}
	l.Info("three")
	if err := l.w.close(); err != nil {
		t.Error(err)
	}
	head := "fail2ban.server         [PID]: "
	for file, want := range map[string]string{
		first: head + "INFO    one\n",
		second + ".1": head + "INFO    Start Fail2ban v1.1.2\n" + head + "INFO    Changed logging target to " + second + " for Fail2ban v1.1.2\n" +
			head + "ERROR   Unable to log to '" + dir + "/no/3.log': open " + dir + "/no/3.log: no such file or directory\n" + head + "INFO    two\n",
		second: head + "INFO    rollover performed on " + second + "\n" + head + "INFO    three\n",
	} {
		if got := read(t, file); got != want {
			t.Errorf("%s:\n%s\nwant\n%s", filepath.Base(file), got, want)
		}
	}
}

func TestTrapS24_OnlyTheOwnerReadsTheLog(t *testing.T) {
	file := filepath.Join(t.TempDir(), "log")
	newLog(t, true, file)
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
}

func TestTrapS48_TheSameTargetAgainChangesNothing(t *testing.T) {
	l := newLog(t, true, "SYSOUT")
	if rolled, err := l.w.flush(); !rolled || err != nil {
		t.Error("SYSOUT was only flushed, but the answer is that of a file", rolled, err)
	}
	l.stdout.Reset()
	if err := l.w.setTarget("SYSOUT[datetime=on]"); err != nil {
		t.Fatal(err)
	}
	l.Info("x")
	if got := l.stdout.String(); got != "fail2ban.server         ["+pid+"]: INFO    x\n" {
		t.Errorf("%q", got)
	}
}

// A receiver is a datagram socket that a test listens on.
func receiver(t *testing.T, path string) *net.UnixConn {
	t.Helper()
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

// datagram is the next that comes.
func datagram(t *testing.T, conn *net.UnixConn) string {
	t.Helper()
	b := make([]byte, 1<<16)
	if err := conn.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	n, err := conn.Read(b)
	if err != nil {
		t.Fatal(err)
	}
	return plainLines(string(b[:n]))
}

// toSyslog is a log to a socket of the test's own.
func toSyslog(t *testing.T, fail2ban bool, target, socket string) *logged {
	t.Helper()
	l := newLog(t, fail2ban, "STDERR")
	l.w.setSyslog(socket)
	l.w.journalSocket = socket
	if err := l.w.openTarget(target); err != nil {
		t.Fatal(err)
	}
	return l
}

func TestSyslogGetsDatagrams(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "log")
	conn := receiver(t, socket)
	for _, c := range []struct {
		fail2ban     bool
		target, want string
	}{
		{true, "SYSLOG", "<29>fail2ban.actions[PID]: NOTICE [j] Ban 192.0.2.1\x00"},
		{true, "syslog[facility=auth]", "<37>fail2ban.actions[PID]: NOTICE [j] Ban 192.0.2.1\x00"},
		{true, "SYSLOG[padding=on]", "<29>fail2ban.actions        [PID]: NOTICE  [j] Ban 192.0.2.1\x00"},
		{false, "SYSLOG", "<29>bantam[PID]: banned jail=j addr=192.0.2.1\x00"},
	} {
		l := toSyslog(t, c.fail2ban, c.target, socket)
		l.Log(t.Context(), levelNotice, "banned", "jail", "j", "addr", someID)
		if got := datagram(t, conn); got != c.want {
			t.Errorf("%s: %q, want %q", c.target, got, c.want)
		}
		if err := l.w.close(); err != nil {
			t.Error(err)
		}
	}
	l := newLog(t, true, "STDERR")
	l.w.setSyslog(socket)
	if err := l.w.setTarget("SYSLOG"); err != nil {
		t.Fatal(err)
	}
	datagram(t, conn)
	if got, want := datagram(t, conn), "<30>fail2ban.server[PID]: INFO Changed logging target to SYSLOG ("+socket+") for Fail2ban v1.1.2\x00"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

// A syslog that was started anew has another socket under the same name; what was logged
// meanwhile comes when it is there.
func TestSyslogIsConnectedToAgain(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "log")
	conn := receiver(t, socket)
	l := toSyslog(t, true, "SYSLOG", socket)
	end := l.w.start(time.Second)
	l.Info("one")
	datagram(t, conn)
	conn.Close()
	if err := os.Remove(socket); err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	l.Info("two")
	l.Info("three")
	conn = receiver(t, socket)
	for _, want := range []string{"two", "three"} {
		if got := datagram(t, conn); got != "<30>fail2ban.server[PID]: INFO "+want+"\x00" {
			t.Errorf("%q, want %s", got, want)
		}
	}
	end()
}

func TestTheJournalGetsFields(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "journal")
	conn := receiver(t, socket)
	l := toSyslog(t, true, "SYSTEMD-JOURNAL", socket)
	l.Log(t.Context(), levelNotice, "banned", "jail", "j", "addr", someID, "evil key", "a\nPRIORITY=0")
	l.w.found(&bantam.Failure{Jail: "j", ID: someID, Time: someTime.UTC()}, foundIt)
	want := "MESSAGE=fail2ban.actions        [PID]: NOTICE  [j] Ban 192.0.2.1\nLOGGER=fail2ban.actions\nPRIORITY=5\n" +
		"SYSLOG_IDENTIFIER=fail2ban\nSYSLOG_PID=" + pid + "\nBANTAM_EVENT=banned\nBANTAM_JAIL=j\nBANTAM_ADDR=192.0.2.1\nBANTAM_EVIL_KEY=a\\nPRIORITY=0\n"
	if got := datagram(t, conn); got != want {
		t.Errorf("%q\nwant %q", got, want)
	}
	if got := datagram(t, conn); !strings.Contains(got, "BANTAM_EVENT=found\nBANTAM_JAIL=j\nBANTAM_ADDR=192.0.2.1\nBANTAM_TIME=2026-") {
		t.Errorf("%q", got)
	}
	l = toSyslog(t, false, "SYSTEMD-JOURNAL", socket)
	l.Warn("trouble", "err", "x y")
	if got := datagram(t, conn); !strings.HasPrefix(got, "MESSAGE=trouble err=\"x y\"\nPRIORITY=4\nSYSLOG_IDENTIFIER=bantam\n") {
		t.Errorf("%q", got)
	}
	// A line end in a value, should there ever be one, is framed by its length.
	f := &form{kind: journal, bare: true}
	if got, want := string(f.append(nil, &entry{text: "a\nb"})), "MESSAGE\n\x03\x00\x00\x00\x00\x00\x00\x00a\nb\n"; !strings.HasPrefix(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}

// A full disk takes nothing, or half a line; what was lost is told when there is room again.
func TestAFullDiskLosesLinesAndSaysSo(t *testing.T) {
	l := newLog(t, true, "/dev/full")
	end := l.w.start(time.Second)
	for i := range 100 {
		l.Info("x", "n", i)
	}
	end()
	if got := l.stderr.String(); strings.Count(got, "cannot write the log to /dev/full") != 1 {
		t.Errorf("standard error says %q", got)
	}
	file := filepath.Join(t.TempDir(), "log")
	if err := l.w.openTarget(file); err != nil {
		t.Fatal(err)
	}
	l.Info("there is room")
	l.Info("and more")
	if got := read(t, file); !strings.Contains(got, "WARNING lines of this log were lost lines=100 err=\"write /dev/full: no space left on device\"\n") {
		t.Errorf("%s", got)
	}
}

func TestATornLineIsEndedBeforeTheNext(t *testing.T) {
	file := filepath.Join(t.TempDir(), "log")
	f, err := openAppending(file)
	if err != nil {
		t.Fatal(err)
	}
	l := &logFile{path: file, f: f, torn: true}
	if _, err := f.WriteString("half a li"); err != nil {
		t.Fatal(err)
	}
	if n, err := l.write([]byte("whole\n"), []int{6}); n != 1 || err != nil {
		t.Error(n, err)
	}
	if got := read(t, file); got != "half a li\nwhole\n" {
		t.Errorf("%q", got)
	}
}

// A stuck is a target that takes nothing until it is let go.
type stuck struct {
	letGo chan struct{}
	mu    sync.Mutex // guards got
	got   bytes.Buffer
}

func (s *stuck) Write(b []byte) (int, error) {
	<-s.letGo
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.got.Write(b)
}

// hanging is a log to a target that hangs.
func hanging(t *testing.T) (*stuck, *slog.Logger, *logWriter) {
	t.Helper()
	s := &stuck{letGo: make(chan struct{})}
	log, w, err := openLog(&config.Daemon{Fail2Ban: true, LogTarget: "STDERR"}, io.Discard, s)
	if err != nil {
		t.Fatal(err)
	}
	return s, log, w
}

func TestATargetThatHangsHoldsNothingUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, log, w := hanging(t)
		end := w.start(5 * time.Second)
		began := time.Now()
		line := strings.Repeat("x", mostShown)
		const most = 2 * (mostQueued + reserve) / mostShown
		for range most {
			log.Info("flood", "text", line)
		}
		for range 100 {
			log.Log(t.Context(), levelNotice, "banned", "jail", "j", "addr", someID)
		}
		if took := time.Since(began); took > stallWait+time.Second {
			t.Errorf("logging %d lines took %s", most, took)
		}
		w.mu.Lock()
		size := len(w.lines)
		w.mu.Unlock()
		if size > mostQueued+reserve+2*mostShown {
			t.Errorf("%d bytes wait", size)
		}
		close(s.letGo)
		end()
		log.Info("behind")
		log.Info("it")
		if got := s.got.String(); strings.Count(got, "Ban 192.0.2.1\n") != 100 || !strings.Contains(got, "lines of this log were lost lines=") {
			t.Errorf("bans written: %d of 100, the loss told: %t", strings.Count(got, "Ban 192.0.2.1\n"), strings.Contains(got, "were lost"))
		}
	})
}

func TestAStopGivesUpATargetThatHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, log, w := hanging(t)
		end := w.start(5 * time.Second)
		log.Info("x")
		synctest.Wait()
		began := time.Now()
		end()
		log.Info("y")
		if err := w.close(); err == nil || time.Since(began) != 5*time.Second {
			t.Errorf("%v after %s", err, time.Since(began))
		}
		close(s.letGo)
	})
}

func TestLengthsAsFail2BanWritesThem(t *testing.T) {
	for d, want := range map[time.Duration]string{
		16 * time.Second: "16s", 59*time.Minute + 50*time.Second: "59m 50s", 55*time.Hour + 15*time.Minute + time.Second: "2d 7h 15m",
		368 * 24 * time.Hour: "1y 3d", 0: "0s",
	} {
		if got := duration(d); got != want {
			t.Errorf("%d seconds are %q, want %q", int(d.Seconds()), got, want)
		}
	}
}

// What logtarget says makes lines or an error, and whatever is logged is one line of it.
func FuzzLogTarget(f *testing.F) {
	f.Add("SYSLOG[facility=auth, padding=on]", "x")
	f.Add(`STDOUT[format="%(asctime)s %(levelname)-7s %(message)s", datetime=off]`, "a\nb\x1b")
	f.Add(`x[format='%(process)d%%%(msecs)03d']`, "] Ban 192.0.2.1")
	f.Fuzz(func(t *testing.T, text, said string) {
		target, err := parseTarget(text)
		if err != nil {
			return
		}
		line := &form{kind: lines, layout: target.layout(), facility: target.facility}
		most := len(text)
		for _, s := range line.layout {
			most += s.width + len(s.text) + 4*mostShown*3 + 300
		}
		e := entryOf(someTime, slog.LevelInfo, "filter", "constant", slog.String("jail", said), slog.Any("addr", bantam.TextID(said)))
		e.translate(true)
		got := line.append(nil, &e)
		if n := bytes.Count(got, []byte("\n")); n != 1+bytes.Count([]byte(strings.Join(layoutTexts(line.layout), "")), []byte("\n")) {
			t.Errorf("%d lines: %q", n, got)
		}
		if len(got) > most {
			t.Errorf("%d bytes", len(got))
		}
	})
}

func layoutTexts(layout []segment) (texts []string) {
	for _, s := range layout {
		texts = append(texts, s.text)
	}
	return texts
}

func BenchmarkFound(b *testing.B) {
	for _, fail2ban := range []bool{true, false} {
		b.Run(fmt.Sprintf("fail2ban=%t", fail2ban), func(b *testing.B) {
			l := newLog(b, fail2ban, filepath.Join(b.TempDir(), "log"))
			end := l.w.start(time.Minute)
			f := &bantam.Failure{Jail: "sshd", ID: someID, Time: someTime}
			b.ReportAllocs()
			for b.Loop() {
				l.w.found(f, foundIt)
			}
			end()
			l.w.mu.Lock()
			lost := l.w.lost
			l.w.mu.Unlock()
			b.ReportMetric(float64(lost), "lost")
			if err := l.w.close(); err != nil {
				b.Error(err)
			}
		})
	}
}

func BenchmarkBannedBySlog(b *testing.B) {
	l := newLog(b, true, filepath.Join(b.TempDir(), "log"))
	end := l.w.start(time.Minute)
	b.ReportAllocs()
	for b.Loop() {
		l.Log(b.Context(), levelNotice, "banned", "jail", "sshd", "addr", someID, "until", "x", "failures", 5)
	}
	end()
}
