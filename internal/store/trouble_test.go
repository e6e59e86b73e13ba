package store

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"bantam"
)

// A damaged file is set aside whole, a new one is begun with what can be read, and the log
// says so.
func TestDamagedFileIsSetAside(t *testing.T) {
	for _, c := range []struct {
		name   string
		damage func(content []byte) []byte
		saved  int // bans at least
	}{
		{"rubbish", func([]byte) []byte { return bytes.Repeat([]byte("no database\n"), 1000) }, 0},
		{"zeros in the middle", func(b []byte) []byte { clear(b[len(b)/2 : len(b)/2+40000]); return b }, 50},
		{"cut off", func(b []byte) []byte { return b[:len(b)*3/4/4096*4096] }, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			file := path(t)
			s, err := Open(t.Context(), testLog(t), file)
			if err != nil {
				t.Fatal(err)
			}
			const bans = 500
			do(s, starts(bans)...)
			if err := s.Allow([]bantam.ID{bantam.PrefixID(netip.MustParsePrefix("10.0.0.0/8"))}, "office", now); err != nil {
				t.Fatal(err)
			}
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			damaged := damage(t, file, c.damage)
			var log bytes.Buffer
			s, err = Open(t.Context(), slog.New(slog.NewTextHandler(&log, nil)), file)
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			if !strings.Contains(log.String(), "set aside and a new one begun") {
				t.Errorf("the log says %s", log.String())
			}
			copies, _ := filepath.Glob(file + ".2*")
			if len(copies) != 1 {
				t.Fatalf("set aside are %v", copies)
			}
			if kept, err := os.ReadFile(copies[0]); err != nil || len(kept) != len(damaged) {
				t.Errorf("the file set aside has %d bytes of %d, %v", len(kept), len(damaged), err)
			}
			got := running(t, s, now)
			if len(got) < c.saved {
				t.Errorf("%d bans are saved, not even %d", len(got), c.saved)
			}
			t.Logf("%d of %d bans saved", len(got), bans)
			agree(t, s)
			do(s, bantam.Decision{Kind: bantam.Start, Ban: ban(5000), At: now})
			if n, err := s.Err(); n != 0 || err != nil {
				t.Errorf("the new file takes nothing: %v", err)
			}
		})
	}
}

// damage changes what a file holds, and returns what it holds then.
func damage(t *testing.T, file string, change func(content []byte) []byte) []byte {
	t.Helper()
	content, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	content = change(content)
	if err := os.WriteFile(file, content, 0o600); err != nil {
		t.Fatal(err)
	}
	return content
}

