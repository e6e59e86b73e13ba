package jail

import (
	"iter"
	"slices"
	"strings"

	"bantam"
)

// offenders are those who have failed in one jail and are not banned for it yet, with their
// tallies. An attacker can make them a million, so that a key takes no more than the bits of an address,
// and what a map grows by is small. Its zero value has none.
type offenders struct {
	nets  map[netKey]uint32
	texts map[string]uint32 // IDs that are no prefix
	rows  []*[rowsAtOnce]tally
	told  shelf
	users map[uint32][]string // that were counted, by row, the oldest first; nil but where different users are counted
	pack  []byte              // of the last offence; its memory is used again
	used  uint32              // rows that were ever given away
	free  []uint32            // those of them that were given back
}

// A netKey is a prefix: its address in 16 bytes, as IPv6 maps IPv4, and its length in that.
type netKey [17]byte

const (
	rowsAtOnce = 512
	// tidyFrom is the number of rows from which it is worth while to give memory back.
	tidyFrom = 8 * rowsAtOnce
)

func keyOf(id bantam.ID) (key netKey, ok bool) {
	p, ok := id.Prefix()
	if !ok {
		return key, false
	}
	addr := p.Addr().As16()
	copy(key[:], addr[:])
	key[16] = byte(p.Bits())
	if p.Addr().Is4() {
		key[16] += 96
	}
	return key, true
}

func (o *offenders) row(n uint32) *tally { return &o.rows[n/rowsAtOnce][n%rowsAtOnce] }

// find is the row of an ID, if it has one.
func (o *offenders) find(id bantam.ID) (n uint32, known bool) {
	key, isNet := keyOf(id)
	if !isNet {
		n, known = o.texts[id.String()]
		return n, known
	}
	n, known = o.nets[key]
	return n, known
}

// number is the row of an ID, one without a failure if it had none. It is its own until the next call of drop or dropIf.
func (o *offenders) number(id bantam.ID) uint32 {
	n, known := o.find(id)
	if known {
		return n
	}
	key, isNet := keyOf(id)
	n = o.take()
	switch {
	case isNet && o.nets == nil:
		o.nets = map[netKey]uint32{key: n}
	case isNet:
		o.nets[key] = n
	case o.texts == nil:
		o.texts = map[string]uint32{id.String(): n}
	default:
		o.texts[id.String()] = n
	}
	return n
}

// take is a row that nobody has.
func (o *offenders) take() uint32 {
	if last := len(o.free) - 1; last >= 0 {
		n := o.free[last]
		o.free = o.free[:last]
		return n
	}
	n := o.used
	if o.used++; n/rowsAtOnce == uint32(len(o.rows)) {
		o.rows = append(o.rows, new([rowsAtOnce]tally))
	}
	return n
}

// keep remembers what a failure said that was added to a tally: the newest lines up to
// maxmatches, and the first failure's user and data. The very first lines are kept even where
// maxmatches is 0, until the second failure arrives. What was told of a tally that is over is to be forgotten before.
func (o *offenders) keep(t *tally, lines []string, user string, data map[string]string, maxmatches int) {
	if t.told != 0 {
		var old []string
		old, user, data = o.told.get(t.told).view() // until it is packed
		lines = append(old, lines...)
		lines = lines[max(0, len(lines)-maxmatches):]
	}
	o.pack = appendOffence(o.pack[:0], lines, user, data)
	o.told.drop(t.told)
	t.told = o.told.put(o.pack)
	if cap(o.pack) > board {
		o.pack = nil
	}
	o.tidy()
}

// tidy moves what is told of all to a new shelf, if the old one is not worth its room any more.
func (o *offenders) tidy() {
	if !o.told.untidy() {
		return
	}
	var told shelf
	for t := range o.all() {
		if t.told != 0 {
			t.told = told.put(o.told.get(t.told))
		}
	}
	o.told = told
}

// forget forgets what is told of a tally, and whom it counted.
func (o *offenders) forget(n uint32) {
	t := o.row(n)
	o.told.drop(t.told)
	t.told = 0
	delete(o.users, n)
}

// Bounds of the users that are remembered of one offender.
const (
	maxUsers    = 1000 // whatever maxretry is
	maxUserName = 64   // bytes; names that begin with the same are the same
)

// counted reports whether a user is among those that a tally has counted.
func (o *offenders) counted(n uint32, user string) bool {
	return slices.Contains(o.users[n], user[:min(len(user), maxUserName)])
}

// countUser notes a user that a tally has not counted yet. Of more than most the oldest is forgotten.
func (o *offenders) countUser(n uint32, user string, most int) {
	if o.users == nil {
		o.users = map[uint32][]string{}
	}
	users := o.users[n]
	if most = max(1, min(most, maxUsers)); len(users) >= most {
		users = slices.Delete(users, 0, len(users)-most+1)
	}
	o.users[n] = append(users, strings.Clone(user[:min(len(user), maxUserName)]))
}

func (o *offenders) giveBack(n uint32) {
	o.forget(n)
	*o.row(n) = tally{}
	o.free = append(o.free, n)
}

// drop forgets an ID.
func (o *offenders) drop(id bantam.ID) {
	if n, known := o.find(id); known {
		if key, isNet := keyOf(id); isNet {
			delete(o.nets, key)
		} else {
			delete(o.texts, id.String())
		}
		o.giveBack(n)
	}
	o.tidy()
}

// dropIf forgets those whose tally is so, and gives memory back that was for many
// more than are left.
func (o *offenders) dropIf(is func(*tally) bool) {
	dropRows(o, o.nets, is)
	dropRows(o, o.texts, is)
	if left := o.len(); o.used < tidyFrom || left > int(o.used)/4 {
		o.tidy()
		return
	}
	var small offenders
	small.nets, small.texts = moved(o, &small, o.nets), moved(o, &small, o.texts)
	*o = small
}

func dropRows[K comparable](o *offenders, m map[K]uint32, is func(*tally) bool) {
	for key, n := range m {
		if is(o.row(n)) {
			delete(m, key)
			o.giveBack(n)
		}
	}
}

// moved is a map whose rows were copied from one to another.
func moved[K comparable](from, to *offenders, m map[K]uint32) map[K]uint32 {
	out := make(map[K]uint32, len(m))
	for key, n := range m {
		at := to.take()
		t := to.row(at)
		*t = *from.row(n)
		if t.told != 0 {
			t.told = to.told.put(from.told.get(t.told))
		}
		if users := from.users[n]; users != nil {
			if to.users == nil {
				to.users = map[uint32][]string{}
			}
			to.users[at] = users
		}
		out[key] = at
	}
	return out
}

// len is how many there are.
func (o *offenders) len() int { return len(o.nets) + len(o.texts) }

// all are the tallies, in no order.
func (o *offenders) all() iter.Seq[*tally] {
	return func(yield func(*tally) bool) {
		for n := range o.used {
			if t := o.row(n); t.count > 0 && !yield(t) {
				return
			}
		}
	}
}
