package whois

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"time"
)

const (
	ianaWHOIS    = "whois.iana.org:43" // which only knows who knows
	maxReply     = 64 << 10            // bytes that are read of a WHOIS server's answer
	maxReferrals = 4
	// maxRecordsKept is how many networks of one answer are looked at.
	maxRecordsKept = 50
)

// askWHOIS asks IANA's server who knows about an address, and on from there (RFC 3912).
func (c *Client) askWHOIS(ctx context.Context, addr netip.Addr) (Answer, error) {
	b := budget{maxQuestion}
	server := ianaWHOIS
	asked := map[string]bool{}
	var bound netip.Prefix // what the last referral was about
	for range maxReferrals + 1 {
		if asked[server] {
			return Answer{}, fmt.Errorf("WHOIS servers refer to each other in a circle, to %s", server)
		}
		asked[server] = true
		var reply string
		err := c.visit(ctx, &b, server, func(ctx context.Context) (err error) {
			reply, err = c.query(ctx, server, whoisQuery(server, addr))
			return err
		})
		if err != nil {
			return Answer{}, err
		}
		answer, refer, err := parseWHOIS(reply, addr, time.Now())
		if refer != "" {
			server = refer
			if answer.Network.Bits() > bound.Bits() {
				bound = answer.Network
			}
			continue
		}
		if err == nil && server == ianaWHOIS {
			err = fmt.Errorf("no registry has it: %w", ErrUnknown)
		}
		if err != nil {
			return Answer{}, fmt.Errorf("answer of %s: %w", server, err)
		}
		if answer.Network.Bits() < bound.Bits() {
			// A holder may name a server of its own; that one can speak for the holder's network alone.
			answer.Network = bound
		}
		return answer, nil
	}
	return Answer{}, fmt.Errorf("more than %d WHOIS servers refer to the next, the last to %s", maxReferrals, server)
}

// whoisQuery is what a server wants to read for everything about a network, and nothing else.
func whoisQuery(server string, addr netip.Addr) string {
	switch server {
	case "whois.arin.net:43":
		// ARIN's manual, "Searching Whois Using a CLI": n for networks only, + for details of all that match.
		return "n + " + addr.String()
	case "whois.ripe.net:43":
		// RIPE's database manual: -r leaves out the objects about people, of which a client may have only so many
		// a day; the abuse contact stands in a comment.
		return "-r " + addr.String()
	}
	return addr.String()
}

// query asks one server. Of an answer that does not end, its beginning is taken.
func (c *Client) query(ctx context.Context, server, question string) (string, error) {
	conn, err := c.dial(ctx, "tcp", server)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	if _, err := io.WriteString(conn, question+"\r\n"); err != nil {
		return "", fmt.Errorf("write the question: %w", errors.Join(ctx.Err(), err))
	}
	reply, err := io.ReadAll(io.LimitReader(conn, maxReply))
	if err != nil {
		return "", fmt.Errorf("read the answer: %w", errors.Join(ctx.Err(), err))
	}
	if said, limited := limitIn(string(reply)); limited {
		return "", &refusal{maxPause, said}
	}
	return string(reply), nil
}

// limitIn finds the line by which a server says that it was asked too often: RIPE's error 201, which APNIC and AFRINIC
// share, and LACNIC's and ARIN's "limit exceeded". It is a comment, or the whole answer.
func limitIn(reply string) (line string, limited bool) {
	for line := range strings.Lines(cut(reply, 2048)) {
		lower := strings.ToLower(line)
		if strings.HasPrefix(lower, "%error:201") ||
			(strings.HasPrefix(lower, "%") || strings.HasPrefix(lower, "#")) && strings.Contains(lower, "limit exceeded") {
			return cleanLine(line), true
		}
	}
	return "", false
}

// A record is one network in a WHOIS answer.
type record struct {
	network         netip.Prefix // around the address that was asked for
	name, org, land string
	descr           string   // what it is, in words: often who holds it
	abuse           []string // checked
	handles         []string // of contacts for complaints, whose addresses stand elsewhere
}

