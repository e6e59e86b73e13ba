// Package geo says where an address is: country, city and network, out of MaxMind DB files
// (maxmind.github.io/MaxMind-DB) that the administrator has put somewhere. No network is asked.
package geo

// A Place is what the databases know of an address. What they do not know is zero.
type Place struct {
	Country     string `json:"country,omitempty"`      // ISO 3166-1 alpha-2, in capitals
	CountryName string `json:"country_name,omitempty"` // in English
	City        string `json:"city,omitempty"`         // in English
	ASN         uint32 `json:"asn,omitempty"`
	ASOrg       string `json:"as_org,omitempty"`
}
