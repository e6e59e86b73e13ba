// Package bantam holds the values that travel through the program, and nothing
// that does anything:
//
//	source ──Line──▶ filter ──Failure──▶ lookup ──▶ jail ──Decision──▶ store ──▶ action
//
// A Line is read by a source. A filter judges it and makes a Failure of it if it
// is hostile. A jail counts Failures and makes a Decision that starts, prolongs
// or ends a Ban. The store writes the Decision down before an action carries it out.
//
// Two clocks are told apart everywhere. Event time is what the log line says and
// decides whether there is a ban; wall time is the machine's and ends it.
//
// The package imports only the standard library, does no I/O and starts nothing.
// Its JSON is the one of the control socket and of `--json` output.
package bantam

import "time"

// Version is the release this source is, in the form of semver.org.
const Version = "0.1.0"

// A Position is a place in a log source up to which lines have been read: the
// next line begins there.
type Position struct {
	// Source names the source: an absolute path, or "journal".
	Source string `json:"source"`
	// Mark tells one file from its successor under the same name: the SHA-1 of
	// its first line in hex (Fail2Ban's logs.firstlinemd5, detection.md 7.3).
	// For a journal it is the cursor.
	Mark string `json:"mark,omitempty"`
	// Offset is in bytes from the start of the file; for a journal it is the
	// entry's __REALTIME_TIMESTAMP in microseconds.
	Offset int64 `json:"offset"`
	// Time is the event time of the last line before the position that bore one.
	Time time.Time `json:"time,omitzero"`
}

// A Line is one line of a log as a source hands it to a filter.
type Line struct {
	// Text is the line without its line end, undecoded. It belongs to the
	// source and is valid only during the call that receives it.
	Text []byte
	// Position is where the line ends and the next one begins. Its Time is not set.
	Position Position
	// Time is the event time when the source knows it, as a journal does;
	// zero when it has to be found in the text.
	Time time.Time
	// Read is the wall time at which the line was read.
	Read time.Time
	// Live is false while a source catches up with what was written before it
	// was opened, and true from the first time it reached the end on.
	Live bool
}

// A Failure is a line, or several of one session, that a filter judged hostile
// for one jail.
type Failure struct {
	Jail string `json:"jail"`
	// ID is who failed. It is zero when only a host name is known yet.
	ID ID `json:"id,omitzero"`
	// Host is a host name still to be resolved; lookup makes one Failure with
	// an ID per address of it.
	Host string `json:"host,omitempty"`
	// Time is event time.
	Time time.Time `json:"time"`
	// Lines are the log lines that make up the failure, oldest first, as
	// logged: attacker's text.
	Lines []string `json:"lines,omitempty"`
	// User is who the attacker claimed to be; attacker's text.
	User string `json:"user,omitempty"`
	// Data are the filter's other named groups by lower-case name, or nil.
	Data map[string]string `json:"data,omitempty"`
	// Country is where the ID is, as ISO 3166-1 alpha-2 in capitals; lookup finds it. Empty
	// where that is not known.
	Country string `json:"country,omitempty"`
	// Read is the wall time at which its last line was read. What was older than
	// findtime by then does not count, unless Known.
	Read time.Time `json:"-"`
	// Regex is the number of the failregex that matched, from 1 on.
	Regex int `json:"regex,omitempty"`
	// Position is where the line that completed the failure ends.
	Position Position `json:"position,omitzero"`
	// Known is true for lines that were read before a restart: they fill the
	// counts again but decide nothing.
	Known bool `json:"known,omitempty"`
}

// Sources of a ban, for Ban.By.
const (
	ByFailures = "failures" // the jail counted them
	ByOperator = "operator" // somebody asked for it
	ByPeer     = "peer"     // another host of the fleet decided it
)

// A Ban shuts one ID out of what one jail protects.
type Ban struct {
	Jail string `json:"jail"`
	ID   ID     `json:"id"`
	// Time is when the ban starts: the event time of its last failure, or the
	// wall time of an operator's order.
	Time time.Time `json:"time"`
	// End is when it ends, in wall time; zero means never.
	End time.Time `json:"end,omitzero"`
	// Failures is how many failures made it.
	Failures int `json:"failures"`
	// Count is how often the ID has been banned in this jail, this time included.
	Count int `json:"count"`
	// Lines are the log lines behind it, oldest first; attacker's text.
	Lines []string `json:"lines,omitempty"`
	// User is the first failure's; attacker's text.
	User string `json:"user,omitempty"`
	// Data are the first failure's other named groups.
	Data map[string]string `json:"data,omitempty"`
	// Country is the last failure's, or that of the ID an operator banned. It is not stored.
	Country string `json:"country,omitempty"`
	// By is one of ByFailures, ByOperator, ByPeer.
	By string `json:"by"`
	// Reason is what the operator gave as one; of a ban that is held back, why.
	Reason string `json:"reason,omitempty"`
	// Observed is true for a ban of a jail that only observes, and for one that is held
	// back: it is written down and never carried out.
	Observed bool `json:"observed,omitempty"`
}

// Held reports whether the ban is held back: failures made it, and it would hit somebody who
// administrates this machine. Reason says whom.
func (b *Ban) Held() bool { return b.Observed && b.By != ByOperator && b.Reason != "" }

// Permanent reports whether the ban never ends by itself.
func (b *Ban) Permanent() bool { return b.End.IsZero() }

// Expired reports whether the ban's end has passed at the wall time now.
func (b *Ban) Expired(now time.Time) bool { return !b.Permanent() && now.After(b.End) }

// A Kind says what a Decision does to its Ban.
type Kind string

// The kinds of decisions.
const (
	Start   Kind = "start"   // the ban begins
	Prolong Kind = "prolong" // the ban was running and now ends later
	End     Kind = "end"     // the ban is over
	Restore Kind = "restore" // the ban was running before a restart; known to the store
)

// Why a ban ended, for Decision.Cause of kind End.
const (
	CauseExpired  = "expired"  // its time was up
	CauseOperator = "operator" // somebody lifted it
	CauseAllowed  = "allowed"  // its ID is never to be banned any more
	CauseRemoved  = "removed"  // its jail is gone
)

// A Decision is what a jail decided about one ban.
type Decision struct {
	// Seq numbers the decisions of one run of the daemon from 1 on, in the order
	// in which they were made and are carried out.
	Seq  uint64 `json:"seq"`
	Kind Kind   `json:"kind"`
	Ban  Ban    `json:"ban"`
	// At is the wall time of the decision.
	At time.Time `json:"at"`
	// Cause says why a ban ended; empty for other kinds.
	Cause string `json:"cause,omitempty"`
	// Positions are how far the jail had read when it decided, for each source
	// that moved since its last decision. They are stored with it, so that after a
	// restart the lines before them decide nothing twice.
	Positions []Position `json:"positions,omitempty"`
}

// A News is a decision that somebody is still to be told. Its Decision's Ban is what the
// store remembers of it now, so that its End may be later than when it was decided.
type News struct {
	// Number grows with every decision that is kept to be told, also across restarts.
	Number   int64
	Decision Decision
}
