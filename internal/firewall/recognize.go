package firewall

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// ErrShell is wrapped by Recognize's error: the action is to be run as shell. The
// text behind it says why, in words for the administrator.
var ErrShell = errors.New("run as shell")

// Commands are those of one action for one address family, merged and substituted
// but for the tags that each ban fills: <ip>, <fid>, <bantime>, <family>.
//
// Reban is what is run instead of Ban for a ban that is carried out again; empty if
// it is Ban. Prolong, Repair and Reload are not part of any known shape.
type Commands struct {
	Start, Stop, Flush, Reload, Check, Repair, Ban, Prolong, Reban, Unban string
}

// A Kind is a family of stock actions.
type Kind string

// The kinds that are carried out natively.
const (
	KindNFTables Kind = "nftables"
	KindIPSet    Kind = "ipset"    // an ipset, and iptables rules that look at it
	KindIPTables Kind = "iptables" // a chain of iptables with a rule for each ban
)

// A Native is an action whose objects we make ourselves.
type Native struct {
	Jail, Action string
	// Eager makes the objects at once, not at the first ban of their family.
	Eager bool
	// Inet4 and Inet6 are the objects of each family; nil for a family that the
	// action does not serve.
	Inet4, Inet6 *Objects
}

// Objects are what an action makes in the kernel for one family. They are values:
// nobody changes them.
type Objects struct {
	Kind Kind
	V6   bool
	// Set holds addresses, and RangeSet prefixes; of nftables and ipset.
	Set, RangeSet string
	// Table and Chain are nftables'. The table is of family inet.
	Table, Chain string
	// Program is iptables or ip6tables, maybe with a path.
	Program string
	// Own is the chain that has the bans, of KindIPTables.
	Own string

	hook     uint32
	priority int32
	matches  []nftMatch
	block    nftBlock

	jumps   []jump
	rule    []string // of a ban, behind its address; of KindIPTables
	last    [][]string
	setType string
	timeout uint32 // in seconds, of elements without one
	maxElem uint32
}

// A jump is a rule in a chain that is not ours.
type jump struct {
	chain string
	words []string
}

// String names the objects, for people.
func (o *Objects) String() string {
	switch o.Kind {
	case KindNFTables:
		return fmt.Sprintf("nftables: table inet %s, set %s", o.Table, o.Set)
	case KindIPSet:
		return fmt.Sprintf("ipset %s and rules of %s", o.Set, o.Program)
	default:
		return fmt.Sprintf("%s: chain %s", o.Program, o.Own)
	}
}

// tag is what is left of a tag after substitution.
var tag = regexp.MustCompile(`<[A-Za-z][^<>\s]*>`)

// Recognize says which objects an action's commands make, if that is what the
// stock actions nftables, iptables and iptables-ipset make in any of their types.
// It runs the commands for show, on a model of the kernel, and compares what came
// of them: so other words to the same end are recognized as well, and whatever
// does one thing more is not. inet4 or inet6 is nil for a family that the action
// does not serve. The error wraps ErrShell.
func Recognize(jail, action string, inet4, inet6 *Commands) (Native, error) {
	n := Native{Jail: jail, Action: action}
	for _, f := range []struct {
		c  *Commands
		to **Objects
		v6 bool
	}{{inet4, &n.Inet4, false}, {inet6, &n.Inet6, true}} {
		if f.c == nil {
			continue
		}
		o, err := recognize(f.c, f.v6)
		if err != nil {
			return Native{}, fmt.Errorf("%w: %w", ErrShell, err)
		}
		*f.to = o
	}
	if n.Inet4 == nil && n.Inet6 == nil {
		return Native{}, fmt.Errorf("%w: it has no commands", ErrShell)
	}
	if a, b := n.Inet4, n.Inet6; a != nil && b != nil && a.collides(b) {
		return Native{}, fmt.Errorf("%w: both families would have the set %s", ErrShell, a.Set)
	}
	return n, nil
}

