package jail

import (
	"maps"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"bantam"
)

var epoch = time.Date(2025, 3, 2, 10, 0, 0, 0, time.UTC)

func at(seconds float64) time.Time {
	return epoch.Add(time.Duration(seconds * float64(time.Second)))
}

func TestTallyCounts(t *testing.T) {
	for _, c := range []struct {
		name  string
		times []float64
		want  []int
	}{
		{"failures within findtime add up", []float64{0, 1, 2, 3, 4}, []int{1, 2, 3, 4, 5}},
		{"older ones scale the count down instead of dropping out", []float64{0, 0, 0, 590, 610}, []int{1, 2, 3, 4, 5}},
		{"one every 200 s for ever stays at four", []float64{0, 200, 400, 600, 800, 1000, 1200, 1400}, []int{1, 2, 3, 4, 4, 4, 4, 4}},
		{"one every 150 s reaches five", []float64{0, 150, 300, 450, 600}, []int{1, 2, 3, 4, 5}},
		{"a pause of findtime starts anew", []float64{0, 1, 2, 602}, []int{1, 2, 3, 1}},
		{"a pause just shorter does not", []float64{0, 1, 2, 601.999}, []int{1, 2, 3, 4}},
		{"failures out of order only count", []float64{100, 50, 40}, []int{1, 2, 3}},
		{"half is rounded to even", []float64{0, 0, 0, 0, 0, 599, 1198}, []int{1, 2, 3, 4, 5, 6, 4}},
	} {
		var tl tally
		for i, s := range c.times {
			if got := tl.add(at(s), 10*time.Minute, 1); got != c.want[i] {
				t.Errorf("%s: count %d after the failure at %g s, want %d", c.name, got, s, c.want[i])
			}
		}
	}
}

// The tally agrees with the rule of spec/detection.md 6.2 written down slowly,
// entry by entry, on random histories.
func TestTallyAgreesWithTheSlowRule(t *testing.T) {
	seed := rand.Uint64()
	rng := rand.New(rand.NewPCG(seed, 1))
	for range 2000 {
		findtime := float64(1 + rng.IntN(1000))
		var tl tally
		var first, last, count float64
		now := 0.0
		for i := range 40 {
			now += math.Floor(rng.ExpFloat64() * findtime / 4)
			s := now
			if rng.IntN(5) == 0 {
				s = math.Max(0, now-float64(rng.IntN(int(findtime))))
			}
			if count == 0 || s-last >= findtime {
				first, last, count = s, s, 0
			} else if s > last {
				if first < s-findtime {
					count = math.RoundToEven(count / (s - first) * findtime)
					first = s - findtime
				}
				last = s
			}
			count++
			if got := tl.add(at(s), time.Duration(findtime)*time.Second, 1); float64(got) != count {
				t.Fatalf("seed %d: failure %d at %g s with findtime %g: count %d, want %g", seed, i, s, findtime, got, count)
			}
		}
	}
}

func TestKeptLines(t *testing.T) {
	for _, c := range []struct {
		name       string
		maxmatches int
		lines      [][]string
		want       []string
	}{
		{"the newest win", 2, [][]string{{"a"}, {"b"}, {"c"}}, []string{"b", "c"}},
		{"the first failure keeps all its lines", 1, [][]string{{"a", "b"}}, []string{"a", "b"}},
		{"none are kept from the second on", 0, [][]string{{"a"}, {"b"}}, nil},
	} {
		var o offenders
		var got []string
		for i, l := range c.lines {
			tl := o.row(o.number(idOf([4]byte{10, 0, 0, 1})))
			tl.add(at(float64(i)), time.Minute, 1)
			o.keep(tl, l, "", nil, c.maxmatches)
			got, _, _ = o.told.get(tl.told).unpack()
		}
		if len(got) != len(c.want) || len(got) > 0 && got[0] != c.want[0] {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}

// What was packed comes out again, whatever an attacker wrote.
func FuzzOffence(f *testing.F) {
	f.Add("", "", "", "", "")
	f.Add("a line", "another\x00", "root", "key", strings.Repeat("value", 100))
	f.Add("for root from 192.0.2.1", "", "root", "ip", "192.0.2.1")
	f.Fuzz(func(t *testing.T, line, other, user, key, value string) {
		for _, lines := range [][]string{nil, {line}, {line, other}} {
			for _, data := range []map[string]string{nil, {key: value}, {key: value, key + "2": line}} {
				gotLines, gotUser, gotData := appendOffence(nil, lines, user, data).unpack()
				if !slices.Equal(gotLines, lines) || gotUser != user || !maps.Equal(gotData, data) {
					t.Errorf("%q, %q, %q come out as %q, %q, %q", lines, user, data, gotLines, gotUser, gotData)
				}
			}
		}
	})
}

func BenchmarkFail(b *testing.B) {
	ids := make([]bantam.ID, 1<<16)
	for i := range ids {
		ids[i] = idOf([4]byte{10, byte(i >> 8), byte(i), 1})
	}
	s := NewState()
	c := DefaultConfig("sshd")
	c.MaxRetry = 1 << 20
	s.Configure([]Config{c}, epoch)
	lines := []string{"Mar  2 10:00:00 gate sshd[812]: Failed password for root from 10.0.0.1 port 4022 ssh2"}
	b.ReportAllocs()
	n := 0
	for b.Loop() {
		s.Fail(bantam.Failure{Jail: "sshd", ID: ids[n&(1<<16-1)], Time: at(float64(n) / 1e6), Read: at(float64(n) / 1e6), Lines: lines})
		n++
	}
}
