package ruleset

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// This file is the older iptables, whose rules the kernel hands out only as a blob in the layout of the running kernel's
// C structures. Its own program reads them.

// maxSave is how much of a listing is read: about half a million rules.
const maxSave = 64 << 20

// The two families of the older iptables.
var legacyFamilies = []struct {
	family   string
	protocol uint8
	tables   string   // the tables that are in use, of the calling thread's namespace
	programs []string // that list them, the surest first
}{
	{"iptables", unix.NFPROTO_IPV4, "/proc/thread-self/net/ip_tables_names", []string{"iptables-legacy-save", "iptables-save"}},
	{"ip6tables", unix.NFPROTO_IPV6, "/proc/thread-self/net/ip6_tables_names", []string{"ip6tables-legacy-save", "ip6tables-save"}},
}

// readLegacy adds the rules of the older iptables, or a doubt where they cannot be read.
func (r *Ruleset) readLegacy(ctx context.Context) error {
	for _, l := range legacyFamilies {
		tables, err := os.ReadFile(l.tables)
		if errors.Is(err, fs.ErrNotExist) || err == nil && len(bytes.TrimSpace(tables)) == 0 {
			continue
		}
		var chains []*chain
		if err == nil {
			chains, err = saved(ctx, l.family, l.protocol, l.programs)
		}
		if err != nil {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			r.unread[l.protocol] = fmt.Sprintf("the rules of %s (legacy) cannot be read: %v", l.family, err)
			continue
		}
		for _, c := range chains {
			c.order = len(r.chains)
			r.chains = append(r.chains, c)
			r.names[c.chainKey] = c
		}
	}
	return nil
}

// saved runs the program that lists the tables of a family.
func saved(ctx context.Context, family string, protocol uint8, programs []string) ([]*chain, error) {
	for _, name := range programs {
		path, ok := trusted(name)
		if !ok {
			continue
		}
		if !strings.Contains(name, "legacy") {
			// Of this name is the program for nftables, too, which knows nothing of these rules.
			out, err := output(ctx, path, "-V")
			if err != nil || bytes.Contains(out, []byte("nf_tables")) {
				continue
			}
		}
		out, err := output(ctx, path)
		if err != nil {
			return nil, err
		}
		return parseSave(bytes.NewReader(out), family, protocol)
	}
	return nil, fmt.Errorf("there is no %s", programs[0])
}

// trusted finds a program that only root can have written.
func trusted(name string) (string, bool) {
	for _, dir := range []string{"/usr/sbin/", "/sbin/", "/usr/local/sbin/"} {
		info, err := os.Stat(dir + name)
		if err != nil || !info.Mode().IsRegular() || info.Mode().Perm()&0o022 != 0 {
			continue
		}
		if s, ok := info.Sys().(*syscall.Stat_t); ok && s.Uid == 0 {
			return dir + name, true
		}
	}
	return "", false
}

func output(ctx context.Context, name string, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = []string{"LC_ALL=C", "PATH=/usr/sbin:/usr/bin:/sbin:/bin"}
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		return nil, fmt.Errorf("run %s: %w", name, err)
	}
	b, err := io.ReadAll(io.LimitReader(out, maxSave+1))
	if err == nil && len(b) > maxSave {
		err = fmt.Errorf("more than %d bytes", maxSave)
		_ = cmd.Process.Kill()
	}
	if err = errors.Join(err, cmd.Wait()); err != nil {
		return nil, fmt.Errorf("run %s: %w", name, err)
	}
	return b, nil
}

// builtIn are the hooks of the chains that every table has, and each table's priority
// (linux/netfilter_ipv4.h; net/ipv4/netfilter/iptable_*.c).
var (
	builtIn        = map[string]string{"PREROUTING": "prerouting", "INPUT": "input", "FORWARD": "forward", "OUTPUT": "output", "POSTROUTING": "postrouting"}
	legacyPriority = map[string]int32{"raw": -300, "mangle": -150, "nat": dstNATPriority, "filter": 0, "security": 50}
)

