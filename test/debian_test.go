package test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"bantam/internal/control"
	"bantam/internal/firewall"
	"bantam/internal/nstest"
	"bantam/internal/peertest"
)

// A debian is a Debian 12 as it is after its installation, with processes, mounts and a network
// of its own, and two clients on its network. Its folder is "/" of it, seen from outside.
type debian struct {
	*host
	first    *exec.Cmd // its process 1
	attacker *nstest.Host
	office   *nstest.Host // where its administrator sits
	off      func()       // ends all its processes
}

// attackerAddr is the address of a debian's first client.
var attackerAddr = netip.MustParseAddr("198.51.100.23")

// officeAddr is the address of a debian's second client.
var officeAddr = netip.MustParseAddr("203.0.113.5")

// treeAge is how old a kept tree may be: Debian's security team has not slept since.
const treeAge = 7 * 24 * time.Hour

// debianTree is a folder with Debian 12's smallest tree and some packages, which nobody changes. It
// is made once, in 20 s, and kept among the user's caches.
func debianTree(t testing.TB, packages ...string) string {
	t.Helper()
	cache, err := os.UserCacheDir()
	if err != nil {
		cache = os.TempDir()
	}
	cache = filepath.Join(cache, "bantam-test")
	if err := os.MkdirAll(cache, 0o755); err != nil {
		t.Fatal(err)
	}
	tree := filepath.Join(cache, strings.Join(append([]string{"debian12"}, packages...), "+"))
	lock, err := os.Create(tree + ".lock") // tests of another process may want it, too
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Close()
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	if made, err := os.Stat(tree); err == nil && time.Since(made.ModTime()) < treeAge {
		return tree
	}
	bootstrap, err := exec.LookPath("mmdebstrap")
	if err != nil {
		peertest.Without(t, "there is no mmdebstrap to make a Debian with")
	}
	started := time.Now()
	if err := errors.Join(os.RemoveAll(tree), os.RemoveAll(tree+".new")); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
	defer cancel()
	make := exec.CommandContext(ctx, bootstrap, "--quiet", "--mode=root", "--variant=minbase",
		"--include="+strings.Join(packages, ","), "bookworm", tree+".new")
	if out, err := make.CombinedOutput(); err != nil {
		peertest.Without(t, fmt.Sprintf("no Debian can be made: %v: %s", err, bytes.TrimSpace(out)))
	}
	now := time.Now()
	if err := errors.Join(os.Chtimes(tree+".new", now, now), os.Rename(tree+".new", tree)); err != nil {
		t.Fatal(err)
	}
	t.Logf("a Debian was made in %s", time.Since(started).Round(time.Second))
	return tree
}

// bringUp turns a new mount namespace into a machine and stays as its process 1 for as long as
// somebody holds its standard input. What is written there is kept in memory only.
const bringUp = `set -e
mount --make-rprivate /
mount -t tmpfs -o mode=755 tmpfs "$2"
cd "$2"
mkdir upper work root
mount -t overlay -o lowerdir="$1",upperdir=upper,workdir=work overlay root
cd root
mount -t proc proc proc
mount -t tmpfs -o mode=755 tmpfs run
mount -t tmpfs -o mode=755 tmpfs dev
for d in null zero full random urandom tty; do : >dev/$d; mount --bind /dev/$d dev/$d; done
mkdir -p dev/pts dev/shm
mount -t devpts -o newinstance,ptmxmode=0666,mode=620 devpts dev/pts
ln -s pts/ptmx dev/ptmx
ln -s /proc/self/fd dev/fd
pivot_root . mnt
exec chroot . sh -c 'umount -l /mnt; hostname gate; echo up; read -r _'
`

