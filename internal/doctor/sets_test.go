package doctor

import (
	"os/exec"
	"testing"

	"bantam/internal/action"
	"bantam/internal/nstest"
	"bantam/internal/peertest"
)

func actionStatus(name string, failing, pending int, err string) action.Status {
	return action.Status{Action: name, Failing: failing, Pending: pending, Err: err}
}

// Sets of both kinds that are full, or nearly so, are named, and those of others are not looked at.
func TestFullSets(t *testing.T) {
	for _, program := range []string{"nft", "ipset"} {
		if _, err := exec.LookPath(program); err != nil {
			peertest.Without(t, program+" is not installed")
		}
	}
	n := nstest.New(t)
	for _, c := range [][]string{
		{"ipset", "create", "f2b-full", "hash:ip", "maxelem", "2"},
		{"ipset", "create", "f2b-room", "hash:ip"},
		{"ipset", "create", "foreign", "hash:ip", "maxelem", "1"},
		{"ipset", "add", "f2b-full", "192.0.2.1"},
		{"ipset", "add", "f2b-full", "192.0.2.2"},
		{"ipset", "add", "foreign", "192.0.2.2"},
		{"nft", "add table inet f2b-table; add set inet f2b-table nearly { type ipv4_addr; size 10; }; add table inet foreign; add set inet foreign x { type ipv4_addr; size 1; elements = { 192.0.2.1 }; }"},
		{"nft", "add element inet f2b-table nearly { 192.0.2.1, 192.0.2.2, 192.0.2.3, 192.0.2.4, 192.0.2.5, 192.0.2.6, 192.0.2.7, 192.0.2.8, 192.0.2.9 }"},
	} {
		if out, err := n.Output(t.Context(), c[0], c[1:]...); err != nil {
			t.Fatalf("%v: %v\n%s", c, err, out)
		}
	}
	b := newBench(t, oneJail)
	var all []capacity
	var failed error
	if err := n.Do(func() {
		all, failed = ipsetSizes([]string{"f2b-full", "f2b-room"})
		if failed == nil {
			var more []capacity
			more, failed = nftSizes([]string{"bantam", "f2b-table"})
			all = append(all, more...)
		}
	}); err != nil || failed != nil {
		t.Fatal(err, failed)
	}
	b.tellSets(all)
	b.says("wrong: ipset f2b-full is full: it holds 2 and takes no more | shorter bans, or banaction = bantam",
		"doubtful: set nearly of table inet f2b-table holds 9 of the 10 that it takes")
	b.tellSets([]capacity{{"a", 1, 0}, {"b", 3, 100}})
	b.says("ok: 2 sets with room; the fullest, b, holds 3 of 100")
}

func FuzzAnswersAboutSets(f *testing.F) {
	f.Add([]byte{8, 0, 1, 0, 'a', 'b', 'c', 0, 8, 0, 2, 0, 'x', 'y', 'z', 0, 12, 0, 9, 0, 8, 0, 1, 0, 0, 0, 0, 10})
	f.Fuzz(func(t *testing.T, message []byte) {
		if len(message) > 1<<16 {
			return
		}
		table, set, size := boundOf(message)
		name, held, most := ipsetOf(message)
		if len(table)+len(set) > len(message) || len(name) > len(message) || min(size, held, most) < 0 {
			t.Errorf("of %d bytes: %q %q %d, %q %d %d", len(message), table, set, size, name, held, most)
		}
	})
}

func TestBoundOfASet(t *testing.T) {
	table, set, size := boundOf([]byte{8, 0, 1, 0, 'a', 'b', 'c', 0, 8, 0, 2, 0, 'x', 'y', 'z', 0, 12, 0, 9, 0, 8, 0, 1, 0, 0, 0, 0, 10})
	if table != "abc" || set != "xyz" || size != 10 {
		t.Errorf("it is %q %q %d", table, set, size)
	}
}
