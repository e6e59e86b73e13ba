package outbox_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"bantam/internal/outbox"
	"bantam/internal/store"
)

func open(t testing.TB, path string) *store.Store {
	t.Helper()
	s, err := store.Open(t.Context(), slog.New(slog.DiscardHandler), path)
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

// A log keeps what an outbox logs.
type log struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *log) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

func (l *log) logger() *slog.Logger { return slog.New(slog.NewTextHandler(l, nil)) }

func (l *log) count(text string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Count(l.text.String(), text)
}

// A receiver is what is behind a channel: it notes what arrives, and when, and answers.
type receiver struct {
	answer func(ctx context.Context, l outbox.Letter) error // nil: thanks

	mu   sync.Mutex
	got  []outbox.Letter
	when []time.Time
}

func (r *receiver) Send(ctx context.Context, l outbox.Letter) error {
	r.mu.Lock()
	r.got, r.when = append(r.got, l), append(r.when, time.Now())
	answer := r.answer
	r.mu.Unlock()
	if answer == nil {
		return nil
	}
	return answer(ctx, l)
}

// says is a receiver that gives one answer, until say gives it another.
func says(err error) *receiver {
	r := &receiver{}
	r.say(err)
	return r
}

func (r *receiver) say(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.answer = func(context.Context, outbox.Letter) error { return err }
}

// keys are those of what arrived, in its order.
func (r *receiver) keys() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var out []string
	for _, l := range r.got {
		out = append(out, l.Key)
	}
	return strings.Join(out, " ")
}

func (r *receiver) tries() int { return len(r.times()) }

// times are those of the attempts.
func (r *receiver) times() []time.Time {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.when)
}

func (r *receiver) first() outbox.Letter {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.got[0]
}

// A verdict is what a receiver says of a letter.
type verdict struct {
	again bool
	after time.Duration
}

func (v verdict) Error() string                { return fmt.Sprintf("again %v after %v", v.again, v.after) }
func (v verdict) Again() (bool, time.Duration) { return v.again, v.after }

func letters(channel string, keys ...string) (out []outbox.Letter) {
	for _, key := range keys {
		out = append(out, outbox.Letter{Key: key, Channel: channel, About: "about " + key, Body: []byte("body of " + key)})
	}
	return out
}

func commit(t testing.TB, o *outbox.Outbox, letters ...outbox.Letter) {
	t.Helper()
	if err := o.Commit(t.Context(), "author", outbox.Batch{Letters: letters}); err != nil {
		t.Fatal(err)
	}
}

// start runs an outbox until stop is called, which waits for its end.
func start(t *testing.T, o *outbox.Outbox) (stop func()) {
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- o.Run(ctx) }()
	return func() {
		t.Helper()
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
}

// queue is what an operator sees: "key" or "key!" for one that has failed.
func queue(o *outbox.Outbox) string {
	var out []string
	for _, l := range o.Queue() {
		key := l.Key
		if l.Failed {
			key += "!"
		}
		out = append(out, key)
	}
	return strings.Join(out, " ")
}

