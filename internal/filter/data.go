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
// has no entry; one that matched nothing has an empty one.
type fields map[string]string

// add copies the groups that took part in a match over d, which may be nil, but for
// <F-CONTENT>, which says only where to look.
func (d fields) add(names []string, text []byte, spans []int) fields {
	for i, name := range names {
		if name == "" || name == "content" || spans[2*i] < 0 {
			continue
		}
		if d == nil {
			d = make(fields)
		}
		d[name] = string(text[spans[2*i]:spans[2*i+1]])
	}
	return d
}

func (d fields) clone() fields {
	c := make(fields, len(d))
	for k, v := range d {
		c[k] = v
	}
	return c
}

// identified reports whether d says who failed.
func (d fields) identified() bool {
	for _, name := range [...]string{"ip4", "ip6", "dns", "fid"} {
		if _, ok := d[name]; ok {
			return true
		}
	}
	return false
}

// alternatives gives a field that is missing or empty the first of its <F-ALT_…> that
// is not, in the order of their names.
func (d fields) alternatives() {
	var names []string
	for name, value := range d {
		if strings.HasPrefix(name, "alt_") && value != "" {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	for _, name := range names {
		if field := target(strings.TrimPrefix(name, "alt_")); d[field] == "" {
			d[field] = d[name]
		}
	}
}

// tuples makes a field that has <F-TUPLE_…> the list of itself and them, in the order
// of their names, as Python prints a tuple. A rule may be nil.
func (d fields) tuples(rules ...*rule) {
	parts := make(map[string][]string)
	for _, r := range rules {
		if r == nil {
			continue
		}
		for _, name := range r.tuples {
			field := target(strings.TrimPrefix(name, "tuple_"))
			if parts[field] == nil {
				parts[field] = []string{d.repr(field)}
			}
			parts[field] = append(parts[field], d.repr(name))
		}
	}
	for field, p := range parts {
		d[field] = "(" + strings.Join(p, ", ") + ")"
	}
}

// repr is a field as Python's repr writes it.
func (d fields) repr(name string) string {
	text, ok := d[name]
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

func has(d fields, name string) bool { _, ok := d[name]; return ok }

// failure completes fl with who failed and appends it to out, or appends nothing if
// that turns out to be nobody (detection.md 4.4).
func (j *judge) failure(d fields, fl bantam.Failure, out []bantam.Failure) []bantam.Failure {
	addr, isAddr := d.address()
	fid := d["fid"]
	name, hasName := d["dns"]
	if !isAddr && hasName && !has(d, "ip4") && !has(d, "ip6") {
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
	for name, value := range d {
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
		if text, ok := d[name]; ok {
			return parseAddr(text, d["cidr"])
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
