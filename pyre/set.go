package pyre

import (
	"encoding/binary"
	"math/bits"
	"slices"
	"unsafe"
)

// A Rule is one pattern of a Set.
type Rule struct {
	// Regexp is searched for in the line, as Search does.
	Regexp *Regexp
	// Within, if there is one, is searched for first. Where its group Group has text,
	// Regexp is searched for in that text instead of the line.
	Within *Regexp
	Group  int
}

// A Set tells which of many patterns might match a line, by reading the line once.
// It is an automaton whose states are made when a line first leads to them, within
// bounds of memory and time; a line that nothing matches costs a nanosecond or two
// for each character until it is clear that no pattern can match any more. It may
// name rules that do not match, but leaves out none that does.
//
// A Set is not safe for concurrent use.
type Set struct {
	nfa
	rules []setRule
	all   []int // every rule
	entry int32 // the node where everything begins

	// Symbols that no pattern tells apart are one class.
	class            [256]uint8 // by byte; classMulti for what is looked at more closely
	other, end, feed uint8
	reads            []classes // by mask, the classes it holds
	stride           int32

	table  []int32 // what comes next, by state and class; a state is the index of its row
	states []state // by state / stride
	known  map[string]int32
	start  int32 // what comes first
	memory int   // bytes of states, about

	lines, flushed, flushes, resting int
	work                             int // nodes visited in this line

	leads [1 << leadBits]lead // by their first word

	sole  []int32  // by node, the only rule that it can lead to, or soleNone or soleMany
	trial []int32  // scratch: the states with a sole rule on the way through a line
	turns int      // lines to the next trial; less than 0 while each of so many is one
	owner []int32  // by need, the rule whose first one it is, or -1
	hit   []uint64 // needs met in this line
	met   bool

	mark    []uint32 // when a node was last seen
	clock   uint32
	stack   []int32
	nodes   []int32
	accepts []int32
	key     []byte
}

// A lead is how a line went on behind its date, for those of one program begin alike. It was in the state from
// there, and in behind[k] when k+1 of its words, of eight bytes, were read; nothing was met between.
type lead struct {
	from   int32
	words  [leadWords]uint64
	behind [leadWords]int32
	known  int // words
}

const (
	leadWords = 8
	leadBits  = 4
)

// A setRule is what must be met for a rule to be a candidate. The first need is the
// rule's alone.
type setRule struct {
	needs  []int32
	always bool // the automaton knows nothing about it
}

// classes is a set of classes.
type classes [3]uint64

// A state of the automaton is a set of places in the patterns.
type state struct {
	nodes   []int32
	accepts []int32

	// sole is the only rule that can still match, or soleNone or soleMany. How often it did
	// and did not, of the lines tried, says whether to read on: if it mostly does, it is a
	// candidate at once.
	sole      int32
	good, bad uint16
	early     bool
}

const (
	soleNone = -1
	soleMany = -2
)

// What comes next is a state, or one of these. States that accept are written as
// atAccept minus the state, so that one look at the sign finds all that is special.
const (
	unknown  = -1
	multi    = -2 // the byte is one of a longer character
	dead     = -3 // no pattern can match any more
	atAccept = -4
	// atEarly minus a state is one whose sole rule is a candidate without reading on.
	atEarly = -1 << 30
)

const classMulti = 0

// Bounds of a Set: the bytes of its states, and the nodes that may be visited to
// make states for one line. A line that takes more has every rule for a candidate.
// If all states had to be given up flushesAllowed times within flushLines lines each,
// they are not worth making: restLines lines have every rule for a candidate.
const (
	maxSetMemory   = 4 << 20
	maxLineWork    = 200_000
	trialEvery     = 256 // lines to one that is read to its end
	trialFirst     = 512 // lines at the beginning, each of which is
	trialStates    = 64  // that are looked at on the way
	flushesAllowed = 3
	flushLines     = 1000
	restLines      = 10_000
)

// NewSet makes a set of rules. A pattern that is too large for the automaton is a
// candidate on every line.
func NewSet(rules []Rule) *Set {
	s := &Set{nfa: nfa{index: make(map[mask]int32)}}
	for i := range rules {
		s.all = append(s.all, i)
	}
	b := setBuilder{nfa: &s.nfa, rules: make([]setRule, len(rules))}
	s.entry = b.build(rules)
	s.rules = b.rules
	s.index = nil
	s.classify()
	s.hit = make([]uint64, (b.needs+63)/64)
	s.owner = make([]int32, b.needs)
	for i := range s.owner {
		s.owner[i] = -1
	}
	for i, r := range s.rules {
		s.owner[r.needs[0]] = int32(i)
	}
	s.mark = make([]uint32, len(s.nfa.nodes))
	s.findSole()
	s.turns = -trialFirst
	s.reset()
	return s
}

