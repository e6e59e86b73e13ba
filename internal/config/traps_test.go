package config

import (
	"slices"
	"strings"
	"testing"
	"time"
)

// The tests below are the traps of Fail2Ban's dialect, by their numbers in detection.md 10. Where
// the original stops everything, here one jail is set aside, and said to be.

// trap is the jail t of a jail.conf with these lines, beside a sound one that must go on.
func trap(t *testing.T, lines, more string) (Jail, *Config) {
	t.Helper()
	c := load(t, "-- jail.conf --\n[t]\nenabled = true\nfilter = f\nlogpath = /t.log\n"+lines+good+more)
	if g := jailOf(t, c, "good"); g.Err != nil {
		t.Errorf("the jail beside it is set aside: %v", g.Err)
	}
	return jailOf(t, c, "t"), c
}

// sound fails the test if the jail is set aside.
func sound(t *testing.T, j Jail) {
	t.Helper()
	if j.Err != nil {
		t.Fatalf("the jail is set aside: %v", j.Err)
	}
}

// aside fails the test if the jail is not set aside, or the report does not say why and what to do.
func aside(t *testing.T, c *Config, j Jail, want, hint string) {
	t.Helper()
	if j.Err == nil || !strings.Contains(j.Err.Error(), want) {
		t.Errorf("the error is %v, want %s", j.Err, want)
	}
	if !strings.Contains(problemsOf(c), hint) {
		t.Errorf("the report is\n%swant the hint %s", problemsOf(c), hint)
	}
}

func TestTrap01_HashBehindATimeIsAComment(t *testing.T) {
	j, c := trap(t, "action = a\nbantime = 604800 # 7 days\n", "")
	sound(t, j)
	if j.Jail.BanTime != 7*24*time.Hour {
		t.Errorf("a ban lasts %s", j.Jail.BanTime)
	}
	if len(c.Problems) > 0 {
		t.Error(problemsOf(c))
	}
}

func TestTrap02_HashBehindEnabledTurnsTheJailOff(t *testing.T) {
	c := load(t, "-- jail.conf --\n[t]\nenabled = true # production\nfilter = f\n"+good)
	if len(c.Jails) != 1 || c.Jails[0].Name != "good" {
		t.Errorf("the jails are %v", c.Jails)
	}
	// The original says nothing.
	if want := `warning: jail.conf:2: enabled: "true # production" is none of`; !strings.Contains(problemsOf(c), want) {
		t.Errorf("the report is\n%swant %s", problemsOf(c), want)
	}
}

func TestTrap03_HashBehindANumberSetsTheJailAside(t *testing.T) {
	j, c := trap(t, "maxretry = 5 # five\n", "")
	aside(t, c, j, `jail.conf:5: maxretry: "5 # five" is not a whole number`, `"#" starts a comment only at the start of a line`)
}

func TestTrap04_SemicolonCutsInsideQuotes(t *testing.T) {
	j, c := trap(t, "action = a[x=\"b ; c\"]\n", "")
	aside(t, c, j, `the bracket of "a[x=\"b" is not closed`, `a ";" behind a blank starts a comment, even inside quotes`)
	j, c = trap(t, "ignoreregex = ^a ; b\n", "")
	sound(t, j)
	if !slices.Equal(j.Filter.Ignoreregex, []string{"^a"}) {
		t.Errorf("the expression is %q; report:\n%s", j.Filter.Ignoreregex, problemsOf(c))
	}
}

func TestTrap05_IndentedOptionIsSwallowed(t *testing.T) {
	c := load(t, "-- jail.conf --\n[t]\nenabled = true\nfilter = f\nlogpath = /v/x.log\n  bantime = 6\n"+good)
	j := jailOf(t, c, "t")
	if j.Jail.BanTime == 6*time.Second {
		t.Error("the ban time is set")
	}
	aside(t, c, j, `jail.conf:4: logpath: "bantime = 6"`, "begin an option at the margin")
}

func TestTrap06_CommentsDoNotEndAValue(t *testing.T) {
	j, _ := trap(t, "ignoreip = 192.0.2.1\n# note\n   192.0.2.4\n", "")
	sound(t, j)
	if !slices.Equal(j.Lookup.IgnoreIP, []string{"192.0.2.1", "192.0.2.4"}) {
		t.Errorf("ignored are %q", j.Lookup.IgnoreIP)
	}
}

func TestTrap07_DuplicateOptionInTheJailFilesIsFatal(t *testing.T) {
	_, err := Load(folder(t, "-- jail.conf --\n[t]\nmaxretry = 5\nmaxretry = 6\n"), testLib)
	if want := "jail.conf:3: maxretry: the option stands in [t] a second time, first in line 2"; err == nil || err.Error() != want {
		t.Errorf("the error is %v, want %s", err, want)
	}
}

