package notify

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"bantam"
	"bantam/internal/geo"
	"bantam/internal/outbox"
	"bantam/internal/whois"
)

// A memory is a Keeper as the store is one, without the file. It delivers nothing by itself.
type memory struct {
	mu      sync.Mutex // guards all
	number  int64
	news    map[string][]bantam.News
	notes   map[string][]byte
	letters []outbox.Letter
	broken  error // what every call answers
	reads   int
	commits int
	written chan outbox.Letter // if not nil, gets each letter
}

func newMemory() *memory {
	return &memory{number: 1000, news: map[string][]bantam.News{}, notes: map[string][]byte{}}
}

func (m *memory) News(_ context.Context, reader string, max int) ([]bantam.News, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.reads++
	return slices.Clone(m.news[reader][:min(max, len(m.news[reader]))]), m.broken
}

func (m *memory) Commit(ctx context.Context, reader string, b outbox.Batch) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := errors.Join(m.broken, ctx.Err()); err != nil {
		return err
	}
	m.commits++
	m.news[reader] = slices.DeleteFunc(m.news[reader], func(n bantam.News) bool { return n.Number <= b.UpTo })
	for _, l := range b.Letters {
		if !slices.ContainsFunc(m.letters, func(known outbox.Letter) bool { return known.Key == l.Key }) {
			m.letters = append(m.letters, l)
			if m.written != nil {
				m.written <- l
			}
		}
	}
	for key, value := range b.Notes {
		if value == nil {
			delete(m.notes, reader+" "+key)
		} else {
			m.notes[reader+" "+key] = value
		}
	}
	return nil
}

func (m *memory) Note(_ context.Context, owner, key string) ([]byte, time.Time, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.notes[owner+" "+key], time.Time{}, m.broken
}

func (m *memory) Letters(context.Context) ([]outbox.Letter, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.letters), m.broken
}

// put stores a decision for a reader.
func (m *memory) put(reader string, d bantam.Decision) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.number++
	m.news[reader] = append(m.news[reader], bantam.News{Number: m.number, Decision: d})
}

// breaks has every call fail from now on, nil none.
func (m *memory) breaks(err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.broken = err
}

// An office is a desk at work in a bubble, with what it stands on.
type office struct {
	t     *testing.T
	box   *memory
	desk  *Desk
	world World
	read  []outbox.Letter // that were delivered
	stop  func()
}

// open starts a desk; close ends it. A second one on the same box is a restart.
func (o *office) open(configs ...Config) {
	o.t.Helper()
	o.desk = New(slog.New(slog.DiscardHandler), o.box, o.world)
	if err := o.desk.Configure(configs); err != nil {
		o.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- o.desk.Run(ctx) }()
	o.stop = func() {
		cancel()
		if err := <-ended; err != nil {
			o.t.Errorf("Run: %v", err)
		}
	}
}

// inOffice runs a test in a bubble whose clock begins at midnight of 2000-01-01.
func inOffice(t *testing.T, test func(o *office)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		o := &office{t: t, box: newMemory(), world: World{Host: "gate.example.org"}}
		test(o)
		if o.stop != nil {
			o.stop()
		}
	})
}

// decide stores decisions as the store does, and wakes the desk.
func (o *office) decide(decisions ...bantam.Decision) {
	for reader, jails := range o.desk.Readers() {
		for _, d := range decisions {
			if slices.Contains(jails, d.Ban.Jail) {
				o.box.put(reader, d)
			}
		}
	}
	o.desk.Wake()
}

// ban is one of sshd's now, of an address with a number.
func ban(n int) bantam.Decision {
	d := sshdBan()
	d.At = time.Now()
	d.Ban.ID = bantam.AddrID(netip.AddrFrom4([4]byte{198, 51, byte(n >> 8), byte(n)}))
	return d
}

func over(d bantam.Decision) bantam.Decision {
	d.Kind, d.Cause, d.At = bantam.End, bantam.CauseExpired, time.Now()
	return d
}

