package smtp

import (
	"context"
	"net"
	"net/http"
)

// SetDial has a relay reach its server by another way than the network.
func SetDial(t Transport, dial func(ctx context.Context, network, address string) (net.Conn, error)) {
	t.(*relay).dial = dial
}

// SetDialHTTP does so for Gmail's API.
func SetDialHTTP(t Transport, dial func(ctx context.Context, network, address string) (net.Conn, error)) {
	t.(*api).http.Transport.(*http.Transport).DialTLSContext = dial
}