// collides reports whether two actions or families want the same object.
func (o *Objects) collides(p *Objects) bool {
	if (o.Kind == KindNFTables) != (p.Kind == KindNFTables) {
		return false
	}
	if o.Kind == KindNFTables && o.Table != p.Table {
		return false
	}
	names := []string{o.Set, o.RangeSet}
	if o.Kind == KindIPTables || p.Kind == KindIPTables {
		return o.Kind == p.Kind && o.Program == p.Program && o.Own == p.Own
	}
	return slices.Contains(names, p.Set) || slices.Contains(names, p.RangeSet)
}

// recognize rehearses the commands of one family.
func recognize(c *Commands, v6 bool) (*Objects, error) {
	host, wide, family := probe4, range4, "inet4"
	if v6 {
		host, wide, family = probe6, range6, "inet6"
	}
	if c.Start == "" || c.Ban == "" || c.Unban == "" || c.Stop == "" {
		return nil, refuse("it has no actionstart, actionban, actionunban or actionstop")
	}
	for name, text := range map[string]string{"actionprolong": c.Prolong, "actionrepair": c.Repair, "actionreload": c.Reload} {
		if strings.TrimSpace(text) != "" {
			return nil, refuse("it has an %s", name)
		}
	}
	if c.Reban != "" && c.Reban != c.Ban {
		return nil, refuse("its actionreban is not its actionban")
	}
	for name, text := range map[string]string{"actionstart": c.Start, "actionstop": c.Stop, "actioncheck": c.Check, "actionflush": c.Flush} {
		if strings.Contains(text, "<ip>") || strings.Contains(text, "<fid>") {
			return nil, refuse("its %s names an address", name)
		}
	}
	hostText, wideText := host.Addr().String(), wide.String()
	s := &stage{world: newWorld(), probes: []string{hostText, wide.Addr().String()}}
	// do runs a script that has to succeed, if there is one.
	do := func(name, text, ip, bantime string) error {
		if text == "" {
			return nil
		}
		text = strings.NewReplacer("<ip>", ip, "<fid>", ip, "<family>", family, "<bantime>", bantime, "<br>", "\n", "<sp>", " ").Replace(text)
		if left := tag.FindString(text); left != "" {
			return refuse("its %s uses %.40s", name, left)
		}
		status, err := s.run(text)
		if err != nil {
			return refuse("%s: %v", name, err)
		}
		if status != 0 {
			return refuse("%s would fail", name)
		}
		return nil
	}
	if err := do("actionstart", c.Start, "", "600"); err != nil {
		return nil, err
	}
	o, err := s.derive(v6)
	if err != nil {
		return nil, err
	}
	started := s.String()
	if err := do("actioncheck", c.Check, "", "600"); err != nil {
		return nil, err
	}
	for _, seconds := range bantime {
		if err := do("actionban", c.Ban, hostText, seconds); err != nil {
			return nil, err
		}
		if err := s.banned(o, hostText); err != nil {
			return nil, err
		}
		if err := do("actionunban", c.Unban, hostText, seconds); err != nil {
			return nil, err
		}
		if s.String() != started {
			return nil, refuse("its actionunban does not undo its actionban")
		}
		if !strings.Contains(c.Ban+c.Unban, "<bantime>") {
			break
		}
	}
	if err := do("actionban", c.Ban, wideText, "600"); err != nil {
		return nil, err
	}
	if err := s.banned(o, wideText); err != nil {
		return nil, err
	}
	if err := do("actionban", c.Ban, hostText, "600"); err != nil {
		return nil, err
	}
	if err := do("actionflush", c.Flush, "", "600"); err != nil {
		return nil, err
	}
	if now := s.String(); c.Flush != "" && (strings.Contains(now, hostText) || strings.Contains(now, wideText)) {
		return nil, refuse("its actionflush leaves bans")
	}
	s.neighbour(o)
	if err := do("actionstop", c.Stop, "", "600"); err != nil {
		return nil, err
	}
	alone := stage{world: newWorld()}
	alone.neighbour(o)
	if s.String() != alone.String() {
		return nil, refuse("its actionstop takes away more or less than its own objects")
	}
	return o, nil
}

