package jail

import (
	"testing"
	"time"

	"bantam"
)

// A country's bantime is the jail's for who is from there, and grows as that does.
func TestBansByCountry(t *testing.T) {
	s := newState(growing(func(c *Config) {
		c.CountryBanTime = map[string]time.Duration{"CN": time.Hour, "RU": -time.Second}
	}))
	now := epoch
	for _, c := range []struct {
		name, addr, country string
		want                []time.Duration // of one ban after the other; negative for ever
	}{
		{"another country", "192.0.2.1", "MY", []time.Duration{10 * time.Minute, 20 * time.Minute}},
		{"an unknown one", "192.0.2.2", "", []time.Duration{10 * time.Minute}},
		{"longer, and then twice as long", "192.0.2.3", "CN", []time.Duration{time.Hour, 2 * time.Hour, 4 * time.Hour}},
		{"for ever", "192.0.2.4", "RU", []time.Duration{-1}},
	} {
		for n, want := range c.want {
			f := fail(id(t, c.addr), 0)
			f.Time, f.Read, f.Country = now, now, c.country
			d, ok := s.Fail(f)
			if !ok || d.Kind != bantam.Start || d.Ban.Country != c.country {
				t.Fatalf("%s: failure %d decides %+v, %v", c.name, n, d, ok)
			}
			if d.Ban.Permanent() != (want < 0) || want > 0 && d.Ban.End.Sub(d.Ban.Time) != want {
				t.Errorf("%s: ban %d lasts until %s from %s", c.name, n, d.Ban.End, d.Ban.Time)
			}
			now = now.Add(5 * time.Hour)
			s.Expire(now)
		}
	}
}

// Bans that no failure made are of the country that is handed in for them.
func TestBansByHandAndFromBefore(t *testing.T) {
	s := newState(func(c *Config) { c.CountryBanTime = map[string]time.Duration{"CN": 3 * time.Hour} })
	china := id(t, "192.0.2.0/24")
	s.UseCountries(func(who bantam.ID) string {
		if china.Contains(who) {
			return "CN"
		}
		return ""
	})
	for _, c := range []struct {
		name, addr string
		length     time.Duration
		want       time.Duration
	}{
		{"the country's", "192.0.2.1", 0, 3 * time.Hour},
		{"what was asked for", "192.0.2.2", time.Minute, time.Minute},
		{"the jail's", "198.51.100.1", 0, time.Hour},
	} {
		d, ok, err := s.Ban("sshd", id(t, c.addr), c.length, bantam.ByOperator, "", epoch)
		if err != nil || !ok || d.Ban.End.Sub(epoch) != c.want {
			t.Errorf("%s: the ban ends at %s, %v, %v", c.name, d.Ban.End, ok, err)
		}
	}
	restored := restoreAll(s, []bantam.Ban{{Jail: "sshd", ID: id(t, "192.0.2.9"), Time: epoch, End: epoch.Add(time.Hour)}}, epoch)
	if len(restored) != 1 || restored[0].Ban.Country != "CN" {
		t.Errorf("restored is %+v", restored)
	}
}

func TestWrongBanTimesOfCountries(t *testing.T) {
	for name, change := range map[string]func(*Config){
		"zero":           func(c *Config) { c.CountryBanTime = map[string]time.Duration{"CN": 0} },
		"one that grows": func(c *Config) { growing(func(c *Config) { c.Increment.Formula = formula(t, "1/(ban.Time-3600)") })(c) },
	} {
		c := DefaultConfig("sshd")
		change(&c)
		if name == "one that grows" {
			if err := c.Validate(); err != nil {
				t.Fatalf("without a country: %v", err)
			}
			c.CountryBanTime = map[string]time.Duration{"CN": time.Hour}
		}
		if err := c.Validate(); err == nil {
			t.Errorf("%s is taken", name)
		}
	}
}
