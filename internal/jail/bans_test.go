package jail

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	"bantam"
)

// Of each jail, and of IPv4, IPv6 and texts each, the last so many are taken, in their order, with what is told of them.
func TestTheNewestBansOfEachKindAreTaken(t *testing.T) {
	s := NewState()
	now := time.Unix(1_700_000_000, 0)
	s.Configure([]Config{DefaultConfig("sshd"), DefaultConfig("web")}, now)
	for i, b := range [][2]string{
		{"sshd", "192.0.2.1"},
		{"sshd", "192.0.2.2"},
		{"sshd", "2001:db8::1"},
		{"sshd", "192.0.2.3"},
		{"web", "192.0.2.1"},
		{"web", "mallory"},
		{"web", "eve"},
	} {
		id := bantam.TextID(b[1])
		if addr, err := netip.ParseAddr(b[1]); err == nil {
			id = bantam.AddrID(addr)
		}
		at := now.Add(time.Duration(i) * time.Second)
		s.Restore(bantam.Ban{Jail: b[0], ID: id, Time: at, End: at.Add(time.Hour), Lines: []string{"line of " + b[1]}}, now)
	}
	for _, c := range []struct {
		what, jail, begin string
		most              int
		want              []string
	}{
		{"one of each kind", "", "", 1, []string{"sshd 2001:db8::1", "sshd 192.0.2.3", "web 192.0.2.1", "web eve"}},
		{"one jail's", "sshd", "", 2, []string{"sshd 192.0.2.2", "sshd 2001:db8::1", "sshd 192.0.2.3"}},
		{"those that begin so", "", "192.0.2.1", 0, []string{"sshd 192.0.2.1", "web 192.0.2.1"}},
	} {
		bans, err := s.Newest(c.jail, bantam.ID{}, c.begin, c.most)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, b := range bans {
			got = append(got, b.Jail+" "+b.ID.String())
			if len(b.Lines) != 1 || b.Lines[0] != "line of "+b.ID.String() {
				t.Errorf("%s: %s is told with %q", c.what, b.ID, b.Lines)
			}
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%s: %q are taken, want %q", c.what, got, c.want)
		}
	}
	if _, err := s.Newest("nobody", bantam.ID{}, "", 1); err == nil {
		t.Error("a jail that is not there has bans")
	}
}

// many is a jail with so many bans, a second between them, in no order.
func many(n int) *one {
	j := &one{bans: map[bantam.ID]*running{}}
	for i := range n {
		b := &running{}
		b.ID, b.Time = bantam.AddrID(netip.AddrFrom4([4]byte{41, byte(i >> 16), byte(i >> 8), byte(i)})), time.Unix(int64(i*7919%n), 0)
		j.bans[b.ID] = b
	}
	return j
}

// However few are taken, they are the last of all in their order.
func TestAFewOfManyBansAreTheLast(t *testing.T) {
	j := many(5000)
	all := j.find(bantam.ID{})
	for _, most := range []int{1, 7, fewBans, fewBans + 1, 4999, 5000, 6000} {
		want := all[max(0, len(all)-most):]
		if got := j.newest(bantam.ID{}, "", most); !slices.Equal(got, want) {
			t.Errorf("of %d bans the last %d are not those taken, which are %d", len(all), most, len(got))
		}
	}
}

func BenchmarkNewest(b *testing.B) {
	j := many(100_000)
	b.ReportAllocs()
	for b.Loop() {
		if len(j.newest(bantam.ID{}, "", 3)) != 3 {
			b.Fatal("not three")
		}
	}
}
