package source

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/netip"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"bantam"
)

// readSize is how much is read at once; it holds a line of MaxLine and what chunk
// compares.
const readSize = 128 << 10

// timing holds the waits of the real clock, so that tests can make them short.
type timing struct {
	poll, pollMax time.Duration // between looks at a polled file: at first, and when idle
	recheck       time.Duration // between looks at a file that inotify tells about
	linger        time.Duration // how long a rotated file may be quiet before it is closed
	rescan        time.Duration // between expansions of patterns
	restart       time.Duration // before a journalctl that ended is started again; doubles up to 60 times
}

var defaultTiming = timing{
	poll: 200 * time.Millisecond, pollMax: time.Second,
	recheck: 2 * time.Second,
	// Long enough for a log writer to be told of the rotation, short enough not to
	// keep a deleted file's space.
	linger:  time.Minute,
	rescan:  10 * time.Second,
	restart: time.Second,
}

// A plan is what one jail wants of a source.
type plan struct {
	jail     string
	findTime time.Duration
	tail     bool
	resume   bantam.Position
	resumed  bool // resume is set
	query    *journalQuery
}

// A place is where one jail stands in the files of one path. Files are counted by
// logFile.seq.
type place struct {
	plan
	// Failures of lines that end at from in the file start, or before, are not
	// passed on: the jail does not want them or has had them.
	start int
	from  int64
	// Lines up to knownTo in the file known were read before the last restart.
	known   int
	knownTo int64
}

func (p *place) wants(seq int, end int64) bool {
	return seq > p.start || seq == p.start && end > p.from
}

func (p *place) knows(seq int, end int64) bool {
	return seq < p.known || seq == p.known && end <= p.knownTo
}

// An assignment gives a source its jails and their judge.
type assignment struct {
	judge   Judge
	plans   []plan
	polling bool // inotify is not wanted
	// envelope is that of the files, as Config.Envelope.
	envelope string
	lanes    []*lane // instead of judge, for a journal
	// from are whose messages a syslog takes.
	from []netip.Prefix
}

// A fileAge tells a file from all there ever were. Inode numbers come again, even
// within the tick that file systems stamp with.
type fileAge struct {
	id   fileID
	born time.Time
	mark string
}

// stampLag is how far file systems' time stamps may lie behind the clock: they are
// taken from the last tick.
const stampLag = 20 * time.Millisecond

// A follower reads one path through all the files it comes to name.
type follower struct {
	path     string
	timing   timing
	log      *slog.Logger
	wake     chan struct{} // holds one token
	assigned atomic.Pointer[assignment]

	mu     sync.Mutex // guards status and held
	status Status
	held   [2]fileID // the files that are open

	// What follows belongs to the goroutine of run.
	out     chan<- bantam.Failure
	judge   Judge
	places  map[string]*place
	polling bool // inotify is not wanted
	// envelope is that of the files, as Config.Envelope.
	envelope string
	live     bool
	// caughtUp is live as it was last published.
	caughtUp bool
	seq      int
	cur      *logFile   // what path names, or named last
	next     *logFile   // what path names by now; nil if that is cur
	old      *logFile   // what path named before cur; log writers may still write there
	backlog  []*logFile // to be read to their ends before cur, oldest first
	seen     time.Time  // wall time at which path was last seen to name cur
	begun    time.Time  // wall time at which reading cur began
	done     []fileAge  // the last files that need not be read again
	missing  time.Time  // wall time at which path was first seen missing; zero once opened
	away     bool       // path does not name cur
	relook   bool       // where path leads may have changed
	names    []string   // what is watched
	buf      []byte
	line     bantam.Line
	found    []bantam.Failure
}

func newFollower(path string, t timing, log *slog.Logger) *follower {
	return &follower{
		path: path, timing: t, log: log, wake: make(chan struct{}, 1),
		status: Status{Name: path, Backend: Inotify, State: Starting},
	}
}

// assign gives the follower other jails or a new judge, to be taken up before the
// next line. It may be called at any time.
func (r *follower) assign(a *assignment) {
	r.assigned.Store(a)
	r.mu.Lock()
	r.status.Jails = jailsOf(a.plans)
	r.mu.Unlock()
	wakeUp([]chan struct{}{r.wake})
}

func (r *follower) report() []Status {
	r.mu.Lock()
	defer r.mu.Unlock()
	st := r.status
	st.Jails = slices.Clone(st.Jails)
	return []Status{st}
}

// holds reports whether the follower has that file open.
func (r *follower) holds(id fileID) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Contains(r.held[:], id)
}

