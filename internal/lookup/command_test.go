package lookup

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"bantam"
)

// programs answers for commands: by what is in ignored, after delay. Commands called "hang" never
// answer, and those called "fail" with an error.
type programs struct {
	delay time.Duration

	mu      sync.Mutex // guards the rest
	ignored map[string]bool
	asked   []string
	running int
	most    int // that ran at a time
}

func (p *programs) Ignores(ctx context.Context, command string, f *bantam.Failure) (bool, error) {
	p.mu.Lock()
	p.asked = append(p.asked, f.ID.String())
	p.running++
	p.most = max(p.most, p.running)
	p.mu.Unlock()
	defer func() {
		p.mu.Lock()
		p.running--
		p.mu.Unlock()
	}()
	after := time.After(p.delay)
	if command == "hang" {
		after = time.After(time.Minute)
	}
	select {
	case <-after:
	case <-ctx.Done():
		return false, ctx.Err()
	}
	if command != "check" {
		return true, errors.New("no answer")
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.ignored[f.ID.String()], nil
}

func (p *programs) Expand(_ context.Context, text string, f *bantam.Failure) string {
	return strings.NewReplacer("<ip>", f.ID.String(), "<F-USER>", f.User).Replace(text)
}

// commanded is a Lookup of these jails whose commands are answered for by p.
func commanded(t testing.TB, p *programs, configs ...Config) *Lookup {
	t.Helper()
	l := New(slog.New(slog.DiscardHandler), &answers{addrs: map[string][]netip.Addr{
		"two.example": {netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2")},
	}})
	l.UseCommands(p)
	l.Configure(compile(t, configs...)...)
	return l
}

func compile(t testing.TB, configs ...Config) (rules []*Rules) {
	t.Helper()
	for _, c := range configs {
		r, err := Compile(c)
		if err != nil {
			t.Fatal(err)
		}
		rules = append(rules, r)
	}
	return rules
}

func failure(jail, who string, offset int64) bantam.Failure {
	return bantam.Failure{Jail: jail, ID: id(who), Read: time.Now(), Position: bantam.Position{Source: "/" + jail, Offset: offset}}
}

// passed is what has come out, as WHO@OFFSET.
func passed(out <-chan bantam.Failure) (got []string) {
	for {
		select {
		case f, ok := <-out:
			if !ok {
				return got
			}
			got = append(got, fmt.Sprintf("%s@%d", f.ID, f.Position.Offset))
		default:
			return got
		}
	}
}

func TestACommandDecidesWhatNoOtherRuleDoes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &programs{ignored: map[string]bool{"192.0.2.1": true, "root": true}}
		l := commanded(t, p,
			Config{Jail: "a", IgnoreCommand: "check", IgnoreIP: []string{"192.0.2.9"}},
			Config{Jail: "b"},
			Config{Jail: "broken", IgnoreCommand: "fail"})
		in, out := make(chan bantam.Failure), make(chan bantam.Failure, 16)
		go l.Run(in, out)
		for i, c := range []struct{ name, jail, who, want string }{
			{"the command lets it off", "a", "192.0.2.1", "@1"},
			{"the command does not", "a", "192.0.2.3", "192.0.2.3@2"},
			{"ignoreip comes first", "a", "192.0.2.9", "@3"},
			{"a text can be let off, too", "a", "root", "@4"},
			{"what is nobody is not asked about", "a", "", "@5"},
			{"another jail has no command", "b", "192.0.2.1", "192.0.2.1@6"},
			{"an error lets nobody off", "broken", "192.0.2.1", "192.0.2.1@7"},
		} {
			in <- failure(c.jail, c.who, int64(i+1))
			synctest.Wait()
			if got := passed(out); !slices.Equal(got, []string{c.want}) {
				t.Errorf("%s: %v, want %s", c.name, got, c.want)
			}
		}
		in <- bantam.Failure{Jail: "a", Host: "two.example", Read: time.Now()}
		synctest.Wait()
		if got := passed(out); !slices.Equal(got, []string{"@0", "192.0.2.2@0"}) {
			t.Errorf("of a name's addresses pass %v", got)
		}
		close(in)
		<-out
		if want := []string{"192.0.2.1", "192.0.2.3", "root", "192.0.2.1", "192.0.2.1", "192.0.2.2"}; !sameWords(p.asked, want) {
			t.Errorf("asked about %v, want %v", p.asked, want)
		}
		f := failure("a", "192.0.2.1", 0)
		if by, is := l.IgnoredFailure(t.Context(), &f); !is || by != ByCommand {
			t.Errorf("by hand: %q, %v", by, is)
		}
	})
}

func sameWords(a, b []string) bool {
	return slices.Equal(slices.Sorted(slices.Values(a)), slices.Sorted(slices.Values(b)))
}

