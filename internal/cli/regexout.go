package cli

import (
	"context"
	"fmt"
	"maps"
	"math"
	"net"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"bantam"
	"bantam/internal/filter"
)

// A resolver turns who failed into what would be counted.
type resolver struct {
	raw, never bool
	known      map[string][]string // by name; also names without an address
}

// Bounds of asking for names: hostile logs are full of them.
const (
	maxNames    = 1000
	nameTimeout = 5 * time.Second
)

func newResolver(useDNS string) *resolver {
	return &resolver{raw: useDNS == "raw", never: useDNS == "no", known: map[string][]string{}}
}

// ids are what a hit is counted for: an address, several of a name, a text, or nobody.
func (r *resolver) ids(ctx context.Context, hit *filter.Hit) []string {
	switch {
	case hit.Host == "", hit.Name && r.never:
		return nil
	}
	host := strings.Clone(hit.Host) // for what is kept
	switch {
	case !hit.Name && r.raw && hit.Get("fid") != "", hit.Name && r.raw:
		return []string{host}
	case !hit.Name:
		if id, err := bantam.ParsePrefix(host); err == nil {
			return []string{id.String()}
		}
		return []string{host}
	}
	ids, asked := r.known[host]
	if !asked {
		ctx, cancel := context.WithTimeout(ctx, nameTimeout)
		defer cancel()
		addrs, _ := net.DefaultResolver.LookupNetIP(ctx, "ip", host) // no answer is nobody
		for _, addr := range addrs {
			if id := bantam.AddrID(addr).String(); !slices.Contains(ids, id) {
				ids = append(ids, id)
			}
		}
		if len(r.known) >= maxNames {
			clear(r.known)
		}
		r.known[host] = ids
	}
	return ids
}

// shown is text for where the output goes: escaped for a terminal, as it is for a program.
func (r *regexRun) shown(s string) string {
	if r.tty {
		return safe(s)
	}
	return strings.ToValidUTF8(s, "\ufffd")
}

// one prints what --out asks for of one failure (detection.md 8.4).
func (r *regexRun) one(ctx context.Context, id string, hit *filter.Hit) {
	switch token := r.opt.out; {
	case token == "id", token == "fid":
		fmt.Fprintln(r.out, r.shown(id))
	case token == "ip":
		fmt.Fprintln(r.out, r.shown(addressOf(id, hit)))
	case token == "msg":
		for _, line := range hit.Lines {
			fmt.Fprintln(r.out, r.shown(line))
		}
	case token == "row":
		fmt.Fprintf(r.out, "[%s,\t%s,\t%s],\n", pyText(id), r.seconds(hit), pyDict(id, hit))
	case strings.Contains(token, "<"):
		if !strings.Contains(token, "<msg>") {
			fmt.Fprintln(r.out, r.fill(ctx, token, id, hit))
			return
		}
		for _, line := range hit.Lines {
			row := *hit
			row.Lines = []string{line}
			fmt.Fprintln(r.out, r.fill(ctx, token, id, &row))
		}
	case token == "matches":
		parts := make([]string, len(hit.Lines))
		for i, line := range hit.Lines {
			parts[i] = pyText(line)
		}
		fmt.Fprintf(r.out, "[%s]\n", strings.Join(parts, ", "))
	default:
		if value, ok := hit.Lookup(token); ok {
			fmt.Fprintln(r.out, r.shown(value))
		} else {
			fmt.Fprintln(r.out, "None")
		}
	}
}

// addressOf is the address of a failure, else what it is counted for.
func addressOf(id string, hit *filter.Hit) string {
	for _, group := range [...]string{"ip4", "ip6"} {
		if addr := hit.Get(group); addr != "" {
			if a, err := bantam.ParsePrefix(addr); err == nil {
				return a.String()
			}
			return addr
		}
	}
	return id
}

