package cli

import (
	"strings"
	"sync"
	"testing"

	"bantam/internal/config"
	"bantam/internal/peertest"
)

func shellish(line string) ([]string, error) { return config.Words(line) }

// script is every form of a command that the package's version has, in an order in which
// each finds something to work on. Those that must differ are in differs.
var script = []string{
	"ping", "ping 5", "ping x", "version", "server-status", "echo a 'b c'", "echo", "sleep 0", "sleep", "sleep x",
	"status", "status j1", "status j2 short", "status j1 basic", "status j2 cymru", "status j1 bogus", "status nope", "status a b c",
	"bogus", "get", "set", "get j1", "set j1", "get j1 bogus", "set j1 bogus", "set j1 bogus 1", "get nope bantime", "set nope bantime 1", "get nope", "multi-set",
	"unban", "ban", "help", "banned", "banned 192.0.2.5", "banned 192.0.2.5 192.0.2.6", "config-error x",
	"get loglevel", "set loglevel debug", "get loglevel", "set loglevel BOGUS", "set loglevel 20", "set loglevel INFO",
	"get logtarget", "set logtarget $DIR/other.log", "get logtarget", "flushlogs", "set logtarget $DIR/no/such/other.log", "set logtarget STDERR", "flushlogs", "set logtarget $DIR/f2b.log",
	"get syslogsocket", "set syslogsocket auto", "get thread", "set thread 5", "set thread",
	"get dbfile", "set dbfile $DIR/other.db", "get dbmaxmatches", "set dbmaxmatches 5", "set dbmaxmatches x", "get dbmaxmatches", "get dbpurgeage", "set dbpurgeage 2d", "get dbpurgeage",
	"set allowipv6 auto", "get allowipv6",
	// options of a jail, as they are and as they become
	"get j1 findtime", "set j1 findtime 10m", "set j1 findtime 1h30m", "get j1 findtime", "set j1 findtime abc", "set j1 findtime", "set j1 findtime 600",
	"get j1 bantime", "set j1 bantime 2h", "set j1 bantime -1", "set j1 bantime 1.5h", "set j1 bantime 600",
	"get j1 maxretry", "set j1 maxretry 4", "set j1 maxretry x", "set j1 maxretry 3", "get j1 maxmatches", "set j1 maxmatches 7", "get j1 maxlines", "set j1 maxlines 3", "set j1 maxlines 0", "set j1 maxlines 1",
	"get j1 usedns", "set j1 usedns no", "set j1 usedns bogus", "set j1 usedns RAW", "set j1 usedns warn",
	"get j1 ignoreself", "set j1 ignoreself false", "set j1 ignoreself nonsense", "set j1 ignoreself TRUE",
	"get j1 ignorecommand", "get j1 ignorecache", "set j1 ignorecache 'key=\"<ip>\", max-count=100, max-time=5m'", "get j1 ignorecache", "set j1 ignorecache 'key=<F-USER>@<ip>, max-time=1h 30'", "set j1 ignorecache ''", "get j1 ignorecache", "set j1 ignorecommand ''",
	"get j1 logtimezone", "set j1 logtimezone UTC+0200", "set j1 logtimezone foo", "set j1 logtimezone UTC+0000", "get j1 logencoding", "set j1 logencoding utf-8", "set j1 logencoding bogus", "set j1 logencoding auto",
	"get j1 journalmatch", "set j1 addjournalmatch A=1", "set j1 deljournalmatch A=1",
	"get j1 prefregex", "get j2 failregex", "set j1 addfailregex '^more <HOST>$'", "get j1 failregex", "set j1 addfailregex '(unclosed <HOST>'", "set j1 addfailregex '^nobody$'",
	"set j1 delfailregex 1", "set j1 delfailregex 99", "set j1 delfailregex x", "get j2 ignoreregex", "set j1 addignoreregex '^not me'", "set j1 addignoreregex '(x'", "set j1 delignoreregex 0", "get j1 ignoreregex",
	"get j1 datepattern", "get j2 datepattern", "set j1 datepattern '%Y-%m-%d'", "get j1 datepattern", "set j1 datepattern EPOCH", "set j1 datepattern '{^LN-BEG}%Y-%m-%d %H:%M:%S'",
	"get j1 ignoreip", "get j2 ignoreip", "set j2 addignoreip 198.51.100.0/24 198.51.100.7", "get j2 ignoreip", "set j2 addignoreip 198.51.100.7", "set j2 delignoreip 198.51.100.0/24", "set j2 delignoreip 203.0.113.77", "set j2 delignoreip 198.51.100.7",
	"get j1 logpath", "set j1 addlogpath $DIR/c.log", "set j1 addlogpath $DIR/b.log tail", "get j1 logpath", "set j1 addlogpath $DIR/nope.log", "set j1 addlogpath $DIR/c.log bogus", "set j1 dellogpath $DIR/c.log", "set j1 dellogpath $DIR/nope.log", "set j1 dellogpath $DIR/b.log",
	"get j1 bantime.increment", "get j2 bantime.increment", "get j2 bantime.maxtime", "get j1 bantime.factor", "set j2 bantime.factor 2", "set j2 bantime.rndtime 5m", "set j2 bantime.maxtime 2h", "set j2 bantime.multipliers '1 2 4'", "get j2 bantime.multipliers", "get j2 bantime.overalljails", "set j2 bantime.rndtime ''",
	"set j1 idle on", "set j1 idle off", "set j1 idle maybe", "set j1 idle",
	"get j1 actions", "get j1 action nope timeout", "get j1 actionproperties nope", "get j1 actionmethods nope", "set j1 delaction nope", "set j1 action nope timeout 5",
	// bans
	"set j1 banip 203.0.113.9", "set j1 banip 203.0.113.9", "set j1 banip 203.0.113.10 2001:db8::9", "get j1 banned", "get j1 banned 203.0.113.9", "get j1 banned 203.0.113.9 192.0.2.5", "get j1 banned 2001:0db8::0009",
	"get j1 banip", "get j1 banip ,", "get j1 banip --with-time", "banned", "banned 203.0.113.9 192.0.2.5", "status j1", "status j1 short",
	"set j2 banip 203.0.113.9 198.51.100.0/24", "banned 203.0.113.9", "set j1 banip", "set j1 unbanip 203.0.113.10", "set j1 unbanip 203.0.113.10", "set j1 unbanip --report-absent 203.0.113.10 203.0.113.9", "set j1 unbanip --report-absent 203.0.113.10 192.0.2.9",
	"set j1 unbanip 2001:0db8::0009", "set j1 unbanip 2001:db8::9", "set j2 unbanip 198.51.100.0/24", "unban 203.0.113.9", "unban --all", "unban --all x", "unban 192.0.2.5", "banned",
	"set j1 banip 203.0.113.1 203.0.113.2 203.0.113.130", "set j1 unbanip 203.0.113.0/25", "set j1 unbanip 0.0.0.0/0", "get j1 banip",
	"append a.log bad 203.0.113.40", "append a.log bad 203.0.113.40", "append a.log bad 203.0.113.41", "append a.log bad 203.0.113.40",
	"until ['203.0.113.40']: get j1 banned", "until failed:\t1: status j1", "status j1", "status j2",
	// totals differ from here on
	"set j1 banip 127.0.0.1", "set j1 banip 300.1.1.1", "set j1 unbanip 300.1.1.1 127.0.0.1",
	"set j1 attempt 203.0.113.20", "set j1 attempt 203.0.113.20 one two", "until '203.0.113.20']: get j1 banned", "set j2 attempt 10.1.2.3", "set j1 attempt", "unban 203.0.113.20",
	// jails come and go
	"add j1", "add --all", "add j3 polling", "status", "get j3 bantime", "set j3 addfailregex '^evil <HOST>$'", "start j3", "status j3", "set j3 banip 203.0.113.3", "stop j3", "stop j3", "start j3", "status", "start nope", "stop nope", "start j1", "add",
	"reload j1", "reload nope", "reload j1 --unban", "reload --unban j1", "reload --if-exists j2", "reload", "reload --all", "reload --restart j1", "restart --unban j2", "status", "get j1 bantime",
	"stop j2", "reload j2", "reload --if-exists j2", "get j2 bantime", "stop --all", "status", "banned", "stop", "ping", "status",
}

