package setup

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// Header is the first line of each file that setup writes, by which it knows them again.
const Header = "# Written by bantam setup"

// The line by which a new configuration observes, with what stands above it.
const (
	observeNote = "# Nobody is banned yet: bantam enforce takes these lines out."
	observeLine = "observe = true"
)

// ErrExists is for a file that is there already: setup overwrites none.
var ErrExists = errors.New("it is there already, and setup overwrites nothing")

// Write writes a new file with the given mode, whole or not at all, and the folders above it. It never replaces a
// file: the error wraps ErrExists then.
func Write(path, text string, mode os.FileMode) (err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("write %s: %w", path, err)
		}
	}()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	fresh, err := fill(path, text, mode)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.Remove(fresh)) }()
	if err := os.Link(fresh, path); errors.Is(err, os.ErrExist) {
		return ErrExists
	} else if err != nil {
		return err
	}
	return nil
}

// fill makes a file beside path, with all of text on the disk.
func fill(path, text string, mode os.FileMode) (fresh string, err error) {
	f, err := os.CreateTemp(filepath.Dir(path), ".setup-*")
	if err != nil {
		return "", err
	}
	_, err = f.WriteString(text)
	err = errors.Join(err, f.Chmod(mode), f.Sync(), f.Close())
	if err != nil {
		return "", errors.Join(err, os.Remove(f.Name()))
	}
	return f.Name(), nil
}

// TakeObserve takes the line that has all jails observe out of a file that setup wrote, with the note above it. mine
// is false, and nothing is done, if somebody else wrote the file or changed that line.
func TakeObserve(path string, line int) (mine bool, err error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return false, err
	}
	lines := strings.SplitAfter(string(text), "\n")
	if !bytes.HasPrefix(text, []byte(Header)) || line < 1 || line > len(lines) || strings.TrimSpace(lines[line-1]) != observeLine {
		return false, nil
	}
	from, to := line-1, line
	if from > 0 && strings.TrimSpace(lines[from-1]) == observeNote {
		from--
	}
	if from > 0 && to < len(lines) && strings.TrimSpace(lines[from-1]) == "" && strings.TrimSpace(lines[to]) == "" {
		to++ // one empty line is enough
	}
	info, err := os.Stat(path)
	if err != nil {
		return true, err
	}
	if path, err = filepath.EvalSymlinks(path); err != nil {
		return true, err
	}
	fresh, err := fill(path, strings.Join(append(lines[:from:from], lines[to:]...), ""), info.Mode().Perm())
	if err != nil {
		return true, fmt.Errorf("write %s: %w", path, err)
	}
	if err := os.Rename(fresh, path); err != nil {
		return true, errors.Join(err, os.Remove(fresh))
	}
	return true, nil
}
