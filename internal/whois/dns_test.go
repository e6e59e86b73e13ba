package whois

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// nameServer is a DNS server on loopback, by UDP and TCP, with TXT records by name; names has what was asked for.
func nameServer(t *testing.T, records map[string][][]string) (r *net.Resolver, names func() []string) {
	t.Helper()
	var mu sync.Mutex
	var asked []string
	handler := dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
		reply := new(dns.Msg)
		reply.SetReply(q)
		name := q.Question[0].Name
		mu.Lock()
		asked = append(asked, name)
		mu.Unlock()
		texts, ok := records[name]
		if !ok {
			reply.Rcode = dns.RcodeNameError
		}
		for _, text := range texts {
			if text[0] == "SERVFAIL" {
				reply.Rcode = dns.RcodeServerFailure
				break
			}
			reply.Answer = append(reply.Answer, &dns.TXT{
				Hdr: dns.RR_Header{Name: name, Rrtype: dns.TypeTXT, Class: dns.ClassINET, Ttl: 60}, Txt: text,
			})
		}
		reply.Compress = true
		if w.LocalAddr().Network() == "udp" {
			reply.Truncate(1232)
		}
		if err := w.WriteMsg(reply); err != nil {
			t.Errorf("answer about %s: %v", name, err)
		}
	})
	packets, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	stream, err := net.Listen("tcp", packets.LocalAddr().String())
	if err != nil {
		t.Fatal(err)
	}
	var running sync.WaitGroup
	t.Cleanup(running.Wait)
	for _, server := range []*dns.Server{{PacketConn: packets, Handler: handler}, {Listener: stream, Handler: handler}} {
		started := make(chan struct{})
		server.NotifyStartedFunc = func() { close(started) }
		running.Go(func() { server.ActivateAndServe() })
		<-started
		t.Cleanup(func() { server.Shutdown() })
	}
	r = &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, network, packets.LocalAddr().String())
	}}
	return r, func() []string { mu.Lock(); defer mu.Unlock(); return asked }
}

func TestContactsByDNS(t *testing.T) {
	thousands := make([][]string, 2000)
	for i := range thousands {
		thousands[i] = []string{fmt.Sprintf("a%d@example.net", i)}
	}
	lies := make([][]string, 1000)
	for i := range lies {
		lies[i] = []string{"v=spf1 -all; root@localhost <x@example.net>"}
	}
	r, names := nameServer(t, map[string][][]string{
		"1.9.9.9.abuse.test.": {{"abuse@example.net"}},
		"2.9.9.9.abuse.test.": {{"b@Example.NET,a@example.net c@example.net"}, {"A@example.net"}},
		"3.9.9.9.abuse.test.": {{""}},
		"4.9.9.9.abuse.test.": {{"not an address"}, {"root@localhost"}, {"x@127.0.0.1"}, {"Name <x@example.net>"}, {"a@b@c.net"}, {"x@example.net\x00"}},
		"5.9.9.9.abuse.test.": thousands,
		"6.9.9.9.abuse.test.": lies,
		"7.9.9.9.abuse.test.": {{"SERVFAIL"}},
		"8.9.9.9.abuse.test.": {{"abuse@", "example.net"}},
		"1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.1.0.0.0.0.0.a.2.abuse.test.": {{"six@example.net"}},
	})
	for _, test := range []struct{ name, addr, want string }{
		{"one contact", "9.9.9.1", "[abuse@example.net]"},
		{"several in a record, and the same in another", "9.9.9.2", "[a@example.net b@example.net c@example.net]"},
		{"an empty record", "9.9.9.3", "unknown"},
		{"what is no address", "9.9.9.4", "unknown"},
		{"thousands of records", "9.9.9.5", "[a0@example.net a1@example.net a2@example.net a3@example.net a4@example.net]"},
		{"a thousand lies", "9.9.9.6", "unknown"},
		{"a server that fails", "9.9.9.7", "trouble"},
		{"a record in two strings", "9.9.9.8", "[abuse@example.net]"},
		{"no record", "9.9.9.100", "unknown"},
		{"IPv6", "2a00:1::1", "[six@example.net]"},
		{"IPv4 as IPv6", "::ffff:9.9.9.1", "[abuse@example.net]"},
	} {
		c := New(Config{Zone: "abuse.test", Resolver: r})
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		contacts, err := c.Contacts(ctx, netip.MustParseAddr(test.addr), []string{DNS})
		cancel()
		got := fmt.Sprint(contacts)
		switch {
		case errors.Is(err, ErrUnknown):
			got = "unknown"
		case err != nil:
			got = "trouble"
		}
		if got != test.want {
			t.Errorf("%s: %s, %v, want %s", test.name, got, err, test.want)
		}
		if err != nil && !strings.Contains(err.Error(), test.addr) {
			t.Errorf("%s: the error does not say whom it is about: %v", test.name, err)
		}
	}
	before := len(names())
	c := New(Config{Zone: "abuse.test.", Resolver: r})
	for range 3 {
		if _, err := c.Contacts(t.Context(), netip.MustParseAddr("9.9.9.1"), []string{DNS}); err != nil {
			t.Error(err)
		}
	}
	if n := len(names()) - before; n != 1 {
		t.Errorf("asked %d times", n)
	}
}