// newDebian starts one with packages beside the smallest tree.
func newDebian(t *testing.T, packages ...string) *debian {
	t.Helper()
	network := nstest.New(t)
	tree := debianTree(t, packages...)
	attacker, err := network.AddClient("attacker", netip.PrefixFrom(attackerAddr, 32))
	if err != nil {
		t.Fatal(err)
	}
	office, err := network.AddClient("office", netip.PrefixFrom(officeAddr, 32))
	if err != nil {
		t.Fatal(err)
	}
	kernel, err := firewall.OpenNFTables(firewall.Options{NetNS: network.FD()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = kernel.Close() })

	first := exec.Command("sh", "-c", bringUp, "sh", tree, t.TempDir())
	first.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS | syscall.CLONE_NEWPID | syscall.CLONE_NEWUTS | syscall.CLONE_NEWIPC}
	var complaint bytes.Buffer
	first.Stderr = &complaint
	in, err := first.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := first.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := network.Start(first); err != nil {
		t.Fatalf("start a Debian: %v", err)
	}
	off := sync.OnceFunc(func() {
		_ = in.Close()
		_ = first.Process.Kill() // and the kernel all others with it
		_ = first.Wait()
	})
	t.Cleanup(off)
	if line, _ := bufio.NewReader(out).ReadString('\n'); line != "up\n" {
		_ = in.Close()
		_ = first.Wait()
		t.Fatalf("start a Debian: %q %s", line, complaint.String())
	}
	root := filepath.Join("/proc", strconv.Itoa(first.Process.Pid), "root")
	h := &host{T: t, net: network, kernel: kernel, dir: root, client: control.NewClient(filepath.Join(root, "run/bantam/bantam.sock"))}
	return &debian{host: h, first: first, attacker: attacker, office: office, off: off}
}

// inside is a command of the debian's own.
func (d *debian) inside(args ...string) *exec.Cmd {
	pid := strconv.Itoa(d.first.Process.Pid)
	cmd := exec.CommandContext(d.Context(), "nsenter", append([]string{"-t", pid, "-m", "-u", "-i", "-n", "-p", "-r", "-w", "--"}, args...)...)
	cmd.Env = []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", "LC_ALL=C.UTF-8", "TERM=dumb", "DEBIAN_FRONTEND=noninteractive"}
	return cmd
}

// spawn starts a command there that goes on until the test ends. What is killed is nsenter alone;
// the command ends with the machine.
func (d *debian) spawn(args ...string) *process {
	d.Helper()
	p := d.startAs(d.inside(args...))
	d.Cleanup(d.off) // before startAs' own, which waits for the end of what it prints
	return p
}

