package cli

import (
	"testing"
	"time"

	"bantam/internal/control"
	"bantam/internal/jail"
	"bantam/internal/source"
)

func TestASilentLogIsShown(t *testing.T) {
	now := time.Date(2025, 3, 2, 15, 0, 0, 0, time.Local)
	silent := source.Status{Name: "/var/log/a.log", State: source.Reading, Live: true, Last: now.Add(-3 * time.Hour), Silent: now.Add(-3 * time.Hour), PerHour: 40.4}
	watches, state, more := watched(control.JailStatus{Status: jail.Status{Jail: "a"}, Sources: []source.Status{silent}}, now)
	if watches != "a.log" || state != "silent 3h" || more != "/var/log/a.log silent since 12:00:00, usually 40 lines an hour" {
		t.Errorf("%q is %q: %q", watches, state, more)
	}
	if got, want := lastLine(silent, now), ", the last 3h ago: silent, it used to have 40 an hour"; got != want {
		t.Errorf("the last line is told as %q, want %q", got, want)
	}
	silent.Silent = time.Time{}
	if got, want := lastLine(silent, now), ", the last 3h ago"; got != want {
		t.Errorf("the last line is told as %q, want %q", got, want)
	}
	if got := lastLine(source.Status{}, now); got != "" {
		t.Errorf("a log that was never read has %q", got)
	}
}
