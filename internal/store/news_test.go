package store

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"bantam"
	"bantam/internal/outbox"
)

// news is what a reader is still to be told, as "kind last-byte".
func news(t *testing.T, s *Store, reader string) (text string, last int64) {
	t.Helper()
	var out []string
	all, err := s.News(t.Context(), reader, 100)
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range all {
		if n.Number <= last {
			t.Errorf("number %d comes after %d", n.Number, last)
		}
		last = n.Number
		p, _ := n.Decision.Ban.ID.Prefix()
		out = append(out, fmt.Sprintf("%s %d", n.Decision.Kind, p.Addr().As4()[3]))
	}
	return strings.Join(out, ", "), last
}

func commit(t *testing.T, s *Store, reader string, b outbox.Batch) {
	t.Helper()
	if err := s.Commit(t.Context(), reader, b); err != nil {
		t.Fatal(err)
	}
}

// count is how many rows a table has.
func count(t *testing.T, s *Store, table string) (n int) {
	t.Helper()
	if err := s.db.QueryRow(`SELECT count(*) FROM ` + table).Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

func TestNewsOfDecisions(t *testing.T) {
	for _, c := range []struct {
		name      string
		follow    map[string][]string
		decisions []bantam.Decision
		notify    string
		report    string
	}{
		{
			"a start and an end are told",
			map[string][]string{"notify": {"sshd"}},
			banned(1, 1, 0, 10, bantam.CauseExpired), "start 1, end 1", "",
		},
		{
			"nobody follows", nil,
			banned(1, 1, 0, 10, bantam.CauseExpired), "", "",
		},
		{
			"two readers are told the same",
			map[string][]string{"notify": {"web", "sshd"}, "report": {"sshd", "sshd"}},
			banned(1, 1, 0, 10, bantam.CauseExpired), "start 1, end 1", "start 1, end 1",
		},
		{
			"another jail is not told of",
			map[string][]string{"notify": {"web"}, "report": {"sshd"}},
			banned(1, 1, 0, 10, bantam.CauseExpired), "", "start 1, end 1",
		},
		{
			"a restored and a prolonged ban are no news",
			map[string][]string{"notify": {"sshd"}},
			[]bantam.Decision{{Kind: bantam.Restore, Ban: ban(1), At: now}, {Kind: bantam.Start, Ban: ban(2), At: now}, {Kind: bantam.Prolong, Ban: ban(2), At: now}},
			"start 2", "",
		},
		{
			"a ban that only observes is news",
			map[string][]string{"notify": {"sshd"}},
			[]bantam.Decision{{Kind: bantam.Start, At: now, Ban: func() bantam.Ban { b := ban(7); b.Observed = true; return b }()}},
			"start 7", "",
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := open(t, "")
			s.Follow(c.follow)
			do(s, c.decisions...)
			if got, _ := news(t, s, "notify"); got != c.notify {
				t.Errorf("notify is told %q, want %q", got, c.notify)
			}
			if got, _ := news(t, s, "report"); got != c.report {
				t.Errorf("report is told %q, want %q", got, c.report)
			}
		})
	}
}

// What is told of a ban is all that is known of it.
func TestNewsAreComplete(t *testing.T) {
	s := open(t, path(t))
	s.Follow(map[string][]string{"notify": {"sshd"}})
	b := ban(1)
	b.Reason, b.Count, b.Observed = "because", 3, true
	longer := b
	longer.End = b.End.Add(time.Hour)
	do(s, bantam.Decision{Kind: bantam.Start, Ban: b, At: now.Add(time.Second)},
		bantam.Decision{Kind: bantam.Prolong, Ban: longer, At: now.Add(time.Minute)},
		bantam.Decision{Kind: bantam.End, Ban: longer, At: now.Add(2 * time.Minute), Cause: bantam.CauseOperator})
	all, err := s.News(t.Context(), "notify", 10)
	if err != nil || len(all) != 2 {
		t.Fatalf("%+v, %v", all, err)
	}
	for i, want := range []bantam.Decision{
		{Kind: bantam.Start, Ban: longer, At: now.Add(time.Second)},
		{Kind: bantam.End, Ban: longer, At: now.Add(2 * time.Minute), Cause: bantam.CauseOperator},
	} {
		got := all[i].Decision
		got.Ban.Time, got.Ban.End, got.At = got.Ban.Time.UTC(), got.Ban.End.UTC(), got.At.UTC()
		if !reflect.DeepEqual(got, want) {
			t.Errorf("told is\n%+v, want\n%+v", got, want)
		}
	}
}

