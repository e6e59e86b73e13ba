package config

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"bantam/internal/source"
)

// backendJail is a jail with that backend.
func backendJail(t *testing.T, backend string) (Jail, *Config) {
	t.Helper()
	c := load(t, "-- jail.conf --\n[t]\nenabled = true\nbackend = "+backend+"\nlogpath = -\nfailregex = ^x <HOST>$\n")
	return jailOf(t, c, "t"), c
}

func TestBackends(t *testing.T) {
	for _, c := range []struct {
		name, text string
		want       source.Config
	}{
		{
			"syslog by UDP and TCP, from two networks", `syslog[listen="udp:127.0.0.1:5140 tcp:[::1]:5140", from="192.0.2.0/24, 2001:db8::5"]`,
			source.Config{
				Backend: source.Syslog, Listen: []string{"udp:127.0.0.1:5140", "tcp:[::1]:5140"},
				From: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24"), netip.MustParsePrefix("2001:db8::5/128")},
			},
		},
		{"syslog without quotes", `syslog[listen=udp:127.0.0.1:5140]`, source.Config{Backend: source.Syslog, Listen: []string{"udp:127.0.0.1:5140"}}},
		{"syslog at a socket", `syslog[listen=unix:/run/log, mode=0660]`, source.Config{Backend: source.Syslog, Listen: []string{"unix:/run/log"}, Mode: 0o660}},
		{"a command", `command[run="podman logs --follow web, too"]`, source.Config{Backend: source.Command, Command: "podman logs --follow web, too"}},
		{"containers' logs", `AUTO[envelope=CRI]`, source.Config{Backend: source.Auto, Envelope: source.CRI, Paths: []source.Path{{Pattern: "-"}}}},
	} {
		j, _ := backendJail(t, c.text)
		if j.Err != nil {
			t.Errorf("%s: %v", c.name, j.Err)
			continue
		}
		c.want.Jail = "t"
		if diff := cmp.Diff(c.want, j.Source, cmpopts.IgnoreFields(source.Config{}, "FindTime"), cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })); diff != "" {
			t.Errorf("%s (-want +got):\n%s", c.name, diff)
		}
	}
}

func TestWrongBackends(t *testing.T) {
	for _, c := range []struct{ name, text, want string }{
		{"no address", "syslog", "a syslog needs an address to listen at"},
		{"no protocol", "syslog[listen=127.0.0.1:514]", `listen at "127.0.0.1:514": want udp:ADDRESS:PORT, tcp:ADDRESS:PORT or unix:/PATH`},
		{"a name for an address", "syslog[listen=udp:localhost:514]", `"localhost" is no address`},
		{"a path that is not absolute", "syslog[listen=unix:log]", "want unix:/PATH"},
		{"a sender who is none", `syslog[listen=udp:127.0.0.1:514, from="me"]`, `"me" is neither an address nor a prefix`},
		{"a mode that is none", "syslog[listen=unix:/l, mode=rw]", `"rw" is none: write 0660`},
		{"nothing to run", "command", "there is no command to run"},
		{"an envelope nobody knows", "polling[envelope=box]", `"box" is none: use auto, docker, cri or none`},
	} {
		if j, _ := backendJail(t, c.text); j.Err == nil || !strings.Contains(j.Err.Error(), c.want) {
			t.Errorf("%s: %v, want %s", c.name, j.Err, c.want)
		}
	}
}

func TestBackendWarnings(t *testing.T) {
	for _, c := range []struct{ name, text, want string }{
		{"messages that none may send", "syslog[listen=udp:0.0.0.0:514]", "it listens to the network and takes messages of this machine only"},
		{"a parameter of another back end", "command[run=true, listen=x]", "hint: it takes run"},
	} {
		if j, conf := backendJail(t, c.text); j.Err != nil || !strings.Contains(problemsOf(conf), c.want) {
			t.Errorf("%s: %v, the report is\n%swant %s", c.name, j.Err, problemsOf(conf), c.want)
		}
	}
	if _, conf := backendJail(t, "syslog[listen=udp:127.0.0.1:514]"); strings.Contains(problemsOf(conf), "listens to the network") {
		t.Errorf("an address of this machine is taken for the network's:\n%s", problemsOf(conf))
	}
}
