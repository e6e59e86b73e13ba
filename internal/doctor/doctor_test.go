package doctor

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"bantam"
	"bantam/internal/control"
	"bantam/internal/daemon"
	"bantam/internal/filter"
	"bantam/internal/machine"
	"bantam/internal/notify"
	"bantam/internal/outbox"
	"bantam/internal/ruleset"
	"bantam/internal/secret"
	"bantam/internal/smtp"
	"bantam/internal/source"
	"bantam/library"
)

// A bench is an examination of a machine that a test makes, in folders of its own.
type bench struct {
	*testing.T
	*examination
	root, dir string
}

// newBench makes a machine whose jail.local is the given text; DIR stands for a folder of the test's.
func newBench(t *testing.T, jailLocal string) *bench {
	t.Helper()
	b := &bench{T: t, root: t.TempDir(), dir: t.TempDir()}
	b.write(b.dir, "jail.local", strings.ReplaceAll(jailLocal, "DIR", b.dir))
	cfg, problems, err := daemon.Check(b.dir, library.FS)
	if err != nil {
		t.Fatal(err)
	}
	b.examination = newExamination(Options{Config: b.dir, Library: library.FS, Machine: machine.Machine{Root: b.root}})
	b.config, b.problems = cfg, problems
	return b
}

func (b *bench) write(under, name, text string) {
	b.Helper()
	path := filepath.Join(under, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		b.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		b.Fatal(err)
	}
}

// found are the checks since the last call, a line each: state, text and fix.
func (b *bench) found() (lines []string) {
	for _, c := range b.checks {
		lines = append(lines, fmt.Sprintf("%s: %s | %s", c.State, c.Text, c.Fix))
	}
	b.checks = nil
	return lines
}

