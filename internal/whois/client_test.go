package whois

import (
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
)

var target = netip.MustParseAddr("9.9.9.9")

// look looks up an address whose answer must come.
func look(t *testing.T, c *Client, addr string) Answer {
	t.Helper()
	a, err := c.Lookup(t.Context(), netip.MustParseAddr(addr))
	if err != nil {
		t.Fatalf("Lookup(%s): %v", addr, err)
	}
	checkAnswer(t, a, netip.MustParseAddr(addr))
	return a
}

// fails is how long a lookup took that must not work, and its error.
func fails(t *testing.T, c *Client, addr netip.Addr) (time.Duration, error) {
	t.Helper()
	began := time.Now()
	a, err := c.Lookup(t.Context(), addr)
	if err == nil {
		t.Fatalf("Lookup(%s) = %+v, want an error", addr, a)
	}
	return time.Since(began), err
}

func TestNobodyIsAskedAboutAddressesOfNobody(t *testing.T) {
	w := rdapWorld(shows(network("0.0.0.0/8", "abuse@example.net")))
	c := w.client(nil)
	for _, addr := range []string{
		"0.0.0.1", "10.1.2.3", "100.64.0.1", "127.0.0.1", "169.254.1.1", "172.31.255.255", "192.0.2.7", "192.168.1.1",
		"198.18.0.1", "198.51.100.9", "203.0.113.5", "224.0.0.1", "240.0.0.1", "255.255.255.255",
		"::", "::1", "::ffff:10.0.0.1", "64:ff9b::808:808", "fe80::1", "fc00::1", "fd12::1", "ff02::1",
		"2001:db8::1", "2001::1", "2002:a00:1::1", "3fff::1", "4000::1",
	} {
		if _, err := c.Lookup(t.Context(), netip.MustParseAddr(addr)); !errors.Is(err, ErrNotPublic) || !strings.Contains(err.Error(), "not a public address") {
			t.Errorf("Lookup(%s): %v, want ErrNotPublic", addr, err)
		}
		if _, err := c.Contacts(t.Context(), netip.MustParseAddr(addr), []string{DNS, RDAP, WHOIS}); !errors.Is(err, ErrNotPublic) {
			t.Errorf("Contacts(%s): %v, want ErrNotPublic", addr, err)
		}
	}
	if _, err := c.Lookup(t.Context(), netip.Addr{}); !errors.Is(err, ErrNotPublic) {
		t.Errorf("Lookup of no address: %v", err)
	}
	if len(w.asked) > 0 {
		t.Errorf("somebody was asked: %v", w.asked)
	}
}

func TestLookupByRDAP(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := rdapWorld(func(rw http.ResponseWriter, r *http.Request) {
			if got := r.Header.Get("Accept"); !strings.Contains(got, "application/rdap+json") {
				t.Errorf("Accept: %q", got)
			}
			io.WriteString(rw, network("9.9.9.0/24", "abuse@EXAMPLE.net"))
		})
		a := look(t, w.client(nil), "9.9.9.9")
		want := Answer{
			Network: netip.MustParsePrefix("9.9.9.0/24"), Name: "TEST-NET", Country: "NL",
			Abuse: []string{"abuse@example.net"}, Source: RDAP, At: time.Now(),
		}
		if !strings.Contains(a.Text, "9.9.9.0/24") || !strings.Contains(a.Text, "abuse@example.net") {
			t.Errorf("text %q", a.Text)
		}
		a.Text = ""
		if fmt.Sprint(a) != fmt.Sprint(want) {
			t.Errorf("got  %+v\nwant %+v", a, want)
		}
		if got := w.visits("rdap.test"); len(got) != 1 || got[0].question != "/ip/9.9.9.9" {
			t.Errorf("asked %v", got)
		}
	})
}

