package daemon

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"bantam/internal/config"
	"bantam/internal/control"
)

// takeOver is the way on where a Fail2Ban is in the way.
const takeOver = "stop it first: systemctl disable --now fail2ban, or fail2ban-client stop; its bans are taken over from its database"

// alone refuses to start beside another that works for the same configuration or database: both
// would ban, unban and write for each other. Whoever answers on the socket was asked before;
// this finds those with a socket elsewhere, by the pid file and by who has the database open.
func alone(c config.Daemon, pidFile string) error {
	if b, err := os.ReadFile(pidFile); pidFile != "" && err == nil {
		if pid, err := strconv.Atoi(strings.TrimSpace(string(b))); err == nil {
			if who := serverAt(pid); who != "" {
				return &control.Error{Text: fmt.Sprintf("%s (pid %d) runs for the same configuration: %s names it", who, pid, pidFile), Hint: takeOver}
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
				return &control.Error{Text: fmt.Sprintf("%s (pid %d) has the database %s open", who, pid, c.DBFile), Hint: takeOver}
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
			return "Fail2Ban"
		case i == 0 && name == "bantam" && len(words) > 1 && string(words[1]) == "run":
			return "another Bantam"
		}
	}
	return ""
}
