package whois

import (
	"errors"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// The replies have the layout of each registry and nothing of its contents.
const (
	ripeReply = `% This is a database query service.
%
% Terms and conditions apply.

% Information related to '9.9.8.0 - 9.9.11.255'

% Abuse contact for '9.9.8.0 - 9.9.11.255' is 'Abuse@Example.NET'

inetnum:        9.9.8.0 - 9.9.11.255
netname:        EXAMPLE-NET
descr:          Example hosting
country:        nl
admin-c:        EX1-TEST
status:         ASSIGNED PA
mnt-by:         EXAMPLE-MNT
source:         TEST # Filtered

% Information related to '9.9.8.0/22AS64500'

route:          9.9.8.0/22
descr:          not the holder
origin:         AS64500
`
	apnicReply = `% [whois.apnic.net]

% Information related to '9.9.0.0 - 9.9.255.255'

% No abuse contact registered for 9.9.0.0 - 9.9.255.255

inetnum:        9.9.0.0 - 9.9.255.255
netname:        EXAMPLE-AP
descr:          Example Carrier
descr:          1 Some Street
country:        AU
mnt-irt:        IRT-EXAMPLE-AU
source:         APNIC

irt:            IRT-EXAMPLE-AU
address:        1 Some Street
e-mail:         irt@example.org
abuse-mailbox:  abuse@example.org
source:         APNIC

role:           Example Role
country:        ZZ
e-mail:         noc@example.org
nic-hdl:        ER1-AP
`
	afrinicReply = `% This is the AfriNIC Whois server.

inetnum:        9.9.0.0 - 9.9.3.255
netname:        EXAMPLE-AF
country:        ZA
org:            ORG-EX1-AFRINIC
source:         AFRINIC

organisation:   ORG-EX1-AFRINIC
org-name:       Example Networks (Pty) Ltd
country:        ZA
abuse-c:        AB1-AFRINIC
source:         AFRINIC

role:           Example abuse desk
abuse-mailbox:  desk@example.co.za
nic-hdl:        AB1-AFRINIC
`
	arinReply = `#
# Terms of use apply.
#

# start

NetRange:       9.0.0.0 - 9.255.255.255
CIDR:           9.0.0.0/8
NetName:        BIG
Organization:   Big Carrier (BIG)

OrgName:        Big Carrier
Country:        US
ReferralServer: rwhois://rwhois.example.com:4321

OrgAbuseHandle: BIG1-ARIN
OrgAbuseEmail:  abuse@big.example

# end


# start

NetRange:       9.9.9.0 - 9.9.9.63
CIDR:           9.9.9.0/26
NetName:        SMALL-NET
Parent:         BIG (NET-9-0-0-0-1)
Customer:       Small Shop (C01)

CustName:       Small Shop
Country:        CA

OrgAbuseHandle: BIG1-ARIN
OrgAbuseEmail:  abuse@small.example
OrgTechEmail:   tech@small.example

# end
`
	lacnicReply = "% IP Client: 192.0.2.1\n\ninetnum:     9.9.8/22\nstatus:      allocated\naut-num:     N/A\n" +
		"owner:       Jos\xe9 Exemplo S.A.\nownerid:     BR-EXSA-LACNIC\nresponsable: Jos\xe9\ncountry:     BR\n" +
		"owner-c:     OWN1\ntech-c:      TEC1\nabuse-c:     SEC1\ncreated:     20100101\n\n" +
		"nic-hdl:     OWN1\nperson:      Jos\xe9\ne-mail:      jose@example.com.br\n\n" +
		"nic-hdl:     SEC1\nperson:      Seguran\xe7a\ne-mail:      abuse@example.com.br\n\n% done\n"
)

func TestWHOISAnswersOfEachRegistry(t *testing.T) {
	for name, test := range map[string]struct{ reply, want string }{
		"RIPE":    {ripeReply, "9.9.8.0/22 EXAMPLE-NET|Example hosting|NL [Abuse@example.net]"},
		"APNIC":   {apnicReply, "9.9.0.0/16 EXAMPLE-AP|Example Carrier|AU [abuse@example.org]"},
		"AFRINIC": {strings.ReplaceAll(afrinicReply, "9.9.0.0 - 9.9.3.255", "9.9.8.0 - 9.9.11.255"), "9.9.8.0/22 EXAMPLE-AF|Example Networks (Pty) Ltd|ZA [desk@example.co.za]"},
		"ARIN, of whose networks the smallest counts": {arinReply, "9.9.9.0/26 SMALL-NET|Small Shop|CA [abuse@small.example]"},
		"LACNIC, whose contact stands by its handle":  {lacnicReply, "9.9.8.0/22 |José Exemplo S.A.|BR [abuse@example.com.br]"},
		"lines ended by CR and LF":                    {strings.ReplaceAll(ripeReply, "\n", "\r\n"), "9.9.8.0/22 EXAMPLE-NET|Example hosting|NL [Abuse@example.net]"},
	} {
		a, refer, err := parseWHOIS(test.reply, target, time.Time{})
		if err != nil || refer != "" {
			t.Errorf("%s: %v, %q", name, err, refer)
			continue
		}
		checkAnswer(t, a, target)
		if got := fmt.Sprintf("%s %s|%s|%s %v", a.Network, a.Name, a.Org, a.Country, a.Abuse); got != test.want {
			t.Errorf("%s:\ngot  %s\nwant %s", name, got, test.want)
		}
		if strings.Contains(a.Text, "%") || strings.Contains(a.Text, "#  Terms") || strings.Contains(a.Text, "\n\n\n") {
			t.Errorf("%s: terms or gaps are left in %q", name, a.Text)
		}
	}
}

func TestWHOISAnswersThatAreNone(t *testing.T) {
	for name, test := range map[string]struct {
		reply   string
		unknown bool
		want    string
	}{
		"nothing":                 {"", true, "no network of 9.9.9.9"},
		"no match":                {"No match found for n + 9.9.9.9.\n", true, "no network"},
		"RIPE finds no entry":     {"%ERROR:101: no entries found\n%\n% No entries found in source TEST.\n", true, "no network"},
		"RIPE refuses":            {"%ERROR:108: bad input\n", false, `"ERROR:108: bad input"`},
		"all of the internet":     {"inetnum: 0.0.0.0 - 255.255.255.255\nnetname: IANA-BLK\n", true, "no network"},
		"another's network":       {"inetnum: 9.0.0.0 - 9.255.255.255\nnetname: NON-RIPE-NCC-MANAGED-ADDRESS-BLOCK\n", true, "no network"},
		"a network somewhere":     {"inetnum: 20.0.0.0 - 20.0.0.255\nabuse-mailbox: victim@example.com\n", true, "no network"},
		"a network without sense": {"inetnum: from here to there\n", true, "no network"},
	} {
		a, refer, err := parseWHOIS(test.reply, target, time.Time{})
		if err == nil || refer != "" || errors.Is(err, ErrUnknown) != test.unknown || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %+v, %q, %v", name, a, refer, err)
		}
	}
}

