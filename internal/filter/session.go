package filter

import (
	"slices"
	"strings"
	"time"
)

// Bounds of what is remembered of sessions (detection.md 4.7 gives the first two).
const (
	maxSessions  = 100
	sessionTime  = 300 * time.Second // from its first line, by the clock
	maxTexts     = 8                 // of one attempt
	maxUsers     = 16                // different names that matter are two
	maxRemember  = 64                // lines
	rememberSize = 64 << 10          // bytes of them, the newest counting first
)

// sessions are the connections of one jail that are in the middle of something,
// by the text of <F-MLFID>.
type sessions struct {
	byID  map[string]*session
	order []*session // oldest first; may hold ended ones
	spare []*session // to be used again
	done  []*session // as well, but matches of the line at hand may refer to them
}

// A session is what several lines of one connection said so far.
type session struct {
	id      string
	since   time.Time // wall time of its first line
	data    fields
	room    room     // of data
	users   []string // different names, empty ones aside
	ended   bool     // it is forgotten
	pending bool     // there was a failure, but nobody knows yet whose
	lines   []string // of failures
	quiet   []string // lines that were no failures, since the last failure
	attempt attempt
}

// An attempt is what the last failure of a session that bore <F-MLFATTEMPT> was told by.
// A service may report one attempt in several ways: sshd says "Invalid user x" and
// then "Failed password for invalid user x". So a line in which the tag captures another
// text, from the same address, belongs to the attempt before it; the same text
// again is a new attempt.
type attempt struct {
	addr  string
	texts []string
}

// repeats reports whether a line tells once more of the attempt; if not, it begins a
// new one. A line without address is taken to be from the session's.
func (a *attempt) repeats(line, session *fields) bool {
	text := strings.Clone(line.get(fieldAttempt))
	if !line.identified() {
		line = session
	}
	if !line.identified() {
		return false
	}
	addr := line.get(fieldIP4) + "\x00" + line.get(fieldIP6) + "\x00" + line.get(fieldDNS) + "\x00" + line.get(fieldFID)
	if len(a.texts) > 0 && len(a.texts) < maxTexts && a.addr == addr && !slices.Contains(a.texts, text) {
		a.texts = append(a.texts, text)
		return true
	}
	a.addr, a.texts = addr, append(a.texts[:0], text)
	return false
}

// merge adds what matched a line that bears a session's name, and gives m what the
// session's lines say together and which lines prove it. It is false if there is no
// failure yet; then m has only what its line says.
//
// A line may say of itself that it is no failure (NOFAIL), that access was granted
// (GAINED, which is NOFAIL too), or that the session is over (FORGET). What it says
// of NOFAIL does not hold while a failure waits for its address, nor in a session
// that went through more than one user name.
func (ss *sessions) merge(m *match, read time.Time) (failed bool) {
	line := &m.data
	gained := line.get(fieldGained) != ""
	if gained && line.get(fieldNofail) == "" {
		line.set(fieldNofail, line.get(fieldGained))
	}
	forget := line.get(fieldForget) != ""

	id := line.get(fieldMLFID)
	s := ss.get(id, read)
	isAttempt := line.get(fieldAttempt) != ""
	if s != nil && isAttempt && s.attempt.repeats(line, &s.data) && !s.pending {
		s.addUser(strings.Clone(line.get(fieldUser)))
		return false
	}
	if s == nil {
		s = ss.fresh(read)
		if forget {
			s.data.setAll(line) // it is gone before the line is
			ss.keep(s)
		} else {
			s.data.keep(line, &s.room)
			ss.put(s)
		}
		s.addUser(s.data.get(fieldUser))
		if isAttempt {
			s.attempt.repeats(line, &fields{})
		}
	} else {
		quietBefore := s.data.get(fieldNofail) != "" || s.data.get(fieldGained) != ""
		s.data.remove(fieldNofail)
		s.data.remove(fieldGained)
		if gained {
			s.pending = false
		}
		if !quietBefore && !s.pending {
			s.lines = s.lines[:0] // they were told already
		}
		s.data.keep(line, &s.room)
		s.addUser(s.data.get(fieldUser))
		if forget {
			ss.end(s)
		}
	}
	if s.pending || len(s.users) >= 2 {
		s.data.remove(fieldNofail)
		s.data.remove(fieldGained)
		s.pending = false
	}
	if s.data.get(fieldNofail) != "" {
		if !forget {
			s.quiet = remember(s.quiet, m.lines...)
		}
		return false
	}
	for _, l := range s.lines {
		s.quiet = remember(s.quiet, l)
	}
	s.lines, s.quiet = remember(s.quiet, m.lines...), s.lines[:0]
	if !s.data.identified() {
		s.pending, m.waits = true, true
		return false
	}
	m.data.has = 0
	m.data.setAll(&s.data)
	m.lines = append(m.lines[:0], s.lines...)
	return true
}

