package cli

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"bantam/internal/setup"
)

func TestAnswersChangeWhatIsProposed(t *testing.T) {
	known := func(word string) (string, error) {
		if strings.ContainsAny(word, "!") {
			return "", fmt.Errorf("%q is unknown", word)
		}
		return word, nil
	}
	for _, c := range []struct {
		answer, want string
		wrong        bool
	}{
		{"", "sshd nginx", false},
		{"Y", "sshd nginx", false},
		{"none", "", false},
		{"postfix", "sshd nginx postfix", false},
		{"+postfix, -nginx", "sshd postfix", false},
		{"-sshd -nginx", "", false},
		{"sshd", "nginx sshd", false},
		{"-absent", "sshd nginx", false},
		{"a!", "", true},
	} {
		got, err := edit([]string{"sshd", "nginx"}, c.answer, known, func(a, b string) bool { return a == b })
		if (err != nil) != c.wrong || strings.Join(got, " ") != c.want {
			t.Errorf("%q: %v, %v; want %s", c.answer, got, err, c.want)
		}
	}
}

// Whatever is answered, who is never banned is named by addresses.
func FuzzEdit(f *testing.F) {
	f.Add("-192.0.2.1 ::ffff:192.0.2.9, 2001:db8::5/64")
	f.Add("+fe80::1%eth0")
	f.Fuzz(func(t *testing.T, answer string) {
		if len(answer) > maxAnswer {
			t.Skip()
		}
		same := func(a, b setup.Never) bool { return a.Prefix == b.Prefix }
		got, err := edit(nil, answer, parseNever, same)
		for i, n := range got {
			if !n.Prefix.IsValid() || n.Prefix != n.Prefix.Masked() || n.Prefix.Addr().Zone() != "" || err != nil {
				t.Errorf("%q: %v, %v", answer, n, err)
			}
			if slices.ContainsFunc(got[:i], func(o setup.Never) bool { return same(o, n) }) {
				t.Errorf("%q: %s is there twice", answer, n)
			}
		}
	})
}

func TestLongNotesAreBrokenBetweenWords(t *testing.T) {
	text := strings.Repeat("seven77 ", 30)
	got := wrap(text, 40)
	for i, line := range strings.Split(got, "\n") {
		if len(line) > 80 || i == 0 && len(line) > 40 {
			t.Errorf("line %d has %d characters: %q", i+1, len(line), line)
		}
	}
	if !slices.Equal(strings.Fields(got), strings.Fields(text)) {
		t.Errorf("words are lost: %q", got)
	}
	if got := cut("/var/log/a/very/long/path/to/a.log", 12); got != "…th/to/a.log" {
		t.Errorf("a path is cut to %q", got)
	}
}
