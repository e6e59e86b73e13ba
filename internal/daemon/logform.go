package daemon

import (
	"encoding"
	"encoding/binary"
	"fmt"
	"log/slog"
	"os"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"bantam"
)

// mostShown is how many bytes of a text a line shows; who is logged chooses some of them.
const mostShown = 1000

// A kind is what lines are made into.
type kind int

const (
	structured kind = iota // key=value, as log/slog's text
	lines                  // Fail2Ban's lines
	syslog                 // RFC 3164's datagrams as Fail2Ban makes them: without time and host
	journal                // journald's native protocol
)

// waits reports whether who logs waits for room. Sockets may be gone for long.
func (k kind) waits() bool { return k == structured || k == lines }

// A form makes lines of entries.
type form struct {
	kind     kind
	layout   []segment // of Fail2Ban's line, what wraps it apart
	facility int       // of syslog
	bare     bool      // syslog and journal without Fail2Ban's names

	second int64  // the last second that was written
	stamp  []byte // and how, without its fraction
}

// An entry is what is logged.
type entry struct {
	time   time.Time
	level  slog.Level
	logger string // Fail2Ban's, without "fail2ban."
	text   string // the sentence, of ours alone
	line   []byte // Fail2Ban's message; empty if text and attrs make it
	attrs  []slog.Attr
}

// entryOf makes an entry.
func entryOf(at time.Time, level slog.Level, logger, text string, attrs ...slog.Attr) entry {
	return entry{time: at, level: level, logger: logger, text: text, attrs: attrs}
}

var pid = strconv.Itoa(os.Getpid())

// append appends the line of an entry, its end included.
func (f *form) append(b []byte, e *entry) []byte {
	switch f.kind {
	case structured:
		b = append(b, "time="...)
		if second := e.time.Unix(); second != f.second || len(f.stamp) == 0 {
			f.second, f.stamp = second, e.time.AppendFormat(f.stamp[:0], "2006-01-02T15:04:05Z07:00")
		}
		b = append(b, f.stamp[:len(fail2banTime)]...)
		b = append(appendMilliseconds(append(b, '.'), e.time), f.stamp[len(fail2banTime):]...)
		b = append(b, " level="...)
		b = append(b, structuredLevel(e.level)...)
		b = append(b, " msg="...)
		b = appendWord(b, e.text)
		b = appendAttrs(b, e.attrs)
	case lines:
		b = f.appendLayout(b, e)
	case syslog:
		b = append(b, '<')
		b = strconv.AppendInt(b, int64(f.facility*8+levels[levelAt(e.level)].severity), 10)
		b = append(b, '>')
		if f.bare {
			b = append(b, "bantam["...)
			b = append(b, pid...)
			b = append(b, "]: "...)
			b = e.appendMessage(b)
		} else {
			b = f.appendLayout(b, e)
		}
		return append(b, 0)
	case journal:
		return f.appendJournal(b, e)
	}
	return append(b, '\n')
}

func appendMilliseconds(b []byte, at time.Time) []byte {
	ms := at.Nanosecond() / int(time.Millisecond)
	return append(b, byte('0'+ms/100), byte('0'+ms/10%10), byte('0'+ms%10))
}

// structuredLevel is a level's word where there is no fail2ban.conf.
func structuredLevel(level slog.Level) string {
	if level == slog.LevelWarn {
		return "WARN" // log/slog's
	}
	return levels[levelAt(level)].shown
}

// appendMessage is what an entry says, in Fail2Ban's words where it has any.
func (e *entry) appendMessage(b []byte) []byte {
	if len(e.line) > 0 {
		return append(b, e.line...)
	}
	return appendAttrs(append(b, e.text...), e.attrs)
}

// appendJournal is an entry for journald. No value holds a line end, so that each field is
// one line, but for those who log what they should not.
func (f *form) appendJournal(b []byte, e *entry) []byte {
	field := func(key string, value func([]byte) []byte) {
		b = append(b, key...)
		at := len(b)
		b = value(append(b, '='))
		text := b[at+1:]
		if strings.IndexByte(string(text), '\n') < 0 {
			b = append(b, '\n')
			return
		}
		text = append([]byte(nil), text...)
		b = binary.LittleEndian.AppendUint64(append(b[:at], '\n'), uint64(len(text)))
		b = append(append(b, text...), '\n')
	}
	word := func(s string) func([]byte) []byte { return func(b []byte) []byte { return append(b, s...) } }
	identifier := "fail2ban"
	if f.bare {
		identifier = "bantam"
		field("MESSAGE", e.appendMessage)
	} else {
		field("MESSAGE", func(b []byte) []byte { return f.appendLayout(b, e) })
		field("LOGGER", word("fail2ban."+e.logger))
	}
	field("PRIORITY", func(b []byte) []byte {
		return strconv.AppendInt(b, int64(levels[levelAt(e.level)].severity), 10)
	})
	field("SYSLOG_IDENTIFIER", word(identifier))
	field("SYSLOG_PID", word(pid))
	field("BANTAM_EVENT", word(e.text))
	for _, a := range e.attrs {
		field("BANTAM_"+fieldName(a.Key), func(b []byte) []byte { return appendClean(b, textOf(a.Value)) })
	}
	return b
}

