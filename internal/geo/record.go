package geo

import (
	"fmt"
	"strconv"
	"strings"
	"unicode"

	"github.com/oschwald/maxminddb-golang/v2"
)

// decode makes a place of a record. There are two shapes: MaxMind's own, with maps of names by
// language (dev.maxmind.com/geoip/docs/databases), and the flat ones of those who offer the format
// for their own data. The reader bounds what a record may hold.
func decode(r maxminddb.Result) (p Place, err error) {
	var record any
	if err := r.Decode(&record); err != nil {
		return p, err
	}
	m, ok := record.(map[string]any)
	if !ok {
		return p, nil
	}
	country := field(m, "country")
	p.Country = code(first(country["iso_code"], m["country_code"], m["country"]))
	if p.Country != "" {
		p.CountryName = text(first(names(country), m["country_name"], long(m["country"])))
		p.City = text(first(names(field(m, "city")), m["city"], m["city_name"]))
	}
	traits := field(m, "traits")
	p.ASN = number(first(m["autonomous_system_number"], m["asn"], m["as_number"], traits["autonomous_system_number"]))
	if p.ASN != 0 {
		p.ASOrg = text(first(m["autonomous_system_organization"], m["as_org"], m["as_name"], m["as_organization"],
			traits["autonomous_system_organization"], m["org"]))
	}
	return p, nil
}

func field(m map[string]any, key string) map[string]any {
	f, _ := m[key].(map[string]any)
	return f
}

// names is the English name of a country or city.
func names(m map[string]any) any { return field(m, "names")["en"] }

// long is a country that is written as its name.
func long(v any) any {
	if s, ok := v.(string); ok && len(s) > 2 {
		return s
	}
	return nil
}

// first is the first of some values that is a text or a number.
func first(values ...any) any {
	for _, v := range values {
		switch v := v.(type) {
		case nil, map[string]any, []any:
		case string:
			if v != "" {
				return v
			}
		default:
			return v
		}
	}
	return nil
}

// text makes a text of a database one that may be shown anywhere.
func text(v any) string {
	const most = 100
	s, _ := v.(string)
	s = strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) || r == unicode.ReplacementChar {
			return -1
		}
		return r
	}, s)
	s = strings.TrimSpace(s)
	if r := []rune(s); len(r) > most {
		s = string(r[:most])
	}
	return s
}

// code is a country's code, "" for what is none. ZZ is how some say that they do not know.
func code(v any) string {
	s, _ := v.(string)
	c, err := ParseCountry(s)
	if err != nil || c == "ZZ" {
		return ""
	}
	return c
}

// number is the number of a network, 0 for what is none.
func number(v any) uint32 {
	n, err := ParseASN(fmt.Sprint(v))
	if err != nil {
		return 0
	}
	return n
}

// ParseCountry reads the code of a country, two letters of either case, as ISO 3166-1 alpha-2
// has them. It need not be assigned: see Assigned.
func ParseCountry(s string) (string, error) {
	if len(s) != 2 || !letter(s[0]) || !letter(s[1]) {
		return "", fmt.Errorf("%.40q is not the code of a country, which has two letters", s)
	}
	return strings.ToUpper(s), nil
}

func letter(c byte) bool { return c|0x20 >= 'a' && c|0x20 <= 'z' }

// ParseASN reads the number of a network, with or without AS before it: AS13335, 13335.
func ParseASN(s string) (uint32, error) {
	digits := s
	if len(s) > 2 && strings.EqualFold(s[:2], "AS") {
		digits = s[2:]
	}
	n, err := strconv.ParseUint(digits, 10, 32)
	if err != nil || n == 0 {
		return 0, fmt.Errorf("%.40q is not the number of a network, as in AS13335", s)
	}
	return uint32(n), nil
}

// assigned are the codes of ISO 3166-1 alpha-2, and those of its user-assigned and reserved ones that
// databases use: AP and EU, for networks of a whole region, and XK, for Kosovo.
const assigned = "AD AE AF AG AI AL AM AO AP AQ AR AS AT AU AW AX AZ BA BB BD BE BF BG BH BI BJ BL BM BN BO BQ BR BS BT BV BW BY BZ " +
	"CA CC CD CF CG CH CI CK CL CM CN CO CR CU CV CW CX CY CZ DE DJ DK DM DO DZ EC EE EG EH ER ES ET EU FI FJ FK FM FO FR " +
	"GA GB GD GE GF GG GH GI GL GM GN GP GQ GR GS GT GU GW GY HK HM HN HR HT HU ID IE IL IM IN IO IQ IR IS IT JE JM JO JP " +
	"KE KG KH KI KM KN KP KR KW KY KZ LA LB LC LI LK LR LS LT LU LV LY MA MC MD ME MF MG MH MK ML MM MN MO MP MQ MR MS MT MU MV MW MX MY MZ " +
	"NA NC NE NF NG NI NL NO NP NR NU NZ OM PA PE PF PG PH PK PL PM PN PR PS PT PW PY QA RE RO RS RU RW " +
	"SA SB SC SD SE SG SH SI SJ SK SL SM SN SO SR SS ST SV SX SY SZ TC TD TF TG TH TJ TK TL TM TN TO TR TT TV TW TZ " +
	"UA UG UM US UY UZ VA VC VE VG VI VN VU WF WS XK YE YT ZA ZM ZW"

// Assigned reports whether a code in capitals is some country's, so that a database may know it.
func Assigned(code string) bool {
	return len(code) == 2 && code[0] != ' ' && code[1] != ' ' && strings.Contains(assigned, code)
}
