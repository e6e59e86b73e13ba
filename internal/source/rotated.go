package source

import (
	"cmp"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// maxRotated bounds how many rotated files are opened in search of one.
const maxRotated = 32

// A rotatedFile is a file beside PATH whose name says that it was PATH once.
type rotatedFile struct {
	path    string
	id      fileID
	born    time.Time
	changed time.Time // last written to
}

// rotatedOf lists the uncompressed files that log rotation made of path, oldest
// first: PATH.1, PATH.0, PATH-20250302, PATH.2025-03-02 and the like.
//
// They are ordered by when they came to be, which for a renamed file is when it was
// begun and for a copy when it was copied. Where the file system keeps no such time
// (statx, STATX_BTIME) it is the last change.
func rotatedOf(path string) ([]rotatedFile, error) {
	dir, base := filepath.Split(path)
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("look for rotated files of %s: %w", path, err)
	}
	var found []rotatedFile
	for _, e := range entries {
		suffix, ok := strings.CutPrefix(e.Name(), base)
		if !ok || !rotationSuffix(suffix) || !e.Type().IsRegular() {
			continue
		}
		p := dir + e.Name()
		id, born, changed, err := birth(unix.AT_FDCWD, p, p)
		if err != nil {
			continue // gone again: rotation goes on while we look
		}
		found = append(found, rotatedFile{p, id, born, changed})
	}
	slices.SortStableFunc(found, func(a, b rotatedFile) int {
		return cmp.Or(a.born.Compare(b.born), -cmp.Compare(len(a.path), len(b.path)), -cmp.Compare(a.path, b.path))
	})
	if n := len(found); n > maxRotated {
		found = found[n-maxRotated:]
	}
	return found, nil
}

// rotationSuffix reports whether s is what rotation hangs on a name: a separator
// and a number or a date, nothing that says compressed or put aside by hand.
func rotationSuffix(s string) bool {
	if len(s) < 2 || !strings.ContainsRune(".-_", rune(s[0])) {
		return false
	}
	return s[1] >= '0' && s[1] <= '9' && strings.Trim(s, "0123456789.-_:T") == ""
}

// birth is a file's identity, when it was made and when it was last written to. The
// file is path below the folder dir, or, if path is empty, dir itself.
func birth(dir int, path, name string) (id fileID, born, changed time.Time, err error) {
	var st unix.Statx_t
	flags := 0
	if path == "" {
		flags = unix.AT_EMPTY_PATH
	}
	if err := unix.Statx(dir, path, flags, unix.STATX_BASIC_STATS|unix.STATX_BTIME, &st); err != nil {
		return id, born, changed, &os.PathError{Op: "statx", Path: name, Err: err}
	}
	changed = time.Unix(st.Mtime.Sec, int64(st.Mtime.Nsec))
	born = changed
	if st.Mask&unix.STATX_BTIME != 0 && st.Btime.Sec != 0 {
		born = time.Unix(st.Btime.Sec, int64(st.Btime.Nsec))
	}
	return fileID{unix.Mkdev(st.Dev_major, st.Dev_minor), st.Ino}, born, changed, nil
}
