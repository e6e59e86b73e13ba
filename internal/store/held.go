package store

import (
	"cmp"
	"slices"

	"bantam"
)

// Bounds of what is held in memory while the file takes nothing. A decision is some 400
// bytes without its log lines, so this is 40 MB at most.
const (
	maxHeld      = 1 << 16
	maxHeldTexts = 16 << 20
)

// held are the decisions that the file has not taken yet, in their order.
type held struct {
	decisions []bantam.Decision
	texts     int // bytes of their lines and fields, as far as they were not dropped
	bare      int // how many of the first decisions have no texts any more
	dropped   int // decisions that memory had no room for
}

// add holds decisions, and lets go of what there is no room for: first the log lines and
// fields, the oldest first; then bans that are over; then bans that end soonest, as they
// are missed least when a restart forgets them. What an operator lifted is let go of last.
func (h *held) add(decisions []bantam.Decision) {
	h.decisions = append(h.decisions, decisions...)
	for i := range decisions {
		h.texts += texts(&decisions[i].Ban)
	}
	if h.texts > maxHeldTexts {
		h.dropTexts()
	}
	if len(h.decisions) > maxHeld {
		h.dropOver()
	}
	if len(h.decisions) > maxHeld {
		h.dropSoonest()
	}
}

func texts(b *bantam.Ban) int {
	n := 0
	for _, line := range b.Lines {
		n += len(line)
	}
	for key, value := range b.Data {
		n += len(key) + len(value)
	}
	return n
}

// dropTexts and dropSoonest make room for a quarter more, so that it need not be made for
// each decision anew.
func (h *held) dropTexts() {
	for ; h.bare < len(h.decisions) && h.texts > maxHeldTexts*3/4; h.bare++ {
		b := &h.decisions[h.bare].Ban
		h.texts -= texts(b)
		b.Lines, b.Data = nil, nil
	}
}

// dropOver lets go of bans that began and ended by themselves meanwhile, and of the ends
// of others: a ban whose time is up is over whether or not the file says so.
func (h *held) dropOver() {
	type key struct {
		jail string
		id   bantam.ID
	}
	over := map[key]bool{}
	drop := make([]bool, len(h.decisions))
	for i := len(h.decisions) - 1; i >= 0; i-- {
		d := &h.decisions[i]
		k := key{d.Ban.Jail, d.Ban.ID}
		switch {
		case d.Kind == bantam.End && d.Cause == bantam.CauseExpired:
			drop[i], over[k] = true, true
		case d.Kind == bantam.End:
			delete(over, k)
		case over[k]:
			drop[i] = true
		}
	}
	h.drop(func(i int) bool { return drop[i] })
}

func (h *held) dropSoonest() {
	order := make([]int, len(h.decisions))
	for i := range order {
		order[i] = i
	}
	rank := func(i int) int {
		switch d := &h.decisions[i]; {
		case d.Kind == bantam.End:
			return 2
		case d.Ban.Permanent():
			return 1
		default:
			return 0
		}
	}
	slices.SortStableFunc(order, func(a, b int) int {
		return cmp.Or(cmp.Compare(rank(a), rank(b)), h.decisions[a].Ban.End.Compare(h.decisions[b].Ban.End))
	})
	drop := make([]bool, len(h.decisions))
	for _, i := range order[:len(h.decisions)-maxHeld*3/4] {
		drop[i] = true
	}
	h.drop(func(i int) bool { return drop[i] })
}

// drop removes decisions by their index. Their positions go with them: the lines are read
// again after a restart, unless a later decision says otherwise.
func (h *held) drop(which func(int) bool) {
	kept := make([]bantam.Decision, 0, maxHeld)
	for i := range h.decisions {
		if which(i) {
			h.dropped++
			h.texts -= texts(&h.decisions[i].Ban)
			continue
		}
		kept = append(kept, h.decisions[i])
	}
	h.decisions, h.bare = kept, 0
}