// findSole finds for each node the only rule that it can lead to.
func (s *Set) findSole() {
	rules := make([]int32, len(s.owner)) // by need
	for i := range rules {
		rules[i] = soleNone
	}
	for i, r := range s.rules {
		for _, need := range r.needs {
			rules[need] = both(rules[need], int32(i))
		}
	}
	s.sole = make([]int32, len(s.nfa.nodes))
	for i := range s.sole {
		s.sole[i] = soleNone
	}
	for changed := true; changed; {
		changed = false
		for i := range s.nfa.nodes {
			sole := s.sole[i]
			switch n := &s.nfa.nodes[i]; n.kind {
			case nfaRead:
				sole = s.sole[n.x]
			case nfaSplit:
				sole = both(s.sole[n.x], s.sole[n.y])
			case nfaAccept:
				sole = rules[n.x]
			}
			if sole != s.sole[i] {
				s.sole[i], changed = sole, true
			}
		}
	}
}

// both is the only rule of two places.
func both(a, b int32) int32 {
	switch {
	case a == b, b == soleNone:
		return a
	case a == soleNone:
		return b
	}
	return soleMany
}

// Candidates appends to dst the rules that might match left, right and a line feed,
// read as one line, by ascending index. Characters must not be divided between left
// and right. Bytes that are no UTF-8 are read as Search reads them; with a line feed within left or right,
// all rules might match.
func (s *Set) Candidates(dst []int, left, right []byte) []int {
	if s.resting > 0 {
		s.resting--
		return append(dst, s.all...)
	}
	s.lines++
	s.work = 0
	trial := s.turns <= 0
	switch {
	case s.turns < 0:
		s.turns++
	case trial:
		s.turns = trialEvery
	default:
		s.turns--
	}
	// A group may have taken the line feed, and then gets another.
	at := s.enter(s.start)
	if trial {
		s.trial = s.trial[:0]
		at = s.try(s.try(at, left), right)
		at = s.tryStep(s.tryStep(at, s.feed), s.feed)
		s.tryStep(at, s.end)
	} else {
		at, right = s.follow(s.run(at, left), right)
		at = s.run(at, right)
		if at < 0 && !s.met && s.work <= maxLineWork {
			return dst // as most lines end
		}
		at = s.step(s.step(at, s.feed), s.feed)
		s.step(at, s.end)
	}
	if s.work > maxLineWork {
		clear(s.hit)
		s.met = false
		return append(dst, s.all...)
	}
	if !s.met {
		if trial {
			s.learn(nil)
		}
		return dst
	}
	begin := len(dst)
	for word, hit := range s.hit {
		for ; hit != 0; hit &= hit - 1 {
			i := s.owner[word<<6+bits.TrailingZeros64(hit)]
			if i >= 0 && s.might(&s.rules[i]) {
				dst = append(dst, int(i))
			}
		}
	}
	slices.Sort(dst[begin:])
	clear(s.hit)
	s.met = false
	if trial {
		s.learn(dst[begin:])
	}
	return dst
}

// learn books what became of a line that was read to its end.
func (s *Set) learn(found []int) {
	passed := false
	for _, at := range s.trial {
		st := &s.states[at/s.stride]
		if slices.Contains(found, int(st.sole)) {
			st.good++
		} else {
			st.bad++
		}
		if st.good|st.bad >= 1<<12 {
			st.good, st.bad = st.good/2, st.bad/2
		}
		switch {
		case st.early && st.bad > st.good/8:
			s.turn(at, false)
		case !st.early && !passed && st.good >= 8 && st.bad <= st.good/16 && len(st.accepts) == 0:
			s.turn(at, true)
		}
		passed = passed || st.early // one of them is enough on a way
	}
}

// turn makes what leads to a state lead to its sole rule at once, or not any more.
func (s *Set) turn(at int32, early bool) {
	s.forget()
	s.states[at/s.stride].early = early
	was, is := at, atEarly-at
	if !early {
		was, is = is, was
	}
	for i, next := range s.table {
		if next == was {
			s.table[i] = is
		}
	}
}

func (s *Set) might(r *setRule) bool {
	for _, need := range r.needs {
		if s.hit[need>>6]&(1<<(need&63)) == 0 {
			return false
		}
	}
	return true
}

