package test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log"
	"math/big"
	"mime"
	"mime/multipart"
	"mime/quotedprintable"
	"net"
	"net/http"
	"net/mail"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/emersion/go-sasl"
	"github.com/emersion/go-smtp"
	"github.com/miekg/dns"

	"bantam/internal/control"
	"bantam/internal/nstest"
	"bantam/internal/peertest"
)

// The guides that people follow are read where they stand, beside the tree, and what a
// page has lost on its way there is put back by restore.

// guide is the text of the guide of that number.
func guide(t *testing.T, number string) string {
	t.Helper()
	found, _ := filepath.Glob(filepath.Join(shared, "seeds", number+"_*.txt")) // the pattern is well formed
	if len(found) != 1 {
		peertest.Without(t, fmt.Sprintf("the guide %s is not beside the tree: %d files named so", number, len(found)))
	}
	text, err := os.ReadFile(found[0])
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// between is what stands in a text between two others: from the end of the first to the next place
// of the second.
func between(t *testing.T, text, from, to string) string {
	t.Helper()
	_, rest, begins := strings.Cut(text, from)
	part, _, ends := strings.Cut(rest, to)
	if !begins || !ends {
		t.Fatalf("the guide has nothing between %q and %q", from, to)
	}
	return part
}

// fenced is the first block of a kind after a heading of a page in Markdown.
func fenced(t *testing.T, page, heading, kind string) string {
	t.Helper()
	return between(t, between(t, page, heading+"\n", "\n---\n"), "```"+kind+"\n", "```\n")
}

// restore puts back what a page has lost: pairs of a text that it has exactly once, and what is to
// stand there. If the second begins with a line's end, it comes after the first.
func restore(t *testing.T, text string, pairs ...string) string {
	t.Helper()
	for i := 0; i < len(pairs); i += 2 {
		old, restored := pairs[i], pairs[i+1]
		if n := strings.Count(text, old); n != 1 {
			t.Fatalf("the guide has %q %d times", old, n)
		}
		if strings.HasPrefix(restored, "\n") {
			restored = old + restored
		}
		text = strings.Replace(text, old, restored, 1)
	}
	return text
}

// A guided host is a machine as a guide leaves it: /etc, /usr and /var are those of the real one
// with the guide's files over them, seen by nobody else, and all that it talks to is in its
// network namespace. Its folder, dir, is its root directory.
type guided struct {
	*host
	pid  string // of the process that holds its namespaces
	tree string // the peer's package
	peer bool   // the daemon is Fail2Ban, to see that what is asked of ours is what it does

	gmail, local letters // what smtp.gmail.com and the machine's own relay have taken
	web          posts
	world        world
	tls          *tls.Config // of all servers
}

// A world is what a machine is told when it asks.
type world struct {
	whois func(query string) string  // what every WHOIS server says; nil for nothing
	txt   func(name string) []string // TXT records, the name without the dot at its end; nil for none
	names []string                   // of HTTPS servers that a test has beside ours
}

// raise makes a machine in a new mount namespace, which is the caller's: real directories are only the
// lowest layer, with Debian's programs in $2 and what $1/over has above them. Then it waits for the end of
// its input.
const raise = `set -eu
mount -t tmpfs -o mode=755 guide "$1/layers"
for d in etc usr var; do
	mkdir -p "$1/layers/$d/upper" "$1/layers/$d/work" "$2/$d"
	mount -t overlay guide -o "lowerdir=$2/$d:/$d,upperdir=$1/layers/$d/upper,workdir=$1/layers/$d/work" "/$d"
done
for d in /etc/fail2ban /etc/bantam /var/log /var/lib/fail2ban /var/lib/bantam /run; do
	mkdir -p "$d"
	mount -t tmpfs -o mode=755 guide "$d"
done
cp -a "$1/over/." /
mount --bind /tmp /tmp
mount -o remount,bind,ro / # whatever a script does
hostname gate
echo raised
exec cat`

// gmailPassword is what the reader of the guide puts in for its placeholder.
const gmailPassword = "abcd efgh ijkl mnop"

// unpacked is a folder, the same for all tests, with Debian's fail2ban package in peer and the programs
// that the guides' scripts call in programs.
func unpacked(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(filepath.Dir(program), "debian") // which ends with TestMain
	if _, err := os.Stat(dir); err == nil {
		return dir
	}
	programs := []string{peertest.Package(t, "msmtp-mta"), peertest.Package(t, "python3-dnspython")}
	for _, name := range []string{"whois", "curl"} {
		if _, err := os.Stat("/usr/bin/" + name); err != nil { // else the machine's is seen
			programs = append(programs, peertest.Package(t, name))
		}
	}
	half := dir + ".new"
	for name, trees := range map[string][]string{
		"peer":     {peertest.Tree(t)},
		"programs": programs,
	} {
		to := filepath.Join(half, name)
		if err := os.MkdirAll(to, 0o755); err != nil {
			t.Fatal(err)
		}
		for _, tree := range trees { // two programs may bring the same library
			if out, err := exec.CommandContext(t.Context(), "cp", "-a", tree+"/.", to).CombinedOutput(); err != nil {
				t.Fatalf("copy %s: %v: %s", tree, err, out)
			}
		}
	}
	if err := os.Rename(half, dir); err != nil {
		t.Fatal(err)
	}
	return dir
}

// follow makes the machine of who has followed a guide: Debian's fail2ban package, the guide's files at
// their places, and the programs that the guides' scripts call. Names of the outer world lead to
// the test's own servers.
func follow(t *testing.T, w world, files map[string]string) *guided {
	t.Helper()
	network := nstest.New(t)
	debian := unpacked(t)
	if _, err := exec.LookPath("iptables"); err != nil {
		peertest.Without(t, "iptables is not installed")
	}
	if w.whois == nil {
		w.whois = func(string) string { return "" }
	}
	if w.txt == nil {
		w.txt = func(string) []string { return nil }
	}
	g := &guided{host: &host{T: t, net: network}, tree: filepath.Join(debian, "peer"), world: w}
	base := t.TempDir()
	over := filepath.Join(base, "over")
	for _, dir := range []string{over, filepath.Join(base, "layers")} {
		g.check(os.Mkdir(dir, 0o755))
	}
	g.check(os.CopyFS(filepath.Join(over, "etc/fail2ban"), os.DirFS(filepath.Join(debian, "peer/etc/fail2ban"))))
	authority, config := certify(t, w.names...)
	g.tls = config
	for name, text := range map[string]string{
		"/etc/hostname": "gate\n",
		"/etc/hosts": "127.0.0.1 localhost\n127.0.1.1 gate.example.org gate\n" +
			"127.0.0.1 smtp.gmail.com gmail.googleapis.com oauth2.googleapis.com\n" +
			"127.0.0.1 api.telegram.org discord.com hooks.slack.com ntfy.sh alerts.example.org\n" +
			"127.0.0.1 whois.iana.org whois.arin.net whois.ripe.net whois.apnic.net whois.lacnic.net whois.afrinic.net\n",
		"/etc/resolv.conf":   "nameserver 127.0.0.1\n",
		"/etc/nsswitch.conf": "hosts: files dns\n",
		// The machine's own way out for mail, which comes with no configuration.
		"/etc/msmtprc":                       "account default\nhost 127.0.0.1\nport 25\ntls off\nauth off\nfrom root@gate.example.org\n",
		"/etc/ssl/certs/ca-certificates.crt": authority,
		"/usr/lib/ssl/cert.pem":              authority,
		"/var/log/auth.log":                  "",
	} {
		if _, given := files[name]; !given {
			g.place(over, name, text)
		}
	}
	for name, text := range files {
		g.place(over, name, text)
	}

	g.serve(config)
	hold := exec.Command("unshare", "--mount", "--uts", "sh", "-c", raise, "raise", base, filepath.Join(debian, "programs"))
	var trouble bytes.Buffer
	hold.Stderr = &trouble
	input, err := hold.StdinPipe()
	g.check(err)
	output, err := hold.StdoutPipe()
	g.check(err)
	g.check(network.Start(hold))
	t.Cleanup(func() {
		g.check(input.Close())
		_ = hold.Wait() // its exit code is that of a broken pipe or nothing
	})
	word := make([]byte, len("raised\n"))
	if _, err := io.ReadFull(output, word); err != nil {
		if os.Getenv("BANTAM_NEED_NETNS") != "1" {
			t.Skipf("no file system of the test's own: %s", trouble.String())
		}
		t.Fatalf("no file system of the test's own: %v: %s", err, trouble.String())
	}
	g.pid = fmt.Sprint(hold.Process.Pid)
	g.dir = "/proc/" + g.pid + "/root"
	g.client = control.NewClient(filepath.Join(g.dir, "run/bantam/bantam.sock"))
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the daemon's log:\n%s", g.text("/var/log/fail2ban.log"))
		}
	})
	return g
}

