package cli

import (
	"bytes"
	_ "embed"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"bantam"
)

// overview is what bantam(1) says beside its flags and commands, in the markup of prose.
//
//go:embed manual.txt
var overview string

// manCommand writes the manual pages. It is hidden: packages are made with it, and
// whoever has the program alone can have its pages.
func (a *app) manCommand() *cobra.Command {
	return &cobra.Command{
		Use:    "man FOLDER",
		Short:  "Write the manual pages into a folder",
		Hidden: true,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return usageError{fmt.Errorf("bantam man takes one folder")}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			pages := a.manPages(cmd.Root())
			names := make([]string, 0, len(pages))
			for _, p := range pages {
				if err := os.WriteFile(filepath.Join(args[0], p.name), p.text, 0o644); err != nil {
					return fmt.Errorf("write manual pages: %w", err)
				}
				names = append(names, p.name)
			}
			if a.json {
				a.print(names)
			}
			return nil
		},
	}
}

// A manPage is a file for man(1).
type manPage struct {
	name string
	text []byte
}

// manPages are the pages of a root command, of every command below it, and of Fail2Ban's
// programs.
func (a *app) manPages(root *cobra.Command) (pages []manPage) {
	var walk func(*cobra.Command)
	walk = func(cmd *cobra.Command) {
		if cmd.Hidden || cmd.Name() == "help" || cmd.HasParent() && cmd.Parent().Name() == "completion" {
			return
		}
		pages = append(pages, commandPage(cmd))
		for _, sub := range cmd.Commands() {
			walk(sub)
		}
	}
	walk(root)
	return append(pages, commandPage(a.fail2banRegexCommand()), clientManPage("fail2ban-client"), clientManPage("fail2ban-server"))
}

// commandPage is the page of one command.
func commandPage(cmd *cobra.Command) manPage {
	m := newRoff(strings.ReplaceAll(cmd.CommandPath(), " ", "-"), cmd.Short)
	m.heading("Synopsis")
	m.line(".B " + roffText(strings.TrimSuffix(cmd.UseLine(), " [flags]")))
	if cmd.HasAvailableSubCommands() && cmd.HasParent() {
		m.line(".br\n.B " + roffText(cmd.CommandPath()+" COMMAND"))
	}
	m.heading("Description")
	long := cmd.Long
	if long == "" {
		long = strings.TrimSuffix(cmd.Short, ".") + "."
	}
	m.prose(long)
	if cmd.Example != "" {
		m.heading("Examples")
		m.prose(cmd.Example)
	}
	m.flags("Options", cmd.LocalFlags())
	if cmd.HasParent() {
		m.flags("Options of every command", cmd.InheritedFlags())
	}
	if subs := cmd.Commands(); cmd.HasAvailableSubCommands() {
		m.heading("Commands")
		for _, sub := range subs {
			if !sub.Hidden && sub.Name() != "help" {
				m.term(sub.Name(), sub.Short)
			}
		}
	}
	var also []string
	switch {
	case cmd.Name() == "bantam":
		m.prose(overview)
		also = []string{"bantam.conf(5)", "nft(8)", "fail2ban-client(1)"}
	case cmd.HasParent():
		also = []string{strings.ReplaceAll(cmd.Parent().CommandPath(), " ", "-") + "(1)", "bantam.conf(5)"}
	default:
		also = []string{"bantam(1)", "bantam-regex(1)"}
	}
	m.seeAlso(also...)
	return m.page()
}

// clientManPage is the page of fail2ban-client or fail2ban-server.
func clientManPage(name string) manPage {
	m := newRoff(name, "Ask and steer Bantam as Fail2Ban's programs do")
	m.heading("Synopsis")
	m.line(".B " + roffText(name+" [OPTIONS] <COMMAND>"))
	m.heading("Description")
	m.prose(`This is Bantam, answering to the name of Fail2Ban's program: it asks and steers the server on Fail2Ban's socket. fail2ban-server without a command starts the server; all else is the same. The exit code is 0, or 255 if something could not be done. Options stand before the command.`)
	m.heading("Options")
	for _, o := range clientOptions() {
		if !o.hidden {
			m.term(strings.TrimSpace(strings.Join(o.names(), ", ")+" "+o.takes), o.help)
		}
	}
	for _, c := range clientCommands {
		if c.form == "" {
			m.heading(c.does)
		} else {
			m.term(c.form, c.does)
		}
	}
	m.seeAlso("bantam(1)", "fail2ban-regex(1)")
	return m.page()
}

