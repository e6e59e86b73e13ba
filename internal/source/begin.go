package source

import (
	"cmp"
	"errors"
	"io/fs"
	"slices"
	"time"

	"bantam"
)

// adopt takes up what was assigned last. Jails that were there keep their places;
// for new ones the file is read again as far back as they want.
func (r *follower) adopt() {
	a := r.assigned.Swap(nil)
	if a == nil {
		return
	}
	places := make(map[string]*place, len(a.plans))
	var added []*place
	for _, pl := range a.plans {
		p := r.places[pl.jail]
		if p == nil {
			p = &place{plan: pl}
			added = append(added, p)
		}
		places[pl.jail] = p
	}
	r.judge, r.places, r.envelope = a.judge, places, a.envelope
	if r.polling != a.polling {
		r.polling, r.relook = a.polling, true
	}
	if r.cur == nil || len(added) == 0 {
		return
	}
	from := r.cur.offset
	for _, p := range added {
		p.start = r.cur.seq
		if err := r.locate(p, r.cur, time.Now()); err != nil {
			r.log.Warn("start of log is not found, jail begins here", "path", r.path, "jail", p.jail, "err", err)
			p.from = r.cur.offset
		}
		from = min(from, p.from)
	}
	if from == r.cur.offset {
		return
	}
	// The others have had what is read again. While there is a backlog, nothing of
	// cur has been read.
	if len(r.backlog) == 0 {
		for _, p := range places {
			if !slices.Contains(added, p) && p.start <= r.cur.seq {
				if p.start < r.cur.seq || p.from < r.cur.offset {
					p.start, p.from = r.cur.seq, r.cur.offset
				}
			}
		}
	}
	if err := r.cur.seek(from); err != nil {
		r.log.Warn("log is not read again for new jails", "path", r.path, "err", err)
		return
	}
	r.live = false
}

// begin opens path for the first time and finds the place to start at.
func (r *follower) begin() bool {
	l, err := openLog(r.path)
	if err == nil {
		if err = r.place(l); err != nil {
			l.f.Close()
		}
	}
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) && r.missing.IsZero() {
			r.missing = time.Now()
		}
		r.state(err)
		return false
	}
	r.cur, r.relook, r.away, r.missing = l, true, false, time.Time{}
	r.seen, r.begun = l.opened, l.opened
	r.hold()
	r.state(nil)
	return true
}

// place finds where every jail starts, in cur or in a file that was rotated away
// while nobody read, and sets the files up to be read from there.
func (r *follower) place(cur *logFile) error {
	if err := cur.readMark(); err != nil {
		return err
	}
	now := time.Now()
	files := r.rotatedSince(cur)
	files = append(files, cur)
	last := len(files) - 1
	for i, l := range files {
		l.seq = r.seq + 1 + i
	}
	first := last
	var failed error
	for _, p := range r.places {
		// The newest file first: it is the likeliest.
		i := last
		for j := last; j >= 0 && p.resumed && !p.tail; j-- {
			if files[j].holds(p.resume.Mark, p.resume.Offset) {
				i = j
				break
			}
		}
		p.start, p.from, p.known, p.knownTo = files[i].seq, 0, 0, 0
		if failed = r.locate(p, files[i], now); failed != nil {
			break
		}
		// What fills a count may stand in the file before.
		for p.known > 0 && p.from == 0 && i > 0 && p.findTime > 0 {
			size, err := sizeOf(files[i-1])
			if err != nil {
				break
			}
			from, err := search(files[i-1].f, size, r.target(p, now), r.timeOf(files[i-1], now))
			if err != nil || from == size {
				break
			}
			i--
			p.start, p.from = files[i].seq, from
		}
		first = min(first, i)
	}
	for i, l := range files {
		if failed != nil || i < first {
			if i < last {
				l.f.Close()
			}
			continue
		}
		from, any := int64(0), false
		for _, p := range r.places {
			switch {
			case p.start < l.seq:
				from, any = 0, true
			case p.start == l.seq && (!any || p.from < from):
				from, any = p.from, true
			}
		}
		if err := l.seek(from); err != nil && failed == nil {
			failed = err
		}
	}
	if failed != nil {
		return failed
	}
	r.backlog = files[first:last:last]
	r.seq = cur.seq
	r.live = !slices.ContainsFunc(sorted(r.places), func(p *place) bool { return !p.tail })
	return nil
}

