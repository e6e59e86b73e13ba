package daemon

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"bantam"
)

// A logHandler writes records to a logWriter, in Fail2Ban's form where the configuration is
// Fail2Ban's. It is safe for concurrent use.
type logHandler struct {
	w     *logWriter
	part  string // the part of the program that speaks, as Fail2Ban names its own
	attrs []slog.Attr
	group string // prefix of keys
}

// part is a log for a part of the program, under the name that Fail2Ban's lines have for it.
func part(log *slog.Logger, name string) *slog.Logger {
	h, ok := log.Handler().(*logHandler)
	if !ok {
		return log
	}
	named := *h
	named.part = name
	return slog.New(&named)
}

func (h *logHandler) Enabled(_ context.Context, level slog.Level) bool {
	return level >= h.w.level.Level()
}

// A scratch is an entry with what is kept from one to the next, for a storm logs a million of
// them: the second of the last failure, in Fail2Ban's way and in ours.
type scratch struct {
	entry
	second        int64
	theirs, exact string
}

var entries = sync.Pool{New: func() any { return new(scratch) }}

func (h *logHandler) Handle(_ context.Context, r slog.Record) error {
	s := entries.Get().(*scratch)
	defer entries.Put(s)
	e := &s.entry
	*e = entry{time: r.Time, level: r.Level, logger: h.part, text: r.Message, line: e.line[:0], attrs: append(e.attrs[:0], h.attrs...)}
	r.Attrs(func(a slog.Attr) bool {
		e.attrs = append(e.attrs, h.named(a))
		return true
	})
	e.translate(h.w.fail2ban)
	h.w.put(e)
	return nil
}

func (h *logHandler) named(a slog.Attr) slog.Attr {
	a.Key = h.group + a.Key
	return a
}

func (h *logHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	next := *h
	next.attrs = append([]slog.Attr(nil), h.attrs...)
	for _, a := range attrs {
		next.attrs = append(next.attrs, h.named(a))
	}
	return &next
}

func (h *logHandler) WithGroup(name string) slog.Handler {
	next := *h
	next.group += name + "."
	return &next
}

// How a failure came: by a line, or by somebody who told of it.
const (
	foundIt   = "found"
	attempted = "attempt"
)

// found logs a failure that counts, by how it came, with jail, addr and time. There may be a million
// of them at once, so it goes past log/slog, whose records cost more than the line.
func (l *logWriter) found(f *bantam.Failure, how string) {
	if f.Known || f.ID.IsZero() || l.level.Level() > slog.LevelInfo {
		return
	}
	s := entries.Get().(*scratch)
	defer entries.Put(s)
	e := &s.entry
	if second := f.Time.Unix(); second != s.second || s.theirs == "" {
		s.second, s.theirs = second, f.Time.Local().Format(fail2banTime)
		s.exact = f.Time.Local().Format(time.RFC3339)
	}
	*e = entry{time: time.Now(), level: slog.LevelInfo, logger: "filter", text: how, line: e.line[:0], attrs: e.attrs[:0]}
	l.mu.Lock()
	fields := !l.fail2ban || l.form.kind == journal
	l.mu.Unlock()
	if fields {
		e.attrs = append(e.attrs, slog.String("jail", f.Jail), slog.String("addr", f.ID.String()), slog.String("time", s.exact))
	}
	if l.fail2ban {
		e.line = appendClean(append(e.line, '['), f.Jail)
		if how == attempted {
			e.line = append(e.line, "] Attempt "...)
		} else {
			e.line = append(e.line, "] Found "...)
		}
		e.line = append(appendID(e.line, f.ID), " - "...)
		e.line = append(e.line, s.theirs...)
	}
	l.put(e)
}

// duration is a length of time as Fail2Ban writes it: its three largest units.
func duration(d time.Duration) string {
	units := []struct {
		letter string
		length time.Duration
	}{
		{"y", 365 * 24 * time.Hour},
		{"w", 7 * 24 * time.Hour},
		{"d", 24 * time.Hour},
		{"h", time.Hour},
		{"m", time.Minute},
		{"s", time.Second},
	}
	d = d.Round(time.Second)
	out, n := "", 0
	for _, u := range units {
		if count := d / u.length; count > 0 && n < 3 {
			out += fmt.Sprintf(" %d%s", count, u.letter)
			d %= u.length
			n++
		} else if n > 0 {
			n++
		}
	}
	if out == "" {
		return "0s"
	}
	return out[1:]
}
