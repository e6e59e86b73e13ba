package daemon

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"bantam/internal/config"
)

// Levels of Fail2Ban's that log/slog has no word for. Bans and their ends are notices.
const (
	levelHeavy    = slog.Level(-8)
	levelTrace    = slog.Level(-6)
	levelMsg      = slog.Level(-1)
	levelNotice   = slog.Level(2)
	levelCritical = slog.Level(12)
)

// A levelRow is a level: its word in a configuration and what a line says, Python's number
// for it, and the severity of RFC 5424.
type levelRow struct {
	word, shown string
	number      int
	level       slog.Level
	severity    int
}

// levels are all levels, most severe first.
var levels = []levelRow{
	{"CRITICAL", "CRITICAL", 50, levelCritical, 2},
	{"ERROR", "ERROR", 40, slog.LevelError, 3},
	{"WARNING", "WARNING", 30, slog.LevelWarn, 4},
	{"NOTICE", "NOTICE", 25, levelNotice, 5},
	{"INFO", "INFO", 20, slog.LevelInfo, 6},
	{"MSG", "MSG", 18, levelMsg, 6},
	{"DEBUG", "DEBUG", 10, slog.LevelDebug, 7},
	{"TRACEDEBUG", "TRACE", 7, levelTrace, 7},
	{"HEAVYDEBUG", "HEAVY", 5, levelHeavy, 7},
}

// levelAt is the row of levels for a level, or for the next less severe one.
func levelAt(level slog.Level) int {
	for i := range levels {
		if level >= levels[i].level {
			return i
		}
	}
	return len(levels) - 1
}

// Bounds of what waits to be written.
const (
	mostQueued = 8 << 20 // bytes of lines of every level
	// reserve is room for bans and what is worse beyond that, so that a storm of failures
	// does not push them out.
	reserve = 1 << 20
	// stallWait is how long whoever logs waits once for a target that takes nothing any
	// more, before lines are lost; then it does not wait again until something was taken.
	stallWait = time.Second
	// retryLog is the pause before a line is sent again that a socket did not take.
	retryLog = 250 * time.Millisecond
)

// A logWriter is where the log goes. Where that is, how lines look and how much is logged may
// change while it is in use.
//
// While run is at work, lines are queued and written behind the back of whoever logs, many at
// once; before and after, each is written at once. What cannot be written or has no room is
// lost, counted, and told as soon as lines are taken again: a log never holds up a ban.
type logWriter struct {
	stdout, stderr io.Writer
	journalSocket  string
	fail2ban       bool // lines are in Fail2Ban's form
	level          slog.LevelVar

	mu        sync.Mutex // guards what follows
	levelWord string     // as it was set, in capitals
	name      string     // the target as it was named, options left out
	syslog    string     // the socket of syslog, or "auto"
	form      *form
	lines     []byte // not written yet
	ends      []int  // where each of them ends
	spare     []byte // the last lines that were written, for reuse
	spareEnds []int
	lost      uint64        // lines that were never written
	lostWhy   error         // why, of the last of them
	moved     chan struct{} // closed and renewed when lines were taken
	queued    bool          // run is at work
	stalled   bool          // somebody has waited in vain
	stuck     bool          // the target was given up: nothing is written any more

	wake chan struct{} // holds one token: there are lines

	out  sync.Mutex // held while writing; guards what follows; taken before mu
	sink sink
	told bool // that the target does not work, on stderr
}

// openLog makes the daemon's log, to the place that logtarget names. A place that cannot be
// used does not keep the daemon from protecting: it logs to standard error, and says so.
func openLog(c *config.Daemon, stdout, stderr io.Writer) (*slog.Logger, *logWriter, error) {
	l := &logWriter{
		stdout: stdout, stderr: stderr, journalSocket: journalSocket, fail2ban: c.Fail2Ban,
		name: "STDERR", syslog: cmp.Or(c.SyslogSocket, "auto"), moved: make(chan struct{}), wake: make(chan struct{}, 1),
		sink: stream{stderr},
	}
	l.form = l.plain()
	if err := l.setLevel(cmp.Or(c.LogLevel, "INFO")); err != nil {
		return nil, nil, fmt.Errorf("loglevel: %w; use ERROR, WARNING, NOTICE, INFO or DEBUG", err)
	}
	log := slog.New(&logHandler{w: l, part: "server"})
	if err := l.openTarget(cmp.Or(c.LogTarget, "STDERR")); err != nil {
		log.Error("cannot log where logtarget says; logging to standard error", "logtarget", c.LogTarget, "err", err)
	}
	return log, l, nil
}

