package test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"bantam/internal/control"
	"bantam/internal/peertest"
	"bantam/internal/setup"
)

// observing is a configuration as setup leaves it when it was asked.
const observing = setup.Header + `, for a test.

[DEFAULT]

# Nobody is banned yet: bantam enforce takes these lines out.
observe = true

# Never banned:
ignoreip = 192.0.2.1

` + lifeJail

// state is what the daemon says of itself.
func (h *host) state() control.Status {
	h.Helper()
	st, err := control.Call(h.Context(), h.client, control.GetStatus, control.None{})
	h.check(err)
	return st
}

// What was only observed is carried out on trial, and undone when nobody confirms it, be it that the time is up, that
// the daemon is killed, or that somebody says so. Confirmed it stays, also after a restart.
func TestEnforceIsUndoneUnlessConfirmed(t *testing.T) {
	h := newHost(t, observing)
	client, err := h.net.AddClient("client", netip.MustParsePrefix("192.0.2.7/24"))
	h.check(err)
	h.echo()
	attacker, second := netip.MustParseAddr("192.0.2.7"), netip.MustParseAddr("192.0.2.8")
	passes := func(what string) {
		t.Helper()
		if !h.connects(client, attacker) {
			t.Errorf("%s: the attacker's packets are dropped", what)
		}
	}
	p := h.start().ready()
	h.log("auth.log", strings.Repeat(failed(attacker), 5))
	h.until("the attacker is decided on", func() bool { return len(h.bans()) == 1 })
	passes("observing")

	if out := h.run("enforce", "--for", "1h"); !strings.Contains(out, "bantam enforce --confirm") {
		t.Errorf("enforce says %q", out)
	}
	h.until("the observed ban is carried out", func() bool { return len(h.banned("sshd")) == 1 })
	if h.connects(client, attacker) {
		t.Error("on trial: the attacker's packets pass")
	}
	if out := h.run("status"); !strings.Contains(out, "enforcing on trial, 3600 s left: bantam enforce --confirm") && !strings.Contains(out, "enforcing on trial, 359") {
		t.Errorf("status says %q", out)
	}
	h.log("auth.log", strings.Repeat(failed(second), 5))
	h.until("a new attacker is banned, too", func() bool { return len(h.banned("sshd")) == 2 })

	h.run("enforce", "--for", "1s") // from now on
	h.until("the trial is over", func() bool { return h.state().Trial == nil })
	passes("the trial is over")
	if st := h.state(); st.Firewall != "" || len(h.bans()) != 0 {
		t.Errorf("after the trial: firewall %q, bans %v", st.Firewall, h.bans())
	}
	if out, err := h.command("enforce", "--confirm").CombinedOutput(); err == nil || !strings.Contains(string(out), "there is no trial") {
		t.Errorf("a confirmation that comes too late: %v, %s", err, out)
	}

	// Killed in a trial, it observes again.
	h.log("auth.log", strings.Repeat(failed(attacker), 5))
	h.until("the attacker is decided on again", func() bool { return len(h.bans()) == 1 })
	h.run("enforce")
	h.until("the ban is carried out", func() bool { return len(h.banned("sshd")) == 1 })
	p.kill()
	p = h.start().ready()
	passes("after a kill in a trial")
	if st := h.state(); st.Firewall != "" || st.Trial != nil {
		t.Errorf("after a kill in a trial: firewall %q, trial %v", st.Firewall, st.Trial)
	}

	// Ended at once, and at last confirmed.
	h.run("enforce")
	h.until("the ban is carried out once more", func() bool { return len(h.banned("sshd")) == 1 })
	h.run("enforce", "--undo")
	passes("after --undo")
	h.log("auth.log", strings.Repeat(failed(attacker), 5))
	h.until("the attacker is decided on once more", func() bool { return len(h.bans()) == 1 })
	h.run("enforce")
	h.run("enforce", "--confirm")
	file, err := os.ReadFile(filepath.Join(h.dir, "jail.local"))
	h.check(err)
	if want := strings.ReplaceAll(strings.Replace(observing, "# Nobody is banned yet: bantam enforce takes these lines out.\nobserve = true\n\n", "", 1), "DIR", h.dir); string(file) != want {
		t.Errorf("the file is\n%s\nwant\n%s", file, want)
	}
	if h.connects(client, attacker) {
		t.Error("confirmed: the attacker's packets pass")
	}
	p.terminate()
	p = h.start().ready()
	if st := h.state(); st.Firewall == "" || h.connects(client, attacker) {
		t.Errorf("after a restart the firewall is %q", st.Firewall)
	}
	p.terminate()
}

