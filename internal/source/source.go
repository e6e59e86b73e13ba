// Package source reads logs and hands each line, once, to the filter of all the
// jails that watch it.
//
// It promises that every complete line is read exactly once and in order: through
// rename, copytruncate, deletion and re-creation, across restarts, and whatever
// the line holds. A log that is not there yet is waited for. A line longer than
// MaxLine is cut to it, so memory is bounded by the number of sources.
//
// Each file has one goroutine and one descriptor, however many jails watch it; a
// descriptor more is held for a while after a rotation, because log writers go on
// writing to the renamed file until they are told. Journals are read through
// journalctl, one process for each journal, however many jails read it. What comes by syslog, on standard
// input or from a command is not kept by anybody: lines that come while nobody reads
// are lost, and none is read again after a restart.
//
// A source that falls silent against its own habit is told of once. Past reads what
// was logged long ago, rotated and compressed files included.
//
// What a line means is left to the filter, what a failure means to the jail.
package source

import (
	"fmt"
	"io/fs"
	"net/netip"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"bantam"
)

// MaxLine is the longest line handed on, in bytes; the rest of a longer one is
// read and dropped.
const MaxLine = 64 << 10

// Journal is the Position.Source of what comes from a journal.
const Journal = "journal"

// A Judge is what lines are handed to: the filter of all jails of one source.
// A source never calls it twice at once.
type Judge interface {
	// Judge appends to out the failures that the line completes. It neither
	// keeps nor changes line.Text.
	Judge(line *bantam.Line, out []bantam.Failure) []bantam.Failure
	// Time is the event time written in a line, without counting it as read.
	// It serves the search for the place to start at.
	Time(text []byte, now time.Time) (t time.Time, ok bool)
}

// Judges makes the judge for the jails that share a source: a file by its
// absolute path, Journal, or what else Status.Name can be. It is called at start, at
// reload and when a pattern finds a new file, with the jails sorted, and never twice at
// once; for a journal, once for the jails of each query. It must not call back into
// Sources.
type Judges func(source string, jails []string) Judge

// A Config says where one jail's lines come from.
type Config struct {
	Jail string
	// Paths are the log files; none is allowed.
	Paths []Path
	// JournalMatch are the matches of a journal source in journalctl's words
	// ("_SYSTEMD_UNIT=ssh.service", "+"), one slice per alternative. Nil means
	// that the jail does not read the journal, but with the backend Systemd,
	// which has nothing else to read, that it reads every entry.
	JournalMatch [][]string
	// JournalDir, JournalFiles (patterns) and JournalNamespace choose another
	// journal than the system's, as journalctl's options -D, --file and
	// --namespace do.
	JournalDir       string
	JournalFiles     []string
	JournalNamespace string
	// Backend is Auto, Inotify, Polling, Systemd, Syslog or Command; empty is Auto.
	Backend string
	// Envelope is what the lines of files are wrapped in: Auto, Docker, CRI or Plain;
	// empty is Auto. Jails that share a file share it; the first that is not Auto, by
	// name, says.
	Envelope string
	// Listen are the addresses that a Syslog receives at: "udp:127.0.0.1:5140",
	// "tcp:[::1]:5140", "unix:/run/bantam/log". From are those it takes messages from
	// by UDP and TCP, this machine's loopback addresses if there are none; Mode are
	// the permissions of a unix socket, 0600 if zero. Jails that listen at one address
	// share it, and what each takes is what all take.
	Listen []string
	From   []netip.Prefix
	Mode   fs.FileMode
	// Command is what a shell runs for the backend Command; its output is the log.
	Command string
	// FindTime is how far back lines count; reading starts no further back.
	FindTime time.Duration
}

// A Path is one log file or a pattern of several.
type Path struct {
	Pattern string // as for filepath.Glob; Stdin is standard input
	Tail    bool   // start at the end instead of where reading stopped
}

// Backends as jail.conf names them; "pyinotify" is read as Inotify. Auto takes
// the files if one of them exists, else the journal if JournalMatch is set and
// there is a journal, else waits for the files. Where inotify cannot serve, as on
// network file systems or when its watches are used up, files are polled.
const (
	Auto    = "auto"
	Inotify = "inotify"
	Polling = "polling"
	Systemd = "systemd"
	Syslog  = "syslog"  // messages that others send; see Config.Listen
	Command = "command" // what a program prints; see Config.Command
)