// seconds is event time as the original prints it: whole where a zone was named, else with
// a fraction; a failure without a time is of now.
func (r *regexRun) seconds(hit *filter.Hit) string {
	at := hit.Time
	if at.IsZero() {
		at = r.now
	}
	if r.opt.timezone != "" {
		return strconv.FormatInt(at.Unix(), 10)
	}
	s := strconv.FormatFloat(float64(at.UnixMicro())/1e6, 'f', -1, 64)
	if !strings.Contains(s, ".") {
		s += ".0"
	}
	return s
}

var outTag = regexp.MustCompile(`<(F-[A-Z0-9_-]+|[a-z-]+)>`)

// fill replaces the tags of a template. What is put in is not looked at again.
func (r *regexRun) fill(ctx context.Context, template, id string, hit *filter.Hit) string {
	return outTag.ReplaceAllStringFunc(template, func(tag string) string {
		name := tag[1 : len(tag)-1]
		if field, ok := strings.CutPrefix(name, "F-"); ok {
			switch field = strings.ToLower(field); field {
			case "id":
				return r.shown(id)
			case "port":
				field = "fport"
			}
			return r.shown(hit.Get(field))
		}
		addr, err := netip.ParseAddr(addressOf(id, hit))
		switch name {
		case "ip":
			return r.shown(addressOf(id, hit))
		case "fid":
			return r.shown(id)
		case "family":
			switch {
			case err != nil:
				return "None"
			case addr.Is4():
				return "inet4"
			}
			return "inet6"
		case "ip-rev":
			if err != nil {
				return ""
			}
			return reversed(addr)
		case "ip-host":
			ctx, cancel := context.WithTimeout(ctx, nameTimeout)
			defer cancel()
			if names, err := net.DefaultResolver.LookupAddr(ctx, addr.String()); err == nil && len(names) > 0 {
				return r.shown(strings.TrimSuffix(names[0], "."))
			}
			return "None"
		case "time":
			return r.seconds(hit)
		case "failures":
			return "0"
		case "matches", "msg":
			return r.shown(strings.Join(hit.Lines, "\n"))
		}
		return tag
	})
}

// reversed is an address by its labels from the last on, as DNS lists want it.
func reversed(addr netip.Addr) string {
	var labels []string
	if addr.Is4() {
		labels = strings.Split(addr.String(), ".")
	} else {
		labels = strings.Split(strings.ReplaceAll(addr.StringExpanded(), ":", ""), "")
	}
	slices.Reverse(labels)
	return strings.Join(labels, ".") + "."
}

// pyText is a text as a literal of Python.
func pyText(s string) string {
	quote := byte('\'')
	if strings.Contains(s, "'") && !strings.Contains(s, `"`) {
		quote = '"'
	}
	b := []byte{quote}
	for _, r := range s {
		switch {
		case r == rune(quote), r == '\\':
			b = append(b, '\\', byte(r))
		case r == '\n':
			b = append(b, `\n`...)
		case r == '\r':
			b = append(b, `\r`...)
		case r == '\t':
			b = append(b, `\t`...)
		case unicode.IsPrint(r):
			b = append(b, string(r)...)
		case r <= math.MaxUint8:
			b = fmt.Appendf(b, `\x%02x`, r)
		case r <= math.MaxUint16:
			b = fmt.Appendf(b, `\u%04x`, r)
		default:
			b = fmt.Appendf(b, `\U%08x`, r)
		}
	}
	return string(append(b, quote))
}

// pyDict is a failure's fields as a literal of Python.
func pyDict(id string, hit *filter.Hit) string {
	data := hit.Data()
	delete(data, "content")
	if _, ok := data["fid"]; !ok {
		data["ip"] = id
	}
	var parts []string
	for _, key := range slices.Sorted(maps.Keys(data)) {
		parts = append(parts, pyText(key)+": "+pyText(data[key]))
	}
	return "{" + strings.Join(parts, ", ") + "}"
}