func TestASlowCommandHoldsBackOneOffenderInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &programs{delay: 2 * time.Second}
		l := commanded(t, p, Config{Jail: "a", IgnoreCommand: "check", IgnoreIP: []string{"198.51.100.1"}}, Config{Jail: "b"})
		in, out := make(chan bantam.Failure), make(chan bantam.Failure, 16)
		go l.Run(in, out)
		begin := time.Now()
		for i := range 3 {
			in <- failure("a", "192.0.2.1", int64(1+i))
		}
		in <- failure("a", "198.51.100.1", 4)
		in <- failure("b", "192.0.2.1", 5)
		synctest.Wait()
		if got := passed(out); !slices.Equal(got, []string{"@0", "192.0.2.1@5"}) || time.Since(begin) > 0 {
			t.Errorf("at once pass %v", got)
		}
		for n := range int64(3) {
			f := <-out
			want := bantam.Position{}
			if n == 2 { // nothing of this log waits any more
				want = bantam.Position{Source: "/a", Offset: 3}
			}
			if f.ID != id("192.0.2.1") || f.Position != want || time.Since(begin) != time.Duration(n+1)*2*time.Second {
				t.Errorf("after %s passes %+v", time.Since(begin), f)
			}
		}
		close(in)
		<-out
	})
}

// However many offenders a hanging command is asked about, other jails wait a moment for it, once,
// and what is held has a bound.
func TestAHangingCommandStopsNobodyElse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &programs{}
		l := commanded(t, p, Config{Jail: "a", IgnoreCommand: "hang"}, Config{Jail: "b"})
		in, out := make(chan bantam.Failure), make(chan bantam.Failure, 8192)
		go l.Run(in, out)
		begin := time.Now()
		for i := range 4000 {
			in <- failure("a", fmt.Sprintf("10.0.%d.%d", i>>8, i&255), int64(i))
		}
		in <- failure("b", "192.0.2.1", 1)
		synctest.Wait()
		if took := time.Since(begin); took != hurry {
			t.Errorf("it took %s", took)
		}
		got := passed(out)
		if len(got) != 4000-maxHeldJail+1 || got[len(got)-1] != "192.0.2.1@1" {
			t.Errorf("%d have passed", len(got))
		}
		for n := 0; n < maxHeldJail/2+maxCommands; n++ { // all count in the end, and asking begins again
			<-out
		}
		in <- failure("a", "192.0.2.200", 1)
		synctest.Wait()
		if got := passed(out); slices.Contains(got, "192.0.2.200@0") {
			t.Errorf("unasked passes %v", got)
		}
		close(in)
		for range out {
		}
		if p.most != maxCommands {
			t.Errorf("%d commands ran at a time", p.most)
		}
	})
}

func TestOneOffenderCannotFillAJail(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := commanded(t, &programs{}, Config{Jail: "a", IgnoreCommand: "hang"})
		in, out := make(chan bantam.Failure), make(chan bantam.Failure, 8192)
		go l.Run(in, out)
		begin := time.Now()
		for i := range 20 * maxHeldOffender {
			in <- failure("a", "192.0.2.1", int64(i))
		}
		in <- failure("a", "192.0.2.2", 1)
		for n := range 3 {
			if f := <-out; f.ID != id("192.0.2.1") && f.ID != id("192.0.2.2") || time.Since(begin) > time.Duration(1+n)*time.Minute {
				t.Errorf("after %s: %v", time.Since(begin), f.ID)
			}
		}
		n := 3
		for n < maxHeldOffender+1 {
			<-out
			n++
		}
		synctest.Wait()
		if got := passed(out); len(got) > 0 {
			t.Errorf("%d too many pass", len(got))
		}
		close(in)
		<-out
	})
}

