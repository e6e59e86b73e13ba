package test

import (
	"encoding/json"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"bantam/internal/doctor"
	"bantam/internal/peertest"
)

// output runs a command in the host's network and returns what it prints and its exit code.
func (h *host) output(cmd *exec.Cmd) (string, int) {
	h.Helper()
	var out strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &out
	h.check(h.net.Start(cmd))
	_ = cmd.Wait() // the exit code says it
	return out.String(), cmd.ProcessState.ExitCode()
}

// does runs a command in the host's network that must work.
func (h *host) does(name string, args ...string) {
	h.Helper()
	if out, code := h.output(exec.Command(name, args...)); code != 0 {
		h.Fatalf("%s %s ended with %d:\n%s", name, strings.Join(args, " "), code, out)
	}
}

// A finding is a report of doctor, and its exit code.
type finding struct {
	*testing.T
	doctor.Report
	code int
}

func (h *host) examine(args ...string) finding {
	h.Helper()
	out, code := h.output(h.command(append([]string{"doctor", "--json"}, args...)...))
	f := finding{T: h.T, code: code}
	if err := json.Unmarshal([]byte(out), &f.Report); err != nil {
		h.Fatalf("doctor prints no report: %v\n%s", err, out)
	}
	if (code != 0) != (f.Wrong > 0) {
		h.Errorf("the exit code is %d with %d wrong", code, f.Wrong)
	}
	return f
}

// has wants a check with a state and some texts in it or its fix.
func (f finding) has(state doctor.State, texts ...string) {
	f.Helper()
next:
	for _, c := range f.Checks {
		for _, text := range texts {
			if !strings.Contains(c.Text+"\n"+c.Fix, text) {
				continue next
			}
		}
		if c.State != state {
			f.Errorf("it is %s, not %s: %s", c.State, state, c.Text)
		}
		return
	}
	f.Errorf("nothing says %q:\n%s", texts, f)
}

// lacks wants no check with a text in it.
func (f finding) lacks(text string) {
	f.Helper()
	for _, c := range f.Checks {
		if strings.Contains(c.Text, text) {
			f.Errorf("it says %s: %s", c.State, c.Text)
		}
	}
}

func (f finding) String() string {
	var b strings.Builder
	for _, c := range f.Checks {
		b.WriteString(string(c.State) + ": " + c.Text + "\n\t" + c.Fix + "\n")
	}
	return b.String()
}

const soundJail = `[DEFAULT]
ignoreself = false
[sshd]
enabled = true
logpath = DIR/auth.log
port = 22,2200:2210
`

// On a host where all is well doctor says so, proves the ban of each jail, and fits 80 columns.
func TestDoctorOnASoundHost(t *testing.T) {
	h := newHost(t, soundJail)
	h.start().ready()
	h.log("auth.log", strings.Repeat(failed(netip.MustParseAddr("192.0.2.7")), 5)+strings.Repeat(failed(netip.MustParseAddr("2001:db8:7::7")), 5))
	h.until("both are banned", func() bool { return len(h.banned("sshd")) == 2 })
	f := h.examine()
	if f.Wrong != 0 || f.code != 0 {
		t.Errorf("something is wrong:\n%s", f)
	}
	f.has(doctor.OK, "bantam 0.1.0 runs (pid ")
	f.has(doctor.OK, "[sshd]: "+filepath.Join(h.dir, "auth.log")+", 10 lines read")
	f.has(doctor.OK, "the database "+filepath.Join(h.dir, "bantam.db")+" is sound")
	f.has(doctor.OK, "192.0.2.7 (sshd) is dropped at prerouting -300 by inet bantam", "tcp 22, tcp 2200, tcp 2210")
	f.has(doctor.OK, "2001:db8:7:: (sshd) is dropped at prerouting -300 by inet bantam")
	f.has(doctor.OK, "sets without a bound")

	f = h.examine("2001:db8:7::77")
	f.has(doctor.OK, "2001:db8:7::77 (sshd) is dropped")
	f.lacks("192.0.2.7")
	h.examine("192.0.2.8").has(doctor.Doubtful, "192.0.2.8 is not banned")

	out, code := h.output(h.command("doctor"))
	if code != 0 || !strings.Contains(out, "\nNothing is wrong") {
		t.Errorf("it ends with %d:\n%s", code, out)
	}
	for line := range strings.Lines(out) {
		if line = strings.TrimSuffix(line, "\n"); utf8.RuneCountInString(line) > 80 && strings.Contains(strings.TrimSpace(line), " ") && !strings.Contains(line, h.dir) {
			t.Errorf("a line is wider than 80 columns: %q", line)
		}
	}
	t.Log("\n" + out)
}