// wait lets the bubble's time pass. What was due by then has been done.
func wait(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

// deliver has all letters arrive, and returns their bodies since the last time.
func (o *office) deliver() []string {
	o.t.Helper()
	o.box.mu.Lock()
	letters := o.box.letters
	o.box.letters = nil
	o.box.mu.Unlock()
	var out []string
	for _, l := range letters {
		if err := o.desk.Senders()[l.Channel].Send(context.Background(), l); err != nil {
			o.t.Errorf("letter %s: %v", l.Key, err)
		}
		if slices.ContainsFunc(o.read, func(r outbox.Letter) bool { return r.Key == l.Key }) {
			o.t.Errorf("letter %s was written twice", l.Key)
		}
		o.read = append(o.read, l)
		out = append(out, string(l.Body))
	}
	return out
}

// want compares what was told since the last time.
func (o *office) want(told ...string) {
	o.t.Helper()
	synctest.Wait()
	if got := o.deliver(); !slices.Equal(got, told) {
		o.t.Errorf("at %s told\n\t%s\nwant\n\t%s", time.Now().UTC().Format("15:04:05"), strings.Join(got, "\n\t"), strings.Join(told, "\n\t"))
	}
}

// A slate is a channel whose letters say in a few words what an edition holds.
type slate struct {
	asks wants
	send func(context.Context, outbox.Letter) error
	bad  error // of compose
	// panics is true for one that does so when it composes.
	panics bool
}

const slateKind = "slate"

// slates are by the channel's name what newSlate gives out.
var slates sync.Map

func init() {
	kinds[slateKind] = func(c *Config) (channel, error) {
		if s, ok := slates.Load(c.Channel); ok {
			return s.(channel), nil
		}
		return &slate{}, nil
	}
}

func (s *slate) wants() wants { return s.asks }

func (s *slate) Send(ctx context.Context, l outbox.Letter) error {
	if s.send != nil {
		return s.send(ctx, l)
	}
	return nil
}

func (s *slate) compose(e *Edition) ([]byte, error) {
	if s.panics {
		panic("at the composer")
	}
	var words []string
	count := func(name string, counts map[string]int) {
		for _, jail := range slices.Sorted(maps.Keys(counts)) {
			words = append(words, fmt.Sprintf("%s %s %d", name, jail, counts[jail]))
		}
	}
	switch {
	case e.Test:
		words = append(words, "test")
	case e.single():
		event := &e.Events[0]
		words = append(words, event.headline())
		if event.Host != "" {
			words = append(words, event.Host)
		}
		if event.Whois != nil {
			words = append(words, event.Whois.Org)
		}
		words = append(words, fmt.Sprintf("%d lines", len(event.Decision.Ban.Lines)))
	default:
		count("bans", e.Bans)
		count("unbans", e.Unbans)
		count("observed", e.Observed)
		if len(e.Events) > 0 {
			words = append(words, fmt.Sprintf("%d listed, %d more", len(e.Events), e.More))
		}
	}
	if len(e.Started) > 0 {
		words = append(words, "started "+strings.Join(e.Started, " "))
	}
	if len(e.Stopped) > 0 {
		words = append(words, "stopped "+strings.Join(e.Stopped, " "))
	}
	return []byte(strings.Join(words, ", ")), s.bad
}

// plainChannel is a channel of slates that is told all of sshd and postfix.
func plainChannel(name string) Config {
	c := Defaults(slateKind)
	c.Channel, c.Jails = name, []string{"sshd", "postfix"}
	c.On = []string{OnBan, OnUnban, OnStart, OnStop}
	return c
}

func TestTheFirstEventGoesOutAtOnceAndTheRestAsOneDigest(t *testing.T) {
	inOffice(t, func(o *office) {
		o.open(plainChannel("a"))
		o.decide(ban(1))
		wait(time.Second)
		o.want("sshd banned 198.51.0.1, 5 lines")
		for i := range 9 {
			wait(time.Minute)
			o.decide(ban(2 + i))
		}
		o.want()
		wait(time.Minute)
		o.want("bans sshd 9, 9 listed, 0 more")
		// One that comes alone in the next interval is told in full at its end.
		o.decide(ban(20))
		wait(9*time.Minute + 58*time.Second)
		o.want()
		wait(2 * time.Second)
		o.want("sshd banned 198.51.0.20, 5 lines")
		// After a quiet interval the next goes out at once again.
		wait(time.Hour)
		o.decide(ban(21), over(ban(1)))
		wait(time.Second)
		o.want("sshd banned 198.51.0.21, 5 lines")
		wait(10 * time.Minute)
		o.want("sshd unbanned 198.51.0.1, 5 lines")
	})
}

func TestTenThousandBansInAMinuteAreAHandfulOfMessages(t *testing.T) {
	for name, digest := range map[string]time.Duration{"gathered for ten minutes": 10 * time.Minute, "gathered for a minute": time.Minute} {
		t.Run(name, func(t *testing.T) {
			inOffice(t, func(o *office) {
				c := plainChannel("a")
				c.Digest = digest
				o.open(c)
				wait(time.Second)
				var told []string
				for i := range 10_000 {
					o.decide(ban(i))
					if i%100 == 99 {
						wait(600 * time.Millisecond)
						told = append(told, o.deliver()...)
					}
				}
				for range 20 {
					wait(time.Minute)
					told = append(told, o.deliver()...)
				}
				if len(told) < 2 || len(told) > 3 {
					t.Fatalf("told %d times: %q", len(told), told)
				}
				if want := "bans sshd 9999, 50 listed, 9949 more"; told[1] != want && digest > time.Minute {
					t.Errorf("told %q, want %q", told[1], want)
				}
				if o.box.commits > 200 {
					t.Errorf("%d transactions", o.box.commits)
				}
			})
		})
	}
}

// A channel that wants a message for each event gets it, up to a hundred in ten minutes.
func TestAMessageForEachEventHasABoundToo(t *testing.T) {
	inOffice(t, func(o *office) {
		c := plainChannel("a")
		c.Digest = 0
		o.open(c)
		o.decide(ban(0), ban(1))
		wait(time.Second)
		o.want("sshd banned 198.51.0.0, 5 lines", "sshd banned 198.51.0.1, 5 lines")
		for i := range 1000 {
			o.decide(ban(2 + i))
		}
		wait(time.Second)
		if told := o.deliver(); len(told) != 98 {
			t.Errorf("told %d times, want 98", len(told))
		}
		wait(10 * time.Minute)
		o.want("bans sshd 902, 50 listed, 852 more")
		o.decide(ban(1), ban(2))
		wait(10 * time.Minute)
		o.want("bans sshd 2, 2 listed, 0 more")
		wait(10 * time.Minute)
		o.decide(ban(3), ban(4))
		wait(time.Second)
		o.want("sshd banned 198.51.0.3, 5 lines", "sshd banned 198.51.0.4, 5 lines")
	})
}

func TestWhileALetterWaitsTheDigestGrows(t *testing.T) {
	inOffice(t, func(o *office) {
		o.open(plainChannel("a"))
		o.decide(ban(1))
		wait(time.Second)
		for i := range 300 {
			wait(10 * time.Minute)
			o.decide(ban(2 + i))
		}
		wait(time.Hour)
		if n := len(o.box.letters); n != 1 {
			t.Fatalf("%d letters wait, want 1", n)
		}
		if s := o.desk.Channels()[0]; s.Gathered != 300 {
			t.Errorf("%d events gathered, want 300", s.Gathered)
		}
		o.want("sshd banned 198.51.0.1, 5 lines")
		o.want("bans sshd 300, 50 listed, 250 more") // at once, as soon as the first has arrived
		// One that will never arrive is not waited for.
		wait(time.Hour)
		o.decide(ban(1))
		wait(time.Second)
		o.box.letters[0].Failed = true
		o.decide(ban(2))
		wait(11 * time.Minute)
		o.want("sshd banned 198.51.0.1, 5 lines", "sshd banned 198.51.0.2, 5 lines")
	})
}

func TestARestartNeitherForgetsNorRepeats(t *testing.T) {
	inOffice(t, func(o *office) {
		for i := range 12 {
			o.open(plainChannel("a"))
			o.decide(ban(i))
			wait(2 * time.Minute)
			o.desk.Announce(nil, nil)
			o.stop()
		}
		o.open(plainChannel("a"))
		wait(10 * time.Minute)
		got := o.deliver()
		if want := []string{"sshd banned 198.51.0.0, 5 lines"}; !slices.Equal(got, want) {
			t.Errorf("told %q, want %q: the rest waits for the first", got, want)
		}
		o.want("bans sshd 11, 11 listed, 0 more")
	})
}

func TestWhatIsTold(t *testing.T) {
	restored, longer, seen, seenOver, foreign := ban(1), ban(2), ban(3), ban(4), ban(5)
	restored.Kind, longer.Kind, foreign.Ban.Jail = bantam.Restore, bantam.Prolong, "nginx"
	seen.Ban.Observed, seenOver.Ban.Observed = true, true
	seenOver.Kind = bantam.End
	for _, test := range []struct {
		name string
		on   string
		d    bantam.Decision
		want string
	}{
		{"a ban that ran before the restart is no news", OnBan, restored, ""},
		{"a ban that lasts longer is no news", OnBan, longer, ""},
		{"a jail that only observes says what it would have done", OnBan, seen, "sshd would have banned 198.51.0.3, 5 lines"},
		{"and when that would have been over", OnUnban, seenOver, "sshd would have unbanned 198.51.0.4, 5 lines"},
		{"another jail's ban is not this channel's", OnBan, foreign, ""},
		{"who wants to hear of ends only hears of no bans", OnUnban, ban(6), ""},
		{"who wants to hear of bans only hears of no ends", OnBan, over(ban(7)), ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			inOffice(t, func(o *office) {
				c := plainChannel("a")
				c.On = []string{test.on}
				o.open(c)
				o.box.put("notify/a", test.d)
				o.desk.Wake()
				wait(time.Hour)
				if test.want == "" {
					o.want()
				} else {
					o.want(test.want)
				}
				if left, _ := o.box.News(context.Background(), "notify/a", 10); len(left) != 0 {
					t.Errorf("%d news are left to be told", len(left))
				}
			})
		})
	}
}

