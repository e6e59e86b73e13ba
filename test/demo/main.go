// Command demo shows Bantam at work: a real daemon on its embedded defaults, a real
// auth.log, real clients that fail to log in, and the kernel that drops them.
//
// As root it makes a network and a file system of its own, so that neither the
// machine's logs and rules nor its daemons are touched. Without root it says so and
// shows the same in observe mode. It ends by itself and fails if any step did not
// happen.
package main

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"bantam"
	"bantam/internal/control"
	"bantam/internal/firewall"
	"bantam/internal/nstest"
	"bantam/internal/source"
)

// limit is how long the whole may take, patience how long one step may.
const (
	limit    = 30 * time.Second
	patience = 5 * time.Second
)

// inside marks the process that runs in the file system of its own.
const inside = "BANTAM_DEMO_INSIDE"

func main() {
	binary := flag.String("bantam", "bin/bantam", "the program to show")
	flag.Parse()
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	var err error
	switch path, pathErr := filepath.Abs(*binary); {
	case pathErr != nil:
		err = pathErr
	case os.Getuid() != 0:
		err = observe(ctx, path)
	case os.Getenv(inside) == "":
		err = enter(ctx, path)
	default:
		err = enforce(ctx, path)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "\ndemo: it did not happen:", err)
		os.Exit(1)
	}
}

// enter runs this program again where mounts are its own.
func enter(ctx context.Context, binary string) error {
	runtime.LockOSThread() // Pdeathsig goes by the thread
	self, err := os.Executable()
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, self, "-bantam", binary)
	cmd.Env = append(os.Environ(), inside+"=1")
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	err = cmd.Run()
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.ExitCode() == 1 {
		os.Exit(1) // it has said why
	}
	return err
}

// cover hides the places where the machine's logs, state and configuration are.
func cover() error {
	if err := syscall.Mount("", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make the mounts private: %w", err)
	}
	for _, dir := range []string{"/var/log", "/var/lib", "/run", "/etc/bantam", "/etc/fail2ban"} {
		if _, err := os.Stat(dir); err != nil {
			continue
		}
		if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "mode=0755"); err != nil {
			return fmt.Errorf("cover %s: %w", dir, err)
		}
	}
	return nil
}

// A stage is where the show takes place.
type stage struct {
	binary   string
	flags    []string // of every bantam command
	authLog  string
	sockets  *control.Client
	start    func(*exec.Cmd) error
	listen   func() (net.Listener, error)
	dial     func(ctx context.Context, from netip.Addr) (net.Conn, error)
	attacker []netip.Addr
	friend   netip.Addr

	out    io.Writer
	daemon *exec.Cmd
	ended  chan error
	found  chan struct{} // the daemon told of a failure
	screen chan struct{} // it has shown its screen
	wrote  atomic.Int64  // when auth.log was last written, in nanoseconds of Unix time
}

// enforce shows bans in the kernel.
func enforce(ctx context.Context, binary string) (err error) {
	if err := cover(); err != nil {
		return err
	}
	network, err := nstest.Open()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, network.Close()) }()
	attacker, err := network.AddClient("attacker", netip.MustParsePrefix("198.51.100.23/24"),
		netip.MustParsePrefix("203.0.113.9/24"), netip.MustParsePrefix("2001:db8:bad::7/64"))
	if err != nil {
		return err
	}
	friend, err := network.AddClient("friend", netip.MustParsePrefix("192.0.2.50/24"))
	if err != nil {
		return err
	}
	kernel, err := firewall.OpenNFTables(firewall.Options{NetNS: network.FD()})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, kernel.Close()) }()

	s := &stage{
		binary: binary, authLog: "/var/log/auth.log", out: os.Stdout,
		sockets: control.NewClient("/run/bantam/bantam.sock"), start: network.Start,
		listen:   func() (net.Listener, error) { return network.Listen("tcp", ":22") },
		attacker: attacker.Addrs, friend: friend.Addrs[0],
	}
	s.dial = func(ctx context.Context, from netip.Addr) (net.Conn, error) {
		host, to := attacker, nstest.Server4
		if from == s.friend {
			host = friend
		}
		if from.Is6() {
			to = nstest.Server6
		}
		return host.Dial(ctx, "tcp", from, netip.AddrPortFrom(to, 22))
	}
	s.say("A private network: a server, an attacker with %d addresses, a friend.", len(s.attacker))
	s.say("The daemon runs on its embedded defaults; no configuration file exists.")
	stop, err := s.begin(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, stop()) }()
	for _, from := range s.attacker {
		if err := s.attack(ctx, from); err != nil {
			return err
		}
		if err := s.banned(ctx, kernel, from); err != nil {
			return err
		}
	}
	if err := s.refused(ctx, kernel); err != nil {
		return err
	}
	if err := s.show(ctx); err != nil {
		return err
	}
	if err := s.pardon(ctx); err != nil {
		return err
	}
	if err := s.run(ctx, "stop"); err != nil {
		return err
	}
	left, err := kernel.Elements("sshd")
	if err != nil || len(left) != len(s.attacker)-1 {
		return fmt.Errorf("%d bans are in the kernel after the stop, not %d (%v)", len(left), len(s.attacker)-1, err)
	}
	s.say("The daemon has stopped; the kernel still holds %d bans and ends them in their time.", len(left))
	s.say("Done. The network and all it held are gone with this program.")
	return nil
}

