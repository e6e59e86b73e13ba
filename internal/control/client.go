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
	resp, err := open(ctx, c, e, req)
	if err != nil {
		return reply, err
	}
	defer func() { err = errors.Join(err, resp.Body.Close()) }()
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxReply)).Decode(&reply); err != nil {
		return reply, fmt.Errorf("read the answer from %s: %w", c.socket, err)
	}
	return reply, nil
}

// open asks for e and returns the answer, of which the head was read. Its body is to be closed.
func open[Request, Reply any](ctx context.Context, c *Client, e Endpoint[Request, Reply], req Request) (*http.Response, error) {
	var body io.Reader = http.NoBody
	if _, none := any(req).(None); !none {
		text, err := json.Marshal(req)
		if err != nil {
			return nil, err
		}
		body = bytes.NewReader(text)
	}
	r, err := http.NewRequestWithContext(ctx, e.Method, "http://bantam"+e.Path, body)
	if err != nil {
		return nil, err
	}
	resp, err := c.http.Do(r)
	if err != nil {
		return nil, c.explain(err)
	}
	if resp.StatusCode == http.StatusOK {
		return resp, nil
	}
	refused := &Error{Status: resp.StatusCode}
	if json.NewDecoder(io.LimitReader(resp.Body, maxReply)).Decode(refused) != nil || refused.Text == "" {
		strange := Refuse("the daemon may be of another version than this program: bantam version, bantam ping; a restart makes them the same",
			"%s answered %s to %s", c.socket, resp.Status, e.Path)
		return nil, errors.Join(strange, resp.Body.Close())
	}
	if err := resp.Body.Close(); err != nil {
		return nil, errors.Join(refused, err)
	}
	return nil, refused
}

// An Incoming is a stream of events as it comes in. It is not safe for concurrent use, but for Close.
type Incoming[Event any] struct {
	socket string
	body   io.ReadCloser
	lines  *json.Decoder
}

// Follow asks for the events of e. They come from the moment on in which it returns; ctx ends them.
func Follow[Request, Event any](ctx context.Context, c *Client, e Endpoint[Request, Event], req Request) (*Incoming[Event], error) {
	resp, err := open(ctx, c, e, req)
	if err != nil {
		return nil, err
	}
	return &Incoming[Event]{c.socket, resp.Body, json.NewDecoder(resp.Body)}, nil
}

// Next waits for the next event. io.EOF says that the daemon has ended the stream.
func (i *Incoming[Event]) Next() (event Event, err error) {
	err = i.lines.Decode(&event)
	if err != nil && !errors.Is(err, io.EOF) {
		err = fmt.Errorf("read what comes from %s: %w", i.socket, err)
	}
	return event, err
}

// Close ends the stream.
func (i *Incoming[Event]) Close() error { return i.body.Close() }

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
