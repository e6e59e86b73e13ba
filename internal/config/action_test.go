package config

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/google/go-cmp/cmp"

	"bantam/internal/action"
	"bantam/internal/peertest"
)

// actionOf is the first action of the jail t, whose action is the given text, with these files.
func actionOf(t *testing.T, text, files string) action.Config {
	t.Helper()
	c := load(t, "-- jail.conf --\n[t]\nenabled = true\nfilter = f\nlogpath = /t.log\naction = "+text+"\nport = 81\n"+good+files)
	j := jailOf(t, c, "t")
	sound(t, j)
	if len(j.Actions) == 0 {
		t.Fatal(problemsOf(c))
	}
	return j.Actions[0]
}

const firewallAction = `
-- action.d/base.conf --
[Definition]
actionstart = <tool> new <set>
[Init]
chain = INPUT
timeout = 5m
-- action.d/fw.conf --
[INCLUDES]
before = base.conf
[Definition]
actionban = <tool> add <set> <ip> for <bantime> within <timeout> on <port>
            next <matches> <F-USER> <unknown>
actionunban = %(verb)s <set> <ip> via <chain>
verb = del
norestored = yes
actionrepair_on_unban = 1
[Init]
set = f2b-<name>
tool = tool4
port = 22
[Init?family=inet6]
set = f2b-<name>6
tool = tool6
-- action.d/plain.conf --
[Definition]
actionban = echo <ip>
`

func TestAnActionIsMerged(t *testing.T) {
	got := actionOf(t, `fw[port="%(port)s", chain="<known/chain>,FORWARD"]`, firewallAction)
	want := action.Config{
		Jail: "t", Name: "fw", Kind: action.Shell, Title: "fw", Families: true, OnDemand: true, NoRestored: true, RepairOnUnban: true,
		Timeout: 5 * time.Minute,
		Params:  map[string]string{"name": "t", "port": "81", "chain": "<known/chain>,FORWARD"},
		Inet4: action.Commands{
			Start: "tool4 new f2b-t",
			Ban:   "tool4 add f2b-t <ip> for <bantime> within 300 on 81\nnext <matches> <F-USER> <unknown>",
			Unban: "del f2b-t <ip> via INPUT,FORWARD",
		},
		Inet6: action.Commands{
			Start: "tool6 new f2b-t6",
			Ban:   "tool6 add f2b-t6 <ip> for <bantime> within 300 on 81\nnext <matches> <F-USER> <unknown>",
			Unban: "del f2b-t6 <ip> via INPUT,FORWARD",
		},
		Properties: map[string]string{
			"name": "t", "actname": "fw", "port": "81", "chain": "INPUT,FORWARD", "verb": "del", "set": "f2b-t", "set?family=inet6": "f2b-t6",
			"tool": "tool4", "tool?family=inet6": "tool6",
		},
	}
	want.Any = want.Inet4
	places := got.Places
	got.Places = nil
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if p := places["actionban"]; p != (action.Place{File: "action.d/fw.conf", Line: 4}) {
		t.Errorf("actionban is said to stand in %+v", p)
	}
	if p := places["actionstart"]; p.File != "action.d/base.conf" {
		t.Errorf("actionstart is said to stand in %+v", p)
	}
}

func TestParametersAndFamilies(t *testing.T) {
	for _, tt := range []struct {
		name, text     string
		start4, start6 string
	}{
		{"a parameter is for both families", "fw[tool=x]", "x new f2b-t", "x new f2b-t6"},
		{"one with a family is for that family", "fw[tool?family=inet6=x]", "tool4 new f2b-t", "x new f2b-t6"},
		{"both", "fw[tool?family=inet6=x, tool=y]", "y new f2b-t", "x new f2b-t6"},
		{"another name", "fw[name=web]", "tool4 new f2b-web", "tool6 new f2b-web6"},
		{"a command", `fw[actionstart="run <tool>"]`, "run tool4", "run tool6"},
		{"the later group wins", "fw[tool=a][tool=b]", "b new f2b-t", "b new f2b-t6"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := actionOf(t, tt.text, firewallAction)
			if c.Inet4.Start != tt.start4 || c.Inet6.Start != tt.start6 {
				t.Errorf("it starts with %q and %q, want %q and %q", c.Inet4.Start, c.Inet6.Start, tt.start4, tt.start6)
			}
		})
	}
}

func TestAnActionWithoutFamiliesStartsAtOnce(t *testing.T) {
	c := actionOf(t, "plain", firewallAction)
	if c.Families || c.OnDemand || c.NoRestored || c.Timeout != time.Minute {
		t.Errorf("got %+v", c)
	}
	if c = actionOf(t, "plain[actionstart_on_demand=true]", firewallAction); !c.OnDemand {
		t.Error("it is not started on demand")
	}
}