// follow reads the first words of a line from the state at: at once those that the line before had, too. What it
// returns is the rest and the state to read that from.
func (s *Set) follow(at int32, text []byte) (then int32, rest []byte) {
	if at < 0 || len(text) < 8 {
		return at, text
	}
	l, k := &s.leads[binary.LittleEndian.Uint64(text)*0x9e3779b97f4a7c15>>(64-leadBits)], 0
	if at != l.from {
		l.from, l.known = at, 0
	}
	for k < l.known && len(text) >= 8 && binary.LittleEndian.Uint64(text) == l.words[k] {
		k, text = k+1, text[8:]
	}
	if k > 0 {
		at = l.behind[k-1]
	}
	if at < 0 {
		return at, text
	}
	table := s.table
	for l.known = k; l.known < leadWords && len(text) >= 8; l.known++ {
		word := binary.LittleEndian.Uint64(text)
		for i := range 8 {
			next := table[uint32(at)+uint32(s.class[byte(word>>(8*i))])]
			switch {
			case next == at:
			case next >= 0:
				at = next
			case next == dead:
				l.words[l.known], l.behind[l.known] = word, dead
				l.known++
				return dead, nil
			default:
				return at, text[i:]
			}
		}
		l.words[l.known], l.behind[l.known], text = word, at, text[8:]
	}
	return at, text
}

// forget gives up the leads.
func (s *Set) forget() {
	for i := range s.leads {
		s.leads[i].known = 0
	}
}

// run reads text from the state at, which may be dead.
func (s *Set) run(at int32, text []byte) int32 {
	if at < 0 {
		return at
	}
	table := s.table
	for i := 0; i < len(text); {
		class := s.class[text[i]]
		next := table[uint32(at)+uint32(class)] // extending a sign would take time
		if next == at {
			// The processor need not wait for the table where it can guess this.
			i++
			continue
		}
		if next >= 0 {
			at = next
			i++
			continue
		}
		size := 1
		if class == classMulti {
			if class, size = s.odd(text, i); size == 0 {
				return dead
			}
		}
		if at = s.step(at, class); at < 0 {
			return at
		}
		table = s.table
		i += size
	}
	return at
}

// odd is the class of a character that is not one byte of ASCII, and its length. With a line feed within, the
// text is not the line that was promised: then the length is 0, and every rule a candidate.
func (s *Set) odd(text []byte, i int) (class uint8, size int) {
	if text[i] == '\n' {
		s.work = maxLineWork + 1
		return 0, 0
	}
	_, size = decode(text, i)
	return s.other, size
}

// try is run by tryStep.
func (s *Set) try(at int32, text []byte) int32 {
	for i := 0; i < len(text) && at >= 0; {
		class, size := s.class[text[i]], 1
		if class == classMulti {
			if class, size = s.odd(text, i); size == 0 {
				return dead
			}
		}
		at = s.tryStep(at, class)
		i += size
	}
	return at
}

// tryStep is step that stops nowhere early and notes a state with a sole rule.
func (s *Set) tryStep(at int32, class uint8) int32 {
	if at < 0 {
		return at
	}
	next := s.next(at, class)
	if next <= atEarly {
		next = atEarly - next
	}
	at = s.enter(next)
	if at >= 0 && len(s.trial) < trialStates && s.states[at/s.stride].sole >= 0 && !slices.Contains(s.trial, at) {
		s.trial = append(s.trial, at)
	}
	return at
}

// step reads one symbol of the class in the state at.
func (s *Set) step(at int32, class uint8) int32 {
	if at < 0 {
		return at
	}
	return s.enter(s.next(at, class))
}

// next is what comes next when a symbol of the class is read in the state at.
func (s *Set) next(at int32, class uint8) int32 {
	next := s.table[at+int32(class)]
	if next == unknown {
		next = s.make(at, class)
	}
	return next
}

// enter notes what the next state accepts and returns it.
func (s *Set) enter(next int32) int32 {
	if next > atAccept {
		return next
	}
	s.met = true
	if next <= atEarly {
		rule := s.states[(atEarly-next)/s.stride].sole
		for _, need := range s.rules[rule].needs {
			s.hit[need>>6] |= 1 << (need & 63)
		}
		return dead
	}
	next = atAccept - next
	for _, need := range s.states[next/s.stride].accepts {
		s.hit[need>>6] |= 1 << (need & 63)
	}
	return next
}

// make finds what comes behind the state at when a symbol of the class is read.
func (s *Set) make(at int32, class uint8) int32 {
	if s.work > maxLineWork {
		return dead // this line is beyond us
	}
	s.begin()
	for _, n := range s.states[at/s.stride].nodes {
		if node := &s.nfa.nodes[n]; s.reads[node.mask].has(class) {
			s.closure(node.x)
		}
	}
	flushed := s.flushed
	next := s.intern()
	if next >= 0 && s.states[next/s.stride].early {
		next = atEarly - next
	}
	if flushed == s.flushed {
		s.table[at+int32(class)] = next
	}
	return next
}

