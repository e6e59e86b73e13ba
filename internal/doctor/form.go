package doctor

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"slices"
	"time"

	"bantam"
	"bantam/internal/filter"
)

// How much of a log's end is looked at, and from how many lines on something is said of it.
const (
	sampleBytes = 128 << 10
	sampleLines = 400
	fewLines    = 5
	enoughLines = 50
)

// A form is what some jail's filter makes of the end of a log.
type form struct {
	lines, dated, prefixed, matched int
	// skew is how far the stamp of the last dated line is from when the file was written to last.
	skew   time.Duration
	skewed bool // the last line is dated
}

// lookAtForm looks whether a file's last lines are such as its jails understand.
func (e *examination) lookAtForm(l log) {
	if !filepath.IsAbs(l.Name) {
		return // a journal bears its own times, and what was received is not kept
	}
	lines, written, err := tail(l.Name)
	if err != nil {
		e.unseen("what stands in "+l.Name, err)
		return
	}
	if len(lines) == 0 || bytes.HasPrefix(lines[0], []byte(`{"log":`)) {
		return // what a container engine wraps is dated by it
	}
	told := map[string]bool{}
	for _, name := range l.jails {
		j := e.jailOf(name)
		if j == nil {
			continue
		}
		rules, err := filter.Compile(j.Filter)
		if err != nil {
			continue // the configuration's check says so
		}
		f := read(rules, lines, written)
		if text, fix, state := f.judge(&j.Filter, l.Name, j.Filter.Prefregex != "", e.failures(name)); text != "" && !told[text] {
			told[text] = true // jails with the same filter say the same
			e.add(state, fix, "[%s] %s", name, text)
		}
		e.lookAtZone(j, l.Name, &f)
	}
}

// failures are how many a jail has found since the daemon started.
func (e *examination) failures(name string) uint64 {
	for _, j := range e.status.Jails {
		if j.Jail == name {
			return j.Failures
		}
	}
	return 0
}

// read lets rules judge some lines, the last of which was written at the time given.
func read(rules *filter.Rules, lines [][]byte, written time.Time) (f form) {
	trial := filter.NewTrial(filter.TrialOptions{Prefixes: true}, rules)
	times := filter.New(rules)
	for i, text := range lines {
		// A stamp without a year is read as the last year's if that is not in the future.
		now := written.Add(maxSkew)
		out := trial.Try(&bantam.Line{Text: text, Read: now})[0]
		f.lines++
		if out.Dated {
			f.dated++
		}
		if out.Prefixed {
			f.prefixed++
		}
		if len(out.Hits) > 0 {
			f.matched++
		}
		if i == len(lines)-1 && out.Dated {
			if at, ok := times.Time(text, now); ok {
				f.skew, f.skewed = at.Sub(written), true
			}
		}
	}
	return f
}

// judge says in words what is wrong with a log, "" for nothing.
func (f *form) judge(c *filter.Config, path string, prefix bool, failures uint64) (text, fix string, state State) {
	try := "bantam regex " + path + " " + c.Name + " shows what it makes of each line"
	switch {
	case f.lines >= fewLines && f.dated == 0 && !slices.Contains(c.DatePattern, "{NONE}"):
		state = Wrong
		if f.matched > 0 || failures > 0 {
			state = Doubtful // it works while lines come
		}
		return "finds no date in the last lines of " + path, "set datepattern; " + try, state
	case prefix && f.lines >= enoughLines && f.prefixed == 0 && f.matched == 0 && failures == 0:
		return "understands none of the last lines of " + path, "is it this service's log, and in the form that the filter knows? " + try, Doubtful
	}
	return "", "", OK
}

// tail are the last lines of a file, and when it was written to last.
func tail(path string) (lines [][]byte, written time.Time, err error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, written, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil || !info.Mode().IsRegular() {
		return nil, written, err
	}
	from := max(0, info.Size()-sampleBytes)
	text, err := io.ReadAll(io.NewSectionReader(f, from, info.Size()-from))
	if err != nil {
		return nil, written, err
	}
	if from > 0 { // in the middle of a line
		_, text, _ = bytes.Cut(text, []byte("\n"))
	}
	end := bytes.LastIndexByte(text, '\n')
	if end < 0 {
		return nil, written, nil
	}
	lines = bytes.Split(text[:end], []byte("\n"))
	return lines[max(0, len(lines)-sampleLines):], info.ModTime(), nil
}
