package logtest

import (
	"bytes"
	"strings"
	"testing"

	"bantam/internal/filter"
)

const sample = `# a comment
#: year 2025, zone UTC
#: fail 192.0.2.7 at 2025-03-02T10:15:04Z user=root, why not
Mar  2 10:15:04 bad root from 192.0.2.7

#: fail 192.0.2.8 user="a b"
Mar  2 10:15:04 bad a b from 192.0.2.8
#: pass, nobody
Mar  2 10:15:09 good
#: options mode=strict
#: fail 192.0.2.9
Mar  2 10:15:09 bad x from 192.0.2.9
`

func TestCheck(t *testing.T) {
	sections, err := Parse(strings.NewReader(sample))
	if err != nil {
		t.Fatal(err)
	}
	if len(sections) != 2 || len(sections[0].Lines) != 3 || sections[1].Options["mode"] != "strict" {
		t.Fatalf("got %+v", sections)
	}
	config := func(regex string) filter.Config {
		return filter.Config{Jail: "t", Failregex: []string{regex}}
	}
	for _, s := range sections {
		for _, err := range s.Check(config(`^ bad <F-USER>.*</F-USER> from <HOST>$`)) {
			t.Error(err)
		}
	}
	for _, c := range []struct{ name, regex, want string }{
		{"a failure that is missed", `^ bad <F-USER>\w+</F-USER> from <HOST>$`, `line 7: fails "", want "192.0.2.8"`},
		{"a failure too many", `(?:from )?<F-ID>\S+</F-ID>$`, `line 9: fails`},
		{"a wrong user", `^ bad <F-USER>\w</F-USER>.* from <HOST>$`, `line 4: 192.0.2.7 fails as "r", want "root"`},
		{"a filter that does not compile", `(`, "failregex 1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var all []string
			for _, err := range sections[0].Check(config(c.regex)) {
				all = append(all, err.Error())
			}
			if got := strings.Join(all, "\n"); !strings.Contains(got, c.want) {
				t.Errorf("got %q, want %q in it", got, c.want)
			}
		})
	}
}

func TestWrongTimeIsSeen(t *testing.T) {
	sections, err := Parse(strings.NewReader(strings.Replace(sample, "04Z", "05Z", 1)))
	if err != nil {
		t.Fatal(err)
	}
	errs := sections[0].Check(filter.Config{Jail: "t", Failregex: []string{`^ bad <F-USER>.*</F-USER> from <HOST>$`}})
	if len(errs) != 1 || !strings.Contains(errs[0].Error(), "at 2025-03-02T10:15:04Z, want 2025-03-02T10:15:05Z") {
		t.Errorf("got %v", errs)
	}
}

func TestParseErrors(t *testing.T) {
	for text, want := range map[string]string{
		"a line":                               "line 1: there is no note",
		"#: pass":                              "lacks its line",
		"#: pass\n#: fail 1.2.3.4":             "line 2: it is told to pass",
		"#: fail":                              "who fails?",
		"#: fail 1.2.3.4 at noon":              "line 1: parsing time",
		"#: fail 1.2.3.4 perhaps":              "not understood",
		"#: year MMXXV":                        "line 1: year",
		"#: year 2025, zone Atlantis/Undersea": "zone",
		"#: options mode":                      "lacks a value",
		"#: maybe":                             "unknown word",
	} {
		if _, err := Parse(strings.NewReader(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: error %v, want one with %q", text, err, want)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(sample))
	f.Add([]byte("#: fail 1.2.3.4 user=\"\nx"))
	f.Fuzz(func(t *testing.T, data []byte) {
		sections, err := Parse(bytes.NewReader(data))
		if err != nil {
			return
		}
		for _, s := range sections {
			for _, l := range s.Lines {
				if l.Text == "" {
					t.Errorf("an empty line with a note: %+v", l)
				}
			}
		}
	})
}