// News are visible to their reader as soon as the decision is passed on.
func TestNewsAreThereWhenTheDecisionIsPassedOn(t *testing.T) {
	s := open(t, path(t))
	s.Follow(map[string][]string{"notify": {"sshd"}})
	in, stored := make(chan bantam.Decision), make(chan []bantam.Decision)
	go s.Run(in, stored)
	for i := range 20 {
		in <- bantam.Decision{Kind: bantam.Start, Ban: ban(i), At: now}
		<-stored
		if text, _ := news(t, s, "notify"); !strings.HasSuffix(text, fmt.Sprintf("start %d", i)) {
			t.Fatalf("after decision %d told is %q", i, text)
		}
	}
	close(in)
	<-stored
}

func TestCommitForgetsWhatIsDone(t *testing.T) {
	file := path(t)
	s := open(t, file)
	s.Follow(map[string][]string{"notify": {"sshd"}, "report": {"sshd"}})
	do(s, slices.Concat(banned(1, 1, 0, 10, bantam.CauseExpired), banned(2, 1, 0, 10, bantam.CauseExpired))...)
	some, err := s.News(t.Context(), "notify", 3)
	if err != nil || len(some) != 3 {
		t.Fatalf("%+v, %v", some, err)
	}
	letter := outbox.Letter{Key: "k1", Channel: "mail", About: "1", Body: []byte("text\x00"), Made: now, Due: now.Add(time.Second)}
	commit(t, s, "notify", outbox.Batch{UpTo: some[2].Number, Letters: []outbox.Letter{letter}, Notes: map[string][]byte{"a": []byte("1"), "b": {}}})

	// Commit is repeated, by somebody who did not hear that it went well.
	again := letter
	again.About = "another"
	commit(t, s, "notify", outbox.Batch{UpTo: some[2].Number, Letters: []outbox.Letter{again}, Notes: map[string][]byte{"none": nil}})

	s = open(t, file)
	s.Follow(map[string][]string{"notify": {"sshd"}, "report": {"sshd"}})
	if text, _ := news(t, s, "notify"); text != "end 2" {
		t.Errorf("left for notify is %q", text)
	}
	text, last := news(t, s, "report")
	if text != "start 1, end 1, start 2, end 2" {
		t.Errorf("left for report is %q", text)
	}
	letters, err := s.Letters(t.Context())
	if err != nil || len(letters) != 1 || letters[0].About != "1" || !letters[0].Made.Equal(now) || !letters[0].Due.Equal(letter.Due) {
		t.Errorf("letters %+v, %v", letters, err)
	}
	if body, err := s.Body(t.Context(), "k1"); err != nil || string(body) != "text\x00" {
		t.Errorf("body %q, %v", body, err)
	}
	if value, at, err := s.Note(t.Context(), "notify", "a"); err != nil || string(value) != "1" || at.IsZero() {
		t.Errorf("note %q, %v, %v", value, at, err)
	}
	if value, _, err := s.Note(t.Context(), "notify", "b"); err != nil || value == nil || len(value) != 0 {
		t.Errorf("the empty note is %v, %v", value, err)
	}
	if value, _, err := s.Note(t.Context(), "report", "a"); err != nil || value != nil {
		t.Errorf("another owner has the note %q, %v", value, err)
	}
	if notes, err := s.Notes(t.Context(), "notify"); err != nil || len(notes) != 2 || notes[0].Key != "a" || string(notes[0].Value) != "1" || len(notes[1].Value) != 0 {
		t.Errorf("notes %+v, %v", notes, err)
	}
	commit(t, s, "report", outbox.Batch{UpTo: last})
	commit(t, s, "notify", outbox.Batch{UpTo: last, Notes: map[string][]byte{"a": nil}})
	if n := count(t, s, "bantam_news"); n != 0 {
		t.Errorf("%d news are kept that everybody was told", n)
	}
	if value, _, err := s.Note(t.Context(), "notify", "a"); err != nil || value != nil {
		t.Errorf("the forgotten note is %q, %v", value, err)
	}
	// No number comes again, though nothing is left that bears one.
	s = open(t, file)
	s.Follow(map[string][]string{"notify": {"sshd"}})
	do(s, banned(3, 1, 0, 10, "")[0])
	if _, next := news(t, s, "notify"); next <= last {
		t.Errorf("number %d after %d", next, last)
	}
}

