// Package peertest is for tests that compare Bantam with Fail2Ban itself: it unpacks
// Debian's package into a folder of the test's own, where its files are read and run,
// and finds the Python that runs them.
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

var (
	once sync.Once
	deb  []byte // the package
	lack error
)

// Tree unpacks the package and returns the folder that has its etc and usr.
func Tree(t testing.TB) string {
	t.Helper()
	if tree := os.Getenv("BANTAM_FAIL2BAN"); tree != "" {
		return tree
	}
	once.Do(download)
	if lack != nil {
		Without(t, lack.Error())
	}
	dir := t.TempDir()
	tree := filepath.Join(dir, "tree")
	unpack := exec.CommandContext(t.Context(), "dpkg-deb", "-x", "/dev/stdin", tree)
	unpack.Stdin = bytes.NewReader(deb)
	if out, err := unpack.CombinedOutput(); err != nil {
		t.Fatalf("unpack the peer's package: %v: %s", err, out)
	}
	return tree
}

func download() {
	dir, err := os.MkdirTemp("", "bantam-peer-")
	if err != nil {
		lack = err
		return
	}
	defer os.RemoveAll(dir)
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	defer cancel()
	get := exec.CommandContext(ctx, "sh", "-c", "apt-get download -qq fail2ban || { apt-get update -qq && apt-get download -qq fail2ban; }")
	get.Dir = dir
	if out, err := get.CombinedOutput(); err != nil {
		lack = fmt.Errorf("the peer's package cannot be had: %w: %s", err, bytes.TrimSpace(out))
		return
	}
	found, _ := filepath.Glob(filepath.Join(dir, "fail2ban_*.deb")) // the pattern is well formed
	if len(found) != 1 {
		lack = fmt.Errorf("the peer's package cannot be had: %d files named so", len(found))
		return
	}
	deb, lack = os.ReadFile(found[0])
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
