package test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// A paste is lines of a page that its reader puts into a file of the configuration's folder.
type paste struct {
	file string // in the folder
	line int    // of the page, from 1 on
	text string
}

var (
	// pasteFile is the first line of what goes elsewhere than into jail.local: a comment that names the file.
	pasteFile = regexp.MustCompile(`^# (?:\S*?/)??((?:(?:action|filter)\.d/)?[\w-]+\.(?:conf|local))\b`)
	// pasteHead is the first line of what goes into jail.local, comments left out.
	pasteHead = regexp.MustCompile(`^\[[\w.-]+\]$`)
	// pasteSecret is where a secret stands that the reader has and the test has not.
	pasteSecret = regexp.MustCompile(`\b(file|credential|env):([^\s,\]"']+)`)
)

// pastes are what a page in Markdown has to paste: of its blocks, fenced or indented, those that begin with a
// section, or with a comment that names a file. Commands, messages and single options are none.
func pastes(page string) []paste {
	var all []paste
	var block []string
	var fence string
	begin := 0
	end := func() {
		if p, ok := readPaste(block); ok {
			p.line = begin
			all = append(all, p)
		}
		block = nil
	}
	blank := true // the line before: an indented block begins behind a blank one
	for i, line := range strings.Split(page, "\n") {
		trimmed := strings.TrimSpace(line)
		switch {
		case fence != "" && trimmed == fence:
			end()
			fence = ""
		case fence != "":
			block = append(block, line)
		case strings.HasPrefix(trimmed, "```"):
			end()
			fence, begin = "```", i+2
		case strings.HasPrefix(line, "    ") && (blank || block != nil):
			if block == nil {
				begin = i + 1
			}
			block = append(block, line[4:])
		case trimmed == "" && block != nil:
			block = append(block, "")
		default:
			end()
		}
		blank = trimmed == ""
	}
	end()
	return all
}

func readPaste(block []string) (p paste, ok bool) {
	for _, line := range block {
		if m := pasteFile.FindStringSubmatch(line); m != nil && p.file == "" {
			p.file = m[1]
		}
		if strings.HasPrefix(line, "#") || strings.TrimSpace(line) == "" {
			continue
		}
		if p.file == "" {
			p.file = "jail.local"
		}
		p.text = strings.Join(block, "\n") + "\n"
		return p, pasteHead.MatchString(line)
	}
	return p, false
}

func TestPastesOfAPage(t *testing.T) {
	const page = "# Page\n\nText:\n\n    [sshd]\n    enabled = true\n\n    action = a\n             b\n\nMore [sshd]\n    not a block\n\n" +
		"    # /etc/bantam/bantam.conf (or elsewhere)\n    [Definition]\n    geodb = x\n\n```ini\n# a comment\n[nginx]\nx = y\n```\n\n    geodb = one option\n\n```\nbantam check\n```\n\n    # action.d/own.conf\n    [Definition]\n    actionban = x\n"
	want := []paste{
		{"jail.local", 5, "[sshd]\nenabled = true\n\naction = a\n         b\n\n"},
		{"bantam.conf", 14, "# /etc/bantam/bantam.conf (or elsewhere)\n[Definition]\ngeodb = x\n\n"},
		{"jail.local", 19, "# a comment\n[nginx]\nx = y\n"},
		{"action.d/own.conf", 30, "# action.d/own.conf\n[Definition]\nactionban = x\n\n"},
	}
	if got := pastes(page); !slices.Equal(got, want) {
		t.Errorf("the page has %+v, want %+v", got, want)
	}
}

// harmless are warnings about what the reader has and the test has not: logs and databases.
var harmless = []string{"there is no file", "no such file or directory"}

// What the pages have to paste is right: each block of a jail.local is checked alone, beside all that
// the page has for other files.
func TestHowToPagesCheck(t *testing.T) {
	pages, err := filepath.Glob("../docs/how-to/*.md")
	if err != nil || len(pages) < 2 {
		t.Fatalf("%d pages, %v", len(pages), err)
	}
	for _, page := range append(pages, guidePage) {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		all := pastes(string(text))
		jails := 0
		for i, p := range all {
			if p.file != "jail.local" {
				continue
			}
			jails++
			beside := slices.DeleteFunc(slices.Clone(all), func(o paste) bool { return o.file == "jail.local" })
			checkPaste(t, filepath.Base(page), all[i], beside)
		}
		if jails == 0 {
			t.Errorf("%s has no lines of a jail.local to paste", filepath.Base(page))
		}
	}
}

// secrets are those of which check can tell whether they are some.
var secrets = map[string]string{
	"telegram-token": telegramToken, "telegram.secret": telegramToken, "discord-url": discordURL, "slack-url": slackURL, "webhook-url": hookURL,
	"webhook-header": "Authorization: Bearer abcdefghijkl",
}