// Each thing that can be wrong with what the daemon reads and tells is named with a way on, and nothing else is.
func TestDoctorNamesWhatIsWrong(t *testing.T) {
	h := newHost(t, `[DEFAULT]
ignoreself = false
action = %(action_)s
[sshd]
enabled = true
logpath = DIR/auth.log
[gone]
enabled = true
filter = sshd
logpath = DIR/authorization.log
[zone]
enabled = true
filter = sshd
logpath = DIR/zone.log
[form]
enabled = true
filter = sshd
logpath = DIR/form.log
[nobody]
enabled = true
filter = sshd
logpath = DIR/auth.log
ignoreip = 0.0.0.0/0
[seconds]
enabled = true
filter = sshd
logpath = DIR/auth.log
bantime = 10
ignoreip = gate.example.org
[watcher]
enabled = true
filter = sshd
logpath = DIR/auth.log
observe = true
[told]
enabled = true
filter = sshd
logpath = DIR/auth.log
action = %(action_)s
         smtp[to="you@example.org", from="me@example.org", relay="127.0.0.1:9", tls=none]
[broken]
enabled = true
filter = sshd
logpath = DIR/auth.log
findtime = 10x
`)
	h.write("zone.log", "")
	h.write("form.log", "")
	h.start().ready()
	h.until("the logs are followed", func() bool {
		f := h.examine()
		return strings.Contains(f.String(), "[zone]: ") && strings.Contains(f.String(), "[form]: ") && !strings.Contains(f.String(), "catching up")
	})
	h.log("auth.log", failed(netip.MustParseAddr("192.0.2.7")))
	h.log("zone.log", strings.Replace(failed(netip.MustParseAddr("192.0.2.7")), time.Now().Format(time.Stamp), time.Now().Add(-2*time.Hour).Format(time.Stamp), 1))
	h.log("form.log", strings.Repeat("an unknown service says that something went wrong for 192.0.2.7\n", 20))
	h.until("the lines are read", func() bool { return strings.Contains(h.examine().String(), "form.log, 20 lines read") })

	f := h.examine()
	f.has(doctor.Wrong, "[gone] waits for "+filepath.Join(h.dir, "authorization.log"), "is it one of "+filepath.Join(h.dir, "auth.log")+"?")
	_, offset := time.Now().Zone()
	zone := time.Now().In(time.FixedZone("", offset-2*3600)).Format("-0700")
	f.has(doctor.Wrong, "[zone] the stamps in "+filepath.Join(h.dir, "zone.log")+" are 2h 0m behind the clock", "logtimezone = UTC"+zone+" in [zone]")
	f.has(doctor.Wrong, "[form] finds no date in the lines of "+filepath.Join(h.dir, "form.log"), "bantam regex ")
	f.has(doctor.Wrong, "[nobody] can ban nobody: ignoreip has 0.0.0.0/0")
	f.has(doctor.Wrong, "smtp: 127.0.0.1:9 is not reached: connect: connection refused", "bantam notify test")
	f.has(doctor.Wrong, "[broken] is set aside: ", "findtime")
	f.has(doctor.Wrong, "the name gate.example.org is not found, which the configuration needs", "/etc/resolv.conf")
	f.has(doctor.Doubtful, "[seconds] bans for 10s only")
	f.has(doctor.Doubtful, "[watcher] only observes")
	f.has(doctor.Doubtful, "nobody is banned, so that nothing is proved", "--prove")
	f.lacks("[sshd] finds no date")
	f.lacks("[sshd] the stamps")

	// Nobody is shut out whom the allow list has.
	h.run("allow", "add", "::/0")
	h.examine().has(doctor.Wrong, "nobody can be banned: the allow list has ::/0", "bantam allow remove ::/0")
}

