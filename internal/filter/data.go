package filter

import (
	"iter"
	"math/bits"
	"net/netip"
	"slices"
	"strings"
	"unsafe"

	"bantam"
	"bantam/internal/tag"
)

// fields are what the named groups of a match captured, by the number of the name. A group
// that took no part has no entry; one that matched nothing has an empty one.
//
// Values may refer to the text of the line at hand, which does not last: what is kept is
// kept by keep.
type fields struct {
	has    uint64   // a bit for each number
	values []string // by number; leftovers where has says no
}

// The numbers of the names that mean something; others of a filter follow them.
const (
	fieldIP4 = iota
	fieldIP6
	fieldDNS
	fieldCIDR
	fieldFID
	fieldUser
	fieldMLFID
	fieldNofail
	fieldForget
	fieldGained
	fieldAttempt
	knownFields

	// maxFields is how many different names the groups of a filter may have.
	maxFields = 64
)

var fieldNames = [knownFields]string{
	"ip4", "ip6", "dns", "cidr", "fid", "user", "mlfid", "nofail", "mlfforget", "mlfgained", "mlfattempt",
}

// field is the number of a name, a new one if need be.
func (r *Rules) field(name string) int {
	if r.names == nil {
		r.names = slices.Clone(fieldNames[:])
	}
	i := slices.Index(r.names, name)
	if i < 0 {
		i, r.names = len(r.names), append(r.names, name)
	}
	return i
}

// get is the value of a field, "" if there is none.
func (d *fields) get(field int) string {
	if d.has>>field&1 == 0 {
		return ""
	}
	return d.values[field]
}

func (d *fields) lookup(field int) (value string, ok bool) {
	return d.get(field), d.has>>field&1 != 0
}

// set gives a field a value.
func (d *fields) set(field int, value string) {
	if field >= len(d.values) {
		d.values = append(d.values, make([]string, field+1-len(d.values))...)
	}
	d.has |= 1 << field
	d.values[field] = value
}

func (d *fields) remove(field int) { d.has &^= 1 << field }

// all are the numbers of the fields that are there.
func (d *fields) all() iter.Seq[int] {
	return func(yield func(int) bool) {
		for has := d.has; has != 0; has &= has - 1 {
			if !yield(bits.TrailingZeros64(has)) {
				return
			}
		}
	}
}

// setAll sets what other has.
func (d *fields) setAll(other *fields) {
	for has := other.has; has != 0; has &= has - 1 {
		i := bits.TrailingZeros64(has)
		d.set(i, other.values[i])
	}
}

// keep sets what other has, in the memory of r.
func (d *fields) keep(other *fields, r *room) {
	for has := other.has; has != 0; has &= has - 1 {
		i := bits.TrailingZeros64(has)
		if value := other.values[i]; d.has>>i&1 == 0 || d.values[i] != value {
			d.set(i, r.put(value))
		}
	}
}

// kept is a copy in memory of its own.
func kept(d *fields) (out fields) {
	size := 0
	for i := range d.all() {
		size += len(d.values[i])
	}
	var b strings.Builder
	b.Grow(size)
	for i := range d.all() {
		start := b.Len()
		b.WriteString(d.values[i])
		out.set(i, b.String()[start:])
	}
	return out
}

// A room is memory for texts that are given up together.
type room struct{ free, all []byte }

// roomSize is more than most sessions keep. Those that need more get it in pieces, which are gone with what refers to
// them.
const roomSize = 512

// put is a copy of text.
func (r *room) put(text string) string {
	if len(text) > roomSize {
		return strings.Clone(text)
	}
	if len(text) > len(r.free) {
		r.all = make([]byte, roomSize)
		r.free = r.all
	}
	n := copy(r.free, text)
	own := unsafe.String(unsafe.SliceData(r.free), n)
	r.free = r.free[n:]
	return own
}

// clear gives up all texts: none of them may be read any more.
func (r *room) clear() { r.free = r.all }

// add sets the groups of a rule that took part in a match in text, to which they refer.
func (d *fields) add(r *rule, text []byte, spans []int) {
	for _, c := range r.captures {
		if start, end := spans[2*c.group], spans[2*c.group+1]; start >= 0 {
			d.set(c.field, unsafe.String(unsafe.SliceData(text[start:]), end-start))
		}
	}
}

// identified reports whether d says who failed.
func (d *fields) identified() bool {
	return d.has&(1<<fieldIP4|1<<fieldIP6|1<<fieldDNS|1<<fieldFID) != 0
}

// A pair is a field and another that it feeds.
type pair struct{ from, to int }

// feeds finds the fields that begin so among the groups of a rule, and what they feed, in
// the order of their names.
func (r *Rules) feeds(begin string, rule *rule) (pairs []pair) {
	if rule == nil {
		return nil
	}
	for _, c := range rule.captures {
		if to, ok := strings.CutPrefix(r.names[c.field], begin); ok {
			pairs = append(pairs, pair{c.field, r.field(target(to))})
		}
	}
	slices.SortFunc(pairs, r.byName)
	return pairs
}

func (r *Rules) byName(a, b pair) int { return strings.Compare(r.names[a.from], r.names[b.from]) }

// alternatives gives a field that is missing or empty the first of its <F-ALT_…> that
// is not, in the order of their names.
func (d *fields) alternatives(alts []pair) {
	for _, a := range alts {
		if d.get(a.to) == "" && d.get(a.from) != "" {
			d.set(a.to, d.get(a.from))
		}
	}
}