// observe shows the same without touching the kernel.
func observe(ctx context.Context, binary string) (err error) {
	dir, err := os.MkdirTemp("", "bantam-demo-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	authLog := filepath.Join(dir, "auth.log")
	files := map[string]string{
		"jail.local":  "[DEFAULT]\nobserve = true\nignoreself = false\n\n[sshd]\nenabled = true\nlogpath = " + authLog + "\n",
		"bantam.conf": "[Definition]\ndbfile = " + filepath.Join(dir, "bantam.db") + "\npidfile = " + filepath.Join(dir, "pid") + "\n",
	}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			return err
		}
	}
	socket := filepath.Join(dir, "bantam.sock")
	var listener net.Listener
	s := &stage{
		binary: binary, flags: []string{"-c", dir, "--socket", socket}, authLog: authLog, out: os.Stdout,
		sockets: control.NewClient(socket), start: (*exec.Cmd).Start,
		listen: func() (l net.Listener, err error) {
			l, err = net.Listen("tcp", "127.0.0.1:0")
			listener = l
			return l, err
		},
		dial: func(ctx context.Context, from netip.Addr) (net.Conn, error) {
			d := net.Dialer{LocalAddr: net.TCPAddrFromAddrPort(netip.AddrPortFrom(from, 0))}
			return d.DialContext(ctx, "tcp", listener.Addr().String())
		},
		attacker: []netip.Addr{netip.MustParseAddr("127.0.0.23"), netip.MustParseAddr("127.0.0.9")},
		friend:   netip.MustParseAddr("127.0.0.50"),
	}
	s.say("Not root, so nothing can be banned: this is observe mode, which decides and does not act.")
	stop, err := s.begin(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, stop()) }()
	for _, from := range s.attacker {
		if err := s.attack(ctx, from); err != nil {
			return err
		}
		ban, err := s.awaitBan(ctx, from)
		if err != nil {
			return err
		}
		if !ban.Observed {
			return fmt.Errorf("%s is really banned", from)
		}
		s.say("Decided: %s would be banned until %s.", ban.ID, ban.End.Local().Format(time.TimeOnly))
	}
	if err := s.show(ctx); err != nil {
		return err
	}
	if err := s.run(ctx, "unban", s.attacker[0].String()); err != nil {
		return err
	}
	if err := s.run(ctx, "stop"); err != nil {
		return err
	}
	s.say("Done. Run it as root to see packets dropped.")
	return nil
}

