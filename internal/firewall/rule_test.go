package firewall

import (
	"reflect"
	"strings"
	"testing"
)

func TestParseRule(t *testing.T) {
	ports := func(pairs ...uint16) (out []PortRange) {
		for i := 0; i < len(pairs); i += 2 {
			out = append(out, PortRange{pairs[i], pairs[i+1]})
		}
		return out
	}
	for _, c := range []struct {
		name   string
		params map[string]string
		want   Rule
		err    string
	}{
		{"nothing said is every port of tcp", nil, Rule{Protocols: []string{"tcp"}}, ""},
		{
			"what stock configurations pass along",
			map[string]string{"name": "sshd", "chain": "INPUT", "port": "ssh", "protocol": "tcp"},
			Rule{Protocols: []string{"tcp"}, Ports: ports(22, 22)},
			"",
		},
		{
			"names, numbers and ranges",
			map[string]string{"port": "http,https, 8000:8010 9000-9001", "protocol": "tcp,udp"},
			Rule{Protocols: []string{"tcp", "udp"}, Ports: ports(80, 80, 443, 443, 8000, 8010, 9000, 9001)},
			"",
		},
		{
			"names that only the registry has",
			map[string]string{"port": "imap,submission,sieve"},
			Rule{Protocols: []string{"tcp"}, Ports: ports(143, 143, 587, 587, 4190, 4190)},
			"",
		},
		{"every port in Fail2Ban's words", map[string]string{"port": "0:65535"}, Rule{Protocols: []string{"tcp"}}, ""},
		{
			"every protocol that has ports",
			map[string]string{"port": "53", "protocol": "all"},
			Rule{Protocols: []string{"tcp", "udp", "sctp", "dccp"}, Ports: ports(53, 53)},
			"",
		},
		{"all traffic", map[string]string{"type": "allports", "port": "ssh", "protocol": "tcp"}, Rule{}, ""},
		{"a name nobody knows", map[string]string{"port": "shh"}, Rule{}, `port "shh": no service has this name`},
		{"a number that is none", map[string]string{"port": "70000"}, Rule{}, "ports are 0 to 65535"},
		{"a range that ends before it begins", map[string]string{"port": "90:80"}, Rule{}, "ends before it begins"},
		{"no port", map[string]string{"port": " , "}, Rule{}, "port is empty"},
		{"a protocol without ports", map[string]string{"protocol": "icmp"}, Rule{}, `protocol "icmp" has no ports`},
		{"an unknown type", map[string]string{"type": "all"}, Rule{}, `type "all" is neither`},
		{"two unknown parameters: the first by name", map[string]string{"prot": "22", "z": "", "pory": "1", "port": "shh"}, Rule{}, `no parameter "pory"`},
		{
			"what is about other firewalls",
			map[string]string{"port": "21", "blocktype": "RETURN", "returntype": "DROP", "actionrepair_on_unban": "true"},
			Rule{Protocols: []string{"tcp"}, Ports: ports(21, 21)},
			"",
		},
		{"an unknown parameter", map[string]string{"prot": "22"}, Rule{}, `no parameter "prot"`},
	} {
		got, err := ParseRule("sshd", c.params)
		if c.err != "" {
			if err == nil || !strings.Contains(err.Error(), c.err) {
				t.Errorf("%s: %v", c.name, err)
			}
			continue
		}
		c.want.Jail = "sshd"
		if err != nil || !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s: %+v, %v, want %+v", c.name, got, err, c.want)
		}
	}
}

// Whatever is written as ports and protocol, a rule that is read is one the back
// end accepts.
func FuzzParseRule(f *testing.F) {
	f.Add("ssh,8000:8010", "tcp,udp", "")
	f.Add("0-65535", "all", "multiport")
	f.Add("-1", "", "allports")
	f.Fuzz(func(t *testing.T, port, protocol, kind string) {
		r, err := ParseRule("sshd", map[string]string{"port": port, "protocol": protocol, "type": kind})
		if err != nil {
			return
		}
		if err := checkRules([]Rule{r}); err != nil {
			t.Fatalf("%+v is read, but %v", r, err)
		}
	})
}

func TestWhatWasWrittenToLetInIsSeen(t *testing.T) {
	for _, c := range []struct {
		blocktype, returntype string
		want                  bool
	}{
		{"", "", false},
		{"REJECT --reject-with icmp-port-unreachable", "RETURN", false},
		{"reject", "accept", false},
		{"RETURN", "DROP", true},
		{"ACCEPT", "", true},
		{"counter accept", "", true},
		{"", "reject with tcp reset", true},
	} {
		if got := Inverts(map[string]string{"blocktype": c.blocktype, "returntype": c.returntype}); got != c.want {
			t.Errorf("blocktype %q, returntype %q: %v", c.blocktype, c.returntype, got)
		}
	}
}
