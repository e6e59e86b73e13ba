package control

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"iter"
	"net/http"
	"time"
)

// Stream is the media type of answers that are one JSON value a line, and go on.
const Stream = "application/jsonl"

// HandleStream answers a request with values as they come. f begins: what comes from then on is among the values
// that it returns, some at a time, until ctx ends, for the client is gone or the server stops. Who does not read for
// as long as a client may take is cut off; f's values are not read on then.
func HandleStream[Request, Event any](s *Server, e Endpoint[Request, Event], f func(context.Context, Request) (iter.Seq[[]Event], error)) {
	s.mux.HandleFunc(e.Method+" "+e.Path, func(w http.ResponseWriter, r *http.Request) {
		var req Request
		if !s.admit(w, r, e.Reads, &req) {
			return
		}
		c := http.NewResponseController(w)
		// The client says nothing more, however long it listens; a connection that is gone says so at the write.
		_ = c.SetReadDeadline(time.Time{})
		ctx, cancel := context.WithCancel(r.Context())
		defer cancel()
		events, err := f(ctx, req)
		_ = c.SetWriteDeadline(time.Now().Add(s.patience))
		if err != nil {
			s.fail(w, err)
			return
		}
		w.Header().Set("Content-Type", Stream)
		w.WriteHeader(http.StatusOK)
		lines := bufio.NewWriter(w)
		out := json.NewEncoder(lines)
		if c.Flush() != nil {
			return
		}
		for some := range events {
			_ = c.SetWriteDeadline(time.Now().Add(s.patience))
			var errs []error
			for i := range some {
				errs = append(errs, out.Encode(&some[i]))
			}
			if errors.Join(append(errs, lines.Flush(), c.Flush())...) != nil {
				return
			}
		}
	})
}