func TestNamesForDNS(t *testing.T) {
	for addr, want := range map[string]string{
		"198.51.100.9":  "9.100.51.198",
		"2001:db8::1:f": "f.0.0.0.1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2",
	} {
		if got := reversed(netip.MustParseAddr(addr)); got != want {
			t.Errorf("%s: %s, want %s", addr, got, want)
		}
	}
}

func TestMailAddresses(t *testing.T) {
	for text, want := range map[string]string{
		"abuse@example.net":                      "abuse@example.net",
		"Abuse.Desk+x=1_-@Mail.Example.NET":      "Abuse.Desk+x=1_-@mail.example.net",
		"abuse@xn--bcher-kva.example":            "abuse@xn--bcher-kva.example",
		"":                                       "",
		"abuse":                                  "",
		"@example.net":                           "",
		"abuse@":                                 "",
		"abuse@example":                          "",
		"abuse@localhost":                        "",
		"abuse@mail.localhost":                   "",
		"abuse@printer.local":                    "",
		"abuse@127.0.0.1":                        "",
		"abuse@[127.0.0.1]":                      "",
		"abuse@1.2.3":                            "",
		"abuse@b\u00fccher.example":              "",
		"abus\u00e9@example.net":                 "",
		"a@b@example.net":                        "",
		"a b@example.net":                        "",
		"\"a\"@example.net":                      "",
		"a\n@example.net":                        "",
		"a@example.net\r":                        "",
		"<a@example.net>":                        "",
		"-Oa@example.net":                        "",
		".a@example.net":                         "",
		"a.@example.net":                         "",
		"a..b@example.net":                       "",
		"a%b@example.net":                        "",
		"a!b@example.net":                        "",
		"|sh@example.net":                        "",
		"a@-example.net":                         "",
		"a@example-.net":                         "",
		"a@example..net":                         "",
		"a@example.net.":                         "",
		strings.Repeat("a", 65) + "@example.net": "",
		"a@" + strings.Repeat("a", 64) + ".net":  "",
		"a@" + strings.Repeat("aaaaaaaaa.", 25) + "net": "",
		strings.Repeat("a", 64) + "@example.net":        strings.Repeat("a", 64) + "@example.net",
		"a@" + strings.Repeat("a", 63) + ".net":         "a@" + strings.Repeat("a", 63) + ".net",
		"a@" + strings.Repeat("aaaaaaaaa.", 24) + "net": "a@" + strings.Repeat("aaaaaaaaa.", 24) + "net",
		"mailto:a@example.net":                          "",
		"a@example.net\u202e":                           "",
		"a@exa\x00mple.net":                             "",
	} {
		if got, ok := mailbox(text); got != want || ok != (want != "") {
			t.Errorf("%q: %q, %v, want %q", text, got, ok, want)
		}
	}
}
