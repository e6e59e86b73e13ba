package doctor

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"slices"
	"strings"
	"time"

	"bantam"
	"bantam/internal/action"
	"bantam/internal/config"
	"bantam/internal/control"
	"bantam/internal/firewall"
	"bantam/internal/jail"
	"bantam/internal/machine"
	"bantam/internal/ruleset"
)

// tests are addresses that belong to nobody (RFC 5737, RFC 3849): who bans them for a moment shuts nobody out.
var tests = []netip.Addr{netip.MustParseAddr("198.51.100.250"), netip.MustParseAddr("2001:db8:bad:cafe::250")}

// testTime is how many seconds the ban of a test address lasts if nobody lifts it.
const testTime = 60

// lookAtFirewall looks at what the kernel holds and does.
func (e *examination) lookAtFirewall(ctx context.Context) {
	if e.running && e.elsewhere() {
		e.doubt(fmt.Sprintf("sudo nsenter -n -t %d bantam doctor", e.status.PID), "the daemon lives in another network than this command: its packets are not seen from here")
		return
	}
	if e.running && e.status.Firewall == "" {
		e.ok("nothing is to be dropped, it only observes")
		return
	}
	if !e.lookAtKernel() {
		return
	}
	e.lookAtSets()
	e.lookAtContainers()
	e.lookAtBans(ctx)
}

// lookAtKernel looks whether rules can be made at all.
func (e *examination) lookAtKernel() bool {
	nft, err := firewall.OpenNFTables(firewall.Options{})
	switch {
	case errors.Is(err, firewall.ErrPrivilege):
		e.unseen("what the kernel drops", os.ErrPermission)
		return false
	case errors.Is(err, firewall.ErrUnsupported):
		e.fault("sudo modprobe nf_tables; or a kernel with CONFIG_NF_TABLES_INET", "this kernel has no nf_tables: nobody can be banned")
		return false
	case err != nil:
		e.unseen("what the kernel drops", err)
		return false
	}
	_ = nft.Close() // nothing was written
	return true
}

// A guard is what a jail is to close, and by whom.
type guard struct {
	jail    string
	rules   []firewall.Rule // of its actions, which may close different ports
	natives []firewall.Native
	chain   string // the stock actions' parameter
	own     bool   // by Bantam's own table
	// vague is true if it is not known which ports it closes.
	vague bool
	// shell names an action that is run as commands, of which nobody knows what they do.
	shell string
}

// guardOf is what the actions of a jail are to close; ok is false if none blocks. Commands of which nobody knows whether
// they block, as those that send mails do not, count only if no other action does.
func guardOf(j *config.Jail) (g guard, ok bool) {
	g.jail = j.Name
	var shell []firewall.Rule
	for i := range j.Actions {
		a := &j.Actions[i]
		rule, err := ruleOf(a)
		switch {
		case a.Kind == action.Native && a.Name != "bantam":
			continue // it tells somebody, or writes a log
		case a.Kind == action.Native:
			g.own = true
		case a.Made:
			inet4, inet6 := firewall.Commands(a.Inet4), firewall.Commands(a.Inet6)
			if n, err := firewall.Recognize(a.Jail, a.Title, &inet4, &inet6); err == nil {
				g.natives, g.chain = append(g.natives, n), chainOf(a)
			}
		default:
			if g.shell = a.Title; err == nil && valueOf(a, "port") != "" {
				shell = append(shell, rule)
			}
			continue
		}
		if g.vague = g.vague || err != nil; err == nil {
			g.rules = append(g.rules, rule)
		}
	}
	if len(g.rules) == 0 {
		g.rules = shell
	}
	return g, g.own || len(g.natives) > 0 || g.shell != ""
}

// ruleOf is what an action closes, by its parameters.
func ruleOf(a *action.Config) (firewall.Rule, error) {
	params := map[string]string{}
	for _, key := range []string{"port", "protocol", "type"} {
		if v := valueOf(a, key); v != "" {
			params[key] = v
		}
	}
	if strings.Contains(a.Name, "allports") {
		params["type"] = "allports"
	} else if params["type"] != "allports" {
		params["type"] = "multiport" // oneport closes its port as well
	}
	return firewall.ParseRule(a.Jail, params)
}

