package test

import (
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"

	"bantam"
	"bantam/internal/control"
	"bantam/internal/outbox"
	"bantam/internal/report"
	"bantam/internal/smtp/smtptest"
	"bantam/internal/store"
)

// tellingJail is a jail that tells everybody; MAIL and WEB are where the receivers listen.
const tellingJail = `[sshd]
enabled = true
logpath = DIR/auth.log
maxretry = 3
findtime = 1h
bantime = 1h
action = %(action_)s
         smtp[to=admin@example.org, from=bantam@example.org, relay="MAIL", digest=0.2]
         webhook[url="https://WEB/hook", digest=0.2]
         abuse[from=abuse@example.org, via="smtp[relay=MAIL]", contact=dns]
         abuseipdb-report[key=secret, url="https://WEB/report"]
`

// Who receives what.
const (
	toOperator = "smtp"
	toHook     = "webhook"
	toDesks    = "abuse"
	toList     = "abuseipdb-report"
)

// An audience is who is told of a host's bans: a mail server, a web server and a name server that knows
// whom to complain to.
type audience struct {
	*host
	mail *smtptest.Server
	web  *httptest.Server

	mu      sync.Mutex // guards the rest
	arrived map[string][]arrival
	// first is called with each message that has come in whole, by "mail" or "web", before it is taken; false has the
	// connection broken off instead.
	first func(by string) bool
	mood  mood
}

// A mood is how the servers behave; that of names is busy never.
type mood int

const (
	willing mood = iota
	busy         // come again later
	hanging      // no answer at all
)

// An arrival is a message that its receiver has taken.
type arrival struct {
	key   string
	bans  int // that it counts
	about []string
}

// attacking are the addresses of attackers in a text.
var attacking = regexp.MustCompile(`\b203\.0\.\d+\.\d+\b`)

// newAudience makes a host with everybody whom its jail.local tells.
func newAudience(t *testing.T, jailLocal string) *audience {
	t.Helper()
	h := newHost(t, jailLocal)
	a := &audience{host: h, arrived: map[string][]arrival{}, first: func(string) bool { return true }}
	listen := func() net.Listener {
		l, err := h.net.Listen("tcp", "127.0.0.1:0")
		h.check(err)
		return l
	}
	a.mail = smtptest.New(t, smtptest.Options{Listener: listen(), Answer: a.mailed})
	a.web = httptest.NewUnstartedServer(http.HandlerFunc(a.posted))
	h.check(a.web.Listener.Close())
	a.web.Listener = listen()
	a.web.Config.ErrorLog = log.New(io.Discard, "", 0) // connections end when the daemon is killed
	a.web.StartTLS()
	t.Cleanup(func() {
		a.web.CloseClientConnections()
		a.web.Close()
	})
	names, err := h.net.ListenPacket("udp", "127.0.0.1:53")
	h.check(err)
	server := &dns.Server{PacketConn: names, Handler: dns.HandlerFunc(a.named)}
	served := make(chan error, 1)
	go func() { served <- server.ActivateAndServe() }()
	t.Cleanup(func() {
		_ = names.Close()
		<-served
	})

	authority, err := os.ReadFile(a.mail.CAFile())
	h.check(err)
	authority = append(authority, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.web.Certificate().Raw})...)
	h.write("ca.pem", string(authority))
	h.write("resolv.conf", "nameserver 127.0.0.1\n")
	a.configure(jailLocal)
	return a
}

// configure writes jail.local anew.
func (a *audience) configure(jailLocal string) {
	a.Helper()
	a.write("jail.local", strings.NewReplacer("DIR", a.dir, "MAIL", a.mail.Addr(), "WEB", a.web.Listener.Addr().String()).Replace(jailLocal))
}

