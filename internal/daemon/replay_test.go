package daemon

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"bantam"
	"bantam/internal/control"
	"bantam/internal/jail"
	"bantam/internal/source"
	"bantam/library"
)

// folder writes files below a folder of its own, with DIR in them replaced by its name.
func folder(t testing.TB, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(strings.ReplaceAll(text, "DIR", dir)), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// threeJails count on two logs, in three ways.
const threeJails = `[DEFAULT]
observe = true
findtime = 10m
ignoreip = 192.0.2.3
ignoreself = false
ignorelogins = 0
[sshd]
enabled = true
backend = auto
logpath = DIR/auth.log
bantime = 1h
bantime.country = cn:3h
ignorecountry = my
maxretry = 4
[strict]
enabled = true
backend = polling
filter = sshd
logpath = DIR/auth.log
bantime = 2h
maxretry = 2
[web]
enabled = true
filter =
logpath = DIR/web.log
failregex = ^ denied <HOST>$
bantime = -1
maxretry = 3
bancountry = my ru
`

// histories are two logs of the last five minutes.
func histories(random *rand.Rand, now time.Time) (auth, web string) {
	var a, w strings.Builder
	at := now.Add(-5 * time.Minute)
	for i := range 400 {
		at = at.Add(time.Duration(random.IntN(700)) * time.Millisecond)
		// A writer's lines come a little out of order.
		stamp := at.Add(-time.Duration(random.IntN(3)) * time.Second).UTC().Format(time.RFC3339)
		who := fmt.Sprintf("192.0.2.%d", random.IntN(30))
		switch random.IntN(4) {
		case 0:
			fmt.Fprintf(&w, "%s denied %s\n", stamp, who)
		case 1:
			fmt.Fprintf(&a, "%s gate sshd[%d]: Accepted password for root from %s port 9 ssh2\n", stamp, i, who)
		default:
			fmt.Fprintf(&a, "%s gate sshd[%d]: Failed password for root from %s port 9 ssh2\n", stamp, i, who)
		}
	}
	return a.String(), w.String()
}

func TestReplayDecidesWhatTheDaemonDecides(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	auth, web := histories(random, time.Now())
	dir := folder(t, map[string]string{
		"jail.local": threeJails, "auth.log": auth, "web.log": web, "bantam.conf": "[Definition]\ngeodb = DIR/places.mmdb\n",
		"places.mmdb": atlas(t, map[string]string{"192.0.2.0/29": "MY", "192.0.2.8/29": "CN", "192.0.2.16/29": "RU"}),
	})

	replay, err := RunReplay(t.Context(), ReplayOptions{Config: dir, Library: library.FS})
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]uint64{}
	for _, j := range replay.Jails {
		if j.Bans < 3 || j.Ignored == 0 {
			t.Fatalf("%+v: the histories prove nothing", j)
		}
		want[j.Jail] = j.Failures
	}

	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	d, err := New(ctx, Options{Config: folder(t, map[string]string{
		"jail.local":     strings.ReplaceAll(threeJails, "DIR", dir),
		"fail2ban.local": "[Definition]\ndbfile = :memory:\nlogtarget = STDERR\npidfile = DIR/pid\nsocket = DIR/f2b\ngeodb = " + dir + "/places.mmdb\n",
	}), Library: library.FS, Socket: filepath.Join(dir, "s"), Stderr: io.Discard})
	if err != nil {
		t.Fatal(err)
	}
	running, stop := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- d.Run(running) }()
	got := map[string]uint64{}
	for tick := time.Tick(5 * time.Millisecond); ; <-tick {
		st, err := d.status(ctx, control.None{})
		if err != nil {
			t.Fatal(err)
		}
		read := true
		for _, j := range st.Jails {
			if j.Jail == jail.Manual {
				continue
			}
			got[j.Jail] = j.Failures
			for _, s := range j.Sources {
				read = read && s.State == source.Reading && s.Live && s.Lag == 0
			}
			read = read && len(j.Sources) > 0
		}
		if read && got["sshd"] >= want["sshd"] && got["strict"] >= want["strict"] && got["web"] >= want["web"] {
			break
		}
		if ctx.Err() != nil {
			t.Fatalf("the daemon counted %v, the replay %v", got, want)
		}
	}
	reply, err := d.bans(ctx, control.BansRequest{})
	if err != nil {
		t.Fatal(err)
	}
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("failures of the replay (-) and the daemon (+):\n%s", diff)
	}
	type decision struct {
		Jail, ID  string
		Time, End int64
		Failures  int
		Permanent bool
		Count     int
	}
	order := func(a, b decision) int { return strings.Compare(a.Jail+a.ID, b.Jail+b.ID) }
	var replayed, decided []decision
	for _, b := range replay.Bans {
		replayed = append(replayed, decision{b.Jail, b.ID.String(), b.Time.Unix(), b.End.Unix(), b.Failures, b.End.IsZero(), b.Count})
	}
	for _, b := range reply.Bans {
		decided = append(decided, decision{b.Jail, b.ID.String(), b.Time.Unix(), b.End.Unix(), b.Failures, b.Permanent(), b.Count})
	}
	slices.SortFunc(replayed, order)
	slices.SortFunc(decided, order)
	if diff := cmp.Diff(replayed, decided); diff != "" {
		t.Errorf("bans of the replay (-) and the daemon (+):\n%s", diff)
	}
}

