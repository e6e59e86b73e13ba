package whois

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"
)

// The answers have the layout of the registries and nothing of their contents.
const (
	// ARIN nests the abuse contact in the holder, and has the prefixes as an extension.
	arinRDAP = `{"rdapConformance":["rdap_level_0","cidr0"],"objectClassName":"ip network","handle":"NET-9-9-9-0-1",
		"startAddress":"9.9.9.0","endAddress":"9.9.9.191","ipVersion":"v4","name":"EXAMPLE","type":"DIRECT ALLOCATION",
		"cidr0_cidrs":[{"v4prefix":"9.9.9.128","length":26},{"v4prefix":"9.9.9.0","length":25}],
		"events":[{"eventAction":"last changed","eventDate":"2024-03-02T10:00:00-05:00"}],
		"remarks":[{"title":"Registration Comments","description":["Complaints by mail, please.","~!second line"]}],
		"entities":[{"handle":"EX","roles":["registrant"],"vcardArray":["vcard",[
			["version",{},"text","4.0"],["fn",{},"text","Example, Inc."],
			["adr",{"label":"1 Road\nTown\nUnited States","cc":"us"},"text",["","","","","","",""]],["kind",{},"text","org"]]],
		  "entities":[{"handle":"AB1","roles":["technical","abuse"],"vcardArray":["vcard",[
			["fn",{},"text","Abuse"],["email",{"type":"work"},"text","abuse@Example.COM"],["email",{},"text","abuse@example.com"]]]},
		   {"handle":"T1","roles":["technical"],"vcardArray":["vcard",[["email",{},"text","tech@example.com"]]]}]}]}`
	// RIPE lists the account that maintains the entry as a registrant before the organization.
	ripeRDAP = `{"handle":"9.9.8.0 - 9.9.11.255","startAddress":"9.9.8.0","endAddress":"9.9.11.255","name":"EXAMPLE-NET","type":"ASSIGNED PA",
		"country":"nl","objectClassName":"ip network","entities":[
		{"handle":"EXAMPLE-MNT","roles":["registrant"],"vcardArray":["vcard",[["fn",{},"text","EXAMPLE-MNT"],["kind",{},"text","individual"]]]},
		{"handle":"ORG-EX1","roles":["registrant"],"vcardArray":["vcard",[["fn",{},"text","Example B.V."],["kind",{},"text","org"]]]},
		{"handle":"AR1","roles":["abuse"],"vcardArray":["vcard",[["fn",{},"text","Abuse-C"],["kind",{},"text","group"],["email",{},"text","abuse@example.nl"],
			["email",{"pref":"1"},"text","second@example.nl"]]]}]}`
	v6RDAP = `{"objectClassName":"ip network","startAddress":"2a00:1::","endAddress":"2a00:1:ffff:ffff:ffff:ffff:ffff:ffff","name":"SIX",
		"entities":[{"roles":["registrant"],"vcardArray":["vcard",[["org",{},"text",["Six Ltd","Network"]]]]}]}`
)

func TestRDAPAnswers(t *testing.T) {
	six := netip.MustParseAddr("2a00:1::1")
	for name, test := range map[string]struct {
		body string
		addr netip.Addr
		want string
	}{
		"ARIN": {arinRDAP, target, "9.9.9.0/25 EXAMPLE|Example, Inc.|US [abuse@example.com]"},
		"RIPE": {ripeRDAP, target, "9.9.8.0/22 EXAMPLE-NET|Example B.V.|NL [abuse@example.nl second@example.nl]"},
		"IPv6": {v6RDAP, six, "2a00:1::/32 SIX|Six Ltd| []"},
		"members of other types count as left out": {
			`{"startAddress":"9.9.9.0","endAddress":"9.9.9.255","name":7,"country":["NL"],"cidr0_cidrs":"none","events":{},
			"entities":[5,{"roles":"abuse"},{"roles":["abuse"],"vcardArray":["vcard",[["email"],["email",{},"text"],[1,2,3,4],["email",{},"text",{}],
			["email",{},"text",["a@example.net"]]]]}]}`,
			target, "9.9.9.0/24 || [a@example.net]",
		},
		"a card that is none": {
			`{"startAddress":"9.9.9.0","endAddress":"9.9.9.255","entities":[{"roles":["abuse"],"vcardArray":"abuse@example.net"},
			{"roles":["abuse"],"vcardArray":["vcard"]},{"roles":["abuse"],"vcardArray":["vcard","abuse@example.net"]}]}`,
			target, "9.9.9.0/24 || []",
		},
		"more contacts than anybody needs": {
			`{"startAddress":"9.9.9.0","endAddress":"9.9.9.255","entities":[` + strings.TrimSuffix(strings.Repeat(
				`{"roles":["abuse"],"vcardArray":["vcard",[["email",{},"text","f@example.net"],["email",{},"text","e@example.net,d@example.net"],
			["email",{},"text","c@example.net"],["email",{},"text","b@example.net;a@example.net"]]]},`, 100), ",") + `]}`,
			target, "9.9.9.0/24 || [b@example.net c@example.net d@example.net e@example.net f@example.net]",
		},
		"contacts that are no addresses": {
			`{"startAddress":"9.9.9.0","endAddress":"9.9.9.255","entities":[{"roles":["abuse"],"vcardArray":["vcard",[
			["email",{},"text","a@example.net\r\nBcc: victim@example.com"],["email",{},"text","b"],["email",{},"text","<c@example.net>"]]]}]}`,
			// What stands on the second line is an address; it is one contact of several, and no header.
			target, "9.9.9.0/24 || [a@example.net victim@example.com]",
		},
	} {
		a, err := parseRDAP([]byte(test.body), test.addr, time.Time{})
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		checkAnswer(t, a, test.addr)
		if got := fmt.Sprintf("%s %s|%s|%s %v", a.Network, a.Name, a.Org, a.Country, a.Abuse); got != test.want {
			t.Errorf("%s:\ngot  %s\nwant %s", name, got, test.want)
		}
	}
}

