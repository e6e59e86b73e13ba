package config

import (
	"math"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestSeconds(t *testing.T) {
	good := map[string]float64{
		"600": 600, "10m": 600, "1h 30": 3630, "10m10": 610, "10 20": 30, "1 000": 1, "1h-10m": 3000, "1d*2": 172800,
		"(1+2)*3": 9, "1.5h": 5400, ".5h": 1800, "1y 6mo": 47336400, "-1": -1, "-1d": -86400, "1M": 60, "7D": 604800,
		"1_000": 1000, "600 # ten": 600, "  5 ": 5, "1 2 3": 6, "1 week": 604800, "24 * 60 * 60": 86400, "0": 0, "00": 0, "1d12h": 129600,
	}
	for text, want := range good {
		if got, err := seconds(text); err != nil || got != want {
			t.Errorf("%q is %v, %v, want %v", text, got, err, want)
		}
	}
	for _, text := range []string{
		"", " ", "# x", "6x", "abc", "5mins", "1hr", "1hrs", "1yr", "1secs", "1e3", "010", "0x10", "1h;2", "1d, 2h", "5%",
		"1/0", "1__0", "_1", "1+", "(1", "1)", "2**3", "m", strings.Repeat("(", 200) + "1" + strings.Repeat(")", 200), strings.Repeat("9*", 400) + "9",
	} {
		if got, err := seconds(text); err == nil {
			t.Errorf("%q is %v, want an error", text, got)
		}
	}
}

func FuzzSeconds(f *testing.F) {
	for _, s := range []string{"10m", "1h 30", "(1+2)*3", "1.5h", "-1", "1y 6mo # x", "((((", "9*9*9"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		got, err := seconds(text)
		if err != nil {
			return
		}
		if math.IsNaN(got) || math.IsInf(got, 0) {
			t.Fatalf("%q is %v", text, got)
		}
		if d, ok := duration(got); ok && math.Abs(d.Seconds()-got) > 1e-6*max(1, math.Abs(got)) {
			t.Fatalf("%q is %v seconds and lasts %v", text, got, d)
		}
	})
}

func TestDuration(t *testing.T) {
	if d, ok := duration(1.5); !ok || d != 1500*time.Millisecond {
		t.Errorf("1.5 s is %v, %v", d, ok)
	}
	if _, ok := duration(1e12); ok {
		t.Error("30,000 years have room")
	}
}

func TestInteger(t *testing.T) {
	for text, want := range map[string]int{"5": 5, " +5 ": 5, "-1": -1, "1_000": 1000, "007": 7} {
		if got, err := integer(text); err != nil || got != want {
			t.Errorf("%q is %v, %v", text, got, err)
		}
	}
	for _, text := range []string{"", "5 # five", "5x", "1.0", "1__0", "_1", "99999999999"} {
		if got, err := integer(text); err == nil {
			t.Errorf("%q is %v, want an error", text, got)
		}
	}
}

func TestShellWords(t *testing.T) {
	got, err := shellWords(`_A=x "_B=y z" '_C=\' + _D=a\ b`)
	if want := []string{"_A=x", "_B=y z", `_C=\`, "+", "_D=a b"}; err != nil || !slices.Equal(got, want) {
		t.Errorf("got %q, %v", got, err)
	}
	for _, bad := range []string{`"a`, `'a`, `a\`} {
		if got, err := shellWords(bad); err == nil {
			t.Errorf("%q is %q, want an error", bad, got)
		}
	}
}

