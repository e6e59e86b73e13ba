package store

import (
	"context"
	"database/sql"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"bantam"
	"bantam/internal/peertest"
)

// A peer is a Fail2Ban of the test's own, with one jail "j" that reads DIR/log and does
// nothing to those it bans.
type peer struct {
	t         *testing.T
	tree, dir string
}

const peerJail = `[j]
enabled = true
backend = polling
filter = f
logpath = DIR/log
bantime = 1h
findtime = 10m
maxretry = 2
action = a
`

func newPeer(t *testing.T) *peer {
	p := &peer{t, peertest.Tree(t), t.TempDir()}
	for name, text := range map[string]string{
		"conf/fail2ban.conf": "[Definition]\nloglevel = INFO\nlogtarget = DIR/peer.log\nsyslogsocket = auto\nsocket = DIR/s\npidfile = DIR/pid\n" +
			"dbfile = DIR/db.sqlite3\ndbpurgeage = 1d\ndbmaxmatches = 10\nallowipv6 = auto\n[Thread]\n",
		"conf/jail.conf":       peerJail,
		"conf/filter.d/f.conf": "[Definition]\nfailregex = ^ failed <HOST>$\ndatepattern = {^LN-BEG}EPOCH\n",
		"conf/action.d/a.conf": "[Definition]\nactionban = true\nactionunban = true\n",
		"log":                  "",
	} {
		file := filepath.Join(p.dir, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(strings.ReplaceAll(text, "DIR", p.dir)), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return p
}

func (p *peer) file() string { return filepath.Join(p.dir, "db.sqlite3") }

func (p *peer) command(ctx context.Context, program string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, peertest.Python(), append([]string{
		"-B", filepath.Join(p.tree, "usr/bin", program),
		"-c", filepath.Join(p.dir, "conf"), "-s", filepath.Join(p.dir, "s"), "-p", filepath.Join(p.dir, "pid"),
	}, args...)...)
	cmd.Env = append(os.Environ(), "PYTHONPATH="+peertest.Modules(p.tree))
	return cmd
}

// log appends failures of addresses, now.
func (p *peer) log(addrs ...string) {
	p.t.Helper()
	f, err := os.OpenFile(filepath.Join(p.dir, "log"), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		p.t.Fatal(err)
	}
	defer f.Close()
	for _, a := range addrs {
		if _, err := fmt.Fprintf(f, "%d failed %s\n", time.Now().Unix(), a); err != nil {
			p.t.Fatal(err)
		}
	}
}

// run starts Fail2Ban, does f while it runs, and stops it.
func (p *peer) run(f func()) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.t.Context(), time.Minute)
	defer cancel()
	server := p.command(ctx, "fail2ban-server", "-xf", "start")
	out, err := os.Create(filepath.Join(p.dir, "out"))
	if err != nil {
		p.t.Fatal(err)
	}
	defer out.Close()
	server.Stdout, server.Stderr = out, out
	if err := server.Start(); err != nil {
		p.t.Fatal(err)
	}
	for p.command(ctx, "fail2ban-client", "status", "j").Run() != nil {
		if ctx.Err() != nil {
			text, _ := os.ReadFile(out.Name())
			p.t.Fatalf("the peer does not start: %s", text)
		}
	}
	f()
	p.client("stop")
	_ = server.Wait()
}

// client asks the running Fail2Ban.
func (p *peer) client(args ...string) string {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.t.Context(), 30*time.Second)
	defer cancel()
	out, err := p.command(ctx, "fail2ban-client", args...).CombinedOutput()
	if err != nil {
		p.t.Fatalf("%.200q: %v: %s", args, err, out)
	}
	return strings.TrimSpace(string(out))
}

// until asks until the answer has what is wanted.
func (p *peer) until(want string, args ...string) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.t.Context(), 30*time.Second)
	defer cancel()
	for !strings.Contains(p.client(args...), want) {
		if ctx.Err() != nil {
			p.t.Fatalf("%q never says %q: %s", args, want, p.client(args...))
		}
	}
}

