package store

import (
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"bantam"
	"bantam/internal/jsonline"
)

// peerJournal is what Fail2Ban calls the journal among its logs.
const peerJournal = "systemd-journal"

// Lengths of bans in Fail2Ban's tables that are none.
const (
	peerForEver = -1
	peerUnknown = -2 // of a file that was older than version 3
)

// peerTime is a time as Fail2Ban stores it, in whole seconds.
func peerTime(t time.Time) int64 { return int64(math.Round(float64(micros(t)) / 1e6)) }

// peerLength is how long a ban lasts in seconds: an integer if it can be one.
func peerLength(b *bantam.Ban) any {
	if b.Permanent() {
		return int64(peerForEver)
	}
	length := b.End.Sub(b.Time)
	if length%time.Second == 0 {
		return int64(length / time.Second)
	}
	return length.Seconds()
}

// peerData is what Fail2Ban keeps of a ban beside its columns, as JSON: the lines, in the
// form of jsonList, the failures and the named groups.
func peerData(b *bantam.Ban, lines []byte) []byte {
	out := make([]byte, 0, len(lines)+128)
	out = append(out, `{"matches": `...)
	if len(lines) == 0 {
		lines = []byte("[]")
	}
	out = append(out, lines...)
	out = fmt.Appendf(out, `, "failures": %d`, b.Failures)
	add := func(key, value string) {
		out = append(out, ", "...)
		out = appendJSON(out, key)
		out = append(out, ": "...)
		out = appendJSON(out, value)
	}
	if b.User != "" {
		add("user", b.User)
	}
	for _, key := range slices.Sorted(maps.Keys(b.Data)) {
		switch key {
		case "matches", "failures", "user", "ip4", "ip6":
		default:
			add(key, b.Data[key])
		}
	}
	if p, ok := b.ID.Prefix(); ok && b.By == bantam.ByFailures {
		if p.Addr().Is4() {
			add("ip4", b.ID.String())
		} else {
			add("ip6", b.ID.String())
		}
	}
	return append(out, '}')
}

// readPeerData is peerData backwards, of whatever Fail2Ban, or a script, wrote: what
// cannot be read is left out, as the lines behind a ban are no reason to lose it.
func readPeerData(b *bantam.Ban, data []byte) {
	var fields map[string]json.RawMessage
	if json.Unmarshal(data, &fields) != nil {
		return
	}
	for key, raw := range fields {
		var text string
		switch key {
		case "matches":
			var matches []json.RawMessage
			_ = json.Unmarshal(raw, &matches)
			for _, m := range matches {
				var parts []string // the line cut where its date was
				if json.Unmarshal(m, &text) == nil {
					parts = []string{text}
				} else if json.Unmarshal(m, &parts) != nil {
					continue
				}
				b.Lines = append(b.Lines, strings.Join(parts, ""))
			}
		case "failures":
			var n float64
			if json.Unmarshal(raw, &n) == nil && n >= 0 && n <= math.MaxInt32 {
				b.Failures = int(n)
			}
		case "ip4", "ip6": // the ID says it
		default:
			if json.Unmarshal(raw, &text) != nil {
				continue
			}
			if key == "user" {
				b.User = text
				continue
			}
			if b.Data == nil {
				b.Data = map[string]string{}
			}
			b.Data[key] = text
		}
	}
}

// jsonList is lines as a JSON list, nil for none. Log lines may hold bytes that are no
// UTF-8; JSON has replacement characters for them.
func jsonList(lines []string) []byte {
	if len(lines) == 0 {
		return nil
	}
	n := 2
	for _, line := range lines {
		n += len(line) + 4
	}
	out := append(make([]byte, 0, n), '[')
	for i, line := range lines {
		if i > 0 {
			out = append(out, ", "...)
		}
		out = appendJSON(out, line)
	}
	return append(out, ']')
}

