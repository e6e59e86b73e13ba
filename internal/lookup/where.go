package lookup

import (
	"fmt"
	"log/slog"
	"net/netip"
	"slices"

	"bantam"
	"bantam/internal/geo"
)

// Places knows where addresses are; geo.Databases do.
type Places interface {
	// Within is what holds for every address of a prefix; ok is false if nothing is known. It
	// answers at once.
	Within(netip.Prefix) (p geo.Place, ok bool)
}

// Where says by country and network whose failures count. Its zero value has no rule.
//
// Who is of a country or network to be ignored is ignored, whatever the others say. If there are some to
// be banned, who is of none of them is ignored, too. Of somebody about whom too little is
// known to tell, Unknown decides.
type Where struct {
	// IgnoreCountry and BanCountry are codes as in geo.Place.
	IgnoreCountry, BanCountry []string
	IgnoreASN, BanASN         []uint32
	// IgnoreUnknown ignores those about whom the rules cannot tell; without it they count as if there
	// was no rule.
	IgnoreUnknown bool
}

// where are the checked rules.
type where struct {
	Where
	any bool // there is a rule
}

func (w Where) compile() (where, error) {
	for _, code := range slices.Concat(w.IgnoreCountry, w.BanCountry) {
		if upper, err := geo.ParseCountry(code); err != nil || upper != code {
			return where{}, fmt.Errorf("%q is not the code of a country in capitals", code)
		}
	}
	if slices.Contains(w.IgnoreASN, 0) || slices.Contains(w.BanASN, 0) {
		return where{}, fmt.Errorf("0 is not the number of a network")
	}
	return where{w, len(w.IgnoreCountry)+len(w.BanCountry)+len(w.IgnoreASN)+len(w.BanASN) > 0}, nil
}

// judge is which rule exempts who is at a place, if any does; there is one to ask.
func (w *where) judge(p geo.Place) (by string) {
	switch {
	case p.Country != "" && slices.Contains(w.IgnoreCountry, p.Country):
		return ByCountry
	case p.ASN != 0 && slices.Contains(w.IgnoreASN, p.ASN):
		return ByASN
	case p.Country != "" && slices.Contains(w.BanCountry, p.Country), p.ASN != 0 && slices.Contains(w.BanASN, p.ASN):
		return "" // what the other lists would say if more was known does not matter here
	}
	byCountry, byASN := len(w.BanCountry) > 0, len(w.BanASN) > 0
	country, asn := byCountry || len(w.IgnoreCountry) > 0, byASN || len(w.IgnoreASN) > 0
	switch {
	case country && p.Country == "" || asn && p.ASN == 0:
		if w.IgnoreUnknown {
			return ByUnknown
		}
		return ""
	case byCountry:
		return ByCountry
	case byASN:
		return ByASN
	}
	return ""
}

// place is what is known of a prefix.
func (l *Lookup) place(p netip.Prefix) (at geo.Place) {
	if l.places != nil {
		at, _ = l.places.Within(p)
	}
	return at
}

// Country is the country that all of an ID is in, "" if that is not known.
func (l *Lookup) Country(id bantam.ID) string {
	p, ok := id.Prefix()
	if !ok {
		return ""
	}
	return l.place(p).Country
}

// Tell logs that a failure does not count, by the source of its exemption.
func Tell(log *slog.Logger, f *bantam.Failure, by string) {
	facts := []any{"jail", f.Jail, "addr", f.ID, "by", by}
	if f.Country != "" {
		facts = append(facts, "country", f.Country)
	}
	log.Info("ignored", facts...)
}