func TestTitles(t *testing.T) {
	for text, want := range map[string]string{
		"plain": "plain", "plain[name=other]": "plain-other", "plain[name=t-x]": "plain-x", "plain[name=t-x,actname=z]": "z", "plain[name=t]": "plain",
	} {
		if c := actionOf(t, text, firewallAction); c.Title != want || c.Properties["actname"] != want {
			t.Errorf("%s is called %q, <actname> is %q, want %q", text, c.Title, c.Properties["actname"], want)
		}
	}
}

func TestAWrongActionSetsItsJailAside(t *testing.T) {
	for _, tt := range []struct{ name, text, file, want, hint string }{
		{"no such file", "plane", "", `jail.conf:5: action: there is no action "plane"`, "did you mean plain?"},
		{"no such file, and no idea", "wherever", "", `there is no action "wherever"`, "action.d/wherever.conf"},
		{"the name of the file", "plain.conf", "", `there is no action "plain.conf"`, "without .conf"},
		{"no such Python file", "own.py", "", `there is no action "own.py"`, "action.d/own.py"},
		{"twice the same", "plain plain", "", `there are two actions "plain"`, "plain[actname=OTHER]"},
		{"a circle", "c", "[Definition]\nactionban = <x>\nx = <y>\ny = <x>", `action.d/c.conf:2: actionban: <x> refers to itself`, "circle"},
		{"a circle in one family", "c", "[Definition]\nactionban = <x>\n[Init]\nx = 1\n[Init?family=inet6]\nx = <x>", `<x> refers to itself`, "circle"},
		{"an undefined reference", "c", "[Definition]\nactionban = %(nothing)s", `action.d/c.conf:2: actionban: %(nothing)s is not defined`, "define it"},
		{"a time that is none", "c", "[Definition]\nactionban = x\n[Init]\ntimeout = soon", `action.d/c.conf:4: timeout: "soon" is not a time`, "10m"},
		{"a timeout of nothing", "c[timeout=0]", "[Definition]\nactionban = x", `a command needs more time than none`, "10m"},
		{"no definition", "c", "[Init]\nx = 1", `action.d/c.conf: the action has no [Definition]`, "belong under it"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			j, c := trap(t, "action = "+tt.text+"\n", firewallAction+"-- action.d/c.conf --\n"+tt.file+"\n")
			aside(t, c, j, tt.want, tt.hint)
		})
	}
}

func TestAMisspeltOptionIsTold(t *testing.T) {
	_, c := trap(t, "action = c\n", "-- action.d/c.conf --\n[Definition]\nactionbann = x\n")
	if want := `action.d/c.conf:2: unknown option "actionbann"; did you mean actionban?`; !strings.Contains(problemsOf(c), want) {
		t.Errorf("the report is\n%s", problemsOf(c))
	}
}

func TestAFileOfANativeActionsNameWins(t *testing.T) {
	if c := actionOf(t, "bantam[port=1]", ""); c.Kind != action.Native {
		t.Errorf("it is %s", c.Kind)
	}
	if c := actionOf(t, "bantam[port=1]", "-- action.d/bantam.conf --\n[Definition]\nactionban = own <port>\n"); c.Kind != action.Shell || c.Any.Ban != "own 1" {
		t.Errorf("it is %s and runs %q", c.Kind, c.Any.Ban)
	}
}

func TestAPythonAction(t *testing.T) {
	c := actionOf(t, `own.py[host="h:25"]`, "-- action.d/own.py --\n")
	if c.Kind != action.Python || c.Title != "own" || !filepath.IsAbs(c.Python) || c.Params["host"] != "h:25" {
		t.Errorf("got %+v", c)
	}
}

// Every action of the package is what the package's own reader makes of it, after what
// its server would put in.
func TestStockActions(t *testing.T) {
	tree := peertest.Tree(t)
	dir := filepath.Join(tree, "etc/fail2ban")
	files, err := filepath.Glob(filepath.Join(dir, "action.d/*.conf"))
	if err != nil {
		t.Fatal(err)
	}
	local := "[DEFAULT]\nfilter =\nbackend = polling\n"
	n := 0
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".conf")
		if strings.HasSuffix(name, "-common") {
			continue
		}
		for i, params := range []string{`port="80,443", protocol="tcp,udp", chain="<known/chain>"`, `name=other, returntype=DROP, type=allports`} {
			local += fmt.Sprintf("[j%d-%s]\nenabled = true\naction = %s[%s]\n", i, name, name, params)
			n++
		}
	}
	for name, text := range map[string]string{"jail.local": local, "jail.d/defaults-debian.conf": ""} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	c, err := Load(dir, testLib)
	if err != nil {
		t.Fatal(err)
	}
	want := peerActions(t, tree, dir)
	compared := 0
	for _, j := range c.Jails {
		if j.Err != nil {
			t.Errorf("%s is set aside: %v", j.Name, j.Err)
			continue
		}
		for _, a := range j.Actions {
			theirs := want[j.Name+"/"+a.Title]
			if theirs == nil {
				t.Errorf("%s: the original has no action %s", j.Name, a.Title)
				continue
			}
			compared++
			for family, ours := range map[string]*action.Commands{action.Inet4: &a.Inet4, action.Inet6: &a.Inet6} {
				for option, text := range ours.ByOption() {
					if diff := cmp.Diff(serverSide(theirs, option, family), *text); diff != "" {
						t.Errorf("%s: %s for %s: theirs - ours +\n%s", j.Name, option, family, diff)
					}
				}
			}
		}
	}
	if compared < n || n < 100 {
		t.Errorf("%d of %d actions were compared", compared, n)
	}
}

