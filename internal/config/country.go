package config

import (
	"errors"
	"fmt"
	"math"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"bantam/internal/geo"
)

// listed are the words of an option that is Bantam's own: separated by blanks, commas or new
// lines, perhaps with a comment behind each line, as people write it and as no word could be.
func listed(text string) (words []string) {
	for line := range strings.Lines(text) {
		line, _, _ = strings.Cut(line, "#")
		words = append(words, fields(line)...)
	}
	return words
}

// where reads whose failures count by country and network.
func (r *jailReader) where() {
	w := &r.jail.Lookup.Where
	w.IgnoreCountry, w.BanCountry = r.countries("ignorecountry"), r.countries("bancountry")
	w.IgnoreASN, w.BanASN = r.networks("ignoreasn"), r.networks("banasn")
	v, text := r.get("country.unknown")
	if v == nil {
		return
	}
	switch word := strings.Join(listed(strings.ToLower(text)), " "); word {
	case "ignore":
		w.IgnoreUnknown = true
	case "ban", "":
	default:
		r.fail(problemAt(v, fmt.Sprintf("%s is neither ban nor ignore", quote(word)), "ban counts failures from where nobody knows as if there was no rule, ignore does not count them"))
	}
}

func (r *jailReader) countries(key string) (codes []string) {
	v, text := r.get(key)
	if v == nil {
		return nil
	}
	for _, word := range listed(text) {
		code, ok := r.country(v, word)
		if !ok {
			return nil
		}
		if !slices.Contains(codes, code) {
			codes = append(codes, code)
		}
	}
	return codes
}

// country reads the code of a country.
func (r *jailReader) country(v *Value, word string) (code string, ok bool) {
	code, err := geo.ParseCountry(word)
	if err != nil {
		r.fail(problemAt(v, err.Error(), "write the codes of ISO 3166 with blanks between them: my sg de"))
		return "", false
	}
	if !geo.Assigned(code) {
		hint := "no database knows it; write the codes of ISO 3166, as my sg de"
		if code == "UK" {
			hint = "the United Kingdom is gb"
		}
		r.warn(problemAt(v, fmt.Sprintf("no country has the code %s", quote(word)), hint))
	}
	return code, true
}

func (r *jailReader) networks(key string) (numbers []uint32) {
	v, text := r.get(key)
	if v == nil {
		return nil
	}
	for _, word := range listed(text) {
		n, err := geo.ParseASN(word)
		if err != nil {
			r.fail(problemAt(v, err.Error(), "write the numbers of networks with blanks between them: AS13335 4788"))
			return nil
		}
		if !slices.Contains(numbers, n) {
			numbers = append(numbers, n)
		}
	}
	return numbers
}

// banTimes reads how long bans last by country.
func (r *jailReader) banTimes() (out map[string]time.Duration) {
	v, text := r.get("bantime.country")
	if v == nil {
		return nil
	}
	for _, word := range listed(text) {
		country, length, ok := strings.Cut(word, ":")
		if !ok {
			r.fail(problemAt(v, fmt.Sprintf("%s is not COUNTRY:TIME", quote(word)), "write cn:1w ru:36h, without blanks inside"))
			return nil
		}
		code, ok := r.country(v, country)
		if !ok {
			return nil
		}
		var d time.Duration
		f, err := seconds(length)
		if err == nil {
			d, err = banTime(f)
		}
		switch _, twice := out[code]; {
		case err != nil:
			r.fail(problemAt(v, quote(word)+": "+err.Error(), unitHint+"; -1 bans for ever"))
			return nil
		case twice:
			r.fail(problemAt(v, fmt.Sprintf("%s has two times", quote(country)), "write each country once"))
			return nil
		case out == nil:
			out = map[string]time.Duration{}
		}
		out[code] = d
	}
	return out
}

// banTime is how long a ban of some seconds lasts; negative is for ever.
func banTime(f float64) (time.Duration, error) {
	f = math.Trunc(f)
	d, fits := duration(f)
	switch {
	case f == -1, f > 0 && !fits:
		return -time.Second, nil
	case f <= 0:
		return 0, errors.New("a ban must last longer than zero")
	}
	return d, nil
}

// geodb reads which files know where addresses are.
func (r *daemonReader) geodb() (paths []string) {
	for _, path := range listed(r.text("geodb")) {
		if !filepath.IsAbs(path) {
			r.problem("geodb", fmt.Sprintf("the path %s is not absolute", quote(path)), "write it as /usr/share/GeoIP/GeoLite2-Country.mmdb")
			continue
		}
		if path = filepath.Clean(path); !slices.Contains(paths, path) {
			paths = append(paths, path)
		}
	}
	return paths
}

// usualPlaces are where programs that fetch databases put them.
var usualPlaces = []string{"/usr/share/GeoIP", "/var/lib/GeoIP", "/usr/local/share/GeoIP"}

// placeless warns of options that nothing can be decided by, for want of a database.
func (c *Config) placeless() []Problem {
	if len(c.Daemon.GeoDB) > 0 {
		return nil
	}
	hint := "write geodb = /PATH/GeoLite2-Country.mmdb under [Definition] of bantam.conf"
	for _, dir := range usualPlaces {
		if found, _ := filepath.Glob(filepath.Join(dir, "*.mmdb")); len(found) > 0 { // the pattern is well formed
			hint = "write geodb = " + printable(strings.Join(found[:min(len(found), 4)], " ")) + " under [Definition] of bantam.conf"
			break
		}
	}
	var out []Problem
	for _, j := range c.Jails {
		for _, key := range []string{"ignorecountry", "bancountry", "ignoreasn", "banasn", "bantime.country"} {
			v, ok := c.Value(j.Name, key)
			if !ok || len(listed(v.Text)) == 0 || j.Err != nil {
				continue
			}
			p := problemAt(&v, "there is no database of countries and networks: geodb is not set, and all addresses are unknown", hint)
			p.Jail, p.Warning = j.Name, true
			out = append(out, *p)
			break
		}
	}
	return out
}
