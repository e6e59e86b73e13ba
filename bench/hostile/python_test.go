package hostile

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"encoding/json"
	"math/rand/v2"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"bantam/internal/peertest"
	"bantam/pyre"
)

// An answer is the recorder's about one pattern: of each text the spans of re.search
// and of re.match.
type answer struct {
	Pattern string       `json:"p"`
	Error   string       `json:"e"`
	Texts   []textAnswer `json:"t"`
}

// A textAnswer is a text in hex and the two answers about it, nil for no match.
type textAnswer [3]*json.RawMessage

// Every stock pattern says of the package's own sample lines, and of lines that were
// changed a little, what Python 3.11 says: match, spans, groups.
func TestStockPatternsAnswerAsPython(t *testing.T) {
	patterns := stock(t)
	const python = "python3"
	version, err := exec.Command(python, "-c", "import sys; print(sys.version_info[:2] == (3, 11))").Output()
	if err != nil || strings.TrimSpace(string(version)) != "True" {
		peertest.Without(t, "python3 is not Python 3.11, whose answers are wanted")
	}
	cmd := exec.CommandContext(t.Context(), python, "-B", "../../pyre/testdata/record.py", "-")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	for _, p := range patterns {
		if p.Kind == "date" {
			if re, err := p.compile(); err == nil {
				dates[p.Filter] = append(dates[p.Filter], re)
			}
		}
	}
	asked := make(chan error, 1)
	go func() { // ends when all is written, or the recorder is gone
		to := json.NewEncoder(in)
		for _, p := range patterns {
			question := map[string]any{"p": p.Pattern, "f": p.python(), "t": p.texts(patterns)}
			if err := to.Encode(question); err != nil {
				asked <- err
				return
			}
		}
		asked <- in.Close()
	}()

	n, pairs, matches, wrong, spent := 0, 0, 0, 0, 0
	answers := bufio.NewScanner(out)
	answers.Buffer(nil, 16<<20)
	for ; answers.Scan(); n++ {
		p := patterns[n]
		var a answer
		if err := json.Unmarshal(answers.Bytes(), &a); err != nil || a.Pattern != p.Pattern || a.Error != "" {
			t.Fatalf("%s: %v in %.200q", p, err, answers.Bytes())
		}
		re, err := p.compile()
		if err != nil {
			t.Fatalf("%s: %v", p, err)
		}
		for _, x := range a.Texts {
			text, want := x.read(t)
			pairs++
			if want[0] != nil {
				matches++
			}
			for i, find := range [...]func([]byte, []int) ([]int, error){re.Search, re.Match} {
				got, err := find(text, nil)
				if err != nil {
					spent++
				}
				if err == nil && !slices.Equal(got, want[i]) {
					if wrong++; wrong <= 20 {
						t.Errorf("%s, %s, in %q: %v, Python's is %v", p, [...]string{"search", "match"}[i], text, got, want[i])
					}
				}
			}
		}
	}
	if err := <-asked; err != nil {
		t.Error(err)
	}
	if err := cmd.Wait(); err != nil || n != len(patterns) {
		t.Fatalf("%d answers about %d patterns: %v\n%s", n, len(patterns), err, stderr.Bytes())
	}
	t.Logf("%d pairs of pattern and text, of which %d match: %d differences, %d out of budget", pairs, matches, wrong, spent)
	if spent > 0 || pairs < 50_000/lessLines || matches < pairs/20 {
		t.Errorf("of %d pairs %d match and %d ran out of budget: that says too little", pairs, matches, spent)
	}
}

// read is the text, and the spans of search and match.
func (x textAnswer) read(t *testing.T) (text []byte, want [2][]int) {
	t.Helper()
	var digits string
	for i, to := range []any{&digits, &want[0], &want[1]} {
		if x[i] == nil { // null
			continue
		}
		if err := json.Unmarshal(*x[i], to); err != nil {
			t.Fatal(err)
		}
	}
	text, err := hex.DecodeString(digits)
	if err != nil {
		t.Fatal(err)
	}
	return text, want
}

// python is the flags as Python counts them.
func (p *pattern) python() (flags int) {
	for _, c := range p.Flags {
		flags |= map[rune]int{'i': 2, 'm': 8, 's': 16, 'x': 64, 'a': 256}[c]
	}
	return flags
}

