package firewall

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"mvdan.cc/sh/v3/expand"
	"mvdan.cc/sh/v3/interp"
	"mvdan.cc/sh/v3/syntax"
)

// This file runs an action's commands for show: a shell without processes, files
// or environment, in which nft, iptables and ipset change a model and nothing
// else exists but a few words of the shell. What it does not know it refuses, so
// that the action runs as shell.

const (
	rehearsalCalls   = 5_000           // commands that one script may call
	rehearsalTime    = 2 * time.Second // of wall time; for loops that call nothing
	rehearsalCommand = 16 << 10        // bytes of one script
)

// A refusal says why commands are not carried out natively.
type refusal struct{ why string }

func (r *refusal) Error() string { return r.why }

func refuse(format string, args ...any) error { return &refusal{fmt.Sprintf(format, args...)} }

// A stage is what a script acts on: the model of the kernel's objects.
type stage struct {
	mu      sync.Mutex // the parts of a pipe run side by side
	calls   int
	probes  []string // addresses that no test may look at
	refused error    // the first thing that was not understood
	world
}

// builtins are the shell's own words that a script may call.
var builtins = []string{"true", "false", ":", "echo", "printf", "read", "[", "test", "shift", "set", "return"}

// parseScript reads a command as the POSIX shell does, and refuses what a
// rehearsal could not follow.
func parseScript(text string) (*syntax.File, error) {
	if len(text) > rehearsalCommand {
		return nil, refuse("a command of %d bytes", len(text))
	}
	// The interpreter's readers of strings may stumble over what no shell takes.
	if strings.ContainsAny(text, "\x00\r") {
		return nil, refuse("a command with control characters")
	}
	file, err := syntax.NewParser(syntax.Variant(syntax.LangPOSIX)).Parse(strings.NewReader(text), "")
	if err != nil {
		return nil, refuse("the shell would not understand it: %v", err)
	}
	var why error
	syntax.Walk(file, func(n syntax.Node) bool {
		if why != nil {
			return false
		}
		switch n := n.(type) {
		case nil, *syntax.File, *syntax.CallExpr, *syntax.Block, *syntax.IfClause, *syntax.ForClause, *syntax.WordIter, *syntax.Assign,
			*syntax.Word, *syntax.SglQuoted, *syntax.CmdSubst, *syntax.Subshell, *syntax.Comment:
		case *syntax.DblQuoted:
			if n.Dollar {
				why = refuse("a translated string")
			}
		case *syntax.Lit:
			if openBrace(n.Value) {
				why = refuse("braces that some shells expand")
			}
		case *syntax.BinaryCmd:
			if n.Op != syntax.AndStmt && n.Op != syntax.OrStmt && n.Op != syntax.Pipe {
				why = refuse("the operator %s", n.Op)
			}
		case *syntax.WhileClause:
		case *syntax.Stmt:
			if n.Background || n.Coprocess || n.Disown {
				why = refuse("a command in the background")
			}
		case *syntax.ParamExp:
			if n.Param == nil || n.Length || n.Exp != nil || n.Index != nil || n.Slice != nil || n.Repl != nil || n.Excl {
				why = refuse("an expansion beyond $name")
			}
		case *syntax.Redirect:
			to := n.Word.Lit()
			toNull := to == "/dev/null" && (n.Op == syntax.RdrOut || n.Op == syntax.AppOut)
			if !toNull && (n.Op != syntax.DplOut || to != "1" && to != "2") {
				why = refuse("a redirection other than to /dev/null")
			}
		default:
			why = refuse("shell beyond plain commands (%s)", strings.TrimPrefix(fmt.Sprintf("%T", n), "*syntax."))
		}
		return why == nil
	})
	return file, why
}

// openBrace reports whether a word has a brace that is not escaped.
func openBrace(s string) bool {
	for i := 0; i < len(s); i++ {
		switch s[i] {
		case '\\':
			i++
		case '{':
			return true
		}
	}
	return false
}

