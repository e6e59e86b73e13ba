package test

import (
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"bantam/internal/nstest"
)

// newcomers is a Debian with an sshd and nothing else, and Bantam's package in /root.
func newcomers(t *testing.T) *debian {
	t.Helper()
	now, _ := packages(t)
	d := newDebian(t, "openssh-server")
	d.write("etc/resolv.conf", "nameserver 192.0.2.53\n") // not that of the machine under the test
	d.sshd()
	d.put(now["bantam"])
	d.does("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", "/root/office.key")
	d.does("install", "-D", "-m", "600", "/root/office.key.pub", "/root/.ssh/authorized_keys")
	d.does("install", "-D", "-o", "admin", "-m", "600", "/root/office.key.pub", "/home/admin/.ssh/authorized_keys")
	return d
}

// tries has a client try n wrong passwords, all at once. The answer to the last may be dropped already.
func (d *debian) tries(client *nstest.Host, n int) {
	d.Helper()
	var tries sync.WaitGroup
	for range n {
		tries.Go(func() {
			if in, said := d.login(client, "wrong"); in {
				d.Errorf("a wrong password: logged in, ssh says %q", said)
			}
		})
	}
	tries.Wait()
}

// The machine on which Bantam is tried as a newcomer would: its sshd is a real one.
func TestNewcomersMachine(t *testing.T) {
	d := newDebian(t, "openssh-server")
	d.sshd()
	if in, said := d.login(d.attacker, "right"); !in {
		t.Fatalf("the right password does not let the administrator in: %s", said)
	}
	d.tries(d.attacker, 5)
	const failure = "Failed password for admin from 198.51.100.23 port"
	d.until("sshd has logged five failures", func() bool {
		log, err := os.ReadFile(filepath.Join(d.dir, "var/log/auth.log"))
		d.check(err)
		return strings.Count(string(log), failure) >= 5
	})
	log, err := os.ReadFile(filepath.Join(d.dir, "var/log/auth.log"))
	d.check(err)
	if n := strings.Count(string(log), failure); n != 5 {
		t.Errorf("%d lines tell of five wrong passwords:\n%s", n, log)
	}
	if n := strings.Count(string(log), "Accepted password for admin from 198.51.100.23 port"); n != 1 {
		t.Errorf("%d lines tell of one right password:\n%s", n, log)
	}
}

// The first page of the guide is what happens: from the package to the dropped packet, and back.
func TestNewcomersFirstMinutes(t *testing.T) {
	d := newcomers(t)
	s := d.tell("The first five minutes")
	s.loggedIn()
	must := func(out string, texts ...string) {
		t.Helper()
		for _, text := range texts {
			if !strings.Contains(out, text) {
				t.Errorf("nothing says %q:\n%s", text, out)
			}
		}
	}
	begun := time.Now()
	must(s.does("$ sudo dpkg -i bantam_*_amd64.deb"), "it only observes until you run: sudo bantam setup\n")
	p := d.service()
	must(s.does("$ sudo bantam"), "observing, nobody is banned", "Nobody is banned until you run: sudo bantam setup\n")
	if rules := d.ruleset(); rules != "" {
		t.Errorf("the kernel has rules before setup:\n%s", rules)
	}
	must(s.does("$ sudo bantam setup --yes"), " x sshd  listens on 22/tcp", "Written: /etc/bantam/jail.local\n", "\n  203.0.113.5 ")
	t.Logf("from dpkg -i to a machine that is protected: %s", time.Since(begun).Round(100*time.Millisecond))
	s.does("$ cat /etc/bantam/jail.local")
	must(s.does("$ sudo bantam"), "enforcing by nftables inet bantam", "\nsshd  auth.log ")

	const login = "attacker$ ssh admin@10.99.0.1"
	must(s.does(login), "Permission denied")
	for range 4 { // one after the other: so the page's lines are in their order
		d.tries(d.attacker, 1)
	}
	d.until("the attacker is banned", func() bool { return len(d.banned("sshd")) == 1 })
	if d.attempt() {
		t.Fatal("packets of who is banned pass")
	}
	t.Logf("from dpkg -i to the proven drop, with five wrong passwords: %s", time.Since(begun).Round(100*time.Millisecond))
	must(s.does(login), "Connection timed out")
	if !d.connects(d.office, officeAddr) {
		t.Error("another client's packets are dropped, too")
	}

	must(s.does("$ sudo bantam banned"), "198.51.100.23  sshd", "5 failures")
	must(s.does("$ sudo bantam why 198.51.100.23"), "banned in sshd since", "Failed password for admin from 198.51.100.23", "library/filter.d/sshd.conf:", "bantam unban 198.51.100.23")
	must(s.does("$ sudo bantam doctor 198.51.100.23"), "198.51.100.23 (sshd) is dropped at prerouting -300 by inet bantam\n            chain jail-sshd: tcp 22", "Nothing is wrong")
	must(s.does("$ sudo bantam unban 198.51.100.23"), "unbanned 198.51.100.23 in sshd")
	if !d.attempt() {
		t.Error("packets of who was unbanned are dropped")
	}
	must(s.does(login), "Permission denied")
	must(s.does("$ sudo bantam history"), "198.51.100.23  sshd  unbanned after ")
	s.ends()
	d.does("bantam", "stop")
	p.wait()
}

