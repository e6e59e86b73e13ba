package jail

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"strings"
	"testing"
	"time"

	"bantam"
)

func formula(t *testing.T, text string) *Formula {
	t.Helper()
	f, err := ParseFormula(text)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// growing is a jail that bans for ten minutes at the first failure, and longer later.
func growing(change ...func(*Config)) func(*Config) {
	return func(c *Config) {
		c.MaxRetry, c.BanTime, c.Increment.Enabled = 1, 10*time.Minute, true
		for _, f := range change {
			f(c)
		}
	}
}

// lengths bans somebody n times, each time as the last ban is over, and returns how
// many seconds each ban lasts.
func lengths(t *testing.T, s *State, n int) []float64 {
	t.Helper()
	var out []float64
	now := epoch
	for i := range n {
		f := fail(id(t, "192.0.2.7"), 0)
		f.Time, f.Read = now, now
		d, ok := s.Fail(f)
		if !ok || d.Kind != bantam.Start || d.Ban.Count != i+1 {
			t.Fatalf("failure %d decides %+v, %v", i, d, ok)
		}
		if d.Ban.Permanent() {
			return append(out, -1)
		}
		out = append(out, d.Ban.End.Sub(d.Ban.Time).Seconds())
		now = d.Ban.End.Add(time.Second)
		s.Expire(now)
	}
	return out
}

func TestRepeatedBansLastLonger(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(*Increment)
		want   string
	}{
		{"each doubles", func(i *Increment) {}, "[600 1200 2400 4800 9600 19200]"},
		{"a limit holds", func(i *Increment) { i.MaxTime = time.Hour }, "[600 1200 2400 3600 3600 3600]"},
		{"a limit below bantime makes repeated bans shorter", func(i *Increment) { i.MaxTime = 5 * time.Minute }, "[600 300 300 300 300 300]"},
		{"multipliers begin with the second", func(i *Increment) { i.Multipliers = []int{1, 5, 30, 60} }, "[600 3000 18000 36000 36000 36000]"},
		{"a single multiplier goes for all", func(i *Increment) { i.Multipliers = []int{3} }, "[600 1800 1800 1800 1800 1800]"},
		{"powers of two", func(i *Increment) { i.Multipliers = []int{1, 2, 4, 8, 16, 32, 64} }, "[600 1200 2400 4800 9600 19200]"},
		{"no ban is shorter than the first", func(i *Increment) { i.Factor = formula(t, "0.5") }, "[600 600 1200 2400 4800 9600]"},
		{"a factor that is computed", func(i *Increment) { i.Factor = formula(t, "1 + 1") }, "[600 2400 4800 9600 19200 38400]"},
		{"a factor goes with multipliers", func(i *Increment) { i.Factor, i.Multipliers = formula(t, "2"), []int{1, 5} }, "[600 6000 6000 6000 6000 6000]"},
		{"a formula that halves", func(i *Increment) { i.Formula = formula(t, "ban.Time / 2") }, "[600 600 600 600 600 600]"},
		{"multipliers win over a formula", func(i *Increment) { i.Formula, i.Multipliers = formula(t, "1/0"), []int{2} }, "[600 1200 1200 1200 1200 1200]"},
		{"a formula without a value leaves bantime", func(i *Increment) { i.Formula = formula(t, "1200 / (ban.Count - 2)") }, "[600 600 600 1200 600 600]"},
		{"what is too large is for ever", func(i *Increment) { i.Formula = formula(t, "9**9**ban.Count**9") }, "[600 3.87420489e+08 -1]"},
		{"or as long as may be", func(i *Increment) { i.Formula, i.MaxTime = formula(t, "9**9**ban.Count**9"), time.Hour }, "[600 3600 3600 3600 3600 3600]"},
		{"infinity is cut, too", func(i *Increment) { i.Formula, i.MaxTime = formula(t, "math.inf"), time.Hour }, "[600 3600 3600 3600 3600 3600]"},
		{"what is no number leaves bantime", func(i *Increment) { i.Formula = formula(t, "math.nan") }, "[600 600 600 600 600 600]"},
	} {
		s := newState(growing(func(cfg *Config) { c.change(&cfg.Increment) }))
		if got := fmt.Sprint(lengths(t, s, 6)); got != c.want {
			t.Errorf("%s: bans of %s seconds, want %s", c.name, got, c.want)
		}
	}
}

func TestTheTwentiethRepetitionIsTheLongest(t *testing.T) {
	c := DefaultConfig("sshd")
	c.Increment.Enabled = true
	for _, n := range []int{20, 21, 1 << 30} {
		if got := c.length(n, func() *rand.Rand { return nil }); got != 629145600*time.Second {
			t.Errorf("after %d bans the next lasts %s", n, got)
		}
	}
}