// run carries a script out on the stage and returns its exit status.
func (s *stage) run(text string) (status uint8, err error) {
	file, err := parseScript(text)
	if err != nil {
		return 0, err
	}
	// Of wall time, and generous: an ordinary script takes a millisecond.
	ctx, cancel := context.WithTimeout(context.Background(), rehearsalTime)
	defer cancel()
	s.calls = 0
	none := func(what string) error {
		s.mu.Lock()
		defer s.mu.Unlock()
		return s.no(refuse("it looks at files (%.80s)", what))
	}
	r, err := interp.New(
		interp.Env(expand.ListEnviron("PATH=/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/")),
		interp.Dir("/"),
		interp.StdIO(nil, io.Discard, io.Discard),
		interp.CallHandler(func(_ context.Context, args []string) ([]string, error) { return args, s.call(args) }),
		interp.ExecHandlers(func(interp.ExecHandlerFunc) interp.ExecHandlerFunc { return s.exec }),
		interp.OpenHandler(func(_ context.Context, path string, _ int, _ fs.FileMode) (io.ReadWriteCloser, error) {
			if path == "/dev/null" {
				return null{}, nil
			}
			return nil, none(path)
		}),
		interp.ReadDirHandler2(func(context.Context, string) ([]fs.DirEntry, error) { return nil, none("a pattern of names") }),
		interp.StatHandler(func(_ context.Context, name string, _ bool) (fs.FileInfo, error) { return nil, none(name) }),
		interp.AccessHandler(func(_ context.Context, path string, _ interp.AccessMode) error { return none(path) }),
	)
	if err != nil {
		return 0, refuse("no shell to try it in: %v", err)
	}
	err = r.Run(ctx, file)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.refused != nil {
		return 0, s.refused
	}
	if ctx.Err() != nil {
		return 0, refuse("it does not end")
	}
	var code interp.ExitStatus
	if errors.As(err, &code) {
		return uint8(code), nil
	}
	if err != nil {
		var why *refusal
		if errors.As(err, &why) {
			return 0, why
		}
		return 0, refuse("it cannot be followed: %v", err)
	}
	return 0, nil
}

// call sees each command before it runs.
func (s *stage) call(args []string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.calls++; s.calls > rehearsalCalls {
		return s.no(refuse("it does not end"))
	}
	if interp.IsBuiltin(args[0]) && !slices.Contains(builtins, args[0]) {
		return s.no(refuse("it calls %.40q", args[0]))
	}
	if args[0] == "[" || args[0] == "test" {
		for _, a := range args[1:] {
			if slices.ContainsFunc(s.probes, func(p string) bool { return strings.Contains(a, p) }) {
				return s.no(refuse("it decides by the address"))
			}
		}
	}
	return nil
}

// no remembers a refusal, so that nothing between here and run can lose it.
func (s *stage) no(err error) error {
	if s.refused == nil {
		s.refused = err
	}
	return err
}

// exec is a program of the stage.
func (s *stage) exec(ctx context.Context, args []string) error {
	hc := interp.HandlerCtx(ctx)
	base := args[0][strings.LastIndexByte(args[0], '/')+1:]
	var out string
	ok, err := true, error(nil)
	switch {
	case base == "nft":
		out, ok, err = s.locked(func() (string, bool, error) { return s.nft(args) })
	case iptablesName.MatchString(args[0]):
		out, ok, err = s.locked(func() (string, bool, error) { return s.iptables(args) })
	case base == "ipset":
		out, ok, err = s.locked(func() (string, bool, error) { return s.ipset(args) })
	case base == "sed" || base == "grep":
		in, rerr := readText(hc.Stdin)
		if rerr != nil {
			err = rerr
			break
		}
		if base == "sed" {
			out, err = sed(args[1:], in)
		} else {
			out, ok, err = grep(args[1:], in)
		}
	case base == "sleep":
	default:
		err = refuse("it calls %.40q", args[0])
	}
	if err != nil {
		s.mu.Lock()
		defer s.mu.Unlock()
		return s.no(err)
	}
	_, _ = io.WriteString(hc.Stdout, out) // who does not read it has seen enough
	if !ok {
		return interp.ExitStatus(1)
	}
	return nil
}

func (s *stage) locked(do func() (string, bool, error)) (string, bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return do()
}

func readText(r io.Reader) (string, error) {
	const most = 64 << 10
	if r == nil {
		return "", nil
	}
	b, err := io.ReadAll(io.LimitReader(r, most+1))
	if err != nil || len(b) > most {
		return "", refuse("a program reads more than it should")
	}
	return string(b), nil
}