// Asked, it observes, and goes over to banning on trial; and an administrator does not shut himself out.
func TestNewcomerIsAsked(t *testing.T) {
	d := newcomers(t)
	d.does("sh", "-c", "dpkg -i /root/bantam_*.deb")
	p := d.service()
	s := d.tell("Observe and enforce")
	if out := s.answers("$ sudo bantam setup", func(int) {}); strings.Count(out, "Enter takes these") != 2 || strings.Count(out, "Number [1]: ") != 1 {
		t.Errorf("setup asks not three questions:\n%s", out)
	}
	d.tries(d.attacker, 5)
	d.until("the attacker is noticed", func() bool { return len(d.bans()) == 1 })
	if !d.attempt() {
		t.Error("somebody is dropped while it only observes")
	}
	s.does("$ sudo bantam")
	s.does("$ sudo bantam banned")
	if out := s.answers("$ sudo bantam enforce", func(int) {
		d.until("the observed ban is carried out", func() bool { return !d.attempt() })
	}); !strings.Contains(out, "Enforcing: sshd.") {
		t.Errorf("enforce says\n%s", out)
	}
	if d.attempt() {
		t.Error("packets of who is banned pass")
	}

	// Somebody is logged in from the office by his key, and forgets a password there.
	session := d.ssh(d.office, "", "admin@10.99.0.1", "echo in; cat")
	in, err := session.StdinPipe()
	d.check(err)
	out, err := session.StdoutPipe()
	d.check(err)
	d.check(d.office.Start(session))
	if _, err := io.ReadFull(out, make([]byte, 3)); err != nil {
		t.Fatalf("the administrator's key does not let him in: %v", err)
	}
	d.write("root/office.conf", strings.Replace(d.text("root/office.conf"), "IdentityFile /root/office.key", "PreferredAuthentications password", 1))
	d.tries(d.office, 5)
	d.until("the ban of the office is decided on", func() bool { return len(d.bans()) == 2 })
	if held := s.does("$ sudo bantam banned"); !strings.Contains(held, "203.0.113.5 in sshd: an administrator's login: user admin at ") {
		t.Errorf("nothing says that the ban is held back:\n%s", held)
	}
	if !d.connects(d.office, officeAddr) {
		t.Error("the administrator is shut out")
	}
	_, err = io.WriteString(in, "still\n")
	d.check(err)
	if _, err := io.ReadFull(out, make([]byte, 6)); err != nil {
		t.Errorf("the administrator's session is dead: %v", err)
	}
	d.check(in.Close())
	d.check(session.Wait())
	s.ends()
	d.does("bantam", "stop")
	p.wait()
}

// What one host knows goes to a second one as the guide has it: with jails and ends, and without those whom the first
// one spares.
func TestASecondHostTakesBansOver(t *testing.T) {
	first, second := newHost(t, administrators), newHost(t, administrators)
	first.log("auth.log", accepted(address(1)))
	p, q := first.start().ready(), second.start().ready()
	for n := range 3 {
		first.log("auth.log", strings.Repeat(failed(address(n+1)), 5))
	}
	first.until("all are decided", func() bool { return len(first.bans()) == 3 && len(first.banned("sshd")) == 2 })
	for _, want := range []string{"2 bans taken over", "2 banned already"} { // again changes nothing
		take := second.command("import", "-")
		take.Stdin = strings.NewReader(first.run("banned", "--json"))
		out, err := take.CombinedOutput()
		if err != nil || !strings.Contains(string(out), want) || !strings.Contains(string(out), "203.0.0.1 is held back where the list is from") {
			t.Errorf("import says %v:\n%s", err, out)
		}
	}
	there := second.banned("sshd")
	for prefix, end := range first.banned("sshd") {
		if off := there[prefix].Sub(end).Abs(); off > 2*time.Second {
			t.Errorf("%s is banned until %s, there until %s", prefix, end, there[prefix])
		}
	}
	if len(there) != 2 {
		t.Errorf("the second host bans %v", there)
	}
	p.terminate()
	q.terminate()
}
