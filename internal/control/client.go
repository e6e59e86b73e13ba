package control

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"sync"
	"syscall"
)

// maxReply is the largest answer a client takes, in bytes: some million bans.
const maxReply = 1 << 30

// A Client asks the daemon behind a socket. It is safe for concurrent use.
type Client struct {
	socket string
	http   *http.Client
}

// NewClient makes a client of the daemon that listens on socket.
func NewClient(socket string) *Client {
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", socket)
	}
	return &Client{socket: socket, http: &http.Client{Transport: &http.Transport{DialContext: dial, DisableKeepAlives: true}}}
}

// ErrNotRunning is wrapped by Call's error if nobody answers on the socket.
var ErrNotRunning = errors.New("no Bantam is running here")

// Call asks for e and waits for the answer. What the daemon refuses comes as *Error.
func Call[Request, Reply any](ctx context.Context, c *Client, e Endpoint[Request, Reply], req Request) (reply Reply, err error) {
	var body io.Reader = http.NoBody
	if _, none := any(req).(None); !none {
		text, err := json.Marshal(req)
		if err != nil {
			return reply, err
		}
		body = bytes.NewReader(text)
	}
	r, err := http.NewRequestWithContext(ctx, e.Method, "http://bantam"+e.Path, body)
	if err != nil {
		return reply, err
	}
	resp, err := c.http.Do(r)
	if err != nil {
		return reply, c.explain(err)
	}
	defer func() { err = errors.Join(err, resp.Body.Close()) }()
	d := json.NewDecoder(io.LimitReader(resp.Body, maxReply))
	if resp.StatusCode != http.StatusOK {
		refused := &Error{Status: resp.StatusCode}
		if d.Decode(refused) != nil || refused.Text == "" {
			return reply, fmt.Errorf("%s answered %s", c.socket, resp.Status)
		}
		return reply, refused
	}
	if err := d.Decode(&reply); err != nil {
		return reply, fmt.Errorf("read the answer from %s: %w", c.socket, err)
	}
	return reply, nil
}

// explain says what a failed connection means to a person.
func (c *Client) explain(err error) error {
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ECONNREFUSED):
		return fmt.Errorf("%w: nobody answers on %s", ErrNotRunning, c.socket)
	case errors.Is(err, fs.ErrPermission):
		return &Error{Text: fmt.Sprintf("%s is not open to you", c.socket), Hint: "use sudo, or let a group read with apigroup in bantam.conf"}
	}
	return fmt.Errorf("ask %s: %w", c.socket, err)
}

// slotted gives its slot back when it is closed.
type slotted struct {
	net.Conn
	once sync.Once
	free func()
}

func (s *slotted) Close() error {
	defer s.once.Do(s.free)
	return s.Conn.Close()
}
