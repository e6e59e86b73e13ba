package test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"bantam/internal/action"
	"bantam/internal/config"
	"bantam/internal/firewall"
	"bantam/internal/peertest"
	"bantam/library"
)

// stockJails is Debian's own configuration with a jail for each of the given lines of
// a jail.local, named j0, j1…
func stockJails(t *testing.T, jails ...string) []action.Config {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "fail2ban")
	if err := os.CopyFS(dir, os.DirFS(filepath.Join(peertest.Tree(t), "etc/fail2ban"))); err != nil {
		t.Fatal(err)
	}
	var local strings.Builder
	for i, options := range jails {
		fmt.Fprintf(&local, "[j%d]\nenabled = true\nfilter = sshd\nlogpath = /dev/null\n%s\n", i, options)
	}
	if err := os.WriteFile(filepath.Join(dir, "jail.local"), []byte(local.String()), 0o644); err != nil {
		t.Fatal(err)
	}
	c, err := config.Load(dir, library.FS)
	if err != nil {
		t.Fatal(err)
	}
	out := make([]action.Config, len(jails))
	for _, j := range c.Jails {
		var i int
		if n, _ := fmt.Sscanf(j.Name, "j%d", &i); n != 1 {
			continue
		}
		if j.Err != nil || len(j.Actions) != 1 {
			t.Fatalf("jail %s: %d actions, %v", j.Name, len(j.Actions), j.Err)
		}
		out[i] = j.Actions[0]
	}
	return out
}

// The stock actions, read by our own reader, are those that are carried out natively.
func TestNativeActionsOfStockConfiguration(t *testing.T) {
	const (
		nft   = "nftables: table inet f2b-table, set addr-set-"
		chain = "iptables: chain f2b-"
		set   = "ipset f2b-"
		shell = ""
	)
	tests := []struct{ options, want string }{
		{"banaction = nftables\nport = ssh,8000:8010", nft},
		{"banaction = nftables-multiport\nprotocol = tcp,udp", nft},
		{"banaction = nftables-allports", nft},
		{"banaction = nftables[type=allports, blocktype=drop]", nft},
		{"banaction = iptables\nport = ssh", chain},
		{"banaction = iptables-multiport\nport = ssh,8000:8010", chain},
		{"banaction = iptables-multiport\nchain = FORWARD", chain},
		{"banaction = iptables-allports", chain},
		{"banaction = iptables-new\nport = ssh", chain},
		{"banaction = iptables-ipset\nport = ssh", set},
		{"banaction = iptables-ipset-proto6", set},
		{"banaction = iptables-ipset-proto6[ipsettime=<timeout-bantime>]", set},
		{"banaction = iptables-ipset-proto6-allports", set},
		{"banaction = iptables-multiport-log", shell},
		{"banaction = iptables-ipset-proto4", shell},
		{"banaction = iptables-xt_recent-echo", shell},
		{"banaction = route", shell},
		{"banaction = ufw", shell},
		{"banaction = firewallcmd-ipset", shell},
	}
	jails := make([]string, len(tests))
	for i, tt := range tests {
		jails[i] = tt.options
	}
	for i, c := range stockJails(t, jails...) {
		tt := tests[i]
		t.Run(strings.ReplaceAll(tt.options, "\n", ", "), func(t *testing.T) {
			inet4, inet6 := firewall.Commands(c.Inet4), firewall.Commands(c.Inet6)
			n, err := firewall.Recognize(c.Jail, c.Title, &inet4, &inet6)
			switch {
			case tt.want == shell && !errors.Is(err, firewall.ErrShell):
				t.Errorf("it is native, or the error is not why: %v", err)
			case tt.want != shell && err != nil:
				t.Error(err)
			case tt.want != shell && !strings.HasPrefix(n.Inet4.String(), tt.want+c.Jail):
				t.Errorf("its objects are %q, want %q", n.Inet4, tt.want+c.Jail)
			}
		})
	}
}