// neighbour puts another jail's objects beside those of o.
func (s *stage) neighbour(o *Objects) {
	if o.Kind == KindNFTables {
		key := "inet " + o.Table
		t := s.tables[key]
		if t == nil {
			t = &modelTable{family: "inet", name: o.Table, chains: map[string]*modelBase{}, sets: map[string]*modelSet{}}
			s.tables[key] = t
		}
		if t.chains[o.Chain] == nil {
			t.chains[o.Chain] = &modelBase{spec: o.chainSpec()}
		}
		t.chains[o.Chain].rules = append(t.chains[o.Chain].rules, modelRule{1 << 30, strings.Fields("ip saddr @neighbour-of-it drop")})
		t.sets["neighbour-of-it"] = &modelSet{kind: "{ type ipv4_addr ; }", elements: map[string]string{"192.0.2.77": ""}}
		return
	}
	for _, j := range o.jumps {
		key := o.Program + " " + j.chain
		if s.chains[key] == nil {
			s.chains[key] = &modelChain{}
		}
		s.chains[key].rules = append(s.chains[key].rules, []string{"-j", "neighbour-of-it"})
	}
	s.chains[o.Program+" neighbour-of-it"] = &modelChain{own: true, rules: [][]string{{"-j", "RETURN"}}}
	s.sets["neighbour-of-it"] = &modelSet{kind: "hash:ip", elements: map[string]string{"192.0.2.77": ""}}
}

// derive reads the shape out of what actionstart has made.
func (s *stage) derive(v6 bool) (*Objects, error) {
	o := &Objects{V6: v6}
	switch {
	case len(s.tables) > 0 && len(s.chains)+len(s.sets) == 0:
		o.Kind = KindNFTables
		return o, s.deriveNFT(o)
	case len(s.tables) == 0 && len(s.chains) > 0:
		return o, s.deriveIPTables(o)
	}
	return nil, refuse("its actionstart makes no firewall objects of a known shape")
}

var (
	nftChainSpec = regexp.MustCompile(`^\{ type filter hook (prerouting|input|forward) priority (-?[0-9]{1,5}) ;( policy accept ;)? \}$`)
	nftSetSpec   = regexp.MustCompile(`^\{ type (ipv4_addr|ipv6_addr) ;( flags interval ;)? \}$`)
)

var nftHooks = map[string]uint32{"prerouting": unix.NF_INET_PRE_ROUTING, "input": unix.NF_INET_LOCAL_IN, "forward": unix.NF_INET_FORWARD}

// chainSpec is the chain in nft's words.
func (o *Objects) chainSpec() string {
	for name, hook := range nftHooks {
		if hook == o.hook {
			return fmt.Sprintf("{ type filter hook %s priority %d ; }", name, o.priority)
		}
	}
	return ""
}