// does runs a command there and returns what it prints.
func (d *debian) does(args ...string) string {
	d.Helper()
	out, err := d.inside(args...).CombinedOutput()
	if err != nil {
		d.Fatalf("%s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

// refuses runs a command that has to fail.
func (d *debian) refuses(args ...string) string {
	d.Helper()
	out, err := d.inside(args...).CombinedOutput()
	if err == nil {
		d.Fatalf("%s succeeds:\n%s", strings.Join(args, " "), out)
	}
	return string(out)
}

// put copies files into the debian's /root and returns where they are.
func (d *debian) put(files ...string) []string {
	d.Helper()
	var out []string
	for _, f := range files {
		b, err := os.ReadFile(f)
		d.check(err)
		name := filepath.Join("/root", filepath.Base(f))
		d.write(name, string(b))
		out = append(out, name)
	}
	return out
}

// files are all files and folders of the debian, but for those of the kernel and its processes.
func (d *debian) files() map[string]bool {
	d.Helper()
	out := map[string]bool{}
	err := filepath.WalkDir(d.dir+"/", func(path string, e fs.DirEntry, err error) error {
		name := strings.TrimPrefix(path, d.dir)
		switch {
		case err != nil:
			return err
		case name == "/proc" || name == "/dev" || name == "/sys":
			return fs.SkipDir
		}
		out[name] = true
		return nil
	})
	d.check(err)
	return out
}

// ruleset is what the kernel's firewall has.
func (d *debian) ruleset() string {
	d.Helper()
	out, err := d.net.Output(d.Context(), "nft", "list", "ruleset")
	d.check(err)
	return string(out)
}

// syslog writes what programs say on /dev/log into /var/log/auth.log, as a syslog server does.
func (d *debian) syslog() {
	d.Helper()
	path := filepath.Join(d.dir, "dev/log")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	d.check(err)
	d.check(os.Chmod(path, 0o666))
	file, err := os.OpenFile(filepath.Join(d.dir, "var/log/auth.log"), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o640)
	d.check(err)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for buf := make([]byte, 8192); ; {
			n, err := conn.Read(buf)
			if err != nil {
				return
			}
			// "<PRI>Mmm dd hh:mm:ss tag[pid]: text": RFC 3164 of a local program, without its host.
			text := string(buf[:n])
			if _, after, ok := strings.Cut(text, ">"); ok && len(after) > len(time.Stamp) {
				stamp, said := after[:len(time.Stamp)], strings.TrimRight(after[len(time.Stamp):], "\n\x00")
				_, _ = fmt.Fprintf(file, "%s gate%s\n", stamp, said)
			}
		}
	}()
	d.Cleanup(func() {
		_ = conn.Close()
		<-done
		_ = file.Close()
	})
}

// sshd runs the debian's own sshd with what it says in /var/log/auth.log, and a user "admin" whose
// password is "right".
func (d *debian) sshd() {
	d.Helper()
	d.syslog()
	d.does("useradd", "--create-home", "admin")
	set := d.inside("chpasswd")
	set.Stdin = strings.NewReader("admin:right\n")
	if out, err := set.CombinedOutput(); err != nil {
		d.Fatalf("chpasswd: %v\n%s", err, out)
	}
	d.clients()
	d.does("mkdir", "-p", "/run/sshd")
	d.spawn("/usr/sbin/sshd", "-D")
	d.until("sshd listens", func() bool {
		conn, err := d.attacker.Dial(d.Context(), "tcp", attackerAddr, netip.AddrPortFrom(nstest.Server4, 22))
		if err != nil {
			return false
		}
		defer conn.Close()
		_ = conn.SetReadDeadline(time.Now().Add(patience))
		_, err = io.ReadFull(conn, make([]byte, 4)) // its banner
		return err == nil
	})
}

// clients gives those who log in what their ssh asks for: a file of options, and a way to say a password.
func (d *debian) clients() {
	d.Helper()
	d.write("root/askpass", "#!/bin/sh\necho \"$PASSWORD\"\n")
	d.check(os.Chmod(filepath.Join(d.dir, "root/askpass"), 0o700))
	const options = "StrictHostKeyChecking no\nUserKnownHostsFile /dev/null\nLogLevel ERROR\nNumberOfPasswordPrompts 1\nConnectTimeout 2\n"
	d.write("root/attacker.conf", options+"PreferredAuthentications password\n")
	d.write("root/office.conf", options+"IdentityFile /root/office.key\n")
}

// ssh is Debian's ssh with the options of one of its clients, on that one's network. Asked for a password it says this.
func (d *debian) ssh(client *nstest.Host, password string, args ...string) *exec.Cmd {
	// It is the debian's, in its mounts, but on the client's network.
	pid := strconv.Itoa(d.first.Process.Pid)
	cmd := exec.CommandContext(d.Context(), "nsenter", append([]string{
		"-t", pid, "-m", "-r", "-w", "--", "timeout", strconv.Itoa(int(patience.Seconds())),
		"ssh", "-F", "/root/" + client.Name + ".conf",
	}, args...)...)
	cmd.Env = []string{"PATH=/usr/bin:/bin", "HOME=/root", "SSH_ASKPASS=/root/askpass", "PASSWORD=" + password, "SSH_ASKPASS_REQUIRE=force", "DISPLAY=none"}
	return cmd
}

// login tries to log in at the debian from one of its clients, and says whether that went well and what ssh said. A
// wrong password takes two seconds or so, but several may be tried at once.
func (d *debian) login(client *nstest.Host, password string) (in bool, said string) {
	return d.at(client, d.ssh(client, password, "admin@"+nstest.Server4.String(), "true"))
}

// at runs a command on a client's network, and says whether it went well and what it printed.
func (d *debian) at(client *nstest.Host, cmd *exec.Cmd) (well bool, said string) {
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err := client.Start(cmd)
	if err == nil {
		err = cmd.Wait()
	}
	return err == nil, out.String()
}
