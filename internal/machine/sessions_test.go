package machine

import (
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"
)

// record is one of utmp: x86-64's, or arm64's if long.
func record(long bool, kind int, pid int, user, host, addr string, at time.Time) string {
	size, atTime, atAddr := shortRecord, shortTime, shortAddr
	if long {
		size, atTime, atAddr = longRecord, longTime, longAddr
	}
	b := make([]byte, size)
	binary.NativeEndian.PutUint16(b, uint16(kind))
	binary.NativeEndian.PutUint32(b[atPID:], uint32(pid))
	copy(b[8:], "pts/1")
	copy(b[atUser:atUser+32], user)
	copy(b[76:76+256], host)
	if long {
		binary.NativeEndian.PutUint64(b[atTime:], uint64(at.Unix()))
	} else {
		binary.NativeEndian.PutUint32(b[atTime:], uint32(at.Unix()))
	}
	if addr != "" {
		copy(b[atAddr:], netip.MustParseAddr(addr).AsSlice())
	}
	return string(b)
}

func ago(d time.Duration) time.Time { return noon.Add(-d) }

func session(user, addr string, at time.Time, how string) Session {
	return Session{User: user, Addr: netip.MustParseAddr(addr), At: at, Live: strings.Contains(how, "live"), Mine: strings.Contains(how, "mine")}
}

