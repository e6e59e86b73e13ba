package source

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// watching is a watcher at work.
func watching(t *testing.T) *watcher {
	t.Helper()
	w := newWatcher(slog.New(slog.DiscardHandler))
	if w.in == nil {
		t.Skip("no inotify here")
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() { defer close(ended); w.run(ctx) }()
	t.Cleanup(func() { cancel(); <-ended })
	return w
}

// woken waits until somebody is woken.
func woken(t *testing.T, who string, c <-chan struct{}) {
	t.Helper()
	select {
	case <-c:
	case <-time.After(patience):
		t.Fatalf("%s was not woken", who)
	}
}

func asleep(t *testing.T, who string, c <-chan struct{}) {
	t.Helper()
	select {
	case <-c:
		t.Fatalf("%s was woken for nothing", who)
	default:
	}
}

// A line wakes who reads its file, by whatever name, and nobody else in the folder.
func TestWritesWakeWhoReadsTheFile(t *testing.T) {
	w := watching(t)
	dir := t.TempDir()
	a, b, link := filepath.Join(dir, "a.log"), filepath.Join(dir, "b.log"), filepath.Join(dir, "link.log")
	write(t, a, "")
	write(t, b, "")
	must(t, os.Symlink("a.log", link))
	readsA, readsB, readsLink := make(chan struct{}, 1), make(chan struct{}, 1), make(chan struct{}, 1)
	must(t, w.change(readsA, nil, watchNames(a)))
	must(t, w.change(readsB, nil, watchNames(b)))
	must(t, w.change(readsLink, nil, watchNames(link)))

	write(t, a, "x\n")
	woken(t, "a", readsA)
	woken(t, "link", readsLink)
	write(t, b, "x\n") // events come in order: it is the last
	woken(t, "b", readsB)
	asleep(t, "a", readsA)

	// Another file of the name is told of once it has come.
	must(t, os.Rename(a, a+".1"))
	woken(t, "a", readsA)
	write(t, a, "x\n")
	woken(t, "a", readsA)
	must(t, w.change(readsA, watchNames(a), watchNames(a)))
	for len(readsA) > 0 {
		<-readsA
	}
	write(t, a, "y\n")
	woken(t, "a", readsA)

	// Who wants no news any more gets none, and his watches are gone; the folder is watched for the others.
	must(t, w.change(readsA, watchNames(a), nil))
	must(t, w.change(readsLink, watchNames(link), nil))
	for len(readsA) > 0 {
		<-readsA
	}
	write(t, a, "z\n")
	write(t, b, "z\n")
	woken(t, "b", readsB)
	asleep(t, "a", readsA)
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.watches) != 2 || len(w.told) != 2 {
		t.Errorf("watched are %v, told of %v; want the folder and b", w.watches, w.told)
	}
}

// Where the kernel has no room to watch a file, its folder tells of it.
func TestAFolderTellsOfFilesThatCannotBeWatched(t *testing.T) {
	w := watching(t)
	path := filepath.Join(t.TempDir(), "a.log")
	write(t, path, "")
	w.noisy[filepath.Dir(path)] = true // as after ENOSPC
	reads := make(chan struct{}, 1)
	must(t, w.change(reads, nil, []string{path}))
	w.unwatch(path)
	write(t, path, "x\n")
	woken(t, "its reader", reads)
	must(t, w.change(reads, []string{path}, nil))
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.noisy)+len(w.watches)+len(w.told) != 0 {
		t.Errorf("left are %v, %v, %v", w.noisy, w.watches, w.told)
	}
}

// FuzzEvents holds that no bytes in place of the kernel's events do harm.
func FuzzEvents(f *testing.F) {
	f.Add(make([]byte, unix.SizeofInotifyEvent))
	f.Add([]byte("\x01\x00\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x10\x00\x00\x00auth.log\x00\x00\x00\x00\x00\x00\x00\x00"))
	f.Add([]byte("\xff\xff\xff\xff\x00\x40\x00\x00\x00\x00\x00\x00\xff\xff\xff\xff"))
	f.Fuzz(func(t *testing.T, events []byte) {
		wake := make(chan struct{}, 1)
		w := &watcher{
			names: map[string][]chan struct{}{"/var/log/auth.log": {wake}}, dirs: map[string]int{"/var/log": 1},
			watches: map[string]int32{"/var/log": 1, "/var/log/auth.log": 2}, told: map[int32][]string{1: {"/var/log"}, 2: {"/var/log/auth.log"}},
		}
		w.take(events)
	})
}