// Validate reports what Configure would refuse: a backend nobody knows, a
// pattern that cannot be read, a path that is not absolute, a jail without name.
// It looks at no file.
func (c *Config) Validate() error {
	if c.Jail == "" {
		return fmt.Errorf("source: a jail without a name")
	}
	if _, err := backend(c.Backend); err != nil {
		return fmt.Errorf("jail %s: %w", c.Jail, err)
	}
	if _, err := envelope(c.Envelope); err != nil {
		return fmt.Errorf("jail %s: %w", c.Jail, err)
	}
	if c.Backend == Syslog && len(c.Listen) == 0 {
		return fmt.Errorf("jail %s: a syslog needs an address to listen at", c.Jail)
	}
	if c.Backend == Command && strings.TrimSpace(c.Command) == "" {
		return fmt.Errorf("jail %s: there is no command to run", c.Jail)
	}
	for _, l := range c.Listen {
		if _, err := parseListen(l); err != nil {
			return fmt.Errorf("jail %s: %w", c.Jail, err)
		}
	}
	for _, p := range c.Paths {
		if p.Pattern == Stdin {
			continue
		}
		if !filepath.IsAbs(p.Pattern) || strings.IndexByte(p.Pattern, 0) >= 0 {
			return fmt.Errorf("jail %s: log path %q is not absolute", c.Jail, p.Pattern)
		}
		if _, err := filepath.Match(p.Pattern, ""); err != nil {
			return fmt.Errorf("jail %s: log path %q: %w", c.Jail, p.Pattern, err)
		}
	}
	for _, words := range c.JournalMatch {
		for _, w := range words {
			if !isMatch(w) {
				return fmt.Errorf("jail %s: journal match %q is not FIELD=value", c.Jail, w)
			}
		}
	}
	if c.FindTime < 0 {
		return fmt.Errorf("jail %s: findtime %v is negative", c.Jail, c.FindTime)
	}
	return nil
}

// isMatch reports whether journalctl would take a word for a match: FIELD=value, the
// path of a program or device, or the "+" between alternatives.
func isMatch(word string) bool {
	if strings.IndexByte(word, 0) >= 0 {
		return false
	}
	field, _, ok := strings.Cut(word, "=")
	ok = ok && field != "" && strings.Trim(field, "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_") == ""
	return ok || word == "+" || strings.HasPrefix(word, "/")
}

// backend is the constant a configured name stands for.
func backend(name string) (string, error) {
	switch name {
	case "", Auto:
		return Auto, nil
	case Inotify, "pyinotify":
		return Inotify, nil
	case Polling, Systemd, Syslog, Command:
		return name, nil
	}
	return "", fmt.Errorf("unknown backend %q: use auto, inotify, polling, systemd, syslog or command", name)
}

// States of a source, for Status.State. Anything else there is the error that
// keeps the source from being read.
const (
	Reading = "reading"
	Waiting = "waiting for the file"
	// Starting is before the first look, a moment after the start.
	Starting = "starting"
	// Ended is a standard input that was read to its end.
	Ended = "read to its end"
)

// A Status is what one source is doing.
type Status struct {
	// Name is the file's path, Journal, a pattern that fits no file yet, Stdin, or
	// what is listened at or run.
	Name  string   `json:"name"`
	Jails []string `json:"jails"`
	// Match is what is read of a journal, in journalctl's words.
	Match string `json:"match,omitempty"`
	// Backend is Inotify, Polling, Systemd, Syslog, Command or Stdin: how news of it
	// comes.
	Backend string `json:"backend"`
	// State is Starting, Reading, Waiting, or what is wrong.
	State string `json:"state"`
	// Live is false while it catches up with what was written before the start.
	Live bool `json:"live"`
	// Lines and Bytes were read since the start, what was read again included.
	Lines int64 `json:"lines"`
	Bytes int64 `json:"bytes"`
	// Last is the wall time at which the last line was read.
	Last time.Time `json:"last,omitzero"`
	// Lag is how many bytes of a file are still to be read, a last line without
	// line end included; always 0 for a journal, which does not tell.
	Lag int64 `json:"lag"`
	// Silent is the wall time of the last line if by its habit there should have been
	// another long ago, and PerHour how many lines an hour it used to have; zero until
	// that is known.
	Silent  time.Time `json:"silent,omitzero"`
	PerHour float64   `json:"per_hour,omitempty"`
}

// become sets the state and reports whether it was another; mu guards the status.
func (st *Status) become(state string, mu *sync.Mutex) (changed bool) {
	mu.Lock()
	defer mu.Unlock()
	changed = st.State != state
	st.State = state
	return changed
}
