package filter

import (
	"bytes"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"bantam"
)

var noon = time.Date(2026, 6, 15, 12, 0, 0, 0, time.UTC)

func mustCompile(t testing.TB, c Config) *Rules {
	t.Helper()
	if c.Jail == "" {
		c.Jail = "t"
	}
	if c.Local == nil {
		c.Local = time.UTC
	}
	r, err := Compile(c)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// undated is a configuration whose lines have no date and count as of now.
func undated(fail ...string) Config {
	return Config{Failregex: fail, DatePattern: []string{"{NONE}"}}
}

func judgeText(f *Filter, text string) []bantam.Failure {
	return f.Judge(&bantam.Line{Text: []byte(text), Read: noon, Live: true}, nil)
}

// who names what was counted for: "1.2.3.4", "name example.com", or nothing.
func who(fs []bantam.Failure) string {
	var out []string
	for _, fl := range fs {
		switch p, ok := fl.ID.Prefix(); {
		case fl.Host != "":
			out = append(out, "name "+fl.Host)
		case ok && p.IsValid():
			out = append(out, fl.ID.String())
		default:
			out = append(out, "text "+fl.ID.String())
		}
	}
	return strings.Join(out, ", ")
}

func TestWhoFailed(t *testing.T) {
	for _, c := range []struct{ name, regex, dns, line, want string }{
		{"address", `^f <HOST> x$`, "", "f 1.2.3.4 x", "1.2.3.4"},
		{"in brackets", `^f <HOST> x$`, "", "f [1.2.3.4] x", "1.2.3.4"},
		{"half a bracket", `^f <HOST> x$`, "", "f [1.2.3.4 x", "1.2.3.4"},
		{"mapped", `^f <HOST> x$`, "", "f ::ffff:1.2.3.4 x", "1.2.3.4"},
		{"mapped in capitals, anchored", `^f <HOST> x$`, "", "f ::FFFF:1.2.3.4 x", ""},
		{"mapped in capitals, unanchored", `^f <HOST>`, "", "f ::FFFF:1.2.3.4 x", "::ffff:1"},
		{"mapped in hex", `^f <HOST> x$`, "", "f ::ffff:0102:0304 x", "1.2.3.4"},
		{"long form of IPv6", `^f <HOST> x$`, "", "f 2001:DB8:0:0:0:0:0:1 x", "2001:db8::1"},
		{"IPv6 with port, anchored", `^f <HOST> x$`, "", "f [2001:db8::1]:22 x", ""},
		{"IPv6 with port, unanchored", `^f <HOST>`, "", "f [2001:db8::1]:22 x", "2001:db8::1"},
		{"zone is dropped", `^f <HOST>`, "", "f fe80::1%eth0 x", "fe80::1"},
		{"nine groups, unanchored", `^f <HOST>`, "", "f 1:2:3:4:5:6:7:8:9 x", "1:2:3:4:5:6:7:8"},
		{"embedded dotted quad, anchored", `^f <HOST> x$`, "", "f ::1.2.3.4 x", ""},
		{"embedded dotted quad, unanchored", `^f <HOST>`, "", "f ::1.2.3.4 x", "::1"},
		{"embedded dotted quad behind a prefix, unanchored", `^f <HOST>`, "", "f 64:ff9b::1.2.3.4 x", "64:ff9b::1"},
		{"length, anchored", `^f <HOST> x$`, "", "f 1.2.3.4/24 x", ""},
		{"length, unanchored", `^f <HOST>`, "", "f 1.2.3.4/24 x", "1.2.3.4"},
		{"IPv4 with port, anchored", `^f <HOST> x$`, "", "f 1.2.3.4:22 x", ""},
		{"bracketed name, unanchored", `^f <HOST>`, "", "f [host.example] x", ""},
		{"zone in an own expression", `^f <F-IP6>\S+</F-IP6> x$`, "", "f fe80::1%eth0 x", ""},
		{"any address", `^f <HOST> x$`, "", "f :: x", "::"},
		{"number out of range is nobody", `f <HOST>$`, "", "f 999.1.1.1", ""},
		{"leading zeros are nobody", `f <HOST>$`, "", "f 192.030.0.6", ""},
		{"what only looks like IPv6 is nobody", `^f <HOST> x$`, "", "f a:b x", ""},
		{"cut digits are nobody", `^f <HOST>`, "", "f 1.2.3.4567 x", ""},
		{"name", `^f <HOST> x$`, "", "f host.example x", "name host.example"},
		{"name with usedns yes", `^f <HOST> x$`, "yes", "f host.example x", "name host.example"},
		{"name with usedns no", `^f <HOST> x$`, "no", "f host.example x", ""},
		{"DNS tag with usedns no", `^f <DNS> x$`, "no", "f host.example x", ""},
		{"DNS tag holding an address", `^f <DNS> x$`, "no", "f 1.2.3.4 x", "1.2.3.4"},
		{"name with usedns raw", `^f <HOST> x$`, "raw", "f host.example x", "text host.example"},
		{"final dot is left over", `^f <HOST>`, "", "f host.example. x", "name host.example"},
		{"bracketed name", `^f <HOST> x$`, "", "f [host.example] x", ""},
		{"ADDR takes no name", `^f <ADDR> x$`, "", "f host.example x", ""},
		{"subnet", `^f <SUBNET> x$`, "", "f 192.0.2.77/24 x", "192.0.2.0/24"},
		{"subnet longer than the family has", `^f <SUBNET> x$`, "", "f 192.0.2.77/33 x", "192.0.2.77"},
		{"a length of 0 is one address", `^f <SUBNET> x$`, "", "f 192.0.2.77/0 x", "0.0.0.0"},
		{"a text with length 0 is one address", `^f <F-ID/> x$`, "", "f ::1/0 x", "::"},
		{"a text that is an address with too great a length", `^f <F-ID/> x$`, "", "f 1.2.3.4/33 x", "1.2.3.4"},
		{"a text that is an address with a mask", `^f <F-ID/> x$`, "", "f 1.2.3.4/255.255.0.0 x", "1.2.0.0/16"},
		{"a text that almost is an address", `^f<F-ID>.+</F-ID>$`, "", "f 1.2.3.4", "text  1.2.3.4"},
		{"a text that is a short number", `^f <F-ID>.+</F-ID>$`, "", "f 1.2.3", "text 1.2.3"},
		{"an alternative for an address", `^<HOST> <F-ALT_IP4>.*</F-ALT_IP4>$`, "", "::1 1.2.3.4", "1.2.3.4"},
		{"digits of other scripts are nobody's address", `^f <HOST>$`, "", "f \u0661.2.3.4", ""},
		{"separate length", `^f <IP4> mask <CIDR>$`, "", "f 192.0.2.77 mask 24", "192.0.2.0/24"},
		{"own group", `^f (?P<ip6>\S+) x$`, "", "f 2001:db8::1 x", "2001:db8::1"},
		{"own expression in the tag", `^f <F-IP4>\S+</F-IP4> x$`, "", "f 1.2.3.4 x", "1.2.3.4"},
		{"own expression that takes anything", `^f <F-IP4>.+</F-IP4> x$`, "", "f evil x", ""},
		{"text", `^f <F-ID>\w+</F-ID>$`, "", "f root", "text root"},
		{"text that is an address", `^f <F-ID/>$`, "", "f [::1]", "::1"},
		{"text that is a prefix", `^f <F-ID/>$`, "", "f 1.2.3.4/24", "1.2.3.0/24"},
		{"text that is an address, raw", `^f <F-ID/>$`, "raw", "f [::1]", "text [::1]"},
		{"text beside an address", `^f <F-ID>\w+</F-ID> <ADDR>$`, "", "f root 1.2.3.4", "text root"},
		{"text beside a name is data", `^f <F-ID>\w+</F-ID> <HOST>$`, "", "f root h.example", "name h.example"},
		{"text beside an address where a name may stand", `^f <F-ID>\w+</F-ID> <DNS>$`, "no", "f root 1.2.3.4", "1.2.3.4"},
		{"text beside an address where a name may stand, raw", `^f <F-ID>\w+</F-ID> <DNS>$`, "raw", "f root 1.2.3.4", "text root"},
		{"empty text is nobody", `^f<F-ID>\w*</F-ID>$`, "", "f", ""},
		{"tuple", `^f <F-ID>\w+</F-ID> <F-TUPLE_ID>\w+</F-TUPLE_ID>$`, "", "f A B", "text ('A', 'B')"},
		{"tuple with quotes", `^f <F-ID>\S+</F-ID> <F-TUPLE_ID>\S+</F-TUPLE_ID>$`, "", `f it's "it's`, `text ("it's", '"it\'s')`},
	} {
		t.Run(c.name, func(t *testing.T) {
			cfg := undated(c.regex)
			cfg.UseDNS = c.dns
			if got := who(judgeText(New(mustCompile(t, cfg)), c.line)); got != c.want {
				t.Errorf("%s on %q: got %q, want %q", c.regex, c.line, got, c.want)
			}
		})
	}
}

func TestData(t *testing.T) {
	for _, c := range []struct {
		name, regex, line string
		user              string
		data              map[string]string
	}{
		{"user", `^u <F-USER>\S*</F-USER> <HOST>$`, "u bob 1.2.3.4", "bob", nil},
		{"alternative for an empty user", `^u <F-USER>\S*</F-USER> <F-ALT_USER>\S*</F-ALT_USER> <HOST>$`, "u  B 1.2.3.4", "B", nil},
		{"numbered alternative", `^u <F-USER>\S*</F-USER> <F-ALT_USER_1>\S*</F-ALT_USER_1> <HOST>$`, "u  B 1.2.3.4", "B", nil},
		{"the direct one wins", `^u <F-USER>\S*</F-USER> <F-ALT_USER>\S*</F-ALT_USER> <HOST>$`, "u A B 1.2.3.4", "A", nil},
		{"a digit without underscore names another field", `^u <F-USER>\S*</F-USER> <F-ALT_USER1>\S*</F-ALT_USER1> <HOST>$`, "u  B 1.2.3.4", "", map[string]string{"user1": "B"}},
		{"no alternative either", `^u <F-X>\S*</F-X> <F-ALT_X>\S*</F-ALT_X> <HOST>$`, "u   1.2.3.4", "", map[string]string{"x": ""}},
		{"tuple in the order of the names", `^<F-TUPLE_X_2>.</F-TUPLE_X_2><F-TUPLE_X>.</F-TUPLE_X><F-X>.</F-X> <HOST>$`, "abc 1.2.3.4", "", map[string]string{"x": "('c', 'b', 'a')"}},
		{"tuple of what took no part", `^<F-TUPLE_X_2>.\t</F-TUPLE_X_2>(?:,<F-TUPLE_X>.</F-TUPLE_X>)? <HOST>$`, "a\t 1.2.3.4", "", map[string]string{"x": `(None, None, 'a\t')`}},
		{"own fields", `^u <HOST> <F-RCPT>\S+</F-RCPT> <F-PORT/>$`, "u 1.2.3.4 x@y 22", "", map[string]string{"rcpt": "x@y", "fport": "22"}},
		{"text beside a name", `^u <F-ID>\w+</F-ID> <DNS>$`, "u root h.example", "", map[string]string{"fid": "root"}},
		{"text beside an address where a name may stand", `^u <F-ID>\w+</F-ID> <DNS>$`, "u root 1.2.3.4", "", map[string]string{"fid": "root"}},
		{"address beside a text ID", `^u <F-ID>\w+</F-ID> <ADDR>$`, "u root 1.2.3.4", "", map[string]string{"fid": "root", "ip": "1.2.3.4"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			fs := judgeText(New(mustCompile(t, undated(c.regex))), c.line)
			if len(fs) != 1 {
				t.Fatalf("%d failures, want 1", len(fs))
			}
			if fs[0].User != c.user || !reflect.DeepEqual(fs[0].Data, c.data) {
				t.Errorf("got user %q, data %v; want %q, %v", fs[0].User, fs[0].Data, c.user, c.data)
			}
		})
	}
}

func TestOrderOfExpressions(t *testing.T) {
	for _, c := range []struct {
		name   string
		config Config
		line   string
		want   string
		regex  int
	}{
		{"first match wins", Config{Failregex: []string{`x <HOST>$`, `f x <HOST>$`}}, "f x 1.2.3.4", "1.2.3.4", 1},
		{"second is tried", Config{Failregex: []string{`y <HOST>$`, `x <HOST>$`}}, "f x 1.2.3.4", "1.2.3.4", 2},
		{"the first match ends it, though it yields nobody", Config{Failregex: []string{`f <HOST>`, `g <HOST>`}, UseDNS: "no"}, "f 999.1.1.1 g 5.6.7.8", "", 0},
		{"a host that took no part lets the next try", Config{Failregex: []string{`f(?: <HOST>)?`, `g <HOST>`}}, "f! g 5.6.7.8", "5.6.7.8", 2},
		{"prefix must match", Config{Prefregex: `^A `, Failregex: []string{`f <HOST>$`}}, "B f 1.2.3.4", "", 0},
		{"prefix without content leaves the text", Config{Prefregex: `^A `, Failregex: []string{`^A f <HOST>$`}}, "A f 1.2.3.4", "1.2.3.4", 1},
		{"content is all that is seen", Config{Prefregex: `^A <F-CONTENT>.+</F-CONTENT>$`, Failregex: []string{`^f <HOST>$`}}, "A f 1.2.3.4", "1.2.3.4", 1},
		{"empty content leaves the text", Config{Prefregex: `^<ADDR><F-CONTENT>.*</F-CONTENT>`, Failregex: []string{`^<ADDR>$`}}, "1.2.3.4", "1.2.3.4", 1},
		{"prefix may name the host", Config{Prefregex: `^<HOST> <F-CONTENT>.+</F-CONTENT>$`, Failregex: []string{`^f$`}}, "1.2.3.4 f", "1.2.3.4", 1},
		{"an address of version 4 in the prefix beats one of version 6", Config{Prefregex: `^A <HOST> <F-CONTENT>.+</F-CONTENT>$`, Failregex: []string{`^bad <HOST>$`}}, "A 1.2.3.4 bad ::5", "1.2.3.4", 1},
		{"but the same group counts last", Config{Prefregex: `^A <HOST> <F-CONTENT>.+</F-CONTENT>$`, Failregex: []string{`^bad <HOST>$`}}, "A 1.2.3.4 bad 5.6.7.8", "5.6.7.8", 1},
		{"ignored", Config{Failregex: []string{`f <HOST>$`}, Ignoreregex: []string{`x`, ` 1\.`}}, "f 1.2.3.4", "", 0},
		{"ignoreregex sees the content only", Config{Prefregex: `^A <F-CONTENT>.+</F-CONTENT>$`, Failregex: []string{`^f <HOST>$`}, Ignoreregex: []string{`^A f`}}, "A f 1.2.3.4", "1.2.3.4", 1},
		{"with four expressions it sees the line first", Config{Prefregex: `^A <F-CONTENT>.+</F-CONTENT>$`, Failregex: []string{`^f <HOST>$`, `b <HOST>`, `c <HOST>`, `d <HOST>`}, Ignoreregex: []string{`^A f`}}, "A f 1.2.3.4", "", 0},
		{"with three it does not", Config{Prefregex: `^A <F-CONTENT>.+</F-CONTENT>$`, Failregex: []string{`^f <HOST>$`, `b <HOST>`, `c <HOST>`}, Ignoreregex: []string{`^A f`}}, "A f 1.2.3.4", "1.2.3.4", 1},
		{"end of line", Config{Failregex: []string{`f <HOST>$`}}, "f 1.2.3.4", "1.2.3.4", 1},
		{"the line end can be matched", Config{Failregex: []string{`f <HOST>\s$`}}, "f 1.2.3.4", "1.2.3.4", 1},
		{"end of text is behind the line end", Config{Failregex: []string{`^u <HOST>\Z`}}, "u 1.2.3.4", "", 0},
		{"a line end inside a line is not one", Config{Failregex: []string{`^f <HOST>$`}}, "x\nf 1.2.3.4", "", 0},
		{"NOFAIL without a session counts", undated(`^<F-NOFAIL>conn</F-NOFAIL> <HOST>$`), "conn 1.1.1.1", "1.1.1.1", 1},
		{"a tag closed that was not opened is text", Config{Failregex: []string{`^</F-USER> <F-user> <HOST/> <HOST>`}}, "</F-USER> <F-user> <HOST/> 1.1.1.1", "1.1.1.1", 1},
		{"alternatives are the tag's", Config{Failregex: []string{`^<F-USER>a|b</F-USER> <HOST>`}}, "b 1.1.1.1", "1.1.1.1", 1},
		{"lower-case tag is text", Config{Failregex: []string{`<host> <HOST>`}}, "<host> 1.1.1.1", "1.1.1.1", 1},
		{"case folded in part", Config{Failregex: []string{`^((?i)bad) <HOST>`}}, "BaD 1.1.1.1", "1.1.1.1", 1},
		{"case folded in a group that does not capture", Config{Failregex: []string{`^(?:(?i)bad) <HOST>`}}, "BaD 1.1.1.1", "1.1.1.1", 1},
		{"case folded throughout", Config{Failregex: []string{`(?i)^bad <HOST>`}}, "BaD 1.1.1.1", "1.1.1.1", 1},
		{"flags behind an escaped parenthesis", Config{Failregex: []string{`^x\((?i:y) <HOST>`}}, "x(Y 1.1.1.1", "1.1.1.1", 1},
		{"a scoped group no longer counts", Config{Failregex: []string{`^((?i)x)(y)\1 <HOST>`}}, "Xyy 1.1.1.1", "1.1.1.1", 1},
		{"look-ahead", Config{Failregex: []string{`^f (?!1\.)<HOST>`, `^f (?=1\.)<HOST>`}}, "f 1.1.1.1", "1.1.1.1", 2},
		{"condition", Config{Failregex: []string{`^(?P<q>")?f(?(q)"|) <HOST>`}}, `"f" 1.1.1.1`, "1.1.1.1", 1},
		{"reference", Config{Failregex: []string{`^(?P<q>\w+) (?P=q) <HOST>`}}, `ab ab 1.1.1.1`, "1.1.1.1", 1},
		{"Unicode digits and words", Config{Failregex: []string{`^\w+ \d+ <HOST>`}}, "жук ١٢ 1.1.1.1", "1.1.1.1", 1},
		{"no-break space is space", Config{Failregex: []string{`^a\s<HOST>`}}, "a\u00a01.1.1.1", "1.1.1.1", 1},
		{"what is no space in a set", Config{Failregex: []string{`^[^\S\n]a[\W]<HOST>`}}, "\u00a0a!1.1.1.1", "1.1.1.1", 1},
		{"up to n times", Config{Failregex: []string{`^ba{,2}d <HOST>`}}, "baad 1.1.1.1", "1.1.1.1", 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.config.DatePattern = []string{"{NONE}"}
			fs := judgeText(New(mustCompile(t, c.config)), c.line)
			if got := who(fs); got != c.want {
				t.Fatalf("got %q, want %q", got, c.want)
			}
			if len(fs) > 0 && fs[0].Regex != c.regex {
				t.Errorf("regex %d, want %d", fs[0].Regex, c.regex)
			}
		})
	}
}