// says wants exactly these checks, each by parts of its line with "…" between them.
func (b *bench) says(want ...string) {
	b.Helper()
	got := b.found()
	if len(got) != len(want) {
		b.Errorf("it says\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
		return
	}
	for i, line := range want {
		rest := strings.ReplaceAll(got[i], b.dir, "DIR")
		for _, part := range strings.Split(line, "…") {
			_, after, found := strings.Cut(rest, part)
			if !found {
				b.Errorf("it says %q, want %q", got[i], line)
				break
			}
			rest = after
		}
	}
}

const oneJail = "[sshd]\nenabled = true\nlogpath = DIR/auth.log\nport = 22\n"

func TestOtherProgramsThatBan(t *testing.T) {
	b := newBench(t, oneJail)
	b.write(b.root, "proc/100/cmdline", "/usr/bin/python3\x00/usr/bin/fail2ban-server\x00-xf\x00start\x00")
	b.write(b.root, "proc/101/cmdline", "/usr/bin/vi\x00/etc\x00/x\x00crowdsec\x00")
	b.lookForOthers()
	b.says("doubtful: Fail2Ban runs beside (pid 100) | sudo systemctl disable --now fail2ban")
	b.running, b.status.PID = true, 100 // it is ourselves under that name
	b.lookForOthers()
	b.says()
}

func TestFilesThatAPathMayHaveMeant(t *testing.T) {
	b := newBench(t, oneJail)
	for _, name := range []string{"auth.log", "auth.log.1", "auth.log.2.gz", "syslog", "nginx/access.log", "nginx/error.log", "nextcloud.log"} {
		b.write(b.dir, name, "")
	}
	for _, tt := range []struct {
		path string
		want []string
	}{
		{"authorization.log", []string{"auth.log"}},
		{"access.log", []string{"nginx/access.log"}},
		{"nginx/nextcloud*.log", []string{"nextcloud.log"}},
		{"mail.log", nil},
		{"*", nil},
	} {
		var want []string
		for _, name := range tt.want {
			want = append(want, filepath.Join(b.dir, name))
		}
		if got := alike(filepath.Join(b.dir, tt.path)); !slices.Equal(got, want) {
			t.Errorf("%s may mean %v, want %v", tt.path, got, want)
		}
	}
	if got := waitsFor(filepath.Join(b.dir, "none/x.log")); !strings.Contains(got, "there is no folder "+filepath.Join(b.dir, "none")) {
		t.Errorf("of a folder that is not there it says %q", got)
	}
}

func TestSourcesAsTheDaemonTells(t *testing.T) {
	now := time.Now()
	path := "/nowhere/auth.log"
	for _, tt := range []struct {
		name   string
		status source.Status
		want   []string
	}{
		{"it waits", source.Status{Name: path, State: source.Waiting}, []string{"wrong: [sshd] waits for /nowhere/auth.log, which is not there | there is no folder /nowhere"}},
		{"it may not be read", source.Status{Name: path, State: "permission denied"}, []string{"wrong: [sshd]: /nowhere/auth.log cannot be read: permission denied | ls -l"}},
		{"the journal ends", source.Status{Name: source.Journal, Match: "_SYSTEMD_UNIT=ssh.service", State: "journalctl ended"}, []string{"wrong: [sshd]: the journal (_SYSTEMD_UNIT=ssh.service) cannot be read: journalctl ended | journalctl -n 1"}},
		{"it is silent", source.Status{Name: source.Journal, State: source.Reading, Live: true, Silent: now, PerHour: 12}, []string{"doubtful: [sshd]: the journal is silent since … it used to have 12 lines an hour"}},
		{"it catches up", source.Status{Name: source.Journal, State: source.Reading, Lines: 7}, []string{"ok: [sshd]: the journal, catching up: 7 lines"}},
		{"it reads", source.Status{Name: source.Journal, State: source.Reading, Live: true, Lines: 7, Last: now.Add(-90 * time.Second)}, []string{"ok: [sshd]: the journal, 7 lines read, the last 1m 3"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := newBench(t, oneJail)
			b.running, b.status.PID = true, os.Getpid()
			j := control.JailStatus{Sources: []source.Status{tt.status}}
			j.Jail = "sshd"
			b.status.Jails = []control.JailStatus{j}
			b.lookAtSources(t.Context())
			b.says(tt.want...)
		})
	}
}

func TestLimitsOfWatches(t *testing.T) {
	b := newBench(t, oneJail)
	b.write(b.dir, "auth.log", "")
	b.write(b.root, "proc/sys/fs/inotify/max_user_watches", "3\n")
	b.write(b.root, "proc/sys/fs/inotify/max_user_instances", "1\n")
	b.lookAtSources(t.Context())
	b.says("ok: [sshd]: DIR/auth.log is there",
		"doubtful: 1 log and a limit of 3 inotify watches: the rest is polled | sudo sysctl fs.inotify.max_user_watches=8192",
		"doubtful: a limit of 1 inotify instance… | sudo sysctl fs.inotify.max_user_instances=128")
}

// What the last lines of a log tell of its form and its zone.
func TestWhatTheEndOfALogTells(t *testing.T) {
	utc := time.Date(2026, 3, 2, 10, 15, 4, 0, time.Local)
	line := func(at time.Time, text string) string { return at.Format(time.Stamp) + " gate " + text + "\n" }
	const benign, failure = "sshd[812]: Connection closed by 192.0.2.7 port 4", "sshd[812]: Failed password for root from 192.0.2.7 port 4022 ssh2"
	_, offset := utc.Zone()
	zone := func(off time.Duration) string {
		return utc.In(time.FixedZone("", offset+int(off/time.Second))).Format("-0700")
	}
	for _, tt := range []struct {
		name, log string
		want      []string
	}{
		{"sound", strings.Repeat(line(utc, failure), 20), nil},
		{"quiet and sound", strings.Repeat(line(utc, benign), 100), nil},
		{"too short to tell", "what is this\n", nil},
		{"no dates", strings.Repeat("what is this\n", 20), []string{"wrong: [sshd] finds no date in the lines of DIR/auth.log | set datepattern; bantam regex DIR/auth.log sshd"}},
		{"another service's", strings.Repeat(line(utc, "cron[1]: (root) CMD (true)"), 100), []string{"doubtful: [sshd] understands none of the last 100 lines of DIR/auth.log | is it this service's log"}},
		{"two hours behind", line(utc.Add(-2*time.Hour), benign), []string{"wrong: [sshd] the stamps in DIR/auth.log are 2h 0m behind the clock… | logtimezone = UTC" + zone(-2*time.Hour) + " in [sshd]"}},
		{"half past five hours ahead", line(utc.Add(5*time.Hour+30*time.Minute), benign), []string{"wrong: [sshd] the stamps in DIR/auth.log are 5h 30m ahead of the clock… | logtimezone = UTC" + zone(5*time.Hour+30*time.Minute)}},
		{"touched some time later", line(utc.Add(-2*time.Hour-7*time.Minute), benign), nil},
		{"a line without its end", strings.TrimSuffix(line(utc, benign), "\n"), nil},
		{"nothing", "", nil},
		{"of a container engine", strings.Repeat(`{"log":"what is this\n"}`+"\n", 20), nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := newBench(t, oneJail)
			path := filepath.Join(b.dir, "auth.log")
			b.write(b.dir, "auth.log", tt.log)
			if err := os.Chtimes(path, utc, utc); err != nil {
				t.Fatal(err)
			}
			look := func() {
				b.lookAtForm(log{Status: source.Status{Name: path, State: source.Reading}, jails: []string{"sshd"}})
			}
			look()
			mended := ""
			for _, c := range b.checks {
				if _, after, found := strings.Cut(c.Fix, "logtimezone = "); found {
					mended, _, _ = strings.Cut(after, " ")
				}
			}
			b.says(tt.want...)
			if mended != "" { // the fix is one
				b.jailOf("sshd").Filter.LogTimezone, b.skewed = mended, map[string]bool{}
				look()
				b.says()
			}
		})
	}
}