// named is the name server: each eighth of a network has a desk of its own.
func (a *audience) named(w dns.ResponseWriter, q *dns.Msg) {
	a.mu.Lock()
	mood := a.mood
	a.mu.Unlock()
	if mood == hanging {
		return
	}
	answer := new(dns.Msg).SetReply(q)
	answer.Rcode = dns.RcodeNameError
	if len(q.Question) == 1 && q.Question[0].Qtype == dns.TypeTXT {
		low, _, _ := strings.Cut(q.Question[0].Name, ".")
		if n, err := strconv.Atoi(low); err == nil {
			answer.Rcode = dns.RcodeSuccess
			answer.Answer = append(answer.Answer, &dns.TXT{
				Hdr: dns.RR_Header{Name: q.Question[0].Name, Rrtype: dns.TypeTXT, Class: dns.ClassINET, Ttl: 60},
				Txt: []string{fmt.Sprintf("abuse@net%d.example", n%8)},
			})
		}
	}
	_ = w.WriteMsg(answer)
}

// starting is the command that starts the daemon, which trusts the servers and asks the name server.
func (a *audience) starting() *exec.Cmd {
	cmd := exec.Command("unshare", "--mount", "sh", "-c", `mount --bind "$0" /etc/resolv.conf && exec "$@"`,
		filepath.Join(a.dir, "resolv.conf"), program, "run", "-c", a.dir, "--socket", filepath.Join(a.dir, "s"))
	cmd.Env = append(os.Environ(), "SSL_CERT_FILE="+filepath.Join(a.dir, "ca.pem"))
	return cmd
}

// mailed is the mail server's word on each command.
func (a *audience) mailed(verb, _ string) smtptest.Reply {
	a.mu.Lock()
	first, mood := a.first, a.mood
	a.mu.Unlock()
	switch {
	case mood == hanging:
		return smtptest.Reply{Hang: true}
	case mood == busy && verb == "MAIL":
		return smtptest.Reply{Code: 451}
	case verb == "DATA" && !first("mail"):
		return smtptest.Reply{Drop: true}
	}
	return smtptest.Reply{}
}

// posted is the web server. Of AbuseIPDB it does what the documentation says: an address that was reported a
// moment ago is refused.
func (a *audience) posted(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		panic(http.ErrAbortHandler) // killed while it wrote
	}
	a.mu.Lock()
	first, mood := a.first, a.mood
	a.mu.Unlock()
	switch {
	case mood == hanging:
		<-r.Context().Done()
		panic(http.ErrAbortHandler)
	case mood == busy:
		w.WriteHeader(http.StatusServiceUnavailable)
		return
	case !first("web"):
		panic(http.ErrAbortHandler)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if r.URL.Path == "/report" {
		form, err := url.ParseQuery(string(body))
		if err != nil {
			a.Errorf("the list is told %q: %v", body, err)
		}
		ip := form.Get("ip")
		again := slices.ContainsFunc(a.arrived[toList], func(b arrival) bool { return b.key == ip })
		a.arrived[toList] = append(a.arrived[toList], arrival{ip, 1, []string{ip}})
		if again {
			w.WriteHeader(http.StatusTooManyRequests)
			_, _ = io.WriteString(w, `{"errors":[{"detail":"You can only report the same IP address (`+"`"+ip+"`"+`) once in 15 minutes.","status":429}]}`)
		}
		return
	}
	var object struct {
		Bans   map[string]int `json:"bans"`
		Events []struct {
			Ban bantam.Ban `json:"ban"`
		} `json:"events"`
	}
	if err := json.Unmarshal(body, &object); err != nil {
		a.Errorf("the hook is told %q: %v", body, err)
	}
	one := arrival{key: r.Header.Get("Idempotency-Key"), bans: object.Bans["sshd"]}
	for _, e := range object.Events {
		one.about = append(one.about, strings.TrimSuffix(e.Ban.ID.String(), "/32"))
	}
	a.arrived[toHook] = append(a.arrived[toHook], one)
}

// manyBans is the subject of a mail about more than one.
var manyBans = regexp.MustCompile(`: ([0-9,]+) bans in `)