// A batch of which a part cannot be written is not written at all.
func TestCommitIsAllOrNothing(t *testing.T) {
	s := open(t, path(t))
	s.Follow(map[string][]string{"notify": {"sshd"}})
	do(s, banned(1, 1, 0, 10, bantam.CauseExpired)...)
	_, last := news(t, s, "notify")
	if _, err := s.db.Exec(`CREATE TRIGGER refuse BEFORE INSERT ON bantam_note BEGIN SELECT raise(ABORT, 'refused'); END`); err != nil {
		t.Fatal(err)
	}
	err := s.Commit(t.Context(), "notify", outbox.Batch{
		UpTo: last, Letters: []outbox.Letter{{Key: "k", Channel: "mail", Made: now}}, Notes: map[string][]byte{"a": {1}},
	})
	if err == nil || !strings.Contains(err.Error(), "refused") {
		t.Errorf("%v", err)
	}
	if letters, err := s.Letters(t.Context()); err != nil || len(letters) != 0 {
		t.Errorf("letters %v, %v", letters, err)
	}
	if text, _ := news(t, s, "notify"); text != "start 1, end 1" {
		t.Errorf("told is %q", text)
	}
}

func TestLettersAreChangedAndDropped(t *testing.T) {
	s := open(t, path(t))
	young, old := outbox.Letter{Key: "a", Channel: "x", Made: now.Add(time.Hour), Due: now}, outbox.Letter{Key: "b", Channel: "y", Made: now, Due: now}
	commit(t, s, "notify", outbox.Batch{Letters: []outbox.Letter{young, old}})
	old.Tries, old.Err, old.Failed, old.Due, old.Body = 3, "no", true, now.Add(time.Minute), []byte("not this")
	if err := s.KeepLetter(t.Context(), old); err != nil {
		t.Fatal(err)
	}
	letters, err := s.Letters(t.Context())
	if err != nil || len(letters) != 2 || letters[0].Key != "b" || letters[0].Tries != 3 || letters[0].Err != "no" || !letters[0].Failed || !letters[0].Due.Equal(old.Due) {
		t.Errorf("letters %+v, %v", letters, err)
	}
	if body, err := s.Body(t.Context(), "b"); err != nil || len(body) != 0 {
		t.Errorf("the body is now %q, %v", body, err)
	}
	if err := s.DropLetter(t.Context(), "b"); err != nil {
		t.Fatal(err)
	}
	if err := s.KeepLetter(t.Context(), old); err != nil {
		t.Errorf("a letter that is gone is kept: %v", err)
	}
	if _, err := s.Body(t.Context(), "b"); !errors.Is(err, outbox.ErrNoLetter) {
		t.Errorf("the body of a letter that is gone: %v", err)
	}
	if letters, err := s.Letters(t.Context()); err != nil || len(letters) != 1 {
		t.Errorf("letters %+v, %v", letters, err)
	}
}

// Who follows may change at any time: a reader that is gone holds no news, and one that
// stays loses none.
func TestFollowersChange(t *testing.T) {
	s := open(t, path(t))
	s.Follow(map[string][]string{"notify": {"sshd"}, "report": {"sshd"}})
	do(s, banned(1, 1, 0, 10, "")[0])
	s.Follow(map[string][]string{"notify": {}})
	do(s, banned(2, 1, 0, 10, "")[0])
	if text, _ := news(t, s, "notify"); text != "start 1" {
		t.Errorf("a reader of no jail any more is told %q", text)
	}
	s.Follow(map[string][]string{"notify": {"sshd"}, "report": {"sshd"}, "new": {"sshd"}})
	do(s, banned(3, 1, 0, 10, "")[0])
	for reader, want := range map[string]string{"notify": "start 1, start 3", "report": "start 3", "new": "start 3"} {
		if text, _ := news(t, s, reader); text != want {
			t.Errorf("%s is told %q, want %q", reader, text, want)
		}
	}
	s.Follow(nil)
	if n := count(t, s, "bantam_news"); n != 0 {
		t.Errorf("%d news are held for nobody", n)
	}
}

// News are bounded: of what nobody reads the oldest go, and the log says so.
func TestNewsAreBounded(t *testing.T) {
	var log bytes.Buffer
	s, err := Open(t.Context(), slog.New(slog.NewTextHandler(&log, nil)), path(t))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	s.maxNews = 500
	s.Follow(map[string][]string{"notify": {"sshd"}})
	all := starts(3 * trimEvery)
	for batch := range slices.Chunk(all, 100) {
		s.save(batch)
	}
	if n := count(t, s, "bantam_news"); n < 500 || n > 500+trimEvery {
		t.Errorf("%d news are kept", n)
	}
	if !strings.Contains(log.String(), "the oldest of it is forgotten") || !strings.Contains(log.String(), "reader=notify") {
		t.Errorf("the log says %s", log.String())
	}
	if got, err := s.News(t.Context(), "notify", 1<<20); err != nil || len(got) != newsAtOnce {
		t.Errorf("%d news at once, %v", len(got), err)
	}
}

