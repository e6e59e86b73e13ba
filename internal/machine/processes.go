package machine

import (
	"bytes"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"
)

// process is what everybody may know of one.
type process struct {
	pid, parent int
	uid         int // the real one
	name        string
}

// process reads /proc/PID/status; ok is false if it is gone.
func (m Machine) process(pid int) (p process, ok bool) {
	b, err := m.read(procFile(pid, "status"), maxSmall)
	if err != nil {
		return p, false
	}
	p = process{pid: pid, uid: -1}
	for line := range bytes.Lines(b) {
		key, value, _ := bytes.Cut(line, []byte(":"))
		value = bytes.TrimSpace(value)
		switch string(key) {
		case "Name":
			p.name = string(value)
		case "PPid":
			p.parent = number(value)
		case "Uid":
			real, _, _ := bytes.Cut(value, []byte("\t"))
			p.uid = number(real)
			return p, true // it comes after the others
		}
	}
	return p, false
}

// number is a number that is not negative, else -1.
func number(b []byte) int {
	n, err := strconv.ParseUint(string(b), 10, 31)
	if err != nil {
		return -1
	}
	return int(n)
}

func procFile(pid int, name string) string {
	return path.Join("/proc", strconv.Itoa(pid), name)
}

// pids are the processes there are, in order.
func (m Machine) pids() ([]int, error) {
	names, err := m.names("/proc")
	out := make([]int, 0, len(names))
	for _, name := range names {
		if n := number([]byte(name)); n > 0 {
			out = append(out, n)
		}
	}
	slices.Sort(out)
	return out, err
}

// lives reports whether a process is there.
func (m Machine) lives(pid int) bool {
	if pid <= 0 {
		return false
	}
	_, err := os.Stat(m.path(procFile(pid, "status")))
	return err == nil
}

// chain is this process and those that it descends from, itself first. It is bounded in case the tree has a ring.
func (m Machine) chain() (out []process) {
	self, err := os.Readlink(m.path("/proc/self"))
	if err != nil {
		return nil
	}
	for pid := number([]byte(self)); pid > 1 && len(out) < 64; {
		p, ok := m.process(pid)
		if !ok {
			break
		}
		out = append(out, p)
		pid = p.parent
	}
	return out
}

// environment is the value of variables that a process was started with, "" for those it has not.
func (m Machine) environment(pid int, names ...string) []string {
	out := make([]string, len(names))
	b, _ := m.read(procFile(pid, "environ"), maxSmall) // another user's cannot be read
	for entry := range bytes.SplitSeq(b, []byte{0}) {
		key, value, _ := strings.Cut(string(entry), "=")
		if i := slices.Index(names, key); i >= 0 && out[i] == "" {
			out[i] = value
		}
	}
	return out
}

// ticks are how the kernel counts time in /proc, a second: USER_HZ, which is 100 wherever Go runs on Linux.
const ticks = 100

// started is when a process was started, wall time, zero if that cannot be known: proc_pid_stat(5), field 22.
func (m Machine) started(pid int) (at time.Time) {
	stat, err := m.read(procFile(pid, "stat"), maxSmall)
	if err != nil {
		return at
	}
	_, behind, _ := strings.Cut(string(stat[bytes.LastIndexByte(stat, ')')+1:]), " ")
	f := strings.Fields(behind)
	if len(f) < 20 {
		return at
	}
	since, err := strconv.ParseInt(f[19], 10, 64)
	if err != nil {
		return at
	}
	_ = m.lines("/proc/stat", maxSmall, func(line []byte) {
		if text, ok := bytes.CutPrefix(line, []byte("btime ")); ok {
			if boot, err := strconv.ParseInt(string(text), 10, 64); err == nil {
				at = time.Unix(boot+since/ticks, 0)
			}
		}
	})
	return at
}
