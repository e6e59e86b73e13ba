package cli

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"bantam/internal/doctor"
)

func (a *app) doctorCommand() *cobra.Command {
	var o doctor.Options
	c := &cobra.Command{
		Use:   "doctor [ADDRESS]",
		Short: "Is it really working?",
		Long: `Look at everything that has to work so that somebody is kept out: the daemon, the logs and whether
they are understood, clock and zone, the database, what the kernel does with packets of the banned,
who is told, and the configuration. Each line is ok, wrong or doubtful, with a way on. The exit code
is 1 if something is wrong.

A ban is proved by following a packet through all rules in the kernel, whoever made them: of one ban
of each jail and family, or of the ADDRESS. If nobody is banned, --prove bans 198.51.100.250 and
2001:db8:bad:cafe::250, which belong to nobody, for a moment.

--fix removes a socket that nobody listens on, makes the folder of the database, and has SQLite write
a long write-ahead log into its database. It changes no configuration and no rule.

It works without a daemon and without privilege, and says what it could not see.`,
		Example: "  sudo bantam doctor\n  sudo bantam doctor 192.0.2.7\n  sudo bantam doctor --prove",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 1 {
				return usageError{errors.New("bantam doctor takes one address")}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 1 {
				addr, err := netip.ParseAddr(args[0])
				if err != nil {
					return usageError{fmt.Errorf("%q is no address", args[0])}
				}
				o.Address = addr.WithZone("")
			}
			o.Config, o.Named, o.Library, o.Socket = a.folder(), a.config != "", a.library, a.socket
			report := doctor.Examine(cmd.Context(), o)
			if a.json {
				a.print(report)
			} else {
				a.printReport(report)
			}
			if report.Wrong > 0 {
				return errSilent
			}
			return nil
		},
	}
	c.Flags().BoolVar(&o.Prove, "prove", false, "ban a test address for a moment if there is no ban to prove")
	c.Flags().BoolVar(&o.Fix, "fix", false, "carry out the repairs that cannot hurt")
	return c
}

// Columns of what doctor prints: where the text begins, and where it ends.
const (
	reportIndent = 12
	reportWidth  = 80
)

func (a *app) printReport(r doctor.Report) {
	group := ""
	repairs := 0
	for _, c := range r.Checks {
		if c.Group != group {
			if group != "" {
				a.printf("\n")
			}
			group = c.Group
			a.printf("%s\n", strings.ToUpper(group))
		}
		state := string(c.State)
		if c.Repaired {
			state = "repaired"
		}
		a.printf("  %-8s  %s\n", state, wrapped(safe(c.Text)))
		switch {
		case c.Repaired:
			a.printf("%*s%s\n", reportIndent, "", wrapped("done: "+safe(c.Repair)))
		case c.State != doctor.OK && c.Fix != "":
			a.printf("%*s%s\n", reportIndent, "", wrapped("fix: "+safe(c.Fix)))
		}
		if c.Repair != "" && !c.Repaired {
			repairs++
			a.printf("%*s%s\n", reportIndent, "", wrapped("--fix "+safe(c.Repair)))
		}
	}
	a.printf("\n%s\n", verdict(r))
	if repairs > 0 {
		a.printf("Next: sudo bantam doctor --fix\n")
	}
}

// verdict is the last line.
func verdict(r doctor.Report) string {
	doubtful := ""
	if r.Doubtful > 0 {
		doubtful = ", " + plural(r.Doubtful, "thing") + " doubtful"
	}
	if r.Wrong == 0 {
		return "Nothing is wrong" + doubtful + "."
	}
	return plural(r.Wrong, "thing") + " wrong" + doubtful + "."
}

// wrapped breaks a text into lines that fit the screen behind the indent. A word that is longer than a line, as a
// path or a rule may be, stays whole, so that it can be copied.
func wrapped(text string) string {
	var b strings.Builder
	at := reportIndent
	for i, word := range strings.Fields(text) {
		n := utf8.RuneCountInString(word)
		switch {
		case i == 0:
		case at+1+n > reportWidth:
			b.WriteString("\n" + strings.Repeat(" ", reportIndent))
			at = reportIndent
		default:
			b.WriteByte(' ')
			at++
		}
		b.WriteString(word)
		at += n
	}
	return b.String()
}
