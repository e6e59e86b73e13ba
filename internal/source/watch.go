package source

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"github.com/fsnotify/fsnotify"
	"golang.org/x/sys/unix"
)

// A watcher wakes those who wait for news of a path. It watches folders, not
// files, so that it sees files come and go; one inotify instance serves all.
//
// What it says is a hint: whoever is woken looks for himself, and looks now and
// then without being woken. So lost, doubled and merged events do no harm.
type watcher struct {
	fs  *fsnotify.Watcher // nil: inotify is not to be had
	log *slog.Logger

	changing sync.Mutex // held by change: one at a time

	mu    sync.Mutex                 // guards names and dirs
	names map[string][]chan struct{} // by path, or by "folder/" for all that comes and goes in it
	dirs  map[string]int             // how many names each watched folder serves
}

// errNoInotify says that there is nothing to wait for but the clock.
var errNoInotify = errors.New("inotify is not available")

func newWatcher(log *slog.Logger) *watcher {
	w := &watcher{log: log, names: make(map[string][]chan struct{}), dirs: make(map[string]int)}
	// The buffer lets a burst of events be fetched at once; the kernel's own queue
	// stands behind it.
	notify, err := fsnotify.NewBufferedWatcher(256)
	if err != nil {
		log.Warn("inotify is not available, logs are polled", "err", err)
		return w
	}
	w.fs = notify
	return w
}

// run hands events on until ctx ends; then nothing is watched any more.
func (w *watcher) run(ctx context.Context) {
	if w.fs == nil {
		return
	}
	defer w.fs.Close()
	for {
		select {
		case <-ctx.Done():
			return
		case ev := <-w.fs.Events:
			w.wake(ev)
		case err := <-w.fs.Errors:
			if !errors.Is(err, fsnotify.ErrEventOverflow) {
				w.log.Warn("inotify", "err", err)
			}
			w.wakeAll()
		}
	}
}

func (w *watcher) wake(ev fsnotify.Event) {
	if ev.Name == "" {
		return // an event that came too late for its watch
	}
	name := filepath.Clean(ev.Name)
	w.mu.Lock()
	defer w.mu.Unlock()
	wakeUp(w.names[name])
	if !ev.Has(fsnotify.Create) && !ev.Has(fsnotify.Remove) && !ev.Has(fsnotify.Rename) {
		return
	}
	wakeUp(w.names[inDir(filepath.Dir(name))])
	if _, ok := w.dirs[name]; ok { // a watched folder was moved or deleted
		for n, subs := range w.names {
			if filepath.Dir(n) == name {
				wakeUp(subs)
			}
		}
	}
}

func (w *watcher) wakeAll() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, subs := range w.names {
		wakeUp(subs)
	}
}

// wakeUp leaves one token with each: who has one already will look anyway.
func wakeUp(subs []chan struct{}) {
	for _, c := range subs {
		select {
		case c <- struct{}{}:
		default:
		}
	}
}

// inDir is the name that stands for everything that comes and goes in a folder.
func inDir(dir string) string {
	if dir == "/" {
		return dir
	}
	return dir + "/"
}

func dirOf(name string) string {
	if name != "/" && name[len(name)-1] == '/' {
		return name[:len(name)-1]
	}
	return filepath.Dir(name)
}

// change makes wake wait for the names in now instead of those in old. Names in
// both are watched anew, since their folder may be another one by now. If an error
// is returned, the clock has to serve besides.
func (w *watcher) change(wake chan struct{}, old, now []string) error {
	if w.fs == nil {
		return errNoInotify
	}
	// mu is not held over calls to fsnotify, which may wait for run to take an event.
	w.changing.Lock()
	defer w.changing.Unlock()
	unused := w.rename(wake, old, now)
	var failed error
	for _, name := range now {
		// The folder may be gone again, and the watcher is closed when all ends.
		err := w.fs.Add(dirOf(name))
		if err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, fsnotify.ErrClosed) {
			failed = fmt.Errorf("watch folder %s: %w", dirOf(name), err)
		}
	}
	for _, dir := range unused {
		_ = w.fs.Remove(dir) // the watch may be gone already, with its folder
	}
	return failed
}

// rename changes the names wake is found by and returns the folders of no use any more.
func (w *watcher) rename(wake chan struct{}, old, now []string) (unused []string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, name := range now {
		if !slices.Contains(old, name) {
			w.names[name] = append(w.names[name], wake)
			w.dirs[dirOf(name)]++
		}
	}
	for _, name := range old {
		if slices.Contains(now, name) {
			continue
		}
		subs := slices.DeleteFunc(w.names[name], func(c chan struct{}) bool { return c == wake })
		if len(subs) == 0 {
			delete(w.names, name)
		} else {
			w.names[name] = subs
		}
		dir := dirOf(name)
		if w.dirs[dir]--; w.dirs[dir] == 0 {
			delete(w.dirs, dir)
			unused = append(unused, dir)
		}
	}
	return unused
}

// watchNames are the names whose events tell of path: itself, what it links to, or,
// while its folder is missing, the part of it that has to appear first. Folders are
// given by their real names because inotify knows a folder once only, however many
// names lead to it.
func watchNames(path string) []string {
	dir, base := filepath.Split(path)
	dir = filepath.Clean(dir)
	for {
		if real, err := filepath.EvalSymlinks(dir); err == nil {
			names := []string{filepath.Join(real, base)}
			if target, err := filepath.EvalSymlinks(names[0]); err == nil && target != names[0] {
				names = append(names, target)
			}
			return names
		}
		if dir == "/" {
			return nil
		}
		dir, base = filepath.Dir(dir), filepath.Base(dir)
	}
}

// remote reports whether changes of path can come about without this kernel's
// doing, which inotify does not tell: on network and user-space file systems
// (magic numbers of linux/magic.h). A file that is a mount of its own, as containers
// like to have it, has no folder to watch either.
func remote(path string) bool {
	var st unix.Statfs_t
	for p := path; ; p = filepath.Dir(p) {
		if err := unix.Statfs(p, &st); err == nil {
			break
		}
		if p == "/" {
			return false
		}
	}
	switch uint32(st.Type) {
	case 0x6969, // NFS
		0xff534d42, 0xfe534d42, 0x517b, // CIFS, SMB2, SMB
		0x65735546,             // FUSE
		0x01021997,             // 9p
		0x00c36400,             // Ceph
		0x5346414f, 0x6b414653, // AFS
		0x73757245,             // Coda
		0x0bd00bd0,             // Lustre
		0x01161970, 0x7461636f, // GFS2, OCFS2
		0x786f4256: // VirtualBox
		return true
	}
	if fi, err := os.Stat(path); err != nil || !fi.Mode().IsRegular() {
		return false
	}
	var sx unix.Statx_t
	err := unix.Statx(unix.AT_FDCWD, path, unix.AT_NO_AUTOMOUNT, 0, &sx)
	return err == nil && sx.Attributes&unix.STATX_ATTR_MOUNT_ROOT != 0
}