func TestTheRandomPartIsTheSameForTheSameBan(t *testing.T) {
	random := growing(func(c *Config) { c.Increment.RndTime, c.Increment.MaxTime = 10*time.Minute, 20*time.Minute })
	a, b, other := newState(random), newState(random), newState(random)
	a.Seed([]byte("seed"))
	b.Seed([]byte("seed"))
	other.Seed([]byte("another"))
	x, y, z := lengths(t, a, 4), lengths(t, b, 4), lengths(t, other, 4)
	if fmt.Sprint(x) != fmt.Sprint(y) || fmt.Sprint(x) == fmt.Sprint(z) {
		t.Errorf("bans of %v, %v, and with another seed %v seconds", x, y, z)
	}
	if x[0] != 600 {
		t.Errorf("the first ban lasts %g s", x[0])
	}
	for _, l := range x[1:] {
		if l < 1200 || l >= 1800 {
			t.Errorf("a repeated ban lasts %g s, want 20 to 30 minutes", l)
		}
	}
	if x[1] == x[2] && x[2] == x[3] {
		t.Errorf("nothing is random in %v", x)
	}
}

func TestBansThatDoNotGrow(t *testing.T) {
	who := id(t, "192.0.2.7")
	t.Run("those for ever", func(t *testing.T) {
		s := newState(growing(func(c *Config) { c.BanTime = -1 }))
		s.Remember(bantam.Ban{Jail: "sshd", ID: who, Time: at(-9999), End: at(-9000), Count: 3})
		if d, ok := s.Fail(fail(who, 0)); !ok || !d.Ban.Permanent() || d.Ban.Count != 4 {
			t.Errorf("the ban is %+v, %v", d.Ban, ok)
		}
	})
	t.Run("those whose length an operator gives", func(t *testing.T) {
		s := newState(growing())
		lengths(t, s, 3)
		d, _, err := s.Ban("sshd", who, time.Minute, bantam.ByOperator, "", at(9000))
		if err != nil || !d.Ban.End.Equal(at(9060)) || d.Ban.Count != 4 {
			t.Errorf("the ban is %+v, %v", d.Ban, err)
		}
		s.Expire(at(9061))
		if d, _, err = s.Ban("sshd", who, 0, bantam.ByOperator, "", at(9100)); err != nil || !d.Ban.End.Equal(at(9100+9600)) {
			t.Errorf("without a length the ban is %+v, %v; want the fifth of its kind", d.Ban, err)
		}
	})
	t.Run("those of a jail that does not say so", func(t *testing.T) {
		s := newState(growing(func(c *Config) { c.Increment.Enabled = false }))
		if got := fmt.Sprint(lengths(t, s, 3)); got != "[600 600 600]" {
			t.Error(got)
		}
	})
	t.Run("those found when the first length is over", func(t *testing.T) {
		s := newState(growing(func(c *Config) { c.FindTime = time.Hour }))
		lengths(t, s, 2)
		late := fail(who, 9000)
		late.Read = at(9601)
		if d, ok := s.Fail(late); ok {
			t.Errorf("the failure decides %+v", d)
		}
	})
}

func TestBansOfAllJails(t *testing.T) {
	s := NewState()
	var configs []Config
	for _, name := range []string{"a", "b"} {
		c := DefaultConfig(name)
		growing(func(c *Config) { c.Increment.OverallJails, c.Increment.MaxTime = true, time.Hour })(&c)
		configs = append(configs, c)
	}
	s.Configure(configs, epoch)
	who := id(t, "192.0.2.7")
	s.Remember(bantam.Ban{Jail: "gone", ID: id(t, "192.0.2.8"), Time: at(-10), End: at(-5), Count: 2})
	// Fail2Ban's own counts for the same bans; its sum counts those on that were sums.
	now := 0.0
	for i, want := range []struct {
		jail    string
		count   int
		seconds float64
	}{{"a", 1, 600}, {"b", 2, 1200}, {"a", 4, 3600}, {"b", 7, 3600}} {
		f := fail(who, now)
		f.Jail = want.jail
		d, ok := s.Fail(f)
		if l := d.Ban.End.Sub(d.Ban.Time).Seconds(); !ok || d.Ban.Count != want.count || l != want.seconds {
			t.Errorf("ban %d has the count %d and %g s, want %d and %g", i, d.Ban.Count, l, want.count, want.seconds)
		}
		now += 4000
		s.Expire(at(now))
	}
	f := fail(id(t, "192.0.2.8"), 100)
	f.Jail = "a"
	if d, _ := s.Fail(f); d.Ban.Count != 3 {
		t.Errorf("with two bans in a jail that is not configured the count is %d", d.Ban.Count)
	}
}

