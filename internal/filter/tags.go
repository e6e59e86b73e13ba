package filter

import (
	"fmt"
	"regexp"
	"strings"
)

// What address tags stand for (detection.md 4.3). They take more than addresses;
// what is none is refused when an ID is made of it.
const (
	exprIP4  = `(?:::f{4,6}:)?(?P<ip4>\d{1,3}(?:\.\d{1,3}){3})`
	exprIP6  = `(?P<ip6>(?:[0-9a-fA-F]{1,4}::?|:){1,7}(?:[0-9a-fA-F]{1,4}|:))`
	exprAddr = `\[?(?:` + exprIP4 + `|` + exprIP6 + `)\]?`
	exprDNS  = `(?P<dns>[\w\-.^]*\w)`
	exprCIDR = `(?P<cidr>\d+)`
	exprNet  = `\[?(?:` + exprIP4 + `|` + exprIP6 + `)(?:/` + exprCIDR + `)?\]?`
)

var standaloneTags = map[string]string{
	"IP4": exprIP4, "F-IP4/": exprIP4,
	"IP6": exprIP6, "F-IP6/": exprIP6,
	"ADDR": exprAddr, "F-ADDR/": exprAddr,
	"DNS": exprDNS, "F-DNS/": exprDNS,
	"HOST": `(?:` + exprAddr + `|` + exprDNS + `)`,
	"CIDR": exprCIDR, "F-CIDR/": exprCIDR,
	"SUBNET": exprNet, "F-SUBNET/": exprNet,
	"F-ID/": `(?P<fid>\S+)`, "F-PORT/": `(?P<fport>\w+)`,
}

var tagPattern = regexp.MustCompile(`<(/?)(F-[A-Z0-9_-]+|[A-Z0-9]+)(/?)>`)

// skipGroup begins the names of the groups that <SKIPLINES> makes.
const skipGroup = "skiplines"

// expandTags replaces Fail2Ban's tags by groups. As there, a tag is a tag wherever it
// stands, even behind a backslash or in a set. Without names, <HOST> is an address only.
func expandTags(expr string, withoutNames bool) string {
	open := make(map[string]bool)
	skips := 0
	return tagPattern.ReplaceAllStringFunc(expr, func(tag string) string {
		m := tagPattern.FindStringSubmatch(tag)
		closing, name, empty := m[1] != "", m[2], m[3] != ""
		if name == "SKIPLINES" && !closing && !empty {
			skips++
			return fmt.Sprintf(`\n(?P<%s%d>(?:.*\n)*?)`, skipGroup, skips-1)
		}
		if name == "HOST" && withoutNames && !closing && !empty {
			return exprAddr
		}
		if s, ok := standaloneTags[name+m[3]]; ok && !closing {
			return s
		}
		field, isField := strings.CutPrefix(name, "F-")
		switch {
		case !isField || empty:
			return tag
		case closing:
			if !open[field] {
				return tag
			}
			return ")"
		}
		open[field] = true
		return "(?P<" + groupName(field) + ">"
	})
}

var flagGroup = regexp.MustCompile(`\((?:\?:)?\(\?([a-z]+)\)`)

// scopeFlags writes ((?i)x) and (?:(?i)x), which newer Pythons refuse, as (?i:x). A
// group behind a backslash is none, whatever stands before that.
func scopeFlags(expr string) string {
	var b strings.Builder
	done := 0
	for _, m := range flagGroup.FindAllStringSubmatchIndex(expr, -1) {
		if m[0] > 0 && expr[m[0]-1] == '\\' {
			continue
		}
		b.WriteString(expr[done:m[0]] + "(?" + expr[m[2]:m[3]] + ":")
		done = m[1]
	}
	return b.String() + expr[done:]
}

// groupName is the group that <F-field> makes.
func groupName(field string) string {
	switch field {
	case "ID":
		return "fid"
	case "PORT":
		return "fport"
	}
	return strings.ToLower(field)
}