func TestWHOISIsAskedWhereThereIsNoRDAP(t *testing.T) {
	for name, rdap := range map[string]http.HandlerFunc{
		"it does not know":             status(404),
		"it fails":                     status(500),
		"it writes no JSON":            shows("<html>moved</html>"),
		"it speaks of another network": shows(network("20.0.0.0/16", "abuse@example.org")),
		"it speaks of everything":      shows(network("0.0.0.0/0", "abuse@example.org")),
		"it sends a byte a second":     func(w http.ResponseWriter, _ *http.Request) { trickle(w) },
		"it nests 10,000 deep":         shows(strings.Repeat(`{"entities":[`, 10000)),
		"it nests lists 200,000 deep":  shows(strings.Repeat(`[`, 200000)),
		"it packs 4 MB into 4 KB":      packed,
		"it redirects in a circle":     status(302, "Location", "https://rdap.test/ip/9.9.9.9"),
		"it redirects to plain HTTP":   status(302, "Location", "http://rdap.test/ip/9.9.9.9"),
		"it redirects to a file":       status(302, "Location", "file:///etc/passwd"),
		"it redirects to nonsense":     status(302, "Location", "https://[::1"),
		"it redirects to nobody":       status(302),
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := whoisWorld(says("inetnum: 9.9.9.0 - 9.9.9.255\nnetname: OLD-NET\nabuse-mailbox: abuse@example.net\n"))
				w.web = rdapWorld(rdap).web
				began := time.Now()
				a := look(t, w.client(nil), "9.9.9.9")
				if a.Source != WHOIS || a.Name != "OLD-NET" || !slices.Equal(a.Abuse, []string{"abuse@example.net"}) {
					t.Errorf("answer %+v", a)
				}
				if took := time.Since(began); took > 25*time.Second {
					t.Errorf("took %s", took)
				}
				if n := len(w.visits("rdap.test")); n < 1 || n > maxRedirects+1 {
					t.Errorf("the RDAP server was asked %d times", n)
				}
				w.serving.Wait()
			})
		})
	}
}

// packed answers with much more than it sends.
func packed(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Encoding", "gzip")
	z := gzip.NewWriter(w)
	defer z.Close()
	io.WriteString(z, network("9.9.9.0/24", "abuse@example.org"))
	io.WriteString(z, strings.Repeat(" ", 4<<20))
}

func TestRedirectsAreFollowed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := rdapWorld(status(301, "Location", "https://other.test/rdap/ip/9.9.9.9"))
		w.web["other.test"] = func(rw http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/rdap/ip/9.9.9.9" {
				rw.Header().Set("Location", "v2/9.9.9.9")
				rw.WriteHeader(307)
				return
			}
			io.WriteString(rw, network("9.9.0.0/16", "abuse@example.net"))
		}
		look(t, w.client(nil), "9.9.9.9")
		if got := w.visits("other.test"); len(got) != 2 || got[1].question != "/rdap/ip/v2/9.9.9.9" {
			t.Errorf("asked %v", got)
		}
	})
}

func TestAnEndlessAnswerIsNotRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var web, whois int
		var reading sync.WaitGroup
		reading.Add(2)
		w := whoisWorld(func(_ string, w io.Writer) { defer reading.Done(); flood(w, &whois) })
		w.web = rdapWorld(func(w http.ResponseWriter, _ *http.Request) { defer reading.Done(); flood(w, &web) }).web
		_, err := fails(t, w.client(nil), target)
		reading.Wait()
		if web > 1<<20 || whois > 1<<20 {
			t.Errorf("%d bytes were read of RDAP and %d of WHOIS", web, whois)
		}
		if !strings.Contains(err.Error(), "longer than 262144 bytes") {
			t.Errorf("error %v", err)
		}
	})
}

func TestEveryServerHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := whoisWorld(func(_ string, w io.Writer) { trickle(w) })
		w.web = rdapWorld(func(w http.ResponseWriter, _ *http.Request) { trickle(w) }).web
		c := w.client(nil)
		took, err := fails(t, c, target)
		if took > 25*time.Second || errors.Is(err, ErrUnknown) {
			t.Errorf("after %s: %v", took, err)
		}
		for _, server := range []string{"rdap.test", "whois.test.net"} {
			if !strings.Contains(err.Error(), "ask "+server) {
				t.Errorf("the error does not name %s: %v", server, err)
			}
		}
		// Somebody else's address does not wait for the same servers again.
		if took, err := fails(t, c, netip.MustParseAddr("9.1.1.1")); took > time.Second {
			t.Errorf("the next one took %s: %v", took, err)
		}
		if n := len(w.visits("rdap.test")); n != 1 {
			t.Errorf("asked %d times", n)
		}
		// Later they are asked again.
		time.Sleep(2 * time.Minute)
		fails(t, c, netip.MustParseAddr("9.1.1.1"))
		if n := len(w.visits("rdap.test")); n != 2 {
			t.Errorf("asked %d times", n)
		}
		w.serving.Wait()
	})
}

func TestCallersCanGoAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := rdapWorld(func(rw http.ResponseWriter, r *http.Request) {
			select {
			case <-time.After(8 * time.Second):
			case <-r.Context().Done():
				return
			}
			io.WriteString(rw, network("9.9.9.0/24", "abuse@example.net"))
		})
		c := w.client(nil)
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		if _, err := c.Lookup(ctx, target); !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "9.9.9.9") {
			t.Errorf("error %v", err)
		}
		// The next is not told that there was trouble, and who waits for its answer can go, too.
		var first sync.WaitGroup
		first.Go(func() { look(t, c, "9.9.9.9") })
		synctest.Wait()
		began := time.Now()
		ctx, cancel = context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := c.Lookup(ctx, target); !errors.Is(err, context.DeadlineExceeded) || time.Since(began) > time.Second {
			t.Errorf("after %s: %v", time.Since(began), err)
		}
		first.Wait()
		if n := len(w.visits("rdap.test")); n != 2 {
			t.Errorf("asked %d times", n)
		}

		// Nor does a WHOIS server hold anybody.
		w = whoisWorld(func(_ string, w io.Writer) { trickle(w) })
		began = time.Now()
		ctx, cancel = context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		if _, err := w.client(nil).Contacts(ctx, target, []string{WHOIS}); !errors.Is(err, context.DeadlineExceeded) || time.Since(began) > 3*time.Second {
			t.Errorf("after %s: %v", time.Since(began), err)
		}
		w.serving.Wait()
	})
}

// The same on real sockets, with TLS, where no goroutine and no connection may be left either.
func TestLookupOnLoopback(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	web := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/rdap/ipv4.json":
			io.WriteString(w, oneService)
		case "/ip/9.9.9.9":
			w.Header().Set("Content-Type", "application/rdap+json")
			io.WriteString(w, arinRDAP)
		default:
			http.NotFound(w, r)
		}
	}))
	defer web.Close()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var serving sync.WaitGroup
	defer serving.Wait()
	defer l.Close()
	replies := []string{"refer: whois.test.net\n", strings.ReplaceAll(afrinicReply, "9.9.0.0 - 9.9.3.255", "9.8.0.0/16")}
	serving.Go(func() {
		for _, reply := range replies {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			io.CopyN(io.Discard, conn, int64(len("9.8.7.6\r\n")))
			io.WriteString(conn, reply)
			conn.Close()
		}
	})
	transport := web.Client().Transport.(*http.Transport)
	defer transport.CloseIdleConnections()
	toLoopback := func(address string) func(context.Context, string, string) (net.Conn, error) {
		return func(ctx context.Context, network, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, network, address)
		}
	}
	transport.DialContext = toLoopback(web.Listener.Addr().String())
	transport.TLSClientConfig.ServerName = "example.com" // the name in its certificate
	c := New(Config{Transport: transport, Dial: toLoopback(l.Addr().String())})
	if a := look(t, c, "9.9.9.9"); a.Source != RDAP || a.Org != "Example, Inc." {
		t.Errorf("%+v", a)
	}
	contacts, err := c.Contacts(t.Context(), netip.MustParseAddr("9.8.7.6"), []string{WHOIS})
	if err != nil || !slices.Equal(contacts, []string{"desk@example.co.za"}) {
		t.Errorf("%v, %v", contacts, err)
	}
}

func TestQuestionsAboutOneNetworkAreOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := rdapWorld(func(rw http.ResponseWriter, _ *http.Request) {
			time.Sleep(2 * time.Second) // inside a bubble
			io.WriteString(rw, network("9.9.0.0/17", "abuse@example.net"))
		})
		c := w.client(nil)
		var all sync.WaitGroup
		for i := range 100 {
			all.Go(func() {
				addr := fmt.Sprintf("9.9.%d.%d", i, i)
				if a := look(t, c, addr); a.Network.String() != "9.9.0.0/17" {
					t.Errorf("%s is in %s", addr, a.Network)
				}
			})
		}
		all.Wait()
		if n := len(w.visits("rdap.test")); n != 1 {
			t.Errorf("asked %d times", n)
		}
		// An address beyond that network is another question.
		if _, err := c.Lookup(t.Context(), netip.MustParseAddr("9.9.200.1")); err == nil {
			t.Error("an answer about another network was taken")
		}
		if n := len(w.visits("rdap.test")); n != 2 {
			t.Errorf("asked %d times", n)
		}
	})
}