func TestTrap08_OtherSectionsAreNamedInLowerCase(t *testing.T) {
	j, c := trap(t, "bantime = %(DEFAULT/q)s\n[DEFAULT]\nq = 4\n", "")
	aside(t, c, j, "%(DEFAULT/q)s is not defined", "%(default/q)s")
	j, _ = trap(t, "bantime = %(default/q)s\n[DEFAULT]\nq = 4\n", "")
	sound(t, j)
	if j.Jail.BanTime != 4*time.Second {
		t.Errorf("a ban lasts %s", j.Jail.BanTime)
	}
}

func TestTrap09_KnownInDefaultRefersToItself(t *testing.T) {
	const jails = "-- jail.conf --\n[DEFAULT]\nignoreip = 192.0.2.1\n[t]\nenabled = true\nfilter = f\nlogpath = /t.log\n" + good
	c := load(t, jails+"-- jail.local --\n[DEFAULT]\nignoreip = %(known/ignoreip)s 192.0.2.2\n[good]\nignoreip =\n")
	aside(t, c, jailOf(t, c, "t"), "jail.local:2: ignoreip: the references go round in a circle", "")
	if g := jailOf(t, c, "good"); g.Err != nil {
		t.Errorf("a jail that does not use it is set aside: %v", g.Err)
	}
	// In a jail's section the same line works.
	c = load(t, jails+"-- jail.local --\n[t]\nignoreip = %(known/ignoreip)s 192.0.2.2\n")
	j := jailOf(t, c, "t")
	sound(t, j)
	if !slices.Equal(j.Lookup.IgnoreIP, []string{"192.0.2.1", "192.0.2.2"}) {
		t.Errorf("ignored are %q", j.Lookup.IgnoreIP)
	}
}

func TestTrap10_KnownStackedTwiceRefersToItself(t *testing.T) {
	j, c := trap(t, "ignoreip = 192.0.2.1\n", `-- jail.d/a.conf --
[t]
ignoreip = %(known/ignoreip)s 192.0.2.2
-- jail.local --
[t]
ignoreip = %(known/ignoreip)s 192.0.2.3
`)
	aside(t, c, j, "jail.d/a.conf:2: ignoreip: the references go round in a circle", "write the earlier value out")
}

func TestTrap11_KnownFailregexIsTheFilters(t *testing.T) {
	j, _ := trap(t, "failregex = ^jail <HOST>\n", `-- filter.d/f.conf --
[Definition]
failregex = ^flt <HOST>
-- jail.local --
[t]
failregex = %(known/failregex)s
   ^loc <HOST>
`)
	sound(t, j)
	if !slices.Equal(j.Filter.Failregex, []string{"^flt <HOST>", "^loc <HOST>"}) {
		t.Errorf("the expressions are %q", j.Filter.Failregex)
	}
}

func TestTrap12_InitBeatsDefinition(t *testing.T) {
	j, _ := trap(t, "", "-- filter.d/f.conf --\n[Init]\nx=I\n[Definition]\nx=D\nfailregex=^<x> %(x)s <HOST>\n")
	sound(t, j)
	if !slices.Equal(j.Filter.Failregex, []string{"^I I <HOST>"}) {
		t.Errorf("the expressions are %q", j.Filter.Failregex)
	}
}

func TestTrap13_ReferencesDoNotSeeInitAlone(t *testing.T) {
	j, c := trap(t, "", "-- filter.d/f.conf --\n[Init]\nx=1\n[Definition]\nfailregex=^%(x)s <HOST>\n")
	aside(t, c, j, "filter.d/f.conf:4: failregex: %(x)s is not defined", "write <x>")
	j, _ = trap(t, "", "-- filter.d/f.conf --\n[Init]\nx=1\n[Definition]\nfailregex=^<x> <HOST>\n")
	sound(t, j)
	if !slices.Equal(j.Filter.Failregex, []string{"^1 <HOST>"}) {
		t.Errorf("the expressions are %q", j.Filter.Failregex)
	}
}

func TestTrap14_DefaultOfLogtypeIsForced(t *testing.T) {
	for _, c := range []struct{ name, jail, filter, want string }{
		{"[Init] does not prevail", "backend=polling", "[Init]\nlogtype=short\n[Definition]\n", "^file <HOST>"},
		{"[DEFAULT] does not prevail", "backend=polling", "[DEFAULT]\nlogtype=short\n[Definition]\n", "^file <HOST>"},
		{"the journal has another", "backend=systemd", "[Init]\nlogtype=short\n[Definition]\n", "^journal <HOST>"},
		{"[Definition] prevails", "backend=polling", "[Definition]\nlogtype=short\n", "^short <HOST>"},
		{"a parameter prevails", "backend=polling\nfilter=f[logtype=rfc5424]", "[Definition]\nlogtype=short\n", "^rfc5424 <HOST>"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := load(t, "-- jail.conf --\n[DEFAULT]\nfilter = f\n[t]\nenabled = true\nlogpath = /t.log\n"+c.jail+"\n-- filter.d/f.conf --\n"+c.filter+"failregex=^<logtype> <HOST>\n")
			j := jailOf(t, got, "t")
			sound(t, j)
			if !slices.Equal(j.Filter.Failregex, []string{c.want}) {
				t.Errorf("the expressions are %q, want %s", j.Filter.Failregex, c.want)
			}
		})
	}
}