// What follows another network than that of the address is about that network.
func TestContactsOfOtherNetworksAreNotTaken(t *testing.T) {
	reply := "inetnum: 9.9.9.0 - 9.9.9.255\nnetname: MINE\n\n% Abuse contact for '20.0.0.0 - 20.0.0.255' is 'victim@example.com'\n" +
		"inetnum: 20.0.0.0 - 20.0.0.255\nabuse-mailbox: other@example.com\nabuse-c: X1\n\nnic-hdl: X1\ne-mail: third@example.com\n"
	a, _, err := parseWHOIS(reply, target, time.Time{})
	if err != nil || len(a.Abuse) > 0 || a.Name != "MINE" {
		t.Errorf("%+v, %v", a, err)
	}
}

func TestHostileWHOISText(t *testing.T) {
	reply := "inetnum: 9.9.9.0 - 9.9.9.255\nnetname: EVIL\x00\x1b[2J\u202e\u200bNET" + strings.Repeat("x", 5000) + "\n" +
		"descr: a\rBcc: victim@example.com\ncountry: <script>\n" +
		"~! touch /tmp/owned\n ~r /etc/passwd\n.\n\u0085~! again\n\u2028~! and again\n" +
		"abuse-mailbox: abuse@example.net\nabuse-mailbox: \"|/bin/sh\"@example.net, -Oqueue@example.net, a%b@example.net\n" +
		"abuse-mailbox: Name <name@example.net>\nabuse-mailbox: root@localhost root@127.0.0.1 root@[127.0.0.1] a@b@example.net\n"
	a, _, err := parseWHOIS(reply, target, time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	checkAnswer(t, a, target)
	if !strings.HasPrefix(a.Name, "EVIL[2JNETxxx") || len(a.Name) > maxLine {
		t.Errorf("name %q", a.Name)
	}
	if a.Country != "" {
		t.Errorf("country %q", a.Country)
	}
	if a.Org != "aBcc: victim@example.com" {
		t.Errorf("org %q", a.Org)
	}
	if !slices.Equal(a.Abuse, []string{"abuse@example.net"}) {
		t.Errorf("contacts %q", a.Abuse)
	}
	if !strings.Contains(a.Text, "\n ~! touch") || !strings.Contains(a.Text, "\n ~! and again") {
		t.Errorf("text %.300q", a.Text)
	}
}

func TestALongWHOISAnswerIsCut(t *testing.T) {
	for name, line := range map[string]string{
		"many lines":    "remarks: more\n",
		"one line":      "x",
		"many networks": "inetnum: 9.9.9.0 - 9.9.9.255\nabuse-c: A\n\nnic-hdl: A\n",
		"many contacts": "abuse-mailbox: abuse@example.net other@example.net\n",
		"Latin-1":       "\xe4",
	} {
		reply := "inetnum: 9.9.9.0 - 9.9.9.255\n" + strings.Repeat(line, maxReply/len(line))
		a, _, err := parseWHOIS(reply, target, time.Time{})
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		checkAnswer(t, a, target)
	}
}

func TestWHOISReferrals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &world{whois: map[string]func(string, io.Writer){
			"whois.iana.org": says("% IANA WHOIS server\n\nrefer:        whois.arin.net\n\ninetnum: 9.0.0.0 - 9.255.255.255\n"),
			"whois.arin.net": says("NetRange: 9.0.0.0 - 9.255.255.255\nOrgAbuseEmail: abuse@wrong.example\n" +
				"ReferralServer:  whois://whois.ripe.net\n"),
			"whois.ripe.net": says(ripeReply),
		}}
		a := look(t, w.client(nil), "9.9.9.9")
		if a.Source != WHOIS || !slices.Equal(a.Abuse, []string{"Abuse@example.net"}) {
			t.Errorf("%+v", a)
		}
		var asked []string
		for _, v := range w.asked {
			asked = append(asked, v.server+" "+v.question)
		}
		want := []string{"whois.iana.org 9.9.9.9", "whois.arin.net n + 9.9.9.9", "whois.ripe.net -r 9.9.9.9"}
		if !slices.Equal(asked, want) {
			t.Errorf("asked %q, want %q", asked, want)
		}
	})
}

