package notify

import (
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"bantam"
	"bantam/internal/geo"
)

// plain is a stranger's text as people may see it, in one line of at most max characters: what is not
// printable, line ends, escape sequences, invisible characters and those that turn the
// direction of writing among them, is written as Go writes it, \x1b or \u202e, and a tab as a blank.
func plain(s string, max int) string {
	var b strings.Builder
	n, room := 0, 0 // characters written, bytes of those that leave room for the mark of a cut
	for len(s) > 0 {
		r, size := utf8.DecodeRuneInString(s)
		piece := s[:size]
		switch {
		case r == '\t':
			piece = " "
		case r == utf8.RuneError && size == 1:
			piece = fmt.Sprintf(`\x%02x`, s[0])
		case !unicode.IsPrint(r):
			quoted := strconv.QuoteRuneToASCII(r)
			piece = quoted[1 : len(quoted)-1]
		}
		s = s[size:]
		n += utf8.RuneCountInString(piece)
		if n > max {
			return b.String()[:room] + "…"
		}
		b.WriteString(piece)
		if n < max {
			room = b.Len()
		}
	}
	return b.String()
}

// wrap breaks a line of plain text so that none is longer than width, at blanks where they are not
// far; all but the first begin with indent.
func wrap(line string, width int, indent string) []string {
	var out []string
	rest := []rune(line)
	for len(rest) > width {
		at := width
		for i := width; i > width*2/3; i-- {
			if rest[i] == ' ' {
				at = i
				break
			}
		}
		out = append(out, strings.TrimRight(string(rest[:at]), " "))
		rest = []rune(indent + strings.TrimLeft(string(rest[at:]), " "))
	}
	return append(out, string(rest))
}

// command is a command about a banned thing, safe to be pasted into a shell although the
// name may be an attacker's; "" if it cannot be written so.
func command(verb string, id bantam.ID) string {
	name := id.String()
	if _, ok := id.Prefix(); ok {
		return "bantam " + verb + " " + name
	}
	if name == "" || plain(name, 200) != name {
		return ""
	}
	dashes := ""
	if name[0] == '-' {
		dashes = "-- "
	}
	return "bantam " + verb + " " + dashes + "'" + strings.ReplaceAll(name, "'", `'\''`) + "'"
}

// when is a time of day with its date and zone.
func when(t time.Time, zone *time.Location) string {
	return t.In(zone).Format("Mon 2 Jan 2006, 15:04:05 MST")
}

// units are what lengths of time are told in.
var units = []struct {
	length time.Duration
	name   string
}{
	{7 * 24 * time.Hour, "week"},
	{24 * time.Hour, "day"},
	{time.Hour, "hour"},
	{time.Minute, "minute"},
	{time.Second, "second"},
}

// period is a length of time in words, in its two largest units: "1 hour 30 minutes".
func period(d time.Duration) string {
	var words []string
	for i, u := range units {
		if len(words) == 1 {
			d = d.Round(u.length)
		}
		if n := d / u.length; n > 0 || i == len(units)-1 && len(words) == 0 {
			words = append(words, many(int(n), u.name))
			d -= n * u.length
		}
		if len(words) == 2 || len(words) == 1 && d == 0 {
			break
		}
	}
	return strings.Join(words, " ")
}

// many is a number of things: "1 ban", "1,200 bans".
func many(n int, thing string) string {
	if n != 1 {
		thing += "s"
	}
	return grouped(n) + " " + thing
}

// grouped is a number with commas.
func grouped(n int) string {
	s := strconv.Itoa(n)
	for i := len(s) - 3; i > 0 && s[i-1] != '-'; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// Bounds of what strangers may put in one place.
const (
	maxName  = 80  // characters of a name, a jail, an address
	maxValue = 300 // characters of a longer text in one line
)

// verb is what happened to a ban: "banned".
func (e *Event) verb() string {
	switch over, seen := e.Decision.Kind == bantam.End, e.Decision.Ban.Observed; {
	case over && seen:
		return "would have unbanned"
	case over:
		return "unbanned"
	case e.Decision.Ban.Held():
		return "held back the ban of"
	case seen:
		return "would have banned"
	}
	return "banned"
}

// id is the banned thing for people.
func (e *Event) id() string { return plain(e.Decision.Ban.ID.String(), maxName) }

// where is the country behind an address: " (NL)", or nothing.
func (e *Event) where() string {
	country := e.Place.Country
	if country == "" && e.Whois != nil {
		country = e.Whois.Country
	}
	if country == "" {
		return ""
	}
	return " (" + plain(country, 8) + ")"
}

// headline is an event in a few words: "sshd banned 192.0.2.7 (NL)".
func (e *Event) headline() string {
	return plain(e.Decision.Ban.Jail, maxName) + " " + e.verb() + " " + e.id() + e.where()
}

// A fact is one thing that is known, and what it is.
type fact struct{ name, value string }

// facts are what is known of an event, but for lines and long texts, for people.
func (e *Event) facts(zone *time.Location) []fact {
	b := &e.Decision.Ban
	var out []fact
	add := func(name, value string) {
		if value != "" {
			out = append(out, fact{name, plain(value, maxValue)})
		}
	}
	add("address", b.ID.String())
	if ip := b.Data["ip"]; ip != b.ID.String() {
		add("from", ip)
	}
	add("host name", e.Host)
	add("country", country(e.Place))
	if e.Place.ASN != 0 || e.Place.ASOrg != "" {
		network := e.Place.ASOrg
		if e.Place.ASN != 0 {
			network = strings.TrimSpace(fmt.Sprintf("AS%d %s", e.Place.ASN, network))
		}
		add("network", network)
	}
	if w := e.Whois; w != nil {
		var parts []string
		if w.Network.IsValid() {
			parts = append(parts, w.Network.String())
		}
		for _, part := range []string{w.Name, w.Org, w.Country} {
			if part != "" {
				parts = append(parts, part)
			}
		}
		add("registered", strings.Join(parts, ", "))
		add("complaints to", strings.Join(w.Abuse, ", "))
	}
	add("jail", b.Jail)
	if b.Failures > 0 {
		add("failures", grouped(b.Failures))
	}
	add("user", b.User)
	switch b.By {
	case bantam.ByOperator:
		add("asked for by", "an operator")
	case bantam.ByPeer:
		add("asked for by", "another host")
	}
	if b.Held() {
		add("held back", b.Reason)
	} else {
		add("reason", b.Reason)
	}
	if b.Count > 1 {
		add("banned before", many(b.Count-1, "time"))
	}
	add("since", when(b.Time, zone))
	if e.Decision.Kind == bantam.End {
		add("ended", when(e.Decision.At, zone)+causes[e.Decision.Cause])
	} else {
		add("until", until(b, zone))
	}
	return out
}

// causes are why bans end.
var causes = map[string]string{
	bantam.CauseExpired:  ", its time was up",
	bantam.CauseOperator: ", by an operator",
	bantam.CauseAllowed:  ", it is never to be banned any more",
	bantam.CauseRemoved:  ", its jail is gone",
}

// until is when a ban ends, and how long it lasts.
func until(b *bantam.Ban, zone *time.Location) string {
	if b.Permanent() {
		return "for ever"
	}
	return when(b.End, zone) + " (" + period(b.End.Sub(b.Time)) + ")"
}

// country is where a place is, in words.
func country(p geo.Place) string {
	name := p.CountryName
	switch {
	case name == "":
		name = p.Country
	case p.Country != "":
		name += " (" + p.Country + ")"
	}
	if p.City != "" {
		if name != "" {
			name += ", "
		}
		name += p.City
	}
	return name
}
