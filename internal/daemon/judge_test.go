package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"bantam"
	"bantam/internal/control"
	"bantam/internal/geo"
	"bantam/internal/jail"
	"bantam/internal/lookup"
	"bantam/library"
)

func mustAddr(t *testing.T, s string) netip.Addr {
	t.Helper()
	a, err := netip.ParseAddr(s)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// judged is in a few words what each jail makes of the last line.
func judged(reply control.JudgeReply) (out []string) {
	for _, j := range reply.Lines[len(reply.Lines)-1].Jails {
		text := j.Jail + " " + j.Stage
		if j.Rule != nil {
			text += " " + j.Rule.Option
		}
		out = append(out, text)
	}
	return out
}

func TestALineIsJudgedUpToTheStageThatRefusesIt(t *testing.T) {
	dir := folder(t, map[string]string{"jail.conf": `[DEFAULT]
backend = polling
logpath = DIR/a.log
action =
maxretry = 2
ignoreself = false
usedns = yes
[plain]
enabled = true
failregex = ^\s*gate svc: bad <HOST>$
            ^\s*gate svc: worse <F-USER>\S*</F-USER> from <HOST>$
ignoreregex = from 192\.0\.2\.66
ignoreip = 192.0.2.10
[strict]
enabled = true
prefregex = ^\s*gate svc: <F-CONTENT>.+</F-CONTENT>$
failregex = ^worst <HOST>$
findtime = 1m
[broken]
enabled = true
failregex = ^no end( <HOST>
`})
	now, d := time.Now(), running(t)
	for _, c := range []struct {
		name string
		when time.Time
		text string
		want []string
	}{
		{"a failure", now, "gate svc: bad 192.0.2.7", []string{"plain counts failregex 1", "strict failregex", "broken aside"}},
		{"the other expression", now, "gate svc: worse root from 192.0.2.7", []string{"plain counts failregex 2", "strict failregex", "broken aside"}},
		{"who is ignored", now, "gate svc: bad 192.0.2.10", []string{"plain ignored failregex 1", "strict failregex", "broken aside"}},
		{"an ignoreregex", now, "gate svc: worse x from 192.0.2.66", []string{"plain ignoreregex ignoreregex 1", "strict failregex", "broken aside"}},
		{"another service", now, "gate other: bad 192.0.2.7", []string{"plain failregex", "strict prefregex prefregex", "broken aside"}},
		{"an hour ago", now.Add(-time.Hour), "gate svc: worst 192.0.2.7", []string{"plain failregex", "strict old failregex 1", "broken aside"}},
		{"a name", now, "gate svc: bad host.example", []string{"plain counts failregex 1", "strict failregex", "broken aside"}},
		{"a name without an address", now, "gate svc: bad gone.example", []string{"plain name failregex 1", "strict failregex", "broken aside"}},
		{"no date", time.Time{}, "what is this", []string{"plain date", "strict date prefregex", "broken aside"}},
		{"no date, and a failure all the same", time.Time{}, "gate svc: bad 192.0.2.7", []string{"plain counts failregex 1", "strict failregex", "broken aside"}},
	} {
		p, err := makePlan(dir, library.FS)
		if err != nil {
			t.Fatal(err)
		}
		state := jail.NewState()
		state.Configure(p.jails, now)
		line := c.text
		if !c.when.IsZero() {
			line = c.when.Format("2006-01-02T15:04:05.000Z07:00") + " " + c.text
		}
		j := judge{p, d.lookup, d.places, func(_ context.Context, f bantam.Failure) (jail.Trial, bool, error) {
			tr, ok := state.Try(f)
			return tr, ok, nil
		}, func(_ context.Context, host string) ([]bantam.ID, error) {
			if host == "gone.example" {
				return nil, &net.DNSError{Err: "no such host"}
			}
			return []bantam.ID{bantam.AddrID(netip.MustParseAddr("192.0.2.9"))}, nil
		}}
		d.lookup.Configure(p.ignore...)
		lines, err := j.lines(t.Context(), control.JudgeRequest{Lines: []string{line}})
		if err != nil {
			t.Fatal(err)
		}
		if got := judged(control.JudgeReply{Lines: lines}); !slices.Equal(got, c.want) {
			t.Errorf("%s: %q\nwant %q", c.name, got, c.want)
		}
	}
}

// What is judged is what would happen: the counter stands as it does, and is left alone.
func TestJudgingALineCountsNothing(t *testing.T) {
	d := running(t)
	c := control.NewClient(d.options.Socket)
	ask := func(lines ...string) control.Judged {
		t.Helper()
		reply, err := control.Call(t.Context(), c, control.Judge, control.JudgeRequest{Lines: lines, Jails: []string{"j1"}})
		if err != nil || len(reply.Lines) != len(lines) || len(reply.Lines[0].Jails) != 1 || !reply.Daemon {
			t.Fatalf("%+v, %v", reply, err)
		}
		return reply.Lines[len(lines)-1].Jails[0]
	}
	maxretry := ask("bad 192.0.2.7").MaxRetry
	for n := 1; n < maxretry; n++ {
		for range 3 {
			if j := ask("bad 192.0.2.7"); j.Before != n-1 || j.Count != n || j.Stage != control.StageCounts || j.Rule.File == "" || j.Rule.Line == 0 {
				t.Fatalf("before failure %d: %+v", n, j)
			}
		}
		if _, err := d.do(t, "set j1 attempt 192.0.2.7"); err != nil {
			t.Fatal(err)
		}
		settle(t, d, n)
	}
	if j := ask("bad 192.0.2.7"); j.Stage != control.StageBans {
		t.Errorf("the last failure: %+v", j)
	}
	if _, err := d.do(t, "set j1 attempt 192.0.2.7"); err != nil {
		t.Fatal(err)
	}
	awaitBans(t, d, "j1", 1)
	if j := ask("nothing", "bad 192.0.2.7"); j.Stage != control.StageBanned || j.End.IsZero() || !j.Observe {
		t.Errorf("behind it: %+v", j)
	}
	var refused *control.Error
	_, err := control.Call(t.Context(), c, control.Judge, control.JudgeRequest{Lines: []string{"x"}, Jails: []string{"nope"}})
	if !errors.As(err, &refused) || refused.Hint == "" {
		t.Errorf("a jail that is not there: %v", err)
	}
	if _, err := control.Call(t.Context(), c, control.Judge, control.JudgeRequest{Lines: make([]string, mostJudged+1)}); !errors.As(err, &refused) {
		t.Errorf("more lines than are judged: %v", err)
	}
}

// settle waits until the jails have counted n failures.
func settle(t *testing.T, d *Daemon, n int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	for {
		near, err := d.jails.Nearest(ctx, 1)
		if err != nil {
			t.Fatal(err)
		}
		if len(near) == 1 && near[0].Failures == n {
			return
		}
	}
}

func TestThePastIsPagedAndChosen(t *testing.T) {
	d := running(t)
	c := control.NewClient(d.options.Socket)
	var list control.ImportRequest
	for n := range 7 {
		list.Bans = append(list.Bans, control.ImportBan{ID: bantam.AddrID(netip.AddrFrom4([4]byte{198, 51, 100, byte(n)})), Jail: "j1", Seconds: 600})
	}
	list.Bans = append(list.Bans,
		control.ImportBan{ID: bantam.TextID("x"), Jail: "manual"}, control.ImportBan{ID: bantam.TextID("mallory"), Jail: "j2"},
		control.ImportBan{ID: list.Bans[0].ID, Jail: "nope"}, control.ImportBan{ID: list.Bans[0].ID, Jail: "j1", Seconds: 1},
		control.ImportBan{ID: bantam.AddrID(mustAddr(t, "10.0.0.1")), Jail: "j2"}, control.ImportBan{Jail: "j2"},
		control.ImportBan{ID: list.Bans[0].ID, Jail: "j2", End: time.Now().Add(-time.Second)},
	)
	got, err := control.Call(t.Context(), c, control.Import, list)
	if err != nil {
		t.Fatal(err)
	}
	var refused []string
	for _, r := range got.Refused {
		refused = append(refused, fmt.Sprintf("%d %t %s", r.Place, r.Unknown, r.Why))
	}
	want := []string{`7 false "x" is neither an address nor a prefix`, `9 true there is no jail "nope"`, "11 false 10.0.0.1 is never to be banned in j2 (by ip)", "12 false it says nobody"}
	if got.Observed != 8 || got.Banned != 0 || got.Already != 1 || got.Over != 1 || strings.Join(refused, "\n") != strings.Join(want, "\n") {
		t.Errorf("%+v\n%q", got, refused)
	}
	if _, err := control.Call(t.Context(), c, control.Unban, control.UnbanRequest{ID: list.Bans[3].ID}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	var r control.HistoryRequest
	seen := 0
	for r.Limit = 3; ; {
		page, err := control.Call(ctx, c, control.GetHistory, r)
		if err != nil {
			t.Fatal(err)
		}
		fitting := 8
		if seen > 0 {
			fitting = min(8-seen, r.Limit+1)
		}
		if page.Fitting != fitting || page.Least != (fitting < 8-seen) {
			if seen == 0 && page.Fitting < 8 { // not written down yet
				continue
			}
			t.Fatalf("%d are said to follow %d", page.Fitting, seen)
		}
		for _, b := range page.Bans {
			seen++
			if lifted := b.ID == list.Bans[3].ID; lifted != (b.Cause == bantam.CauseOperator) {
				t.Errorf("%s ended for %q", b.ID, b.Cause)
			}
			r.After.Time, r.After.Jail, r.After.ID = b.Time, b.Jail, b.ID
		}
		if len(page.Bans) < 3 {
			break
		}
	}
	if seen != 8 {
		t.Errorf("%d bans", seen)
	}
	var why *control.Error
	if _, err := control.Call(ctx, c, control.GetHistory, control.HistoryRequest{Country: "CN"}); !errors.As(err, &why) || !strings.Contains(why.Text, "geodb") {
		t.Errorf("countries that nobody knows: %v", err)
	}
	failing, err := control.Call(ctx, c, control.GetFailing, control.FailingRequest{})
	if err != nil || failing.Failing == nil {
		t.Errorf("%+v, %v", failing, err)
	}
}

// Whatever a line holds, it is judged in bounded time, and each jail comes to one stage.
func FuzzJudgedLines(f *testing.F) {
	dir := f.TempDir()
	conf := "[DEFAULT]\nobserve = true\nusedns = no\nbackend = polling\nlogpath = " + dir + "/a.log\n[sshd]\nenabled = true\n[nginx-http-auth]\nenabled = true\n[postfix]\nenabled = true\n"
	if err := os.WriteFile(filepath.Join(dir, "jail.local"), []byte(conf), 0o600); err != nil {
		f.Fatal(err)
	}
	f.Add("Mar  2 10:15:04 gate sshd[812]: Failed password for root from 192.0.2.7 port 4022 ssh2")
	f.Add("2025/03/02 10:15:04 [error] 1#1: *1 user \"x\": password mismatch, client: 192.0.2.7, server: a, request: \"GET / HTTP/1.1\"")
	p, err := makePlan(dir, library.FS)
	if err != nil {
		f.Fatal(err)
	}
	state := jail.NewState()
	state.Configure(p.jails, time.Now())
	quiet := slog.New(slog.DiscardHandler)
	j := judge{p, lookup.New(quiet, net.DefaultResolver), geo.Open(quiet, nil), func(_ context.Context, f bantam.Failure) (jail.Trial, bool, error) {
		t, ok := state.Try(f)
		return t, ok, nil
	}, func(context.Context, string) ([]bantam.ID, error) { return nil, errors.New("nobody is asked") }}
	f.Fuzz(func(t *testing.T, line string) {
		lines, err := j.lines(t.Context(), control.JudgeRequest{Lines: []string{line, line}})
		if err != nil || len(lines) != 2 {
			t.Fatalf("%d lines, %v", len(lines), err)
		}
		for _, l := range lines {
			if len(l.Jails) != 3 {
				t.Fatalf("%d jails", len(l.Jails))
			}
			for _, judged := range l.Jails {
				if judged.Stage == "" || judged.Before != 0 {
					t.Errorf("%+v", judged)
				}
			}
		}
	})
}
