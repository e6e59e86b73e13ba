package hostile

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"

	"bantam/internal/peertest"
	"bantam/pyre"
)

// A pattern is one that Fail2Ban compiles from its stock filters, with texts that it is
// likely to match.
type pattern struct {
	Filter  string
	Options map[string]string
	Kind    string // prefregex, failregex, ignoreregex, date
	Number  int    // among its kind, from 1 on
	Pattern string
	Flags   string
	Samples [][]part
}

func (p *pattern) String() string {
	return fmt.Sprintf("%s %v %s %d", p.Filter, p.Options, p.Kind, p.Number)
}

// compile is the pattern as Python would have it.
func (p *pattern) compile() (*pyre.Regexp, error) {
	var flags pyre.Flags
	for _, c := range p.Flags {
		flags |= map[rune]pyre.Flags{
			'i': pyre.IgnoreCase, 'm': pyre.Multiline, 's': pyre.DotAll, 'x': pyre.Verbose, 'a': pyre.ASCII,
		}[c]
	}
	return pyre.Compile(p.Pattern, flags)
}

// A part of a sample is a text, or a loop and the texts of which it takes any number.
type part struct {
	text  string
	least int      // turns of the loop
	pump  []string // nil: no loop
}

func (p *part) UnmarshalJSON(data []byte) error {
	if json.Unmarshal(data, &p.text) == nil {
		return nil
	}
	var loop struct {
		Least int
		Pump  []string
	}
	if err := json.Unmarshal(data, &loop); err != nil {
		return err
	}
	if len(loop.Pump) == 0 {
		return errors.New("a loop of nothing")
	}
	p.least, p.pump = loop.Least, loop.Pump
	return nil
}

// line makes a line of at most size bytes that is to cost p dear: a sample of which one to
// three loops are taken as often as there is room, all of them with turns that other loops
// or what follows may take as well, and that in the end matches nearly, or not at all.
func (p *pattern) line(chance *rand.Rand, size int) []byte {
	sample := p.Samples[chance.IntN(len(p.Samples))]
	var loops []int
	fixed := 0
	for i, part := range sample {
		fixed += len(part.text)
		if part.pump != nil {
			loops = append(loops, i)
			fixed += len(part.pump[0]) * part.least
		}
	}
	chance.Shuffle(len(loops), func(i, j int) { loops[i], loops[j] = loops[j], loops[i] })
	loops = loops[:min(len(loops), 1+chance.IntN(3))]
	share := 0
	if len(loops) > 0 {
		share = max(0, size-fixed) / len(loops)
	}

	var b []byte
	tail := 0 // where the last pumped loop ends
	for i, part := range sample {
		b = append(b, part.text...)
		room, pumped := 0, false
		for _, loop := range loops {
			if loop == i {
				room, pumped = share, true
			}
		}
		if part.pump == nil {
			continue
		}
		turn := part.pump[chance.IntN(len(part.pump))]
		other := part.pump[chance.IntN(len(part.pump))]
		for n, begin := 0, len(b); n < part.least || len(b)-begin < room; n++ {
			if chance.IntN(64) == 0 {
				turn, other = other, turn
			}
			b = append(b, turn...)
		}
		if pumped {
			tail = len(b)
		}
	}
	if len(loops) == 0 { // nothing to pump but the text itself
		for begin := len(b); begin > 0 && len(b) < size; {
			b = append(b, b[:begin]...)
		}
		tail = len(b)
	}
	return broken(b, tail, chance)[:min(len(b), size)]
}

// broken spoils the end of a line, from tail on, or its very last byte, or some bytes
// anywhere, or nothing. It keeps the line's length.
func broken(b []byte, tail int, chance *rand.Rand) []byte {
	const spoil = "\x00!~ \x80]"
	with := spoil[chance.IntN(len(spoil))]
	switch chance.IntN(6) {
	case 0:
	case 1:
		for range 1 + chance.IntN(4) {
			if len(b) > 0 {
				b[chance.IntN(len(b))] = with
			}
		}
	case 2:
		for i := tail; i < len(b); i++ {
			b[i] = with
		}
	case 3:
		if tail < len(b) {
			b[tail+chance.IntN(len(b)-tail)] = with
		}
	default:
		if len(b) > 0 {
			b[len(b)-1] = with
		}
	}
	return b
}

// seeded is chance that is the same in every run.
func seeded(p *pattern) *rand.Rand {
	sum := uint64(14695981039346656037)
	for _, c := range []byte(p.Pattern) {
		sum = (sum ^ uint64(c)) * 1099511628211
	}
	return rand.New(rand.NewPCG(sum, 8000))
}

// known is what stock has read: the tests want the same patterns, one after the other.
var known []*pattern

// logs are the package's sample lines by filter, read with the patterns.
var logs map[string][]string

// stock is every pattern of Debian's fail2ban package, or of the tree BANTAM_FAIL2BAN names.
func stock(t *testing.T) []*pattern {
	t.Helper()
	if known != nil {
		return known
	}
	tree := peertest.Tree(t)
	cmd := exec.CommandContext(t.Context(), peertest.Python(), "-B", "stock.py", tree)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("read the patterns of %s: %v\n%s", tree, err, stderr.Bytes())
	}
	list := read(t, out)
	if len(list) < 400 {
		t.Fatalf("%s has only %d patterns\n%s", tree, len(list), stderr.Bytes())
	}
	logs = map[string][]string{}
	files, err := filepath.Glob(filepath.Join(peertest.Modules(tree), "fail2ban/tests/files/logs/*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		if stat, err := os.Stat(file); err == nil && stat.IsDir() {
			continue
		}
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(data)) {
			if !strings.HasPrefix(line, "#") && len(line) > 10 {
				logs[filepath.Base(file)] = append(logs[filepath.Base(file)], strings.TrimSuffix(line, "\n"))
			}
		}
	}
	known = list
	return list
}

// read is what stock.py prints.
func read(t *testing.T, out []byte) (list []*pattern) {
	t.Helper()
	for line := range bytes.Lines(out) {
		p := new(pattern)
		if err := json.Unmarshal(line, p); err != nil {
			t.Fatalf("pattern %d: %v in %.200q", len(list)+1, err, line)
		}
		list = append(list, p)
	}
	return list
}

// The lines are what they are said to be: as long as asked for, mostly text, and nearly
// matching, or the bounds would be those of lines that are given up at once.
func TestLinesAreHostile(t *testing.T) {
	const perPattern = 10
	patterns := stock(t)
	short, tame := 0, 0
	for _, p := range patterns {
		re, err := p.compile()
		if err != nil {
			t.Errorf("%s: %v", p, err)
			continue
		}
		chance := seeded(p)
		matched := 0
		for range perPattern {
			line := p.line(chance, 800)
			if len(line) > 800 {
				t.Fatalf("%s: a line of %d bytes", p, len(line))
			}
			if len(line) < 400 {
				short++
			}
			if spans, err := re.Search(line, nil); spans != nil || err != nil {
				matched++
			}
			if bytes.Count(line, []byte{0})+len(line)-utf8.RuneCount(line) > len(line)/2 && len(line) > 400 {
				tame++
			}
		}
		if matched == perPattern && p.Kind != "date" {
			t.Logf("%s: all of its lines match", p)
		}
	}
	if all := len(patterns) * perPattern; short > all/20 || tame > all/20 {
		t.Errorf("of %d lines %d are short, %d are noise", all, short, tame)
	}
}
