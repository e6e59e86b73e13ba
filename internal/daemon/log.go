package daemon

import (
	"fmt"
	"io"
	"log/slog"
	"os"
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

// openLog makes the daemon's log: to the file of logtarget, or to stderr. The
// logFile is nil if there is no file.
func openLog(level, target string, stderr io.Writer) (*slog.Logger, *logFile, error) {
	minimum, ok := logLevels[strings.ToUpper(level)]
	if !ok && level != "" {
		return nil, nil, fmt.Errorf("loglevel: %q is not a level; use ERROR, WARNING, NOTICE, INFO or DEBUG", level)
	}
	options := &slog.HandlerOptions{Level: minimum}
	name, _, _ := strings.Cut(target, "[")
	switch strings.ToUpper(name) {
	case "", "STDERR", "STDOUT", "SYSOUT":
		return slog.New(slog.NewTextHandler(stderr, options)), nil, nil
	case "SYSLOG", "SYSTEMD-JOURNAL":
		log := slog.New(slog.NewTextHandler(stderr, options))
		log.Warn("this logtarget is not built yet; logging to standard error", "logtarget", name)
		return log, nil, nil
	}
	f := &logFile{path: name}
	if err := f.reopen(); err != nil {
		return nil, nil, fmt.Errorf("open the log: %w", err)
	}
	return slog.New(slog.NewTextHandler(f, options)), f, nil
}

// A logFile is a log that can be opened anew after somebody has renamed it.
type logFile struct {
	path string

	mu sync.Mutex // guards f
	f  *os.File
}

func (l *logFile) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.f.Write(b)
}

// reopen opens the file at its path; on an error the old one goes on.
func (l *logFile) reopen() error {
	f, err := os.OpenFile(l.path, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	l.mu.Lock()
	old := l.f
	l.f = f
	l.mu.Unlock()
	if old != nil {
		return old.Close()
	}
	return nil
}

func (l *logFile) close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.f.Close()
}