func TestRDAPText(t *testing.T) {
	a, err := parseRDAP([]byte(arinRDAP), target, time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	want := `network:      9.9.9.0/25
range:        9.9.9.0 - 9.9.9.191
handle:       NET-9-9-9-0-1
name:         EXAMPLE
type:         DIRECT ALLOCATION
holder:       Example, Inc.
country:      US
abuse:        abuse@example.com
last changed: 2024-03-02T10:00:00-05:00
remark:       Complaints by mail, please.
remark:       ~!second line
`
	if a.Text != want {
		t.Errorf("got\n%s\nwant\n%s", a.Text, want)
	}
	hostile := strings.ReplaceAll(arinRDAP, "EXAMPLE", `\u001b[2J\u0000\u202eNAME\n~! reboot\ud800`)
	if a, err = parseRDAP([]byte(hostile), target, time.Time{}); err != nil {
		t.Fatal(err)
	}
	checkAnswer(t, a, target)
	if a.Name != "[2JNAME ~! reboot" {
		t.Errorf("name %q", a.Name)
	}
}

func TestRDAPAnswersThatAreNone(t *testing.T) {
	for name, test := range map[string]struct {
		body    string
		unknown bool
		want    string
	}{
		"nothing":          {"", false, "read JSON"},
		"cut short":        {arinRDAP[:200], false, "read JSON"},
		"a list":           {"[]", false, "not about 9.9.9.9"},
		"an error":         {`{"errorCode":404,"title":"Not Found"}`, false, "not about 9.9.9.9"},
		"another network":  {`{"startAddress":"20.0.0.0","endAddress":"20.0.0.255"}`, false, `about "20.0.0.0" to "20.0.0.255" and not about 9.9.9.9`},
		"another family":   {v6RDAP, false, "not about 9.9.9.9"},
		"all of it":        {`{"startAddress":"0.0.0.0","endAddress":"255.255.255.255"}`, true, "all of 0.0.0.0/0"},
		"deeper than sane": {strings.Repeat(`{"entities":[`, 40) + strings.Repeat(`]}`, 40), false, "nests deeper than 64 levels"},
		"a mad prefix":     {`{"cidr0_cidrs":[{"v4prefix":"9.9.9.0","length":-1},{"v4prefix":"9.9.9.0","length":99}]}`, false, "not about"},
	} {
		a, err := parseRDAP([]byte(test.body), target, time.Time{})
		if err == nil || errors.Is(err, ErrUnknown) != test.unknown || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %+v, %v", name, a, err)
		}
	}
	// Brackets within texts are no levels.
	if _, err := parseRDAP([]byte(`{"startAddress":"9.9.9.0","endAddress":"9.9.9.255","name":"`+strings.Repeat(`\"[{`, 500)+`"}`), target, time.Time{}); err != nil {
		t.Error(err)
	}
}

func FuzzParseRDAP(f *testing.F) {
	for _, body := range []string{arinRDAP, ripeRDAP, v6RDAP, oneService, network("9.9.9.0/24", "abuse@example.net"), "[[[[", `{"cidr0_cidrs":[{"v4prefix":"9.9.9.0","length":24}]}`} {
		f.Add([]byte(body), true)
		f.Add([]byte(body), false)
	}
	f.Fuzz(func(t *testing.T, body []byte, four bool) {
		addr := target
		if !four {
			addr = netip.MustParseAddr("2a00:1::1")
		}
		if len(body) > maxJSON {
			return
		}
		if a, err := parseRDAP(body, addr, time.Time{}); err == nil {
			checkAnswer(t, a, addr)
		}
		list, err := parseServices(body)
		if err == nil && len(list) == 0 {
			t.Error("no service and no error")
		}
		for _, s := range list {
			if !s.prefix.IsValid() || !strings.HasPrefix(strings.ToLower(s.url), "https://") || !strings.HasSuffix(s.url, "/") {
				t.Errorf("service %+v", s)
			}
		}
	})
}

func BenchmarkParseRDAP(b *testing.B) {
	b.ReportAllocs()
	b.SetBytes(int64(len(arinRDAP)))
	for b.Loop() {
		if _, err := parseRDAP([]byte(arinRDAP), target, time.Time{}); err != nil {
			b.Fatal(err)
		}
	}
}
