package test

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"bantam"
)

// wait is how long a packet may take that is not dropped.
const wait = 500 * time.Millisecond

const administrators = `[DEFAULT]
ignoreself = false

[sshd]
enabled = true
action = bantam[type=allports]
backend = auto
logpath = DIR/auth.log
`

// accepted is sshd's line about a login, now.
func accepted(from netip.Addr) string {
	return fmt.Sprintf("%s gate sshd[900]: Accepted publickey for root from %s port 4000 ssh2: ED25519 SHA256:x\n", time.Now().Format(time.Stamp), from)
}

// loggedIn is a record of utmp: somebody's session that this process serves, as glibc on this machine has it.
func loggedIn(user string, from netip.Addr) []byte {
	b := make([]byte, 384)
	binary.NativeEndian.PutUint16(b, 7)
	binary.NativeEndian.PutUint32(b[4:], uint32(os.Getpid()))
	copy(b[8:], "pts/7")
	copy(b[44:], user)
	copy(b[76:], from.String())
	binary.NativeEndian.PutUint32(b[340:], uint32(time.Now().Unix()))
	copy(b[348:], from.AsSlice())
	return b
}

// withUtmp is the daemon on a machine with that utmp.
func (h *host) withUtmp(records []byte) *exec.Cmd {
	h.Helper()
	h.write("utmp", string(records))
	return exec.Command("unshare", "--mount", "sh", "-c", `mount -t tmpfs run /run && cp "$0" /run/utmp && exec "$@"`,
		filepath.Join(h.dir, "utmp"), program, "run", "-c", h.dir, "--socket", filepath.Join(h.dir, "s"))
}

// Who has a session, or has logged in today, is not shut out, however often his address fails; everybody else is.
func TestABanSparesAdministrators(t *testing.T) {
	h := newHost(t, administrators)
	client, err := h.net.AddClient("client", netip.MustParsePrefix("203.0.0.1/24"), netip.MustParsePrefix("2001:db8:1:2::7/48"))
	h.check(err)
	before, during, stranger := address(1), address(2), address(3)
	neighbour, session := netip.MustParseAddr("2001:db8:1:2::7"), netip.MustParseAddr("2001:db8:1:2::9")
	other := netip.MustParseAddr("2001:db8:1:3::7")
	h.log("auth.log", accepted(before))

	p := h.startAs(h.withUtmp(loggedIn("anna\x1b[2J", session))).ready()
	h.log("auth.log", accepted(during))
	all := []netip.Addr{before, during, stranger, neighbour, other}
	for _, a := range all {
		h.log("auth.log", strings.Repeat(failed(a), 5))
	}
	held := map[string]string{}
	h.until("all are decided", func() bool {
		bans := h.bans()
		for _, b := range bans {
			if b.Held() {
				held[b.ID.String()] = b.Reason
			}
		}
		return len(bans) == len(all) && len(h.banned("sshd")) == 2
	})
	for id, why := range map[string]string{
		"203.0.0.1": "an administrator's login: user root at ", "203.0.0.2": "an administrator's login: user root at ",
		"2001:db8:1:2::/64": "an administrator's session: user anna\x1b[2J from 2001:db8:1:2::9 since ",
	} {
		if !strings.HasPrefix(held[id], why) {
			t.Errorf("the ban of %s is held back because of %q, want %q", id, held[id], why)
		}
	}
	for a, want := range map[netip.Addr]bool{before: true, during: true, stranger: false, neighbour: true, session: true, other: false} {
		if got := h.arrives(client, a, wait); got != want {
			t.Errorf("packets of %s pass: %v, want %v", a, got, want)
		}
	}
	listed := h.run("banned")
	for _, line := range []string{"5 failures, held back\n", "Held back, not banned:\n", "  203.0.0.1 in sshd: an administrator's login: user root at 20", `user anna\x1b[2J from 2001:db8:1:2::9`} {
		if !strings.Contains(listed, line) {
			t.Errorf("banned does not say %q:\n%s", line, listed)
		}
	}
	if status := h.run("status"); !strings.Contains(status, "Held back: 3 bans") {
		t.Errorf("status does not say what is held back:\n%s", status)
	}
	if out, err := h.command("banned", before.String()).Output(); err == nil {
		t.Errorf("banned ADDRESS succeeds though it is not banned:\n%s", out)
	}
	if out, err := h.command("why", before.String()).Output(); err != nil || !strings.Contains(string(out), "not banned, held back in sshd") {
		t.Errorf("why says %v:\n%s", err, out)
	}

	if out, err := h.command("ban", "203.0.0.0/24").CombinedOutput(); err == nil || !strings.Contains(string(out), "--force") || !strings.Contains(string(out), "user root from 203.0.0.") {
		t.Errorf("ban of a prefix with an administrator in it: %v\n%s", err, out)
	}
	h.run("ban", before.String(), "--force")
	if h.arrives(client, before, wait) {
		t.Error("packets pass though an operator insisted on the ban")
	}
	h.run("unban", before.String())

	h.check(p.cmd.Process.Signal(syscall.SIGTERM))
	var log strings.Builder
	for line := range p.lines {
		log.WriteString(line + "\n")
	}
	h.check(p.cmd.Wait())
	if n := strings.Count(log.String(), "ban held back"); n != 3 {
		t.Errorf("the log tells %d times of bans that are held back:\n%s", n, log.String())
	}
	if strings.Contains(log.String(), "\x1b") {
		t.Error("an escape reached the log")
	}

	// The session is over, and nothing is known of it but what was held back.
	h.start().ready()
	for _, b := range h.bans() {
		if b.Held() != (b.ID != bantam.AddrID(stranger) && b.ID != bantam.AddrID(other).Widen(32, 64)) {
			t.Errorf("after a restart %s is held back: %v", b.ID, b.Held())
		}
	}
	h.log("auth.log", strings.Repeat(failed(neighbour), 5))
	h.until("the neighbour is banned", func() bool { return len(h.banned("sshd")) == 3 })
	if h.arrives(client, neighbour, wait) {
		t.Error("packets pass though nobody is logged in any more")
	}
}
