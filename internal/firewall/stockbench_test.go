package firewall

import (
	"fmt"
	"testing"
	"time"

	"bantam"
	"bantam/internal/nstest"
)

// BenchmarkStockRestore is a start with so many stored bans of one jail, from the
// configuration to the kernel's last acknowledgement.
func BenchmarkStockRestore(b *testing.B) {
	for _, kind := range oneOfEach {
		native := recognized(b, "sshd", kind.action, options())
		for _, n := range []int{10_000, 100_000} {
			if kind.kind == "iptables" && n > 10_000 {
				continue // nobody should
			}
			b.Run(fmt.Sprintf("%s/%d", kind.kind, n), func(b *testing.B) {
				bans := restores("sshd", n)
				b.ReportAllocs()
				for b.Loop() {
					b.StopTimer()
					s := stockIn(b, nstest.New(b))
					b.StartTimer()
					if err := s.Configure(b.Context(), []Native{native}, bans); err != nil {
						b.Fatal(err)
					}
				}
				b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N*n), "µs/ban")
			})
		}
	}
}

// BenchmarkStockResync is making the kernel equal when all is there already.
func BenchmarkStockResync(b *testing.B) {
	for _, kind := range oneOfEach[:2] {
		native := recognized(b, "sshd", kind.action, options())
		for _, n := range []int{10_000, 100_000} {
			b.Run(fmt.Sprintf("%s/%d", kind.kind, n), func(b *testing.B) {
				s := stockIn(b, nstest.New(b))
				if err := s.Configure(b.Context(), []Native{native}, restores("sshd", n)); err != nil {
					b.Fatal(err)
				}
				b.ReportAllocs()
				for b.Loop() {
					if err := s.Resync(b.Context()); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}

// BenchmarkStockBan is one ban on top of others, from the call to the kernel's
// acknowledgement.
func BenchmarkStockBan(b *testing.B) {
	for _, kind := range oneOfEach {
		native := recognized(b, "sshd", kind.action, options())
		for _, n := range []int{1, 100_000} {
			if kind.kind == "iptables" {
				n = min(n, 10_000)
			}
			b.Run(fmt.Sprintf("%s/on=%d", kind.kind, n), func(b *testing.B) {
				s := stockIn(b, nstest.New(b))
				if err := s.Configure(b.Context(), []Native{native}, restores("sshd", n)); err != nil {
					b.Fatal(err)
				}
				end := time.Now().Add(time.Hour)
				var took []time.Duration
				i := 1 << 20
				b.ReportAllocs()
				for b.Loop() {
					began := time.Now()
					ban := bantam.Decision{Kind: bantam.Start, Ban: bantam.Ban{Jail: "sshd", ID: bantam.AddrID(address4(i)), End: end}}
					if _, err := s.Do(b.Context(), []bantam.Decision{ban}); err != nil {
						b.Fatal(err)
					}
					took = append(took, time.Since(began))
					i++
				}
				reportPercentiles(b, took)
			})
		}
	}
}

func BenchmarkRecognize(b *testing.B) {
	p := newPeer(b, nil)
	for _, kind := range oneOfEach {
		inet4, inet6 := p.commands(kind.action, "sshd", options("port", "ssh"))
		b.Run(kind.kind, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := Recognize("sshd", kind.action, inet4, inet6); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