func TestAWideNetworkAnswersForTheNeighbourhoodOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := rdapWorld(shows(network("9.0.0.0/8", "abuse@example.net")))
		c := w.client(nil)
		look(t, c, "9.9.9.9")
		look(t, c, "9.9.200.1")
		if n := len(w.visits("rdap.test")); n != 1 {
			t.Errorf("asked %d times within 9.9.0.0/16", n)
		}
		look(t, c, "9.10.0.1")
		if n := len(w.visits("rdap.test")); n != 2 {
			t.Errorf("asked %d times", n)
		}
	})
}

// stormy looks up many networks at once and counts those that get an answer.
func stormy(c *Client, ctx context.Context, networks int) (answered, busy int) {
	var mu sync.Mutex
	var all sync.WaitGroup
	for i := range networks {
		all.Go(func() {
			_, err := c.Contacts(ctx, netip.AddrFrom4([4]byte{9, byte(i), 0, 1}), []string{RDAP})
			mu.Lock()
			defer mu.Unlock()
			switch {
			case err == nil:
				answered++
			case errors.Is(err, errBusy):
				busy++
			}
		})
	}
	all.Wait()
	return answered, busy
}

func TestAStormDoesNotReachTheServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := rdapWorld(func(rw http.ResponseWriter, r *http.Request) {
			addr := netip.MustParseAddr(strings.TrimPrefix(r.URL.Path, "/ip/"))
			io.WriteString(rw, network(netip.PrefixFrom(addr, 16).Masked().String(), "abuse@example.net"))
		})
		c := w.client(nil)
		if answered, busy := stormy(c, t.Context(), 200); answered < 30 || answered > 33 || answered+busy != 200 {
			t.Errorf("%d answered, %d left", answered, busy)
		}
		visits := w.visits("rdap.test")
		for i := 1; i < len(visits); i++ {
			if gap := visits[i].at.Sub(visits[i-1].at); gap < betweenQuestions {
				t.Errorf("question %d came %s after the one before", i, gap)
			}
		}
		// Nobody waits beyond its deadline for a turn that comes later.
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		time.Sleep(time.Minute)
		// The deadline has passed in between: nothing is asked at all.
		if answered, busy := stormy(c, ctx, 200); answered > 33 || busy != 0 {
			t.Errorf("%d answered, %d left", answered, busy)
		}
		if n := len(w.visits("rdap.test")); n != len(visits) {
			t.Errorf("%d questions after the deadline", n-len(visits))
		}
	})
}

func TestAServerThatWantsRestGetsIt(t *testing.T) {
	for name, test := range map[string]struct {
		code   int
		header []string
		rest   time.Duration
	}{
		"seconds":        {429, []string{"Retry-After", "120"}, 2 * time.Minute},
		"a date":         {429, []string{"Retry-After", "Sat, 01 Jan 2000 00:10:00 GMT"}, 10 * time.Minute},
		"nothing":        {429, nil, time.Minute},
		"nonsense":       {429, []string{"Retry-After", "soon"}, time.Minute},
		"a year":         {429, []string{"Retry-After", "31536000"}, time.Hour},
		"a past date":    {429, []string{"Retry-After", "Sat, 01 Jan 1990 00:00:00 GMT"}, time.Second},
		"less than none": {503, []string{"Retry-After", "-5"}, time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				tired := true
				w := rdapWorld(func(rw http.ResponseWriter, r *http.Request) {
					if tired {
						status(test.code, test.header...)(rw, r)
						return
					}
					io.WriteString(rw, network("9.0.0.0/8", "abuse@example.net"))
				})
				c := w.client(nil)
				began := time.Now()
				fails(t, c, target)
				tired = false
				if rest := test.rest; rest > maxWait {
					time.Sleep(rest - time.Since(began) - maxWait - 2*time.Second)
					fails(t, c, netip.MustParseAddr("9.8.8.8"))
					time.Sleep(3 * time.Second)
				}
				look(t, c, "9.7.7.7")
				visits := w.visits("rdap.test")
				if len(visits) != 2 {
					t.Fatalf("asked %v", visits)
				}
				if rest := visits[1].at.Sub(visits[0].at); rest < test.rest-time.Second || rest > test.rest+time.Second {
					t.Errorf("it got %s of rest, want %s", rest, test.rest)
				}
			})
		})
	}
}

