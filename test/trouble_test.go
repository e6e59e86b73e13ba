package test

import (
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"bantam/internal/control"
	"bantam/internal/peertest"
)

// Actions that hang, flood, fail or have vanished delay no other: every attacker is in the
// kernel at once and told of by the action that works, and status says what the others do.
func TestActionsThatMisbehave(t *testing.T) {
	h := newHost(t, `[DEFAULT]
ignoreself = false
[sshd]
enabled = true
logpath = DIR/auth.log
maxretry = 3
action = bantam
         hangs
         floods
         fails
         vanished
         works
`)
	h.check(os.Mkdir(filepath.Join(h.dir, "action.d"), 0o700))
	for name, command := range map[string]string{
		"hangs":    "sleep 1000",
		"floods":   "yes | head -c 30000000; yes | head -c 30000000 >&2",
		"fails":    "echo no such luck >&2; exit 3",
		"vanished": h.dir + "/gone <ip>",
		"works":    "echo <ip> >>" + h.dir + "/told",
	} {
		h.write("action.d/"+name+".conf", "[Definition]\nactionban = "+command+"\ntimeout = 60\n")
	}
	h.write("gone", "#!/bin/sh\nexit 0\n")
	h.check(os.Chmod(filepath.Join(h.dir, "gone"), 0o700))
	p := h.start().ready()
	h.check(os.Remove(filepath.Join(h.dir, "gone")))
	const n = 20
	for i := range n {
		h.log("auth.log", strings.Repeat(failed(address(i)), 3))
	}
	h.until("all are banned", func() bool { return len(h.banned("sshd")) == n })
	h.until("all are told of", func() bool {
		text, _ := os.ReadFile(filepath.Join(h.dir, "told")) // it may not be there yet
		return strings.Count(string(text), "\n") == n
	})
	var st control.Status
	h.until("status shows which fail", func() bool {
		var err error
		st, err = control.Call(t.Context(), h.client, control.GetStatus, control.None{})
		h.check(err)
		failing := map[string]string{}
		for _, a := range st.Actions {
			failing[a.Action] = a.Err
		}
		return failing["sshd/fails"] != "" && failing["sshd/vanished"] != "" && failing["sshd/works"] == ""
	})
	if st.Memory > 60<<20 {
		t.Errorf("it holds %d MB", st.Memory>>20)
	}
	begin := time.Now()
	p.kill() // a stop waits for the hanging command, as it is told to
	if took := time.Since(begin); took > patience/2 {
		t.Errorf("it takes %s to die", took)
	}
}

// A disk that is full takes no decision: bans go on, and once there is room again all of
// them are stored.
func TestAFullDiskThatIsMadeRoom(t *testing.T) {
	h := newHost(t, lifeJail)
	disk := filepath.Join(h.dir, "disk")
	p := h.startAs(h.onDisk("size=400k")).ready()
	unsaved := func() int {
		st, err := control.Call(t.Context(), h.client, control.GetStatus, control.None{})
		h.check(err)
		return st.Unsaved
	}
	const n = 2000
	h.attacked(n)
	h.until("the disk is full", func() bool { return unsaved() > 0 })
	inside := func(command ...string) {
		t.Helper()
		enter := []string{"--mount", "--target", strconv.Itoa(p.cmd.Process.Pid)}
		out, err := exec.CommandContext(t.Context(), "nsenter", append(enter, command...)...).CombinedOutput()
		if err != nil {
			t.Fatalf("%q: %v: %s", command, err, out)
		}
	}
	inside("mount", "-o", "remount,size=64m", disk)
	h.until("all is stored", func() bool { return unsaved() == 0 })
	copied := filepath.Join(h.dir, "bantam.db")
	for _, end := range []string{"", "-wal"} {
		inside("cp", filepath.Join(disk, "bantam.db")+end, copied+end)
	}
	p.terminate()
	if got := len(stored(t, h)); got != n {
		t.Errorf("%d bans are stored of %d", got, n)
	}
}

