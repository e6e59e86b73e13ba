package test

import (
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"bantam/internal/control"
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

// Where Fail2Ban is configured setup writes nothing and says how to take over.
func TestSetupTakesFail2BanOver(t *testing.T) {
	g := follow(t, world{}, map[string]string{"/etc/fail2ban/jail.local": "[DEFAULT]\nbantime = 1h\nmaxretry = 3\n[sshd]\nenabled = true\nbackend = auto\n"})
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
}
