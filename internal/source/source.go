// Package source reads logs and hands each line, once, to the filter of all the
// jails that watch it.
//
// It promises that every complete line is read exactly once and in order: through
// rename, copytruncate, deletion and re-creation, across restarts, and whatever
// the line holds. A log that is not there yet is waited for. A line longer than
// MaxLine is cut to it, so memory is bounded by the number of sources.
//
// What a line means is left to the filter, what a failure means to the jail.
package source

import (
	"time"

	"bantam"
)

// MaxLine is the longest line handed on, in bytes; the rest of a longer one is
// read and dropped.
const MaxLine = 64 << 10

// A Judge is what lines are handed to: the filter of all jails of one source.
// A source calls it from one goroutine only.
type Judge interface {
	// Judge appends to out the failures that the line completes. It neither
	// keeps nor changes line.Text.
	Judge(line *bantam.Line, out []bantam.Failure) []bantam.Failure
	// Time is the event time written in a line, without counting it as read.
	// It serves the search for the place to start at.
	Time(text []byte, now time.Time) (t time.Time, ok bool)
}

// A Config says where one jail's lines come from.
type Config struct {
	Jail string
	// Paths are the log files; none is allowed.
	Paths []Path
	// JournalMatch are the matches of a journal source in journalctl's words
	// ("_SYSTEMD_UNIT=ssh.service", "+"), one slice per alternative. Nil means
	// that the jail does not read the journal.
	JournalMatch [][]string
	// Backend is Auto, Inotify, Polling or Systemd.
	Backend string
	// FindTime is how far back lines count; reading starts no further back.
	FindTime time.Duration
}

// A Path is one log file or a pattern of several.
type Path struct {
	Pattern string // as for filepath.Glob
	Tail    bool   // start at the end instead of where reading stopped
}

// Backends as jail.conf names them; "pyinotify" is read as Inotify. Auto takes
// the files if one of them exists, else the journal if JournalMatch is set and
// there is a journal, else waits for the files.
const (
	Auto    = "auto"
	Inotify = "inotify"
	Polling = "polling"
	Systemd = "systemd"
)