// Bans end by the log's own clock, so who comes back is banned again, and for longer.
func TestReplayLivesByTheClockOfItsLogs(t *testing.T) {
	var log strings.Builder
	for _, at := range []string{"10:00", "10:30", "12:00"} {
		for second := range 2 {
			fmt.Fprintf(&log, "2020-02-01T%s:0%dZ denied 203.0.113.9\n", at, second)
		}
	}
	dir := folder(t, map[string]string{"web.log": log.String(), "jail.local": `[web]
enabled = true
filter =
logpath = DIR/web.log
failregex = ^ denied <HOST>$
maxretry = 2
bantime = 10m
bantime.increment = true
`})
	r, err := RunReplay(t.Context(), ReplayOptions{Config: dir, Library: library.FS})
	if err != nil {
		t.Fatal(err)
	}
	day := time.Date(2020, 2, 1, 0, 0, 0, 0, time.UTC)
	at := func(hour, minute, second int) time.Time {
		return day.Add(time.Duration(hour)*time.Hour + time.Duration(minute)*time.Minute + time.Duration(second)*time.Second)
	}
	id, _ := bantam.ParsePrefix("203.0.113.9")
	// The second attack is counted double at once, and once more while it is banned.
	want := []ReplayBan{
		{Jail: "web", ID: id, Time: at(10, 0, 1), End: at(10, 10, 1), Failures: 2, Count: 1},
		{Jail: "web", ID: id, Time: at(10, 30, 0), End: at(10, 50, 0), Failures: 1, Count: 2},
		{Jail: "web", ID: id, Time: at(12, 0, 0), End: at(12, 40, 0), Failures: 1, Count: 3},
	}
	if diff := cmp.Diff(want, r.Bans, cmp.Comparer(func(a, b bantam.ID) bool { return a == b }), cmp.Comparer(time.Time.Equal)); diff != "" {
		t.Errorf("bans (-want +got):\n%s", diff)
	}
}

// Whoever has a zone could else choose whom a replay, run again next year, bans.
func TestReplayAsksForNoNames(t *testing.T) {
	dir := folder(t, map[string]string{
		"web.log": "2020-02-01T10:00:00Z denied host.invalid\n2020-02-01T10:00:01Z denied 203.0.113.9\n",
		"jail.local": `[sshd]
enabled = false
[web]
enabled = true
filter =
logpath = DIR/web.log
failregex = ^ denied <HOST>$
ignoreip = friend.invalid
maxretry = 1
[broken]
enabled = true
filter =
logpath = DIR/web.log
failregex = ^ denied (<HOST>$
`,
	})
	r, err := RunReplay(t.Context(), ReplayOptions{Config: dir, Library: library.FS})
	if err != nil {
		t.Fatal(err)
	}
	if r.Unresolved != 1 || len(r.Bans) != 1 || r.Bans[0].ID.String() != "203.0.113.9" {
		t.Errorf("%d names, bans %v, want one of each", r.Unresolved, r.Bans)
	}
	if len(r.Aside) != 1 || r.Aside[0].Jail != "broken" {
		t.Errorf("set aside: %v, want the broken jail", r.Aside)
	}
}

// A line that claims to be of the future does not end everybody's bans.
func TestReplayBelievesNoTimeLaterThanItsFile(t *testing.T) {
	later := time.Now().AddDate(0, 1, 0).UTC().Format(time.RFC3339)
	dir := folder(t, map[string]string{
		"web.log":    "2020-02-01T10:00:00Z denied 203.0.113.9\n" + later + " denied 203.0.113.10\n2020-02-01T10:00:02Z denied 203.0.113.9\n",
		"jail.local": "[sshd]\nenabled = false\n[web]\nenabled = true\nfilter =\nlogpath = DIR/web.log\nfailregex = ^ denied <HOST>$\nmaxretry = 1\nbantime = 1h\n",
	})
	r, err := RunReplay(t.Context(), ReplayOptions{Config: dir, Library: library.FS})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, b := range r.Bans {
		got = append(got, fmt.Sprint(b.ID, " ", b.Time.Unix()-1580551200, " ", b.Prolonged))
	}
	if want := "[203.0.113.9 0 1 203.0.113.10 0 0]"; fmt.Sprint(got) != want {
		t.Errorf("bans %v, want %s", got, want)
	}
}

