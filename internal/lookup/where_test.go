package lookup

import (
	"bytes"
	"log/slog"
	"net/netip"
	"strings"
	"testing"

	"bantam"
	"bantam/internal/geo"
)

// An atlas knows places by prefix.
type atlas map[string]geo.Place

func (a atlas) Within(p netip.Prefix) (geo.Place, bool) {
	for text, place := range a {
		if in := netip.MustParsePrefix(text); in.Bits() <= p.Bits() && in.Contains(p.Addr()) {
			return place, true
		}
	}
	return geo.Place{}, false
}

var world = atlas{
	"175.136.0.0/16": {Country: "MY", ASN: 4788},
	"46.72.0.0/16":   {Country: "RU", ASN: 12714},
	"1.1.1.0/24":     {ASN: 13335},
	"9.9.0.0/16":     {Country: "CH"},
	"2001:d08::/32":  {Country: "MY", ASN: 9930},
}

func TestByCountryAndNetwork(t *testing.T) {
	const my, ru, cf, swiss, nowhere = "175.136.1.1", "46.72.1.1", "1.1.1.1", "9.9.9.9", "198.51.100.1"
	for _, c := range []struct {
		name  string
		where Where
		want  map[string]string // by address: which rule exempts it, "" for none
	}{
		{"no rule", Where{IgnoreUnknown: true}, map[string]string{my: "", ru: "", nowhere: ""}},
		{
			"a country is ignored",
			Where{IgnoreCountry: []string{"SG", "MY"}},
			map[string]string{my: ByCountry, "2001:d08::7": ByCountry, "175.136.0.0/24": ByCountry, "175.0.0.0/8": "", ru: "", nowhere: "", cf: "", "root": ""},
		},
		{
			"and who is unknown",
			Where{IgnoreCountry: []string{"MY"}, IgnoreUnknown: true},
			map[string]string{my: ByCountry, ru: "", nowhere: ByUnknown, cf: ByUnknown, "10.0.0.1": ByUnknown},
		},
		{
			"only one country counts",
			Where{BanCountry: []string{"RU"}},
			map[string]string{my: ByCountry, ru: "", nowhere: "", cf: ""},
		},
		{
			"and nobody who is unknown",
			Where{BanCountry: []string{"RU"}, IgnoreUnknown: true},
			map[string]string{my: ByCountry, ru: "", nowhere: ByUnknown},
		},
		{
			"a network is ignored",
			Where{IgnoreASN: []uint32{13335}},
			map[string]string{cf: ByASN, my: "", swiss: "", nowhere: ""},
		},
		{
			"only one network counts",
			Where{BanASN: []uint32{4788}, IgnoreUnknown: true},
			map[string]string{my: "", ru: ByASN, swiss: ByUnknown},
		},
		{
			"to be ignored wins",
			Where{BanCountry: []string{"MY", "RU"}, IgnoreASN: []uint32{4788}, IgnoreCountry: []string{"RU"}},
			map[string]string{my: ByASN, ru: ByCountry},
		},
		{
			"a country or a network counts",
			Where{BanCountry: []string{"RU"}, BanASN: []uint32{4788}},
			map[string]string{my: "", ru: "", "2001:d08::7": ByCountry, cf: "", swiss: ""},
		},
		{
			"of which one is unknown",
			Where{BanCountry: []string{"RU"}, BanASN: []uint32{13335}, IgnoreUnknown: true},
			map[string]string{cf: "", swiss: ByUnknown, my: ByCountry},
		},
	} {
		r, err := Compile(Config{Jail: "j", Where: c.where, IgnoreIP: []string{"46.72.7.0/24"}})
		if err != nil {
			t.Fatal(err)
		}
		l := New(slog.New(slog.DiscardHandler), &answers{})
		l.UsePlaces(world)
		l.Configure(r)
		for addr, want := range c.want {
			if by, is := l.Ignored(t.Context(), "j", id(addr)); by != want || is != (want != "") {
				t.Errorf("%s: %s is ignored by %q, want %q", c.name, addr, by, want)
			}
		}
		if by, _ := l.Ignored(t.Context(), "j", id("46.72.7.7")); by != ByIP {
			t.Errorf("%s: an address of ignoreip is ignored by %q", c.name, by)
		}
	}
}

func TestWithoutPlacesAllAreUnknown(t *testing.T) {
	l := newLookup(t, &answers{},
		Config{Jail: "bans", Where: Where{IgnoreCountry: []string{"MY"}}},
		Config{Jail: "ignores", Where: Where{BanCountry: []string{"RU"}, IgnoreUnknown: true}})
	for jail, want := range map[string]string{"bans": "", "ignores": ByUnknown} {
		if by, _ := l.Ignored(t.Context(), jail, id("175.136.1.1")); by != want {
			t.Errorf("%s: %q, want %q", jail, by, want)
		}
	}
}

func TestWrongPlacesAreRefused(t *testing.T) {
	for name, w := range map[string]Where{
		"a name":         {IgnoreCountry: []string{"Malaysia"}},
		"a small letter": {BanCountry: []string{"my"}},
		"network 0":      {BanASN: []uint32{1, 0}},
	} {
		if _, err := Compile(Config{Jail: "j", Where: w}); err == nil {
			t.Errorf("%s is taken", name)
		}
	}
}

// A failure that passes bears its country; one that is ignored passes as nobody's, and the log
// says by what, and from where it came.
func TestFailuresBearTheirCountry(t *testing.T) {
	var log bytes.Buffer
	r, err := Compile(Config{Jail: "j", Where: Where{IgnoreCountry: []string{"MY"}}})
	if err != nil {
		t.Fatal(err)
	}
	l := New(slog.New(slog.NewTextHandler(&log, nil)), &answers{})
	l.UsePlaces(world)
	l.Configure(r)
	in, out := make(chan bantam.Failure, 8), make(chan bantam.Failure, 8)
	for _, addr := range []string{"46.72.1.1", "175.136.1.1", "198.51.100.1"} {
		in <- bantam.Failure{Jail: "j", ID: id(addr)}
	}
	in <- bantam.Failure{Jail: "j", ID: id("175.136.1.2"), Known: true}
	close(in)
	l.Run(in, out)
	var got []string
	for f := range out {
		got = append(got, f.ID.String()+" "+f.Country)
	}
	if text := strings.Join(got, ", "); text != "46.72.1.1 RU,  MY, 198.51.100.1 ,  MY" {
		t.Errorf("what passes is %q", text)
	}
	if text := log.String(); strings.Count(text, "msg=ignored") != 1 || !strings.Contains(text, "addr=175.136.1.1 by=country country=MY") {
		t.Errorf("the log says %s", text)
	}
}

func BenchmarkIgnoredByCountry(b *testing.B) {
	r, err := Compile(Config{Jail: "j", Where: Where{IgnoreCountry: []string{"MY", "SG"}}})
	if err != nil {
		b.Fatal(err)
	}
	l := New(slog.New(slog.DiscardHandler), &answers{})
	l.UsePlaces(atlas{})
	l.Configure(r)
	who := id("46.72.1.1")
	b.ReportAllocs()
	for b.Loop() {
		l.Ignored(b.Context(), "j", who)
	}
}
