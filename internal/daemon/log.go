package daemon

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
)

// logLevels are Fail2Ban's names. CRITICAL and NOTICE have no level of their own
// here: what would be critical is an error, what would be a notice is info.
var logLevels = map[string]slog.Level{
	"CRITICAL": slog.LevelError, "ERROR": slog.LevelError, "WARNING": slog.LevelWarn,
	"NOTICE": slog.LevelInfo, "INFO": slog.LevelInfo, "MSG": slog.LevelInfo,
	"DEBUG": slog.LevelDebug, "TRACEDEBUG": slog.LevelDebug, "HEAVYDEBUG": slog.LevelDebug,
}

// openLog makes the daemon's log: to the file of logtarget, or to stderr.
func openLog(level, target string, stderr io.Writer) (*slog.Logger, *logWriter, error) {
	w := &logWriter{stderr: stderr, name: "STDERR"}
	w.levelWord = "INFO"
	if level != "" {
		if err := w.setLevel(level); err != nil {
			return nil, nil, fmt.Errorf("loglevel: %w; use ERROR, WARNING, NOTICE, INFO or DEBUG", err)
		}
	}
	log := slog.New(slog.NewTextHandler(w, &slog.HandlerOptions{Level: &w.level}))
	switch err := w.setTarget(target); {
	case errors.Is(err, errUnbuiltTarget):
		log.Warn("this logtarget is not built yet; logging to standard error", "logtarget", target)
		w.name = target
	case err != nil:
		return nil, nil, fmt.Errorf("open the log: %w", err)
	}
	return log, w, nil
}

// A logWriter is where the log goes. Where that is and how much is logged may change while
// it is in use.
type logWriter struct {
	stderr io.Writer
	level  slog.LevelVar

	mu        sync.Mutex // guards the rest
	levelWord string     // as it was set, in capitals
	name      string     // the target as it was named, options left out
	f         *os.File   // nil for stderr
}

func (l *logWriter) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.f == nil {
		return l.stderr.Write(b)
	}
	return l.f.Write(b)
}

// setLevel sets from which level on is logged: a word of Fail2Ban's, or a number of Python's.
func (l *logWriter) setLevel(text string) error {
	word := strings.ToUpper(text)
	level, ok := logLevels[word]
	if n, err := strconv.Atoi(text); err == nil {
		ok = true
		switch {
		case n >= 40:
			level = slog.LevelError
		case n >= 30:
			level = slog.LevelWarn
		case n >= 18:
			level = slog.LevelInfo
		default:
			level = slog.LevelDebug
		}
	}
	if !ok {
		return valueError("Invalid log level '%s'", text)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.level.Set(level)
	l.levelWord = word
	return nil
}

var errUnbuiltTarget = errors.New("this logtarget is not built yet")

// setTarget changes where the log goes; on an error it stays where it was.
func (l *logWriter) setTarget(target string) error {
	name, _, _ := strings.Cut(target, "[")
	var f *os.File
	switch strings.ToUpper(name) {
	case "", "STDERR", "STDOUT", "SYSOUT":
		if name == "" {
			name = "STDERR"
		}
	case "SYSLOG", "SYSTEMD-JOURNAL":
		return errUnbuiltTarget
	default:
		var err error
		if f, err = openAppending(name); err != nil {
			return err
		}
	}
	l.mu.Lock()
	old := l.f
	l.f, l.name = f, name
	l.mu.Unlock()
	if old != nil {
		return old.Close()
	}
	return nil
}

func openAppending(path string) (*os.File, error) {
	return os.OpenFile(path, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
}

func (l *logWriter) levelName() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.levelWord
}

func (l *logWriter) targetName() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.name
}

// flush opens a file anew, after somebody has renamed it; on an error the old one goes on.
// rolled is what Fail2Ban's flushlogs answers by: it goes by the exact word.
func (l *logWriter) flush() (rolled bool, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	rolled = !slices.Contains([]string{"STDERR", "STDOUT", "SYSLOG", "SYSTEMD-JOURNAL"}, l.name)
	if l.f == nil {
		return rolled, nil
	}
	f, err := openAppending(l.name)
	if err != nil {
		return rolled, err
	}
	old := l.f
	l.f = f
	return rolled, old.Close()
}

func (l *logWriter) close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.f == nil {
		return nil
	}
	err := l.f.Close()
	l.f = nil // what is logged from now on goes to stderr
	return err
}
