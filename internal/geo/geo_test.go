package geo

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/maxmind/mmdbwriter"
	"github.com/maxmind/mmdbwriter/mmdbtype"
)

// made is a database of records by prefix.
func made(t testing.TB, options mmdbwriter.Options, records map[string]mmdbtype.Map) []byte {
	t.Helper()
	options.Description = map[string]string{"en": "for tests"}
	options.IncludeReservedNetworks = true
	w, err := mmdbwriter.New(options)
	if err != nil {
		t.Fatal(err)
	}
	for prefix, record := range records {
		_, network, err := net.ParseCIDR(prefix)
		if err == nil {
			err = w.Insert(network, record)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	var out bytes.Buffer
	if _, err := w.WriteTo(&out); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func names2(name string) mmdbtype.Map {
	return mmdbtype.Map{"names": mmdbtype.Map{"de": mmdbtype.String("anders"), "en": mmdbtype.String(name)}}
}

// city is a record of MaxMind's shape.
func city(code, country, name string) mmdbtype.Map {
	c := names2(country)
	c["iso_code"] = mmdbtype.String(code)
	m := mmdbtype.Map{"country": c, "location": mmdbtype.Map{"latitude": mmdbtype.Float64(3.1)}}
	if name != "" {
		m["city"] = names2(name)
	}
	return m
}

// flat is a record of the other shape.
func flat(pairs ...string) mmdbtype.Map {
	m := mmdbtype.Map{}
	for i := 0; i < len(pairs); i += 2 {
		m[mmdbtype.String(pairs[i])] = mmdbtype.String(pairs[i+1])
	}
	return m
}

func asn(n uint32, org string) mmdbtype.Map {
	return mmdbtype.Map{"autonomous_system_number": mmdbtype.Uint32(n), "autonomous_system_organization": mmdbtype.String(org)}
}

var cities = map[string]mmdbtype.Map{
	"175.136.0.0/16": city("MY", "Malaysia", "Kuala Lumpur"),
	"175.137.0.0/16": city("MY", "Malaysia", "Ipoh"),
	"46.72.0.0/16":   city("RU", "Russia", ""),
	"2001:d08::/32":  city("MY", "Malaysia", ""),
	"10.0.0.0/8":     city("US", "a liar's", ""),
}

// put writes files into a folder of the test's own and returns their paths.
func put(t testing.TB, files ...[]byte) (paths []string) {
	t.Helper()
	dir := t.TempDir()
	for i, data := range files {
		path := filepath.Join(dir, fmt.Sprintf("%d.mmdb", i))
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		paths = append(paths, path)
	}
	return paths
}

// A journal is a log that a test reads.
type journal struct {
	mu   sync.Mutex // guards text
	text bytes.Buffer
}

func (j *journal) Write(p []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.Write(p)
}

// count is how many lines hold a text.
func (j *journal) count(text string) int {
	j.mu.Lock()
	defer j.mu.Unlock()
	return strings.Count(j.text.String(), text)
}

func (j *journal) logger() *slog.Logger { return slog.New(slog.NewTextHandler(j, nil)) }

func TestFind(t *testing.T) {
	d := Open(slog.New(slog.DiscardHandler), put(t,
		made(t, mmdbwriter.Options{DatabaseType: "GeoLite2-City", RecordSize: 24}, cities),
		made(t, mmdbwriter.Options{DatabaseType: "GeoLite2-ASN", IPVersion: 4}, map[string]mmdbtype.Map{
			"175.136.0.0/15": asn(4788, "TM Technology"), "1.1.1.0/24": asn(13335, "CLOUDFLARENET"),
		}),
		made(t, mmdbwriter.Options{DatabaseType: "ipinfo", RecordSize: 32}, map[string]mmdbtype.Map{
			"1.1.1.0/24":   flat("country", "Australia", "country_code", "AU", "asn", "AS99", "as_name", "not asked"),
			"8.8.8.0/24":   flat("country", "us", "country_name", "United States", "asn", "AS15169", "as_name", "Google LLC"),
			"46.72.9.0/24": flat("country_code", "CN", "country_name", "China", "city", "Peking"),
			"9.9.9.0/24":   {"country_code": mmdbtype.String("CH"), "asn": mmdbtype.Uint32(19281), "as_org": mmdbtype.String("Quad9")},
			"5.5.5.0/24":   flat("country_code", "ZZ", "country_name", "nowhere"),
			"6.6.6.0/24":   {"country": mmdbtype.Slice{mmdbtype.String("US")}, "asn": mmdbtype.String("many")},
			"2a00::/16":    {"traits": asn(64500, "a holder"), "country": mmdbtype.Map{"iso_code": mmdbtype.String("de")}},
		})))
	for _, c := range []struct {
		name, addr string
		want       Place
	}{
		{"city and network, of two files", "175.136.9.9", Place{"MY", "Malaysia", "Kuala Lumpur", 4788, "TM Technology"}},
		{"IPv6", "2001:d08::7", Place{"MY", "Malaysia", "", 0, ""}},
		{"IPv4 in IPv6", "::ffff:175.136.9.9", Place{"MY", "Malaysia", "Kuala Lumpur", 4788, "TM Technology"}},
		{"a flat record; the network of the file before it", "1.1.1.1", Place{"AU", "Australia", "", 13335, "CLOUDFLARENET"}},
		{"a flat record, all of it", "8.8.8.8", Place{"US", "United States", "", 15169, "Google LLC"}},
		{"two files that contradict each other", "46.72.9.1", Place{"RU", "Russia", "", 0, ""}},
		{"a number, and no name of the country", "9.9.9.9", Place{"CH", "", "", 19281, "Quad9"}},
		{"a network among the traits", "2a00::1", Place{"DE", "", "", 64500, "a holder"}},
		{"a code for nowhere", "5.5.5.5", Place{}},
		{"a record of another shape", "6.6.6.6", Place{}},
		{"an address in no record", "198.51.100.1", Place{}},
		{"a private address, whatever the file says", "10.1.2.3", Place{}},
		{"this machine", "127.0.0.1", Place{}},
		{"no address", "", Place{}},
	} {
		addr, _ := netip.ParseAddr(c.addr) // the zero address where there is none
		for range 2 {                      // the second answer is remembered
			if got, ok := d.Find(addr); got != c.want || ok != (c.want != Place{}) {
				t.Errorf("%s: %+v, %v, want %+v", c.name, got, ok, c.want)
			}
		}
	}
	files := d.Files()
	if len(files) != 3 || !files[0].Countries || files[0].Networks || files[1].Countries || !files[1].Networks || files[0].Type != "GeoLite2-City" {
		t.Errorf("the files are said to be %v", files)
	}
}

func TestWithin(t *testing.T) {
	d := Open(slog.New(slog.DiscardHandler), put(t, made(t, mmdbwriter.Options{}, cities)))
	for _, c := range []struct {
		name, prefix string
		want         Place
	}{
		{"inside one network", "175.136.8.0/24", Place{"MY", "Malaysia", "Kuala Lumpur", 0, ""}},
		{"two cities of one country", "175.136.0.0/15", Place{"MY", "Malaysia", "", 0, ""}},
		{"a country and what is in none", "175.136.0.0/14", Place{}},
		{"the whole world", "0.0.0.0/0", Place{}},
		{"a single address", "46.72.1.1/32", Place{"RU", "Russia", "", 0, ""}},
		{"IPv6", "2001:d08:1::/64", Place{"MY", "Malaysia", "", 0, ""}},
		{"private ones", "10.0.0.0/24", Place{}},
	} {
		if got, ok := d.Within(netip.MustParsePrefix(c.prefix)); got != c.want || ok != (c.want != Place{}) {
			t.Errorf("%s: %+v, %v, want %+v", c.name, got, ok, c.want)
		}
	}
}

func TestTextsAreMadeHarmless(t *testing.T) {
	d := Open(slog.New(slog.DiscardHandler), put(t, made(t, mmdbwriter.Options{}, map[string]mmdbtype.Map{
		"46.0.0.0/8": city("RU\n", "Ru", ""),
		"47.0.0.0/8": city("RU", "Rus\x1b[31m\r\nBcc: x\u202e\x00land ", "  "+strings.Repeat("é", 500)),
	})))
	if got, ok := d.Find(netip.MustParseAddr("46.0.0.1")); ok {
		t.Errorf("a code with a line end is taken: %+v", got)
	}
	got := d.Place(netip.MustParseAddr("47.0.0.1"))
	if got.CountryName != "Rus[31mBcc: xland" || got.City != strings.Repeat("é", 100) {
		t.Errorf("the texts are %q and %q", got.CountryName, got.City)
	}
}

// after lets Run look at the files a few times.
func after() {
	time.Sleep(3 * recheck) // of the bubble's clock
	synctest.Wait()
}

func TestFilesThatChange(t *testing.T) {
	old := made(t, mmdbwriter.Options{}, cities)
	other := made(t, mmdbwriter.Options{}, map[string]mmdbtype.Map{"46.72.0.0/16": city("UA", "Ukraine", "")})
	path := put(t, old)[0]
	synctest.Test(t, func(t *testing.T) {
		var log journal
		d := Open(log.logger(), []string{path, path, path + ".missing"})
		ctx, cancel := context.WithCancel(t.Context())
		var run sync.WaitGroup
		run.Go(func() { d.Run(ctx) })
		defer run.Wait()
		defer cancel()
		addr := netip.MustParseAddr("46.72.1.1")
		// Each step writes the file otherwise than the one before and says what is known then.
		for _, step := range []struct {
			name string
			do   func() error
			want string
			err  string // what Files says, "" for nothing
		}{
			{"as it was opened", func() error { return nil }, "RU", ""},
			{"replaced by another name", func() error {
				return errOf(os.WriteFile(path+".new", other, 0o600), func() error { return os.Rename(path+".new", path) })
			}, "UA", ""},
			{"rewritten in place", func() error { return os.WriteFile(path, old, 0o600) }, "RU", ""},
			{"truncated", func() error { return os.Truncate(path, int64(len(old)/2)) }, "RU", "only a part"},
			{"emptied", func() error { return os.Truncate(path, 0) }, "RU", "empty"},
			{"no database at all", func() error { return os.WriteFile(path, []byte("<html>404"), 0o600) }, "RU", "no database"},
			{"gone", func() error { return os.Remove(path) }, "RU", "no such file"},
			{"a folder", func() error { return os.Mkdir(path, 0o700) }, "RU", "not a regular file"},
			{"back, and another", func() error {
				return errOf(os.Remove(path), func() error { return os.WriteFile(path, other, 0o600) })
			}, "UA", ""},
		} {
			if err := step.do(); err != nil {
				t.Fatal(err)
			}
			after()
			files := d.Files()
			if got := d.Place(addr).Country; got != step.want || len(files) != 2 {
				t.Errorf("%s: the country is %q, want %q, of %d files", step.name, got, step.want, len(files))
			}
			if got := files[0].Err; step.err == "" && got != "" || !strings.Contains(got, step.err) {
				t.Errorf("%s: the error is %q, want %q", step.name, got, step.err)
			}
			if got := files[1].Err; !strings.Contains(got, "no such file") {
				t.Errorf("%s: the missing file's error is %q", step.name, got)
			}
		}
		if n := log.count("what was read before is used"); n != 5 {
			t.Errorf("of five bad states %d are told", n)
		}
		if n := log.count("nothing is known from it"); n != 1 {
			t.Errorf("the missing file is told of %d times", n)
		}

		// It comes, and the list changes.
		if err := os.WriteFile(path+".missing", made(t, mmdbwriter.Options{}, map[string]mmdbtype.Map{"46.72.0.0/16": asn(7, "seven")}), 0o600); err != nil {
			t.Fatal(err)
		}
		after()
		if got := d.Place(addr); got.ASN != 7 || got.Country != "UA" {
			t.Errorf("when the missing file is there the place is %+v", got)
		}
		d.Use([]string{path + ".missing"})
		if got := d.Place(addr); got != (Place{ASN: 7, ASOrg: "seven"}) {
			t.Errorf("of the one file that is left the place is %+v", got)
		}
	})
}

func errOf(err error, next func() error) error {
	if err != nil {
		return err
	}
	return next()
}

// A file that grows is not read before it is whole: nobody is told of a half of it.
func TestAFileThatIsStillWritten(t *testing.T) {
	data := made(t, mmdbwriter.Options{}, cities)
	path := filepath.Join(t.TempDir(), "a.mmdb")
	synctest.Test(t, func(t *testing.T) {
		var log journal
		d := Open(log.logger(), []string{path})
		ctx, cancel := context.WithCancel(t.Context())
		var run sync.WaitGroup
		run.Go(func() { d.Run(ctx) })
		defer run.Wait()
		defer cancel()
		for n := 1; n <= 4; n++ {
			if err := os.WriteFile(path, data[:len(data)*n/4], 0o600); err != nil {
				t.Fatal(err)
			}
			time.Sleep(recheck)
			synctest.Wait()
		}
		after()
		if got := d.Place(netip.MustParseAddr("46.72.1.1")).Country; got != "RU" {
			t.Errorf("the country is %q", got)
		}
		if log.count("level=WARN") != 1 || log.count("no such file") != 1 {
			t.Errorf("it is told\n%s", log.text.String())
		}
	})
}

// Readers go on while the file under them is cut to nothing, filled with rubbish and replaced.
func TestReadersOfAFileThatIsCutAndReplaced(t *testing.T) {
	data := made(t, mmdbwriter.Options{}, cities)
	path := put(t, data)[0]
	var log journal
	d := Open(log.logger(), []string{path})
	stop := make(chan struct{})
	var readers sync.WaitGroup
	for range 8 {
		readers.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				for _, a := range []string{"46.72.1.1", "2001:d08::1"} {
					if got := d.Place(netip.MustParseAddr(a)).Country; got == "" {
						t.Errorf("%s is nowhere", a)
						return
					}
				}
				if got, _ := d.Within(netip.MustParsePrefix("175.136.0.0/15")); got.Country != "MY" {
					t.Errorf("the network is in %q", got.Country)
					return
				}
			}
		})
	}
	rubbish := rand.New(rand.NewPCG(1, 2))
	for n := range 150 {
		var err error
		switch n % 3 {
		case 0:
			err = os.Truncate(path, int64(rubbish.IntN(len(data))))
		case 1:
			err = os.WriteFile(path, bytes.Repeat([]byte{byte(n)}, len(data)), 0o600)
		case 2:
			err = errOf(os.WriteFile(path+".new", data, 0o600), func() error { return os.Rename(path+".new", path) })
		}
		if err != nil {
			t.Fatal(err)
		}
		d.mu.Lock()
		d.files[0].look(d.log, true)
		d.publish()
		d.mu.Unlock()
	}
	close(stop)
	readers.Wait()
	if log.count("what was read before is used") == 0 || log.count("database of places read") < 2 {
		t.Error("it was never replaced")
	}
}