func TestAWHOISServerThatHadEnoughIsLeftAlone(t *testing.T) {
	for _, reply := range []string{
		"%ERROR:201: access denied for 192.0.2.1\n%\n% Sorry, access from your host has been permanently denied.\n",
		"\n% Joint Whois\n% Query rate limit exceeded\n",
	} {
		synctest.Test(t, func(t *testing.T) {
			w := whoisWorld(says(reply))
			c := w.client(nil)
			for i := range 3 {
				_, err := fails(t, c, netip.AddrFrom4([4]byte{9, byte(i), 0, 1}))
				if errors.Is(err, ErrUnknown) {
					t.Errorf("%v", err)
				}
				time.Sleep(15 * time.Minute)
			}
			if n := len(w.visits("whois.test.net")); n != 1 {
				t.Errorf("asked %d times within the hour", n)
			}
		})
	}
}

func TestAnswersAreRemembered(t *testing.T) {
	for name, test := range map[string]struct {
		serve   http.HandlerFunc
		holds   time.Duration
		restart bool // it holds across one
	}{
		"an answer for a day":           {shows(network("9.9.9.0/24", "abuse@example.net")), 24 * time.Hour, true},
		"that nobody knows for an hour": {status(404), time.Hour, true},
		"trouble for five minutes":      {status(500), 5 * time.Minute, false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := rdapWorld(test.serve)
				cache := &notebook{}
				c := w.client(cache)
				ask := func() (string, error) {
					contacts, err := c.Contacts(t.Context(), target, []string{RDAP})
					return fmt.Sprint(contacts), err
				}
				first, firstErr := ask()
				time.Sleep(test.holds - time.Second)
				if again, err := ask(); again != first || (err == nil) != (firstErr == nil) || errors.Is(err, ErrUnknown) != errors.Is(firstErr, ErrUnknown) {
					t.Errorf("first %s, %v, then %s, %v", first, firstErr, again, err)
				}
				want := 1
				if n := len(w.visits("rdap.test")); n != want {
					t.Errorf("asked %d times, want %d", n, want)
				}
				c = w.client(cache)
				ask()
				if !test.restart {
					want++
				}
				if n := len(w.visits("rdap.test")); n != want {
					t.Errorf("asked %d times after a restart, want %d", n, want)
				}
				if test.restart {
					time.Sleep(2 * time.Second)
					ask()
					if n := len(w.visits("rdap.test")); n != 2 {
						t.Errorf("asked %d times after the time was up, want 2", n)
					}
				}
				if n := len(w.visits("data.iana.org")); n > 2 || n < 1 {
					t.Errorf("IANA was asked %d times", n)
				}
			})
		})
	}
}

func TestABrokenCacheDoesNoHarm(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := rdapWorld(shows(network("9.9.9.0/24", "abuse@example.net")))
		look(t, w.client(&notebook{err: errors.New("disk full")}), "9.9.9.9")

		cache := &notebook{}
		for i := range maxNotes {
			cache.SetNote(t.Context(), fmt.Sprintf("answers-%03x", i), []byte(`[{"way":5}]`))
		}
		cache.SetNote(t.Context(), "bootstrap-ipv4", []byte("{"))
		look(t, w.client(cache), "9.9.9.9")
		look(t, w.client(cache), "9.9.9.8")
		if n := len(w.visits("rdap.test")); n != 2 {
			t.Errorf("asked %d times: the damaged note was not written anew", n)
		}
	})
}