// valueOf is a parameter of an action, or else the option of its file, "" if neither says it plainly.
func valueOf(a *action.Config, name string) string {
	for _, v := range []string{a.Params[name], a.Properties[name]} {
		if v != "" && !strings.ContainsAny(v, "<%") {
			return v
		}
	}
	return ""
}

// chainOf is the chain that an action guards; INPUT is the stock actions' own.
func chainOf(a *action.Config) string { return cmp.Or(valueOf(a, "chain"), "INPUT") }

// sure reports whether Bantam makes the objects that block, so that a packet that passes is wrong.
func (g *guard) sure() bool { return (g.own || len(g.natives) > 0) && !g.vague }

// A door is what a packet is sent to.
type door struct {
	protocol string
	port     uint16
}

func (d door) String() string { return fmt.Sprintf("%s %d", d.protocol, d.port) }

// maxDoors is how many ports are tried for one ban.
const maxDoors = 12

// doors are some that the guard is to close: the ends of each range, and for all ports those that somebody serves.
func (e *examination) doors(g *guard) (doors []door) {
	add := func(protocol string, port uint16) {
		if d := (door{protocol, port}); port != 0 && len(doors) < maxDoors && !slices.Contains(doors, d) {
			doors = append(doors, d)
		}
	}
	rules := g.rules
	if len(rules) == 0 {
		rules = []firewall.Rule{{}} // all, as the manual jail closes
	}
	for _, rule := range rules {
		for _, p := range rule.Ports {
			for _, protocol := range rule.Protocols {
				add(protocol, max(1, p.First))
				add(protocol, p.Last)
			}
		}
	}
	listeners, _ := e.Machine.Listeners()
	for _, rule := range rules {
		if len(rule.Ports) > 0 {
			continue
		}
		for _, l := range listeners {
			if len(rule.Protocols) == 0 || slices.Contains(rule.Protocols, l.Protocol) {
				add(l.Protocol, l.Addr.Port())
			}
		}
		protocols := rule.Protocols
		if len(protocols) == 0 {
			protocols = []string{"tcp", "udp"}
		}
		for _, protocol := range protocols {
			add(protocol, 22)
			add(protocol, 443)
		}
	}
	return doors
}

// lookAtBans proves that packets of the banned are dropped: of one of each family in each jail, or of the address
// that was asked for.
func (e *examination) lookAtBans(ctx context.Context) {
	switch {
	case e.closed:
		e.doubt("sudo bantam doctor", "whether packets of the banned are dropped is not proved: the daemon does not tell who they are")
		return
	case !e.running:
		e.doubt("start the daemon first", "whether packets of the banned are dropped is not proved: no daemon runs")
		return
	}
	rules, err := ruleset.Read(ctx)
	if err != nil {
		e.unseen("the kernel's rules", err)
		return
	}
	defer func() { _ = rules.Close() }() // it only asked
	bans := e.toProve()
	if len(bans) == 0 && e.Address.IsValid() {
		e.doubt("bantam why "+e.Address.String()+" tells of earlier bans", "%s is not banned%s", e.Address, e.spared())
		return
	}
	if len(bans) == 0 && e.Prove {
		e.prove(ctx)
		return
	}
	if len(bans) == 0 {
		e.doubt("sudo bantam doctor --prove bans "+tests[0].String()+" for a moment, which is nobody's",
			"nobody is banned, so that nothing is proved")
		return
	}
	for i := range bans {
		e.lookAtBan(rules, &bans[i])
	}
}

// toProve are the bans to prove.
func (e *examination) toProve() (bans []bantam.Ban) {
	type kind struct {
		jail string
		six  bool
	}
	seen := map[kind]bool{}
	for i := len(e.bans) - 1; i >= 0; i-- { // the newest, which ends last as a rule
		b := &e.bans[i]
		p, is := b.ID.Prefix()
		k := kind{b.Jail, p.Addr().Is6()}
		switch {
		case !is || b.Observed || b.Expired(e.now.Add(time.Second)):
		case e.Address.IsValid():
			if p.Contains(e.Address.Unmap()) {
				bans = append(bans, *b)
			}
		case !seen[k]:
			seen[k] = true
			bans = append(bans, *b)
		}
	}
	slices.SortStableFunc(bans, func(a, b bantam.Ban) int {
		p, _ := a.ID.Prefix() // they have one
		q, _ := b.ID.Prefix()
		return cmp.Or(cmp.Compare(a.Jail, b.Jail), cmp.Compare(p.Addr().BitLen(), q.Addr().BitLen()))
	})
	return bans
}

