package firewall

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"bantam/internal/nstest"
)

var benchRules = []Rule{{Jail: "sshd", Protocols: []string{"tcp"}, Ports: []PortRange{{22, 22}}}, {Jail: "recidive"}}

func benchBans(n int) []Element {
	end := time.Now().Add(time.Hour)
	bans := make([]Element, n)
	for i := range bans {
		bans[i] = Element{Jail: "sshd", Prefix: netip.PrefixFrom(address4(i), 32), End: end}
	}
	return bans
}

// BenchmarkApplyOne is one ban on top of others, from the call to the
// kernel's acknowledgement.
func BenchmarkApplyOne(b *testing.B) {
	for _, n := range []int{0, 10_000, 100_000} {
		b.Run(fmt.Sprintf("on=%d", n), func(b *testing.B) {
			fw := openIn(b, nstest.New(b))
			if err := fw.Sync(b.Context(), benchRules, nil, slices.Values(benchBans(n))); err != nil {
				b.Fatal(err)
			}
			end := time.Now().Add(time.Hour)
			var took []time.Duration
			i := 1 << 20
			b.ReportAllocs()
			for b.Loop() {
				began := time.Now()
				if err := fw.Apply([]Change{{Element: Element{Jail: "sshd", Prefix: netip.PrefixFrom(address4(i), 32), End: end}}}); err != nil {
					b.Fatal(err)
				}
				took = append(took, time.Since(began))
				i++
			}
			reportPercentiles(b, took)
		})
	}
}

func reportPercentiles(b *testing.B, took []time.Duration) {
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2].Nanoseconds()), "p50-ns")
	b.ReportMetric(float64(took[len(took)*99/100].Nanoseconds()), "p99-ns")
}

// BenchmarkApplyMany is what a queue that was held up sends in one call.
func BenchmarkApplyMany(b *testing.B) {
	fw := openIn(b, nstest.New(b))
	if err := fw.Sync(b.Context(), benchRules, nil, nil); err != nil {
		b.Fatal(err)
	}
	var changes []Change
	for _, e := range benchBans(10_000) {
		changes = append(changes, Change{Element: e})
	}
	b.ReportAllocs()
	for b.Loop() {
		if err := fw.Apply(changes); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(len(changes)*b.N)/b.Elapsed().Seconds(), "bans/s")
}

// BenchmarkSync is a start: over nothing, and over the bans that the last run
// left in the kernel.
func BenchmarkSync(b *testing.B) {
	for _, n := range []int{0, 10_000, 100_000} {
		bans := benchBans(n)
		for _, kind := range []string{"empty", "standing"} {
			b.Run(fmt.Sprintf("%s/bans=%d", kind, n), func(b *testing.B) {
				fw := openIn(b, nstest.New(b))
				sync := func() {
					if err := fw.Sync(b.Context(), benchRules, nil, slices.Values(bans)); err != nil {
						b.Fatal(err)
					}
				}
				sync()
				b.ReportAllocs()
				for b.Loop() {
					if kind == "empty" {
						b.StopTimer()
						if err := fw.Remove(); err != nil {
							b.Fatal(err)
						}
						b.StartTimer()
					}
					sync()
				}
			})
		}
	}
}