func TestSessions(t *testing.T) {
	ssh := sockets("192.0.2.1:22 203.0.113.5:4000 01 501", "0.0.0.0:22 0.0.0.0:0 0A 500",
		"192.0.2.1:50000 198.51.100.80:443 01 502", // forwarded for the user
		"192.0.2.1:8022 198.51.100.81:9999 01 503", // forwarded by a port that sshd opened for him
		"0.0.0.0:8022 0.0.0.0:0 0A 504")
	hour, minute := time.Hour, time.Minute
	for _, c := range []struct {
		name  string
		files map[string]string
		want  []Session
	}{
		{"nobody", nil, nil},
		{"utmp of either form", merge(proc(5, 1, 0, "sshd", ""), map[string]string{
			"run/utmp": record(false, 2, 0, "reboot", "6.1", "", ago(9*hour)) + record(false, 7, 5, "root", "192.0.2.7", "192.0.2.7", ago(50*hour)) + "cut off",
		}), []Session{session("root", "192.0.2.7", ago(50*hour), "live")}},
		{"utmp of arm64", merge(proc(5, 1, 0, "sshd", ""), map[string]string{
			"var/run/utmp": record(true, 2, 0, "reboot", "6.1", "", ago(9*hour)) + record(true, 7, 5, "root", "h", "2001:db8::7", ago(hour)) + record(true, 7, 5, "anna", "h", "192.0.2.7", ago(minute)),
		}), []Session{session("anna", "192.0.2.7", ago(minute), "live"), session("root", "2001:db8::7", ago(hour), "live")}},
		{"what is over, local or somebody's own text is none", merge(proc(5, 1, 0, "sshd", ""), map[string]string{
			"run/utmp": record(false, 7, 6, "root", "192.0.2.7", "192.0.2.7", ago(hour)) + // the process is gone
				record(false, 8, 5, "root", "192.0.2.8", "192.0.2.8", ago(hour)) + // so is the session
				record(false, 7, 5, "root", "", "", ago(hour)) + record(false, 7, 5, "root", "", "127.0.0.1", ago(hour)) +
				record(false, 7, 5, "www-data", "192.0.2.9", "", ago(hour)), // by utempter
			"var/log/wtmp": record(false, 7, 5, "www-data", "192.0.2.9", "", ago(hour)),
		}), nil},
		{"logins of the last day", map[string]string{
			"var/log/wtmp": record(false, 7, 6, "old", "", "192.0.2.6", ago(25*hour)) + record(false, 7, 6, "root", "", "192.0.2.7", ago(20*hour)) +
				record(false, 7, 6, "root", "", "192.0.2.7", ago(2*hour)) + record(false, 8, 6, "root", "", "192.0.2.7", ago(hour)) +
				record(false, 7, 6, "to come", "", "192.0.2.8", ago(-hour)),
		}, []Session{session("root", "192.0.2.7", ago(2*hour), "")}},
		{"systemd-logind", merge(proc(5, 1, 0, "sshd", ""), map[string]string{
			"run/systemd/sessions/1":     fmt.Sprintf("# private\nUID=0\nUSER=root\nSTATE=active\nREMOTE=1\nREMOTE_HOST=192.0.2.7\nSERVICE=sshd\nLEADER=5\nREALTIME=%d\n", ago(hour).UnixMicro()),
			"run/systemd/sessions/1.ref": "USER=x\nREMOTE_HOST=192.0.2.1\nSERVICE=sshd\nLEADER=5\n",
			"run/systemd/sessions/2":     "USER=ftp\nSTATE=active\nREMOTE_HOST=192.0.2.8\nSERVICE=vsftpd\nLEADER=5\n",
			"run/systemd/sessions/3":     "USER=root\nSTATE=closing\nREMOTE_HOST=192.0.2.9\nSERVICE=sshd\nLEADER=5\n",
			"run/systemd/sessions/4":     "USER=root\nSTATE=active\nREMOTE_HOST=192.0.2.10\nSERVICE=sshd\nLEADER=6\n",
			"run/systemd/sessions/5":     "USER=root\nSTATE=active\nREMOTE_HOST=a.example.org\nSERVICE=sshd\nLEADER=5\n",
			"run/systemd/sessions/6":     fmt.Sprintf("USER=\"a b\"\nSTATE=online\nREMOTE_HOST=2001:db8::6\nSERVICE=sshd\nLEADER=5\nREALTIME=%d", ago(minute).UnixMicro()),
		}), []Session{session("a b", "2001:db8::6", ago(minute), "live"), session("root", "192.0.2.7", ago(hour), "live")}},
		{"a process of sshd", merge(proc(4, 1, 0, "sshd", "sshd: anna [priv]"), proc(5, 4, 1000, "sshd", "sshd: anna@notty\x00\x00\x00"), map[string]string{
			"proc/5/fd/4": "-> socket:[501]", "proc/5/fd/3": "-> socket:[502]", "proc/5/fd/9": "-> socket:[503]", "proc/5/fd/8": "-> socket:[504]",
			"proc/4/fd/4": "-> socket:[501]", "proc/net/tcp": ssh,
		}), []Session{session("anna", "203.0.113.5", ago(hour), "live")}},
		{"a newer one, of root", merge(proc(5, 1, 0, "sshd-session", "sshd-session: root@pts/0,pts/1"), map[string]string{
			"proc/5/fd/4": "-> socket:[501]", "proc/net/tcp": ssh,
		}), []Session{session("root", "203.0.113.5", ago(hour), "live")}},
		{"nobody before he has logged in", merge(
			proc(5, 1, 0, "sshd", "sshd: root [priv]"), proc(6, 5, 100, "sshd", "sshd: root [net]"), proc(7, 1, 0, "sshd", "sshd: unknown [net]"),
			proc(8, 1, 0, "sshd", "sshd: [accepted]"), proc(9, 1, 0, "sshd", "sshd: a@pts/1 [net]"), proc(10, 1, 0, "sshd", "sshd: /usr/sbin/sshd -D [listener] 1 of 10-100 startups"),
			proc(11, 1, 0, "sshd", "sshd: user@host"), map[string]string{
				"proc/5/fd/4": "-> socket:[501]", "proc/6/fd/4": "-> socket:[501]", "proc/7/fd/4": "-> socket:[501]", "proc/8/fd/4": "-> socket:[501]",
				"proc/9/fd/4": "-> socket:[501]", "proc/10/fd/4": "-> socket:[501]", "proc/11/fd/4": "-> socket:[501]", "proc/net/tcp": ssh,
			}), nil},
		{"nobody who calls his own process sshd", merge(
			proc(4, 1, 33, "sshd", "sshd: root@pts/0"), proc(5, 4, 33, "sshd", "sshd: root@pts/0"), proc(6, 7, 33, "sshd", "sshd: root@pts/0"), proc(7, 1, 0, "apache2", ""), map[string]string{
				"proc/4/fd/4": "-> socket:[501]", "proc/5/fd/4": "-> socket:[501]", "proc/6/fd/4": "-> socket:[501]", "proc/net/tcp": ssh,
			}), nil},
		{"nobody who starts root's programs under sshd's name", merge(
			proc(5, 1, 0, "sshd", "sshd: root@pts/0"), proc(6, 7, 33, "sshd", "sshd: root@pts/0"), proc(7, 1, 0, "sshd", "sshd: root@pts/1"), map[string]string{
				"proc/5/exe": "-> /usr/bin/sudo", "proc/6/exe": "-> /home/eve/sshd", "proc/7/exe": "-> /usr/bin/su (deleted)",
				"proc/5/fd/0": "-> socket:[501]", "proc/6/fd/0": "-> socket:[501]", "proc/7/fd/0": "-> socket:[501]", "proc/net/tcp": ssh,
			}), nil},
		{"one whose program was upgraded meanwhile", merge(proc(5, 1, 0, "sshd-session", "sshd-session: root@notty"), map[string]string{
			"proc/5/exe": "-> /usr/lib/openssh/sshd-session (deleted)", "proc/5/fd/4": "-> socket:[501]", "proc/net/tcp": ssh,
		}), []Session{session("root", "203.0.113.5", ago(hour), "live")}},
		{"this one, in spite of sudo", merge(proc(5, 1, 0, "bash", "bash"), proc(6, 5, 0, "sudo", "sudo bantam setup"), proc(7, 6, 0, "bantam", "bantam setup"), map[string]string{
			"proc/self":      "-> 7",
			"proc/5/environ": "A=b\x00USER=anna\x00SSH_CONNECTION=203.0.113.5 4000 192.0.2.1 22\x00SSH_CONNECTION=x\x00", "proc/6/environ": "A=b\x00", "proc/net/tcp": ssh,
		}), []Session{session("anna", "203.0.113.5", ago(hour), "live mine")}},
		{"this one is over, as a daemon's may be", merge(proc(5, 1, 0, "bantam", ""), map[string]string{
			"proc/self": "-> 5", "proc/5/environ": "USER=anna\x00SSH_CONNECTION=::ffff:203.0.113.6 4000 192.0.2.1 22\x00", "proc/net/tcp": ssh,
		}), []Session{session("anna", "203.0.113.6", ago(hour), "mine")}},
		{"this one in utmp and its environment is one", merge(proc(5, 1, 0, "sshd", ""), proc(6, 5, 0, "bantam", ""), map[string]string{
			"proc/self": "-> 6", "proc/6/environ": "USER=root\x00SSH_CONNECTION=203.0.113.5 4000 192.0.2.1 22\x00",
			"run/utmp":     record(false, 7, 5, "anna", "", "203.0.113.5", ago(minute)),
			"var/log/wtmp": record(false, 7, 5, "anna", "", "203.0.113.5", ago(minute)),
		}), []Session{session("anna", "203.0.113.5", ago(minute), "live mine")}},
		{"processes in a ring", merge(proc(5, 6, 0, "a", ""), proc(6, 5, 0, "b", ""), map[string]string{"proc/self": "-> 5"}), nil},
		{"a name in no language", merge(proc(5, 1, 0, "sshd", ""), map[string]string{
			"run/utmp": record(false, 7, 5, "\xff\x1b[2J"+strings.Repeat("a", 40), "", "192.0.2.7", ago(minute)),
		}), []Session{session("\xff\x1b[2J"+strings.Repeat("a", 27), "192.0.2.7", ago(minute), "live")}},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := tree(t, c.files).Sessions(noon)
			for i := range got {
				got[i].At = got[i].At.Local()
			}
			if err != nil || len(got) != len(c.want) || len(got) > 0 && !reflect.DeepEqual(got, c.want) {
				t.Errorf("sessions\n%v, %v, want\n%v", got, err, c.want)
			}
		})
	}
}