func TestStartsAndStopsAreToldAtOnceAndNotTooOften(t *testing.T) {
	inOffice(t, func(o *office) {
		deaf := plainChannel("deaf")
		deaf.On = []string{OnBan}
		o.open(plainChannel("a"), deaf)
		o.desk.Announce([]string{"sshd", "nginx", "postfix"}, nil)
		o.want("started postfix sshd")
		o.decide(ban(1)) // whose message waits for none of the others
		wait(time.Second)
		told := o.deliver()
		slices.Sort(told)
		if want := []string{"sshd banned 198.51.0.1, 5 lines", "sshd banned 198.51.0.1, 5 lines"}; !slices.Equal(told, want) {
			t.Errorf("told %q", told)
		}
		for range 100 {
			o.desk.Announce(nil, []string{"sshd"})
			wait(time.Millisecond)
			o.desk.Announce([]string{"sshd"}, nil)
			wait(time.Millisecond)
		}
		if told := o.deliver(); len(told) != 9 {
			t.Errorf("told %d times, want 9", len(told))
		}
		wait(30 * time.Minute)
		o.want()
		o.desk.Announce(nil, []string{"postfix"})
		wait(30 * time.Minute)
		o.want("started sshd, stopped postfix")
	})
}

// The letter of a daemon that stops is in the box when Announce returns, though the desk runs no more.
func TestAStopIsWrittenDownBeforeTheDaemonEnds(t *testing.T) {
	inOffice(t, func(o *office) {
		o.open(plainChannel("a"))
		o.stop()
		o.stop = nil
		o.desk.Announce(nil, []string{"sshd", "postfix"})
		o.want("stopped postfix sshd")
	})
}