func TestTrap16_BlankBetweenQuoteAndComma(t *testing.T) {
	for _, c := range []struct {
		filter string
		sound  bool
	}{{`f[a="1" , b=2]`, false}, {`f[a=1 , b=2]`, true}, {`f[a="1", b=2]`, true}} {
		got := load(t, "-- jail.conf --\n[t]\nenabled = true\nlogpath = /t.log\nfilter = "+c.filter+good)
		j := jailOf(t, got, "t")
		if c.sound {
			sound(t, j)
			continue
		}
		aside(t, got, j, "a comma or the closing bracket expected", "none between a closing quote and the comma")
	}
}

func TestTrap17_BrokenFilterSetsItsJailAside(t *testing.T) {
	j, c := trap(t, "", "-- filter.d/f.conf --\n[Definition]\nfailregex\n")
	aside(t, c, j, `filter.d/f.conf:2: "failregex" is neither an option nor a section`, "indented")
}

func TestTrap20_DigitsApartAreAdded(t *testing.T) {
	for text, want := range map[string]time.Duration{
		"1 000": time.Second, "1M": time.Minute, "10 20": 30 * time.Second, "1_000": 1000 * time.Second,
	} {
		j, _ := trap(t, "findtime = "+text+"\n", "")
		sound(t, j)
		if j.Jail.FindTime != want {
			t.Errorf("findtime = %s is %s, want %s", text, j.Jail.FindTime, want)
		}
	}
	j, c := trap(t, "findtime = 1hr\n", "")
	aside(t, c, j, `findtime: unknown unit "hr" in "1hr"`, "use s, m, h, d or w")
}

// Unlike the original, and as its manual says, the filter's own journalmatch will do.
func TestTrap52_JournalOfTheFilterIsFallenBackOn(t *testing.T) {
	const flt = "-- filter.d/f.conf --\n[Definition]\nfailregex = ^f <HOST>\njournalmatch = _COMM=f\n"
	j, c := trap(t, "action = a\nbackend = auto\n", flt)
	sound(t, j)
	if len(j.Source.JournalMatch) != 1 || !slices.Equal(j.Source.JournalMatch[0], []string{"_COMM=f"}) {
		t.Errorf("of the journal is read %q", j.Source.JournalMatch)
	}
	if len(c.Problems) > 0 {
		t.Error(problemsOf(c))
	}
	if j, _ = trap(t, "backend = auto\nsystemd_if_nologs = false\n", flt); j.Source.JournalMatch != nil {
		t.Errorf("with systemd_if_nologs = false of the journal is read %q", j.Source.JournalMatch)
	}
}

func TestTrap57_MaskWithHolesSetsTheJailAside(t *testing.T) {
	j, c := trap(t, "ignoreip = 10.0.0.0/255.0.255.0\n", "")
	aside(t, c, j, "the mask has a hole", "write 192.0.2.0/24")
	j, c = trap(t, "ignoreip = 10.0.0.0/33\n", "")
	sound(t, j)
	if !slices.Equal(j.Lookup.IgnoreIP, []string{"10.0.0.0"}) || !strings.Contains(problemsOf(c), "taken as 10.0.0.0") {
		t.Errorf("ignored are %q; report:\n%s", j.Lookup.IgnoreIP, problemsOf(c))
	}
}

func TestTrap58_BlankInALogpath(t *testing.T) {
	c := load(t, "-- jail.conf --\n[t]\nenabled = true\nfilter = f\nlogpath = /v/my app.log\n"+good)
	aside(t, c, jailOf(t, c, "t"), `the word behind the path must be head or tail, not "app.log"`, "a path with a blank in it needs the word head or tail")
	c = load(t, "-- jail.conf --\n[t]\nenabled = true\nfilter = f\nlogpath = /v/my app.log head\n"+good)
	j := jailOf(t, c, "t")
	sound(t, j)
	if len(j.Source.Paths) != 1 || j.Source.Paths[0].Pattern != "/v/my app.log" || j.Source.Paths[0].Tail {
		t.Errorf("the paths are %v", j.Source.Paths)
	}
}