func TestWords(t *testing.T) {
	for _, c := range []struct{ word, code string }{{"my", "MY"}, {"Sg", "SG"}, {"malaysia", ""}, {"", ""}, {"a1", ""}, {"é", ""}} {
		if got, err := ParseCountry(c.word); got != c.code || (err != nil) != (c.code == "") {
			t.Errorf("country %q: %q, %v", c.word, got, err)
		}
	}
	for _, c := range []struct {
		word string
		n    uint32
	}{{"AS13335", 13335}, {"as4788", 4788}, {"4294967295", 4294967295}, {"0", 0}, {"AS", 0}, {"4294967296", 0}, {"-1", 0}, {"+1", 0}, {"1.5", 0}} {
		if got, err := ParseASN(c.word); got != c.n || (err != nil) != (c.n == 0) {
			t.Errorf("network %q: %d, %v", c.word, got, err)
		}
	}
	for code, want := range map[string]bool{"MY": true, "UK": false, "GB": true, "XK": true, "D ": false, "": false, "E A": false, "my": false} {
		if Assigned(code) != want {
			t.Errorf("%q: %v", code, !want)
		}
	}
	if codes := strings.Fields(assigned); len(codes) != 249+3 {
		t.Errorf("there are %d codes", len(codes))
	}
}

