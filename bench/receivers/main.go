// Receivers stands for everybody whom a daemon under measurement tells of bans: a mail server on port 2500,
// HTTP on 8080, names on 53, WHOIS on 43 and HTTPS on 443, all on 127.0.0.1, so it runs in a network
// namespace. How they behave is its first argument:
//
//	healthy  they take what they are sent at once; names are unknown, but for abuse contacts
//	hanging  they accept connections and requests and never answer, the name server neither
//	mute     names are answered, each with this machine, and the rest hangs
//
// It ends when the folder that is its second argument is no more.
package main

import (
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"time"

	"github.com/emersion/go-smtp"
	"github.com/miekg/dns"
)

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: receivers healthy|hanging|mute DIR")
		os.Exit(2)
	}
	how := os.Args[1]
	for _, port := range []string{"2500", "8080", "43", "443"} {
		l := must(net.Listen("tcp", "127.0.0.1:"+port))
		switch {
		case how == "healthy" && port == "2500":
			s := smtp.NewServer(smtp.BackendFunc(func(*smtp.Conn) (smtp.Session, error) { return session{}, nil }))
			s.Domain, s.ErrorLog = "mail.test", log.New(io.Discard, "", 0)
			go func() { log.Fatal(s.Serve(l)) }()
		case how == "healthy" && port == "8080":
			go func() {
				log.Fatal(http.Serve(l, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { _, _ = io.Copy(io.Discard, r.Body) })))
			}()
		default:
			go swallow(l)
		}
	}
	names := must(net.ListenPacket("udp", "127.0.0.1:53"))
	if how != "hanging" { // else nobody reads what comes
		s := &dns.Server{PacketConn: names, Handler: dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) { answer(w, q, how) })}
		go func() { log.Fatal(s.ActivateAndServe()) }()
	}
	for range time.Tick(time.Second) {
		if _, err := os.Stat(os.Args[2]); err != nil {
			return
		}
	}
}

// swallow takes connections and never says a word.
func swallow(l net.Listener) {
	for {
		c, err := l.Accept()
		if err != nil {
			log.Fatal(err)
		}
		go func() {
			_, _ = io.Copy(io.Discard, c) // until the other side gives up
			_ = c.Close()
		}()
	}
}

// answer is the name server's: one abuse contact for all, and this machine for every other name if they are mute.
func answer(w dns.ResponseWriter, q *dns.Msg, how string) {
	a := new(dns.Msg).SetReply(q)
	a.Rcode = dns.RcodeNameError
	if len(q.Question) == 1 {
		head := dns.RR_Header{Name: q.Question[0].Name, Rrtype: q.Question[0].Qtype, Class: dns.ClassINET, Ttl: 60}
		switch {
		case how == "healthy" && head.Rrtype == dns.TypeTXT:
			a.Rcode, a.Answer = dns.RcodeSuccess, []dns.RR{&dns.TXT{Hdr: head, Txt: []string{"abuse@net.example"}}}
		case how == "mute" && head.Rrtype == dns.TypeA:
			a.Rcode, a.Answer = dns.RcodeSuccess, []dns.RR{&dns.A{Hdr: head, A: net.IPv4(127, 0, 0, 1)}}
		}
	}
	_ = w.WriteMsg(a) // whoever asked may have given up
}

// A session is a connection to the mail server, which takes every mail.
type session struct{}

func (session) Reset()                               {}
func (session) Logout() error                        { return nil }
func (session) Mail(string, *smtp.MailOptions) error { return nil }
func (session) Rcpt(string, *smtp.RcptOptions) error { return nil }
func (session) Data(r io.Reader) error {
	_, err := io.Copy(io.Discard, r)
	return err
}

func must[T any](v T, err error) T {
	if err != nil {
		log.Fatal(err)
	}
	return v
}
