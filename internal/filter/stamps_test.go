package filter

import (
	"testing"
	"time"

	"bantam"
)

// What is wrong with the dates of lines is counted for each jail by itself, and only where there should be one.
func TestStampsAreCounted(t *testing.T) {
	now := time.Date(2026, 3, 2, 10, 15, 4, 0, time.UTC)
	stamp := func(off time.Duration) string { return now.Add(off).Format(time.Stamp) + " x from 192.0.2.7" }
	for _, tt := range []struct {
		name string
		line bantam.Line
		want Stamps
	}{
		{"as it should be", bantam.Line{Text: []byte(stamp(-time.Second)), Live: true}, Stamps{}},
		{"two hours old", bantam.Line{Text: []byte(stamp(-2 * time.Hour)), Live: true}, Stamps{Skewed: 1, Skew: -2 * time.Hour}},
		{"old, and from before the start", bantam.Line{Text: []byte(stamp(-2 * time.Hour))}, Stamps{}},
		{"without a date", bantam.Line{Text: []byte("x from 192.0.2.7"), Live: true}, Stamps{Undated: 1}},
		{"without a date, and dated by the journal", bantam.Line{Text: []byte("x from 192.0.2.7"), Time: now, Live: true}, Stamps{}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			rules, err := Compile(Config{Jail: "a", Failregex: []string{`from <HOST>`}, Local: time.UTC})
			if err != nil {
				t.Fatal(err)
			}
			other := rules.For("b")
			tt.line.Read = now
			New(rules).Judge(&tt.line, nil)
			if got := rules.Stamps(); got != tt.want {
				t.Errorf("it counts %+v, want %+v", got, tt.want)
			}
			if got := other.Stamps(); got != (Stamps{}) {
				t.Errorf("another jail counts %+v", got)
			}
		})
	}
	rules, err := Compile(Config{Jail: "a", Failregex: []string{`from <HOST>`}, DatePattern: []string{"{NONE}"}})
	if err != nil {
		t.Fatal(err)
	}
	New(rules).Judge(&bantam.Line{Text: []byte("x from 192.0.2.7"), Read: now, Live: true}, nil)
	if got := rules.Stamps(); got != (Stamps{}) {
		t.Errorf("a log that is to have no dates counts %+v", got)
	}
}