// run reads until ctx ends.
func (r *follower) run(ctx context.Context, w *watcher, out chan<- bantam.Failure) {
	r.out = out
	r.buf = make([]byte, readSize)
	defer r.close(w)
	timer := time.NewTimer(0)
	defer timer.Stop()
	relook, polled, idle := true, false, r.timing.poll
	for ctx.Err() == nil {
		r.adopt() // tells whether to poll
		relook = relook || r.relook
		// Watched before it is looked at, so that nothing happens between unseen.
		if relook {
			polled = r.lookOut(w)
		}
		r.relook = false
		moved := false
		for ctx.Err() == nil {
			r.adopt()
			if !r.step(ctx) {
				break
			}
			moved = true
		}
		r.publish()
		if r.relook {
			relook = true
			continue
		}
		wait := r.timing.recheck
		if polled || r.cur != nil && r.away || r.old != nil {
			if moved {
				idle = r.timing.poll
			}
			wait = min(idle, r.timing.pollMax)
			idle = min(idle+r.timing.poll, r.timing.pollMax)
		}
		timer.Reset(wait)
		select {
		case <-ctx.Done():
		case <-r.wake:
			relook = r.cur == nil || r.away
		case <-timer.C:
			relook = true
		}
	}
}

// lookOut asks for news of path and reports whether it has to be polled as well.
func (r *follower) lookOut(w *watcher) (poll bool) {
	var err error
	if !r.polling && !remote(r.path) {
		// Where the folder is missing, another part of it may come to be meanwhile.
		for range 16 {
			names := watchNames(r.path)
			err = w.change(r.wake, r.names, names)
			same := slices.Equal(r.names, names)
			r.names = names
			if same {
				break
			}
		}
		poll = err != nil
	} else {
		poll = true
		_ = w.change(r.wake, r.names, nil)
		r.names = nil
	}
	now := Inotify
	if poll {
		now = Polling
	}
	r.mu.Lock()
	was := r.status.Backend
	r.status.Backend = now
	r.mu.Unlock()
	if was != now && err != nil && !errors.Is(err, errNoInotify) {
		r.log.Warn("log is polled, because inotify cannot serve", "path", r.path, "err", err)
	}
	return poll
}

// close gives up all descriptors and watches.
func (r *follower) close(w *watcher) {
	_ = w.change(r.wake, r.names, nil)
	for _, l := range append(r.backlog, r.cur, r.next, r.old) {
		if l != nil {
			l.f.Close()
		}
	}
}

// step does the next piece of work and reports whether there may be more.
func (r *follower) step(ctx context.Context) bool {
	if r.cur == nil {
		return r.begin()
	}
	if len(r.backlog) > 0 {
		moved, err := r.chunk(ctx, r.backlog[0])
		if ctx.Err() != nil {
			return false
		}
		if err != nil {
			r.log.Warn("rotated log is not read further", "path", r.path, "err", err)
		}
		if !moved {
			r.retire(r.backlog[0])
			r.backlog = r.backlog[1:]
		}
		return true
	}
	size, err := r.cur.check(r.buf)
	r.lag(size - r.cur.offset)
	if err == nil {
		var moved bool
		if moved, err = r.chunk(ctx, r.cur); moved {
			return true
		}
	}
	switch {
	case ctx.Err() != nil:
		return false
	case errors.Is(err, errRewritten):
		r.rewritten()
		return true
	case err != nil:
		return r.reopen(err)
	}
	r.live = true
	if r.old != nil {
		moved, err := r.chunk(ctx, r.old)
		switch now := time.Now(); {
		case ctx.Err() != nil:
			return false
		case moved:
			r.old.quiet = now
			return true
		case err != nil, now.Sub(r.old.quiet) > r.timing.linger:
			r.retire(r.old)
			r.old = nil
			r.hold()
		}
	}
	if r.next != nil {
		// The file before has given all it had when its successor was there already.
		r.turn()
		return true
	}
	return r.compare()
}

// compare looks whether path still names the file that is read.
func (r *follower) compare() bool {
	now := time.Now()
	fi, err := os.Stat(r.path)
	if err == nil && idOf(fi) == r.cur.id {
		r.away, r.seen = false, now
		r.state(nil)
		return false
	}
	r.away = true
	if err == nil {
		if r.next, err = openLog(r.path); err == nil {
			return true
		}
	}
	r.state(err)
	return false
}

// turn goes on with the next file: path was renamed or deleted and made anew.
func (r *follower) turn() {
	missed := r.missed(false)
	if r.old != nil {
		r.retire(r.old)
	}
	r.old, r.cur, r.next = r.cur, r.next, nil
	r.old.quiet = time.Now()
	r.number(missed)
	r.away, r.relook = false, true
	r.seen, r.begun = r.cur.opened, r.cur.opened
	r.hold()
	r.log.Info("log was rotated", "path", r.path)
}