// all is what has arrived, by receiver, in the order in which it came.
func (a *audience) all() map[string][]arrival {
	a.Helper()
	a.mu.Lock()
	out := map[string][]arrival{toHook: slices.Clone(a.arrived[toHook]), toList: slices.Clone(a.arrived[toList])}
	a.mu.Unlock()
	for _, m := range a.mail.Mails() {
		read, err := m.Read()
		a.check(err)
		about := attacking.FindAllString(read.Text, -1)
		slices.Sort(about)
		one := arrival{read.Header.Get("Message-Id"), 1, slices.Compact(about)}
		to := toOperator
		if many := manyBans.FindStringSubmatch(read.Subject); many != nil {
			one.bans, err = strconv.Atoi(strings.ReplaceAll(many[1], ",", ""))
			a.check(err)
		}
		if m.From == "abuse@example.org" {
			to, one.bans = toDesks, len(one.about)
		}
		out[to] = append(out[to], one)
	}
	return out
}

// told wants each ban to have been told once to everybody, and says how many messages came twice. At most kills
// of each channel may have: those that were on their way, under their keys.
func (a *audience) told(bans []bantam.Ban, kills int, to ...string) (twice map[string]int) {
	a.Helper()
	twice = map[string]int{}
	all := a.all()
	for _, channel := range to {
		sum, where := 0, map[string]string{}
		seen := map[string]arrival{}
		last := ""
		for _, one := range all[channel] {
			if one.key == "" {
				a.Errorf("%s: a message without a key", channel)
			}
			if first, again := seen[one.key]; again {
				twice[channel]++
				if one.key != last {
					a.Errorf("%s: %s comes again, though it was not the one on its way", channel, one.key)
				}
				if first.bans != one.bans || !slices.Equal(first.about, one.about) {
					a.Errorf("%s: %s is another message the second time", channel, one.key)
				}
				continue
			}
			seen[one.key], last = one, one.key
			sum += one.bans
			for _, who := range one.about {
				if other, doubled := where[who]; doubled {
					a.Errorf("%s: %s is in %s and in %s", channel, who, other, one.key)
				}
				where[who] = one.key
			}
		}
		if sum != len(bans) {
			a.Errorf("%s: %d bans were told in %d messages, %d were decided", channel, sum, len(seen), len(bans))
		}
		var missed []string
		for _, b := range bans {
			if who := strings.TrimSuffix(b.ID.String(), "/32"); where[who] == "" {
				missed = append(missed, who)
			}
		}
		if reports := channel == toDesks || channel == toList; reports && len(missed) > 0 {
			a.Errorf("%s: nobody reported %d attackers, among them %s", channel, len(missed), missed[0])
		}
		if twice[channel] > kills {
			a.Errorf("%s: %d messages came twice", channel, twice[channel])
		}
	}
	return twice
}

// letters are the messages that wait, for all channels, and how many bans are gathered for messages to come.
func (a *audience) letters() (waiting []outbox.Letter, gathered int) {
	a.Helper()
	c, err := control.Call(a.Context(), a.client, control.GetChannels, control.None{})
	a.check(err)
	for _, one := range c.Channels {
		gathered += one.Gathered
	}
	return c.Letters, gathered
}

// opened hands out the database of a daemon that has ended.
func (a *audience) opened(do func(*store.Store)) {
	a.Helper()
	s, err := store.Open(a.Context(), slog.New(slog.DiscardHandler), filepath.Join(a.dir, "bantam.db"))
	a.check(err)
	do(s)
	a.check(s.Close())
}

// untold is how many decisions are still to be read by a channel's author. The daemon has ended.
func (a *audience) untold(readers ...string) (n int) {
	a.Helper()
	a.opened(func(s *store.Store) {
		for _, reader := range readers {
			news, err := s.News(a.Context(), reader, 1)
			a.check(err)
			n += len(news)
		}
	})
	return n
}

// timePasses for the reports, between two lives of the daemon: a desk gets one mail in an hour, after five minutes,
// a list a thousand reports in a day, and no test waits for that.
func (a *audience) timePasses() {
	a.Helper()
	a.opened(func(s *store.Store) {
		for channel, much := range map[string]time.Duration{toDesks: time.Hour, toList: 24 * time.Hour} {
			reader := "report/" + channel
			note, _, err := s.Note(a.Context(), reader, "state")
			a.check(err)
			if note == nil {
				continue
			}
			var state any
			a.check(json.Unmarshal(note, &state))
			note, err = json.Marshal(earlier(state, much))
			a.check(err)
			a.check(s.Commit(a.Context(), reader, outbox.Batch{Notes: map[string][]byte{"state": note}}))
		}
	})
}