// A holder's own server cannot speak for its neighbours.
func TestAReferredServerSpeaksForItsOwnNetwork(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &world{whois: map[string]func(string, io.Writer){
			"whois.iana.org":     says("refer: whois.arin.net\ninetnum: 9.0.0.0 - 9.255.255.255\n"),
			"whois.arin.net":     says("NetRange: 9.9.9.0 - 9.9.9.63\nReferralServer: whois://whois.evil.example\n"),
			"whois.evil.example": says("inetnum: 9.9.0.0 - 9.9.255.255\nabuse-mailbox: victim@example.com\n"),
		}}
		c := w.client(nil)
		if a := look(t, c, "9.9.9.9"); a.Network.String() != "9.9.9.0/26" {
			t.Errorf("network %s", a.Network)
		}
		if e, ok := c.memory.get(WHOIS, netip.MustParseAddr("9.9.200.1"), time.Now()); ok {
			t.Errorf("it is remembered for others: %+v", e)
		}
	})
}

func TestWHOISReferralsThatLeadNowhere(t *testing.T) {
	endless := map[string]func(string, io.Writer){}
	for i := range 20 {
		endless[fmt.Sprintf("r%d.test.net", i)] = says(fmt.Sprintf("refer: r%d.test.net\n", i+1))
	}
	for name, test := range map[string]struct {
		first string
		more  map[string]func(string, io.Writer)
		want  string
		most  int // questions
	}{
		"to itself":         {"refer: whois.iana.org\n", nil, "in a circle, to whois.iana.org:43", 1},
		"on and on":         {"refer: r0.test.net\n", endless, "more than 4 WHOIS servers", 5},
		"in a circle":       {"refer: a.test.net\n", map[string]func(string, io.Writer){"a.test.net": says("refer: whois.iana.org\n")}, "in a circle", 2},
		"to an address":     {"refer: 127.0.0.1\n", nil, "nobody is known to answer", 1},
		"to another port":   {"refer: mail.example.net:25\n", nil, "nobody is known to answer", 1},
		"to this machine":   {"refer: localhost\n", nil, "nobody is known to answer", 1},
		"to a command":      {"refer: x.example.net\x00;reboot\n", nil, "nobody is known to answer", 1},
		"to a dead server":  {"refer: dead.test.net\n", nil, "ask dead.test.net:43: nobody listens", 1},
		"to no registry":    {"inetnum: 9.0.0.0 - 9.255.255.255\nstatus: RESERVED\n", nil, "nobody is known to answer", 1},
		"to an rwhois one":  {"ReferralServer: rwhois://rwhois.example.net:4321\n", nil, "nobody is known to answer", 1},
		"to a slow trickle": {"refer: slow.test.net\n", map[string]func(string, io.Writer){"slow.test.net": func(_ string, w io.Writer) { trickle(w) }}, "ask slow.test.net:43: read the answer", 2},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				servers := map[string]func(string, io.Writer){"whois.iana.org": says(test.first)}
				for host, serve := range test.more {
					servers[host] = serve
				}
				w := &world{whois: servers}
				began := time.Now()
				_, err := w.client(nil).Contacts(t.Context(), target, []string{WHOIS})
				if err == nil || !strings.Contains(err.Error(), test.want) {
					t.Errorf("error %v, want %q", err, test.want)
				}
				if took := time.Since(began); took > maxQuestion+time.Second {
					t.Errorf("took %s", took)
				}
				if len(w.asked) > test.most {
					t.Errorf("asked %v", w.asked)
				}
				w.serving.Wait()
			})
		})
	}
}

