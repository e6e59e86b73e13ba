// Package geo says where an address is: country, city and network, out of MaxMind DB files
// (maxmind.github.io/MaxMind-DB) that the administrator has put somewhere. No network is asked.
//
// A look-up does no I/O: files are read whole into memory outside of Go's heap, and read again
// by Run when they have changed. Whatever happens to a file, be it replaced, rewritten, truncated or
// damaged, what was last read of it goes on to be used until there is something better. All texts
// are made harmless: a database is a stranger's.
//
// What follows from a country is its callers' business.
package geo

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// A Place is what the databases know of an address. What they do not know is zero. Its
// texts are valid UTF-8, printable, and at most 100 characters long.
type Place struct {
	Country     string `json:"country,omitempty"`      // ISO 3166-1 alpha-2, in capitals
	CountryName string `json:"country_name,omitempty"` // in English
	City        string `json:"city,omitempty"`         // in English
	ASN         uint32 `json:"asn,omitempty"`
	ASOrg       string `json:"as_org,omitempty"`
}

// recheck is how often Run looks whether files have changed. One that has is read when it
// has stayed the same from one look to the next: whoever writes it is done then.
const recheck = 2 * time.Second

// Databases are some files. Run is called once at most; the other methods are safe for concurrent use.
type Databases struct {
	log *slog.Logger
	now atomic.Pointer[[]*database] // those that could be read, in the order of their files

	mu    sync.Mutex // guards files
	files []*file
}

// Open reads the files of these paths. One that cannot be read, or is not there yet, is told of
// once and waited for. Of several that know the same, the first is believed.
func Open(log *slog.Logger, paths []string) *Databases {
	d := &Databases{log: log}
	d.Use(paths)
	return d
}

// Use has other files used from now on. Those that stay are not read again.
func (d *Databases) Use(paths []string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	var files []*file
	for _, path := range paths {
		same := func(f *file) bool { return f.path == path }
		if slices.ContainsFunc(files, same) {
			continue
		}
		if at := slices.IndexFunc(d.files, same); at >= 0 {
			files = append(files, d.files[at])
			continue
		}
		f := &file{path: path}
		f.look(d.log, true)
		files = append(files, f)
	}
	d.files = files
	d.publish()
}

// publish makes what was read known to look-ups.
func (d *Databases) publish() {
	now := make([]*database, 0, len(d.files))
	for _, f := range d.files {
		if f.db != nil {
			now = append(now, f.db)
		}
	}
	d.now.Store(&now)
}

// Run reads files again when they have changed, until ctx ends.
func (d *Databases) Run(ctx context.Context) {
	tick := time.NewTicker(recheck)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		d.mu.Lock()
		for _, f := range d.files {
			f.look(d.log, false)
		}
		d.publish()
		d.mu.Unlock()
	}
}

// Find is what is known of an address; ok is false if nothing is. Nothing ever is of private
// and loopback addresses and their like, which are not of this world's registries.
func (d *Databases) Find(addr netip.Addr) (p Place, ok bool) {
	addr = addr.Unmap()
	if !public(addr) {
		return p, false
	}
	for _, db := range *d.now.Load() {
		p.add(db.find(addr))
	}
	return p, p != Place{}
}

// Place is Find for who does not care whether anything is known.
func (d *Databases) Place(addr netip.Addr) Place {
	p, _ := d.Find(addr)
	return p
}

// Within is what holds for every address of a prefix. Of one that has more than some
// thousand networks in it nothing is known.
func (d *Databases) Within(prefix netip.Prefix) (p Place, ok bool) {
	if prefix.IsSingleIP() {
		return d.Find(prefix.Addr())
	}
	if !prefix.IsValid() || !public(prefix.Addr()) {
		return p, false
	}
	for _, db := range *d.now.Load() {
		p.add(db.within(prefix))
	}
	return p, p != Place{}
}

// public reports whether an address may be somewhere.
func public(a netip.Addr) bool {
	return a.IsGlobalUnicast() && !a.IsPrivate()
}

// add fills in what p does not know. The names of a country go with its code, so that two
// databases that contradict each other make no place that is nowhere.
func (p *Place) add(o Place) {
	if p.Country == "" {
		p.Country = o.Country
	}
	if p.Country == o.Country {
		if p.CountryName == "" {
			p.CountryName = o.CountryName
		}
		if p.City == "" {
			p.City = o.City
		}
	}
	if p.ASN == 0 {
		p.ASN = o.ASN
	}
	if p.ASOrg == "" && p.ASN == o.ASN {
		p.ASOrg = o.ASOrg
	}
}

// common takes away from p what does not hold for o.
func (p *Place) common(o Place) {
	if p.Country != o.Country {
		p.Country, p.CountryName, p.City = "", "", ""
	}
	if p.City != o.City {
		p.City = ""
	}
	if p.ASN != o.ASN {
		p.ASN, p.ASOrg = 0, ""
	}
}

// A File is how one of the files is doing.
type File struct {
	Path string `json:"path"`
	// Type is what the file calls itself, as GeoLite2-Country; Built when it was made.
	Type  string    `json:"type,omitempty"`
	Built time.Time `json:"built,omitzero"`
	Size  int64     `json:"size,omitempty"` // bytes in memory
	// Countries and Networks say what it knows, as far as its first few thousand networks tell.
	Countries bool `json:"countries,omitempty"`
	Networks  bool `json:"networks,omitempty"`
	// Err is why it could not be read the last time; the rest is then what is used in its place, if anything.
	Err string `json:"error,omitempty"`
}

// Files are how the files are doing, in their order.
func (d *Databases) Files() []File {
	d.mu.Lock()
	defer d.mu.Unlock()
	var out []File
	for _, f := range d.files {
		s := File{Path: f.path}
		if f.db != nil {
			s = f.db.state
		}
		if f.err != nil {
			s.Err = f.err.Error()
		}
		out = append(out, s)
	}
	return out
}

// String is how the file is shown to people.
func (f File) String() string {
	switch {
	case f.Err != "" && f.Size == 0:
		return fmt.Sprintf("%s: %s", f.Path, f.Err)
	case f.Err != "":
		return fmt.Sprintf("%s: %s; what was read before is used", f.Path, f.Err)
	}
	return fmt.Sprintf("%s: %s of %s, %d bytes", f.Path, f.Type, f.Built.UTC().Format(time.DateOnly), f.Size)
}