// pty makes a terminal: what is written to the one end is typed at the other.
func pty(t *testing.T) (person, program *os.File) {
	t.Helper()
	person, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skip("there are no terminals here: ", err)
	}
	t.Cleanup(func() { _ = person.Close() }) // it may be closed already
	number, err := unix.IoctlGetInt(int(person.Fd()), unix.TIOCGPTN)
	if err == nil {
		err = unix.IoctlSetPointerInt(int(person.Fd()), unix.TIOCSPTLCK, 0)
	}
	if err != nil {
		t.Fatal(err)
	}
	if program, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|unix.O_NOCTTY, 0); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = program.Close() })
	return person, program
}

// At a terminal enforce asks, and takes Enter for yes, n for no, and silence for no.
func TestEnforceAsksAtATerminal(t *testing.T) {
	h := newHost(t, observing)
	p := h.start().ready()
	asked := func(length, typed string) (string, error) {
		t.Helper()
		person, terminal := pty(t)
		if _, err := person.WriteString(typed); err != nil {
			t.Fatal(err)
		}
		cmd := h.command("enforce", "--for", length)
		cmd.Stdin = terminal
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	if out, err := asked("1h", "n\n"); err != nil || !strings.Contains(out, "Observing again; nobody is banned.") || h.state().Firewall != "" {
		t.Errorf("no: %v, %s", err, out)
	}
	if out, err := asked("1s", ""); err == nil || !strings.Contains(out, "not confirmed in time: it observes again") {
		t.Errorf("silence: %v, %s", err, out)
	}
	if st := h.state(); st.Firewall != "" {
		t.Errorf("after silence the firewall is %q", st.Firewall)
	}
	// Confirmed from another window, the question is answered.
	_, terminal := pty(t)
	cmd := h.command("enforce", "--for", "2s")
	cmd.Stdin = terminal
	out, err := cmd.StdoutPipe()
	h.check(err)
	h.check(cmd.Start())
	h.until("a trial has begun", func() bool { return h.state().Trial != nil })
	_, err = control.Call(t.Context(), h.client, control.Enforce, control.EnforceRequest{Confirm: true})
	h.check(err)
	said, err := io.ReadAll(out)
	h.check(err)
	if err := cmd.Wait(); err != nil || !strings.Contains(string(said), "Confirmed from elsewhere.") {
		t.Errorf("confirmed from elsewhere: %v, %s", err, said)
	}
	h.run("reload")
	if out, err := asked("1h", "\n"); err != nil || !strings.Contains(out, "Keep it? Enter or y for yes, n for no:") || !strings.Contains(out, "Enforcing: sshd.") {
		t.Errorf("Enter: %v, %s", err, out)
	}
	if st := h.state(); st.Firewall == "" || st.Trial != nil {
		t.Errorf("after Enter the firewall is %q, the trial %v", st.Firewall, st.Trial)
	}
	p.terminate()
}

// A line that has jails observe and is not setup's is named and left alone.
func TestEnforceLeavesAHumansFileAlone(t *testing.T) {
	h := newHost(t, "[DEFAULT]\nobserve = true\n"+lifeJail)
	p := h.start().ready()
	out, err := h.command("enforce", "--yes").CombinedOutput()
	if err == nil || !strings.Contains(string(out), "jail.local:2 says observe = true") || h.state().Firewall == "" {
		t.Errorf("enforce says %v, %s", err, out)
	}
	h.run("reload")
	if st := h.state(); st.Firewall != "" {
		t.Errorf("after the reload the firewall is %q", st.Firewall)
	}
	p.terminate()
}

// fresh is a machine on which nothing was configured.
func fresh(t *testing.T, files map[string]string) *guided {
	t.Helper()
	g := follow(t, world{}, files)
	if out, err := g.inside("sh", "-c", "rm -rf /etc/fail2ban/*").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return g
}

// A bare server with attackers in its log: the service that the package has started only observes; setup --yes writes,
// and the daemon that runs finds the new folder and bans.
func TestSetupProtectsABareServer(t *testing.T) {
	g := fresh(t, nil)
	client, err := g.net.AddClient("client", netip.MustParsePrefix("192.0.2.7/24"))
	g.check(err)
	g.echo()
	attacker := netip.MustParseAddr("192.0.2.7")
	p := g.startAs(g.inside(program, "run", "--observe-until-setup")).ready()
	g.log("/var/log/auth.log", strings.Repeat(failed(attacker), 5))
	g.until("the attacker is decided on", func() bool { return len(g.bans()) == 1 })
	if st := g.state(); st.Firewall != "" || !g.connects(client, attacker) {
		t.Errorf("before setup the firewall is %q", st.Firewall)
	}
	out, code := g.says("enforce")
	if code != 1 {
		t.Errorf("enforce ended with %d", code)
	}
	g.mustSay("enforce before setup", out, "there is no configuration yet", "sudo bantam setup")

	// What keeps setup from writing is said, and nothing is half done.
	nobody := g.inside("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", program, "setup", "--yes")
	refused, err := nobody.CombinedOutput()
	if err == nil {
		t.Error("setup works without privilege")
	}
	g.mustSay("setup without privilege", string(refused), "you may not write into /etc/bantam", "use sudo")
	full := g.inside("sh", "-c", "mount -t tmpfs -o size=4k disk /etc/bantam && ! dd if=/dev/zero of=/etc/bantam/full 2>/dev/null; "+program+" setup --yes; code=$?; ls -A /etc/bantam; umount /etc/bantam; exit $code")
	refused, err = full.CombinedOutput()
	if err == nil {
		t.Error("setup works with a full disk")
	}
	g.mustSay("setup with a full disk", string(refused), "no space left on device", "the disk is full: make room and try again", "\nfull\n")
	if strings.Contains(string(refused), ".setup-") || strings.Contains(string(refused), "/tmp") || strings.Contains(string(refused), "Written") {
		t.Errorf("with a full disk something is left:\n%s", refused)
	}

	out = g.does("setup", "--yes")
	g.mustSay("setup", out, " x sshd ", "Written: /etc/bantam/jail.local", "The daemon works by it.")
	g.mustSay("the file", g.text("/etc/bantam/jail.local"), setup.Header, "\n[sshd]\nenabled = true\n")
	if strings.Contains(g.text("/etc/bantam/jail.local"), "observe") {
		t.Error("setup --yes leaves the daemon observing")
	}
	g.until("the ban is carried out", func() bool { return !g.connects(client, attacker) })
	if st := g.state(); st.Config != "/etc/bantam" {
		t.Errorf("the daemon works by %q", st.Config)
	}

	// Once more: nothing changes.
	before := g.text("/etc/bantam/jail.local")
	g.mustSay("setup, the second time", g.does("setup", "--yes"), "Nothing to add: /etc/bantam has it all.")
	if g.text("/etc/bantam/jail.local") != before {
		t.Error("the second setup has changed the file")
	}
	p.terminate()
}

// Who says where messages go is sent one at once, by what was written: a server's mail by Gmail with its password in a
// file of its own, and one by the machine's own sendmail.
func TestSetupSendsATestMessage(t *testing.T) {
	for _, c := range []struct {
		name, answers, kind string
		taken               func(*guided) *letters
	}{
		{"sendmail", "2\nops@example.org\n\n", "mta", func(g *guided) *letters { return &g.local }},
		{"Gmail", "4\ngate@gmail.com\nops@example.org\n" + gmailPassword + "\nyes\n", "gmail", func(g *guided) *letters { return &g.gmail }},
		{"nobody now", "2\nops@example.org\nn\n", "mta", nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			g := fresh(t, nil)
			p := g.startAs(g.inside(program, "run", "--observe-until-setup")).ready()
			person, terminal := pty(t)
			_, err := person.WriteString("\n\n" + c.answers)
			g.check(err)
			cmd := g.inside(program, "setup")
			cmd.Stdin = terminal
			out, err := cmd.CombinedOutput()
			if err != nil {
				t.Fatalf("%v:\n%s", err, out)
			}
			if c.taken == nil {
				g.mustSay("setup", string(out), "Send a test message now? [Y/n] ", "Later: sudo bantam notify test mta")
			} else {
				g.mustSay("setup", string(out), "Send a test message now? [Y/n] ", c.kind+" has taken it.")
				all := c.taken(g).list()
				if len(all) != 1 {
					t.Fatalf("%d mails were sent", len(all))
				}
				header, subject, text := all[0].read(t)
				if header.Get("To") != "<ops@example.org>" && header.Get("To") != "ops@example.org" || !strings.Contains(subject+text, "test") {
					t.Errorf("the mail to %q is %q:\n%s", header.Get("To"), subject, text)
				}
			}
			if c.kind == "gmail" {
				if strings.Contains(g.text("/etc/bantam/jail.local"), gmailPassword) || strings.TrimSpace(g.text("/etc/bantam/gmail.secret")) != gmailPassword {
					t.Errorf("the password stands in\n%s", g.text("/etc/bantam/jail.local"))
				}
				if info, err := os.Stat(filepath.Join(g.dir, "etc/bantam/gmail.secret")); err != nil || info.Mode().Perm() != 0o600 {
					t.Errorf("the file of the password: %v, %v", info, err)
				}
			}
			p.terminate()
		})
	}
}