func TestTheMemoryStaysSmall(t *testing.T) {
	c := (&world{}).client(nil)
	text := strings.Repeat("a line of a long answer\n", maxText/24)
	now := time.Now()
	for i := range 30000 {
		addr := netip.AddrFrom4([4]byte{9, byte(i >> 8), byte(i), 1})
		answer := Answer{Network: netip.PrefixFrom(addr, 24).Masked(), Source: RDAP}
		if i%10 == 0 {
			answer.Text = text
		}
		c.remember(t.Context(), newEntry(RDAP, addr, answer, nil, now))
	}
	if n, bytes := c.memory.order.Len(), c.memory.bytes; n != len(c.memory.entries) || n > maxEntries || n < 1000 || bytes > maxMemory {
		t.Errorf("%d entries, %d in the list, %d bytes", len(c.memory.entries), n, bytes)
	}
	if _, ok := c.memory.get(RDAP, netip.MustParseAddr("9.117.47.200"), now); !ok {
		t.Error("the newest is gone")
	}
	if _, ok := c.memory.get(RDAP, netip.MustParseAddr("9.0.1.1"), now); ok {
		t.Error("the oldest is still there")
	}
}

func TestTheNotesStaySmall(t *testing.T) {
	cache := &notebook{}
	c := (&world{}).client(cache)
	answer := Answer{Text: strings.Repeat("a line of a long answer\n", maxText/24), Source: RDAP}
	for i := range 12 {
		// All in one neighbourhood, and so in one note.
		addr := netip.AddrFrom4([4]byte{9, 9, byte(i), 1})
		answer.Network = netip.PrefixFrom(addr, 24).Masked()
		c.remember(t.Context(), newEntry(RDAP, addr, answer, nil, time.Now()))
	}
	if len(cache.notes) != 1 {
		t.Errorf("%d notes", len(cache.notes))
	}
	for key, value := range cache.notes {
		if len(value) > maxNote || len(value) < maxNote/2 {
			t.Errorf("note %s has %d bytes", key, len(value))
		}
	}
	c = (&world{}).client(cache)
	if e, ok := c.recall(t.Context(), RDAP, netip.MustParseAddr("9.9.11.7")); !ok || e.Answer.Text != answer.Text {
		t.Error("the newest is gone")
	}
	if _, ok := c.recall(t.Context(), RDAP, netip.MustParseAddr("9.9.0.7")); ok {
		t.Error("the oldest is still there")
	}
	seen := map[string]bool{}
	for i := range 1 << 16 {
		seen[noteKey(netip.AddrFrom4([4]byte{byte(i >> 8), byte(i), 1, 1}))] = true
	}
	if len(seen) > maxNotes || len(seen) < maxNotes/2 {
		t.Errorf("%d notes for all of IPv4", len(seen))
	}
}

func TestServersAreKeptInMindUpToABound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var p pace
		for i := range 10 * maxServers {
			p.hold("host"+strconv.Itoa(i), time.Hour)
		}
		if len(p.next) > maxServers {
			t.Errorf("%d servers", len(p.next))
		}
		if err := p.wait(t.Context(), "host"+strconv.Itoa(10*maxServers-1)); !errors.Is(err, errBusy) {
			t.Errorf("the last of them is asked: %v", err)
		}
	})
}

func TestTheBootstrapFile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		file := `{"services":[
			[["9.0.0.0/8"],["https://big.test/"]],
			[["9.9.0.0/16","nonsense"],["http://plain.test/","https://small.test/rdap"]],
			[["20.0.0.0/8"],["http://plain.test/"]],
			[["21.0.0.0/8"]]]}`
		w := &world{web: map[string]http.HandlerFunc{
			"data.iana.org": func(rw http.ResponseWriter, r *http.Request) { io.WriteString(rw, file) },
			"big.test":      shows(network("9.8.0.0/16", "abuse@big.example")),
			"small.test":    shows(network("9.9.0.0/16", "abuse@small.example")),
		}}
		c := w.client(nil)
		if a := look(t, c, "9.9.9.9"); a.Abuse[0] != "abuse@small.example" {
			t.Errorf("the smaller prefix does not win: %v", a)
		}
		if got := w.visits("small.test"); len(got) != 1 || got[0].question != "/rdap/ip/9.9.9.9" {
			t.Errorf("asked %v", got)
		}
		if a := look(t, c, "9.8.9.9"); a.Abuse[0] != "abuse@big.example" {
			t.Errorf("%v", a)
		}
		for _, addr := range []string{"20.1.1.1", "21.1.1.1", "22.1.1.1"} {
			if _, err := c.Contacts(t.Context(), netip.MustParseAddr(addr), []string{RDAP}); !errors.Is(err, ErrUnknown) {
				t.Errorf("%s: %v", addr, err)
			}
		}
		if n := len(w.visits("data.iana.org")); n != 1 {
			t.Errorf("IANA was asked %d times", n)
		}
		// It is fetched anew each day; while that does not work, the old one holds.
		file = "no JSON"
		time.Sleep(25 * time.Hour)
		look(t, c, "9.9.9.9")
		look(t, c, "9.9.9.9")
		if n := len(w.visits("data.iana.org")); n != 2 {
			t.Errorf("IANA was asked %d times", n)
		}
		if got := w.visits("data.iana.org"); got[0].question != "/rdap/ipv4.json" {
			t.Errorf("asked for %v", got)
		}
		// So does one from before a restart.
		cache := &notebook{}
		cache.SetNote(t.Context(), "bootstrap-ipv4", []byte(`{"services":[[["9.0.0.0/8"],["https://small.test/"]]]}`))
		time.Sleep(100 * time.Hour)
		if a := look(t, w.client(cache), "9.9.9.9"); a.Abuse[0] != "abuse@small.example" {
			t.Errorf("%v", a)
		}
		if n := len(w.visits("data.iana.org")); n != 3 {
			t.Errorf("IANA was asked %d times", n)
		}
	})
}