// kept is what the store has, likewise.
func kept(t *testing.T, s *store.Store) []outbox.Letter {
	t.Helper()
	all, err := s.Letters(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// bubble runs f in a bubble of its own time, with a database that was opened outside.
func bubble(t *testing.T, f func(t *testing.T, s *store.Store, log *log)) {
	s := open(t, "")
	synctest.Test(t, func(t *testing.T) { f(t, s, &log{}) })
}

func TestDelivery(t *testing.T) {
	bubble(t, func(t *testing.T, s *store.Store, log *log) {
		mail, chat := &receiver{}, &receiver{}
		o := outbox.New(log.logger(), s)
		o.Configure(map[string]outbox.Sender{"mail": mail, "chat": chat})
		commit(t, o, letters("mail", "m1", "m2")...) // before Run
		defer start(t, o)()
		commit(t, o, letters("chat", "c1")...)
		commit(t, o, letters("mail", "m3")...)
		synctest.Wait()
		if mail.keys() != "m1 m2 m3" || chat.keys() != "c1" {
			t.Errorf("arrived are %q and %q", mail.keys(), chat.keys())
		}
		if l := mail.first(); string(l.Body) != "body of m1" || l.Size != len(l.Body) || l.About != "about m1" || l.Made.IsZero() {
			t.Errorf("arrived is %+v", l)
		}
		if len(o.Queue()) != 0 || len(kept(t, s)) != 0 {
			t.Errorf("delivered and still there: %v", o.Queue())
		}
		commit(t, o, letters("mail", "m4")...)
		synctest.Wait()
		if mail.keys() != "m1 m2 m3 m4" {
			t.Errorf("arrived are %q", mail.keys())
		}
	})
}

// What is not delivered is tried with growing pauses for a week, then given up, and
// forgotten a week later. The log hears of it, not too often.
func TestPausesGrowForAWeek(t *testing.T) {
	bubble(t, func(t *testing.T, s *store.Store, log *log) {
		n := 0
		mail := &receiver{answer: func(context.Context, outbox.Letter) error {
			n++
			return fmt.Errorf("dial tcp 192.0.2.1:%d: connection\nrefused", 40000+n)
		}}
		o := outbox.New(log.logger(), s)
		o.Configure(map[string]outbox.Sender{"mail": mail})
		begun := time.Now()
		commit(t, o, letters("mail", "k")...)
		stop := start(t, o)
		synctest.Wait()
		time.Sleep(30 * time.Minute) // of the bubble's clock, as all below
		synctest.Wait()
		all := kept(t, s)
		if len(all) != 1 || all[0].Tries != mail.tries() || !all[0].Due.After(time.Now()) || !strings.HasSuffix(all[0].Err, "connection refused") {
			t.Errorf("the store has %+v after %d attempts", all, mail.tries())
		}
		if n := log.count("it is tried again"); n != 1 {
			t.Errorf("the log was told %d times in half an hour", n)
		}
		// A restart changes nothing.
		stop()
		tried := mail.tries()
		o = outbox.New(log.logger(), s)
		o.Configure(map[string]outbox.Sender{"mail": mail})
		stop = start(t, o)
		defer func() { stop() }()
		synctest.Wait()
		if mail.tries() != tried {
			t.Error("a restart tries what was to rest")
		}
		time.Sleep(7*24*time.Hour + time.Minute - time.Since(begun))
		time.Sleep(2 * time.Hour)
		synctest.Wait()
		full := 10 * time.Second
		for i := 1; i < mail.tries(); i++ {
			gap := mail.times()[i].Sub(mail.times()[i-1])
			if gap > full || gap < full*3/4 {
				t.Errorf("pause %d is %v, want %v at most", i, gap, full)
			}
			full = min(2*full, time.Hour)
		}
		if tries := mail.tries(); tries < 168 || tries > 240 {
			t.Errorf("%d attempts in a week", tries)
		}
		if n := log.count("it is tried again"); n < 80 || n > 170 {
			t.Errorf("the log was told %d times in a week", n)
		}
		tried = mail.tries()
		if queue(o) != "k!" || log.count("level=ERROR") != 1 || o.Pending("mail") != 0 {
			t.Errorf("after a week there is %q, errors in the log: %d", queue(o), log.count("level=ERROR"))
		}
		// The operator may have it tried all the same, once.
		if err := o.Retry(t.Context(), "k"); err != nil {
			t.Error(err)
		}
		time.Sleep(3 * time.Hour)
		synctest.Wait()
		if queue(o) != "k!" || mail.tries() != tried+1 {
			t.Errorf("tried %d times more, there is %q", mail.tries()-tried, queue(o))
		}
		tried = mail.tries()
		time.Sleep(7 * 24 * time.Hour)
		synctest.Wait()
		if mail.tries() != tried || len(o.Queue()) != 0 || len(kept(t, s)) != 0 {
			t.Errorf("another week later there is %q, tried %d times more", queue(o), mail.tries()-tried)
		}
	})
}

func TestReceiverSaysWhen(t *testing.T) {
	for _, c := range []struct {
		name        string
		says        time.Duration
		short, long time.Duration
	}{
		{"in ninety seconds", 90 * time.Second, 90 * time.Second, 90 * time.Second},
		{"in two days, which is too long", 48 * time.Hour, 24 * time.Hour, 24 * time.Hour},
		{"at once, which is too early", time.Nanosecond, time.Second, time.Second},
		{"it leaves it to us", 0, 7500 * time.Millisecond, 10 * time.Second},
	} {
		t.Run(c.name, func(t *testing.T) {
			bubble(t, func(t *testing.T, s *store.Store, log *log) {
				first := true
				chat := &receiver{answer: func(context.Context, outbox.Letter) error {
					if !first {
						return nil
					}
					first = false
					return fmt.Errorf("429: %w", verdict{true, c.says})
				}}
				o := outbox.New(log.logger(), s)
				o.Configure(map[string]outbox.Sender{"chat": chat})
				commit(t, o, letters("chat", "a", "b")...)
				defer start(t, o)()
				synctest.Wait()
				// Nobody but the operator comes back earlier.
				if c.says > time.Second {
					o.Wake("")
					o.Configure(map[string]outbox.Sender{"chat": chat})
					synctest.Wait()
				}
				time.Sleep(25 * time.Hour)
				synctest.Wait()
				if chat.tries() != 3 {
					t.Fatalf("attempts: %s", chat.keys())
				}
				if gap := chat.times()[1].Sub(chat.times()[0]); gap < c.short || gap > c.long {
					t.Errorf("it comes back after %v", gap)
				}
				if log.count("messages are delivered again") != 1 {
					t.Error("the log does not say that it works again")
				}
			})
		})
	}
}

// What is refused for good is shown, told once, and tried again only if the operator wants it.
func TestRefusedForGood(t *testing.T) {
	bubble(t, func(t *testing.T, s *store.Store, log *log) {
		mail := says(verdict{again: false})
		o := outbox.New(log.logger(), s)
		o.Configure(map[string]outbox.Sender{"mail": mail})
		commit(t, o, letters("mail", "k")...)
		defer start(t, o)()
		time.Sleep(6 * 24 * time.Hour)
		synctest.Wait()
		if mail.keys() != "k" || queue(o) != "k!" || log.count("level=ERROR msg=\"a message is refused for good\"") != 1 {
			t.Errorf("tried %q, there is %q", mail.keys(), queue(o))
		}
		if all := kept(t, s); len(all) != 1 || !all[0].Failed || all[0].Err != "again false after 0s" {
			t.Errorf("the store has %+v", all)
		}
		mail.say(nil)
		if err := o.Retry(t.Context(), "k"); err != nil {
			t.Error(err)
		}
		synctest.Wait()
		if mail.keys() != "k k" || len(o.Queue()) != 0 || len(kept(t, s)) != 0 {
			t.Errorf("tried %q, there is %q", mail.keys(), queue(o))
		}
		for _, err := range []error{o.Retry(t.Context(), "k"), o.Drop(t.Context(), "k")} {
			if !errors.Is(err, outbox.ErrNoLetter) {
				t.Errorf("of a letter that is gone: %v", err)
			}
		}
		mail.say(verdict{again: false})
		commit(t, o, letters("mail", "l")...)
		synctest.Wait()
		if err := o.Drop(t.Context(), "l"); err != nil || len(o.Queue()) != 0 || len(kept(t, s)) != 0 {
			t.Errorf("dropped, there is %q, %v", queue(o), err)
		}
	})
}

// A channel that hangs, and one that refuses, delay no other.
func TestFailingChannelDelaysNoOther(t *testing.T) {
	bubble(t, func(t *testing.T, s *store.Store, log *log) {
		hanging := &receiver{answer: func(ctx context.Context, _ outbox.Letter) error { <-ctx.Done(); return ctx.Err() }}
		failing := says(errors.New("no"))
		good := &receiver{}
		o := outbox.New(log.logger(), s)
		o.Configure(map[string]outbox.Sender{"hanging": hanging, "failing": failing, "good": good})
		defer start(t, o)()
		begun := time.Now()
		for i := range 50 {
			for _, name := range []string{"hanging", "failing", "good"} {
				commit(t, o, letters(name, fmt.Sprint(name, i))...)
			}
			synctest.Wait()
			if good.tries() != i+1 {
				t.Fatalf("%d of %d letters arrived", good.tries(), i+1)
			}
		}
		if passed := time.Since(begun); passed != 0 || hanging.tries() != 1 {
			t.Errorf("it took %v; tried by the hanging channel: %s", passed, hanging.keys())
		}
		// An attempt has its end, and the next letter its turn.
		time.Sleep(3 * time.Minute)
		synctest.Wait()
		if hanging.keys() != "hanging0 hanging1" {
			t.Errorf("tried by the hanging channel: %s", hanging.keys())
		}
		if gap := hanging.times()[1].Sub(begun); gap < 2*time.Minute || gap > 2*time.Minute+10*time.Second {
			t.Errorf("the next attempt was after %v", gap)
		}
	})
}

// One letter that is never taken does not hold up those behind it.
func TestOneLetterThatIsNeverTaken(t *testing.T) {
	bubble(t, func(t *testing.T, s *store.Store, log *log) {
		mail := &receiver{answer: func(_ context.Context, l outbox.Letter) error {
			if l.Key == "bad" {
				return errors.New("451 try later")
			}
			return nil
		}}
		o := outbox.New(log.logger(), s)
		o.Configure(map[string]outbox.Sender{"mail": mail})
		commit(t, o, letters("mail", "bad", "a", "b", "c")...)
		defer start(t, o)()
		time.Sleep(time.Minute)
		synctest.Wait()
		if queue(o) != "bad" || o.Pending("mail") != 1 {
			t.Errorf("after a minute there waits %q", queue(o))
		}
	})
}

// A receiver that says "tomorrow" each time leaves letters that nobody ever tried: they, too,
// end.
func TestLettersThatNeverHadTheirTurn(t *testing.T) {
	bubble(t, func(t *testing.T, s *store.Store, log *log) {
		chat := says(verdict{true, 24 * time.Hour})
		o := outbox.New(log.logger(), s)
		o.Configure(map[string]outbox.Sender{"chat": chat})
		for i := range 12 {
			commit(t, o, letters("chat", fmt.Sprint(i))...)
		}
		empty := make(chan string, 10)
		o.WhenEmpty(func(channel string) { empty <- channel })
		defer start(t, o)()
		time.Sleep(9 * 24 * time.Hour)
		synctest.Wait()
		if o.Pending("chat") != 0 || len(empty) != 1 || chat.tries() > 10 {
			t.Errorf("%d attempts, %d wait: %q", chat.tries(), o.Pending("chat"), queue(o))
		}
		last := o.Queue()[11]
		if last.Tries != 0 || !last.Failed || last.Err != "those before it could not be delivered for a week" {
			t.Errorf("the last is %+v", last)
		}
		if all := kept(t, s); len(all) != 12 || !all[11].Failed {
			t.Errorf("the store has %+v", all)
		}
		time.Sleep(8 * 24 * time.Hour)
		synctest.Wait()
		if len(o.Queue()) != 0 || len(kept(t, s)) != 0 {
			t.Errorf("left are %q", queue(o))
		}
	})
}

// At the stop what is on its way is broken off, at once, and goes out again with the same key.
func TestStopBreaksOffAndLosesNothing(t *testing.T) {
	bubble(t, func(t *testing.T, s *store.Store, log *log) {
		slow := &receiver{answer: func(ctx context.Context, _ outbox.Letter) error { <-ctx.Done(); return ctx.Err() }}
		o := outbox.New(log.logger(), s)
		o.Configure(map[string]outbox.Sender{"mail": slow})
		commit(t, o, letters("mail", "a", "b")...)
		stop := start(t, o)
		synctest.Wait()
		begun := time.Now()
		stop()
		if passed := time.Since(begun); passed != 0 {
			t.Errorf("the stop took %v", passed)
		}
		all := kept(t, s)
		if slow.keys() != "a" || len(all) != 2 || all[0].Tries != 0 || all[0].Err != "" {
			t.Errorf("after the stop there is %+v", all)
		}
		mail := &receiver{}
		o = outbox.New(log.logger(), s)
		o.Configure(map[string]outbox.Sender{"mail": mail})
		if all, err := o.Letters(t.Context()); err != nil || len(all) != 2 {
			t.Errorf("before Run there is %v, %v", all, err)
		}
		defer start(t, o)()
		synctest.Wait()
		if mail.keys() != "a b" || string(mail.first().Body) != "body of a" {
			t.Errorf("with the next run arrives %q", mail.keys())
		}
	})
}

// What was taken at the very moment of the stop is not sent again.
func TestTakenAtTheStop(t *testing.T) {
	bubble(t, func(t *testing.T, s *store.Store, log *log) {
		mail := &receiver{answer: func(ctx context.Context, _ outbox.Letter) error { <-ctx.Done(); return nil }}
		o := outbox.New(log.logger(), s)
		o.Configure(map[string]outbox.Sender{"mail": mail})
		commit(t, o, letters("mail", "a")...)
		stop := start(t, o)
		synctest.Wait()
		stop()
		if all := kept(t, s); len(all) != 0 {
			t.Errorf("there is %+v", all)
		}
	})
}

// A sender that panics does not take the program with it.
func TestSenderThatPanics(t *testing.T) {
	bubble(t, func(t *testing.T, s *store.Store, log *log) {
		mail := &receiver{answer: func(_ context.Context, l outbox.Letter) error {
			if l.Key == "a" {
				panic("nothing there")
			}
			return nil
		}}
		o := outbox.New(log.logger(), s)
		o.Configure(map[string]outbox.Sender{"mail": mail})
		commit(t, o, letters("mail", "a", "b")...)
		defer start(t, o)()
		time.Sleep(time.Minute)
		synctest.Wait()
		if mail.keys() != "a b" || queue(o) != "a!" || log.count("sending it panics: nothing there") != 1 || log.count("outbox_test.go") == 0 {
			t.Errorf("tried %q, there is %q", mail.keys(), queue(o))
		}
	})
}

// Letters of a channel that is gone are held and shown, for a week.
func TestChannelsThatAreGone(t *testing.T) {
	bubble(t, func(t *testing.T, s *store.Store, log *log) {
		mail := says(errors.New("no"))
		o := outbox.New(log.logger(), s)
		o.Configure(map[string]outbox.Sender{"mail": mail})
		commit(t, o, append(letters("mail", "m"), letters("never", "n")...)...)
		defer start(t, o)()
		synctest.Wait()
		o.Configure(nil)
		time.Sleep(6 * 24 * time.Hour)
		synctest.Wait()
		if all := o.Queue(); len(all) != 2 || all[0].Err != "no" || all[1].Err != outbox.ErrNoChannel.Error() || mail.tries() != 1 {
			t.Errorf("held are %+v", all)
		}
		if err := o.Retry(t.Context(), "n"); !errors.Is(err, outbox.ErrNoChannel) {
			t.Errorf("%v", err)
		}
		back := &receiver{}
		o.Configure(map[string]outbox.Sender{"mail": back})
		synctest.Wait()
		if back.keys() != "m" || queue(o) != "n" {
			t.Errorf("when it is back arrives %q, left is %q", back.keys(), queue(o))
		}
		time.Sleep(25 * time.Hour)
		synctest.Wait()
		if len(o.Queue()) != 0 || len(kept(t, s)) != 0 || log.count("its channel has been gone for a week") != 1 {
			t.Errorf("after a week there is %q", queue(o))
		}
	})
}

// A reload, and Wake, try at once what rests of our own accord.
func TestReloadTriesAtOnce(t *testing.T) {
	bubble(t, func(t *testing.T, s *store.Store, log *log) {
		bad := says(errors.New("wrong password"))
		o := outbox.New(log.logger(), s)
		o.Configure(map[string]outbox.Sender{"mail": bad})
		commit(t, o, letters("mail", "a")...)
		defer start(t, o)()
		time.Sleep(10 * time.Hour)
		synctest.Wait()
		before := bad.tries()
		o.Wake("chat")
		synctest.Wait()
		if bad.tries() != before {
			t.Error("another channel's wake-up tries it")
		}
		o.Wake("mail")
		synctest.Wait()
		if bad.tries() != before+1 {
			t.Error("Wake does not try it")
		}
		good := &receiver{}
		o.Configure(map[string]outbox.Sender{"mail": good})
		synctest.Wait()
		if good.keys() != "a" {
			t.Error("a reload does not try it")
		}
	})
}

// An author is told when nothing waits any more.
func TestWhenEmpty(t *testing.T) {
	bubble(t, func(t *testing.T, s *store.Store, log *log) {
		mail := says(errors.New("later"))
		o := outbox.New(log.logger(), s)
		told := make(chan string, 10)
		o.WhenEmpty(func(channel string) { told <- channel })
		heard := func() (channels []string) {
			for len(told) > 0 {
				channels = append(channels, <-told)
			}
			return channels
		}
		o.Configure(map[string]outbox.Sender{"mail": mail})
		commit(t, o, letters("mail", "a", "b")...)
		defer start(t, o)()
		synctest.Wait()
		if o.Pending("mail") != 2 || o.Pending("chat") != 0 || heard() != nil {
			t.Errorf("%d wait, or somebody was told", o.Pending("mail"))
		}
		mail.say(nil)
		time.Sleep(time.Minute)
		synctest.Wait()
		if channels := heard(); o.Pending("mail") != 0 || !slices.Equal(channels, []string{"mail"}) {
			t.Errorf("delivered: %d wait, told %v", o.Pending("mail"), channels)
		}
		mail.say(verdict{})
		commit(t, o, letters("mail", "c")...)
		synctest.Wait()
		if channels := heard(); !slices.Equal(channels, []string{"mail"}) {
			t.Errorf("refused: told %v", channels)
		}
		mail.say(errors.New("later"))
		commit(t, o, letters("mail", "d")...)
		err := o.Drop(t.Context(), "d")
		if channels := heard(); err != nil || !slices.Equal(channels, []string{"mail"}) {
			t.Errorf("dropped: told %v, %v", channels, err)
		}
	})
}

// A shelf is a store that fails when it is told to.
type shelf struct {
	*store.Store
	mu   sync.Mutex
	fail error
}

func (s *shelf) set(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fail = err
}

func (s *shelf) err() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.fail
}

func (s *shelf) Letters(ctx context.Context) ([]outbox.Letter, error) {
	if err := s.err(); err != nil {
		return nil, err
	}
	return s.Store.Letters(ctx)
}

func (s *shelf) Body(ctx context.Context, key string) ([]byte, error) {
	if err := s.err(); err != nil {
		return nil, err
	}
	return s.Store.Body(ctx, key)
}

func (s *shelf) DropLetter(ctx context.Context, key string) error {
	if err := s.err(); err != nil {
		return err
	}
	return s.Store.DropLetter(ctx, key)
}

// While the database is out of order nothing is lost and nothing sent twice.
func TestDatabaseOutOfOrder(t *testing.T) {
	bubble(t, func(t *testing.T, s *store.Store, log *log) {
		locked := errors.New("the database is locked")
		broken := &shelf{Store: s}
		mail := &receiver{answer: func(context.Context, outbox.Letter) error { broken.set(locked); return nil }}
		o := outbox.New(log.logger(), broken)
		o.Configure(map[string]outbox.Sender{"mail": mail})
		commit(t, o, letters("mail", "a", "b")...)
		broken.set(locked)
		defer start(t, o)()
		time.Sleep(time.Minute)
		synctest.Wait()
		if mail.tries() != 0 || log.count("cannot read which messages wait") == 0 {
			t.Errorf("sent is %q", mail.keys())
		}
		broken.set(nil)
		time.Sleep(time.Minute)
		synctest.Wait()
		if mail.keys() != "a" || queue(o) != "b" || log.count("cannot forget a message that was delivered") != 1 {
			t.Errorf("sent is %q, there waits %q", mail.keys(), queue(o))
		}
		broken.set(nil)
		time.Sleep(time.Minute)
		synctest.Wait()
		broken.set(nil)
		time.Sleep(time.Minute)
		synctest.Wait()
		if mail.keys() != "a b" || len(kept(t, s)) != 0 {
			t.Errorf("sent is %q, kept %v", mail.keys(), kept(t, s))
		}
	})
}

// Whatever an author hands in, the queue is bounded: the oldest letters of the fullest channel go.
func TestTooManyLetters(t *testing.T) {
	for _, c := range []struct {
		name    string
		letters int
		bytes   int64
	}{
		{"by their number", 100, 1 << 30},
		{"by their size", 1 << 30, 98*1000 + 2*9 + 500},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := open(t, "")
			var log log
			o := outbox.New(log.logger(), s)
			o.SetBounds(c.letters, c.bytes)
			commit(t, o, letters("mail", "m1", "m2")...)
			for i := range 100 {
				l := letters("chat", fmt.Sprint(i))[0]
				l.Body = make([]byte, 1000)
				commit(t, o, l)
			}
			all := o.Queue()
			if o.Pending("mail") != 2 || o.Pending("chat") != 98 || all[2].Key != "2" {
				t.Errorf("there are %q", queue(o))
			}
			if n := len(kept(t, s)); n != 100 {
				t.Errorf("the store has %d", n)
			}
			if log.count("the oldest are dropped") != 2 || log.count("channel=chat") != 2 {
				t.Error("the log does not say so")
			}
		})
	}
}

