package pyre

import (
	"bytes"
	"slices"
	"strings"
)

// A Tracer does for one Rule what Search does, groups included, and more quickly for
// lines that look like those before: by an automaton whose states are made when a line
// first leads to them. A state is a list of places in the pattern, in the order in which
// Search would try them; the way that leads to the match is found from its end.
//
// It knows lines of ASCII without line feeds, and leaves others to Search, as it does
// those that would cost it too much time or memory.
//
// A Tracer is not safe for concurrent use.
type Tracer struct {
	traceProgram
	class  [256]uint8 // by byte; classMulti for what is left to Search
	symbol []uint8    // by class, one that is of it
	end    uint8
	stride int

	// What comes next, by state and class; a state is the index of its row. Half words, for
	// the processor's fastest memory is small.
	table  []uint16
	onward map[uint16]uint16 // of the places that are traceAccept, the state that goes on
	how    []uint16          // of those with traceTurn, as where that begins in links
	links  []link
	saved  [][]int32 // slots, by link
	states []traceState
	known  map[string]uint16
	memory int // bytes of states, about
	rest   int // lines that are left to Search for want of memory
	full   int // how often there was none

	trail []turn // of the line at hand, where something changed
	slots []int32

	// Scratch of step.
	out     []thread
	way     way
	saves   []int32
	seen    map[thread]bool
	cut     bool
	doubts  uint8
	at      uint8 // the symbol that comes next
	before  prior
	parent  int32
	work    int
	goodBye bool // it is left to Search
}

// A thread is a place in the pattern, and what the way to it has to remember.
type thread struct {
	pc    int32
	took  uint32 // the groups that conditions ask for and that took part, by number
	looks string // look-aheads that are not decided yet
	// fresh is set from where the inner pattern's text begins until something is read.
	fresh bool
	// doubt is set if the outer pattern ended with a look-ahead not yet decided.
	doubt bool
}

// A turn is a position of the text at which something changed, and the place of the table that says how.
type turn struct {
	at    int32
	place uint16
}

// A traceState is what may be going on between two characters.
type traceState struct {
	threads []thread
	before  prior
	doubts  uint8 // how often the outer pattern ended with a look-ahead not yet decided, up to 2
}

// A prior is what is known about the character before.
type prior uint8

const (
	priorNone prior = iota
	priorWord
	priorOther
)

// A link is how a thread follows from one before: from which of its state's, and what
// slots were saved between, as an index of saved. The links of a state's threads stand
// together behind that of the match, if there is one.
type link struct{ parent, saves int32 }

// A way is the links between two states while they are made.
type way struct {
	parents []int32
	saves   [][]int32
	// accept is the thread that matched, -1 for none.
	accept      int32
	acceptSaves []int32
}

// What comes next is a state, or one of these, and traceTurn with it if something changes.
const (
	traceUnknown = 0x7fff - iota
	traceDead    // there is no match, or none but the last
	traceFinal   // here is one, and no other can be better
	traceAccept  // here is one, and a better one may follow
	maxTrace     // all below are places of the table

	traceTurn = 0x8000
)

// Bounds of a Tracer.
const (
	maxTraceMemory = 512 << 10
	maxTraceText   = 8 << 10
	maxTraceWork   = 4_000 // nodes visited to make states for one line
	maxTraceLooks  = 64    // bytes that undecided look-aheads of a thread take
	traceRest      = 10_000
	maxTraceFull   = 3
	maxLinks       = 1 << 16
)

// NewTracer makes a tracer of a rule. It is nil if the rule has something that a tracer
// cannot do: back-references, look-behind, atomic groups, groups in look-aheads, repeats of
// what may match nothing, and more than a line.
func NewTracer(r Rule) *Tracer {
	t := &Tracer{}
	if !t.compile(r) {
		return nil
	}
	t.classify()
	t.reset()
	return t
}

