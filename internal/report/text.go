package report

import (
	"fmt"
	"net/mail"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"bantam"
	"bantam/internal/smtp"
	"bantam/internal/whois"
)

const (
	// mostAttacks are told of one address: it may be in several jails.
	mostAttacks = 4
	// longestWhois is what is shown of a network's registration, in bytes; mostNetworks how many are.
	longestWhois = 3000
	mostNetworks = 3
)

// An attack is one ban as a report tells it. It is kept redacted: what is not to leave the machine is not written down a
// second time.
type attack struct {
	// Number is that of the news.
	Number int64  `json:"number,omitempty"`
	Jail   string `json:"jail"`
	// Port and Protocol are what the jail protects, as its configuration says; "" if it does not.
	Port     string `json:"port,omitempty"`
	Protocol string `json:"protocol,omitempty"`
	// First and Last are the event times of the first and the last ban that it is made of.
	First time.Time `json:"first"`
	Last  time.Time `json:"last"`
	// Failures are those of all its bans, Count how often the jail has banned the address, the last time included.
	Failures int      `json:"failures"`
	Count    int      `json:"count"`
	Lines    []string `json:"lines,omitempty"`
	More     int      `json:"more,omitempty"` // lines that are not shown
	// Zone is that of the times in Lines, as UTC+01:00.
	Zone     string `json:"zone"`
	Redacted bool   `json:"redacted,omitempty"`
}

// protocol is the one that XARF wants to be told.
func (a *attack) protocol() string {
	if slices.Contains([]string{"udp", "icmp"}, a.Protocol) {
		return a.Protocol
	}
	return "tcp"
}

// An attackCase is all that there is to report of one address.
type attackCase struct {
	ID      bantam.ID `json:"id"`
	Attacks []*attack `json:"attacks"`
}

// add puts another ban of the address to the case.
func (c *attackCase) add(a *attack) {
	for _, had := range c.Attacks {
		if had.Jail == a.Jail {
			had.Last, had.Count, had.More = a.Last, a.Count, had.More+a.More
			had.Failures += a.Failures
			had.Lines = append(had.Lines, a.Lines...)
			if over := len(had.Lines) - mostLines; over > 0 {
				had.Lines, had.More = had.Lines[over:], had.More+over
			}
			return
		}
	}
	if len(c.Attacks) < mostAttacks {
		c.Attacks = append(c.Attacks, a)
	}
}

// zoneName names the offset that a zone has at a time.
func zoneName(at time.Time, zone *time.Location) string {
	if zone == nil {
		zone = time.Local
	}
	if _, offset := at.In(zone).Zone(); offset == 0 {
		return "UTC"
	}
	return "UTC" + at.In(zone).Format("-07:00")
}

// A reporter is who reports, out of Config.From.
type reporter struct{ name, address, domain string }

func reporterOf(from string) reporter {
	a, err := mail.ParseAddress(from)
	if err != nil {
		return reporter{name: from, address: from}
	}
	_, domain, _ := strings.Cut(a.Address, "@")
	name := clean(a.Name)
	if name == "" {
		name = domain
	}
	return reporter{name: name, address: a.Address, domain: domain}
}

// A dossier is what one mail to a desk is written from.
type dossier struct {
	key      string
	at       time.Time // wall time
	contacts []string
	cases    []*attackCase
	counts   map[bantam.ID]int // reports of the address before this one
	networks []whois.Answer
}

// write makes the mail. All texts of strangers stand in its body, indented, so that none of their lines begins with what
// anything on the way obeys; none stands in a header.
func (c *Config) write(d *dossier) (smtp.Mail, error) {
	from := reporterOf(c.From)
	trial := len(c.To) > 0
	m := smtp.Mail{ID: d.key, Date: d.at, From: c.From, To: d.contacts, Cc: c.Cc, Bcc: c.Bcc}
	var b strings.Builder
	subject := d.cases[0].ID.String()
	if n := len(d.cases); n > 1 {
		subject += fmt.Sprintf(" and %s", plural(n-1, "other address", "other addresses"))
	}
	m.Subject = "Abuse report: attacks from " + subject
	if trial {
		m.To, m.Cc, m.Bcc, m.Subject = c.To, nil, nil, "Trial: "+m.Subject
		b.WriteString("This is a trial, sent to you alone. Without it this report would go to:\n")
		if len(d.contacts) == 0 {
			b.WriteString("  nobody, for no contact is known\n")
		}
		for _, contact := range d.contacts {
			b.WriteString("  " + contact + "\n")
		}
		b.WriteString("\n" + strings.Repeat("-", 72) + "\n\n")
	}
	b.WriteString("Hello,\n\n")
	if len(d.cases) == 1 {
		fmt.Fprintf(&b, "an address of your network, %s, has attacked a server of ours.\n", subject)
	} else {
		fmt.Fprintf(&b, "%d addresses of your network have attacked a server of ours.\n", len(d.cases))
	}
	b.WriteString("Please see to it that this ends; often such a machine is misused\nwithout its owner's knowledge.\n\n")
	switch {
	case len(d.contacts) == 1:
		fmt.Fprintf(&b, "You receive this because %s is registered\nas the contact for complaints about this network.\n", d.contacts[0])
	case len(d.contacts) > 1:
		b.WriteString("You receive this because you are registered as the contact for\ncomplaints about this network.\n")
	}
	redacted := false
	for i, attacked := range d.cases {
		if len(d.cases) > 1 {
			fmt.Fprintf(&b, "\n%s\n%d of %d\n", strings.Repeat("-", 72), i+1, len(d.cases))
		}
		for j, a := range attacked.Attacks {
			redacted = redacted || a.Redacted && len(a.Lines) > 0
			a.text(&b, attacked.ID, d.counts[attacked.ID])
			if !c.XARF {
				continue
			}
			data, err := xarfOf(attacked, a, from, d.key, trial)
			if err != nil {
				return m, fmt.Errorf("write the XARF of %s: %w", attacked.ID, err)
			}
			name := "xarf.json"
			if i+j > 0 {
				name = "xarf-" + strconv.Itoa(len(m.Parts)+1) + ".json"
			}
			m.Parts = append(m.Parts, smtp.Part{Name: name, Type: "application/json", Data: data})
		}
	}
	b.WriteString("\n")
	if len(d.cases) > 1 {
		b.WriteString(strings.Repeat("-", 72) + "\n\n")
	}
	if redacted {
		b.WriteString("Names of our machines and of users, and other addresses than yours,\nwere taken out of the lines and stand as " + hidden + ".\n")
	}
	if c.XARF {
		b.WriteString("The same is attached for machines to read, in XARF 4 (xarf.org).\n")
	}
	fmt.Fprintf(&b, "If you need more, or if this is not your network, please answer to\n%s.\n", from.address)
	for _, n := range d.networks[:min(len(d.networks), mostNetworks)] {
		networkText(&b, &n)
	}
	m.Text = b.String()
	return m, nil
}