// differs is what must differ from the original, and why; each has its row in
// docs/differences.md.
var differs = map[string]string{
	"version":                                "the package is older than the version that is answered for",
	"get j2 failregex":                       unexpanded,
	"set j1 addfailregex '^more <HOST>$'":    unexpanded,
	"get j1 failregex":                       unexpanded,
	"set j1 delfailregex 1":                  unexpanded,
	"set j1 delfailregex 99":                 unexpanded,
	"set j3 addfailregex '^evil <HOST>$'":    unexpanded,
	"set j1 addfailregex '(unclosed <HOST>'": "an error in an expression shows the place, not its number",
	"set j1 addignoreregex '(x'":             "an error in an expression shows the place, not its number",
	"set j1 banip 127.0.0.1":                 "banip obeys ignoreip",
	"set j1 banip 300.1.1.1":                 "banip refuses what is no address",
	"set j1 unbanip 300.1.1.1 127.0.0.1":     "they were not banned",
	"set j1 unbanip 2001:0db8::0009":         "addresses are compared by value",
	"set j1 unbanip 2001:db8::9":             "the line before has lifted it",
	"set j2 attempt 10.1.2.3":                "the package is older: it answers 1 for who is ignored",
	"set j1 attempt":                         "a missing word is told in the same words everywhere",
	"add j1":                                 "the package is older and has a mistake there",
}