// Search searches text, which ends with a line feed, and appends the start and end of each
// group to outer, if the rule has a pattern that is searched for first, and to inner, -1 for
// one that took no part. The places of inner count from where the text of the rule's group
// begins. Both are nil if there is no match; ok is false if it cannot tell.
func (t *Tracer) Search(text []byte, outer, inner []int) (o, i []int, ok bool) {
	if t.rest > 0 {
		t.rest--
		return nil, nil, false
	}
	if n := len(text); n == 0 || n > maxTraceText || bytes.IndexByte(text, '\n') != n-1 {
		return nil, nil, false
	}
	if len(t.trail) <= len(text) {
		t.trail = make([]turn, 2*len(text))
	}
	t.work, t.goodBye = 0, false
	matched := t.forward(text)
	if t.goodBye {
		return nil, nil, false
	}
	if matched == 0 {
		return nil, nil, true
	}
	t.backward(t.trail[:matched])
	begin := int32(0)
	if t.outer > 0 {
		begin = t.slots[t.begin]
		end := int32(len(text) - 1)
		t.slots[1], t.slots[2*t.group], t.slots[2*t.group+1] = end, begin, end
		outer = appendSpans(outer, t.slots[:t.outer], 0)
	}
	return outer, appendSpans(inner, t.slots[t.outer:t.outer+t.inner], begin), true
}

// appendSpans appends slots as spans that count from begin.
func appendSpans(spans []int, slots []int32, begin int32) []int {
	for i := 0; i < len(slots); i += 2 {
		start, end := int(slots[i]-begin), int(slots[i+1]-begin)
		if slots[i] < 0 || slots[i+1] < 0 {
			start, end = -1, -1
		}
		spans = append(spans, start, end)
	}
	return spans
}

// forward reads text and returns how many turns lead to the best match, the match being the last of them; 0 for none.
func (t *Tracer) forward(text []byte) (matched int) {
	i, at, turns := 0, uint32(0), 0
	for {
		i, at, turns = t.run(text, i, at, turns)
		class := t.end
		if i < len(text) {
			class = t.class[text[i]]
		}
		place := uint16(at) + uint16(class)
		next := t.table[place]
		if next == traceUnknown {
			if class == classMulti {
				t.goodBye = true
				return 0
			}
			if next = t.step(place); t.goodBye {
				return 0
			}
		}
		if next >= traceTurn {
			t.trail[turns] = turn{int32(i), place}
			turns++
		}
		switch next &^= traceTurn; next {
		case traceDead:
			return matched
		case traceFinal:
			return turns
		case traceAccept:
			matched, next = turns, t.onward[place]
		}
		if i == len(text) {
			return matched
		}
		i, at = i+1, uint32(next)
	}
}

// run reads text from i on in the state at up to what is more than a turn. It has little to remember, for the
// processor's sake.
func (t *Tracer) run(text []byte, i int, at uint32, turns int) (int, uint32, int) {
	table, trail := t.table, t.trail
	for ; i < len(text); i++ {
		place := at + uint32(t.class[text[i]])
		next := uint32(table[place])
		if next == at {
			continue // the processor need not wait for the table where it can guess this
		}
		if next >= traceTurn {
			if next &^= traceTurn; next >= maxTrace {
				break
			}
			trail[turns] = turn{int32(i), uint16(place)}
			turns++
		} else if next >= maxTrace {
			break
		}
		at = next
	}
	return i, at, turns
}

// backward fills the slots by the way to the match, which is the last turn.
func (t *Tracer) backward(trail []turn) {
	for i := range t.slots {
		t.slots[i] = -1
	}
	last := len(trail) - 1
	l := t.links[t.how[trail[last].place]]
	t.save(l.saves, trail[last].at)
	for i := last - 1; i >= 0; i-- {
		l = t.links[int32(t.how[trail[i].place])+1+l.parent]
		t.save(l.saves, trail[i].at)
	}
}

