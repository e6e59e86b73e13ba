package daemon

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"

	"bantam"
	"bantam/internal/control"
	"bantam/internal/geo"
	"bantam/internal/jail"
	"bantam/internal/lookup"
	"bantam/library"
)

// quiet are the files of a daemon that bans nobody in the kernel, with some jails.
func quiet(jails string) map[string]string {
	return map[string]string{
		"jail.conf":     "[DEFAULT]\nobserve = true\naction =\nbackend = polling\n" + jails,
		"fail2ban.conf": "[Definition]\nsocket = DIR/f2b.sock\npidfile =\ndbfile = None\nlogtarget = STDERR\n",
		"a.log":         "",
	}
}

// A list that somebody else made shuts out neither everybody nor who administrates the machine.
func TestAForeignListShutsNoAdministratorOut(t *testing.T) {
	d := runningBy(t, quiet("ignorelogins = 1d\n[j1]\nenabled = true\nfailregex = ^bad <HOST>$\nlogpath = DIR/a.log\n"))
	d.logins.Add(jail.Login{Addr: mustAddr(t, "198.51.100.7"), User: "root", At: time.Now().Add(-time.Minute)})
	var list control.ImportRequest
	for _, text := range []string{"0.0.0.0/0", "128.0.0.0/1", "::/0", "2000::/3", "198.51.100.7", "198.51.100.0/24", "203.0.113.0/24", "10.0.0.0/8", "2001:db8::/32"} {
		id, err := bantam.ParsePrefix(text)
		if err != nil {
			t.Fatal(err)
		}
		list.Bans = append(list.Bans, control.ImportBan{ID: id, Seconds: 600}, control.ImportBan{ID: id, Jail: "j1", Seconds: 600})
	}
	got, err := control.Call(t.Context(), control.NewClient(d.options.Socket), control.Import, list)
	if err != nil {
		t.Fatal(err)
	}
	refused := map[string]int{}
	for _, r := range got.Refused {
		refused[list.Bans[r.Place].ID.String()]++
		if !strings.Contains(r.Why, "is nearly everybody") && !strings.Contains(r.Why, "an administrator's login: user root") {
			t.Errorf("%s is refused because %s", list.Bans[r.Place].ID, r.Why)
		}
	}
	for _, text := range []string{"0.0.0.0/0", "128.0.0.0/1", "::/0", "2000::/3", "198.51.100.7", "198.51.100.0/24"} {
		if refused[text] != 2 {
			t.Errorf("%s is refused %d times of 2", text, refused[text])
		}
	}
	var banned []string
	for _, b := range awaitBans(t, d, "j1", 3) {
		banned = append(banned, b.ID.String())
	}
	slices.Sort(banned)
	if want := []string{"10.0.0.0/8", "2001:db8::/32", "203.0.113.0/24"}; !slices.Equal(banned, want) || got.Observed != 6 {
		t.Errorf("banned are %q and %d, want %q", banned, got.Observed, want)
	}
}

// Whoever may read can have a thousand lines judged with a name each, and holds nobody up with them.
func TestNamesInJudgedLinesTakeBoundedTime(t *testing.T) {
	dir := folder(t, quiet("usedns = yes\n[j1]\nenabled = true\nfailregex = ^bad <HOST>$\nlogpath = DIR/a.log\n"))
	p, err := makePlan(dir, library.FS)
	if err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		log := slog.New(slog.DiscardHandler)
		state := jail.NewState()
		state.Configure(p.jails, time.Now())
		asked := 0
		j := judge{p, lookup.New(log, net.DefaultResolver), geo.Open(log, nil), func(_ context.Context, f bantam.Failure) (jail.Trial, bool, error) {
			t, ok := state.Try(f)
			return t, ok, nil
		}, func(ctx context.Context, _ string) ([]bantam.ID, error) {
			asked++
			ctx, cancel := context.WithTimeout(ctx, askHost)
			defer cancel()
			<-ctx.Done()
			return nil, ctx.Err()
		}}
		var r control.JudgeRequest
		for n := range mostJudged - 1 {
			r.Lines = append(r.Lines, fmt.Sprintf("bad host%d.example", n))
		}
		r.Lines = append(r.Lines, "bad 192.0.2.7")
		begin := time.Now()
		lines, err := j.lines(t.Context(), r)
		if took := time.Since(begin); err != nil || took > askHosts || asked == 0 {
			t.Errorf("it takes %s, %v", took, err)
		}
		for i, l := range lines {
			if want := control.StageName; i < mostJudged-1 && l.Jails[0].Stage != want {
				t.Fatalf("line %d: %+v", i, l.Jails[0])
			}
		}
		if last := lines[len(lines)-1].Jails[0]; last.Stage != control.StageCounts {
			t.Errorf("an address behind them: %+v", last)
		}
	})
}

// A link in the place of the pid file is not followed, and a pipe not waited for.
func TestThePIDFileIsNobodyElses(t *testing.T) {
	for _, c := range []struct {
		name string
		put  func(path, other string) error
	}{
		{"a link", func(path, other string) error { return os.Symlink(other, path) }},
		{"a pipe", func(path, _ string) error { return unix.Mkfifo(path, 0o600) }},
	} {
		dir := t.TempDir()
		other := filepath.Join(dir, "other")
		if err := os.WriteFile(other, []byte("keep me"), 0o600); err != nil {
			t.Fatal(err)
		}
		d := &Daemon{log: slog.New(slog.DiscardHandler), pidFile: filepath.Join(dir, "pid")}
		if err := c.put(d.pidFile, other); err != nil {
			t.Fatal(err)
		}
		done := make(chan struct{})
		go func() { defer close(done); d.writePID() }()
		select {
		case <-done:
		case <-time.After(10 * time.Second):
			t.Fatalf("%s: it waits", c.name)
		}
		if text, err := os.ReadFile(other); err != nil || string(text) != "keep me" || d.pidFile != "" {
			t.Errorf("%s: the other file is %q, %v; the pid file %q", c.name, text, err, d.pidFile)
		}
	}
}