// parseSave reads what iptables-save prints.
func parseSave(in io.Reader, family string, protocol uint8) ([]*chain, error) {
	var chains []*chain
	names := make(map[string]*chain)
	table := ""
	lines := bufio.NewScanner(in)
	lines.Buffer(nil, 1<<20)
	for n := 1; lines.Scan(); n++ {
		line := strings.TrimSpace(lines.Text())
		bad := func(what string) ([]*chain, error) {
			return nil, fmt.Errorf("line %d of the listing: %s: %.80q", n, what, line)
		}
		switch {
		case line == "", line[0] == '#', line == "COMMIT":
		case line[0] == '*':
			table = line[1:]
			clear(names)
		case line[0] == ':':
			name, rest, ok := strings.Cut(line[1:], " ")
			if !ok || table == "" {
				return bad("no chain")
			}
			c := &chain{chainKey: chainKey{family, table, name}, protocol: protocol, kind: "filter", policy: accept}
			if table == "nat" {
				c.kind = "nat"
			}
			if policy, _, _ := strings.Cut(rest, " "); policy != "-" {
				c.hook, c.priority = builtIn[name], legacyPriority[table]
				if c.kind == "nat" {
					c.priority = c.at()
				}
				if policy == "DROP" {
					c.policy = drop
				}
			}
			names[name] = c
			chains = append(chains, c)
		case strings.HasPrefix(line, "-A "), line[0] == '[':
			if line[0] == '[' { // counters, as with -c
				_, line, _ = strings.Cut(line, "] ")
			}
			words, ok := splitWords(line)
			if !ok || len(words) < 2 || words[0] != "-A" {
				return bad("no rule")
			}
			c := names[words[1]]
			if c == nil {
				return bad("no such chain")
			}
			c.rules = append(c.rules, parseRule(c, line, words[2:]))
		default:
			return bad("neither a table nor a rule")
		}
	}
	return chains, lines.Err()
}

// splitWords takes a line apart; a word in quotes may hold spaces, and \ before what it means itself.
func splitWords(line string) (words []string, ok bool) {
	var word []byte
	inWord, quoted := false, false
	for i := 0; i < len(line); i++ {
		switch c := line[i]; {
		case c == '"':
			quoted, inWord = !quoted, true
		case c == '\\' && quoted && i+1 < len(line):
			i++
			word = append(word, line[i])
		case (c == ' ' || c == '\t') && !quoted:
			if inWord {
				words, word, inWord = append(words, string(word)), word[:0], false
			}
		default:
			word, inWord = append(word, c), true
		}
	}
	if inWord {
		words = append(words, string(word))
	}
	return words, !quoted
}

// A saved rule being read.
type savedRule struct {
	*rule
	chain  *chain
	words  []string
	match  string // the last -m
	invert bool
	proto  uint8
}

// parseRule makes a rule of its words. What it does not know becomes a condition that cannot be judged.
func parseRule(c *chain, line string, words []string) *rule {
	s := savedRule{rule: &rule{chain: c}, chain: c, words: words}
	s.rule.words = []word{{text: line}}
	for len(s.words) > 0 {
		w := s.next()
		if w == "!" {
			s.invert = true
			continue
		}
		if !s.option(w) {
			s.do(perhaps("the condition " + strconv.Quote(w) + " is not known"))
			for len(s.words) > 0 && !strings.HasPrefix(s.words[0], "-") && s.words[0] != "!" {
				s.next()
			}
		}
		s.invert = false
	}
	return s.rule
}

func (s *savedRule) next() string {
	if len(s.words) == 0 {
		return ""
	}
	w := s.words[0]
	s.words = s.words[1:]
	return w
}

func (s *savedRule) do(o op) { s.ops = append(s.ops, o) }