func TestAnswersAreKept(t *testing.T) {
	cache := Cache{Key: "<ip>", MaxCount: 2, MaxTime: time.Minute}
	for _, c := range []struct {
		name, command, key string
		who                []string // WHO/USER; "wait" lets the answers grow old, "reload" and "change" configure anew
		want               []string // who is asked about
	}{
		{"the same failure twice", "check", "<ip>", []string{"192.0.2.1", "192.0.2.1"}, []string{"192.0.2.1"}},
		{"without a key", "check", "", []string{"192.0.2.1", "192.0.2.1"}, []string{"192.0.2.1", "192.0.2.1"}},
		{"by user", "check", "<F-USER>", []string{"192.0.2.1/u", "192.0.2.2/u", "192.0.2.1/v"}, []string{"192.0.2.1", "192.0.2.1"}},
		{"too old", "check", "<ip>", []string{"192.0.2.1", "wait", "192.0.2.1"}, []string{"192.0.2.1", "192.0.2.1"}},
		{
			"too many: the oldest goes", "check", "<ip>",
			[]string{"192.0.2.1", "192.0.2.2", "192.0.2.3", "192.0.2.3", "192.0.2.2", "192.0.2.1"},
			[]string{"192.0.2.1", "192.0.2.2", "192.0.2.3", "192.0.2.1"},
		},
		{"an error, too", "fail", "<ip>", []string{"192.0.2.1", "192.0.2.1"}, []string{"192.0.2.1"}},
		{"over a reload", "check", "<ip>", []string{"192.0.2.1", "reload", "192.0.2.1"}, []string{"192.0.2.1"}},
		{"not for another command", "check", "<ip>", []string{"192.0.2.1", "change", "192.0.2.1"}, []string{"192.0.2.1", "192.0.2.1"}},
		{"long keys that differ at the end", "check", "<F-USER>", []string{"192.0.2.1/" + long + "a", "192.0.2.2/" + long + "b", "192.0.2.3/" + long + "a"}, []string{"192.0.2.1", "192.0.2.2"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := &programs{ignored: map[string]bool{"192.0.2.1": true}}
				config := Config{Jail: "a", IgnoreCommand: c.command, IgnoreCache: cache}
				if config.IgnoreCache.Key = c.key; c.key == "" {
					config.IgnoreCache = Cache{}
				}
				l := commanded(t, p, config)
				in, out := make(chan bantam.Failure), make(chan bantam.Failure, 16)
				go l.Run(in, out)
				for _, word := range c.who {
					switch word {
					case "wait":
						time.Sleep(cache.MaxTime) // of the bubble's clock
						continue
					case "change":
						config.IgnoreCommand = "fail"
						fallthrough
					case "reload":
						l.Configure(compile(t, config)...)
						continue
					}
					who, user, _ := strings.Cut(word, "/")
					f := failure("a", who, 1)
					f.User = user
					in <- f
					synctest.Wait()
					want := who
					if who == "192.0.2.1" && config.IgnoreCommand == "check" || user == "u" || strings.HasSuffix(user, "a") {
						want = ""
					}
					if got := passed(out); !slices.Equal(got, []string{want + "@1"}) {
						t.Errorf("%s passes as %v", word, got)
					}
				}
				close(in)
				<-out
				if !slices.Equal(p.asked, c.want) {
					t.Errorf("asked about %v, want %v", p.asked, c.want)
				}
			})
		})
	}
}

var long = strings.Repeat("x", longKey)

func TestWhoWaitsForTheSameAnswerSharesIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &programs{delay: time.Second, ignored: map[string]bool{"10.0.0.0": true}}
		l := commanded(t, p, Config{Jail: "a", IgnoreCommand: "check", IgnoreCache: Cache{Key: "all", MaxCount: 1, MaxTime: time.Minute}})
		in, out := make(chan bantam.Failure), make(chan bantam.Failure, 128)
		go l.Run(in, out)
		begin := time.Now()
		in <- failure("a", "10.0.0.0", 1)
		synctest.Wait()
		for i := range 99 {
			in <- failure("a", fmt.Sprintf("10.0.0.%d", i+1), 1)
		}
		for range 100 {
			if f := <-out; !f.ID.IsZero() {
				t.Errorf("%s passes", f.ID)
			}
		}
		if took := time.Since(begin); took != time.Second || len(p.asked) != 1 {
			t.Errorf("%s, asked about %v", took, p.asked)
		}
		close(in)
		<-out
	})
}

func TestAStopWaitsForNoCommand(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := commanded(t, &programs{}, Config{Jail: "a", IgnoreCommand: "hang", IgnoreCache: Cache{Key: "<ip>", MaxCount: 9, MaxTime: time.Hour}})
		in, out := make(chan bantam.Failure, 50), make(chan bantam.Failure, 50)
		for i := range 50 {
			in <- failure("a", fmt.Sprintf("10.0.0.%d", i), 1)
		}
		close(in)
		begin := time.Now()
		l.Run(in, out)
		if took := time.Since(begin); took > 0 || len(out) > 0 {
			t.Errorf("the stop took %s and passed %d", took, len(out))
		}
	})
}

func BenchmarkPassing(b *testing.B) {
	for _, c := range []struct {
		name   string
		config Config
	}{
		{"no command", Config{Jail: "a", IgnoreSelf: true, IgnoreIP: []string{"127.0.0.0/8"}}},
		{"a kept answer", Config{Jail: "a", IgnoreCommand: "check", IgnoreCache: Cache{Key: "<ip>", MaxCount: 100, MaxTime: time.Hour}}},
	} {
		b.Run(c.name, func(b *testing.B) {
			l := commanded(b, &programs{}, c.config)
			in, out := make(chan bantam.Failure), make(chan bantam.Failure)
			go l.Run(in, out)
			f := failure("a", "192.0.2.1", 1)
			b.ReportAllocs()
			for b.Loop() {
				in <- f
				<-out
			}
			close(in)
			<-out
		})
	}
}