// texts are what p is tried on, in hex: lines of its filter's sample log, whole and with
// the date cut, and changed ones of both.
func (p *pattern) texts(patterns []*pattern) (texts []string) {
	const most, others, own = 20 / lessLines, 12 / lessLines, 18 / lessLines // that match, that do not, made of p
	chance := seeded(p)
	re, err := p.compile()
	if err != nil {
		return nil
	}
	lines := slices.Clone(logs[p.Filter])
	for range 6 { // of other filters
		other := logs[patterns[chance.IntN(len(patterns))].Filter]
		if len(other) > 0 {
			lines = append(lines, other[chance.IntN(len(other))])
		}
	}
	// Those that match, and then any.
	var hits, misses []string
	for _, line := range lines {
		cut := dateless(line, p.Filter)
		if spans, err := re.SearchString(cut, nil); spans != nil && err == nil && p.Kind != "date" {
			hits = append(hits, cut, line)
		} else if spans, err := re.SearchString(line, nil); spans != nil && err == nil {
			hits = append(hits, line, cut)
		} else {
			misses = append(misses, cut, line)
		}
	}
	hits = hits[:min(len(hits), most)]
	for _, line := range append(hits, misses[:min(len(misses), others)]...) {
		texts = append(texts, hex.EncodeToString([]byte(line)))
		for how := range mutations {
			texts = append(texts, hex.EncodeToString(mutated([]byte(line), how, chance)))
		}
	}
	// What the pattern itself is made of matches more often than any log.
	for range own {
		line := p.line(chance, 100) // Python takes long for more
		texts = append(texts, hex.EncodeToString(line))
	}
	return texts
}

// dates are the compiled date patterns by filter, when the answers are asked for.
var dates = map[string][]*pyre.Regexp{}

// dateless is the line without its date, if one of the filter's patterns, or of those
// that most filters have, finds one.
func dateless(line, filter string) string {
	for _, re := range append(slices.Clone(dates[filter]), dates["apache-common"]...) {
		if spans, err := re.SearchString(line, nil); spans != nil && err == nil && len(spans) >= 4 && spans[2] >= 0 {
			return line[:spans[2]] + line[spans[3]:]
		}
	}
	return line
}

const mutations = 6

// mutated is a line that somebody wrote otherwise: with accents, other digits, other
// cases, bad bytes, ideographs, other spaces.
func mutated(line []byte, how int, chance *rand.Rand) []byte {
	letters := map[byte][]string{
		'a': {"á", "À"}, 'e': {"é"}, 'i': {"ı", "İ"}, 'k': {"\u212a"}, 'o': {"ö"}, 's': {"ſ"}, 'u': {"ü", "µ"},
	}
	var out []byte
	changed := false
	for i, c := range line {
		now := chance.IntN(12) == 0 || !changed && i == len(line)-1
		to := []byte{c}
		switch how {
		case 0:
			if with := letters[c|0x20]; now && with != nil {
				to = []byte(with[chance.IntN(len(with))])
			}
		case 1:
			if now && c >= '0' && c <= '9' {
				to = []byte(string([]rune{0x660, 0x966, 0xff10, 0x1d7ce}[chance.IntN(4)] + rune(c-'0')))
			}
		case 2:
			if now && (c|0x20 >= 'a' && c|0x20 <= 'z') {
				to[0] ^= 0x20
			}
		case 3:
			if now {
				bad := []string{"\xff", "\xc3", "\xe4\xb8", "\xf0\x9f\x98", "\x80", "\xed\xa0\x80"}
				to = append(to, bad[chance.IntN(len(bad))]...)
			}
		case 4:
			if now {
				to = []byte(string([]rune("中文字ㄅ한😀")[chance.IntN(6)]))
			}
		case 5:
			if now && c == ' ' {
				to = []byte([]string{"\u00a0", "\u2003", "\x1d", "\n", "  ", ""}[chance.IntN(6)])
			}
		}
		changed = changed || now
		if c >= utf8.RuneSelf {
			to = []byte{c}
		}
		out = append(out, to...)
	}
	return out
}
