package test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/maxmind/mmdbwriter"
	"github.com/maxmind/mmdbwriter/mmdbtype"

	"bantam/internal/peertest"
)

// The files of a guide for mail servers, by which who fails to log in is banned unless he is in
// Malaysia: a jail with comments behind its values, a filter, and an action that asks mmdblookup.
const (
	guideJail = `[sasl-auth-custom]
enabled = true
port = smtp,465,submission
filter = sasl-auth-custom
logpath = /var/log/mail.log
bantime = 604800 # 7 days
findtime = 43200 # 12 hours
maxretry = 3
ignoreip = 127.0.0.1/8 10.0.0.0/8  #tidak block ip local
`
	guideFilter = `[Definition]
failregex = ^.*?warning:\s+(?:unknown|[\w\.-]+)\[<HOST>\]:\d+:?\s+SASL.*?authentication failed: authentication failure, sasl_username=.*$
ignoreregex =
`
	guideAction = `[Definition]
actionstart =
actionstop =
actionban = bash -c 'GEO=$(mmdblookup --file /usr/share/GeoIP/GeoLite2-Country.mmdb --ip <ip> country iso_code 2>/dev/null | grep -Eo "[A-Z]{2}" | head -n 1); if [ "$GEO" = "MY" ]; then echo "<ip> ini rakyat Malaysia, abaikan dulu" >> /var/log/fail2ban_sekatnegara.log; else echo "<ip> dari $GEO telah disekat" >> /var/log/fail2ban_sekatnegara.log; iptables -I INPUT -s <ip> -j DROP; fi'
actionunban = iptables -D INPUT -s <ip> -j DROP
`
	guideFile = "/usr/share/GeoIP/GeoLite2-Country.mmdb"
)

// Who attacks in these tests.
var (
	russian   = netip.MustParseAddr("46.72.252.233")
	malaysian = netip.MustParseAddr("49.124.151.70")
	nowhere   = netip.MustParseAddr("203.0.113.9")
)

// mailFailure is a line of Postfix, now.
func mailFailure(from netip.Addr) string {
	return fmt.Sprintf("%s mail postfix/smtps/smtpd[810753]: warning: unknown[%s]:65410: SASL LOGIN authentication failed: authentication failure, sasl_username=zaim\n",
		time.Now().Format(time.Stamp), from)
}

// countries writes a database in which two countries are.
func (h *host) countries(path string) {
	h.Helper()
	w, err := mmdbwriter.New(mmdbwriter.Options{DatabaseType: "GeoLite2-Country", Description: map[string]string{"en": "for tests"}})
	h.check(err)
	for prefix, names := range map[string][2]string{"46.72.0.0/16": {"RU", "Russia"}, "49.124.0.0/15": {"MY", "Malaysia"}} {
		_, network, err := net.ParseCIDR(prefix)
		h.check(err)
		h.check(w.Insert(network, mmdbtype.Map{"country": mmdbtype.Map{
			"iso_code": mmdbtype.String(names[0]), "names": mmdbtype.Map{"en": mmdbtype.String(names[1])},
		}}))
	}
	h.check(os.MkdirAll(filepath.Dir(path), 0o755))
	f, err := os.Create(path)
	h.check(err)
	_, err = w.WriteTo(f)
	h.check(errors.Join(err, f.Close()))
}

// guideHost is a machine set up as the guide says, with the package's files below; what it finds
// in /usr/share and /var/log are folders of the test's, share and log.
func guideHost(t *testing.T, jailLocal string) *host {
	t.Helper()
	h := stockHost(t, jailLocal)
	h.write("filter.d/sasl-auth-custom.conf", guideFilter)
	h.write("action.d/sekat_custom.conf", guideAction)
	h.check(os.MkdirAll(filepath.Join(h.dir, "share", "zoneinfo"), 0o755))
	h.check(os.Mkdir(filepath.Join(h.dir, "log"), 0o755))
	h.countries(filepath.Join(h.dir, "share", "GeoIP", filepath.Base(guideFile)))
	h.write("log/mail.log", "")
	h.write("fail2ban.local", strings.Replace(h.text("fail2ban.local"), "socket =", "socket = "+filepath.Join(h.dir, "f2b.sock"), 1))
	return h
}