// place writes a file of the machine to be; scripts may be run.
func (g *guided) place(over, name, text string) {
	g.Helper()
	mode := os.FileMode(0o644)
	if strings.HasPrefix(text, "#!") {
		mode = 0o755
	}
	name = filepath.Join(over, name)
	g.check(os.MkdirAll(filepath.Dir(name), 0o755))
	if err := os.Remove(name); err != nil && !errors.Is(err, os.ErrNotExist) { // not through a link
		g.Fatal(err)
	}
	g.check(os.WriteFile(name, []byte(text), mode))
}

// text is a file of the machine, empty if it is not there.
func (g *guided) text(name string) string {
	g.Helper()
	text, err := os.ReadFile(filepath.Join(g.dir, name))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		g.Error(err)
	}
	return string(text)
}

// inside is a command on the machine, with the environment of a service.
func (g *guided) inside(args ...string) *exec.Cmd {
	cmd := exec.Command("nsenter", append([]string{"--target", g.pid, "--mount", "--uts", "--net"}, args...)...)
	cmd.Env = []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
	return cmd
}

// stock is a command of the peer's own, its server or its client.
func (g *guided) stock(name string, args ...string) *exec.Cmd {
	cmd := g.inside(append([]string{"/usr/bin/python3", "-B", filepath.Join(g.tree, "usr/bin", name)}, args...)...)
	cmd.Env = append(cmd.Env, "PYTHONPATH="+peertest.Modules(g.tree))
	return cmd
}

