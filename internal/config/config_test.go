package config

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/fstest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"bantam/internal/action"
	"bantam/internal/firewall"
	"bantam/internal/lookup"
	"bantam/internal/source"
	"bantam/library"
)

// folder writes files in the form of txtar, "-- NAME --" before each, and is
// the folder they are in.
func folder(t testing.TB, files string) string {
	t.Helper()
	dir := t.TempDir()
	for part := range strings.SplitSeq("\n"+files, "\n-- ") {
		name, text, ok := strings.Cut(part+"\n", " --\n")
		if !ok {
			continue
		}
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// testLib is a library of few words.
var testLib = fstest.MapFS{
	"jail.conf": {Data: []byte(`[DEFAULT]
maxretry = 7
prefix6 = 64
filter = %(__name__)s
banaction = bantam
action = %(banaction)s[port="%(port)s", protocol=tcp]
port = 0:65535
where = /var/log

[t]
enabled = true
logpath = %(where)s/t.log

[other]
logpath = %(where)s/other.log
port = 80
`)},
	"bantam.conf":          {Data: []byte("[Definition]\nlogtarget = STDERR\nsocket =\ndbfile = /var/lib/bantam/bantam.db\n")},
	"filter.d/t.conf":      {Data: []byte("[INCLUDES]\nbefore = common.conf\n[Definition]\nfailregex = ^%(pre)s <HOST>\n")},
	"filter.d/other.conf":  {Data: []byte("[Definition]\nfailregex = ^other <HOST>\n")},
	"filter.d/common.conf": {Data: []byte("[DEFAULT]\npre = lib\n")},
}

// load loads files over testLib.
func load(t testing.TB, files string) *Config {
	t.Helper()
	c, err := Load(folder(t, files), testLib)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// jailOf is the jail of that name.
func jailOf(t testing.TB, c *Config, name string) Jail {
	t.Helper()
	for _, j := range c.Jails {
		if j.Name == name {
			return j
		}
	}
	t.Fatalf("there is no jail %s; problems: %v", name, c.Problems)
	return Jail{}
}

// problemsOf is what `check` would print.
func problemsOf(c *Config) string {
	var b strings.Builder
	for _, p := range c.Problems {
		if p.Warning {
			b.WriteString("warning: ")
		}
		b.WriteString(p.String() + "\n")
		if p.Hint != "" {
			b.WriteString("hint: " + p.Hint + "\n")
		}
	}
	return b.String()
}

// good is a jail that works beside the one under test.
const good = "\n[good]\nenabled = true\nfailregex = ^g <HOST>\nlogpath = /g.log\naction = a\nfilter =\n-- action.d/a.conf --\n[Definition]\n-- filter.d/f.conf --\n[Definition]\nfailregex = ^f <HOST>\n"

func TestWrongJailsAreSetAside(t *testing.T) {
	tests := []struct{ name, jail, want, hint string }{
		{"an unknown unit", "findtime = 10x", `jail.conf:4: findtime: unknown unit "x" in "10x"`, "use s, m, h, d or w, as in 10m"},
		{"a time cut short", "bantime = 604800;7 days", `jail.conf:4: bantime: "604800;7 days" is not a time`, `only a ";" behind a blank`},
		{"an empty time", "bantime =", `jail.conf:4: bantime: the time is empty`, "use s"},
		{"a ban of nothing", "bantime = 0", `jail.conf:4: bantime: a ban must last longer than zero`, "-1 bans for ever"},
		{"a stray percent sign", "bantime = 5%", `jail.conf:4: bantime: "%" is no reference`, "write %%"},
		{"an integer with trailing text", "maxretry = 5 # five", `jail.conf:4: maxretry: "5 # five" is not a whole number`, "only at the start of a line"},
		{"a prefix too long", "prefix4 = 33", `jail.conf:4: prefix4: 33 is not within 0 and 32`, "number"},
		{"a missing filter", "filter = ff", `jail.conf:4: filter: there is no filter "ff"`, ""},
		{"a blank before a filter's bracket", "filter = f [x=1]", `jail.conf:4: filter: there is no filter "f "`, "no blank"},
		{"bad filter syntax", "filter = f[a=\"1\" , b=2]", `jail.conf:4: filter: in "f[a=\"1\" , b=2]": a comma or the closing bracket expected at " , b=2"`, "none between a closing quote and the comma"},
		{"a quoted semicolon", "action = a[x=\"b ; c\"]", `jail.conf:4: action: the bracket of "a[x=\"b" is not closed`, "even inside quotes"},
		{"an action twice", "action = a a[x=1]", `jail.conf:4: action: there are two actions "a"`, "actname="},
		{"an undefined reference", "bantime = %(bantme)s", `jail.conf:4: bantime: %(bantme)s is not defined`, ""},
		{"a reference with a guess", "bantime = %(findtme)s\nfindtime = 5m", `jail.conf:4: bantime: %(findtme)s is not defined`, "did you mean %(findtime)s?"},
		{"an upper-case section", "bantime = %(DEFAULT/findtime)s", `jail.conf:4: bantime: %(DEFAULT/findtime)s is not defined`, "%(default/findtime)s"},
		{"a circle", "bantime = %(findtime)s\nfindtime = %(bantime)s", `jail.conf:5: findtime: the references go round in a circle, or more than 10 deep`, ""},
		{"known without a past", "maxlines = %(known/maxlines)s", `jail.conf:4: maxlines: %(known/maxlines)s is not defined`, "neither the filter"},
		{"maxlines of zero", "maxlines = 0", `jail.conf:4: maxlines: 0 is less than 1`, ""},
		{"an unknown backend", "backend = gamin", `jail.conf:4: backend: unknown backend "gamin"`, "use auto, inotify, polling, systemd, syslog or command"},
		{"a mask with a hole", "ignoreip = 10.0.0.0/255.0.255.0", `jail.conf:4: ignoreip: "10.0.0.0/255.0.255.0" is neither an address nor a prefix: the mask has a hole`, "192.0.2.0/24"},
		{"a blank in a path", "logpath = /v/my app.log", `jail.conf:4: logpath: "/v/my app.log": the word behind the path must be head or tail, not "app.log"`, "head or tail"},
		{"a comment behind a path", "logpath = /v/x.log # c", `jail.conf:4: logpath: "/v/x.log # c": the word behind the path must be head or tail, not "c"`, "only at the start of a line"},
		{"a swallowed option", "logpath = /v/x.log\n  bantime = 6", `jail.conf:4: logpath: "bantime = 6": the word behind the path must be head or tail, not "6"`, "at the margin"},
		{"a relative path", "logpath = x.log", `jail.conf:4: logpath: the path "x.log" is not absolute`, "begin it with /"},
		{"a bad journal match", "journalmatch = sshd", `jail.conf:4: journalmatch: "sshd" is not FIELD=value`, "_SYSTEMD_UNIT"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := load(t, "-- jail.conf --\n\n[t]\nenabled = true\n"+tt.jail+good)
			j := jailOf(t, c, "t")
			if j.Err == nil || j.Err.Error() != tt.want {
				t.Errorf("the error is %v\nwant %s", j.Err, tt.want)
			}
			if !strings.Contains(problemsOf(c), tt.want) || !strings.Contains(problemsOf(c), tt.hint) {
				t.Errorf("the report is\n%swant the hint %s", problemsOf(c), tt.hint)
			}
			if g := jailOf(t, c, "good"); g.Err != nil {
				t.Errorf("the good jail is set aside: %v", g.Err)
			}
		})
	}
}

func TestWrongFiltersSetTheirJailAside(t *testing.T) {
	tests := []struct{ name, filter, want, hint string }{
		{"a bare line", "[Definition]\nfailregex\n", `filter.d/t.conf:2: "failregex" is neither an option nor a section`, "indented"},
		{"a reference that only Init could satisfy", "[Definition]\nfailregex = ^%(x)s <HOST>\n[Init]\nx = 1\n", `filter.d/t.conf:2: failregex: %(x)s is not defined`, "write <x>"},
		{"tags in a circle", "[Definition]\nfailregex = <a>\na = <b>\nb = <a>\n", `filter.d/t.conf:3: a: <a> refers to itself`, "circle"},
		{"not UTF-8", "[Definition]\nfailregex = \xe9\n", `filter.d/t.conf:2: the file is not UTF-8`, "UTF-8"},
		{"bad maxlines", "[Definition]\nfailregex = x\nmaxlines = many\n", `filter.d/t.conf:3: maxlines: "many" is not a whole number`, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := load(t, "-- jail.conf --\n[t]\nenabled = true\nfilter = t\nlogpath = /t.log\naction = a"+good+"-- filter.d/t.conf --\n"+tt.filter)
			j := jailOf(t, c, "t")
			if j.Err == nil || j.Err.Error() != tt.want {
				t.Errorf("the error is %v\nwant %s", j.Err, tt.want)
			}
			if !strings.Contains(problemsOf(c), tt.hint) {
				t.Errorf("the report is\n%swant the hint %s", problemsOf(c), tt.hint)
			}
			if g := jailOf(t, c, "good"); g.Err != nil {
				t.Errorf("the good jail is set aside: %v", g.Err)
			}
		})
	}
}

func TestWarnings(t *testing.T) {
	tests := []struct{ name, jail, want string }{
		{"an unknown option with a guess", "maxrety = 3", `warning: jail.conf:8: unknown option "maxrety"; did you mean maxretry?`},
		{"an unknown option without one", "frobnicate = 3", `warning: jail.conf:8: unknown option "frobnicate"`},
		{"an unknown truth", "observe = perhaps", `warning: jail.conf:8: observe: "perhaps" is none of yes`},
		{"a comment among addresses", "ignoreip = 192.0.2.1 # me", `warning: jail.conf:8: ignoreip: "#" is passed over`},
		{"a length longer than the address", "ignoreip = 10.0.0.0/33", `warning: jail.conf:8: ignoreip: "10.0.0.0/33" is longer than an address: taken as 10.0.0.0`},
		{"unknown usedns", "usedns = maybe", `warning: jail.conf:8: usedns: "maybe" is none of yes, warn, no and raw: taken as no`},
		{"a formula that is not used", "bantime.formula = ban.Tim", `warning: jail.conf:8: bantime.formula: at character 1: there is no ban.Tim`},
		{"countries", "ignorecountry = de", `warning: jail.conf:8: ignorecountry: there is no database of countries and networks`},
		{"a parameter for the backend", "backend = polling[x=1]", `warning: jail.conf:8: backend: the backend polling takes no parameter "x"`},
		{"no action", "action =", `warning: jail.conf:8: action: the jail has no action: it counts and bans nobody`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := load(t, "-- jail.conf --\n[DEFAULT]\nfilter = f\n\n\nlogpath = /t.log\n[t]\nenabled = true\n"+tt.jail+good)
			if j := jailOf(t, c, "t"); j.Err != nil {
				t.Errorf("the jail is set aside: %v", j.Err)
			}
			if !strings.Contains(problemsOf(c), tt.want) {
				t.Errorf("the report is\n%swant %s", problemsOf(c), tt.want)
			}
		})
	}
}

