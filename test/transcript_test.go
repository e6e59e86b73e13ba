package test

import (
	"errors"
	"flag"
	"io"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"

	"bantam/internal/nstest"
)

var update = flag.Bool("update", false, "write the transcripts of docs/guide.md anew, as the machine says it now")

// guidePage is the page that is a transcript.
const guidePage = "../docs/guide.md"

// A step is one command of a transcript, and what the page says that it prints.
type step struct {
	who     string // whose prompt it is: empty for the machine's own
	command string
	said    string // each line with its end
	line    int    // of the page, from 0 on: where said begins
	lines   int    // how many lines said has
}

// prompt begins a command in a block of a transcript: "$ " on the machine itself, "NAME$ " on a client.
var prompt = regexp.MustCompile(`^([a-z]*)\$ (.+)$`)

// steps are the commands in a section's blocks, in order; the section ends where the next of its rank begins.
func steps(page, heading string) (all []step) {
	inSection, inBlock := false, false
	for i, line := range strings.Split(page, "\n") {
		switch {
		case strings.HasPrefix(line, "```"):
			inBlock = inSection && !inBlock && line == "```console"
		case !inBlock && strings.HasPrefix(line, "## "):
			inSection = line == "## "+heading
		case inBlock:
			if m := prompt.FindStringSubmatch(line); m != nil {
				all = append(all, step{who: m[1], command: m[2], line: i + 1})
			} else if n := len(all); n > 0 {
				all[n-1].said += line + "\n"
				all[n-1].lines++
			}
		}
	}
	return all
}

// varying are the rules by which what differs from run to run is left out of a comparison.
var varying = []struct {
	name string
	old  *regexp.Regexp
	new  string
}{
	{"the clock of the machine under the test", regexp.MustCompile(`(?m)^ +(ok +the clock is .* synchronised|doubtful +the clock is .*\n +fix: .*)$`), "CLOCK"},
	{"which may be all that is doubtful", regexp.MustCompile(`Nothing is wrong, 1 thing doubtful\.`), "Nothing is wrong."},
	{"how many jails and rules the library has", regexp.MustCompile(`\d+ (more jails)|(failregex )\d+(, library/\S+):\d+`), "$1$2$3"},
	{"versions", regexp.MustCompile(`(bantam[ _(]+)\d+\.\d+\.\d+(-1)?`), "${1}VERSION"},
	{"dates", regexp.MustCompile(`\b20\d\d-\d\d-\d\d\b`), "DATE"},
	{"stamps of a log", regexp.MustCompile(`\b[A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d\b`), "STAMP"},
	{"times of day", regexp.MustCompile(`\b\d\d:\d\d(:\d\d)?\b`), "TIME"},
	{"durations", regexp.MustCompile(`\b\d+[dhms]( \d+[hms])?\b`), "DURATION"},
	{"process numbers", regexp.MustCompile(`(sshd\[|\(pid )\d+`), "${1}PID"},
	{"a client's ports", regexp.MustCompile(`\bport \d{4,5}\b`), "port PORT"},
	{"how much memory and room there is", regexp.MustCompile(`\d+(\.\d)? MB`), "N MB"},
	{"how many lines a log has", regexp.MustCompile(`\d+ lines read`), "N lines read"},
	{"how many files the machine has", regexp.MustCompile(`\d+ files and directories`), "N files and directories"},
	{"keys", regexp.MustCompile(`SHA256:[\w+/]+`), "KEY"},
	{"columns are as wide as what is in them", regexp.MustCompile(` {2,}`), " "},
	{"lines are broken where they are full", regexp.MustCompile(`\n {2,}`), " "},
}

// constant is a text without what varies.
func constant(text string) string {
	for _, v := range varying {
		text = v.old.ReplaceAllString(text, v.new)
	}
	return strings.TrimRight(text, "\n")
}

func TestWhatVariesInATranscript(t *testing.T) {
	for _, c := range []struct {
		name, one, other string
		same             bool
	}{
		{"another time and duration", "sshd 00:39:47 9m 58s 5 failures", "sshd  12:10:04  10m  5 failures", true},
		{"another count of failures", "sshd 00:39:47 9m 58s 5 failures", "sshd 00:39:47 9m 58s 6 failures", false},
		{"another address", "198.51.100.23 is dropped", "198.51.100.24 is dropped", false},
		{"another verdict", "  ok        198.51.100.23 is dropped", "  wrong     198.51.100.23 is dropped", false},
		{"the clock is kept right", "TIME\n  ok        the clock is 2026-11-22 00:00:00 UTC and synchronised\nx", "TIME\n  doubtful  the clock is 2026-11-22 00:00:01 and nothing keeps it right\n            fix: chrony\nx", true},
		{"and all is well then", "Nothing is wrong, 1 thing doubtful.", "Nothing is wrong.", true},
		{"more is doubtful", "Nothing is wrong, 2 things doubtful.", "Nothing is wrong.", false},
		{"a filter has one rule more", "  rule:      failregex 8, library/filter.d/sshd.conf:33", "  rule:      failregex 9, library/filter.d/sshd.conf:34", true},
		{"another filter", "  rule:      failregex 8, library/filter.d/sshd.conf:33", "  rule:      failregex 8, library/filter.d/dropbear.conf:33", false},
		{"another process", "Nov 22 00:39:47 gate sshd[71]: from 192.0.2.1 port 51020", "Nov  2 00:39:48 gate sshd[7]: from 192.0.2.1 port 1024", true},
		{"another port of ours", "tcp 22", "tcp 2222", false},
		{"another version", "bantam 0.1.0 runs", "bantam 1.20.3 runs", true},
	} {
		if (constant(c.one) == constant(c.other)) != c.same {
			t.Errorf("%s: %q and %q are the same: %v", c.name, constant(c.one), constant(c.other), !c.same)
		}
	}
}