// rewritten starts a file over that was truncated. What was not read of it by then
// may stand in the copy that was made before, as copytruncate makes one.
func (r *follower) rewritten() {
	now := time.Now()
	missed := r.missed(true)
	if r.isCurrent() {
		r.seen = now
	} else {
		// It was renamed since, and what was made after that comes after it: turn will
		// find it.
		missed = slices.DeleteFunc(missed, func(l *logFile) bool {
			if l.mark == r.cur.mark {
				return false
			}
			l.f.Close()
			return true
		})
	}
	r.cur.restart()
	r.number(missed)
	r.begun = now
	r.log.Info("log was truncated", "path", r.path)
}

// isCurrent reports whether path names the file that is read.
func (r *follower) isCurrent() bool {
	fi, err := os.Stat(r.path)
	return err == nil && idOf(fi) == r.cur.id
}

// number puts the files that were missed before cur and counts them.
func (r *follower) number(missed []*logFile) {
	r.backlog = append(r.backlog, missed...)
	for _, l := range missed {
		if l.seq == 0 {
			r.seq++
			l.seq = r.seq
		}
	}
	r.seq++
	r.cur.seq = r.seq
}

// retire closes a file that was read to its end.
func (r *follower) retire(l *logFile) {
	l.f.Close()
	if len(r.done) == maxRotated {
		r.done = append(r.done[:0], r.done[1:]...)
	}
	r.done = append(r.done, fileAge{l.id, l.born, l.mark})
}

// missed opens what is to be read between the file read so far and the one that
// path names now: the rest of it, if it was copied and truncated, and the files of
// rotations that came and went while nobody looked. The latter must have been made
// since path was last seen to name cur.
func (r *follower) missed(truncated bool) []*logFile {
	rotated, err := rotatedOf(r.path)
	if err != nil {
		return nil
	}
	if r.next != nil {
		// It may have been rotated away, too, since it was opened; what came after it
		// comes after it.
		if i := slices.IndexFunc(rotated, func(c rotatedFile) bool { return c.id == r.next.id }); i >= 0 {
			rotated = rotated[:i]
		}
	}
	var files []*logFile
	for _, c := range rotated {
		if c.id == r.cur.id || r.old != nil && c.id == r.old.id {
			continue
		}
		since := func(t, limit time.Time) bool { return !t.Before(limit.Add(-stampLag)) }
		between := since(c.born, r.seen)
		copied := truncated && (since(c.born, r.begun) || since(c.changed, r.begun))
		if !between && !copied {
			continue
		}
		l, err := openLog(c.path)
		if err != nil {
			continue
		}
		if err = l.readMark(); err == nil && l.mark != "" && !slices.Contains(r.done, fileAge{l.id, l.born, l.mark}) {
			rest := l.mark == r.cur.mark && copied && l.continues(r.cur)
			if rest {
				l.seq = r.cur.seq
			}
			if rest || l.mark != r.cur.mark && between {
				r.log.Debug("rotated log is read before the log", "path", r.path, "rotated", c.path, "from", l.offset)
				files = append(files, l)
				continue
			}
		}
		l.f.Close()
	}
	return files
}

// reopen answers a read error: a file of a network file system may have to be opened
// anew to be read on.
func (r *follower) reopen(cause error) bool {
	r.state(fmt.Errorf("read at %d: %w", r.cur.offset, cause))
	r.away = true
	l, err := openLog(r.path)
	if err != nil {
		return false
	}
	if l.id == r.cur.id && l.readMark() == nil && l.continues(r.cur) {
		l.seq = r.cur.seq
		// The same trouble may come back at once: the next look is a wait away.
		r.cur.f.Close()
		r.cur = l
		return false
	}
	if l.id == r.cur.id {
		l.f.Close()
		return false
	}
	r.next = l
	r.turn()
	return true
}

// state publishes what keeps path from being read, or that nothing does, and logs
// it when it changes.
func (r *follower) state(err error) {
	state := Reading
	switch {
	case errors.Is(err, fs.ErrNotExist):
		state = Waiting
	case err != nil:
		state = err.Error()
		var pe *fs.PathError
		if errors.As(err, &pe) {
			state = pe.Op + ": " + pe.Err.Error()
		}
	}
	changed := r.status.become(state, &r.mu)
	switch {
	case !changed:
	case state == Reading:
		r.log.Info("log is read", "path", r.path)
	case state == Waiting:
		r.log.Info("log is missing and waited for", "path", r.path)
	default:
		r.log.Warn("log cannot be read", "path", r.path, "err", err)
	}
}

func (r *follower) lag(n int64) {
	r.mu.Lock()
	r.status.Lag = max(n, 0)
	r.mu.Unlock()
}

// publish tells whether the end of the file was seen.
func (r *follower) publish() {
	r.mu.Lock()
	r.status.Live = r.live
	r.mu.Unlock()
	if r.live && !r.caughtUp {
		r.log.Debug("log was read to its end", "path", r.path)
	}
	r.caughtUp = r.live
}

