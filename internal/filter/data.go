package filter

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"unicode"

	"bantam"
)

// fields are what the named groups of a match captured. A group that took no part
// has no entry; one that matched nothing has an empty one. There are few: looking
// through them is quicker than hashing.
type fields []field

type field struct{ name, value string }

// get is the value of a field, "" if there is none.
func (d fields) get(name string) string {
	value, _ := d.lookup(name)
	return value
}

func (d fields) lookup(name string) (value string, ok bool) {
	for i := range d {
		if d[i].name == name {
			return d[i].value, true
		}
	}
	return "", false
}

func (d fields) has(name string) bool {
	_, ok := d.lookup(name)
	return ok
}

// set gives a field a value.
func (d *fields) set(name, value string) {
	for i := range *d {
		if (*d)[i].name == name {
			(*d)[i].value = value
			return
		}
	}
	*d = append(*d, field{name, value})
}

func (d *fields) remove(names ...string) {
	*d = slices.DeleteFunc(*d, func(f field) bool { return slices.Contains(names, f.name) })
}

// add sets the groups that took part in a match in text. A shared copy of text may
// serve them all.
func (d *fields) add(names []string, text []byte, shared string, spans []int) {
	for i, name := range names {
		start, end := spans[2*i], spans[2*i+1]
		switch {
		case name == "" || start < 0:
		case shared != "":
			d.set(name, shared[start:end])
		default:
			d.set(name, string(text[start:end]))
		}
	}
}

// identified reports whether d says who failed.
func (d fields) identified() bool {
	for i := range d {
		switch d[i].name {
		case "ip4", "ip6", "dns", "fid":
			return true
		}
	}
	return false
}

// alternatives gives a field that is missing or empty the first of its <F-ALT_…> that
// is not, in the order of their names.
func (d *fields) alternatives() {
	var names []string
	for _, f := range *d {
		if strings.HasPrefix(f.name, "alt_") && f.value != "" {
			names = append(names, f.name)
		}
	}
	slices.Sort(names)
	for _, name := range names {
		if field := target(strings.TrimPrefix(name, "alt_")); d.get(field) == "" {
			d.set(field, d.get(name))
		}
	}
}

// tuples makes a field that has <F-TUPLE_…> the list of itself and them, in the order
// of their names, as Python prints a tuple. A rule may be nil.
func (d *fields) tuples(rules ...*rule) {
	var parts map[string][]string
	for _, r := range rules {
		if r == nil {
			continue
		}
		for _, name := range r.tuples {
			field := target(strings.TrimPrefix(name, "tuple_"))
			if parts == nil {
				parts = make(map[string][]string)
			}
			if parts[field] == nil {
				parts[field] = []string{d.repr(field)}
			}
			parts[field] = append(parts[field], d.repr(name))
		}
	}
	for field, p := range parts {
		d.set(field, "("+strings.Join(p, ", ")+")")
	}
}

// repr is a field as Python's repr writes it.
func (d fields) repr(name string) string {
	text, ok := d.lookup(name)
	if !ok {
		return "None"
	}
	quote := '\''
	if strings.ContainsRune(text, '\'') && !strings.ContainsRune(text, '"') {
		quote = '"'
	}
	var b strings.Builder
	b.WriteRune(quote)
	for _, r := range text {
		switch {
		case r == quote || r == '\\':
			b.WriteByte('\\')
			b.WriteRune(r)
		case r == '\n':
			b.WriteString(`\n`)
		case r == '\r':
			b.WriteString(`\r`)
		case r == '\t':
			b.WriteString(`\t`)
		case unicode.IsPrint(r):
			b.WriteRune(r)
		case r < 0x100:
			fmt.Fprintf(&b, `\x%02x`, r)
		case r < 0x10000:
			fmt.Fprintf(&b, `\u%04x`, r)
		default:
			fmt.Fprintf(&b, `\U%08x`, r)
		}
	}
	b.WriteRune(quote)
	return b.String()
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
func (j *judge) failure(d fields, fl bantam.Failure, out []bantam.Failure) []bantam.Failure {
	addr, isAddr := d.address()
	fid := d.get("fid")
	name, hasName := d.lookup("dns")
	if !isAddr && hasName && !d.has("ip4") && !d.has("ip6") {
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
	for _, f := range d {
		name, value := f.name, f.value
		switch name {
		case "ip4", "ip6", "dns", "cidr", "nofail", "mlfid", "mlfforget", "mlfgained", "mlfattempt":
			continue
		case "fid":
			if !hasName && ip == "" {
				continue // it is the ID
			}
		case "user":
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
func (d fields) address() (bantam.ID, bool) {
	for _, name := range [...]string{"ip4", "ip6"} {
		if text, ok := d.lookup(name); ok {
			return parseAddr(text, d.get("cidr"))
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