func TestNoWarnings(t *testing.T) {
	c := load(t, `-- jail.conf --
[DEFAULT]
mine = /var/log/mine.log
ours = tcp
destemail = a@example.org
[t]
enabled = true
filter = f
logpath = %(mine)s
action = a[port="%(port)s", protocol=<ours>]
port = ssh
bantime.increment = no
[off]
frobnicate = 1
-- filter.d/f.conf --
[Definition]
failregex = ^f <HOST>
anything = goes
-- action.d/a.conf --
[Definition]
`)
	if len(c.Problems) > 0 {
		t.Error(problemsOf(c))
	}
}

// What is wrong with growing bans is named with its place.
func TestIncrementProblems(t *testing.T) {
	for _, c := range []struct{ name, option, want string }{
		{"an unknown name", "bantime.formula = ban.Time * bans", `jail.conf:9: bantime.formula: at character 12: there is no bans;`},
		{"a formula that stops", "bantime.formula = (ban.Time *", `jail.conf:9: bantime.formula: at character 12: it ends where a number should be`},
		{"a formula of another language", "bantime.formula = __import__('os').system('id')", `jail.conf:9: bantime.formula: at character 1: there is no __import__`},
		{"a formula without a value", "bantime.formula = 1 / (ban.Count - 3)", `jail.conf:9: bantime.formula: with ban.Count = 3: division by zero`},
		{"a factor that asks for a ban", "bantime.factor = ban.Time", `jail.conf:9: bantime.factor: ban.Time, ban.Count and banFactor belong into bantime.formula`},
		{"a multiplier with a fraction", "bantime.multipliers = 1 2.5", `jail.conf:9: bantime.multipliers: "2.5" is not a whole number`},
		{"a multiplier that ends no ban", "bantime.multipliers = 1 0", `jail.conf:9: bantime.multipliers: ban number 2 would last 0 seconds`},
		{"no limit at all", "bantime.maxtime = 0", `jail.conf:9: bantime.maxtime: the time must be more than zero`},
		{"an unknown unit", "bantime.rndtime = 5x", `jail.conf:9: bantime.rndtime: unknown unit "x"`},
	} {
		t.Run(c.name, func(t *testing.T) {
			loaded := load(t, "-- jail.conf --\n[DEFAULT]\nfilter = f\n\n\nlogpath = /t.log\n[t]\nenabled = true\nbantime.increment = true\n"+c.option+good)
			if j := jailOf(t, loaded, "t"); j.Err == nil || !strings.Contains(j.Err.Error(), c.want) {
				t.Errorf("the jail is set aside for\n%v\nwant\n%s", j.Err, c.want)
			}
			if g := jailOf(t, loaded, "good"); g.Err != nil {
				t.Errorf("the good jail is set aside: %v", g.Err)
			}
		})
	}
}

