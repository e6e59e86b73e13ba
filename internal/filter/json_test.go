package filter

import (
	"net/netip"
	"testing"
	"time"

	"bantam"
)

// A line of JSON is judged by its fields and kept as it was logged, beside other jails that read the
// same log as it stands.
func TestJSONIsJudgedByField(t *testing.T) {
	byField, err := Compile(Config{Jail: "json", JSON: []string{"ts", "status", "ip"}, DatePattern: []string{"^ts={EPOCH}"}, Failregex: []string{`^ status=401 ip="<ADDR>"$`}})
	if err != nil {
		t.Fatal(err)
	}
	asItStands, err := Compile(Config{Jail: "text", Failregex: []string{`"ip":"<ADDR>"`}})
	if err != nil {
		t.Fatal(err)
	}
	f := New(byField, asItStands)
	const line = `{"agent":"x\" status=401 ip=\"198.51.100.9","ip":"192.0.2.7","status":401,"ts":1740910504.250}`
	at := time.Unix(1740910504, 250e6)
	got := f.Judge(&bantam.Line{Text: []byte(line), Read: at, Live: true}, nil)
	if len(got) != 2 || got[0].ID != bantam.AddrID(netip.MustParseAddr("192.0.2.7")) || !got[0].Time.Equal(at) || got[0].Lines[0] != line {
		t.Errorf("judged as %+v", got)
	}
	// As the journal has it, and as a program writes it into the journal: its time is the journal's.
	logged := at.Add(time.Second)
	for text, want := range map[string]int{line: 2, "gate web[812]: " + line: 2, "gate web[812]: login of " + line: 1} {
		got := f.Judge(&bantam.Line{Text: []byte(text), Time: logged, Read: logged, Live: true}, nil)
		if len(got) != want || !got[0].Time.Equal(logged) {
			t.Errorf("%s, of the journal, is judged as %+v", text, got)
		}
	}
	if when, ok := f.Time([]byte(line), at); !ok || !when.Equal(at) {
		t.Errorf("its time is %v, %v", when, ok)
	}
}