// An expression that an attacker can make too slow is no match where it is; the jail's
// other expressions still see the line, and the failing is counted.
func TestOverruns(t *testing.T) {
	r := mustCompile(t, undated(`^(\w+)(\w+)(\w+)(\w+) \1\2\4\3! <HOST>$`, `<HOST>$`))
	f := New(r)
	if got := who(judgeText(f, "abab abab! 1.1.1.1")); got != "1.1.1.1" || r.Faults() != nil {
		t.Fatalf("got %q, faults %v: want a match within the budget", got, r.Faults())
	}
	word := strings.Repeat("a", 2000)
	fs := judgeText(f, word+" "+word+"b! 1.1.1.1")
	if who(fs) != "1.1.1.1" || fs[0].Regex != 2 {
		t.Errorf("got %d failures, want one by the second expression", len(fs))
	}
	if got, want := r.Faults(), []Fault{{Option: "failregex 1", Overruns: 1}}; !slices.Equal(got, want) {
		t.Errorf("faults %v, want %v", got, want)
	}
}

func TestCompileErrors(t *testing.T) {
	for _, c := range []struct {
		name   string
		config Config
		want   []string
	}{
		{"look-behind of no fixed width", undated(`<HOST>`, `(?<=a+) <HOST>`), []string{"failregex 2: ", "fixed-width", `in "(?<=a+) <HOST>"`}},
		{"a reference to no group", undated(`<HOST>(?P=q)`), []string{"failregex 1: unknown group name 'q' at \"q)\""}},
		{"several at once", Config{Prefregex: `(`, Failregex: []string{`<HOST>`, `[`}, Ignoreregex: []string{`*`}}, []string{"prefregex: ", "failregex 2: ", "ignoreregex 1: "}},
		{"nobody in it", undated(`f`), []string{"failregex 1: nothing in it says who failed"}},
		{"an alternative alone", undated(`<F-ALT_IP4>x</F-ALT_IP4>`), []string{"nothing in it says who failed"}},
		{"part of a tuple alone", undated(`<F-TUPLE_ID>x</F-TUPLE_ID>`), []string{"nothing in it says who failed"}},
		{"blanks only", undated(` `), []string{"failregex 1: the expression is empty"}},
		{"closed twice", undated(`<F-USER>x</F-USER></F-USER> <HOST>`), []string{"failregex 1: unbalanced parenthesis"}},
		{"host is no address group", undated(`(?P<host>\S+)`), []string{"nothing in it says who failed"}},
		{"twice the same tag", undated(`<HOST> <HOST>`), []string{"redefinition of group name 'ip4'"}},
		{"tag behind a backslash", undated(`^u \<HOST> x`), []string{"failregex 1: "}},
		{"hyphen in a name", undated(`<F-A-B>x</F-A-B> <HOST>`), []string{"failregex 1: "}},
		{"unclosed tag", undated(`<F-USER>x <HOST>`), []string{`missing ), unterminated subpattern at "(?P<user>x `}},
		{"flags in the middle", undated(`^(?i)x <HOST>`), []string{"start of the expression"}},
		{"empty", undated(``), []string{"empty"}},
		{"date pattern", Config{DatePattern: []string{"%Q"}}, []string{"datepattern 1: ", "%Q"}},
		{"zone", Config{LogTimezone: "XYZ"}, []string{`"XYZ"`}},
		{"encoding", Config{LogEncoding: "klingon"}, []string{`"klingon"`}},
		{"usedns", Config{UseDNS: "perhaps"}, []string{`usedns: "perhaps"`}},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := Compile(c.config)
			if err == nil {
				t.Fatal("no error")
			}
			for _, want := range c.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("error %q lacks %q", err, want)
				}
			}
		})
	}
}

