package cli

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"

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

// reportIndent is the column in which the text of what doctor prints begins.
const reportIndent = 12

// reportTints are how its states look.
var reportTints = map[doctor.State]tint{doctor.Wrong: wrong, doctor.Doubtful: doubt}

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
		state, tint := string(c.State), reportTints[c.State]
		if c.Repaired {
			state, tint = "repaired", asEver
		}
		a.printf("  %s  %s\n", a.tinted(tint, fmt.Sprintf("%-8s", state)), behind(safe(c.Text)))
		switch {
		case c.Repaired:
			a.printf("%*s%s\n", reportIndent, "", behind("done: "+safe(c.Repair)))
		case c.State != doctor.OK && c.Fix != "":
			a.printf("%*s%s\n", reportIndent, "", behind("fix: "+safe(c.Fix)))
		}
		if c.Repair != "" && !c.Repaired {
			repairs++
			a.printf("%*s%s\n", reportIndent, "", behind("--fix "+safe(c.Repair)))
		}
	}
	a.printf("\n%s\n", conclusion(r))
	if repairs > 0 {
		a.printf("Next: sudo bantam doctor --fix\n")
	}
}

// conclusion is the last line.
func conclusion(r doctor.Report) string {
	doubtful := ""
	if r.Doubtful > 0 {
		doubtful = ", " + plural(r.Doubtful, "thing") + " doubtful"
	}
	if r.Wrong == 0 {
		return "Nothing is wrong" + doubtful + "."
	}
	return plural(r.Wrong, "thing") + " wrong" + doubtful + "."
}

// behind puts a text behind the indent, in lines that fit the screen.
func behind(text string) string { return hanging(screenWidth, reportIndent, text) }
