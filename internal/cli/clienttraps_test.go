package cli

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// asked runs commands one after another against our server: each line is "COMMAND => WHAT
// IT PRINTS", newlines as \n, "!" before what ends with 255.
func asked(t *testing.T, p place, lines ...string) {
	t.Helper()
	for _, line := range lines {
		command, want, _ := strings.Cut(line, " => ")
		code := 0
		if rest, failed := strings.CutPrefix(want, "!"); failed {
			want, code = rest, 255
		}
		words, err := shellish(strings.ReplaceAll(command, "$DIR", p.dir))
		if err != nil {
			t.Fatal(err)
		}
		got := p.say(t, words...)
		if want = strings.NewReplacer(`\n`, "\n", `\t`, "\t").Replace(want) + "\n"; got.Out != want || got.Code != code {
			t.Errorf("%s: %s, want %q with code %d", command, got, want, code)
		}
	}
}

// served is our server with two jails.
func served(t *testing.T) place {
	t.Helper()
	p := lone(t, oneJail+strings.ReplaceAll(oneJail, "[j1]", "[a2]"))
	ourServer(t, p)
	return p
}

func TestTrapS08_AddressesAreComparedByValue(t *testing.T) {
	asked(t, served(t), "set j1 banip 2001:db8::1 => 1", "get j1 banned 2001:0db8::0001 => 1", "set j1 unbanip 2001:0db8::0001 => 1")
}

func TestTrapS09_ANetworkLiftsItsMembers(t *testing.T) {
	asked(t, served(t),
		"set j1 banip 198.51.100.1 198.51.100.2 198.51.100.200 => 3", "set j1 unbanip 198.51.100.0/25 => 2",
		"set j1 banip 203.0.113.0/24 => 1", "set j1 unbanip 203.0.113.0/24 => 1", "get j1 banip => 198.51.100.200")
}

func TestTrapS10_ANameAndEverything(t *testing.T) {
	asked(t, served(t),
		"set j1 banip --force 127.0.0.1 198.51.100.1 2001:db8::1 => 3", "set j1 unbanip localhost => 1",
		"set j1 unbanip 0.0.0.0/0 => 1", "get j1 banip => 2001:db8::1")
}

func TestTrapS11_BanipObeysAndChecks(t *testing.T) {
	p := served(t)
	for _, who := range []string{"127.0.0.1", "300.1.1.1", "'a b'", "''", "203.0.113.1 x"} {
		words, _ := shellish("set j1 banip " + who)
		if got := p.say(t, words...); got.Code != 255 {
			t.Errorf("%s: %s", who, got)
		}
	}
	asked(t, p, "banned => [{'a2': []}, {'j1': []}]")
}

func TestTrapS12_ASecondBanMovesTheEnd(t *testing.T) {
	p := served(t)
	asked(t, p, "set j1 banip 203.0.113.1 => 1", "set j1 banip 203.0.113.2 => 1", "set j1 banip 203.0.113.1 => 0", "get j1 banip => 203.0.113.2 203.0.113.1", "get j1 banned => ['203.0.113.1', '203.0.113.2']")
}

// A reload with a wrong expression leaves everything as it was, also with what it had
// been told.
func TestTrapS26_AWrongReloadStopsNobody(t *testing.T) {
	p := served(t)
	asked(t, p, "set j1 banip 203.0.113.1 => 1")
	jails := filepath.Join(p.conf, "jail.local")
	if err := os.WriteFile(jails, []byte("[j1]\nfailregex = ^(bad <HOST>$\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, command := range []string{"reload", "reload j1"} {
		if got := p.say(t, strings.Fields(command)...); got.Code != 255 || !strings.Contains(got.Out, "nothing was reloaded") {
			t.Errorf("%s: %s", command, got)
		}
	}
	asked(t, p, "status => Status\\n|- Number of jail:\\t2\\n`- Jail list:\\ta2, j1", "get j1 banned => ['203.0.113.1']", "reload a2 => OK")
}

func TestTrapS30_IfExistsConcernsTheServer(t *testing.T) {
	asked(t, served(t),
		"stop j1 => Jail stopped", "reload j1 => !Sorry but the jail 'j1' does not exist", "reload --if-exists j1 => OK",
		"get j1 bantime => 3600", "stop a2 => Jail stopped", "status => Status\\n|- Number of jail:\\t1\\n`- Jail list:\\tj1")
}

func TestTrapS31_AReloadForgetsWhatTheFilesDoNotSay(t *testing.T) {
	asked(t, served(t), "set j1 bantime.increment true => True", "reload => OK", "get j1 bantime.increment => None")
}

func TestTrapS32_QuotesOfThePrintedLevel(t *testing.T) {
	p := served(t)
	asked(t, p, "get loglevel => Current logging level is 'INFO'", "set loglevel 10 => Current logging level is '10'",
		"get dbpurgeage => Current database purge age is:\\n`- 86400seconds")
}

func TestTrapS33_TabsAndEmptyLists(t *testing.T) {
	asked(t, served(t), "get j1 banip => ", "get j1 banned => []", "set j1 banip 203.0.113.1 => 1", "get j1 banip --with-time => 203.0.113.1 \\tDATE + 3600 = DATE",
		"status a2 => Status for the jail: a2\\n|- Filter\\n|  |- Currently failed:\\t0\\n|  |- Total failed:\\t0\\n|  `- File list:\\t$DIR/a.log\\n`- Actions\\n   |- Currently banned:\\t0\\n   |- Total banned:\\t0\\n   `- Banned IP list:\\t")
}

func TestTrapS34_KeyErrorsAreQuoted(t *testing.T) {
	asked(t, served(t), "get j1 action nope timeout => !'Invalid Action name: nope'", "set j1 idle maybe => !Invalid idle option, must be 'on' or 'off'")
}

func TestTrapS36_OrdersOfNames(t *testing.T) {
	p := served(t)
	asked(t, p, "set j1 banip 203.0.113.9 203.0.113.1 => 2", "status => Status\\n|- Number of jail:\\t2\\n`- Jail list:\\ta2, j1",
		"get j1 banned => ['203.0.113.9', '203.0.113.1']", "unban --all x => 0", "unban --all => 2")
}

func TestTrapS37_ErrorsGoToBothOutputs(t *testing.T) {
	p := served(t)
	want := said{Out: "Sorry but the jail 'x' does not exist\n", Err: "fail2ban                [PID]: ERROR   NOK: ('x',)\n", Code: 255}
	if got := p.say(t, "status", "x"); got != want {
		t.Errorf("%s", got)
	}
}

func TestTrapS40_AddedLogsComeInTheirOrder(t *testing.T) {
	p := served(t)
	if err := os.WriteFile(filepath.Join(p.dir, "b [1]*.log"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	asked(t, p, `set j1 addlogpath '$DIR/b [1]*.log' tail => Current monitored log file(s):\n|- $DIR/a.log\n`+"`- $DIR/b [1]*.log",
		"set j1 dellogpath $DIR/a.log => Current monitored log file(s):\\n`- $DIR/b [1]*.log", "set j1 dellogpath '$DIR/b [1]*.log' => No file is currently monitored")
}

func TestTrapS48_FlushlogsGoesByTheWord(t *testing.T) {
	asked(t, served(t), "flushlogs => logs: rolled over", "set logtarget SYSOUT => Current logging target is:\\n`- SYSOUT", "flushlogs => logs: rolled over",
		"set logtarget STDERR => Current logging target is:\\n`- STDERR", "flushlogs => logs: flushed")
}
