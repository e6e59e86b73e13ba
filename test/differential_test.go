package test

import (
	"bytes"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"bantam/internal/peertest"
)

var (
	histories   = flag.Int("histories", 10, "how many random histories both daemons judge")
	historySeed = flag.Uint64("histories.seed", uint64(time.Now().UnixNano()), "what the histories are drawn from")
)

// atOnce is how many histories one run of the daemons judges, each in a jail of its own.
const atOnce = 50

// Random histories written for both daemons, some before they start and some while they run, lead
// to the same lines Found, Ban, Unban and, after a restart, Restore Ban in their logs.
func TestTheOriginalsDecisions(t *testing.T) {
	tree := peertest.Tree(t)
	t.Logf("-histories.seed=%d", *historySeed)
	chance := rand.New(rand.NewPCG(*historySeed, 0))
	for left := *histories; left > 0; left -= atOnce {
		compareDaemons(t, tree, chance, min(left, atOnce))
	}
}

// A history is what happens to one jail.
type history struct {
	jail      string
	options   string
	old, live []string // lines of before the daemons start, and of when they run
	marks     [2]string
}

// The filters of the histories: one whose lines stand alone, and one with sessions.
var historyFilters = map[string]string{
	"plain.conf": `[Definition]
failregex = ^\s*fail <HOST>$
            ^\s*fail <HOST> user <F-USER>\S+</F-USER>$
ignoreregex = ^\s*fail \S+ user friend$
`,
	"session.conf": `[Definition]
prefregex = ^\s*s<F-MLFID>\d+</F-MLFID>: <F-CONTENT>.+</F-CONTENT>$
failregex = ^<F-NOFAIL>connect</F-NOFAIL> from <HOST>$
            ^bad password for <F-USER>\S+</F-USER>$
            ^bad password for <F-USER>\S+</F-USER> from <HOST>$
            ^<F-NOFAIL>welcome</F-NOFAIL> <F-USER>\S+</F-USER> from <HOST>$
            ^<F-NOFAIL><F-MLFFORGET>closed</F-MLFFORGET></F-NOFAIL> from <HOST>$
`,
}

const historyStamp = "2006-01-02 15:04:05"

// newHistory draws a history that is played around now.
func newHistory(chance *rand.Rand, n int, now time.Time) history {
	h := history{jail: fmt.Sprintf("h%03d", n)}
	session := chance.IntN(3) == 0
	filter := "plain"
	if session {
		filter = "session"
	}
	pick := func(choices ...string) string { return choices[chance.IntN(len(choices))] }
	bantime := pick("20", "7200", "86400", "-1")
	h.options = fmt.Sprintf("filter = %s\nmaxretry = %d\nfindtime = %s\nbantime = %s\n", filter, 1+chance.IntN(6), pick("3600", "2h"), bantime)
	if bantime == "7200" && chance.IntN(2) == 0 {
		h.options += "bantime.increment = true\n" + pick("", "bantime.factor = 2\n", "bantime.multipliers = 1 5 30\n", "bantime.maxtime = 3h\n")
	}
	if chance.IntN(3) == 0 {
		h.options += "ignoreip = " + pick("192.0.2.1", "192.0.2.0/30", "2001:db8::/64", "192.0.2.2 2001:db8::1") + "\n"
	}
	addrs := []string{"192.0.2.1", "192.0.2.2", "192.0.2.9", "198.51.100.7", "2001:db8::1", "2001:0db8:0000::0001", "2001:db8:1::2", "::ffff:192.0.2.9"}
	line := func(at time.Time) string {
		a, user := addrs[chance.IntN(len(addrs))], pick("root", "admin", "friend", "x")
		text := pick("fail "+a, "fail "+a, "fail "+a+" user "+user, "nothing "+a)
		if session {
			text = fmt.Sprintf("s%d: ", chance.IntN(4)) + pick("connect from "+a, "bad password for "+user, "bad password for "+user+" from "+a,
				"welcome "+user+" from "+a, "closed from "+a, "nothing")
		}
		return at.Format(historyStamp) + " " + text + "\n"
	}
	at := now.Add(-50 * time.Minute)
	for range 5 + chance.IntN(60) {
		if at = at.Add(time.Duration(chance.IntN(45)) * time.Second); at.After(now.Add(-2 * time.Minute)) {
			break
		}
		late := time.Duration(0)
		if chance.IntN(6) == 0 {
			late = time.Duration(chance.IntN(20)) * time.Second // out of order
		}
		h.old = append(h.old, line(at.Add(-late)))
	}
	mark := func(i int, at time.Time) string {
		h.marks[i] = fmt.Sprintf("[%s] Found 203.0.113.%d", h.jail, i+1)
		if session {
			return fmt.Sprintf("%s s9%d: bad password for x from 203.0.113.%d\n", at.Format(historyStamp), i, i+1)
		}
		return fmt.Sprintf("%s fail 203.0.113.%d\n", at.Format(historyStamp), i+1)
	}
	h.old = append(h.old, mark(0, at))
	for range chance.IntN(15) {
		h.live = append(h.live, line(now))
	}
	h.live = append(h.live, mark(1, now))
	return h
}

