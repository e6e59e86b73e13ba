package source

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"bantam"
)

// A Past is one log as far back as there is something of it: a file with those that
// rotation has made of it, compressed ones included, or the entries of a journal. It
// is read once, from its oldest line to its last, and not followed.
type Past struct {
	// Name is as Status.Name.
	Name  string
	Jails []string // sorted

	files    []pastFile
	journal  *journalQuery
	envelope string
	from     time.Time // of a journal, the first entry's; zero for all
}

// A pastFile is one of the files of a log.
type pastFile struct {
	path  string
	first time.Time // event time of the first dated line, else when it was last written to
	last  time.Time // when it was last written to
	size  int64
	skip  int64 // bytes at its start that are not read
}

// TimeOf is the event time written in a line, as Judge.Time.
type TimeOf = func(text []byte, now time.Time) (time.Time, bool)

// Pasts are the logs that configs would read, sorted by name. A log that is not there
// has none; what only a running program gives, as a syslog or a command, neither.
func Pasts(configs []Config, log *slog.Logger) ([]*Past, error) {
	s := New(log, nil)
	byKey := make(map[string]*Past)
	add := func(key, jail string, make func() *Past) {
		p := byKey[key]
		if p == nil {
			if p = make(); p == nil {
				return
			}
			byKey[key] = p
		}
		if !slices.Contains(p.Jails, jail) {
			p.Jails = append(p.Jails, jail)
		}
	}
	for i := range configs {
		c := &configs[i]
		if err := c.Validate(); err != nil {
			return nil, err
		}
		fd := s.choose(c)
		if fd.journal != nil {
			add("journal "+fd.journal.key(), c.Jail, func() *Past { return &Past{Name: Journal, journal: fd.journal} })
		}
		for _, pattern := range fd.paths {
			for _, path := range currentOf(pattern.Pattern) {
				add("file "+path, c.Jail, func() *Past {
					p := &Past{Name: path, envelope: fd.envelope}
					for _, f := range historyOf(path) {
						p.add(f)
					}
					if len(p.files) == 0 {
						return nil
					}
					return p
				})
			}
		}
	}
	pasts := make([]*Past, 0, len(byKey))
	keys := make([]string, 0, len(byKey))
	for key := range byKey {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	for _, key := range keys {
		slices.Sort(byKey[key].Jails)
		pasts = append(pasts, byKey[key])
	}
	return pasts, nil
}

// PastOf is the log that paths are the files of, in any order; "-" is standard input.
// envelope is as Config.Envelope.
func PastOf(paths, jails []string, envelope string) (*Past, error) {
	p := &Past{Name: paths[len(paths)-1], Jails: slices.Sorted(slices.Values(jails)), envelope: envelope}
	for _, path := range paths {
		if path == Stdin {
			if len(paths) > 1 {
				return nil, errors.New("standard input is read alone")
			}
			p.files = []pastFile{{path: path, last: time.Now()}}
			return p, nil
		}
		fi, err := os.Stat(path)
		if err == nil {
			if err = regular(fi); err != nil {
				err = fmt.Errorf("%s %w", path, err)
			}
		}
		if err != nil {
			return nil, fmt.Errorf("open log: %w", err)
		}
		p.add(path)
	}
	return p, nil
}

// add takes a file up if it is one and holds something.
func (p *Past) add(path string) {
	fi, err := os.Stat(path)
	if err != nil || !fi.Mode().IsRegular() || fi.Size() == 0 {
		return
	}
	p.files = append(p.files, pastFile{path: path, first: fi.ModTime(), last: fi.ModTime(), size: fi.Size()})
}

// Size is how many bytes the files have, as they lie there; 0 for what does not tell.
func (p *Past) Size() (n int64) {
	for _, f := range p.files {
		n += f.size
	}
	return n
}

// Files are the log's files in the order in which Read would take them.
func (p *Past) Files() (names []string) {
	for _, f := range p.files {
		names = append(names, f.path)
	}
	return names
}

// lookedAt is how many lines are looked at for a file's first date.
const lookedAt = 100

// Order puts the files into the order of the first date that each bears, as a file
// may have been copied or touched since. One without dates stands where its last
// change puts it. A stamp without a year is of the year before that change.
func (p *Past) Order(timeOf TimeOf) {
	if len(p.files) > 1 {
		for i := range p.files {
			f := &p.files[i]
			if at, ok := f.firstTime(p.envelope, timeOf); ok {
				f.first = at
			}
		}
	}
	slices.SortStableFunc(p.files, func(a, b pastFile) int {
		return cmp.Or(a.first.Compare(b.first), a.last.Compare(b.last), -cmp.Compare(len(a.path), len(b.path)), -cmp.Compare(a.path, b.path))
	})
}

func (f *pastFile) firstTime(envelope string, timeOf TimeOf) (at time.Time, ok bool) {
	in, err := f.open()
	if err != nil {
		return at, false
	}
	defer in.Close()
	lines := newLineReader(in)
	var u unwrapper
	for range lookedAt {
		text, err := lines.next()
		if err != nil {
			return at, false
		}
		u.recognise(envelope, text)
		text, outer, whole := u.next(text)
		if !whole {
			continue
		}
		if at, ok := timeOf(text, f.last); ok {
			return at, true
		}
		if !outer.IsZero() {
			return outer, true
		}
	}
	return at, false
}

// recognise settles the kind of envelope with a file's first line.
func (u *unwrapper) recognise(option string, first []byte) {
	if u.kind != "" {
		return
	}
	if u.kind = option; option == Auto || option == "" {
		u.kind = envelopeOf(first)
	}
}

// Read hands on every line, the last one also without line end, until the log or ctx
// ends or hand returns an error. Line.Time is set for what a journal or an envelope
// dates; Line.Read is a time that no line of the file can be later than: its last
// change. count is told of the bytes read, as they lie in the files; it may be nil.
//
// A file that cannot be read or unpacked further is left there, and told in the error
// when all others have been read.
func (p *Past) Read(ctx context.Context, hand func(*bantam.Line) error, count func(bytes int64)) error {
	if p.journal != nil {
		return p.readJournal(ctx, hand)
	}
	var failed []error
	for _, f := range p.files {
		err := p.readFile(ctx, f, hand, count)
		switch unread := (*unreadError)(nil); {
		case errors.As(err, &unread):
			failed = append(failed, err)
		case err != nil:
			return err
		}
	}
	return errors.Join(failed...)
}

// An unreadError says that a file was not read to its end.
type unreadError struct {
	path string
	err  error
}

func (e *unreadError) Error() string { return fmt.Sprintf("read log %s: %v", e.path, e.err) }
func (e *unreadError) Unwrap() error { return e.err }

func (p *Past) readFile(ctx context.Context, f pastFile, hand func(*bantam.Line) error, count func(int64)) error {
	in, err := f.open()
	if err != nil {
		return &unreadError{f.path, err}
	}
	defer in.Close()
	lines := newLineReader(in)
	u := unwrapper{}
	line := bantam.Line{Position: bantam.Position{Source: p.Name}, Read: f.last}
	told := int64(0)
	for n := 0; ; n++ {
		text, err := lines.next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return &unreadError{f.path, err}
		}
		if n&1023 == 0 {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			if now := in.Packed(); count != nil && now != told {
				count(now - told)
				told = now
			}
		}
		u.recognise(p.envelope, text)
		text, at, whole := u.next(text)
		if !whole {
			continue
		}
		line.Text, line.Time = text, at
		if err := hand(&line); err != nil {
			return err
		}
	}
	if count != nil {
		count(in.Packed() - told)
	}
	return nil
}