// hold publishes which files are open.
func (r *follower) hold() {
	var ids [2]fileID
	for i, l := range []*logFile{r.cur, r.old} {
		if l != nil {
			ids[i] = l.id
		}
	}
	r.mu.Lock()
	r.held = ids
	r.mu.Unlock()
}

// chunk reads the next piece of l and hands its lines on. It reports whether it
// came further. What stands before the offset is read and compared with it, so that
// a file that was written anew is not read from its middle.
func (r *follower) chunk(ctx context.Context, l *logFile) (moved bool, err error) {
	if l.scanned > l.offset {
		return r.longLine(ctx, l)
	}
	k := len(l.before)
	n, err := l.readAt(r.buf, l.offset-int64(k))
	if err != nil {
		return false, err
	}
	if n < k || !bytes.Equal(r.buf[:k], l.before) {
		return false, errRewritten
	}
	data := r.buf[k:n]
	end := bytes.LastIndexByte(data, '\n') + 1
	if end == 0 {
		if len(data) > MaxLine {
			l.scanned = l.offset + int64(len(data))
			return true, nil
		}
		return false, nil // a line that is still being written
	}
	if l.first == nil {
		l.setFirst(data[:bytes.IndexByte(data, '\n')+1])
	}
	r.line.Read = time.Now()
	base, lines := l.offset, int64(0)
	for at := 0; at < end; lines++ {
		next := at + bytes.IndexByte(data[at:end], '\n') + 1
		if !r.hand(ctx, l, trimLine(data[at:next-1]), base+int64(next)) {
			return false, ctx.Err()
		}
		at = next
		if lines&255 == 255 && ctx.Err() != nil {
			return false, ctx.Err()
		}
	}
	l.offset = base + int64(end)
	l.before = append(l.before[:0], r.buf[max(0, k+end-checkBytes):k+end]...)
	r.count(lines, int64(end))
	return true, nil
}

// longLine looks on for the end of a line that fills the buffer, and hands its front
// on when it is found.
func (r *follower) longLine(ctx context.Context, l *logFile) (moved bool, err error) {
	n, err := l.readAt(r.buf, l.scanned)
	if err != nil {
		return false, err
	}
	i := bytes.IndexByte(r.buf[:n], '\n')
	if i < 0 {
		l.scanned += int64(n)
		return n > 0, nil
	}
	end := l.scanned + int64(i) + 1
	// Compared as in chunk: the line may have been written anew meanwhile.
	k := len(l.before)
	n, err = l.readAt(r.buf[:k+MaxLine], l.offset-int64(k))
	if err != nil {
		return false, err
	}
	if n < k+MaxLine || !bytes.Equal(r.buf[:k], l.before) {
		return false, errRewritten
	}
	if l.first == nil {
		l.setFirst(r.buf[k:n])
	}
	r.line.Read = time.Now()
	if !r.hand(ctx, l, r.buf[k:n], end) {
		return false, ctx.Err()
	}
	r.count(1, end-l.offset)
	return true, l.seek(end)
}

// hand gives one line to the judge and passes on what it finds. It is false if ctx
// ended before all was taken.
func (r *follower) hand(ctx context.Context, l *logFile, text []byte, end int64) bool {
	l.wrap.recognise(r.envelope, l.first)
	text, at, whole := l.wrap.next(text)
	if !whole {
		return true
	}
	r.line.Text, r.line.Time = text, outerTime(r.judge, text, at, r.line.Read)
	r.line.Position = bantam.Position{Source: r.path, Mark: l.mark, Offset: end}
	r.line.Live = r.live
	r.found = r.judge.Judge(&r.line, r.found[:0])
	for i := range r.found {
		f := &r.found[i]
		p := r.places[f.Jail]
		if p == nil || !p.wants(l.seq, end) {
			continue
		}
		f.Known = p.knows(l.seq, end)
		if !pass(ctx, r.out, f, &r.line) {
			return false
		}
	}
	return true
}

// pass stamps a failure with its line's position and sends it. A full channel is
// waited for: the log keeps the lines.
func pass(ctx context.Context, out chan<- bantam.Failure, f *bantam.Failure, line *bantam.Line) bool {
	f.Position = line.Position
	f.Position.Time = f.Time
	if f.Read.IsZero() {
		f.Read = line.Read
	}
	select {
	case out <- *f:
		return true
	case <-ctx.Done():
		return false
	}
}

func (r *follower) count(lines, size int64) {
	r.mu.Lock()
	r.status.Lines += lines
	r.status.Bytes += size
	r.status.Last = r.line.Read
	r.status.Live = r.live
	r.mu.Unlock()
}