func TestWithoutTheBootstrapFileTheRegistriesAreAsked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &world{web: map[string]http.HandlerFunc{
			"data.iana.org":     status(500),
			"rdap.arin.net":     status(503),
			"rdap.db.ripe.net":  status(301, "Location", "https://rdap.apnic.net/ip/2a00:1::1"),
			"rdap.apnic.net":    shows(network("2a00:1::/32", "abuse@example.net")),
			"rdap.lacnic.net":   status(500),
			"rdap.afrinic.net":  status(500),
			"somebody-else.net": status(500),
		}}
		if a := look(t, w.client(nil), "2a00:1::1"); a.Network.String() != "2a00:1::/32" {
			t.Errorf("%v", a)
		}
		if len(w.visits("rdap.lacnic.net"))+len(w.visits("rdap.afrinic.net")) > 0 {
			t.Error("more were asked than needed")
		}
	})
}

func TestContactsAreThoseOfTheFirstWayThatKnowsOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := whoisWorld(says("inetnum: 9.9.9.0 - 9.9.9.255\nabuse-mailbox: whois@example.net\n"))
		w.web = rdapWorld(shows(network("9.9.9.0/24", "rdap@example.net"))).web
		for _, test := range []struct {
			name string
			txt  []string
			ways []string
			want string
		}{
			{"DNS comes first and knows", []string{"dns@example.net"}, []string{DNS, RDAP, WHOIS}, "[dns@example.net]"},
			{"DNS has nothing", nil, []string{DNS, RDAP, WHOIS}, "[rdap@example.net]"},
			{"DNS has an empty record, as it has for LACNIC", []string{""}, []string{DNS, RDAP, WHOIS}, "[rdap@example.net]"},
			{"DNS lies", []string{"not an address"}, []string{DNS, WHOIS, RDAP}, "[whois@example.net]"},
			{"the order is the caller's", []string{"dns@example.net"}, []string{WHOIS, DNS}, "[whois@example.net]"},
		} {
			c := w.client(nil)
			c.resolver = texts(test.txt)
			contacts, err := c.Contacts(t.Context(), target, test.ways)
			if err != nil || fmt.Sprint(contacts) != test.want {
				t.Errorf("%s: %v, %v, want %s", test.name, contacts, err, test.want)
			}
			contacts[0] = "somebody@else.example"
			if contacts, _ = c.Contacts(t.Context(), target, test.ways); fmt.Sprint(contacts) != test.want {
				t.Errorf("%s: a caller could change what is remembered: %v", test.name, contacts)
			}
		}
		c := w.client(nil)
		if _, err := c.Contacts(t.Context(), target, []string{"phone"}); err == nil || !strings.Contains(err.Error(), `"phone"`) {
			t.Errorf("unknown way: %v", err)
		}
		if _, err := c.Contacts(t.Context(), target, []string{DNS}); !errors.Is(err, ErrUnknown) {
			t.Errorf("nothing found: %v", err)
		}
	})
}