// readJournal reads what the journal holds by now.
func (p *Past) readJournal(ctx context.Context, hand func(*bantam.Line) error) error {
	j := newJournal(p.journal, hostJournal, defaultTiming, slog.New(slog.DiscardHandler))
	j.now = []*lane{{query: p.journal}}
	args := slices.DeleteFunc(j.args(), func(a string) bool { return a == "--follow" || strings.HasPrefix(a, "--since=") })
	if !p.from.IsZero() {
		args = slices.Insert(args, 0, fmt.Sprintf("--since=@%d", p.from.Unix())) // behind the "--" it would be a match
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	cmd := exec.CommandContext(ctx, j.system.program, args...)
	cmd.Env = append(os.Environ(), "LC_ALL=C.UTF-8", "SYSTEMD_COLORS=0", "SYSTEMD_PAGER=")
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return fmt.Errorf("start %s: %w", j.system.program, err)
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start %s: %w", j.system.program, err)
	}
	x := newExportReader(stdout)
	var e entry
	line := bantam.Line{Position: bantam.Position{Source: Journal}}
	for err == nil {
		if err = x.next(&e); err != nil {
			break
		}
		line.Text = e.line(line.Text[:0])
		line.Time = e.time()
		line.Read = line.Time
		err = hand(&line)
	}
	if errors.Is(err, io.EOF) {
		err = nil
	} else {
		cancel()
	}
	if waitErr := cmd.Wait(); err == nil && waitErr != nil {
		err = fmt.Errorf("%s: %w", j.system.program, waitErr)
	}
	return err
}

