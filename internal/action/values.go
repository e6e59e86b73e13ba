package action

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"bantam"
	"bantam/internal/geo"
	"bantam/internal/whois"
)

// A History tells of earlier bans.
type History interface {
	// Past is what all bans of id that are remembered, running or over, come to, in one jail or, if jail is
	// empty, in all: their lines, oldest first, and their failures.
	Past(ctx context.Context, jail string, id bantam.ID) (lines []string, failures int, err error)
}

// Counts are a jail's figures, for <jail.banned> and its like.
type Counts struct {
	Banned, BannedTotal, Found, FoundTotal uint64
}

// A World is what actions may ask beyond what a decision says. It is asked only when a
// command uses what it knows. It is safe for concurrent use.
type World struct {
	Log *slog.Logger
	// History may be nil: then a ban's own lines and failures are all there is.
	History History
	// Counts may be nil.
	Counts func(ctx context.Context, jail string) (Counts, error)
	// Resolver is asked for <ip-host>.
	Resolver *net.Resolver
	// NoIPv6 is for machines that have none: nothing is started for it in advance.
	NoIPv6 bool
	// BanTime is how long the bans of a jail last by itself, for Python actions; it may be nil.
	BanTime func(jail string) time.Duration
	// Place says where an address is, Whois what its registry knows of it, and Contacts who takes
	// complaints about it. Each may be nil: then nothing is known.
	Place    func(netip.Addr) geo.Place
	Whois    func(context.Context, netip.Addr) (whois.Answer, error)
	Contacts func(context.Context, netip.Addr) ([]string, error)

	mu    sync.Mutex // guards the rest
	hosts map[string]host
	fqdn  string
}

// A host is the name that an address has, until then.
type host struct {
	name  string
	until time.Time
}

// Bounds of asking for names.
const (
	askFor    = 5 * time.Second
	askAbout  = 10 * time.Second // of registries
	keepHosts = 5 * time.Minute
	maxHosts  = 4096
)

// host is the name of an address, or "None".
func (w *World) host(ctx context.Context, addr string) string {
	now := time.Now()
	w.mu.Lock()
	h, ok := w.hosts[addr]
	w.mu.Unlock()
	if ok && now.Before(h.until) {
		return h.name
	}
	ctx, cancel := context.WithTimeout(ctx, askFor)
	defer cancel()
	h = host{"None", now.Add(keepHosts)}
	if names, err := w.resolver().LookupAddr(ctx, addr); err == nil && len(names) > 0 {
		h.name = strings.TrimSuffix(names[0], ".")
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.hosts) >= maxHosts || w.hosts == nil {
		w.hosts = map[string]host{}
	}
	w.hosts[addr] = h
	return h.name
}

func (w *World) resolver() *net.Resolver {
	if w.Resolver == nil {
		return net.DefaultResolver
	}
	return w.Resolver
}

// Hostname is this machine's whole name, as far as it is found out before ctx ends.
func (w *World) Hostname(ctx context.Context) string { return w.hostname(ctx, true) }

// hostname is this machine's name, whole or as it calls itself.
func (w *World) hostname(ctx context.Context, whole bool) string {
	name, err := os.Hostname()
	if err != nil {
		name = "localhost"
	}
	if !whole || strings.Contains(name, ".") {
		return name
	}
	w.mu.Lock()
	fqdn := w.fqdn
	w.mu.Unlock()
	if fqdn != "" {
		return fqdn
	}
	fqdn = name
	ctx, cancel := context.WithTimeout(ctx, askFor)
	defer cancel()
	addrs, _ := w.resolver().LookupHost(ctx, name) // a name that is nowhere is the short one
search:
	for _, a := range addrs {
		names, _ := w.resolver().LookupAddr(ctx, a)
		for _, n := range names {
			if n = strings.TrimSuffix(n, "."); strings.Contains(n, ".") {
				fqdn = n
				break search
			}
		}
	}
	w.mu.Lock()
	w.fqdn = fqdn
	w.mu.Unlock()
	return fqdn
}

// A ticket is a ban as the commands and classes of actions see it (server.md 3.3).
type ticket struct {
	world    *World
	jail     string
	ban      *bantam.Ban // nil for what is about no ban
	family   string
	restored bool
}

// family is the family of a ban's address, "None" if it has none.
func family(b *bantam.Ban) string {
	id, _ := address(b)
	p, ok := id.Prefix()
	switch {
	case !ok:
		return none
	case p.Addr().Is4():
		return Inet4
	}
	return Inet6
}

// none is how <family> and <ip-host> say that there is none.
const none = "None"

// address is what a ban is about, and as text: its ID, or the address beside it where the
// filter took another thing for the ID.
func address(b *bantam.Ban) (bantam.ID, string) {
	if ip := b.Data["ip"]; ip != "" {
		if id, err := bantam.ParsePrefix(ip); err == nil {
			return id, id.String()
		}
		return bantam.TextID(ip), ip
	}
	return b.ID, b.ID.String()
}

