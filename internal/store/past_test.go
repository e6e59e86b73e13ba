package store

import (
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"bantam"
)

// ended is the decision that ends a ban.
func ended(b bantam.Ban, cause string) bantam.Decision {
	return bantam.Decision{Kind: bantam.End, Ban: b, At: b.Time.Add(time.Minute), Cause: cause}
}

func started(b bantam.Ban) bantam.Decision {
	return bantam.Decision{Kind: bantam.Start, Ban: b, At: b.Time}
}

func TestThePastIsToldNewestFirst(t *testing.T) {
	s := open(t, path(t))
	first, second, third := ban(1), ban(2), ban(3)
	second.Time, third.Time = now.Add(time.Minute), now.Add(2*time.Minute)
	third.Jail, third.ID = "web", bantam.PrefixID(netip.MustParsePrefix("2001:db8::/64"))
	do(s, started(first), started(second), started(third), ended(first, bantam.CauseExpired), ended(second, bantam.CauseOperator))
	for _, c := range []struct {
		name  string
		query PastQuery
		want  []string
		least bool
	}{
		{"all of it", PastQuery{Limit: 10}, []string{"2001:db8::/64 ", "192.0.0.2 operator", "192.0.0.1 expired"}, false},
		{"one jail", PastQuery{Limit: 10, Jail: "sshd"}, []string{"192.0.0.2 operator", "192.0.0.1 expired"}, false},
		{"the networks around an address", PastQuery{Limit: 10, ID: bantam.AddrID(netip.MustParseAddr("2001:db8::7"))}, []string{"2001:db8::/64 "}, false},
		{"what lies inside a network", PastQuery{Limit: 10, ID: bantam.PrefixID(netip.MustParsePrefix("192.0.0.0/31"))}, []string{"192.0.0.1 expired"}, false},
		{"from a time on", PastQuery{Limit: 10, Since: second.Time}, []string{"2001:db8::/64 ", "192.0.0.2 operator"}, false},
		{"before a time", PastQuery{Limit: 10, Until: second.Time}, []string{"192.0.0.1 expired"}, false},
		{"whoever is kept", PastQuery{Limit: 10, Keep: func(id bantam.ID) bool { return id == second.ID }}, []string{"192.0.0.2 operator"}, false},
		{"behind another", PastQuery{Limit: 10, After: PastKey{second.Time, second.Jail, second.ID}}, []string{"192.0.0.1 expired"}, false},
		{"a jail that never banned", PastQuery{Limit: 10, Jail: "nope"}, nil, false},
	} {
		past, err := s.Past(t.Context(), c.query)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, b := range past.Bans {
			got = append(got, b.ID.String()+" "+b.Cause)
			if (b.Cause == "") != b.Ended.IsZero() || len(b.Lines) != 1 {
				t.Errorf("%s: %+v", c.name, b)
			}
		}
		if !slices.Equal(got, c.want) || past.Fitting != len(c.want) || past.Least {
			t.Errorf("%s: %q, %d of them, want %q", c.name, got, past.Fitting, c.want)
		}
	}
}

// However many bans there are, pages of them are all of them, none twice.
func TestPagesOfThePastAreWhole(t *testing.T) {
	s := open(t, "")
	const many = 2*pastAtOnce + 100
	var decisions []bantam.Decision
	for n := range many {
		b := ban(n)
		b.ID = bantam.AddrID(netip.AddrFrom4([4]byte{10, byte(n >> 16), byte(n >> 8), byte(n)}))
		b.Time = now.Add(time.Duration(n/3) * time.Second) // some at the same time
		decisions = append(decisions, started(b))
	}
	do(s, decisions...)
	seen := map[bantam.ID]bool{}
	for q := (PastQuery{Limit: 999}); ; {
		past, err := s.Past(t.Context(), q)
		if err != nil {
			t.Fatal(err)
		}
		fitting := many
		if len(seen) > 0 {
			fitting = min(many-len(seen), 1000)
		}
		if past.Fitting != fitting || past.Least != (fitting < many-len(seen)) {
			t.Fatalf("%d fit behind %d, and more %t, want %d", past.Fitting, len(seen), past.Least, fitting)
		}
		for _, b := range past.Bans {
			if seen[b.ID] {
				t.Fatalf("%s comes twice", b.ID)
			}
			seen[b.ID] = true
			q.After = PastKey{b.Time, b.Jail, b.ID}
		}
		if len(past.Bans) < 999 {
			break
		}
	}
	if len(seen) != many {
		t.Errorf("%d of %d bans are told", len(seen), many)
	}
}

