package daemon

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"bantam/internal/config"
	"bantam/internal/control"
)

// Names of the servers that may be in the way.
const (
	fail2Ban      = "Fail2Ban"
	anotherBantam = "another Bantam"
)

// wayOn is what to do where one of them is.
var wayOn = map[string]string{
	fail2Ban:      "stop it first: systemctl disable --now fail2ban, or fail2ban-client stop; its bans are taken over from its database",
	anotherBantam: "stop it first, or give this one another pidfile and dbfile",
}

// alone refuses to start beside another that works for the same configuration or database: both
// would ban, unban and write for each other. Whoever answers on the socket was asked before;
// this finds those with a socket elsewhere, by the pid file and by who has the database open.
func alone(c config.Daemon, pidFile string) error {
	if b, err := os.ReadFile(pidFile); pidFile != "" && err == nil {
		if pid, err := strconv.Atoi(strings.TrimSpace(string(b))); err == nil {
			if who := serverAt(pid); who != "" {
				return &control.Error{Text: fmt.Sprintf("%s (pid %d) runs for the same configuration: %s names it", who, pid, pidFile), Hint: wayOn[who], Status: http.StatusConflict}
			}
		}
	}
	file, err := os.Stat(c.DBFile)
	if err != nil {
		return nil // it is made
	}
	processes, _ := filepath.Glob("/proc/[0-9]*") // the pattern is well formed
	for _, p := range processes {
		pid, _ := strconv.Atoi(filepath.Base(p)) // it is a number
		who := serverAt(pid)
		if who == "" {
			continue
		}
		open, _ := os.ReadDir(filepath.Join(p, "fd")) // of a process that is gone there are none
		for _, fd := range open {
			if info, err := os.Stat(filepath.Join(p, "fd", fd.Name())); err == nil && os.SameFile(info, file) {
				return &control.Error{Text: fmt.Sprintf("%s (pid %d) has the database %s open", who, pid, c.DBFile), Hint: wayOn[who], Status: http.StatusConflict}
			}
		}
	}
	return nil
}

// serverAt says which server another process is, "" if it is none. Programs that only read the
// database are not in the way.
func serverAt(pid int) string {
	if pid <= 0 || pid == os.Getpid() {
		return ""
	}
	proc := filepath.Join("/proc", strconv.Itoa(pid))
	line, err := os.ReadFile(filepath.Join(proc, "cmdline"))
	if err != nil {
		return "" // it is gone
	}
	words := bytes.Split(line, []byte{0})
	for i, w := range words {
		switch name := filepath.Base(string(w)); {
		case i < 4 && name == "fail2ban-server": // perhaps behind python3 and its options
			return fail2Ban
		case i == 0 && name == "bantam" && len(words) > 1 && string(words[1]) == "run":
			return anotherBantam
		}
	}
	return ""
}

// lockDatabase makes the file at path this daemon's until the lock is closed, which must not
// be before SQLite has closed the file: closing any descriptor of a file gives up the locks that
// the process has on it by fcntl(2), which are SQLite's. Ours is flock(2)'s, which SQLite does not see,
// nor does Fail2Ban. The lock is nil if there is no file, or none that can be a database.
//
// held is the lock on the file that was there before, or nil. It is kept if that is the file still.
func lockDatabase(path string, held *os.File) (*os.File, error) {
	if path == "" {
		return nil, nil
	}
	info, err := os.Stat(path)
	if err != nil || !info.Mode().IsRegular() {
		return held, nil // the store knows better what is wrong with it
	}
	if held != nil {
		if locked, err := held.Stat(); err == nil && os.SameFile(info, locked) {
			return held, nil
		}
	}
	f, err := os.Open(path)
	if err != nil {
		return held, nil // as above
	}
	switch err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); {
	case errors.Is(err, unix.EWOULDBLOCK):
		_ = f.Close() // nothing was written
		return held, &control.Error{
			Text: fmt.Sprintf("%s uses the database %s", anotherBantam, path),
			Hint: wayOn[anotherBantam], Status: http.StatusConflict,
		}
	case err != nil: // a file system without such locks
		_ = f.Close() // nothing was written
		return held, nil
	}
	if held != nil {
		_ = held.Close() // the file has been set aside
	}
	return f, nil
}