// setLevel sets from which level on is logged: a word of Fail2Ban's, or a number of Python's.
func (l *logWriter) setLevel(text string) error {
	word := strings.ToUpper(text)
	n, err := strconv.Atoi(text)
	i := slices.IndexFunc(levels, func(v levelRow) bool { return v.word == word })
	if err == nil { // the least severe level that is at least so severe
		for i = len(levels) - 1; i > 0 && levels[i].number < n; {
			i--
		}
	}
	if i < 0 {
		return valueError("Invalid log level '%s'", text)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.level.Set(levels[i].level)
	l.levelWord = word
	return nil
}

// setTarget changes where the log goes and writes to the new place that it begins; on an
// error the log stays where it was. The same name again changes nothing, its options
// included.
func (l *logWriter) setTarget(target string) error {
	if name, _, _ := strings.Cut(target, "["); name == l.targetName() {
		return nil
	}
	if err := l.openTarget(target); err != nil {
		l.say(slog.LevelError, "cannot change where the log goes", slog.String("logtarget", target), slog.Any("err", err))
		return err
	}
	name := l.targetName()
	l.say(slog.LevelInfo, "log begun", slog.String("version", fail2banVersion))
	where := name
	if socket := l.socket(); socket != "" {
		where += " (" + socket + ")"
	}
	l.say(slog.LevelInfo, "log goes elsewhere", slog.String("logtarget", where), slog.String("version", fail2banVersion))
	return nil
}

// openTarget opens a target and turns to it.
func (l *logWriter) openTarget(target string) error {
	t, err := parseTarget(target)
	if err != nil {
		return err
	}
	next, form, err := l.open(t)
	if err != nil {
		return err
	}
	l.out.Lock()
	defer l.out.Unlock()
	l.write(false) // what was logged before belongs to the old place
	old := l.sink
	l.sink, l.told = next, false
	l.mu.Lock()
	l.form, l.name = form, t.name
	l.mu.Unlock()
	return old.close()
}

// setSyslog changes the socket of syslog.
func (l *logWriter) setSyslog(path string) {
	l.mu.Lock()
	same := l.syslog == path
	l.syslog = path
	l.mu.Unlock()
	l.out.Lock()
	defer l.out.Unlock()
	if d, ok := l.sink.(*datagrams); ok && !same && d.syslog {
		_ = d.close() // it is opened again with the next line
		d.path = syslogPath(path)
	}
}

// socket is the socket of syslog that is logged to, "" if none is.
func (l *logWriter) socket() string {
	l.out.Lock()
	defer l.out.Unlock()
	if d, ok := l.sink.(*datagrams); ok && d.syslog {
		return d.path
	}
	return ""
}

func (l *logWriter) levelName() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.levelWord
}

func (l *logWriter) targetName() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.name
}

// flush opens a file anew, after somebody has renamed it; on an error the old one goes on.
// rolled is what Fail2Ban's flushlogs answers by: it goes by the exact word.
func (l *logWriter) flush() (rolled bool, err error) {
	name := l.targetName()
	rolled = !slices.Contains([]string{"STDERR", "STDOUT", "SYSLOG", "SYSTEMD-JOURNAL"}, name)
	l.out.Lock()
	l.write(false)
	if f, ok := l.sink.(*logFile); ok {
		err = f.reopen()
	}
	l.out.Unlock()
	switch {
	case err != nil:
		l.say(slog.LevelError, "cannot open the log anew", slog.Any("err", err))
	case rolled:
		l.say(slog.LevelInfo, "log opened anew", slog.String("logtarget", name))
	default:
		l.say(slog.LevelInfo, "log flushed", slog.String("logtarget", name))
	}
	return rolled, err
}

// close ends the target. What is logged from now on goes to stderr.
func (l *logWriter) close() error {
	l.mu.Lock()
	stuck := l.stuck
	l.mu.Unlock()
	if stuck { // whoever is stuck in it holds out
		return errors.New("the log took nothing any more; its last lines are lost")
	}
	l.out.Lock()
	defer l.out.Unlock()
	l.write(false)
	old := l.sink
	l.sink = stream{l.stderr}
	l.mu.Lock()
	l.form = l.plain()
	l.mu.Unlock()
	return old.close()
}

// plain is the form of lines on standard error.
func (l *logWriter) plain() *form {
	if !l.fail2ban {
		return &form{kind: structured}
	}
	return &form{kind: lines, layout: layoutOf(true, true)}
}

// put queues a line, or writes it.
func (l *logWriter) put(e *entry) {
	l.mu.Lock()
	if l.stuck {
		l.mu.Unlock()
		return
	}
	if l.full(e.level) && !l.awaitRoom(e.level) {
		l.lost++
		l.lostWhy = errNoRoom
		l.mu.Unlock()
		return
	}
	l.lines = l.form.append(l.lines, e)
	l.ends = append(l.ends, len(l.lines))
	queued := l.queued
	l.mu.Unlock()
	if queued {
		select {
		case l.wake <- struct{}{}:
		default: // it is awake
		}
		return
	}
	l.out.Lock()
	defer l.out.Unlock()
	l.write(false)
}

var errNoRoom = errors.New("they came faster than they were taken")

// full reports whether there is no room for a line. The caller holds mu.
func (l *logWriter) full(level slog.Level) bool {
	most := mostQueued
	if level >= levelNotice {
		most += reserve
	}
	return len(l.lines) >= most
}