// tuples makes a field that has <F-TUPLE_…> the list of itself and them, in the order
// of their names, as Python prints a tuple.
func (d *fields) tuples(tuples []pair) {
	parts := make(map[int][]string)
	for _, t := range tuples {
		if parts[t.to] == nil {
			parts[t.to] = []string{d.repr(t.to)}
		}
		parts[t.to] = append(parts[t.to], d.repr(t.from))
	}
	for field, p := range parts {
		d.set(field, "("+strings.Join(p, ", ")+")")
	}
}

// repr is a field as Python's repr writes it.
func (d *fields) repr(field int) string {
	text, ok := d.lookup(field)
	if !ok {
		return "None"
	}
	return tag.Repr(text)
}

// target is the field that an alternative's name stands for: <F-ALT_USER_1> feeds user.
func target(name string) string {
	if i := strings.LastIndexByte(name, '_'); i > 0 && i < len(name)-1 &&
		strings.Trim(name[i+1:], "0123456789") == "" {
		name = name[:i]
	}
	return groupName(strings.ToUpper(name))
}

// failure completes fl with who failed and appends it to out, or appends nothing if
// that turns out to be nobody (detection.md 4.4).
func (j *judge) failure(d *fields, fl bantam.Failure, out []bantam.Failure) []bantam.Failure {
	addr, isAddr := d.address()
	fid := strings.Clone(d.get(fieldFID))
	name, hasName := d.lookup(fieldDNS)
	if name = strings.Clone(name); !isAddr && hasName && d.has&(1<<fieldIP4|1<<fieldIP6) == 0 {
		addr, isAddr = parseAddr(name, "")
	} else {
		hasName = false
	}
	raw := j.dns == dnsRaw
	var ip string // the address, if it is not what is counted
	switch {
	case isAddr && hasName && !raw:
		fl.ID = addr // as if it had been resolved
	case isAddr && fid != "" && fid != addr.String():
		fl.ID, ip = textOrAddr(fid, raw), addr.String()
	case isAddr:
		fl.ID = addr
	case hasName && raw && fid != "":
		fl.ID, ip = bantam.TextID(fid), name
	case hasName && raw:
		fl.ID = bantam.TextID(name)
	case hasName && j.dns == dnsResolve && !endsInNumber(name):
		fl.Host = name
	case hasName:
		return out
	case fid != "":
		fl.ID = textOrAddr(fid, raw)
	}
	if fl.ID.IsZero() && fl.Host == "" {
		return out // a number like 999.1.2.3 is nobody's address
	}
	for i := range d.all() {
		switch i {
		case fieldIP4, fieldIP6, fieldDNS, fieldCIDR, fieldNofail, fieldMLFID, fieldForget, fieldGained, fieldAttempt:
			continue
		case fieldFID:
			if !hasName && ip == "" {
				continue // it is the ID
			}
		}
		name, value := j.names[i], strings.Clone(d.values[i])
		if i == fieldUser {
			fl.User = value
			continue
		}
		if strings.HasPrefix(name, "alt_") || strings.HasPrefix(name, "tuple_") {
			continue
		}
		if fl.Data == nil {
			fl.Data = make(map[string]string)
		}
		fl.Data[name] = value
	}
	if ip != "" {
		if fl.Data == nil {
			fl.Data = make(map[string]string)
		}
		fl.Data["ip"] = ip
	}
	return append(out, fl)
}

// address is what an address group captured, with its length if there is one.
func (d *fields) address() (bantam.ID, bool) {
	for _, field := range [...]int{fieldIP4, fieldIP6} {
		if text, ok := d.lookup(field); ok {
			return parseAddr(text, d.get(fieldCIDR))
		}
	}
	return bantam.ID{}, false
}

// parseAddr reads an address; a length that its family does not have is left out.
func parseAddr(text, length string) (bantam.ID, bool) {
	text = strings.TrimSuffix(strings.TrimPrefix(text, "["), "]")
	addr, err := netip.ParseAddr(text)
	if err != nil || addr.Zone() != "" {
		return bantam.ID{}, false
	}
	if length != "" {
		if id, ok := withLength(text + "/" + length); ok {
			return id, true
		}
	}
	return bantam.AddrID(addr), true
}

// endsInNumber reports whether the last label of a name is a number, decimal or hex: then
// it is no host name (RFC 3696, 2), but the C library would make an address of it, as of
// 1.2.3 the address 1.2.0.3.
func endsInNumber(name string) bool {
	label := name[strings.LastIndexByte(name, '.')+1:]
	if hex, ok := strings.CutPrefix(strings.ToLower(label), "0x"); ok && hex != "" {
		return strings.Trim(hex, "0123456789abcdef") == ""
	}
	return strings.Trim(label, "0123456789") == ""
}

// withLength is the prefix of an address, or the address if its family has no such
// length. An attacker's "/0" is not everybody, but the one address 0.0.0.0, as in Fail2Ban.
func withLength(text string) (bantam.ID, bool) {
	id, err := bantam.ParsePrefix(text)
	if err != nil {
		return bantam.ID{}, false
	}
	if p, ok := id.Prefix(); ok && p.Bits() == 0 {
		id = bantam.AddrID(p.Addr())
	}
	return id, true
}

// textOrAddr is the ID of an <F-ID>: an address or prefix by value, else the text.
func textOrAddr(text string, raw bool) bantam.ID {
	if !raw {
		if id, ok := withLength(text); ok {
			return id
		}
		if addr, length, ok := strings.Cut(text, "/"); ok && length != "" && strings.Trim(length, "0123456789") == "" {
			if id, ok := parseAddr(addr, ""); ok {
				return id
			}
		}
	}
	return bantam.TextID(text)
}