// serverSide is what the original's server makes of an option: the slow and obvious way.
func serverSide(properties map[string]string, option, family string) string {
	value := func(name string) (string, bool) {
		if v, ok := properties[name+"?family="+family]; ok {
			return v, true
		}
		v, ok := properties[name]
		return v, ok
	}
	text, _ := value(option)
	for range 25 {
		before := text
		for name := range properties {
			name, _, _ = strings.Cut(name, "?")
			if v, _ := value(name); name != "bantime" {
				text = strings.ReplaceAll(text, "<"+name+">", v)
			}
		}
		text = strings.ReplaceAll(text, "<timeout>", "60")
		if text == before {
			break
		}
	}
	return text
}

// peerActions are the properties that the package's reader hands its server, by jail/title.
func peerActions(t *testing.T, tree, dir string) map[string]map[string]string {
	t.Helper()
	out := map[string]map[string]string{}
	for _, command := range peerCommands(t, tree, dir) {
		if len(command) != 5 || command[0] != "multi-set" || command[2] != "action" {
			continue
		}
		properties := map[string]string{}
		for _, pair := range command[4].([]any) {
			pair := pair.([]any)
			properties[pair[0].(string)] = fmt.Sprint(pair[1])
		}
		out[fmt.Sprint(command[1], "/", command[3])] = properties
	}
	return out
}

// FuzzAction holds that an action of any file, named in any way, is read within bounds, and that what is wrong
// with it is a Problem with a place.
func FuzzAction(f *testing.F) {
	f.Add(`a[port="%(port)s", chain="<known/chain>"]`, "[Definition]\nactionban = <x> <ip>\n[Init]\nx = 1\n[Init?family=inet6]\nx = 2")
	f.Add(`a[x?family=inet6=2, actionban="<<y>>", timeout=1h][x=3]`, "[Definition]\nactionban = <x<x>>\nactionstart_on_demand = maybe")
	f.Add("a a[name=b]", "[Definition]\nactionban = %(actionstart)s<timeout><bantime>\nactionstart = <actionban>")
	f.Fuzz(func(t *testing.T, entry, file string) {
		if len(entry)+len(file) > 2000 {
			return
		}
		lib := fstest.MapFS{
			"jail.conf": {Data: []byte("[t]\nenabled = true\nport = 81\nfilter =\nlogpath = /t.log\naction = " + strings.ReplaceAll(entry, "\n", "\n ") + "\n")},
		}
		for _, name := range []string{"a", "b"} {
			lib["action.d/"+name+".conf"] = &fstest.MapFile{Data: []byte(file)}
		}
		c, err := Load("", lib)
		if err != nil {
			return // a section of its own in the entry, for example
		}
		for _, j := range c.Jails {
			var p *Problem
			if j.Err != nil && !errors.As(j.Err, &p) {
				t.Fatalf("the error is %T: %v", j.Err, j.Err)
			}
			for _, a := range j.Actions {
				if a.Title == "" || a.Kind == action.Shell && a.Timeout <= 0 {
					t.Fatalf("%q with %q is %+v", entry, file, a)
				}
				for _, commands := range []*action.Commands{&a.Any, &a.Inet4, &a.Inet6} {
					for option, text := range commands.ByOption() {
						if len(*text) > maxExpansion {
							t.Fatalf("%s of %q is %d bytes long", option, entry, len(*text))
						}
					}
				}
			}
		}
	})
}

// The stock action_ is the banaction with the jail's own port, protocol and chain behind what stands in its brackets.
func TestTrapS41_PortProtocolAndChainOfABanactionAreTheJails(t *testing.T) {
	j, _ := trap(t, "action = %(action_)s\naction_ = %(banaction)s[port=\"%(port)s\", protocol=\"%(protocol)s\", chain=\"%(chain)s\"]\n"+
		"banaction = c[chain=mine, protocol=all]\nport = 81\nprotocol = tcp\nchain = <known/chain>\n",
		"-- action.d/c.conf --\n[Definition]\nactionban = <chain> <protocol> <port>\n[Init]\nchain = INPUT\n")
	sound(t, j)
	if got := j.Actions[0].Any.Ban; got != "INPUT tcp 81" {
		t.Errorf("it runs %q", got)
	}
}
