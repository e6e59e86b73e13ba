package jsonline

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestJSONLinesBecomeText(t *testing.T) {
	f, err := ParseFields([]string{"ts", "status", "request.remote_ip", "request.uri", "request.headers.1", "a.b"})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ name, line, want string }{
		{
			"fields in the order in which they are named, wherever they stand",
			`{"request":{"uri":"/a b","remote_ip":"192.0.2.7","headers":["x","y"]}, "status" : 401, "ts":"2025-03-02T10:15:04Z"}`,
			`ts="2025-03-02T10:15:04Z" status=401 request.remote_ip="192.0.2.7" request.uri="/a b" request.headers.1="y" a.b=null`,
		},
		{
			"what would end a string is escaped, however it was written",
			`{"request":{"uri":"\u0022 status=401 \\ \" \/ \n\u00e9\ud83d\ude00"}}`,
			`ts=null status=null request.remote_ip=null request.uri="\" status=401 \\ \" / \u000aé😀" request.headers.1=null a.b=null`,
		},
		{
			"a key with a dot in it is found, too",
			`{"a.b":true,"ts":null,"status":-1.5e3}`,
			`ts=null status=-1.5e3 request.remote_ip=null request.uri=null request.headers.1=null a.b=true`,
		},
		{
			"of two the last counts",
			`{"status":200,"status":401,"a":{"b":1},"a":{"c":2}}`,
			`ts=null status=401 request.remote_ip=null request.uri=null request.headers.1=null a.b=1`,
		},
		{
			"an escaped key is the same key",
			`{"st\u0061tus":401}`,
			`ts=null status=401 request.remote_ip=null request.uri=null request.headers.1=null a.b=null`,
		},
		{
			"an object is its JSON without blanks",
			`{"a":{"b":{ "x" : [ 1, "a b" ] }}}`,
			`ts=null status=null request.remote_ip=null request.uri=null request.headers.1=null a.b={"x":[1,"a b"]}`,
		},
		{"an array is no object", `[{"status":401}]`, ""},
		{"text is none", `Mar  2 10:15:04 {"status":401}`, ""},
		{
			"syslog's head is no part of it",
			`Mar  2 10:15:04 gate caddy[812]: {"status":401}`,
			`ts=null status=401 request.remote_ip=null request.uri=null request.headers.1=null a.b=null`,
		},
		{
			"nor is that with a time of RFC 3339",
			`2025-03-02T10:15:04.000123+01:00 gate caddy[812]: {"status":401}`,
			`ts=null status=401 request.remote_ip=null request.uri=null request.headers.1=null a.b=null`,
		},
		{
			"nor the journal's, which has none",
			`gate caddy[812]: {"status":401}`,
			`ts=null status=401 request.remote_ip=null request.uri=null request.headers.1=null a.b=null`,
		},
		{"what a program writes before it may be anybody's", `Mar  2 10:15:04 gate sshd[812]: Invalid user: {"status":401}`, ""},
		{"with a time of RFC 3339, too", `2025-03-02T10:15:04+01:00 gate sshd[812]: x: {"status":401}`, ""},
		{"a head without anything else", `failed user: {"status":401}`, ""},
		{"and in the journal", `gate sshd[812]: x: {"status":401}`, ""},
		{"and where two words look like a date", `gate x[812]: 10 10:15:04 x: {"status":401}`, ""},
		{"a head without end", strings.Repeat("x", 300) + ` caddy: {"status":401}`, ""},
		{"nothing may stand behind it", `{"status":401} {"status":200}`, ""},
		{"what is cut off is none", `{"status":401`, ""},
		{"nor is what is no JSON", `{"status":401,}`, ""},
		{"too deep", `{"x":` + strings.Repeat("[", 200) + strings.Repeat("]", 200) + "}", ""},
	} {
		if got := string(f.Flatten([]byte(c.line), nil)); got != c.want {
			t.Errorf("%s:\n%s becomes\n%s\nwant\n%s", c.name, c.line, got, c.want)
		}
	}
}

