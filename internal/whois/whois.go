// Package whois asks who answers for an address: by RDAP, by WHOIS where there is no RDAP,
// and by DNS for who takes complaints. What comes back is a stranger's text.
package whois

import (
	"net/netip"
	"time"
)

// An Answer is what is known of the network of an address. All texts are strangers': valid UTF-8
// without control characters but newline, and cut to length.
type Answer struct {
	Network netip.Prefix `json:"network,omitzero"` // the smallest that is registered
	Name    string       `json:"name,omitempty"`   // the network's, as EXAMPLE-NET
	Org     string       `json:"org,omitempty"`    // who holds it
	Country string       `json:"country,omitempty"`
	// Abuse are the mail addresses for complaints, checked to be some, in lower case, sorted.
	Abuse []string `json:"abuse,omitempty"`
	// Text is the answer to show to people, at most 16 KiB.
	Text string `json:"text,omitempty"`
	// Source is who said so: "rdap", "whois".
	Source string    `json:"source,omitempty"`
	At     time.Time `json:"at"` // wall time
}