// ends are the ends of the bans that the running Fail2Ban tells of.
func (p *peer) ends() map[string]string {
	out := map[string]string{}
	for _, line := range strings.Split(p.client("get", "j", "banip", "--with-time"), "\n") {
		if ip, rest, ok := strings.Cut(strings.TrimSpace(line), " "); ok {
			_, end, _ := strings.Cut(rest, "= ")
			out[ip] = end
		}
	}
	return out
}

// near is whether two times are the same to a second: Fail2Ban stores whole ones, rounded,
// and shows those of a running ban cut off.
func near(a, b string) bool {
	x, err := time.Parse(time.DateTime, a)
	y, err2 := time.Parse(time.DateTime, b)
	return err == nil && err2 == nil && x.Sub(y).Abs() <= time.Second
}

// peerBans is how many bans go there and back. Fail2Ban restores forty a second, so the
// thousand are for where peers must be there.
func peerBans() int {
	if os.Getenv("BANTAM_NEED_PEERS") != "" {
		return 1000
	}
	return 40
}

// Bans go from Fail2Ban to us and back, and back again, with their ends; what
// each has changed meanwhile is known to the other.
func TestThereAndBack(t *testing.T) {
	p := newPeer(t)
	n := peerBans()
	var many []string
	for i := range n {
		many = append(many, fmt.Sprintf("198.51.%d.%d", 100+i/250, 1+i%250))
	}
	var before map[string]string
	p.run(func() {
		p.client(append([]string{"set", "j", "banip"}, many...)...)
		p.log("192.0.2.7", "192.0.2.7", "192.0.2.8", "2001:db8::1", "2001:db8::1")
		p.until("2001:db8::1", "get", "j", "banip")
		p.until("192.0.2.7", "get", "j", "banip")
		before = p.ends()
	})
	if len(before) != n+2 {
		t.Fatalf("Fail2Ban has %d bans", len(before))
	}
	format := func(at time.Time) string { return at.Local().Round(time.Second).Format(time.DateTime) }

	s, err := Open(t.Context(), testLog(t), p.file())
	if err != nil {
		t.Fatal(err)
	}
	bans := running(t, s, time.Now())
	if len(bans) != n+2 {
		t.Fatalf("%d bans are taken over", len(bans))
	}
	for _, b := range bans {
		if want := before[b.ID.String()]; !near(format(b.End), want) {
			t.Errorf("%s ends at %s, in Fail2Ban at %q", b.ID, format(b.End), want)
		}
		if b.ID.String() == "192.0.2.7" && (b.Failures != 2 || len(b.Lines) != 2 || !strings.HasSuffix(b.Lines[1], " failed 192.0.2.7") || b.Count != 1 || b.By != bantam.ByFailures) {
			t.Errorf("what led to the ban is not taken over: %+v", b)
		}
	}
	info, err := os.Stat(filepath.Join(p.dir, "log"))
	if err != nil {
		t.Fatal(err)
	}
	positions, err := s.Positions(t.Context())
	at := positions["j"][filepath.Join(p.dir, "log")]
	if err != nil || at.Offset != info.Size() || len(at.Mark) != 40 {
		t.Errorf("the log was read up to %+v of %d, %v", at, info.Size(), err)
	}
	// We lift one, ban one and prolong one.
	id := func(text string) (id bantam.ID) {
		if err := id.UnmarshalText([]byte(text)); err != nil {
			t.Fatal(err)
		}
		return id
	}
	start := time.Now().Truncate(time.Second)
	fresh := bantam.Ban{Jail: "j", ID: id("203.0.113.9"), Time: start, End: start.Add(30 * time.Minute), Failures: 3, Count: 4, By: bantam.ByFailures, Lines: []string{"a \"line\" ö"}}
	var longer bantam.Ban
	for _, b := range bans {
		if b.ID == id("198.51.100.2") {
			longer = b
		}
	}
	longer.End = longer.End.Add(time.Hour)
	do(s, bantam.Decision{Kind: bantam.End, Ban: bantam.Ban{Jail: "j", ID: id("198.51.100.1")}, At: start, Cause: bantam.CauseOperator},
		bantam.Decision{Kind: bantam.Start, Ban: fresh, At: start}, bantam.Decision{Kind: bantam.Prolong, Ban: longer, At: start})
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}

	var after map[string]string
	p.run(func() {
		p.until("203.0.113.9", "get", "j", "banip")
		p.until(many[n-1], "get", "j", "banip")
		p.client("set", "j", "unbanip", "198.51.100.3")
		p.client("set", "j", "banip", "203.0.113.10")
		p.log("192.0.2.8") // a second failure: the first was before two restarts
		after = p.ends()
	})
	if text, err := os.ReadFile(filepath.Join(p.dir, "peer.log")); err != nil || strings.Contains(string(text), "ERROR") ||
		strings.Count(string(text), "Found 192.0.2.7") != 2 {
		t.Errorf("Fail2Ban finds something wrong, or reads lines twice: %v\n%.2000s", err, text)
	}
	want := map[string]string{"203.0.113.9": format(fresh.End), "203.0.113.10": after["203.0.113.10"]}
	for ip, end := range before {
		want[ip] = end
	}
	delete(want, "198.51.100.1")
	delete(want, "198.51.100.3")
	want["198.51.100.2"] = after["198.51.100.2"] // cut to the jail's bantime: spec of its restore
	for ip, end := range want {
		if !near(after[ip], end) {
			t.Errorf("back in Fail2Ban %s ends at %q, not %q", ip, after[ip], end)
		}
	}
	if len(after) != len(want) {
		t.Errorf("Fail2Ban has %d bans, not %d", len(after), len(want))
	}

	again := open(t, p.file())
	got := map[bantam.ID]bantam.Ban{}
	for _, b := range running(t, again, time.Now()) {
		got[b.ID] = b
	}
	if _, there := got[id("198.51.100.3")]; there {
		t.Error("what Fail2Ban lifted runs again")
	}
	if _, there := got[id("203.0.113.10")]; !there || len(got) != len(want) {
		t.Errorf("%d bans are taken over again, not %d", len(got), len(want))
	}
	if b := got[fresh.ID]; b.Count != 4 || len(b.Lines) != 1 || b.Lines[0] != fresh.Lines[0] {
		t.Errorf("our own ban came back as %+v", b)
	}
	if b := got[longer.ID]; !b.End.Equal(longer.End) {
		t.Errorf("our longer end %s came back as %s", longer.End, b.End)
	}
}