// Notes are bounded, those of each owner for themselves: the oldest go.
func TestNotesAreBounded(t *testing.T) {
	s := open(t, path(t))
	large := make([]byte, maxNoteBytes/4)
	for i := range 5 {
		commit(t, s, "report", outbox.Batch{Notes: map[string][]byte{fmt.Sprint(i): large}})
		commit(t, s, "notify", outbox.Batch{Notes: map[string][]byte{fmt.Sprint(i): {1}}})
	}
	if _, err := s.Purge(t.Context(), now); err != nil {
		t.Fatal(err)
	}
	notes, err := s.Notes(t.Context(), "report")
	if err != nil || len(notes) != 3 || notes[0].Key != "2" { // their keys count as well
		t.Errorf("%d notes are left of report, %v", len(notes), err)
	}
	if notes, err := s.Notes(t.Context(), "notify"); err != nil || len(notes) != 5 {
		t.Errorf("%d notes are left of notify, %v", len(notes), err)
	}
}

// Bans of which somebody is still to be told are not forgotten; if they are all the same,
// for the size of the file, the news say what they can.
func TestPurgeAndNews(t *testing.T) {
	s := open(t, path(t))
	s.Follow(map[string][]string{"notify": {"sshd"}})
	do(s, banned(1, 1, 0, 10, bantam.CauseOperator)...)
	if n, err := s.Purge(t.Context(), now.Add(time.Hour)); err != nil || n != 0 {
		t.Errorf("%d are forgotten, %v", n, err)
	}
	if all, err := s.News(t.Context(), "notify", 10); err != nil || len(all) != 2 || len(all[0].Decision.Ban.Lines) != 1 {
		t.Errorf("%+v, %v", all, err)
	}
	if n, err := s.purge(t.Context(), now, 0); err != nil || n != 1 {
		t.Errorf("%d are forgotten, %v", n, err)
	}
	all, err := s.News(t.Context(), "notify", 10)
	if err != nil || len(all) != 2 {
		t.Fatalf("%+v, %v", all, err)
	}
	b := all[0].Decision.Ban
	if b.ID != ban(1).ID || b.Jail != "sshd" || !b.Time.Equal(now) || !b.End.Equal(now.Add(10*time.Second)) || b.Lines != nil {
		t.Errorf("of the forgotten ban is told %+v", b)
	}
	commit(t, s, "notify", outbox.Batch{UpTo: all[1].Number})
}

// While the file takes nothing nobody is told, and everybody when it takes decisions again.
func TestNewsOfDecisionsHeldBack(t *testing.T) {
	file := path(t)
	s := open(t, file)
	s.Follow(map[string][]string{"notify": {"sshd"}})
	for _, rename := range []struct{ from, to, want string }{{"bantam_ban", "gone", ""}, {"gone", "bantam_ban", "start 1, end 1"}} {
		if _, err := s.db.Exec(`ALTER TABLE ` + rename.from + ` RENAME TO ` + rename.to); err != nil {
			t.Fatal(err)
		}
		if rename.want == "" {
			do(s, banned(1, 1, 0, 10, bantam.CauseExpired)...)
			if n, err := s.Err(); n != 2 || err == nil {
				t.Fatalf("%d are held back, %v", n, err)
			}
			if n := count(t, s, "bantam_news"); n != 0 {
				t.Errorf("%d decisions are told that are not written", n)
			}
			continue
		}
		do(s)
		text, last := news(t, s, "notify")
		if text != rename.want {
			t.Errorf("told is %q, want %q", text, rename.want)
		}
		commit(t, s, "notify", outbox.Batch{UpTo: last})
		s = open(t, file)
		s.Follow(map[string][]string{"notify": {"sshd"}})
		do(s, banned(2, 1, 0, 10, "")[0])
		if _, next := news(t, s, "notify"); next <= last {
			t.Errorf("number %d after %d, of which the file was told with what it did not take", next, last)
		}
	}
}

// A file of the version before news has none, and gets them.
func TestFileOfTheThirdVersion(t *testing.T) {
	file := path(t)
	raw(t, file, append(append([]string{`CREATE TABLE bantam_meta (version INTEGER NOT NULL)`, `INSERT INTO bantam_meta VALUES (3)`}, migrations[:3]...),
		fmt.Sprintf(`INSERT INTO bantam_ban VALUES ('sshd', '192.0.0.1', %d, 0, 5, 1, 'failures', '', '', 0, NULL, NULL, NULL, NULL, NULL)`, now.UnixMicro()))...)
	s := open(t, file)
	if b := running(t, s, now); len(b) != 1 {
		t.Errorf("running are %+v", b)
	}
	s.Follow(map[string][]string{"notify": {"sshd"}})
	do(s, bantam.Decision{Kind: bantam.End, Ban: running(t, s, now)[0], At: now.Add(time.Hour), Cause: bantam.CauseOperator})
	all, err := s.News(t.Context(), "notify", 10)
	if err != nil || len(all) != 1 || all[0].Decision.Ban.Failures != 5 || !all[0].Decision.Ban.Permanent() {
		t.Errorf("%+v, %v", all, err)
	}
}

