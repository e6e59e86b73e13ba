package cli

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"bantam/internal/control"
	"bantam/internal/setup"
)

// An asker asks at a terminal.
type asker struct {
	in  *bufio.Reader
	out io.Writer
}

func newAsker(in io.Reader, out io.Writer) *asker { return &asker{bufio.NewReader(in), out} }

// maxAnswer bounds an answer, in bytes.
const maxAnswer = 4096

// ask prints a question and returns the answer, without blanks around it. What takes it says what is wrong with it, and
// then it is asked again.
func (a *asker) ask(question string, take func(answer string) error) error {
	for {
		fmt.Fprint(a.out, question)
		answer, err := a.in.ReadString('\n')
		if errors.Is(err, io.EOF) || errors.Is(err, unix.EIO) { // the second is a terminal that is gone
			return control.Refuse("bantam setup begins anew", "stopped before all was answered; nothing was written")
		}
		if err != nil {
			return fmt.Errorf("read the answer: %w", err)
		}
		if len(answer) > maxAnswer {
			fmt.Fprintf(a.out, "  That is too long.\n")
			continue
		}
		err = take(strings.TrimSpace(answer))
		if err == nil {
			return nil
		}
		fmt.Fprintf(a.out, "  %s\n", safe(err.Error()))
	}
}

// edit reads an answer that takes a list as it is, or adds words to it and leaves out those with a minus before.
func edit[T any](list []T, answer string, find func(word string) (T, error), same func(a, b T) bool) ([]T, error) {
	switch strings.ToLower(answer) {
	case "", "y", "yes":
		return list, nil
	case "n", "no", "none":
		return nil, nil
	}
	out := slices.Clone(list)
	for _, word := range strings.FieldsFunc(answer, func(r rune) bool { return r == ' ' || r == ',' || r == '\t' }) {
		name, without := strings.CutPrefix(word, "-")
		v, err := find(strings.TrimPrefix(name, "+"))
		if err != nil {
			return nil, err
		}
		out = slices.DeleteFunc(out, func(o T) bool { return same(o, v) })
		if !without {
			out = append(out, v)
		}
	}
	return out, nil
}

// ask asks the questions that there are.
func (s *setupRun) ask() error {
	p := s.out.Plan
	known := map[string]bool{}
	for i := range s.out.Survey.Jails {
		known[s.out.Survey.Jails[i].Jail] = true
	}
	if len(p.Jails) > 0 || p.New {
		which := "no jail"
		if len(p.Jails) > 0 {
			which = strings.Join(p.Jails, ", ")
		}
		s.printf("1. Jails: %s\n", safe(which))
		err := s.asks.ask("   Enter takes these; NAME adds one, -NAME leaves one out: ", func(answer string) (err error) {
			jails, err := edit(p.Jails, answer, func(name string) (string, error) {
				if !known[name] {
					return "", fmt.Errorf("%q is none of the jails whose logs are here", name)
				}
				return name, nil
			}, func(a, b string) bool { return a == b })
			if err == nil {
				p.Jails = jails
			}
			return err
		})
		if err != nil {
			return err
		}
	}
	if p.IgnoreIP == "" && (p.New || len(p.Never) > 0) {
		s.printf("\n2. Never banned, beside this machine:\n")
		for _, n := range p.Never {
			s.printf("   %-18s %s\n", n, safe(n.Why))
		}
		if len(p.Never) == 0 {
			s.printf("   nobody\n")
		}
		err := s.asks.ask("   Enter takes these; ADDRESS adds one, -ADDRESS leaves one out: ", func(answer string) error {
			never, err := edit(p.Never, answer, parseNever, func(a, b setup.Never) bool { return a.Prefix == b.Prefix })
			if err == nil {
				p.Never = never
			}
			return err
		})
		if err != nil {
			return err
		}
	}
	for p.New && p.Tell == "" {
		if err := s.askTell(); err != nil || p.Tell == "" {
			return err
		}
		p.Fill(s.now)
		if err := s.check(); err != nil {
			s.printf("   %s\n", strings.ReplaceAll(safeLines(err.Error()), "\n", "\n   "))
			p.Tell, s.secrets = "", map[string]string{}
		}
	}
	return nil
}

// parseNever reads an address or a network.
func parseNever(word string) (setup.Never, error) {
	if a, err := netip.ParseAddr(word); err == nil && a.Zone() == "" {
		a = a.Unmap()
		return setup.Never{Prefix: netip.PrefixFrom(a, a.BitLen()), Why: "you said so"}, nil
	}
	p, err := netip.ParsePrefix(word)
	if err != nil {
		return setup.Never{}, fmt.Errorf("%q is neither an address nor a network such as 192.0.2.0/24", word)
	}
	return setup.Never{Prefix: p.Masked(), Why: "you said so"}, nil
}

