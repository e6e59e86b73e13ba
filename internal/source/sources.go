package source

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"bantam"
)

// maxFolders bounds how many folders are watched for the files of one pattern; in
// further ones new files are found when the pattern is expanded again.
const maxFolders = 256

// Resume says where a jail had got to in a source before a restart; ok is false if
// it never read it. It is asked once for each jail and source, when the jail begins
// to read it, never twice at once, and must not call back into Sources.
type Resume = func(jail, source string) (bantam.Position, bool)

// Sources are all logs that the jails read.
//
// Configure and Status may be called at any time and at once.
type Sources struct {
	log    *slog.Logger
	judges Judges
	timing timing
	system journalSystem
	stdin  *os.File

	mu       sync.Mutex // guards what follows
	feeds    []feed
	resume   Resume
	readers  map[string]*reader
	stopping map[string]*reader // dropped, and perhaps still in their last line
	ran      bool

	changed chan struct{} // holds one token: there are readers to start, or patterns to watch
}

// New makes Sources that hand lines to the judges made by judges. Nothing is opened
// before Run.
func New(log *slog.Logger, judges Judges) *Sources {
	return &Sources{
		log: log, judges: judges, timing: defaultTiming, system: hostJournal, stdin: os.Stdin,
		readers: make(map[string]*reader), stopping: make(map[string]*reader),
		changed: make(chan struct{}, 1),
	}
}

// A feed is one jail's wish for its files or its journal, after the back end was
// chosen.
type feed struct {
	plan
	paths   []Path
	polling bool
	journal *journalQuery // instead of paths
	// envelope is that of the files.
	envelope string
	listen   []listenAddr // instead of paths
	from     []netip.Prefix
	mode     fs.FileMode
	command  string // instead of paths
}

// A reader is one source that is read, whatever it is.
type reader struct {
	key   string
	name  string
	plans map[string]plan // by jail
	feed  interface {
		run(ctx context.Context, w *watcher, out chan<- bantam.Failure)
		assign(a *assignment)
		report() []Status
	}
	started bool
	stop    chan struct{}     // closed to end it
	done    chan struct{}     // closed when it has ended
	after   *reader           // has to end first: it may still read the same
	unseen  time.Time         // wall time since which no pattern fits its name any more
	habits  map[string]*habit // by Status.Match
}