// A prefregex that names who failed frees the others from doing so.
func TestPrefixMayIdentify(t *testing.T) {
	mustCompile(t, Config{Prefregex: `^<HOST> `, Failregex: []string{`f`}})
}

func TestWhen(t *testing.T) {
	const none = ""
	hour := noon.Add(-time.Hour)
	stamp := func(at time.Time) string { return at.Format("2006-01-02 15:04:05") + " " }
	for _, c := range []struct {
		name    string
		live    bool
		pattern string
		lines   []string // the last one is asked about
		want    string   // time of day
	}{
		{"dated while catching up", false, "", []string{stamp(hour) + "f"}, "11:00:00"},
		{"an hour old when live counts as now", true, "", []string{stamp(hour) + "f"}, "12:00:00"},
		{"a minute old when live is kept", true, "", []string{stamp(noon.Add(-time.Minute)) + "f"}, "11:59:00"},
		{"ahead while catching up is clamped", false, "", []string{stamp(noon.Add(time.Hour)) + "f"}, "12:00:00"},
		{"ahead a little when live is clamped", true, "", []string{stamp(noon.Add(30*time.Second)) + "f"}, "12:00:00"},
		{"undated while catching up", false, "", []string{"f"}, none},
		{"undated behind a dated one while catching up", false, "", []string{stamp(hour) + "x", "f"}, "11:00:00"},
		{"undated when live", true, "", []string{"f"}, "12:00:00"},
		{"undated right behind a dated one when live", true, "", []string{stamp(noon.Add(-20*time.Second)) + "x", "f"}, "11:59:40"},
		{"undated behind an old one when live", true, "", []string{stamp(hour) + "x", "f"}, "12:00:00"},
		{"unreadable date when live", true, "", []string{"2026-06-15 12:00:60 f"}, "12:00:00"},
		{"unreadable date while catching up", false, "", []string{"2026-06-15 12:00:60 f"}, none},
		{"no dates wanted, while catching up", false, "{NONE}", []string{stamp(hour) + "f"}, "12:00:00"},
	} {
		t.Run(c.name, func(t *testing.T) {
			cfg := Config{Failregex: []string{`f <HOST>$`}}
			if c.pattern != "" {
				cfg.DatePattern = []string{c.pattern}
			}
			f := New(mustCompile(t, cfg))
			var fs []bantam.Failure
			for _, text := range c.lines {
				fs = f.Judge(&bantam.Line{Text: []byte(text + " 1.2.3.4"), Read: noon, Live: c.live}, nil)
			}
			got := none
			if len(fs) > 0 {
				got = fs[0].Time.UTC().Format("15:04:05")
				if !fs[0].Read.Equal(noon) {
					t.Errorf("read at %v, want %v", fs[0].Read, noon)
				}
				if want := c.lines[len(c.lines)-1] + " 1.2.3.4"; !slices.Equal(fs[0].Lines, []string{want}) {
					t.Errorf("lines %q, want the whole one, %q", fs[0].Lines, want)
				}
			}
			if got != c.want {
				t.Errorf("time %q, want %q", got, c.want)
			}
		})
	}
}

