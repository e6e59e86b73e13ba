package store

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"bantam"
)

// A reader that leaves in the middle of a query takes nothing with it: not the connection, on which all statements were
// prepared, and so no files that stay open, and no panic at the end.
func TestReadersThatLeaveCostNothing(t *testing.T) {
	file := path(t)
	s, err := Open(t.Context(), slog.New(slog.DiscardHandler), file)
	if err != nil {
		t.Fatal(err)
	}
	open := func() (n int) {
		files, err := filepath.Glob("/proc/self/fd/*")
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range files {
			if to, err := os.Readlink(f); err == nil && strings.HasPrefix(to, file) {
				n++
			}
		}
		return n
	}
	left := 0
	for i := range 400 {
		ctx, leave := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() {
			defer close(done)
			for range i % 50 {
				runtime.Gosched()
			}
			leave()
		}()
		if _, err := s.Past(ctx, PastQuery{Limit: 300}); err != nil {
			left++
		}
		<-done
		do(s, bantam.Decision{Kind: bantam.Start, Ban: ban(i), At: now, Seq: uint64(i + 1)})
	}
	if left == 0 {
		t.Error("no reader left in time")
	}
	if n := open(); n > 3 {
		t.Errorf("%d of the database's files are open", n)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if n := open(); n > 0 {
		t.Errorf("%d of the database's files stay open", n)
	}
}
