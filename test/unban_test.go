package test

import (
	"errors"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"bantam/internal/peertest"
)

// there runs a command on the host's network and returns what it says and its exit code.
func (h *host) there(cmd *exec.Cmd) (said string, code int) {
	h.Helper()
	var out strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &out
	h.check(h.net.Start(cmd))
	err := cmd.Wait()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		h.Fatal(err)
	}
	return out.String(), cmd.ProcessState.ExitCode()
}

// Nobody answers any more, and what a daemon has made in the kernel is taken out all the same, but
// not what may be another's.
func TestUnbanWithoutADaemon(t *testing.T) {
	for _, tt := range []struct {
		name, banaction string
		list            []string // what shows what the kernel holds
		mark            string   // stands there while there is a ban
	}{
		{"Bantam's table", "banaction = bantam\n", []string{"nft", "list", "ruleset"}, "table inet bantam"},
		{"sets of nftables", "banaction = nftables\n", []string{"nft", "list", "ruleset"}, "f2b-table"},
		{"ipsets", "banaction = iptables-ipset-proto6\n", []string{"ipset", "save"}, "f2b-sshd"},
		{"chains of iptables", "banaction = iptables-multiport\n", []string{"iptables-save"}, "f2b-sshd"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if _, err := exec.LookPath(tt.list[0]); err != nil {
				peertest.Without(t, tt.list[0]+" is not installed")
			}
			h := stockHost(t, "[DEFAULT]\n"+tt.banaction+"[sshd]\nenabled = true\nbackend = polling\nlogpath = DIR/auth.log\n")
			client, err := h.net.AddClient("client", netip.MustParsePrefix("192.0.2.7/24"))
			h.check(err)
			h.echo()
			attacker := netip.MustParseAddr("192.0.2.7")
			holds := func() bool {
				said, code := h.there(exec.Command(tt.list[0], tt.list[1:]...))
				if code != 0 {
					t.Fatalf("%q: %s", tt.list, said)
				}
				return strings.Contains(said, tt.mark)
			}
			p := h.start().ready()
			h.run("ban", attacker.String(), "--jail", "sshd")
			if !holds() {
				t.Fatalf("the kernel holds no %s", tt.mark)
			}

			said, code := h.there(exec.Command(program, "run", "-c", h.dir, "--socket", filepath.Join(h.dir, "other")))
			if code != 4 || !strings.Contains(said, "another Bantam") {
				t.Errorf("a second one ends with %d and says %q", code, said)
			}
			said, code = h.there(exec.Command(program, "stop", "--unban", "-c", h.dir, "--socket", filepath.Join(h.dir, "other")))
			if code == 0 || !strings.Contains(said, "another Bantam") || !holds() {
				t.Errorf("while one runs that has another socket, it ends with %d and says %q", code, said)
			}
			p.kill()
			if !holds() || h.connects(client, attacker) {
				t.Fatal("the ban did not outlive the daemon")
			}

			other := exec.Command("sleep", "60")
			other.Args[0] = "/usr/bin/fail2ban-server"
			h.check(other.Start())
			h.write("pid", strconv.Itoa(other.Process.Pid))
			said, code = h.there(h.command("stop", "--unban"))
			h.check(errors.Join(other.Process.Kill(), os.Remove(filepath.Join(h.dir, "pid"))))
			_ = other.Wait()
			own := strings.Contains(tt.mark, "bantam")
			if code != 0 || holds() == own {
				t.Errorf("beside Fail2Ban it ends with %d and says %q; %s is there: %t", code, said, tt.mark, holds())
			}

			for range 2 { // it is no error if there is nothing
				said, code = h.there(h.command("stop", "--unban"))
				if code != 0 || !strings.Contains(said, "no daemon ran") || holds() {
					t.Errorf("it ends with %d and says %q; %s is there: %t", code, said, tt.mark, holds())
				}
			}
			if !h.connects(client, attacker) {
				t.Error("who was banned is still dropped")
			}
		})
	}
}