// A file that is somebody's and no database is left alone, as is one of a newer version.
func TestForeignFilesAreLeftAlone(t *testing.T) {
	text := filepath.Join(t.TempDir(), "hosts")
	if err := os.WriteFile(text, []byte("127.0.0.1 localhost\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	newer := path(t)
	raw(t, newer, `CREATE TABLE fail2banDb(version INTEGER)`, `INSERT INTO fail2banDb VALUES (5)`)
	for file, want := range map[string]string{text: "not a database", newer: "its tables have version 5, this program knows 4"} {
		before, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		_, err = Open(t.Context(), testLog(t), file)
		if err == nil || !strings.Contains(err.Error(), want) || Hint(err) == "" {
			t.Errorf("%v; want %q", err, want)
		}
		if after, err := os.ReadFile(file); err != nil || !bytes.Equal(after, before) {
			t.Errorf("%s was changed, %v", file, err)
		}
		if errors.Is(err, ErrNewerVersion) != (file == newer) {
			t.Errorf("%v", err)
		}
	}
}

// starts are decisions that start n bans.
func starts(n int) []bantam.Decision {
	out := make([]bantam.Decision, n)
	for i := range out {
		b := ban(i)
		b.Time = now.Add(time.Duration(i) * time.Second)
		b.End = b.Time.Add(48 * time.Hour)
		out[i] = bantam.Decision{Seq: uint64(i + 1), Kind: bantam.Start, Ban: b, At: now}
	}
	return out
}

// TestTrapS53: a database that another program has locked loses no ban: it is carried out
// at once and stored when the lock is gone.
func TestTrapS53_LockedDatabaseLosesNoBan(t *testing.T) {
	file := path(t)
	s := open(t, file)
	unlock := lock(t, file)
	in, out := make(chan bantam.Decision), make(chan []bantam.Decision, 1)
	go s.Run(in, out)
	in <- bantam.Decision{Kind: bantam.Start, Ban: ban(1), At: now}
	if passed := <-out; len(passed) != 1 {
		t.Errorf("passed on: %v", passed)
	}
	if n, err := s.Err(); n != 1 || !isLocked(err) {
		t.Errorf("%d held back, %v", n, err)
	}
	unlock()
	close(in)
	<-out
	if n, err := s.Err(); n != 0 || err != nil {
		t.Errorf("%d held back, %v", n, err)
	}
	if got := running(t, s, now); len(got) != 1 {
		t.Errorf("stored are %v", got)
	}
}

// TestTrapS52: the history goes at the purge age, what still counts for the next ban later.
func TestTrapS52_PurgeKeepsWhatStillCounts(t *testing.T) {
	at := time.Now().Truncate(time.Second)
	file := path(t)
	s := open(t, file)
	old, older := banned(1, 1, 0, 1, bantam.CauseExpired), banned(2, 1, 0, 1, bantam.CauseExpired)
	for _, d := range []*bantam.Decision{&old[0], &old[1], &older[0], &older[1]} {
		d.Ban.Time, d.Ban.End, d.At = at.Add(-700*time.Second), at.Add(-100*time.Second), at.Add(-100*time.Second)
	}
	for i := range older {
		older[i].Ban.Time, older[i].Ban.End, older[i].At = at.Add(-9000*time.Second), at.Add(-8400*time.Second), at.Add(-8400*time.Second)
	}
	do(s, append(old, older...)...)
	if n, err := s.Purge(t.Context(), at.Add(-50*time.Second)); err != nil || n != 1 {
		t.Errorf("purged %d, %v", n, err)
	}
	var left int
	if err := s.db.QueryRow(`SELECT count(*) FROM bips`).Scan(&left); err != nil || left != 1 {
		t.Errorf("%d are left in Fail2Ban's table, %v", left, err)
	}
	agree(t, s)
}

// A file that grows too large forgets what is over, the oldest first, and never what runs.
func TestPurgeBySize(t *testing.T) {
	s := open(t, path(t))
	var decisions []bantam.Decision
	for i := range 2500 {
		decisions = append(decisions, banned(i, 1, float64(i), float64(i)+1, bantam.CauseExpired)...)
	}
	do(s, append(decisions, bantam.Decision{Kind: bantam.Start, Ban: ban(9999), At: now})...)
	if n, err := s.purge(t.Context(), now.Add(-time.Hour), 1<<20); err != nil || n == 0 || n == 2500 {
		t.Errorf("%d are forgotten, %v", n, err)
	}
	if got := running(t, s, now); len(got) != 1 {
		t.Errorf("there run %v", got)
	}
	if text := remembered(t, s); strings.Contains(text, "0: 1 at 0,") {
		t.Error("the oldest is remembered")
	}
	agree(t, s)
}

// While the disk is full memory is bounded: lines go first, then bans that are over, then
// those that end soonest. Bans for ever and what an operator lifted stay.
func TestHeldDecisionsAreBounded(t *testing.T) {
	var h held
	forever := ban(1)
	forever.End = time.Time{}
	lifted := bantam.Decision{Kind: bantam.End, Ban: ban(2), At: now, Cause: bantam.CauseOperator}
	h.add([]bantam.Decision{{Kind: bantam.Start, Ban: forever, At: now}, lifted})
	line := strings.Repeat("x", 8<<10)
	for i := range 2 * maxHeld {
		b := bantam.Ban{
			Jail: "sshd", ID: bantam.AddrID(netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)})),
			Time: now, End: now.Add(time.Duration(i) * time.Second), Lines: []string{line},
		}
		h.add([]bantam.Decision{{Kind: bantam.Start, Ban: b, At: now}})
		if len(h.decisions) > maxHeld || h.texts > maxHeldTexts {
			t.Fatalf("%d decisions with %d bytes are held", len(h.decisions), h.texts)
		}
	}
	if h.decisions[0].Ban.ID != forever.ID || h.decisions[1].Kind != bantam.End {
		t.Error("what must stay was dropped")
	}
	if h.dropped+len(h.decisions) != 2*maxHeld+2 {
		t.Errorf("%d dropped and %d held", h.dropped, len(h.decisions))
	}
	latest := h.decisions[len(h.decisions)-1].Ban
	if len(latest.Lines) != 1 || len(h.decisions[2].Ban.Lines) != 0 {
		t.Error("not the oldest lines were dropped")
	}
	if h.decisions[2].Ban.End.Before(now.Add(maxHeld / 2 * time.Second)) {
		t.Errorf("a ban that ends at %s is held", h.decisions[2].Ban.End)
	}
}

