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

// Parsers of what people and Google give us, for fuzzing.
var (
	ReasonOf   = reasonOf
	RetryAfter = retryAfter
)

// Pasted is what an answer to a login is taken for.
func Pasted(text, state string) (code string, err error) {
	a := pasted(text, state)
	return a.code, a.err
}

// ReadFiles reads a file as an OAuth2 client and as a token.
func ReadFiles(path string) (client, token error) {
	_, client = readClient(path)
	_, token = readToken(path)
	return client, token
}