// A side is one of the daemons in its folder.
type side struct {
	*testing.T
	name, dir string
	start     func() *exec.Cmd
	cmd       *exec.Cmd
	out       bytes.Buffer
}

func newSide(t *testing.T, name string, all []history) *side {
	t.Helper()
	s := &side{T: t, name: name, dir: t.TempDir()}
	for _, sub := range []string{"conf/filter.d", "conf/action.d", "logs"} {
		s.must(os.MkdirAll(filepath.Join(s.dir, sub), 0o700))
	}
	jails := "[DEFAULT]\nbackend = polling\nusedns = no\nignoreself = false\naction = nothing\nenabled = true\n" +
		"[recidive]\nlogpath = DIR/daemon.log\nbantime = 1w\nfindtime = 1d\nmaxretry = 2\n"
	for _, h := range all {
		jails += fmt.Sprintf("[%s]\nlogpath = DIR/logs/%s\n%s", h.jail, h.jail, h.options)
		s.write("logs/"+h.jail, strings.Join(h.old, ""))
	}
	for name, text := range historyFilters {
		s.write("conf/filter.d/"+name, text)
	}
	s.write("conf/action.d/nothing.conf", "[Definition]\nactionban =\nactionunban =\n")
	s.write("conf/jail.conf", jails)
	s.write("conf/fail2ban.conf", "[Definition]\nloglevel = INFO\nlogtarget = DIR/daemon.log\nsyslogsocket = auto\nsocket = DIR/sock\npidfile = DIR/pid\ndbfile = DIR/db\ndbpurgeage = 1d\n")
	s.write("daemon.log", "")
	return s
}

func (s *side) must(err error) {
	s.Helper()
	if err != nil {
		s.Fatal(s.name, err)
	}
}

func (s *side) write(name, text string) {
	s.Helper()
	s.must(os.WriteFile(filepath.Join(s.dir, name), []byte(strings.ReplaceAll(text, "DIR", s.dir)), 0o600))
}

func (s *side) log() string {
	s.Helper()
	b, err := os.ReadFile(filepath.Join(s.dir, "daemon.log"))
	s.must(err)
	return string(b)
}

// until waits until the log has what done looks for.
func (s *side) until(what string, done func(log string) bool) {
	s.Helper()
	give := time.After(time.Minute)
	look := time.NewTicker(100 * time.Millisecond)
	defer look.Stop()
	for !done(s.log()) {
		select {
		case <-look.C:
		case <-give:
			s.Fatalf("%s: %s never came: %.3000s", s.name, what, s.out.String()+s.log())
		}
	}
}

func (s *side) run(start func(*exec.Cmd) error) {
	s.Helper()
	s.cmd = s.start()
	s.cmd.Stdout, s.cmd.Stderr = &s.out, &s.out
	s.must(start(s.cmd))
}

func (s *side) stop() {
	s.Helper()
	s.must(s.cmd.Process.Signal(os.Interrupt))
	_ = s.cmd.Wait() // how it ended is in its log
}

