package jail

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"bantam/internal/peertest"
)

// A peerCase is one repeated ban, as testdata/peer.py reads it.
type peerCase struct {
	BanTime int               `json:"bantime"`
	Count   int               `json:"count"`
	Options map[string]string `json:"options"`
}

// randomFormula makes up an expression of what both know.
func randomFormula(r *rand.Rand, depth int) string {
	pick := func(of ...string) string { return of[r.IntN(len(of))] }
	if depth == 0 {
		return pick("ban.Time", "ban.Count", "banFactor", "0", "1", "2", "7", "20", "0.5", "1e3", "3.25", "600", "True")
	}
	sub := func() string { return randomFormula(r, depth-1-r.IntN(depth)) }
	switch r.IntN(12) {
	case 0:
		return "(" + sub() + ")"
	case 1:
		return "abs(" + sub() + ") ** " + pick("2", "-1", "0.5", "3", "banFactor", "ban.Count")
	case 2:
		return sub() + " if " + sub() + " else " + sub()
	case 3:
		return sub() + pick(" < ", " <= ", " > ", " >= ", " == ", " != ") + sub() + pick(" < ", " >= ") + sub()
	case 4:
		return pick("-", "+", "not ", "~") + sub()
	case 5:
		return sub() + pick(" and ", " or ") + sub()
	case 6:
		return pick("min", "max") + "(" + sub() + ", " + sub() + ")"
	case 7:
		return pick("int", "float", "abs", "round", "math.exp", "math.sqrt", "math.log", "math.floor", "math.ceil", "math.log10") + "(" + sub() + ")"
	case 8:
		return pick("ban.Time", "1", "3", "ban.Count") + pick(" << ", " >> ", " & ", " | ", " ^ ") + pick("ban.Count", "2", "min(ban.Count, 20)")
	default:
		return sub() + pick(" + ", " - ", " * ", " / ", " // ", " % ") + sub()
	}
}

// unread is the peer's answer where it cannot read an option.
const unread = -1_000_000

// Repeated bans last as long as Fail2Ban's, whatever the options.
func TestBanTimesAsThePeers(t *testing.T) {
	const cases = 4000
	seed := rand.Uint64()
	r := rand.New(rand.NewPCG(seed, 3))
	pick := func(of ...string) string { return of[r.IntN(len(of))] }
	var asked []peerCase
	for range cases {
		c := peerCase{BanTime: 1 + r.IntN(100_000), Count: 1 + r.IntN(30), Options: map[string]string{}}
		if r.IntN(2) == 0 {
			c.Options["factor"] = pick("1", "2", "0.5", "24 * 60", "1.5", "-1", "1 << 3")
		}
		switch r.IntN(8) {
		case 0:
			numbers := make([]string, 1+r.IntN(8))
			for i := range numbers {
				numbers[i] = strconv.Itoa(1 + r.IntN(100))
			}
			c.Options["multipliers"] = strings.Join(numbers, " ")
		case 1: // what doubles
		default:
			c.Options["formula"] = randomFormula(r, 4)
		}
		if r.IntN(3) == 0 {
			c.Options["maxtime"] = strconv.Itoa(1 + r.IntN(1_000_000))
		}
		asked = append(asked, c)
	}
	tree := peertest.Tree(t)
	in, err := json.Marshal(asked)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), peertest.Python(), "-B", "-W", "ignore", "testdata/peer.py")
	cmd.Env = append(os.Environ(), "PYTHONPATH="+peertest.Modules(tree))
	cmd.Stdin = bytes.NewReader(in)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("ask the peer: %v: %s", err, stderr.String())
	}
	var answers []*float64
	if err := json.Unmarshal(out, &answers); err != nil || len(answers) != len(asked) {
		t.Fatalf("%d answers to %d questions: %v", len(answers), len(asked), err)
	}
	compared, large := 0, 0
	for i, c := range asked {
		if answers[i] == nil {
			continue // it has no value there; what Bantam does then is its own
		}
		compared++
		if *answers[i] == unread {
			if _, err := ParseFormula(c.Options["formula"]); err == nil {
				t.Errorf("seed %d: %+v is read; the peer cannot", seed, c)
			}
			continue
		}
		got, most, err := ours(c)
		if math.IsInf(got, 1) {
			large++ // a whole number on the way has more bits than are allowed here
			continue
		}
		if got = min(got, most); err != nil || math.Abs(got-*answers[i]) > 1e-9*math.Abs(*answers[i]) {
			t.Errorf("seed %d: %+v is %v, %v; the peer says %v", seed, c, got, err, *answers[i])
		}
	}
	if compared < cases/2 || large > cases/50 {
		t.Errorf("the peer has only %d answers, and %d are too large here", compared, large)
	}
}

// ours is how many seconds the ban of a case lasts here, before its length is put
// into a time.Duration, and its limit.
func ours(c peerCase) (seconds, most float64, err error) {
	cfg := DefaultConfig("t")
	cfg.BanTime = time.Duration(c.BanTime) * time.Second
	cfg.Increment.Enabled = true
	most = math.Inf(1)
	for option, text := range c.Options {
		var err error
		switch option {
		case "factor":
			cfg.Increment.Factor, err = ParseFormula(text)
		case "formula":
			cfg.Increment.Formula, err = ParseFormula(text)
		case "multipliers":
			for word := range strings.FieldsSeq(text) {
				n, wrong := strconv.Atoi(word)
				if wrong != nil {
					err = wrong
				}
				cfg.Increment.Multipliers = append(cfg.Increment.Multipliers, n)
			}
		case "maxtime":
			most, err = strconv.ParseFloat(text, 64)
		}
		if err != nil {
			return 0, 0, fmt.Errorf("%s: %w", option, err)
		}
	}
	seconds, err = cfg.grown(c.Count, nil)
	return seconds, most, err
}