func TestNameParams(t *testing.T) {
	tests := []struct {
		text, name string
		params     []param
	}{
		{`sshd`, "sshd", nil},
		{`sshd[mode=aggressive][x=1, y="a,b"]`, "sshd", []param{{"mode", "aggressive"}, {"x", "1"}, {"y", "a,b"}}},
		{`a[b=x y z]`, "a", []param{{"b", "x y z"}}},
		{"a[b=1\n c=2]", "a", []param{{"b", "1\n c=2"}}},
		{`a[b="[1]"]`, "a", []param{{"b", "[1]"}}},
		{`a[ mode= a ]`, "a", []param{{"mode", "a"}}},
		{`a[b= "x"]`, "a", []param{{"b", `"x"`}}},
		{`a[b="x]`, "a", []param{{"b", `"x`}}},
		{`a[b="1",` + "\n c=2]\n", "a", []param{{"b", "1"}, {"c", "2"}}},
		{`a[]`, "a", nil},
		{`a[b=1,]`, "a", []param{{"b", "1"}}},
		{`a[b=,c=""]`, "a", []param{{"b", ""}, {"c", ""}}},
		{`a[b=1 , c=2]`, "a", []param{{"b", "1"}, {"c", "2"}}},
		{`a[b='x"y']`, "a", []param{{"b", `x"y`}}},
		{`a[b=1] [c=2]`, "a", []param{{"b", "1"}, {"c", "2"}}},
		{`a[blocktype?family=inet6=REJECT]`, "a", []param{{"blocktype?family=inet6", "REJECT"}}},
		{`a [b=1]`, "a ", []param{{"b", "1"}}},
		{`a[x==]`, "a", []param{{"x", "="}}},
	}
	for _, tt := range tests {
		name, params, err := nameParams(tt.text)
		if err != nil || name != tt.name || !slices.Equal(params, tt.params) {
			t.Errorf("%q is %q %q, %v", tt.text, name, params, err)
		}
	}
	for _, text := range []string{
		``, `[a=1]`, `a[`, `a[b="]"`, `a[b=[1]]`, `a[b="1" c=2]`, `a[b="1"c]`, `a[b="1" , c=2]`, `a[mode = a]`, `a[mode]`,
		`a[,b=1]`, `a[b=1],[c=2]`, `a[b=1]x`, `a[b=1,,c=2]`, `a[b=1]]`, `a[b="x"y]`, `a[?x=1]`, `a[b?=1]`,
	} {
		if name, params, err := nameParams(text); err == nil {
			t.Errorf("%q is %q %q, want an error", text, name, params)
		}
	}
}

func TestEntries(t *testing.T) {
	for text, want := range map[string][]string{
		"":                       nil,
		" \n ":                   nil,
		"a[x=1] b[y=2]":          {"a[x=1]", "b[y=2]"},
		"a[x=y z] b":             {"a[x=y z]", "b"},
		"a[x=1,\n y=2]\nb":       {"a[x=1,\n y=2]", "b"},
		"a [x=1]":                {"a [x=1]"},
		"a[x=\"]\"] b":           {"a[x=\"]\"]", "b"},
		"a  b\n\n c":             {"a", "b", "c"},
		"a[x=1] [y=2] b":         {"a[x=1] [y=2]", "b"},
		"a[x=\"1 b":              {"a[x=\"1", "b"},
		"a[x='] ['] b":           {"a[x='] [']", "b"},
		"a b[c=\"d e\" , f=1] g": {"a", "b[c=\"d e\" , f=1]", "g"},
		"a[x=\"q]r\" y]z":        {"a[x=\"q]r\" y]z"},
		"a[x=it's] b":            {"a[x=it's]", "b"},
	} {
		if got := entries(text); !slices.Equal(got, want) {
			t.Errorf("%q is %q, want %q", text, got, want)
		}
	}
}

func FuzzNameParams(f *testing.F) {
	for _, s := range []string{`a[b="1", c=2] d`, `a[b=1][c=']'] e[`, "a [x]\nb", `a["'`, `a[b?c=d=e]`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		total := 0
		for _, entry := range entries(text) {
			if entry == "" || trim(entry) != entry {
				t.Fatalf("an entry of %q is %q", text, entry)
			}
			total += len(entry)
			name, params, err := nameParams(entry)
			if err != nil {
				continue
			}
			// What we write in quotes we read back.
			var b strings.Builder
			b.WriteString(name + "[")
			for i, p := range params {
				mark := `"`
				if strings.Contains(p.value, mark) {
					if mark = `'`; strings.Contains(p.value, mark) {
						return
					}
				}
				if i > 0 {
					b.WriteString(", ")
				}
				b.WriteString(p.key + "=" + mark + p.value + mark)
			}
			b.WriteString("]")
			name2, params2, err := nameParams(b.String())
			if err != nil || name2 != name || !slices.Equal(params2, params) {
				t.Fatalf("%q was written as %q and read as %q %q, %v", entry, b.String(), name2, params2, err)
			}
		}
		if total > len(text) {
			t.Fatalf("the entries of %q are longer than it", text)
		}
	})
}