// A preset is a way to be told, and what has to be known for it.
type preset struct {
	kind, title string
	asks        []presetAsk
}

// presetAsk is one parameter of it.
type presetAsk struct {
	key, question, usual string
	secret               bool // goes to a file of its own
}

// presets are the ways to be told that setup offers; the rest are in docs/reference/actions.md.
var presets = []preset{
	{kind: "", title: "nowhere (bantam shows them)"},
	{"mta", "mail, by this machine's sendmail", []presetAsk{{"to", "to which address", "root@localhost", false}}},
	{"smtp", "mail, by a mail server", []presetAsk{
		{"relay", "mail server, HOST or HOST:PORT", "", false},
		{"to", "to which address", "", false},
		{"from", "from which address", "", false},
		{"user", "user name, empty for none", "", false},
		{"password", "password", "", true},
	}},
	{"gmail", "mail, by Gmail with an App Password", []presetAsk{
		{"from", "your address at Gmail", "", false}, {"to", "to which address", "", false}, {"password", "App Password", "", true},
	}},
	{"telegram", "Telegram", []presetAsk{{"token", "token of your bot, from @BotFather", "", true}, {"chat", "number of the chat", "", false}}},
	{"discord", "Discord", []presetAsk{{"url", "address of the webhook", "", true}}},
	{"slack", "Slack", []presetAsk{{"url", "address of the webhook", "", true}}},
	{"ntfy", "ntfy", []presetAsk{{"topic", "topic", "", true}}},
}

// askTell asks where messages go.
func (s *setupRun) askTell() error {
	s.printf("\n3. Messages about bans go\n")
	for i, p := range presets {
		s.printf("   %d  %s\n", i+1, p.title)
	}
	var chosen *preset
	err := s.asks.ask("   Number [1]: ", func(answer string) error {
		if answer == "" {
			answer = "1"
		}
		for i := range presets {
			if answer == itoa(i+1) || answer == presets[i].kind {
				chosen = &presets[i]
				return nil
			}
		}
		return fmt.Errorf("%q is none of 1 to %d", answer, len(presets))
	})
	if err != nil || chosen.kind == "" {
		return err
	}
	var params []string
	user := true // is there one, so that a password is asked for
	for _, q := range chosen.asks {
		if q.key == "password" && !user {
			continue
		}
		question := "   " + q.question
		if q.usual != "" {
			question += " [" + q.usual + "]"
		}
		err := s.asks.ask(question+": ", func(answer string) error {
			if answer == "" {
				answer = q.usual
			}
			if q.key == "user" {
				user = answer != ""
			}
			switch {
			case strings.ContainsAny(answer, "\"'[]%<>;\\\x00"):
				return errors.New("that holds a character which cannot stand in a configuration")
			case answer == "" && q.key != "user":
				return errors.New("it takes one; Ctrl-D stops without writing anything")
			case q.secret:
				path := s.secretFile(chosen.kind)
				s.secrets[path] = answer
				params = append(params, fmt.Sprintf("%s=file:%s", q.key, path))
			case answer != "":
				params = append(params, fmt.Sprintf("%s=%q", q.key, answer))
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	s.out.Plan.Tell = fmt.Sprintf("%s[%s]", chosen.kind, strings.Join(params, ", "))
	return nil
}

// secretFile is where a channel's secret goes, so that only root can read it: a file that is not there yet.
func (s *setupRun) secretFile(kind string) string {
	dir, err := filepath.Abs(s.dir)
	if err != nil {
		dir = s.dir
	}
	for n := 1; ; n++ {
		path := filepath.Join(dir, kind+".secret")
		if n > 1 {
			path = filepath.Join(dir, fmt.Sprintf("%s-%d.secret", kind, n))
		}
		if _, err := os.Lstat(path); err != nil || n == 1000 {
			return path
		}
	}
}

// offerTest offers to send a message by the channel that was chosen.
func (s *setupRun) offerTest(ctx context.Context) {
	kind, _, _ := strings.Cut(s.out.Plan.Tell, "[")
	if s.asks == nil || kind == "" {
		return
	}
	send := true
	err := s.asks.ask("Send a test message now? [Y/n] ", func(answer string) error {
		send = answer == "" || strings.EqualFold(answer, "y") || strings.EqualFold(answer, "yes")
		return nil
	})
	if err != nil || !send {
		s.printf("Later: sudo bantam notify test %s\n", kind)
		return
	}
	if _, err := control.Call(ctx, control.NewClient(s.socket), control.TestChannel, control.ChannelRequest{Channel: kind}); err != nil {
		s.printf("It did not go out: %s\nTry again with: sudo bantam notify test %s\n", safeLines(err.Error()), kind)
		return
	}
	s.printf("%s has taken it.\n", kind)
}