// --prove bans an address of nobody, proves it, and leaves nothing behind.
func TestDoctorProvesAndLifts(t *testing.T) {
	h := newHost(t, soundJail)
	h.start().ready()
	f := h.examine("--prove")
	f.has(doctor.OK, "198.51.100.250 (manual) is dropped at prerouting -300 by inet bantam")
	f.has(doctor.OK, "2001:db8:bad:cafe::250 (manual) is dropped at prerouting -300 by inet bantam")
	if bans := h.bans(); len(bans) != 0 || len(h.banned("manual")) != 0 {
		t.Errorf("it leaves %v", bans)
	}
}

// A rule of somebody else's that accepts before the jump of a stock action is named, with the command that mends it.
func TestDoctorNamesAForeignRuleInFront(t *testing.T) {
	if _, err := exec.LookPath("iptables"); err != nil {
		peertest.Without(t, "iptables is not installed")
	}
	h := stockHost(t, "[DEFAULT]\nignoreself = false\n[sshd]\nenabled = true\nbackend = polling\nlogpath = DIR/auth.log\n")
	attacker := netip.MustParseAddr("192.0.2.7")
	client, err := h.net.AddClient("client", netip.PrefixFrom(attacker, 24))
	h.check(err)
	h.echo()
	h.start().ready()
	h.log("auth.log", strings.Repeat(failed(attacker), 5))
	h.until("the client is shut out", func() bool { return !h.connects(client, attacker) })
	h.does("iptables", "-I", "INPUT", "-i", "lo", "-j", "ACCEPT") // as most firewalls begin
	f := h.examine()
	f.has(doctor.OK, "192.0.2.7 (sshd) is dropped at input 0 by ip filter chain f2b-sshd")
	f.lacks("assumed")

	h.does("iptables", "-I", "INPUT", "-p", "tcp", "--dport", "22", "-j", "ACCEPT")
	if !h.connects(client, attacker) {
		t.Fatal("the rule in front lets nobody through")
	}
	f = h.examine()
	f.has(doctor.Wrong, "192.0.2.7 (sshd) passes to tcp 22", "table ip filter chain INPUT", "lets it through before chain f2b-sshd drops it",
		"move the jump to the top: iptables -I INPUT -p tcp --dport 22 -j f2b-sshd")
	h.does("iptables", "-I", "INPUT", "-p", "tcp", "--dport", "22", "-j", "f2b-sshd")
	if h.connects(client, attacker) {
		t.Error("the command of the fix mends nothing")
	}
	h.examine().has(doctor.OK, "192.0.2.7 (sshd) is dropped at input 0")
}

// A port that is redirected to another machine, as those of containers are, is reached past the input chain.
func TestDoctorNamesAForwardedPort(t *testing.T) {
	if _, err := exec.LookPath("iptables"); err != nil {
		peertest.Without(t, "iptables is not installed")
	}
	h := stockHost(t, "[DEFAULT]\nignoreself = false\n[sshd]\nenabled = true\nbackend = polling\nlogpath = DIR/auth.log\n")
	_, err := h.net.AddClient("client", netip.MustParsePrefix("192.0.2.7/24"))
	h.check(err)
	h.start().ready()
	h.log("auth.log", strings.Repeat(failed(netip.MustParseAddr("192.0.2.7")), 5))
	h.until("the client is banned", func() bool { return len(h.bans()) == 1 })
	h.does("iptables", "-t", "nat", "-A", "PREROUTING", "-p", "tcp", "--dport", "22", "-j", "DNAT", "--to-destination", "192.0.2.200:22")
	h.examine().has(doctor.Wrong, "192.0.2.7 (sshd) passes to tcp 22: table ip nat chain PREROUTING, rule", "redirects it, so that chain f2b-sshd does not see it", "banaction = bantam in [sshd]")
}

