package lookup

import (
	"time"

	"bantam"
)

// maxHeld is how many failures are held back at most; then the logs wait.
const maxHeld = 4096

// A held failure waits for an answer, and those of the same offender behind it.
type held struct {
	failures []bantam.Failure
	wait     <-chan struct{}
}

// A place is one log of one jail.
type place struct{ jail, source string }

// waiting is what is held back, by offender.
type waiting struct {
	by     map[offender]*held
	places map[place]int // how many are held of each
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
	w := &waiting{by: map[offender]*held{}, places: map[place]int{}, woken: make(chan offender)}
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
			if h := w.by[offenderOf(&f)]; h != nil {
				w.hold(h, f)
			} else if wait := l.let(f, w, out); wait != nil {
				w.start(l, f, wait)
			}
		case who := <-w.woken:
			w.wake(l, who, out)
		}
	}
}

// let lets a failure through, or says what it has to wait for.
func (l *Lookup) let(f bantam.Failure, w *waiting, out chan<- bantam.Failure) (wait <-chan struct{}) {
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
		if by[i], wait = l.judge(f.Jail, id); wait != nil {
			return wait
		}
	}
	if w.places[place{f.Jail, f.Position.Source}] > 0 {
		f.Position = bantam.Position{}
	}
	for i, id := range ids {
		f.ID = id
		if by[i] != "" {
			if !f.Known {
				l.log.Info("ignored", "jail", f.Jail, "addr", id, "by", by[i])
			}
			f.ID = bantam.ID{}
		}
		out <- f
	}
	return nil
}

func (w *waiting) start(l *Lookup, f bantam.Failure, wait <-chan struct{}) {
	h := &held{wait: wait}
	w.by[offenderOf(&f)] = h
	w.hold(h, f)
	w.await(l, offenderOf(&f), wait)
}

func (w *waiting) hold(h *held, f bantam.Failure) {
	h.failures = append(h.failures, f)
	w.places[place{f.Jail, f.Position.Source}]++
	w.total++
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
		at := place{f.Jail, f.Position.Source}
		if w.places[at]--; w.places[at] == 0 {
			delete(w.places, at)
		}
		if wait := l.let(f, w, out); wait != nil {
			w.places[at]++
			w.await(l, who, wait)
			return
		}
		h.failures = h.failures[1:]
		w.total--
	}
	delete(w.by, who)
}