// Whatever a file holds, it is refused or answers, in bounded time and with harmless texts.
func FuzzDatabase(f *testing.F) {
	shapes := [][]byte{
		made(f, mmdbwriter.Options{RecordSize: 24}, cities),
		made(f, mmdbwriter.Options{IPVersion: 4}, map[string]mmdbtype.Map{"1.1.1.0/24": asn(13335, "CLOUDFLARENET")}),
		made(f, mmdbwriter.Options{RecordSize: 32}, map[string]mmdbtype.Map{"8.0.0.0/8": flat("country", "us", "asn", "AS15169")}),
	}
	for _, s := range shapes {
		f.Add(s)
		f.Add(s[:len(s)/2])
		f.Add(s[len(s)/2:])
		for at := 0; at < len(s); at += 41 {
			damaged := bytes.Clone(s)
			damaged[at] ^= 0xff
			f.Add(damaged)
		}
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) > 1<<16 {
			return
		}
		db, err := parse(data)
		if err != nil {
			return
		}
		db.log = slog.New(slog.DiscardHandler)
		for _, a := range []string{"175.136.9.9", "1.1.1.1", "8.8.8.8", "2001:d08::1", "::1", "255.255.255.255"} {
			p := db.find(netip.MustParseAddr(a))
			for _, s := range []string{p.Country, p.CountryName, p.City, p.ASOrg, db.state.Type} {
				if !utf8.ValidString(s) || utf8.RuneCountInString(s) > 100 || strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }) {
					t.Errorf("%s: %q", a, s)
				}
			}
			if p.Country != "" && len(p.Country) != 2 {
				t.Errorf("%s: country %q", a, p.Country)
			}
		}
		db.within(netip.MustParsePrefix("0.0.0.0/0"))
		db.within(netip.MustParsePrefix("2000::/3"))
	})
}

func benchmarked(b *testing.B, networks int) *Databases {
	records := map[string]mmdbtype.Map{}
	for i := range networks {
		records[fmt.Sprintf("%d.%d.%d.0/24", 20+i>>16, i>>8&255, i&255)] = city("MY", "Malaysia", fmt.Sprintf("City %d", i))
	}
	return Open(slog.New(slog.DiscardHandler), put(b, made(b, mmdbwriter.Options{}, records)))
}

func BenchmarkFind(b *testing.B) {
	for _, c := range []struct {
		name     string
		networks int
	}{{"remembered", 200}, {"decoded", 20_000}} {
		b.Run(c.name, func(b *testing.B) {
			d := benchmarked(b, c.networks)
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				n := i * 7919 % c.networks
				if d.Place(netip.AddrFrom4([4]byte{byte(20 + n>>16), byte(n >> 8), byte(n), 7})).Country == "" {
					b.Fatal("nowhere")
				}
			}
		})
	}
}