// A journal knows the time; what looks like a date in its text stays there.
func TestJournalTime(t *testing.T) {
	f := New(mustCompile(t, Config{Failregex: []string{`^2026-06-15 10:00:00 f <HOST>$`}}))
	at := noon.Add(-5*time.Minute + 250*time.Millisecond)
	fs := f.Judge(&bantam.Line{Text: []byte("2026-06-15 10:00:00 f 1.2.3.4"), Time: at, Read: noon, Live: true}, nil)
	if len(fs) != 1 || !fs[0].Time.Equal(at) {
		t.Fatalf("got %+v, want one failure at %v", fs, at)
	}
	if want := "2026-06-15T11:55:00.25 2026-06-15 10:00:00 f 1.2.3.4"; fs[0].Lines[0] != want {
		t.Errorf("line %q, want %q", fs[0].Lines[0], want)
	}
}

// The date leaves a hole, not a blank.
func TestDateIsCutOut(t *testing.T) {
	for line, regex := range map[string]string{
		"[2026-06-15 11:59:59] f 1.2.3.4":       `^\[\] f <HOST>$`,
		"Jun 15 11:59:59 h f 1.2.3.4":           `^ h f <HOST>$`,
		"<14>Jun 15 11:59:59 h f 1.2.3.4":       `^<14> h f <HOST>$`,
		"h Jun 15 11:59:59 f 1.2.3.4":           `^h  f <HOST>$`,
		"no date f 1.2.3.4":                     `^no date f <HOST>$`,
		"\xff\xfeJun 15 11:59:59 f 1.2.3.4":     "^\ufffd\ufffd f <HOST>$",
		"Jun 15 11:59:59 f \xc3\xa9\xff1.2.3.4": `^ f é` + "\ufffd" + `<HOST>$`,
	} {
		if got := who(judgeText(New(mustCompile(t, Config{Failregex: []string{regex}})), line)); got != "1.2.3.4" {
			t.Errorf("%q does not match %s", line, regex)
		}
	}
}

