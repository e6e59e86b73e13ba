package whois

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

const (
	maxJSON      = 256 << 10 // bytes of an RDAP answer or bootstrap file
	maxDepth     = 64        // how deep it nests; real ones do some twelve
	maxRedirects = 5

	bootstrap     = "https://data.iana.org/rdap/" // IANA's folder for RFC 9224
	keepServices  = 24 * time.Hour                // how long the bootstrap file holds
	retryServices = time.Hour                     // when it is fetched again if that did not work
)

// registries are the RDAP servers of the five regional registries, which are asked while IANA's file is not to be had.
// Each redirects to another for what that one has registered; ARIN says so in its documentation, and so is the first.
var registries = []string{
	"https://rdap.arin.net/registry/",
	"https://rdap.db.ripe.net/",
	"https://rdap.apnic.net/",
	"https://rdap.lacnic.net/rdap/",
	"https://rdap.afrinic.net/rdap/",
}

// A service is an RDAP server and what it answers for.
type service struct {
	prefix netip.Prefix
	url    string // with the slash at its end
}

// services are the servers of one family of addresses.
type services struct {
	list []service // nil before the first file
	next time.Time // when the file is to be fetched, wall time
}

// askRDAP asks the registry's server for the network of an address.
func (c *Client) askRDAP(ctx context.Context, addr netip.Addr) (Answer, error) {
	bases, err := c.bases(ctx, addr)
	if err != nil {
		return Answer{}, err
	}
	b := budget{maxQuestion}
	var trouble []error
	for _, base := range bases {
		body, from, err := c.fetch(ctx, &b, base+"ip/"+addr.String())
		if err == nil {
			answer, err := parseRDAP(body, addr, time.Now())
			if err != nil {
				return Answer{}, fmt.Errorf("answer of %s: %w", cleanLine(from), err)
			}
			return answer, nil
		}
		if ctx.Err() != nil || errors.Is(err, ErrUnknown) {
			return Answer{}, err
		}
		trouble = append(trouble, err)
		if b.left <= 0 {
			break
		}
	}
	return Answer{}, errors.Join(trouble...)
}

// bases are the servers to be asked about an address, by IANA's file, of which one that is
// too old is better than none.
func (c *Client) bases(ctx context.Context, addr netip.Addr) ([]string, error) {
	name, known := "ipv4", &c.services[0]
	if addr.Is6() {
		name, known = "ipv6", &c.services[1]
	}
	done, err := c.turns.take(ctx, "bootstrap "+name)
	if err != nil {
		return nil, err
	}
	defer done()
	if now := time.Now(); !now.Before(known.next) {
		c.refresh(ctx, name, known)
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
	}
	if known.list == nil {
		return registries, nil
	}
	var best service
	for _, s := range known.list {
		if s.prefix.Contains(addr) && (best.url == "" || s.prefix.Bits() > best.prefix.Bits()) {
			best = s
		}
	}
	if best.url == "" {
		return nil, fmt.Errorf("no RDAP server is registered for %s: %w", addr, ErrUnknown)
	}
	return []string{best.url}, nil
}

// refresh gets the file from the Cache or from IANA.
func (c *Client) refresh(ctx context.Context, name string, known *services) {
	key, now := "bootstrap-"+name, time.Now()
	if known.list == nil && c.notes.cache != nil {
		value, at, err := c.notes.cache.Note(ctx, key)
		if list, bad := parseServices(value); err == nil && bad == nil {
			known.list, known.next = list, at.Add(keepServices)
		}
		if now.Before(known.next) && known.next.Sub(now) <= keepServices {
			return
		}
	}
	body, _, err := c.fetch(ctx, &budget{maxQuestion}, bootstrap+name+".json")
	var list []service
	if err == nil {
		list, err = parseServices(body)
	}
	if err != nil {
		if ctx.Err() == nil {
			known.next = now.Add(retryServices)
			c.log.Warn("Which RDAP server is asked for what cannot be fetched", "url", bootstrap+name+".json", "err", err)
		}
		return
	}
	known.list, known.next = list, now.Add(keepServices)
	if c.notes.cache == nil {
		return
	}
	if err := c.notes.cache.SetNote(ctx, key, body); err != nil {
		c.log.Warn("Which RDAP server is asked for what cannot be kept", "err", err)
	}
}

// parseServices reads a file of RFC 9224, section 5: prefixes, and the servers for them, of which the first that
// speaks HTTPS is taken.
func parseServices(body []byte) ([]service, error) {
	if err := checkDepth(body); err != nil {
		return nil, err
	}
	var file struct {
		Services [][][]string `json:"services"`
	}
	if err := json.Unmarshal(body, &file); err != nil {
		return nil, fmt.Errorf("read the list of RDAP servers: %w", err)
	}
	var list []service
	for _, entry := range file.Services {
		if len(entry) < 2 {
			continue
		}
		at := slices.IndexFunc(entry[1], func(s string) bool {
			u, err := url.Parse(s)
			return err == nil && isHTTPS(u)
		})
		if at < 0 {
			continue
		}
		for _, text := range entry[0] {
			if p, err := netip.ParsePrefix(text); err == nil {
				list = append(list, service{p.Masked(), strings.TrimSuffix(entry[1][at], "/") + "/"})
			}
		}
	}
	if len(list) == 0 {
		return nil, errors.New("the list of RDAP servers is empty")
	}
	return list, nil
}

