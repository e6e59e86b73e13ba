package firewall

import (
	"fmt"
	"maps"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// A world is a model of what nft, iptables and ipset make: enough to see what an
// action's commands come to, and no more.
type world struct {
	tables map[string]*modelTable // nft's, by family and name
	chains map[string]*modelChain // iptables', by program and name
	sets   map[string]*modelSet   // ipset's, by name
	handle int
}

type modelTable struct {
	family, name string
	chains       map[string]*modelBase
	sets         map[string]*modelSet
}

// A modelBase is a chain of nft.
type modelBase struct {
	spec  string // what stands in its braces
	rules []modelRule
}

type modelRule struct {
	handle int
	words  []string
}

// A modelChain is a chain of iptables.
type modelChain struct {
	own   bool // made by the commands, not one that stands
	rules [][]string
}

// A modelSet is a set of nft or ipset: its kind in words, and its elements with
// what was said of them.
type modelSet struct {
	kind     string
	elements map[string]string
}

func newWorld() world {
	return world{tables: map[string]*modelTable{}, chains: map[string]*modelChain{}, sets: map[string]*modelSet{}}
}

// String is everything that is there, the same for equal worlds. Chains that
// stand by themselves are told by their rules.
func (w *world) String() string {
	var b strings.Builder
	for _, k := range slices.Sorted(maps.Keys(w.tables)) {
		t := w.tables[k]
		fmt.Fprintf(&b, "table %q\n", k)
		for _, name := range slices.Sorted(maps.Keys(t.chains)) {
			fmt.Fprintf(&b, " chain %q %q\n", name, t.chains[name].spec)
			for _, r := range t.chains[name].rules {
				fmt.Fprintf(&b, "  %q\n", r.words)
			}
		}
		writeSets(&b, t.sets)
	}
	for _, k := range slices.Sorted(maps.Keys(w.chains)) {
		c := w.chains[k]
		if c.own {
			fmt.Fprintf(&b, "own %q\n", k)
		}
		for _, r := range c.rules {
			fmt.Fprintf(&b, " in %q %q\n", k, r)
		}
	}
	writeSets(&b, w.sets)
	return b.String()
}

func writeSets(b *strings.Builder, sets map[string]*modelSet) {
	for _, name := range slices.Sorted(maps.Keys(sets)) {
		fmt.Fprintf(b, " set %q %q\n", name, sets[name].kind)
		for _, e := range slices.Sorted(maps.Keys(sets[name].elements)) {
			fmt.Fprintf(b, "  %q %q\n", e, sets[name].elements[e])
		}
	}
}

// nftWords cuts a command line as nft's reader does, as far as needed: braces,
// commas and semicolons stand for themselves. Quoted words are not known.
func nftWords(line string) []string {
	var words []string
	for _, f := range strings.Fields(line) {
		for f != "" {
			i := strings.IndexAny(f, "{};,")
			switch {
			case i < 0:
				words, f = append(words, f), ""
			case i > 0:
				words, f = append(words, f[:i]), f[i:]
			default:
				words, f = append(words, f[:1]), f[1:]
			}
		}
	}
	return words
}

// nftName is a name that nft takes without quotes, and the kernel.
var nftName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_/\\.-]{0,127}$`)

// nft carries out one call of it. ok is whether it succeeds.
func (s *stage) nft(args []string) (out string, ok bool, err error) {
	no := func() (string, bool, error) {
		return "", false, refuse("it calls %.120q", strings.Join(args, " "))
	}
	words := nftWords(strings.Join(args[1:], " "))
	handles := false
	for len(words) > 0 && (words[0] == "--" || words[0] == "-a") {
		handles = handles || words[0] == "-a"
		words = words[1:]
	}
	if len(words) < 4 {
		return no()
	}
	verb, what, family, table := words[0], words[1], words[2], words[3]
	name, rest := "", []string(nil)
	if what != "table" {
		if len(words) < 5 {
			return no()
		}
		name, rest = words[4], words[5:]
	} else if len(words) > 4 {
		return no()
	}
	if !nftName.MatchString(table) || what != "table" && !nftName.MatchString(name) {
		return no()
	}
	key := family + " " + table
	t := s.tables[key]
	if verb == "add" && what == "table" {
		if t == nil {
			s.tables[key] = &modelTable{family: family, name: table, chains: map[string]*modelBase{}, sets: map[string]*modelSet{}}
		}
		return "", true, nil
	}
	if t == nil {
		return "", false, nil
	}
	switch verb + " " + what {
	case "add chain":
		spec := strings.Join(rest, " ")
		if c := t.chains[name]; c == nil {
			t.chains[name] = &modelBase{spec: spec}
		} else if c.spec != spec {
			return no()
		}
		return "", true, nil
	case "add set":
		kind := strings.Join(rest, " ")
		if set := t.sets[name]; set == nil {
			t.sets[name] = &modelSet{kind: kind, elements: map[string]string{}}
		} else if set.kind != kind {
			return no()
		}
		return "", true, nil
	case "add rule":
		c := t.chains[name]
		if c == nil || len(rest) == 0 {
			return "", false, nil
		}
		s.handle++
		c.rules = append(c.rules, modelRule{s.handle, rest})
		return "", true, nil
	case "add element", "delete element":
		set := t.sets[name]
		if set == nil {
			return "", false, nil
		}
		if len(rest) != 3 || rest[0] != "{" || rest[2] != "}" {
			return no()
		}
		if verb == "add" {
			set.elements[rest[1]] = ""
			return "", true, nil
		}
		_, there := set.elements[rest[1]]
		delete(set.elements, rest[1])
		return "", there, nil
	case "flush set":
		set := t.sets[name]
		if set == nil || len(rest) > 0 {
			return "", false, nil
		}
		clear(set.elements)
		return "", true, nil
	case "delete rule":
		c := t.chains[name]
		if c == nil || len(rest) != 2 || rest[0] != "handle" {
			return no()
		}
		i := slices.IndexFunc(c.rules, func(r modelRule) bool { return strconv.Itoa(r.handle) == rest[1] })
		if i < 0 {
			return "", false, nil
		}
		c.rules = slices.Delete(c.rules, i, i+1)
		return "", true, nil
	case "delete set":
		if t.sets[name] == nil || len(rest) > 0 {
			return "", false, nil
		}
		for _, c := range t.chains {
			if slices.ContainsFunc(c.rules, func(r modelRule) bool { return slices.Contains(r.words, "@"+name) }) {
				return "", false, nil // in use
			}
		}
		delete(t.sets, name)
		return "", true, nil
	case "delete table":
		delete(s.tables, key)
		return "", true, nil
	case "list table":
		return t.list("", handles), true, nil
	case "list chain":
		if t.chains[name] == nil || len(rest) > 0 {
			return "", false, nil
		}
		return t.list(name, handles), true, nil
	}
	return no()
}

// list is what nft prints of a table or of one chain of it, as far as scripts
// look at it.
func (t *modelTable) list(chain string, handles bool) string {
	var b strings.Builder
	mark := func(n int) string {
		if !handles {
			return ""
		}
		return " # handle " + strconv.Itoa(n)
	}
	fmt.Fprintf(&b, "table %s %s {%s\n", t.family, t.name, mark(1))
	if chain == "" {
		for _, name := range slices.Sorted(maps.Keys(t.sets)) {
			fmt.Fprintf(&b, "\tset %s {%s\n\t}\n", name, mark(2))
		}
	}
	for _, name := range slices.Sorted(maps.Keys(t.chains)) {
		if chain != "" && chain != name {
			continue
		}
		fmt.Fprintf(&b, "\tchain %s {%s\n", name, mark(3))
		for _, r := range t.chains[name].rules {
			fmt.Fprintf(&b, "\t\t%s%s\n", strings.Join(r.words, " "), mark(r.handle))
		}
		b.WriteString("\t}\n")
	}
	b.WriteString("}\n")
	return b.String()
}

// iptablesName is what iptables is called.
var iptablesName = regexp.MustCompile(`^(/[A-Za-z0-9/_.-]*/)?ip6?tables(-nft|-legacy)?$`)

// iptables carries out one call of it.
func (s *stage) iptables(args []string) (out string, ok bool, err error) {
	no := func() (string, bool, error) {
		return "", false, refuse("it calls %.120q", strings.Join(args, " "))
	}
	program, rest := args[0], args[1:]
	for len(rest) > 0 {
		switch {
		case rest[0] == "-w" || rest[0] == "--wait":
			rest = rest[1:]
			if len(rest) > 0 && strings.Trim(rest[0], "0123456789") == "" {
				rest = rest[1:]
			}
			continue
		case rest[0] == "-n":
			rest = rest[1:]
			continue
		case len(rest) > 1 && rest[0] == "-t" && rest[1] == "filter":
			rest = rest[2:]
			continue
		}
		break
	}
	if len(rest) < 2 || !plainChain.MatchString(rest[1]) {
		return no()
	}
	verb, name, spec := rest[0], rest[1], rest[2:]
	key := program + " " + name
	c := s.chains[key]
	if c == nil {
		c = &modelChain{}
		if verb == "-N" {
			c.own = true
			s.chains[key] = c
			return "", true, nil
		}
		if verb == "-I" { // one of the machine's own
			s.chains[key] = c
		}
	}
	at := func() int { return slices.IndexFunc(c.rules, func(r []string) bool { return slices.Equal(r, spec) }) }
	known := s.chains[key] != nil
	switch verb {
	case "-N":
		return "", false, nil
	case "-C":
		return "", at() >= 0, nil
	case "-A":
		if known && !c.own {
			return no()
		}
		c.rules = append(c.rules, spec)
		return "", known, nil
	case "-I":
		if len(spec) > 0 && spec[0] == "1" {
			spec = spec[1:]
		}
		c.rules = slices.Insert(c.rules, 0, spec)
		return "", known, nil
	case "-D":
		i := at()
		if i < 0 {
			return "", false, nil
		}
		c.rules = slices.Delete(c.rules, i, i+1)
		return "", true, nil
	case "-F":
		if known && !c.own {
			return no()
		}
		c.rules = nil
		return "", known, nil
	case "-X":
		if !c.own || len(c.rules) > 0 {
			return "", false, nil
		}
		for _, other := range s.chains {
			for _, r := range other.rules {
				if slices.Contains(r, name) {
					return "", false, nil // in use
				}
			}
		}
		delete(s.chains, key)
		return "", true, nil
	case "-L":
		var b strings.Builder
		for _, r := range c.rules {
			if i := slices.Index(r, "-j"); i >= 0 && i+1 < len(r) {
				fmt.Fprintf(&b, "%s  all  --  anywhere  anywhere\n", r[i+1])
			}
		}
		return b.String(), known, nil
	}
	return no()
}

// plainChain is a chain's or set's name as iptables and ipset take it, without
// anything that would have to be quoted.
var plainChain = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_.:+@%/-]*$`)

