package ruleset

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"bantam/internal/nstest"
)

// FuzzDecodeMatch gives the decoders of iptables' structures what a kernel would never say.
func FuzzDecodeMatch(f *testing.F) {
	for _, name := range []string{"tcp", "udp", "multiport", "conntrack", "state", "set", "addrtype", "mark", "iprange", "comment", "DNAT", "REDIRECT", "MARK", "CT", "REJECT"} {
		for rev := range uint8(4) {
			f.Add(name, rev, make([]byte, 180))
			f.Add(name, rev, slices.Repeat([]byte{0x11}, 48))
		}
	}
	f.Fuzz(func(t *testing.T, name string, rev uint8, info []byte) {
		match, ok := decodeMatch(name, uint64(rev), info, func(n uint16) string { return fmt.Sprint(n) })
		if !ok {
			match = condition{judge: always}
		}
		target := decodeTarget(name, uint64(rev), info)
		if len(match.text)+len(target.text) > 4096+2*len(info) {
			t.Errorf("%d bytes become a text of %d and %d", len(info), len(match.text), len(target.text))
		}
		c := &chain{chainKey: chainKey{"ip", "t", "c"}, protocol: unix.NFPROTO_IPV4, hook: "prerouting", kind: "filter", policy: accept}
		c.rules = []*rule{{chain: c, words: []word{{text: match.text}}, ops: []op{match.judge, target.judge}}}
		walkOffline(t, &Ruleset{chains: []*chain{c}})
	})
}

// FuzzDecodeRule gives the decoder of rules any bytes.
func FuzzDecodeRule(f *testing.F) {
	for _, e := range sampleExpressions(f) {
		f.Add(e, e)
	}
	f.Fuzz(func(t *testing.T, first, second []byte) {
		c := &chain{chainKey: chainKey{"inet", "t", "c"}, protocol: unix.NFPROTO_INET, hook: "prerouting", kind: "filter", policy: accept}
		d := decoder{
			chain: c, rule: &rule{chain: c, handle: 1}, ipset: func(uint16) string { return "" },
			sets: map[setKey]*set{{unix.NFPROTO_INET, "t", "s"}: {family: unix.NFPROTO_INET, table: "t", name: "s", keyLen: 4, verdicts: true}},
		}
		d.expression(first)
		d.expression(second)
		d.finish(second)
		c.rules = []*rule{d.rule}
		_ = (&walk{r: &Ruleset{}, lists: make(map[string][]element)}).text(d.rule)
		walkOffline(t, &Ruleset{chains: []*chain{c}, names: map[chainKey]*chain{c.chainKey: c}})
		parseSet(answered{unix.NFPROTO_INET, first})
		parseChain(answered{unix.NFPROTO_NETDEV, first})
		parseElements(first)
	})
}