func (s *stage) deriveNFT(o *Objects) error {
	if len(s.tables) != 1 {
		return refuse("it has more than one table")
	}
	for _, t := range s.tables {
		if t.family != "inet" {
			return refuse("its table is of family %.20s, not inet", t.family)
		}
		if len(t.chains) != 1 || len(t.sets) != 1 {
			return refuse("its actionstart makes %d chains and %d sets, not one of each", len(t.chains), len(t.sets))
		}
		o.Table = t.name
		for name, set := range t.sets {
			o.Set = name
			want := "ipv4_addr"
			if o.V6 {
				want = "ipv6_addr"
			}
			if m := nftSetSpec.FindStringSubmatch(set.kind); m == nil || m[1] != want {
				return refuse("its set is %.80s", set.kind)
			}
			if len(set.elements) > 0 {
				return refuse("its actionstart bans somebody")
			}
		}
		o.RangeSet = companion(o.Set, "addr-set-", "net-set-", 255)
		if strings.HasPrefix(o.Set, "addr6-set-") {
			o.RangeSet = companion(o.Set, "addr6-set-", "net6-set-", 255)
		}
		for name, c := range t.chains {
			o.Chain = name
			m := nftChainSpec.FindStringSubmatch(c.spec)
			if m == nil {
				return refuse("its chain is %.120s", c.spec)
			}
			o.hook = nftHooks[m[1]]
			priority, err := strconv.ParseInt(m[2], 10, 32)
			if err != nil {
				return refuse("its chain's priority is %s", m[2])
			}
			o.priority = int32(priority)
			if len(c.rules) == 0 {
				return refuse("its actionstart makes no rule")
			}
			for _, r := range c.rules {
				match, block, err := parseNFTRule(r.words, o)
				if err != nil {
					return err
				}
				o.matches, o.block = append(o.matches, match), block
			}
			c.spec = o.chainSpec() // a policy said or not said is the same
		}
	}
	return nil
}

func (s *stage) deriveIPTables(o *Objects) error {
	if len(s.sets) > 1 {
		return refuse("it has more than one ipset")
	}
	for key := range s.chains {
		program, name, _ := strings.Cut(key, " ")
		if o.Program != "" && o.Program != program {
			return refuse("it calls both %s and %s", o.Program, program)
		}
		o.Program = program
		if s.chains[key].own {
			if o.Own != "" {
				return refuse("it makes more than one chain")
			}
			o.Own = name
		}
	}
	if strings.Contains(o.Program, "ip6tables") != o.V6 {
		return refuse("it calls %s for the other family", o.Program)
	}
	o.Kind = KindIPTables
	target := o.Own
	if len(s.sets) == 1 {
		if o.Own != "" {
			return refuse("it makes both a chain and an ipset")
		}
		o.Kind = KindIPSet
		if err := s.deriveIPSet(o); err != nil {
			return err
		}
		target = o.Set
	} else {
		if o.Own == "" {
			return refuse("it makes no chain and no ipset of its own")
		}
		if len(o.Own) > 28 { // XT_EXTENSION_MAXNAMELEN of linux/netfilter/x_tables.h
			return refuse("iptables takes no chain name of more than 28 characters: %.40s", o.Own)
		}
		o.last = s.chains[o.Program+" "+o.Own].rules
		if len(o.last) != 1 || len(o.last[0]) != 2 || o.last[0][0] != "-j" || o.last[0][1] != "RETURN" {
			return refuse("its chain does not only return")
		}
	}
	for key, c := range s.chains {
		_, name, _ := strings.Cut(key, " ")
		if c.own {
			continue
		}
		for _, words := range slices.Backward(c.rules) { // the last inserted stands first
			if !slices.ContainsFunc(words, func(w string) bool { return w == target }) {
				return refuse("a rule of it does not concern its own chain or set")
			}
			if o.Kind == KindIPTables && !slices.Equal(words[max(0, len(words)-2):], []string{"-j", o.Own}) {
				return refuse("a rule of it does not jump to its chain")
			}
			if o.Kind == KindIPSet && !looksUp(words, o.Set) {
				return refuse("a rule of it does not look up its ipset")
			}
			for _, w := range words {
				if w == "" || strings.ContainsFunc(w, func(c rune) bool { return c < ' ' || c == 0x7f }) {
					return refuse("a rule of it has an empty word or control characters")
				}
			}
			o.jumps = append(o.jumps, jump{name, words})
		}
	}
	if len(o.jumps) == 0 {
		return refuse("it makes no rule in a chain that packets see")
	}
	slices.SortStableFunc(o.jumps, func(a, b jump) int { return strings.Compare(a.chain, b.chain) })
	return nil
}

