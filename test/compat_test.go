package test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"bantam/internal/peertest"
)

// shared is the folder of what several programs are measured by; it stands beside
// the tree.
const shared = "../../shared"

// compatClock is where the corpus' clock stands, and compatZone what its stamps without
// a zone mean.
const (
	compatClock = "2005-08-14T12:00:00+02:00"
	compatZone  = "Europe/Zurich"
)

// Every record of Fail2Ban's own sample logs, with its own filters: match, host,
// user and time are right.
func TestStockFiltersOnStockSamples(t *testing.T) {
	tree := peertest.Tree(t)
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, peertest.Python(), "-B", tool(t, "run_compat.py"), tree,
		"--no-test-filters", "--require", "100", "--show", "30", "--template",
		program+" regex --json --config {config} --now {now} --options {options} {logfile} {filter}")
	out, err := cmd.CombinedOutput()
	text := string(out)
	if i := strings.LastIndex(text, "TOTAL"); i >= 0 {
		t.Log(strings.TrimSpace(text[i:]))
	} else if err == nil {
		err = errors.New("it told no total")
	}
	if err != nil {
		t.Errorf("%s: %v\n%s", filepath.Base(cmd.Args[2]), err, text)
	}
}

// The lines of the shared corpus, which is of a later release, with the package's filters:
// whatever Fail2Ban says of a line on the same tree is the answer.
func TestCorpusAsThePeerAnswers(t *testing.T) {
	tree := peertest.Tree(t)
	adapter := tool(t, "f2b_adapter.py")
	files, err := filepath.Glob(filepath.Join(shared, "corpus", "*.jsonl"))
	if err != nil || len(files) == 0 {
		t.Fatalf("the corpus %s holds no records: %v", filepath.Join(shared, "corpus"), err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()

	var (
		mu                    sync.Mutex // guards what follows
		total, right, unasked int
		wrong                 []string
	)
	var g errgroup.Group
	g.SetLimit(runtime.NumCPU())
	for _, file := range files {
		service := strings.TrimSuffix(filepath.Base(file), ".jsonl")
		config := filepath.Join(tree, "etc", "fail2ban")
		if _, err := os.Stat(filepath.Join(config, "filter.d", service+".conf")); err != nil {
			unasked++ // the package is older than that filter
			continue
		}
		groups, err := recordsByOptions(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, group := range groups {
			g.Go(func() error {
				log := filepath.Join(t.TempDir(), "sample.log")
				if err := os.WriteFile(log, []byte(strings.Join(group.lines, "\n")+"\n"), 0o600); err != nil {
					return err
				}
				args := []string{
					"regex", "--json", "--config", config, "--now", compatClock,
					"--options", group.options, log, service,
				}
				want, refused := answers(ctx, peertest.Python(), append([]string{"-B", adapter, "--f2b", tree}, args...)...)
				got, failed := answers(ctx, program, args...)
				mu.Lock()
				defer mu.Unlock()
				if refused != nil && len(want) == 0 { // a mode that the package does not have
					if failed == nil {
						wrong = append(wrong, fmt.Sprintf("%s %s: the peer refuses that: %v", service, group.options, refused))
					}
					return nil
				}
				if refused != nil || len(want) != len(group.lines) {
					return fmt.Errorf("%s %s: the peer gives %d answers for %d lines: %v",
						service, group.options, len(want), len(group.lines), refused)
				}
				total += len(group.lines)
				if failed != nil {
					wrong = append(wrong, fmt.Sprintf("%s %s: %v", service, group.options, failed))
				}
				for n, line := range group.lines {
					answer := "no answer"
					if n < len(got) {
						answer = got[n].String()
					}
					if answer == want[n].String() {
						right++
					} else if failed == nil {
						wrong = append(wrong, fmt.Sprintf("%s %s:\n  line   %q\n  peer   %s\n  bantam %s",
							service, group.options, line, want[n], answer))
					}
				}
				if failed == nil && len(got) > len(group.lines) {
					wrong = append(wrong, fmt.Sprintf("%s %s: %d answers for %d lines",
						service, group.options, len(got), len(group.lines)))
				}
				return nil
			})
		}
	}
	if err := g.Wait(); err != nil {
		t.Error(err)
	}
	t.Logf("%d of %d lines answered as the peer does; %d services are newer than the package", right, total, unasked)
	slices.Sort(wrong)
	const shown = 40
	for i, what := range wrong {
		if i == shown {
			t.Errorf("and %d more", len(wrong)-shown)
			break
		}
		t.Error(what)
	}
	if total < 500 {
		t.Errorf("only %d lines were compared", total)
	}
}

// An answer is what one line of `regex --json` claims.
type answer struct {
	N     int     `json:"n"`
	Match bool    `json:"match"`
	Host  string  `json:"host"`
	User  *string `json:"user"`
	Time  string  `json:"time"`
}

// String is all that must be equal; of a line that is no failure that is nothing more.
func (a answer) String() string {
	if !a.Match {
		return "no match"
	}
	user, at := "none", "none"
	if a.User != nil {
		user = fmt.Sprintf("%q", *a.User)
	}
	if a.Time != "" {
		at = a.Time
		if when, err := time.Parse(time.RFC3339, a.Time); err == nil {
			at = when.UTC().Truncate(time.Second).Format(time.RFC3339)
		}
	}
	return fmt.Sprintf("match, host %q, user %s, time %s", a.Host, user, at)
}

// answers runs a program that answers line by line. It returns what was read even if
// the program failed.
func answers(ctx context.Context, name string, args ...string) ([]answer, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = append(os.Environ(), "TZ="+compatZone, "LC_ALL=C.UTF-8")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		err = fmt.Errorf("%w: %s", err, bytes.TrimSpace(stderr.Bytes()))
	}
	var list []answer
	for line := range bytes.Lines(out) {
		var a answer
		if bad := json.Unmarshal(line, &a); bad != nil {
			return list, errors.Join(err, fmt.Errorf("answer %d: %w in %q", len(list)+1, bad, line))
		}
		if a.N != len(list)+1 {
			return list, errors.Join(err, fmt.Errorf("answer %d is of line %d", len(list)+1, a.N))
		}
		list = append(list, a)
	}
	return list, err
}

// A sample is the lines of one service that are to be read by one filter, in order.
type sample struct {
	options string // a JSON object
	lines   []string
}

// recordsByOptions reads a file of the corpus.
func recordsByOptions(file string) ([]*sample, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var groups []*sample
	byOptions := map[string]*sample{}
	s := bufio.NewScanner(f)
	s.Buffer(nil, 1<<20)
	for s.Scan() {
		var record struct {
			Line    string
			Options map[string]any
		}
		if err := json.Unmarshal(s.Bytes(), &record); err != nil {
			return nil, fmt.Errorf("%s: %w in %q", file, err, s.Text())
		}
		options, err := json.Marshal(record.Options) // sorted by name
		if err != nil {
			return nil, err
		}
		group := byOptions[string(options)]
		if group == nil {
			group = &sample{options: string(options)}
			byOptions[group.options] = group
			groups = append(groups, group)
		}
		group.lines = append(group.lines, record.Line)
	}
	return groups, s.Err()
}

// tool is the path of a program that stands in shared.
func tool(t *testing.T, name string) string {
	t.Helper()
	path, err := filepath.Abs(filepath.Join(shared, "tools", name))
	if err == nil {
		_, err = os.Stat(path)
	}
	if err != nil {
		peertest.Without(t, fmt.Sprintf("no conformance runner: %v", err))
	}
	return path
}