// spared says why a ban of the address that was asked for is not carried out, "" if there is none.
func (e *examination) spared() string {
	for i := range e.bans {
		b := &e.bans[i]
		switch p, is := b.ID.Prefix(); {
		case !is || !b.Observed || !p.Contains(e.Address.Unmap()):
		case b.Held():
			return ", the ban of [" + b.Jail + "] is held back: " + b.Reason
		default:
			return ", [" + b.Jail + "] only observes"
		}
	}
	return ""
}

// prove bans the test addresses by hand, looks whether their packets are dropped, and lifts the bans.
func (e *examination) prove(ctx context.Context) {
	lift := func(addr netip.Addr) {
		// Also when the time was up or somebody has interrupted it.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
		defer cancel()
		if _, err := control.Call(ctx, e.client, control.Unban, control.UnbanRequest{Jail: jail.Manual, ID: bantam.AddrID(addr)}); err != nil {
			e.doubt(fmt.Sprintf("sudo bantam unban %s; it ends in %d s by itself", addr, testTime), "the test ban of %s was not lifted: %v", addr, err)
		}
	}
	for _, addr := range tests {
		reply, err := control.Call(ctx, e.client, control.Ban, control.BanRequest{
			Jail: jail.Manual, ID: bantam.AddrID(addr), Seconds: testTime, Reason: "bantam doctor --prove", Force: true,
		})
		if err != nil {
			state, hint := Wrong, ""
			if refused, is := errors.AsType[*control.Error](err); is {
				if hint = refused.Hint; refused.Status == http.StatusForbidden {
					state = Doubtful
				}
			}
			e.add(state, hint, "the test address %s could not be banned: %v", addr, err)
			if reply.Ban.ID.IsZero() {
				continue // it may be banned all the same
			}
		}
		if !reply.Already {
			defer lift(addr)
		}
		rules, err := ruleset.Read(ctx)
		if err != nil {
			e.unseen("the kernel's rules", err)
			return
		}
		e.lookAtBan(rules, &bantam.Ban{Jail: jail.Manual, ID: bantam.AddrID(addr)})
		_ = rules.Close() // it only asked
	}
}

// A passage is a door at which packets of a ban were tried, and what became of them.
type passage struct {
	door
	path ruleset.Path
	open ruleset.Path // of a packet of a connection that was there before
}

// lookAtBan walks packets of a banned address through the rules.
func (e *examination) lookAtBan(rules *ruleset.Ruleset, b *bantam.Ban) {
	p, _ := b.ID.Prefix() // it was chosen for that
	src := p.Addr()
	if e.Address.IsValid() {
		src = e.Address.Unmap()
	}
	for _, a := range e.allowed {
		if a.Contains(src) {
			e.doubt("bantam allow remove "+a.String()+" if it is not meant", "%s (%s) passes, the allow list has %s", src, b.Jail, a)
			return
		}
	}
	g := guard{jail: b.Jail, own: b.Jail == jail.Manual}
	if j := e.jailOf(b.Jail); j != nil {
		blocks := false
		if g, blocks = guardOf(j); !blocks {
			e.doubt("banaction = bantam in its section drops them", "%s is banned in [%s], which has no action that drops packets", src, b.Jail)
			return
		}
	} else if b.Jail != jail.Manual {
		e.doubt("", "[%s] is not in the configuration that was read: its ban of %s is not proved", b.Jail, src)
		return
	}
	dst, ok := e.own(src)
	if !ok {
		e.ok("%s (%s): this machine has no address that it could reach", src, b.Jail)
		return
	}
	in := incoming(dst)
	var passages []passage
	for _, d := range e.doors(&g) {
		packet := ruleset.Packet{Src: src, Dst: dst, Protocol: d.protocol, Port: d.port, In: in}
		way := passage{door: d, path: rules.Walk(packet)}
		packet.Established = true
		way.open = rules.Walk(packet)
		passages = append(passages, way)
	}
	e.tellPassages(&g, src, passages)
}

