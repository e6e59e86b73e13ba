package daemon

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// A target is what logtarget says: a name and, in brackets, options.
type target struct {
	name     string
	facility int
	padding  bool
	datetime bool
	format   []segment // nil for none
}

// facilities are those of RFC 5424 by the names of syslog.h.
var facilities = map[string]int{
	"kern": 0, "user": 1, "mail": 2, "daemon": 3, "auth": 4, "syslog": 5, "lpr": 6, "news": 7, "uucp": 8, "cron": 9,
	"authpriv": 10, "ftp": 11, "local0": 16, "local1": 17, "local2": 18, "local3": 19, "local4": 20, "local5": 21,
	"local6": 22, "local7": 23,
}

// parseTarget reads a logtarget. Names of places count in any case; padding and time are left
// out where the receiver has them itself, unless asked for.
func parseTarget(text string) (target, error) {
	name, options, bracket := strings.Cut(strings.TrimSpace(text), "[")
	t := target{name: strings.TrimSpace(name), facility: facilities["daemon"], padding: true, datetime: true}
	switch strings.ToUpper(t.name) {
	case "":
		return t, fmt.Errorf("logtarget %q names no place", text)
	case "SYSLOG":
		t.padding, t.datetime = false, false
	case "SYSOUT", "SYSTEMD-JOURNAL":
		t.datetime = false
	}
	if !bracket {
		return t, nil
	}
	options, closed := strings.CutSuffix(strings.TrimSpace(options), "]")
	if !closed {
		return t, fmt.Errorf("logtarget %q: the bracket is not closed", text)
	}
	for options = strings.TrimSpace(options); options != ""; {
		key, rest, ok := strings.Cut(options, "=")
		if !ok {
			return t, fmt.Errorf("logtarget %q: %q is no option", text, options)
		}
		value, rest, err := optionValue(strings.TrimSpace(rest))
		if err == nil {
			err = t.set(strings.ToLower(strings.TrimSpace(key)), value)
		}
		if err != nil {
			return t, fmt.Errorf("logtarget %q: %w", text, err)
		}
		options = rest
	}
	return t, nil
}

// optionValue takes a value, perhaps quoted, and the comma behind it.
func optionValue(s string) (value, rest string, err error) {
	if s != "" && (s[0] == '"' || s[0] == '\'') {
		end := strings.IndexByte(s[1:], s[0])
		if end < 0 {
			return "", "", fmt.Errorf("the quote in %q is not closed", s)
		}
		value, rest = s[1:1+end], strings.TrimSpace(s[end+2:])
		if rest != "" && rest[0] != ',' {
			return "", "", fmt.Errorf("%q stands behind a quote", rest)
		}
		return value, strings.TrimSpace(strings.TrimPrefix(rest, ",")), nil
	}
	value, rest, _ = strings.Cut(s, ",")
	return strings.TrimSpace(value), strings.TrimSpace(rest), nil
}

// set sets an option.
func (t *target) set(key, value string) (err error) {
	switch key {
	case "facility":
		var known bool
		if t.facility, known = facilities[strings.ToLower(strings.TrimPrefix(strings.ToUpper(value), "LOG_"))]; !known {
			return fmt.Errorf("facility: %q is none of syslog's", value)
		}
	case "padding", "datetime":
		var on bool
		switch strings.ToLower(value) {
		case "on", "yes", "true", "1":
			on = true
		case "off", "no", "false", "0":
		default:
			return fmt.Errorf("%s: %q is none of on and off", key, value)
		}
		if key == "padding" {
			t.padding = on
		} else {
			t.datetime = on
		}
	case "format":
		t.format, err = parseLayout(value)
	default:
		return fmt.Errorf("unknown option %q; there are facility, padding, datetime and format", key)
	}
	return err
}

func (t *target) layout() []segment {
	if t.format != nil {
		return t.format
	}
	return layoutOf(t.padding, t.datetime)
}

// layoutOf is the layout of Fail2Ban's line.
func layoutOf(padding, datetime bool) []segment {
	var out []segment
	if datetime {
		out = []segment{{field: "asctime", text: " "}}
	}
	name, level := 24, 7
	if !padding {
		name, level = 0, 0
	}
	return append(out,
		segment{field: "name", left: true, width: name, text: "["}, segment{field: "process", text: "]: "},
		segment{field: "levelname", left: true, width: level, text: " "}, segment{field: "message"})
}

