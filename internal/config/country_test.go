package config

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"bantam/internal/jail"
	"bantam/internal/lookup"
)

// placed is a configuration whose jail has some options and whose program has a database.
func placed(t *testing.T, options string) *Config {
	t.Helper()
	return load(t, "-- jail.conf --\n[j]\nenabled = true\nlogpath = /v/x.log\nfailregex = ^x <HOST>\naction = bantam\n"+options+
		"\n-- bantam.conf --\n[Definition]\ngeodb = /g/c.mmdb\n")
}

func TestCountriesAndNetworks(t *testing.T) {
	for _, c := range []struct {
		name, options string
		want          lookup.Where
		times         map[string]time.Duration
	}{
		{"nothing", "", lookup.Where{}, nil},
		{"two lines of a guide", "ignorecountry = my", lookup.Where{IgnoreCountry: []string{"MY"}}, nil},
		{"any case, commas, blanks, lines, twice", "ignorecountry = my SG,De\n  mY ,at", lookup.Where{IgnoreCountry: []string{"MY", "SG", "DE", "AT"}}, nil},
		{"comments behind", "bancountry = my # own people\n ru # others\nignoreasn = 13335 #cf", lookup.Where{BanCountry: []string{"MY", "RU"}, IgnoreASN: []uint32{13335}}, nil},
		{"networks", "banasn = AS13335, 4788 as4788", lookup.Where{BanASN: []uint32{13335, 4788}}, nil},
		{"the unknown", "bancountry = ru\ncountry.unknown = Ignore # for now", lookup.Where{BanCountry: []string{"RU"}, IgnoreUnknown: true}, nil},
		{"the unknown as ever", "country.unknown = ban", lookup.Where{}, nil},
		{
			"times", "bantime.country = cn:1w, ru:36h us:-1 de:604800 # a week",
			lookup.Where{},
			map[string]time.Duration{"CN": 168 * time.Hour, "RU": 36 * time.Hour, "US": -time.Second, "DE": 168 * time.Hour},
		},
		{"empty takes it away", "ignorecountry =\nbantime.country =", lookup.Where{}, nil},
	} {
		cfg := placed(t, c.options)
		j := cfg.Jails[0]
		if j.Err != nil || len(cfg.Problems) > 0 {
			t.Errorf("%s: %v, %v", c.name, j.Err, cfg.Problems)
		}
		if !reflect.DeepEqual(j.Lookup.Where, c.want) || !reflect.DeepEqual(j.Jail.CountryBanTime, c.times) {
			t.Errorf("%s: %+v and %v", c.name, j.Lookup.Where, j.Jail.CountryBanTime)
		}
	}
}

func TestWrongCountriesAndNetworks(t *testing.T) {
	for _, c := range []struct {
		name, options, problem, hint string
		works                        bool // it is only a warning
	}{
		{"a name", "ignorecountry = malaysia", `jail.conf:6: ignorecountry: "malaysia" is not the code`, "my sg de", false},
		{"a digit", "bancountry = a1", `bancountry: "a1" is not the code`, "ISO 3166", false},
		{"a code of no country", "ignorecountry = uk", `no country has the code "uk"`, "gb", true},
		{"another", "ignorecountry = my\n xx", `no country has the code "xx"`, "ISO 3166", true},
		{"a network by name", "ignoreasn = cloudflare", `ignoreasn: "cloudflare" is not the number`, "AS13335", false},
		{"a number that is too large", "banasn = 4294967296", "not the number of a network", "AS13335", false},
		{"no number", "banasn = AS0", "not the number of a network", "AS13335", false},
		{"another word for the unknown", "country.unknown = allow", `"allow" is neither ban nor ignore`, "ban counts", false},
		{"a time without country", "bantime.country = 1w", `"1w" is not COUNTRY:TIME`, "cn:1w", false},
		{"a time with blanks", "bantime.country = cn:1d 12h", `"12h" is not COUNTRY:TIME`, "without blanks", false},
		{"a wrong unit", "bantime.country = cn:5x", `unknown unit "x"`, "-1 bans for ever", false},
		{"no time", "bantime.country = cn:", "the time is empty", "-1 bans for ever", false},
		{"zero", "bantime.country = cn:0", "longer than zero", "-1 bans for ever", false},
		{"two times", "bantime.country = cn:1w CN:2w", `"CN" has two times`, "once", false},
		{"a formula that fails for it", "bantime.increment = yes\nbantime.formula = 1/(ban.Time-3600)\nbantime.country = cn:1h", "bantime.formula", "", false},
	} {
		cfg := placed(t, c.options)
		if len(cfg.Problems) != 1 {
			t.Errorf("%s: the problems are %v", c.name, cfg.Problems)
			continue
		}
		p := cfg.Problems[0]
		if !strings.Contains(p.String(), c.problem) || !strings.Contains(p.Hint, c.hint) || p.Warning != c.works || (cfg.Jails[0].Err == nil) != c.works {
			t.Errorf("%s: %s, hint %q, warning %v, %v", c.name, p, p.Hint, p.Warning, cfg.Jails[0].Err)
		}
	}
}