// What the daemon has counted is told before what the files say, and only once.
func TestStampsThatTheDaemonCounted(t *testing.T) {
	for _, tt := range []struct {
		name   string
		stamps control.Stamps
		want   []string
	}{
		{"few of many", control.Stamps{Undated: 20, Skewed: 20, Skew: -7200}, nil},
		{"no dates", control.Stamps{Undated: 95}, []string{"wrong: [sshd] finds no date in the lines of /nowhere/auth.log"}},
		{"one hour ahead", control.Stamps{Skewed: 80, Skew: 3601}, []string{"wrong: [sshd] the stamps in /nowhere/auth.log are 1h 0m ahead of the clock"}},
		{"three hours ahead, read as last year's", control.Stamps{Skewed: 80, Skew: -(365*24 - 3) * 3600}, []string{"wrong: … are 3h 0m ahead of the clock"}},
		{"a clock that is wrong", control.Stamps{Skewed: 80, Skew: -3000}, []string{"wrong: … are 50m 0s behind the clock… | is the clock of who writes it right?"}},
		{"two minutes", control.Stamps{Skewed: 80, Skew: 120}, nil},
		{"nonsense", control.Stamps{Skewed: 80, Skew: 1e300}, []string{"wrong: … ahead of the clock… | is the clock"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := newBench(t, oneJail)
			j := control.JailStatus{Stamps: &tt.stamps, Sources: []source.Status{{Name: "/nowhere/auth.log", Lines: 100}}}
			j.Jail = "sshd"
			b.status.Jails = []control.JailStatus{j}
			b.lookAtStamps()
			b.says(tt.want...)
		})
	}
}

