package action

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"bantam"
)

// patience is how long a test waits for what must come.
const patience = 20 * time.Second

// A bench is actions at work, in a folder that they write into.
type bench struct {
	*testing.T
	dir     string
	actions *Actions
	stored  chan []bantam.Decision
	world   *World
	seq     uint64
	over    chan struct{}

	mu  sync.Mutex
	log bytes.Buffer
}

func (b *bench) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.log.Write(p)
}

func (b *bench) logged() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.log.String()
}

// newBench puts actions to work. DIR in their commands is a folder of the test, and "say X"
// appends X to its file out.
func newBench(t *testing.T, configs ...Config) *bench {
	t.Helper()
	b := &bench{T: t, dir: t.TempDir(), stored: make(chan []bantam.Decision), over: make(chan struct{})}
	log := slog.New(slog.NewTextHandler(b, &slog.HandlerOptions{Level: slog.LevelDebug}))
	b.world = &World{Log: log, Resolver: &net.Resolver{PreferGo: true, Dial: func(context.Context, string, string) (net.Conn, error) {
		return nil, errors.New("no network in a test")
	}}}
	b.actions = New(log, nil)
	b.configure(configs...)
	stored := b.stored
	go func() {
		defer close(b.over)
		b.actions.Run(stored, patience)
	}()
	t.Cleanup(b.stop)
	return b
}

func (b *bench) configure(configs ...Config) (fresh []string) {
	b.Helper()
	for i := range configs {
		configs[i] = b.config(configs[i])
	}
	fresh, err := b.actions.Configure(b.world, configs, nil)
	if err != nil {
		b.Fatal(err)
	}
	return fresh
}

// config fills in what tests leave out.
func (b *bench) config(c Config) Config {
	if c.Jail == "" {
		c.Jail = "sshd"
	}
	if c.Title == "" {
		c.Title = "act"
	}
	if c.Timeout == 0 {
		c.Timeout = patience
	}
	if c.Kind == "" {
		c.Kind = Shell
	}
	c.Name = c.Title
	if !c.Families {
		c.Inet4, c.Inet6 = c.Any, c.Any
	}
	for _, commands := range []*Commands{&c.Any, &c.Inet4, &c.Inet6} {
		for _, text := range commands.ByOption() {
			*text = regexp.MustCompile(`\bsay `).ReplaceAllString(*text, "echo >>DIR/out ")
			*text = strings.ReplaceAll(*text, "DIR", b.dir)
		}
	}
	return c
}

// stop ends the actions as the daemon does; it may be called twice.
func (b *bench) stop() {
	if b.stored == nil {
		return
	}
	close(b.stored)
	b.stored = nil
	select {
	case <-b.over:
	case <-time.After(patience):
		b.Error("the actions do not end")
	}
}

// tell sends decisions on their way.
func (b *bench) tell(ds ...bantam.Decision) []bantam.Decision {
	for i := range ds {
		b.seq++
		ds[i].Seq = b.seq
	}
	b.stored <- ds
	return ds
}

// do has decisions carried out and returns the error of it.
func (b *bench) do(ds ...bantam.Decision) error {
	ds = b.tell(ds...)
	ctx, cancel := context.WithTimeout(b.Context(), patience)
	defer cancel()
	return b.actions.Settle(ctx, ds)
}

// must is do without an error.
func (b *bench) must(ds ...bantam.Decision) {
	b.Helper()
	if err := b.do(ds...); err != nil {
		b.Fatal(err)
	}
}

// out is what the commands have said, line by line.
func (b *bench) out() []string {
	b.Helper()
	text, err := os.ReadFile(filepath.Join(b.dir, "out"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		b.Fatal(err)
	}
	return strings.FieldsFunc(string(text), func(r rune) bool { return r == '\n' })
}

// said fails the test unless the commands have said exactly this.
func (b *bench) said(want ...string) {
	b.Helper()
	if got := b.out(); !slices.Equal(got, want) {
		b.Errorf("the commands say %q, want %q\nlog:\n%s", got, want, b.logged())
	}
}

// fifo is a pipe in the folder that a command can hang on.
func (b *bench) fifo(name string) string {
	b.Helper()
	path := filepath.Join(b.dir, name)
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		b.Fatal(err)
	}
	return path
}

// release lets a command go on that reads from a pipe, once it does.
func (b *bench) release(path string) {
	b.Helper()
	if err := os.WriteFile(path, []byte("go\n"), 0); err != nil {
		b.Fatal(err)
	}
}

