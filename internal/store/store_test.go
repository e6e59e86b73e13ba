package store

import (
	"bytes"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"bantam"
)

var now = time.Date(2025, 3, 2, 10, 0, 0, 0, time.UTC)

func open(t *testing.T, path string) *Store {
	t.Helper()
	s, err := Open(t.Context(), slog.New(slog.DiscardHandler), path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func path(t testing.TB) string { return filepath.Join(t.TempDir(), "folder", "bantam.db") }

func ban(n int) bantam.Ban {
	return bantam.Ban{
		Jail: "sshd", ID: bantam.AddrID(netip.AddrFrom4([4]byte{192, 0, byte(n >> 8), byte(n)})),
		Time: now, End: now.Add(time.Hour), Failures: 5, Count: 1, By: bantam.ByFailures,
		Lines: []string{"Failed password for <b>ö</b> from 192.0.2.1"}, User: "root", Data: map[string]string{"fport": "22"},
	}
}

// do sends decisions through Run and returns what comes out.
func do(s *Store, decisions ...bantam.Decision) (out []bantam.Decision) {
	in, stored := make(chan bantam.Decision, len(decisions)), make(chan []bantam.Decision, len(decisions))
	for _, d := range decisions {
		in <- d
	}
	close(in)
	s.Run(in, stored)
	for batch := range stored {
		out = append(out, batch...)
	}
	return out
}

func running(t *testing.T, s *Store, at time.Time) []bantam.Ban {
	t.Helper()
	b, err := s.Bans(t.Context(), at)
	if err != nil {
		t.Fatal(err)
	}
	for i := range b {
		b[i].Time, b[i].End = b[i].Time.UTC(), b[i].End.UTC()
	}
	return b
}

func TestBansSurviveARestart(t *testing.T) {
	file := path(t)
	s := open(t, file)
	permanent, network, text := ban(2), ban(3), ban(4)
	permanent.End, permanent.Reason, permanent.By = time.Time{}, "it's; DROP TABLE bantam_ban", bantam.ByOperator
	network.ID = bantam.PrefixID(netip.MustParsePrefix("2001:db8::/64"))
	text.ID, text.Lines, text.Data = bantam.TextID("no'body"), nil, nil
	want := []bantam.Ban{ban(1), permanent, network, text}
	position := bantam.Position{Source: "/var/log/auth.log", Mark: "ab", Offset: 17, Time: now}
	var decisions []bantam.Decision
	for i, b := range want {
		decisions = append(decisions, bantam.Decision{Seq: uint64(i + 1), Kind: bantam.Start, Ban: b, At: now, Positions: []bantam.Position{position}})
	}
	if out := do(s, decisions...); len(out) != 4 || out[3].Seq != 4 {
		t.Fatalf("passed on: %+v", out)
	}

	again := open(t, file)
	got := running(t, again, now)
	if len(got) != 4 {
		t.Fatalf("%d bans after a restart", len(got))
	}
	for i := range want {
		found := false
		for _, b := range got {
			found = found || reflect.DeepEqual(b, want[i])
		}
		if !found {
			t.Errorf("ban %+v is not among %+v", want[i], got)
		}
	}
	positions, err := again.Positions(t.Context())
	if p := positions["sshd"]["/var/log/auth.log"]; err != nil || p.Offset != 17 || p.Mark != "ab" || !p.Time.Equal(now) {
		t.Errorf("position %+v, %v", p, err)
	}
	if mode := fileMode(t, file); mode != 0o600 {
		t.Errorf("the file has mode %o", mode)
	}
}

func fileMode(t *testing.T, path string) os.FileMode {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	return info.Mode().Perm()
}

func TestEndsAndProlongations(t *testing.T) {
	s := open(t, path(t))
	longer := ban(1)
	longer.End = now.Add(2 * time.Hour)
	do(s, bantam.Decision{Kind: bantam.Start, Ban: ban(1), At: now}, bantam.Decision{Kind: bantam.Prolong, Ban: longer, At: now},
		bantam.Decision{Kind: bantam.Start, Ban: ban(2), At: now},
		bantam.Decision{Kind: bantam.End, Ban: ban(2), At: now.Add(time.Minute), Cause: bantam.CauseOperator},
		bantam.Decision{Kind: bantam.Start, Ban: ban(3), At: now},
		bantam.Decision{Kind: bantam.End, Ban: ban(3), At: now.Add(time.Minute), Cause: bantam.CauseRemoved})
	got := running(t, s, now)
	if len(got) != 2 || !got[0].End.Equal(longer.End) || got[1].ID != ban(3).ID {
		t.Errorf("running: %+v", got)
	}
	if got := running(t, s, now.Add(90*time.Minute)); len(got) != 1 {
		t.Errorf("later there run %+v", got)
	}
	// Banned again in the second in which it was lifted.
	do(s, bantam.Decision{Kind: bantam.Start, Ban: ban(2), At: now})
	if got := running(t, s, now); len(got) != 2 {
		t.Errorf("banned again: %+v", got)
	}
}

func TestCountsAndPurge(t *testing.T) {
	s := open(t, path(t))
	second := ban(1)
	second.Time, second.Count = now.Add(3*time.Hour), 2
	second.End = second.Time.Add(time.Hour)
	observed := ban(9)
	observed.Observed = true
	do(s, bantam.Decision{Kind: bantam.Start, Ban: ban(1), At: now},
		bantam.Decision{Kind: bantam.End, Ban: ban(1), At: now.Add(time.Hour), Cause: bantam.CauseExpired},
		bantam.Decision{Kind: bantam.Start, Ban: second, At: now}, bantam.Decision{Kind: bantam.Start, Ban: observed, At: now})
	counts := map[string]int{}
	err := s.Counts(t.Context(), func(b bantam.Ban) { counts[b.Jail+" "+b.ID.String()] = b.Count })
	if err != nil || !reflect.DeepEqual(counts, map[string]int{"sshd 192.0.0.1": 2}) {
		t.Errorf("counts %v, %v", counts, err)
	}
	if n, err := s.Purge(t.Context(), now.Add(90*time.Minute)); err != nil || n != 2 {
		t.Errorf("purged %d, %v", n, err)
	}
	if got := running(t, s, now.Add(3*time.Hour)); len(got) != 1 {
		t.Errorf("the running ban was purged: %+v", got)
	}
}

// remembered is what Counts tells of the IDs, as "last byte: count at seconds after now".
func remembered(t *testing.T, s *Store) string {
	t.Helper()
	var out []string
	err := s.Counts(t.Context(), func(b bantam.Ban) {
		p, _ := b.ID.Prefix()
		out = append(out, fmt.Sprintf("%d: %d at %g", p.Addr().As4()[3], b.Count, b.Time.Sub(now).Seconds()))
	})
	if err != nil {
		t.Fatal(err)
	}
	return strings.Join(out, ", ")
}

// banned is the decisions of a ban of ID n that starts and ends, in seconds after now.
func banned(n, count int, start, end float64, cause string) []bantam.Decision {
	after := func(s float64) time.Time { return now.Add(time.Duration(s * float64(time.Second))) }
	b := ban(n)
	b.Time, b.End, b.Count = after(start), after(end), count
	return []bantam.Decision{{Kind: bantam.Start, Ban: b, At: b.Time}, {Kind: bantam.End, Ban: b, At: b.End, Cause: cause}}
}

// What an operator lifts counts no more, nor what came before it, after a restart either.
func TestPardons(t *testing.T) {
	file := path(t)
	s := open(t, file)
	do(s, slices.Concat(banned(1, 1, 0, 10, bantam.CauseExpired), banned(1, 2, 20, 30, bantam.CauseOperator), banned(1, 1, 40, 50, bantam.CauseExpired),
		banned(2, 1, 0, 10, bantam.CauseExpired), banned(3, 1, 0, 10, bantam.CauseAllowed), banned(4, 1, 0, 10, bantam.CauseExpired))...)
	if err := s.Pardon(t.Context(), "sshd", ban(4).ID, now.Add(20*time.Second)); err != nil {
		t.Fatal(err)
	}
	if err := s.Pardon(t.Context(), "other", bantam.ID{}, now); err != nil {
		t.Fatal(err)
	}
	const want = "1: 1 at 0, 1: 2 at 20, 1: 0 at 30, 1: 1 at 40, 2: 1 at 0, 3: 1 at 0, 3: 0 at 10, 4: 1 at 0, 4: 0 at 20"
	if got := remembered(t, open(t, file)); got != want {
		t.Errorf("remembered are\n%s\nwant\n%s", got, want)
	}
	// Banned again in the second in which it was lifted: the ban counts.
	again := banned(3, 1, 0, 10, "")[:1]
	do(s, again...)
	if got := remembered(t, s); strings.Contains(got, "3: 0") {
		t.Errorf("a running ban is forgiven: %s", got)
	}
	if err := s.Pardon(t.Context(), "", bantam.ID{}, now.Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	if got := remembered(t, s); strings.Contains(got, "3: 0") || !strings.Contains(got, "1: 0 at 60") || !strings.Contains(got, "2: 0 at 60") {
		t.Errorf("all that are over are forgiven: %s", got)
	}
}

// The last ban of an ID is kept for three times its length, others only until they are
// as old as all.
func TestPurgeKeepsWhatStillCounts(t *testing.T) {
	s := open(t, path(t))
	do(s, slices.Concat(
		banned(1, 1, 0, 1000, bantam.CauseExpired), banned(1, 2, 2000, 2100, bantam.CauseExpired), // superseded, and short
		banned(2, 1, 0, 1000, bantam.CauseExpired),      // long
		banned(3, 1, 0, 1000, bantam.CauseOperator))...) // forgiven
	for _, c := range []struct {
		before float64
		want   string
	}{
		{1000, "1: 1 at 0, 1: 2 at 2000, 2: 1 at 0, 3: 1 at 0, 3: 0 at 1000"},
		{1001, "1: 2 at 2000, 2: 1 at 0"},
		{2300, "1: 2 at 2000, 2: 1 at 0"},
		{2301, "2: 1 at 0"},
		{3000, "2: 1 at 0"},
		{3001, ""},
	} {
		if _, err := s.Purge(t.Context(), now.Add(time.Duration(c.before*float64(time.Second)))); err != nil {
			t.Fatal(err)
		}
		if got := remembered(t, s); got != c.want {
			t.Errorf("purged before %g s there is %q, want %q", c.before, got, c.want)
		}
	}
}

func TestSeedStaysTheSame(t *testing.T) {
	file := path(t)
	first, err := open(t, file).Seed(t.Context())
	if err != nil || len(first) != 32 {
		t.Fatalf("%x, %v", first, err)
	}
	if again, err := open(t, file).Seed(t.Context()); err != nil || !bytes.Equal(again, first) {
		t.Errorf("after a restart %x, %v; want %x", again, err, first)
	}
	if other, err := open(t, path(t)).Seed(t.Context()); err != nil || bytes.Equal(other, first) {
		t.Errorf("another database has the same: %x, %v", other, err)
	}
}

// A file of the first version is brought up to date: what an operator lifted in it is forgiven.
func TestFileOfTheFirstVersion(t *testing.T) {
	file := path(t)
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		t.Fatal(err)
	}
	old, err := sql.Open("sqlite", file)
	if err != nil {
		t.Fatal(err)
	}
	us := now.UnixMicro()
	for _, statement := range []string{
		`CREATE TABLE bantam_meta (version INTEGER NOT NULL)`, `INSERT INTO bantam_meta VALUES (1)`, migrations[0],
		fmt.Sprintf(`INSERT INTO bantam_ban VALUES
			('sshd', '192.0.0.1', %[1]d, %[1]d + 10, 5, 1, 'failures', '', '', 0, NULL, NULL, %[1]d + 10, 'expired'),
			('sshd', '192.0.0.1', %[1]d + 20, 0, 5, 2, 'failures', '', '', 0, NULL, NULL, %[1]d + 1000000, 'operator'),
			('sshd', '192.0.0.1', %[1]d + 2000000, 0, 5, 1, 'failures', '', '', 0, NULL, NULL, NULL, NULL),
			('sshd', '192.0.0.2', %[1]d, %[1]d + 10, 5, 1, 'failures', '', '', 0, NULL, NULL, %[1]d + 10, 'expired')`, us),
	} {
		if _, err := old.Exec(statement); err != nil {
			t.Fatal(err)
		}
	}
	if err := old.Close(); err != nil {
		t.Fatal(err)
	}
	s := open(t, file)
	const want = "1: 1 at 0, 1: 2 at 2e-05, 1: 0 at 1, 1: 1 at 2, 2: 1 at 0"
	if got := remembered(t, s); got != want {
		t.Errorf("remembered are\n%s\nwant\n%s", got, want)
	}
	if b := running(t, s, now.Add(time.Hour)); len(b) != 1 || !b[0].Permanent() {
		t.Errorf("running are %+v", b)
	}
}

func TestAllowList(t *testing.T) {
	s := open(t, "")
	office := bantam.PrefixID(netip.MustParsePrefix("192.0.2.0/24"))
	if err := s.Allow([]bantam.ID{office}, "office", now); err != nil {
		t.Fatal(err)
	}
	if err := s.Allow([]bantam.ID{bantam.TextID("x")}, "", now); !errors.Is(err, bantam.ErrNotAddress) {
		t.Errorf("a text is allowed: %v", err)
	}
	list, err := s.Allowed(t.Context())
	if err != nil || len(list) != 1 || list[0].Reason != "office" || len(Prefixes(list)) != 1 {
		t.Errorf("%+v, %v", list, err)
	}
	removed, err := s.Disallow([]bantam.ID{office, office})
	if err != nil || len(removed) != 1 {
		t.Errorf("removed %v, %v", removed, err)
	}
}

func TestFilesThatAreNoDatabase(t *testing.T) {
	folder := t.TempDir()
	garbage := filepath.Join(folder, "garbage")
	if err := os.WriteFile(garbage, []byte(strings.Repeat("this is no database\n", 500)), 0o600); err != nil {
		t.Fatal(err)
	}
	newer := filepath.Join(folder, "newer.db")
	s := open(t, newer)
	if _, err := s.db.Exec(`UPDATE bantam_meta SET version = 99`); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ name, path, want string }{
		{"garbage", garbage, "not a database"},
		{"a folder", folder, folder},
		{"one of a later release", newer, ErrNewerVersion.Error()},
		{"a path below a file", filepath.Join(garbage, "x.db"), "garbage"},
	} {
		_, err := Open(t.Context(), slog.New(slog.DiscardHandler), c.path)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	if text, err := os.ReadFile(garbage); err != nil || !strings.HasPrefix(string(text), "this is no database") {
		t.Errorf("the garbage was changed: %q, %v", text[:20], err)
	}
}

// A full disk holds up nobody: decisions are passed on, and written when there is
// room again.
func TestFullDisk(t *testing.T) {
	file := path(t)
	s := open(t, file)
	var pages int
	if err := s.db.QueryRow(`PRAGMA page_count`).Scan(&pages); err != nil {
		t.Fatal(err)
	}
	limit := func(n int) {
		t.Helper()
		if _, err := s.db.Exec(fmt.Sprintf(`PRAGMA max_page_count = %d`, n)); err != nil {
			t.Fatal(err)
		}
	}
	limit(pages)
	var decisions []bantam.Decision
	for i := range 500 {
		decisions = append(decisions, bantam.Decision{Seq: uint64(i), Kind: bantam.Start, Ban: ban(i), At: now})
	}
	if out := do(s, decisions...); len(out) != 500 {
		t.Fatalf("%d decisions passed on", len(out))
	}
	if n, err := s.Err(); n != 500 || err == nil || !strings.Contains(err.Error(), "full") {
		t.Fatalf("%d are held back, %v", n, err)
	}
	limit(1 << 20)
	do(s)
	if n, err := s.Err(); n != 0 || err != nil {
		t.Fatalf("%d are held back, %v", n, err)
	}
	if got := running(t, s, now); len(got) != 500 {
		t.Errorf("%d bans in the file", len(got))
	}
}

// Held-back decisions are tried again without a new one.
func TestRetriesByItself(t *testing.T) {
	s := open(t, "")
	rename := func(from, to string) {
		t.Helper()
		if _, err := s.db.Exec(`ALTER TABLE ` + from + ` RENAME TO ` + to); err != nil {
			t.Fatal(err)
		}
	}
	synctest.Test(t, func(t *testing.T) {
		in, out := make(chan bantam.Decision), make(chan []bantam.Decision, 1)
		go s.Run(in, out)
		rename("bantam_ban", "gone")
		in <- bantam.Decision{Kind: bantam.Start, Ban: ban(1), At: now}
		<-out
		if n, err := s.Err(); n != 1 || err == nil {
			t.Errorf("%d held back, %v", n, err)
		}
		rename("gone", "bantam_ban")
		time.Sleep(2 * retryEvery) // of the bubble's clock
		synctest.Wait()
		if n, err := s.Err(); n != 0 || err != nil {
			t.Errorf("%d held back, %v", n, err)
		}
		close(in)
		<-out
	})
}

// lock locks a file as another program does, until unlock is called.
func lock(t *testing.T, file string) (unlock func()) {
	t.Helper()
	other, err := sql.Open("sqlite", file)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { other.Close() })
	conn, err := other.Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := conn.ExecContext(t.Context(), `BEGIN IMMEDIATE`); err != nil {
		t.Fatal(err)
	}
	return func() {
		t.Helper()
		if _, err := conn.ExecContext(t.Context(), `COMMIT`); err != nil {
			t.Fatal(err)
		}
		conn.Close()
	}
}

// A file that another program has locked is waited for.
func TestLockedFile(t *testing.T) {
	file := path(t)
	s := open(t, file)
	unlock := lock(t, file)
	in, out := make(chan bantam.Decision), make(chan []bantam.Decision, 1)
	go s.Run(in, out)
	in <- bantam.Decision{Kind: bantam.Start, Ban: ban(1), At: now}
	unlock()
	<-out
	if n, err := s.Err(); n != 0 || err != nil {
		t.Errorf("%d held back, %v", n, err)
	}
	close(in)
	<-out
}

func BenchmarkCounts(b *testing.B) {
	const bans = 100_000
	s, err := Open(b.Context(), slog.New(slog.DiscardHandler), filepath.Join(b.TempDir(), "b.db"))
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	decisions := make([]bantam.Decision, bans)
	for i := range decisions {
		one := ban(i)
		one.Time = now.Add(time.Duration(i) * time.Second)
		decisions[i] = bantam.Decision{Kind: bantam.Start, Ban: one, At: now}
	}
	s.save(decisions)
	b.ReportAllocs()
	for b.Loop() {
		n := 0
		if err := s.Counts(b.Context(), func(bantam.Ban) { n++ }); err != nil || n != bans {
			b.Fatalf("%d bans, %v", n, err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/bans, "ns/ban")
}

func BenchmarkWrite(b *testing.B) {
	for _, batch := range []int{1, 1000} {
		b.Run(fmt.Sprintf("batch=%d", batch), func(b *testing.B) {
			s, err := Open(b.Context(), slog.New(slog.DiscardHandler), filepath.Join(b.TempDir(), "b.db"))
			if err != nil {
				b.Fatal(err)
			}
			defer s.Close()
			n := 0
			for b.Loop() {
				decisions := make([]bantam.Decision, batch)
				for i := range decisions {
					n++
					one := ban(n)
					one.Time = now.Add(time.Duration(n) * time.Second)
					decisions[i] = bantam.Decision{Kind: bantam.Start, Ban: one, At: now}
				}
				s.save(decisions)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(n), "ns/ban")
		})
	}
}

// testLog writes to the test's own log.
func testLog(t *testing.T) *slog.Logger {
	return slog.New(slog.NewTextHandler(t.Output(), nil))
}

// Ten thousand bans at once, in a file of their own; opening and closing it does not count.
func BenchmarkTenThousand(b *testing.B) {
	decisions := starts(10_000)
	dir := b.TempDir()
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		b.StopTimer()
		s, err := Open(b.Context(), slog.New(slog.DiscardHandler), filepath.Join(dir, fmt.Sprint(i)))
		if err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
		for batch := range slices.Chunk(decisions, maxBatch) {
			s.save(batch)
		}
		b.StopTimer()
		if err := s.Close(); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
	}
}