// option reads one option with what belongs to it; false if it is not known.
func (s *savedRule) option(name string) bool {
	switch name {
	case "-s", "-d":
		return s.address(name == "-s", s.next())
	case "-i", "-o":
		s.do(interfaceOp(name == "-i", s.next(), s.invert))
	case "-p":
		return s.protocol(s.next())
	case "-f":
		if !s.invert { // only what follows the first fragment, and tracking puts those together
			s.do(func(*walk, *frame) (tri, string) { return no, "" })
		}
	case "-m":
		s.match = s.next()
		if slices.Contains(trackers, s.match) {
			s.chain.track(s.chain.protocol)
		}
		if s.match == "limit" {
			s.do(perhaps("a limit, which may hold or not"))
		} else if !slices.Contains([]string{"tcp", "udp", "comment", "multiport", "state", "conntrack", "set", "addrtype", "mark", "connmark", "iprange", "pkttype", "icmp", "icmp6"}, s.match) {
			s.do(perhaps("the match " + strconv.Quote(s.match) + " is not known"))
		}
	case "--comment", "--limit", "--limit-burst":
		s.next()
	case "--sport", "--dport", "--sports", "--dports", "--ports":
		return s.ports(name, s.next())
	case "--tcp-flags":
		mask, ok := tcpFlagMask(s.next())
		want, ok2 := tcpFlagMask(s.next())
		s.do(flagsMatch(mask, want, s.invert).judge)
		return ok && ok2
	case "--state", "--ctstate":
		return s.states(s.next())
	case "--match-set":
		set := s.next()
		var source []bool
		for d := range strings.SplitSeq(s.next(), ",") {
			source = append(source, d == "src")
		}
		s.do(setMatch(set, source, s.invert).judge)
	case "--src-type", "--dst-type":
		mask := uint16(0)
		for t := range strings.SplitSeq(s.next(), ",") {
			for i := range uint32(16) {
				if strings.EqualFold(routeType(i), t) {
					mask |= 1 << i
				}
			}
		}
		if name == "--src-type" {
			s.do(addrTypeMatch(mask, 0, s.invert, false, false).judge)
		} else {
			s.do(addrTypeMatch(0, mask, false, s.invert, false).judge)
		}
		return mask != 0
	case "--mark":
		value, mask, ok := markAndMask(s.next())
		s.do(markMatch("", value, mask, s.invert, s.match == "connmark").judge)
		return ok
	case "--src-range", "--dst-range":
		return s.addressRange(name == "--src-range", s.next())
	case "--pkt-type":
		s.do(func(invert, unicast bool) op {
			return func(*walk, *frame) (tri, string) { return truth(unicast != invert), "" }
		}(s.invert, s.next() == "unicast"))
	case "-g":
		s.do(s.call(leap, s.next()))
	case "-j":
		s.target(s.next())
	default:
		return false
	}
	return true
}

// address reads a.b.c.d, a.b.c.d/24 or a.b.c.d/255.0.255.0.
func (s *savedRule) address(source bool, word string) bool {
	text, maskText, hasMask := strings.Cut(word, "/")
	a, err := netip.ParseAddr(text)
	if err != nil {
		return false
	}
	with := a.AsSlice()
	mask := make([]byte, len(with))
	bits, err := strconv.Atoi(maskText)
	switch {
	case !hasMask:
		bits = a.BitLen()
		fallthrough
	case err == nil && bits >= 0 && bits <= a.BitLen():
		for i := range mask {
			mask[i] = ^byte(0xff >> min(max(bits-8*i, 0), 8))
		}
	default:
		m, err := netip.ParseAddr(maskText)
		if err != nil || m.BitLen() != a.BitLen() {
			return false
		}
		mask = m.AsSlice()
	}
	invert := s.invert
	s.do(func(w *walk, _ *frame) (tri, string) {
		a := addr{Addr: w.p.Src}
		if !source {
			a = w.dst
		}
		if a.unknown {
			return maybe, unknownValue
		}
		for i, b := range a.AsSlice() {
			if i >= len(mask) || b&mask[i] != with[i]&mask[i] {
				return no.invert(invert), ""
			}
		}
		return yes.invert(invert), ""
	})
	return true
}