// fieldName makes a name of journald's of a key.
func fieldName(key string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z':
			return r - 'a' + 'A'
		case r >= 'A' && r <= 'Z', r >= '0' && r <= '9':
			return r
		}
		return '_'
	}, key)
}

// appendAttrs is the tail of a line: what is known, as key=value.
func appendAttrs(b []byte, attrs []slog.Attr) []byte {
	for _, a := range attrs {
		b = append(b, ' ')
		b = append(b, a.Key...)
		b = append(b, '=')
		b = appendWord(b, textOf(a.Value))
	}
	return b
}

// textOf is a value as text.
func textOf(v slog.Value) string {
	v = v.Resolve()
	switch v.Kind() {
	case slog.KindString:
		return v.String()
	case slog.KindTime:
		return v.Time().Format("2006-01-02T15:04:05.000Z07:00")
	case slog.KindAny:
		switch x := v.Any().(type) {
		case error:
			return x.Error()
		case fmt.Stringer:
			return x.String()
		case encoding.TextMarshaler:
			if text, err := x.MarshalText(); err == nil {
				return string(text)
			}
		}
	}
	return v.String()
}

// appendWord appends a text, quoted if it could be taken for more than one word.
func appendWord(b []byte, s string) []byte {
	plain := s != ""
	for i := 0; plain && i < len(s); i++ {
		plain = s[i] > ' ' && s[i] < 0x7f && s[i] != '"' && s[i] != '='
	}
	if s, cut := cutText(s); cut || !plain {
		b = strconv.AppendQuote(b, s)
		if cut {
			b = append(b, "…"...)
		}
		return b
	}
	return append(b, s...)
}

// cutText is a text of at most mostShown bytes.
func cutText(s string) (text string, cut bool) {
	if len(s) <= mostShown {
		return s, false
	}
	n := mostShown
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n], true
}

// appendClean appends a text without quotes: what a terminal or a reader of lines would obey
// is escaped.
func appendClean(b []byte, s string) []byte {
	s, cut := cutText(s)
	for len(s) > 0 {
		r, n := utf8.DecodeRuneInString(s)
		switch {
		case r == utf8.RuneError && n == 1:
			b = append(b, `\x`...)
			b = append(b, hex[s[0]>>4], hex[s[0]&15])
		case unicode.IsPrint(r):
			b = append(b, s[:n]...)
		default:
			quoted := strconv.AppendQuoteRune(nil, r)
			b = append(b, quoted[1:len(quoted)-1]...)
		}
		s = s[n:]
	}
	if cut {
		b = append(b, "…"...)
	}
	return b
}

const hex = "0123456789abcdef"

// appendID appends who is meant. A text, which an attacker may have written, cannot end the
// bracket that a jail's name stands in: filters that read this log go by it, and would find
// another ban in it.
func appendID(b []byte, id bantam.ID) []byte {
	p, ok := id.Prefix()
	switch {
	case !ok:
		return appendClean(b, strings.ReplaceAll(id.String(), "]", `\x5d`))
	case p.IsSingleIP():
		return p.Addr().AppendTo(b)
	}
	return p.AppendTo(b)
}

// fail2banTime is how Fail2Ban writes a time in a message.
const fail2banTime = "2006-01-02 15:04:05"

// A translation says what Fail2Ban writes where we write a sentence of ours.
type translation struct {
	logger  string // "" for the one of the part that speaks
	message func(b []byte, a values) []byte
}

// values are the attributes of an entry.
type values []slog.Attr

// get is a value, the zero one if there is none.
func (v values) get(key string) slog.Value {
	for _, a := range v {
		if a.Key == key {
			return a.Value
		}
	}
	return slog.Value{}
}

// text appends a value as text.
func (v values) text(b []byte, key string) []byte {
	value := v.get(key)
	if value.Kind() == slog.KindAny {
		if id, ok := value.Any().(bantam.ID); ok {
			return appendID(b, id)
		}
	}
	if value.Kind() == slog.KindTime {
		return value.Time().Local().AppendFormat(b, fail2banTime)
	}
	return appendClean(b, textOf(value))
}