func compareDaemons(t *testing.T, tree string, chance *rand.Rand, n int) {
	t.Helper()
	host := newHost(t, "") // a network to stay in
	now := time.Now()
	var all []history
	for i := range n {
		all = append(all, newHistory(chance, i, now))
	}
	ours, theirs := newSide(t, "Bantam", all), newSide(t, "Fail2Ban", all)
	recidive, err := os.ReadFile(filepath.Join(tree, "etc/fail2ban/filter.d/recidive.conf"))
	ours.must(err)
	common, err := os.ReadFile(filepath.Join(tree, "etc/fail2ban/filter.d/common.conf"))
	ours.must(err)
	for _, s := range []*side{ours, theirs} {
		s.write("conf/filter.d/recidive.conf", string(recidive))
		s.write("conf/filter.d/common.conf", string(common))
		jails := filepath.Join(s.dir, "conf/jail.conf")
		text, err := os.ReadFile(jails)
		s.must(err)
		s.must(os.WriteFile(jails, bytes.Replace(text, []byte("[recidive]\n"), []byte("[recidive]\nfilter = recidive\n"), 1), 0o600))
	}
	ours.start = func() *exec.Cmd {
		return exec.Command(program, "run", "-c", filepath.Join(ours.dir, "conf"), "--socket", filepath.Join(ours.dir, "api"))
	}
	theirs.start = func() *exec.Cmd {
		cmd := exec.Command(peertest.Python(), "-B", filepath.Join(tree, "usr/bin/fail2ban-server"), "-c", filepath.Join(theirs.dir, "conf"), "-f", "start")
		cmd.Env = append(os.Environ(), "PYTHONPATH="+peertest.Modules(tree))
		return cmd
	}
	sides := []*side{ours, theirs}
	for _, s := range sides {
		s.run(host.net.Start)
		t.Cleanup(func() {
			if s.cmd.ProcessState == nil {
				_ = s.cmd.Process.Kill()
				_ = s.cmd.Wait()
			}
		})
	}
	marked := func(i int) {
		t.Helper()
		for _, s := range sides {
			for _, h := range all {
				s.until(h.marks[i], func(log string) bool { return strings.Contains(log, h.marks[i]) })
			}
		}
	}
	marked(0)
	live := time.Now()
	for _, h := range all {
		text := strings.ReplaceAll(strings.Join(h.live, ""), now.Format(historyStamp), live.Format(historyStamp))
		for _, s := range sides {
			f, err := os.OpenFile(filepath.Join(s.dir, "logs", h.jail), os.O_APPEND|os.O_WRONLY, 0)
			s.must(err)
			_, err = f.WriteString(text)
			s.must(err)
			s.must(f.Close())
		}
	}
	marked(1)
	// Short bans end.
	for _, s := range sides {
		s.until("the end of short bans", func(log string) bool {
			for _, h := range all {
				if strings.Contains(h.options, "bantime = 20\n") && strings.Count(log, "["+h.jail+"] Ban ") > strings.Count(log, "["+h.jail+"] Unban ") {
					return false
				}
			}
			return true
		})
	}
	// The original looks once a second whom to ban. If the bans never are as many, the comparison says which are missing.
	enough := time.Now().Add(30 * time.Second)
	theirs.until("as many bans", func(log string) bool {
		return strings.Count(log, "] Ban ") >= strings.Count(ours.log(), "] Ban ") || time.Now().After(enough)
	})
	compareLogs(t, all, ours, theirs, "Found", "Ban", "Unban")
	running := strings.Count(theirs.log(), "] Ban ") - strings.Count(theirs.log(), "] Unban ")
	for _, s := range sides {
		s.stop()
		s.write("daemon.log", "")
		s.run(host.net.Start)
	}
	for _, s := range sides {
		s.until("its bans", func(log string) bool { return strings.Count(log, " Restore Ban ") >= running })
	}
	for _, s := range sides {
		s.stop()
	}
	compareLogs(t, all, ours, theirs, "Restore Ban")
}

// compareLogs compares lines of the two daemons' logs, jail by jail.
func compareLogs(t *testing.T, all []history, ours, theirs *side, kinds ...string) {
	t.Helper()
	jails := []string{"recidive"}
	for _, h := range all {
		jails = append(jails, h.jail)
	}
	lines, differ := 0, 0
	logs := [2]string{ours.log(), theirs.log()}
	for n, jail := range jails {
		for _, kind := range kinds {
			var found [2][]string
			about := regexp.MustCompile(`(?m)^.*\[` + jail + `\] (` + kind + ` .*)$`)
			for i, log := range logs {
				for _, m := range about.FindAllStringSubmatch(log, -1) {
					if !strings.Contains(m[1], ", bad - ") {
						found[i] = append(found[i], m[1])
					}
				}
			}
			if jail == "recidive" || kind == "Unban" || kind == "Restore Ban" {
				// In what order jails wrote, or bans of one second end, is nobody's decision.
				slices.Sort(found[0])
				slices.Sort(found[1])
			}
			if jail == "recidive" && kind == "Found" {
				found = [2][]string{} // its times are those of the logs
			}
			lines += len(found[1])
			if !slices.Equal(found[0], found[1]) {
				differ++
				history := history{}
				if n > 0 {
					history = all[n-1]
				}
				t.Errorf("%s %s:\nBantam   %q\nFail2Ban %q\n%s%s", jail, kind, found[0], found[1], history.options, strings.Join(append(history.old, history.live...), ""))
			}
		}
	}
	t.Logf("%d histories, %d lines %v, %d differences", len(all), lines, kinds, differ)
	if lines < len(all) && kinds[0] == "Found" {
		t.Errorf("only %d lines were compared", lines)
	}
}
