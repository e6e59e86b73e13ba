package firewall

import (
	"fmt"
	"maps"
	"net"
	"slices"
	"strconv"
	"strings"
)

// ParseRule reads the parameters of the action `bantam`:
//
//	type      multiport (default) or allports: all traffic, whatever its port
//	port      names, numbers and ranges, comma-separated: "ssh,8000:8010"
//	protocol  tcp (default), udp…, several separated by commas, or all
//
// "0:65535", Fail2Ban's way to say every port, means every port of the protocols.
// name, chain, actname, blocktype, returntype, actionstart_on_demand and actionrepair_on_unban,
// which stock configurations pass along, change nothing; Inverts says when they were to.
func ParseRule(jail string, params map[string]string) (Rule, error) {
	r := Rule{Jail: jail}
	kind, port, protocol := "multiport", "0:65535", "tcp"
	for _, key := range slices.Sorted(maps.Keys(params)) {
		switch value := params[key]; key {
		case "type":
			kind = value
		case "port":
			port = value
		case "protocol":
			protocol = value
		case "name", "chain", "actname", "blocktype", "returntype", "actionstart_on_demand", "actionrepair_on_unban":
		default:
			return r, fmt.Errorf("action bantam has no parameter %q; it has type, port and protocol", key)
		}
	}
	switch kind {
	case "allports":
		return r, nil
	case "multiport":
	default:
		return r, fmt.Errorf("action bantam: type %q is neither multiport nor allports", kind)
	}
	ports := splitList(port)
	if len(ports) == 0 {
		return r, fmt.Errorf("action bantam: port is empty; 0:65535 is every port")
	}
	r.Protocols = splitList(protocol)
	if slices.Contains(r.Protocols, "all") || len(r.Protocols) == 0 {
		r.Protocols = slices.Clone(withPorts)
	}
	for _, p := range r.Protocols {
		if !slices.Contains(withPorts, p) {
			return r, fmt.Errorf("action bantam: protocol %q has no ports; use tcp, udp, sctp, dccp, all, or type=allports", p)
		}
	}
	for _, text := range ports {
		pr, err := parsePorts(r.Protocols[0], text)
		if err != nil {
			return r, err
		}
		if pr == (PortRange{0, 65535}) {
			r.Ports = nil
			return r, nil
		}
		r.Ports = append(r.Ports, pr)
	}
	return r, nil
}

// Inverts reports whether the parameters of the action `bantam` were written to let
// traffic through instead of shutting it out, which it never does: a target of iptables or
// a verdict of nft that accepts what is banned, or drops what is not.
func Inverts(params map[string]string) bool {
	says := func(key string, words ...string) bool {
		for _, word := range strings.Fields(params[key]) {
			if slices.Contains(words, strings.ToLower(word)) {
				return true
			}
		}
		return false
	}
	return says("blocktype", "accept", "return") || says("returntype", "drop", "reject")
}

// withPorts are the protocols whose ports a rule can name.
var withPorts = []string{"tcp", "udp", "sctp", "dccp"}

func splitList(s string) []string {
	return strings.FieldsFunc(s, func(c rune) bool { return c == ',' || c == ' ' || c == '\t' || c == '\n' })
}

// parsePorts reads "ssh", "22", "8000:8010" or "8000-8010".
func parsePorts(protocol, text string) (PortRange, error) {
	first, last, ranged := strings.Cut(text, ":")
	if !ranged && text[0] >= '0' && text[0] <= '9' {
		first, last, ranged = strings.Cut(text, "-")
	}
	var pr PortRange
	var err error
	if pr.First, err = parsePort(protocol, first); err == nil {
		if pr.Last = pr.First; ranged {
			pr.Last, err = parsePort(protocol, last)
		}
	}
	if err != nil {
		return pr, fmt.Errorf("action bantam: port %q: %w", text, err)
	}
	if pr.First > pr.Last {
		return pr, fmt.Errorf("action bantam: port %q: the range ends before it begins", text)
	}
	return pr, nil
}

func parsePort(protocol, text string) (uint16, error) {
	if n, err := strconv.ParseUint(text, 10, 16); err == nil {
		return uint16(n), nil
	}
	if text == "" || text[0] >= '0' && text[0] <= '9' {
		return 0, fmt.Errorf("ports are 0 to 65535")
	}
	if n, ok := services[text]; ok {
		return n, nil
	}
	n, err := net.LookupPort(protocol, text)
	if err != nil {
		return 0, fmt.Errorf("no service has this name; is it in /etc/services?")
	}
	return uint16(n), nil
}

// services are those of IANA's port registry that jails commonly name and that
// a machine without /etc/services would not know.
var services = map[string]uint16{
	"imap": 143, "submission": 587, "submissions": 465, "smtps": 465, "sieve": 4190,
	"pop3": 110, "pop3s": 995, "imaps": 993, "imap3": 220, "smtp": 25, "ssh": 22,
	"http": 80, "https": 443, "ftp": 21, "ftp-data": 20, "ftps": 990, "ftps-data": 989,
	"domain": 53, "mysql": 3306, "postgresql": 5432, "ldap": 389, "ldaps": 636,
	"sip": 5060, "sips": 5061, "xmpp-client": 5222, "nfs": 2049, "socks": 1080,
}