// A disk that turns read-only under the daemon, as a kernel does that has found an error on it, takes no decision more:
// bans go on, also those that are lifted, status says what is wrong, and the stop is one.
func TestADiskThatTurnsReadOnly(t *testing.T) {
	for _, name := range []string{"mkfs.ext4", "losetup"} {
		if _, err := exec.LookPath(name); err != nil {
			t.Skipf("no file system of the test's own: %v", err)
		}
	}
	h := newHost(t, lifeJail)
	cmd := h.onDisk("")
	disk, image := filepath.Join(h.dir, "disk"), filepath.Join(h.dir, "image")
	h.write("image", "")
	h.check(os.Truncate(image, 16<<20))
	if out, err := exec.CommandContext(t.Context(), "mkfs.ext4", "-q", "-e", "remount-ro", image).CombinedOutput(); err != nil {
		t.Fatalf("make a file system: %v: %s", err, out)
	}
	if out, err := exec.CommandContext(t.Context(), "unshare", "--mount", "mount", "-o", "loop", image, disk).CombinedOutput(); err != nil {
		t.Skipf("no file system of the test's own: %v: %s", err, out)
	}
	cmd.Args = append([]string{"unshare", "--mount", "sh", "-c", `mount -o loop "$0" "$1" && shift && exec "$@"`, image, disk},
		program, "run", "-c", h.dir, "--socket", filepath.Join(h.dir, "s"))
	p := h.startAs(cmd).ready()
	h.attacked(10)
	enter := exec.CommandContext(t.Context(), "nsenter", "--mount", "--target", strconv.Itoa(p.cmd.Process.Pid), "sh", "-c",
		`device=$(findmnt -n -o SOURCE "$0") && echo 1 >"/sys/fs/ext4/${device#/dev/}/trigger_fs_error"`, disk)
	if out, err := enter.CombinedOutput(); err != nil {
		t.Skipf("the kernel finds no error when it is told to: %v: %s", err, out)
	}
	h.attacked(200)
	var said string
	h.until("status says what is wrong", func() bool {
		said = h.run("status")
		return strings.Contains(said, "The database takes nothing: ")
	})
	h.run("unban", address(150).String())
	if got := len(h.banned("sshd")); got != 199 {
		t.Errorf("%d bans are in the kernel after one of 200 was lifted; status says:\n%s", got, said)
	}
	p.terminate()
}

// On a disk that cannot be written a start says so, and how to go on.
func TestAReadOnlyDisk(t *testing.T) {
	h := newHost(t, lifeJail)
	cmd := h.onDisk("ro")
	var out strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &out
	h.check(h.net.Start(cmd))
	if err := cmd.Wait(); err == nil {
		t.Errorf("it ends as if nothing were wrong")
	}
	for _, want := range []string{filepath.Join(h.dir, "disk", "bantam.db"), "hint: "} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("it does not say %q:\n%s", want, out.String())
		}
	}
}

// Two daemons on one socket, one database or one Fail2Ban socket: the second one says who is there and how
// to go on, ends, and takes nothing from the first.
func TestTwoBantams(t *testing.T) {
	h := newHost(t, lifeJail)
	f2b := filepath.Join(h.dir, "f2b")
	conf := "[Definition]\nsocket = %s\npidfile =\ndbfile = %s\n"
	database := filepath.Join(h.dir, "bantam.db")
	h.write("bantam.conf", fmt.Sprintf(conf, f2b, database))
	p := h.start().ready()
	h.run("ban", "192.0.2.7")
	for _, tt := range []struct {
		name, socket, f2b, database string
		want                        []string
	}{
		{"one folder", "s", f2b, database, []string{"another Bantam (pid ", "hint: "}},
		{"one socket of Fail2Ban", "s2", f2b, database + "2", []string{f2b, "hint: "}},
		{"one database", "s2", f2b + "2", database, []string{database, "hint: "}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			other := t.TempDir()
			h.check(os.WriteFile(filepath.Join(other, "bantam.conf"), fmt.Appendf(nil, conf, tt.f2b, tt.database), 0o600))
			h.check(os.WriteFile(filepath.Join(other, "jail.local"), []byte(strings.ReplaceAll(lifeJail, "DIR", h.dir)), 0o600))
			cmd := exec.CommandContext(t.Context(), program, "run", "-c", other, "--socket", filepath.Join(h.dir, tt.socket))
			var out strings.Builder
			cmd.Stdout, cmd.Stderr = &out, &out
			h.check(h.net.Start(cmd))
			ended := make(chan error, 1)
			go func() { ended <- cmd.Wait() }()
			select {
			case err := <-ended:
				if err == nil {
					t.Error("it ends as if nothing were wrong")
				}
			case <-time.After(patience):
				h.check(cmd.Process.Signal(syscall.SIGKILL))
				<-ended
				t.Errorf("it runs beside the first:\n%s", out.String())
			}
			for _, want := range tt.want {
				if !strings.Contains(out.String(), want) {
					t.Errorf("it does not say %q:\n%s", want, out.String())
				}
			}
			if _, there := h.banned("manual")[netip.MustParsePrefix("192.0.2.7/32")]; !there {
				t.Error("the first one's ban is gone")
			}
			if h.run("banned") == "" {
				t.Error("the first one has lost its ban")
			}
		})
	}
	p.terminate()
}

