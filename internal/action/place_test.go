package action

import (
	"context"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"bantam"
	"bantam/internal/geo"
	"bantam/internal/whois"
)

// malaysia knows everything of one address.
var malaysia = World{
	Log: quiet(),
	Place: func(a netip.Addr) geo.Place {
		if a != netip.MustParseAddr("175.136.1.1") && a != netip.MustParseAddr("2001:d08::") {
			return geo.Place{}
		}
		return geo.Place{Country: "MY", CountryName: "Malaysia", City: "Kuala Lumpur", ASN: 4788, ASOrg: "TM; $(reboot)"}
	},
	Whois: func(_ context.Context, a netip.Addr) (whois.Answer, error) {
		if !a.Is4() {
			return whois.Answer{}, errors.New("no answer")
		}
		return whois.Answer{Network: netip.MustParsePrefix("175.136.0.0/13")}, nil
	},
	Contacts: func(_ context.Context, a netip.Addr) ([]string, error) {
		return []string{"abuse@tm.example", "noc@tm.example"}, nil
	},
}

func TestTagsOfPlaces(t *testing.T) {
	nobody := World{Log: quiet()}
	for _, c := range []struct {
		name, id string
		world    *World
		change   func(*bantam.Ban)
		want     string // of country, country-name, city, asn, as-org, network, abuse-contact
	}{
		{"all is known", "175.136.1.1", &malaysia, nil, "MY|Malaysia|Kuala Lumpur|AS4788|TM; $(reboot)|175.136.0.0/13|abuse@tm.example,noc@tm.example"},
		{"a prefix is where its first address is", "2001:d08::/64", &malaysia, nil, "MY|Malaysia|Kuala Lumpur|AS4788|TM; $(reboot)|unknown|abuse@tm.example,noc@tm.example"},
		{"nothing is known", "192.0.2.1", &nobody, nil, "unknown|unknown|unknown|unknown|unknown|unknown|"},
		{"but the country that decided", "192.0.2.1", &nobody, func(b *bantam.Ban) { b.Country = "CN" }, "CN|unknown|unknown|unknown|unknown|unknown|"},
		{"a text is nowhere", "root", &malaysia, nil, "unknown|unknown|unknown|unknown|unknown|unknown|"},
		{"the address beside a text is", "root", &malaysia, func(b *bantam.Ban) { b.Data = map[string]string{"ip": "175.136.1.1"} }, "MY|Malaysia|Kuala Lumpur|AS4788|TM; $(reboot)|175.136.0.0/13|abuse@tm.example,noc@tm.example"},
	} {
		d := about(bantam.Start, c.id)
		if c.change != nil {
			c.change(&d.Ban)
		}
		value := c.world.Values(t.Context(), &d)
		var got []string
		for _, tag := range []string{"country", "country-name", "city", "asn", "as-org", "network", "abuse-contact"} {
			v, ok := value(tag)
			if !ok {
				t.Errorf("%s: <%s> is no tag", c.name, tag)
			}
			got = append(got, v)
		}
		if text := strings.Join(got, "|"); text != c.want {
			t.Errorf("%s: %s\nwant %s", c.name, text, c.want)
		}
	}
}

func TestValuesAreThoseOfCommands(t *testing.T) {
	d := about(bantam.Restore, "192.0.2.1", func(b *bantam.Ban) {
		b.User, b.Data = "root", map[string]string{"x": "y"}
	})
	value := (&World{Log: quiet()}).Values(t.Context(), &d)
	for tag, want := range map[string]string{"ip": "192.0.2.1", "jail.name": "sshd", "failures": "5", "F-USER": "root", "F-X": "y", "restored": "1", "family": "inet4"} {
		if got, ok := value(tag); got != want || !ok {
			t.Errorf("<%s> is %q, %v, want %q", tag, got, ok, want)
		}
	}
	if got, ok := value("nonsense"); ok {
		t.Errorf("<nonsense> is %q", got)
	}
}

// What a registry or a database says is run no more than what a log line says.
func TestTagsOfPlacesInAShell(t *testing.T) {
	b := newBench(t, Config{Any: Commands{Ban: `printf '%s|' "<country>" "<as-org>" <asn> "<abuse-contact>" >DIR/got`}})
	b.world.Place, b.world.Contacts = malaysia.Place, func(context.Context, netip.Addr) ([]string, error) {
		return []string{"a@b.example`touch " + b.dir + "/pwned`"}, nil
	}
	b.must(about(bantam.Start, "175.136.1.1"))
	got, err := os.ReadFile(filepath.Join(b.dir, "got"))
	if want := "MY|TM; $(reboot)|AS4788|a@b.example`touch " + b.dir + "/pwned`|"; err != nil || string(got) != want {
		t.Errorf("the command has %q, %v, want %q", got, err, want)
	}
	if _, err := os.Stat(filepath.Join(b.dir, "pwned")); err == nil {
		t.Error("it was run")
	}
}

// A registry is asked only for a command that wants to know, and for ten seconds at most.
func TestRegistriesAreAskedOnlyWhenNeeded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		questions := 0
		hangs := func(ctx context.Context) error {
			questions++
			<-ctx.Done()
			return ctx.Err()
		}
		w := &World{
			Log:      quiet(),
			Whois:    func(ctx context.Context, _ netip.Addr) (whois.Answer, error) { return whois.Answer{}, hangs(ctx) },
			Contacts: func(ctx context.Context, _ netip.Addr) ([]string, error) { return nil, hangs(ctx) },
		}
		d := about(bantam.Start, "192.0.2.1")
		value := w.Values(t.Context(), &d)
		for _, tag := range keys {
			if tag == "ip-host" {
				continue // the name server is asked, and nobody else
			}
			if _, ok := value(tag); !ok {
				t.Errorf("<%s> is no tag", tag)
			}
		}
		if questions != 0 {
			t.Errorf("what a Python class may copy asks %d times", questions)
		}
		for _, tag := range remote {
			begun := time.Now()
			if v, _ := value(tag); v != "" && v != unknown {
				t.Errorf("<%s> is %q", tag, v)
			}
			if took := time.Since(begun); took != askAbout {
				t.Errorf("<%s> takes %s", tag, took)
			}
		}
	})
}

// A command with the new tags is found to be sound before it runs.
func TestAnIgnoreCommandMayUsePlaces(t *testing.T) {
	if err := CheckCommand(t.Context(), `test <country> = MY || grep -q <abuse-contact> /dev/null`); err != nil {
		t.Error(err)
	}
	got, err := malaysia.Ignores(t.Context(), `test <country> = MY`, &bantam.Failure{Jail: "sshd", ID: bantam.AddrID(netip.MustParseAddr("175.136.1.1"))})
	if err != nil || !got {
		t.Errorf("it says %v, %v", got, err)
	}
}

func TestKnowsTag(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel() // nobody is to be asked for names
	value := (&World{Log: quiet()}).Values(ctx, &bantam.Decision{Ban: bantam.Ban{Jail: "sshd", ID: bantam.TextID("x")}})
	for _, name := range append(Tags(), "F-USER", "F-ANY_THING") {
		if _, ok := value(name); !ok && name != "br" && name != "sp" {
			t.Errorf("<%s> has no value", name)
		}
		if !KnowsTag(name) {
			t.Errorf("<%s> is not known", name)
		}
	}
	for _, name := range []string{"IP", "BOT_TOKEN", "F-", "F-user", ""} {
		if _, ok := value(name); ok || KnowsTag(name) {
			t.Errorf("<%s> is known", name)
		}
	}
}
