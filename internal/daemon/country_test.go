package daemon

import (
	"bytes"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/maxmind/mmdbwriter"
	"github.com/maxmind/mmdbwriter/mmdbtype"

	"bantam"
	"bantam/internal/config"
	"bantam/internal/control"
	"bantam/internal/geo"
	"bantam/internal/jail"
	"bantam/internal/lookup"
	"bantam/library"
)

// atlas is a database of countries by prefix.
func atlas(t testing.TB, countries map[string]string) string {
	t.Helper()
	w, err := mmdbwriter.New(mmdbwriter.Options{DatabaseType: "Test-Country", IncludeReservedNetworks: true})
	if err != nil {
		t.Fatal(err)
	}
	for prefix, code := range countries {
		_, network, err := net.ParseCIDR(prefix)
		if err == nil {
			err = w.Insert(network, mmdbtype.Map{"country": mmdbtype.Map{"iso_code": mmdbtype.String(code)}})
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	var out bytes.Buffer
	if _, err := w.WriteTo(&out); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

// A new rule about countries lifts the bans that it ignores, but not those of addresses that are
// unknown; who is to be ignored is not banned by failures nor, without force, by hand. Bans last as
// long as those of their country.
func TestAReloadAppliesCountries(t *testing.T) {
	d := running(t)
	dir := d.options.Config
	if err := os.WriteFile(filepath.Join(dir, "places.mmdb"), []byte(atlas(t, map[string]string{"198.51.100.0/24": "MY", "203.0.113.0/24": "CN"})), 0o600); err != nil {
		t.Fatal(err)
	}
	do := func(line string) {
		t.Helper()
		if _, err := d.do(t, line); err != nil {
			t.Fatalf("%s: %v", line, err)
		}
	}
	banned := func() string {
		t.Helper()
		bans, err := d.jails.Bans(t.Context(), "j2", bantam.ID{})
		if err != nil {
			t.Fatal(err)
		}
		var left []string
		for _, b := range bans {
			left = append(left, b.ID.String()+" "+b.Country+" "+b.End.Sub(b.Time).Round(time.Second).String())
		}
		slices.Sort(left)
		return strings.Join(left, ", ")
	}
	for _, line := range []string{"set j2 maxretry 1", "set j2 attempt 203.0.113.1", "set j2 attempt 198.51.100.7", "set j2 attempt 192.0.2.1"} {
		do(line)
	}
	awaitBans(t, d, "j2", 3)
	if got, want := banned(), "192.0.2.1  10m0s, 198.51.100.7  10m0s, 203.0.113.1  10m0s"; got != want {
		t.Fatalf("before there is a database banned are %s", got)
	}
	if err := os.WriteFile(filepath.Join(dir, "bantam.conf"), []byte("[Definition]\ngeodb = "+dir+"/places.mmdb\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	rewrite(t, d, "ignoreip = 10.0.0.0/8", "ignoreip = 10.0.0.0/8\nmaxretry = 1\nignorecountry = my\ncountry.unknown = ignore\nbantime.country = cn:1h")
	if _, err := d.Reload(t.Context(), control.None{}); err != nil {
		t.Fatal(err)
	}
	if got, want := banned(), "192.0.2.1  10m0s, 203.0.113.1  10m0s"; got != want {
		t.Errorf("after the reload banned are %s, want %s", got, want)
	}
	for _, line := range []string{"set j2 attempt 198.51.100.8", "set j2 attempt 192.0.2.2", "set j2 attempt 203.0.113.2", "set j2 banip 203.0.113.3", "set j2 banip --force 198.51.100.9"} {
		do(line)
	}
	if _, err := d.do(t, "set j2 banip 198.51.100.10"); err == nil || !strings.Contains(err.Error(), "by country") {
		t.Errorf("a ban by hand of who is ignored: %v", err)
	}
	awaitBans(t, d, "j2", 5)
	if got, want := banned(), "192.0.2.1  10m0s, 198.51.100.9 MY 10m0s, 203.0.113.1  10m0s, 203.0.113.2 CN 1h0m0s, 203.0.113.3 CN 1h0m0s"; got != want {
		t.Errorf("in the end banned are %s, want %s", got, want)
	}
	if lifted, err := d.lift(t.Context(), control.UnbanRequest{Country: "cn"}); err != nil || len(lifted.Bans) != 3 {
		t.Errorf("of a country %d bans are lifted (%v), want 3", len(lifted.Bans), err)
	}
	if got, want := banned(), "192.0.2.1  10m0s, 198.51.100.9 MY 10m0s"; got != want {
		t.Errorf("with one country unbanned, banned are %s, want %s", got, want)
	}
	if _, err := d.lift(t.Context(), control.UnbanRequest{Country: "MY", All: true}); err == nil {
		t.Error("a country and all at once are not refused")
	}
}

// check names databases that cannot be read, and rules that no database can tell anything about.
func TestCheckOfPlaces(t *testing.T) {
	const jail = "[web]\nenabled = true\nfilter =\nlogpath = DIR/web.log\nfailregex = ^ denied <HOST>$\n"
	for _, c := range []struct{ name, options, geodb, want, hint string }{
		{"all is well", "ignorecountry = my", "DIR/good.mmdb", "", ""},
		{"a missing file", "ignorecountry = my", "DIR/good.mmdb DIR/none.mmdb", "none.mmdb: no such file", "every two seconds"},
		{"a damaged file", "", "DIR/bad.mmdb", "bad.mmdb: it is no database, or only a part", "every two seconds"},
		{"networks without a database of networks", "ignoreasn = 1", "DIR/good.mmdb", "jail.local:6: ignoreasn: no file of geodb knows networks", "ASN"},
		{"none at all", "bancountry = my", "", "bancountry: there is no database", "geodb"},
	} {
		good := atlas(t, map[string]string{"198.51.100.0/24": "MY"})
		dir := folder(t, map[string]string{
			"jail.local": jail + c.options, "bantam.conf": "[Definition]\ngeodb = " + c.geodb + "\n",
			"good.mmdb": good, "bad.mmdb": good[:len(good)/2], "web.log": "",
		})
		_, problems, err := Check(dir, library.FS)
		if err != nil {
			t.Fatal(err)
		}
		problems = slices.DeleteFunc(problems, func(p config.Problem) bool {
			return !strings.Contains(p.String()+p.Hint, "mmdb") && !strings.Contains(p.String(), "geodb")
		})
		switch {
		case c.want == "" && len(problems) > 0, c.want != "" && len(problems) != 1:
			t.Errorf("%s: %v", c.name, problems)
		case c.want != "" && (!strings.Contains(problems[0].String(), c.want) || !strings.Contains(problems[0].Hint, c.hint) || !problems[0].Warning):
			t.Errorf("%s: %s, hint %q", c.name, problems[0], problems[0].Hint)
		}
	}
}

func TestJailsThatDecideByCountryWithoutDatabaseAreTold(t *testing.T) {
	for _, c := range []struct {
		name  string
		geodb []string
		want  string
	}{
		{"without", nil, "jail=by-country,jail=by-time"},
		{"with one, even if it is missing", []string{filepath.Join(t.TempDir(), "none.mmdb")}, ""},
	} {
		var log bytes.Buffer
		d := &Daemon{log: slog.New(slog.NewTextHandler(&log, nil)), places: geo.Open(slog.New(slog.DiscardHandler), nil)}
		d.usePlaces(&plan{config: &config.Config{Daemon: config.Daemon{GeoDB: c.geodb}, Jails: []config.Jail{
			{Name: "plain"},
			{Name: "by-country", Lookup: lookup.Config{Where: lookup.Where{BanCountry: []string{"MY"}}}},
			{Name: "by-time", Jail: jail.Config{CountryBanTime: map[string]time.Duration{"CN": time.Hour}}},
		}}})
		var told []string
		for line := range strings.Lines(log.String()) {
			told = append(told, line[strings.LastIndex(line, " ")+1:len(line)-1])
		}
		if got := strings.Join(told, ","); got != c.want {
			t.Errorf("%s: told are %q, want %q", c.name, got, c.want)
		}
	}
}