func TestEncodings(t *testing.T) {
	for encoding, line := range map[string]string{
		"":        "\u00e9 1.2.3.4",
		"UTF-8":   "\u00e9 1.2.3.4",
		"Latin_1": "\xe9 1.2.3.4",
	} {
		cfg := undated(`^é <HOST>$`)
		cfg.LogEncoding = encoding
		if got := who(judgeText(New(mustCompile(t, cfg)), line)); got != "1.2.3.4" {
			t.Errorf("%s: got %q", encoding, got)
		}
	}
	cfg := undated("^\ufffd <HOST>$")
	cfg.LogEncoding = "ascii"
	if got := who(judgeText(New(mustCompile(t, cfg)), "\xe9 1.2.3.4")); got != "1.2.3.4" {
		t.Errorf("ascii: got %q", got)
	}
}

// Jails that differ in their dates see the same line differently, and each gets its say.
func TestManyJails(t *testing.T) {
	cfg := func(jail, regex string, patterns ...string) *Rules {
		return mustCompile(t, Config{Jail: jail, Failregex: []string{regex}, DatePattern: patterns})
	}
	f := New(
		cfg("cut", `^ f <HOST>$`),
		cfg("whole", `^Jun 15 11:59:30 f <HOST>$`, "{NONE}"),
		cfg("other", `^ g <HOST>$`),
		cfg("too", `f <HOST>$`),
	)
	var jails []string
	for _, fl := range judgeText(f, "Jun 15 11:59:30 f 1.2.3.4") {
		jails = append(jails, fl.Jail+" "+fl.Time.Format("15:04:05"))
	}
	slices.Sort(jails)
	if want := []string{"cut 11:59:30", "too 11:59:30", "whole 12:00:00"}; !slices.Equal(jails, want) {
		t.Errorf("got %q, want %q", jails, want)
	}
	if len(f.views) != 2 {
		t.Errorf("the date is looked for %d times a line, want 2", len(f.views))
	}
}