// looksUp reports whether a rule sends what comes from a set's addresses to one
// target, and does nothing else with a set.
func looksUp(words []string, set string) bool {
	at := slices.Index(words, "--match-set")
	if at < 2 || at+4 >= len(words) {
		return false
	}
	return words[at-2] == "-m" && words[at-1] == "set" && words[at+1] == set && words[at+2] == "src" && words[at+3] == "-j" &&
		!slices.Contains(words[at+1:], "--match-set") && !slices.Contains(words, "!")
}

func (s *stage) deriveIPSet(o *Objects) error {
	var words []string
	for name, set := range s.sets {
		o.Set, words = name, strings.Fields(set.kind)
		if len(set.elements) > 0 {
			return refuse("its actionstart bans somebody")
		}
	}
	if len(o.Set) > ipsetNameLen {
		return refuse("ipset takes no name of more than %d characters: %.60s", ipsetNameLen, o.Set)
	}
	if len(words) == 0 || words[0] != hashIP && words[0] != hashNet {
		return refuse("its ipset is not of type hash:ip or hash:net")
	}
	o.setType, o.maxElem = words[0], defaultMaxElem
	v6, timed := false, false
	for words = words[1:]; len(words) > 1; words = words[2:] {
		n, err := strconv.ParseUint(words[1], 10, 31)
		switch words[0] {
		case "timeout":
			o.timeout, timed = uint32(n), true
			if n > maxIPSetTimeout {
				return refuse("its ipset's timeout is too long")
			}
		case "maxelem":
			o.maxElem = uint32(n)
			if n == 0 {
				return refuse("its ipset holds nothing")
			}
		case "family":
			v6, err = words[1] == "inet6", nil
			if !v6 && words[1] != "inet" {
				return refuse("its ipset is of family %.20s", words[1])
			}
		default:
			return refuse("its ipset has the option %.20s", words[0])
		}
		if err != nil {
			return refuse("its ipset has the option %.20s %.20s", words[0], words[1])
		}
	}
	if len(words) > 0 || !timed || v6 != o.V6 {
		return refuse("its ipset has no timeout, an odd option, or is of the other family")
	}
	if o.RangeSet = o.Set; o.setType == hashIP {
		o.RangeSet = companion(o.Set, "f2b-", "n2b-", ipsetNameLen)
	}
	return nil
}

// companion is the name of the set of ranges beside a set, short enough for the
// kernel.
func companion(set, from, to string, most int) string {
	name := "n2b-" + set
	if rest, ok := strings.CutPrefix(set, from); ok {
		name = to + rest
	}
	if len(name) <= most {
		return name
	}
	sum := sha256.Sum256([]byte(name))
	return name[:most-9] + "-" + hex.EncodeToString(sum[:4])
}

// banned checks that the commands have put ip where we would have, and takes note
// of how.
func (s *stage) banned(o *Objects, ip string) error {
	odd := refuse("its actionban does more or less than ban the address")
	var holder map[string]string
	switch o.Kind {
	case KindNFTables:
		holder = s.tables["inet "+o.Table].sets[o.Set].elements
		if len(holder) != 1 {
			return odd
		}
	case KindIPSet:
		holder = s.sets[o.Set].elements
		if len(holder) != 1 {
			return odd
		}
		if how := strings.Fields(holder[ip]); len(how) != 0 && (len(how) != 2 || how[0] != "timeout") {
			return refuse("its actionban gives the ipset's element more than a timeout")
		}
	default:
		c := s.chains[o.Program+" "+o.Own]
		if len(c.rules) != 2 || len(c.rules[0]) < 4 || c.rules[0][0] != "-s" || c.rules[0][1] != ip || c.rules[0][2] != "-j" {
			return odd
		}
		rule := c.rules[0][2:]
		if o.rule != nil && !slices.Equal(o.rule, rule) {
			return odd
		}
		o.rule = rule
		return nil
	}
	if _, ok := holder[ip]; !ok {
		return odd
	}
	return nil
}
