package action

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"
	"unicode"
	"unicode/utf8"

	"bantam"
	"bantam/internal/tag"
)

// LogName is the native action that writes a line of the administrator's own for each event.
const LogName = "log"

// LogParams are its parameters: the file, and the line for each event, with tags; an event without a line
// is not written.
var LogParams = []string{"file", "ban", "unban", "ignore"}

// Bounds of remembering who was written about because he was ignored.
const (
	ignoredAgain = time.Hour // after which a line is written about him again
	maxIgnored   = 10_000
	// maxUnwritten are lines about who is ignored that wait for a file that hangs; more are left out.
	maxUnwritten = 256
)

// A logWriter writes lines into a file. It opens the file for each, so that it may be renamed at any time.
type logWriter struct {
	log   *slog.Logger
	world *World
	cfg   *Config

	mu        sync.Mutex // guards the rest
	ignored   map[bantam.ID]time.Time
	unwritten int // lines about them that wait
}

func newLog(log *slog.Logger, world *World, c *Config) *logWriter {
	return &logWriter{log: log, world: world, cfg: c, ignored: map[bantam.ID]time.Time{}}
}

// checkLog says what is wrong with the parameters.
func checkLog(c *Config) error {
	file := c.Params["file"]
	if !filepath.IsAbs(file) {
		return fmt.Errorf("file=%q: an absolute path is wanted", file)
	}
	for _, event := range LogParams[1:] {
		if strings.TrimSpace(c.Params[event]) != "" {
			return nil
		}
	}
	return errors.New(`it has no line to write; give it one, as in log[file=/var/log/bans.log, ban="<ip> from <country>"]`)
}

// line is an event's line, "" for none. What stands for a tag cannot end it.
func (l *logWriter) line(ctx context.Context, event string, t *ticket) string {
	text := l.cfg.Params[event]
	if strings.TrimSpace(text) == "" {
		return ""
	}
	value := t.values(ctx)
	return tag.Expand(text, func(tag string) (string, bool) {
		v, _, ok := value(tag)
		return onOneLine(v), ok
	})
}

// onOneLine is a text with what does not print escaped.
func onOneLine(s string) string {
	// A byte that is no UTF-8 may be a control character of eight bits to a terminal.
	if utf8.ValidString(s) && !strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return s
	}
	var b strings.Builder
	for _, r := range s {
		switch {
		case r == '\n':
			b.WriteString(`\n`)
		case unicode.IsPrint(r):
			b.WriteRune(r)
		default:
			fmt.Fprintf(&b, `\u%04x`, r)
		}
	}
	return b.String()
}

func (l *logWriter) write(line string) error {
	if line == "" {
		return nil
	}
	f, err := os.OpenFile(l.cfg.Params["file"], os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o640)
	if err != nil {
		return err
	}
	_, err = f.WriteString(line + "\n") // one write: lines of several do not mix
	return errors.Join(err, f.Close())
}

// Do writes the line of a ban or its end; of one that was restored, or is prolonged, there is none.
func (l *logWriter) Do(ctx context.Context, d *bantam.Decision) (retry bool, err error) {
	event := map[bantam.Kind]string{bantam.Start: "ban", bantam.End: "unban"}[d.Kind]
	if event == "" {
		return false, nil
	}
	err = l.write(l.line(ctx, event, &ticket{world: l.world, jail: l.cfg.Jail, ban: &d.Ban, family: family(&d.Ban)}))
	return err != nil, err
}

// news reports whether a line is to be written about somebody who is ignored: there is none of the last hour. Who
// has written it says so to written.
func (l *logWriter) news(id bantam.ID, now time.Time) bool {
	if strings.TrimSpace(l.cfg.Params["ignore"]) == "" {
		return false
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if last, known := l.ignored[id]; known && now.Sub(last) < ignoredAgain || l.unwritten >= maxUnwritten {
		return false
	}
	l.unwritten++
	if len(l.ignored) >= maxIgnored {
		clear(l.ignored)
	}
	l.ignored[id] = now
	return true
}

func (l *logWriter) written() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.unwritten--
}

// Ignored tells the actions of a jail that a failure does not count: those that write it down do so,
// once an hour for each offender.
func (a *Actions) Ignored(f *bantam.Failure) {
	a.mu.Lock()
	workers := a.byJail[f.Jail]
	a.mu.Unlock()
	for _, w := range workers {
		l, is := w.effect.(*logWriter)
		if !is || !l.news(f.ID, time.Now()) {
			continue
		}
		failure := *f
		w.ask(func(ctx context.Context) {
			defer l.written()
			if err := l.write(l.line(ctx, "ignore", l.world.ofFailure(&failure))); err != nil {
				l.log.Error("cannot write down who is ignored", "jail", failure.Jail, "err", err)
			}
		})
	}
}

// There is nothing to begin and nothing to take back.

func (l *logWriter) Start(context.Context) error  { return nil }
func (l *logWriter) Again() []bantam.Decision     { return nil }
func (l *logWriter) Reload(context.Context) error { return nil }
func (l *logWriter) Lift(context.Context) error   { return nil }
func (l *logWriter) Stop(context.Context) error   { return nil }
