package outbox_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"math"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"bantam"
	"bantam/internal/outbox"
	"bantam/internal/store"
)

// What the killed child is told by its environment.
const (
	killFile  = "BANTAM_TEST_KILL_FILE"
	killURL   = "BANTAM_TEST_KILL_URL"
	killDrain = "BANTAM_TEST_KILL_DRAIN" // not empty: send what is there and end
)

// post sends letters to a web server, with the key by which it knows a repeat.
type post string

func (p post) Send(ctx context.Context, l outbox.Letter) error {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, string(p)+"/"+l.Channel, strings.NewReader(string(l.Body)))
	if err != nil {
		return err
	}
	r.Header.Set("Idempotency-Key", l.Key)
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		return err
	}
	if err := answer.Body.Close(); err != nil {
		return err
	}
	if answer.StatusCode/100 != 2 {
		return fmt.Errorf("the server says %s", answer.Status)
	}
	return nil
}

// killed is a whole chain from decisions to a server, that runs until it is killed: each
// ban becomes a letter to each of two channels.
func killed(t *testing.T) {
	s, err := store.Open(t.Context(), slog.New(slog.DiscardHandler), os.Getenv(killFile))
	if err != nil {
		t.Fatal(err)
	}
	channels := []string{"a", "b"}
	readers := map[string][]string{}
	for _, c := range channels {
		readers[c] = []string{"sshd"}
	}
	s.Follow(readers)
	o := outbox.New(slog.New(slog.DiscardHandler), s)
	senders := map[string]outbox.Sender{}
	for _, c := range channels {
		senders[c] = post(os.Getenv(killURL))
	}
	empty := make(chan string, 1000)
	o.WhenEmpty(func(channel string) { empty <- channel })
	o.Configure(senders)
	tell := func() {
		for _, c := range channels {
			news, err := o.News(t.Context(), c, 100)
			if err != nil {
				t.Fatal(err)
			}
			batch := outbox.Batch{}
			for _, n := range news {
				batch.UpTo = n.Number
				batch.Letters = append(batch.Letters, outbox.Letter{
					Key: fmt.Sprintf("%s-%d", c, n.Number), Channel: c, Body: []byte(n.Decision.Ban.ID.String()),
				})
			}
			if err := o.Commit(t.Context(), c, batch); err != nil {
				t.Fatal(err)
			}
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ended := make(chan error, 1)
	if os.Getenv(killDrain) != "" {
		tell()
		go func() { ended <- o.Run(ctx) }()
		for tick := time.Tick(5 * time.Millisecond); left(t, s) > 0; {
			<-tick // a letter is forgotten a little after its channel is empty
		}
		cancel()
		if err := <-ended; err != nil {
			t.Fatal(err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		return
	}
	go func() { ended <- o.Run(ctx) }()
	in, stored := make(chan bantam.Decision), make(chan []bantam.Decision)
	go s.Run(in, stored)
	for {
		now, id := time.Now(), [16]byte{0x20, 0x01, 0x0d, 0xb8}
		for i := 4; i < 16; i++ {
			id[i] = byte(rand.IntN(256))
		}
		in <- bantam.Decision{Kind: bantam.Start, At: now, Ban: bantam.Ban{
			Jail: "sshd", ID: bantam.AddrID(netip.AddrFrom16(id)), Time: now, End: now.Add(time.Hour), By: bantam.ByFailures, Lines: []string{"failed"},
		}}
		<-stored
		tell()
		// The queue is short, but never empty for long.
		for o.Pending("a") > 20 {
			<-empty
		}
	}
}

// left is how many letters are still to be delivered.
func left(t *testing.T, s *store.Store) int {
	all, err := s.Letters(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return len(all)
}

// Killed again and again while it sends, a hundred times with BANTAM_KILLS=100, no letter is lost, and none comes twice but the one
// that was on its way in its channel, under the same key.
func TestKilledWhileSending(t *testing.T) {
	if os.Getenv(killFile) != "" {
		killed(t)
		return
	}
	kills := 20
	if n, err := strconv.Atoi(os.Getenv("BANTAM_KILLS")); err == nil {
		kills = n
	}
	type arrival struct{ key, body string }
	var mu sync.Mutex
	var arrived []map[string][]arrival // by life of the child, then by channel
	var killAt int
	kill := func() {}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			panic(http.ErrAbortHandler) // killed while it wrote
		}
		mu.Lock()
		defer mu.Unlock()
		// What a child sent may be looked at only when the next one lives.
		number, channel, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
		which, err := strconv.Atoi(number)
		if err != nil || which >= len(arrived) {
			panic(http.ErrAbortHandler)
		}
		life := arrived[which]
		n := len(life["a"]) + len(life["b"])
		if n == killAt && rand.IntN(2) == 0 {
			kill() // before it is taken; a signal takes its time, an answer would be quicker
			panic(http.ErrAbortHandler)
		}
		life[channel] = append(life[channel], arrival{r.Header.Get("Idempotency-Key"), string(body)})
		if n >= killAt {
			kill() // taken, and the child never hears of it, or only just
		}
	}))
	defer server.Close()
	file := filepath.Join(t.TempDir(), "b.db")
	live := func(drain string) {
		t.Helper()
		cmd := exec.Command(os.Args[0], "-test.run", "^TestKilledWhileSending$")
		var out strings.Builder
		cmd.Stdout, cmd.Stderr = &out, &out
		mu.Lock()
		cmd.Env = append(os.Environ(), killFile+"="+file, killURL+"="+server.URL+"/"+strconv.Itoa(len(arrived)), killDrain+"="+drain)
		arrived = append(arrived, map[string][]arrival{})
		killAt = rand.IntN(12)
		kill = func() {}
		if drain != "" {
			killAt = math.MaxInt // nothing is refused any more
		}
		if err := cmd.Start(); err != nil {
			mu.Unlock()
			t.Fatal(err)
		}
		if drain == "" {
			kill = func() { _ = cmd.Process.Kill() }
		}
		mu.Unlock()
		err := cmd.Wait()
		if drain == "" && !strings.Contains(fmt.Sprint(err), "killed") || drain != "" && err != nil {
			t.Fatalf("the child ends by itself: %v\n%s", err, out.String())
		}
	}
	for range kills {
		live("")
	}
	live("yes")

	s := open(t, file)
	bans, err := s.Bans(t.Context(), time.Now())
	if err != nil {
		t.Fatal(err)
	}
	if n := left(t, s); n != 0 {
		t.Errorf("%d letters are left", n)
	}
	doubles := 0
	for _, channel := range []string{"a", "b"} {
		first := map[string]int{} // the life in which a key came last
		keyOf := map[string]string{}
		for life := range arrived {
			for i, one := range arrived[life][channel] {
				earlier, again := first[one.key]
				if again {
					doubles++
					last := arrived[earlier][channel]
					if earlier == life || last[len(last)-1].key != one.key {
						t.Errorf("%s came in life %d, and again in life %d as number %d, though it was not the one on its way", one.key, earlier, life, i)
					}
				}
				first[one.key] = life
				if key, ok := keyOf[one.body]; ok && key != one.key {
					t.Errorf("what is about %s comes as %s and as %s", one.body, key, one.key)
				}
				keyOf[one.body] = one.key
			}
		}
		lost := 0
		for _, b := range bans {
			if keyOf[b.ID.String()] == "" {
				lost++
			}
		}
		if lost > 0 || len(keyOf) != len(bans) {
			t.Errorf("channel %s: of %d bans %d were told, %d are lost", channel, len(bans), len(keyOf), lost)
		}
	}
	if len(bans) < kills {
		t.Errorf("only %d bans", len(bans))
	}
	t.Logf("%d bans, %d letters came twice", len(bans), doubles)
}
