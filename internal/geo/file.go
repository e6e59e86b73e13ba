package geo

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net/netip"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/oschwald/maxminddb-golang/v2"
	"golang.org/x/sys/unix"
)

const (
	// maxFile bounds what is read of one file, in bytes; MaxMind's largest have less.
	maxFile = 512 << 20
	// maxNetworks bounds how many networks are looked at for one question.
	maxNetworks = 4096
	// maxCached are the records of one file that are remembered. There are some hundred in a
	// database of countries.
	maxCached = 4096
)

// A file is a database on disk, and what was read of it.
type file struct {
	path string
	db   *database // nil as long as it could not be read
	err  error     // why it could not be the last time

	read stamp // what it was when it was last read, well or not
	seen stamp // what it was at the last look
}

// A stamp tells one state of a file from another.
type stamp struct {
	dev, inode uint64
	size       int64
	changed    time.Time
}

var (
	// errChanged is for a file that somebody writes to.
	errChanged = errors.New("it was changed while it was read")
	// errDamaged is for one that is no better when it is read again.
	errDamaged = errors.New("it is no database, or only a part of one")
)

// look reads the file if it is another than the one that was read, and at rest; at once if it is
// the first look. What is wrong is told when it is new.
func (f *file) look(log *slog.Logger, first bool) {
	now, err := stampOf(f.path)
	if err == nil {
		rests := first || now == f.seen
		f.seen = now
		if now == f.read || !rests {
			return
		}
		var db *database
		if db, err = load(log, f.path, now); err == nil {
			f.db, f.read, f.err = db, now, nil
			log.Info("database of places read", "path", f.path, "type", db.state.Type, "built", db.state.Built.UTC())
			return
		}
	}
	f.read = stamp{} // it is tried again, unless it is what it holds that is wrong
	if errors.Is(err, errDamaged) {
		f.read = now
	}
	if errors.Is(err, errChanged) && !first || f.err != nil && f.err.Error() == err.Error() {
		return
	}
	f.err = err
	if f.db != nil {
		log.Warn("a database of places cannot be read; what was read before is used", "path", f.path, "err", err)
	} else {
		log.Warn("a database of places cannot be read; nothing is known from it until it can", "path", f.path, "err", err)
	}
}

func stampOf(path string) (stamp, error) {
	info, err := os.Stat(path)
	if err != nil {
		var in *fs.PathError
		if errors.As(err, &in) {
			err = in.Err // the path stands beside it
		}
		return stamp{}, err
	}
	return stampOfInfo(info)
}

func stampOfInfo(info fs.FileInfo) (stamp, error) {
	switch {
	case !info.Mode().IsRegular():
		return stamp{}, errors.New("it is not a regular file")
	case info.Size() > maxFile:
		return stamp{}, fmt.Errorf("it is larger than %d MiB", maxFile>>20)
	}
	s := stamp{size: info.Size(), changed: info.ModTime()}
	if sys, ok := info.Sys().(*syscall.Stat_t); ok {
		s.dev, s.inode = sys.Dev, sys.Ino
	}
	return s, nil
}

// load reads a file that was at looked as now says.
func load(log *slog.Logger, path string, now stamp) (*database, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, errors.Unwrap(err)
	}
	defer f.Close()
	data, err := memory(now.size)
	if err != nil {
		return nil, err
	}
	db, err := read(f, data, now)
	if err != nil {
		_ = unix.Munmap(data)
		return nil, err
	}
	db.log, db.state.Path, db.state.Size = log, path, now.size
	// The reader keeps itself alive while it works on the memory, and what it decodes is copied.
	runtime.AddCleanup(db.reader, func(data []byte) { _ = unix.Munmap(data) }, data)
	return db, nil
}