// Of a long wtmp the newest records are read, from where one begins.
func TestSessionsOfALongRecord(t *testing.T) {
	for _, long := range []bool{false, true} {
		m := tree(t, map[string]string{"var/log/wtmp": ""})
		f, err := os.OpenFile(filepath.Join(m.Root, "var/log/wtmp"), os.O_WRONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		one := record(long, 7, 1, "root", "", "192.0.2.7", ago(48*time.Hour))
		n := 3 * maxRecords / len(one)
		last := record(long, 7, 1, "anna", "", "192.0.2.9", ago(time.Minute))
		if _, err := io.WriteString(f, strings.Repeat(one, n)+last); err != nil {
			t.Fatal(err)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
		got, err := m.Sessions(noon)
		if err != nil || len(got) != 1 || got[0].User != "anna" {
			t.Errorf("long %v: sessions %v, %v, want anna's", long, got, err)
		}
	}
}

// A real process with a real connection, in the titles and tables of the real kernel.
func TestAProcessOfSSHDHereAndNow(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("sshd's processes tell their connections to root alone")
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	client, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	server, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	file, err := server.(*net.TCPConn).File()
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	sleep, err := exec.LookPath("sleep")
	if err != nil {
		t.Skip(err)
	}
	link := filepath.Join(t.TempDir(), "sshd") // the kernel names a process for the file
	if err := os.Symlink(sleep, link); err != nil {
		t.Fatal(err)
	}
	cmd := &exec.Cmd{Path: link, Args: []string{"sshd: root@pts/0", "60"}, ExtraFiles: []*os.File{file}}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _, _ = cmd.Process.Kill(), cmd.Wait() }()
	m := Machine{}
	p, ok := m.process(cmd.Process.Pid)
	if !ok || p.name != "sshd" {
		t.Skipf("this machine's sleep is another program: %+v", p)
	}
	if got := m.loggedIn(p.pid); got != "" {
		t.Errorf("sleep 60 is a session of %q; its title goes on", got)
	}
	remote, ports := map[uint64]socket{}, map[uint16][]uint64{}
	if err := m.sockets("tcp", func(s socket) {
		if s.state == established {
			remote[s.inode] = s
		} else if s.state == listens {
			ports[s.local.Port()] = append(ports[s.local.Port()], s.inode)
		}
	}); err != nil {
		t.Fatal(err)
	}
	s, ok := connection(m.held(p.pid), remote, ports)
	if !ok || s.remote.String() != client.LocalAddr().String() {
		t.Errorf("its connection is from %v, %v, want %v", s.remote, ok, client.LocalAddr())
	}
	if at := m.started(p.pid); time.Since(at).Abs() > time.Minute {
		t.Errorf("it was started at %v", at)
	}
}

func FuzzEntries(f *testing.F) {
	f.Add([]byte(record(false, 7, 5, "root", "h", "192.0.2.7", noon)))
	f.Add([]byte(record(true, 7, 5, "root", "h", "2001:db8::7", noon) + "rest"))
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, e := range parseEntries(b[:min(len(b), 1<<16)]) {
			if len(e.user) > 32 || e.addr.IsValid() && e.addr.IsUnspecified() {
				t.Errorf("%+v", e)
			}
		}
		if n := len(parseEntries(b)); n > len(b)/shortRecord {
			t.Errorf("%d records in %d bytes", n, len(b))
		}
	})
}