// checkPaste runs bantam check on a folder with one block of a jail.local and other files.
func checkPaste(t *testing.T, page string, jail paste, beside []paste) {
	t.Helper()
	dir := t.TempDir()
	files := map[string]string{}
	for _, p := range append(beside, jail) {
		files[p.file] += pasteSecret.ReplaceAllStringFunc(p.text, func(where string) string {
			name := filepath.Base(where)
			if files[name] = secrets[name]; files[name] == "" {
				files[name] = "word\n"
			}
			return "file:" + filepath.Join(dir, name)
		})
	}
	if !strings.Contains(jail.text, "enabled =") { // what is said for all jails is read for those there are
		const head = "[sshd]\n"
		before, after, _ := strings.Cut(files[jail.file], head)
		files[jail.file] = before + head + "enabled = true\n" + after
	}
	for name, text := range files {
		name = filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	out, err := exec.CommandContext(t.Context(), program, "check", "-c", dir).CombinedOutput()
	var bad []string
	for line := range strings.Lines(string(out)) {
		if strings.HasPrefix(line, "warning:") && !slices.ContainsFunc(harmless, func(s string) bool { return strings.Contains(line, s) }) {
			bad = append(bad, line)
		}
	}
	if err != nil || len(bad) > 0 {
		t.Errorf("%s:%d: bantam check: %v\n%s\nof\n%s", page, jail.line, err, out, jail.text)
	}
}

// pageCommand is a command of a page that calls the program, up to a pipe or a comment.
var pageCommand = regexp.MustCompile(`(?:^|\| |sudo |ssh \S+ )bantam(?: ((?:'[^']*'|[^'|#&])*))?`)

// commandsOf are the words of each call of the program in a page's blocks.
func commandsOf(page string) (all [][]string) {
	fenced := false
	for line := range strings.Lines(page) {
		line = strings.TrimRight(line, "\n")
		if strings.HasPrefix(line, "```") {
			fenced = !fenced
			continue
		}
		code, indented := strings.CutPrefix(line, "    ")
		if m := prompt.FindStringSubmatch(line); fenced && m != nil {
			code = m[2]
		} else if fenced || !indented {
			continue
		}
		first, _, _ := strings.Cut(code, " ")
		if first != "sudo" && first != "bantam" && first != "ssh" {
			continue
		}
		for _, m := range pageCommand.FindAllStringSubmatch(code, -1) {
			all = append(all, shellWords(m[1]))
		}
	}
	return all
}

// shellWords splits at blanks, but not within quotes.
func shellWords(text string) (words []string) {
	for _, word := range regexp.MustCompile(`'[^']*'|\S+`).FindAllString(text, -1) {
		words = append(words, strings.Trim(word, "'"))
	}
	return words
}

func TestCommandsOfAPage(t *testing.T) {
	const page = "    sudo bantam\n\n    bantam check -c /etc/x    # bantam is\n\n    sudo bantam ban --reason 'scans us'\n    sudo systemctl enable --now bantam\n" +
		"    sudo bantam banned --json | ssh root@other bantam import -\n\n    [bantam]\n\n```console\n$ sudo bantam setup\nbantam 0.1.0 runs\n```\n\nbantam text\n"
	want := [][]string{nil, {"check", "-c", "/etc/x"}, {"ban", "--reason", "scans us"}, {"banned", "--json"}, {"import", "-"}, {"setup"}}
	got := commandsOf(page)
	if !slices.EqualFunc(got, want, slices.Equal[[]string]) {
		t.Errorf("the page has %q, want %q", got, want)
	}
}

// Each call of the program on a page is one that it understands: there is such a command, with such flags.
func TestCommandsOfThePagesAreUnderstood(t *testing.T) {
	pages, err := filepath.Glob("../docs/how-to/*.md")
	if err != nil {
		t.Fatal(err)
	}
	checked, nowhere := 0, t.TempDir()
	for _, page := range append(pages, guidePage, "../README.md") {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for _, args := range commandsOf(string(text)) {
			checked++
			out, err := exec.CommandContext(t.Context(), program, append(slices.Clone(args), "-c", nowhere, "--socket", nowhere+"/s", "--help")...).CombinedOutput()
			_, usage, _ := strings.Cut(string(out), "Usage: bantam")
			usage, _, _ = strings.Cut(usage, "\n")
			if err != nil || len(args) > 0 && !strings.HasPrefix(usage, " "+args[0]) {
				t.Errorf("%s: bantam %s: %v, it is about %q", filepath.Base(page), strings.Join(args, " "), err, usage)
			}
		}
	}
	if checked < 60 {
		t.Errorf("only %d commands were found", checked)
	}
}