// Growing bans are set for all jails and changed for one; an empty value takes away.
func TestIncrementOptions(t *testing.T) {
	c := load(t, `-- jail.conf --
[DEFAULT]
filter = f
action = bantam
logpath = /t.log
bantime.increment = true
bantime.factor = 24 * 60 # a comment
bantime.formula = ban.Time * math.exp(float(ban.Count+1)*banFactor)/math.exp(1*banFactor)
bantime.multipliers = 1 5  30
bantime.maxtime = 5w
bantime.rndtime = 8m
bantime.overalljails = yes
[t]
enabled = true
[u]
enabled = true
bantime.multipliers =
bantime.maxtime =
bantime.factor =
-- filter.d/f.conf --
[Definition]
failregex = ^f <HOST>
-- fail2ban.conf --
[Definition]
dbpurgeage = 2d
dbfile = /d
`)
	if len(c.Problems) > 0 {
		t.Error(problemsOf(c))
	}
	i := jailOf(t, c, "t").Jail.Increment
	if !i.Enabled || !i.OverallJails || i.Factor.String() != "24 * 60 # a comment" || !strings.Contains(i.Formula.String(), "math.exp") ||
		!slices.Equal(i.Multipliers, []int{1, 5, 30}) || i.MaxTime != 5*7*24*time.Hour || i.RndTime != 8*time.Minute {
		t.Errorf("the jail grows by %+v", i)
	}
	u := jailOf(t, c, "u").Jail
	if u.Increment.Multipliers != nil || u.Increment.MaxTime != 0 || u.Increment.Factor != nil || u.Increment.Formula == nil {
		t.Errorf("the other jail grows by %+v", u.Increment)
	}
	if u.PurgeAge != 48*time.Hour {
		t.Errorf("bans are remembered for %s", u.PurgeAge)
	}
}

func TestIgnoreCache(t *testing.T) {
	for _, c := range []struct{ name, text, want string }{
		{"the key alone", `key="<ip>"`, "{<ip> 100 5m0s}"},
		{"all of it", `key="<F-USER>@<ip-host>", max-count=1000, max-time=1h 30`, "{<F-USER>@<ip-host> 1000 1h0m30s}"},
		{"without quotes", `key=<ip>,max-time=60`, "{<ip> 100 1m0s}"},
		{"nothing", "  ", "{ 0 0s}"},
		{"a parameter that nothing reads", `key=a, maxcount=5`, `{a 100 5m0s} ["maxcount"]`},
		{"no key", "max-count=5", "the key is missing"},
		{"an empty key", `key=""`, "the key is missing"},
		{"no parameter at all", "100", `KEY=VALUE expected at "100"`},
		{"a count that is none", "key=a, max-count=x", `max-count: "x" is not a whole number`},
		{"a count of nothing", "key=a, max-count=0", "max-count 0 is not within 1 and 1048576"},
		{"a time that is none", "key=a, max-time=soon", `max-time: `},
		{"a time too long", "key=a, max-time=1000y", "292 years"},
		{"a time that is over", "key=a, max-time=-1", "max-time must be more than zero"},
	} {
		cache, unknown, err := IgnoreCache(c.text)
		got := fmt.Sprint(cache)
		if len(unknown) > 0 {
			got += fmt.Sprintf(" %q", unknown)
		}
		if err != nil {
			got = err.Error()
		}
		if got != c.want && (err == nil || !strings.Contains(got, c.want)) {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
	}
	c := load(t, "-- jail.conf --\n[DEFAULT]\nlogpath = /t\nfailregex = ^x <HOST>\nfilter = f\naction = bantam\n[a]\nenabled = true\nignorecache = key=<ip>, max=3\n"+
		"[b]\nenabled = true\nignorecommand = /bin/true <ip>\nignorecache = max-count=3\n-- filter.d/f.conf --\n[Definition]\n")
	want := `warning: jail.conf:8: ignorecache: ignorecache has no parameter "max"
hint: write key="<ip>", max-count=100, max-time=5m
warning: jail.conf:8: ignorecache: there is nothing to keep: the jail has no ignorecommand
jail.conf:12: ignorecache: the key is missing
hint: write key="<ip>", max-count=100, max-time=5m
`
	if got := problemsOf(c); got != want {
		t.Errorf("the report is\n%s", got)
	}
}

// Whatever ignorecache holds, what is read of it can be obeyed.
func FuzzIgnoreCache(f *testing.F) {
	for _, text := range []string{`key="<ip>", max-count=100, max-time=5m`, "key=a]", "key='", "max-time=1h*2, key=b", "=,=,"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		cache, _, err := IgnoreCache(text)
		if err == nil && cache.Validate() != nil || err != nil && cache != (lookup.Cache{}) {
			t.Fatalf("%q is %+v, %v", text, cache, err)
		}
	})
}

func TestCommentBehindEnabled(t *testing.T) {
	c := load(t, "-- jail.conf --\n[t]\nenabled = true # on\n")
	if len(c.Jails) != 0 {
		t.Errorf("the jails are %v", c.Jails)
	}
	want := `warning: jail.conf:2: enabled: "true # on" is none of yes, true, on, 1, no, false, off and 0: taken as no, the jail is off
hint: "#" starts a comment only at the start of a line: put it on a line of its own
`
	if got := problemsOf(c); got != want {
		t.Errorf("the report is\n%s", got)
	}
}