func TestZoneOfTheDaemon(t *testing.T) {
	for _, tt := range []struct{ environ, want string }{
		{"PATH=/bin\x00", "ok: stamps without a zone are read as UTC"},
		{"TZ=UTC\x00", "ok: stamps without a zone are read as UTC, as the machine's"},
		{"TZ=:Asia/Tokyo\x00", "doubtful: stamps without a zone are read as TZ=Asia/Tokyo, the machine's zone is UTC | take TZ out"},
		{"TZ=Nowhere/Land\x00", `wrong: the program's zone TZ="Nowhere/Land" is none: stamps are read as UTC`},
	} {
		b := newBench(t, oneJail)
		b.write(b.root, "proc/self/environ", tt.environ)
		b.lookAtLocal()
		b.says(tt.want)
	}
}

func TestDatabaseThatKnowsTheFuture(t *testing.T) {
	b := newBench(t, oneJail)
	path := filepath.Join(b.dir, "bantam.db")
	db, err := open(path, "mode=rwc&_pragma=journal_mode(WAL)")
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	for _, do := range []string{
		`CREATE TABLE bantam_meta (version INTEGER)`, `INSERT INTO bantam_meta VALUES (4)`, `CREATE TABLE bantam_ban (time INTEGER)`,
		fmt.Sprintf(`INSERT INTO bantam_ban VALUES (%d)`, time.Now().Add(25*time.Hour).UnixMicro()),
	} {
		if _, err := db.Exec(do); err != nil {
			t.Fatal(err)
		}
	}
	b.running, b.status.Database, b.status.PID = true, path, os.Getpid()
	b.lookAtDatabase(t.Context())
	got := slices.DeleteFunc(b.found(), func(line string) bool { return strings.Contains(line, "for the database in") })
	if len(got) != 2 || !strings.Contains(got[0], "is sound, version 4") || !strings.HasPrefix(got[1], "wrong: the clock is behind: the database has a ban from ") {
		t.Errorf("it says %q", got)
	}
	if info, err := os.Stat(path + "-wal"); err != nil || info.Size() == 0 {
		t.Fatalf("there is no write-ahead log to write back: %v", err)
	}
	if err := checkpoint(t.Context(), path); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(path + "-wal"); err != nil || info.Size() != 0 {
		t.Errorf("the write-ahead log is still there: %v, %v", info, err)
	}
}

// The folder of the database is made only if that is asked for.
func TestFolderOfTheDatabase(t *testing.T) {
	b := newBench(t, oneJail)
	dir := filepath.Join(b.dir, "lib")
	b.config.Daemon.DBFile = filepath.Join(dir, "bantam.db")
	for _, fix := range []bool{false, true} {
		b.Fix, b.checks = fix, nil
		b.lookAtDatabase(t.Context())
		r := b.report(t.Context())
		_, err := os.Stat(dir)
		if made := err == nil; made != fix || len(r.Checks) != 1 || r.Checks[0].Repaired != fix || (r.Doubtful == 0) != fix {
			t.Errorf("with Fix %t it is made: %t, and it says %+v", fix, made, r)
		}
	}
}