// about is a decision on an address, of jail sshd.
func about(kind bantam.Kind, addr string, change ...func(*bantam.Ban)) bantam.Decision {
	id, err := bantam.ParsePrefix(addr)
	if err != nil {
		id = bantam.TextID(addr)
	}
	at := time.Unix(1_700_000_000, 0)
	d := bantam.Decision{Kind: kind, Ban: bantam.Ban{Jail: "sshd", ID: id, Time: at, End: at.Add(10 * time.Minute), Count: 1, Failures: 5}}
	for _, f := range change {
		f(&d.Ban)
	}
	return d
}

func TestAnActionRunsItsCommands(t *testing.T) {
	b := newBench(t, Config{Any: Commands{Start: "say start", Ban: "say ban <ip>", Unban: "say unban <ip> <bantime>", Stop: "say stop", Prolong: "say prolong <ip> <bantime>"}})
	b.must(about(bantam.Start, "192.0.2.1"))
	b.must(about(bantam.Start, "2001:db8::/64"))
	b.must(about(bantam.Prolong, "192.0.2.1", func(b *bantam.Ban) { b.End = b.Time.Add(time.Hour) }))
	b.must(about(bantam.End, "192.0.2.1", func(b *bantam.Ban) { b.End = time.Time{} }))
	b.said("start", "ban 192.0.2.1", "ban 2001:db8::/64", "prolong 192.0.2.1 3600", "unban 192.0.2.1 -1")
	b.stop()
	b.said("start", "ban 192.0.2.1", "ban 2001:db8::/64", "prolong 192.0.2.1 3600", "unban 192.0.2.1 -1", "unban 2001:db8::/64 600", "stop")
}

func TestFamiliesStartOnDemand(t *testing.T) {
	of := func(f string) Commands {
		return Commands{Start: "say start " + f, Ban: "say " + f + " <family> <ip>", Stop: "say stop " + f, Unban: "say un" + f + " <ip>"}
	}
	c := Config{Families: true, OnDemand: true, Inet4: of("four"), Inet6: of("six"), Any: of("any")}
	b := newBench(t, c)
	b.must(about(bantam.Start, "192.0.2.1"))
	b.must(about(bantam.Start, "192.0.2.2"))
	b.said("start four", "four inet4 192.0.2.1", "four inet4 192.0.2.2")
	b.must(about(bantam.End, "192.0.2.1"))
	b.must(about(bantam.End, "192.0.2.2"))
	b.stop()
	b.said("start four", "four inet4 192.0.2.1", "four inet4 192.0.2.2", "unfour 192.0.2.1", "unfour 192.0.2.2", "stop four")

	c.OnDemand = false
	b = newBench(t, c)
	b.must(about(bantam.Start, "2001:db8::1"))
	b.stop()
	b.said("start four", "start six", "six inet6 2001:db8::1", "unsix 2001:db8::1", "stop four", "stop six")
}

func TestAnActionWithoutABanRunsNoStopOnDemand(t *testing.T) {
	b := newBench(t, Config{OnDemand: true, Any: Commands{Start: "say start", Stop: "say stop", Ban: "say ban"}})
	b.stop()
	b.said()
}

func TestAStartThatIsTheSameForBothFamiliesRunsOnce(t *testing.T) {
	c := Commands{Start: "say start", Stop: "say stop <family>", Ban: "say ban <family>", Unban: ":"}
	b := newBench(t, Config{Families: true, Any: c, Inet4: c, Inet6: c})
	b.must(about(bantam.Start, "192.0.2.1"))
	b.stop()
	b.said("start", "ban inet4", "stop inet4", "stop inet6")
}

func TestAFlushTakesThePlaceOfSingleUnbans(t *testing.T) {
	b := newBench(t, Config{Any: Commands{Ban: ":", Unban: "say unban", Flush: "say flush", Stop: "say stop"}})
	b.must(about(bantam.Start, "192.0.2.1"))
	b.must(about(bantam.Start, "192.0.2.2"))
	b.stop()
	b.said("flush", "stop")
	if !strings.Contains(b.logged(), "Flush ticket(s) with act") {
		t.Error(b.logged())
	}
}

func TestActionsOfAJailStopInReverseAfterAllBansAreLifted(t *testing.T) {
	b := newBench(t,
		Config{Title: "one", Any: Commands{Ban: "say ban", Unban: "say unban", Stop: "say stop one"}},
		Config{Title: "two", Any: Commands{Stop: "say stop two"}},
		Config{Title: "three", Any: Commands{Stop: "say stop three"}})
	b.must(about(bantam.Start, "192.0.2.1"))
	b.stop()
	b.said("ban", "unban", "stop three", "stop two", "stop one")
}

