package config

import (
	"strings"
	"testing"
)

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