// sed is what the stage knows of it: s/PATTERN/TEXT/ with g and p, -n, -E or -r,
// plus -e.
func sed(args []string, in string) (string, error) {
	quiet, extended, script := false, false, ""
	for _, a := range args {
		switch {
		case len(a) > 1 && a[0] == '-' && strings.Trim(a[1:], "nErRe") == "":
			quiet = quiet || strings.Contains(a, "n")
			extended = extended || strings.ContainsAny(a, "Er")
		case script == "":
			script = a
		default:
			return "", refuse("sed with more than one script")
		}
	}
	if len(script) < 4 || script[0] != 's' || strings.ContainsRune(`\`+"\n", rune(script[1])) {
		return "", refuse("a sed script other than s/…/…/")
	}
	parts := strings.Split(script[2:], script[1:2])
	if len(parts) != 3 || strings.Trim(parts[2], "gp") != "" {
		return "", refuse("a sed script other than s/…/…/")
	}
	if !extended && strings.ContainsAny(parts[0], `\+?(){}|`) || strings.Contains(parts[1], "&") {
		return "", refuse("a sed script beyond plain text")
	}
	re, err := regexp.Compile(parts[0])
	if err != nil {
		return "", refuse("a sed script beyond plain text")
	}
	to := strings.ReplaceAll(parts[1], "$", "$$")
	to = regexp.MustCompile(`\\([1-9])`).ReplaceAllString(to, "$${$1}")
	if strings.Contains(to, `\`) {
		return "", refuse("a sed script beyond plain text")
	}
	var out strings.Builder
	for line := range strings.Lines(in) {
		line = strings.TrimSuffix(line, "\n")
		changed := line
		hit := re.FindStringSubmatchIndex(line)
		if strings.Contains(parts[2], "g") {
			changed = re.ReplaceAllString(line, to)
		} else if hit != nil {
			changed = line[:hit[0]] + string(re.ExpandString(nil, to, line, hit)) + line[hit[1]:]
		}
		if !quiet {
			out.WriteString(changed + "\n")
		}
		if hit != nil && strings.Contains(parts[2], "p") {
			out.WriteString(changed + "\n")
		}
	}
	return out.String(), nil
}

// grep is what the stage knows of it: one pattern with -q, -o, -E, -P, -F. In
// -P the pattern may throw away its beginning by \K.
func grep(args []string, in string) (string, bool, error) {
	flags, pattern, seen := "", "", false
	for _, a := range args {
		switch {
		case len(a) > 1 && a[0] == '-' && !seen && strings.Trim(a[1:], "qoEPFe") == "":
			flags += a[1:]
		case !seen && a != "" && a[0] != '-':
			pattern, seen = a, true
		default:
			return "", false, refuse("grep with other arguments than -q, -o, -E, -P, -F and a pattern")
		}
	}
	has := func(f string) bool { return strings.Contains(flags, f) }
	switch {
	case has("F"):
		pattern = regexp.QuoteMeta(pattern)
	case has("P"):
		if head, tail, cut := strings.Cut(pattern, `\K`); cut {
			pattern = head + "(?P<kept>" + tail + ")"
		}
	case !has("E") && strings.ContainsAny(pattern, `+?(){}|`):
		return "", false, refuse("a grep pattern beyond plain text")
	}
	// Inside brackets a backslash is one to grep and not here; [ \t] means the
	// same with both when there is no other t or backslash in the lines' place.
	re, err := regexp.Compile(pattern)
	if err != nil {
		return "", false, refuse("a grep pattern that cannot be followed")
	}
	kept := max(re.SubexpIndex("kept"), 0)
	var out strings.Builder
	found := false
	for line := range strings.Lines(in) {
		line = strings.TrimSuffix(line, "\n")
		hits := re.FindAllStringSubmatch(line, 64)
		found = found || len(hits) > 0
		switch {
		case has("q") || len(hits) == 0:
		case has("o"):
			for _, h := range hits {
				out.WriteString(h[kept] + "\n")
			}
		default:
			out.WriteString(line + "\n")
		}
	}
	return out.String(), found, nil
}

// null is /dev/null.
type null struct{}

func (null) Read([]byte) (int, error)    { return 0, io.EOF }
func (null) Write(b []byte) (int, error) { return len(b), nil }
func (null) Close() error                { return nil }