// save writes to the slots that were saved at a place, but for those that were later.
func (t *Tracer) save(saves, at int32) {
	if saves == 0 {
		return
	}
	saved := t.saved[saves]
	for i := len(saved) - 1; i >= 0; i-- {
		if slot := &t.slots[saved[i]]; *slot < 0 {
			*slot = at
		}
	}
}

// step finds what comes next at a place of the table: a state and the symbol behind it.
func (t *Tracer) step(place uint16) uint16 {
	from := t.states[int(place)/t.stride]
	class := int(place) % t.stride
	t.at = t.symbol[class]
	t.before = from.before
	t.doubts = from.doubts
	t.out, t.cut = t.out[:0], false
	t.way = way{accept: -1}
	clear(t.seen)
	for i, thread := range from.threads {
		t.parent = int32(i)
		t.saves = t.saves[:0]
		t.follow(thread)
		if t.cut {
			break
		}
	}
	if t.work > maxTraceWork {
		t.goodBye = true
	}
	if t.goodBye {
		return traceUnknown
	}
	next := uint16(traceDead)
	if len(t.out) > 0 {
		before := priorOther
		if t.words && t.at < 128 && isWord(rune(t.at)) {
			before = priorWord
		}
		var ok bool
		if next, ok = t.state(before); !ok {
			return traceUnknown // everything is new
		}
	}
	switch {
	case t.way.accept < 0:
	case next == traceDead:
		next = traceFinal
	default:
		t.onward[place], next = next, traceAccept
	}
	if t.way.accept >= 0 || !t.way.isPlain() {
		if !t.room(t.way.size()) {
			return traceUnknown
		}
		next |= traceTurn
		t.how[place] = uint16(len(t.links))
		t.links = append(t.links, t.link(t.way.accept, t.way.acceptSaves))
		for i, parent := range t.way.parents {
			t.links = append(t.links, t.link(parent, t.way.saves[i]))
		}
	}
	t.table[place] = next
	return next
}

// link makes a link.
func (t *Tracer) link(parent int32, saves []int32) link {
	l := link{parent: parent}
	if len(saves) > 0 {
		l.saves = int32(len(t.saved))
		t.saved = append(t.saved, saves)
	}
	return l
}

// size is how many bytes the links of a way take.
func (w *way) size() int {
	size := 8 + 8*len(w.acceptSaves)
	for _, s := range w.saves {
		size += 40 + 8*len(s)
	}
	return size
}

// isPlain reports whether each thread is its own parent and nothing is saved.
func (w *way) isPlain() bool {
	for i, p := range w.parents {
		if int(p) != i || len(w.saves[i]) > 0 {
			return false
		}
	}
	return true
}

// follow goes on from a thread without reading, in the order of Search, and keeps what
// reads the next symbol.
func (t *Tracer) follow(th thread) {
	if t.work++; t.work > maxTraceWork || t.goodBye || t.seen[th] {
		return
	}
	t.seen[th] = true
	n := &t.nodes[th.pc]
	next := th
	next.pc = n.x
	switch n.kind {
	case traceRead:
		if t.at < 128 && n.set[t.at>>6]&(1<<(t.at&63)) != 0 {
			t.keep(next)
		}
	case traceSplit:
		saved := len(t.saves)
		t.follow(next)
		t.saves = t.saves[:saved]
		if !t.cut {
			next.pc = n.y
			t.follow(next)
		}
	case traceSave:
		t.saves = append(t.saves, n.arg)
		t.follow(next)
	case traceTook:
		next.took |= 1 << n.arg
		t.follow(next)
	case traceCond:
		if th.took&(1<<n.arg) == 0 {
			next.pc = n.y
		}
		t.follow(next)
	case tracePlace:
		if t.holds(place(n.arg), th.fresh) {
			t.follow(next)
		}
	case traceLook:
		looks, alive := t.look(lookCode(n.arg != 0, []int32{n.y}), th.fresh)
		if !alive {
			return
		}
		if looks != "" {
			// It is decided by what follows: until this symbol is read it is as it was.
			next.looks = addLook(th.looks, lookCode(n.arg != 0, []int32{n.y}))
			t.goodBye = t.goodBye || len(next.looks) > maxTraceLooks || th.fresh && t.placed
		}
		t.follow(next)
	case traceBegin:
		if t.at == '\n' || t.at == symEnd {
			return // there is no text for the inner pattern
		}
		t.saves = append(t.saves, n.arg)
		next.fresh = true
		if th.looks == "" {
			t.follow(next)
			t.cut = true // the outer pattern has matched: no other way counts
			return
		}
		t.doubts = min(t.doubts+1, 2)
		next.doubt = true
		t.follow(next)
	case traceMatch:
		looks, alive := t.look(th.looks, false)
		switch {
		case !alive:
		case looks != "":
			t.keep(th) // until they are decided
		case t.doubts > 1 || t.doubts == 1 && !th.doubt:
			t.goodBye = true
		default:
			t.way.accept, t.way.acceptSaves = t.parent, slices.Clone(t.saves)
			t.cut = true
		}
	}
}

