package config

import (
	"strings"
	"testing"
)

func TestReplaceTags(t *testing.T) {
	values := map[string]string{
		"mode": "normal", "m-normal": "N<x>", "x": "X", "loop": "<pool>", "pool": "<loop>", "many": strings.Repeat("<x>", 100),
		"big": strings.Repeat("y", maxExpansion/2), "selfish": "a<selfish>", "two": "<big><big><big>",
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
			got, err := replaceTags("self", tt.text, func(tag string) (string, bool) {
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

func FuzzReplaceTags(f *testing.F) {
	f.Add("<a>", "<b>x", "<<c>>", "a<a>")
	f.Add("<m-<b>>", "b", "", "<HOST>")
	f.Add("<a><a><a>", "<b><b>", "<c><c>", "<d><d>")
	f.Fuzz(func(t *testing.T, text, a, b, c string) {
		values := map[string]string{"a": a, "b": b, "c": c, "m-b": a + b}
		got, err := replaceTags("self", text, func(tag string) (string, bool) { v, ok := values[tag]; return v, ok })
		if err != nil {
			return
		}
		if len(got) > maxExpansion && len(got) > len(text) {
			t.Fatalf("grew to %d bytes", len(got))
		}
		for tag := range values {
			if start, end := nextTag(got, 0); start >= 0 && got[start:end] == "<"+tag+">" {
				t.Fatalf("%q still has <%s>: %q", text, tag, got)
			}
		}
	})
}

func FuzzExpand(f *testing.F) {
	f.Add("[DEFAULT]\nb = 1\n[s]\na = %(b)s %% %(c)s\nc = %(known/b)s")
	f.Add("[s]\na = %(a)s\n[t]\na = %(s/a)s%(__name__)s")
	f.Add("[s]\na = %(b)s%(b)s%(b)s\nb = %(c)s%(c)s\nc =")
	f.Fuzz(func(t *testing.T, text string) {
		parsed, err := parse("x", []byte(text))
		if err != nil {
			return
		}
		s := newSet()
		s.add(parsed)
		s.add(parsed)
		for name, sec := range s.sections {
			for _, key := range sec.keys {
				got, err := (&scope{set: s, section: name}).expand(sec.opts[key])
				if p, ok := err.(*Problem); err != nil && (!ok || p.Line == 0) {
					t.Fatalf("the error is %v", err)
				}
				if len(got) > maxExpansion+len(text) {
					t.Fatalf("grew to %d bytes", len(got))
				}
			}
		}
		_ = s.references()
	})
}

func TestExpandIsBounded(t *testing.T) {
	// Each option refers a hundred times to the next: 100^9 references to nothing.
	var b strings.Builder
	b.WriteString("[s]\n")
	for c := 'a'; c < 'j'; c++ {
		b.WriteString(string(c) + " = " + strings.Repeat("%("+string(c+1)+")s", 100) + "\n")
	}
	b.WriteString("j =\n")
	f, err := parse("x", []byte(b.String()))
	if err != nil {
		t.Fatal(err)
	}
	s := newSet()
	s.add(f)
	_, err = (&scope{set: s, section: "s"}).expand(s.raw("s", "a"))
	if err == nil || !strings.Contains(err.Error(), "too many references") {
		t.Errorf("got %v", err)
	}
}

func TestNearest(t *testing.T) {
	names := keyNames(jailKeys)
	for key, want := range map[string]string{"maxrety": "maxretry", "bantmie": "bantime", "ignoreips": "ignoreip", "findtme": "findtime", "frobnicate": "", "xx": ""} {
		if got := nearest(key, names); got != want {
			t.Errorf("%q is nearest to %q, want %q", key, got, want)
		}
	}
}
