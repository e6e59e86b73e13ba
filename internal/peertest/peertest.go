// Package peertest is for tests that compare Bantam with Fail2Ban itself: it unpacks
// Debian's package into a folder of the test's own, where its files are read and run,
// and finds the Python that runs them.
//
// Package does the same for any other program of Debian's that a test tries Bantam with.
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

// packages are those that were downloaded, each once for all tests of a process.
var packages sync.Map // of *fetched by name

type fetched struct {
	once sync.Once
	debs [][]byte
	lack error
}

// Tree unpacks Fail2Ban's package and returns the folder that has its etc and usr.
func Tree(t testing.TB) string {
	t.Helper()
	if tree := os.Getenv("BANTAM_FAIL2BAN"); tree != "" {
		return tree
	}
	return unpack(t, "fail2ban", false)
}

// Package unpacks a package of Debian's, and those that it needs and the machine lacks, and
// returns the folder that has their etc and usr. Nothing of them is installed or run.
func Package(t testing.TB, name string) string {
	t.Helper()
	return unpack(t, name, true)
}

// Libraries are the folders of a tree's shared libraries, for LD_LIBRARY_PATH.
func Libraries(tree string) string {
	usr, _ := filepath.Glob(filepath.Join(tree, "usr/lib/*-linux-gnu*")) // the pattern is well formed
	lib, _ := filepath.Glob(filepath.Join(tree, "lib/*-linux-gnu*"))
	return strings.Join(append(usr, lib...), ":")
}

func unpack(t testing.TB, name string, needs bool) string {
	t.Helper()
	kept, _ := packages.LoadOrStore(name, &fetched{})
	p := kept.(*fetched)
	p.once.Do(func() { p.debs, p.lack = download(name, needs) })
	if p.lack != nil {
		Without(t, p.lack.Error())
	}
	tree := filepath.Join(t.TempDir(), "tree")
	for _, deb := range p.debs {
		unpack := exec.CommandContext(t.Context(), "dpkg-deb", "-x", "/dev/stdin", tree)
		unpack.Stdin = bytes.NewReader(deb)
		if out, err := unpack.CombinedOutput(); err != nil {
			t.Fatalf("unpack the package %s: %v: %s", name, err, out)
		}
	}
	return tree
}

// download fetches a package, and what it needs too if that is wanted.
func download(name string, needs bool) ([][]byte, error) {
	dir, err := os.MkdirTemp("", "bantam-peer-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	defer cancel()
	list := `printf '%s\n' "$1"`
	if needs {
		// What an installation would install, one "Inst NAME ..." a line.
		list = `{ ` + list + `; apt-get install --simulate --no-install-recommends "$1" | sed -n 's/^Inst \([^ ]*\).*/\1/p'; } | sort -u`
	}
	script := `fetch() { names=$(` + list + `) && apt-get download -qq $names; }
		fetch "$1" || { apt-get update -qq && fetch "$1"; }`
	get := exec.CommandContext(ctx, "sh", "-c", script, "sh", name)
	get.Dir = dir
	if out, err := get.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("the package %s cannot be had: %w: %s", name, err, bytes.TrimSpace(out))
	}
	found, _ := filepath.Glob(filepath.Join(dir, "*.deb")) // the pattern is well formed
	if len(found) == 0 {
		return nil, fmt.Errorf("the package %s cannot be had: nothing was downloaded", name)
	}
	var debs [][]byte
	for _, file := range found {
		deb, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		debs = append(debs, deb)
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