func TestContainersPastTheInputChain(t *testing.T) {
	const action = "[Definition]\nactionstart = true\nactionban = true\nactionunban = true\n"
	for _, tt := range []struct {
		name, options, ports string
		want                 []string
	}{
		{"guarded where it is forwarded", "chain = DOCKER-USER", `{"80/tcp":[{"HostIp":"0.0.0.0","HostPort":"8080"}]}`, nil},
		{"another port", "chain = INPUT", `{"80/tcp":[{"HostIp":"0.0.0.0","HostPort":"9090"}]}`, nil},
		{"only from this machine", "chain = INPUT", `{"80/tcp":[{"HostIp":"127.0.0.1","HostPort":"8080"}]}`, nil},
		{"past the input chain", "chain = INPUT", `{"80/tcp":[{"HostIp":"0.0.0.0","HostPort":"8080"}]}`, []string{"wrong: [web] guards the input chain, and port 8080 of the container shop is forwarded past it | banaction = bantam in [web]"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			jail := "[web]\nenabled = true\nfilter = sshd\nlogpath = DIR/auth.log\n" +
				tt.options + "\naction = mine[port=8000:8080, protocol=tcp, chain=\"%(chain)s\"]\n"
			b := newBench(t, jail)
			b.write(b.dir, "action.d/mine.conf", action)
			cfg, _, err := daemon.Check(b.dir, library.FS)
			if err != nil {
				t.Fatal(err)
			}
			if b.config = cfg; b.jailOf("web") == nil {
				t.Fatal("the jail does not work")
			}
			b.write(b.root, "var/lib/docker/containers/0a/config.v2.json",
				`{"Name":"/shop","State":{"Running":true},"NetworkSettings":{"Ports":`+tt.ports+`}}`)
			b.lookAtContainers()
			b.says(tt.want...)
		})
	}
}

func TestBansThatAreNotCarriedOut(t *testing.T) {
	b := newBench(t, oneJail)
	b.Address = netip.MustParseAddr("192.0.2.7")
	ban := bantam.Ban{Jail: "sshd", ID: bantam.AddrID(b.Address), Observed: true, By: bantam.ByFailures}
	held := ban
	held.Reason = "root is logged in from there"
	for _, tt := range []struct {
		bans []bantam.Ban
		want string
	}{
		{nil, ""},
		{[]bantam.Ban{ban}, ", [sshd] only observes"},
		{[]bantam.Ban{held}, ", the ban of [sshd] is held back: root is logged in from there"},
		{[]bantam.Ban{{Jail: "sshd", ID: bantam.TextID("192.0.2.7x"), Observed: true}}, ""},
	} {
		b.bans = tt.bans
		if got := b.spared(); got != tt.want {
			t.Errorf("of %v it says %q, want %q", tt.bans, got, tt.want)
		}
		if got := b.toProve(); len(got) != 0 {
			t.Errorf("of %v it would prove %v", tt.bans, got)
		}
	}
}

// Which ports a jail closes is said by the actions that block, and not by those beside them.
func TestDoorsOfAJail(t *testing.T) {
	const mails = "[Definition]\nactionban = true\nactionunban = true\n"
	for _, tt := range []struct{ name, action, want string }{
		{"one port", "bantam[port=22]", "[tcp 22]"},
		{"ranges of two protocols", "bantam[port=\"53,8000:8010\", protocol=\"tcp,udp\"]", "[tcp 53 udp 53 tcp 8000 tcp 8010 udp 8000 udp 8010]"},
		{"a mail beside", "bantam[port=22]\n mails[name=x]", "[tcp 22]"},
		{"commands alone", "mails[port=22, protocol=tcp]", "[tcp 22]"},
		{"all ports of one protocol", "bantam[port=\"0:65535\"]", "[tcp 22 tcp 443]"},
		{"all traffic", "bantam[type=allports]", "[tcp 22 tcp 443 udp 22 udp 443]"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			jail := oneJail + "action = " + tt.action + "\n"
			b := newBench(t, oneJail)
			b.write(b.dir, "jail.local", strings.ReplaceAll(jail, "DIR", b.dir))
			b.write(b.dir, "action.d/mails.conf", mails)
			cfg, problems, err := daemon.Check(b.dir, library.FS)
			if err != nil {
				t.Fatal(err)
			}
			b.config = cfg
			j := b.jailOf("sshd")
			if j == nil {
				t.Fatalf("the jail does not work: %v", problems)
			}
			g, _ := guardOf(j)
			if got := fmt.Sprint(b.doors(&g)); got != tt.want {
				t.Errorf("it closes %s, want %s", got, tt.want)
			}
		})
	}
}

