package cli

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"testing"
	"time"

	"bantam/library"
)

// program runs the program called name in this process and returns what it did.
func program(t testing.TB, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	code = Main(t.Context(), args, library.FS, &out, &errs)
	return code, out.String(), errs.String()
}

// folder writes files, their names and texts in turn, and returns the folder.
func folder(t testing.TB, files ...string) string {
	t.Helper()
	dir := t.TempDir()
	for i := 0; i < len(files); i += 2 {
		name := filepath.Join(dir, files[i])
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(files[i+1]), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// A failure whose session has no address yet is a match, as fail2ban-regex counts it; a line
// that says of itself that it is none is ignored, whatever else matches it.
func TestWhatIsMatchedAndWhatIsIgnored(t *testing.T) {
	log := filepath.Join(folder(t, "log", `Jun 21 16:47:47 gate sshd[1]: error
Jun 21 16:47:48 gate sshd[2]: error
Jun 21 16:47:49 gate sshd[2]: bye 192.0.2.1
Jun 21 16:47:50 gate sshd[3]: bye 192.0.2.2
Jun 21 16:47:51 gate sshd[4]: reset 192.0.2.3
Jun 21 16:47:52 gate cron[9]: job `+`
`), "log")
	dir := folder(t, "filter.d/t.conf", `[Definition]
prefregex = ^ gate sshd<F-MLFID>\[\d+\]</F-MLFID>: <F-CONTENT>.+</F-CONTENT>$
failregex = ^error$
    ^<F-NOFAIL>bye</F-NOFAIL> <HOST>$
    ^reset <HOST>$
    ^<F-NOFAIL>reset</F-NOFAIL> <HOST>$
`)
	for _, c := range []struct {
		name string
		args []string
		want []string
	}{
		{"all expressions", []string{"--print-all-matched"}, []string{
			"Failregex: 6 total\n", "|   1) [2] ^error$\n", "|   2) [2] ", "|   4) [1] ",
			"\nLines: 6 lines, 2 ignored, 3 matched, 1 missed\n",
			"|- Matched line(s):\n|  Jun 21 16:47:47 gate sshd[1]: error\n|  Jun 21 16:47:48 gate sshd[2]: error\n|  Jun 21 16:47:49 gate sshd[2]: bye 192.0.2.1\n`-\n",
			"gate cron[9]: job\n",
		}},
		{"the first expression", []string{"--no-check-all"}, []string{
			"Failregex: 4 total\n", "|   1) [2] ^error$\n", "|   2) [1] ", "|   3) [1] ", "\nLines: 6 lines, 0 ignored, 4 matched, 2 missed\n",
		}},
		{"what the daemon would do", []string{"--out", "id"}, []string{"192.0.2.1\n192.0.2.3\n"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			code, out, errs := program(t, append([]string{"fail2ban-regex", "-c", dir, log, "t"}, c.args...)...)
			if code != 0 {
				t.Errorf("it ends with %d: %s", code, errs)
			}
			for _, want := range c.want {
				if !strings.Contains(out, want) {
					t.Errorf("it prints\n%swithout %q", out, want)
				}
			}
		})
	}
}

// Several filters in one pass report what each reports alone, however they see the lines.
func TestSeveralFiltersInOnePass(t *testing.T) {
	log := filepath.Join(folder(t, "log", `Jun 21 16:47:47 gate s[1]: error
Jun 21 16:47:48 gate s[1]: bye 192.0.2.1
Jun 21 16:47:49 gate s[2]: fail 192.0.2.2
1119365270 fail 192.0.2.3
# nothing

Jun 21 16:47:51 gate s[3]: fail 2001:db8::1
`), "log")
	dir := folder(t, "filter.d/a.conf", `[Definition]
prefregex = ^ gate s<F-MLFID>\[\d+\]</F-MLFID>: <F-CONTENT>.+</F-CONTENT>$
failregex = ^error$
    ^<F-NOFAIL>bye</F-NOFAIL> <HOST>$
    ^fail <HOST>$
ignoreregex = 2001:
`, "filter.d/b.conf", "[Definition]\nfailregex = fail <ADDR>$\ndatepattern = ^EPOCH\n",
		"filter.d/c.conf", "[Definition]\nfailregex = error\\n.*bye <ADDR>$\nmaxlines = 2\n")
	exprs := []string{"a", "b", "c", "a", `fail <ADDR>$`}
	args := []string{"bantam", "regex", "-c", dir, "--print-all-matched", "-v", "--now", "2026-06-22T10:00:00Z", log}
	took := regexp.MustCompile(`\[processed in .*\]`)
	alone, lines := "", 0
	for _, expr := range exprs {
		code, out, errs := program(t, append(args, expr)...)
		if code != 0 {
			t.Fatalf("%s: it ends with %d: %s", expr, code, errs)
		}
		alone, lines = alone+out, lines+strings.Count(out, "|  Jun")+strings.Count(out, "|  1119")
	}
	if lines < len(exprs) {
		t.Errorf("only %d lines are listed in\n%s", lines, alone)
	}
	for _, expr := range exprs {
		args = append(args, "-f", expr)
	}
	code, together, errs := program(t, args...)
	if code != 0 || took.ReplaceAllString(together, "") != took.ReplaceAllString(alone, "") {
		t.Errorf("it ends with %d and prints\n%s%s\nalone they print\n%s", code, together, errs, alone)
	}
	for _, wrong := range [][]string{{log}, {log, "a", "-f", "b"}, {log, "-f", "a", "-f", "b", "--json"}, {log, "-f", "a", "-f", "b", "-o", "id"}} {
		if code, _, errs := program(t, append([]string{"bantam", "regex", "-c", dir}, wrong...)...); code != ExitUsage {
			t.Errorf("%q: it ends with %d: %s", wrong, code, errs)
		}
	}
	if code, _, errs := program(t, "bantam", "regex", "-c", dir, log, "-f", "a", "-f", "("); code != ExitFailed || !strings.Contains(errs, "(: failregex 1: ") {
		t.Errorf("with a wrong one it ends with %d: %s", code, errs)
	}
}

// On several cores the answers are those of one, whatever lines follow each other.
func TestRegexOnAllCores(t *testing.T) {
	const lines = 5 * chunkLines
	r := rand.New(rand.NewPCG(1, 2))
	var log bytes.Buffer
	stamps := []string{"Jun 21 16:%02d:%02d", "2005-06-21T16:%02d:%02dZ", "[21/Jun/2005:16:%02d:%02d +0200]", "no date %d %d", "[Jun 21 16:%02d:%02d 2005]"}
	texts := []string{"cron[1]: job %d", "f 192.0.2.%d", "f 2001:db8::%d ignored", "g 192.0.2.%d both", "f \xff%d", "f name%d.invalid", "#%d"}
	for range lines {
		fmt.Fprintf(&log, stamps[r.IntN(len(stamps))]+" gate ", r.IntN(60), r.IntN(60))
		fmt.Fprintf(&log, texts[r.IntN(len(texts))]+strings.Repeat(" more", r.IntN(20))+"\n", r.IntN(250))
	}
	name := filepath.Join(folder(t, "log", log.String()), "log")
	dir := folder(t, "filter.d/a.conf", "[Definition]\nfailregex = ^ gate f <HOST>\n    ^ gate [fg] <HOST>\nignoreregex = ignored\n",
		"filter.d/b.conf", "[Definition]\nprefregex = gate <F-CONTENT>.*</F-CONTENT>$\nfailregex = ^g <ADDR>\ndatepattern = ^%%Y\n    %%b %%d %%H:%%M:%%S\n",
		"filter.d/session.conf", "[Definition]\nfailregex = ^ gate (?:<F-MLFID>f</F-MLFID>) <ADDR>\n")
	took := regexp.MustCompile(`\[processed in .*\]`)
	on := func(cores int, opt regexOptions, filters ...string) string {
		defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(cores))
		var out bytes.Buffer
		trial := regexTrial{app: &app{stdout: &out, stderr: io.Discard, library: library.FS, config: dir}, now: time.Unix(1_120_000_000, 0), many: 1, opt: opt}
		trial.opt.useDNS = "no"
		if err := trial.report(t.Context(), name, filters, nil); err != nil {
			t.Fatalf("%q: %v", filters, err)
		}
		return took.ReplaceAllString(out.String(), "")
	}
	for _, c := range []struct {
		filters []string
		opt     regexOptions
	}{
		{[]string{"a"}, regexOptions{verbose: 1, allMatched: true, allIgnored: true}},
		{[]string{"a", "b", "a"}, regexOptions{noCheckAll: true}},
		{[]string{"a"}, regexOptions{out: "row"}},
		{[]string{"b", "session"}, regexOptions{}},
	} {
		one, several := on(1, c.opt, c.filters...), on(4, c.opt, c.filters...)
		if one != several {
			t.Errorf("%q: on one core it prints %d bytes, on four %d others", c.filters, len(one), len(several))
		}
		if strings.Count(one, "\n") < 10 || strings.Contains(one, " 0 matched") {
			t.Errorf("%q: it prints\n%.1000s", c.filters, one)
		}
	}
}

// A list of all lines takes no memory that grows with the log, and loses none.
func TestListsOfAllLinesAreWhole(t *testing.T) {
	var l list
	defer l.close()
	const lines = 40_000
	for i := range lines {
		if err := l.add(fmt.Appendf(nil, "line %d %s", i, strings.Repeat("x", 50)), 20, true); err != nil {
			t.Fatal(err)
		}
	}
	if l.spill == nil {
		t.Error("everything is kept in memory")
	}
	n := 0
	err := l.each(func(line string) {
		if want := fmt.Sprintf("line %d ", n); !strings.HasPrefix(line, want) || len(line) != len(want)+50 {
			t.Fatalf("line %d is %q", n, line)
		}
		n++
	})
	if err != nil || n != lines {
		t.Errorf("%d of %d lines came back, error %v", n, lines, err)
	}
}

// Lines longer than the reading buffer, empty ones, and the last one without a line end.
func TestLogReader(t *testing.T) {
	long := strings.Repeat("y", 700<<10)
	endless := strings.Repeat("z", maxRegexLine+1000)
	r := newLogReader(strings.NewReader("a\r\n\n"+long+"\n"+endless+"\nb\nend"), progress{})
	for i, want := range []string{"a", "", long, endless[:maxRegexLine], "b", "end"} {
		text, ended, err := r.next()
		if err != nil || string(text) != want {
			t.Fatalf("line %d: %d bytes, want %d, error %v", i+1, len(text), len(want), err)
		}
		if ended != (want != "end") {
			t.Errorf("line %d: a line end is %t", i+1, ended)
		}
	}
	if _, _, err := r.next(); err != io.EOF {
		t.Errorf("behind the last line: %v", err)
	}
}

// Whatever a log holds, every line of it is judged and shown without a control character.
func TestRegexOnAnything(t *testing.T) {
	log := "f 192.0.2.1\n\xff\xfe f 192.0.2.2\xc3\n\x00\x1b[2J\u202e\n" + strings.Repeat("xy", 600<<10) + " f 192.0.2.3\nf 192.0.2.4\n"
	name := filepath.Join(folder(t, "log", log), "log")
	code, out, errs := program(t, "fail2ban-regex", "-d", "{NONE}", name, `f <ADDR>`, "--print-all-missed")
	if code != 0 || !strings.Contains(out, "\nLines: 5 lines, 0 ignored, 3 matched, 2 missed\n") {
		t.Errorf("it ends with %d and prints\n%.2000s%s", code, out, errs)
	}
	if strings.ContainsFunc(strings.ReplaceAll(out, "\n", ""), func(r rune) bool { return r < ' ' || r == 0x202e }) {
		t.Error("a control character was printed")
	}
	code, out, errs = program(t, "bantam", "regex", "--json", "-c", folder(t, "filter.d/t.conf", "[Definition]\nfailregex = f <ADDR>\ndatepattern = {NONE}\n"), name, "t")
	if n := strings.Count(out, "\n"); code != 0 || n != 5 {
		t.Errorf("with --json it ends with %d and prints %d lines\n%s", code, n, errs)
	}
}

// A configuration made to hurt ends in a problem with its place, at once.
func TestCheckOnAnything(t *testing.T) {
	var deep strings.Builder
	deep.WriteString("[t]\nenabled = true\nfilter =\nfailregex = %(a)s\n")
	for c := 'a'; c < 'j'; c++ {
		fmt.Fprintf(&deep, "%c = %s\n", c, strings.Repeat(fmt.Sprintf("%%(%c)s", c+1), 100))
	}
	deep.WriteString("j = <HOST>\n")
	for _, c := range []struct{ name, jails, filter, want string }{
		{"references that multiply", deep.String(), "", "too many references"},
		{"references in a circle", "[t]\nenabled = true\nbantime = %(bantime)s\n", "", "jail.local:5: bantime: the references go round in a circle"},
		{"a filter that includes itself", "[t]\nenabled = true\nfilter = t\nlogpath = /t.log\n", "[INCLUDES]\nbefore = t.conf\n[Definition]\nfailregex = ^ (<HOST>\n", "filter.d/t.conf:4: failregex 1: "},
		{"an expression of a hundred thousand groups", "[t]\nenabled = true\nfilter =\nlogpath = /t.log\nfailregex = " + strings.Repeat("(a|", 100<<10) + "\n", "", "jail.local:7: failregex 1: "},
		{"tags that grow", "[t]\nenabled = true\nfilter = t\nlogpath = /t.log\n", "[Definition]\nfailregex = <a>\na = <b><b><b><b>\nb = " + strings.Repeat("<c>", 1000) + "\nc = " + strings.Repeat("x", 1000) + "\n", "filter.d/t.conf:"},
		{"a link to itself", "[t]\nenabled = true\nfilter = loop\nlogpath = /t.log\n", "", "filter.d/loop.conf: "},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := folder(t, "jail.local", "[sshd]\nenabled = false\n"+c.jails, "filter.d/t.conf", c.filter)
			if err := os.Symlink("loop.conf", filepath.Join(dir, "filter.d/loop.conf")); err != nil {
				t.Fatal(err)
			}
			code, out, errs := program(t, "bantam", "check", "-c", dir)
			if code != ExitFailed || !strings.Contains(out+errs, c.want) {
				t.Errorf("it ends with %d and prints\n%.2000s%.1000s\nwant %s", code, out, errs, c.want)
			}
			if len(out) > 10_000 {
				t.Errorf("it prints %d bytes", len(out))
			}
		})
	}
}

// What a line costs that nobody wants, reading and judging it by the simplest expression; no
// line may cost an allocation.
func BenchmarkRegexLines(b *testing.B) {
	var log bytes.Buffer
	const lines = 100_000
	for i := range lines {
		fmt.Fprintf(&log, "Jun 21 16:47:48 gate cron[%d]: (root) CMD (run-parts /etc/cron.hourly) and some more of it\n", i)
	}
	name := filepath.Join(b.TempDir(), "log")
	if err := os.WriteFile(name, log.Bytes(), 0o600); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	b.SetBytes(int64(log.Len()))
	for b.Loop() {
		code := Main(context.Background(), []string{"fail2ban-regex", "-d", "{NONE}", name, "^never <HOST>$"}, library.FS, io.Discard, io.Discard)
		if code != 0 {
			b.Fatal("exit code ", code)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/lines, "ns/line")
}