func TestDatabasesOfPlaces(t *testing.T) {
	c := load(t, "-- jail.conf --\n[DEFAULT]\n-- bantam.conf --\n[Definition]\ngeodb = /g/a.mmdb, /g/b.mmdb # cities\n  /g//a.mmdb\n  c.mmdb\n")
	if got := c.Daemon.GeoDB; !reflect.DeepEqual(got, []string{"/g/a.mmdb", "/g/b.mmdb"}) {
		t.Errorf("the files are %q", got)
	}
	if len(c.Problems) != 1 || !strings.Contains(c.Problems[0].String(), `"c.mmdb" is not absolute`) {
		t.Errorf("the problems are %v", c.Problems)
	}
}

// Options that need a database are named where there is none: once for a jail, and once for all jails
// that inherit them.
func TestCountriesWithoutDatabase(t *testing.T) {
	old := usualPlaces
	defer func() { usualPlaces = old }()
	dir := t.TempDir()
	usualPlaces = []string{dir + "/none", dir}
	found := filepath.Join(dir, "x-Country.mmdb")
	if err := os.WriteFile(found, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	const jail = "enabled = true\nlogpath = /v/x.log\nfailregex = ^x <HOST>\naction = bantam\n"
	c := load(t, "-- jail.conf --\n[DEFAULT]\nbancountry =\nbantime.country = cn:1w\n[a]\n"+jail+"[b]\n"+jail+"[c]\n"+jail+"ignorecountry = my\n")
	var got []string
	for _, p := range c.Problems {
		if !p.Warning || !strings.Contains(p.Hint, "geodb = "+found+" under") {
			t.Errorf("%s: warning %v, hint %q", p, p.Warning, p.Hint)
		}
		got = append(got, p.Key+" of "+p.Jail)
	}
	if want := []string{"bantime.country of ", "ignorecountry of c"}; !reflect.DeepEqual(got, want) {
		t.Errorf("named are %q, want %q", got, want)
	}
}

// An action that has an option of its own with the name of a tag means that one.
func TestOptionsOfActionsWinOverTags(t *testing.T) {
	for name, c := range map[string]struct{ action, init, want string }{
		"the tag":        {"a", "", "echo <country> <asn>"},
		"in the file":    {"a", "[Init]\ncountry = here\n", "echo here <asn>"},
		"as a parameter": {"a[asn=mine]", "", "echo <country> mine"},
	} {
		cfg := load(t, "-- jail.conf --\n[j]\nenabled = true\nlogpath = /v/x.log\nfailregex = ^x <HOST>\naction = "+c.action+
			"\n-- action.d/a.conf --\n[Definition]\nactionban = echo <country> <asn>\n"+c.init)
		if got := cfg.Jails[0].Actions[0].Inet4.Ban; got != c.want {
			t.Errorf("%s: the command is %q, want %q", name, got, c.want)
		}
	}
}

// Whatever stands behind these options, what is read of them can be obeyed, or sets the jail aside.
func FuzzCountries(f *testing.F) {
	for _, seed := range [][3]string{{"my sg", "AS13335 4788", "cn:1w ru:-1"}, {"my # own", "0", "cn:1d 12h"}, {"uk,xx", "as", "::"}, {"", "", "de:1*2,de:3"}} {
		f.Add(seed[0], seed[1], seed[2])
	}
	f.Fuzz(func(t *testing.T, countries, networks, times string) {
		if len(countries)+len(networks)+len(times) > 1<<12 {
			return
		}
		value := func(text string) *Value { return &Value{Text: strings.ReplaceAll(text, "%", "%%")} }
		s := &set{sections: map[string]*section{"j": {opts: map[string]*Value{
			"ignorecountry": value(countries), "bancountry": value(countries), "ignoreasn": value(networks), "banasn": value(networks),
			"country.unknown": value(countries), "bantime.country": value(times),
		}}}, defaults: &section{opts: map[string]*Value{}}}
		r := &jailReader{jail: &Jail{Name: "j"}, scope: &scope{set: s, section: "j"}}
		r.where()
		c := jail.DefaultConfig("j")
		c.CountryBanTime = r.banTimes()
		if r.jail.Err != nil {
			return
		}
		if _, err := lookup.Compile(r.jail.Lookup); err != nil {
			t.Errorf("%q %q: %v", countries, networks, err)
		}
		if err := c.Validate(); err != nil {
			t.Errorf("%q: %v", times, err)
		}
	})
}
