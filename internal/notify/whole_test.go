package notify

import (
	"context"
	"encoding/json"
	"log/slog"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"bantam"
	"bantam/internal/outbox"
	"bantam/internal/store"
)

// A receiver counts the bans that it has been told of. A letter that it has had is no news.
type receiver struct {
	mu     sync.Mutex
	told   map[string]int // bans, by the letter's key
	bans   int
	came   chan struct{} // closed when something has come, and made anew
	twice  int
	breaks bool // the next letter arrives, and its sender never learns of it
	hangs  bool // that has happened
}

func (r *receiver) wants() wants { return wants{} }

func (r *receiver) compose(e *Edition) ([]byte, error) { return json.Marshal(sum(e.Bans)) }

func (r *receiver) Send(ctx context.Context, l outbox.Letter) error {
	var n int
	if err := json.Unmarshal(l.Body, &n); err != nil {
		return err
	}
	r.mu.Lock()
	if _, had := r.told[l.Key]; had {
		r.twice++
	} else {
		r.told[l.Key] = n
		r.bans += n
	}
	breaks := r.breaks
	r.breaks, r.hangs = false, breaks
	close(r.came)
	r.came = make(chan struct{})
	r.mu.Unlock()
	if breaks {
		<-ctx.Done()
		return ctx.Err()
	}
	return nil
}

// await waits until so many bans have been told, at least, or a letter's sender hangs.
func (r *receiver) await(ctx context.Context, t *testing.T, bans int) {
	t.Helper()
	for {
		r.mu.Lock()
		told, came, hangs := r.bans, r.came, r.hangs
		r.mu.Unlock()
		if told >= bans || hangs {
			return
		}
		select {
		case <-came:
		case <-ctx.Done():
			t.Fatalf("told of %d bans, want %d", told, bans)
		}
	}
}

// A daemon that ends at whatever moment tells of each ban once: with the real store and the real outbox.
func TestNothingIsLostOrToldTwiceOverRestarts(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute) // far more than it takes
	defer cancel()
	path := filepath.Join(t.TempDir(), "bantam.db")
	r := &receiver{told: map[string]int{}, came: make(chan struct{})}
	slates.Store("counted", r)
	defer slates.Clear()
	config := plainChannel("counted")
	config.Digest = 20 * time.Millisecond
	log := slog.New(slog.DiscardHandler)
	const runs, each = 7, 20
	for run := range runs {
		s, err := store.Open(ctx, log, path)
		if err != nil {
			t.Fatal(err)
		}
		box := outbox.New(log, s)
		desk := New(log, box, World{Host: "gate.example.org"})
		if err := desk.Configure([]Config{config}); err != nil {
			t.Fatal(err)
		}
		s.Follow(desk.Readers())
		box.Configure(desk.Senders())
		working, stop := context.WithCancel(ctx)
		var g sync.WaitGroup
		for _, f := range []func(context.Context) error{box.Run, desk.Run} {
			g.Go(func() {
				if err := f(working); err != nil {
					t.Error(err)
				}
			})
		}
		r.mu.Lock()
		r.breaks, r.hangs = run%3 == 2, false
		r.mu.Unlock()
		decisions, stored := make(chan bantam.Decision), make(chan []bantam.Decision)
		g.Go(func() { s.Run(decisions, stored) })
		g.Go(func() {
			for range stored {
				desk.Wake()
			}
		})
		for i := range each {
			d := ban(run*each + i)
			d.Ban.Time, d.Ban.End = d.At, d.At.Add(time.Hour)
			d.Seq = uint64(i + 1)
			decisions <- d
		}
		close(decisions)
		switch {
		case run == runs-1:
			r.await(ctx, t, runs*each)
		case run%3 > 0:
			r.await(ctx, t, run*each+1) // something of this run has arrived
		}
		stop()
		g.Wait()
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if r.bans != runs*each {
		t.Errorf("told of %d bans, want %d", r.bans, runs*each)
	}
	t.Logf("%d messages, %d of them came twice", len(r.told), r.twice)
}

// Whatever a ban brings along, what is gathered of it can be written down.
func TestWhatIsGatheredIsBounded(t *testing.T) {
	huge := strings.Repeat("\x01", 64<<10)
	d := sshdBan()
	d.Ban.ID, d.Ban.User, d.Ban.Reason, d.Ban.Lines = bantam.TextID(huge), huge, huge, nil
	d.Ban.Data = map[string]string{"ip": huge}
	for i := range 100 {
		d.Ban.Lines = append(d.Ban.Lines, huge)
		d.Ban.Data[strings.Repeat("k", i+1)] = huge
	}
	var note bansNote
	for i := range 100 {
		note.Digest = note.Digest.with(&bantam.News{Number: int64(i + 1), Decision: d})
		if i != 0 && i != 99 {
			continue
		}
		text, err := json.Marshal(note)
		if err != nil {
			t.Fatal(err)
		}
		if len(text) > outbox.MaxBody {
			t.Errorf("%d events make a note of %d bytes", i+1, len(text))
		}
	}
}

// FuzzNotes holds that a database in which anything may stand hurts nobody.
func FuzzNotes(f *testing.F) {
	var note bansNote
	for i := range maxEvents + 2 {
		note.Digest = note.Digest.with(&bantam.News{Number: int64(i), Decision: ban(i)})
		if i < 2 || i > maxEvents {
			text, err := json.Marshal(note)
			if err != nil {
				f.Fatal(err)
			}
			f.Add(text)
		}
	}
	f.Add([]byte(`{"window":{"began":"9999-12-31T23:59:59Z","sent":-1},"digest":{"bans":{"":-9},"events":[{},{}],"more":-5}}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		if len(text) > outbox.MaxBody {
			return
		}
		var note bansNote
		if json.Unmarshal(text, &note) != nil {
			return
		}
		p := pace{time.Hour, 1}
		if at := note.Window.open(p, noon); at.After(noon.Add(time.Hour)) {
			t.Errorf("closed until %s", at)
		}
		note.Digest = note.Digest.with(&bantam.News{Number: 1, Decision: ban(1)})
		g := &note.Digest
		e := &Edition{Key: "k", Host: "gate", At: noon, Since: g.Since, Bans: g.Bans, Unbans: g.Unbans, Observed: g.Observed, More: g.More}
		for _, d := range g.Events {
			e.Events = append(e.Events, Event{Decision: d})
		}
		c := mailConfig()
		if _, err := mailOf(t, c).compose(e); err != nil {
			t.Error(err)
		}
	})
}
