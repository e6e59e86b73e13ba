package firewall

import (
	"bytes"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// kinds are the messages of a transaction that is ready to be sent.
func kinds(t *testing.T, b *batch) (kinds []uint16, bodies [][]byte) {
	t.Helper()
	var seq uint32
	data, last, err := b.finish(&seq)
	if err != nil {
		t.Fatal(err)
	}
	acks := 0
	for m, err := range messages(data) {
		if err != nil {
			t.Fatal(err)
		}
		kinds, bodies = append(kinds, m.kind&0xff), append(bodies, bytes.Clone(m.body[nfgenLen:]))
		if m.flags&unix.NLM_F_ACK != 0 {
			if acks++; m.seq != last {
				t.Errorf("message %d asks for an acknowledgement, and %d is waited for", m.seq, last)
			}
		}
	}
	if acks != 1 {
		t.Errorf("%d messages ask for an acknowledgement", acks)
	}
	return kinds, bodies
}

func many(n int) []element {
	es := make([]element, n)
	for i := range es {
		es[i].addr = address6(i)
		es[i].end = time.Unix(1_800_000_000, 0)
	}
	return es
}

// The kernel these tests run on changes an element's timeout when it is added
// again; most do not.
func TestAnElementThatMayStandIsTakenOutFirst(t *testing.T) {
	es := many(1)
	for _, c := range []struct {
		what           string
		destroy, known bool
		want           []uint16
	}{
		{"a new set", true, false, []uint16{unix.NFT_MSG_NEWSETELEM}},
		{"Linux 6.3", true, true, []uint16{destroySetElem, unix.NFT_MSG_NEWSETELEM}},
		{"Linux 6.2", false, true, []uint16{unix.NFT_MSG_NEWSETELEM, unix.NFT_MSG_DELSETELEM, unix.NFT_MSG_NEWSETELEM}},
	} {
		n := &writer{destroy: c.destroy}
		n.put("t", "s", es, c.known, time.Now())
		got, _ := kinds(t, &n.batch)
		if got = got[1 : len(got)-1]; !bytes.Equal(low(got), low(c.want)) {
			t.Errorf("%s: messages %v, want %v", c.what, got, c.want)
		}
	}
}

func low(kinds []uint16) (b []byte) {
	for _, k := range kinds {
		b = append(b, byte(k))
	}
	return b
}

func TestAMessageHoldsNoMoreThanTheKernelTakes(t *testing.T) {
	var b batch
	es := many(2*messageElements + 1)
	b.elements(unix.NFT_MSG_NEWSETELEM, "bantam", "a set", es, true, time.Unix(1_700_000_000, 0))
	got, bodies := kinds(t, &b)
	if len(got) != 2+3 {
		t.Errorf("%d messages for %d elements", len(got)-2, len(es))
	}
	found := make(map[netip.Addr]bool)
	for _, body := range bodies {
		if len(body) > 0xffff {
			t.Errorf("a message of %d bytes", len(body))
		}
		if err := parseElements(body, func(a netip.Addr, _ time.Duration) { found[a] = true }); err != nil {
			t.Error(err)
		}
	}
	if len(found) != len(es) {
		t.Errorf("%d of %d elements are in the messages", len(found), len(es))
	}
}

func TestAnAttributeThatIsTooLongIsAnError(t *testing.T) {
	var b batch
	b.begin(unix.NFT_MSG_NEWSET, 0)
	b.attr(1, make([]byte, 0xffff-unix.NLA_HDRLEN))
	if b.err != nil {
		t.Errorf("the longest attribute: %v", b.err)
	}
	b.attr(1, make([]byte, 0xffff-unix.NLA_HDRLEN+1))
	var seq uint32
	if _, _, err := b.finish(&seq); err == nil {
		t.Error("an attribute of 65,536 bytes went through")
	}
}

func TestTimeoutsAreNeverTooShort(t *testing.T) {
	now := time.Unix(1_700_000_000, 0)
	for _, c := range []struct {
		what string
		left time.Duration
		want uint64
	}{
		{"whole milliseconds", time.Second, 1000},
		{"a part of a millisecond counts as one", time.Second + 1, 1001},
		{"less than a tick of the kernel", 1, 20},
		{"what has just ended", 0, 20},
		{"a century", 100 * 365 * 24 * time.Hour, 100 * 365 * 24 * 3600 * 1000},
	} {
		var b batch
		b.elements(unix.NFT_MSG_NEWSETELEM, "t", "s", []element{{address4(1), now.Add(c.left)}}, true, now)
		_, bodies := kinds(t, &b)
		var got uint64
		for typ, list := range attributes(bodies[1]) {
			if typ != unix.NFTA_SET_ELEM_LIST_ELEMENTS {
				continue
			}
			for _, elem := range attributes(list) {
				for typ, data := range attributes(elem) {
					if typ == unix.NFTA_SET_ELEM_TIMEOUT {
						got = number(data)
					}
				}
			}
		}
		if got != c.want {
			t.Errorf("%s: %d ms, want %d", c.what, got, c.want)
		}
	}
}

func FuzzMessages(f *testing.F) {
	var b batch
	b.elements(unix.NFT_MSG_NEWSETELEM, "bantam", "sshd-6", many(3), true, time.Unix(1_700_000_000, 0))
	b.newSet("bantam", "sshd-4", setKey{jail: "sshd", bits: 32}.spec())
	b.newChain("bantam", baseChain)
	var seq uint32
	data, _, err := b.finish(&seq)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(bytes.Clone(data))
	f.Add([]byte{20, 0, 0, 0, 2, 0, 0, 3, 1, 0, 0, 0, 0, 0, 0, 0, 255, 255, 255, 255})
	f.Add([]byte{16, 0, 0, 0, 3, 0, 2, 0, 1, 0, 0, 0, 0, 0, 0, 0})
	n := &NFTables{table: "bantam", port: 1}
	f.Fuzz(func(t *testing.T, data []byte) {
		count := 0
		for m, err := range messages(data) {
			if err != nil {
				return
			}
			if count++; count > len(data)/headerLen {
				t.Fatalf("%d messages in %d bytes", count, len(data))
			}
			_ = m.errno()
			n.disturbs(m)
			attrs := m.body[min(nfgenLen, len(m.body)):]
			total := 0
			for _, data := range attributes(attrs) {
				total += unix.NLA_HDRLEN + len(data)
				_, _ = text(data), number(data)
			}
			if total > len(attrs) {
				t.Fatalf("attributes of %d bytes in %d", total, len(attrs))
			}
			parseSet(attrs)
			parseChain(attrs)
			parseObject(attrs)
			elements := 0
			_ = parseElements(attrs, func(a netip.Addr, left time.Duration) {
				elements++
				if !a.IsValid() || left < 0 {
					t.Errorf("element %v with %v left", a, left)
				}
			})
			if elements > len(attrs)/unix.NLA_HDRLEN {
				t.Fatalf("%d elements in %d bytes", elements, len(attrs))
			}
		}
	})
}