// earlier is a value of JSON with all times in it so much earlier: texts in their format, and numbers that are
// seconds since 1970.
func earlier(v any, much time.Duration) any {
	switch v := v.(type) {
	case map[string]any:
		for key, value := range v {
			v[key] = earlier(value, much)
		}
	case []any:
		for i, value := range v {
			v[i] = earlier(value, much)
		}
	case string:
		if at, err := time.Parse(time.RFC3339Nano, v); err == nil && !at.IsZero() {
			return at.Add(-much).Format(time.RFC3339Nano)
		}
	case float64:
		if v > 1e9 {
			return int64(v) - int64(much/time.Second)
		}
	}
	return v
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// Killed at random moments while it tells, also just before and just after a receiver has taken a message, the
// daemon tells of each ban once and reports each attacker once, whatever waits in digests; what comes twice is
// what was on its way, with the key by which its receiver knows it. BANTAM_KILLS=100 has it killed a hundred times.
func TestKilledWhileTelling(t *testing.T) {
	kills := 10
	if n, err := strconv.Atoi(os.Getenv("BANTAM_KILLS")); err == nil {
		kills = n
	}
	seed := rand.Uint64()
	rng := rand.New(rand.NewPCG(seed, 5))
	t.Logf("seed %d", seed)
	a := newAudience(t, tellingJail)
	attacks := 0
	attack := func() (lines int) {
		text := ""
		for range 1 + rng.IntN(4) {
			text += strings.Repeat(failed(address(attacks)), 3)
			attacks++
			lines += 3
		}
		a.log("auth.log", text)
		return lines
	}
	readers := []string{"notify/" + toOperator, "notify/" + toHook, "report/" + toDesks, "report/" + toList}
	// A calm life ends when everybody has been told everything. Desks take one mail in an hour.
	calm := func() {
		for waits := true; waits; {
			a.timePasses()
			p := a.startAs(a.starting()).ready()
			a.until("all are banned", func() bool { return len(a.bans()) == attacks })
			a.until("nothing waits to be sent", func() bool {
				letters, gathered := a.letters()
				return len(letters) == 0 && gathered == 0
			})
			reports, err := control.Call(a.Context(), a.client, control.GetReports, control.None{})
			a.check(err)
			waits = slices.ContainsFunc(reports.Reports, func(r report.Sent) bool { return r.State != report.Delivered })
			p.terminate()
			waits = waits || a.untold(readers...) > 0
		}
	}
	where := map[string]int{}
	for kill := range kills {
		if kill%20 == 19 {
			calm() // no more than a thousand addresses may wait to be reported
		}
		lines := attack()
		// It dies when so many messages have come by mail or by web, or when it has printed so many lines: one at least for
		// each that it reads.
		by, after, taken := []string{"mail", "web", "print"}[rng.IntN(3)], 1+rng.IntN(3), rng.IntN(2) == 0
		struck := make(chan struct{})
		p := a.startAs(a.starting())
		if by != "print" {
			var once sync.Once
			left := after
			a.mu.Lock()
			a.first = func(way string) bool {
				if way != by {
					return true
				}
				a.mu.Lock()
				left--
				now := left == 0
				a.mu.Unlock()
				if now {
					once.Do(func() {
						close(struck)
						_ = p.cmd.Process.Kill()
					})
				}
				return !now || taken
			}
			a.mu.Unlock()
		}
		lines += attack()
		if by == "print" {
			for range 1 + rng.IntN(lines) {
				<-p.lines
			}
			close(struck)
		}
		said := ""
		for more, died := time.Tick(50*time.Millisecond), false; !died; {
			select {
			case <-struck:
				died = true
			case <-more:
				attack()
			case line, lives := <-p.lines:
				if died = !lives; died && !isClosed(struck) {
					t.Fatalf("seed %d: the daemon ends by itself:\n%s", seed, said)
				}
				said += line + "\n"
			}
		}
		p.kill()
		where[by]++
		a.mu.Lock()
		a.first = func(string) bool { return true }
		a.mu.Unlock()
		a.timePasses()
	}

	calm()
	bans := stored(t, a.host)
	if len(bans) != attacks {
		t.Errorf("seed %d: %d bans of %d attackers", seed, len(bans), attacks)
	}
	twice := a.told(bans, kills, toOperator, toHook, toDesks, toList)
	all := a.all()
	t.Logf("killed %v; %d bans; messages, and how many came twice: mails %d (%d), webhook %d (%d), mails to desks %d (%d), reports to a list %d (%d)",
		where, len(bans), len(all[toOperator]), twice[toOperator], len(all[toHook]), twice[toHook],
		len(all[toDesks]), twice[toDesks], len(all[toList]), twice[toList])
	if len(all[toDesks]) == 0 || len(all[toOperator]) < kills/4 {
		t.Errorf("seed %d: the test tries nothing", seed)
	}
}

// become changes how the servers behave.
func (a *audience) become(m mood) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.mood = m
}