func TestWhatAuthorsHandIn(t *testing.T) {
	s := open(t, "")
	o := outbox.New(slog.New(slog.DiscardHandler), s)
	for _, c := range []struct {
		name   string
		change func(*outbox.Letter)
		want   string
	}{
		{"no key", func(l *outbox.Letter) { l.Key = "" }, "0 bytes"},
		{"a key that is no part of a header", func(l *outbox.Letter) { l.Key = "a\r\nBcc: x" }, "holds more than letters"},
		{"a key with another letter", func(l *outbox.Letter) { l.Key = "ö" }, "holds more than letters"},
		{"a long key", func(l *outbox.Letter) { l.Key = strings.Repeat("k", 300) }, "300 bytes"},
		{"no channel", func(l *outbox.Letter) { l.Channel = "" }, "channel of the letter k has 0 bytes"},
		{"a large body", func(l *outbox.Letter) { l.Body = make([]byte, outbox.MaxBody+1) }, "1048577 bytes"},
	} {
		bad := letters("mail", "k")
		c.change(&bad[0])
		err := o.Commit(t.Context(), "author", outbox.Batch{Letters: append(letters("mail", "good"), bad...)})
		if err == nil || !strings.Contains(err.Error(), c.want) || len(o.Queue()) != 0 {
			t.Errorf("%s: %v, %v", c.name, err, o.Queue())
		}
	}
	if err := o.Commit(t.Context(), "author", outbox.Batch{Notes: map[string][]byte{"a": make([]byte, outbox.MaxBody+1)}}); err == nil {
		t.Error("a large note is taken")
	}
	odd := letters("mail", "odd", "odd")
	odd[0].About, odd[0].Tries, odd[0].Failed, odd[0].Due = "user \x1b[2J\n"+strings.Repeat("ö", 200), 7, true, time.Now().Add(1000*time.Hour)
	commit(t, o, odd...)
	all := o.Queue()
	if len(all) != 1 || !strings.HasPrefix(all[0].About, "user ?[2J ö") || len(all[0].About) > 200 || all[0].Tries != 0 || all[0].Failed || time.Until(all[0].Due) > 0 {
		t.Errorf("queued are %+v", all)
	}
	if again := kept(t, s); len(again) != 1 || again[0].About != all[0].About {
		t.Errorf("kept are %+v", again)
	}
}