// begin starts the daemon and the server it protects; stop ends them.
func (s *stage) begin(ctx context.Context) (stop func() error, err error) {
	if err := os.WriteFile(s.authLog, nil, 0o600); err != nil {
		return nil, err
	}
	s.daemon = exec.Command(s.binary, append(s.flags, "run")...)
	pipe, err := s.daemon.StdoutPipe()
	if err != nil {
		return nil, err
	}
	s.daemon.Stderr = s.daemon.Stdout
	if err := s.start(s.daemon); err != nil {
		return nil, err
	}
	s.say("$ bantam run")
	s.ended = make(chan error, 1)
	read := make(chan struct{})
	s.found, s.screen = make(chan struct{}, 1000), make(chan struct{}, 10)
	go func() { defer close(read); s.copy("  bantam:   ", pipe) }()
	go func() { <-read; s.ended <- s.daemon.Wait() }()

	listener, err := s.listen()
	if err != nil {
		return nil, errors.Join(err, s.kill())
	}
	serving := make(chan error, 1)
	go func() { serving <- s.serve(listener) }()
	stop = func() error { return errors.Join(s.kill(), listener.Close(), <-serving) }
	err = s.await(ctx, "the daemon reads "+s.authLog, func() (bool, error) {
		st, err := control.Call(ctx, s.sockets, control.GetStatus, control.None{})
		if err != nil {
			return false, nil
		}
		for _, j := range st.Jails {
			for _, src := range j.Sources {
				if src.Name == s.authLog && src.State == source.Reading && src.Live {
					return true, nil
				}
			}
		}
		return false, nil
	})
	if err == nil {
		select {
		case <-s.screen:
		case <-time.After(patience):
			err = errors.New("the daemon does not show its first screen")
		}
	}
	if err != nil {
		return nil, errors.Join(err, stop())
	}
	return stop, nil
}

// kill ends the daemon if it has not ended.
func (s *stage) kill() error {
	select {
	case err := <-s.ended:
		return err
	default:
	}
	if err := s.daemon.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	select {
	case err := <-s.ended:
		return err
	case <-time.After(patience):
		return errors.Join(errors.New("the daemon does not end"), s.daemon.Process.Kill())
	}
}

// serve is the server that is attacked: whoever connects gets no password right,
// and the log says so as sshd does.
func (s *stage) serve(l net.Listener) error {
	for {
		conn, err := l.Accept()
		if errors.Is(err, net.ErrClosed) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := s.login(conn); err != nil {
			return err
		}
	}
}

// login answers one client; OpenSSH's auth.c writes these lines.
func (s *stage) login(conn net.Conn) error {
	from := netip.MustParseAddrPort(conn.RemoteAddr().String())
	addr := from.Addr().Unmap()
	what, answer := "Failed password", "Permission denied"
	if addr == s.friend {
		what, answer = "Accepted password", "Welcome"
	}
	line := fmt.Sprintf("%s server sshd[%d]: %s for root from %s port %d ssh2\n",
		time.Now().Format(time.Stamp), from.Port(), what, addr, from.Port())
	log, err := os.OpenFile(s.authLog, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	s.print("  auth.log: ", line)
	s.wrote.Store(time.Now().UnixNano())
	_, err = log.WriteString(line)
	_, answerErr := fmt.Fprintln(conn, answer)
	return errors.Join(err, log.Close(), answerErr, conn.Close())
}

// attack fails five times to log in.
func (s *stage) attack(ctx context.Context, from netip.Addr) error {
	s.say("%s tries five passwords.", from)
	for range 5 {
		if answer, err := s.talk(ctx, from); err != nil || answer != "Permission denied" {
			return fmt.Errorf("%s is answered %q (%v)", from, answer, err)
		}
		select {
		case <-s.found:
		case <-time.After(patience):
			return fmt.Errorf("the daemon does not see the failure of %s within %s", from, patience)
		}
	}
	return nil
}

// talk connects and returns what the server says.
func (s *stage) talk(ctx context.Context, from netip.Addr) (answer string, err error) {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	conn, err := s.dial(ctx, from)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, conn.Close()) }()
	if err := conn.SetDeadline(time.Now().Add(time.Second)); err != nil {
		return "", err
	}
	answer, err = bufio.NewReader(conn).ReadString('\n')
	return strings.TrimSpace(answer), err
}

// banned waits until the kernel has the ban.
func (s *stage) banned(ctx context.Context, kernel *firewall.NFTables, from netip.Addr) error {
	return s.await(ctx, fmt.Sprintf("%s is banned in the kernel", from), func() (bool, error) {
		elements, err := kernel.Elements("sshd")
		for _, e := range elements {
			if e.Prefix.Contains(from) {
				after := time.Since(time.Unix(0, s.wrote.Load())).Round(100 * time.Microsecond)
				s.say("In the kernel %s after its fifth line: %s, until %s.", after, bantam.PrefixID(e.Prefix), e.End.Round(time.Second).Local().Format(time.TimeOnly))
				return true, nil
			}
		}
		return false, err
	})
}