// stops stops the daemon and says how long that takes.
func (p *process) stops() time.Duration {
	p.Helper()
	begin := time.Now()
	p.terminate()
	return time.Since(begin)
}

// While every receiver hangs, bans go on, and a stop does not wait for them, but for five seconds where somebody wants to be
// told of it. What was to be told is told by the next run.
func TestReceiversThatHang(t *testing.T) {
	t.Parallel() // it waits for a stop
	a := newAudience(t, tellingJail)
	a.become(hanging)
	p := a.startAs(a.starting()).ready()
	a.attacked(100)
	a.until("something is on its way", func() bool {
		letters, _ := a.letters()
		reports, err := control.Call(t.Context(), a.client, control.GetReports, control.None{})
		a.check(err)
		return len(letters) > 0 && slices.ContainsFunc(reports.Reports, func(r report.Sent) bool { return r.State == report.Waits })
	})
	if took := p.stops(); took > time.Second {
		t.Errorf("the stop takes %s", took)
	}

	a.configure(strings.Replace(tellingJail, "digest=0.2]", `digest=0.2, on="ban,stop"]`, 1))
	p = a.startAs(a.starting()).ready()
	// The letters of before were tried once: the stop waits for its own only.
	if took := p.stops(); took > 6*time.Second {
		t.Errorf("the stop that is told takes %s", took)
	}

	a.become(willing)
	a.configure(tellingJail)
	p = a.startAs(a.starting()).ready()
	a.until("nothing waits to be sent", func() bool {
		letters, gathered := a.letters()
		return len(letters) == 0 && gathered == 0 && a.heard(toHook) == 100 && a.heard(toList) == 100
	})
	p.terminate()
	a.told(stored(t, a.host), 0, toHook, toList)
}

// A hundred reloads that change who is told leave nothing behind: no goroutine, no descriptor, no letter that nobody sends.
func TestReloadsThatChangeWhoIsTold(t *testing.T) {
	a := newAudience(t, tellingJail)
	p := a.startAs(a.starting()).ready()
	parts := strings.SplitAfter(tellingJail, "%(action_)s\n")
	channels := strings.SplitAfter(strings.TrimSuffix(parts[1], "\n"), "\n")
	var tenth figures
	attacks := 0
	for turn := 1; turn <= 100; turn++ {
		var chosen strings.Builder
		for i, c := range channels {
			// The webhook stays, in two forms; the others come and go.
			if i != 1 && turn>>i&1 == 1 && turn%10 != 0 {
				continue
			}
			if i == 1 && turn%3 == 0 && turn%10 != 0 {
				c = strings.Replace(c, "digest=0.2", "digest=0", 1)
			}
			chosen.WriteString(strings.TrimSuffix(c, "\n") + "\n")
		}
		a.become(mood(turn % 4 % 2))
		a.configure(parts[0] + chosen.String())
		a.run("reload")
		a.log("auth.log", strings.Repeat(failed(address(attacks)), 3))
		attacks++
		if turn%10 != 0 || turn != 10 && turn != 100 {
			continue
		}
		a.until("nothing waits to be sent", func() bool {
			letters, gathered := a.letters()
			return len(letters) == 0 && gathered == 0 && a.heard(toHook) == attacks
		})
		f := p.usage()
		t.Logf("after %d reloads: %+v", turn, f)
		if turn == 10 {
			tenth = f
		} else if f.goroutines > tenth.goroutines+5 || f.files > tenth.files+5 {
			t.Errorf("after %d reloads it uses %+v, after 10 it used %+v", turn, f, tenth)
		}
	}
	p.terminate()
	a.told(stored(t, a.host), 0, toHook)
}