// unexpanded is why expressions are shown otherwise.
const unexpanded = "expressions are shown as they were written"

func TestTheOriginalsClientGetsTheOriginalsAnswers(t *testing.T) {
	tree := peertest.Tree(t)
	// Four runs of the script at once: each client on each server.
	type talk struct {
		run    runner
		server func(*testing.T, place)
		said   []said
	}
	original := func(t *testing.T, p place) { originalServer(t, tree, p) }
	theirs := &talk{run: originalClient(t, tree), server: original}
	ours := &talk{run: originalClient(t, tree), server: ourServer}
	away := &talk{run: ourClient(t), server: original}
	home := &talk{run: ourClient(t), server: ourServer}
	var all sync.WaitGroup
	for _, talk := range []*talk{theirs, ours, away, home} {
		p := newPlace(t, tree)
		talk.server(t, p)
		all.Go(func() { talk.said = each(t, talk.run, p, script) })
	}
	all.Wait()
	if t.Failed() {
		return
	}
	compare := func(what string, got, want []said, differs map[string]string) {
		for i, line := range script {
			reason, expected := differs[line]
			switch {
			case got[i] != want[i] && !expected:
				t.Errorf("%s: %s\nwanted:\n%s\ngot:\n%s", what, line, show(want[i]), show(got[i]))
			case got[i] == want[i] && expected:
				t.Errorf("%s: %s: no difference any more (%s)", what, line, reason)
			}
		}
	}
	compare("Bantam's server", ours.said, theirs.said, differs)
	compare("Bantam's client on the original's server", away.said, theirs.said, clientDiffers)
	compare("Bantam's client on its own server", withoutWarnings(home.said), withoutWarnings(ours.said), homeDiffers)
}

// clientDiffers is what our client does otherwise on the original's server, and why.
var clientDiffers = map[string]string{
	"reload j1":             foreign,
	"get j2 bantime":        foreign,
	"reload nope":           foreign,
	"reload --unban j1":     foreign,
	"reload --if-exists j2": foreign,
	"reload":                foreign,
	"reload --all":          foreign,
	"reload --restart j1":   foreign,
	"restart --unban j2":    foreign,
	"reload j2":             foreign,
}

const foreign = "what the original's server reloads is for its own client to send"

// homeDiffers is what our client does otherwise than the original's on our server.
var homeDiffers = map[string]string{}

// withoutWarnings is what was said without what a client says of the configuration.
func withoutWarnings(list []said) []said {
	out := make([]said, len(list))
	for i, s := range list {
		out[i] = s
		out[i].Err = ""
		for line := range strings.Lines(s.Err) {
			if !strings.Contains(line, ": WARNING ") {
				out[i].Err += line
			}
		}
	}
	return out
}