// Jails of one filter share its expressions, and nothing that they learn.
func TestSharedRules(t *testing.T) {
	one := mustCompile(t, undated(`^<F-MLFID>\w+</F-MLFID> bad$`, `^<F-MLFID>\w+</F-MLFID> from <HOST>$`, `^f <HOST>$`))
	f := New(one, one.For("two"), one.For("three"))
	for line, want := range map[string]int{"f 1.2.3.4": 3, "s1 from 1.2.3.4": 3, "x": 0} {
		if fs := judgeText(f, line); len(fs) != want {
			t.Errorf("%q: %d failures, want %d", line, len(fs), want)
		}
	}
	fs := judgeText(f, "f 5.6.7.8")
	if fs[0].Jail == fs[1].Jail || fs[2].Jail != "three" || fs[2].Regex != 3 {
		t.Errorf("failures %+v, want one of each jail in their order", fs)
	}
}

func TestTime(t *testing.T) {
	f := New(mustCompile(t, Config{Failregex: []string{`<HOST>`}}))
	if at, ok := f.Time([]byte("Jun 15 11:00:00 x"), noon); !ok || !at.Equal(noon.Add(-time.Hour)) {
		t.Errorf("got %v, %v", at, ok)
	}
	if at, ok := f.Time([]byte("no date"), noon); ok {
		t.Errorf("undated line dated %v", at)
	}
}

