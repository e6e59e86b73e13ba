package source

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestSyslogLine(t *testing.T) {
	for _, c := range []struct {
		name, message, want string
		within              bool
	}{
		{"RFC 3164", "<34>Oct 11 22:14:15 gate sshd[8]: Failed", "Oct 11 22:14:15 gate sshd[8]: Failed", false},
		{"a day of one digit", "<34>Oct  1 22:14:15 gate sshd[8]: Failed", "Oct  1 22:14:15 gate sshd[8]: Failed", false},
		{"without a time the sender stands for the host", "<34>sshd[8]: Failed", "10.0.0.9 sshd[8]: Failed", false},
		{"a time of RFC 3339, as many write it", "<34>2024-05-01T10:00:00.1+02:00 gate sshd[8]: Failed", "2024-05-01T10:00:00.1+02:00 gate sshd[8]: Failed", false},
		{"from within, where no host is named", "<34>Oct 11 22:14:15 sshd[8]: Failed", "Oct 11 22:14:15 10.0.0.9 sshd[8]: Failed", true},
		{"RFC 5424", "<34>1 2003-10-11T22:14:15.003Z gate sshd 8 ID47 - Failed", "2003-10-11T22:14:15.003Z gate sshd[8]: Failed", false},
		{"with a byte order mark", "<34>1 2003-10-11T22:14:15.003Z gate su - - - \ufeffFailed", "2003-10-11T22:14:15.003Z gate su: Failed", false},
		{"with data, of which quotes hide brackets", `<34>1 2003-10-11T22:14:15Z gate su - - [a@1 b="x]\"] y"][c@2] Failed`, "2003-10-11T22:14:15Z gate su: Failed", false},
		{"with nothing but text", "<34>1 - - - - - - Failed", "10.0.0.9 Failed", false},
		{"that is cut short is taken as the older form", "<34>1 2003-10-11T22:14:15Z gate", "10.0.0.9 1 2003-10-11T22:14:15Z gate", false},
		{"without priority it is taken as it is", "Failed", "Failed", false},
		{"a priority that is none", "<1234>x", "<1234>x", false},
		{"line ends do not make lines", "<34>Oct 11 22:14:15 gate a: x\nOct 11 22:14:15 gate sshd[1]: forged\n", `Oct 11 22:14:15 gate a: x\nOct 11 22:14:15 gate sshd[1]: forged`, false},
		{"an ended one", "<34>Oct 11 22:14:15 gate a: x\n\x00", "Oct 11 22:14:15 gate a: x", false},
		{"an empty one", "\n", "", false},
	} {
		if got := string(syslogLine(nil, []byte(c.message), "10.0.0.9", c.within)); got != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}

func TestFrames(t *testing.T) {
	long := strings.Repeat("x", 3*MaxLine)
	for _, c := range []struct {
		name, in string
		want     []int // lengths
		ends     bool  // as a connection should
	}{
		{"ended by newlines", "<1>a\n<1>bc\r\n", []int{4, 6}, true},
		{"ended by NUL", "<1>a\x00<1>bc\x00", []int{4, 5}, true},
		{"counted", "4 <1>a5 <1>bc", []int{4, 5}, true},
		{"both in one connection", "4 <1>a\n<1>bc\n4 <1>d", []int{4, 5, 4}, true},
		{"the end of the connection ends a line", "<1>a\n<1>b", []int{4, 4}, true},
		{"a counted one that is cut is not taken", "4 <1>a9 <1>", []int{4}, false},
		{"a long line is cut", "<1>" + long + "\n<1>a\n", []int{MaxLine, 4}, true},
		{"a long counted one, too", fmt.Sprintf("%d %s4 <1>a", len(long), long), []int{MaxLine, 4}, true},
		{"a length nobody believes ends it", "99999999 <1>a", nil, false},
		{"a length that is none ends it", "4x<1>a", nil, false},
	} {
		f := newFrameReader(strings.NewReader(c.in))
		var got []int
		message, err := f.next()
		for ; err == nil; message, err = f.next() {
			got = append(got, len(message))
		}
		if fmt.Sprint(got) != fmt.Sprint(c.want) || errors.Is(err, io.EOF) != c.ends {
			t.Errorf("%s: lengths %v and %v, want %v", c.name, got, err, c.want)
		}
		if cap(f.text) > 2*MaxLine {
			t.Errorf("%s: %d bytes are held", c.name, cap(f.text))
		}
	}
}

func FuzzSyslog(f *testing.F) {
	f.Add([]byte("<34>1 2003-10-11T22:14:15.003Z gate sshd 8 ID47 [a b=\"\\\"]\"] Failed\n"))
	f.Add([]byte("44 <34>Oct 11 22:14:15 gate sshd[8]: Failed\n\nxx<1>sshd: a\x00"))
	f.Fuzz(func(t *testing.T, in []byte) {
		frames := newFrameReader(bytes.NewReader(in))
		total := 0
		for {
			message, err := frames.next()
			if err != nil {
				break
			}
			total += len(message)
			for _, within := range []bool{false, true} {
				line := syslogLine(nil, message, "h", within)
				if len(line) > MaxLine || bytes.IndexByte(line, '\n') >= 0 {
					t.Fatalf("%q gives %q", message, line)
				}
			}
		}
		if total > len(in) {
			t.Fatalf("messages of %d bytes from %d", total, len(in))
		}
	})
}

// listen is a bench with one syslog, and the address that it got.
func listen(t *testing.T, c Config) (b *bench, address string) {
	t.Helper()
	b = newBench(t)
	c.Jail, c.Backend = "t", Syslog
	b.configure(c)
	b.run()
	st := b.untilStatus("listening", func(st Status) bool { return st.State == Reading })
	_, address, _ = strings.Cut(st.Name, ":")
	if st.Backend != Syslog || !st.Live {
		t.Errorf("status %+v", st)
	}
	return b, address
}

func dial(t *testing.T, network, address string) net.Conn {
	t.Helper()
	conn, err := net.DialTimeout(network, address, patience)
	must(t, err)
	t.Cleanup(func() { conn.Close() })
	must(t, conn.SetDeadline(time.Now().Add(patience)))
	return conn
}

func TestSyslogByUDP(t *testing.T) {
	const at = "udp:127.0.0.1:0"
	b, address := listen(t, Config{Listen: []string{at}})
	conn := dial(t, "udp", address)
	for _, m := range []string{"<34>Oct 11 22:14:15 gate sshd[8]: fail one", "<34>1 - - sshd 8 - - fail two\nthree"} {
		_, err := conn.Write([]byte(m))
		must(t, err)
	}
	lines := b.sees(at, "Oct 11 22:14:15 gate sshd[8]: fail one", `127.0.0.1 sshd[8]: fail two\nthree`)
	if !lines[0].live {
		t.Error("what is sent is not live")
	}
	for _, f := range b.fails("t", lines[0].text, lines[1].text) {
		if f.Position.Source != "" {
			t.Errorf("position %+v, want none to go on from", f.Position)
		}
	}
}

func TestSyslogByTCP(t *testing.T) {
	const at = "tcp:127.0.0.1:0"
	b, address := listen(t, Config{Listen: []string{at}})
	conn := dial(t, "tcp", address)
	_, err := conn.Write([]byte("<34>Oct 11 22:14:15 gate a: one\n37 <34>Oct 11 22:14:15 gate a: two three"))
	must(t, err)
	b.sees(at, "Oct 11 22:14:15 gate a: one", "Oct 11 22:14:15 gate a: two three")
	// What breaks the frame closes the connection, and no other.
	other := dial(t, "tcp", address)
	_, err = conn.Write([]byte("123456789 x"))
	must(t, err)
	if n, err := conn.Read(make([]byte, 1)); n != 0 || err == nil {
		t.Errorf("read %d bytes and %v of a connection that should be closed", n, err)
	}
	_, err = other.Write([]byte("<34>Oct 11 22:14:15 gate a: four\n"))
	must(t, err)
	b.sees(at, "Oct 11 22:14:15 gate a: one", "Oct 11 22:14:15 gate a: two three", "Oct 11 22:14:15 gate a: four")
}

func TestSyslogTakesOnlyWhomItShould(t *testing.T) {
	elsewhere := []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}
	b, address := listen(t, Config{Listen: []string{"tcp:127.0.0.1:0"}, From: elsewhere})
	for range 3 {
		conn := dial(t, "tcp", address)
		if n, err := conn.Read(make([]byte, 1)); n != 0 || err == nil {
			t.Errorf("read %d bytes and %v of a connection that should be refused", n, err)
		}
	}
	b.until("the warning", func() bool { return strings.Contains(b.log.String(), "a sender of syslog messages is refused") })
	if n := strings.Count(b.logged(), "is refused"); n != 1 {
		t.Errorf("it is told %d times, want once\n%s", n, b.logged())
	}
}