func TestFieldsThatAreNone(t *testing.T) {
	many := make([]string, maxFields+1)
	for i := range many {
		many[i] = fmt.Sprint("f", i)
	}
	for _, names := range [][]string{{"a", "a"}, {".a"}, {"a."}, {"a..b"}, {"a=b"}, {`a"b`}, many} {
		if _, err := ParseFields(names); err == nil {
			t.Errorf("%q are fields", names)
		}
	}
}

// What is read is what encoding/json reads, and what is written has the value in it and nothing else.
func FuzzJSON(f *testing.F) {
	for _, s := range []string{
		`{"a":{"b":"x\u0000\ud800"},"c":[1,2,{"a":null}]}`, `{"a":"\"","a":2}`, "{", `{"a":1e999}`, `{"a":"` + "\x7f" + `"}`, `{"":{"":1}}`, ` {} `,
		`Mar  2 10:15:04 gate x[8]: {"a":1}`, `gate x[8]: {"a":{"b":2}}`, `2025-03-02T10:15:04Z gate x: {}`,
	} {
		f.Add(s)
	}
	fields, err := ParseFields([]string{"a", "a.b", "c.1", "c.2.a"})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, line string) {
		if !utf8.ValidString(line) || strings.Contains(line, "\n") {
			return // the decoder's business
		}
		out := string(fields.Flatten([]byte(line), nil))
		line = line[head([]byte(line)):]
		var whole any
		d := json.NewDecoder(strings.NewReader(line))
		d.UseNumber()
		err := d.Decode(&whole)
		object, isObject := whole.(map[string]any)
		if rest := strings.Trim(line[d.InputOffset():], " \t\r"); err != nil || !isObject || rest != "" {
			if out != "" && err == nil && isObject {
				t.Fatalf("%q is no JSON object alone and becomes %q", line, out)
			}
			if out != "" && err != nil && !strings.Contains(err.Error(), "number") && !strings.Contains(err.Error(), "depth") {
				t.Fatalf("%q is no JSON (%v) and becomes %q", line, err, out)
			}
			return
		}
		if out == "" {
			if strings.Count(line, "[")+strings.Count(line, "{") <= maxDepth {
				t.Fatalf("%q is an object and becomes nothing", line)
			}
			return
		}
		if s, is := object["a"].(string); is {
			_, rest, _ := strings.Cut(out, "a=")
			end := strings.Index(rest, ` a.b=`)
			if end < 0 {
				t.Fatalf("%q becomes %q", line, out)
			}
			back, err := strconv.Unquote(strings.ReplaceAll(rest[:strings.LastIndex(rest[:len(rest)-len(rest[end:])], `"`)+1], "\u007f", `\u007f`))
			if err == nil && back != s && !strings.ContainsRune(s, utf8.RuneError) {
				t.Fatalf("%q: a is %q and stands as %q", line, s, back)
			}
		}
	})
}

func BenchmarkJSON(b *testing.B) {
	fields, err := ParseFields([]string{"ts", "status", "request.remote_ip", "request.uri"})
	if err != nil {
		b.Fatal(err)
	}
	line := []byte(`{"level":"info","ts":1740910504.25,"logger":"http.log.access","msg":"handled request","request":{"remote_ip":"192.0.2.7","remote_port":"40022","proto":"HTTP/2.0","method":"GET","host":"example.org","uri":"/login","headers":{"User-Agent":["curl/8.5.0"],"Accept":["*/*"]}},"bytes_read":0,"user_id":"","duration":0.000123,"size":12,"status":401,"resp_headers":{"Server":["Caddy"]}}`)
	b.SetBytes(int64(len(line)))
	b.ReportAllocs()
	var out []byte
	for b.Loop() {
		out = fields.Flatten(line, out[:0])
	}
}