// Who only observes is told so, and that is not wrong.
func TestDoctorOfAnObserver(t *testing.T) {
	h := newHost(t, strings.Replace(soundJail, "[sshd]", "observe = true\n[sshd]", 1))
	h.start().ready()
	f := h.examine()
	f.has(doctor.Doubtful, "it only observes: nobody is banned", "bantam enforce")
	if f.Wrong != 0 {
		t.Errorf("something is wrong:\n%s", f)
	}
}

// Without privilege it says what it cannot see, and calls nothing wrong that it has not seen.
func TestDoctorWithoutPrivilege(t *testing.T) {
	if _, err := exec.LookPath("setpriv"); err != nil {
		peertest.Without(t, "setpriv is not installed")
	}
	h := newHost(t, soundJail)
	for _, dir := range []string{h.dir, filepath.Dir(h.dir)} {
		h.check(os.Chmod(dir, 0o755))
	}
	h.check(os.Chmod(filepath.Join(h.dir, "jail.local"), 0o644))
	h.check(os.Chmod(filepath.Join(h.dir, "bantam.conf"), 0o644))
	h.start().ready()
	cmd := h.command("doctor", "--json")
	cmd.Args = append([]string{"setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"}, cmd.Args...)
	out, code := h.output(exec.Command(cmd.Args[0], cmd.Args[1:]...))
	f := finding{T: t, code: code}
	if err := json.Unmarshal([]byte(out), &f.Report); err != nil {
		t.Fatalf("doctor prints no report: %v\n%s", err, out)
	}
	if f.Wrong != 0 || code != 0 {
		t.Errorf("it calls things wrong:\n%s", f)
	}
	f.has(doctor.Doubtful, "the daemon does not tell: ", "use sudo")
	f.has(doctor.Doubtful, "[sshd]: "+filepath.Join(h.dir, "auth.log")+" cannot be read without privilege")
	f.has(doctor.Doubtful, "what is in the database "+filepath.Join(h.dir, "bantam.db")+" cannot be seen without privilege")
	f.has(doctor.Doubtful, "what the kernel drops cannot be seen without privilege", "sudo bantam doctor")
}

// Without a daemon it says so, looks at what there is, and takes a socket away that was left behind.
func TestDoctorWithoutADaemon(t *testing.T) {
	h := newHost(t, soundJail)
	h.start().ready().kill()
	socket := filepath.Join(h.dir, "s")
	f := h.examine()
	f.has(doctor.Wrong, "no daemon runs: it left the socket "+socket+" behind", "bantam run")
	f.has(doctor.OK, "[sshd]: "+filepath.Join(h.dir, "auth.log")+" is there")
	f.has(doctor.OK, "the database "+filepath.Join(h.dir, "bantam.db")+" is sound")
	if _, err := os.Lstat(socket); err != nil {
		t.Errorf("without --fix the socket is gone: %v", err)
	}
	h.check(os.WriteFile(filepath.Join(h.dir, "bantam.db"), []byte(strings.Repeat("no database\n", 1000)), 0o600))
	h.check(os.Remove(filepath.Join(h.dir, "bantam.db-wal")))
	f = h.examine("--fix")
	f.has(doctor.Wrong, "the database "+filepath.Join(h.dir, "bantam.db")+" is not sound: ")
	if _, err := os.Lstat(socket); err == nil {
		t.Errorf("--fix leaves the socket:\n%s", f)
	}
	h.examine().has(doctor.Wrong, "no daemon runs: nobody answers on "+socket)
}