// own is an address of this machine that packets of another may be for.
func (e *examination) own(src netip.Addr) (netip.Addr, bool) {
	prefixes, _ := e.Machine.Addresses()
	better := func(a netip.Addr) int {
		switch {
		case a.IsLoopback():
			return 3
		case a.IsLinkLocalUnicast():
			return 2
		case a.IsPrivate():
			return 1
		}
		return 0
	}
	var best netip.Addr
	for _, p := range prefixes {
		if a := p.Addr(); a.Is4() == src.Is4() && (!best.IsValid() || better(a) < better(best)) {
			best = a.WithZone("")
		}
	}
	return best, best.IsValid()
}

// incoming is the interface that packets of others for an address come in by: its own, or another that is up; "" if
// there is none but loopback.
func incoming(dst netip.Addr) (name string) {
	interfaces, _ := net.Interfaces()
	for _, i := range interfaces {
		if i.Flags&net.FlagLoopback != 0 || i.Flags&net.FlagUp == 0 {
			continue
		}
		addrs, _ := i.Addrs()
		for _, a := range addrs {
			if p, err := netip.ParsePrefix(a.String()); err == nil && p.Addr() == dst {
				return i.Name
			}
		}
		if name == "" {
			name = i.Name
		}
	}
	return name
}

// tellPassages says what became of packets: one check for the doors that are closed by the same rule, one for each
// rule that lets packets through.
func (e *examination) tellPassages(g *guard, src netip.Addr, passages []passage) {
	closed, open, late := map[string][]string{}, map[string][]passage{}, map[string][]string{}
	doubts := map[string][]string{} // of what is closed
	order := []string{}
	note := func(key string) string {
		if !slices.Contains(order, key) {
			order = append(order, key)
		}
		return key
	}
	for _, w := range passages {
		if !w.path.Dropped {
			key := note(passing(&w.path))
			open[key] = append(open[key], w)
			continue
		}
		key := note(place(w.path.By))
		closed[key] = append(closed[key], w.String())
		doubts[key] = w.path.Doubts
		if !w.open.Dropped {
			key := note(passing(&w.open))
			late[key] = append(late[key], w.String())
		}
	}
	for _, key := range order {
		if doors := closed[key]; doors != nil {
			text := fmt.Sprintf("%s (%s) is dropped at %s: %s", src, g.jail, key, of(doors))
			if len(doubts[key]) > 0 {
				text += "; assumed: " + doubts[key][0]
			}
			e.ok("%s", text)
		}
		if ways := open[key]; ways != nil {
			e.tellOpen(g, src, key, ways)
		}
		if doors := late[key]; doors != nil {
			e.doubt("ss -K dst "+src.String()+" ends them; banaction = bantam in ["+g.jail+"] drops them, too",
				"%s (%s): connections from before the ban go on, %s: %s", src, g.jail, key, of(doors))
		}
	}
}

// tellOpen says that packets of the banned pass, and why.
func (e *examination) tellOpen(g *guard, src netip.Addr, why string, ways []passage) {
	doors := make([]string, len(ways))
	for i := range ways {
		doors[i] = ways[i].String()
	}
	w := &ways[0]
	state := Wrong
	if !g.sure() || len(w.path.Doubts) > 0 {
		state = Doubtful
	}
	text := fmt.Sprintf("%s (%s) passes to %s: %s", src, g.jail, of(doors), why)
	if len(w.path.Doubts) > 0 {
		text += "; not sure of: " + w.path.Doubts[0]
	}
	e.add(state, e.mend(g, src, w), "%s", text)
}

// passing says why a packet passes.
func passing(p *ruleset.Path) string {
	s := p.Through
	if s == nil {
		return "no rule drops it"
	}
	if redirects(p) {
		return fmt.Sprintf("%s, rule '%s' redirects it, so that chain %s does not see it", table(s), s.Rule, p.Missed.Chain)
	}
	before := "any ban is looked at"
	if p.Missed != nil {
		before = "chain " + p.Missed.Chain + " drops it"
	}
	return fmt.Sprintf("%s, rule '%s' lets it through before %s", table(s), s.Rule, before)
}