// isHTTPS reports whether a URL is one that we follow.
func isHTTPS(u *url.URL) bool { return u.Scheme == "https" && u.Hostname() != "" && u.User == nil }

// fetch gets a document, through redirects, and says where it was.
func (c *Client) fetch(ctx context.Context, b *budget, address string) (body []byte, from string, err error) {
	for range maxRedirects + 1 {
		u, err := url.Parse(address)
		if err != nil || !isHTTPS(u) {
			return nil, "", fmt.Errorf("%q is no https URL", cleanLine(address))
		}
		next := ""
		err = c.visit(ctx, b, u.Host, func(ctx context.Context) (err error) {
			body, next, err = c.get(ctx, u)
			return err
		})
		if err != nil {
			return nil, "", err
		}
		if next == "" {
			return body, address, nil
		}
		address = next
	}
	return nil, "", fmt.Errorf("more than %d redirects, the last to %q", maxRedirects, cleanLine(address))
}

// get makes one request. Its answer is a body, or where to ask next.
func (c *Client) get(ctx context.Context, u *url.URL) (body []byte, next string, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return nil, "", err
	}
	req.Header.Set("Accept", "application/rdap+json, application/json") // RFC 7480 4.2
	req.Header.Set("User-Agent", "bantam")
	// Redirects are followed by the caller, for the sake of each server's pace.
	res, err := c.transport.RoundTrip(req)
	if err != nil {
		return nil, "", err
	}
	defer res.Body.Close()
	switch code := res.StatusCode; {
	case code == http.StatusOK:
	case code == http.StatusNotFound: // RFC 7480 5.3
		return nil, "", ErrUnknown
	case code == http.StatusTooManyRequests, code == http.StatusServiceUnavailable: // RFC 7480 5.5
		return nil, "", &refusal{retryAfter(res.Header.Get("Retry-After"), time.Now()), "HTTP status " + strconv.Itoa(code)}
	case code >= 300 && code < 400 && res.Header.Get("Location") != "":
		to, err := u.Parse(res.Header.Get("Location"))
		if err != nil {
			return nil, "", fmt.Errorf("redirected to nowhere: %q", cleanLine(err.Error()))
		}
		return nil, to.String(), nil
	default:
		return nil, "", fmt.Errorf("HTTP status %d", code)
	}
	body, err = io.ReadAll(io.LimitReader(res.Body, maxJSON+1))
	if err != nil {
		return nil, "", fmt.Errorf("read the answer: %w", err)
	}
	if len(body) > maxJSON {
		return nil, "", fmt.Errorf("the answer is longer than %d bytes", maxJSON)
	}
	return body, "", nil
}

// retryAfter reads the header of that name (RFC 9110 10.2.3): seconds or a date.
func retryAfter(value string, now time.Time) time.Duration {
	if seconds, err := strconv.ParseUint(strings.TrimSpace(value), 10, 32); err == nil {
		return max(betweenQuestions, min(time.Duration(seconds)*time.Second, maxPause))
	}
	if at, err := http.ParseTime(value); err == nil {
		return max(betweenQuestions, min(at.Sub(now), maxPause))
	}
	return afterTrouble
}

// checkDepth refuses JSON that nests deeper than any honest answer, before anything recurses into it.
func checkDepth(body []byte) error {
	depth, quoted := 0, false
	for i := 0; i < len(body); i++ {
		switch ch := body[i]; {
		case quoted && ch == '\\':
			i++
		case ch == '"':
			quoted = !quoted
		case quoted:
		case ch == '{' || ch == '[':
			if depth++; depth > maxDepth {
				return fmt.Errorf("JSON nests deeper than %d levels", maxDepth)
			}
		case ch == '}' || ch == ']':
			depth--
		}
	}
	return nil
}

// rdapNetwork is what we read of an "ip network" (RFC 9083 5.4).
type rdapNetwork struct {
	Handle   string `json:"handle"`
	Name     string `json:"name"`
	Type     string `json:"type"`
	Country  string `json:"country"`
	Start    string `json:"startAddress"`
	End      string `json:"endAddress"`
	Prefixes []struct {
		V4     string `json:"v4prefix"`
		V6     string `json:"v6prefix"`
		Length int    `json:"length"`
	} `json:"cidr0_cidrs"` // an extension that all registries have
	Entities []rdapEntity `json:"entities"`
	Events   []struct {
		Action string `json:"eventAction"`
		Date   string `json:"eventDate"`
	} `json:"events"`
	Remarks []struct {
		Description []string `json:"description"`
	} `json:"remarks"`
}

// rdapEntity is a person or organization (RFC 9083 5.1).
type rdapEntity struct {
	Handle   string          `json:"handle"`
	Roles    []string        `json:"roles"`
	Card     json.RawMessage `json:"vcardArray"`
	Entities []rdapEntity    `json:"entities"`
}

