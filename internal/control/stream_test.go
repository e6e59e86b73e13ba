package control

import (
	"context"
	"errors"
	"io"
	"iter"
	"net"
	"strings"
	"testing"
	"time"
)

func TestEventsComeAsTheyHappen(t *testing.T) {
	events := make(chan []Event)
	socket := serve(t, func(s *Server) {
		HandleStream(s, Watch, func(ctx context.Context, r WatchRequest) (iter.Seq[[]Event], error) {
			if r.Jail == "nope" {
				return nil, Refuse("the way on", "there is no jail nope")
			}
			return func(yield func([]Event) bool) {
				for some := range events {
					if !yield(some) {
						return
					}
				}
			}, nil
		})
	})
	c := NewClient(socket)
	var refused *Error
	if _, err := Follow(t.Context(), c, Watch, WatchRequest{Jail: "nope"}); !errors.As(err, &refused) || refused.Hint != "the way on" {
		t.Errorf("a refusal arrives as %v", err)
	}
	in, err := Follow(t.Context(), c, Watch, WatchRequest{})
	if err != nil {
		t.Fatal(err)
	}
	events <- []Event{{Kind: EventBan, Jail: "a\x00b"}, {Kind: EventUnban}}
	for _, want := range []string{EventBan, EventUnban} {
		if e, err := in.Next(); err != nil || e.Kind != want {
			t.Fatalf("%+v, %v, want %s", e, err, want)
		}
	}
	close(events)
	if _, err := in.Next(); !errors.Is(err, io.EOF) {
		t.Errorf("the end is %v", err)
	}
	if err := in.Close(); err != nil {
		t.Error(err)
	}
	if _, err := Follow(t.Context(), NewClient(socket+"x"), Watch, WatchRequest{}); !errors.Is(err, ErrNotRunning) {
		t.Errorf("where nobody answers: %v", err)
	}
}

// The server writes to whoever listens for longer than a request may take, and cuts off who does not read.
func TestWhoDoesNotReadIsCutOff(t *testing.T) {
	cut := make(chan struct{})
	socket := serve(t, func(s *Server) {
		s.patience = 50 * time.Millisecond
		HandleStream(s, Watch, func(ctx context.Context, _ WatchRequest) (iter.Seq[[]Event], error) {
			return func(yield func([]Event) bool) {
				defer close(cut)
				big := []Event{{Kind: EventBan, Text: strings.Repeat("x", 1<<20)}}
				for ctx.Err() == nil && yield(big) {
				}
			}, nil
		})
	})
	conn, err := net.Dial("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := conn.Write([]byte("POST /v1/watch HTTP/1.1\r\nHost: x\r\n\r\n")); err != nil {
		t.Fatal(err)
	}
	select {
	case <-cut:
	case <-time.After(20 * time.Second):
		t.Fatal("who reads nothing is still written to")
	}
}

// A client that only listens is not cut off because it says nothing.
func TestWhoListensLongIsNotCutOff(t *testing.T) {
	events := make(chan Event)
	socket := serve(t, func(s *Server) {
		s.patience = 50 * time.Millisecond
		HandleStream(s, Watch, func(ctx context.Context, _ WatchRequest) (iter.Seq[[]Event], error) {
			return func(yield func([]Event) bool) {
				for {
					select {
					case e, ok := <-events:
						if !ok || !yield([]Event{e}) {
							return
						}
					case <-ctx.Done():
						return
					}
				}
			}, nil
		})
	})
	in, err := Follow(t.Context(), NewClient(socket), Watch, WatchRequest{})
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	// Others that say nothing are cut off meanwhile, one after the other.
	for range 3 {
		conn, err := net.Dial("unix", socket)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := conn.Write([]byte("POST /v1/watch HTTP/1.1\r\n")); err != nil {
			t.Fatal(err)
		}
		if _, err := io.Copy(io.Discard, conn); err != nil {
			t.Error(err)
		}
		if err := conn.Close(); err != nil {
			t.Error(err)
		}
	}
	go func() { events <- Event{Kind: EventBan}; close(events) }()
	if e, err := in.Next(); err != nil || e.Kind != EventBan {
		t.Fatalf("%+v, %v", e, err)
	}
	if _, err := in.Next(); !errors.Is(err, io.EOF) {
		t.Error(err)
	}
}