// How the ways of packets are told.
func TestPassagesInWords(t *testing.T) {
	drop := &ruleset.Step{Hook: "prerouting", Priority: -300, Family: "inet", Table: "bantam", Chain: "jail-sshd", Verdict: "drop"}
	accept := ruleset.Step{Hook: "input", Family: "ip", Table: "filter", Chain: "INPUT", Rule: "-p tcp --dport 22 -j ACCEPT", Verdict: "accept"}
	policy := ruleset.Step{Hook: "input", Family: "ip", Table: "filter", Chain: "INPUT", Verdict: "accept"}
	dropped, passed := ruleset.Path{Dropped: true, By: drop}, ruleset.Path{Steps: []ruleset.Step{accept}, Through: &accept, Missed: drop}
	own, shell := guard{jail: "sshd", own: true}, guard{jail: "sshd", shell: "ufw"}
	ssh, web := door{"tcp", 22}, door{"tcp", 443}
	for _, tt := range []struct {
		name  string
		guard guard
		ways  []passage
		want  []string
	}{
		{"all dropped by one rule", own, []passage{{ssh, dropped, dropped}, {web, dropped, dropped}}, []string{"ok: 192.0.2.7 (sshd) is dropped at prerouting -300 by inet bantam chain jail-sshd: tcp 22, tcp 443"}},
		{"one let through", own, []passage{{ssh, passed, passed}, {web, dropped, dropped}}, []string{
			"wrong: 192.0.2.7 (sshd) passes to tcp 22: table ip filter chain INPUT, rule '-p tcp --dport 22 -j ACCEPT' lets it through before chain jail-sshd drops it",
			"ok: 192.0.2.7 (sshd) is dropped at prerouting -300 by inet bantam chain jail-sshd: tcp 443",
		}},
		{"old connections go on", own, []passage{{ssh, dropped, passed}}, []string{"ok: 192.0.2.7", "doubtful: 192.0.2.7 (sshd): connections from before the ban go on, table ip filter"}},
		{"nothing drops it", own, []passage{{ssh, ruleset.Path{Steps: []ruleset.Step{policy}}, passed}}, []string{"wrong: 192.0.2.7 (sshd) passes to tcp 22: no rule drops it | sudo bantam reload"}},
		{"commands that nobody knows", shell, []passage{{ssh, ruleset.Path{}, passed}}, []string{"doubtful: 192.0.2.7 (sshd) passes to tcp 22: no rule drops it | see what the commands of its action ufw do"}},
		{"a rule that cannot be judged", own, []passage{{ssh, ruleset.Path{Doubts: []string{"ip saddr . tcp dport @x"}}, passed}}, []string{"doubtful: … passes to tcp 22: no rule drops it; not sure of: ip saddr"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := newBench(t, oneJail)
			b.tellPassages(&tt.guard, netip.MustParseAddr("192.0.2.7"), tt.ways)
			b.says(tt.want...)
		})
	}
}

func TestReceiversOfChannels(t *testing.T) {
	for _, tt := range []struct{ got, want string }{
		{mailServer(smtp.Config{Kind: smtp.Gmail}), "smtp.gmail.com:587"},
		{mailServer(smtp.Config{Kind: smtp.Relay, Server: "mail.example.org"}), "mail.example.org:587"},
		{mailServer(smtp.Config{Kind: smtp.Relay, Server: "mail.example.org", TLS: "tls"}), "mail.example.org:465"},
		{mailServer(smtp.Config{Kind: smtp.Relay, Server: "[2001:db8::1]", TLS: "none"}), "[2001:db8::1]:25"},
		{mailServer(smtp.Config{Kind: smtp.Relay, Server: "mail.example.org:2525"}), "mail.example.org:2525"},
		{mailServer(smtp.Config{Kind: smtp.GmailAPI}), "gmail.googleapis.com:443"},
		{mailServer(smtp.Config{Kind: smtp.MTA}), ""},
		{chatServer(&notify.Config{Kind: notify.Telegram}), "api.telegram.org:443"},
		{chatServer(&notify.Config{Kind: notify.Webhook, URL: secret.New("http://10.0.0.1:8080/hook?key=secret")}), "10.0.0.1:8080"},
		{chatServer(&notify.Config{Kind: notify.Webhook, URL: secret.New("http://10.0.0.1/hook")}), "10.0.0.1:80"},
		{chatServer(&notify.Config{Kind: notify.Discord, URL: secret.New("://")}), ""},
	} {
		if tt.got != tt.want {
			t.Errorf("%q, want %q", tt.got, tt.want)
		}
	}
}