func TestTrapT31_LookUpsAreBoundedAndHoldUpNoOther(t *testing.T) {
	inOffice(t, func(o *office) {
		slates.Store("slow", &slate{asks: wants{whois: true, host: true}})
		slates.Store("halfslow", &slate{asks: wants{host: true}})
		defer slates.Clear()
		o.world.Values = func(ctx context.Context, d *bantam.Decision) func(string) (string, bool) {
			return func(tag string) (string, bool) {
				select {
				case <-time.After(5 * time.Second):
				case <-ctx.Done():
				}
				return "scan.example.net", true
			}
		}
		o.world.Whois = func(ctx context.Context, addr netip.Addr) (whois.Answer, error) {
			<-ctx.Done()
			return whois.Answer{}, ctx.Err()
		}
		o.world.Place = func(a netip.Addr) geo.Place { return geo.Place{Country: "NL"} }
		o.open(plainChannel("quick"), plainChannel("slow"), plainChannel("halfslow"))
		o.decide(ban(1))
		wait(time.Second)
		o.want("sshd banned 198.51.0.1 (NL), 5 lines")
		wait(5 * time.Second)
		o.want("sshd banned 198.51.0.1 (NL), scan.example.net, 5 lines")
		wait(10 * time.Second)
		o.want("sshd banned 198.51.0.1 (NL), scan.example.net, 5 lines")
		// A desk that stops waits for none of them, and says it after the next start.
		wait(time.Hour)
		o.decide(ban(2))
		wait(time.Second)
		o.want("sshd banned 198.51.0.2 (NL), 5 lines")
		before := time.Now()
		o.stop()
		if took := time.Since(before); took > 0 {
			t.Errorf("the desk took %s to stop", took)
		}
		o.open(plainChannel("slow"))
		wait(time.Minute)
		o.want("sshd banned 198.51.0.2 (NL), scan.example.net, 5 lines")
	})
}

