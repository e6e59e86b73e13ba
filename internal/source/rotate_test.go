package source

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// TestRandomRotation writes, rotates and truncates at random and holds that every
// line comes once and in its order. Before a truncation it waits until what was
// written has been seen, as nobody can read what is gone; copies are made before some.
func TestRandomRotation(t *testing.T) {
	const rounds, steps = 6, 60
	both(t, func(t *testing.T, backend string) {
		for round := range rounds {
			seed := uint64(time.Now().UnixNano()) + uint64(round)
			rng := rand.New(rand.NewPCG(seed, 0))
			dir := t.TempDir()
			path := filepath.Join(dir, "app.log")
			b := newBench(t)
			b.configure(one("sshd", path, backend))
			b.run()
			var want []string
			pending := ""
			line := func() string {
				n := rng.IntN(80)
				if rng.IntN(20) == 0 {
					n = rng.IntN(MaxLine - 40)
				}
				l := fmt.Sprintf("%d-%d ", len(want), rng.Uint32()) + strings.Repeat("x", n)
				want = append(want, l)
				return l + "\n"
			}
			flush := func() {
				write(t, path, pending)
				pending = ""
			}
			rotation := 0
			var did []string
			// All lines were seen, in their order.
			compare := func() {
				t.Helper()
				var got []seenLine
				b.until("the last line", func() bool { got = b.lines[path]; return len(got) >= len(want) })
				short := func(s string) string { return fmt.Sprintf("%.16s(%d)", s, len(s)) }
				for i, l := range got {
					if i < len(want) && l.text == want[i] {
						continue
					}
					var have, need []string
					for j := max(0, i-3); j < min(len(got), i+6); j++ {
						have = append(have, short(got[j].text))
					}
					for j := max(0, i-3); j < min(len(want), i+6); j++ {
						need = append(need, short(want[j]))
					}
					t.Fatalf("seed %d: from line %d on\n%q, want\n%q\nafter %q\nlog:\n%s", seed, max(0, i-3), have, need, did, b.logged())
				}
			}
			// What is rotated away before anybody looked at it is not missed.
			write(t, path, line())
			compare()
			for range steps {
				op := rng.IntN(10)
				did = append(did, [...]string{"rename", "rename", "truncate", "truncate", "delete", "half", "write", "write", "write", "write"}[op])
				switch op {
				case 0, 1: // rename, and a new file at once or with the next write
					flush()
					rotation++
					must(t, os.Rename(path, fmt.Sprintf("%s.%d", path, 1000-rotation)))
					if rng.IntN(2) == 0 {
						write(t, path, "")
					}
				case 2, 3: // copytruncate; now and then with a line that only the copy has
					flush()
					compare()
					if rng.IntN(2) == 0 {
						rotation++
						aside := path + ".new"
						copyFile(t, path, aside)
						if fi, err := os.Stat(aside); err == nil && fi.Size() > 0 && rng.IntN(2) == 0 {
							write(t, aside, line())
						}
						must(t, os.Rename(aside, fmt.Sprintf("%s.%d", path, 1000-rotation)))
					}
					overwrite(t, path, line())
				case 4: // deleted, when all was seen
					flush()
					compare()
					must(t, os.Remove(path))
					write(t, path, line())
				case 5: // half a line
					l := line()
					write(t, path, pending+l[:len(l)/2])
					pending = l[len(l)/2:]
				default:
					for range 1 + rng.IntN(5) {
						l := line()
						write(t, path, pending+l)
						pending = ""
					}
				}
			}
			flush()
			compare()
			b.stop()
		}
	})
}

func TestManyWriters(t *testing.T) {
	const writers, each = 8, 200
	both(t, func(t *testing.T, backend string) {
		path := filepath.Join(t.TempDir(), "app.log")
		write(t, path, "")
		b := newBench(t)
		b.configure(one("sshd", path, backend))
		b.run()
		var wg sync.WaitGroup
		for w := range writers {
			wg.Go(func() {
				f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
				if err != nil {
					t.Error(err)
					return
				}
				defer f.Close()
				for i := range each {
					fmt.Fprintf(f, "%d %d\n", w, i)
				}
			})
		}
		wg.Wait()
		b.until("the last line", func() bool { return len(b.lines[path]) >= writers*each })
		b.mu.Lock()
		defer b.mu.Unlock()
		var next [writers]int
		for _, l := range b.lines[path] {
			var w, i int
			if _, err := fmt.Sscanf(l.text, "%d %d", &w, &i); err != nil || i != next[w] {
				t.Fatalf("line %q, want number %d of its writer", l.text, next[w])
			}
			next[w]++
		}
	})
}