func TestOptions(t *testing.T) {
	c := load(t, `-- jail.conf --
[DEFAULT]
ignoreip = 127.0.0.1/8, ::1
banaction = bantam
action_ = %(banaction)s[port="%(port)s", protocol="%(protocol)s"]
action = %(action_)s
protocol = tcp
[t]
enabled = true
filter = f
port = ssh,2222
maxretry = 3
maxmatches = %(maxretry)s
findtime = 1h 30
bantime = 1w # a week
prefix4 = 24
prefix6 = 56
observe = yes
backend = AUTO
logpath = /v/a.log
   /v/my app.log head
# a comment does not end it
   /v/*.log tail
journalmatch = _SYSTEMD_UNIT=a.service + _COMM=a _COMM=b
   "_COMM=c d"
ignoreip = %(known/ignoreip)s 192.0.2.0/24
ignoreself = no
ignorecommand = /bin/false <ip>
logencoding = latin-1
logtimezone = UTC
[p]
enabled = on
filter = f
bantime = -1
failregex = %(known/failregex)s
  ^more <HOST>
backend = systemd[journalpath=/j, namespace=ns]
logpath = /ignored
`+"-- filter.d/f.conf --\n[Definition]\nfailregex = ^f <HOST>\njournalmatch = _COMM=f\nignoreregex = ^i\ndatepattern = ^%%Y\nmaxlines = 3\nusedns = no\n")
	if len(c.Problems) > 0 {
		t.Error(problemsOf(c))
	}
	got := jailOf(t, c, "t")
	want := Jail{Name: "t"}
	want.Jail.Name, want.Jail.MaxRetry, want.Jail.MaxMatches = "t", 3, 3
	want.Jail.FindTime, want.Jail.BanTime = 3630*time.Second, 7*24*time.Hour
	want.Jail.PurgeAge = 24 * time.Hour
	want.Jail.Prefix4, want.Jail.Prefix6, want.Jail.Observe = 24, 56, true
	want.Filter.Jail, want.Filter.Name, want.Filter.UseDNS, want.Filter.MaxLines = "t", "f", "no", 3
	want.Filter.Failregex, want.Filter.Ignoreregex, want.Filter.DatePattern = []string{"^f <HOST>"}, []string{"^i"}, []string{"^%Y"}
	want.Filter.LogTimezone, want.Filter.LogEncoding = "UTC", "latin-1"
	want.Source = source.Config{
		Jail: "t", Backend: "auto", FindTime: 3630 * time.Second,
		Paths:        []source.Path{{Pattern: "/v/a.log"}, {Pattern: "/v/my app.log"}, {Pattern: "/v/*.log", Tail: true}},
		JournalMatch: [][]string{{"_SYSTEMD_UNIT=a.service"}, {"_COMM=a", "_COMM=b"}, {"_COMM=c d"}},
	}
	want.Lookup.Jail, want.Lookup.IgnoreIP, want.Lookup.IgnoreCommand = "t", []string{"127.0.0.1/8", "::1", "192.0.2.0/24"}, "/bin/false <ip>"
	want.Actions = []action.Config{{Jail: "t", Name: "bantam", Kind: action.Native, Title: "bantam", Params: map[string]string{"port": "ssh,2222", "protocol": "tcp", "name": "t"}}}
	if diff := cmp.Diff(want, got, cmpopts.IgnoreUnexported(Jail{})); diff != "" {
		t.Error(diff)
	}
	p := jailOf(t, c, "p")
	if p.Jail.BanTime >= 0 || p.Jail.MaxRetry != 3 || p.Jail.MaxMatches != 5 || !p.Lookup.IgnoreSelf {
		t.Errorf("the jail is %+v", p.Jail)
	}
	if !slices.Equal(p.Filter.Failregex, []string{"^f <HOST>", "^more <HOST>"}) {
		t.Errorf("failregex is %q", p.Filter.Failregex)
	}
	if s := p.Source; s.Backend != source.Systemd || s.JournalDir != "/j" || s.JournalNamespace != "ns" || s.Paths != nil || len(s.JournalMatch) != 1 {
		t.Errorf("the source is %+v", s)
	}
}

func TestFilesLieOverEachOther(t *testing.T) {
	c := load(t, `-- jail.conf --
[INCLUDES]
before = paths.conf
after = last.conf
   missing.local
[t]
enabled = true
filter = f
action = a
logpath = %(log)s
failregex = ^1
ignoreregex = conf
prefregex = conf
usedns = no
datepattern = conf
-- paths.conf --
[INCLUDES]
before = jail.conf
  paths.conf
[DEFAULT]
log = /conf.log
-- paths.local --
[DEFAULT]
log = /paths-local.log
-- last.conf --
[t]
prefregex = last
-- jail.d/b.conf --
[t]
datepattern = b
-- jail.d/B.conf --
[t]
datepattern = B
ignoreregex = B
-- jail.d/.hidden.conf --
[t]
failregex = hidden
-- jail.d/readme --
what
-- jail.local --
[t]
failregex = ^2
-- jail.d/c.local --
[t]
failregex = ^3
-- action.d/a.local --
[Definition]
-- filter.d/f.conf --
[Definition]
-- filter.d/f.d/x.conf --
[Definition]
failregex = ^x
`)
	j := jailOf(t, c, "t")
	if len(c.Problems) > 0 {
		t.Error(problemsOf(c))
	}
	if f := j.Filter; !slices.Equal(f.Failregex, []string{"^3"}) || !slices.Equal(f.Ignoreregex, []string{"B"}) ||
		f.Prefregex != "last" || !slices.Equal(f.DatePattern, []string{"b"}) {
		t.Errorf("the filter is %+v", f)
	}
	if len(j.Source.Paths) != 1 || j.Source.Paths[0].Pattern != "/paths-local.log" {
		t.Errorf("the paths are %v", j.Source.Paths)
	}
	if v, ok := c.Value("t", "Failregex"); !ok || v.File != "jail.d/c.local" || v.Line != 2 {
		t.Errorf("failregex comes from %+v", v)
	}
}

