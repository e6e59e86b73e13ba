package bantam_test

import (
	"encoding/json"
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"

	"bantam"
)

// A decision comes out of its JSON as it went in; what is empty is left out.
func TestDecisionJSON(t *testing.T) {
	at := time.Date(2025, 3, 2, 10, 15, 4, 0, time.UTC)
	want := bantam.Decision{
		Seq: 7, Kind: bantam.End, Cause: bantam.CauseOperator, At: at,
		Ban: bantam.Ban{
			Jail: "sshd", ID: bantam.PrefixID(netip.MustParsePrefix("2001:db8::/64")), Time: at, End: at.Add(time.Hour),
			Failures: 5, Count: 2, Lines: []string{"<a>\n\x1b"}, User: "ö", Data: map[string]string{"fport": "22"},
			By: bantam.ByFailures,
		},
		Positions: []bantam.Position{{Source: "/var/log/auth.log", Mark: "ab", Offset: 17, Time: at}},
	}
	text, err := json.Marshal(want)
	if err != nil {
		t.Fatal(err)
	}
	var got bantam.Decision
	if err := json.Unmarshal(text, &got); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%s\nis read as %+v, %v", text, got, err)
	}
	short, err := json.Marshal(bantam.Decision{Ban: bantam.Ban{Jail: "manual", ID: bantam.TextID("x")}})
	for _, absent := range []string{`"end"`, `"lines"`, `"cause"`, `"positions"`, `"observed"`} {
		if err != nil || strings.Contains(string(short), absent) {
			t.Errorf("%s holds %s, %v", short, absent, err)
		}
	}
}

func TestExpired(t *testing.T) {
	end := time.Date(2025, 3, 2, 10, 0, 0, 0, time.UTC)
	b := bantam.Ban{End: end}
	if b.Expired(end) || !b.Expired(end.Add(1)) {
		t.Error("a ban ends just after its end")
	}
	if b = (bantam.Ban{}); b.Expired(end) || !b.Permanent() {
		t.Error("a ban without end ends")
	}
}