func TestADatabaseThatFailsIsTriedAgain(t *testing.T) {
	inOffice(t, func(o *office) {
		o.open(plainChannel("a"))
		synctest.Wait()
		o.box.breaks(errors.New("disk full"))
		o.decide(ban(1))
		o.desk.Announce([]string{"sshd"}, nil)
		wait(time.Minute)
		if s := o.desk.Channels()[0]; s.Trouble != "disk full" {
			t.Errorf("trouble is %q", s.Trouble)
		}
		reads := o.box.reads
		wait(time.Hour)
		if n := o.box.reads - reads; n > 20 {
			t.Errorf("tried %d times in an hour", n)
		}
		o.box.breaks(nil)
		wait(5 * time.Minute)
		o.want("sshd banned 198.51.0.1, 5 lines, started sshd")
		if s := o.desk.Channels()[0]; s.Trouble != "" {
			t.Errorf("trouble is %q", s.Trouble)
		}
	})
}

// What a channel cannot say is passed over, and what comes after it is told.
func TestAnEventThatCannotBeToldStopsNothing(t *testing.T) {
	for name, bad := range map[string]*slate{
		"an error":                {bad: errors.New("the template is wrong")},
		"a panic of the composer": {panics: true},
	} {
		t.Run(name, func(t *testing.T) {
			inOffice(t, func(o *office) {
				slates.Store("a", bad)
				defer slates.Clear()
				o.open(plainChannel("a"))
				o.decide(ban(1))
				wait(time.Second)
				o.want()
				slates.Delete("a")
				if err := o.desk.Configure([]Config{plainChannel("a")}); err != nil {
					t.Fatal(err)
				}
				o.decide(ban(2))
				wait(11 * time.Minute)
				o.want("sshd banned 198.51.0.2, 5 lines")
			})
		})
	}
}

func TestAReloadKeepsWhatWasGathered(t *testing.T) {
	inOffice(t, func(o *office) {
		o.open(plainChannel("a"), plainChannel("b"))
		o.decide(ban(1))
		wait(time.Second)
		o.deliver()
		o.decide(ban(2), ban(3))
		c := plainChannel("a")
		c.Digest = time.Minute
		sender := o.desk.Senders()["a"]
		if err := o.desk.Configure([]Config{c, plainChannel("new")}); err != nil {
			t.Fatal(err)
		}
		if o.desk.Senders()["a"] != sender {
			t.Error("the channel has another sender")
		}
		wait(time.Minute)
		o.want("bans sshd 2, 2 listed, 0 more")
		if got := slices.Sorted(maps.Keys(o.desk.Readers())); !slices.Equal(got, []string{"notify/a", "notify/new"}) {
			t.Errorf("readers %q", got)
		}
		// A wrong one changes nothing.
		bad := c
		bad.Digest = -1
		err := o.desk.Configure([]Config{bad, plainChannel("other")})
		if err == nil || !strings.HasPrefix(err.Error(), `channel "a": digest: `) {
			t.Errorf("Configure: %v", err)
		}
		if err := o.desk.Configure([]Config{c, c}); err == nil {
			t.Error("two channels of one name were taken")
		}
		o.decide(ban(4))
		wait(time.Hour)
		o.want("sshd banned 198.51.0.4, 5 lines", "sshd banned 198.51.0.4, 5 lines")
	})
}