func TestBansAreReadOutOfDatabasesOfAllVersions(t *testing.T) {
	at := time.Unix(1_700_000_000, 0)
	length := func(string) time.Duration { return time.Hour }
	read := func(file string) (out []string, err error) {
		err = ReadBans(t.Context(), file, at, length, func(b bantam.Ban) error {
			out = append(out, fmt.Sprintf("%s %s %t", b.Jail, b.ID, b.End.After(at)))
			return nil
		})
		return out, err
	}
	for version := 1; version <= 4; version++ {
		file := peerFile(t, version, at.Unix()-5000, at.Unix()-100, at.Unix()-50)
		before, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		got, err := read(file)
		if err != nil || len(got) == 0 {
			t.Errorf("version %d: %q, %v", version, got, err)
		}
		for _, b := range got {
			if b[len(b)-4:] != "true" {
				t.Errorf("version %d: a ban that is over is read: %s", version, b)
			}
		}
		if after, err := os.ReadFile(file); err != nil || string(after) != string(before) {
			t.Errorf("version %d: the file is changed (%v)", version, err)
		}
	}
	ours := path(t)
	s := open(t, ours)
	b := ban(7)
	b.Time, b.End = at.Add(-time.Minute), at.Add(time.Minute)
	do(s, started(b))
	if got, err := read(ours); err != nil || !slices.Equal(got, []string{"sshd 192.0.0.7 true"}) {
		t.Errorf("our own file: %q, %v", got, err)
	}
	for name, text := range map[string]string{"text": "192.0.2.7\n", "empty": "", "half": "SQLite format 3\x00 and no more"} {
		file := filepath.Join(t.TempDir(), name)
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if got, err := read(file); !errors.Is(err, ErrNoBans) || got != nil {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
	if _, err := read(filepath.Join(t.TempDir(), "missing")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a missing file: %v", err)
	}
}

func BenchmarkPast(b *testing.B) {
	const many = 100_000
	s := aLongPast(b, many)
	b.Run("first page, and how many there are", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			past, err := s.Past(b.Context(), PastQuery{Limit: 50})
			if err != nil || past.Fitting != many {
				b.Fatal(past.Fitting, err)
			}
		}
	})
	b.Run("a page of a thousand", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			past, err := s.Past(b.Context(), PastQuery{Limit: 1000, After: PastKey{Time: now.Add(many / 2 * time.Second)}})
			if err != nil || len(past.Bans) != 1000 {
				b.Fatal(len(past.Bans), err)
			}
		}
	})
}

// aLongPast is a store with so many bans, a second between them.
func aLongPast(b *testing.B, many int) *Store {
	b.Helper()
	s, err := Open(b.Context(), slog.New(slog.DiscardHandler), "")
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = s.Close() })
	for from := 0; from < many; from += 10_000 {
		var decisions []bantam.Decision
		for n := from; n < from+10_000; n++ {
			x := ban(n)
			x.ID = bantam.AddrID(netip.AddrFrom4([4]byte{10, byte(n >> 16), byte(n >> 8), byte(n)}))
			x.Time = now.Add(time.Duration(n) * time.Second)
			decisions = append(decisions, started(x))
		}
		do(s, decisions...)
	}
	return s
}

// Whatever a file is, reading bans out of it ends, and what comes out is a ban.
func FuzzForeignDatabases(f *testing.F) {
	for version := 1; version <= 4; version++ {
		text, err := os.ReadFile(peerFile(f, version, 1_699_995_000, 1_699_999_900, 1_699_999_950))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		file := filepath.Join(t.TempDir(), "f.db")
		if err := os.WriteFile(file, text, 0o600); err != nil {
			t.Fatal(err)
		}
		n := 0
		err := ReadBans(t.Context(), file, time.Unix(1_700_000_000, 0), func(string) time.Duration { return time.Hour }, func(b bantam.Ban) error {
			if n++; b.ID.IsZero() || b.Jail == "" || n > len(text) {
				t.Errorf("%d: %+v", n, b)
			}
			return nil
		})
		_ = err // most files are none
	})
}