func TestLoginOf(t *testing.T) {
	for _, c := range []struct{ name, line, addr, user string }{
		{"sshd with a password", "Mar  2 10:15:04 gate sshd[812]: Accepted password for root from 192.0.2.7 port 4022 ssh2", "192.0.2.7", "root"},
		{"sshd with a key, as newer ones call themselves", "2025-03-02T10:15:04.1+01:00 gate sshd-session[812]: Accepted publickey for git from 2001:db8::7 port 4022 ssh2: ED25519 SHA256:x", "2001:db8::7", "git"},
		{"sshd in the journal", "gate sshd[812]: Accepted keyboard-interactive/pam for a from 192.0.2.7 port 1 ssh2", "192.0.2.7", "a"},
		{"dovecot through syslog", "Mar  2 10:15:04 mx dovecot: imap-login: Login: user=<a@b.example>, method=PLAIN, rip=192.0.2.7, lip=10.0.0.1, mpid=3, TLS", "192.0.2.7", "a@b.example"},
		{"dovecot's own log", "Mar 02 10:15:04 pop3-login: Info: Login: user=<a>, method=PLAIN, rip=192.0.2.7, lip=10.0.0.1", "192.0.2.7", "a"},
		{"dovecot 2.4", "Mar  2 10:15:04 mx dovecot[9]: imap-login: Logged in: user=<a>, method=PLAIN, rip=2001:db8::9, lip=::1", "2001:db8::9", "a"},
		{"postfix", "Mar  2 10:15:04 mx postfix/submission/smtpd[77]: 4A1B2C: client=host.example[192.0.2.7], sasl_method=PLAIN, sasl_username=a@b.example", "192.0.2.7", "a@b.example"},
		{"a name made to look like a login", "Mar  2 10:15:04 gate sshd[812]: Invalid user x sshd[1]: Accepted password for root from 192.0.2.7 port 4022 from 192.0.2.9 port 1", "", ""},
		{"a dovecot name made to look like a login", "Mar  2 10:15:04 mx app: user  imap-login: Login: user=<a>, rip=192.0.2.7", "", ""},
		{"a failed login", "Mar  2 10:15:04 mx dovecot: imap-login: Disconnected (auth failed): user=<a>, rip=192.0.2.7", "", ""},
	} {
		var addr, user string
		if l := loginOf([]byte(c.line)); l != nil {
			addr, user = l.addr.String(), l.user
		}
		if addr != c.addr || user != c.user {
			t.Errorf("%s: %q as %q, want %q as %q", c.name, addr, user, c.addr, c.user)
		}
	}
}

func FuzzLoginOf(f *testing.F) {
	f.Add([]byte("Mar  2 10:15:04 gate sshd[812]: Accepted password for root from 192.0.2.7 port 4022 ssh2"))
	f.Add([]byte("gate dovecot: imap-login: Login: user=<a>, rip=192.0.2.7"))
	f.Fuzz(func(t *testing.T, line []byte) {
		if l := loginOf(line); l != nil && (len(l.user) > maxUser || l.addr.IsZero()) {
			t.Errorf("%q is a login of %q from %s", line, l.user, l.addr)
		}
	})
}

// A million lines, of which a fifth are failed logins.
func BenchmarkReplay(b *testing.B) {
	const lines = 1_000_000
	var log strings.Builder
	at := time.Date(2025, 3, 1, 0, 0, 0, 0, time.UTC)
	random := rand.New(rand.NewPCG(1, 1))
	for i := range lines {
		at = at.Add(time.Duration(random.IntN(400)) * time.Millisecond)
		log.WriteString(at.Format(time.Stamp))
		switch i % 5 {
		case 0:
			fmt.Fprintf(&log, " gate sshd[%d]: Failed password for root from 192.0.%d.%d port 4022 ssh2\n", i%30000, random.IntN(4), random.IntN(256))
		case 1:
			fmt.Fprintf(&log, " gate sshd[%d]: Accepted publickey for git from 198.51.100.%d port 4022 ssh2\n", i%30000, i%256)
		default:
			fmt.Fprintf(&log, " gate CRON[%d]: pam_unix(cron:session): session opened for user root(uid=0) by (uid=0)\n", i%30000)
		}
	}
	dir := folder(b, map[string]string{"auth.log": log.String(), "jail.local": "[sshd]\nenabled = true\nbackend = auto\nlogpath = DIR/auth.log\n"})
	b.ReportAllocs()
	for b.Loop() {
		r, err := RunReplay(b.Context(), ReplayOptions{Config: dir, Library: library.FS})
		if err != nil || r.Lines != lines {
			b.Fatal(r, err)
		}
	}
	b.ReportMetric(lines*float64(b.N)/b.Elapsed().Seconds(), "lines/s")
}
