package daemon

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"bantam"
	"bantam/internal/filter"
	"bantam/internal/jail"
	"bantam/internal/machine"
	"bantam/library"
)

// sshJail is a jail of the library on a log of the folder.
const sshJail = "[sshd]\nenabled = true\nbackend = auto\nlogpath = DIR/auth.log\n"

func planIn(t testing.TB, files map[string]string) (*plan, string) {
	t.Helper()
	dir := folder(t, files)
	p, err := makePlan(dir, library.FS)
	if err != nil {
		t.Fatal(err)
	}
	return p, dir
}

func has(l *jail.Logins, addr string, since time.Time) bool {
	_, ok := l.Within(bantam.AddrID(netip.MustParseAddr(addr)), since)
	return ok
}

// Who has logged in is known before the next line is judged, at the time that his line bears; who only says so is not.
func TestLinesTellWhoAdministrates(t *testing.T) {
	now := time.Now().Truncate(time.Second)
	at := now.Add(-time.Hour)
	p, _ := planIn(t, map[string]string{"jail.local": sshJail, "auth.log": ""})
	for _, c := range []struct {
		name, text string
		of         time.Time // what a journal says
		since      time.Time // when he logged in; zero if he did not
	}{
		{"a line of a file", at.Format(time.Stamp) + " gate sshd[9]: Accepted publickey for root from 192.0.2.7 port 40 ssh2: ED25519 SHA256:x", time.Time{}, at},
		{"an entry of the journal", "gate sshd-session[9]: Accepted password for root from 192.0.2.7 port 40 ssh2", at, at},
		{"a time to come is now", now.Add(time.Hour).Format(time.RFC3339) + " gate sshd[9]: Accepted password for root from 192.0.2.7 port 40 ssh2", time.Time{}, now},
		{"a failure", at.Format(time.Stamp) + " gate sshd[9]: Failed password for root from 192.0.2.7 port 40 ssh2", time.Time{}, time.Time{}},
		{"a name like a login", at.Format(time.Stamp) + " gate sshd[9]: Failed password for invalid user sshd[1]: Accepted password for root from 192.0.2.7 port 40 ssh2 from 192.0.2.9 port 1 ssh2", time.Time{}, time.Time{}},
		{"another service", at.Format(time.Stamp) + " gate dovecot: imap-login: Login: user=<a>, method=PLAIN, rip=192.0.2.7, lip=10.0.0.1, mpid=3", time.Time{}, time.Time{}},
		{"another program", at.Format(time.Stamp) + " gate app[9]: sshd[9]: Accepted password for root from 192.0.2.7 port 40 ssh2", time.Time{}, time.Time{}},
		{"a host name in place of the address", at.Format(time.Stamp) + " gate sshd[9]: Accepted password for root from a.example.org port 40 ssh2", time.Time{}, time.Time{}},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := &Daemon{}
			d.plan.Store(p)
			judge := d.noticing(filter.New(p.filters["sshd"]), []*filter.Rules{p.filters["sshd"]})
			judge.Judge(&bantam.Line{Text: []byte(c.text), Time: c.of, Read: now}, nil)
			if c.since.IsZero() {
				if has(&d.logins, "192.0.2.7", time.Time{}) || has(&d.logins, "192.0.2.9", time.Time{}) {
					t.Error("he is an administrator")
				}
				return
			}
			if !has(&d.logins, "192.0.2.7", c.since) || has(&d.logins, "192.0.2.7", c.since.Add(time.Second)) {
				t.Errorf("he has not logged in at %s", c.since)
			}
		})
	}
}

// Lines of other jails' logs are not looked at, nor any if nobody is to be spared.
func TestOnlySSHDsLogTellsWhoAdministrates(t *testing.T) {
	web := "[web]\nenabled = true\nfilter =\nfailregex = ^ denied <HOST>$\nlogpath = DIR/web.log\n"
	for _, c := range []struct {
		name, jails, jail string
		want              bool
	}{
		{"sshd's", sshJail + web, "sshd", true},
		{"a web server's", sshJail + web, "web", false},
		{"a jail of another name with sshd's filter", strings.Replace(sshJail, "[sshd]", "[gate]\nfilter = sshd", 1), "gate", true},
		{"nobody is to be spared", "[DEFAULT]\nignorelogins = 0\n" + sshJail, "sshd", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			p, _ := planIn(t, map[string]string{"jail.local": c.jails, "auth.log": "", "web.log": ""})
			d := &Daemon{}
			d.plan.Store(p)
			judge := filter.New(p.filters[c.jail])
			if got := d.noticing(judge, []*filter.Rules{p.filters[c.jail]}) != judge; got != c.want {
				t.Errorf("its lines are looked at: %v, want %v", got, c.want)
			}
		})
	}
}