// What is kept of lines is bounded, whatever they hold.
func TestHostileLinesAreBounded(t *testing.T) {
	f := New(mustCompile(t, undated(`^<F-MLFID>\w+</F-MLFID> <F-NOFAIL>quiet</F-NOFAIL> (?:.* )?<ADDR>$`, `^<F-MLFID>\w+</F-MLFID> loud <F-USER>.*</F-USER>$`)))
	for i := range 2 * maxSessions {
		judgeText(f, fmt.Sprintf("s%d quiet 192.0.2.1", i))
	}
	s := &f.views[0].jails[0].sessions
	if len(s.byID) > maxSessions {
		t.Errorf("%d sessions are remembered", len(s.byID))
	}
	long := strings.Repeat("é\xff", 5<<10)
	for range 12 {
		judgeText(f, "one quiet "+long+" 192.0.2.1")
	}
	size := 0
	for range 2 * maxRemember {
		judgeText(f, "two quiet 192.0.2.1")
	}
	if n := len(s.byID["two"].quiet); n > maxRemember {
		t.Errorf("a session remembers %d lines", n)
	}
	for _, l := range s.byID["one"].quiet {
		size += len(l)
	}
	if size > rememberSize+maxLogged {
		t.Errorf("a session remembers %d bytes of lines", size)
	}
}

