package tag

import (
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

func TestReplace(t *testing.T) {
	values := map[string]string{
		"mode": "normal", "m-normal": "N<x>", "x": "X", "loop": "<pool>", "pool": "<loop>", "many": strings.Repeat("<x>", 100),
		"big": strings.Repeat("y", maxText/2), "selfish": "a<selfish>", "two": "<big><big><big>",
	}
	value := func(tag string) (string, bool) { v, ok := values[tag]; return v, ok }
	for _, tt := range []struct{ name, text, want, err string }{
		{"a tag", "a<x>b<x>", "aXbX", ""},
		{"an inner tag first", "<m-<mode>>", "NX", ""},
		{"a composite that is not there stays", "<m-<x>>", "<m-X>", ""},
		{"unknown tags stay", "<HOST> < x > <a b>", "<HOST> < x > <a b>", ""},
		{"one tag a hundred times", "<many>", strings.Repeat("X", 100), ""},
		{"a circle", "<loop>", "", "refers to itself"},
		{"itself", "<self>", "", "refers to itself"},
		{"itself by another", "<selfish>", "", "refers to itself"},
		{"too large", "<two>", "", "too large"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := Replace("self", tt.text, func(tag string) (string, bool) {
				if tag == "self" {
					return "y", true
				}
				return value(tag)
			})
			if tt.err != "" && (err == nil || !strings.Contains(err.Error(), tt.err)) || tt.err == "" && err != nil {
				t.Fatalf("got error %v, want %q", err, tt.err)
			}
			if err == nil && got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

func FuzzReplace(f *testing.F) {
	f.Add("<a>", "<b>x", "<<c>>", "a<a>")
	f.Add("<m-<b>>", "b", "", "<HOST>")
	f.Add("<a><a><a>", "<b><b>", "<c><c>", "<d><d>")
	f.Fuzz(func(t *testing.T, text, a, b, c string) {
		values := map[string]string{"a": a, "b": b, "c": c, "m-b": a + b}
		got, err := Replace("self", text, func(tag string) (string, bool) { v, ok := values[tag]; return v, ok })
		if err != nil {
			return
		}
		if len(got) > maxText && len(got) > len(text) {
			t.Fatalf("grew to %d bytes", len(got))
		}
		for tag := range values {
			if start, end := Next(got, 0); start >= 0 && got[start:end] == "<"+tag+">" {
				t.Fatalf("%q still has <%s>: %q", text, tag, got)
			}
		}
	})
}

// values are tags as a ban has them; each is told apart in scripts by its own name.
func values(m map[string]string) func(string) (string, string, bool) {
	return func(tag string) (string, string, bool) { v, ok := m[tag]; return v, tag, ok }
}

func TestTrapS19_OnlyWhatIsSpecialToAShellBecomesAVariable(t *testing.T) {
	for _, tt := range []struct {
		name, text, value string
		want              []string
	}{
		{"an address", "ban <v>", "2001:db8::1", []string{"ban 2001:db8::1"}},
		{"a prefix", "ban <v>", "10.0.0.0/8", []string{"ban 10.0.0.0/8"}},
		{"blanks alone", `mail "<v>"`, "a b", []string{`mail "a b"`}},
		{"other harmless signs", "x <v>", "a:b%c-d=e!f", []string{"x a:b%c-d=e!f"}},
		{"a quote", `mail "<v>"`, "it's", []string{"f2bV_v=$0 \nmail \"$f2bV_v\"", "it's"}},
		{"a newline", "<v> <v>", "a\nb", []string{"f2bV_v=$0 \n$f2bV_v $f2bV_v", "a\nb"}},
		{"in single quotes the variable's name", "echo '<v>'", "a;b", []string{"f2bV_v=$0 \necho '$f2bV_v'", "a;b"}},
		{"a tag in a value stays what it is", "<v>", "<v><ip>", []string{"f2bV_v=$0 \n$f2bV_v", "<v><ip>"}},
		{"a zero byte", "<v>", "a\x00b", []string{"ab"}},
		{"a bell", "<v>", "a\ab", []string{"f2bV_v=$0 \n$f2bV_v", "a\ab"}},
		{"nothing", "x <v>y", "", []string{"x y"}},
		{"what nobody knows stays", "x <unk> <v>", "1", []string{"x <unk> 1"}},
		{"breaks", "a<br>b<sp>c", "", []string{"a\nb c"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := Command(tt.text, values(map[string]string{"v": tt.value}))
			if err != nil || !slices.Equal(got, tt.want) {
				t.Errorf("got %q, %v, want %q", got, err, tt.want)
			}
		})
	}
}

// The original reads the eleventh variable as the second one with a zero behind it.
func TestMoreThanTenVariables(t *testing.T) {
	m, text := map[string]string{}, "printf %s"
	for c := 'a'; c <= 'p'; c++ {
		m[string(c)] = "(" + string(c) + ")"
		text += ` "<` + string(c) + `>"`
	}
	if got, want := shell(t, text, m), "(a)(b)(c)(d)(e)(f)(g)(h)(i)(j)(k)(l)(m)(n)(o)(p)"; got != want {
		t.Errorf("the script reads %q", got)
	}
}

func TestTagsWhoseVariablesWouldBeOne(t *testing.T) {
	if got := shell(t, `printf '%s ' "<a-b>" "<a.b>" "<a_b>"`, map[string]string{"a-b": "1;", "a.b": "2;", "a_b": "3;"}); got != "1; 2; 3; " {
		t.Errorf("the script reads %q", got)
	}
}

func TestLongValuesAreCut(t *testing.T) {
	long := strings.Repeat("ü;", 100_000)
	if got := shell(t, `printf %s "<v>"`, map[string]string{"v": long}); len(got) < maxValue-1 || !strings.HasPrefix(long, got) {
		t.Errorf("%d bytes arrive", len(got))
	}
	m, text := map[string]string{}, "printf %s"
	for c := 'a'; c <= 'z'; c++ {
		m[string(c)] = long
		text += ` "<` + string(c) + `>"`
	}
	if got := shell(t, text+" | wc -c", m); strings.TrimSpace(got) != "1048564" && len(strings.TrimSpace(got)) != 7 {
		t.Errorf("%s bytes arrive", got)
	}
	if _, err := Command(strings.Repeat("x", maxScript+1), values(nil)); err != ErrTooLong {
		t.Errorf("a script that is too long: %v", err)
	}
}

// shell runs a text in an empty folder and returns what it prints.
func shell(t testing.TB, text string, m map[string]string) string {
	t.Helper()
	args, err := Command(text, values(m))
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "sh", append([]string{"-c"}, args...)...)
	cmd.Dir = t.TempDir()
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%q: %v: %s", args[0], err, out)
	}
	if left, err := os.ReadDir(cmd.Dir); err != nil || len(left) > 0 {
		t.Fatalf("%q made %v, %v", args, left, err)
	}
	return string(out)
}

// Hostile are texts that an attacker would like a shell to read.
var hostile = []string{
	"$(touch pwned)", "`touch pwned`", "'; touch pwned; '", "\"; touch pwned; \"", "a\ntouch pwned\n", "a\rtouch pwned", "; touch pwned",
	"| touch pwned", "& touch pwned &", "&& touch pwned", "<ip>", "<v>$(touch pwned)", "${IFS}touch${IFS}pwned", "$((1+1))", "\\$(touch pwned)",
	"> pwned", ">pwned", "x >pwned", "* ? [a-z]*", "~root", "{a,b}", "!touch", "#", "-e", "%n%s", "\t", "$0", "$f2bV_v", "\\", "'", "\"", "$'\\n'", "\x1b]0;x\a",
}

func TestNoValueIsEverRunOrReadAgain(t *testing.T) {
	for _, v := range hostile {
		got := shell(t, `printf %s "<v>"`, map[string]string{"v": v, "ip": "192.0.2.1"})
		if got != v {
			t.Errorf("%q arrives as %q", v, got)
		}
		// Without quotes a shell cuts a variable into words and looks for files, and that is all.
		shell(t, `: <v>`, map[string]string{"v": v})
		shell(t, `: '<v>'`, map[string]string{"v": v})
	}
}

// FuzzCommand holds that nothing of a value but what is harmless becomes part of a script,
// and that the script hands over the rest byte for byte.
func FuzzCommand(f *testing.F) {
	for _, v := range hostile {
		f.Add(`x "<v>"`, v, v)
	}
	f.Add("<v<v>><<w>>", "a", "<v>")
	f.Fuzz(func(t *testing.T, text, v, w string) {
		if len(text) > 4096 {
			return
		}
		args, err := Command(text, values(map[string]string{"v": v, "w": w}))
		if err != nil {
			if len(text)+strings.Count(text, "<")*(len(v)+len(w)) <= maxScript {
				t.Fatal(err)
			}
			return
		}
		for _, a := range args[1:] {
			if a != strings.ReplaceAll(v, "\x00", "") && a != strings.ReplaceAll(w, "\x00", "") && len(a) < maxValue-4 {
				t.Fatalf("%q hands over %q", text, a)
			}
		}
		// A script is the text itself with tags replaced by harmless things or variables: cut
		// out both, and no special sign may be left that the text did not have.
		script := args[0]
		if len(args) > 1 {
			_, script, _ = strings.Cut(script, " \n")
		}
		for _, c := range special + "\r\a" {
			if c == '$' {
				continue
			}
			if got, had := strings.Count(script, string(c)), strings.Count(text, string(c)); got > had {
				t.Fatalf("%q with %q and %q becomes %q: %c is new", text, v, w, script, c)
			}
		}
	})
}

// FuzzShell has a real shell tell what it was handed.
func FuzzShell(f *testing.F) {
	for _, v := range hostile {
		f.Add(v)
	}
	f.Fuzz(func(t *testing.T, v string) {
		if len(v) > maxValue {
			return
		}
		if got, want := shell(t, `printf %s "<v>"`, map[string]string{"v": v}), strings.ReplaceAll(v, "\x00", ""); got != want {
			t.Fatalf("%q arrives as %q", want, got)
		}
	})
}

func BenchmarkCommand(b *testing.B) {
	value := values(map[string]string{"ip": "192.0.2.1", "matches": "Failed password for $(x) from 192.0.2.1"})
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Command(`echo "<ip>" banned for "<matches>" | mail -s "<ip>" root`, value); err != nil {
			b.Fatal(err)
		}
	}
}

func TestReprIsPythons(t *testing.T) {
	for text, want := range map[string]string{
		"plain":           "'plain'",
		"it's":            `"it's"`,
		`it's "so"`:       `'it\'s "so"'`,
		"a\\b\n\r\t\x00":  `'a\\b\n\r\t\x00'`,
		"é\u00a0\u200b":   `'é\xa0\u200b'`,
		"\U000e0001":      `'\U000e0001'`,
		"\ufffd is shown": "'\ufffd is shown'",
		"\xff is none":    `'\udcff is none'`,
	} {
		if got := Repr(text); got != want {
			t.Errorf("Repr(%q) = %s, want %s", text, got, want)
		}
	}
}