// A folder with a jail.conf of its own has Fail2Ban's decisions.
func TestWhoBringsAJailConfSparesNobody(t *testing.T) {
	for name, want := range map[string]bool{"jail.local": true, "jail.conf": false} {
		p, _ := planIn(t, map[string]string{name: sshJail, "auth.log": ""})
		if p.spares() != want {
			t.Errorf("with the jails in %s administrators are spared: %v, want %v", name, p.spares(), want)
		}
	}
}

func TestTheLastDayOfSSHDsLog(t *testing.T) {
	now := time.Now()
	line := func(addr string, ago time.Duration) string {
		return fmt.Sprintf("%s gate sshd[9]: Accepted publickey for root from %s port 40 ssh2\n", now.Add(-ago).Format(time.RFC3339), addr)
	}
	p, dir := planIn(t, map[string]string{
		"jail.local": sshJail,
		"auth.log":   strings.Repeat("x", 200_000) + "\nnone\n" + line("192.0.2.1", time.Hour) + line("192.0.2.2", 30*time.Hour) + strings.TrimSpace(line("192.0.2.3", time.Minute)),
		"auth.log.1": line("192.0.2.4", 20*time.Hour),
		"auth.log.2": line("192.0.2.5", 23*time.Hour),
	})
	if err := os.Chtimes(filepath.Join(dir, "auth.log.2"), now.Add(-30*time.Hour), now.Add(-30*time.Hour)); err != nil {
		t.Fatal(err)
	}
	var l jail.Logins
	if _, err := pastSSH(t.Context(), p, l.Add, now); err != nil {
		t.Fatal(err)
	}
	for addr, want := range map[string]bool{"192.0.2.1": true, "192.0.2.2": false, "192.0.2.3": true, "192.0.2.4": true, "192.0.2.5": false} {
		if got := has(&l, addr, now.Add(-24*time.Hour)); got != want {
			t.Errorf("the login from %s is known: %v, want %v", addr, got, want)
		}
	}
}

