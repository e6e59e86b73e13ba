package test

import (
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// What the guide's action writes down, in one entry of the jail.
const guideLog = `action = bantam[type=allports]
         log[file=/var/log/fail2ban_sekatnegara.log, ban="<ip> dari <country> telah disekat", ignore="<ip> ini rakyat Malaysia, abaikan dulu"]
ignorecountry = my
`

// The decision log of the country guide without its script: the same lines of the same addresses, but that a
// country nobody knows has a word, and whom the guide calls passed over is never banned.
func TestGuideCountryDecisionLogNatively(t *testing.T) {
	h := guideHost(t, guideJail+guideLog)
	h.write("bantam.conf", h.text("bantam.conf")+"geodb = "+guideFile+"\n")
	client, err := h.net.AddClient("client", netip.PrefixFrom(russian, 24), netip.PrefixFrom(malaysian, 24))
	h.check(err)
	h.echo()
	p := h.startAs(h.inside(h.command("run"))).ready()
	decided := func() string { return h.text("log/fail2ban_sekatnegara.log") }
	// One after the other: actions of different offenders have no order.
	for i, tt := range []struct {
		from netip.Addr
		want string
	}{
		{russian, "46.72.252.233 dari RU telah disekat"},
		{malaysian, "49.124.151.70 ini rakyat Malaysia, abaikan dulu"},
		{nowhere, "203.0.113.9 dari unknown telah disekat"},
	} {
		h.log("log/mail.log", strings.Repeat(mailFailure(tt.from), 3))
		h.until(tt.want, func() bool { return strings.Count(decided(), "\n") == i+1 })
		if lines := strings.Split(decided(), "\n"); lines[i] != tt.want {
			t.Errorf("the log says %q, want %q", lines[i], tt.want)
		}
	}
	h.until("who is banned is dropped", func() bool { return !h.connects(client, russian) })
	if !h.connects(client, malaysian) {
		t.Error("the Malaysian address does not connect")
	}

	// logrotate takes the file away while we run; somebody who is ignored is written down once an hour.
	h.check(os.Rename(filepath.Join(h.dir, "log/fail2ban_sekatnegara.log"), filepath.Join(h.dir, "log/fail2ban_sekatnegara.log.1")))
	h.log("log/mail.log", mailFailure(malaysian))
	p.says("Ignore 49.124.151.70 by country")
	h.run("ban", "203.0.113.5", "--jail", "sasl-auth-custom")
	h.until("a ban by hand is written down", func() bool { return strings.Contains(decided(), "\n") })
	if got := decided(); got != "203.0.113.5 dari unknown telah disekat\n" {
		t.Errorf("the new file has\n%s", got)
	}

	// Nobody is banned or written down a second time because of a restart.
	p.kill()
	p = h.startAs(h.inside(h.command("run"))).ready()
	h.run("ban", "203.0.113.6", "--jail", "sasl-auth-custom")
	h.until("a ban after the restart is written down", func() bool { return strings.Contains(decided(), "203.0.113.6") })
	if got := decided(); got != "203.0.113.5 dari unknown telah disekat\n203.0.113.6 dari unknown telah disekat\n" {
		t.Errorf("after a restart the file has\n%s", got)
	}
	p.terminate()
}

// Who attacks chooses the user's name, and writes no line of the administrator's file with it.
func TestDecisionLogOfEvilNames(t *testing.T) {
	h := newHost(t, `[mail]
enabled = true
logpath = DIR/auth.log
filter =
failregex = ^ user <F-USER>.*</F-USER> from <ADDR>$
maxretry = 1
action = log[file=DIR/decisions.log, ban="<ip> as <F-USER>: banned", unban="<ip>: free"]
`)
	p := h.start().ready()
	h.log("auth.log", time.Now().Format(time.DateTime)+" user \x1b[2J<country> $(reboot) %s \u202egnp.exe from 192.0.2.7\n")
	text := func() string { return h.text("decisions.log") }
	h.until("a line is written", func() bool { return strings.HasSuffix(text(), "\n") })
	if got, want := text(), `192.0.2.7 as \u001b[2J<country> $(reboot) %s \u202egnp.exe: banned`+"\n"; got != want {
		t.Errorf("the file has\n%q, want\n%q", got, want)
	}
	h.run("unban", "192.0.2.7")
	h.until("its end is written", func() bool { return strings.HasSuffix(text(), "192.0.2.7: free\n") })
	p.terminate()
}