// A relay that refuses is wrong, one that listens is ok, and neither takes long.
func TestRelays(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	refuses := closed.Addr().String()
	if err := closed.Close(); err != nil {
		t.Fatal(err)
	}
	mail := func(name, server string) string {
		return fmt.Sprintf("         smtp[actname=%s, to=\"a@example.org\", from=\"b@example.org\", relay=\"%s\", tls=none]\n", name, server)
	}
	b := newBench(t, oneJail+"action = %(action_)s\n"+mail("good", l.Addr().String())+mail("bad", refuses))
	b.lookAtTelling(t.Context())
	b.says("wrong: bad: "+refuses+" is not reached: connect: connection refused | is name and port right",
		"ok: good: "+l.Addr().String()+" takes connections")
}

func TestSendmailThatChangesItsGroup(t *testing.T) {
	b := newBench(t, oneJail)
	program := filepath.Join(b.dir, "sendmail")
	b.write(b.dir, "sendmail", "#!/bin/sh\n")
	if err := os.Chmod(program, 0o755|os.ModeSetgid); err != nil {
		t.Fatal(err)
	}
	b.running, b.status.PID = true, 9
	for confined, want := range map[string]string{
		"0": "ok: mta: DIR/sendmail is there",
		"1": "wrong: mta: DIR/sendmail wants to change its group, and the daemon's unit forbids that (NoNewPrivileges) | NoNewPrivileges=no",
	} {
		b.write(b.root, "proc/9/status", "Name:\tbantam\nNoNewPrivs:\t"+confined+"\n")
		b.lookAtMail("mta", smtp.Config{Kind: smtp.MTA, Program: program})
		b.says(want)
	}
	b.lookAtMail("mta", smtp.Config{Kind: smtp.MTA, Program: filepath.Join(b.dir, "none")})
	b.says("wrong: mta: find DIR/none: … | then bantam notify test mta")
}

func TestCommandsUnderAStrictUnit(t *testing.T) {
	b := newBench(t, oneJail+"action = mine\n")
	b.write(b.dir, "action.d/mine.conf", "[Definition]\nactionban = true\nactionunban = true\n")
	cfg, _, err := daemon.Check(b.dir, library.FS)
	if err != nil {
		t.Fatal(err)
	}
	b.config, b.running, b.status.PID = cfg, true, 9
	for confined, want := range map[string][]string{
		"0": nil,
		"1": {"doubtful: actions of [sshd] are commands, and the daemon's unit gives them few privileges | packaging/systemd/shell-actions.conf"},
	} {
		b.write(b.root, "proc/9/status", "NoNewPrivs:\t"+confined+"\n")
		b.lookAtCommands()
		b.says(want...)
	}
}

func TestLettersThatWereRefused(t *testing.T) {
	b := newBench(t, oneJail)
	b.channels.Letters = []outbox.Letter{{Channel: "smtp", Failed: true, Err: "550 no"}, {Channel: "smtp"}, {Channel: "ntfy", Err: "timeout"}}
	b.channels.Channels = []notify.Status{{Channel: "slack", Trouble: "the token is gone"}}
	b.lookAtLetters()
	got := b.found()
	slices.Sort(got)
	if len(got) != 3 || !strings.HasPrefix(got[0], "doubtful: ntfy: 1 message waits and is tried again: timeout") ||
		!strings.HasPrefix(got[1], "wrong: slack: no messages are written: the token is gone") ||
		!strings.HasPrefix(got[2], "wrong: smtp: 1 message was refused for good: 550 no") {
		t.Errorf("it says %q", got)
	}
}