func TestRestoredBans(t *testing.T) {
	b := newBench(t,
		Config{Title: "block", Any: Commands{Ban: "say block <restored> <ip>", Unban: "say unblock <restored>"}},
		Config{Title: "mail", NoRestored: true, Any: Commands{Ban: "say mail <ip>", Prolong: "say longer"}})
	b.must(about(bantam.Restore, "192.0.2.1"))
	b.must(about(bantam.Prolong, "192.0.2.1"))
	b.must(about(bantam.End, "192.0.2.1"))
	b.said("block 1 192.0.2.1", "unblock 1")
}

func TestABanThatIsToldTwiceIsMadeOnce(t *testing.T) {
	b := newBench(t, Config{Any: Commands{Ban: "say ban"}})
	b.must(about(bantam.Start, "192.0.2.1"))
	b.must(about(bantam.Restore, "192.0.2.1"))
	b.must(about(bantam.Start, "192.0.2.1"))
	b.said("ban")
}

func TestTrapS02_ARestoredBanHasAWholeTimeAndCountsOnceMore(t *testing.T) {
	b := newBench(t, Config{Any: Commands{Ban: "say r=<restored> t=<time> bc=<bancount>", Unban: ":"}})
	part := func(b *bantam.Ban) { b.Time = time.UnixMicro(1795251760_924301) }
	b.must(about(bantam.Start, "192.0.2.1", part))
	b.must(about(bantam.Start, "192.0.2.2"))
	b.must(about(bantam.Restore, "192.0.2.3", part))
	b.said("r=0 t=1795251760.924301 bc=1", "r=0 t=1700000000.0 bc=1", "r=1 t=1795251760 bc=2")
}

func TestTrapS04_AFailedCommandIsRunTwice(t *testing.T) {
	b := newBench(t, Config{Any: Commands{Ban: "say ban; test $(wc -l <DIR/out) -ge 2"}})
	b.must(about(bantam.Start, "192.0.2.1"))
	b.said("ban", "ban")
	if n := strings.Count(b.logged(), "command failed"); n != 1 {
		t.Errorf("%d failures are logged:\n%s", n, b.logged())
	}
}