// fresh is a new session, made of one that was forgotten if there is one.
func (ss *sessions) fresh(since time.Time) *session {
	if len(ss.spare) == 0 {
		return &session{since: since}
	}
	last := len(ss.spare) - 1
	s := ss.spare[last]
	ss.spare = ss.spare[:last]
	s.room.clear()
	*s = session{
		since: since,
		data:  fields{values: s.data.values}, room: s.room, users: s.users[:0], lines: s.lines[:0], quiet: s.quiet[:0],
		attempt: attempt{texts: s.attempt.texts[:0]},
	}
	return s
}

// get is the session of that name, unless it is too old.
func (ss *sessions) get(id string, now time.Time) *session {
	s := ss.byID[id]
	if s != nil && now.Sub(s.since) > sessionTime {
		ss.end(s)
		return nil
	}
	return s
}

// put adds a session; if there are too many, the oldest is forgotten.
func (ss *sessions) put(s *session) {
	if ss.byID == nil {
		ss.byID = make(map[string]*session)
	}
	for len(ss.byID) >= maxSessions {
		ss.forgetOldest()
	}
	s.id = s.data.get(fieldMLFID)
	ss.byID[s.id] = s
	ss.order = append(ss.order, s)
	if len(ss.order) > 2*maxSessions {
		ss.order = slices.DeleteFunc(ss.order, func(o *session) bool {
			if o.ended {
				ss.keep(o)
			}
			return o.ended
		})
	}
}

func (ss *sessions) forgetOldest() {
	for i, o := range ss.order {
		ss.keep(o)
		if !o.ended {
			ss.end(o)
			ss.order = ss.order[i+1:]
			return
		}
	}
}

// keep has a session that is out of the order used again, unless it has grown large.
func (ss *sessions) keep(s *session) {
	if len(s.lines)+len(s.quiet) < maxTexts && len(ss.done) < maxSessions {
		ss.done = append(ss.done, s)
	}
}

// next says that nobody refers to matches of the line before any more.
func (ss *sessions) next() {
	ss.spare = append(ss.spare, ss.done...)
	ss.spare = ss.spare[:min(len(ss.spare), maxSessions)]
	ss.done = ss.done[:0]
}

// end forgets a session, but for its place in the order.
func (ss *sessions) end(s *session) {
	delete(ss.byID, s.id)
	s.ended = true
}

func (s *session) addUser(name string) {
	if name != "" && len(s.users) < maxUsers && !slices.Contains(s.users, name) {
		s.users = append(s.users, name)
	}
}

// remember appends lines and drops the oldest beyond the bounds.
func remember(lines []string, more ...string) []string {
	lines = append(lines, more...)
	size, keep := 0, 0
	for keep < len(lines) && keep < maxRemember {
		if size += len(lines[len(lines)-1-keep]); size > rememberSize && keep > 0 {
			break
		}
		keep++
	}
	return slices.Delete(lines, 0, len(lines)-keep)
}