// keep adds a thread that has read the next symbol, unless it is there already or one
// of its look-aheads fails.
func (t *Tracer) keep(th thread) {
	looks, alive := t.look(th.looks, false)
	if !alive {
		return
	}
	th.looks, th.fresh = looks, false
	if slices.Contains(t.out, th) {
		return
	}
	t.work += len(t.out)
	t.out = append(t.out, th)
	t.way.parents = append(t.way.parents, t.parent)
	t.way.saves = append(t.way.saves, slices.Clone(t.saves))
}

// holds reports whether the place between the character before and the next symbol is such.
func (t *Tracer) holds(at place, fresh bool) bool {
	before := t.before
	if fresh {
		before = priorNone
	}
	switch at {
	case atStart:
		return before == priorNone
	case atEnd:
		return t.at == '\n' || t.at == symEnd
	case atVeryEnd:
		return t.at == symEnd
	}
	is := (before == priorWord) != (t.at < 128 && isWord(rune(t.at)))
	return is == (at == atWord || at == atASCIIWord)
}

// Look-aheads that are not decided are a text, so that threads can be compared: for each
// its sign, the number of its places in the pattern, and these, two bytes each.

func lookCode(negative bool, places []int32) string {
	var b strings.Builder
	sign := byte('+')
	if negative {
		sign = '-'
	}
	b.WriteByte(sign)
	b.WriteByte(byte(len(places)))
	for _, p := range places {
		b.WriteByte(byte(p >> 8))
		b.WriteByte(byte(p))
	}
	return b.String()
}

// addLook adds one to others, unless it is among them.
func addLook(looks, one string) string {
	for rest := looks; rest != ""; {
		size := 2 + 2*int(rest[1])
		if rest[:size] == one {
			return looks
		}
		rest = rest[size:]
	}
	return looks + one
}

// look is what is left of look-aheads behind the next symbol; alive is false if one fails.
func (t *Tracer) look(looks string, fresh bool) (left string, alive bool) {
	for looks != "" {
		size := 2 + 2*int(looks[1])
		one, negative := looks[2:size], looks[0] == '-'
		looks = looks[size:]
		var places []int32
		seen := make(map[int32]bool)
		holds := false
		for ; one != "" && !holds; one = one[2:] {
			holds = t.reach(int32(one[0])<<8|int32(one[1]), fresh, seen, &places)
		}
		switch {
		case holds && negative, !holds && !negative && len(places) == 0:
			return "", false
		case holds, len(places) == 0:
			continue
		}
		slices.Sort(places)
		places = slices.Compact(places)
		if len(places) > 255 {
			t.goodBye = true
			return "", false
		}
		left = addLook(left, lookCode(negative, places))
	}
	if len(left) > maxTraceLooks {
		t.goodBye = true
	}
	return left, true
}