// A roff is a page being written, in the macros of man(7).
type roff struct {
	name string
	b    bytes.Buffer
}

// newRoff begins a page. Its date is left out: the version says how old it is, and the
// same source makes the same page.
func newRoff(name, short string) *roff {
	m := &roff{name: name + ".1"}
	m.line(fmt.Sprintf(`.TH "%s" "1" "" "Bantam %s" "Bantam"`, roffText(strings.ToUpper(name)), bantam.Version))
	m.line(".nh\n.ad l")
	m.heading("Name")
	m.line(roffText(name) + ` \- ` + roffText(strings.TrimSuffix(short, ".")))
	return m
}

func (m *roff) line(s string) { m.b.WriteString(s + "\n") }

func (m *roff) heading(s string) {
	m.line(`.SH "` + roffText(strings.ToUpper(strings.TrimSuffix(s, ":"))) + `"`)
}

// term is an option or command, and what it does.
func (m *roff) term(s, does string) {
	m.line(".TP\n.B " + roffText(s))
	m.line(roffText(does))
}

func (m *roff) flags(title string, flags *pflag.FlagSet) {
	begun := false
	flags.VisitAll(func(f *pflag.Flag) {
		if f.Hidden || f.Name == "help" {
			return
		}
		if !begun {
			m.heading(title)
			begun = true
		}
		name := "--" + f.Name
		if f.Shorthand != "" {
			name = "-" + f.Shorthand + ", " + name
		}
		if kind := f.Value.Type(); kind != "bool" {
			name += " " + strings.ToUpper(kind)
		}
		m.term(name, f.Usage)
	})
}

func (m *roff) seeAlso(pages ...string) {
	m.heading("See also")
	m.line(roffText(strings.Join(pages, ", ")))
}

// prose is text as commands have it: paragraphs between empty lines, each filled; what is
// indented stays as it stands; a line "# X" is a heading, and one "X: text" below a line
// "#:" of its own a term with what it means.
func (m *roff) prose(text string) {
	verbatim, fresh := false, true
	for line := range strings.SplitSeq(strings.Trim(text, "\n"), "\n") {
		blank := strings.TrimSpace(line) == ""
		indented := strings.HasPrefix(line, "  ") || strings.HasPrefix(line, "\t")
		if verbatim && !indented && !blank {
			m.line(".EE\n.RE")
			verbatim = false
		}
		title, isTitle := strings.CutPrefix(line, "# ")
		term, isTerm := strings.CutPrefix(line, "#: ")
		switch {
		case blank && verbatim:
			m.line("")
		case blank:
			fresh = true
		case isTitle:
			m.heading(title)
			fresh = true
		case isTerm:
			m.line(".TP\n.B " + roffText(term))
			fresh = false
		case indented:
			if !verbatim {
				m.line(".PP\n.RS 4\n.EX")
				verbatim = true
			}
			m.line(roffText(strings.TrimPrefix(strings.TrimPrefix(line, "  "), "  ")))
			fresh = true
		default:
			if fresh {
				m.line(".PP")
				fresh = false
			}
			m.line(roffText(line))
		}
	}
	if verbatim {
		m.line(".EE\n.RE")
	}
}

func (m *roff) page() manPage { return manPage{m.name, m.b.Bytes()} }

// roffText is text that roff prints as it stands: a hyphen is the one of ASCII, as it has to be
// in what people copy, and no line begins a request.
func roffText(s string) string {
	s = strings.NewReplacer(`\`, `\e`, "-", `\-`, "'", `\(aq`, "`", `\(ga`, "^", `\(ha`, "~", `\(ti`, `"`, `\(dq`, "\n", " ").Replace(s)
	if strings.HasPrefix(s, ".") {
		s = `\&` + s
	}
	return s
}