func TestFiltersAreCombined(t *testing.T) {
	tests := []struct {
		name, filter, jail string
		want               []string
	}{
		{"Init beats Definition", "[Definition]\nx = D\nfailregex = ^<x> %(x)s\n[Init]\nx = I\n", "f", []string{"^I I"}},
		{"parameters beat Init", "[Definition]\nx = D\nfailregex = ^<x> %(x)s\n[Init]\nx = I\n", "f[X=P]", []string{"^P P"}},
		{"DEFAULT serves references", "[Definition]\nfailregex = ^<x> %(x)s\n[DEFAULT]\nx = 1\n", "f", []string{"^1 1"}},
		{"an option that is obeyed may stand in DEFAULT", "[Definition]\n[DEFAULT]\nfailregex = ^d\n", "f", []string{"^d"}},
		{"modes", "[Definition]\nm-a = A\n  AA\nm-b = B\nfailregex = <m-<mode>>\n[Init]\nmode = a\n", "f[mode=b]", []string{"B"}},
		{"a tag of several lines", "[Definition]\nm-a = A\n  AA\nfailregex = <m-<mode>>\n[Init]\nmode = a\n", "f", []string{"A", "AA"}},
		{"known in a parameter", "[Definition]\nfailregex = ^<x>\n[Init]\nx = a\n", `f[x="<known/x>|b"]`, []string{"^a|b"}},
		{"sections by log type", "[Definition]\nfailregex = ^<lt_<logtype>/p>\n[lt_file]\np = file%(q)s\nq = 1\n", "f", []string{"^file1"}},
		{"logtype of Init does not count", "[Definition]\nfailregex = <logtype>\n[Init]\nlogtype = short\n", "f", []string{"file"}},
		{"logtype of Definition does", "[Definition]\nlogtype = short\nfailregex = <logtype>\n", "f", []string{"short"}},
		{"the jail's options are not there but three", "[Definition]\nfailregex = <maxretry> <backend> <enabled> <HOST>\n", "f", []string{"<maxretry> auto true <HOST>"}},
		{"tags with a variant per family stay", "[Definition]\nfailregex = <x>\n[Init]\nx = 1\n[Init?family=inet6]\nx = 2\n", "f", []string{"<x>"}},
		{"the context of a section in another", "[Definition]\na = d\nfailregex = <lt/o> %(lt/o)s\n[lt]\na = l\no = %(a)s\n", "f", []string{"l d"}},
		{"a group of a parameter's name is destroyed", "[Definition]\nfailregex = ^(?P<user>x) <HOST>\n", "f[user=abc]", []string{"^(?Pabcx) <HOST>"}},
		{"percent signs of a parameter", "[Definition]\nfailregex = <x>\n", "f[x=5%%]", []string{"5%"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := load(t, "-- jail.conf --\n[t]\nenabled = true\nlogpath = /t.log\nfilter = "+tt.jail+"\n-- filter.d/f.conf --\n"+tt.filter)
			j := jailOf(t, c, "t")
			if j.Err != nil || !slices.Equal(j.Filter.Failregex, tt.want) {
				t.Errorf("got %q, %v, want %q", j.Filter.Failregex, j.Err, tt.want)
			}
		})
	}
}

func TestKnown(t *testing.T) {
	c := load(t, `-- jail.conf --
[DEFAULT]
ignoreip = 192.0.2.1
[t]
enabled = true
filter = f
logpath = /t.log
failregex = ^jail
port = 1
action = a
[u]
enabled = true
filter = f
-- jail.local --
[DEFAULT]
ignoreip = %(known/ignoreip)s 192.0.2.2
[t]
failregex = %(known/failregex)s
  ^local
port = %(known/port)s,2
action = b[port="%(port)s"]
ignoreip = 192.0.2.3
-- filter.d/f.conf --
[Definition]
failregex = ^filter
-- action.d/b.conf --
[Definition]
`)
	j := jailOf(t, c, "t")
	if !slices.Equal(j.Filter.Failregex, []string{"^filter", "^local"}) {
		t.Errorf("failregex is %q: known/ must mean the filter's", j.Filter.Failregex)
	}
	if len(j.Actions) != 1 || j.Actions[0].Params["port"] != "1,2" {
		t.Errorf("the actions are %+v", j.Actions)
	}
	// In [DEFAULT] known/ is the option itself, as in the original.
	if u := jailOf(t, c, "u"); u.Err == nil || !strings.Contains(problemsOf(c), "write the earlier value out") {
		t.Errorf("the error is %v", u.Err)
	}
}

func TestKnownReachesOneFileBack(t *testing.T) {
	c := load(t, `-- jail.conf --
[t]
enabled = true
filter = t
logpath = /t.log
ignoreip = 192.0.2.1
-- jail.d/a.conf --
[t]
ignoreip = %(known/ignoreip)s 192.0.2.2
-- jail.local --
[t]
ignoreip = %(known/ignoreip)s 192.0.2.3
`)
	if j := jailOf(t, c, "t"); j.Err == nil || !strings.HasPrefix(j.Err.Error(), "jail.d/a.conf:2: ignoreip: the references go round in a circle") {
		t.Errorf("the error is %v", j.Err)
	}
}