// packed are the endings of what is compressed. What a file holds is told by how it
// begins, not by its name.
var packed = []string{".gz", ".xz", ".zst", ".bz2"}

func unpackedName(name string) string {
	for _, suffix := range packed {
		if cut, ok := strings.CutSuffix(name, suffix); ok {
			return cut
		}
	}
	return name
}

// currentOf is what a pattern fits and is no rotated file of another that it fits.
func currentOf(pattern string) []string {
	if !hasMeta(pattern) {
		return []string{pattern}
	}
	found := expand(pattern, false)
	return slices.DeleteFunc(slices.Clone(found), func(path string) bool {
		return slices.ContainsFunc(found, func(other string) bool { return isRotated(other, path) })
	})
}

// isRotated reports whether a name is what rotation makes of path.
func isRotated(path, name string) bool {
	suffix, ok := strings.CutPrefix(unpackedName(name), path)
	return ok && rotationSuffix(suffix)
}

// historyOf is a log's files: those rotation has made of it, and itself.
func historyOf(path string) []string {
	entries, err := os.ReadDir(filepath.Dir(path))
	if err != nil {
		return nil
	}
	var found []string
	for _, e := range entries {
		if p := filepath.Join(filepath.Dir(path), e.Name()); p == path || isRotated(path, p) {
			found = append(found, p)
		}
	}
	return found
}

// A lineReader reads lines, cut to MaxLine, in memory that does not grow.
type lineReader struct {
	r    *bufio.Reader
	long []byte
}

func newLineReader(r io.Reader) *lineReader {
	return &lineReader{r: bufio.NewReaderSize(r, readSize)}
}

// next is the next line without its end, valid until the next call; the last one may
// have had none. Its error is io.EOF behind it.
func (l *lineReader) next() ([]byte, error) {
	text, err := l.r.ReadSlice('\n')
	if err == nil {
		return trimLine(text[:len(text)-1]), nil
	}
	if errors.Is(err, bufio.ErrBufferFull) {
		l.long = append(l.long[:0], text[:MaxLine]...)
		for errors.Is(err, bufio.ErrBufferFull) {
			_, err = l.r.ReadSlice('\n')
		}
		text = l.long
	}
	if err != nil && (!errors.Is(err, io.EOF) || len(text) == 0) {
		return nil, err
	}
	return trimLine(bytes.TrimSuffix(text, []byte("\n"))), nil
}