// heard is how many bans a receiver was told of.
func (a *audience) heard(channel string) (n int) {
	a.Helper()
	for _, one := range a.all()[channel] {
		n += one.bans
	}
	return n
}

// usage is what the daemon uses now.
func (p *process) usage() figures {
	p.Helper()
	st, err := control.Call(p.Context(), p.client, control.GetStatus, control.None{})
	p.check(err)
	proc := fmt.Sprintf("/proc/%d/", p.cmd.Process.Pid)
	files, err := os.ReadDir(proc + "fd")
	p.check(err)
	threads, err := os.ReadDir(proc + "task")
	p.check(err)
	return figures{st.Memory, st.Goroutines, len(files), len(threads), len(p.children())}
}

// On a disk that is full while messages wait, nothing crashes and bans go on; once there is room again, all are told,
// once.
func TestAFullDiskWhileMessagesWait(t *testing.T) {
	t.Parallel() // it waits for the pauses after the database's errors
	a := newAudience(t, tellingJail)
	a.become(busy)
	disk := filepath.Join(a.dir, "disk")
	a.onDisk("")
	cmd := a.starting()
	cmd.Args = append([]string{"unshare", "--mount", "sh", "-c", `mount -t tmpfs -o "$0" disk "$1" && shift && exec "$@"`, "size=600k", disk}, cmd.Args...)
	p := a.startAs(cmd).ready()
	unsaved := func() int {
		st, err := control.Call(t.Context(), a.client, control.GetStatus, control.None{})
		a.check(err)
		return st.Unsaved
	}
	const n = 2000
	a.attacked(n)
	a.until("the disk is full", func() bool { return unsaved() > 0 })
	a.become(willing)
	a.run("reload") // what waits is tried at once
	out, err := exec.CommandContext(t.Context(), "nsenter", "--mount", "--target", strconv.Itoa(p.cmd.Process.Pid),
		"mount", "-o", "remount,size=64m", disk).CombinedOutput()
	if err != nil {
		t.Fatalf("make room: %v: %s", err, out)
	}
	a.until("all is stored", func() bool { return unsaved() == 0 })
	a.until("all is told", func() bool {
		letters, gathered := a.letters()
		return len(letters) == 0 && gathered == 0 && a.heard(toHook) >= n && a.heard(toOperator) >= n
	})
	a.told(a.bans(), 0, toHook, toOperator)
	p.terminate()
}

// Thousands of bans in a few seconds are a handful of mails, which say how many there were.
func TestAFloodIsAHandfulOfMails(t *testing.T) {
	a := newAudience(t, `[sshd]
enabled = true
logpath = DIR/auth.log
action = %(action_)s
         smtp[to=admin@example.org, from=bantam@example.org, relay="MAIL", digest=3]
`)
	p := a.startAs(a.starting()).ready()
	const n = 10_000
	a.attacked(n)
	a.until("all is told", func() bool { return a.heard(toOperator) >= n })
	mails := a.all()[toOperator]
	a.told(a.bans(), 0, toOperator)
	if len(mails) > 6 {
		t.Errorf("%d mails", len(mails))
	}
	p.terminate()
}
