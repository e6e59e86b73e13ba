package timestamp

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"
)

// noon is a now that the tables below are written for.
var noon = time.Date(2026, 6, 15, 12, 0, 0, 0, time.UTC)

func detector(t testing.TB, zone *time.Location, patterns ...string) *Detector {
	t.Helper()
	d, err := New(patterns, Options{Local: zone})
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// find gives the date as RFC 3339 and the line with the date cut out.
func find(d *Detector, line string, now time.Time) (date, rest string) {
	m, ok := d.Find([]byte(line), now)
	if !ok {
		return "none", line
	}
	date = "unreadable"
	if !m.Time.IsZero() {
		date = m.Time.UTC().Format("2006-01-02T15:04:05.999999999Z")
	} else if m.Start == m.End {
		date = "empty"
	}
	return date, line[:m.Start] + "|" + line[m.End:]
}

func TestDefaultFormats(t *testing.T) {
	for _, c := range []struct{ name, line, date, rest string }{
		{"ISO 8601 with zone and fraction, which is dropped", "2005-01-23T21:59:59.981746+02:00 x", "2005-01-23T19:59:59Z", "| x"},
		{"year first with dots", "2006.12.21 06:43:20 x", "2006-12-21T06:43:20Z", "| x"},
		{"year first with slashes, as nginx", "2012/04/09 11:53:29 [error]", "2012-04-09T11:53:29Z", "| [error]"},
		{"two blanks between date and time", "2012-04-09  11:53:29 x", "2012-04-09T11:53:29Z", "| x"},
		{"comma before the fraction, as Python logs", "2012-04-09 11:53:29,123 x", "2012-04-09T11:53:29Z", "| x"},
		{"unequal separators are no date", "2012-04/09 x", "none", "2012-04/09 x"},
		{"zone after a blank", "2012-04-09 11:53:29 +0530 x", "2012-04-09T06:23:29Z", "| x"},
		{"hour-only offset with one digit is no zone", "2026-06-15 11:00:00 +5:30 x", "2026-06-15T11:00:00Z", "| +5:30 x"},
		{"zone name is not part of ISO", "2026-06-15T11:00:00 EST x", "2026-06-15T11:00:00Z", "| EST x"},
		{"seven digits of fraction are none", "2026-06-15 12:00:00.1234567 x", "2026-06-15T12:00:00Z", "|.1234567 x"},
		{"lower-case zulu", "2026-06-15T12:00:00z x", "none", "2026-06-15T12:00:00z x"},
		{"leap second", "2026-06-15T12:00:60Z f", "unreadable", "| f"},
		{"30 February", "2026-02-30T12:00:00Z f", "unreadable", "| f"},
		{"29 February of a common year", "Feb 29 12:00:00 f", "unreadable", "| f"},
		{"syslog", "Jun  4 10:00:00 h f x", "2026-06-04T10:00:00Z", "| h f x"},
		{"syslog with one blank", "Jan 5 11:15:05 NAS", "2026-01-05T11:15:05Z", "| NAS"},
		{"asctime with fraction and year", "Sun Jan 23 21:59:59.011 2005 x", "2005-01-23T21:59:59Z", "| x"},
		{"year before the time", "Sun Jan 23 2005 21:59:59 x", "2005-01-23T21:59:59Z", "| x"},
		{"day first", "23/01/2005 21:59:59 x", "2005-01-23T21:59:59Z", "| x"},
		{"two-digit year", "17-07-08 17:23:25 x", "2008-07-17T17:23:25Z", "| x"},
		{"common log format", `1.2.3.4 - - [31/Oct/2006:09:22:55 -0500] "GET`, "2006-10-31T14:22:55Z", `1.2.3.4 - - [|] "GET`},
		{"day, month name, year", "26-Jul-2007 15:20:52 x", "2007-07-26T15:20:52Z", "| x"},
		{"month first with colon", "05/20/2008:01:57:39 x", "2008-05-20T01:57:39Z", "| x"},
		{"month first, where day first is impossible", "01-27-2012 16:22:44.252 x", "2012-01-27T16:22:44Z", "| x"},
		{"day first where both are possible", "01-02-2012 16:22:44.252 x", "2012-02-01T16:22:44Z", "|.252 x"},
		{"day first with slashes", "06/05/2026 11:00:00 x", "2026-05-06T11:00:00Z", "| x"},
		{"epoch", "1138049999 x", "2006-01-23T20:59:59Z", "| x"},
		{"epoch with milliseconds", "1138049999.250 x", "2006-01-23T20:59:59.25Z", "| x"},
		{"one digit behind an epoch is not its fraction", "1138049999.5 x", "2006-01-23T20:59:59Z", "|.5 x"},
		{"epoch in an audit record", "type=X msg=audit(1138049999.123:45): x", "2006-01-23T20:59:59.123Z", "type=X msg=audit(|:45): x"},
		{"epoch in brackets", "[1138049999] x", "2006-01-23T20:59:59Z", "[|] x"},
		{"epoch in the middle of a line", "x 1138049999 x", "none", "x 1138049999 x"},
		{"time of today", "11:46:11 x", "2026-06-15T11:46:11Z", "| x"},
		{"time of yesterday", "23:46:11 x", "2026-06-14T23:46:11Z", "| x"},
		{"time in the middle", "x 11:46:11 x", "none", "x 11:46:11 x"},
		{"angle brackets", "<09/16/08@05:03:30> x", "2008-09-16T05:03:30Z", "| x"},
		{"angle brackets not at column 0", " <09/16/08@05:03:30> x", "none", " <09/16/08@05:03:30> x"},
		{"six digits", "130322 11:46:11 x", "2013-03-22T11:46:11Z", "| x"},
		{"afternoon", "Sep 16, 2008 05:03:30 PM x", "2008-09-16T17:03:30Z", "| x"},
		{"midnight", "Sep 16, 2008 12:03:30 AM x", "2008-09-16T00:03:30Z", "| x"},
		{"month, day, two-digit year", "Apr-27-13 02:33:06 x", "2013-04-27T02:33:06Z", "| x"},
		{"compact", "20050123T215959 x", "2005-01-23T21:59:59Z", "| x"},
		{"half compact", "20050123-21:59:59 x", "2005-01-23T21:59:59Z", "| x"},
		{"zone name first", "PDT Apr 16 21:05:29 x", "2026-04-17T04:05:29Z", "| x"},
		{"offset first", "+01:00 Jan 23 21:59:59.011 2005 x", "2005-01-23T20:59:59Z", "| x"},
		{"TAI64N", "@4000000043d5a2f5000000ff x", "2006-01-24T03:45:57Z", "| x"},
		{"host name taken for a zone", "host Apr 16 21:05:29 f", "unreadable", "| f"},
		{"the same in capitals", "HOST Apr 16 21:05:29 f", "unreadable", "| f"},
		{"longer host name", "myhost Apr 16 21:05:29 f", "2026-04-16T21:05:29Z", "myhost | f"},
		{"program before the date", "web: Apr 16 21:05:29 f", "2026-04-16T21:05:29Z", "web: | f"},
		{"in brackets", "[2026-06-04 10:00:00] f 1.2.3.4", "2026-06-04T10:00:00Z", "[|] f 1.2.3.4"},
		{"behind a syslog priority", "<14>Jun 4 10:00:00 h f", "2026-06-04T10:00:00Z", "<14>| h f"},
		{"behind a host name", "h Jun 4 10:00:00 f", "2026-06-04T10:00:00Z", "h | f"},
		{"less than a day ahead", "Jun 16 11:59:59 h", "2026-06-16T11:59:59Z", "| h"},
		{"more than a day ahead is last year", "Jun 16 12:00:01 h", "2025-06-16T12:00:01Z", "| h"},
		{"last day of the year", "Dec 31 23:59:59 h", "2025-12-31T23:59:59Z", "| h"},
		{"implausible year is no part of it", "Jun 15 11:00:00 1999 h", "2026-06-15T11:00:00Z", "| 1999 h"},
		{"implausible year", "1999-06-15 12:00:00 x", "none", "1999-06-15 12:00:00 x"},
		{"implausible future", "2031-06-15 12:00:00 x", "none", "2031-06-15 12:00:00 x"},
		{"glued to a word", "x2026-06-15 12:00:00 x", "none", "x2026-06-15 12:00:00 x"},
		{"glued to an underscore", "_2026-06-15 12:00:00 x", "none", "_2026-06-15 12:00:00 x"},
		{"no seconds", "2026-06-15 12:00 x", "none", "2026-06-15 12:00 x"},
		{"tab between", "2026-06-15\t12:00:00 x", "none", ""},
		{"nothing", "", "none", ""},
		{"date inside the message loses to the one in front", "Jun 15 11:00:00 h x 2026-06-15 10:00:00 y", "2026-06-15T11:00:00Z", "| h x 2026-06-15 10:00:00 y"},
		{"leftmost of two", "1.1.1.1 - - [15/Jun/2026:11:00:00 +0000] y 2026-06-15 10:00:00", "2026-06-15T11:00:00Z", "1.1.1.1 - - [|] y 2026-06-15 10:00:00"},
		{"epoch before a date", "1138049999 2026-06-15 11:00:00", "2006-01-23T20:59:59Z", "| 2026-06-15 11:00:00"},
	} {
		t.Run(c.name, func(t *testing.T) {
			date, rest := find(detector(t, time.UTC), c.line, noon)
			if date == "none" && c.date == "none" {
				return
			}
			if date != c.date || rest != c.rest {
				t.Errorf("%q\n got %s, %q\nwant %s, %q", c.line, date, rest, c.date, c.rest)
			}
		})
	}
}

func TestPatterns(t *testing.T) {
	for _, c := range []struct{ name, pattern, line, date, rest string }{
		{"codes with text around", `^%Y/%m/%d at %H:%M`, "1999/06/15 at 11:00 x", "1999-06-15T11:00:00Z", "| x"},
		{"column 0 means it", `^%Y-%m-%d %H:%M:%S`, " 2026-06-15 11:00:00 x", "none", ""},
		{"the group is what is cut", `\[(%d/%b/%Y:%H:%M:%S %z)\]`, "a [15/jun/2026:11:00:00 +0200] x", "2026-06-15T09:00:00Z", "a [|] x"},
		{"a group in the middle moves the cut", `%Y-%m-%d (x)?%H:%M`, "2026-06-15 x11:00 z", "2026-06-15T11:00:00Z", "|-06-15 x11:00 z"},
		{"line start", `{^LN-BEG}%Y-%m-%d %H:%M:%S`, "<[2026-06-15 11:00:00 x", "2026-06-15T11:00:00Z", "<[| x"},
		{"three characters are too many", `{^LN-BEG}%Y-%m-%d %H:%M:%S`, "<[[2026-06-15 11:00:00 x", "none", ""},
		{"line start alone", `{^LN-BEG}`, "x Jun 15 11:00:00 x", "none", ""},
		{"line start alone finds", `{^ln-beg}`, "[Jun 15 11:00:00] x", "2026-06-15T11:00:00Z", "[|] x"},
		{"date behind a prefix", `^[^\[]*\[({DATE})`, `1.1.1.1 - a [15/Jun/2026:11:00:00 +0000] x`, "2026-06-15T11:00:00Z", `1.1.1.1 - a [|] x`},
		{"date at the start", `^{DATE}`, `1138049999 x`, "2006-01-23T20:59:59Z", `| x`},
		{"none", `{NONE}`, "Jun 15 11:00:00 x", "empty", "|Jun 15 11:00:00 x"},
		{"optional date", `^prefix()**`, "prefixed", "empty", "prefix|ed"},
		{"epoch", `Epoch`, "1138049999 x", "2006-01-23T20:59:59Z", "| x"},
		{"epoch at line start", `{^LN-BEG}Epoch`, "[ 1138049999 x", "2006-01-23T20:59:59Z", "[ | x"},
		{"milliseconds", `LEPOCH`, "1138049999123 x", "2006-01-23T20:59:59.123Z", "| x"},
		{"microseconds", `^LEPOCH`, "1138049999123456 x", "2006-01-23T20:59:59.123456Z", "| x"},
		{"epoch anywhere", `at {EPOCH}`, "x at 1138049999 x", "2006-01-23T20:59:59Z", "x | x"},
		{"millisecond epoch anywhere", `"ts":({LEPOCH})`, `{"ts":1138049999123}`, "2006-01-23T20:59:59.123Z", `{"ts":|}`},
		{"TAI64N at line start", `{^LN-BEG}TAI64N`, "@4000000043d5a2f5000000ff x", "2006-01-24T03:45:57Z", "| x"},
		{"equal separators", `%d(?P<s>[./])%m(?P=s)%Y %H`, "15.06.2026 11 x", "2026-06-15T11:00:00Z", "| x"},
		{"unequal separators", `%d(?P<s>[./])%m(?P=s)%Y %H`, "15.06/2026 11 x", "none", ""},
		{"unbound", `{UNB}%Y-%m-%d`, "x2026-06-15y", "2026-06-15T00:00:00Z", "x|y"},
		{"unbound at the end only", `%Y-%m-%d**`, "2026-06-15y", "2026-06-15T00:00:00Z", "|y"},
		{"bound", `%Y-%m-%d`, "x2026-06-15y", "none", ""},
		{"day of the year", `%Y %j`, "2026 166", "2026-06-15T00:00:00Z", "|"},
		{"week and weekday", `%Y %U %w`, "2026 24 1", "2026-06-15T00:00:00Z", "|"},
		{"ISO-like week", `%Y %W %w`, "2026 24 1", "2026-06-15T00:00:00Z", "|"},
		{"only a year", `^%Y`, "2026 x", "2026-06-15T00:00:00Z", "| x"},
		{"only a month and day", `^%m/%d`, "06/14 x", "2026-06-14T00:00:00Z", "| x"},
		{"day without month", `^%d`, "14 x", "unreadable", "| x"},
		{"hour 29", `^%k:%M`, "29:00 x", "unreadable", "| x"},
		{"twelve-hour clock", `^%I:%M %p`, "12:30 am x", "2026-06-15T00:30:00Z", "| x"},
		{"twelve-hour clock in the morning by default", `^%I:%M`, "12:30 x", "2026-06-15T00:30:00Z", "| x"},
		{"abbreviation and offset add up", `^%Y-%m-%d %H:%M %Exz`, "2026-06-15 11:00 CET+0100 x", "2026-06-15T09:00:00Z", "| x"},
		{"full names", `^%A, %d %B %Y %H:%M`, "MONDAY, 15 june 2026 11:00 x", "2026-06-15T11:00:00Z", "| x"},
		{"percent sign", `^%%%Y`, "%2026", "2026-06-15T00:00:00Z", "|"},
		{"the C locale's own", `^%c`, "Mon Jun 15 11:00:00 2026 x", "2026-06-15T11:00:00Z", "| x"},
		{"the defaults by name", `{DEFAULT}`, "Jun 15 11:00:00 x", "2026-06-15T11:00:00Z", "| x"},
	} {
		t.Run(c.name, func(t *testing.T) {
			date, rest := find(detector(t, time.UTC, c.pattern), c.line, noon)
			if date != c.date || date != "none" && rest != c.rest {
				t.Errorf("%q in %q\n got %s, %q\nwant %s, %q", c.pattern, c.line, date, rest, c.date, c.rest)
			}
		})
	}
}

func TestWrongPatterns(t *testing.T) {
	for pattern, want := range map[string]string{
		`%T`:       `datepattern 1: "%T": %T is not a code`,
		`%Y-%Q`:    `%Q is not a code`,
		`(%Y`:      `missing ), unterminated subpattern`,
		`%Y %`:     `a single %`,
		`%d(?P=s)`: `unknown group name 's'`,
		`%Y %Y`:    `%Y is there twice`,
	} {
		if _, err := New([]string{pattern}, Options{}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: error %v, want one with %q", pattern, err, want)
		}
	}
	if _, err := New([]string{"%Y", "%Y"}, Options{}); err == nil || !strings.Contains(err.Error(), "twice") {
		t.Errorf("the same pattern twice: error %v", err)
	}
	if _, err := New(nil, Options{Zone: "Europe/Berlin"}); err == nil || !strings.Contains(err.Error(), "Europe/Berlin") {
		t.Errorf("a zone that is not understood: error %v", err)
	}
}

func TestZones(t *testing.T) {
	newYork, err := time.LoadLocation("America/New_York")
	if err != nil {
		t.Skip("no zone data on this machine: ", err)
	}
	for _, c := range []struct {
		name  string
		zone  string
		local *time.Location
		line  string
		want  string
	}{
		{"local zone in summer", "", newYork, "Jun 15 07:00:00 x", "2026-06-15T11:00:00Z"},
		{"local zone in winter", "", newYork, "Jan 15 07:00:00 x", "2026-01-15T12:00:00Z"},
		{"log zone beats the local one", "UTC", newYork, "Jun 15 11:00:00 x", "2026-06-15T11:00:00Z"},
		{"abbreviation", "CEST", time.UTC, "Jun 15 11:00:00 x", "2026-06-15T09:00:00Z"},
		{"offset", "+05:30", time.UTC, "Jun 15 11:00:00 x", "2026-06-15T05:30:00Z"},
		{"military letter", "N", time.UTC, "Jun 15 11:00:00 x", "2026-06-15T12:00:00Z"},
		{"the line's own beats all", "CEST", newYork, "2026-06-15T11:00:00Z x", "2026-06-15T11:00:00Z"},
		{"half an hour behind", "HNT", time.UTC, "Jun 15 01:00:00 x", "2026-06-15T04:30:00Z"},
		{"today in the log's zone", "UTC", newYork, "11:00:00 x", "2026-06-15T11:00:00Z"},
	} {
		t.Run(c.name, func(t *testing.T) {
			d, err := New(nil, Options{Zone: c.zone, Local: c.local})
			if err != nil {
				t.Fatal(err)
			}
			if date, _ := find(d, c.line, noon); date != c.want {
				t.Errorf("got %s, want %s", date, c.want)
			}
		})
	}
}

// A year that has just begun must not keep yesterday's answer from the cache.
func TestYearTurnsWhileRunning(t *testing.T) {
	d := detector(t, time.UTC)
	eve := time.Date(2026, 12, 31, 23, 59, 59, 0, time.UTC)
	for _, c := range []struct {
		line string
		now  time.Time
		want string
	}{
		{"Dec 31 23:59:59 x", eve, "2026-12-31T23:59:59Z"},
		{"Jan  1 00:00:01 x", eve.Add(2 * time.Second), "2027-01-01T00:00:01Z"},
		{"Dec 31 23:59:59 x", eve.Add(2 * time.Second), "2026-12-31T23:59:59Z"},
	} {
		if date, _ := find(d, c.line, c.now); date != c.want {
			t.Errorf("%q at %v: got %s, want %s", c.line, c.now, date, c.want)
		}
	}
}

// Once a format was seen it goes on being found, and another one beside it too.
func TestFormatsAlternate(t *testing.T) {
	d := detector(t, time.UTC)
	lines := []struct{ line, rest string }{
		{`192.0.2.7 - - [15/Jun/2026:11:00:00 +0000] "GET /?at=2026-06-15%2010:00:00`, `192.0.2.7 - - [|] "GET /?at=2026-06-15%2010:00:00`},
		{`192.0.2.77 - - [15/Jun/2026:11:00:00 +0000] "GET / 2025-06-15 10:00:00`, `192.0.2.77 - - [|] "GET / 2025-06-15 10:00:00`},
		{`2026/06/15 11:00:00 [error] 1#0: *1 x`, `| [error] 1#0: *1 x`},
		{`2001:db8::77 - bob [15/Jun/2026:11:00:00 +0000] "GET /`, `2001:db8::77 - bob [|] "GET /`},
		{`Jun 15 11:00:00 h x`, `| h x`},
	}
	for round := range 50 {
		for _, l := range lines {
			date, rest := find(d, l.line, noon)
			if date != "2026-06-15T11:00:00Z" || rest != l.rest {
				t.Fatalf("round %d: %q: got %s, %q, want %q", round, l.line, date, rest, l.rest)
			}
		}
	}
}

// Every built-in pattern compiles in both its forms, also in the years to come.
func TestBuiltinPatternsCompile(t *testing.T) {
	for i := range formats {
		f := formats[i]
		for _, a := range []anchor{f.anchor, max(f.anchor, lineBegin)} {
			g := f.template(a).regex
			if g == nil {
				continue
			}
			for _, decade := range []int{200, 202, 209} {
				if err := g.compile(decade); err != nil {
					t.Errorf("format %d, decade %d: %v", i+1, decade, err)
				}
			}
		}
	}
	if n := len(defaults()); n != 31 {
		t.Errorf("%d default templates, want 31", n)
	}
	if n := len(lineBegins()); n != 17 {
		t.Errorf("%d line-start templates, want 17", n)
	}
}

// byPattern is the template as it would be without a hand-written parser.
func (t *template) byPattern() *template {
	slow := *t
	if t.regex != nil {
		slow.reader, slow.frame = nil, nil
	}
	return &slow
}

// pairs are the hand-written parsers beside the patterns they stand for.
func pairs() (fast, slow []*template) {
	for _, f := range slices.Concat(formats, spelled) {
		if f.reader == nil {
			continue
		}
		for _, a := range []anchor{anywhere, lineBegin} {
			fast = append(fast, f.template(a))
			slow = append(slow, f.template(a).byPattern())
		}
	}
	return fast, slow
}

// agree compares both ways to read a line. Only ASCII counts: regexp folds the
// case of some other letters onto it.
func agree(t *testing.T, fast, slow []*template, line []byte) {
	t.Helper()
	for _, c := range line {
		if c >= 0x80 {
			return
		}
	}
	p := parser{decade: 202}
	for i := range fast {
		var a, b hit
		got, want := fast[i].find(&p, line, &a), slow[i].find(&p, line, &b)
		if got != want {
			t.Fatalf("template %d on %q: by hand %v, by pattern %v", i, line, got, want)
		}
		if !got {
			continue
		}
		if string(a.zone) != string(b.zone) {
			t.Fatalf("template %d on %q: zone by hand %q, by pattern %q", i, line, a.zone, b.zone)
		}
		b.weekday = a.weekday
		if a.fields != b.fields || a.from != b.from || a.to != b.to || a.start != b.start || a.end != b.end {
			t.Fatalf("template %d on %q:\nby hand    %+v\nby pattern %+v", i, line, a, b)
		}
	}
}

func TestByHandAndByPatternAgree(t *testing.T) {
	seed := testSeed(t)
	r := rand.New(rand.NewPCG(seed, 1))
	fast, slow := pairs()
	pick := func(s ...string) string { return s[r.IntN(len(s))] }
	two := func(n int) string { return fmt.Sprintf(pick("%02d", "%d", "%2d"), r.IntN(n)) }
	for range 3000 {
		clock := two(26) + ":" + two(62) + ":" + two(64) + pick("", "", ".1", ".123", ",123456", ".1234567")
		zone := pick("", "", "Z", " Z", " +0200", "+02:00", " +02", "  UTC", " utc", " GMTx", " +2030", " -01:7")
		year := fmt.Sprint(pick("20", "19", "2", "200") + two(100))
		month := pick("Jan", "feb", "MAR", "Dec", "Foo")
		sep, sep2 := pick("-", "/", ".", " "), pick("-", "/", ".", " ")
		if r.IntN(3) > 0 {
			sep2 = sep
		}
		var date string
		switch r.IntN(3) {
		case 0:
			date = year + sep + two(14) + sep2 + two(34) + pick("T", " ", "  ", "_") + clock + zone
		case 1:
			date = pick("", "", "Mon ", "sun ", "Xyz ") + month + pick(" ", "  ") + two(34) + " " + clock + pick("", " "+year, " "+year+"x")
		case 2:
			date = two(34) + sep + month + sep2 + year + pick(":", " ", "") + clock + zone
		}
		line := pick("", "", "[", "<[", " ", "x", "x ", "192.0.2.1 - - [", "2026-01-", "Jan ") + date + pick("", " x", "]", "x", " 2026")
		agree(t, fast, slow, []byte(line))
	}
}

func FuzzFind(f *testing.F) {
	for _, s := range []string{
		"2005-01-23T21:59:59.981746+02:00 x", "Jun  4 10:00:00 h", `1.2.3.4 - - [31/Oct/2006:09:22:55 -0500] "GET`,
		"type=X msg=audit(1138049999.123:45): x", "@4000000043d5a2f5000000ff", "Sun Jan 23 21:59:59.011 2005",
		"192.0.2.1 - - [15/Jun/2026:11:00:00 +0000] x\n192.0.2.11 - - [15/Jun/2026:11:00:01 +0000] x\n2026-06-15 11:00:00 x [15/Jun/2026:11:00:00 +0000]",
		"<09/16/08@05:03:30>", "PDT Apr 16 21:05:29", "Sep 16, 2008 05:03:30 PM", "\xff\xfe2005-01-23 21:59:59",
	} {
		f.Add([]byte(s))
	}
	d := detector(f, time.UTC)
	fast, slow := pairs()
	f.Fuzz(func(t *testing.T, line []byte) {
		if len(line) > 4096 {
			return
		}
		m, ok := d.Find(line, noon)
		if ok && (m.Start < 0 || m.Start > m.End || m.End > len(line)) {
			t.Fatalf("%q: date at %d to %d", line, m.Start, m.End)
		}
		agree(t, fast, slow, line)
		if ascii([]string{string(line)}) {
			quick, m := detector(t, time.UTC), newModel(t)
			for l := range bytes.Lines(line) {
				got, gotOK := quick.Find(l, noon)
				if want, ok := m.find(l, noon); gotOK != ok || got != want {
					t.Fatalf("%q in %q: got %v %v, by the model %v %v", l, line, got, gotOK, want, ok)
				}
			}
		}
	})
}

func FuzzPattern(f *testing.F) {
	for _, s := range []string{`^%Y-%m-%d(?P<s>[./])%H(?P=s)`, `{^LN-BEG}{DATE}`, `[{EPOCH}`, `**%c**`, `%Ex`, `(?P<x`, `\`} {
		f.Add(s, "2026-06-15 11:00:00")
	}
	f.Fuzz(func(t *testing.T, pattern, line string) {
		if len(pattern) > 200 || len(line) > 1000 {
			return
		}
		d, err := New([]string{pattern}, Options{Local: time.UTC})
		if err != nil {
			return
		}
		if m, ok := d.Find([]byte(line), noon); ok && (m.Start < 0 || m.Start > m.End || m.End > len(line)) {
			t.Fatalf("%q on %q: date at %d to %d", pattern, line, m.Start, m.End)
		}
	})
}

func BenchmarkFind(b *testing.B) {
	berlin, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		berlin = time.UTC
	}
	access := `192.0.2.7 - - [15/Jun/2026:11:%02d:%02d +0200] "GET / HTTP/1.1" 200 512 "-" "curl/8"`
	for _, c := range []struct {
		name, format string
		patterns     []string
	}{
		{"syslog", "Jun 15 11:%02d:%02d gate sshd[812]: Failed password for root from 192.0.2.7 port 4022 ssh2", nil},
		{"iso", "2026-06-15T11:%02d:%02d.123456+02:00 gate sshd[812]: Failed password for root from 192.0.2.7 port 4022 ssh2", nil},
		{"clf", access, nil},
		{"clf in changing columns", access, nil},
		{"clf in a frame", access, []string{`^[^\[]*\[({DATE})`, "{^LN-BEG}"}},
		{"clf that does not count", access, []string{"{^LN-BEG}"}},
		{"postfix", "Jun 15 11:%02d:%02d mail postfix/smtpd[2101]: warning: unknown[192.0.2.7]: SASL LOGIN authentication failed", nil},
		{"fail2ban", "2026-06-15 11:%02d:%02d,123 fail2ban.filter         [101]: INFO    [sshd] Found 192.0.2.7", []string{"^{DATE}"}},
		{"nginx", "2026/06/15 11:%02d:%02d [error] 812#812: *1 open() failed", nil},
		{"apache", "[Mon Jun 15 11:%02d:%02d.123456 2026] [auth_basic:error] [pid 812] [client 192.0.2.7:4022] user root not found", nil},
		{"undated", "%02d %02d lines without a date, such as those of a stack trace, are tried with every format", nil},
		{"undated with a clock", "%02d %02d lines without a date, but with a clock: 11:00:00, are looked at twice", nil},
	} {
		b.Run(c.name, func(b *testing.B) {
			lines := make([][]byte, 3600)
			for i := range lines {
				lines[i] = fmt.Appendf(nil, c.format, i/60, i%60)
				if c.name == "clf in changing columns" {
					lines[i] = append([]byte("111"[:i%4%3]), lines[i]...)
				}
			}
			d := detector(b, berlin, c.patterns...)
			b.ReportAllocs()
			i := 0
			for b.Loop() {
				d.Find(lines[i], noon)
				if i++; i == len(lines) {
					i = 0
				}
			}
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "lines/s")
		})
	}
}

// A copy finds what a new detector finds, whatever other copies have seen.
func TestCopy(t *testing.T) {
	now := time.Date(2026, 3, 2, 12, 0, 0, 0, time.UTC)
	lines := []string{
		"Mar  2 10:15:04 gate sshd[812]: a", "2026-03-02 10:15:05 b", "[02/Mar/2026:10:15:06 +0000] c",
		"x [Mon Mar 02 10:15:07 2026] d", "1772446508 e", "no date", "10:15 Mar 2 f",
	}
	for _, patterns := range [][]string{nil, {"{^LN-BEG}"}, {`^[^\[]*\[({DATE})`, `{^LN-BEG}`}, {`%H:%M %b %d`, "EPOCH"}} {
		of := func() *Detector {
			d, err := New(patterns, Options{Local: time.UTC})
			if err != nil {
				t.Fatal(err)
			}
			return d
		}
		made := of()
		for range 2 {
			c, want := made.Copy(), of()
			for i := range 3 * len(lines) {
				line := []byte(lines[i*i%len(lines)])
				got, ok := c.Find(line, now)
				if w, found := want.Find(line, now); ok != found || got != w {
					t.Errorf("%q in %q: the copy finds %v %v, a new one %v %v", patterns, line, got, ok, w, found)
				}
			}
		}
	}
}