// readList is jsonList backwards, nil for what is no list of strings. There may be a million to read at
// the start, so lines without escapes stay parts of the text.
func readList(text string) (lines []string) {
	rest, ok := strings.CutPrefix(text, "[")
	for ok {
		if rest, ok = strings.CutPrefix(skipSpace(rest), `"`); !ok {
			break
		}
		end := strings.IndexByte(rest, '"')
		if end < 0 {
			break
		}
		if line := rest[:end]; strings.IndexByte(line, '\\') < 0 {
			lines, rest = append(lines, line), rest[end+1:]
		} else {
			line, after, ok := jsonline.Unquote(nil, []byte(rest))
			if !ok {
				return nil
			}
			lines, rest = append(lines, string(line)), rest[len(rest)-len(after):]
		}
		if rest = skipSpace(rest); rest == "]" {
			return lines
		}
		rest, ok = strings.CutPrefix(rest, ",")
	}
	return nil
}

func skipSpace(s string) string { return strings.TrimLeft(s, " \t\r\n") }

// appendJSON adds a text in JSON's form. Like Fail2Ban it escapes only what must be,
// which encoding/json does not: it escapes U+2028, and takes its time.
func appendJSON(out []byte, text string) []byte {
	const hex = "0123456789abcdef"
	out = append(out, '"')
	done := 0
	for i := 0; i < len(text); {
		c := text[i]
		if c >= utf8.RuneSelf {
			r, n := utf8.DecodeRuneInString(text[i:])
			if r == utf8.RuneError && n == 1 {
				out = append(append(out, text[done:i]...), "\uFFFD"...)
				done = i + 1
			}
			i += n
			continue
		}
		i++
		if c >= ' ' && c != '"' && c != '\\' {
			continue
		}
		out = append(out, text[done:i-1]...)
		switch c {
		case '"', '\\':
			out = append(out, '\\', c)
		case '\n':
			out = append(out, `\n`...)
		case '\t':
			out = append(out, `\t`...)
		case '\r':
			out = append(out, `\r`...)
		default:
			out = append(out, `\u00`...)
			out = append(out, hex[c>>4], hex[c&15])
		}
		done = i
	}
	return append(append(out, text[done:]...), '"')
}

// peerLog is a position as Fail2Ban's table of logs has it.
type peerLog struct {
	path, mark string
	offset     any // bytes; of the journal seconds, maybe with a fraction
}

// peerLogOf is false for what Fail2Ban knows no name for.
func peerLogOf(p bantam.Position) (peerLog, bool) {
	switch {
	case strings.HasPrefix(p.Source, "/"):
		return peerLog{p.Source, p.Mark, p.Offset}, true
	case p.Source == "journal":
		at := time.UnixMicro(p.Offset).UTC()
		return peerLog{peerJournal, at.Format("2006-01-02T15:04:05.000000"), float64(p.Offset) / 1e6}, true
	}
	return peerLog{}, false
}

// position is the place that Fail2Ban's position stands for. The journal's has no
// cursor: its time is where to go on.
func (l peerLog) position() bantam.Position {
	var at float64
	switch offset := l.offset.(type) {
	case int64:
		at = float64(offset)
	case float64:
		at = offset
	}
	if at < 0 || at > math.MaxInt64/2e6 || math.IsNaN(at) {
		at = 0
	}
	if l.path == peerJournal {
		return bantam.Position{Source: "journal", Offset: int64(math.Round(at * 1e6))}
	}
	return bantam.Position{Source: l.path, Mark: l.mark, Offset: int64(at)}
}

// rowsAtOnce is how many bans one statement writes: it saves a third of the time.
const rowsAtOnce = 16

const (
	deleteOne   = `DELETE FROM bans WHERE ip = ? AND jail = ? AND timeofban = ?`
	knowJail    = `INSERT INTO jails (name, enabled) VALUES (?, 1) ON CONFLICT (name) DO UPDATE SET enabled = 1 WHERE enabled != 1`
	putPosition = `INSERT OR REPLACE INTO bantam_position VALUES (?,?,?,?,?)`
	// putLog leaves alone what does not change: the row would be new in four indexes else.
	putLog = `INSERT INTO logs (jail, path, firstlinemd5, lastfilepos) VALUES (?,?,?,?)
		ON CONFLICT (jail, path) DO UPDATE SET firstlinemd5 = excluded.firstlinemd5, lastfilepos = excluded.lastfilepos`
	endBan      = `UPDATE bantam_ban SET ended = ?, cause = ? WHERE jail = ? AND id = ? AND ended IS NULL`
	ownRow      = `(?,?,?,?,?,?,?,?,?,?,?,?,NULL,NULL,NULL)`
	peerColumns = ` (jail, ip, timeofban, bantime, bancount, data) VALUES `
	peerRow     = `(?,?,?,?,?,?)`
)