// parseWHOIS reads an answer about addr: the smallest network in it that is about addr, or the server to ask instead,
// as host:port, with the network that it is to be asked about.
//
// Registries write "key: value" lines in blocks with blank lines between them. A network's key begins a record, and
// what follows up to the next network is about it.
func parseWHOIS(reply string, addr netip.Addr, now time.Time) (a Answer, refer string, err error) {
	p := whoisParser{addr: addr, mails: map[string][]string{}}
	text := clean(reply, 4*maxReply)
	for line := range strings.Lines(text) {
		p.line(strings.TrimSpace(line))
	}
	p.line("")
	best := p.best()
	switch {
	case p.refer != "" && best != nil:
		return Answer{Network: best.network}, p.refer, nil
	case p.refer != "":
		return Answer{}, p.refer, nil
	case p.errorLine != "" && best == nil:
		return Answer{}, "", fmt.Errorf("the server says %q", p.errorLine)
	}
	if best == nil || best.network.Bits() < widest(addr) || best.name == notOurs {
		return Answer{}, "", fmt.Errorf("no network of %s is in it: %w", addr, ErrUnknown)
	}
	a = Answer{Network: best.network, Name: best.name, Org: best.org, Country: best.land, Source: WHOIS, At: now}
	if a.Org == "" {
		a.Org = best.descr
	}
	a.Abuse = addContacts(nil, p.stated...)
	if len(a.Abuse) == 0 {
		a.Abuse = addContacts(a.Abuse, best.abuse...)
	}
	if len(a.Abuse) == 0 {
		for _, handle := range best.handles {
			a.Abuse = addContacts(a.Abuse, p.mails[handle]...)
		}
	}
	a.Abuse = sorted(a.Abuse)
	a.Text = readable(text)
	return a, "", nil
}

// notOurs is the name that RIPE gives to networks of other registries.
const notOurs = "NON-RIPE-NCC-MANAGED-ADDRESS-BLOCK"

// A whoisParser goes through the lines of an answer.
type whoisParser struct {
	addr      netip.Addr
	records   []*record           // those around addr
	now       *record             // the one that lines are about; nil before the first and in one that is not around addr
	mails     map[string][]string // the mail addresses of a contact, by its handle
	stated    []string            // mail addresses in the comment on whom to complain to
	refer     string
	errorLine string

	handle    string   // the contact's that the block is about
	blockMail []string // its mail addresses
}

// best is the smallest network.
func (p *whoisParser) best() *record {
	var best *record
	for _, r := range p.records {
		if best == nil || r.network.Bits() > best.network.Bits() {
			best = r
		}
	}
	return best
}

// line reads one line; an empty one ends a block.
func (p *whoisParser) line(line string) {
	if line == "" {
		if p.handle != "" && len(p.mails) < maxRecordsKept {
			p.mails[p.handle] = p.blockMail
		}
		p.handle, p.blockMail = "", nil
		return
	}
	if line[0] == '%' || line[0] == '#' {
		p.comment(line)
		return
	}
	key, value, ok := strings.Cut(line, ":")
	value = cleanLine(value)
	if !ok || value == "" {
		return
	}
	switch key = strings.ToLower(strings.TrimSpace(key)); key {
	case "inetnum", "inet6num", "netrange":
		p.begin(value)
	case "refer":
		p.referral(value)
	case "referralserver": // ARIN's
		if host, ok := strings.CutPrefix(strings.ToLower(value), "whois://"); ok {
			p.referral(host)
		}
	case "nic-hdl", "nic-hdl-br":
		p.handle = strings.ToUpper(value)
	case "e-mail":
		p.blockMail = addContacts(p.blockMail, value)
	default:
		if p.now != nil {
			p.now.set(key, value)
		}
	}
	if key == "abuse-mailbox" {
		p.blockMail = addContacts(nil, value)
	}
}