// sentence makes a translation of a template in which {key} is a value.
func sentence(logger, template string) translation {
	var texts, keys []string
	rest := template
	for {
		before, after, more := strings.Cut(rest, "{")
		texts = append(texts, before)
		if !more {
			break
		}
		key, behind, _ := strings.Cut(after, "}")
		keys, rest = append(keys, key), behind
	}
	return translation{logger, func(b []byte, v values) []byte {
		for i, key := range keys {
			b = v.text(append(b, texts[i]...), key)
		}
		return append(b, texts[len(keys)]...)
	}}
}

// translations are Fail2Ban's messages by ours (spec/server.md 6.2). recidive and whoever else
// reads this log go by them: only a ban that begins says "Ban" behind the bracket.
var translations = map[string]translation{
	"found":                            sentence("filter", "[{jail}] Found {addr} - {time}"),
	"ignored":                          sentence("filter", "[{jail}] Ignore {addr} by {by}"),
	"banned":                           sentence("actions", "[{jail}] Ban {addr}"),
	"ban restored":                     sentence("actions", "[{jail}] Restore Ban {addr}"),
	"ban prolonged":                    sentence("actions", "[{jail}] {addr} already banned"),
	"ban is longer":                    sentence("observer", "[{jail}] Increase Ban {addr} ({count} # {length} -> {until})"),
	"ban lifted to stop":               sentence("actions", "[{jail}] Repeal Ban {addr}"),
	"unbanned":                         sentence("actions", "[{jail}] Unban {addr}"),
	"would be banned":                  sentence("actions", "[{jail}] Observed, would ban {addr}"),
	"would be ban restored":            sentence("actions", "[{jail}] Observed, would restore the ban of {addr}"),
	"would be ban prolonged":           sentence("actions", "[{jail}] Observed, {addr} would be banned already"),
	"would be unbanned":                sentence("actions", "[{jail}] Observed, would unban {addr}"),
	"ban held back":                    sentence("actions", "[{jail}] Held back, would ban {addr}: {why}"),
	"log is read":                      sentence("filter", "Added logfile: '{path}'"),
	"log was rotated":                  sentence("filter", "Log rotation detected for {path}"),
	"starting":                         sentence("server", "Starting Fail2ban v{version}"),
	"database opened":                  sentence("database", "Connected to fail2ban persistent database '{path}'"),
	"database closed":                  sentence("database", "Connection to database closed."),
	"jail made":                        sentence("jail", "Creating new jail '{jail}'"),
	"jail started":                     sentence("jail", "Jail '{jail}' started"),
	"jail stopped":                     sentence("jail", "Jail '{jail}' stopped"),
	"reloading":                        sentence("server", "Reload all jails"),
	"jail reloaded":                    sentence("server", "Jail '{jail}' reloaded"),
	"reloaded":                         sentence("server", "Reload finished."),
	"stopping":                         sentence("server", "Shutdown in progress..."),
	"stopping jails":                   sentence("server", "Stopping all jails"),
	"stopped":                          sentence("server", "Exiting Fail2ban"),
	"log begun":                        sentence("server", "Start Fail2ban v{version}"),
	"log goes elsewhere":               sentence("server", "Changed logging target to {logtarget} for Fail2ban v{version}"),
	"log opened anew":                  sentence("server", "rollover performed on {logtarget}"),
	"log flushed":                      sentence("server", "flush performed on {logtarget}"),
	"cannot change where the log goes": sentence("server", "Unable to log to '{logtarget}': {err}"),
	"command has failed":               sentence("transmitter", "Command {command} has failed. Received {err}"),
}

// translate gives an entry Fail2Ban's message. What has no counterpart there is said in our
// words, behind the jail's name, with what is known as key=value.
func (e *entry) translate(fail2ban bool) {
	if !fail2ban {
		return
	}
	if t, ok := translations[e.text]; ok {
		e.logger = t.logger
		e.line = t.message(e.line[:0], e.attrs)
		return
	}
	// What names its jail itself is as Fail2Ban has it.
	jail := values(e.attrs).get("jail")
	text := jail.Kind() == slog.KindString && !strings.Contains(e.text, " jail '")
	if text {
		e.line = append(appendClean(append(e.line[:0], '['), jail.String()), "] "...)
	}
	e.line = append(e.line, e.text...)
	for i, a := range e.attrs {
		if a.Key != "jail" || !text {
			e.line = appendAttrs(e.line, e.attrs[i:i+1])
		}
	}
}