// refused wants the peer to find the configuration wrong.
func (g *guided) refused() {
	g.Helper()
	out, err := g.stock("fail2ban-client", "-t").CombinedOutput()
	if exit := (*exec.ExitError)(nil); !errors.As(err, &exit) {
		g.Errorf("the peer does not refuse the configuration: %v\n%s", err, out)
	}
}

// runs starts the daemon as a service does, without a word on where anything is.
func (g *guided) runs() *process {
	g.Helper()
	if !g.peer {
		return g.startAs(g.inside(program, "run")).ready()
	}
	g.check(os.MkdirAll(filepath.Join(g.dir, "run/fail2ban"), 0o755))
	p := g.startAs(g.stock("fail2ban-server", "-f", "start"))
	g.until("the peer answers", func() bool { return g.stock("fail2ban-client", "ping").Run() == nil })
	return p
}

// unban takes a ban of sshd's back.
func (g *guided) unban(address string) {
	g.Helper()
	if !g.peer {
		g.does("unban", address)
	} else if out, err := g.stock("fail2ban-client", "set", "sshd", "unbanip", address).CombinedOutput(); err != nil {
		g.Fatalf("unban %s: %v\n%s", address, err, out)
	}
}

// byBoth runs a test with our daemon and with the peer.
func byBoth(t *testing.T, test func(t *testing.T, peer bool)) {
	t.Helper()
	t.Run("bantam", func(t *testing.T) { test(t, false) })
	t.Run("fail2ban", func(t *testing.T) { test(t, true) })
}

// says is what a bantam command prints, and its exit code.
func (g *guided) says(args ...string) (string, int) {
	g.Helper()
	cmd := g.inside(append([]string{program}, args...)...)
	out, err := cmd.CombinedOutput()
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
		g.Fatal(err)
	}
	return string(out), cmd.ProcessState.ExitCode()
}

// does runs a bantam command that must succeed.
func (g *guided) does(args ...string) string {
	g.Helper()
	out, code := g.says(args...)
	if code != 0 {
		g.Fatalf("bantam %s: exit code %d\n%s", strings.Join(args, " "), code, out)
	}
	return out
}

// mustSay fails the test for each part that a text lacks.
func (g *guided) mustSay(what, text string, parts ...string) {
	g.Helper()
	for _, part := range parts {
		if !strings.Contains(text, part) {
			g.Errorf("%s does not say %q:\n%s", what, part, text)
		}
	}
}