func (c *classes) has(class uint8) bool { return c[class>>6]&(1<<(class&63)) != 0 }

// begin empties the set of nodes that closure adds to.
func (s *Set) begin() {
	s.nodes, s.accepts = s.nodes[:0], s.accepts[:0]
	if s.clock++; s.clock == 0 {
		clear(s.mark)
		s.clock = 1
	}
}

// closure adds what can be reached from n without reading.
func (s *Set) closure(n int32) {
	s.stack = append(s.stack[:0], n)
	for len(s.stack) > 0 {
		n := s.stack[len(s.stack)-1]
		s.stack = s.stack[:len(s.stack)-1]
		if s.work++; s.mark[n] == s.clock {
			continue
		}
		s.mark[n] = s.clock
		switch node := &s.nfa.nodes[n]; node.kind {
		case nfaRead:
			s.nodes = append(s.nodes, n)
		case nfaSplit:
			s.stack = append(s.stack, node.x, node.y)
		case nfaAccept:
			s.accepts = append(s.accepts, node.x)
		}
	}
}

// intern finds the state of the nodes at hand, or makes it.
func (s *Set) intern() int32 {
	if len(s.nodes) == 0 && len(s.accepts) == 0 {
		return dead
	}
	slices.Sort(s.nodes)
	slices.Sort(s.accepts)
	s.work += len(s.nodes)
	s.key = s.key[:0]
	for _, n := range s.nodes {
		s.key = binary.LittleEndian.AppendUint32(s.key, uint32(n))
	}
	for _, a := range s.accepts {
		s.key = binary.LittleEndian.AppendUint32(s.key, ^uint32(a))
	}
	if next, ok := s.known[string(s.key)]; ok {
		return next
	}
	size := 4*int(s.stride) + 2*len(s.key) + int(unsafe.Sizeof(state{})) + 64
	if s.memory+size > maxSetMemory {
		nodes, accepts, key := slices.Clone(s.nodes), slices.Clone(s.accepts), string(s.key)
		s.flush()
		s.nodes, s.accepts, s.key = nodes, accepts, []byte(key)
	}
	s.memory += size
	at := int32(len(s.states)) * s.stride
	sole := int32(soleNone)
	for _, n := range s.nodes {
		sole = both(sole, s.sole[n])
	}
	s.states = append(s.states, state{nodes: slices.Clone(s.nodes), accepts: slices.Clone(s.accepts), sole: sole})
	for range s.stride {
		s.table = append(s.table, unknown)
	}
	s.table[at+classMulti] = multi
	next := at
	if len(s.accepts) > 0 {
		next = atAccept - at
	}
	s.known[string(s.key)] = next
	return next
}

// flush gives up all states.
func (s *Set) flush() {
	if s.lines-s.flushed > flushLines {
		s.flushes = 0
	}
	if s.flushes++; s.flushes >= flushesAllowed {
		s.flushes, s.resting = 0, restLines
	}
	s.flushed = s.lines
	s.reset()
}

// reset begins with the first state alone.
func (s *Set) reset() {
	s.trial = s.trial[:0] // no states any more
	s.forget()
	s.table, s.states, s.known, s.memory = s.table[:0], s.states[:0], make(map[string]int32), 0
	s.begin()
	s.closure(s.entry)
	s.start = s.intern()
}

// classify puts symbols that no mask tells apart into one class.
func (s *Set) classify() {
	found := make(map[string]uint8)
	var class [symbols]uint8
	signature := make([]byte, (len(s.masks)+7)/8)
	for symbol := range symbols {
		clear(signature)
		for i := range s.masks {
			if s.masks[i].has(symbol) {
				signature[i/8] |= 1 << (i % 8)
			}
		}
		c, ok := found[string(signature)]
		if !ok {
			c = uint8(len(found) + 1) // 0 is classMulti
			found[string(signature)] = c
		}
		class[symbol] = c
	}
	copy(s.class[:128], class[:])
	s.class['\n'] = classMulti // a line has none
	s.other, s.end, s.feed = class[symOther], class[symEnd], class['\n']
	s.stride = int32(len(found) + 1)
	s.reads = make([]classes, len(s.masks))
	for i := range s.masks {
		for symbol, c := range class {
			if s.masks[i].has(symbol) {
				s.reads[i][c>>6] |= 1 << (c & 63)
			}
		}
	}
}
