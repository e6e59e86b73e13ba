package library_test

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"bantam"
	"bantam/internal/config"
	"bantam/internal/filter"
	"bantam/internal/logtest"
	"bantam/library"
)

// A record is one line of the corpus with what is expected of it.
type record struct {
	N       int               `json:"n"`
	Line    string            `json:"line"`
	Match   bool              `json:"match"`
	Host    *string           `json:"host"`
	User    *string           `json:"user"`
	Time    *time.Time        `json:"time"`
	Options map[string]string `json:"options"`
}

// corpusDir is the folder of SERVICE.jsonl files, which is no part of Bantam: the
// lines come from users of another program.
func corpusDir(t *testing.T) string {
	dir := os.Getenv("BANTAM_CORPUS")
	if dir == "" {
		dir = filepath.Join("..", "..", "shared", "corpus")
	}
	if _, err := os.Stat(dir); err != nil {
		t.Skip("no corpus; BANTAM_CORPUS names its folder: ", err)
	}
	return dir
}

// TestCorpus runs lines that others have collected. What is missed is counted, and a
// count that grows fails; a wrong host or an innocent line taken for an attack is a
// failure by itself. The misses that remain are named in the table.
func TestCorpus(t *testing.T) {
	dir := corpusDir(t)
	zone, err := time.LoadLocation("Europe/Zurich")
	if err != nil {
		t.Skip("no zone data on this machine: ", err)
	}
	files, err := filepath.Glob(filepath.Join(dir, "*.jsonl"))
	if err != nil || len(files) < 50 {
		t.Fatalf("the corpus has %d services, %v", len(files), err)
	}
	misses := map[string]int{
		// One line in four ways: 192.030.0.6 is no address.
		"sshd": 4,
		// One line in two modes: a user name with colons in it, which nginx does not write.
		"nginx-http-auth": 2,
	}
	for _, file := range files {
		service := strings.TrimSuffix(filepath.Base(file), ".jsonl")
		t.Run(service, func(t *testing.T) {
			attacks, missed := 0, 0
			for _, group := range readCorpus(t, file) {
				cfg := load(t, service, group[0].Options)
				cfg.Local = zone
				rules, err := filter.Compile(cfg)
				if err != nil {
					t.Fatal(err)
				}
				f := filter.New(rules)
				for _, r := range group {
					if service == "cowrie" {
						r.Time = nil // it writes UTC and says so; the claim takes it for local time
					}
					got := f.Judge(corpusLine(&r), nil)
					if r.Match {
						attacks++
					}
					if r.Match && len(got) == 0 {
						missed++
						t.Logf("missed %d %v %q", r.N, r.Options, r.Line)
						continue
					}
					if err := compare(&r, got); err != nil {
						t.Errorf("%d %v %q: %v", r.N, r.Options, r.Line, err)
					}
				}
			}
			t.Logf("%d of %d attacks found", attacks-missed, attacks)
			if missed != misses[service] {
				t.Errorf("%d attacks missed, want %d", missed, misses[service])
			}
		})
	}
}

// corpusNow is the clock that the corpus's times are written for.
var corpusNow = time.Date(2005, 8, 14, 10, 0, 0, 0, time.UTC)

// corpusLine is the line as its source would hand it on. The corpus wants years after
// its clock's, which a line that was just read cannot have: there the clock is put
// right behind.
func corpusLine(r *record) *bantam.Line {
	l := &bantam.Line{Text: []byte(r.Line), Read: corpusNow}
	if r.Time != nil && r.Time.After(corpusNow) {
		l.Read = r.Time.Add(time.Second)
	}
	if r.Options["logtype"] == "journal" {
		l.Time = corpusNow
	}
	return l
}

func compare(r *record, got []bantam.Failure) error {
	if !r.Match {
		if len(got) > 0 {
			return fmt.Errorf("it is no failure, but %s fails", logtest.Host(&got[0]))
		}
		return nil
	}
	if len(got) != 1 {
		return fmt.Errorf("%d failures", len(got))
	}
	f := &got[0]
	if r.Host != nil && !sameHost(*r.Host, f) {
		return fmt.Errorf("%s fails, want %s", logtest.Host(f), *r.Host)
	}
	if r.User != nil && f.User != *r.User {
		return fmt.Errorf("user %q, want %q", f.User, *r.User)
	}
	if r.Time != nil && !f.Time.Truncate(time.Second).Equal(*r.Time) {
		return fmt.Errorf("time %v, want %v", f.Time, r.Time)
	}
	return nil
}

func sameHost(want string, f *bantam.Failure) bool {
	if addr, err := netip.ParseAddr(want); err == nil {
		return f.ID == bantam.AddrID(addr)
	}
	return logtest.Host(f) == want
}

// readCorpus groups a service's records by their options.
func readCorpus(t *testing.T, path string) [][]record {
	file, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		t.Skip("no corpus for this service: ", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	groups := make(map[string][]record)
	scanner := bufio.NewScanner(file)
	scanner.Buffer(nil, 1<<20)
	for scanner.Scan() {
		var r record
		if err := json.Unmarshal(scanner.Bytes(), &r); err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		key, err := json.Marshal(r.Options)
		if err != nil {
			t.Fatal(err)
		}
		groups[string(key)] = append(groups[string(key)], r)
	}
	if err := scanner.Err(); err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	var out [][]record
	for _, key := range slices.Sorted(maps.Keys(groups)) {
		out = append(out, groups[key])
	}
	return out
}

// load reads a filter of the library with options.
func load(t testing.TB, name string, options map[string]string) filter.Config {
	t.Helper()
	c, err := config.LoadFilter(library.FS, name, options)
	if err != nil {
		t.Fatal(err)
	}
	c.Jail = strings.TrimSuffix(name, ".conf")
	return c
}