// certify makes an authority, as PEM, and what a server needs that has all the names that
// the guides' scripts call, and some more.
func certify(t *testing.T, more ...string) (string, *tls.Config) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	// One certificate is both: it signs itself, and who trusts it trusts the servers.
	certificate := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "guides"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		DNSNames: append([]string{
			"smtp.gmail.com", "gmail.googleapis.com", "oauth2.googleapis.com", "api.telegram.org",
			"discord.com", "hooks.slack.com", "ntfy.sh", "alerts.example.org",
		}, more...),
		KeyUsage:    x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		IsCA:        true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, certificate, certificate, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})),
		&tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}
}

// serve is the world: mail, names, WHOIS and HTTPS on the ports where they are looked for.
func (g *guided) serve(config *tls.Config) {
	g.Helper()
	listen := func(port string) net.Listener {
		l, err := g.net.Listen("tcp", "127.0.0.1:"+port)
		g.check(err)
		return l
	}
	for port, to := range map[string]*letters{"587": &g.gmail, "25": &g.local} {
		s := smtp.NewServer(smtp.BackendFunc(func(c *smtp.Conn) (smtp.Session, error) {
			return &delivery{to: to, conn: c, login: port == "587"}, nil
		}))
		s.Domain = "mail.test"
		s.ErrorLog = log.New(io.Discard, "", 0)
		if port == "587" {
			s.TLSConfig = config
		}
		l := listen(port)
		go func() { _ = s.Serve(l) }() // until it is closed
		g.Cleanup(func() { _ = s.Close() })
	}
	web := &http.Server{Handler: &g.web, ErrorLog: log.New(io.Discard, "", 0)}
	l := tls.NewListener(listen("443"), config)
	go func() { _ = web.Serve(l) }()
	g.Cleanup(func() { _ = web.Close() })

	g.port43("127.0.0.1", g.world.whois)

	names, err := g.net.ListenPacket("udp", "127.0.0.1:53")
	g.check(err)
	server := &dns.Server{PacketConn: names, Handler: dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
		answer := new(dns.Msg).SetReply(q)
		answer.Rcode = dns.RcodeNameError
		if len(q.Question) == 1 && q.Question[0].Qtype == dns.TypeTXT {
			for _, text := range g.world.txt(strings.TrimSuffix(q.Question[0].Name, ".")) {
				answer.Rcode = dns.RcodeSuccess
				answer.Answer = append(answer.Answer, &dns.TXT{
					Hdr: dns.RR_Header{Name: q.Question[0].Name, Rrtype: dns.TypeTXT, Class: dns.ClassINET, Ttl: 60},
					Txt: []string{text},
				})
			}
		}
		_ = w.WriteMsg(answer)
	})}
	go func() { _ = server.ActivateAndServe() }()
	g.Cleanup(func() { _ = names.Close() })
}

// port43 is a WHOIS server at an address of the machine's.
func (g *guided) port43(address string, says func(query string) string) {
	g.Helper()
	g.answer(address+":43", answerWHOIS(says))
}

// answerWHOIS answers one question.
func answerWHOIS(says func(query string) string) func(net.Conn) {
	return func(conn net.Conn) {
		_ = conn.SetDeadline(time.Now().Add(patience))
		query := make([]byte, 256)
		n, _ := conn.Read(query)
		_, _ = io.WriteString(conn, says(strings.TrimSpace(string(query[:n]))))
	}
}

// letters is what a mail server has taken.
type letters struct {
	mu  sync.Mutex
	all []letter // guarded by mu
}

// A letter is a mail as it came, with its envelope.
type letter struct {
	from   string
	to     []string
	user   string // of the login
	secret string
	tls    bool
	data   []byte
}

func (l *letters) list() []letter {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]letter(nil), l.all...)
}

// A delivery is one connection to a mail server.
type delivery struct {
	to    *letters
	conn  *smtp.Conn
	login bool // is asked for, over TLS only

	letter letter
}

func (d *delivery) AuthMechanisms() []string {
	if !d.login {
		return nil
	}
	return []string{sasl.Plain}
}

