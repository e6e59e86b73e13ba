package test

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// Failures count by the user and the expression: one name tried ten times is one, also over a restart; a replay of the
// log decides the same.
func TestDifferentUsersAndWeightsCount(t *testing.T) {
	h := newHost(t, `[gate]
enabled = true
backend = polling
filter =
logpath = DIR/auth.log
failregex = ^\s*gate svc: bad login of <F-USER>\S+</F-USER> from <HOST>$
            ^\s*gate svc: key guessed by <F-USER>\S+</F-USER> from <HOST>$
usedns = no
ignoreself = false
distinct = user
weight = 2:2
maxretry = 5
action = bantam[port=22]
`)
	line := func(what, user string, last int) string {
		return fmt.Sprintf("%s gate svc: %s %s from 192.0.2.%d\n", time.Now().Format(time.RFC3339), what, user, last)
	}
	p := h.start().ready()
	for range 10 {
		h.log("auth.log", line("bad login of", "alice", 7))
	}
	h.log("auth.log", line("key guessed by", "bob", 7)+line("key guessed by", "bob", 7))
	stands := func() bool {
		out, _ := h.output(h.command("why", "192.0.2.7"))
		return strings.Contains(out, "not banned in gate: 3 of 5 within 10m, different users count: alice, bob")
	}
	h.until("alice counts one and bob two", stands)
	if out := h.run("why", strings.TrimSpace(line("bad login of", "bob", 7))); !strings.Contains(out, "its user is counted already (distinct = user): 3 of 5") ||
		!strings.Contains(out, "nothing until another user is tried") {
		t.Errorf("why of a name that was counted says\n%s", out)
	}
	if out := h.run("why", strings.TrimSpace(line("key guessed by", "carol", 7))); !strings.Contains(out, "it completes a ban: failure 5 of 5") {
		t.Errorf("why of a new name says\n%s", out)
	}
	p.terminate()
	p = h.start().ready()
	h.until("they do after a restart", stands)
	h.log("auth.log", line("bad login of", "alice", 7)+line("key guessed by", "carol", 7))
	h.until("a third user makes the ban", func() bool { return len(h.banned("gate")) == 1 })
	if b := h.bans(); len(b) != 1 || b[0].Failures != 3 {
		t.Errorf("the bans are %+v", b)
	}
	p.terminate()
	out := h.run("replay", "--json", "--jail", "gate", filepath.Join(h.dir, "auth.log"))
	if !strings.Contains(strings.Join(strings.Fields(out), ""), `"bans":1`) {
		t.Errorf("the replay says\n%s", out)
	}
}