// Logs that are replaced by a fifo and a folder while the daemon runs hang nothing; when they
// are files again they are read.
func TestLogsReplacedByFifosAndFolders(t *testing.T) {
	h := newHost(t, lifeJail+"[web]\nenabled = true\nfilter = sshd\nport = 80\nlogpath = DIR/web.log\n")
	h.write("web.log", "")
	p := h.start().ready()
	web := filepath.Join(h.dir, "web.log")
	who := 0
	bans := func(log, jail string) {
		t.Helper()
		who++
		h.log(log, strings.Repeat(failed(address(who)), 5))
		h.until(jail+" bans", func() bool {
			_, ok := h.banned(jail)[netip.PrefixFrom(address(who), 32)]
			return ok
		})
	}
	bans("web.log", "web")
	for _, replace := range []struct {
		name string
		make func() error
	}{
		{"a fifo", func() error { return syscall.Mkfifo(web, 0o600) }},
		{"a folder", func() error { return os.Mkdir(web, 0o700) }},
		{"a device", func() error { return os.Symlink("/dev/zero", web) }},
		{"a link to itself", func() error { return os.Symlink(web, web) }},
	} {
		h.check(os.Rename(web, web+".1"))
		h.check(replace.make())
		h.until("status says that the log is "+replace.name, func() bool {
			st, err := control.Call(t.Context(), h.client, control.GetStatus, control.None{})
			h.check(err)
			for _, j := range st.Jails {
				for _, s := range j.Sources {
					if j.Jail == "web" && s.State != "reading" {
						return true
					}
				}
			}
			return false
		})
		bans("auth.log", "sshd")
		h.check(os.Remove(web))
		bans("web.log", "web")
	}
	p.terminate()
}

// Somebody else flushes what holds the bans: they are back within a second.
func TestBansAreBackASecondAfterAFlush(t *testing.T) {
	for _, tt := range []struct {
		banaction string
		flushes   []string
		holds     []string
	}{
		{"bantam", []string{"nft flush ruleset", "nft delete table inet bantam"}, []string{"nft", "list", "ruleset"}},
		{"nftables", []string{"nft flush ruleset", "nft flush set inet f2b-table addr-set-sshd", "nft flush chain inet f2b-table f2b-chain"}, []string{"nft", "list", "ruleset"}},
		{"iptables-ipset", []string{"ipset flush", "ipset flush f2b-sshd"}, []string{"ipset", "save"}},
		{"iptables-multiport", []string{"iptables -F f2b-sshd", "iptables -F"}, []string{"iptables-save"}},
	} {
		t.Run(tt.banaction, func(t *testing.T) {
			if _, err := exec.LookPath(tt.holds[0]); err != nil {
				peertest.Without(t, tt.holds[0]+" is not installed")
			}
			open := stockHost
			if tt.banaction == "bantam" {
				open = newHost
			}
			h := open(t, "[DEFAULT]\nbanaction = "+tt.banaction+"\n"+leakJail)
			p := h.start().ready()
			client, err := h.net.AddClient("client", netip.MustParsePrefix("192.0.2.7/24"))
			h.check(err)
			who := netip.MustParseAddr("192.0.2.7")
			if !h.arrives(client, who, patience) {
				t.Error("nobody is banned, and no packet arrives")
			}
			h.run("ban", who.String(), "--jail", "sshd")
			for _, flush := range tt.flushes {
				words := strings.Fields(flush)
				_, err := h.net.Output(t.Context(), words[0], words[1:]...)
				h.check(err)
				begin := time.Now()
				h.until("the ban is back after "+flush, func() bool {
					out, err := h.net.Output(t.Context(), tt.holds[0], tt.holds[1:]...)
					h.check(err)
					return strings.Contains(string(out), "192.0.2.7") && !h.arrives(client, who, 20*time.Millisecond)
				})
				if took := time.Since(begin); took > time.Second {
					t.Errorf("%s: the ban is back after %s", flush, took)
				}
			}
			p.terminate()
		})
	}
}