// Killed while it writes, the file is whole, and both programs' tables agree.
func TestKilledWhileWriting(t *testing.T) {
	if file := os.Getenv("BANTAM_TEST_WRITE"); file != "" {
		s, err := Open(t.Context(), slog.New(slog.DiscardHandler), file)
		if err != nil {
			t.Fatal(err)
		}
		all := starts(20000)
		for i := 0; ; i++ {
			for j := range 64 {
				d := all[(i*64+j)%len(all)]
				d.Ban.Time = d.Ban.Time.Add(time.Duration(i) * time.Hour)
				s.save([]bantam.Decision{d})
			}
			fmt.Println("written") // what the killer counts
		}
	}
	file := path(t)
	for range 4 {
		cmd := exec.Command(os.Args[0], "-test.run", "^TestKilledWhileWriting$")
		cmd.Env = append(os.Environ(), "BANTAM_TEST_WRITE="+file)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		for range 1 + rand.IntN(8) {
			if _, err := out.Read(make([]byte, 64)); err != nil {
				t.Fatal(err)
			}
		}
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_ = cmd.Wait()
	}
	s := open(t, file)
	var integrity string
	if err := s.db.QueryRow(`PRAGMA integrity_check`).Scan(&integrity); err != nil || integrity != "ok" {
		t.Errorf("the file is %q, %v", integrity, err)
	}
	agree(t, s)
	if n := len(running(t, s, now)); n < 64 {
		t.Errorf("only %d bans", n)
	}
}

// All that is remembered of an ID is put together as Fail2Ban does it.
func TestMerged(t *testing.T) {
	s := open(t, "")
	s.SetMaxMatches(3)
	first, second := ban(1), ban(1)
	first.Lines, first.Data, first.Failures = []string{"a", "b"}, map[string]string{"k": "old", "o": "1"}, 2
	second.Time, second.Lines, second.Data, second.Failures = now.Add(time.Hour), []string{"c", "d"}, map[string]string{"k": "new", "n": "2"}, 3
	elsewhere := ban(1)
	elsewhere.Jail, elsewhere.Failures, elsewhere.Lines = "web", 10, nil
	do(s, bantam.Decision{Kind: bantam.Start, Ban: first, At: now}, bantam.Decision{Kind: bantam.End, Ban: first, At: now, Cause: bantam.CauseExpired},
		bantam.Decision{Kind: bantam.Start, Ban: second, At: now}, bantam.Decision{Kind: bantam.Start, Ban: elsewhere, At: now})
	m, err := s.Merged(t.Context(), "sshd", ban(1).ID)
	if got := fmt.Sprint(m); err != nil || got != "{2 5 [b c d] root map[k:old n:2 o:1]}" {
		t.Errorf("%s, %v", got, err)
	}
	if m, err := s.Merged(t.Context(), "", ban(1).ID); err != nil || m.Failures != 15 || m.Bans != 3 {
		t.Errorf("%+v, %v", m, err)
	}
	if m, err := s.Merged(t.Context(), "", ban(2).ID); err != nil || m.Bans != 0 {
		t.Errorf("%+v, %v", m, err)
	}
}
