package config

import (
	"fmt"
	"strings"
	"testing"
)

func TestAQuoteThatIsNotClosed(t *testing.T) {
	for _, tt := range []struct{ name, lines, want string }{
		{"at the end of a bracket", "action = one[port=\"%(port)s\", protocol=\"%(protocol)s]", `warning jail.conf:8: action: a quote is not closed: "protocol=\"%(protocol)s]"`},
		{"with more quotes on later lines", "action = one[port=\"%(port)s\", protocol=\"%(protocol)s]\n  two[x=\"y\"]", `error jail.conf:8: action: a quote is not closed: "protocol=\"%(protocol)s]"`},
		{"on a later line", "action = one[x=1]\n\n  two[x=\"y]\n  one[y=\"z\", actname=b]", `error jail.conf:10: action: a quote is not closed: "x=\"y]"`},
		{"before another parameter", "action = one[port=\"a, protocol=\"b\"]", `error jail.conf:8: action: a quote is not closed: "port=\"a, protocol=\"b\"]"`},
		{"in what the option refers to", "action = %(action_)s\n  two[x=\"y\"]\naction_ = one[port=\"%(port)s\", protocol='%(protocol)s]\n  two[actname='z']", `error jail.conf:10: action_: a quote is not closed: "protocol='%(protocol)s]"`},
		{"of a secret", "action = one[x=1]\n  telegram[chat=1, token=\"123:verysecret]", `warning jail.conf:9: action: a quote is not closed: "token=***`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := load(t, "-- jail.conf --\n[a]\nenabled = true\nfailregex = ^from <HOST>$\nlogpath = /var/log/a.log\nport = 1\nprotocol = tcp\n\n"+tt.lines+
				"\n-- action.d/one.conf --\n[Definition]\nactionban = x\n-- action.d/two.conf --\n[Definition]\nactionban = x\n")
			var got []string
			for _, p := range c.Problems {
				kind := "error"
				if p.Warning {
					kind = "warning"
				}
				got = append(got, fmt.Sprintf("%s %s", kind, p))
			}
			if all := strings.Join(got, "\n"); !strings.Contains(all, tt.want) || strings.Contains(all, "verysecret") {
				t.Errorf("it says\n%s\nwant\n%s", all, tt.want)
			}
		})
	}
	c := load(t, "-- jail.conf --\n[a]\nenabled = true\nfailregex = ^from <HOST>$\nlogpath = /var/log/a.log\naction = one[x=\"it's\", y='say \"', z=don't, w=\"abc=\", v=\"a,\n  b\"]\n-- action.d/one.conf --\n[Definition]\nactionban = x\n")
	if said := problemsOf(c); said != "" {
		t.Errorf("quotes that are closed: %s", said)
	}
}

// What is wrong with quotes lies within the line, whatever that is, and no secret of an action that tells is in what
// is said.
func FuzzOpenQuote(f *testing.F) {
	for _, s := range []string{`a[x="y]`, `a[x="y", z='w]`, `x="a, y="b"]`, `it's`, `="`, `"`, `a="b=c`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, line string) {
		if len(line) > 1<<12 {
			return
		}
		if at := openAt(line); at < -1 || at >= len(line) || at >= 0 && !strings.ContainsAny(line[at:], `"'`) {
			t.Errorf("in %q it is %d", line, at)
		}
		said := hideAll("token=\"abcdefgh"+strings.Map(func(r rune) rune {
			if strings.ContainsRune("\"',]\n", r) {
				return -1
			}
			return r
		}, line), "telegram[chat=1]")
		if strings.Contains(said, "abcdefgh") {
			t.Errorf("of %q it says %q", line, said)
		}
	})
}