// sampleExpressions are some as the kernel tells them.
func sampleExpressions(t testing.TB) [][]byte {
	t.Helper()
	u32 := func(typ uint16, n uint32) netlink.Attribute {
		return netlink.Attribute{Type: typ, Data: binary.BigEndian.AppendUint32(nil, n)}
	}
	data := func(typ uint16, b ...byte) netlink.Attribute {
		v, err := netlink.MarshalAttributes([]netlink.Attribute{{Type: unix.NFTA_DATA_VALUE, Data: b}})
		if err != nil {
			t.Fatal(err)
		}
		return netlink.Attribute{Type: typ | unix.NLA_F_NESTED, Data: v}
	}
	var out [][]byte
	for name, attrs := range map[string][]netlink.Attribute{
		"meta":    {u32(unix.NFTA_META_DREG, 1), u32(unix.NFTA_META_KEY, unix.NFT_META_L4PROTO)},
		"payload": {u32(unix.NFTA_PAYLOAD_DREG, 8), u32(unix.NFTA_PAYLOAD_BASE, 1), u32(unix.NFTA_PAYLOAD_OFFSET, 12), u32(unix.NFTA_PAYLOAD_LEN, 4)},
		"cmp":     {u32(unix.NFTA_CMP_SREG, 1), u32(unix.NFTA_CMP_OP, 1), data(unix.NFTA_CMP_DATA, 6)},
		"bitwise": {u32(unix.NFTA_BITWISE_SREG, 1), u32(unix.NFTA_BITWISE_DREG, 23), u32(unix.NFTA_BITWISE_LEN, 4), data(unix.NFTA_BITWISE_MASK, 1, 2, 3, 4), data(unix.NFTA_BITWISE_XOR, 0, 0, 0, 1)},
		"lookup":  {u32(unix.NFTA_LOOKUP_SREG, 1), u32(unix.NFTA_LOOKUP_DREG, 0), {Type: unix.NFTA_LOOKUP_SET, Data: []byte("s\x00")}},
		"range":   {u32(unix.NFTA_RANGE_SREG, 1), data(unix.NFTA_RANGE_FROM_DATA, 1), data(unix.NFTA_RANGE_TO_DATA, 9)},
		"match":   {{Type: unix.NFTA_MATCH_NAME, Data: []byte("tcp\x00")}, u32(unix.NFTA_MATCH_REV, 0), {Type: unix.NFTA_MATCH_INFO, Data: make([]byte, 16)}},
		"nat":     {u32(unix.NFTA_NAT_TYPE, 1), u32(unix.NFTA_NAT_FAMILY, 1), u32(unix.NFTA_NAT_REG_ADDR_MIN, 1), u32(unix.NFTA_NAT_REG_PROTO_MIN, 2)},
		"ct":      {u32(unix.NFTA_CT_DREG, 1), u32(unix.NFTA_CT_KEY, 0)},
		"fib":     {u32(unix.NFTA_FIB_DREG, 1), u32(unix.NFTA_FIB_RESULT, 3), u32(unix.NFTA_FIB_FLAGS, 2)},
	} {
		b, err := netlink.MarshalAttributes(attrs)
		if err == nil {
			b, err = netlink.MarshalAttributes([]netlink.Attribute{{Type: unix.NFTA_EXPR_NAME, Data: cString(name)}, {Type: unix.NFTA_EXPR_DATA | unix.NLA_F_NESTED, Data: b}})
		}
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, b)
	}
	return out
}

func TestAnExpressionThatIsNotKnownIsADoubtAndNoMatchOfEverything(t *testing.T) {
	b, err := netlink.MarshalAttributes([]netlink.Attribute{{Type: unix.NFTA_EXPR_NAME, Data: cString("oracle")}})
	if err != nil {
		t.Fatal(err)
	}
	c := &chain{chainKey: chainKey{"inet", "t", "c"}, protocol: unix.NFPROTO_INET, hook: "prerouting", kind: "filter", policy: accept}
	d := decoder{chain: c, rule: &rule{chain: c, handle: 4}}
	d.expression(b)
	d.do(final(drop))
	d.finish(nil)
	c.rules = []*rule{d.rule}
	path := (&Ruleset{chains: []*chain{c}}).Walk(Packet{Src: banned4, Dst: nstest.Server4, Protocol: "tcp", Port: 22})
	if path.Dropped || len(path.Doubts) != 1 || !strings.Contains(path.Doubts[0], "table inet t, chain c: `[oracle] # handle 4`: the expression \"oracle\" is not known; taken not to match") {
		t.Errorf("a drop behind it gives %+v", path)
	}
}

func TestAnInterfaceThatIsNotKnownIsNotTheLoopback(t *testing.T) {
	w := newWorld(t)
	w.load(`table inet f { chain c { type filter hook input priority 0; policy accept
	iifname "lo" accept
	iif lo accept
	iifname vmap { "lo" : accept, "eth7" : drop }
	iifname "client1" udp dport 80 accept
	ip saddr 192.0.2.1 drop
	}
}`)
	r := w.read()
	p := w.packet(banned4, "udp", 22)
	if path := r.Walk(p); !path.Dropped {
		t.Errorf("by client1 it passes: %+v", path)
	}
	p.In = ""
	if path := r.Walk(p); !path.Dropped {
		t.Errorf("by any interface but the loopback it passes: %+v", path)
	}
	p.Port = 80
	if path := r.Walk(p); path.Dropped || len(path.Doubts) == 0 {
		t.Errorf("by one of which it passes: %+v", path)
	}
}

func TestWithoutPrivilegeTheErrorSaysSo(t *testing.T) {
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // and never given back: the thread ends without its capabilities
		hdr := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
		var none [2]unix.CapUserData
		if err := unix.Capset(&hdr, &none[0]); err != nil {
			done <- fmt.Errorf("drop capabilities: %w", err)
			return
		}
		_, err := Read(t.Context())
		done <- err
	}()
	if err := <-done; !errors.Is(err, unix.EPERM) || !strings.Contains(err.Error(), "read the kernel's firewall rules") {
		t.Errorf("the error is %v", err)
	}
}

