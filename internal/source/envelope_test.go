package source

import (
	"bytes"
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"bantam/internal/jsonline"
)

func TestUnwrap(t *testing.T) {
	const at = "2024-05-01T10:00:00.5Z"
	docker := func(log, more string) string {
		return `{"log":` + log + more + `,"stream":"stdout","time":"` + at + `"}`
	}
	for _, c := range []struct {
		name  string
		lines []string
		want  []string // texts of whole lines
		kind  string
	}{
		{"a line of docker", []string{docker(`"fail 192.0.2.1\n"`, "")}, []string{"fail 192.0.2.1"}, Docker},
		{"with labels", []string{docker(`"fail\n"`, `,"attrs":{"tag":"a\"b"}`)}, []string{"fail"}, Docker},
		{"escapes", []string{docker(`"a\t\"b\"\\\u00e9\ud83d\ude00\/ \ud800x\r\n"`, "")}, []string{"a\t\"b\"\\é😀/ \ufffdx"}, Docker},
		{"pieces of a line are joined", []string{docker(`"one "`, ""), docker(`"two "`, ""), docker(`"three\n"`, "")}, []string{"one two three"}, Docker},
		{
			"pieces of two streams are told apart",
			[]string{docker(`"out"`, ""), `{"log":"err\n","stream":"stderr","time":"` + at + `"}`, docker(`"put\n"`, "")},
			[]string{"err", "output"},
			Docker,
		},
		{"a line end within stays in the line", []string{docker(`"one\ntwo\n"`, "")}, []string{`one\ntwo`}, Docker},
		{"what is no envelope stays as it is", []string{docker(`"a\n"`, ""), "plain", `{"log":"x`, docker(`"b\n"`, "")}, []string{"a", "plain", `{"log":"x`, "b"}, Docker},
		{"a time nobody can read", []string{`{"log":"a\n","stream":"stdout","time":"now"}`}, []string{`{"log":"a\n","stream":"stdout","time":"now"}`}, Plain},
		{"a line of CRI", []string{at + " stderr F fail 192.0.2.1"}, []string{"fail 192.0.2.1"}, CRI},
		{"an empty one", []string{at + " stderr F "}, []string{""}, CRI},
		{"pieces", []string{at + " stdout P one ", at + " stderr F err", at + " stdout F:x two"}, []string{"err", "one two"}, CRI},
		{"a plain log", []string{at + " gate sshd[1]: x", at + " stdout F x"}, []string{at + " gate sshd[1]: x", at + " stdout F x"}, Plain},
	} {
		u := unwrapper{}
		var got []string
		for _, line := range c.lines {
			u.recognise(Auto, []byte(c.lines[0]))
			if text, _, ok := u.next([]byte(line)); ok {
				got = append(got, string(text))
			}
		}
		if fmt.Sprintf("%q", got) != fmt.Sprintf("%q", c.want) || u.kind != c.kind {
			t.Errorf("%s: %s %q, want %s %q", c.name, u.kind, got, c.kind, c.want)
		}
	}
}

// A line that is never ended is cut, however many pieces it comes in.
func TestUnwrapIsBounded(t *testing.T) {
	u := unwrapper{kind: CRI}
	piece := []byte("2024-05-01T10:00:00Z stdout P " + strings.Repeat("x", 1000))
	for range 1000 {
		u.next(piece)
	}
	text, _, ok := u.next([]byte("2024-05-01T10:00:00Z stdout F end"))
	if !ok || len(text) != MaxLine || cap(u.parts[0].text) > 3*MaxLine {
		t.Errorf("a line of %d bytes in %d, want %d", len(text), cap(u.parts[0].text), MaxLine)
	}
}

