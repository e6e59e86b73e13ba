package whois

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"time"
)

// maxRecords is how many TXT records of one answer are looked at.
const maxRecords = 100

// askDNS looks up the contacts of an address. An answer that has none, as an empty record, is no answer.
func (c *Client) askDNS(ctx context.Context, addr netip.Addr) (Answer, error) {
	ctx, cancel := context.WithTimeout(ctx, maxQuestion)
	defer cancel()
	name := reversed(addr) + "." + c.zone
	records, err := c.resolver.LookupTXT(ctx, name)
	var failed *net.DNSError
	switch {
	case errors.As(err, &failed) && failed.IsNotFound:
		return Answer{}, fmt.Errorf("look up %s: %w", name, ErrUnknown)
	case err != nil:
		return Answer{}, fmt.Errorf("look up %s: %w", name, err)
	}
	contacts := addContacts(nil, records[:min(len(records), maxRecords)]...)
	if len(contacts) == 0 {
		return Answer{}, fmt.Errorf("look up %s: %d records without a mail address: %w", name, len(records), ErrUnknown)
	}
	return Answer{Abuse: sorted(contacts), Source: DNS, At: time.Now()}, nil
}

// reversed is an address as reverse DNS writes it, without the zone: octets (RFC 1035 3.5) or nibbles (RFC 3596 2.5).
func reversed(addr netip.Addr) string {
	bytes := addr.AsSlice()
	var labels []string
	for i := len(bytes) - 1; i >= 0; i-- {
		if addr.Is4() {
			labels = append(labels, strconv.Itoa(int(bytes[i])))
			continue
		}
		for _, nibble := range [2]byte{bytes[i] & 15, bytes[i] >> 4} {
			labels = append(labels, strconv.FormatUint(uint64(nibble), 16))
		}
	}
	return strings.Join(labels, ".")
}