// refused shows that the attacker's packets are dropped and a friend's are not.
func (s *stage) refused(ctx context.Context, kernel *firewall.NFTables) error {
	for _, from := range s.attacker {
		if answer, err := s.talk(ctx, from); err == nil {
			return fmt.Errorf("%s still connects and is told %q", from, answer)
		}
		s.say("%s connects again: no answer.", from)
	}
	counters, err := kernel.Counters()
	if err != nil {
		return err
	}
	dropped := counters["sshd"].Packets
	if dropped < uint64(len(s.attacker)) {
		return fmt.Errorf("only %d packets were dropped", dropped)
	}
	s.say("The kernel has dropped %d of the attacker's packets.", dropped)
	answer, err := s.talk(ctx, s.friend)
	if err != nil || answer != "Welcome" {
		return fmt.Errorf("the friend is answered %q (%v)", answer, err)
	}
	s.say("The friend at %s is answered %q.", s.friend, answer)
	return nil
}

// awaitBan waits until the daemon has decided.
func (s *stage) awaitBan(ctx context.Context, from netip.Addr) (ban bantam.Ban, err error) {
	err = s.await(ctx, fmt.Sprintf("the daemon decides on %s", from), func() (bool, error) {
		reply, err := control.Call(ctx, s.sockets, control.GetBans, control.BansRequest{ID: bantam.AddrID(from)})
		if err != nil || len(reply.Bans) == 0 {
			return false, err
		}
		ban = reply.Bans[0]
		return true, nil
	})
	return ban, err
}

// show prints the screen that people see.
func (s *stage) show(ctx context.Context) error {
	if err := s.run(ctx); err != nil {
		return err
	}
	return s.run(ctx, "banned")
}

// pardon lifts a ban and shows that packets pass again.
func (s *stage) pardon(ctx context.Context) error {
	who := s.attacker[0]
	if err := s.run(ctx, "unban", who.String()); err != nil {
		return err
	}
	answer, err := s.talk(ctx, who)
	if err != nil || answer != "Permission denied" {
		return fmt.Errorf("after the unban %s is answered %q (%v)", who, answer, err)
	}
	s.say("%s connects again and is answered %q: packets pass.", who, answer)
	return nil
}

// run runs a bantam command and shows what it prints.
func (s *stage) run(ctx context.Context, args ...string) error {
	s.say("%s", strings.TrimSpace("$ bantam "+strings.Join(args, " ")))
	cmd := exec.CommandContext(ctx, s.binary, append(args, s.flags...)...)
	out, err := cmd.CombinedOutput()
	s.copy("  ", strings.NewReader(string(out)))
	if err != nil {
		return fmt.Errorf("bantam %s: %w", strings.Join(args, " "), err)
	}
	return nil
}

// await asks again and again until something has happened.
func (s *stage) await(ctx context.Context, what string, happened func() (bool, error)) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for tick := time.Tick(time.Millisecond); ; {
		if ok, err := happened(); ok || err != nil {
			return err
		}
		select {
		case <-tick:
		case err := <-s.ended:
			s.ended <- err
			return fmt.Errorf("%s: the daemon has ended: %w", what, err)
		case <-ctx.Done():
			return fmt.Errorf("%s: not within %s", what, patience)
		}
	}
}

var printing sync.Mutex

// say prints a step of the show.
func (s *stage) say(format string, args ...any) { s.print("\n", fmt.Sprintf(format, args...)+"\n") }

func (s *stage) print(prefix, line string) {
	printing.Lock()
	defer printing.Unlock()
	fmt.Fprint(s.out, prefix, line)
}

// copy prints what a program says, line by line.
func (s *stage) copy(prefix string, from io.Reader) {
	for lines := bufio.NewScanner(from); lines.Scan(); {
		s.print(prefix, lines.Text()+"\n")
		switch {
		case strings.Contains(lines.Text(), "msg=found "):
			s.found <- struct{}{}
		case strings.HasPrefix(lines.Text(), "Next: "):
			s.screen <- struct{}{}
		}
	}
}