// awaitRoom waits a little for room if that has not been in vain before. The caller holds mu,
// which is free meanwhile.
func (l *logWriter) awaitRoom(level slog.Level) bool {
	enough := time.NewTimer(stallWait)
	defer enough.Stop()
	for l.full(level) && l.queued && !l.stalled && l.form.kind.waits() {
		moved := l.moved
		l.mu.Unlock()
		select {
		case <-moved:
			l.mu.Lock()
		case <-enough.C:
			l.mu.Lock()
			l.stalled = true
		}
	}
	return !l.full(level)
}

// start runs run in the background and returns what ends it.
func (l *logWriter) start(within time.Duration) (end func()) {
	done, ended := make(chan struct{}), make(chan struct{})
	l.mu.Lock()
	l.queued = true // whoever logs from now on does not write
	l.mu.Unlock()
	go func() {
		defer close(ended)
		l.run(done, within)
	}()
	return func() {
		close(done)
		<-ended
	}
}

// run writes what is logged until done is closed, and then the rest. It returns when the rest
// is written, or is not within a time: then a target is given up that takes nothing.
func (l *logWriter) run(done <-chan struct{}, within time.Duration) {
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		again := time.NewTimer(time.Hour)
		defer again.Stop()
		for {
			select {
			case <-l.wake:
			case <-again.C:
			case <-done:
				return
			}
			l.out.Lock()
			kept := l.write(true)
			l.out.Unlock()
			if kept {
				again.Reset(retryLog)
				select { // what comes meanwhile waits, too
				case <-again.C:
				case <-done:
					return
				}
				l.nudge()
			}
		}
	}()
	<-done
	late := time.NewTimer(within)
	defer late.Stop()
	select {
	case <-ended:
	case <-late.C:
		l.mu.Lock()
		l.stuck = true
		l.mu.Unlock()
		return
	}
	l.mu.Lock()
	l.queued = false
	l.mu.Unlock()
	l.out.Lock()
	defer l.out.Unlock()
	l.write(false)
}

// nudge makes run look again.
func (l *logWriter) nudge() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// write writes what is queued. With keep, lines that a target may take later wait, and kept
// is true. The caller holds out.
func (l *logWriter) write(keep bool) (kept bool) {
	l.mu.Lock()
	text, ends := l.lines, l.ends
	l.lines, l.ends = l.spare[:0], l.spareEnds[:0]
	l.spare, l.spareEnds = nil, nil
	if l.lost > 0 && len(ends) > 0 {
		// Told behind the lines that are there, when those are taken.
		defer l.tellLost()
	}
	l.mu.Unlock()
	if len(ends) == 0 {
		l.recycle(text, ends, 0)
		return false
	}
	n, err := l.sink.write(text, ends)
	if err == nil {
		l.told = false
	} else if _, standard := l.sink.(stream); !standard && !l.told {
		l.told = true
		fmt.Fprintf(l.stderr, "bantam: cannot write the log to %s: %v\n", l.targetName(), err)
	}
	if left := len(ends) - n; left > 0 {
		if keep && l.sink.waits() {
			l.putBack(text, ends, n)
			return true
		}
		l.mu.Lock()
		l.lost += uint64(left)
		l.lostWhy = err
		l.mu.Unlock()
	}
	l.recycle(text, ends, n)
	return false
}

// putBack makes the lines from n on the first to be written again.
func (l *logWriter) putBack(text []byte, ends []int, n int) {
	from := 0
	if n > 0 {
		from = ends[n-1]
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	kept := slices.Delete(ends, 0, n)
	for i := range kept {
		kept[i] -= from
	}
	text = append(text[:0], text[from:]...)
	for _, end := range l.ends {
		kept = append(kept, end+len(text))
	}
	text = append(text, l.lines...)
	l.spare, l.spareEnds = l.lines, l.ends
	l.lines, l.ends = text, kept
}

// recycle keeps memory for the lines to come, unless a storm has made it large, and tells that
// there is room.
func (l *logWriter) recycle(text []byte, ends []int, n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if cap(text) <= 1<<20 {
		l.spare, l.spareEnds = text, ends
	}
	if n > 0 {
		l.stalled = false
		close(l.moved)
		l.moved = make(chan struct{})
	}
}

// tellLost says how many lines were lost, if lines are taken again. The caller holds out.
func (l *logWriter) tellLost() {
	if l.told {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.lost == 0 {
		return
	}
	e := entryOf(time.Now(), slog.LevelWarn, "server", "lines of this log were lost",
		slog.Uint64("lines", l.lost), slog.Any("err", l.lostWhy))
	l.lines = l.form.append(l.lines, &e)
	l.ends = append(l.ends, len(l.lines))
	l.lost = 0
	l.nudge()
}

// say logs something about the log itself.
func (l *logWriter) say(level slog.Level, text string, attrs ...slog.Attr) {
	if level < l.level.Level() {
		return
	}
	e := entryOf(time.Now(), level, "server", text, attrs...)
	e.translate(l.fail2ban)
	l.put(&e)
}
