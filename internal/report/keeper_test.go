package report

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"bantam"
	"bantam/internal/outbox"
	"bantam/internal/smtp"
	"bantam/internal/whois"
)

// errKilled is what a keeper answers once its process is dead.
var errKilled = errors.New("killed")

// memory is an outbox.Keeper that a process can die over: after some calls it does, before or after its last one was carried out, and from
// then on nothing is.
type memory struct {
	mu      sync.Mutex
	number  int64
	news    []bantam.News
	upTo    map[string]int64
	letters []outbox.Letter
	notes   map[string][]byte

	calls  int // until it dies; negative for never
	after  bool
	killed bool
}

func newMemory() *memory {
	return &memory{upTo: map[string]int64{}, notes: map[string][]byte{}, calls: -1}
}

// dies counts a call; do says whether it is carried out.
func (m *memory) dies() (do bool, err error) {
	if m.killed {
		return false, errKilled
	}
	if m.calls == 0 {
		m.killed = true
		return m.after, errKilled
	}
	m.calls--
	return true, nil
}

func (m *memory) decide(d bantam.Decision) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.number++
	m.news = append(m.news, bantam.News{Number: m.number, Decision: d})
}

func (m *memory) News(_ context.Context, reader string, max int) ([]bantam.News, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, err := m.dies(); err != nil {
		return nil, err
	}
	var out []bantam.News
	for _, n := range m.news {
		if n.Number > m.upTo[reader] && len(out) < max {
			out = append(out, n)
		}
	}
	return out, nil
}

func (m *memory) Commit(ctx context.Context, reader string, b outbox.Batch) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	do, err := m.dies()
	if err == nil {
		err = ctx.Err()
	}
	if !do || err != nil && !errors.Is(err, errKilled) {
		return err
	}
	m.upTo[reader] = max(m.upTo[reader], b.UpTo)
	for _, l := range b.Letters {
		if !slices.ContainsFunc(m.letters, func(o outbox.Letter) bool { return o.Key == l.Key }) {
			m.letters = append(m.letters, l)
		}
	}
	for k, v := range b.Notes {
		if delete(m.notes, reader+"\x00"+k); v != nil {
			m.notes[reader+"\x00"+k] = bytes.Clone(v)
		}
	}
	return err
}

func (m *memory) Note(_ context.Context, owner, key string) ([]byte, time.Time, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	_, err := m.dies()
	return bytes.Clone(m.notes[owner+"\x00"+key]), time.Time{}, err
}

func (m *memory) Letters(context.Context) ([]outbox.Letter, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	_, err := m.dies()
	return slices.Clone(m.letters), err
}

func (m *memory) KeepLetter(_ context.Context, l outbox.Letter) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	do, err := m.dies()
	if i := slices.IndexFunc(m.letters, func(o outbox.Letter) bool { return o.Key == l.Key }); do && i >= 0 {
		l.Body = m.letters[i].Body
		m.letters[i] = l
	}
	return err
}

func (m *memory) DropLetter(_ context.Context, key string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	do, err := m.dies()
	if do {
		m.letters = slices.DeleteFunc(m.letters, func(l outbox.Letter) bool { return l.Key == key })
	}
	return err
}

// deliver sends every letter that is not failed once, as an outbox would, and drops what was taken.
func (m *memory) deliver(ctx context.Context, senders map[string]outbox.Sender) error {
	letters, err := m.Letters(ctx)
	if err != nil {
		return err
	}
	for _, l := range letters {
		if l.Failed || senders[l.Channel] == nil {
			continue
		}
		err := senders[l.Channel].Send(ctx, l)
		if err == nil {
			if err := m.DropLetter(ctx, l.Key); err != nil {
				return err
			}
			continue
		}
		l.Tries, l.Err = l.Tries+1, err.Error()
		if v, ok := errors.AsType[outbox.Verdict](err); ok {
			again, _ := v.Again()
			l.Failed = !again
		}
		if err := m.KeepLetter(ctx, l); err != nil {
			return err
		}
	}
	return nil
}

// postbox is a smtp.Transport that keeps what it gets.
type postbox struct {
	mu   sync.Mutex
	got  []smtp.Packet
	says func(smtp.Packet) error // nil takes everything
}