// set notes what a line says of the network. The first of a kind counts: those of the network come before
// those of its contacts.
func (r *record) set(key, value string) {
	first := func(field *string, value string) {
		if *field == "" {
			*field = value
		}
	}
	switch key {
	case "netname":
		first(&r.name, value)
	case "org-name", "orgname", "custname", "owner":
		first(&r.org, value)
	case "descr":
		first(&r.descr, value)
	case "country":
		first(&r.land, country(value))
	case "abuse-mailbox", "orgabuseemail", "rabuseemail", "netabuseemail":
		r.abuse = addContacts(r.abuse, value)
	case "abuse-c":
		if len(r.handles) < maxContacts {
			r.handles = append(r.handles, strings.ToUpper(value))
		}
	}
}

// begin starts a record.
func (p *whoisParser) begin(value string) {
	p.now = nil
	network, ok := parseRange(value, p.addr)
	if ok && len(p.records) < maxRecordsKept {
		p.now = &record{network: network}
		p.records = append(p.records, p.now)
	}
}

// comment reads what servers say in comments: RIPE, APNIC and AFRINIC write whom to complain to, and why they do not answer.
func (p *whoisParser) comment(line string) {
	text := strings.TrimSpace(strings.TrimLeft(line, "%#"))
	if rest, ok := strings.CutPrefix(text, "Abuse contact for '"); ok {
		of, who, ok := strings.Cut(rest, "' is '")
		if _, around := parseRange(of, p.addr); ok && around && len(p.stated) < maxContacts {
			p.stated = append(p.stated, strings.TrimSuffix(who, "'"))
		}
	}
	if strings.HasPrefix(text, "ERROR:") && !strings.HasPrefix(text, "ERROR:101") && p.errorLine == "" { // 101: no entries found
		p.errorLine = cleanLine(text)
	}
}

// referral notes a server to be asked instead. Only names are followed, and only to WHOIS's own port.
func (p *whoisParser) referral(to string) {
	host := strings.ToLower(strings.TrimSuffix(strings.TrimSuffix(to, "/"), ":43"))
	if isDomain(host) {
		p.refer = net.JoinHostPort(host, "43")
	}
}

// parseRange is the largest prefix around addr in what a registry writes as a network: "192.0.2.0 - 192.0.2.255", "2001:db8::/32",
// LACNIC's "192.0.2/24", and several prefixes with commas between them.
func parseRange(text string, addr netip.Addr) (netip.Prefix, bool) {
	if from, to, ok := strings.Cut(text, "-"); ok {
		start, err := netip.ParseAddr(strings.TrimSpace(from))
		if err != nil {
			return netip.Prefix{}, false
		}
		end, err := netip.ParseAddr(strings.TrimSpace(to))
		if err != nil {
			return netip.Prefix{}, false
		}
		return within(start, end, addr)
	}
	for part := range strings.SplitSeq(text, ",") {
		base, bits, ok := strings.Cut(strings.TrimSpace(part), "/")
		if !ok {
			continue
		}
		if missing := 3 - strings.Count(base, "."); !strings.Contains(base, ":") && missing > 0 {
			base += strings.Repeat(".0", missing)
		}
		p, err := netip.ParsePrefix(base + "/" + bits)
		if err == nil && p.Contains(addr) {
			return p.Masked(), true
		}
	}
	return netip.Prefix{}, false
}

// readable is a cleaned answer for people: without the registry's terms of use, which are comments,
// and without the gaps that they leave.
func readable(text string) string {
	var b strings.Builder
	gap := true
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, " \n")
		if strings.HasPrefix(line, "%") || strings.HasPrefix(line, "#") || line == "" && gap {
			continue
		}
		if b.Len() >= maxText {
			break
		}
		gap = line == ""
		b.WriteString(line)
		b.WriteByte('\n')
	}
	return cut(strings.TrimRight(b.String(), "\n"), maxText)
}
