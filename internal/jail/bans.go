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
		for _, b := range j.newest(within, begin, most) {
			out = append(out, j.whole(b))
		}
	}
	return out, nil
}

// fewBans is up to how many bans are chosen without putting all in order.
const fewBans = 1000

// newest is what find finds, but for those whose ID begins otherwise, and of each kind only the last so many; 0 takes
// all. Whoever fails waits meanwhile, so that of many bans a few are chosen by looking at each once.
func (j *one) newest(within bantam.ID, begin string, most int) []*running {
	bans := j.inside(within)
	if begin != "" {
		bans = slices.DeleteFunc(bans, func(b *running) bool { return !strings.HasPrefix(b.ID.String(), begin) })
	}
	if most <= 0 || most > fewBans {
		slices.SortFunc(bans, older)
	}
	if most <= 0 {
		return bans
	}
	kinds := map[int][]*running{} // by the length of addresses in bits, which texts have none of; in order
	for _, b := range bans {
		p, _ := b.ID.Prefix()
		bits := p.Addr().BitLen()
		kept := kinds[bits]
		if len(kept) == most {
			if older(b, kept[0]) < 0 {
				continue
			}
			kept = kept[1:]
		}
		at, _ := slices.BinarySearchFunc(kept, b, older)
		kinds[bits] = slices.Insert(kept, at, b)
	}
	var out []*running
	for _, kept := range kinds {
		out = append(out, kept...)
	}
	slices.SortFunc(out, older)
	return out
}
