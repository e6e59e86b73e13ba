package cli

import (
	"context"
	"fmt"
	"io"
	"runtime"
	"slices"

	"golang.org/x/sync/errgroup"

	"bantam"
	"bantam/internal/filter"
)

// Shorter logs are read before several cores would pay.
const manyBytes = 8 << 20

// onAllCores reports whether the log is worth it and the filters give the same answers when
// lines are judged out of order.
func (r *regexReport) onAllCores(lines *logReader) bool {
	return runtime.GOMAXPROCS(0) > 1 && lines.progress.size >= r.many &&
		!slices.ContainsFunc(r.rules, func(rules *filter.Rules) bool { return !rules.Alone() })
}

// A chunk is some lines on their way from the reader to a worker and on to the report.
type chunk struct {
	text     []byte // of the lines
	ends     []int  // of each line in text
	stamps   []filter.Stamp
	outcomes []filter.Outcome // for each line one of each filter
	tried    chan struct{}    // holds something when the worker is done
}

// A chunk is sent on when it has so many lines or bytes.
const (
	chunkLines = 512
	chunkBytes = 128 << 10
)

// line is the text of line i.
func (c *chunk) line(i int) []byte {
	start := 0
	if i > 0 {
		start = c.ends[i-1]
	}
	return c.text[start:c.ends[i]]
}

// readOnAllCores does what read does, with one goroutine that reads and dates the lines, one a
// core that judges them, and one that books them in their order.
func (r *regexReport) readOnAllCores(ctx context.Context, lines *logReader, isFile bool) error {
	workers := runtime.GOMAXPROCS(0)
	work := make(chan *chunk)
	inOrder := make(chan *chunk, 2*workers) // when it is full the reader waits
	free := make(chan *chunk, 4*workers)    // used ones; what does not fit is let go
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		defer close(work)
		defer close(inOrder)
		for {
			var c *chunk
			select {
			case c = <-free:
			default:
				c = &chunk{tried: make(chan struct{}, 1)}
			}
			err := r.fill(c, lines, isFile)
			if err != nil && err != io.EOF {
				return err
			}
			for _, to := range [...]chan<- *chunk{inOrder, work} {
				select {
				case to <- c:
				case <-ctx.Done():
					return ctx.Err()
				}
			}
			if err == io.EOF {
				return nil
			}
		}
	})
	for range workers {
		g.Go(func() error {
			trial := filter.NewTrial(r.options, r.rules...)
			for c := range work {
				r.try(trial, c)
			}
			return nil
		})
	}
	g.Go(func() error {
		for c := range inOrder {
			select {
			case <-c.tried:
			case <-ctx.Done():
				return ctx.Err()
			}
			line := bantam.Line{Read: r.now}
			for i := range c.ends {
				line.Text = c.line(i)
				for k, run := range r.runs {
					if err := run.line(ctx, &line, &c.outcomes[i*len(r.runs)+k]); err != nil {
						return err
					}
				}
			}
			select {
			case free <- c:
			default:
			}
		}
		return nil
	})
	return g.Wait()
}

// fill reads and dates the next lines; the error is io.EOF with the last of them.
func (r *regexReport) fill(c *chunk, lines *logReader, isFile bool) error {
	c.text, c.ends, c.stamps = c.text[:0], c.ends[:0], c.stamps[:0]
	line := bantam.Line{Read: r.now}
	for len(c.ends) < chunkLines && len(c.text) < chunkBytes {
		text, ended, err := lines.next()
		if err == io.EOF {
			return err
		}
		if err != nil {
			return fmt.Errorf("read the log: %w", err)
		}
		if passedOver(text, ended, isFile) {
			continue
		}
		line.Text = text
		c.stamps = r.trial.Date(&line, c.stamps)
		c.text = append(c.text, text...)
		c.ends = append(c.ends, len(c.text))
	}
	return nil
}

// try judges the lines of a chunk.
func (r *regexReport) try(trial *filter.Trial, c *chunk) {
	c.outcomes = slices.Grow(c.outcomes[:0], len(c.ends)*len(r.runs))
	line := bantam.Line{Read: r.now}
	for i := range c.ends {
		line.Text = c.line(i)
		n := len(c.stamps) / len(c.ends)
		for _, out := range trial.TryDated(&line, c.stamps[i*n:(i+1)*n]) {
			c.outcomes = append(c.outcomes, out.Clone())
		}
	}
	c.tried <- struct{}{}
}
