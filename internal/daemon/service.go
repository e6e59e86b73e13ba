package daemon

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// A service tells the service manager how the daemon is, by the protocol of sd_notify(3). The
// zero service has no manager and tells nobody.
type service struct {
	socket string        // "@" stands for the zero byte of an abstract one
	every  time.Duration // how often it wants to hear, 0 for never
	log    *slog.Logger
}

// newService finds the service manager in the environment.
func newService(log *slog.Logger, env func(string) string) *service {
	s := &service{socket: env("NOTIFY_SOCKET"), log: log}
	if s.socket != "" && s.socket[0] != '/' && s.socket[0] != '@' {
		log.Warn("the socket of the service manager is of a kind that is not known", "socket", s.socket)
		s.socket = ""
	}
	usec, err := strconv.ParseInt(env("WATCHDOG_USEC"), 10, 64)
	if whose := env("WATCHDOG_PID"); err == nil && usec > 0 && (whose == "" || whose == strconv.Itoa(os.Getpid())) {
		s.every = time.Duration(usec) * time.Microsecond
	}
	return s
}

// tell sends assignments, one a line. A manager that does not take them is not waited for.
func (s *service) tell(assignments ...string) {
	if s.socket == "" {
		return
	}
	conn, err := net.Dial("unixgram", s.socket)
	if err == nil {
		defer conn.Close()
		if err = conn.SetWriteDeadline(time.Now().Add(time.Second)); err == nil {
			_, err = conn.Write([]byte(strings.Join(assignments, "\n")))
		}
	}
	if err != nil {
		s.log.Warn("cannot tell the service manager", "state", assignments[0], "err", err)
	}
}

// reloading tells that a reload begins; ready that it has ended, well or not.
func (s *service) reloading() {
	if s.socket == "" {
		return
	}
	var now unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &now) // it cannot fail
	s.tell("RELOADING=1", fmt.Sprintf("MONOTONIC_USEC=%d", now.Nano()/1000))
}

// attend tells the service manager that the daemon is ready, then that it is alive as long as
// it is, and at last that it stops.
func (d *Daemon) attend(ctx context.Context, pulse *pulse) {
	d.service.tell("READY=1", "STATUS="+d.summary(ctx))
	d.dropPrivileges()
	every := d.service.every / 2
	if every <= 0 || d.service.socket == "" {
		every = time.Hour // nobody listens
	}
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			if d.service.socket == "" {
				continue
			}
			if why := pulse.feel(ctx, every); why != "" {
				d.log.Error("the daemon does not get on; the service manager is not told that it is alive", "why", why)
				continue
			}
			d.service.tell("WATCHDOG=1", "STATUS="+d.summary(ctx))
		case <-ctx.Done():
			d.log.Info("stopping")
			d.service.tell("STOPPING=1", "STATUS=stopping")
			return
		}
	}
}

// summary is the daemon in a line.
func (d *Daemon) summary(ctx context.Context) string {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	figures, err := d.jails.Status(ctx)
	if err != nil {
		return err.Error()
	}
	banned := 0
	for _, f := range figures {
		banned += f.Banned
	}
	text := fmt.Sprintf("%d jails, %d banned", len(figures)-1, banned) // without the one of bans by hand
	if n := len(d.plan.Load().aside); n > 0 {
		text += fmt.Sprintf(", %d jails set aside", n)
	}
	return text
}

// A pulse says whether lines become decisions.
type pulse struct {
	jails   func(context.Context) (done uint64, err error) // asks the jails how many failures they had
	sources func()                                         // asks the sources
	waiting func() bool                                    // whether failures fill their channel

	jammed bool // they did at the last look
	done   uint64
}

// feel looks once, for at most so long, and says what is wrong: jails or sources that do not
// answer, or failures that fill their channel and get no fewer from one look to the next.
func (p *pulse) feel(ctx context.Context, within time.Duration) (wrong string) {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	done, err := p.jails(ctx)
	if err != nil {
		return "the jails do not answer"
	}
	answered := make(chan struct{})
	go func() { p.sources(); close(answered) }()
	select {
	case <-answered:
	case <-ctx.Done():
		return "the sources do not answer"
	}
	jammed := p.waiting()
	stuck := jammed && p.jammed && done == p.done
	p.jammed, p.done = jammed, done
	if stuck {
		return "failures wait and none is counted"
	}
	return ""
}

// pulse is the daemon's own; full says whether failures wait for somebody to take them.
func (d *Daemon) pulse(full func() bool) *pulse {
	return &pulse{
		jails: func(ctx context.Context) (done uint64, err error) {
			figures, err := d.jails.Status(ctx)
			for _, f := range figures {
				done += f.Failures
			}
			return done, err
		},
		sources: func() { d.sources.Status() },
		waiting: full,
	}
}