// Configure says which jails read what. It is called before Run, and again for a
// reload. Sources that stay keep their place, a jail that was there its own; their
// judge is made anew and takes over before their next line, so a failure found by
// the old one, or of a jail that is dropped, may still come for a moment. A jail new
// to a source makes it be read again from where that jail starts; the others' failures
// do not come twice.
//
// An error names what is wrong with configs; then nothing was changed.
func (s *Sources) Configure(configs []Config, resume func(jail, source string) (bantam.Position, bool)) error {
	seen := make(map[string]bool)
	feeds := make([]feed, 0, len(configs))
	for i := range configs {
		c := &configs[i]
		if err := c.Validate(); err != nil {
			return err
		}
		if seen[c.Jail] {
			return fmt.Errorf("jail %s is given twice", c.Jail)
		}
		seen[c.Jail] = true
		feeds = append(feeds, s.choose(c))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.feeds, s.resume = feeds, resume
	s.settle(true)
	return nil
}

// choose decides between files and journal.
func (s *Sources) choose(c *Config) feed {
	fd := feed{plan: plan{jail: c.Jail, findTime: c.FindTime}}
	b, _ := backend(c.Backend)
	files := slices.ContainsFunc(c.Paths, func(p Path) bool { return p.Pattern == Stdin || len(expand(p.Pattern, true)) > 0 })
	if b == Systemd || b == Auto && !files && c.JournalMatch != nil && s.system.present(c) {
		fd.journal = queryOf(c)
		if len(c.JournalMatch) == 0 {
			s.log.Info("jail has no journal match and reads every entry", "jail", c.Jail)
		}
		return fd
	}
	fd.envelope, _ = envelope(c.Envelope)
	switch b {
	case Syslog:
		for _, text := range c.Listen {
			at, _ := parseListen(text)
			fd.listen = append(fd.listen, at)
		}
		fd.from, fd.mode = c.From, c.Mode
		if len(fd.from) == 0 {
			fd.from = loopback
		}
		return fd
	case Command:
		fd.command = c.Command
		return fd
	}
	fd.polling = b == Polling
	for _, p := range c.Paths {
		if p.Pattern == Stdin {
			fd.paths = append(fd.paths, p)
			continue
		}
		fd.paths = append(fd.paths, Path{Pattern: filepath.Clean(p.Pattern), Tail: p.Tail})
	}
	return fd
}

// settle makes the readers those that the feeds ask for. With renew, which is a
// reload, readers that stay get a new judge; without, patterns are only expanded
// again. The caller holds mu.
func (s *Sources) settle(renew bool) {
	type want struct {
		reader *reader // there already
		path   string
		stream func() *stream // what makes one, instead of path
		query  *journalQuery
		poll   bool
		// envelope and from are what the jails want, taken together.
		envelope string
		from     []netip.Prefix
		plans    map[string]plan
		found    bool // by a pattern, at this very moment
	}
	wants := make(map[string]*want)
	add := func(key string, fd *feed, path string, tail, found bool) *want {
		w := wants[key]
		if w == nil {
			w = &want{reader: s.readers[key], path: path, query: fd.journal, poll: true, plans: make(map[string]plan)}
			wants[key] = w
		}
		w.poll = w.poll && fd.polling
		w.found = w.found || found
		if w.envelope == "" || w.envelope == Auto {
			w.envelope = fd.envelope
		}
		w.from = append(w.from, fd.from...)
		pl := fd.plan
		pl.tail, pl.query = tail, fd.journal
		w.plans[fd.jail] = pl
		return w
	}
	now := time.Now()
	for i := range s.feeds {
		fd := &s.feeds[i]
		if fd.journal != nil {
			add("journal "+fd.journal.reader(), fd, "", false, true)
			continue
		}
		for _, at := range fd.listen {
			add("listen "+at.String(), fd, at.String(), false, true).stream = func() *stream {
				l := &syslog{at: at, mode: fd.mode}
				st := newStream(at.String(), Syslog, s.timing, s.log, l.serve)
				st.again = true
				return st
			}
		}
		if fd.command != "" {
			name := streamName(fd.command)
			add("command "+fd.command, fd, name, false, true).stream = func() *stream {
				st := newStream(name, Command, s.timing, s.log, serveCommand(fd.command))
				st.again = true
				return st
			}
		}
		for _, p := range fd.paths {
			if p.Pattern == Stdin {
				add("stdin", fd, Stdin, false, true).stream = func() *stream {
					return newStream(Stdin, "stdin", s.timing, s.log, serveStdin(s.stdin))
				}
				continue
			}
			if !hasMeta(p.Pattern) {
				add("file "+p.Pattern, fd, p.Pattern, p.Tail, true)
				continue
			}
			for _, path := range expand(p.Pattern, false) {
				if !s.isOther(path) {
					add("file "+path, fd, path, p.Tail, true)
				}
			}
			// A file that is gone may be in the middle of its rotation.
			for _, r := range s.readers {
				if strings.HasPrefix(r.key, "file ") && wants[r.key] == nil && fits(p.Pattern, r.name) {
					add(r.key, fd, r.name, p.Tail, false)
				}
			}
		}
	}
	for key, w := range wants {
		if w.reader == nil || w.found {
			if w.reader != nil {
				w.reader.unseen = time.Time{}
			}
			continue
		}
		if w.reader.unseen.IsZero() {
			w.reader.unseen = now
		}
		if now.Sub(w.reader.unseen) > s.timing.linger {
			delete(wants, key)
		}
	}
	for key, r := range s.readers {
		if wants[key] == nil {
			delete(s.readers, key)
			close(r.stop)
			if r.started {
				s.stopping[key] = r
			}
		}
	}
	keys := make([]string, 0, len(wants))
	for key := range wants {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	for _, key := range keys {
		w := wants[key]
		r := w.reader
		if r != nil && !renew && sameJails(r.plans, w.plans) {
			continue
		}
		if r == nil {
			r = &reader{key: key, name: w.path, plans: make(map[string]plan), stop: make(chan struct{}), done: make(chan struct{}), after: s.stopping[key]}
			switch {
			case w.stream != nil:
				r.feed = w.stream()
			case w.query != nil:
				r.name = Journal
				r.feed = newJournal(w.query, s.system, s.timing, s.log)
			default:
				r.feed = newFollower(w.path, s.timing, s.log)
			}
			s.readers[key] = r
		}
		for jail, pl := range w.plans {
			if was, ok := r.plans[jail]; ok {
				pl.resume, pl.resumed = was.resume, was.resumed
			} else if s.resume != nil {
				pl.resume, pl.resumed = s.resume(jail, r.name)
			}
			w.plans[jail] = pl
		}
		r.plans = w.plans
		plans := make([]plan, 0, len(r.plans))
		for _, pl := range r.plans {
			plans = append(plans, pl)
		}
		slices.SortFunc(plans, func(a, b plan) int { return cmp.Compare(a.jail, b.jail) })
		if w.query != nil {
			r.feed.assign(&assignment{lanes: s.lanes(plans), plans: plans})
			continue
		}
		r.feed.assign(&assignment{judge: s.judges(r.name, jailsOf(plans)), plans: plans, polling: w.poll, envelope: w.envelope, from: w.from})
	}
	wakeUp([]chan struct{}{s.changed})
}

// lanes puts the jails of a journal with the same query together, each with a judge.
func (s *Sources) lanes(plans []plan) (lanes []*lane) {
	for _, pl := range plans {
		i := slices.IndexFunc(lanes, func(l *lane) bool { return l.query.key() == pl.query.key() })
		if i < 0 {
			i = len(lanes)
			lanes = append(lanes, &lane{query: pl.query})
		}
		lanes[i].status.Jails = append(lanes[i].status.Jails, pl.jail)
	}
	for _, l := range lanes {
		l.judge = s.judges(Journal, l.status.Jails)
	}
	return lanes
}

// isOther reports whether path is the file that is already read under another name,
// as PATH.1 is after a rotation when the pattern is PATH*.
func (s *Sources) isOther(path string) bool {
	fi, err := os.Stat(path)
	if err != nil {
		return false
	}
	id := idOf(fi)
	for _, r := range s.readers {
		if f, ok := r.feed.(*follower); ok && r.name != path && f.holds(id) {
			return true
		}
	}
	return false
}

func sameJails(a, b map[string]plan) bool {
	if len(a) != len(b) {
		return false
	}
	for jail := range a {
		if _, ok := b[jail]; !ok {
			return false
		}
	}
	return true
}

// Run reads all sources and sends what the judges find into failures, until ctx
// ends; then it stops reading, waits for its goroutines and returns nil. A full
// channel is waited for: the logs keep their lines. Run does not close failures and
// may be called once.
func (s *Sources) Run(ctx context.Context, failures chan<- bantam.Failure) error {
	s.mu.Lock()
	again := s.ran
	s.ran = true
	s.mu.Unlock()
	if again {
		return errors.New("sources run already")
	}
	w := newWatcher(s.log)
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() { w.run(ctx) })
	found := make(chan struct{}, 1)
	var watched []string
	timer := time.NewTimer(s.timing.rescan)
	defer timer.Stop()
	for {
		s.mu.Lock()
		for _, r := range s.readers {
			if !r.started {
				r.started = true
				wg.Go(func() { s.read(ctx, r, w, failures) })
			}
		}
		s.mu.Unlock()
		folders := s.folders()
		if !slices.Equal(folders, watched) {
			// What cannot be watched is found by the timer.
			_ = w.change(found, watched, folders)
			watched = folders
			s.rescan() // for what came before the watch
		}
		timer.Reset(s.timing.rescan)
		select {
		case <-ctx.Done():
			return nil
		case <-s.changed:
		case <-found:
			s.rescan()
		case <-timer.C:
			// Also anew for folders that were replaced.
			_ = w.change(found, watched, watched)
			s.rescan()
			s.listenForSilence(time.Now())
		}
	}
}

// read runs one reader until it is dropped or ctx ends.
func (s *Sources) read(ctx context.Context, r *reader, w *watcher, failures chan<- bantam.Failure) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		select {
		case <-ctx.Done():
		case <-r.stop:
			cancel()
		}
	}()
	if r.after != nil {
		<-r.after.done // its own stop was closed, and ctx ends it too
	}
	r.feed.run(ctx, w, failures)
	cancel()
	<-stopped
	close(r.done)
	s.mu.Lock()
	if s.stopping[r.key] == r {
		delete(s.stopping, r.key)
	}
	s.mu.Unlock()
}