// The original counts it as banned and leaves it at that.
func TestTrapS05_AFailedBanIsShownAndTriedAgain(t *testing.T) {
	t.Parallel()
	b := newBench(t, Config{Any: Commands{Ban: "say ban <ip>; echo no room >&2; test -e DIR/room || exit 3", Unban: "say unban <ip>"}})
	err := b.do(about(bantam.Start, "192.0.2.1"))
	if err == nil || !strings.Contains(err.Error(), "returned 3") || !strings.Contains(err.Error(), "act of sshd") {
		t.Fatalf("the error is %v", err)
	}
	if st := b.actions.Status()[0]; st.Failing != 1 || !strings.Contains(st.Err, "returned 3") || st.Action != "sshd/act" {
		t.Errorf("the status is %+v", st)
	}
	for _, want := range []string{"Failed to execute ban jail 'sshd' action 'act'", "no room", "returned 3"} {
		if !strings.Contains(b.logged(), want) {
			t.Errorf("the log does not say %q:\n%s", want, b.logged())
		}
	}
	// Others do not wait for it.
	if err := os.WriteFile(filepath.Join(b.dir, "room"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	b.must(about(bantam.Start, "192.0.2.2"))
	b.until("the failed one is made", func() bool { return b.actions.Status()[0].Failing == 0 })
	b.said("ban 192.0.2.1", "ban 192.0.2.1", "ban 192.0.2.2", "ban 192.0.2.1")
	b.must(about(bantam.End, "192.0.2.1"))
}

// until waits for something that a goroutine does by itself.
func (b *bench) until(what string, so func() bool) {
	b.Helper()
	ctx, cancel := context.WithTimeout(b.Context(), patience)
	defer cancel()
	for tick := time.Tick(5 * time.Millisecond); !so(); {
		select {
		case <-tick:
		case <-ctx.Done():
			b.Fatalf("%s: not within %s\n%s", what, patience, b.logged())
		}
	}
}

func TestTrapS06_NothingIsUnbannedWhereNoBanWorked(t *testing.T) {
	b := newBench(t, Config{Any: Commands{Ban: "case <ip> in *.1) false;; esac", Unban: "say unban <ip>"}})
	if b.do(about(bantam.Start, "192.0.2.1")) == nil {
		t.Fatal("the ban works")
	}
	b.must(about(bantam.End, "192.0.2.1"))
	b.must(about(bantam.End, "192.0.2.9"))
	b.said()
	b.must(about(bantam.Start, "192.0.2.2"))
	if b.do(about(bantam.Start, "192.0.2.1")) == nil {
		t.Fatal("the ban works")
	}
	b.must(about(bantam.End, "192.0.2.1")) // what the failed command left is cleared away
	b.said("unban 192.0.2.1")
}

func TestTrapS07_TheCheckRunsAfterFailuresAndKnowsNoBan(t *testing.T) {
	b := newBench(t, Config{Any: Commands{Check: "say 'CHECK fam=<family> ip=<ip>'", Ban: "say ban; test $(wc -l <DIR/out) -ge 3"}})
	b.must(about(bantam.Start, "192.0.2.1"))
	b.said("ban", "CHECK fam=inet4 ip=<ip>", "ban")
	b.must(about(bantam.Start, "192.0.2.2"))
	b.said("ban", "CHECK fam=inet4 ip=<ip>", "ban", "ban")
}

func TestTrapS20_GroupsOfTheFilter(t *testing.T) {
	b := newBench(t, Config{Any: Commands{Ban: "say \"<F-USER> <F-X>|<F-A-B> <F-ID> <F-PORT> \"'unk=<unk>'"}})
	b.must(about(bantam.Start, "192.0.2.1", func(b *bantam.Ban) {
		b.User, b.Data = "ro;ot", map[string]string{"a-b": "c", "fport": "22"}
	}))
	b.said("ro;ot |c 192.0.2.1 22 unk=<unk>")
}

func TestTrapS21_WhatHasNoNameOrFamily(t *testing.T) {
	b := newBench(t, Config{Any: Commands{Ban: "say '<ip-host> <family> <ip-rev>|<ip> <fid>'", Unban: ":"}})
	b.must(about(bantam.Start, "192.0.2.1"))
	b.must(about(bantam.Start, "a b"))
	b.must(about(bantam.Start, "2001:db8::1"))
	b.must(about(bantam.Start, "tok", func(b *bantam.Ban) { b.Data = map[string]string{"ip": "192.0.2.7"} }))
	b.said("None inet4 1.2.0.192.|192.0.2.1 192.0.2.1", "None None |a b a b",
		"None inet6 1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.|2001:db8::1 2001:db8::1",
		"None inet4 7.2.0.192.|192.0.2.7 tok")
}

func TestTrapS22_OutputOfAnySizeIsReadWhileItIsWritten(t *testing.T) {
	b := newBench(t, Config{Any: Commands{Ban: "head -c 300000 /dev/zero | tr '\\0' x; head -c 300000 /dev/zero | tr '\\0' y >&2; false"}})
	if b.do(about(bantam.Start, "192.0.2.1")) == nil {
		t.Fatal("it works")
	}
	if log := b.logged(); !strings.Contains(log, "xxx… and 291808 bytes more") || !strings.Contains(log, "yyy… and 291808 bytes more") || !strings.Contains(log, "returned 1") {
		t.Errorf("the log is %.2000s", log)
	}
}

func TestTrapS23_AHungActionDelaysNoOther(t *testing.T) {
	b := newBench(t,
		Config{Title: "hangs", Any: Commands{Ban: "say reading; read x <DIR/<ip>; say read"}},
		Config{Title: "block", Any: Commands{Ban: "say block <ip>"}},
		Config{Jail: "other", Title: "block", Any: Commands{Ban: "say other <ip>"}})
	first, second := b.fifo("192.0.2.1"), b.fifo("192.0.2.3")
	b.tell(about(bantam.Start, "192.0.2.1"))
	b.until("one hangs, the other has blocked", func() bool { return len(b.out()) == 2 })
	b.must(about(bantam.Start, "192.0.2.2", func(b *bantam.Ban) { b.Jail = "other" }))
	ds := b.tell(about(bantam.Start, "192.0.2.3"))
	impatient, cancel := context.WithCancel(t.Context())
	cancel()
	if err := b.actions.Settle(impatient, ds); err == nil || !strings.Contains(err.Error(), "hangs of sshd") {
		t.Errorf("who waits for the jail with the hung action is told %v", err)
	}
	b.until("the other action goes on", func() bool { return slices.Contains(b.out(), "block 192.0.2.3") })
	b.release(first)
	b.release(second)
	b.until("it has read", func() bool { return b.actions.Status()[0].Pending == 0 })
}

func TestTrapS24_FilesOfActionsAreTheirOwners(t *testing.T) {
	b := newBench(t, Config{Any: Commands{Ban: "umask; say x"}})
	b.must(about(bantam.Start, "192.0.2.1"))
	if info, err := os.Stat(filepath.Join(b.dir, "out")); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the mode is %v, %v", info.Mode(), err)
	}
}

// After a plain reload of the original new actions are gone, and changed ones keep their objects.
func TestTrapS25_AReloadAppliesActions(t *testing.T) {
	of := func(title, mark string) Config {
		return Config{Title: title, Any: Commands{
			Start: "say start " + mark, Ban: "say " + mark + " <ip> <restored>", Unban: "say un" + mark + " <ip>", Stop: "say stop " + mark, Reload: "say reload " + mark,
		}}
	}
	b := newBench(t, of("same", "a"), of("other", "b"))
	b.must(about(bantam.Start, "192.0.2.1"))
	b.until("all have started", func() bool { return len(b.out()) == 4 })
	if err := os.Remove(filepath.Join(b.dir, "out")); err != nil {
		t.Fatal(err)
	}
	if fresh := b.configure(of("same", "a"), of("other", "c"), of("new", "d")); !slices.Equal(fresh, []string{"sshd"}) {
		t.Errorf("new actions have %q", fresh)
	}
	b.must(about(bantam.Restore, "192.0.2.1"), about(bantam.End, "192.0.2.1"), about(bantam.Start, "192.0.2.2"))
	got := b.out()
	of1 := func(mark string) (lines []string) {
		for _, l := range got {
			if strings.Contains(l+" ", " "+mark+" ") || strings.HasPrefix(l, mark+" ") || strings.HasPrefix(l, "un"+mark+" ") {
				lines = append(lines, l)
			}
		}
		return lines
	}
	for mark, want := range map[string][]string{
		"a": {"reload a", "una 192.0.2.1", "a 192.0.2.2 0"},
		"b": {"unb 192.0.2.1", "stop b"},
		"c": {"start c", "c 192.0.2.1 1", "unc 192.0.2.1", "c 192.0.2.2 0"},
		"d": {"start d", "d 192.0.2.1 1", "und 192.0.2.1", "d 192.0.2.2 0"},
	} {
		if lines := of1(mark); !slices.Equal(lines, want) {
			t.Errorf("action %s says %q, want %q; all is %q", mark, lines, want, got)
		}
	}
	// The new one waits until what it replaces has gone.
	if slices.Index(got, "start c") < slices.Index(got, "stop b") {
		t.Errorf("the new one starts before the old one has stopped: %q", got)
	}
	if st := b.actions.Of("sshd"); len(st) != 3 || st[2].Title != "new" {
		t.Errorf("the actions are %+v", st)
	}
}

func TestTrapS44_ARepairBringsAllBansBack(t *testing.T) {
	// The firewall is a file with a line for each ban.
	c := Commands{
		Start: "say start; : >DIR/fw", Stop: "say stop; rm DIR/fw", Check: "test -e DIR/fw",
		Ban: "test -e DIR/fw && echo <ip> >>DIR/fw", Unban: "test -e DIR/fw", Reban: "say again <ip>; echo <ip> >>DIR/fw",
	}
	b := newBench(t, Config{Any: c})
	fw := filepath.Join(b.dir, "fw")
	b.must(about(bantam.Start, "192.0.2.1"))
	b.must(about(bantam.Start, "192.0.2.2"))
	if err := os.Remove(fw); err != nil { // somebody else's doing
		t.Fatal(err)
	}
	b.must(about(bantam.Start, "192.0.2.3"))
	b.until("all bans are back", func() bool {
		text, err := os.ReadFile(fw)
		return err == nil && len(strings.Fields(string(text))) == 3
	})
	if log := b.logged(); !strings.Contains(log, "Invariant check failed. Trying to restore a sane environment") {
		t.Error(log)
	}
	// An unban does not repair unless it is told to.
	if err := os.Remove(fw); err != nil {
		t.Fatal(err)
	}
	if err := b.do(about(bantam.End, "192.0.2.1")); err != nil {
		t.Error(err)
	}
	if log := b.logged(); !strings.Contains(log, "Invariant check failed. Unban is impossible.") {
		t.Error(log)
	}
	if _, err := os.Stat(fw); err == nil {
		t.Error("an unban has repaired")
	}
}

func TestAnUnbanRepairsIfItMay(t *testing.T) {
	c := Commands{Check: "test -e DIR/fw", Ban: "echo >DIR/fw", Unban: "test -e DIR/fw && say unban", Repair: "say repair; echo >DIR/fw"}
	b := newBench(t, Config{RepairOnUnban: true, Any: c})
	b.must(about(bantam.Start, "192.0.2.1"))
	if err := os.Remove(filepath.Join(b.dir, "fw")); err != nil {
		t.Fatal(err)
	}
	b.must(about(bantam.End, "192.0.2.1"))
	b.said("repair", "unban")
}

func TestARepairThatDoesNotHelpIsTold(t *testing.T) {
	b := newBench(t, Config{Any: Commands{Check: "false", Ban: "say ban; false", Repair: "say repair"}})
	if err := b.do(about(bantam.Start, "192.0.2.1")); err == nil || !strings.Contains(err.Error(), "unable to restore environment") {
		t.Errorf("the error is %v", err)
	}
	b.said("ban", "repair")
}

// The original starts both families again at each such ban, and forgets what they contain.
func TestTrapS45_AnIDThatIsNoAddressStartsEachFamilyOnce(t *testing.T) {
	of := func(f string) Commands {
		return Commands{Start: "say start " + f, Ban: "say " + f, Unban: ":", Flush: "say flush " + f, Stop: "say stop " + f}
	}
	b := newBench(t, Config{Families: true, OnDemand: true, Inet4: of("4"), Inet6: of("6"), Any: of("any")})
	b.must(about(bantam.Start, "2001:db8::1"))
	b.must(about(bantam.Start, "session-1"))
	b.must(about(bantam.Start, "session-2"))
	b.stop()
	b.said("start 6", "6", "start 4", "any", "any", "flush 6", "flush any", "stop 4", "stop 6")
}

func TestACommandThatTakesTooLongIsEndedWithAllItStarted(t *testing.T) {
	t.Parallel()
	// The shell ignores the first signal, and its children hold the pipe open.
	b := newBench(t, Config{Timeout: 300 * time.Millisecond, Any: Commands{
		Ban: "trap '' TERM; sleep 1000 & echo $! >>DIR/pids; sleep 1000 & echo $! >>DIR/pids; wait; wait",
	}})
	err := b.do(about(bantam.Start, "192.0.2.1"))
	if err == nil || !strings.Contains(err.Error(), "timed out after 0 seconds") {
		t.Fatalf("the error is %v", err)
	}
	pids, err := os.ReadFile(filepath.Join(b.dir, "pids"))
	if err != nil || len(strings.Fields(string(pids))) < 2 {
		t.Fatalf("it started %q, %v", pids, err)
	}
	for _, pid := range strings.Fields(string(pids)) {
		b.until("process "+pid+" has ended", func() bool {
			stat, err := os.ReadFile("/proc/" + pid + "/stat")
			return err != nil || bytes.Contains(stat, []byte(") Z ")) || !bytes.Contains(stat, []byte("(sleep)"))
		})
	}
}

func TestExitsAreTold(t *testing.T) {
	for _, tt := range []struct{ name, command, want string }{
		{"a status", "exit 7", "returned 7"},
		{"a signal", "kill -TERM $$", "killed with SIGTERM (return code: -15)"},
		{"no such command", "no-such-command-anywhere", "returned 127: command not found"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			err := run(t.Context(), []string{tt.command}, patience)
			if err == nil || err.Error() != tt.want {
				t.Errorf("the error is %v, want %s", err, tt.want)
			}
		})
	}
}