// inside makes a command one that sees the test's folders in the places of the machine's. The mounts are of
// its own namespace and end with it.
func (h *host) inside(cmd *exec.Cmd) *exec.Cmd {
	const script = `mount --bind /usr/share/zoneinfo "$0/share/zoneinfo" && mount --rbind "$0/share" /usr/share && mount --bind "$0/log" /var/log && exec "$@"`
	args := append([]string{"--mount", "sh", "-c", script, h.dir}, cmd.Args...)
	in := exec.Command("unshare", args...)
	in.Env = cmd.Env
	return in
}

// mmdblookup unpacks Debian's program and returns the environment that finds it.
func (h *host) mmdblookup() []string {
	h.Helper()
	ctx, cancel := context.WithTimeout(h.Context(), 2*time.Minute)
	defer cancel()
	dir := filepath.Join(h.dir, "mmdb")
	h.check(os.Mkdir(dir, 0o755))
	get := exec.CommandContext(ctx, "sh", "-c", "apt-get download -qq mmdb-bin libmaxminddb0 && for p in *.deb; do dpkg-deb -x $p . || exit; done")
	get.Dir = dir
	if out, err := get.CombinedOutput(); err != nil {
		peertest.Without(h.T, fmt.Sprintf("mmdb-bin cannot be had: %v: %s", err, out))
	}
	libs, _ := filepath.Glob(filepath.Join(dir, "usr/lib/*/libmaxminddb.so.0")) // the pattern is well formed
	if len(libs) != 1 {
		h.Fatalf("the package has %d libraries", len(libs))
	}
	return append(os.Environ(), "PATH="+filepath.Join(dir, "usr/bin")+":"+os.Getenv("PATH"), "LD_LIBRARY_PATH="+filepath.Dir(libs[0]))
}

// text is a file of the host, empty if it is not there yet.
func (h *host) text(name string) string {
	h.Helper()
	text, err := os.ReadFile(filepath.Join(h.dir, name))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		h.Fatal(err)
	}
	return string(text)
}

// says waits until the daemon prints a line that holds a text, and returns it.
func (p *process) says(text string) string {
	p.Helper()
	late := time.After(patience)
	for {
		select {
		case line, ok := <-p.lines:
			if !ok {
				p.Fatalf("the daemon ended before it said %q", text)
			}
			if strings.Contains(line, text) {
				return line
			}
		case <-late:
			p.Fatalf("the daemon does not say %q within %s", text, patience)
		}
	}
}