func (p *postbox) Send(_ context.Context, packet smtp.Packet) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.says != nil {
		if err := p.says(packet); err != nil {
			return err
		}
	}
	p.got = append(p.got, packet)
	return nil
}

func (p *postbox) mails() []smtp.Packet {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.got)
}

// diary is a log that may be read while it is written.
type diary struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (d *diary) Write(b []byte) (int, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.text.Write(b)
}

func (d *diary) String() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.text.String()
}

// rig is a desk with a world of its own.
type rig struct {
	t     testing.TB
	box   *memory
	post  *postbox
	world World
	desk  *Desk
	list  []Config
	logs  *diary
	bans  map[bantam.ID][]bantam.Ban
	asked atomic.Int32
}

// abuseConfig is the channel that most tests use.
func abuseConfig() Config {
	c := Defaults(Abuse)
	c.Channel, c.From = "abuse", "Example Security <abuse@example.org>"
	return c
}

// newRig configures a desk. The contact of 198.51.100.x is the desk of the third number: abuse@net100.example.
func newRig(t testing.TB, list ...Config) *rig {
	t.Helper()
	r := &rig{t: t, box: newMemory(), post: &postbox{}, list: list, logs: &diary{}, bans: map[bantam.ID][]bantam.Ban{}}
	r.world = World{
		Host: "gate.example.org",
		Zone: time.UTC,
		Contacts: func(_ context.Context, a netip.Addr, _ []string) ([]string, error) {
			r.asked.Add(1)
			if a.Is6() {
				return []string{"abuse@six.example"}, nil
			}
			return []string{"abuse@net" + strconv.Itoa(int(a.As4()[2])) + ".example"}, nil
		},
		Whois: func(_ context.Context, a netip.Addr) (whois.Answer, error) {
			p, _ := a.Prefix(24)
			return whois.Answer{Network: p, Name: "EXAMPLE-NET", Text: "netname: EXAMPLE-NET\norg: Example Networks"}, nil
		},
		Bans: func(_ context.Context, id bantam.ID) ([]bantam.Ban, error) { return r.bans[id], nil },
		Values: func(context.Context, *bantam.Decision) func(string) (string, bool) {
			return func(tag string) (string, bool) {
				v, ok := map[string]string{"port": "ssh", "protocol": "tcp"}[tag]
				return v, ok
			}
		},
		Transport: func(smtp.Config) (smtp.Transport, error) { return r.post, nil },
	}
	r.restart()
	return r
}

// restart makes a new desk over the same keeper, as a new process would.
func (r *rig) restart() {
	r.t.Helper()
	r.box.mu.Lock()
	r.box.killed, r.box.calls = false, -1
	r.box.mu.Unlock()
	r.desk = New(slog.New(slog.NewTextHandler(r.logs, &slog.HandlerOptions{Level: slog.LevelInfo})), r.box, r.world)
	if err := r.desk.Configure(r.list); err != nil {
		r.t.Fatal(err)
	}
}

// work takes all steps that can be taken now, and delivers.
func (r *rig) work() {
	r.t.Helper()
	for _, c := range r.desk.mustChannels() {
		if _, err := c.steps(r.t.Context()); err != nil {
			r.t.Fatal(err)
		}
	}
	if err := r.box.deliver(r.t.Context(), r.desk.Senders()); err != nil {
		r.t.Fatal(err)
	}
}

func (d *Desk) mustChannels() []*channel {
	list, _ := d.configured()
	return list
}

// ban makes a decision of five failed logins.
func ban(t testing.TB, addr string, change ...func(*bantam.Decision)) bantam.Decision {
	t.Helper()
	now := time.Now()
	d := bantam.Decision{Kind: bantam.Start, At: now, Ban: bantam.Ban{
		Jail: "sshd", ID: id(t, addr), Time: now, End: now.Add(time.Hour), Failures: 5, Count: 1, By: bantam.ByFailures, User: "frank",
		Lines: []string{now.UTC().Format("Jan _2 15:04:05") + " gate sshd[812]: Failed password for frank from " + addr + " port 4022 ssh2"},
	}}
	for _, c := range change {
		c(&d)
	}
	return d
}