// listenForSilence tells of sources that have nothing to say when they used to, and of
// those that speak again.
func (s *Sources) listenForSilence(now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range s.readers {
		for _, st := range r.feed.report() {
			h := r.habits[st.Match]
			if h == nil {
				h = &habit{}
				if r.habits == nil {
					r.habits = make(map[string]*habit)
				}
				r.habits[st.Match] = h
			}
			switch h.look(&st, now) {
			case fellSilent:
				s.log.Warn("log has fallen silent", "path", r.name, "match", st.Match, "jails", strings.Join(st.Jails, " "),
					"last", st.Last, "silent", now.Sub(st.Last).Round(time.Minute), "lines_per_hour", math.Round(h.perHour()))
			case spokeAgain:
				s.log.Info("log is written again", "path", r.name, "match", st.Match)
			}
		}
	}
}

func (s *Sources) rescan() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range s.feeds {
		if slices.ContainsFunc(s.feeds[i].paths, func(p Path) bool { return hasMeta(p.Pattern) }) {
			s.settle(false)
			return
		}
	}
}

// folders are the names to watch for files that patterns fit.
func (s *Sources) folders() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var names []string
	for i := range s.feeds {
		for _, p := range s.feeds[i].paths {
			if hasMeta(p.Pattern) {
				names = append(names, patternNames(p.Pattern)...)
			}
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// Status is what each source is doing, sorted by name; a pattern that fits no file is
// one too.
func (s *Sources) Status() []Status {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []Status
	for _, r := range s.readers {
		for _, st := range r.feed.report() {
			if h := r.habits[st.Match]; h != nil {
				st.PerHour = h.perHour()
				if h.told {
					st.Silent = st.Last
				}
			}
			all = append(all, st)
		}
	}
	empty := make(map[string]*Status)
	for i := range s.feeds {
		fd := &s.feeds[i]
		for _, p := range fd.paths {
			if !hasMeta(p.Pattern) || slices.ContainsFunc(all, func(st Status) bool { return fits(p.Pattern, st.Name) }) {
				continue
			}
			st := empty[p.Pattern]
			if st == nil {
				st = &Status{Name: p.Pattern, State: Waiting, Backend: Inotify}
				if fd.polling {
					st.Backend = Polling
				}
				empty[p.Pattern] = st
			}
			if !slices.Contains(st.Jails, fd.jail) {
				st.Jails = append(st.Jails, fd.jail)
			}
		}
	}
	for _, st := range empty {
		slices.Sort(st.Jails)
		all = append(all, *st)
	}
	slices.SortFunc(all, func(a, b Status) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), slices.Compare(a.Jails, b.Jails))
	})
	return all
}