// memory is room for a file. It is not of Go's heap, so that a large database does not make the
// collector put off its work by as much again; and it is not the file itself, for who touches a mapped
// file that somebody has truncated is killed by SIGBUS (mmap(2)).
func memory(size int64) ([]byte, error) {
	if size == 0 {
		return nil, fmt.Errorf("%w: it is empty", errDamaged)
	}
	data, err := unix.Mmap(-1, 0, int(size), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
	if err != nil {
		return nil, fmt.Errorf("get memory for %d bytes: %w", size, err)
	}
	return data, nil
}

// read fills data and makes a database of it.
func read(f *os.File, data []byte, now stamp) (*database, error) {
	_, err := io.ReadFull(f, data)
	if errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) {
		return nil, errChanged
	}
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if after, err := stampOfInfo(info); err != nil || after != now {
		return nil, errChanged
	}
	return parse(data)
}

// A database is a file as it was read.
type database struct {
	log    *slog.Logger
	reader *maxminddb.Reader
	state  File
	told   atomic.Bool // that it is damaged

	mu     sync.RWMutex // guards cached
	cached map[uintptr]Place
}

// parse makes a database of a file's bytes, which belong to it from then on. It looks at the first
// networks, to find out what it knows and whether it is damaged throughout.
func parse(data []byte) (db *database, err error) {
	defer caught(&err)
	r, err := maxminddb.OpenBytes(data)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errDamaged, err)
	}
	if r.Metadata.BinaryFormatMajorVersion != 2 {
		return nil, fmt.Errorf("%w: it has version %d of the format, not 2", errDamaged, r.Metadata.BinaryFormatMajorVersion)
	}
	db = &database{reader: r, cached: map[uintptr]Place{}}
	db.state.Type, db.state.Built = text(r.Metadata.DatabaseType), r.Metadata.BuildTime()
	n := 0
	// Those without data are counted, too: a tree that somebody has crafted may have more of
	// them than anybody can walk through.
	for found := range r.Networks(maxminddb.IncludeNetworksWithoutData()) {
		p, err := decode(found)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", errDamaged, err)
		}
		db.state.Countries = db.state.Countries || p.Country != ""
		db.state.Networks = db.state.Networks || p.ASN != 0
		if n++; n == maxNetworks {
			break
		}
	}
	return db, nil
}

// caught makes an error of a panic. The reader is fuzzed and has none that we know of; but its input
// is whatever lies on a disk, and one more would end the daemon.
func caught(err *error) {
	if r := recover(); r != nil {
		*err = fmt.Errorf("%w: the reader gave up: %v", errDamaged, r)
	}
}

// find is what the database knows of an address.
func (db *database) find(a netip.Addr) (p Place) {
	if a.Is6() && db.reader.Metadata.IPVersion == 4 {
		return p
	}
	var err error
	defer db.tell(&err)
	defer caught(&err)
	p, err = db.place(db.reader.Lookup(a))
	return p
}

// place is decode, remembered.
func (db *database) place(r maxminddb.Result) (p Place, err error) {
	if !r.Found() {
		return p, r.Err()
	}
	at := r.Offset()
	db.mu.RLock()
	p, ok := db.cached[at]
	db.mu.RUnlock()
	if ok {
		return p, nil
	}
	if p, err = decode(r); err != nil {
		return Place{}, err
	}
	db.mu.Lock()
	defer db.mu.Unlock()
	if len(db.cached) >= maxCached {
		clear(db.cached)
	}
	db.cached[at] = p
	return p, nil
}

// within is what the database knows of all addresses of a prefix.
func (db *database) within(prefix netip.Prefix) (all Place) {
	if prefix.Addr().Is6() && db.reader.Metadata.IPVersion == 4 {
		return all
	}
	var err error
	defer db.tell(&err)
	defer caught(&err)
	n := 0
	for found := range db.reader.NetworksWithin(prefix, maxminddb.IncludeNetworksWithoutData()) {
		var p Place
		p, err = db.place(found)
		if n++; n == 1 {
			all = p
		} else {
			all.common(p)
		}
		if err != nil || all == (Place{}) || n > maxNetworks {
			return Place{}
		}
	}
	return all
}

// tell tells once that the database is damaged.
func (db *database) tell(err *error) {
	if *err != nil && db.told.CompareAndSwap(false, true) {
		db.log.Warn("a database of places is damaged; addresses in the damaged parts are unknown", "path", db.state.Path, "err", *err)
	}
}
