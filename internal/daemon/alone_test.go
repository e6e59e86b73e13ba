package daemon

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A database has one daemon at a time, under any name; a file that takes its place is locked again.
func TestADatabaseHasOneDaemon(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "db")
	lock := func(path string, held *os.File) (*os.File, bool) {
		t.Helper()
		f, err := lockDatabase(path, held)
		if err != nil && !strings.Contains(err.Error(), path) {
			t.Errorf("the error does not name the file: %v", err)
		}
		return f, err != nil
	}
	if f, refused := lock(path, nil); f != nil || refused {
		t.Error("a file that is not there is locked, or refused")
	}
	write := func() {
		t.Helper()
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write()
	first, refused := lock(path, nil)
	if first == nil || refused {
		t.Fatal("the first is refused")
	}
	if err := os.Symlink(path, path+"2"); err != nil {
		t.Fatal(err)
	}
	if _, refused := lock(path+"2", nil); !refused {
		t.Error("the second is not refused")
	}
	if again, refused := lock(path, first); again != first || refused {
		t.Error("who holds it is refused, or has it twice")
	}
	if err := os.Rename(path, path+".damaged"); err != nil {
		t.Fatal(err)
	}
	write()
	next, refused := lock(path, first)
	if next == first || refused {
		t.Error("the new file is not locked")
	}
	if err := next.Close(); err != nil {
		t.Error(err)
	}
	if third, refused := lock(path, nil); refused {
		t.Error("what was given up is still locked")
	} else if err := third.Close(); err != nil {
		t.Error(err)
	}
}