func TestWhatIsLeftRunningHoldsNothingUp(t *testing.T) {
	t.Parallel()
	if err := run(t.Context(), []string{"sleep 30 & exit 0"}, patience); err != nil {
		t.Error(err)
	}
}

func TestCommandsRunByThemselves(t *testing.T) {
	t.Setenv("NOTIFY_SOCKET", "/x")
	t.Setenv("CREDENTIALS_DIRECTORY", "/secret")
	t.Setenv("BASH_ENV", "/x")
	t.Setenv("MY_KEY", "kept")
	// A descriptor as whoever starts the daemon may leave it one.
	left, err := syscall.Dup(0)
	if err != nil {
		t.Fatal(err)
	}
	defer syscall.Close(left)
	environment = sync.OnceValue(clean)
	defer func() { environment = sync.OnceValue(clean) }()
	b := newBench(t, Config{Any: Commands{
		Ban: "env >DIR/env; ls -l /proc/$$/fd >DIR/fds; readlink /proc/$$/fd/0 >DIR/in; cut -d' ' -f1,5,6 /proc/$$/stat >DIR/ids",
	}})
	b.must(about(bantam.Start, "192.0.2.1"))
	read := func(name string) string {
		text, err := os.ReadFile(filepath.Join(b.dir, name))
		if err != nil {
			t.Fatal(err)
		}
		return strings.TrimSpace(string(text))
	}
	env := read("env")
	for _, gone := range []string{"NOTIFY_SOCKET", "CREDENTIALS_DIRECTORY", "BASH_ENV"} {
		if strings.Contains(env, gone) {
			t.Errorf("%s is in the environment", gone)
		}
	}
	if !strings.Contains(env, "MY_KEY=kept") || !strings.Contains(env, "PATH=") {
		t.Errorf("the environment is %s", env)
	}
	if strings.Contains(read("fds"), fmt.Sprintf(" %d -> ", left)) && left < 10 || strings.Count(read("fds"), "->") > 5 || read("in") != os.DevNull {
		t.Errorf("open are\n%s", read("fds")) // three, and the two that dash has saved
	}
	if ids := strings.Fields(read("ids")); len(ids) != 3 || ids[0] != ids[1] || ids[0] != ids[2] {
		t.Errorf("process, group and session are %q", ids)
	}
}