func FuzzTables(f *testing.F) {
	f.Add([]byte("eth0\t00000000\t010200C0\t0003\t0\t0\t0\t00000000\t0\t0\t0"))
	f.Add([]byte("00000000000000000000000000000000 00 00000000000000000000000000000000 00 fe800000000000000000000000000001 00000400 00000003 00000000 00000003 eth0"))
	f.Add([]byte(strings.Split(sockets("192.0.2.1:22 203.0.113.5:4000 01 501"), "\n")[1]))
	f.Fuzz(func(t *testing.T, line []byte) {
		if a, ok := gateway4(line); ok && (!a.Is4() || a.IsUnspecified()) {
			t.Errorf("the gateway %v", a)
		}
		if a, ok := gateway6(line); ok && (!a.Is6() || a.IsUnspecified()) {
			t.Errorf("the gateway %v", a)
		}
		if s, ok := parseSocket(line); ok && !(s.local.IsValid() && s.remote.IsValid()) {
			t.Errorf("the socket %+v", s)
		}
		if client, server, ok := parseConnection(string(line)); ok && !(client.IsValid() && server.IsValid()) {
			t.Errorf("the connection %v %v", client, server)
		}
	})
}

func FuzzContainer(f *testing.F) {
	f.Add([]byte(`{"Name":"/a","State":{"Running":true},"NetworkSettings":{"Ports":{"80/tcp":[{"HostIp":"::","HostPort":"80"}]}}}`), []byte(`{"PortBindings":{"80/tcp":null}}`))
	f.Fuzz(func(t *testing.T, config, host []byte) {
		c, _, err := parseContainer(config, host)
		if err != nil {
			return
		}
		for _, p := range c.Ports {
			if !p.Outside.IsValid() || p.Outside.Port() == 0 {
				t.Errorf("the port %+v", p)
			}
		}
	})
}

// On the machine as it is: the daemon does it once a minute.
func BenchmarkSessions(b *testing.B) {
	var m Machine
	b.ReportAllocs()
	for b.Loop() {
		if _, err := m.Sessions(time.Now()); err != nil {
			b.Fatal(err)
		}
	}
}
