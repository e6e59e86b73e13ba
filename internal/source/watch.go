package source

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"golang.org/x/sys/unix"
)

// A watcher wakes those who wait for news of a path. It watches folders, so that it
// sees files come and go, and the files themselves, so that what others in the same
// folder write wakes nobody; one inotify instance serves all (inotify(7)).
//
// What it says is a hint: whoever is woken looks for himself, and looks now and
// then without being woken. So lost, doubled and merged events do no harm.
type watcher struct {
	in  *os.File // inotify's; nil: it is not to be had
	log *slog.Logger

	changing sync.Mutex // held by change: one at a time

	mu      sync.Mutex                 // guards what follows
	names   map[string][]chan struct{} // by path, or by "folder/" for all that comes and goes in it
	dirs    map[string]int             // how many names each watched folder serves
	watches map[string]int32           // by folder, and by path of a file
	told    map[int32][]string         // what of those a watch is for: a file may have several names
	noisy   map[string]bool            // folders that tell of writes, too, for files that cannot be watched
}

// What is told of a folder, and of a file. One that may not be read tells nothing, but its folder does when it may.
const (
	folderEvents = unix.IN_CREATE | unix.IN_DELETE | unix.IN_MOVED_FROM | unix.IN_MOVED_TO | unix.IN_ATTRIB |
		unix.IN_DELETE_SELF | unix.IN_MOVE_SELF | unix.IN_ONLYDIR
	fileEvents = unix.IN_MODIFY
	comeAndGo  = unix.IN_CREATE | unix.IN_DELETE | unix.IN_MOVED_FROM | unix.IN_MOVED_TO
)

// errNoInotify says that there is nothing to wait for but the clock.
var errNoInotify = errors.New("inotify is not available")

func newWatcher(log *slog.Logger) *watcher {
	w := &watcher{
		log: log, names: map[string][]chan struct{}{}, dirs: map[string]int{},
		watches: map[string]int32{}, told: map[int32][]string{}, noisy: map[string]bool{},
	}
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		log.Warn("inotify is not available, logs are polled", "err", err)
		return w
	}
	w.in = os.NewFile(uintptr(fd), "inotify")
	return w
}

// run hands events on until ctx ends; then nothing is watched any more.
func (w *watcher) run(ctx context.Context) {
	if w.in == nil {
		return
	}
	defer context.AfterFunc(ctx, func() { _ = w.in.Close() })() // which ends what waits to read
	events := make([]byte, 16<<10)
	for {
		n, err := w.in.Read(events)
		if err != nil {
			if ctx.Err() == nil {
				w.log.Warn("inotify fails, logs are looked at now and then", "err", err)
			}
			return
		}
		w.take(events[:n])
	}
}

// take wakes whom the kernel's events are for: each has a head of watch, mask, cookie and length, and a name padded
// with zeros (struct inotify_event of linux/inotify.h).
func (w *watcher) take(events []byte) {
	for len(events) >= unix.SizeofInotifyEvent {
		watch := int32(binary.NativeEndian.Uint32(events))
		mask := binary.NativeEndian.Uint32(events[4:])
		length := int(binary.NativeEndian.Uint32(events[12:]))
		events = events[unix.SizeofInotifyEvent:]
		if length > len(events) {
			return
		}
		name, _, _ := bytes.Cut(events[:length], []byte{0})
		events = events[length:]
		if mask&unix.IN_Q_OVERFLOW != 0 {
			w.wakeAll()
			continue
		}
		w.wake(watch, mask, string(name))
	}
}

// wake wakes those who wait for what a watch is for. name is that of a file in a watched folder, empty for what is
// watched itself.
func (w *watcher) wake(watch int32, mask uint32, name string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, of := range w.told[watch] {
		switch {
		case name != "":
			wakeUp(w.names[filepath.Join(of, name)])
			if mask&comeAndGo != 0 {
				wakeUp(w.names[inDir(of)])
			}
		case w.dirs[of] > 0: // a watched folder was moved or deleted
			for n, subs := range w.names {
				if dirOf(n) == of {
					wakeUp(subs)
				}
			}
		default:
			wakeUp(w.names[of])
		}
	}
	if mask&unix.IN_IGNORED != 0 { // what was watched is no more
		for _, of := range w.told[watch] {
			delete(w.watches, of)
		}
		delete(w.told, watch)
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
// both are watched anew, since their folder, or the file itself, may be another one by
// now. If an error is returned, the clock has to serve besides.
func (w *watcher) change(wake chan struct{}, old, now []string) error {
	if w.in == nil {
		return errNoInotify
	}
	// mu is not held while the kernel looks for paths, which may take long.
	w.changing.Lock()
	defer w.changing.Unlock()
	unused := w.rename(wake, old, now)
	var failed error
	for _, name := range now {
		dir := dirOf(name)
		if name != inDir(dir) && w.watch(name, fileEvents) != nil {
			w.noisy[dir] = true
		}
		events := uint32(folderEvents)
		if w.noisy[dir] {
			events |= fileEvents
		}
		if err := w.watch(dir, events); err != nil {
			failed = fmt.Errorf("watch folder %s: %w", dir, err)
		}
	}
	for _, path := range unused {
		w.unwatch(path)
		delete(w.noisy, path)
	}
	return failed
}

// watch has the kernel tell of a path. It is no error if nothing is there: what was, perhaps under another name by now,
// goes on to be told of. Nor is it if the file may not be read, or if all ends.
func (w *watcher) watch(path string, events uint32) (err error) {
	var watch int
	if w.kernel(func(fd int) { watch, err = unix.InotifyAddWatch(fd, path, events) }) != nil {
		return nil
	}
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) && events == fileEvents {
		return nil
	}
	if err != nil {
		return err
	}
	w.mu.Lock()
	before, had := w.watches[path]
	w.mu.Unlock()
	if had && before == int32(watch) {
		return nil
	}
	w.unwatch(path) // another file had the name
	w.mu.Lock()
	defer w.mu.Unlock()
	w.watches[path] = int32(watch)
	w.told[int32(watch)] = append(w.told[int32(watch)], path)
	return nil
}

// unwatch ends that the kernel tells of a path, unless the same file is watched by another name.
func (w *watcher) unwatch(path string) {
	w.mu.Lock()
	watch, had := w.watches[path]
	delete(w.watches, path)
	rest := slices.DeleteFunc(w.told[watch], func(other string) bool { return other == path })
	if len(rest) > 0 {
		w.told[watch] = rest
	} else {
		delete(w.told, watch)
	}
	w.mu.Unlock()
	if had && len(rest) == 0 { // it may be gone already, with its file; and at the end all are
		_ = w.kernel(func(fd int) { _, _ = unix.InotifyRmWatch(fd, uint32(watch)) })
	}
}

// kernel calls f with inotify's descriptor, unless that is closed.
func (w *watcher) kernel(f func(fd int)) error {
	conn, err := w.in.SyscallConn()
	if err == nil {
		err = conn.Control(func(fd uintptr) { f(int(fd)) })
	}
	return err
}

// rename changes the names wake is found by and returns the files and folders of no use any more.
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
			unused = append(unused, name)
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