func (d *delivery) Auth(string) (sasl.Server, error) {
	return sasl.NewPlainServer(func(_, user, password string) error {
		// Google shows the password in four groups, and takes it with and without the blanks.
		if strings.ReplaceAll(password, " ", "") != strings.ReplaceAll(gmailPassword, " ", "") {
			return smtp.ErrAuthFailed
		}
		d.letter.user, d.letter.secret = user, password
		return nil
	}), nil
}

func (d *delivery) Mail(from string, _ *smtp.MailOptions) error {
	if d.login && d.letter.user == "" {
		return smtp.ErrAuthRequired
	}
	_, secure := d.conn.TLSConnectionState()
	d.letter.from, d.letter.to, d.letter.tls = from, nil, secure
	return nil
}

func (d *delivery) Rcpt(to string, _ *smtp.RcptOptions) error {
	d.letter.to = append(d.letter.to, to)
	return nil
}

func (d *delivery) Data(r io.Reader) (err error) {
	if d.letter.data, err = io.ReadAll(r); err != nil {
		return err
	}
	d.to.mu.Lock()
	defer d.to.mu.Unlock()
	d.to.all = append(d.to.all, d.letter)
	return nil
}

func (d *delivery) Reset()        {}
func (d *delivery) Logout() error { return nil }

// read is a letter as its reader sees it.
func (l letter) read(t *testing.T) (h mail.Header, subject, text string) {
	t.Helper()
	m, err := mail.ReadMessage(bytes.NewReader(l.data))
	if err != nil {
		t.Fatalf("no mail: %v\n%s", err, l.data)
	}
	header, body := interface{ Get(string) string }(m.Header), m.Body
	kind, params, _ := mime.ParseMediaType(m.Header.Get("Content-Type"))
	if strings.HasPrefix(kind, "multipart/") {
		part, err := multipart.NewReader(body, params["boundary"]).NextRawPart()
		if err != nil {
			t.Fatalf("no part in the mail: %v\n%s", err, l.data)
		}
		header, body = part.Header, part
	}
	switch strings.ToLower(header.Get("Content-Transfer-Encoding")) {
	case "base64":
		body = base64.NewDecoder(base64.StdEncoding, body)
	case "quoted-printable":
		body = quotedprintable.NewReader(body)
	}
	plain, err := io.ReadAll(body)
	if err != nil {
		t.Fatalf("read the mail: %v\n%s", err, l.data)
	}
	if subject, err = new(mime.WordDecoder).DecodeHeader(m.Header.Get("Subject")); err != nil {
		t.Fatal(err)
	}
	return m.Header, subject, strings.ReplaceAll(string(plain), "\r\n", "\n")
}

// with waits for a letter of that subject, the n-th from 1.
func (g *guided) with(in *letters, subject string, n int) letter {
	g.Helper()
	var found letter
	ctx, cancel := context.WithTimeout(g.Context(), patience)
	defer cancel()
	for tick := time.Tick(5 * time.Millisecond); ; {
		seen, subjects := 0, ""
		for _, l := range in.list() {
			_, s, _ := l.read(g.T)
			if subjects += s + "\n"; s == subject {
				if seen++; seen == n {
					return l
				}
			}
		}
		select {
		case <-tick:
		case <-ctx.Done():
			g.Fatalf("no mail %q (%d) within %s, but\n%s", subject, n, patience, subjects)
			return found
		}
	}
}

// posts is what a web server was sent.
type posts struct {
	mu     sync.Mutex
	all    []post                               // guarded by mu
	answer func(post) (status int, text string) // guarded by mu; nil for Telegram's yes to everything
}

// answers says what the server does from now on.
func (p *posts) answers(answer func(post) (status int, text string)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.answer = answer
}

// A post is a request.
type post struct {
	method, host, path string
	header             http.Header
	body               []byte
}

func (p *posts) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	got := post{r.Method, r.Host, r.URL.Path, r.Header, body}
	p.all = append(p.all, got)
	status, text := http.StatusOK, `{"ok":true,"result":{"message_id":1}}`
	if p.answer != nil {
		status, text = p.answer(got)
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = io.WriteString(w, text)
}

func (p *posts) list() []post {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]post(nil), p.all...)
}

// attack is what sshd writes of somebody who tries n passwords.
func (g *guided) attack(from string, n int) {
	g.Helper()
	g.log("var/log/auth.log", strings.Repeat(failed(netip.MustParseAddr(from)), n))
}
