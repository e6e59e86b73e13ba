package daemon

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"bantam/internal/firewall"
	"bantam/library"
)

// planWith is the plan of a jail t with this action line.
func planWith(t *testing.T, action string) *plan {
	t.Helper()
	dir := t.TempDir()
	text := "[DEFAULT]\n[t]\nenabled = true\nlogpath = /dev/null\nfailregex = ^x <HOST>\nfilter =\naction = " + action + "\n"
	if err := os.WriteFile(filepath.Join(dir, "jail.conf"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(dir, "action.d"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "action.d/mine.conf"), []byte("[Definition]\nactionban = :\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	p, err := makePlan(dir, library.FS)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestSeveralActionsBantamOfAJailAreOneRule(t *testing.T) {
	for _, tt := range []struct {
		name, action string
		want         firewall.Rule
		warns        bool
	}{
		{
			"the same ports of two protocols", "bantam[port=5060, name=t-tcp, protocol=tcp]\n bantam[port=5060, name=t-udp, protocol=udp]",
			firewall.Rule{Jail: "t", Protocols: []string{"tcp", "udp"}, Ports: []firewall.PortRange{{First: 5060, Last: 5060}}},
			false,
		},
		{
			"other ports of one protocol", "bantam[port=1]\n bantam[port=2, actname=x]",
			firewall.Rule{Jail: "t", Protocols: []string{"tcp"}, Ports: []firewall.PortRange{{First: 1, Last: 1}, {First: 2, Last: 2}}},
			false,
		},
		{"one of them for everything", "bantam[port=1]\n bantam[type=allports, actname=x]", firewall.Rule{Jail: "t"}, false},
		{"one of them for all ports", "bantam[port=1]\n bantam[actname=x]", firewall.Rule{Jail: "t", Protocols: []string{"tcp"}}, false},
		{
			"other ports of other protocols", "bantam[port=1, protocol=tcp]\n bantam[port=2, protocol=udp, actname=x]",
			firewall.Rule{Jail: "t", Protocols: []string{"tcp", "udp"}, Ports: []firewall.PortRange{{First: 1, Last: 1}, {First: 2, Last: 2}}},
			true,
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := planWith(t, tt.action)
			if len(p.aside) > 0 || len(p.rules) != 2 {
				t.Fatalf("aside are %v, rules are %+v", p.aside, p.rules)
			}
			if diff := cmp.Diff(tt.want, p.rules[0]); diff != "" {
				t.Error(diff)
			}
			warned := false
			for _, problem := range p.problems {
				warned = warned || strings.Contains(problem.Text, "become one") && problem.Warning && problem.Line == 7
			}
			if warned != tt.warns {
				t.Errorf("the problems are %+v", p.problems)
			}
		})
	}
}

func TestJailsThatOnlyObserveRunNoAction(t *testing.T) {
	if p := planWith(t, "mine"); len(p.actions) != 1 {
		t.Errorf("the actions of one that bans are %+v", p.actions)
	}
	if p := planWith(t, "mine\nobserve = yes"); len(p.actions) > 0 {
		t.Errorf("its actions are %+v", p.actions)
	}
}