// Of a large log the end is read, and whatever else stands in its place hurts nobody.
func TestTheLastDayOfALargeLog(t *testing.T) {
	now := time.Now()
	p, dir := planIn(t, map[string]string{"jail.local": sshJail, "auth.log": ""})
	path := filepath.Join(dir, "auth.log")
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for at, addr := range map[int64]string{0: "192.0.2.1", 1 << 30: "192.0.2.2"} {
		if _, err := f.WriteAt(fmt.Appendf(nil, "\n%s gate sshd[9]: Accepted password for root from %s port 40 ssh2\n", now.Format(time.RFC3339), addr), at); err != nil {
			t.Fatal(err)
		}
	}
	var l jail.Logins
	if _, err := pastSSH(t.Context(), p, l.Add, now.Add(time.Second)); err != nil {
		t.Fatal(err)
	}
	if has(&l, "192.0.2.1", time.Time{}) || !has(&l, "192.0.2.2", time.Time{}) {
		t.Error("want the login at the end, and not the one a gigabyte before")
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := pastSSH(ended, p, l.Add, now); err == nil {
		t.Error("no time for the log is no error")
	}
}

// A session of days ago counts while it lasts; then its login does, which is too long ago.
func TestSessionsComeAndGo(t *testing.T) {
	now := time.Now()
	dir := folder(t, map[string]string{
		"proc/5/status":          "Name:\tsshd\nPPid:\t1\nUid:\t0\t0\t0\t0\n",
		"run/systemd/sessions/1": fmt.Sprintf("USER=root\nSTATE=active\nREMOTE_HOST=192.0.2.7\nSERVICE=sshd\nLEADER=5\nREALTIME=%d\n", now.Add(-72*time.Hour).UnixMicro()),
		"run/systemd/sessions/2": fmt.Sprintf("USER=root\nSTATE=active\nREMOTE_HOST=192.0.2.8\nSERVICE=sshd\nLEADER=5\nREALTIME=%d\n", now.Add(-2*time.Hour).UnixMicro()),
	})
	d := &Daemon{machine: machine.Machine{Root: dir}, log: slog.New(slog.DiscardHandler)}
	look := func() (days, hours bool) {
		d.seeSessions(now)
		return has(&d.logins, "192.0.2.7", now.Add(-24*time.Hour)), has(&d.logins, "192.0.2.8", now.Add(-24*time.Hour))
	}
	if days, hours := look(); !days || !hours {
		t.Errorf("the sessions that last are known: %v, %v", days, hours)
	}
	if err := os.RemoveAll(filepath.Join(dir, "run")); err != nil {
		t.Fatal(err)
	}
	if days, hours := look(); days || !hours {
		t.Errorf("the sessions that are over count: %v, %v, want the later one alone", days, hours)
	}
}

// Who may not administrate the machine is spared while his session lasts, and not for having logged in.
func TestACustomersLoginOfYesterdaySparesNobody(t *testing.T) {
	now := time.Now().Truncate(time.Second)
	p, dir := planIn(t, map[string]string{
		"jail.local":             sshJail,
		"auth.log":               "",
		"etc/passwd":             "root:x:0:0:::\ncustomer:x:1001:1001:::\nanna:x:1000:1000:::\n",
		"etc/group":              "sudo:x:27:anna\n",
		"proc/5/status":          "Name:\tsshd\nPPid:\t1\nUid:\t0\t0\t0\t0\n",
		"run/systemd/sessions/1": fmt.Sprintf("USER=customer\nSTATE=active\nREMOTE_HOST=192.0.2.7\nSERVICE=sshd\nLEADER=5\nREALTIME=%d\n", now.Add(-2*time.Hour).UnixMicro()),
		"run/systemd/sessions/2": fmt.Sprintf("USER=anna\nSTATE=active\nREMOTE_HOST=192.0.2.8\nSERVICE=sshd\nLEADER=5\nREALTIME=%d\n", now.Add(-3*time.Hour).UnixMicro()),
		"run/systemd/sessions/3": fmt.Sprintf("USER=customer\nSTATE=active\nREMOTE_HOST=192.0.2.8\nSERVICE=sshd\nLEADER=5\nREALTIME=%d\n", now.Add(-2*time.Hour).UnixMicro()),
	})
	d := &Daemon{machine: machine.Machine{Root: dir}, log: slog.New(slog.DiscardHandler)}
	d.plan.Store(p)
	d.seeSessions(now)
	judge := d.noticing(filter.New(p.filters["sshd"]), []*filter.Rules{p.filters["sshd"]})
	for user, addr := range map[string]string{"customer": "192.0.2.1", "anna": "192.0.2.2", "root": "192.0.2.3", "of-ldap": "192.0.2.4"} {
		text := fmt.Sprintf("%s gate sshd[9]: Accepted password for %s from %s port 40 ssh2", now.Format(time.RFC3339), user, addr)
		judge.Judge(&bantam.Line{Text: []byte(text), Read: now}, nil)
	}
	spared := func(what string, want ...string) {
		t.Helper()
		var got []string
		for i := range 10 {
			if addr := fmt.Sprintf("192.0.2.%d", i); has(&d.logins, addr, now.Add(-24*time.Hour)) {
				got = append(got, addr)
			}
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s: %v are spared, want %v", what, got, want)
		}
	}
	spared("while the sessions last", "192.0.2.2", "192.0.2.3", "192.0.2.4", "192.0.2.7", "192.0.2.8")
	n, _ := d.logins.Within(bantam.AddrID(netip.MustParseAddr("192.0.2.7")), now)
	if why := n.Why(bantam.AddrID(n.Addr)); !strings.HasPrefix(why, "a session that lasts: user customer since ") {
		t.Errorf("the customer is spared for %q", why)
	}
	if err := os.RemoveAll(filepath.Join(dir, "run")); err != nil {
		t.Fatal(err)
	}
	d.seeSessions(now)
	spared("when they are over", "192.0.2.2", "192.0.2.3", "192.0.2.4", "192.0.2.8")
}

func TestJournalLogin(t *testing.T) {
	now := time.Unix(1_740_909_600, 0)
	for _, c := range []struct {
		name, line string
		at         time.Time
	}{
		{"a login", "1740906000.250000 gate sshd[9]: Accepted publickey for root from 192.0.2.7 port 40 ssh2: ED25519 SHA256:x", time.UnixMicro(1_740_906_000_250_000)},
		{"one to come", "1740999999.250000 gate sshd[9]: Accepted publickey for root from 192.0.2.7 port 40 ssh2", time.Time{}},
		{"no time", "gate sshd[9]: Accepted publickey for root from 192.0.2.7 port 40 ssh2", time.Time{}},
		{"a failure", "1740906000.250000 gate sshd[9]: Failed password for root from 192.0.2.7 port 40 ssh2", time.Time{}},
	} {
		if who, ok := journalLogin([]byte(c.line), now); ok == c.at.IsZero() || ok && !who.At.Equal(c.at) {
			t.Errorf("%s: %+v, %v, want it at %v", c.name, who, ok, c.at)
		}
	}
}

// journalctl is asked for what root's sshd wrote in the last day, the newest first; what it printed counts, also if it
// fails then.
func TestTheLastDayOfTheJournal(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{
		"0": "echo \"$@\" >" + dir + "/asked\n",
		"1": "exit 1\n",
	} {
		script := "#!/bin/sh\necho '1740906000.250000 gate sshd[9]: Accepted publickey for root from 192.0.2.7 port 40 ssh2'\n" + text
		if err := os.WriteFile(filepath.Join(dir, "journalctl"), []byte(script), 0o700); err != nil {
			t.Fatal(err)
		}
		t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
		var l jail.Logins
		err := journalLogins(t.Context(), l.Add, time.Unix(1_740_909_600, 0))
		if (err == nil) != (name == "0") || !has(&l, "192.0.2.7", time.Unix(1_740_906_000, 0)) {
			t.Errorf("journalctl that exits with %s: %v, %v", name, err, has(&l, "192.0.2.7", time.Time{}))
		}
	}
	asked, err := os.ReadFile(filepath.Join(dir, "asked"))
	if err != nil || !strings.Contains(string(asked), "--reverse --output=short-unix --since=-24h") || !strings.Contains(string(asked), "_COMM=sshd _UID=0") {
		t.Errorf("journalctl was asked %s, %v", asked, err)
	}
}

func FuzzJournalLogin(f *testing.F) {
	now := time.Unix(1_740_909_600, 0)
	f.Add([]byte("1740906000.250000 gate sshd[9]: Accepted publickey for root from 192.0.2.7 port 40 ssh2: ED25519 SHA256:x"))
	f.Fuzz(func(t *testing.T, line []byte) {
		if who, ok := journalLogin(line, now); ok && (!who.Addr.IsValid() || who.At.After(now) || len(who.User) > maxUser) {
			t.Errorf("%q is a login %+v", line, who)
		}
	})
}

// A replay shows what would have been held back, and does not count it among the bans.
func TestReplayHoldsBack(t *testing.T) {
	var log strings.Builder
	failures := func(hour int, addr string) {
		for second := range 5 {
			fmt.Fprintf(&log, "2025-02-01T%02d:00:%02dZ gate sshd[9]: Failed password for root from %s port 40 ssh2\n", hour, second, addr)
		}
	}
	failures(8, "192.0.2.7")
	log.WriteString("2025-02-01T09:00:00Z gate sshd[9]: Accepted publickey for root from 192.0.2.7 port 40 ssh2\n")
	failures(10, "192.0.2.7")
	failures(10, "192.0.2.8")
	log.WriteString("2025-02-01T10:05:00Z gate sshd[9]: Accepted publickey for root from 192.0.2.7 port 40 ssh2\n")
	r, err := RunReplay(t.Context(), ReplayOptions{Config: folder(t, map[string]string{"jail.local": sshJail, "auth.log": log.String()}), Library: library.FS})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, b := range r.Bans {
		got = append(got, fmt.Sprintf("%s %s %q", b.Time.UTC().Format("15:04"), b.ID, b.Held))
	}
	want := []string{`08:00 192.0.2.7 ""`, `10:00 192.0.2.7 "an administrator's login: user root at 2025-02-01 09:00"`, `10:00 192.0.2.8 ""`}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("bans\n%s, want\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if j := r.Jails[0]; j.Bans != 2 || j.Held != 1 || len(r.Hits) != 0 {
		t.Errorf("%d bans, %d held back, hits %v", j.Bans, j.Held, r.Hits)
	}
}

// What looking for logins costs a line that nobody wants.
func BenchmarkNoticing(b *testing.B) {
	p, _ := planIn(b, map[string]string{"jail.local": sshJail, "auth.log": ""})
	d := &Daemon{}
	d.plan.Store(p)
	rules := p.filters["sshd"]
	line := &bantam.Line{Text: []byte(time.Now().Format(time.Stamp) + " gate CRON[812]: pam_unix(cron:session): session opened for user root(uid=0) by (uid=0)"), Read: time.Now()}
	b.Run("filter alone", func(b *testing.B) {
		judge := filter.New(rules)
		b.ReportAllocs()
		for b.Loop() {
			judge.Judge(line, nil)
		}
	})
	b.Run("filter and logins", func(b *testing.B) {
		judge := d.noticing(filter.New(rules), []*filter.Rules{rules})
		b.ReportAllocs()
		for b.Loop() {
			judge.Judge(line, nil)
		}
	})
}
