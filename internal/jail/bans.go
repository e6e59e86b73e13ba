package jail

import (
	"slices"
	"strings"

	"bantam"
)

// Bans is the running bans of one jail, or of all if jail is empty, oldest first;
// with a within, those inside it or around it.
func (s *State) Bans(jail string, within bantam.ID) ([]bantam.Ban, error) {
	return s.Newest(jail, within, "", 0)
}

// Newest is Bans of which only those are taken whose ID, as written, begins so, and of each jail only the last so many
// of IPv4, of IPv6 and of texts each; 0 takes all. What is told of a ban is unpacked of those alone: there may be a
// million.
func (s *State) Newest(jail string, within bantam.ID, begin string, most int) ([]bantam.Ban, error) {
	names := s.order
	if jail != "" {
		if s.jails[jail] == nil {
			return nil, s.unknown(jail)
		}
		names = []string{jail}
	}
	out := []bantam.Ban{}
	for _, name := range names {
		j := s.jails[name]
		for _, b := range newest(j.find(within), begin, most) {
			out = append(out, j.whole(b))
		}
	}
	return out, nil
}

// newest takes the last of some bans that are in order, which they stay.
func newest(bans []*running, begin string, most int) []*running {
	if begin != "" {
		bans = slices.DeleteFunc(bans, func(b *running) bool { return !strings.HasPrefix(b.ID.String(), begin) })
	}
	if most <= 0 {
		return bans
	}
	taken := map[int]int{} // by the length of addresses in bits, which texts have none of
	var out []*running
	for _, b := range slices.Backward(bans) {
		p, _ := b.ID.Prefix()
		if bits := p.Addr().BitLen(); taken[bits] < most {
			taken[bits]++
			out = append(out, b)
		}
	}
	slices.Reverse(out)
	return out
}