// Fail2Ban's tables have in our file what they have in its own.
func TestTablesAreFail2Bans(t *testing.T) {
	p := newPeer(t)
	p.run(func() {})
	file := path(t)
	s, err := Open(t.Context(), testLog(t), file)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	theirs, ours := shape(t, p.file()), shape(t, file)
	for name, columns := range theirs {
		if ours[name] != columns {
			t.Errorf("%s is\n%s, in Fail2Ban's file\n%s", name, ours[name], columns)
		}
	}
	if len(theirs) < 10 {
		t.Errorf("only %d things compared", len(theirs))
	}
}

// shape is the columns of each table and index of a file.
func shape(t *testing.T, file string) map[string]string {
	t.Helper()
	db, err := sql.Open("sqlite", file)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	rows, err := db.Query(`SELECT m.type, m.name, group_concat(c.name || ' ' || c.type || ' ' || c."notnull" || ' ' || coalesce(lower(c.dflt_value), '') || ' ' || c.pk, ', ')
		FROM sqlite_master AS m JOIN pragma_table_info(m.name) AS c WHERE m.type = 'table' AND m.name NOT LIKE 'bantam%' GROUP BY 1, 2
		UNION ALL SELECT m.type, m.name, group_concat(m.tbl_name || ' ' || c.name, ', ')
		FROM sqlite_master AS m JOIN pragma_index_info(m.name) AS c WHERE m.type = 'index' AND m.name NOT LIKE 'bantam%' AND m.tbl_name NOT LIKE 'bantam%' GROUP BY 1, 2`)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	out := map[string]string{}
	for rows.Next() {
		var kind, name, columns string
		if err := rows.Scan(&kind, &name, &columns); err != nil {
			t.Fatal(err)
		}
		out[kind+" "+name] = columns
	}
	return out
}
