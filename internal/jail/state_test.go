package jail

import (
	"errors"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"

	"bantam"
)

func idOf(a [4]byte) bantam.ID { return bantam.AddrID(netip.AddrFrom4(a)) }

func id(t *testing.T, s string) bantam.ID {
	t.Helper()
	id, err := bantam.ParsePrefix(s)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// newState has one jail: three failures in ten minutes ban for an hour.
func newState(change ...func(*Config)) *State {
	c := DefaultConfig("sshd")
	c.MaxRetry, c.BanTime = 3, time.Hour
	for _, f := range change {
		f(&c)
	}
	s := NewState()
	s.Configure([]Config{c}, epoch)
	return s
}

// fail is a failure at a time, read when it was written.
func fail(id bantam.ID, seconds float64) bantam.Failure {
	return bantam.Failure{Jail: "sshd", ID: id, Time: at(seconds), Read: at(seconds), Lines: []string{"line"}}
}

func bans(t *testing.T, s *State) []bantam.Ban {
	t.Helper()
	b, err := s.Bans("", bantam.ID{})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestBanStartsAtTheLastFailure(t *testing.T) {
	s := newState()
	who := id(t, "192.0.2.7")
	for i, f := range []bantam.Failure{fail(who, 0), fail(who, 10)} {
		if d, ok := s.Fail(f); ok {
			t.Fatalf("failure %d decides %v", i, d)
		}
	}
	late := fail(who, 20)
	late.Read = at(300)
	d, ok := s.Fail(late)
	if !ok || d.Kind != bantam.Start || !d.Ban.Time.Equal(at(20)) || !d.Ban.End.Equal(at(20+3600)) || d.Ban.Failures != 3 {
		t.Fatalf("the third failure decides %+v, %v", d, ok)
	}
	if d.Ban.By != bantam.ByFailures || len(d.Ban.Lines) != 3 || d.Ban.Count != 1 {
		t.Errorf("the ban is %+v", d.Ban)
	}
}

func TestFailuresThatDoNotCount(t *testing.T) {
	who := id(t, "192.0.2.7")
	tooOld := fail(who, 0)
	tooOld.Read = at(601)
	justYoung := fail(who, 0)
	justYoung.Read = at(600)
	other := fail(who, 0)
	other.Jail = "nginx"
	nobody := fail(bantam.ID{}, 0)
	for _, c := range []struct {
		name string
		f    bantam.Failure
		want bool
	}{
		{"older than findtime when it was read", tooOld, false},
		{"as old as findtime", justYoung, true},
		{"of a jail that does not exist", other, false},
		{"of nobody, because it was ignored", nobody, false},
	} {
		s := newState(func(c *Config) { c.MaxRetry = 1 })
		if _, ok := s.Fail(c.f); ok != c.want {
			t.Errorf("a failure %s: decides %v", c.name, ok)
		}
	}
}

func TestKnownFailuresFillTheCountAndDecideNothing(t *testing.T) {
	s := newState()
	who := id(t, "192.0.2.7")
	for i := range 5 { // three make a ban that was decided before, two are left
		f := fail(who, float64(i))
		f.Known, f.Read = true, at(100_000)
		if _, ok := s.Fail(f); ok {
			t.Fatalf("known failure %d decides", i)
		}
	}
	f := fail(who, 5)
	f.Read = at(5)
	if d, ok := s.Fail(f); !ok || d.Ban.Failures != 3 {
		t.Fatalf("the next failure decides %v, %+v", ok, d)
	}
}

func TestSecondBanProlongs(t *testing.T) {
	s := newState(func(c *Config) { c.MaxRetry = 1 })
	who := id(t, "192.0.2.7")
	s.Fail(fail(who, 0))
	d, ok := s.Fail(fail(who, 100))
	if !ok || d.Kind != bantam.Prolong || !d.Ban.End.Equal(at(3700)) || !d.Ban.Time.Equal(at(0)) {
		t.Fatalf("failing while banned decides %v, %+v", ok, d)
	}
	if d, ok := s.Fail(fail(who, 50)); ok {
		t.Fatalf("an end that is not later decides %+v", d)
	}
	if out := s.Expire(at(3601)); len(out) != 0 {
		t.Fatalf("the ban ends at its old end: %v", out)
	}
	if out := s.Expire(at(3700)); len(out) != 0 {
		t.Fatalf("the ban ends before its end has passed: %v", out)
	}
	if out := s.Expire(at(3700.001)); len(out) != 1 || out[0].Cause != bantam.CauseExpired {
		t.Fatalf("after its end: %v", out)
	}
	if d, ok := s.Fail(fail(who, 4000)); !ok || d.Ban.Count != 2 {
		t.Errorf("the next ban is number %d", d.Ban.Count)
	}
}

func TestPrefixesAreCountedTogether(t *testing.T) {
	s := newState(func(c *Config) { c.Prefix6 = 64 })
	s.Fail(fail(id(t, "2001:db8::1"), 0))
	s.Fail(fail(id(t, "2001:db8::2"), 1))
	d, ok := s.Fail(fail(id(t, "2001:db8::3"), 2))
	if !ok || d.Ban.ID != id(t, "2001:db8::/64") {
		t.Fatalf("three addresses of one /64: %v, %v", ok, d.Ban.ID)
	}
	out, err := s.Unban("", id(t, "2001:db8::77"), bantam.CauseOperator, at(3))
	if err != nil || len(out) != 1 {
		t.Errorf("unbanning an address of the network lifts %v, %v", out, err)
	}
}

func TestOrders(t *testing.T) {
	s := newState()
	wide, one := id(t, "198.51.100.0/24"), id(t, "198.51.100.7")
	for _, who := range []bantam.ID{wide, one} {
		if d, ok, err := s.Ban(Manual, who, 0, bantam.ByOperator, "scan", at(0)); err != nil || !ok || !d.Ban.Permanent() {
			t.Fatalf("ban %s: %+v, %v, %v", who, d, ok, err)
		}
	}
	if _, ok, err := s.Ban(Manual, one, time.Hour, bantam.ByOperator, "", at(1)); ok || err != nil {
		t.Errorf("a shorter ban of a permanent one: %v, %v", ok, err)
	}
	var unknown *UnknownJailError
	if _, _, err := s.Ban("none", one, 0, bantam.ByOperator, "", at(1)); !errors.As(err, &unknown) {
		t.Errorf("a ban in no jail: %v", err)
	}
	out, err := s.Unban(Manual, id(t, "198.51.100.0/25"), bantam.CauseOperator, at(2))
	if err != nil || len(out) != 1 || out[0].Ban.ID != one {
		t.Errorf("unbanning half the network lifts %v, %v", out, err)
	}
	if out := s.Allow([]bantam.ID{id(t, "198.51.0.0/16")}, at(3)); len(out) != 1 || out[0].Cause != bantam.CauseAllowed {
		t.Errorf("allowing around the ban lifts %v", out)
	}
}

func TestReloadKeepsBansAndCounts(t *testing.T) {
	s := newState()
	who, other := id(t, "192.0.2.7"), id(t, "192.0.2.8")
	for i := range 3 {
		s.Fail(fail(who, float64(i)))
	}
	s.Fail(fail(other, 1))
	c := DefaultConfig("sshd")
	c.MaxRetry, c.BanTime = 2, time.Minute
	if out := s.Configure([]Config{c}, at(5)); len(out) != 0 {
		t.Fatalf("a reload decides %v", out)
	}
	if b := bans(t, s); len(b) != 1 || !b[0].End.Equal(at(2+3600)) {
		t.Errorf("bans after a reload: %+v", b)
	}
	if d, ok := s.Fail(fail(other, 6)); !ok || !d.Ban.End.Equal(at(66)) {
		t.Errorf("the count goes on with the new settings: %v, %+v", ok, d)
	}
	out := s.Configure(nil, at(10))
	if len(out) != 2 || out[0].Cause != bantam.CauseRemoved {
		t.Errorf("a jail that goes lifts %v", out)
	}
}

func TestObservingJailsStartTheirBansWhenEnforced(t *testing.T) {
	s := newState(func(c *Config) { c.MaxRetry, c.Observe = 1, true })
	who := id(t, "192.0.2.7")
	if d, ok := s.Fail(fail(who, 0)); !ok || !d.Ban.Observed {
		t.Fatalf("an observing jail decides %v, %+v", ok, d)
	}
	c := DefaultConfig("sshd")
	out := s.Configure([]Config{c}, at(1))
	if len(out) != 1 || out[0].Kind != bantam.Start || out[0].Ban.Observed || out[0].Ban.Count != 1 {
		t.Errorf("enforcing decides %+v", out)
	}
}

func TestRestore(t *testing.T) {
	s := newState()
	running := bantam.Ban{Jail: "sshd", ID: id(t, "192.0.2.1"), Time: at(0), End: at(100), Count: 3}
	ended := bantam.Ban{Jail: "sshd", ID: id(t, "192.0.2.2"), Time: at(0), End: at(9)}
	foreign := bantam.Ban{Jail: "gone", ID: id(t, "192.0.2.3"), Time: at(0)}
	observed := bantam.Ban{Jail: "sshd", ID: id(t, "192.0.2.4"), Time: at(0), Observed: true}
	out := restoreAll(s, []bantam.Ban{running, ended, foreign, observed}, at(10))
	if len(out) != 1 || out[0].Kind != bantam.Restore || out[0].Ban.ID != running.ID {
		t.Fatalf("restored %+v", out)
	}
	if next, ok := s.NextEnd(); !ok || !next.Equal(at(100)) {
		t.Errorf("the next end is %v, %v", next, ok)
	}
}

// Lines tell how far each source was read, and the next decision carries it.
func TestDecisionsCarryPositions(t *testing.T) {
	s := newState(func(c *Config) { c.MaxRetry = 2 })
	a, b := fail(id(t, "192.0.2.1"), 0), fail(id(t, "192.0.2.1"), 1)
	a.Position = bantam.Position{Source: "/a", Offset: 10}
	b.Position = bantam.Position{Source: "/b", Offset: 20}
	s.Fail(a)
	d, _ := s.Fail(b)
	slices.SortFunc(d.Positions, func(a, b bantam.Position) int { return int(a.Offset - b.Offset) })
	if len(d.Positions) != 2 || d.Positions[0].Source != "/a" || d.Positions[1].Source != "/b" {
		t.Errorf("the decision carries %+v", d.Positions)
	}
	ignored := fail(bantam.ID{}, 2)
	ignored.Position = bantam.Position{Source: "/a", Offset: 30}
	s.Fail(ignored)
	if p := s.Positions()["sshd"]; len(p) != 1 || p[0].Offset != 30 {
		t.Errorf("what was read since: %+v", p)
	}
}

// A step is what happens to a jail: a line, or an operator who lifts a ban.
type step struct {
	failure bantam.Failure
	unban   bantam.ID
}

// A disk remembers what decisions say, as the store does.
type disk struct {
	bans     []bantam.Ban // of every start
	running  []bool
	pardons  []bantam.Ban
	position int64
}

func (d *disk) write(t *testing.T, decision bantam.Decision) {
	t.Helper()
	for _, p := range decision.Positions {
		d.position = p.Offset
	}
	b := decision.Ban
	if decision.Kind == bantam.Start {
		d.bans, d.running = append(d.bans, b), append(d.running, true)
		return
	}
	i := slices.IndexFunc(d.bans, func(o bantam.Ban) bool { return o.ID == b.ID && o.Time.Equal(b.Time) })
	if i < 0 {
		t.Fatalf("%s of a ban that never began: %+v", decision.Kind, b)
	}
	d.bans[i].End = b.End
	if decision.Kind == bantam.End {
		d.running[i] = false
		if decision.Cause == bantam.CauseOperator {
			d.pardons = append(d.pardons, bantam.Ban{Jail: b.Jail, ID: b.ID, Time: decision.At})
		}
	}
}

// restart tells a new state what the disk remembers.
func (d *disk) restart(s *State, now time.Time) {
	past := slices.Concat(d.bans, d.pardons)
	slices.SortStableFunc(past, func(a, b bantam.Ban) int { return a.Time.Compare(b.Time) })
	for _, b := range past {
		s.Remember(b)
	}
	var running []bantam.Ban
	for i, b := range d.bans {
		if d.running[i] {
			running = append(running, b)
		}
	}
	restoreAll(s, running, now)
}

// A crash at any moment changes nothing: replaying the known lines and going on
// decides what an undisturbed run decides.
func TestRestartDecidesTheSame(t *testing.T) {
	seed := rand.Uint64()
	rng := rand.New(rand.NewPCG(seed, 2))
	for _, c := range []struct {
		name            string
		change          func(*Config)
		unbans, jumbled bool
	}{
		{"long bans", func(c *Config) {}, false, false},
		{"short bans", func(c *Config) { c.BanTime = 40 * time.Second }, false, false},
		{"bans that grow", func(c *Config) { c.MaxRetry, c.BanTime, c.Increment.Enabled = 6, 20*time.Second, true }, false, false},
		{"by chance", func(c *Config) {
			c.MaxRetry, c.BanTime = 5, 10*time.Second
			c.Increment = Increment{Enabled: true, RndTime: time.Minute, MaxTime: time.Minute}
		}, false, false},
		{"some are forgiven", func(c *Config) { c.MaxRetry, c.BanTime, c.Increment.Enabled = 7, 20*time.Second, true }, true, false},
		{"lines out of order", func(c *Config) {
			c.MaxRetry, c.BanTime = 8, 20*time.Second
			c.Increment = Increment{Enabled: true, MaxTime: time.Minute}
		}, false, true},
		{"bans soon forgotten", func(c *Config) {
			c.MaxRetry, c.BanTime, c.PurgeAge = 5, 20*time.Second, time.Second
			c.Increment = Increment{Enabled: true, Multipliers: []int{1, 2}}
		}, true, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			fresh := func() *State {
				return newState(c.change, func(c *Config) { c.FindTime = 2 * time.Hour })
			}
			for range 100 {
				var history []step
				for now := 1000.0; len(history) < 150; now += float64(rng.IntN(20)) {
					who := idOf([4]byte{192, 0, 2, byte(rng.IntN(5))})
					if c.unbans && rng.IntN(20) == 0 {
						now += 0.5
						history = append(history, step{unban: who, failure: bantam.Failure{Read: at(now)}})
						now += 0.5
						continue
					}
					f := fail(who, now)
					if c.jumbled && rng.IntN(3) == 0 {
						f.Time = at(now - float64(rng.IntN(60)))
					}
					f.Position = bantam.Position{Source: "/a", Offset: int64(len(history) + 1), Time: f.Time}
					history = append(history, step{failure: f})
				}
				// run takes the steps; those before from were taken before the restart.
				run := func(s *State, d *disk, from int, steps []step) {
					restarted := d.position
					for i, st := range steps {
						f := st.failure
						f.Known = f.Position.Offset <= restarted
						if i < from && f.ID.IsZero() {
							continue
						}
						if i >= from {
							for _, e := range s.Expire(f.Read) {
								d.write(t, e)
							}
						}
						if f.ID.IsZero() {
							ends, err := s.Unban("sshd", st.unban, bantam.CauseOperator, f.Read)
							if err != nil {
								t.Fatal(err)
							}
							for _, e := range ends {
								d.write(t, e)
							}
							if len(ends) == 0 {
								d.pardons = append(d.pardons, bantam.Ban{Jail: "sshd", ID: st.unban, Time: f.Read})
							}
							continue
						}
						if decision, ok := s.Fail(f); ok {
							d.write(t, decision)
						}
					}
				}
				var want, got disk
				run(fresh(), &want, 0, history)
				crash := rng.IntN(len(history))
				run(fresh(), &got, 0, history[:crash])
				again := fresh()
				got.restart(again, at(1000))
				run(again, &got, crash, history)

				same := slices.EqualFunc(got.bans, want.bans, func(a, b bantam.Ban) bool {
					return a.ID == b.ID && a.Time.Equal(b.Time) && a.End.Equal(b.End) && a.Count == b.Count
				})
				if !same {
					t.Fatalf("seed %d: crash after %d steps: %d bans instead of %d\n%v\n%v", seed, crash, len(got.bans), len(want.bans), got.bans, want.bans)
				}
				if len(want.bans) < 3 {
					t.Fatalf("seed %d: only %d bans", seed, len(want.bans))
				}
			}
		})
	}
}

func TestSweepForgetsOnlyWhatNothingCanContinue(t *testing.T) {
	s := newState()
	s.Fail(fail(id(t, "192.0.2.7"), 0))
	s.Sweep(at(1199))
	if n := s.Status(at(1199))[0].OffendersKnown; n != 1 {
		t.Errorf("%d offenders known before twice findtime has passed", n)
	}
	s.Sweep(at(1200))
	if n := s.Status(at(1200))[0].OffendersKnown; n != 0 {
		t.Errorf("%d offenders known afterwards", n)
	}
}

// restoreAll restores bans one after the other.
func restoreAll(s *State, bans []bantam.Ban, now time.Time) (out []bantam.Decision) {
	for _, b := range bans {
		if d, ok := s.Restore(b, now); ok {
			out = append(out, d)
		}
	}
	return out
}