func sorted(places map[string]*place) []*place {
	var all []*place
	for _, p := range places {
		all = append(all, p)
	}
	slices.SortFunc(all, func(a, b *place) int { return cmp.Compare(a.jail, b.jail) })
	return all
}

// rotatedSince opens the rotated files that may hold what the jails want, oldest
// first: from one before the oldest that holds a jail's position.
func (r *follower) rotatedSince(cur *logFile) []*logFile {
	wanted := make(map[bantam.Position]bool)
	for _, p := range r.places {
		if p.resumed && !p.tail {
			wanted[bantam.Position{Mark: p.resume.Mark, Offset: p.resume.Offset}] = true
		}
	}
	if len(wanted) == 0 {
		return nil
	}
	rotated, err := rotatedOf(r.path)
	if err != nil {
		return nil
	}
	found := func(l *logFile) {
		for w := range wanted {
			if l.holds(w.Mark, w.Offset) {
				delete(wanted, w)
			}
		}
	}
	found(cur)
	var files []*logFile // newest first
	useful := 0
	for _, c := range slices.Backward(rotated) {
		done := len(wanted) == 0
		if c.id == cur.id {
			continue
		}
		l, err := openLog(c.path)
		if err != nil {
			continue
		}
		if l.readMark() != nil || l.mark == "" {
			l.f.Close()
			continue
		}
		files = append(files, l)
		before := len(wanted)
		found(l)
		if len(wanted) < before || done {
			useful = len(files)
		}
		if done {
			break
		}
	}
	for _, l := range files[useful:] {
		l.f.Close()
	}
	files = files[:useful]
	slices.Reverse(files)
	return files
}

// locate sets where p starts within l, and up to where its lines are known.
func (r *follower) locate(p *place, l *logFile, now time.Time) error {
	size, err := sizeOf(l)
	if err != nil {
		return err
	}
	limit := size
	// A file that was made while path was waited for is new from its start.
	appeared := !r.missing.IsZero() && !l.born.Before(r.missing.Add(-stampLag))
	switch {
	case p.tail && !appeared:
		p.from, err = l.lastLine(size)
		return err
	case p.resumed && !p.tail && l.holds(p.resume.Mark, p.resume.Offset):
		p.known, p.knownTo = l.seq, p.resume.Offset
		limit = p.knownTo
	case appeared:
		return nil
	}
	if p.findTime <= 0 {
		p.from = limit
		return nil
	}
	p.from, err = search(l.f, limit, r.target(p, now), r.timeOf(l, now))
	return err
}

// target is the event time before which p wants no lines.
func (r *follower) target(p *place, now time.Time) time.Time {
	if p.known > 0 && !p.resume.Time.IsZero() {
		return p.resume.Time.Add(-p.findTime)
	}
	return now.Add(-p.findTime)
}

func (r *follower) timeOf(l *logFile, now time.Time) func([]byte) (time.Time, bool) {
	var u unwrapper
	u.recognise(r.envelope, l.first)
	return func(text []byte) (time.Time, bool) {
		w, ok := u.open(text)
		if !ok {
			return r.judge.Time(text, now)
		}
		return w.at, true
	}
}

func sizeOf(l *logFile) (int64, error) {
	fi, err := l.f.Stat()
	if err != nil {
		return 0, err
	}
	return fi.Size(), nil
}

func jailsOf(plans []plan) []string {
	names := make([]string, len(plans))
	for i, p := range plans {
		names[i] = p.jail
	}
	return names
}