func TestSyslogBoundsItsConnections(t *testing.T) {
	b, address := listen(t, Config{Listen: []string{"tcp:127.0.0.1:0"}})
	for range maxSenders {
		conn := dial(t, "tcp", address)
		_, err := conn.Write([]byte("x\n"))
		must(t, err)
	}
	b.until("a line of each", func() bool { return len(b.lines["tcp:127.0.0.1:0"]) == maxSenders })
	one := dial(t, "tcp", address)
	if n, err := one.Read(make([]byte, 1)); n != 0 || err == nil {
		t.Errorf("read %d bytes and %v of one connection too many", n, err)
	}
}

func TestSyslogAtASocket(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	// One that nobody listens at is in the way.
	old, err := net.ListenPacket("unixgram", path)
	must(t, err)
	must(t, old.Close())
	b, _ := listen(t, Config{Listen: []string{"unix:" + path}, Mode: 0o620})
	fi, err := os.Stat(path)
	must(t, err)
	if fi.Mode().Perm() != 0o620 {
		t.Errorf("mode %v", fi.Mode())
	}
	conn := dial(t, "unixgram", path)
	_, err = conn.Write([]byte("<34>Oct 11 22:14:15 sshd[8]: fail"))
	must(t, err)
	host, _ := os.Hostname()
	host, _, _ = strings.Cut(host, ".")
	b.sees("unix:"+path, "Oct 11 22:14:15 "+host+" sshd[8]: fail")

	t.Run("what is no socket stays", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "log")
		write(t, path, "precious\n")
		b := newBench(t)
		b.configure(Config{Jail: "t", Backend: Syslog, Listen: []string{"unix:" + path}})
		b.run()
		b.untilStatus("refused", func(st Status) bool { return strings.Contains(st.State, "is there and no socket") })
		if text, err := os.ReadFile(path); string(text) != "precious\n" {
			t.Errorf("it holds %q, %v", text, err)
		}
	})
}