// text tells of one attack.
func (a *attack) text(b *strings.Builder, id bantam.ID, before int) {
	row := func(key, value string) { fmt.Fprintf(b, "  %-12s%s\n", key, value) }
	b.WriteString("\n")
	row("Address", id.String())
	what := cut(clean(a.Jail), 100)
	if a.Port != "" {
		what += ", port " + cut(clean(a.Port), 100)
		if a.Protocol != "" {
			what += " (" + cut(clean(a.Protocol), 20) + ")"
		}
	}
	row("Attacked", what)
	if a.Failures > 0 {
		row("Attempts", strconv.Itoa(a.Failures))
	}
	const layout = "2006-01-02 15:04:05 UTC"
	if !a.First.Equal(a.Last) {
		row("First", a.First.UTC().Format(layout))
	}
	row("Last", a.Last.UTC().Format(layout))
	if a.Count > 1 {
		row("Shut out", fmt.Sprintf("for the %s time", ordinal(a.Count)))
	}
	if before > 0 {
		row("Reported", plural(before, "time", "times")+" before")
	}
	if len(a.Lines) == 0 {
		return
	}
	fmt.Fprintf(b, "\n  Log lines, times in %s:\n\n", a.Zone)
	for _, line := range a.Lines {
		b.WriteString("    " + line + "\n")
	}
	if a.More > 0 {
		fmt.Fprintf(b, "    (and %s before these)\n", plural(a.More, "line", "lines"))
	}
}

// mailPreview is a mail as its reader sees it, with the files that are attached.
func mailPreview(m *smtp.Mail) []byte {
	var b strings.Builder
	fmt.Fprintf(&b, "From: %s\n", m.From)
	for _, h := range []struct {
		name      string
		addresses []string
	}{{"To", m.To}, {"Cc", m.Cc}, {"Bcc", m.Bcc}} {
		if len(h.addresses) > 0 {
			fmt.Fprintf(&b, "%s: %s\n", h.name, strings.Join(h.addresses, ", "))
		}
	}
	fmt.Fprintf(&b, "Subject: %s\n\n%s", m.Subject, m.Text)
	for _, part := range m.Parts {
		fmt.Fprintf(&b, "\n[%s]\n%s", part.Name, part.Data)
	}
	return []byte(b.String())
}

// networkText shows what is registered of a network. Every line of it is indented and none is empty of meaning.
func networkText(b *strings.Builder, n *whois.Answer) {
	if n.Text == "" && n.Name == "" {
		return
	}
	fmt.Fprintf(b, "\nWhat is registered about the network")
	if n.Network != (netip.Prefix{}) {
		fmt.Fprintf(b, " %s", n.Network)
	}
	b.WriteString(":\n\n")
	text := n.Text
	if text == "" {
		text = strings.Join([]string{n.Name, n.Org, n.Country}, "\n")
	}
	left := longestWhois
	for line := range strings.SplitSeq(text, "\n") {
		line = strings.TrimSpace(clean(strings.TrimRight(line, "\r")))
		if line == "" || line[0] == '%' || line[0] == '#' { // the registry's own remarks
			continue
		}
		line = cut(line, 200)
		if left -= len(line) + 1; left < 0 {
			b.WriteString("    …\n")
			return
		}
		b.WriteString("    " + line + "\n")
	}
}

func plural(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return strconv.Itoa(n) + " " + many
}

func ordinal(n int) string {
	switch {
	case n%100 >= 11 && n%100 <= 13:
	case n%10 == 1:
		return strconv.Itoa(n) + "st"
	case n%10 == 2:
		return strconv.Itoa(n) + "nd"
	case n%10 == 3:
		return strconv.Itoa(n) + "rd"
	}
	return strconv.Itoa(n) + "th"
}