// A story is a section of the guide while it is told again, command by command.
type story struct {
	*debian
	page    string
	steps   []step
	next    int
	said    []string // what the steps before next have printed
	differs bool

	here func(shell string) string // runs a command of the machine's own
}

// tell begins a section of the guide.
func (d *debian) tell(heading string) *story {
	d.Helper()
	page, err := os.ReadFile(guidePage)
	d.check(err)
	s := &story{debian: d, page: string(page), steps: steps(string(page), heading)}
	s.here = func(shell string) string {
		s.Helper()
		return s.debian.does("sh", "-c", "cd /root && "+shell)
	}
	if len(s.steps) == 0 {
		d.Fatalf("docs/guide.md has no commands in %q", heading)
	}
	return s
}

// loggedIn has the machine's own commands run by root as he is logged in from the office, by his key.
func (s *story) loggedIn() {
	s.here = func(shell string) string {
		s.Helper()
		well, out := s.at(s.office, s.ssh(s.office, "", "root@"+nstest.Server4.String(), "cd /root && "+shell))
		if !well {
			s.Fatalf("%s:\n%s", shell, out)
		}
		return out
	}
}

// does runs the page's next command, which has to be this one, and returns what it prints. A client's may fail.
func (s *story) does(command string) string {
	s.Helper()
	who, shell := s.take(command)
	var out string
	if who != "" {
		client, cmd := s.client(who, strings.Fields(shell))
		_, out = s.at(client, cmd)
	} else {
		out = s.here(shell)
	}
	s.heard(out)
	return out
}

// take finds the page's next command.
func (s *story) take(command string) (who, shell string) {
	s.Helper()
	if s.next == len(s.steps) {
		s.Fatalf("docs/guide.md ends before %q", command)
	}
	now := s.steps[s.next]
	if got := now.who + "$ " + now.command; got != command {
		s.Fatalf("docs/guide.md:%d has %q, the test %q", now.line, got, command)
	}
	return now.who, strings.ReplaceAll(now.command, "sudo ", "") // it is root already
}

// heard compares what the next command has printed with the page.
func (s *story) heard(out string) {
	s.Helper()
	now := s.steps[s.next]
	out = strings.TrimRight(strings.ReplaceAll(out, "\r\n", "\n"), "\n") + "\n" // as ssh and terminals end lines
	if out == "\n" {
		out = ""
	}
	if constant(out) != constant(now.said) {
		s.differs = true
		if !*update {
			s.Errorf("docs/guide.md:%d: %s prints\n%s\nand the page says\n%s\nif it is right: go test ./test -run 'Newcomer' -update", now.line, now.command, out, now.said)
		}
	}
	s.said = append(s.said, out)
	s.next++
}

// ends wants all commands done; asked to, it writes what they have printed into the page.
func (s *story) ends() {
	s.Helper()
	if s.next < len(s.steps) {
		s.Fatalf("docs/guide.md:%d: nobody runs %q", s.steps[s.next].line, s.steps[s.next].command)
	}
	if !*update || !s.differs || s.Failed() {
		return
	}
	lines := strings.Split(s.page, "\n")
	for i := len(s.steps) - 1; i >= 0; i-- {
		now := s.steps[i]
		var said []string
		if s.said[i] != "" {
			said = strings.Split(strings.TrimSuffix(s.said[i], "\n"), "\n")
		}
		lines = append(lines[:now.line], append(said, lines[now.line+now.lines:]...)...)
	}
	s.check(os.WriteFile(guidePage, []byte(strings.Join(lines, "\n")), 0o644))
}

// client is a command of one of the debian's clients, "attacker" or "office": ssh, with a wrong password where one is
// asked for.
func (s *story) client(who string, args []string) (*nstest.Host, *exec.Cmd) {
	s.Helper()
	for _, client := range []*nstest.Host{s.attacker, s.office} {
		if who == client.Name && args[0] == "ssh" {
			return client, s.ssh(client, "wrong", args[1:]...)
		}
	}
	s.Fatalf("nobody runs %q at %q", args, who)
	return nil, nil
}

// answers runs the page's next command at a terminal, where Enter is typed at each question. Before it is typed for
// the n-th time, from 1 on, somebody may do something else.
func (s *story) answers(command string, meanwhile func(n int)) string {
	s.Helper()
	_, shell := s.take(command)
	person, terminal := pty(s.T)
	cmd := s.inside("sh", "-c", "cd /root && "+shell)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = terminal, terminal, terminal
	s.check(cmd.Start())
	s.check(terminal.Close())
	var said strings.Builder
	buf := make([]byte, 4096)
	for asked := 0; ; {
		n, err := person.Read(buf)
		said.Write(buf[:n])
		if err != nil { // nobody holds the other end any more
			break
		}
		if strings.HasSuffix(said.String(), ": ") {
			asked++
			meanwhile(asked)
			_, err := io.WriteString(person, "\n")
			s.check(err)
		}
	}
	err := cmd.Wait()
	out := said.String()
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		s.Errorf("%s ended with %d:\n%s", command, exit.ExitCode(), out)
	}
	s.heard(out)
	return out
}
