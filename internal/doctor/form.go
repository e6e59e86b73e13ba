package doctor

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"bantam"
	"bantam/internal/config"
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
		key := fmt.Sprintf("%#v", j.Filter.Failregex)
		switch {
		case e.undated[name] || told[key]: // jails with the same filter say the same
		case f.lines >= fewLines && f.dated == 0 && !slices.Contains(j.Filter.DatePattern, "{NONE}"):
			told[key] = true
			e.tellUndated(j, l.Name, f.matched > 0 || e.failures(name) > 0)
		case j.Filter.Prefregex != "" && f.lines >= enoughLines && f.prefixed+f.matched == 0 && e.failures(name) == 0:
			told[key] = true
			e.doubt("is it this service's log, and in the form that the filter knows? "+tries(j, l.Name),
				"[%s] understands none of the last %d lines of %s", name, f.lines, l.Name)
		}
		e.lookAtZone(j, l.Name, &f)
	}
}

// lookAtStamps tells of jails whose lines, as the daemon has read them, mostly bear no date or a wrong one.
func (e *examination) lookAtStamps() {
	for i := range e.status.Jails {
		st := &e.status.Jails[i]
		j := e.jailOf(st.Jail)
		if st.Stamps == nil || j == nil {
			continue
		}
		lines, names := uint64(0), []string{}
		for _, s := range st.Sources {
			lines += uint64(max(0, s.Lines))
			names = append(names, s.Name)
		}
		if n := st.Stamps.Undated; n >= fewLines && n*10 >= lines*9 {
			e.undated[st.Jail] = true
			e.tellUndated(j, of(names), st.Failures > 0)
		}
		if n := st.Stamps.Skewed; n >= 1 && n*2 >= lines {
			e.skewed[st.Jail] = e.tellSkew(j, of(names), seconds(st.Stamps.Skew))
		}
	}
}

// seconds is a number of them, of at most some centuries.
func seconds(s float64) time.Duration {
	const most = 1 << 33
	return time.Duration(max(-most, min(most, s)) * float64(time.Second))
}

// tellUndated says that a log bears no dates. works is true if failures are found in it all the same, as they are as
// long as each line is read when it is written.
func (e *examination) tellUndated(j *config.Jail, logs string, works bool) {
	state := Wrong
	if works {
		state = Doubtful
	}
	e.add(state, "set datepattern; "+tries(j, logs), "[%s] finds no date in the lines of %s", j.Name, logs)
}

// tries is how to see what a filter makes of a log.
func tries(j *config.Jail, logs string) string {
	if j.Filter.Name == "" || strings.ContainsAny(logs, " *") {
		return "bantam regex shows what it makes of a line"
	}
	return "bantam regex " + logs + " " + j.Filter.Name + " shows what it makes of each"
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

// tail are the last lines of a file, and when it was written to last.
func tail(path string) (lines [][]byte, written time.Time, err error) {
	f, info, err := openLog(path)
	if err != nil {
		return nil, written, err
	}
	defer f.Close()
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

// openLog opens a log, which may stand where anybody can put a pipe without a writer or a link to a device: it waits for
// nobody, and opens nothing else, for opening a device may have an effect.
func openLog(path string) (*os.File, fs.FileInfo, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, nil, err
	}
	strange := fmt.Errorf("%s is not a regular file", path)
	if !info.Mode().IsRegular() {
		return nil, nil, strange
	}
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY, 0)
	if err != nil {
		return nil, nil, err
	}
	if info, err = f.Stat(); err == nil && !info.Mode().IsRegular() { // it was put there between
		err = strange
	}
	if err != nil {
		return nil, nil, errors.Join(err, f.Close())
	}
	return f, info, nil
}