// A segment is a field of a line, padded to a width, and the text behind it. The first of a
// layout may be a text without a field.
type segment struct {
	field string
	left  bool // to the left, blanks behind
	zero  bool // filled with zeros
	width int
	text  string
}

// widest is how far a field may be padded.
const widest = 200

// fields are those of Python's logging that mean something here.
var fields = map[string]string{
	"asctime": "s", "name": "s", "process": "ds", "levelname": "s", "levelno": "ds", "message": "s",
	"msecs": "ds", "created": "dfs", "threadName": "s", "processName": "s",
}

// parseLayout reads a format of Python's logging in its %-style.
func parseLayout(text string) ([]segment, error) {
	var out []segment
	add := func(text string) {
		if len(out) == 0 {
			out = append(out, segment{})
		}
		out[len(out)-1].text += text
	}
	for text != "" {
		before, after, found := strings.Cut(text, "%")
		if before != "" {
			add(before)
		}
		if !found {
			break
		}
		if rest, ok := strings.CutPrefix(after, "%"); ok {
			add("%")
			text = rest
			continue
		}
		name, rest, ok := strings.Cut(strings.TrimPrefix(after, "("), ")")
		if !ok || after[0] != '(' {
			return nil, fmt.Errorf("format: a field is written %%(name)s, not %q", "%"+after)
		}
		s := segment{field: name}
		for len(rest) > 0 && strings.IndexByte("-0+ #", rest[0]) >= 0 {
			s.left = s.left || rest[0] == '-'
			s.zero = s.zero || rest[0] == '0'
			rest = rest[1:]
		}
		digits := 0
		for digits < len(rest) && rest[digits] >= '0' && rest[digits] <= '9' {
			digits++
		}
		if digits > 0 {
			width, err := strconv.Atoi(rest[:digits])
			if err != nil || width > widest {
				return nil, fmt.Errorf("format: %s characters are too wide for a field", rest[:digits])
			}
			s.width, rest = width, rest[digits:]
		}
		verbs, known := fields[name]
		if !known {
			return nil, fmt.Errorf("format: there is no field %q", name)
		}
		if rest == "" || strings.IndexByte(verbs, rest[0]) < 0 {
			return nil, fmt.Errorf("format: the field %s ends with one of the letters %s", name, verbs)
		}
		out = append(out, s)
		text = rest[1:]
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("format: it is empty")
	}
	return out, nil
}

// appendLayout appends an entry as the layout says. It is not safe for concurrent use.
func (f *form) appendLayout(b []byte, e *entry) []byte {
	for i := range f.layout {
		s := &f.layout[i]
		from := len(b)
		b = f.appendField(b, s.field, e)
		if short := s.width - (len(b) - from); short > 0 {
			b = pad(b, from, short, s)
		}
		b = append(b, s.text...)
	}
	return b
}

// pad fills the field that begins at from.
func pad(b []byte, from, short int, s *segment) []byte {
	fill := byte(' ')
	if s.zero && !s.left {
		fill = '0'
	}
	for range short {
		b = append(b, fill)
	}
	if !s.left {
		copy(b[from+short:], b[from:len(b)-short])
		for i := range short {
			b[from+i] = fill
		}
	}
	return b
}

func (f *form) appendField(b []byte, field string, e *entry) []byte {
	switch field {
	case "asctime":
		if second := e.time.Unix(); second != f.second || len(f.stamp) == 0 {
			f.second, f.stamp = second, e.time.Local().AppendFormat(f.stamp[:0], fail2banTime)
		}
		return appendMilliseconds(append(append(b, f.stamp...), ','), e.time)
	case "name":
		return append(append(b, "fail2ban."...), e.logger...)
	case "process":
		return append(b, pid...)
	case "levelname":
		return append(b, levels[levelAt(e.level)].shown...)
	case "levelno":
		return strconv.AppendInt(b, int64(levels[levelAt(e.level)].number), 10)
	case "message":
		return e.appendMessage(b)
	case "msecs":
		return strconv.AppendInt(b, int64(e.time.Nanosecond()/int(time.Millisecond)), 10)
	case "created":
		return strconv.AppendFloat(b, float64(e.time.UnixMicro())/1e6, 'f', 6, 64)
	case "threadName":
		return append(b, "MainThread"...)
	case "processName":
		return append(b, "MainProcess"...)
	}
	return b
}