// Where Fail2Ban is configured setup writes nothing and says how to take over.
func TestSetupTakesFail2BanOver(t *testing.T) {
	g := follow(t, world{}, map[string]string{
		"/etc/fail2ban/jail.local": "[DEFAULT]\nbantime = 1h\nmaxretry = 3\n[sshd]\nenabled = true\nbackend = auto\n",
		// It stands for systemd's, which no namespace has.
		"/usr/local/bin/systemctl": "#!/bin/sh\necho \"$@\" >>/run/asked\n",
	})
	// One that runs in another network, as a container's does, is not in the way.
	elsewhere := exec.Command("sh", filepath.Join(t.TempDir(), "fail2ban-server"))
	g.check(os.WriteFile(elsewhere.Args[1], []byte("read end\n"), 0o600))
	end, err := elsewhere.StdinPipe()
	g.check(err)
	g.check(elsewhere.Start())
	defer func() {
		g.check(end.Close())
		_ = elsewhere.Wait() // read has met the end of its input
	}()
	out := g.does("setup")
	g.mustSay("setup", out, "local options (jail.local)", "0 live bans from its database", "Fail2Ban does not run", "sudo bantam run", "Nothing is written")
	if g.text("/etc/bantam/jail.local") != "" {
		t.Error("something was written")
	}
	p := g.startAs(g.inside(program, "run", "--observe-until-setup")).ready()
	if st := g.state(); st.Config != "/etc/fail2ban" || st.Firewall == "" {
		t.Errorf("the daemon works by %q, firewall %q", st.Config, st.Firewall)
	}
	g.mustSay("setup beside the daemon", g.does("setup"), "Bantam runs.")
	p.terminate()

	g.check(os.MkdirAll(filepath.Join(g.dir, "run/systemd/system"), 0o755))
	g.mustSay("setup under systemd", g.does("setup"), "sudo systemctl disable --now fail2ban\n", "sudo systemctl enable --now bantam\n")
	if asked := g.text("/run/asked"); asked != "" {
		t.Errorf("systemd was asked for %q without --yes", asked)
	}
	g.mustSay("setup --yes under systemd", g.does("setup", "--yes"), "Bantam runs.")
	if asked := g.text("/run/asked"); asked != "enable --now bantam\n" {
		t.Errorf("systemd was asked for %q", asked)
	}
	// Without Fail2Ban's folder it is set up and started.
	g.check(os.Remove(filepath.Join(g.dir, "etc/fail2ban/jail.conf")))
	g.check(os.Remove(filepath.Join(g.dir, "etc/fail2ban/jail.local")))
	g.mustSay("setup --yes on a bare server", g.does("setup", "--yes"), "Written: /etc/bantam/jail.local", "The daemon works by it.")
	if asked := g.text("/run/asked"); asked != "enable --now bantam\nenable --now bantam.service\n" {
		t.Errorf("systemd was asked for %q", asked)
	}
}