// texts is a Resolver that has these records for every name.
type texts []string

func (r texts) LookupTXT(context.Context, string) ([]string, error) { return r, nil }

func TestConfigIsChecked(t *testing.T) {
	for zone, good := range map[string]bool{
		"": true, "abuse.example.net": true, "abuse.example.net.": true, "net": false, "a b.example": false, "192.0.2.1": false,
		"x..example": false, "-x.example": false, strings.Repeat("a.", 200) + "net": false,
	} {
		c := Config{Zone: zone}
		if err := c.Validate(); (err == nil) != good {
			t.Errorf("zone %q: %v", zone, err)
		}
	}
}

// A stranger's answer names the server to ask next, so it must not lead into the machine's own networks.
func TestServersInsideAreNotAsked(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			t.Error("somebody connected")
			conn.Close()
		}
	}()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	for _, host := range []string{"127.0.0.1", "localhost", "::ffff:127.0.0.1", "0.0.0.0"} {
		if conn, err := dialPublic(t.Context(), "tcp", net.JoinHostPort(host, port)); !errors.Is(err, ErrNotPublic) {
			t.Errorf("%s: %v, %v", host, conn, err)
		}
	}
	server := httptest.NewTLSServer(status(200))
	defer server.Close()
	req, _ := http.NewRequest(http.MethodGet, server.URL, nil)
	if res, err := New(Config{}).transport.RoundTrip(req); !errors.Is(err, ErrNotPublic) {
		t.Errorf("by HTTPS: %v, %v", res, err)
	}
}

func TestRanges(t *testing.T) {
	for _, test := range []struct{ text, addr, want string }{
		{"9.9.9.0 - 9.9.9.255", "9.9.9.9", "9.9.9.0/24"},
		{"9.9.9.9 - 9.9.9.9", "9.9.9.9", "9.9.9.9/32"},
		{"9.9.9.8 - 9.9.9.14", "9.9.9.9", "9.9.9.8/30"},
		{"9.9.9.8 - 9.9.9.14", "9.9.9.14", "9.9.9.14/32"},
		{"0.0.0.0 - 255.255.255.255", "9.9.9.9", "0.0.0.0/0"},
		{"9.9.9.0-9.9.10.255", "9.9.9.9", "9.9.9.0/24"},
		{"9.9.9.255 - 9.9.9.0", "9.9.9.9", ""},
		{"9.9.8.0 - 9.9.8.255", "9.9.9.9", ""},
		{"9.9/16", "9.9.9.9", "9.9.0.0/16"},
		{"9.9.9/24", "9.9.9.9", "9.9.9.0/24"},
		{"9.9.9.9/24", "9.9.9.9", "9.9.9.0/24"},
		{"8.0.0.0/8, 9.9.0.0/16", "9.9.9.9", "9.9.0.0/16"},
		{"2a00:1::/32", "2a00:1::1", "2a00:1::/32"},
		{"2a00:1:: - 2a00:1:ffff:ffff:ffff:ffff:ffff:ffff", "2a00:1::1", "2a00:1::/32"},
		{"2a00:1::/32", "9.9.9.9", ""},
		{":: - ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "9.9.9.9", ""},
		{"9.9.9.0/33", "9.9.9.9", ""},
		{"9.9.9.9", "9.9.9.9", ""},
		{"", "9.9.9.9", ""},
		{"-", "9.9.9.9", ""},
	} {
		got, ok := parseRange(test.text, netip.MustParseAddr(test.addr))
		if ok != (test.want != "") || ok && got.String() != test.want {
			t.Errorf("%s in %q: %v, %v, want %q", test.addr, test.text, got, ok, test.want)
		}
	}
}

func BenchmarkRemembered(b *testing.B) {
	c := New(Config{})
	addr := netip.MustParseAddr("2a00:1::1")
	c.memory.put(&entry{
		Way: RDAP, Prefix: netip.MustParsePrefix("2a00:1::/32"), Until: time.Now().Add(time.Hour),
		Answer: Answer{Network: netip.MustParsePrefix("2a00:1::/32"), Abuse: []string{"abuse@example.net"}},
	})
	b.ReportAllocs()
	for b.Loop() {
		if _, err := c.Lookup(b.Context(), addr); err != nil {
			b.Fatal(err)
		}
	}
}