// parseRDAP reads an answer about addr. A member of another type than it should have counts as left out.
func parseRDAP(body []byte, addr netip.Addr, now time.Time) (Answer, error) {
	if err := checkDepth(body); err != nil {
		return Answer{}, err
	}
	var n rdapNetwork
	var wrongType *json.UnmarshalTypeError
	if err := json.Unmarshal(body, &n); err != nil && !errors.As(err, &wrongType) {
		return Answer{}, fmt.Errorf("read JSON: %w", err)
	}
	network, ok := n.network(addr)
	if !ok {
		return Answer{}, fmt.Errorf("it is about %q to %q and not about %s", cleanLine(n.Start), cleanLine(n.End), addr)
	}
	if network.Bits() < widest(addr) {
		return Answer{}, fmt.Errorf("it is about all of %s: %w", network, ErrUnknown)
	}
	a := Answer{Network: network, Name: cleanLine(n.Name), Country: country(n.Country), Source: RDAP, At: now}
	people := walk(n.Entities)
	for _, p := range people {
		switch {
		case slices.Contains(p.roles, "abuse"):
			a.Abuse = addContacts(a.Abuse, p.mails...)
		case slices.Contains(p.roles, "registrant") && (a.Org == "" || p.kind == "org"):
			// Beside the organization RIPE and APNIC list the account that maintains the entry.
			a.Org = p.name
		}
		if a.Country == "" && slices.Contains(p.roles, "registrant") {
			a.Country = p.country
		}
	}
	a.Abuse = sorted(a.Abuse)
	a.Text = n.text(&a)
	return a, nil
}

// network is the prefix around addr that the answer is about.
func (n *rdapNetwork) network(addr netip.Addr) (netip.Prefix, bool) {
	for _, p := range n.Prefixes {
		base, err := netip.ParseAddr(p.V4 + p.V6)
		if err != nil {
			continue
		}
		if prefix := netip.PrefixFrom(base, p.Length).Masked(); prefix.IsValid() && prefix.Contains(addr) {
			return prefix, true
		}
	}
	return parseRange(n.Start+"-"+n.End, addr)
}

// text is the answer as people read it.
func (n *rdapNetwork) text(a *Answer) string {
	var b strings.Builder
	line := func(key, value string) {
		if value = cleanLine(value); value != "" && b.Len() < maxText {
			fmt.Fprintf(&b, "%-13s %s\n", key+":", value)
		}
	}
	line("network", a.Network.String())
	if n.Start != "" {
		line("range", n.Start+" - "+n.End)
	}
	line("handle", n.Handle)
	line("name", a.Name)
	line("type", n.Type)
	line("holder", a.Org)
	line("country", a.Country)
	for _, contact := range a.Abuse {
		line("abuse", contact)
	}
	for _, e := range n.Events {
		line(cut(cleanLine(e.Action), 40), e.Date)
	}
	for _, r := range n.Remarks {
		for _, d := range r.Description {
			line("remark", d)
		}
	}
	return cut(b.String(), maxText)
}

// A person is what a jCard tells, cleaned.
type person struct {
	roles   []string
	name    string
	kind    string // "org", "individual", "group"
	country string
	mails   []string // unchecked
}

// walk lists entities and those within them, the outer ones first.
func walk(level []rdapEntity) []person {
	var people []person
	for len(level) > 0 {
		var inner []rdapEntity
		for _, e := range level {
			p := parseCard(e.Card)
			p.roles = e.Roles
			people = append(people, p)
			inner = append(inner, e.Entities...)
		}
		level = inner
	}
	return people
}

// parseCard reads a jCard (RFC 7095): ["vcard", [[name, parameters, type, value...], ...]]. What is not
// of that form is passed over.
func parseCard(raw json.RawMessage) person {
	var p person
	var card []json.RawMessage
	var properties [][]json.RawMessage
	if json.Unmarshal(raw, &card) != nil || len(card) < 2 || json.Unmarshal(card[1], &properties) != nil {
		return p
	}
	org := ""
	for _, property := range properties {
		var name string
		if len(property) < 4 || json.Unmarshal(property[0], &name) != nil {
			continue
		}
		switch strings.ToLower(name) {
		case "fn":
			p.name = cleanLine(firstText(property[3]))
		case "org":
			org = cleanLine(firstText(property[3]))
		case "kind":
			p.kind = strings.ToLower(firstText(property[3]))
		case "email":
			for _, value := range property[3:] {
				p.mails = append(p.mails, firstText(value))
			}
		case "adr":
			var parameters struct {
				CC string `json:"cc"` // RFC 8605 3.1
			}
			if json.Unmarshal(property[1], &parameters) == nil {
				p.country = country(parameters.CC)
			}
		}
	}
	if p.name == "" {
		p.name = org
	}
	return p
}

// firstText is a text, or the first one in a list.
func firstText(raw json.RawMessage) string {
	var text string
	if json.Unmarshal(raw, &text) == nil {
		return text
	}
	var list []json.RawMessage
	if json.Unmarshal(raw, &list) == nil && len(list) > 0 && json.Unmarshal(list[0], &text) == nil {
		return text
	}
	return ""
}