func TestFailuresOfKnownOffendersCountMore(t *testing.T) {
	for _, c := range []struct {
		name   string
		before int // bans
		at     float64
		want   int // failures that make the next ban
	}{
		{"no ban before", 0, 0, 10},
		{"one", 1, 0, 5},
		{"two", 2, 0, 4},
		{"three", 3, 0, 2},
		{"four", 4, 0, 2},
		{"five count for the whole ban", 5, 0, 1},
		{"so many that it would not fit", 1000, 0, 1},
		{"failures no later than the last ban", 5, -1000, 10},
	} {
		s := newState(func(cfg *Config) { cfg.MaxRetry, cfg.Increment.Enabled = 10, true })
		who := id(t, "192.0.2.7")
		if c.before > 0 {
			s.Remember(bantam.Ban{Jail: "sshd", ID: who, Time: at(-1000), End: at(-900), Count: c.before})
		}
		for n := 1; ; n++ {
			d, ok := s.Fail(fail(who, c.at))
			if !ok && n < 20 {
				continue
			}
			if n != c.want || d.Ban.Failures != n {
				t.Errorf("%s: banned at failure %d, which the ban says are %d; want %d", c.name, n, d.Ban.Failures, c.want)
			}
			break
		}
	}
}

// A ban is remembered until three times its length and the purge age have passed.
func TestEarlierBansAreForgotten(t *testing.T) {
	who := id(t, "192.0.2.7")
	start := func() *State {
		s := newState(growing(func(c *Config) { c.PurgeAge = time.Hour }))
		s.Remember(bantam.Ban{Jail: "sshd", ID: who, Time: at(0), End: at(100), Count: 4})
		return s
	}
	if d, _ := start().Fail(fail(who, 3900)); d.Ban.Count != 5 {
		t.Errorf("at the last moment the count is %d", d.Ban.Count)
	}
	if d, _ := start().Fail(fail(who, 3900.001)); d.Ban.Count != 1 || !d.Ban.End.Equal(d.Ban.Time.Add(10*time.Minute)) {
		t.Errorf("a moment later the ban is %+v", d.Ban)
	}
	s := start()
	s.Sweep(at(4500))
	if len(s.jails["sshd"].past.last) != 1 {
		t.Error("a sweep forgets what a late line could meet")
	}
	s.Sweep(at(4501)) // within the hour nothing is looked at
	s.Sweep(at(8200))
	if p := s.jails["sshd"].past; len(p.last) != 0 || len(p.told) != 0 {
		t.Errorf("after sweeps %v and %v are in memory", p.last, p.told)
	}
	s = start()
	s.Remember(bantam.Ban{Jail: "sshd", ID: who, Time: at(10), Count: 5})
	if d, _ := s.Fail(fail(who, 1e8)); d.Ban.Count != 6 {
		t.Errorf("a ban for ever is forgotten: count %d", d.Ban.Count)
	}
}

func TestUnbanForgives(t *testing.T) {
	who := id(t, "192.0.2.7")
	for _, c := range []struct {
		name string
		lift func(s *State) ([]bantam.Decision, error)
		want int
	}{
		{"an operator lifts the ban", func(s *State) ([]bantam.Decision, error) {
			return s.Unban("sshd", who, bantam.CauseOperator, at(9000))
		}, 1},
		{"he lifts all", func(s *State) ([]bantam.Decision, error) {
			return s.Unban("", bantam.ID{}, bantam.CauseOperator, at(9000))
		}, 1},
		{"the ban is over when he does", func(s *State) ([]bantam.Decision, error) {
			s.Expire(at(99999))
			return s.Unban("sshd", who, bantam.CauseOperator, at(99999))
		}, 1},
		{"it is allowed", func(s *State) ([]bantam.Decision, error) { return s.Allow([]bantam.ID{who}, at(9000)), nil }, 1},
		{"its time is up", func(s *State) ([]bantam.Decision, error) { return s.Expire(at(99999)), nil }, 5},
	} {
		s := newState(growing(func(c *Config) { c.PurgeAge = 1000 * time.Hour }))
		lengths(t, s, 3)
		s.Fail(fail(who, 9000))
		if _, err := c.lift(s); err != nil {
			t.Fatal(err)
		}
		if d, ok := s.Fail(fail(who, 100000)); !ok || d.Ban.Count != c.want {
			t.Errorf("%s: the next ban has the count %d, want %d", c.name, d.Ban.Count, c.want)
		}
	}
}