// keys are what a Python action finds in its mapping, but for the F- ones.
var keys = []string{
	"bancount", "bantime", "failures", "family", "fid", "ip", "ip-host", "ip-rev", "ipfailures", "ipjailfailures", "ipjailmatches", "ipmatches",
	"jail.banned", "jail.banned_total", "jail.found", "jail.found_total", "jail.name", "matches", "raw-ticket", "restored", "time",
	"country", "country-name", "city", "asn", "as-org",
}

// remote are further tags, for which a registry is asked: they are left out of the mapping, for a class
// that copies it would ask with every ban.
var remote = []string{"network", "abuse-contact"}

// Tags are the tags that commands and messages may use beside <F-NAME>, without brackets.
func Tags() []string {
	return slices.Concat(keys, remote, []string{"fq-hostname", "sh-hostname", "br", "sp"})
}

// KnowsTag reports whether something is put in for a tag when a command runs, perhaps nothing.
func KnowsTag(name string) bool {
	_, isF := fTag(name)
	return isF || slices.Contains(Tags(), name)
}

// unknown is what stands for a place or network that is not known: commands count their words, and
// nothing at all would move those behind it.
const unknown = "unknown"

// Values is what tags stand for in what is said about a decision; ctx ends what has to be asked
// for. The tags are those of commands, without brackets.
func (w *World) Values(ctx context.Context, d *bantam.Decision) func(tag string) (value string, ok bool) {
	t := &ticket{world: w, jail: d.Ban.Jail, ban: &d.Ban, family: family(&d.Ban), restored: d.Kind == bantam.Restore}
	value := t.values(ctx)
	return func(tag string) (string, bool) {
		v, _, ok := value(tag)
		return v, ok
	}
}

// values is what tags stand for, and the names of their variables: the argument of
// tag.Command. ctx ends what has to be asked for.
func (t *ticket) values(ctx context.Context) func(tag string) (value, name string, ok bool) {
	return func(tag string) (value, name string, ok bool) {
		if key, isF := fTag(tag); isF {
			return t.data(key), "F_" + key, true
		}
		value, ok = t.known(ctx, tag)
		return value, tag, ok
	}
}

// fTag is the key of <F-NAME> in a ban's data.
func fTag(tag string) (key string, ok bool) {
	name, ok := strings.CutPrefix(tag, "F-")
	if !ok || name == "" || strings.ContainsFunc(name, func(r rune) bool {
		return (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '_' && r != '-'
	}) {
		return "", false
	}
	switch name {
	case "ID":
		return "fid", true
	case "PORT":
		return "fport", true
	}
	return strings.ToLower(name), true
}

func (t *ticket) data(key string) string {
	switch {
	case t.ban == nil:
		return ""
	case key == "user" && t.ban.User != "":
		return t.ban.User
	case key == "fid" && t.ban.Data[key] == "":
		return t.ban.ID.String()
	}
	return t.ban.Data[key]
}

func (t *ticket) known(ctx context.Context, tag string) (string, bool) {
	switch tag {
	case "family":
		return t.family, true
	case "fq-hostname":
		return t.world.hostname(ctx, true), true
	case "sh-hostname":
		return t.world.hostname(ctx, false), true
	case "jail.name":
		return t.jail, true
	case "jail.banned", "jail.banned_total", "jail.found", "jail.found_total":
		return t.count(ctx, tag), true
	}
	b := t.ban
	if b == nil {
		b = &bantam.Ban{Jail: t.jail, Time: time.Now()}
	}
	id, text := address(b)
	switch tag {
	case "ip":
		return text, true
	case "fid":
		return b.ID.String(), true
	case "ip-rev":
		return reversed(id), true
	case "ip-host":
		if p, ok := id.Prefix(); ok && p.IsSingleIP() {
			return t.world.host(ctx, text), true
		}
		return none, true
	case "failures":
		return strconv.Itoa(b.Failures), true
	case "matches":
		return strings.Join(b.Lines, "\n"), true
	case "ipmatches", "ipfailures":
		return t.past(ctx, "", tag == "ipmatches", b), true
	case "ipjailmatches", "ipjailfailures":
		return t.past(ctx, t.jail, tag == "ipjailmatches", b), true
	case "bancount":
		return strconv.Itoa(t.banCount(b)), true
	case "bantime":
		return strconv.FormatInt(banTime(b), 10), true
	case "time":
		return t.time(b), true
	case "restored":
		if t.restored {
			return "1", true
		}
		return "0", true
	case "raw-ticket":
		return t.raw(b), true
	case "country", "country-name", "city", "asn", "as-org":
		return cmp.Or(t.place(tag, b), unknown), true
	case "network":
		return cmp.Or(t.network(ctx, b), unknown), true
	case "abuse-contact":
		// Empty if there is none: no word must ever be taken for the address of a mail.
		return strings.Join(t.contacts(ctx, b), ","), true
	}
	return "", false
}

// addr is the address that a ban is about, the first one of a prefix; the zero Addr if there is none.
func addr(b *bantam.Ban) netip.Addr {
	id, _ := address(b)
	p, _ := id.Prefix()
	return p.Addr()
}

// place is what the databases know of a ban's address, empty if nothing.
func (t *ticket) place(tag string, b *bantam.Ban) string {
	var p geo.Place
	if a := addr(b); a.IsValid() && t.world.Place != nil {
		p = t.world.Place(a)
	}
	switch tag {
	case "country":
		return cmp.Or(p.Country, b.Country)
	case "country-name":
		return p.CountryName
	case "city":
		return p.City
	case "as-org":
		return p.ASOrg
	}
	if p.ASN == 0 {
		return ""
	}
	return fmt.Sprintf("AS%d", p.ASN)
}

// network is the network that a ban's address is registered with.
func (t *ticket) network(ctx context.Context, b *bantam.Ban) string {
	a := addr(b)
	if !a.IsValid() || t.world.Whois == nil {
		return ""
	}
	ctx, cancel := context.WithTimeout(ctx, askAbout)
	defer cancel()
	answer, err := t.world.Whois(ctx, a)
	if err != nil {
		t.unanswered("network", b, err)
	}
	if !answer.Network.IsValid() {
		return ""
	}
	return answer.Network.String()
}

// contacts are the mail addresses for complaints about a ban's address.
func (t *ticket) contacts(ctx context.Context, b *bantam.Ban) []string {
	a := addr(b)
	if !a.IsValid() || t.world.Contacts == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, askAbout)
	defer cancel()
	contacts, err := t.world.Contacts(ctx, a)
	if err != nil {
		t.unanswered("abuse-contact", b, err)
		return nil
	}
	return contacts
}