// insertBans, insertHistory and insertLast write the same bans to our table and to
// Fail2Ban's two: the history, and the last of each ID. OR FAIL is because a statement that
// undoes itself notes each page it changes: a row that cannot be written spoils the whole
// transaction here, or is written again by itself.
var (
	insertBans, _ = inserts(`INSERT OR FAIL INTO bantam_ban VALUES `, ownRow, "")
	// A ban may start again at the second in which it was lifted.
	_, startBan = inserts(`INSERT INTO bantam_ban VALUES `, ownRow, ` ON CONFLICT DO UPDATE
		SET until = excluded.until, ended = NULL, cause = NULL, forgiven = NULL, observed = excluded.observed, count = excluded.count`)
	insertHistory, insertHistory1 = inserts(`INSERT OR FAIL INTO bans`+peerColumns, peerRow, "")
	insertLast, insertLast1       = inserts(`INSERT OR FAIL INTO bips`+peerColumns, peerRow, ` ON CONFLICT (ip, jail) DO UPDATE
		SET timeofban = excluded.timeofban, bantime = excluded.bantime, bancount = excluded.bancount, data = excluded.data`)
)

func inserts(head, row, tail string) (many, one string) {
	return head + strings.Repeat(row+",", rowsAtOnce-1) + row + tail, head + row + tail
}

// rows are bans that wait to be written together.
type rows struct {
	bans       []*bantam.Ban
	own, peers []any // the values of bans, and of those that are not observed
	mirrored   int   // how many of bans are not observed
}

func (r *rows) add(b *bantam.Ban, maxMatches int) {
	kept := b.Lines[max(0, len(b.Lines)-maxMatches):]
	lines, id := jsonList(kept), b.ID.String()
	r.bans = append(r.bans, b)
	r.own = append(r.own, b.Jail, id, micros(b.Time), micros(b.End), b.Failures, b.Count, b.By, b.Reason, b.User, b.Observed,
		text(lines), object(b.Data))
	if !b.Observed {
		r.mirrored++
		r.peers = append(r.peers, b.Jail, id, peerTime(b.Time), peerLength(b), b.Count, peerData(b, lines))
	}
}

// text is JSON as SQLite's text, NULL for none.
func text(json []byte) any {
	if len(json) == 0 {
		return nil
	}
	return string(json)
}

func (r *rows) reset() {
	clear(r.own)
	clear(r.peers)
	r.bans, r.own, r.peers, r.mirrored = r.bans[:0], r.own[:0], r.peers[:0], 0
}

// flush writes the bans that wait.
func (r *rows) flush(st *statements) error {
	defer r.reset()
	if len(r.bans) == rowsAtOnce && r.mirrored == rowsAtOnce {
		err := st.exec(insertBans, r.own...)
		if err == nil {
			if err := st.exec(insertHistory, r.peers...); err != nil {
				return err
			}
			return st.exec(insertLast, r.peers...)
		}
		if !isConstraint(err) { // one of them is there
			return err
		}
	}
	const own, peer = 12, 6
	rest := r.peers
	for i, b := range r.bans {
		if err := st.exec(startBan, r.own[i*own:(i+1)*own]...); err != nil {
			return err
		}
		if b.Observed {
			continue
		}
		values := rest[:peer]
		rest = rest[peer:]
		// What the key has in our table, it has in Fail2Ban's.
		if err := st.exec(deleteOne, values[1], values[0], values[2]); err != nil {
			return err
		}
		if err := st.exec(insertHistory1, values...); err != nil {
			return err
		}
		if err := st.exec(insertLast1, values...); err != nil {
			return err
		}
	}
	return nil
}

