package firewall

import (
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"
)

func TestPieces(t *testing.T) {
	now := time.Now()
	short, long := now.Add(time.Hour), now.Add(2*time.Hour)
	type ban struct {
		prefix string
		end    time.Time
	}
	tests := []struct {
		name string
		bans []ban
		want []piece
	}{
		{"none", nil, nil},
		{"prefixes side by side stay as they are", []ban{{"10.0.1.0/24", long}, {"10.0.0.0/24", short}}, []piece{at("10.0.0.0", "10.0.0.255", short), at("10.0.1.0", "10.0.1.255", long)}},
		{"one inside that ends earlier is part of it", []ban{{"10.0.0.0/8", long}, {"10.1.0.0/16", short}}, []piece{at("10.0.0.0", "10.255.255.255", long)}},
		{"one inside that ends later is a piece", []ban{{"10.0.0.0/8", short}, {"10.1.0.0/16", long}}, []piece{
			at("10.0.0.0", "10.0.255.255", short), at("10.1.0.0", "10.1.255.255", long), at("10.2.0.0", "10.255.255.255", short),
		}},
		{"one inside for ever", []ban{{"10.0.0.0/31", short}, {"10.0.0.0/31", time.Time{}}}, []piece{at("10.0.0.0", "10.0.0.1", time.Time{})}},
		{"one at the beginning and one at the end", []ban{{"10.0.0.0/29", short}, {"10.0.0.0/31", long}, {"10.0.0.6/31", long}}, []piece{
			at("10.0.0.0", "10.0.0.1", long), at("10.0.0.2", "10.0.0.5", short), at("10.0.0.6", "10.0.0.7", long),
		}},
		{"all addresses, and a later end at their end", []ban{{"0.0.0.0/0", short}, {"255.255.255.0/24", long}}, []piece{
			at("0.0.0.0", "255.255.254.255", short), at("255.255.255.0", "255.255.255.255", long),
		}},
		{"all addresses of IPv6", []ban{{"::/0", long}, {"8000::/1", short}}, []piece{at("::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", long)}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			prefixes := map[netip.Prefix]time.Time{}
			for _, b := range tt.bans {
				prefixes[netip.MustParsePrefix(b.prefix)] = b.end
			}
			if got := piecesOf(prefixes); !slices.Equal(got, tt.want) {
				t.Errorf("got %v, want %v", got, tt.want)
			}
		})
	}
}

func at(first, last string, end time.Time) piece {
	return piece{netip.MustParseAddr(first), netip.MustParseAddr(last), end}
}

// Every address is banned as long as the longest of the prefixes that have it.
func TestPiecesAgreeWithTheirPrefixes(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	r := rand.New(rand.NewPCG(seed, 1))
	now := time.Now()
	for range 2000 {
		prefixes := map[netip.Prefix]time.Time{}
		for range r.IntN(12) {
			end := now.Add(time.Duration(1+r.IntN(4)) * time.Hour)
			if r.IntN(5) == 0 {
				end = time.Time{}
			}
			base := byte(r.IntN(2)) * 240 // near both ends of all addresses
			p := netip.PrefixFrom(netip.AddrFrom4([4]byte{base + base/16, base + base/16, base + base/16, base + byte(r.IntN(16))}), 28+r.IntN(4)).Masked()
			prefixes[p] = end
		}
		pieces := piecesOf(prefixes)
		if len(pieces) > 2*len(prefixes) {
			t.Fatalf("seed %d: %d pieces of %d prefixes", seed, len(pieces), len(prefixes))
		}
		for i := range 32 {
			a := netip.AddrFrom4([4]byte{0, 0, 0, byte(i)})
			if i >= 16 {
				a = netip.AddrFrom4([4]byte{255, 255, 255, byte(240 + i - 16)})
			}
			var want, got *time.Time
			for p, end := range prefixes {
				if p.Contains(a) && (want == nil || later(*want, end).Equal(end)) {
					want = &end
				}
			}
			for _, p := range pieces {
				if p.first.Compare(a) <= 0 && a.Compare(p.last) <= 0 {
					if got != nil {
						t.Fatalf("seed %d: %s is in two pieces of %v", seed, a, pieces)
					}
					got = &p.end
				}
			}
			if (want == nil) != (got == nil) || want != nil && !want.Equal(*got) {
				t.Fatalf("seed %d: %s is banned until %v, want %v, of %v in %v", seed, a, got, want, prefixes, pieces)
			}
		}
	}
}
