// Package peertest is for tests that compare Bantam with Fail2Ban itself: it unpacks
// Debian's package into a folder of the test's own, where its files are read and run,
// finds the Python that runs them, and unpacks other packages of Debian's that people
// use with it.
//
// A test that cannot have them is skipped and says why, or fails if BANTAM_NEED_PEERS is
// set. BANTAM_FAIL2BAN names an unpacked tree to take instead of the package.
package peertest

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// Without skips a test that lacks its peer, or fails it.
func Without(t testing.TB, why string) {
	t.Helper()
	if os.Getenv("BANTAM_NEED_PEERS") != "" {
		t.Fatal(why)
	}
	t.Skip(why)
}

// A fetch gets packages once for all tests of a process.
type fetch struct {
	once sync.Once
	debs [][]byte
	lack error
}

var (
	stock fetch // the peer itself
	mu    sync.Mutex
	parts = map[string]*fetch{} // guarded by mu
)

// Tree unpacks the package and returns the folder that has its etc and usr.
func Tree(t testing.TB) string {
	t.Helper()
	if tree := os.Getenv("BANTAM_FAIL2BAN"); tree != "" {
		return tree
	}
	return stock.unpack(t, "apt-get download -qq fail2ban")
}

// Packages unpacks the named packages of Debian's, with those that they need and this
// machine lacks, into one folder, and returns it. Nothing is installed.
func Packages(t testing.TB, names ...string) string {
	t.Helper()
	list := strings.Join(names, " ")
	mu.Lock()
	f := parts[list]
	if f == nil {
		f = new(fetch)
		parts[list] = f
	}
	mu.Unlock()
	// Without --reinstall, those that the machine has would be left out.
	return f.unpack(t, "apt-get install -qq -y --no-install-recommends --reinstall --download-only"+
		" -o Debug::NoLocking=1 -o Dir::Cache::archives=\"$PWD\" "+list)
}

// unpack gets what the command leaves in its folder, if that has not been tried, and unpacks it.
func (f *fetch) unpack(t testing.TB, command string) string {
	t.Helper()
	f.once.Do(func() { f.debs, f.lack = download(command) })
	if f.lack != nil {
		Without(t, f.lack.Error())
	}
	tree := filepath.Join(t.TempDir(), "tree")
	for _, deb := range f.debs {
		unpack := exec.CommandContext(t.Context(), "dpkg-deb", "-x", "/dev/stdin", tree)
		unpack.Stdin = bytes.NewReader(deb)
		if out, err := unpack.CombinedOutput(); err != nil {
			t.Fatalf("unpack the peer's package: %v: %s", err, out)
		}
	}
	return tree
}

func download(command string) ([][]byte, error) {
	dir, err := os.MkdirTemp("", "bantam-peer-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	defer cancel()
	get := exec.CommandContext(ctx, "sh", "-c", command+" || { apt-get update -qq && "+command+"; }")
	get.Dir = dir
	if out, err := get.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("a peer's package cannot be had: %w: %s", err, bytes.TrimSpace(out))
	}
	found, _ := filepath.Glob(filepath.Join(dir, "*.deb")) // the pattern is well formed
	if len(found) == 0 {
		return nil, fmt.Errorf("a peer's package cannot be had: %s left no file", command)
	}
	debs := make([][]byte, len(found))
	for i, name := range found {
		if debs[i], err = os.ReadFile(name); err != nil {
			return nil, err
		}
	}
	return debs, nil
}

// Python is the interpreter that the package was made for, where there is one.
func Python() string {
	if _, err := os.Stat("/usr/bin/python3"); err == nil {
		return "/usr/bin/python3"
	}
	return "python3"
}

// Modules is where the tree has its Python modules, for PYTHONPATH.
func Modules(tree string) string { return filepath.Join(tree, "usr/lib/python3/dist-packages") }