// hasMeta reports whether filepath.Glob would take pattern for more than a name.
func hasMeta(pattern string) bool { return strings.ContainsAny(pattern, `*?[\`) }

func fits(pattern, path string) bool {
	ok, _ := filepath.Match(pattern, path)
	return ok
}

// expand is the regular files a pattern fits; with any, everything that it fits.
func expand(pattern string, any bool) []string {
	paths, _ := filepath.Glob(pattern) // Validate has refused bad ones
	if any {
		return paths
	}
	return slices.DeleteFunc(paths, func(p string) bool {
		fi, err := os.Stat(p)
		return err != nil || !fi.Mode().IsRegular()
	})
}

// patternNames are the folders in which a new file or folder can make a pattern fit
// more, as names for the watcher: the last that is fixed, or the nearest one there is
// above it, and below it those that fit the pattern's front.
func patternNames(pattern string) []string {
	dir := filepath.Dir(pattern)
	fixed := dir
	for hasMeta(fixed) {
		fixed = filepath.Dir(fixed)
	}
	if _, err := os.Stat(fixed); err != nil {
		return watchNames(filepath.Join(fixed, "x"))
	}
	var names []string
	for {
		folders, _ := filepath.Glob(dir)
		for _, f := range folders {
			if fi, err := os.Stat(f); err != nil || !fi.IsDir() || len(names) == maxFolders {
				continue
			}
			if real, err := filepath.EvalSymlinks(f); err == nil {
				names = append(names, inDir(real))
			}
		}
		if dir == fixed {
			return names
		}
		dir = filepath.Dir(dir)
	}
}