// A Fail2Ban that runs is told of with its live bans. Nothing is changed without --yes; with it systemd, for which
// something stands in here, stops the one and starts the other, which has the bans.
func TestSetupTakesARunningFail2BanOver(t *testing.T) {
	g := follow(t, world{}, map[string]string{
		"/etc/fail2ban/jail.local": "[DEFAULT]\nbantime = 1h\naction =\n[sshd]\nenabled = true\nbackend = polling\n",
		"/usr/local/bin/systemctl": `#!/bin/sh
echo "$@" >>/run/asked
if [ "$*" = "disable --now fail2ban" ]; then
	kill "$(cat /run/fail2ban/fail2ban.pid)"
fi
`,
	})
	g.peer = true
	p := g.runs()
	for _, address := range []string{"192.0.2.7", "192.0.2.8"} {
		if out, err := g.stock("fail2ban-client", "set", "sshd", "banip", address).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	pid := strings.TrimSpace(g.text("/run/fail2ban/fail2ban.pid"))
	var out string
	g.until("both bans are in its database", func() bool {
		out = g.does("setup")
		return strings.Contains(out, "2 live bans from its database")
	})
	g.mustSay("setup", out, "1 jail, 4 local options (jail.local)", "Fail2Ban runs (pid "+pid+"). To take over, with its bans:", "    sudo fail2ban-client stop\n    sudo bantam run\n", "Nothing is written.")
	g.mustSay("setup --yes without systemd", g.does("setup", "--yes"), "    sudo fail2ban-client stop\n    sudo bantam run\n")
	g.mustSay("setup --json", g.does("setup", "--json"), `"live_bans": 2`, `"running": `+pid, `"taken": false`)
	g.check(os.MkdirAll(filepath.Join(g.dir, "run/systemd/system"), 0o755))
	g.mustSay("setup under systemd", g.does("setup"), "sudo systemctl disable --now fail2ban\n    sudo systemctl enable --now bantam\n")
	g.mustSay("a look under systemd", g.does("setup", "--yes", "--dry-run"), "Fail2Ban runs (pid "+pid+")")
	if err := g.stock("fail2ban-client", "ping").Run(); err != nil || g.text("/run/asked") != "" || g.text("/etc/bantam/jail.local") != "" {
		t.Fatalf("without --yes something was changed: Fail2Ban answers %v, systemd was asked for %q", err, g.text("/run/asked"))
	}

	g.mustSay("setup --yes under systemd", g.does("setup", "--yes"), "Bantam runs.")
	if asked := g.text("/run/asked"); asked != "disable --now fail2ban\nenable --now bantam\n" {
		t.Errorf("systemd was asked for %q", asked)
	}
	for range p.lines { // to its end
	}
	g.check(p.cmd.Wait())
	p = g.startAs(g.inside(program, "run", "--observe-until-setup")).ready() // as its unit does
	var taken []string
	for _, b := range g.bans() {
		taken = append(taken, b.ID.String())
	}
	if !slices.Equal(taken, []string{"192.0.2.7", "192.0.2.8"}) {
		t.Errorf("the bans taken over are %v", taken)
	}
	p.terminate()
}

// Where sshd's lines are in the journal alone, setup's figures are those of the journal's last day.
func TestSetupReadsTheJournalsLastDay(t *testing.T) {
	const remote, machine = "/lib/systemd/systemd-journal-remote", "0123456789abcdef0123456789abcdef"
	if _, err := os.Stat(remote); err != nil {
		peertest.Without(t, "there is no systemd-journal-remote to make a journal with")
	}
	g := fresh(t, map[string]string{"/etc/machine-id": machine + "\n"})
	g.check(os.Remove(filepath.Join(g.dir, "var/log/auth.log")))
	var entries strings.Builder
	add := func(ago time.Duration, text string, args ...any) {
		at := time.Now().Add(-ago).UnixMicro()
		fmt.Fprintf(&entries, "__REALTIME_TIMESTAMP=%[1]d\n__MONOTONIC_TIMESTAMP=%[1]d\n_BOOT_ID=%[2]s\n_MACHINE_ID=%[2]s\n_HOSTNAME=gate\nSYSLOG_IDENTIFIER=sshd\n"+
			"_COMM=sshd\n_UID=0\n_PID=7\n_SYSTEMD_UNIT=ssh.service\n_SOURCE_REALTIME_TIMESTAMP=%[1]d\nMESSAGE=%[3]s\n\n", at, machine, fmt.Sprintf(text, args...))
	}
	add(30*time.Hour, "Failed password for root from 192.0.2.66 port 4000 ssh2")
	for i := range 6 {
		add(3*time.Hour-time.Duration(i)*time.Second, "Failed password for root from 192.0.2.7 port %d ssh2", 4000+i)
	}
	add(2*time.Hour, "Failed password for root from 192.0.2.8 port 4000 ssh2")
	folder := filepath.Join(g.dir, "var/log/journal", machine)
	g.check(os.MkdirAll(folder, 0o755))
	makeIt := exec.Command(remote, "-o", filepath.Join(folder, "system.journal"), "-")
	makeIt.Stdin = strings.NewReader(entries.String())
	if out, err := makeIt.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	var reply struct {
		Found setup.Survey `json:"found"`
	}
	g.check(json.Unmarshal([]byte(g.does("setup", "--dry-run", "--json")), &reply))
	i := slices.IndexFunc(reply.Found.Jails, func(f setup.Found) bool { return f.Jail == "sshd" })
	if i < 0 {
		t.Fatalf("it finds %+v", reply.Found)
	}
	if f := reply.Found.Jails[i]; !f.Replayed || f.Failures != 7 || f.Bans != 1 || f.Offenders != 1 || f.Lines != 7 {
		t.Errorf("of sshd it finds %+v; want 7 lines, 7 failures, one ban; trouble: %v", f, reply.Found.Trouble)
	}
}
