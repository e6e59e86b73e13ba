package store

import (
	"encoding/json"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// FuzzReadList compares with encoding/json: what we take for a list of lines is one, and holds the same, and
// what we wrote ourselves is read back.
func FuzzReadList(f *testing.F) {
	for _, seed := range []string{
		`[]`, `["a"]`, `["a", "b\"c\\", "\u00e9\n"]`, ` ["a"]`, `[ "a" ,"b" ] `, `["a",]`, `["a" "b"]`, `["a"`, `["a\`, `[1]`, `["\ud800"]`, `null`, "[\"a\xff\"]",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		lines := readList(text)
		if len(lines) > 0 && json.Valid([]byte(text)) {
			var want []string
			if err := json.Unmarshal([]byte(text), &want); err != nil {
				t.Fatalf("readList(%q) = %q, and it is no list of texts: %v", text, lines, err)
			}
			if got := readList(string(jsonList(want))); !cmp.Equal(got, want) {
				t.Errorf("of %q came %q", want, got)
			}
		}
		written := []string{text, "", text}
		var want []string
		if err := json.Unmarshal(jsonList(written), &want); err != nil {
			t.Fatal(err)
		}
		if got := readList(string(jsonList(written))); !cmp.Equal(got, want) {
			t.Errorf("of %q came %q", want, got)
		}
	})
}