func TestPrefixesThatCoverEverybody(t *testing.T) {
	for _, tt := range []struct {
		words string
		want  string
	}{
		{"127.0.0.1/8 ::1 example.org file:/x", ""},
		{"10.0.0.0/8 0.0.0.0/0", "0.0.0.0/0"},
		{"128.0.0.0/1", "128.0.0.0/1"},
		{"2000::/3", "2000::/3"},
		{"2001:db8::/32", ""},
	} {
		p, is := covers(strings.Fields(tt.words))
		if is != (tt.want != "") || is && p.String() != tt.want {
			t.Errorf("of %q it is %s", tt.words, p)
		}
	}
}

func TestActionsInTrouble(t *testing.T) {
	b := newBench(t, oneJail)
	b.status.Actions = append(b.status.Actions, actionStatus("sshd/mail", 2, 0, "exit status 1"), actionStatus("bantam", 0, 7, "no buffer space"), actionStatus("sshd/x", 0, 0, ""))
	b.lookAtActions()
	b.says("wrong: the action sshd/mail fails for 2 offenders and tries again: exit status 1",
		"wrong: the action bantam hangs, 7 decisions waiting: no buffer space")
}

// Whatever a line holds, looking at it neither panics nor takes long.
func FuzzEndOfALog(f *testing.F) {
	f.Add([]byte("Mar  2 10:15:04 gate sshd[812]: Failed password for root from 192.0.2.7 port 4022 ssh2\n"))
	f.Add([]byte("\n\n{\"log\":\"\n"))
	rules, err := filter.Compile(filter.Config{Jail: "x", Failregex: []string{`^\s*\S+ from <HOST>`}})
	if err != nil {
		f.Fatal(err)
	}
	path := filepath.Join(f.TempDir(), "log")
	f.Fuzz(func(t *testing.T, text []byte) {
		if len(text) > 64<<10 {
			return
		}
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
		lines, written, err := tail(path)
		if err != nil || len(lines) > sampleLines {
			t.Fatalf("%d lines, %v", len(lines), err)
		}
		if got := read(rules, lines, written); got.lines != len(lines) || got.dated > got.lines || got.matched > got.lines {
			t.Errorf("of %d lines: %+v", len(lines), got)
		}
	})
}

// A look at nothing at all ends, and says that it is nothing.
func TestExamineWithoutAnything(t *testing.T) {
	dir := t.TempDir()
	r := Examine(context.Background(), Options{Config: filepath.Join(dir, "none"), Named: true, Library: library.FS, Socket: filepath.Join(dir, "s")})
	if r.Wrong < 2 {
		t.Errorf("it finds %+v", r)
	}
}

// What it costs to look at the end of one log for one jail.
func BenchmarkEndOfALog(b *testing.B) {
	rules, err := filter.Compile(filter.Config{Jail: "x", Failregex: []string{`^\s*\S+ sshd\[\d+\]: Failed password for \S+ from <HOST>`}})
	if err != nil {
		b.Fatal(err)
	}
	now := time.Now()
	path := filepath.Join(b.TempDir(), "log")
	line := now.Format(time.Stamp) + " gate sshd[812]: Failed password for root from 192.0.2.7 port 4022 ssh2\n"
	if err := os.WriteFile(path, []byte(strings.Repeat(line, 2*sampleLines)), 0o600); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		lines, written, err := tail(path)
		if err != nil {
			b.Fatal(err)
		}
		if f := read(rules, lines, written); f.matched != sampleLines {
			b.Fatalf("of %d lines %d match", f.lines, f.matched)
		}
	}
}