// unanswered tells that a command runs without something.
func (t *ticket) unanswered(tag string, b *bantam.Ban, err error) {
	if t.world.Log != nil {
		t.world.Log.Warn("a tag has no value", "tag", tag, "jail", t.jail, "addr", b.ID.String(), "err", err)
	}
}

// banCount is how often the ID was banned. A restored ban counts once more, as it
// does in the original, whose bans begin anew at every start.
func (t *ticket) banCount(b *bantam.Ban) int {
	if t.restored {
		return b.Count + 1
	}
	return b.Count
}

// banTime is how long a ban lasts in seconds, -1 for ever.
func banTime(b *bantam.Ban) int64 {
	if b.Permanent() {
		return -1
	}
	return int64(b.End.Sub(b.Time).Round(time.Second) / time.Second)
}

// time is when the ban began in seconds since 1970: whole ones for a ban that was
// read from the database, and with a point for others.
func (t *ticket) time(b *bantam.Ban) string {
	if t.restored {
		return strconv.FormatInt(b.Time.Unix(), 10)
	}
	us := b.Time.UnixMicro()
	text := strings.TrimRight(fmt.Sprintf("%d.%06d", us/1e6, us%1e6), "0")
	if strings.HasSuffix(text, ".") {
		text += "0"
	}
	return text
}

// raw is the ban in one line.
func (t *ticket) raw(b *bantam.Ban) string {
	_, text := address(b)
	lines := make([]string, len(b.Lines))
	for i, l := range b.Lines {
		lines[i] = strconv.Quote(l)
	}
	return fmt.Sprintf("BanTicket: ip=%s time=%s bantime=%d bancount=%d #attempts=%d matches=[%s]",
		text, t.time(b), banTime(b), t.banCount(b), b.Failures, strings.Join(lines, ", "))
}

// past is what earlier bans come to; what cannot be known is the ban's own.
func (t *ticket) past(ctx context.Context, jail string, matches bool, b *bantam.Ban) string {
	lines, failures := b.Lines, b.Failures
	if t.world.History != nil && t.ban != nil {
		l, f, err := t.world.History.Past(ctx, jail, b.ID)
		if err != nil {
			t.world.Log.Warn("earlier bans cannot be read", "jail", t.jail, "addr", b.ID.String(), "err", err)
		} else if f > 0 || len(l) > 0 {
			lines, failures = l, f
		}
	}
	if matches {
		return strings.Join(lines, "\n")
	}
	return strconv.Itoa(failures)
}

func (t *ticket) count(ctx context.Context, tag string) string {
	var c Counts
	if t.world.Counts != nil {
		var err error
		if c, err = t.world.Counts(ctx, t.jail); err != nil {
			t.world.Log.Debug("the jail's figures cannot be read", "jail", t.jail, "err", err)
		}
	}
	n := map[string]uint64{"jail.banned": c.Banned, "jail.banned_total": c.BannedTotal, "jail.found": c.Found, "jail.found_total": c.FoundTotal}[tag]
	return strconv.FormatUint(n, 10)
}

// reversed is an address as names for reverse look-ups are made of it: its labels
// from the last to the first, each with a point behind it. For prefixes it is of no use, as in
// the original; what is no address has none.
func reversed(id bantam.ID) string {
	p, ok := id.Prefix()
	if !ok {
		return ""
	}
	var labels []string
	if p.Addr().Is4() {
		labels = strings.Split(id.String(), ".")
	} else {
		for _, b := range p.Addr().As16() {
			labels = append(labels, fmt.Sprintf("%x", b>>4), fmt.Sprintf("%x", b&15))
		}
	}
	var out strings.Builder
	for i := len(labels) - 1; i >= 0; i-- {
		out.WriteString(labels[i] + ".")
	}
	return out.String()
}