// interfaceOp compares the name of an interface; a + at the end stands for any rest.
func interfaceOp(in bool, name string, invert bool) op {
	prefix, any := strings.CutSuffix(name, "+")
	return func(w *walk, _ *frame) (tri, string) {
		have := w.p.In
		if !in {
			have = w.out
			if w.hook != "forward" && w.hook != "postrouting" {
				return truth(any && prefix == "").invert(invert), ""
			}
		}
		switch {
		case have == "" && name == "lo":
			return no.invert(invert), ""
		case have == "" && !(any && prefix == ""):
			return maybe, "the interface is not known"
		}
		return truth(have == name || any && strings.HasPrefix(have, prefix)).invert(invert), ""
	}
}

func (s *savedRule) protocol(name string) bool {
	if name == "all" || name == "0" {
		return true
	}
	n, ok := protocolNumber(name, s.chain.protocol == unix.NFPROTO_IPV6)
	if !ok {
		return false
	}
	if !s.invert {
		s.proto = n
	}
	s.do(func(invert bool) op {
		return func(w *walk, _ *frame) (tri, string) { return truth((w.proto == n) != invert), "" }
	}(s.invert))
	return true
}

func (s *savedRule) ports(option, list string) bool {
	var ranges []portRange
	for text := range strings.SplitSeq(list, ",") {
		first, last, isRange := strings.Cut(text, ":")
		a, err := strconv.ParseUint(first, 10, 16)
		b := a
		if isRange && err == nil {
			b, err = strconv.ParseUint(last, 10, 16)
		}
		if err != nil {
			return false
		}
		ranges = append(ranges, portRange{uint16(a), uint16(b)})
	}
	source := option == "--sport" || option == "--sports" || option == "--ports"
	dest := option == "--dport" || option == "--dports" || option == "--ports"
	s.do(portsMatch(s.proto, option, source, dest, ranges, s.invert).judge)
	return true
}

func tcpFlagMask(list string) (byte, bool) {
	names := map[string]byte{"FIN": tcpFIN, "SYN": tcpSYN, "RST": tcpRST, "PSH": 0x08, "ACK": tcpACK, "URG": 0x20, "NONE": 0, "ALL": 0x3f}
	var mask byte
	for name := range strings.SplitSeq(list, ",") {
		m, ok := names[name]
		if !ok {
			return 0, false
		}
		mask |= m
	}
	return mask, true
}

func (s *savedRule) states(list string) bool {
	bits := map[string]uint32{"INVALID": 1, "ESTABLISHED": 2, "RELATED": 4, "NEW": 8, "UNTRACKED": 0, "SNAT": 1 << 6, "DNAT": 1 << 7}
	var mask, nat uint32
	untracked := false
	for name := range strings.SplitSeq(list, ",") {
		bit, ok := bits[name]
		if !ok {
			return false
		}
		if bit > 8 {
			nat |= bit
		} else {
			mask |= bit
		}
		untracked = untracked || name == "UNTRACKED"
	}
	s.do(stateMatch("", mask, untracked, nat, s.invert).judge)
	return true
}

func markAndMask(word string) (value, mask uint32, ok bool) {
	v, m, masked := strings.Cut(word, "/")
	a, err := strconv.ParseUint(v, 0, 32)
	b := uint64(^uint32(0))
	if masked && err == nil {
		b, err = strconv.ParseUint(m, 0, 32)
	}
	return uint32(a), uint32(b), err == nil
}

// addressRange writes the two ends as struct xt_iprange_mtinfo has them.
func (s *savedRule) addressRange(source bool, word string) bool {
	first, last, ok := strings.Cut(word, "-")
	if !ok {
		last = first
	}
	a, err := netip.ParseAddr(first)
	b, err2 := netip.ParseAddr(last)
	if err != nil || err2 != nil || a.BitLen() != b.BitLen() {
		return false
	}
	info := make(blob, 65)
	at, flag := 0, byte(1)
	if !source {
		at, flag = 32, 2
	}
	copy(info[at:], a.AsSlice())
	copy(info[at+16:], b.AsSlice())
	info[64] = flag
	if s.invert {
		info[64] |= flag << 4
	}
	s.do(rangeMatch(info).judge)
	return true
}

