package filter

import (
	"context"
	"encoding/hex"
	"math/rand/v2"
	"os/exec"
	"reflect"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

func decodeText(t testing.TB, encoding, text string) string {
	t.Helper()
	d, err := newDecoder(encoding)
	if err != nil {
		t.Fatal(err)
	}
	var scratch []byte
	return string(d.decode([]byte(text), &scratch))
}

func TestDecode(t *testing.T) {
	for _, c := range []struct{ name, encoding, text, want string }{
		{"plain", "auto", "a é ж", "a é ж"},
		{"every byte that begins nothing is one replacement", "utf-8", "\xff\xfe\x80a", "\ufffd\ufffd\ufffda"},
		{"what begins a character is one replacement", "utf-8", "\xe2\x82a\xf0\x9f\x98", "\ufffda\ufffd"},
		{"too long a form is none", "utf-8", "\xc0\x80 \xe0\x80\x80", "\ufffd\ufffd \ufffd\ufffd\ufffd"},
		{"half a surrogate", "utf-8", "\xed\xa0\x80", "\ufffd\ufffd\ufffd"},
		{"beyond Unicode", "utf-8", "\xf4\x90\x80\x80", "\ufffd\ufffd\ufffd\ufffd"},
		{"a line end is no line end", "utf-8", "a\nb", `a\nb`},
		{"Western with the euro", "ISO-8859-15", "\xa4", "€"},
		{"the same by its Latin number", "latin_9", "\xa4", "€"},
		{"Windows", "Windows-1252", "\x80\x81", "€\ufffd"},
		{"Russian", "KOI8_R", "\xc1", "а"},
		{"the first line of UTF-16", "utf-16", "\xff\xfea\x00\xe9\x00\r\x00", "aé"},
		{"its next line", "utf-16le", "\x00a\x00=\xd8\x00\xde", "a😀"},
		{"the other way round", "utf-16be", "\x00a\x20\xac\x00", "a€"},
		{"by its mark", "utf-16", "\xfe\xff\x00a", "a"},
		{"half a character", "utf-16le", "a\x00=\xd8b\x00x", "a\ufffdb\ufffd"},
		{"a line end in UTF-16", "utf-16be", "\x00a\x00\n\x00b", `a\nb`},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := decodeText(t, c.encoding, c.text); got != c.want {
				t.Errorf("%s %q: got %q, want %q", c.encoding, c.text, got, c.want)
			}
		})
	}
}

// Every byte of every code page, and hostile UTF-8, are what Python makes of them.
func TestDecodesAsPython(t *testing.T) {
	python, err := exec.LookPath("python3")
	if err != nil {
		t.Skip("no python3 to compare with")
	}
	var all strings.Builder
	for b := 1; b < 256; b++ {
		if b != '\n' && b != '\r' {
			all.WriteByte(byte(b))
		}
	}
	var texts [][2]string
	hyphen := strings.NewReplacer("iso8859", "iso8859-", "koi8", "koi8-")
	for name := range highHalves {
		texts = append(texts, [2]string{hyphen.Replace(name), all.String()})
	}
	texts = append(texts, [2]string{"latin1", all.String()}, [2]string{"ascii", all.String()})
	edges := []string{"a", "\x80", "\x9f", "\xa0", "\xbf", "\xc0", "\xc2", "\xe0", "\xed", "\xef", "\xf0", "\xf4", "\xf5"}
	for _, a := range edges {
		for _, b := range edges {
			for _, c := range edges {
				texts = append(texts, [2]string{"utf-8", a + b + c}, [2]string{"utf-8", a + "\x90" + b + c + "\x80"})
			}
		}
	}
	var in strings.Builder
	for _, x := range texts {
		in.WriteString(x[0] + " " + hex.EncodeToString([]byte(x[1])) + "\n")
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, python, "-c", `
import sys
for line in sys.stdin:
    name, text = line.split()
    print(bytes.fromhex(text).decode(name, "replace").encode("utf-8").hex())
`)
	cmd.Stdin = strings.NewReader(in.String())
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("python3: %v", err)
	}
	want := strings.Fields(string(out))
	if len(want) != len(texts) {
		t.Fatalf("%d answers to %d questions", len(want), len(texts))
	}
	for i, x := range texts {
		if got := hex.EncodeToString([]byte(decodeText(t, x[0], x[1]))); got != want[i] {
			t.Errorf("%s %q: got %s, want %s", x[0], x[1], got, want[i])
		}
	}
}

func FuzzDecode(f *testing.F) {
	for _, s := range []string{"a\nb", "\xff\xfea\x00", "\x00a\x20\xac\x00", "\xe2\x82", "\xf0\x9f\x98\x80"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if len(text) > 64<<10 {
			return
		}
		for _, encoding := range []string{"utf-8", "utf-16le", "utf-16be", "cp1252", "latin1", "ascii"} {
			got := decodeText(t, encoding, text)
			if !utf8.ValidString(got) || strings.Contains(got, "\n") {
				t.Errorf("%s %q: got %q", encoding, text, got)
			}
			if len(got) > 3*len(text) {
				t.Errorf("%s: %d bytes became %d", encoding, len(text), len(got))
			}
		}
	})
}

// Most lines are searched before it is known whether they need decoding: nothing follows from that.
func TestAloneAndAmongOthersALineIsTheSame(t *testing.T) {
	config := Config{
		Failregex:   []string{`^ (?:é|web\S?) sshd: (?:fail|Füße\W)(?:\\n| |\ufffd)*for <F-USER>.*</F-USER> from <HOST>$`, `^ x.<HOST>`},
		Ignoreregex: []string{`\ufffd\ufffd\ufffd`},
	}
	config.Failregex = append(config.Failregex, strings.Replace(config.Failregex[0], "^ ", "^[^J]{0,3} ", 1))
	anywhere := mustCompile(t, config)
	config.DatePattern = []string{"{^LN-BEG}"}
	atStart := mustCompile(t, config)
	r := rand.New(rand.NewPCG(5, 1))
	pick := func(of ...string) string { return of[r.IntN(len(of))] }
	spoil := func() string {
		return pick("", "", "", "", "", "", "", "", "\n", "\xff", "\xe2\x82", "\xf0\x9f\x98", "é", "\x00", "\xc3", "\u2028", "日本", "\xed\xa0\x80")
	}
	matched := 0
	for range 20_000 {
		line := pick("", "", "[", "\xf0\x9f\x98", "\xff\xff\xff") + pick("Jun 15 11:00:0"+pick("0", "1", "7"), "") + " " + spoil() + pick("é", "web", "x", "web1") + spoil() + pick(" sshd: ", "1.2.3.4") +
			pick("fail", "Füße ", "Füße") + spoil() + pick(" ", "", "  ") + spoil() + "for " + spoil() + pick("root", "") + spoil() +
			" from " + spoil() + "192.0.2." + pick("1", "2") + spoil()
		rules := anywhere
		if r.IntN(2) == 0 {
			rules = atStart
		}
		alone, among := New(rules), New(rules)
		for _, other := range []string{"Jun 15 11:00:00 é", "Jun 15 11:00:01 web", pick("Jun 15 11:00:02 x", line)} {
			judgeText(among, other)
		}
		a, b := judgeText(alone, line), judgeText(among, line)
		if !reflect.DeepEqual(a, b) {
			t.Fatalf("%q:\nalone %+v\namong %+v", line, a, b)
		}
		matched += len(a)
	}
	if matched < 500 {
		t.Errorf("only %d lines matched", matched)
	}
}
