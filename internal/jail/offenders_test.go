package jail

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"runtime"
	"slices"
	"testing"

	"bantam"
)

// Whoever comes and goes, the tallies are those of a plain map.
func TestOffendersAreAMap(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	someone := func() bantam.ID {
		n := r.IntN(3 * tidyFrom)
		switch n % 4 {
		case 0:
			return idOf([4]byte{10, 0, byte(n >> 8), byte(n)})
		case 1:
			id, err := bantam.ParsePrefix(fmt.Sprintf("2001:db8:%x::/%d", n, 48+n%16))
			if err != nil {
				t.Fatal(err)
			}
			return id
		case 2:
			return bantam.TextID(fmt.Sprintf("10.0.%d.%d", n>>8, n&255)) // looks like an address and is none
		}
		id, err := bantam.ParsePrefix(fmt.Sprintf("10.%d.%d.0/24", n>>8, n&255))
		if err != nil {
			t.Fatal(err)
		}
		return id
	}
	var got offenders
	want := map[bantam.ID]int32{}
	for range 40 {
		for range r.IntN(4 * tidyFrom) {
			id := someone()
			if r.IntN(8) == 0 {
				got.drop(id)
				delete(want, id)
				continue
			}
			tl := got.row(got.number(id))
			if tl.count != want[id] {
				t.Fatalf("%s has %d, want %d", id, tl.count, want[id])
			}
			tl.count++
			tl.failures = tl.count
			want[id]++
			got.keep(tl, []string{fmt.Sprint(id, tl.count)}, "", nil, 2)
		}
		if odd := r.Int32N(3); odd > 0 {
			got.dropIf(func(tl *tally) bool { return tl.count > odd })
			maps.DeleteFunc(want, func(_ bantam.ID, n int32) bool { return n > odd })
		}
		for id, n := range want {
			lines, _, _ := got.told.get(got.row(got.number(id)).told).unpack()
			if len(lines) != min(int(n), 2) || lines[len(lines)-1] != fmt.Sprint(id, n) {
				t.Fatalf("%s with %d failures has the lines %q", id, n, lines)
			}
		}
		if got.told.untidy() {
			t.Fatal("the shelf is not put in order")
		}
		var all []int32
		for tl := range got.all() {
			all = append(all, tl.count)
		}
		slices.Sort(all)
		if sum := slices.Sorted(maps.Values(want)); !slices.Equal(all, sum) || got.len() != len(want) {
			t.Fatalf("%d tallies, %d offenders; want %d", len(all), got.len(), len(want))
		}
	}
}

// What was taken for many is given back when most have gone.
func TestOffendersGiveMemoryBack(t *testing.T) {
	var o offenders
	for n := range 100 * rowsAtOnce {
		o.row(o.number(idOf([4]byte{10, byte(n >> 16), byte(n >> 8), byte(n)}))).count = int32(n + 1)
	}
	o.dropIf(func(tl *tally) bool { return tl.count > 10 })
	if o.len() != 10 || len(o.rows) != 1 || o.used != 10 {
		t.Errorf("10 offenders have %d chunks, %d rows", len(o.rows), o.used)
	}
	if tl := o.row(o.number(idOf([4]byte{10, 0, 0, 4}))); tl.count != 5 {
		t.Errorf("10.0.0.4 has %d failures", tl.count)
	}
}

// BenchmarkOffenders tells what an offender costs in memory, the line that was logged included.
func BenchmarkOffenders(b *testing.B) {
	const many = 1 << 20
	line := func(n int) string {
		return fmt.Sprintf("Mar  2 10:00:00 gate sshd[%d]: Failed password for root from 10.%d.%d.%d port 4022 ssh2", n, n>>16, n>>8&255, n&255)
	}
	for b.Loop() {
		s := NewState()
		s.Configure([]Config{DefaultConfig("sshd")}, epoch)
		var before, after runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		for n := range many {
			s.Fail(bantam.Failure{Jail: "sshd", ID: idOf([4]byte{10, byte(n >> 16), byte(n >> 8), byte(n)}), Time: at(1), Read: at(1), Lines: []string{line(n)}, User: "root"})
		}
		runtime.GC()
		runtime.ReadMemStats(&after)
		b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/many, "B/offender")
		runtime.KeepAlive(s)
	}
}
