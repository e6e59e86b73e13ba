package ruleset

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// text is a rule as nft prints it, near enough.
func (w *walk) text(r *rule) string {
	var b strings.Builder
	for _, word := range r.words {
		if word.text == "" {
			continue
		}
		if b.Len() > 0 {
			b.WriteByte(' ')
		}
		b.WriteString(word.text)
		switch {
		case word.set == nil:
		case word.set.anonymous():
			b.WriteString(w.braces(word))
		default:
			b.WriteString("@" + word.set.name)
		}
	}
	return b.String()
}

// braces lists a set that goes with a rule.
func (w *walk) braces(of word) string {
	const most = 8
	id := of.set.table + "\x00" + of.set.name + "\x00verdicts" + string([]byte{of.set.family})
	es, ok := w.lists[id]
	if !ok {
		es, _ = w.r.kernel.elements(of.set)
		w.lists[id] = es
	}
	es = slices.Clone(es)
	slices.SortStableFunc(es, func(a, b element) int { return bytes.Compare(a.key, b.key) })
	var parts []string
	open := false // an interval
	for _, e := range es {
		switch {
		case e.flags&unix.NFT_SET_ELEM_INTERVAL_END != 0:
			if open && len(parts) > 0 {
				parts[len(parts)-1] = closeInterval(parts[len(parts)-1], of.show(before(e.key)))
			}
			open = false
			continue
		case len(e.key) == 0:
			parts = append(parts, "*")
		default:
			parts = append(parts, of.show(e.key))
			if len(e.end) > 0 {
				parts[len(parts)-1] = closeInterval(parts[len(parts)-1], of.show(e.end))
			}
		}
		open = of.set.flags&unix.NFT_SET_INTERVAL != 0
		if e.verdict != nil {
			parts[len(parts)-1] += " : " + e.verdict.String()
		}
		if len(parts) > most {
			parts[len(parts)-1] = "…"
			break
		}
	}
	return "{ " + strings.Join(parts, ", ") + " }"
}

// closeInterval writes the end of an interval behind its beginning, before a verdict.
func closeInterval(begun, end string) string {
	from, v, isMap := strings.Cut(begun, " : ")
	if from != end {
		from += "-" + end
	}
	if isMap {
		from += " : " + v
	}
	return from
}

// before is the key in front of one.
func before(key []byte) []byte {
	b := bytes.Clone(key)
	for i := len(b) - 1; i >= 0; i-- {
		b[i]--
		if b[i] != 0xff {
			break
		}
	}
	return b
}

func showHex(b []byte) string { return "0x" + hex.EncodeToString(b[:min(len(b), 32)]) }

func showNumber(b []byte) string { return strconv.FormatUint(number(b), 10) }

func showNative(b []byte) string {
	if len(b) != 4 {
		return showHex(b)
	}
	return strconv.FormatUint(uint64(binary.NativeEndian.Uint32(b)), 10)
}

func showMark(b []byte) string {
	if len(b) != 4 {
		return showHex(b)
	}
	return fmt.Sprintf("%#x", binary.NativeEndian.Uint32(b))
}

func showName(b []byte) string {
	if !bytes.Contains(b, []byte{0}) && len(b) < unix.IFNAMSIZ {
		return `"` + string(b) + `*"`
	}
	return `"` + text(b) + `"`
}

func showProtocol(b []byte) string {
	if len(b) == 0 {
		return "?"
	}
	return protocolName(b[0])
}

func showFamily(b []byte) string {
	switch {
	case len(b) > 0 && b[0] == unix.NFPROTO_IPV4:
		return "ipv4"
	case len(b) > 0 && b[0] == unix.NFPROTO_IPV6:
		return "ipv6"
	}
	return showHex(b)
}

// showBits writes the bits of a number by their names, which may be missing.
func showBits(names ...string) func([]byte) string {
	return func(b []byte) string {
		if len(b) != 4 {
			return showHex(b)
		}
		n := binary.NativeEndian.Uint32(b)
		var parts []string
		for i, name := range names {
			if name != "" && n&(1<<i) != 0 {
				parts = append(parts, name)
				n &^= 1 << i
			}
		}
		if n != 0 || len(parts) == 0 {
			parts = append(parts, fmt.Sprintf("%#x", n))
		}
		return strings.Join(parts, ",")
	}
}

// showPrefix writes an address of so many bytes, or the first bytes of one as a prefix.
func showPrefix(size int) func([]byte) string {
	return func(b []byte) string {
		if len(b) > size || size != 4 && size != 16 {
			return showHex(b)
		}
		full := make([]byte, size)
		copy(full, b)
		a, _ := netip.AddrFromSlice(full)
		if len(b) < size {
			return netip.PrefixFrom(a, len(b)*8).String()
		}
		return a.String()
	}
}