// redirects reports whether a packet passes because its address or port is changed before what would drop it: an
// acceptance in a hook does not spare it the next one.
func redirects(p *ruleset.Path) bool {
	return p.Through != nil && p.Missed != nil && p.Through.Hook == "prerouting" && p.Missed.Hook != "prerouting"
}

// table names where a step stands.
func table(s *ruleset.Step) string {
	return fmt.Sprintf("table %s %s chain %s", s.Family, s.Table, s.Chain)
}

// place says where a packet is dropped.
func place(s *ruleset.Step) string {
	if s == nil {
		return "an unknown place"
	}
	return fmt.Sprintf("%s %d by %s %s chain %s", s.Hook, s.Priority, s.Family, s.Table, s.Chain)
}

// mend is the way on where packets of the banned pass.
func (e *examination) mend(g *guard, src netip.Addr, w *passage) string {
	s := w.path.Through
	if s == nil {
		if g.sure() {
			return "sudo bantam reload makes the rules anew; the log says what the kernel refused"
		}
		return "see what the commands of its action " + g.shell + " do; banaction = bantam in [" + g.jail + "] does not need any"
	}
	other := "banaction = bantam in [" + g.jail + "] looks before all others"
	if redirects(&w.path) {
		return other
	}
	for i := range g.natives {
		o := g.natives[i].Inet4
		if src.Is6() {
			o = g.natives[i].Inet6
		}
		if o == nil {
			return "its action has nothing for this family; " + other
		}
		match := fmt.Sprintf("%s -I %s -p %s --dport %d", cmp.Or(o.Program, "iptables"), g.chain, w.protocol, w.port)
		switch o.Kind {
		case firewall.KindIPTables:
			return fmt.Sprintf("move the jump to the top: %s -j %s; or %s", match, o.Own, other)
		case firewall.KindIPSet:
			return fmt.Sprintf("move the rule to the top: %s -m set --match-set %s src -j REJECT; or %s", match, o.Set, other)
		}
	}
	if g.own {
		return "is it meant? it stands before the hook of Bantam: sudo nft list chain " + s.Family + " " + s.Table + " " + s.Chain
	}
	return other
}

// lookAtContainers tells of ports of containers that packets reach by another way than the one that is guarded: they
// are redirected before the input chain, and forwarded.
func (e *examination) lookAtContainers() {
	if e.config == nil {
		return
	}
	containers, err := e.Machine.Containers()
	if err != nil && len(containers) == 0 {
		return // mostly there is no engine
	}
	for i := range e.config.Jails {
		j := &e.config.Jails[i]
		if j.Err != nil || j.Jail.Observe {
			continue
		}
		g, blocks := guardOf(j)
		if !blocks || g.own || forwarded(j) {
			continue
		}
		for _, c := range containers {
			if p, is := published(&c, g.rules); is {
				e.fault("banaction = bantam in ["+j.Name+"], or chain = DOCKER-USER where Docker has made it",
					"[%s] guards the input chain, and port %d of the container %s is forwarded past it", j.Name, p.Outside.Port(), c.Name)
			}
		}
	}
}

// forwarded reports whether an action of the jail guards what is forwarded.
func forwarded(j *config.Jail) bool {
	for i := range j.Actions {
		chain := strings.ToUpper(chainOf(&j.Actions[i]))
		if strings.Contains(chain, "DOCKER") || strings.Contains(chain, "FORWARD") || strings.Contains(chain, "PREROUTING") {
			return true
		}
	}
	return false
}

// published is a port of the container that one of some rules is to close.
func published(c *machine.Container, rules []firewall.Rule) (machine.Published, bool) {
	for _, p := range c.Ports {
		if p.Outside.Addr().IsLoopback() {
			continue
		}
		closes := func(r firewall.Rule) bool {
			return (len(r.Protocols) == 0 || slices.Contains(r.Protocols, p.Protocol)) &&
				(len(r.Ports) == 0 || slices.ContainsFunc(r.Ports, func(pr firewall.PortRange) bool {
					return pr.First <= p.Outside.Port() && p.Outside.Port() <= pr.Last
				}))
		}
		if slices.ContainsFunc(rules, closes) {
			return p, true
		}
	}
	return machine.Published{}, false
}