// history is what is known of earlier bans.
type history struct{}

func (history) Past(_ context.Context, jail string, _ bantam.ID) ([]string, int, error) {
	return []string{"old of '" + jail + "'", "line"}, 40 + len(jail), nil
}

func TestAllTags(t *testing.T) {
	b := newBench(t, Config{Any: Commands{Ban: `cat >DIR/tags <<EOT
ip=<ip> fid=<fid> family=<family> rev=<ip-rev> failures=<failures> time=<time> bantime=<bantime> bancount=<bancount>
matches=<matches>
ipmatches=<ipmatches> ipfailures=<ipfailures>
ipjailmatches=<ipjailmatches> ipjailfailures=<ipjailfailures>
restored=<restored> jail=<jail.name> <jail.banned> <jail.banned_total> <jail.found> <jail.found_total>
raw=<raw-ticket>
a<br>b<sp>c
EOT
test '<sh-hostname>' = "$(hostname)" && test -n '<fq-hostname>'`}})
	b.world.History = history{}
	b.world.Counts = func(_ context.Context, jail string) (Counts, error) { return Counts{1, 2, 3, 4}, nil }
	b.must(about(bantam.Start, "192.0.2.1", func(b *bantam.Ban) { b.Lines = []string{"first", "it's"} }))
	got, err := os.ReadFile(filepath.Join(b.dir, "tags"))
	if err != nil {
		t.Fatal(err)
	}
	want := `ip=192.0.2.1 fid=192.0.2.1 family=inet4 rev=1.2.0.192. failures=5 time=1700000000.0 bantime=600 bancount=1
matches=first
it's
ipmatches=old of ''
line ipfailures=40
ipjailmatches=old of 'sshd'
line ipjailfailures=44
restored=0 jail=sshd 1 2 3 4
raw=BanTicket: ip=192.0.2.1 time=1700000000.0 bantime=600 bancount=1 #attempts=5 matches=["first", "it's"]
a
b c
`
	if string(got) != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

// hostile are texts of attackers for every field that a line can fill.
var hostile = []string{
	"$(touch DIR/pwned)", "`touch DIR/pwned`", "'; touch DIR/pwned; '", `"; touch DIR/pwned; "`, "a\ntouch DIR/pwned\n", "; touch DIR/pwned", "| touch DIR/pwned",
	"&& touch DIR/pwned", "<F-USER>", "<matches>$(touch DIR/pwned)", "> DIR/pwned", ">DIR/pwned", "${x:=`touch DIR/pwned`}", `\"$(touch DIR/pwned)`, "\r\ntouch DIR/pwned\r\n",
	"$f2bV_matches", "\x00$(touch DIR/pwned)", "-rf /", "EOT\ntouch DIR/pwned\nEOT",
}

func TestNothingOfALineIsEverRun(t *testing.T) {
	t.Parallel()
	const all = `<ip> <fid> <ip-host> <ip-rev> <matches> <ipmatches> <ipjailmatches> <raw-ticket> <F-USER> <F-X> <F-ID> <F-PORT> <F-MLFID>`
	b := newBench(t, Config{Any: Commands{
		Ban:   "printf '%s|' \"" + strings.ReplaceAll(all, " ", "\" \"") + "\" >>DIR/got; cat >/dev/null <<EOT\n" + all + "\nEOT\n: " + all + "\n: '" + all + "'\n: x`echo \"<matches>\"`",
		Unban: ": \"" + all + "\"",
	}})
	for i, text := range hostile {
		text = strings.ReplaceAll(text, "DIR", b.dir)
		poison := func(ban *bantam.Ban) {
			ban.Lines, ban.User = []string{text, text}, text
			ban.Data = map[string]string{"x": text, "fport": text, "mlfid": text, "ip": text}
		}
		for _, id := range []string{fmt.Sprintf("192.0.2.%d", i), text} {
			b.must(about(bantam.Start, id, poison))
			b.must(about(bantam.End, id, poison))
		}
		got, err := os.ReadFile(filepath.Join(b.dir, "got"))
		if err != nil {
			t.Fatal(err)
		}
		if want := strings.ReplaceAll(text, "\x00", ""); strings.Count(string(got), want+"|") < 6 {
			t.Errorf("%q arrives as %q", text, got)
		}
		if err := os.Remove(filepath.Join(b.dir, "got")); err != nil {
			t.Fatal(err)
		}
		if _, err := os.Stat(filepath.Join(b.dir, "pwned")); err == nil {
			t.Fatalf("%q was run", text)
		}
	}
}

func TestObservedBansAreNotCarriedOut(t *testing.T) {
	b := newBench(t, Config{Any: Commands{Ban: "say ban <ip>"}})
	b.must(about(bantam.Start, "192.0.2.1", func(b *bantam.Ban) { b.Observed = true }), about(bantam.Start, "192.0.2.2"))
	b.said("ban 192.0.2.2")
}

func TestAStartThatFailsIsToldAndBansGoOn(t *testing.T) {
	t.Parallel()
	b := newBench(t, Config{Any: Commands{Start: "say start; test -e DIR/ok", Ban: "say ban", Unban: ":"}})
	b.must(about(bantam.Start, "192.0.2.1"))
	b.said("start", "ban")
	if st := b.actions.Status()[0]; !strings.Contains(st.Err, "start the action act of sshd: returned 1") {
		t.Errorf("the status is %+v", st)
	}
	if !strings.Contains(b.logged(), "Failed to start jail 'sshd' action 'act'") {
		t.Error(b.logged())
	}
	if err := os.WriteFile(filepath.Join(b.dir, "ok"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	b.until("it is tried again", func() bool { return b.actions.Status()[0].Err == "" })
	b.said("start", "ban", "start")
}

func TestAnActionOnDemandThatCannotStartFailsTheBan(t *testing.T) {
	t.Parallel()
	b := newBench(t, Config{OnDemand: true, Any: Commands{Start: "say start; test $(wc -l <DIR/out) -ge 2", Ban: "say ban <ip>", Unban: ":"}})
	if err := b.do(about(bantam.Start, "192.0.2.1")); err == nil || !strings.Contains(err.Error(), "start the action act of sshd") {
		t.Errorf("the error is %v", err)
	}
	b.must(about(bantam.Start, "192.0.2.2"))
	b.until("the first ban is made, too", func() bool { return b.actions.Status()[0].Failing == 0 })
	b.said("start", "start", "ban 192.0.2.2", "ban 192.0.2.1")
}

func TestAnActionIsTriedByHand(t *testing.T) {
	b := newBench(t, Config{Title: "one", Any: Commands{Ban: "say ban <ip>", Unban: "say unban <ip>"}, Properties: map[string]string{"port": "22"}})
	for _, kind := range []bantam.Kind{bantam.Start, bantam.End} {
		if err := b.actions.Carry(t.Context(), "sshd", "one", about(kind, "192.0.2.1")); err != nil {
			t.Fatal(err)
		}
	}
	b.said("ban 192.0.2.1", "unban 192.0.2.1")
	if err := b.actions.Carry(t.Context(), "sshd", "two", about(bantam.Start, "192.0.2.1")); !errors.Is(err, ErrNoAction) {
		t.Errorf("another one is %v", err)
	}
	c := b.actions.Of("sshd")[0]
	for _, name := range c.PropertyNames() {
		if _, ok := c.Property(name); !ok {
			t.Errorf("there is no %s", name)
		}
	}
	if v, ok := c.Property("port"); v != "22" || !ok {
		t.Errorf("its port is %q", v)
	}
	if _, ok := c.Property("nothing"); ok {
		t.Error("it has a property that is nowhere")
	}
}

func BenchmarkBan(b *testing.B) {
	s := newShell(quiet(), &World{Log: quiet()}, &Config{Jail: "sshd", Title: "act", Timeout: patience, Inet4: Commands{Ban: ": <ip> \"<matches>\""}})
	d := about(bantam.Start, "192.0.2.1", func(b *bantam.Ban) { b.Lines = []string{"it's"} })
	b.ReportAllocs()
	for b.Loop() {
		clear(s.bans)
		if _, err := s.Do(b.Context(), &d); err != nil {
			b.Fatal(err)
		}
	}
}