func FuzzJudge(f *testing.F) {
	for _, s := range []string{
		"Jun 15 11:59:30 gate sshd[812]: Failed password for root from 192.0.2.7 port 4022 ssh2",
		"Jun 15 11:59:30 s1 bad bob 192.0.2.7", "s1 quiet ::1", "\xff\xfe\x00\n 1.2.3.4", "s1 bye",
		strings.Repeat(":", 300), strings.Repeat("1.", 300),
	} {
		f.Add([]byte(s), true)
	}
	fl := New(mustCompile(f, Config{
		Failregex: []string{
			`^ ?<F-MLFID>\w+</F-MLFID> bad <F-USER>.*</F-USER>(?: <HOST>)?$`,
			`^ ?<F-MLFID>\w+</F-MLFID> <F-NOFAIL>quiet</F-NOFAIL> <ADDR>`,
			`^ ?<F-MLFID>\w+</F-MLFID> <F-MLFFORGET>bye</F-MLFFORGET>`,
			`from <HOST> port \d+(?: \S+)?$`,
			`<HOST>`,
		},
		Ignoreregex: []string{`^ignore .*me$`},
	}), mustCompile(f, undated(`<SUBNET>|<F-ID>\S+</F-ID>`)), mustCompile(f, Config{
		Prefregex:   `<F-CONTENT>[^!]*</F-CONTENT>`,
		Failregex:   []string{`^(?P<q>\w+)<SKIPLINES>.*(?P=q) <HOST>$`, `\n<F-ID>\S*</F-ID>`, `(?=<ADDR>)`},
		Ignoreregex: []string{`\n$`},
		MaxLines:    4,
	}))
	f.Fuzz(func(t *testing.T, text []byte, live bool) {
		if len(text) > 64<<10 {
			return
		}
		kept := bytes.Clone(text)
		for _, x := range fl.Judge(&bantam.Line{Text: text, Read: noon, Live: live}, nil) {
			if x.ID.IsZero() && x.Host == "" {
				t.Errorf("%q: a failure of nobody: %+v", text, x)
			}
			if x.Time.IsZero() || x.Time.After(noon) {
				t.Errorf("%q: at %v", text, x.Time)
			}
			if len(x.Lines) == 0 {
				t.Errorf("%q: a failure without a line", text)
			}
		}
		if !bytes.Equal(text, kept) {
			t.Errorf("the line was written to")
		}
	})
}

func FuzzCompile(f *testing.F) {
	for _, s := range []string{
		`^ <HOST>$`, `<F-USER>a|b</F-USER> <ADDR>`, `[^\S\]a-]\W\x41\u0041<HOST>`, `((?i)x)<HOST>`, `(?P<a>.)(?P=a)<HOST>`, `a{,3}<HOST>`, `\`, `[`, `(?#x)<HOST>`,
	} {
		f.Add(s, "f 1.2.3.4")
	}
	f.Fuzz(func(t *testing.T, expr, line string) {
		if len(expr) > 100 || len(line) > 1000 || strings.Count(expr, "{") > 2 {
			return
		}
		r, err := Compile(undated(expr))
		if err != nil {
			return
		}
		judgeText(New(r), line)
	})
}

func TestIsPlain(t *testing.T) {
	line := []byte("a line of ASCII, longer than two words of the machine")
	for i := range line {
		if !isPlain(line[i:]) || !isPlain(line[:i]) {
			t.Fatalf("%q is not plain", line[i:])
		}
		for _, c := range []byte{'\n', 0x80, 0xc3, 0xff} {
			other := slices.Clone(line)
			other[i] = c
			if isPlain(other) {
				t.Errorf("%q is plain", other)
			}
		}
		for _, c := range []byte{0, '\t', '\r', 0x0b, 0x7f} {
			other := slices.Clone(line)
			other[i] = c
			if !isPlain(other) {
				t.Errorf("%q is not plain", other)
			}
		}
	}
}
