package lookup

import (
	"time"

	"bantam"
)

// What is held back at most, in failures.
const (
	maxHeld         = 16 << 10 // of all jails; then the logs wait
	maxHeldJail     = 1024     // of a jail with a command; then the logs wait for a moment
	maxHeldOffender = 256      // of an offender a command is asked about; more do not count
)

// hurry is how long the logs wait for a jail's command. If no answer comes within it the
// failures of that jail pass unasked until half of those held back are answered.
const hurry = time.Second

// A held failure waits for an answer, and those of the same offender behind it.
type held struct {
	failures []bantam.Failure
	asked    map[bantam.ID]*question // about the first of them, where a command is asked
}

// A place is one log of one jail.
type place struct{ jail, source string }

// waiting is what is held back, by offender.
type waiting struct {
	by     map[offender]*held
	places map[place]int  // how many are held of each
	jails  map[string]int // how many are held of each
	late   map[string]bool
	total  int
	woken  chan offender
}

// An offender is whose failures keep their order: an ID or, before it is resolved, a
// name, in one jail.
type offender struct {
	jail, host string
	id         bantam.ID
}

func offenderOf(f *bantam.Failure) offender { return offender{f.Jail, f.Host, f.ID} }

// Run passes on failures until in is closed, then closes out. Those that must not
// count pass without an ID.
//
// While a failure is held back, others of its log that overtake it do not tell how
// far the log was read, so what is still held back at a crash or at the end is read
// again at the next start.
func (l *Lookup) Run(in <-chan bantam.Failure, out chan<- bantam.Failure) {
	defer close(out)
	defer l.asking.end()
	defer l.cancel()
	w := &waiting{
		by: map[offender]*held{}, places: map[place]int{}, jails: map[string]int{}, late: map[string]bool{},
		woken: make(chan offender),
	}
	var warned time.Time
	for {
		source := in
		if w.total >= maxHeld {
			source = nil
		}
		select {
		case f, ok := <-source:
			if !ok {
				return
			}
			if f.Host != "" && f.ID.IsZero() && f.Read.Sub(warned) >= 24*time.Hour {
				warned = f.Read
				l.log.Warn("a log holds host names; who attacks may own their zones", "jail", f.Jail, "host", f.Host)
			}
			l.take(f, w, out)
		case who := <-w.woken:
			w.wake(l, who, out)
		}
	}
}

// take lets a failure through or holds it back.
func (l *Lookup) take(f bantam.Failure, w *waiting, out chan<- bantam.Failure) {
	ask := l.rules.Load().askers[f.Jail] != nil
	inTime := !ask || w.room(l, f.Jail, out)
	who := offenderOf(&f)
	h := w.by[who]
	switch {
	case h == nil:
		h = &held{}
		if wait := l.let(f, h, inTime, w, out); wait != nil {
			w.by[who] = h
			w.hold(h, f)
			w.await(l, who, wait)
		}
	case !ask || len(h.failures) < maxHeldOffender:
		w.hold(h, f)
	}
}

// room waits, for a moment, until a jail may hold back one more.
func (w *waiting) room(l *Lookup, jail string, out chan<- bantam.Failure) bool {
	if w.late[jail] {
		if w.jails[jail] > maxHeldJail/2 {
			return false
		}
		delete(w.late, jail)
	}
	if w.jails[jail] < maxHeldJail {
		return true
	}
	moment := time.NewTimer(hurry)
	defer moment.Stop()
	for w.jails[jail] >= maxHeldJail {
		select {
		case who := <-w.woken:
			w.wake(l, who, out)
		case <-moment.C:
			w.late[jail] = true
			l.log.Error("ignorecommand does not keep up; failures count without it", "jail", jail, "waiting", w.jails[jail])
			return false
		}
	}
	return true
}

// let lets a failure through, or says what it has to wait for. What was asked about it is in h.
func (l *Lookup) let(f bantam.Failure, h *held, ask bool, w *waiting, out chan<- bantam.Failure) (wait <-chan struct{}) {
	ids := []bantam.ID{f.ID}
	if f.ID.IsZero() && f.Host != "" {
		addrs, wait := l.names.get(l.ctx, &l.asking, f.Host)
		if wait != nil {
			return wait
		}
		ids = ids[:0]
		for _, a := range addrs {
			ids = append(ids, bantam.AddrID(a))
		}
		if len(ids) == 0 {
			ids = []bantam.ID{{}} // nobody, but the log was read
		}
	}
	by := make([]string, len(ids))
	for i, id := range ids {
		var answer <-chan struct{}
		by[i], answer = l.judge(f.Jail, id)
		if by[i] == "" && answer == nil && ask && !id.IsZero() {
			by[i], answer = l.command(f, id, h)
		}
		if answer != nil {
			wait = answer
		}
	}
	if wait != nil {
		return wait
	}
	if w.places[place{f.Jail, f.Position.Source}] > 0 {
		f.Position = bantam.Position{}
	}
	for i, id := range ids {
		f.ID, f.Country = id, l.Country(id)
		if by[i] != "" {
			if !f.Known {
				Tell(l.log, &f, by[i])
				if l.whenIgnored != nil {
					l.whenIgnored(&f)
				}
			}
			f.ID = bantam.ID{}
		}
		out <- f
	}
	return nil
}

// command is what the jail's command says of a failure of id, or what to wait for until it has.
func (l *Lookup) command(f bantam.Failure, id bantam.ID, h *held) (by string, wait <-chan struct{}) {
	q := h.asked[id]
	if q == nil {
		a := l.rules.Load().askers[f.Jail]
		if a == nil {
			return "", nil
		}
		f.ID = id
		q = &question{done: make(chan struct{})}
		if !l.asking.start(func() { a.ask(l.ctx, &f, q, l.commandFailed(&f)) }) {
			return "", nil
		}
		if h.asked == nil {
			h.asked = map[bantam.ID]*question{}
		}
		h.asked[id] = q
	}
	select {
	case <-q.done:
	default:
		return "", q.done
	}
	if q.ignored {
		return ByCommand, nil
	}
	return "", nil
}

func (w *waiting) hold(h *held, f bantam.Failure) {
	h.failures = append(h.failures, f)
	w.count(&f, 1)
}

// count keeps count of what is held back.
func (w *waiting) count(f *bantam.Failure, n int) {
	at := place{f.Jail, f.Position.Source}
	if w.places[at] += n; w.places[at] == 0 {
		delete(w.places, at)
	}
	if w.jails[f.Jail] += n; w.jails[f.Jail] == 0 {
		delete(w.jails, f.Jail)
	}
	w.total += n
}

// await sends who once its answer is there. Answers always come: they have a
// deadline of their own.
func (w *waiting) await(l *Lookup, who offender, wait <-chan struct{}) {
	l.asking.start(func() {
		<-wait
		select {
		case w.woken <- who:
		case <-l.ctx.Done():
		}
	})
}

// wake lets through what an offender's answer held back.
func (w *waiting) wake(l *Lookup, who offender, out chan<- bantam.Failure) {
	h := w.by[who]
	for len(h.failures) > 0 {
		f := h.failures[0]
		w.count(&f, -1)
		if wait := l.let(f, h, true, w, out); wait != nil {
			w.count(&f, 1)
			w.await(l, who, wait)
			return
		}
		h.failures, h.asked = h.failures[1:], nil
	}
	delete(w.by, who)
}