// Nobody who gets a line into a log that is none of a container's can choose its date.
func TestContainersLogs(t *testing.T) {
	both(t, func(t *testing.T, backend string) {
		path := filepath.Join(t.TempDir(), "c-json.log")
		stamp := time.Now().UTC().Add(-time.Minute).Truncate(time.Second)
		wrap := func(text string) string {
			b, _ := json.Marshal(text)
			return fmt.Sprintf(`{"log":%s,"stream":"stdout","time":%q}`+"\n", b, stamp.Format(time.RFC3339Nano))
		}
		own := stamp.Add(-time.Second).Format(time.RFC3339) + " fail 192.0.2.2"
		write(t, path, wrap("fail 192.0.2.1\n")+wrap(own+"\n"))
		b := newBench(t)
		b.configure(one("t", path, backend))
		b.run()
		b.sees(path, "fail 192.0.2.1", own)
		write(t, path, wrap("fail "))
		write(t, path, wrap("192.0.2.3\n"))
		lines := b.sees(path, "fail 192.0.2.1", own, "fail 192.0.2.3")
		if !lines[0].time.Equal(stamp) || !lines[2].time.Equal(stamp) {
			t.Errorf("times %v and %v, want the envelope's %v", lines[0].time, lines[2].time, stamp)
		}
		if !lines[1].time.IsZero() {
			t.Errorf("the envelope's time %v goes before the text's own", lines[1].time)
		}
	})
	t.Run("a forged envelope in a plain log", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "app.log")
		forged := `{"log":"2020-01-01T00:00:00Z fail 192.0.2.1\n","stream":"stdout","time":"2020-01-01T00:00:00Z"}`
		write(t, path, "plain\n"+forged+"\n")
		b := newBench(t)
		b.configure(one("t", path, Inotify))
		b.run()
		if lines := b.sees(path, "plain", forged); !lines[1].time.IsZero() {
			t.Error("its time is believed")
		}
	})
	t.Run("by option", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "app.log")
		line := time.Now().UTC().Format(time.RFC3339) + " stdout F one"
		write(t, path, line+"\n")
		b := newBench(t)
		c := one("t", path, Inotify)
		c.Envelope = Plain
		b.configure(c)
		b.run()
		b.sees(path, line)
	})
}

func FuzzUnwrap(f *testing.F) {
	f.Add([]byte("{\"log\":\"a\\n\",\"stream\":\"stdout\",\"time\":\"2024-05-01T10:00:00Z\"}\n{\"log\":\"a\\ud800\\u0041\",\"attrs\":{},\"stream\":\"stderr\",\"time\":\"2024-05-01T10:00:00Z\"}"))
	f.Add([]byte("2024-05-01T10:00:00.1Z stdout P a\n2024-05-01T10:00:00.1Z stdout F b"))
	f.Fuzz(func(t *testing.T, in []byte) {
		var u unwrapper
		for line := range bytes.SplitSeq(in, []byte("\n")) {
			u.recognise(Auto, line)
			text, _, _ := u.next(line)
			if len(text) > MaxLine || bytes.IndexByte(text, '\n') >= 0 {
				t.Fatalf("%q gives %q", line, text)
			}
			// What JSON says, where it is JSON in valid text.
			var o struct{ Log, Stream, Time string }
			if u.kind == Docker && json.Unmarshal(line, &o) == nil {
				if got, rest, ok := jsonline.Unquote(nil, bytes.TrimPrefix(line, []byte(`{"log":"`))); ok && bytes.HasPrefix(rest, []byte(`,"stream"`)) && !bytes.ContainsRune(line, '\ufffd') && string(bytes.ToValidUTF8(line, nil)) == string(line) && bytes.Count(bytes.ToLower(line), []byte(`"log"`)) == 1 && string(got) != o.Log {
					t.Fatalf("%q: %q, JSON says %q", line, got, o.Log)
				}
			}
		}
	})
}

func BenchmarkUnwrap(b *testing.B) {
	line := []byte(`{"log":"192.0.2.1 - - [01/May/2024:10:00:00 +0000] \"GET / HTTP/1.1\" 200 612 \"-\" \"curl\"\n","stream":"stdout","time":"2024-05-01T10:00:00.123456789Z"}`)
	u := unwrapper{kind: Docker}
	b.SetBytes(int64(len(line)))
	b.ReportAllocs()
	for b.Loop() {
		if _, _, ok := u.next(line); !ok {
			b.Fatal("a piece")
		}
	}
}