// ipset carries out one call of it.
func (s *stage) ipset(args []string) (out string, ok bool, err error) {
	no := func() (string, bool, error) {
		return "", false, refuse("it calls %.120q", strings.Join(args, " "))
	}
	exist, names := false, false
	var words []string
	for _, a := range args[1:] {
		switch a {
		case "-exist", "-!":
			exist = true
		case "-quiet", "-q":
		case "-name", "-n", "-t", "-terse":
			names = true
		default:
			words = append(words, a)
		}
	}
	if len(words) < 2 || !plainChain.MatchString(words[1]) {
		return no()
	}
	verb, name, rest := strings.TrimPrefix(words[0], "--"), words[1], words[2:]
	set := s.sets[name]
	if verb == "create" {
		kind := strings.Join(rest, " ")
		if set != nil {
			return "", exist && set.kind == kind, nil
		}
		s.sets[name] = &modelSet{kind: kind, elements: map[string]string{}}
		return "", true, nil
	}
	if set == nil {
		return "", false, nil
	}
	switch verb {
	case "add", "del", "test":
		if len(rest) == 0 {
			return no()
		}
		_, there := set.elements[rest[0]]
		switch {
		case verb == "test":
			return "", there, nil
		case verb == "del":
			delete(set.elements, rest[0])
			return "", there || exist, nil
		case there && !exist:
			return "", false, nil
		}
		set.elements[rest[0]] = strings.Join(rest[1:], " ")
		return "", true, nil
	case "flush":
		clear(set.elements)
		return "", true, nil
	case "destroy":
		for _, c := range s.chains {
			if slices.ContainsFunc(c.rules, func(r []string) bool { return slices.Contains(r, name) }) {
				return "", false, nil // in use
			}
		}
		delete(s.sets, name)
		return "", true, nil
	case "list":
		if !names {
			return no()
		}
		return name + "\n", true, nil
	}
	return no()
}

// probe addresses are those of documentation, which no configuration names.
var (
	probe4  = netip.MustParsePrefix("203.0.113.187/32")
	probe6  = netip.MustParsePrefix("2001:db8:e5:7::bb/128")
	range4  = netip.MustParsePrefix("198.51.100.128/26")
	range6  = netip.MustParsePrefix("2001:db8:e6::/48")
	bantime = []string{"600", "8640000", "-1"}
)