// A reload changes who may send without a message lost in between.
func TestSyslogReload(t *testing.T) {
	const at = "udp:127.0.0.1:0"
	b, address := listen(t, Config{Listen: []string{at}})
	conn := dial(t, "udp", address)
	send := func(text string) {
		_, err := conn.Write([]byte("<34>Oct 11 22:14:15 gate a: " + text))
		must(t, err)
	}
	send("one")
	b.sees(at, "Oct 11 22:14:15 gate a: one")
	b.configure(Config{Jail: "t", Backend: Syslog, Listen: []string{at}, From: []netip.Prefix{netip.MustParsePrefix("192.0.2.1/32")}})
	send("two")
	b.until("the warning", func() bool { return strings.Contains(b.log.String(), "is refused") })
	b.configure(Config{Jail: "t", Backend: Syslog, Listen: []string{at}})
	send("three")
	b.sees(at, "Oct 11 22:14:15 gate a: one", "Oct 11 22:14:15 gate a: three")
}

func BenchmarkSyslogLine(b *testing.B) {
	message := []byte("<34>1 2003-10-11T22:14:15.003Z gate sshd 8 - - Failed password for root from 192.0.2.1 port 4022 ssh2")
	var out []byte
	b.ReportAllocs()
	for b.Loop() {
		out = syslogLine(out[:0], message, "10.0.0.9", false)
	}
}