func TestWhoTriesAChannelHearsTheTruth(t *testing.T) {
	inOffice(t, func(o *office) {
		refused := errors.New("535 5.7.8 wrong password")
		slates.Store("bad", &slate{send: func(context.Context, outbox.Letter) error { return refused }})
		slates.Store("good", &slate{send: func(_ context.Context, l outbox.Letter) error {
			if string(l.Body) != "test" || l.Key == "" {
				return fmt.Errorf("letter %+v", l)
			}
			return nil
		}})
		defer slates.Clear()
		o.open(plainChannel("bad"), plainChannel("good"))
		ctx := context.Background()
		if err := o.desk.Test(ctx, "good"); err != nil {
			t.Errorf("Test: %v", err)
		}
		if err := o.desk.Test(ctx, "bad"); !errors.Is(err, refused) {
			t.Errorf("Test: %v, want %v", err, refused)
		}
		if err := o.desk.Test(ctx, "none"); !errors.Is(err, ErrNoChannel) || !strings.Contains(err.Error(), "bad, good") {
			t.Errorf("Test: %v", err)
		}
		o.want() // nothing went by the box
	})
}

func TestNotesThatCannotBeReadAreForgotten(t *testing.T) {
	inOffice(t, func(o *office) {
		o.box.notes["notify/a bans"] = []byte("{]")
		o.box.notes["notify/a jails"] = []byte(`{"started":7}`)
		o.open(plainChannel("a"))
		o.decide(ban(1))
		wait(time.Second)
		o.want("sshd banned 198.51.0.1, 5 lines")
	})
}

// A clock that was ahead and is set back does not silence the channel.
func TestAClockSetBackSilencesNobody(t *testing.T) {
	inOffice(t, func(o *office) {
		note, err := json.Marshal(bansNote{Window: window{Began: time.Now().Add(1000 * time.Hour), Sent: 1}})
		if err != nil {
			t.Fatal(err)
		}
		o.box.notes["notify/a bans"] = note
		o.open(plainChannel("a"))
		o.decide(ban(1))
		wait(time.Second)
		o.want("sshd banned 198.51.0.1, 5 lines")
	})
}

func TestValidate(t *testing.T) {
	for _, test := range []struct {
		name   string
		change func(c *Config)
		want   string // in the error; "" for none
	}{
		{"the defaults with from and to", func(*Config) {}, ""},
		{"a kind that there is not", func(c *Config) { c.Kind = "pigeon" }, `gmail, gmail-api, mta, `},
		{"nobody to tell", func(c *Config) { c.To = nil }, "to: say whom to tell"},
		{"from nobody", func(c *Config) { c.From = "" }, "from: say whom the mails are from"},
		{"from what is no address", func(c *Config) { c.From = "gate" }, `from: address "gate"`},
		{"a header in an address", func(c *Config) { c.To = []string{"a@example.org\r\nBcc: b@example.org"} }, "to: address"},
		{"an event that there is not", func(c *Config) { c.On = []string{"ban", "unbanned"} }, `on: unknown event "unbanned"`},
		{"no event at all", func(c *Config) { c.On = nil }, "on: nothing is to be told"},
		{"a digest of less than nothing", func(c *Config) { c.Digest = -time.Minute }, "digest: -1m0s is negative"},
		{"a digest of a year", func(c *Config) { c.Digest = 365 * 24 * time.Hour }, "longer than a month"},
		{"no name", func(c *Config) { c.Channel = "" }, "no name"},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := mailConfig()
			test.change(&c)
			err := c.Validate()
			switch {
			case test.want == "" && err != nil:
				t.Errorf("Validate: %v", err)
			case test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)):
				t.Errorf("Validate: %v, want %q", err, test.want)
			}
		})
	}
	c := mailConfig()
	c.To, c.From, c.Digest = nil, "", -1
	if err := c.Validate(); strings.Count(err.Error(), "\n") != 2 {
		t.Errorf("not all at once: %v", err)
	}
}
