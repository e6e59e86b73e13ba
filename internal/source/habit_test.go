package source

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// diary looks at a source every ten seconds of some days, and tells what was new.
func diary(days int, lines func(since time.Duration) int64) (news []string) {
	var h habit
	start := time.Date(2025, 3, 1, 12, 0, 0, 0, time.UTC)
	st := Status{State: Reading, Live: true}
	for since := time.Duration(0); since < time.Duration(days)*24*time.Hour; since += 10 * time.Second {
		if n := lines(since); n > 0 {
			st.Lines += n
			st.Last = start.Add(since)
		}
		switch h.look(&st, start.Add(since)) {
		case fellSilent:
			news = append(news, fmt.Sprintf("silent %v at %.0f an hour", since.Round(time.Minute), h.perHour()))
		case spokeAgain:
			news = append(news, fmt.Sprintf("speaks %v", since.Round(time.Minute)))
		}
	}
	return news
}

func TestSilence(t *testing.T) {
	every := func(d time.Duration) func(time.Duration) int64 {
		return func(since time.Duration) int64 {
			if since%d == 0 {
				return 1
			}
			return 0
		}
	}
	within := func(from, to time.Duration, f func(time.Duration) int64) func(time.Duration) int64 {
		return func(since time.Duration) int64 {
			if since >= from && since < to {
				return f(since)
			}
			return 0
		}
	}
	const hour = time.Hour
	for _, c := range []struct {
		name  string
		days  int
		lines func(time.Duration) int64
		want  []string
	}{
		{"a log that goes on", 5, every(90 * time.Second), nil},
		{"a log that stops is told of once", 5, within(0, 30*hour, every(90*time.Second)), []string{"silent 30h59m0s at 38 an hour"}},
		{
			"and once when it speaks again", 5,
			func(since time.Duration) int64 {
				return within(0, 30*hour, every(90*time.Second))(since) + within(40*hour, 99*hour*99, every(90*time.Second))(since)
			},
			[]string{"silent 30h59m0s at 38 an hour", "speaks 40h0m0s"},
		},
		{
			"a pause of three times the longest of the week", 5,
			within(0, 48*hour, every(2*hour)),
			[]string{"silent 52h0m0s at 0 an hour"},
		},
		{
			"nights are learned", 7,
			func(since time.Duration) int64 {
				if since%(24*hour) < 10*hour {
					return every(60 * time.Second)(since)
				}
				return 0
			},
			[]string{"silent 10h59m0s at 55 an hour", "speaks 24h0m0s"},
		},
		{"a few lines are no habit", 5, within(0, 30*hour, every(3*hour)), nil},
		{"nothing is said in the first hours", 1, within(0, 4*hour, every(10*time.Second)), []string{"silent 6h0m0s at 240 an hour"}},
	} {
		if got := diary(c.days, c.lines); strings.Join(got, ", ") != strings.Join(c.want, ", ") {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}

// What cannot be read, or is missing, has told so, and what is read in a catch-up is no habit.
func TestSilenceOfWhatIsNotRead(t *testing.T) {
	var h habit
	now := time.Date(2025, 3, 1, 12, 0, 0, 0, time.UTC)
	st := Status{State: Reading}
	for range 10_000 {
		now = now.Add(10 * time.Second)
		st.Lines += 5
		h.look(&st, now)
	}
	if !h.since.IsZero() {
		t.Fatal("a catch-up is taken for a habit")
	}
	st.Live = true
	for range 10_000 {
		now = now.Add(10 * time.Second)
		st.Lines++
		h.look(&st, now)
	}
	st.State = Waiting
	for range 10_000 {
		now = now.Add(10 * time.Second)
		if got := h.look(&st, now); got != asEver {
			t.Fatalf("news %v of a log that is waited for", got)
		}
	}
}

// The whole way: Run looks, the log tells, and Status shows it.
func TestSilenceIsTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		s := newStream("x", Command, defaultTiming, b.sources.log, nil)
		s.assign(&assignment{judge: noJudge{}, plans: []plan{{jail: "t"}}})
		s.live, s.status.Live, s.status.State = true, true, Reading
		b.sources.readers["x"] = &reader{key: "x", name: "x", feed: s}
		speak := func(d time.Duration, lines bool) {
			for range d / time.Minute {
				time.Sleep(time.Minute)
				if lines {
					s.hand(t.Context(), []byte("line"))
				}
				b.sources.listenForSilence(time.Now())
			}
		}
		speak(10*time.Hour, true)
		last := time.Now()
		speak(3*time.Hour, false)
		st := b.sources.Status()[0]
		if !st.Silent.Equal(last) || st.PerHour < 40 || st.PerHour > 60 {
			t.Errorf("silent since %v at %v an hour, want %v at 60 before", st.Silent, st.PerHour, last)
		}
		speak(3*time.Hour, true)
		if st := b.sources.Status()[0]; !st.Silent.IsZero() {
			t.Error("it counts as silent still")
		}
		for _, text := range []string{"log has fallen silent", "log is written again"} {
			if n := strings.Count(b.logged(), text); n != 1 {
				t.Errorf("%q stands %d times in the log, want once\n%s", text, n, b.logged())
			}
		}
	})
}
