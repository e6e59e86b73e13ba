package whois

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"
)

// A world is the internet of a test: HTTP and WHOIS servers by name, reached through pipes, so that they
// work in a synctest bubble.
type world struct {
	web   map[string]http.HandlerFunc
	whois map[string]func(question string, w io.Writer)

	serving sync.WaitGroup // the servers at work

	mu    sync.Mutex // guards the rest
	asked []visit
}

// A visit is a question as it reached a server.
type visit struct {
	server, question string
	at               time.Time
}

func (w *world) note(server, question string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.asked = append(w.asked, visit{server, question, time.Now()})
}

// visits are the questions to one server so far.
func (w *world) visits(server string) []visit {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(w.asked), func(v visit) bool { return v.server != server })
}

// client is a Client in this world.
func (w *world) client(cache Cache) *Client {
	return New(Config{
		Transport: &http.Transport{DialTLSContext: w.dialWeb, DisableKeepAlives: true},
		Dial:      w.dialWHOIS,
		Resolver:  noNames{},
		Cache:     cache,
	})
}

// noNames knows no name.
type noNames struct{}

func (noNames) LookupTXT(_ context.Context, name string) ([]string, error) {
	return nil, &net.DNSError{Err: "no such host", Name: name, IsNotFound: true}
}

func (w *world) dialWeb(_ context.Context, _, address string) (net.Conn, error) {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	handler, ok := w.web[host]
	if !ok {
		return nil, fmt.Errorf("nobody listens at %s", address)
	}
	near, far := net.Pipe()
	server := http.Server{Handler: http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		w.serving.Add(1)
		defer w.serving.Done()
		w.note(host, r.URL.Path)
		handler(rw, r)
	})}
	go server.Serve(&listener{conn: far})
	return near, nil
}

// A listener accepts one connection.
type listener struct {
	conn net.Conn
	once bool
}

func (l *listener) Accept() (net.Conn, error) {
	if l.once {
		return nil, io.EOF
	}
	l.once = true
	return l.conn, nil
}
func (l *listener) Close() error   { return nil }
func (l *listener) Addr() net.Addr { return l.conn.LocalAddr() }

func (w *world) dialWHOIS(_ context.Context, _, address string) (net.Conn, error) {
	host, port, _ := net.SplitHostPort(address)
	serve, ok := w.whois[host]
	if !ok || port != "43" {
		return nil, fmt.Errorf("nobody listens at %s", address)
	}
	near, far := net.Pipe()
	w.serving.Go(func() {
		defer far.Close()
		question, err := bufio.NewReader(far).ReadString('\n')
		if err != nil {
			return
		}
		question = strings.TrimSuffix(question, "\r\n")
		w.note(host, question)
		serve(question, far)
	})
	return near, nil
}

// says answers every WHOIS question alike.
func says(reply string) func(string, io.Writer) {
	return func(_ string, w io.Writer) { io.WriteString(w, reply) }
}

// shows answers every HTTP request alike.
func shows(body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, body) }
}

// status answers every HTTP request with a status.
func status(code int, header ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		for i := 0; i+1 < len(header); i += 2 {
			w.Header().Set(header[i], header[i+1])
		}
		w.WriteHeader(code)
	}
}

// trickle writes a byte a second until nobody reads any more.
func trickle(w io.Writer) {
	flusher, _ := w.(http.Flusher)
	for {
		if _, err := io.WriteString(w, "x"); err != nil {
			return
		}
		if flusher != nil {
			flusher.Flush()
		}
		time.Sleep(time.Second) // inside a bubble
	}
}

// flood writes 100 MB or as much as somebody reads, and reports how much that was.
func flood(w io.Writer, wrote *int) {
	chunk := bytes.Repeat([]byte("netname: FLOOD\n"), 1000)
	for *wrote < 100<<20 {
		n, err := w.Write(chunk)
		*wrote += n
		if err != nil {
			return
		}
	}
}

// oneService is a bootstrap file that has one server for everything.
const oneService = `{"services":[[["0.0.0.0/0","2000::/3"],["http://rdap.test/","https://rdap.test"]]]}`

// network is an RDAP answer about a prefix.
func network(prefix, contact string) string {
	p := netip.MustParsePrefix(prefix)
	return fmt.Sprintf(`{"objectClassName":"ip network","startAddress":"%s","endAddress":"%s","name":"TEST-NET","country":"NL",
		"entities":[{"roles":["abuse"],"vcardArray":["vcard",[["version",{},"text","4.0"],["email",{},"text","%s"]]]}]}`,
		p.Masked().Addr(), last(p.Masked()), contact)
}

// rdapWorld has one RDAP server.
func rdapWorld(serve http.HandlerFunc) *world {
	return &world{web: map[string]http.HandlerFunc{"data.iana.org": shows(oneService), "rdap.test": serve}}
}

// whoisWorld has one WHOIS server behind IANA's and no RDAP.
func whoisWorld(serve func(string, io.Writer)) *world {
	return &world{
		web: map[string]http.HandlerFunc{},
		whois: map[string]func(string, io.Writer){
			"whois.iana.org": says("refer:        whois.test.net\n\ninetnum: 8.0.0.0 - 9.255.255.255\n"),
			"whois.test.net": serve,
		},
	}
}

// A notebook is a Cache in memory.
type notebook struct {
	mu    sync.Mutex // guards the rest
	notes map[string][]byte
	at    map[string]time.Time
	err   error
}

func (n *notebook) Note(_ context.Context, key string) ([]byte, time.Time, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.notes[key], n.at[key], n.err
}

func (n *notebook) SetNote(_ context.Context, key string, value []byte) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.err != nil {
		return n.err
	}
	if n.notes == nil {
		n.notes, n.at = map[string][]byte{}, map[string]time.Time{}
	}
	n.notes[key], n.at[key] = bytes.Clone(value), time.Now()
	return nil
}

// checkAnswer holds an answer against what Answer promises.
func checkAnswer(t *testing.T, a Answer, addr netip.Addr) {
	t.Helper()
	if !a.Network.Contains(addr) || a.Network.Masked() != a.Network {
		t.Errorf("network %s does not contain %s, or is not masked", a.Network, addr)
	}
	for _, text := range []string{a.Name, a.Org, a.Country} {
		if len(text) > maxLine || strings.Contains(text, "\n") {
			t.Errorf("%q is no short line", text)
		}
	}
	if len(a.Text) > maxText {
		t.Errorf("a text of %d bytes", len(a.Text))
	}
	for line := range strings.Lines(a.Text) {
		if strings.HasPrefix(line, "~") || strings.HasPrefix(line, ".") {
			t.Errorf("line %q is a command to a mail program", line)
		}
	}
	for _, text := range []string{a.Name, a.Org, a.Country, a.Text} {
		if !utf8.ValidString(text) {
			t.Errorf("%q is not UTF-8", text)
		}
		for _, r := range text {
			if r != '\n' && (unicode.IsControl(r) || unicode.Is(unicode.Cf, r)) {
				t.Errorf("%q has the control character %U", text, r)
			}
		}
	}
	if len(a.Abuse) > maxContacts || !slices.IsSorted(a.Abuse) {
		t.Errorf("contacts %q are too many or not sorted", a.Abuse)
	}
	for _, contact := range a.Abuse {
		if same, ok := mailbox(contact); !ok || same != contact {
			t.Errorf("contact %q is no mail address", contact)
		}
	}
}
