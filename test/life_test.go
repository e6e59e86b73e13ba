package test

import (
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"bantam/internal/control"
	"bantam/internal/nstest"
)

const lifeJail = `[DEFAULT]
ignoreself = false
[sshd]
enabled = true
logpath = DIR/auth.log
port = 22
`

// A client is banned for what the log says of it, and its packets are dropped,
// on a new connection and on the one it has; others pass.
func TestPacketsAreDropped(t *testing.T) {
	h := newHost(t, lifeJail)
	client, err := h.net.AddClient("client", netip.MustParsePrefix("192.0.2.7/24"), netip.MustParsePrefix("2001:db8:7::7/64"))
	h.check(err)
	h.echo()
	connects := func(from netip.Addr) bool { return h.connects(client, from) }
	p := h.start().ready()
	attacker, neighbour := netip.MustParseAddr("192.0.2.7"), netip.MustParseAddr("192.0.2.8")
	open, err := client.Dial(t.Context(), "tcp", attacker, netip.AddrPortFrom(nstest.Server4, 22))
	h.check(err)
	defer open.Close()
	h.log("auth.log", strings.Repeat(failed(attacker), 5))
	h.until("the attacker is banned", func() bool { return len(h.banned("sshd")) == 1 })
	if connects(attacker) {
		t.Error("the banned address connects")
	}
	if !connects(neighbour) {
		t.Error("its neighbour does not")
	}
	_, err = open.Write([]byte("hello"))
	h.check(err)
	h.check(open.SetReadDeadline(time.Now().Add(300 * time.Millisecond)))
	if n, err := open.Read(make([]byte, 8)); err == nil {
		t.Errorf("the running connection is still answered %d bytes", n)
	}
	if out := h.run("unban", attacker.String()); !strings.Contains(out, "unbanned 192.0.2.7 in sshd") {
		t.Errorf("unban says %q", out)
	}
	if !connects(attacker) {
		t.Error("the unbanned address does not connect")
	}

	// IPv6 is counted and banned by the /64.
	six, neighbour6 := netip.MustParseAddr("2001:db8:7::7"), netip.MustParseAddr("2001:db8:7::8")
	h.log("auth.log", strings.Repeat(failed(six), 3)+strings.Repeat(failed(neighbour6), 2))
	h.until("the network is banned", func() bool { return len(h.banned("sshd")) == 1 })
	if connects(six) || connects(neighbour6) {
		t.Error("an address of the banned network connects")
	}
	// The allow list wins over a ban.
	h.run("allow", "add", "2001:db8:7::8")
	h.run("ban", "2001:db8:7::/64")
	if !connects(neighbour6) {
		t.Error("an allowed address inside a banned network does not connect")
	}
	p.terminate()
	if connects(six) {
		t.Error("after the stop the ban is gone")
	}
}

// Bans are back after a restart; stop leaves them in the kernel, stop --unban
// takes them away, and the next start puts them back.
func TestRestartAndStop(t *testing.T) {
	h := newHost(t, lifeJail)
	var log strings.Builder
	const n = 3000 // more than one message and one batch hold
	for i := range n {
		log.WriteString(strings.Repeat(failed(address(i)), 5))
	}
	p := h.start().ready()
	h.log("auth.log", log.String())
	h.until("all are banned", func() bool { return len(h.banned("sshd")) == n })
	if out := h.run("stop"); !strings.Contains(out, "the bans stay") {
		t.Errorf("stop says %q", out)
	}
	p.wait()
	if got := len(h.banned("sshd")); got != n {
		t.Errorf("%d bans are in the kernel after the stop", got)
	}
	p = h.start().ready()
	if got := len(h.banned("sshd")); got != n {
		t.Errorf("%d bans are in the kernel after the restart", got)
	}
	if out := h.run("stop", "--unban"); !strings.Contains(out, "out of the kernel") {
		t.Errorf("stop --unban says %q", out)
	}
	p.wait()
	if out, err := h.net.Output(t.Context(), "nft", "list", "tables"); err != nil || strings.Contains(string(out), "bantam") {
		t.Errorf("the table is left: %s, %v", out, err)
	}
	p = h.start().ready()
	if got := len(h.banned("sshd")); got != n {
		t.Errorf("%d bans are back in the kernel", got)
	}
	if got := len(h.bans()); got != n {
		t.Errorf("the daemon knows %d bans", got)
	}
	p.terminate()
}

// Somebody else's flush is undone.
func TestForeignFlush(t *testing.T) {
	h := newHost(t, lifeJail)
	p := h.start().ready()
	h.run("ban", "192.0.2.7")
	for _, command := range [][]string{{"flush", "ruleset"}, {"flush", "set", "inet", "bantam", "manual-4"}} {
		if _, err := h.net.Output(t.Context(), "nft", command...); err != nil {
			t.Fatal(err)
		}
		h.until("the ban is back", func() bool {
			elements, err := h.kernel.Elements("manual")
			return err == nil && len(elements) == 1
		})
	}
	p.terminate()
}

