package timestamp

import (
	"testing"
	"time"
)

// trap is a line that reads otherwise than one would think (detection.md 10).
func trap(t *testing.T, line, date, rest string, patterns ...string) {
	t.Helper()
	gotDate, gotRest := find(detector(t, time.UTC, patterns...), line, noon)
	if gotDate != date || gotRest != rest {
		t.Errorf("%q\n got %s, %q\nwant %s, %q", line, gotDate, gotRest, date, rest)
	}
}

func TestTrap39_HostNameReadAsTimeZone(t *testing.T) {
	trap(t, "host Apr 16 21:05:29 f 1.1.1.2", "unreadable", "| f 1.1.1.2")
	// Here an unknown zone is an unreadable date and costs neither line nor time.
	trap(t, "HOST Apr 16 21:05:29 f 1.1.1.1", "unreadable", "| f 1.1.1.1")
	trap(t, "host Apr 16 21:05:29 f", "unreadable", "| f", "{^LN-BEG}")
	trap(t, "myhost Apr 16 21:05:29 f", "2026-04-16T21:05:29Z", "myhost | f")
	trap(t, "srv1 Apr 16 21:05:29 f", "2026-04-16T21:05:29Z", "srv1 | f")
}

func TestTrap40_DefaultAsSecondPattern(t *testing.T) {
	// Here {DEFAULT} does what its name says.
	trap(t, "Jun 15 11:00:00 h", "2026-06-15T11:00:00Z", "| h", "^%Y/%m/%d %H:%M", "{DEFAULT}")
	trap(t, "Jun 15 11:00:00 h", "2026-06-15T11:00:00Z", "| h", "^%Y/%m/%d %H:%M", "{^LN-BEG}")
	trap(t, "2026/06/15 11:00 h", "2026-06-15T11:00:00Z", "| h", "^%Y/%m/%d %H:%M", "{DEFAULT}")
	trap(t, "Jun 15 11:00:00 h", "none", "Jun 15 11:00:00 h", "^%Y/%m/%d %H:%M")
}

func TestTrap41_PlainGroupChangesTheCut(t *testing.T) {
	trap(t, "2026-06-15 x11:00 z", "2026-06-15T11:00:00Z", "|-06-15 x11:00 z", `%Y-%m-%d (x)?%H:%M`)
	trap(t, "2026-06-15 x11:00 z", "2026-06-15T11:00:00Z", "| z", `%Y-%m-%d (?:x)?%H:%M`)
	trap(t, "2026-06-15 x11:00 z", "2026-06-15T11:00:00Z", "| z", `(%Y-%m-%d (?:x)?%H:%M)`)
}

func TestTrap42_DayFirst(t *testing.T) {
	trap(t, "01-02-2012 16:22:44.252 x", "2012-02-01T16:22:44Z", "|.252 x")
	trap(t, "01-27-2012 16:22:44.252 x", "2012-01-27T16:22:44Z", "| x")
}

func TestTrap43_FutureByLessThanADay(t *testing.T) {
	trap(t, "Jun 16 11:59:59 h", "2026-06-16T11:59:59Z", "| h")
	trap(t, "Jun 16 12:00:01 h", "2025-06-16T12:00:01Z", "| h")
}

func TestTrap44_LeapSecond(t *testing.T) {
	trap(t, "2026-06-15T12:00:60Z f 192.0.2.1", "unreadable", "| f 192.0.2.1")
	trap(t, "2026-06-15T12:00:61Z f 192.0.2.1", "unreadable", "| f 192.0.2.1")
}