// The guide as it is written: everybody is banned, and its action asks where he is, blocks who is not in
// Malaysia, and writes down what it did.
func TestGuideCountryAsWritten(t *testing.T) {
	h := guideHost(t, guideJail+"action = sekat_custom\n")
	env := h.mmdblookup()
	client, err := h.net.AddClient("client", netip.PrefixFrom(russian, 24), netip.PrefixFrom(malaysian, 24), netip.PrefixFrom(nowhere, 24))
	h.check(err)
	h.echo()
	cmd := h.command("run")
	cmd.Env = env
	p := h.startAs(h.inside(cmd)).ready()
	for _, from := range []netip.Addr{russian, malaysian, nowhere} {
		h.log("log/mail.log", strings.Repeat(mailFailure(from), 3))
	}
	decided := func() string { return h.text("log/fail2ban_sekatnegara.log") }
	h.until("all are decided about", func() bool { return strings.Count(decided(), "\n") == 3 })
	for _, want := range []string{"46.72.252.233 dari RU telah disekat\n", "49.124.151.70 ini rakyat Malaysia, abaikan dulu\n", "203.0.113.9 dari  telah disekat\n"} {
		if got := decided(); !strings.Contains(got, want) {
			t.Errorf("the guide's log is\n%swant in it\n%s", got, want)
		}
	}
	h.until("their packets are dropped", func() bool { return !h.connects(client, nowhere) })
	if h.connects(client, russian) {
		t.Error("the Russian address connects")
	}
	if !h.connects(client, malaysian) {
		t.Error("the Malaysian address does not connect")
	}
	for _, b := range h.bans() {
		if length := b.End.Sub(b.Time); length != 7*24*time.Hour {
			t.Errorf("the ban of %s lasts %s", b.ID, length)
		}
	}
	// What the guide shows to type.
	h.check(os.Symlink(program, filepath.Join(h.dir, "fail2ban-client")))
	fail2banClient := func(args ...string) string {
		t.Helper()
		out, err := exec.Command(filepath.Join(h.dir, "fail2ban-client"), append([]string{"-s", filepath.Join(h.dir, "f2b.sock")}, args...)...).CombinedOutput()
		if err != nil {
			t.Errorf("fail2ban-client %s: %v: %s", strings.Join(args, " "), err, out)
		}
		return string(out)
	}
	if out := fail2banClient("status", "sasl-auth-custom"); !strings.Contains(out, "Currently banned:\t3") || !strings.Contains(out, russian.String()) {
		t.Errorf("the status is\n%s", out)
	}
	fail2banClient("set", "sasl-auth-custom", "banip", "203.0.113.5")
	h.until("a ban by hand is decided about", func() bool { return strings.Contains(decided(), "203.0.113.5 dari  telah disekat\n") })
	fail2banClient("set", "sasl-auth-custom", "unbanip", russian.String())
	h.until("the unbanned address connects", func() bool { return h.connects(client, russian) })
	p.terminate()
	if !h.connects(client, nowhere) {
		t.Error("the stop leaves a rule behind")
	}
	h.bareComments()
}

// bareComments wants check to name the comment among the addresses, and nothing to be an error.
func (h *host) bareComments() {
	h.Helper()
	out, err := h.inside(h.command("check")).CombinedOutput()
	text := string(out)
	if err != nil || !strings.Contains(text, `ignoreip: "#tidak" is passed over`) || !strings.Contains(text, "starts a comment only at the start of a line") {
		h.Errorf("check says, %v:\n%s", err, text)
	}
}

// The same in two lines: who is in Malaysia is not counted at all, whoever blocks the others.
func TestGuideCountryNatively(t *testing.T) {
	for _, action := range []string{"bantam[type=allports]", "iptables-allports"} {
		t.Run(action, func(t *testing.T) {
			h := guideHost(t, guideJail+"action = "+action+"\nignorecountry = my\n")
			h.write("bantam.conf", h.text("bantam.conf")+"geodb = "+guideFile+"\n")
			client, err := h.net.AddClient("client", netip.PrefixFrom(russian, 24), netip.PrefixFrom(malaysian, 24), netip.PrefixFrom(nowhere, 24))
			h.check(err)
			h.echo()
			p := h.startAs(h.inside(h.command("run"))).ready()
			for _, from := range []netip.Addr{malaysian, russian, nowhere} {
				h.log("log/mail.log", strings.Repeat(mailFailure(from), 3))
			}
			line := p.says("by country")
			if want := "[sasl-auth-custom] Ignore 49.124.151.70 by country"; !strings.HasSuffix(line, want) {
				t.Errorf("the log says %q, want %q at its end", line, want)
			}
			h.until("who is banned is dropped", func() bool { return !h.connects(client, russian) && !h.connects(client, nowhere) })
			if !h.connects(client, malaysian) {
				t.Error("the Malaysian address does not connect")
			}
			who := map[netip.Addr]string{}
			for _, b := range h.bans() {
				prefix, _ := b.ID.Prefix()
				who[prefix.Addr()] = b.Country
			}
			if want := map[netip.Addr]string{russian: "RU", nowhere: ""}; !maps.Equal(who, want) {
				t.Errorf("banned are %v, want %v", who, want)
			}
			// A database that is gone goes on to be used.
			h.check(os.Rename(filepath.Join(h.dir, "share/GeoIP", filepath.Base(guideFile)), filepath.Join(h.dir, "share/GeoIP/old")))
			p.says("what was read before is used")
			h.log("log/mail.log", mailFailure(malaysian))
			p.says("Ignore 49.124.151.70 by country")
			h.bareComments()
			p.terminate()
		})
	}
}
