package firewall

import (
	"cmp"
	"net/netip"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// A piece is a range of addresses, both ends included, that is banned until end,
// zero for ever.
type piece struct {
	first, last netip.Addr
	end         time.Time
}

// later is the later of two ends.
func later(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && a.After(b) {
		return a
	}
	return b
}

// lastOf is the highest address of a prefix.
func lastOf(p netip.Prefix) netip.Addr {
	b := p.Addr().AsSlice()
	for i := range b {
		switch host := 8*(i+1) - p.Bits(); {
		case host >= 8:
			b[i] = 0xff
		case host > 0:
			b[i] |= 1<<host - 1
		}
	}
	a, _ := netip.AddrFromSlice(b)
	return a
}

// piecesOf cuts prefixes of one family, which may contain one another, into
// pieces that do not overlap. Each is banned as long as the longest ban of the
// prefixes that contain it: so the kernel, which holds no overlapping ranges in
// one set, frees what it should when one of several bans ends. There are fewer
// than twice as many pieces as prefixes.
func piecesOf(prefixes map[netip.Prefix]time.Time) []piece {
	type entry struct {
		p   netip.Prefix
		end time.Time
	}
	sorted := make([]entry, 0, len(prefixes))
	for p, end := range prefixes {
		sorted = append(sorted, entry{p, end})
	}
	slices.SortFunc(sorted, func(a, b entry) int {
		return cmp.Or(a.p.Addr().Compare(b.p.Addr()), a.p.Bits()-b.p.Bits())
	})
	out := make([]piece, 0, len(sorted))
	var stack []piece     // the prefixes around the cursor, outermost first
	var cursor netip.Addr // the first address not yet told of; invalid behind the last
	// upto tells of what is left of the innermost prefix, to an address or, if
	// that is invalid, to its end.
	upto := func(to netip.Addr) {
		top := stack[len(stack)-1]
		last := top.last
		if to.IsValid() {
			last = to.Prev()
		}
		if cursor.IsValid() && last.IsValid() && cursor.Compare(last) <= 0 {
			out = append(out, piece{cursor, last, top.end})
			cursor = last.Next()
		}
	}
	for _, e := range sorted {
		first := e.p.Addr()
		for len(stack) > 0 && stack[len(stack)-1].last.Less(first) {
			upto(netip.Addr{})
			stack = stack[:len(stack)-1]
		}
		p := piece{first, lastOf(e.p), e.end}
		if n := len(stack); n > 0 {
			p.end = later(p.end, stack[n-1].end)
			if p.end.Equal(stack[n-1].end) {
				continue // the one around it lasts as long
			}
			upto(first)
		}
		stack, cursor = append(stack, p), first
	}
	for ; len(stack) > 0; stack = stack[:len(stack)-1] {
		upto(netip.Addr{})
	}
	return out
}

// intervals adds or removes, as kind says, pieces of an interval set.
func (b *batch) intervals(kind int, table, set string, ps []piece, withTimeout bool, now time.Time) {
	const each = messageElements / 2
	for part := range slices.Chunk(ps, each) {
		list := b.elementList(kind, table, set)
		for _, p := range part {
			elem := b.nested(unix.NFTA_LIST_ELEM)
			b.addrKey(p.first)
			if withTimeout {
				b.timeLeft(p.end, now)
			}
			b.close(elem)
			// An interval ends at the key after its last; the last of all
			// goes on without an end.
			if behind := p.last.Next(); behind.IsValid() {
				elem := b.nested(unix.NFTA_LIST_ELEM)
				b.u32(unix.NFTA_SET_ELEM_FLAGS, unix.NFT_SET_ELEM_INTERVAL_END)
				b.addrKey(behind)
				b.close(elem)
			}
		}
		b.close(list)
	}
}