func TestWalksMayGoOnAtOnceWhileSetsChange(t *testing.T) {
	n := nstest.New(t)
	loadNFT(t, n, bantamTable)
	r := emptyRuleset(t, n)
	drops := func(p Packet) bool { return r.Walk(p).Dropped }
	p := Packet{Src: banned4, Dst: nstest.Server4, Protocol: "tcp", Port: 22}
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			for range 20 {
				if !drops(p) {
					t.Error("a banned address passes")
				}
			}
		})
	}
	all.Wait()
	p.Src = other4
	if drops(p) {
		t.Error("an address that is not banned is dropped")
	}
	loadNFT(t, n, "add element inet bantam jail-sshd-4 { 192.0.2.2 timeout 1h }")
	if !drops(p) {
		t.Error("an address banned since the rules were read passes")
	}
}

func TestAStepIsPrintedForPeopleAndPrograms(t *testing.T) {
	n := nstest.New(t)
	loadNFT(t, n, `table inet filter {
	chain input { type filter hook input priority 5; policy drop
		tcp dport 22 ct state new accept comment "ssh"
		ip saddr { 192.0.2.1, 192.0.2.8/29 } jump never
		tcp dport vmap { 25 : drop, 80-90 : accept }
	}
	chain never { reject with tcp reset; }
}`)
	r := emptyRuleset(t, n)
	got, err := json.Marshal(r.Walk(Packet{Src: banned4, Dst: nstest.Server4, Protocol: "tcp", Port: 22}))
	if err != nil {
		t.Fatal(err)
	}
	const step = `"hook":"input","priority":5,"family":"inet","table":"filter"`
	const accepts = `{` + step + `,"chain":"input","rule":"tcp dport 22 ct state new accept comment \"ssh\" # handle 3","verdict":"accept"}`
	want := `{"dropped":false,"steps":[` + accepts + `],"through":` + accepts +
		`,"missed":{` + step + `,"chain":"never","rule":"reject with tcp reset # handle 8","verdict":"reject"}}`
	if string(got) != want {
		t.Errorf("the path is\n%s\nwant\n%s", got, want)
	}
	w := &walk{r: r, lists: make(map[string][]element)}
	for i, want := range []string{
		`tcp dport 22 ct state new accept comment "ssh" # handle 3`,
		`ip saddr { 192.0.2.1, 192.0.2.8-192.0.2.15 } jump never # handle 5`,
		`tcp dport vmap { 25 : drop, 80-90 : accept } # handle 7`,
	} {
		if got := w.text(r.names[chainKey{"inet", "filter", "input"}].rules[i]); got != want {
			t.Errorf("rule %d is printed as\n%s\nwant\n%s", i, got, want)
		}
	}
}

// BenchmarkWalk follows a packet into sets of 100,000 addresses, and beside them reads the ruleset.
func BenchmarkWalk(b *testing.B) {
	n := nstest.New(b)
	var elements, ranges strings.Builder
	for i := range 100_000 {
		fmt.Fprintf(&elements, "10.%d.%d.%d,", i>>16, i>>8&0xff, i&0xff)
		fmt.Fprintf(&ranges, "11.%d.%d.%d/31,", i>>15, i>>7&0xff, i<<1&0xff)
	}
	rules := fmt.Sprintf(`table inet f {
	set hash { type ipv4_addr; flags timeout; timeout 1h; elements = { %s } }
	set tree { type ipv4_addr; flags interval; elements = { %s } }
	chain c { type filter hook input priority 0; ip saddr @tree drop; ip saddr @hash drop; }
}`, elements.String(), ranges.String())
	loadNFT(b, n, rules)
	r := emptyRuleset(b, n)
	for _, bench := range []struct {
		name string
		p    Packet
		want bool
	}{
		{"in the hash", Packet{Src: addrOf("10.1.0.1"), Dst: nstest.Server4, Protocol: "tcp", Port: 22}, true},
		{"in the tree", Packet{Src: addrOf("11.2.0.1"), Dst: nstest.Server4, Protocol: "tcp", Port: 22}, true},
		{"in none", Packet{Src: addrOf("12.0.0.1"), Dst: nstest.Server4, Protocol: "tcp", Port: 22}, false},
	} {
		b.Run(bench.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if path := r.Walk(bench.p); path.Dropped != bench.want {
					b.Fatalf("%+v", path)
				}
			}
		})
	}
	b.Run("reading", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			_ = emptyRuleset(b, n).Close()
		}
	})
}
