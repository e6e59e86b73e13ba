package action

import (
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"bantam"
)

func asked() *World {
	return &World{Log: slog.New(slog.DiscardHandler), BanTime: func(string) time.Duration { return time.Hour }}
}

func failed(user string) *bantam.Failure {
	f := &bantam.Failure{Jail: "j", Time: time.Unix(1e9, 0), User: user, Lines: []string{"a line of " + user}, Data: map[string]string{"port": "22"}}
	_ = f.ID.UnmarshalText([]byte("192.0.2.7"))
	return f
}

func TestTheExitStatusDecidesWhoIsIgnored(t *testing.T) {
	for _, c := range []struct {
		name, command string
		want          bool
		err           string
	}{
		{"zero ignores", "exit 0", true, ""},
		{"one does not", "exit 1", false, ""},
		{"two is no answer", "echo oops >&2; exit 2", false, `returned 2, it says "oops"`},
		{"no such program", "/nonexistent/program <ip>", false, "command not found"},
		{"a signal", "kill -TERM $$", false, "killed with SIGTERM"},
		{"what the shell cannot read", "(", false, "returned 2"},
		{"the tags of the failure", `test "<ip> <fid> <family> <F-USER> <F-PORTS> <failures> <bancount> <bantime> <matches>" = "192.0.2.7 192.0.2.7 inet4 eve  0 0 3600 a line of eve"`, true, ""},
		{"two lines", "test <ip> = 192.0.2.7\ntest <F-USER> = eve", true, ""},
		{"a tag nobody knows stays", `test "<nobody>" = '<'nobody'>'`, true, ""},
		{"a command too long", strings.Repeat("x", 200<<10), false, "longer than 120 KiB"},
	} {
		got, err := asked().Ignores(t.Context(), c.command, failed("eve"))
		if got != c.want || (err == nil) != (c.err == "") || err != nil && !strings.Contains(err.Error(), c.err) {
			t.Errorf("%s: %v, %v", c.name, got, err)
		}
	}
}

// What an attacker writes is never run, however the command quotes it, and arrives as it is.
func TestCapturedTextIsNeverRunByADecision(t *testing.T) {
	mark := filepath.Join(t.TempDir(), "mark")
	for _, evil := range []string{
		"; touch MARK", "$(touch MARK)", "`touch MARK`", "a\ntouch MARK\n", `" ; touch MARK ; "`, "' ; touch MARK ; '", "& touch MARK", "<ip>", "-rf /", "\\", "$0 $1 $f2bV_F_user",
	} {
		evil = strings.ReplaceAll(evil, "MARK", mark)
		out := filepath.Join(t.TempDir(), "out")
		command := `printf '%s' "<F-USER>" > ` + out + `; printf '%s' "<matches>" >> ` + out + `; exit 1`
		if got, err := asked().Ignores(t.Context(), command, failed(evil)); got || err != nil {
			t.Errorf("%q: %v, %v", evil, got, err)
		}
		if text, err := os.ReadFile(out); err != nil || string(text) != evil+"a line of "+evil {
			t.Errorf("%q arrives as %q, %v", evil, text, err)
		}
		if _, err := os.Stat(mark); err == nil {
			t.Fatalf("%q was run", evil)
		}
	}
}

func TestAKeyIsOnlyText(t *testing.T) {
	for text, want := range map[string]string{
		"<ip>": "192.0.2.7", "<F-USER>@<ip>": `$(x) "<ip>"@192.0.2.7`, "all": "all", "<nobody><": "<nobody><", "a<sp><br>": "a \n",
	} {
		if got := asked().Expand(t.Context(), text, failed(`$(x) "<ip>"`)); got != want {
			t.Errorf("%q is %q, want %q", text, got, want)
		}
	}
}

func TestCommandsThatCannotWorkAreFound(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string, mode os.FileMode) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
		return path
	}
	for _, c := range []struct{ name, command, want string }{
		{"a program of the shell's path", "true <ip>", ""},
		{"a script", write("good", "#!/bin/sh\nexit 1\n", 0o755) + " <ip>", ""},
		{"a script without a first line", write("bare", "exit 1\n", 0o755), ""},
		{"an empty script", write("empty", "", 0o755), ""},
		{"several commands", "/bin/true && [ \"<F-USER>\" = x ]", ""},
		{"a path made by the shell", "$HOME/x <ip>", ""},
		{"a quote that is not closed", "test \"<ip>", "the shell cannot read it"},
		{"a program that is not there", "/nonexistent/program <ip>", "no such file"},
		{"a folder", dir + " <ip>", "is a folder"},
		{"a file that is no program", write("plain", "exit 1\n", 0o644) + " <ip>", "is not executable"},
		{"an interpreter that is not there", write("other", "#!/nonexistent/python\n", 0o755), "is to be run by /nonexistent/python, which is not there"},
		{"one that env does not find", write("env", "#!/usr/bin/env no-such-python\n", 0o755), "is to be run by no-such-python"},
	} {
		err := CheckCommand(t.Context(), c.command)
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

func BenchmarkIgnores(b *testing.B) {
	w, f := asked(), failed("eve; x")
	b.ReportAllocs()
	for b.Loop() {
		if _, err := w.Ignores(b.Context(), `[ "<F-USER>" = root ]`, f); err != nil {
			b.Fatal(err)
		}
	}
}

// Whatever a key and the log hold, the text that comes of them is put together once.
func FuzzExpand(f *testing.F) {
	f.Add("<F-USER>@<ip>", "<F-USER>")
	f.Add("<<ip>>", "x")
	f.Add("<F-USER><br", "\xff")
	f.Fuzz(func(t *testing.T, text, user string) {
		got := asked().Expand(t.Context(), strings.ReplaceAll(text, "host", ""), failed(user))
		if most := len(text) * (len(user) + 300); len(got) > most {
			t.Fatalf("%d bytes come of %d", len(got), len(text))
		}
	})
}