// No formula, however odd, bans for longer than the limit and what is random, for no
// time, or for less than bantime where there is no limit.
func TestNoFormulaBansTooLongOrTooShort(t *testing.T) {
	seed := rand.Uint64()
	r := rand.New(rand.NewPCG(seed, 4))
	rng := func() *rand.Rand { return r }
	for range 3000 {
		text := randomFormula(r, 5)
		f, err := ParseFormula(text)
		if err != nil {
			continue
		}
		c := DefaultConfig("t")
		c.BanTime = time.Duration(1 + r.Int64N(int64(1000*time.Hour)))
		c.Increment = Increment{Enabled: true, Formula: f, MaxTime: time.Duration(1 + r.Int64N(int64(2000*time.Hour))), RndTime: time.Minute}
		if r.IntN(2) == 0 {
			c.Increment.Factor = formula(t, "-1e300")
		}
		n := 1 + r.IntN(40)
		if got := c.length(n, rng); got <= 0 || got > c.Increment.MaxTime+time.Minute {
			t.Errorf("seed %d: %s: ban number %d lasts %s, with a limit of %s", seed, text, n+1, got, c.Increment.MaxTime)
		}
		c.Increment.MaxTime = 0
		if got := c.length(n, rng); got >= 0 && got < c.BanTime-time.Nanosecond {
			t.Errorf("seed %d: %s: ban number %d lasts %s, the first %s", seed, text, n+1, got, c.BanTime)
		}
		c.Increment.Multipliers = []int{0, r.IntN(9) - 4}
		if got := c.length(n, rng); got == 0 || got < -1 {
			t.Errorf("seed %d: multipliers %v: ban number %d lasts %s", seed, c.Increment.Multipliers, n+1, got)
		}
	}
}

func TestUnbanForgivesThePrefixThatCounts(t *testing.T) {
	s := newState(growing(func(c *Config) { c.Prefix6 = 64 }))
	s.Remember(bantam.Ban{Jail: "sshd", ID: id(t, "2001:db8::/64"), Time: at(-10), End: at(-5), Count: 2})
	if _, err := s.Unban("", id(t, "2001:db8::7"), bantam.CauseOperator, at(0)); err != nil {
		t.Fatal(err)
	}
	if d, _ := s.Fail(fail(id(t, "2001:db8::8"), 1)); d.Ban.Count != 1 {
		t.Errorf("the next ban of the network has the count %d", d.Ban.Count)
	}
}

func TestIncrementsThatCannotWork(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(*Increment)
		want   string
	}{
		{"a limit below zero", func(i *Increment) { i.MaxTime = -1 }, "bantime.maxtime: "},
		{"chance below zero", func(i *Increment) { i.RndTime = -1 }, "bantime.rndtime: "},
		{"a factor without a value", func(i *Increment) { i.Factor = formula(t, "1/0") }, "bantime.factor: division by zero"},
		{"a factor that asks for a ban", func(i *Increment) { i.Factor = formula(t, "ban.Count") }, "bantime.factor: ban.Time, ban.Count"},
		{"a formula without a value", func(i *Increment) { i.Formula = formula(t, "math.log(7 - ban.Count)") }, "bantime.formula: with ban.Count = 7: math.log: "},
		{"a negative multiplier", func(i *Increment) { i.Multipliers = []int{1, 2, -3} }, "bantime.multipliers: ban number 3 would last -1800 seconds"},
	} {
		cfg := DefaultConfig("t")
		cfg.Increment.Enabled = true
		c.change(&cfg.Increment)
		var option *OptionError
		if err := cfg.Validate(); !errors.As(err, &option) || !strings.HasPrefix(err.Error(), c.want) {
			t.Errorf("%s: %v, want %s", c.name, err, c.want)
		}
	}
}

// BenchmarkRemember tells what an earlier ban costs in memory.
func BenchmarkRemember(b *testing.B) {
	const bans = 100_000
	before, after := runtime.MemStats{}, runtime.MemStats{}
	for b.Loop() {
		s := newState()
		runtime.GC()
		runtime.ReadMemStats(&before)
		for i := range bans {
			who := idOf([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)})
			s.Remember(bantam.Ban{Jail: "sshd", ID: who, Time: at(-99999), End: at(-99000), Count: 1})
		}
		runtime.GC()
		runtime.ReadMemStats(&after)
		runtime.KeepAlive(s)
	}
	b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/bans, "B/ban")
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/bans, "ns/ban")
}

func BenchmarkRepeatedBan(b *testing.B) {
	for _, c := range []struct {
		name   string
		change func(*Increment)
	}{
		{"default", func(i *Increment) {}},
		{"multipliers", func(i *Increment) { i.Multipliers = []int{1, 5, 30, 60} }},
		{"random", func(i *Increment) { i.RndTime = time.Minute }},
		{"exp", func(i *Increment) {
			i.Formula = mustParse("ban.Time * math.exp(float(ban.Count+1)*banFactor)/math.exp(1*banFactor)")
		}},
	} {
		b.Run(c.name, func(b *testing.B) {
			cfg := DefaultConfig("t")
			cfg.Increment.Enabled = true
			c.change(&cfg.Increment)
			who := idOf([4]byte{192, 0, 2, 7})
			b.ReportAllocs()
			for b.Loop() {
				cfg.length(3, func() *rand.Rand { return chance(nil, "t", who, 1) })
			}
		})
	}
}