// What cannot work is said with its place and a way on.
func TestStartsThatCannotWork(t *testing.T) {
	for _, c := range []struct {
		name  string
		spoil func(h *host, cmd *exec.Cmd)
		want  []string
	}{
		{"a database that is none", func(h *host, _ *exec.Cmd) {
			h.write("notes", strings.Repeat("no database\n", 1000))
			h.write("bantam.conf", "[Definition]\ndbfile = "+filepath.Join(h.dir, "notes")+"\n")
		}, []string{"notes", "not a database", "hint: move the file away"}},
		{
			"a file in the place of the socket", func(h *host, _ *exec.Cmd) { h.write("s", "") },
			[]string{"is in the way: it is not a socket", "hint: "},
		},
		{"no privilege for netlink", func(h *host, cmd *exec.Cmd) {
			h.check(filepath.WalkDir(h.dir, func(path string, _ os.DirEntry, err error) error {
				if err == nil {
					err = os.Chown(path, 65534, 65534)
				}
				return err
			}))
			h.check(os.Chmod(filepath.Dir(h.dir), 0o755))
			cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
		}, []string{"CAP_NET_ADMIN", "hint: "}},
		{"a jail.conf that cannot be read", func(h *host, _ *exec.Cmd) {
			h.check(os.Mkdir(filepath.Join(h.dir, "jail.conf"), 0o700))
		}, []string{"jail.conf"}},
		{"a full disk under the database", func(h *host, _ *exec.Cmd) {
			h.write("bantam.conf", "[Definition]\ndbfile = /dev/full\n")
		}, []string{"/dev/full", "not a regular file", "hint: "}},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := newHost(t, lifeJail)
			cmd := h.command("run")
			c.spoil(h, cmd)
			var out strings.Builder
			cmd.Stdout, cmd.Stderr = &out, &out
			h.check(h.net.Start(cmd))
			if err := cmd.Wait(); err == nil {
				t.Fatalf("it starts:\n%s", out.String())
			}
			for _, want := range c.want {
				if !strings.Contains(out.String(), want) {
					t.Errorf("it does not say %q:\n%s", want, out.String())
				}
			}
		})
	}
}

// A jail that cannot run is set aside and shown; the other runs.
func TestAJailSetAside(t *testing.T) {
	h := newHost(t, lifeJail+"[web]\nenabled = true\nlogpath = DIR/web.log\nfilter = none-such\n")
	p := h.start().ready()
	if out := h.run("status"); !strings.Contains(out, `web is set aside: jail.local:10: filter: there is no filter "none-such"`) {
		t.Errorf("status says:\n%s", out)
	}
	h.log("auth.log", strings.Repeat(failed(address(1)), 5))
	h.until("the other jail bans", func() bool { return len(h.banned("sshd")) == 1 })
	p.terminate()
}

// onDisk is the daemon with its database in the folder "disk", a file system that only it sees,
// mounted with those options.
func (h *host) onDisk(options string) *exec.Cmd {
	h.Helper()
	disk := filepath.Join(h.dir, "disk")
	h.check(os.Mkdir(disk, 0o700))
	h.write("bantam.conf", "[Definition]\ndbfile = "+filepath.Join(disk, "bantam.db")+"\npidfile =\n")
	return exec.Command("unshare", "--mount", "sh", "-c", `mount -t tmpfs -o "$0" disk "$1" && shift && exec "$@"`,
		options, disk, program, "run", "-c", h.dir, "--socket", filepath.Join(h.dir, "s"))
}

// attacked has so many addresses fail at once, and waits until they are banned.
func (h *host) attacked(n int) {
	h.Helper()
	var log strings.Builder
	for i := range n {
		log.WriteString(strings.Repeat(failed(address(i)), 5))
	}
	h.log("auth.log", log.String())
	h.until("all are banned", func() bool { return len(h.banned("sshd")) == n })
}

// On a full disk bans go on: all are in the kernel, and status says what is wrong.
func TestAFullDisk(t *testing.T) {
	h := newHost(t, lifeJail)
	p := h.startAs(h.onDisk("size=400k")).ready()
	const n = 2000
	h.attacked(n)
	if out := h.run("status"); !strings.Contains(out, "The database takes nothing: ") || !strings.Contains(out, "full") {
		t.Errorf("status says:\n%s", out)
	}
	p.terminate()
}

// A log that is a folder is shown and waited out; the other jail runs.
func TestALogThatIsAFolder(t *testing.T) {
	h := newHost(t, lifeJail+"[web]\nenabled = true\nfilter = sshd\nlogpath = DIR/folder\n")
	folder := filepath.Join(h.dir, "folder")
	h.check(os.Mkdir(folder, 0o700))
	p := h.start().ready()
	h.until("status says so", func() bool { return strings.Contains(h.run("status"), "directory") })
	h.log("auth.log", strings.Repeat(failed(address(1)), 5))
	h.until("the other jail bans", func() bool { return len(h.banned("sshd")) == 1 })
	h.check(os.Remove(folder))
	h.log("folder", strings.Repeat(failed(address(2)), 5))
	h.until("the log is read once it is one", func() bool { return len(h.banned("web")) == 1 })
	p.terminate()
}

// A line of ten megabytes, zero bytes and what is no UTF-8 are survived, with
// little memory, and the lines behind them count.
func TestMonstrousLines(t *testing.T) {
	h := newHost(t, lifeJail)
	p := h.start().ready()
	h.log("auth.log", strings.Repeat("x", 10<<20)+"\n"+strings.Repeat("\x00", 1<<20)+"\n"+strings.Repeat("\xff\xfe", 1<<19)+"\n")
	h.log("auth.log", strings.Repeat(failed(address(1)), 5))
	h.until("the attacker is banned", func() bool { return len(h.banned("sshd")) == 1 })
	st, err := control.Call(t.Context(), h.client, control.GetStatus, control.None{})
	h.check(err)
	if st.Memory > 40<<20 {
		t.Errorf("it holds %d MB", st.Memory>>20)
	}
	p.terminate()
}
