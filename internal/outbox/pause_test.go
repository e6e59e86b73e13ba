package outbox

import (
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"
)

func TestPausesDouble(t *testing.T) {
	for _, c := range []struct {
		name        string
		tries       int
		short, long time.Duration
	}{
		{"the first is ten seconds", 1, 7500 * time.Millisecond, 10 * time.Second},
		{"the second twice that", 2, 15 * time.Second, 20 * time.Second},
		{"the ninth is the last below an hour", 9, 32 * time.Minute, 2560 * time.Second},
		{"then it is an hour", 10, 45 * time.Minute, time.Hour},
		{"and stays one", 1 << 40, 45 * time.Minute, time.Hour},
		{"none yet counts as one", 0, 7500 * time.Millisecond, 10 * time.Second},
	} {
		if long, short := pause(c.tries, 0), pause(c.tries, 1); long != c.long || short != c.short {
			t.Errorf("%s: %v to %v, want %v to %v", c.name, short, long, c.short, c.long)
		}
	}
}

// A pause that is longer than any is of a clock that has been set back since.
func TestClockSetBack(t *testing.T) {
	now := time.Date(1970, 1, 1, 0, 0, 0, 0, time.UTC)
	for until, want := range map[time.Time]time.Time{
		now.AddDate(50, 0, 0):     now,
		now.Add(23 * time.Hour):   now.Add(23 * time.Hour),
		now.Add(-23 * time.Hour):  now.Add(-23 * time.Hour),
		now.Add(25 * time.Hour):   now,
		(time.Time{}).Add(1 << 9): (time.Time{}).Add(1 << 9),
	} {
		if got := sensible(until, now); !got.Equal(want) {
			t.Errorf("%v is %v, want %v", until, got, want)
		}
	}
}

// The log is told of a cause once an hour, whatever numbers are in it.
func TestCausesAreToldOnceAnHour(t *testing.T) {
	now := time.Date(2025, 3, 2, 10, 0, 0, 0, time.UTC)
	var told told
	for _, c := range []struct {
		name, cause string
		after       time.Duration
		want        bool
	}{
		{"the first", "read tcp 192.0.2.1:40000: timeout", 0, true},
		{"another port", "read tcp 192.0.2.1:5: timeout", time.Minute, false},
		{"another cause", "refused", time.Minute, true},
		{"an hour later", "read tcp 192.0.2.1:40001: timeout", time.Hour, true},
		{"a minute after that", "read tcp 192.0.2.1:40001: timeout", time.Hour + time.Minute, false},
		{"the clock was set back", "read tcp 192.0.2.1:40001: timeout", 0, true},
	} {
		if got := told.first(c.cause, now.Add(c.after)); got != c.want {
			t.Errorf("%s is told: %v", c.name, got)
		}
	}
	for i := range 1000 {
		told.first(strings.Repeat("x", i), now)
	}
	if len(told) > maxCauses {
		t.Errorf("%d causes are remembered", len(told))
	}
	if !told.clear() || told.clear() {
		t.Error("it is not clear")
	}
}

func TestPrintable(t *testing.T) {
	for _, c := range []struct{ name, text, want string }{
		{"plain text", "550 user unknown: ö€", "550 user unknown: ö€"},
		{"lines become one", "a\r\nBcc: b\tc", "a  Bcc: b c"},
		{"no terminal is told anything", "\x1b]52;c;x\a\x9b1m", "?]52;c;x??1m"},
		{"no direction is changed", "a\u202eb\u2066", "a?b?"},
		{"what is no text", "\xff\x00", "??"},
		{"what is too long is cut between letters", "01234567€€", "01234567€"},
	} {
		if got := printable(c.text, max(11, len(c.want))); got != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}

func FuzzPrintable(f *testing.F) {
	f.Add("a\x1b[2J\u202e\xff\r\n€", 7)
	f.Fuzz(func(t *testing.T, text string, most int) {
		most = min(max(most, 0), 1<<16)
		got := printable(text, most)
		if len(got) > most || !utf8.ValidString(got) {
			t.Errorf("%q of %q is longer than %d bytes, or no text", got, text, most)
		}
		for _, r := range got {
			if !unicode.IsPrint(r) {
				t.Errorf("%q of %q holds %U", got, text, r)
			}
		}
		if again := printable(got, most); again != got {
			t.Errorf("printable once is %q, twice %q", got, again)
		}
	})
}