func TestLibraryBelowTheFolder(t *testing.T) {
	t.Run("without a folder the library is all", func(t *testing.T) {
		c, err := Load("", testLib)
		if err != nil {
			t.Fatal(err)
		}
		j := jailOf(t, c, "t")
		if len(c.Jails) != 1 || j.Jail.MaxRetry != 7 || j.Filter.Failregex[0] != "^lib <HOST>" || len(c.Problems) > 0 {
			t.Errorf("got %+v\n%s", c.Jails, problemsOf(c))
		}
	})
	t.Run("a folder without jail.conf changes it", func(t *testing.T) {
		c := load(t, "-- jail.local --\n[other]\nenabled = true\nport = 81\n[t]\nenabled = false\n-- filter.d/other.local --\n[Definition]\nfailregex = %(known/failregex)s\n  ^two\n")
		j := jailOf(t, c, "other")
		if len(c.Jails) != 1 || j.Jail.MaxRetry != 7 || j.Actions[0].Params["port"] != "81" || len(j.Filter.Failregex) != 2 {
			t.Errorf("got %+v\n%s", c.Jails, problemsOf(c))
		}
	})
	t.Run("a folder with jail.conf has its own defaults", func(t *testing.T) {
		c := load(t, "-- jail.conf --\n[DEFAULT]\nfilter = %(__name__)s\n-- jail.local --\n[other]\nenabled = true\n")
		j := jailOf(t, c, "other")
		if len(c.Jails) != 1 || j.Jail.MaxRetry != 3 || j.Jail.Prefix6 != 0 || len(j.Actions) != 0 {
			t.Errorf("got %+v\n%s", c.Jails, problemsOf(c))
		}
		if len(j.Source.Paths) != 1 || j.Source.Paths[0].Pattern != "/var/log/other.log" {
			t.Errorf("the paths are %v", j.Source.Paths)
		}
	})
	t.Run("naming a jail of the library does not enable it", func(t *testing.T) {
		if c := load(t, "-- jail.conf --\n[t]\nport = 1\n"); len(c.Jails) != 0 {
			t.Errorf("got %+v", c.Jails)
		}
	})
	t.Run("a jail that says where its lines come from stands alone", func(t *testing.T) {
		c := load(t, "-- jail.conf --\n[other]\nenabled = true\nlogpath = /mine.log\nfilter = other\n")
		if v, ok := c.Value("other", "port"); ok {
			t.Errorf("port comes from %s", v.File)
		}
		if j := jailOf(t, c, "other"); j.Filter.Failregex[0] != "^other <HOST>" {
			t.Errorf("got %+v", j.Filter)
		}
	})
	t.Run("the folder's filter stands alone, the library's includes its own", func(t *testing.T) {
		c := load(t, "-- jail.conf --\n[t]\nenabled = true\nlogpath = /t.log\nfilter = t\n[other]\nenabled = true\nfilter = other\n-- filter.d/common.conf --\n[DEFAULT]\npre = mine\n-- filter.d/other.local --\n[Definition]\nfailregex = ^local\n")
		if got := jailOf(t, c, "t").Filter.Failregex[0]; got != "^lib <HOST>" {
			t.Errorf("got %q", got)
		}
		if got := jailOf(t, c, "other").Filter.Failregex; !slices.Equal(got, []string{"^local"}) {
			t.Errorf("got %q", got)
		}
	})
}

func TestDaemon(t *testing.T) {
	library := Daemon{LogLevel: "INFO", LogTarget: "STDERR", SyslogSocket: "auto", DBFile: "/var/lib/bantam/bantam.db", DBMaxMatches: 10, DBPurgeAge: 24 * time.Hour, AllowIPv6: "auto", PIDFile: "/var/run/fail2ban/fail2ban.pid"}
	if diff := cmp.Diff(library, load(t, "-- jail.conf --\n").Daemon); diff != "" {
		t.Error(diff)
	}
	c := load(t, "-- fail2ban.conf --\n[DEFAULT]\ndbpurgeage = 1w\n[Definition]\nloglevel = debug\nsocket = /run/x\n-- fail2ban.d/a.conf --\n[Definition]\ndbfile = None\n-- bantam.local --\n[Definition]\nallowipv6 = no\nlogtargt = /x\n[Thread]\nstacksize = 0\n")
	want := Daemon{
		Fail2Ban: true, LogLevel: "DEBUG", LogTarget: "/var/log/fail2ban.log", SyslogSocket: "auto", Socket: "/run/x",
		PIDFile: "/var/run/fail2ban/fail2ban.pid", DBFile: ":memory:", DBMaxMatches: 10, DBPurgeAge: 7 * 24 * time.Hour, AllowIPv6: "no",
	}
	if diff := cmp.Diff(want, c.Daemon); diff != "" {
		t.Error(diff)
	}
	for _, want := range []string{"warning: fail2ban.d/a.conf:2: dbfile: bans are kept in memory only", `bantam.local:3: unknown option "logtargt"; did you mean logtarget?`} {
		if !strings.Contains(problemsOf(c), want) {
			t.Errorf("the report is\n%swant %s", problemsOf(c), want)
		}
	}
	c = load(t, "-- fail2ban.conf --\n[Definition]\nloglevel = LOUD\ndbpurgeage = 1x\ndbmaxmatches = no\nallowipv6 = perhaps\npidfile = %(x)s\n")
	if len(c.Problems) != 5 || c.Daemon.LogLevel != "INFO" || c.Daemon.DBPurgeAge != 24*time.Hour {
		t.Errorf("got %+v\n%s", c.Daemon, problemsOf(c))
	}
}

func TestLoadErrors(t *testing.T) {
	tests := []struct {
		name string
		dir  func(t *testing.T) string
		want string
	}{
		{"no such folder", func(t *testing.T) string { return filepath.Join(t.TempDir(), "no") }, "there is no such folder"},
		{"the folder is a file", func(t *testing.T) string { return folder(t, "-- jail.conf --\n") + "/jail.conf" }, "this is not a folder"},
		{"jail.conf is a folder", func(t *testing.T) string { return folder(t, "-- jail.conf/x --\n") }, "jail.conf: this is a folder, not a file"},
		{"jail.conf is a pipe", func(t *testing.T) string {
			dir := t.TempDir()
			if err := syscall.Mkfifo(filepath.Join(dir, "jail.conf"), 0o600); err != nil {
				t.Skip("make a pipe: ", err)
			}
			return dir
		}, "jail.conf: this is not a regular file"},
		{"jail.conf cannot be parsed", func(t *testing.T) string { return folder(t, "-- jail.conf --\n[a]\nb\n") }, `jail.conf:2: "b" is neither an option nor a section`},
		{"jail.local cannot be parsed", func(t *testing.T) string { return folder(t, "-- jail.local --\na = 1\n") }, `jail.local:1: "a = 1" stands before the first [section]`},
		{"a byte-order mark", func(t *testing.T) string { return folder(t, "-- jail.conf --\n\ufeff[a]\n") }, "jail.conf:1: the file begins with a byte-order mark"},
		{"not UTF-8", func(t *testing.T) string { return folder(t, "-- jail.d/x.conf --\n[a]\nb = \xff\n") }, "jail.d/x.conf:2: the file is not UTF-8"},
		{"every section of a long file is enabled", func(t *testing.T) string {
			var b strings.Builder
			for i := range maxJails + 1 {
				fmt.Fprintf(&b, "[j%d]\n", i)
			}
			return folder(t, "-- jail.conf --\n[DEFAULT]\nenabled = 1\n"+b.String())
		}, "more than 20000 jails are enabled"},
		{"fail2ban.conf cannot be parsed", func(t *testing.T) string { return folder(t, "-- fail2ban.conf --\nx\n") }, "fail2ban.conf:1:"},
		{"files that include each other without end", func(t *testing.T) string {
			var b strings.Builder
			for i := range 12 {
				fmt.Fprintf(&b, "-- %d.conf --\n[INCLUDES]\nbefore = %d.conf\nafter = %d.conf\n", i, i+1, i+1)
			}
			return folder(t, b.String()+"-- 12.conf --\n-- jail.conf --\n[INCLUDES]\nbefore = 0.conf\n")
		}, "more than 1000 files are included"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := Load(tt.dir(t), testLib)
			var p *Problem
			if !errors.As(err, &p) || !strings.Contains(p.String(), tt.want) || p.Hint == "" {
				t.Errorf("got %v want %s and a hint", err, tt.want)
			}
		})
	}
}