// What is still to be told is saved of a damaged file, and numbers grow on.
func TestDamagedFileKeepsNews(t *testing.T) {
	file := path(t)
	s, err := Open(t.Context(), testLog(t), file)
	if err != nil {
		t.Fatal(err)
	}
	follow := map[string][]string{"notify": {"sshd"}}
	s.Follow(follow)
	do(s, banned(1, 1, 0, 10, "")[0])
	_, last := news(t, s, "notify")
	commit(t, s, "notify", outbox.Batch{Letters: []outbox.Letter{{Key: "k", Channel: "mail", Made: now, Body: []byte("body")}}, Notes: map[string][]byte{"a": {1}}})
	if _, err := s.db.Exec(`CREATE TABLE damaged (x); INSERT INTO damaged SELECT randomblob(3000) FROM (WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 100) SELECT i FROM n)`); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	damage(t, file, func(content []byte) []byte {
		clear(content[len(content)-100_000 : len(content)-4096])
		return content
	})
	s = open(t, file)
	if copies, _ := filepath.Glob(file + ".2*"); len(copies) != 1 {
		t.Fatalf("set aside are %v", copies)
	}
	s.Follow(follow)
	if text, _ := news(t, s, "notify"); text != "start 1" {
		t.Errorf("told is %q", text)
	}
	do(s, banned(2, 1, 0, 10, "")[0])
	if text, next := news(t, s, "notify"); text != "start 1, start 2" || next <= last {
		t.Errorf("told is %q, the number %d after %d", text, next, last)
	}
	if body, err := s.Body(t.Context(), "k"); err != nil || string(body) != "body" {
		t.Errorf("the letter's body is %q, %v", body, err)
	}
	if value, _, err := s.Note(t.Context(), "notify", "a"); err != nil || len(value) != 1 {
		t.Errorf("the note is %v, %v", value, err)
	}
}

// What it costs that somebody follows: ten thousand bans at once, as BenchmarkTenThousand,
// and one by one.
func BenchmarkStoreWithFollowers(b *testing.B) {
	decisions := starts(10_000)
	for _, c := range []struct {
		name   string
		batch  int
		follow map[string][]string
	}{
		{"nobody", maxBatch, nil},
		{"another jail", maxBatch, map[string][]string{"notify": {"web"}}},
		{"one", maxBatch, map[string][]string{"notify": {"sshd"}}},
		{"two", maxBatch, map[string][]string{"notify": {"sshd"}, "report": {"sshd"}}},
		{"one by one, nobody", 1, nil},
		{"one by one, one", 1, map[string][]string{"notify": {"sshd"}}},
	} {
		b.Run(c.name, func(b *testing.B) {
			dir := b.TempDir()
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				b.StopTimer()
				s, err := Open(b.Context(), slog.New(slog.DiscardHandler), filepath.Join(dir, fmt.Sprint(i)))
				if err != nil {
					b.Fatal(err)
				}
				s.Follow(c.follow)
				b.StartTimer()
				for batch := range slices.Chunk(decisions, c.batch) {
					s.save(batch)
				}
				b.StopTimer()
				if _, err := s.Err(); err != nil {
					b.Fatal(err)
				}
				if err := s.Close(); err != nil {
					b.Fatal(err)
				}
				b.StartTimer()
			}
		})
	}
}

// How long a ban may have to wait for a reader.
func BenchmarkNews(b *testing.B) {
	s, err := Open(b.Context(), slog.New(slog.DiscardHandler), filepath.Join(b.TempDir(), "b.db"))
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	s.Follow(map[string][]string{"notify": {"sshd"}})
	decisions := starts(10_000)
	for i := range decisions {
		decisions[i].Ban.Lines = slices.Repeat(decisions[i].Ban.Lines, 5)
	}
	s.save(decisions)
	b.ReportAllocs()
	for b.Loop() {
		if got, err := s.News(b.Context(), "notify", newsAtOnce); err != nil || len(got) != newsAtOnce {
			b.Fatalf("%d, %v", len(got), err)
		}
	}
}