// writeDecisions writes what decisions say in both programs' tables. A decision's jail
// is made known to Fail2Ban's first, whose other tables refer to it.
func (s *Store) writeDecisions(st *statements, decisions []bantam.Decision) error {
	type place struct{ jail, source string }
	positions := map[place]bantam.Position{}
	var waiting rows
	maxMatches := s.MaxMatches()
	for i := range decisions {
		d := &decisions[i]
		if err := st.knowJail(d.Ban.Jail); err != nil {
			return err
		}
		for _, p := range d.Positions {
			positions[place{d.Ban.Jail, p.Source}] = p
		}
		var err error
		if d.Kind == bantam.Start {
			if waiting.add(&d.Ban, maxMatches); len(waiting.bans) == rowsAtOnce {
				err = waiting.flush(st)
			}
		} else if d.Kind != bantam.Restore {
			if err = waiting.flush(st); err == nil {
				err = writeChange(st, d)
			}
		}
		if err != nil {
			return fmt.Errorf("write the decision on %s in %s: %w", d.Ban.ID, d.Ban.Jail, err)
		}
	}
	if err := waiting.flush(st); err != nil {
		return fmt.Errorf("write decisions: %w", err)
	}
	for at, p := range positions {
		if err := writePosition(st, at.jail, p); err != nil {
			return fmt.Errorf("write the position of %s in %s: %w", at.jail, p.Source, err)
		}
	}
	if err := s.writeNews(st, decisions); err != nil {
		return fmt.Errorf("write the news: %w", err)
	}
	return nil
}

// writeChange writes a decision about a ban that is there.
func writeChange(st *statements, d *bantam.Decision) error {
	b := &d.Ban
	id := b.ID.String()
	switch d.Kind {
	case bantam.Prolong:
		err := st.exec(`UPDATE bantam_ban SET until = ? WHERE jail = ? AND id = ? AND ended IS NULL`, micros(b.End), b.Jail, id)
		if err != nil || b.Observed {
			return err
		}
		if err := st.exec(`UPDATE bips SET bantime = ? WHERE ip = ? AND jail = ?`, peerLength(b), id, b.Jail); err != nil {
			return err
		}
		return st.exec(`UPDATE bans SET bantime = ? WHERE ip = ? AND jail = ? AND timeofban = ?`, peerLength(b), id, b.Jail, peerTime(b.Time))
	case bantam.End:
		// The bans of a jail that is gone come back with it.
		if d.Cause != bantam.CauseRemoved {
			err := st.exec(endBan,
				micros(d.At), d.Cause, b.Jail, id)
			if err != nil {
				return err
			}
		}
		if d.Cause != bantam.CauseOperator && d.Cause != bantam.CauseAllowed {
			return nil
		}
		err := st.exec(`UPDATE bantam_ban SET forgiven = ? WHERE jail = ? AND id = ? AND forgiven IS NULL`, micros(d.At), b.Jail, id)
		if err != nil {
			return err
		}
		for _, table := range []string{"bips", "bans"} { // as Fail2Ban itself does
			if err := st.exec(`DELETE FROM `+table+` WHERE ip = ? AND jail = ?`, id, b.Jail); err != nil {
				return err
			}
		}
	}
	return nil
}

// knowJail tells Fail2Ban's tables of a jail. It is enabled there, as in a Fail2Ban that
// runs it.
func (st *statements) knowJail(jail string) error {
	if st.jails[jail] {
		return nil
	}
	st.jails[jail] = true
	return st.exec(knowJail, jail)
}

func writePosition(st *statements, jail string, p bantam.Position) error {
	if err := st.exec(putPosition, jail, p.Source, p.Mark, p.Offset, micros(p.Time)); err != nil {
		return err
	}
	log, ok := peerLogOf(p)
	if !ok {
		return nil
	}
	if err := st.knowJail(jail); err != nil {
		return err
	}
	return st.exec(putLog, jail, log.path, log.mark, log.offset)
}