func TestUnreadableFile(t *testing.T) {
	dir := folder(t, "-- jail.conf --\n")
	if err := os.Chmod(filepath.Join(dir, "jail.conf"), 0); err != nil {
		t.Fatal(err)
	}
	if f, err := os.Open(filepath.Join(dir, "jail.conf")); err == nil {
		f.Close()
		t.Skip("this user may read every file")
	}
	if _, err := Load(dir, testLib); err == nil || err.Error() != "jail.conf: the file cannot be read: permission denied" {
		t.Errorf("got %v", err)
	}
}

func TestLinks(t *testing.T) {
	dir := folder(t, "-- jail.conf --\n[t]\nenabled = true\nfilter = t\nlogpath = /x\n")
	for name, target := range map[string]string{"jail.local": os.DevNull, "jail.d": "nowhere"} {
		if err := os.Symlink(target, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("nowhere", filepath.Join(dir, "fail2ban.local")); err != nil {
		t.Fatal(err)
	}
	c, err := Load(dir, testLib)
	if err != nil || jailOf(t, c, "t").Err != nil {
		t.Fatal(err)
	}
	if want := `warning: fail2ban.local: the link to "nowhere" leads nowhere`; !strings.Contains(problemsOf(c), want) {
		t.Errorf("the report is\n%s", problemsOf(c))
	}
}

func TestFind(t *testing.T) {
	root := folder(t, "-- full/jail.local --\n-- empty/x --\n-- last/x --\n")
	at := func(s string) string { return filepath.Join(root, s) }
	for _, tt := range []struct {
		name, dir  string
		candidates []string
		want       string
	}{
		{"a folder that is named is taken unseen", "/no/where", []string{at("full")}, "/no/where"},
		{"library means none", "library", []string{at("full"), at("last")}, ""},
		{"the first that holds jails", "", []string{at("full"), at("last")}, at("full")},
		{"the last if the first holds none", "", []string{at("empty"), at("last")}, at("last")},
		{"none", "", []string{at("empty"), at("no")}, ""},
	} {
		if got := Find(tt.dir, tt.candidates...); got != tt.want {
			t.Errorf("%s: got %q, want %q", tt.name, got, tt.want)
		}
	}
}

// Hostile files take time in proportion to their size, not to its square.
func TestLargeFilesAreReadInTime(t *testing.T) {
	const n = 1 << 20
	for name, text := range map[string]string{
		"brackets":        "action = " + strings.Repeat("[", n),
		"quoted brackets": "action = " + strings.Repeat("[']'", n/16),
		"entries":         "action = " + strings.Repeat("a ", n/16),
		"references":      "x = " + strings.Repeat("%(", n/2),
		"tags":            "x = " + strings.Repeat("<a", n/2),
		"options":         manyOptions(n),
		"addresses":       "ignoreip = " + strings.Repeat("a/ ", n/16),
		"continuations":   "logpath = /x\n" + strings.Repeat(" /y\n", n/64),
		"percent signs":   "failregex = " + strings.Repeat("%%", n/4),
	} {
		t.Run(name, func(t *testing.T) {
			dir, start := folder(t, "-- jail.conf --\n[t]\nenabled = true\nfilter = t\n"+text), time.Now()
			if _, err := Load(dir, testLib); err != nil {
				t.Error(err)
			}
			// A square would take hours, so that a slow machine is no matter.
			if took := time.Since(start); took > 30*time.Second {
				t.Errorf("it took %v", took)
			}
		})
	}
}

func manyOptions(size int) string {
	var b strings.Builder
	for i := 0; b.Len() < size; i++ {
		fmt.Fprintf(&b, "maxretr%d = 1\n", i)
	}
	return b.String()
}

func TestProblemsAreNamedOnce(t *testing.T) {
	c := load(t, "-- jail.conf --\n[DEFAULT]\nenabled = true\nfindtime = 1x\nfilter = t\nlogpath = /x\n[a]\n[b]\n")
	n := strings.Count(problemsOf(c), "unknown unit")
	if len(c.Jails) != 2 || c.Jails[0].Err == nil || c.Jails[1].Err == nil || n != 1 {
		t.Errorf("%d jails, %d reports\n%s", len(c.Jails), n, problemsOf(c))
	}
}

func TestLoadFilter(t *testing.T) {
	f, err := LoadFilter(testLib, "t", map[string]string{"pre": "mine"})
	if err != nil || f.Name != "t" || f.UseDNS != "warn" || !slices.Equal(f.Failregex, []string{"^mine <HOST>"}) {
		t.Errorf("got %+v, %v", f, err)
	}
	if _, err := LoadFilter(testLib, "tt", nil); err == nil {
		t.Error("a filter that is not there was loaded")
	}
}

func TestLibrary(t *testing.T) {
	c, err := Load("", library.FS)
	if err != nil {
		t.Fatal(err)
	}
	if len(c.Problems) > 0 {
		t.Error(problemsOf(c))
	}
	if len(c.Jails) != 1 || c.Jails[0].Name != "sshd" {
		t.Fatalf("the enabled jails are %+v", c.Jails)
	}
	j := c.Jails[0]
	if j.Jail.Prefix6 != 64 || j.Jail.MaxRetry != 5 || j.Jail.BanTime != 10*time.Minute || len(j.Source.JournalMatch) != 2 {
		t.Errorf("got %+v", j)
	}
	want := []action.Config{{Jail: "sshd", Name: "bantam", Kind: action.Native, Title: "bantam", Params: map[string]string{"port": "ssh", "protocol": "tcp", "name": "sshd"}}}
	if diff := cmp.Diff(want, j.Actions); diff != "" {
		t.Error(diff)
	}
}

// Every jail of the library works once enabled, from a folder with and without a
// jail.conf.
func TestLibraryJails(t *testing.T) {
	c, err := Load("", library.FS)
	if err != nil {
		t.Fatal(err)
	}
	names := c.jails.order
	if len(names) < 6 || slices.Contains(names, "manual") {
		t.Errorf("the jails are %q", names)
	}
	var b strings.Builder
	for _, name := range names {
		fmt.Fprintf(&b, "[%s]\nenabled = true\n", name)
	}
	for _, file := range []string{"-- jail.local --\n", "-- jail.conf --\n[DEFAULT]\nfilter = %(__name__)s\naction = bantam[port=\"%(port)s\"]\n"} {
		c, err := Load(folder(t, file+b.String()), library.FS)
		if err != nil {
			t.Fatal(err)
		}
		if len(c.Jails) != len(names) || len(c.Problems) > 0 {
			t.Errorf("%d of %d jails are there\n%s", len(c.Jails), len(names), problemsOf(c))
		}
		for _, j := range c.Jails {
			if len(j.Filter.Failregex) == 0 || len(j.Source.Paths) == 0 || len(j.Actions) != 1 {
				t.Errorf("%s has %d expressions, %d logs and %d actions", j.Name, len(j.Filter.Failregex), len(j.Source.Paths), len(j.Actions))
				continue
			}
			if _, err := firewall.ParseRule(j.Name, j.Actions[0].Params); err != nil {
				t.Errorf("%s: its ports %q: %v", j.Name, j.Actions[0].Params["port"], err)
			}
		}
	}
}

func FuzzLoad(f *testing.F) {
	f.Add("[DEFAULT]\nenabled = true\nfilter = t[a=\"%(x)s\"]\n[t]\nx = 1\naction = a[b=1] c\n", "[Definition]\nfailregex = <a> %(a)s\n")
	f.Add("[t]\nenabled = 1\nlogpath = /a head\n /b\nignoreip = 1.2.3.4/5\nbackend = systemd[x=1]\n", "[INCLUDES]\nbefore = t.conf\n[Init?family=inet6]\na=1\n")
	f.Add("[t]\nenabled = 1\nlogpath = /a\nbantime.increment = 1\nbantime.formula = ban.Time **\n banFactor\nbantime.factor = 2 %% 3 # x\nbantime.maxtime = 1h\n"+
		"bantime.rndtime = 5\nbantime.multipliers = 1 2\n", "[Definition]\nfailregex = <HOST>\n")
	f.Fuzz(func(t *testing.T, jail, filter string) {
		lib := fstest.MapFS{"jail.conf": {Data: []byte(jail)}, "filter.d/t.conf": {Data: []byte(filter)}}
		c, err := Load("", fs.FS(lib))
		if err != nil {
			return
		}
		for _, p := range c.Problems {
			if strings.ContainsFunc(p.String(), func(r rune) bool { return r < ' ' || r == 0x7f }) {
				t.Fatalf("a problem holds control characters: %q", p.String())
			}
		}
		for _, j := range c.Jails {
			if j.Err != nil {
				continue
			}
			if err := j.Jail.Validate(); err != nil {
				t.Fatalf("a jail that is not set aside: %v", err)
			}
			if err := j.Source.Validate(); err != nil {
				t.Fatalf("a source that is not set aside: %v", err)
			}
		}
	})
}

func BenchmarkLoadLibrary(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Load("", library.FS); err != nil {
			b.Fatal(err)
		}
	}
}

// Every option that the original or Bantam's manual knows is known, and one that is not built
// yet is named once.
func TestEveryOptionIsKnown(t *testing.T) {
	obeyed := `enabled=true|filter=t|backend=polling|logpath=/v/x.log|skip_if_nologs=false|systemd_if_nologs=true|logencoding=utf-8|
		logtimezone=UTC|failregex=^x <HOST>|ignoreregex=|prefregex=|maxlines=1|datepattern={^LN-BEG}|usedns=no|journalmatch=|
		ignoreip=192.0.2.1|ignoreself=true|ignorecommand=|findtime=10m|maxretry=3|maxmatches=5|bantime=10m|bantime.increment=false|
		bantime.factor=1|bantime.formula=ban.Time|bantime.multipliers=1 2|bantime.maxtime=1w|bantime.rndtime=1m|bantime.overalljails=false|
		action=|port=ssh|protocol=tcp|chain=INPUT|banaction=x|banaction_allports=y|mode=normal|mta=sendmail|destemail=a|sender=b|
		tcpport=1|udpport=2|blocktype=DROP|returntype=RETURN|knocking_url=x|prefix4=0|prefix6=64|observe=no|
		ignorecountry=CH|bancountry=XX|ignoreasn=1|banasn=2|country.unknown=ban|bantime.country=cn:1w|weight=1:3|distinct=user|json=MESSAGE`
	section := func(list string) string { return strings.NewReplacer("|", "\n", "\t", "").Replace(list) + "\n" }
	c := load(t, "-- jail.conf --\n[t]\n"+section(obeyed)+
		"-- fail2ban.conf --\n[Definition]\n"+section(`loglevel=INFO|logtarget=STDERR|syslogsocket=auto|socket=/s|pidfile=/p|dbfile=/d|dbmaxmatches=10|
		dbpurgeage=1d|allowipv6=auto|geodb=/x.mmdb|settings=/s.conf|runtimecommands=no`)+
		"-- filter.d/t.conf --\n[Definition]\nfailregex=^x <HOST>\n")
	for _, p := range c.Problems {
		if strings.Contains(p.Text, "unknown option") || strings.Contains(p.Text, "not built") {
			t.Error(p)
		}
	}
}

// manyJails is a configuration of so many jails with the library's largest filter.
func manyJails(n int) string {
	var b strings.Builder
	b.WriteString("-- jail.conf --\n[DEFAULT]\nfilter = sshd\naction = bantam\n")
	for i := range n {
		fmt.Fprintf(&b, "[j%d]\nenabled = true\nlogpath = /var/log/%d.log\nmaxretry = %d\n", i, i, i)
	}
	return b.String()
}

func TestTenThousandJails(t *testing.T) {
	c, err := Load(folder(t, manyJails(10_000)), library.FS)
	if err != nil {
		t.Fatal(err)
	}
	if len(c.Jails) != 10_000 || len(c.Problems) > 0 {
		t.Errorf("%d jails and these problems: %.500s", len(c.Jails), problemsOf(c))
	}
	if j := c.Jails[9_999]; j.Jail.MaxRetry != 9_999 || len(j.Filter.Failregex) == 0 {
		t.Errorf("the last jail is %+v", j.Jail)
	}
}

func BenchmarkLoadManyJails(b *testing.B) {
	dir := folder(b, manyJails(1000))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Load(dir, library.FS); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N)/1000, "µs/jail")
}
