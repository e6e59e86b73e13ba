package filter

import (
	"bytes"
	"context"
	"encoding/json"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"bantam"
	"bantam/internal/peertest"
)

// A peerCase is a filter and lines for it, as testdata/peer.py reads them.
type peerCase struct {
	Prefregex   string   `json:"prefregex"`
	Failregex   []string `json:"failregex"`
	Ignoreregex []string `json:"ignoreregex"`
	MaxLines    int      `json:"maxlines"`
	UseDNS      string   `json:"usedns"`
	Lines       []string `json:"lines"`
}

// randomCase makes up a filter of one of three kinds, sessions, several lines
// together, or a prefregex, with lines that often match it. What docs/differences.md lists is
// left out, and so is a prefregex that says who failed, of which the package's release thinks
// otherwise than later ones.
func randomCase(r *rand.Rand) peerCase {
	pick := func(of ...string) string { return of[r.IntN(len(of))] }
	maybe := func(text string) string { return pick(text, "") }
	c := peerCase{MaxLines: 1, UseDNS: pick("warn", "no", "raw"), Ignoreregex: []string{}}
	words := func() string {
		text := make([]string, 1+r.IntN(4))
		for i := range text {
			text[i] = pick("a", "b", "n", "x", "s1", "s2", "bad", "conn", "ok", "bye", "u1", "u2", "from",
				"192.0.2.1", "192.0.2.2", "2001:db8::1", "h.example", "é", "A")
		}
		return strings.Join(text, " ")
	}
	line, separators := words, []string{" "}
	kind := r.IntN(3)
	switch kind {
	case 0:
		const begin, end = `^<F-MLFID>s\d</F-MLFID> `, `(?: <F-USER>u\d</F-USER>)?(?: <ADDR>)?$`
		c.Failregex = []string{
			begin + `bad` + end, begin + `<F-NOFAIL>conn</F-NOFAIL>` + end,
			begin + `<F-NOFAIL><F-MLFFORGET>bye</F-MLFFORGET></F-NOFAIL>` + end, begin + `<F-MLFGAINED>ok</F-MLFGAINED>` + end,
		}
		line = func() string {
			return pick("s1", "s2") + pick(" bad", " bad", " conn", " bye", " ok") + maybe(pick(" u1", " u2")) +
				maybe(pick(" 192.0.2.1", " 2001:db8::1"))
		}
	case 1:
		c.MaxLines = 2 + r.IntN(4)
		separators = []string{" ", "<SKIPLINES>"}
	case 2:
		c.Prefregex = pick(``, `^a <F-CONTENT>.+</F-CONTENT>$`, `a`, `^<F-CONTENT>.+</F-CONTENT> from`)
	}
	for kind != 0 && len(c.Failregex) < 1+r.IntN(4) {
		expr := pick("^", "^", "")
		for i := range 1 + r.IntN(4) {
			if i > 0 {
				expr += pick(separators...)
			}
			expr += pick("a", "b", "n", "x", "bad", "from", "<HOST>", "<HOST>", "<ADDR>", `<F-USER>\w*</F-USER>`,
				`<F-MLFID>s\d</F-MLFID>`, `<F-NOFAIL>(?:conn|bye)</F-NOFAIL>`, `\S+`, `.*`, `<F-ALT_USER>u\d</F-ALT_USER>`,
				`<F-ID>\S+</F-ID>`, `(?!a)\w+`, `((?i)A)`, `<SUBNET>`, `(?=\w)\S*`, `(?P<q>\w) (?P=q)`)
		}
		c.Failregex = append(c.Failregex, expr+pick("$", "", " <HOST>$"))
	}
	if r.IntN(3) == 0 {
		c.Ignoreregex = append(c.Ignoreregex, pick("^a", "n$", `\nb`, "^b", "x", "s1", "u2"))
	}
	for range 3 + r.IntN(12) {
		c.Lines = append(c.Lines, line())
	}
	return c
}

// Random filters make of random lines what the distribution's package makes of them.
func TestJudgesAsThePackage(t *testing.T) {
	root := peertest.Tree(t)
	const seed = 1 // other seeds have other cases, and were tried
	r := rand.New(rand.NewPCG(seed, 0))
	cases := make([]peerCase, 400)
	for i := range cases {
		cases[i] = randomCase(r)
	}
	questions, err := json.Marshal(cases)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, peertest.Python(), filepath.Join("testdata", "peer.py"))
	cmd.Env = append(os.Environ(), "PYTHONPATH="+peertest.Modules(root), "PYTHONDONTWRITEBYTECODE=1")
	cmd.Stdin, cmd.Stderr = bytes.NewReader(questions), os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("ask the package: %v", err)
	}
	var answers [][][][4]any
	if err := json.Unmarshal(out, &answers); err != nil || len(answers) != len(cases) {
		t.Fatalf("%d answers to %d questions: %v", len(answers), len(cases), err)
	}
	judged, failures := 0, 0
	for i, c := range cases {
		cfg := undated(c.Failregex...)
		cfg.Jail, cfg.Prefregex, cfg.Ignoreregex, cfg.MaxLines, cfg.UseDNS = "t", c.Prefregex, c.Ignoreregex, c.MaxLines, c.UseDNS
		rules, err := Compile(cfg)
		if (err != nil) != (answers[i] == nil) {
			t.Errorf("%+v: error %v, the package accepts it: %v", c, err, answers[i] != nil)
		}
		if err != nil || answers[i] == nil {
			continue
		}
		judged++
		f := New(rules)
		for n, line := range c.Lines {
			got := [][4]any{}
			for _, fl := range judgeText(f, line) {
				got = append(got, peerForm(fl))
			}
			if failures += len(got); !reflect.DeepEqual(got, answers[i][n]) {
				t.Errorf("%+v\nafter %q\ngot  %v\nwant %v", c, line, got, answers[i][n])
				break
			}
		}
	}
	if judged < len(cases)/3 || failures < judged/2 {
		t.Errorf("only %d filters were judged, with %d failures", judged, failures)
	}
	t.Logf("%d filters, %d failures", judged, failures)
}

func peerForm(fl bantam.Failure) [4]any {
	id := fl.ID.String()
	if fl.Host != "" {
		id = "192.0.2.99"
	}
	lines := []any{}
	for _, l := range fl.Lines {
		lines = append(lines, l)
	}
	return [4]any{float64(fl.Regex), id, fl.User, lines}
}