// Commit passes on what an author reads and remembers.
func TestNotesAndNews(t *testing.T) {
	s := open(t, "")
	o := outbox.New(slog.New(slog.DiscardHandler), s)
	if err := o.Commit(t.Context(), "author", outbox.Batch{Notes: map[string][]byte{"a": []byte("1")}}); err != nil {
		t.Fatal(err)
	}
	if value, at, err := o.Note(t.Context(), "author", "a"); err != nil || string(value) != "1" || at.IsZero() {
		t.Errorf("%q, %v, %v", value, at, err)
	}
	if notes, err := o.Notes(t.Context(), "author"); err != nil || len(notes) != 1 {
		t.Errorf("%v, %v", notes, err)
	}
	if news, err := o.News(t.Context(), "author", 10); err != nil || len(news) != 0 {
		t.Errorf("%v, %v", news, err)
	}
}

func BenchmarkCommit(b *testing.B) {
	for _, n := range []int{1, 10} {
		b.Run(fmt.Sprintf("letters=%d", n), func(b *testing.B) {
			s := open(b, filepath.Join(b.TempDir(), "b.db"))
			o := outbox.New(slog.New(slog.DiscardHandler), s)
			body := bytes.Repeat([]byte("a line of a mail\r\n"), 500)
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				batch := outbox.Batch{UpTo: int64(i + 1), Notes: map[string][]byte{"counter": []byte(fmt.Sprint(i))}}
				for j := range n {
					batch.Letters = append(batch.Letters, outbox.Letter{Key: fmt.Sprintf("%d-%d", i, j), Channel: "mail", Body: body})
				}
				if err := o.Commit(b.Context(), "author", batch); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
