package machine

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// Bounds. What lies behind them is as if it was not there.
const (
	maxSmall   = 1 << 20  // bytes of a file that people or systemd write
	maxRecords = 4 << 20  // bytes of utmp and wtmp: the last ten thousand logins
	maxTable   = 64 << 20 // bytes of a table of sockets: some four hundred thousand
	maxEntries = 1 << 16  // names of a folder: processes, files of a process, containers
)

func (m Machine) path(name string) string {
	if m.Root == "" {
		return name
	}
	return filepath.Join(m.Root, name)
}

// network is where a table of /proc/net stands. The kernel shows each thread its own namespace.
func (m Machine) network(table string) string {
	if m.Root == "" {
		return "/proc/thread-self/net/" + table
	}
	return "/proc/net/" + table
}

// open opens a regular file to be read. It waits for nobody: a pipe without a writer is refused like a device.
func (m Machine) open(name string) (*os.File, error) {
	f, err := os.OpenFile(m.path(name), os.O_RDONLY|syscall.O_NONBLOCK|syscall.O_NOCTTY, 0)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("read %s: not a regular file", m.path(name))
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// read is a file's first bytes, at most limit.
func (m Machine) read(name string, limit int64) ([]byte, error) {
	f, err := m.open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, limit))
}

// lines hands over each line of a file's first limit bytes. Lines longer than 64 KiB end the reading.
func (m Machine) lines(name string, limit int64, line func([]byte)) error {
	f, err := m.open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	s := bufio.NewScanner(io.LimitReader(f, limit))
	for s.Scan() {
		line(s.Bytes())
	}
	if err := s.Err(); err != nil {
		return fmt.Errorf("read %s: %w", m.path(name), err)
	}
	return nil
}

// names are what a folder holds, in no order.
func (m Machine) names(folder string) ([]string, error) {
	f, err := os.OpenFile(m.path(folder), os.O_RDONLY|syscall.O_DIRECTORY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	names, err := f.Readdirnames(maxEntries)
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return names, err
}

// missing is true if nothing is wrong but that the thing is not there: not every machine has every file.
func missing(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) || errors.Is(err, syscall.ESRCH)
}

// unless is err, or nil if it is only that something is not there.
func unless(err error) error {
	if missing(err) {
		return nil
	}
	return err
}
