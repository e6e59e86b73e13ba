package daemon

import (
	"net/netip"
	"slices"
	"testing"

	"bantam"
)

// Of each jail, and of IPv4, IPv6 and texts each, the last so many are taken, in their order.
func TestTheNewestBansOfEachKindAreTaken(t *testing.T) {
	var bans []bantam.Ban
	for _, b := range [][2]string{
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
		bans = append(bans, bantam.Ban{Jail: b[0], ID: id})
	}
	var got []string
	for _, b := range newest(bans, 1) {
		got = append(got, b.Jail+" "+b.ID.String())
	}
	if want := []string{"sshd 2001:db8::1", "sshd 192.0.2.3", "web 192.0.2.1", "web eve"}; !slices.Equal(got, want) {
		t.Errorf("%q are taken, want %q", got, want)
	}
}