func (s *savedRule) call(kind verdictKind, name string) op {
	v := &verdict{kind: kind, chain: name}
	return func(_ *walk, f *frame) (tri, string) { f.verdict = v; return yes, "" }
}

// target reads the target and its options, which are the rest of the words.
func (s *savedRule) target(name string) {
	options := make(map[string]string)
	for len(s.words) > 0 {
		w := s.next()
		options[w] = ""
		if len(s.words) > 0 && !strings.HasPrefix(s.words[0], "--") {
			options[w] = s.next()
		}
	}
	if slices.Contains(trackers, name) {
		s.chain.track(s.chain.protocol)
	}
	switch name {
	case "ACCEPT":
		s.do(final(accept))
	case "DROP":
		s.do(final(drop))
	case "RETURN":
		s.do(final(back))
	case "QUEUE":
		s.do(final(queue))
	case "MARK":
		if v, m, ok := markAndMask(options["--set-xmark"]); ok {
			s.do(markTarget(v, m).judge)
			return
		}
		s.do(func(_ *walk, f *frame) (tri, string) {
			f.deeds = append(f.deeds, func(w *walk) { w.mark = field{} })
			return yes, ""
		})
	case "CT":
		if _, ok := options["--notrack"]; ok {
			s.do(untrack)
		}
	case "DNAT":
		first, last, p := destination(options["--to-destination"])
		s.do(natCondition(name, first != nil, first, last, p).judge)
	case "REDIRECT":
		var p *port
		if to, ok := options["--to-ports"]; ok {
			p = parsePort(to)
		}
		s.do(natCondition(name, false, nil, nil, p).judge)
	default:
		if !isTarget(name) {
			s.do(s.call(jump, name))
			return
		}
		s.do(decodeTarget(name, 0, nil).judge)
	}
}

// isTarget reports whether a word behind -j is a target's and no chain's. Chains are named in capitals, too; so these
// are the targets that iptables comes with, and where a chain is missing the walk says so.
func isTarget(name string) bool {
	return slices.Contains(aside, name) || slices.Contains([]string{
		"REJECT", "TARPIT", "DELUDE", "NOTRACK", "SNAT", "MASQUERADE", "NFQUEUE", "NETMAP", "TPROXY", "SYNPROXY", "CLUSTERIP", "HMARK", "SNPT", "DNPT",
	}, name)
}

// destination reads 192.0.2.1, 192.0.2.1-192.0.2.9:80, [2001:db8::1]:80 or :80-90.
func destination(word string) (first, last []byte, p *port) {
	addrs, ports := word, ""
	if i := strings.LastIndexByte(word, ':'); i >= 0 && (strings.HasSuffix(word[:i], "]") || strings.Count(word, ":") == 1) {
		addrs, ports = word[:i], word[i+1:]
	}
	if ports != "" {
		p = parsePort(ports)
	}
	if addrs == "" {
		return nil, nil, p
	}
	a, b, ranged := strings.Cut(addrs, "-")
	if !ranged {
		b = a
	}
	from, err := netip.ParseAddr(strings.Trim(a, "[]"))
	to, err2 := netip.ParseAddr(strings.Trim(b, "[]"))
	if err != nil || err2 != nil {
		// Unknown, which two ends that differ are.
		return binary.BigEndian.AppendUint32(nil, 0), binary.BigEndian.AppendUint32(nil, 1), p
	}
	return from.AsSlice(), to.AsSlice(), p
}

// parsePort reads one port; a range gives one that is not known.
func parsePort(s string) *port {
	n, err := strconv.ParseUint(s, 10, 16)
	return &port{number: uint16(n), unknown: err != nil}
}
