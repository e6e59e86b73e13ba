package lookup

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/gaissmai/bart"

	"bantam"
)

const (
	// recheck is how often a list's file is looked at, at most.
	recheck = time.Second
	// maxList bounds what is read of one, in bytes.
	maxList = 16 << 20
)

// A list is an `ignoreip = file:PATH`: entries between blanks, commas and line
// ends, comments from a # or ; at the start of a word to the end of the line. It is
// read again when it has changed; a file that cannot be read is an empty list.
type list struct {
	path string

	mu       sync.Mutex // guards the rest
	checked  time.Time  // wall time
	stamp    fs.FileInfo
	prefixes *bart.Lite
	names    []string
	err      error
}

// read is the list as it is now. The error is why it is empty, told once.
func (l *list) read() (prefixes *bart.Lite, names []string, changed error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.checked.IsZero() && time.Since(l.checked) < recheck {
		return l.prefixes, l.names, nil
	}
	l.checked = time.Now()
	info, err := os.Stat(l.path)
	if err == nil && l.err == nil && l.stamp != nil && os.SameFile(info, l.stamp) &&
		info.Size() == l.stamp.Size() && info.ModTime().Equal(l.stamp.ModTime()) {
		return l.prefixes, l.names, nil
	}
	if err == nil {
		l.stamp = info
		err = l.load(info)
	}
	if err != nil {
		l.prefixes, l.names, l.stamp = new(bart.Lite), nil, nil
		if l.err == nil || l.err.Error() != err.Error() {
			changed = fmt.Errorf("read the list of whom to ignore: %w", err)
		}
	}
	l.err = err
	return l.prefixes, l.names, changed
}

func (l *list) load(info fs.FileInfo) error {
	if !info.Mode().IsRegular() {
		return &fs.PathError{Op: "read", Path: l.path, Err: errors.New("not a regular file")}
	}
	f, err := os.Open(l.path)
	if err != nil {
		return err
	}
	prefixes, names, err := parseList(io.LimitReader(f, maxList))
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	l.prefixes, l.names = prefixes, names
	return nil
}

// parseList reads a list's entries: prefixes, and names of hosts.
func parseList(r io.Reader) (prefixes *bart.Lite, names []string, err error) {
	prefixes = new(bart.Lite)
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		for _, word := range strings.FieldsFunc(lines.Text(), func(c rune) bool { return strings.ContainsRune(" \t\r,", c) }) {
			if word[0] == '#' || word[0] == ';' {
				break
			}
			if id, err := bantam.ParsePrefix(word); err == nil {
				p, _ := id.Prefix()
				prefixes.Insert(p)
			} else if isName(word) {
				names = append(names, word)
			}
		}
	}
	return prefixes, names, lines.Err()
}

// isName reports whether a word may be the name of a host: letters, digits, dots,
// hyphens, and underscores, as people use them.
func isName(word string) bool {
	return len(word) <= maxName && strings.IndexFunc(word, func(c rune) bool {
		return (c < '0' || c > '9') && (c|0x20 < 'a' || c|0x20 > 'z') && !strings.ContainsRune(".-_", c)
	}) < 0
}