func FuzzParseWHOIS(f *testing.F) {
	for _, reply := range []string{
		ripeReply, apnicReply, afrinicReply, arinReply, lacnicReply, "refer: whois.example.net\n", "inet6num: 2a00:1::/32\n",
		"ReferralServer: whois://whois.example.net:43/\n", "inetnum: 9.9/16\n~!\n.\n\xff\x00\n",
	} {
		f.Add(reply, true)
		f.Add(reply, false)
	}
	f.Fuzz(func(t *testing.T, reply string, four bool) {
		addr := target
		if !four {
			addr = netip.MustParseAddr("2a00:1::1")
		}
		if len(reply) > maxReply {
			return
		}
		a, refer, err := parseWHOIS(reply, addr, time.Time{})
		switch {
		case err != nil:
		case refer != "":
			if host, ok := strings.CutSuffix(refer, ":43"); !ok || !isDomain(host) {
				t.Errorf("refers to %q", refer)
			}
		default:
			checkAnswer(t, a, addr)
		}
	})
}

func BenchmarkParseWHOIS(b *testing.B) {
	b.ReportAllocs()
	b.SetBytes(int64(len(arinReply)))
	for b.Loop() {
		if _, _, err := parseWHOIS(arinReply, target, time.Time{}); err != nil {
			b.Fatal(err)
		}
	}
}