// reach follows a place of a look-ahead: it appends where the next symbol leads to, and
// reports whether the look-ahead holds.
func (t *Tracer) reach(pc int32, fresh bool, seen map[int32]bool, places *[]int32) bool {
	if t.work++; seen[pc] {
		return false
	}
	seen[pc] = true
	n := &t.nodes[pc]
	switch n.kind {
	case traceRead:
		if t.at < 128 && n.set[t.at>>6]&(1<<(t.at&63)) != 0 {
			*places = append(*places, n.x)
		}
	case traceSplit:
		return t.reach(n.x, fresh, seen, places) || t.reach(n.y, fresh, seen, places)
	case tracePlace:
		return t.holds(place(n.arg), fresh) && t.reach(n.x, fresh, seen, places)
	case traceHolds:
		return true
	}
	return false
}

// state is the number of the state of the threads at hand; ok is false if there is no memory.
func (t *Tracer) state(before prior) (at uint16, ok bool) {
	var key strings.Builder
	key.WriteByte(byte(before)<<2 | t.doubts)
	for _, th := range t.out {
		for _, v := range [...]uint32{uint32(th.pc), th.took} {
			key.Write([]byte{byte(v), byte(v >> 8), byte(v >> 16), byte(v >> 24)})
		}
		flag := byte(len(th.looks)) << 1
		if th.doubt {
			flag |= 1
		}
		key.WriteByte(flag)
		key.WriteString(th.looks)
	}
	if at, ok = t.known[key.String()]; ok {
		return at, true
	}
	if !t.room(4*t.stride + 40*len(t.out) + 2*key.Len() + 64) {
		return 0, false
	}
	at = uint16(len(t.table))
	t.states = append(t.states, traceState{slices.Clone(t.out), before, t.doubts})
	for range t.stride {
		t.table, t.how = append(t.table, traceUnknown), append(t.how, 0)
	}
	t.known[key.String()] = at
	return at, true
}

// room takes memory for one more state or way. If there is none left it gives up all states, rests for some
// lines, and is false.
func (t *Tracer) room(bytes int) bool {
	t.memory += bytes
	if t.memory <= maxTraceMemory && len(t.table)+t.stride < maxTrace && len(t.links)+len(t.out) < maxLinks {
		return true
	}
	t.reset()
	t.rest, t.goodBye = traceRest, true
	if t.full++; t.full >= maxTraceFull {
		t.rest = 1 << 62
	}
	return false
}

// reset begins with the first state alone.
func (t *Tracer) reset() {
	t.table, t.how, t.states, t.memory = nil, nil, nil, 0
	t.links, t.saved = make([]link, 1), make([][]int32, 1)
	t.known, t.onward = make(map[string]uint16), make(map[uint16]uint16)
	t.seen = make(map[thread]bool)
	t.slots = make([]int32, t.outer+t.inner+1)
	t.out, t.doubts = append(t.out[:0], thread{pc: t.entry}), 0
	_, _ = t.state(priorNone)
}

// classify puts symbols that nothing tells apart into one class.
func (t *Tracer) classify() {
	found := make(map[string]uint8)
	signature := make([]byte, len(t.sets)/8+2)
	t.symbol = []uint8{0} // of classMulti
	for symbol := range symbols {
		clear(signature)
		for i, set := range t.sets {
			if symbol < 128 && set[symbol>>6]&(1<<(symbol&63)) != 0 {
				signature[i/8] |= 1 << (i % 8)
			}
		}
		last := &signature[len(signature)-1]
		switch {
		case symbol == '\n':
			*last = 1
		case symbol >= 128:
			*last = 2
		case t.words && isWord(rune(symbol)):
			*last = 3
		}
		c, ok := found[string(signature)]
		if !ok {
			c = uint8(len(t.symbol))
			found[string(signature)] = c
			t.symbol = append(t.symbol, uint8(symbol))
		}
		if symbol < 128 {
			t.class[symbol] = c
		}
		if symbol == symEnd {
			t.end = c
			t.symbol[c] = symEnd
		}
	}
	t.stride = len(t.symbol)
}
