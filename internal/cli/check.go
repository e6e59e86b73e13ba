package cli

import (
	"strings"

	"github.com/spf13/cobra"

	"bantam/internal/config"
	"bantam/internal/daemon"
)

// checkReply is what check prints as JSON.
type checkReply struct {
	Config   string           `json:"config,omitempty"` // empty means the library
	Jails    []string         `json:"jails"`
	Problems []config.Problem `json:"problems"`
}

func (a *app) checkCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "check",
		Short: "What is wrong with the configuration",
		Long: `Read and check the configuration as the daemon would, and name all that is wrong with
its file, line and a hint. The exit code is 1 if something would keep a jail from
running; warnings do not count.`,
		Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			cfg, problems, err := daemon.Check(a.folder(), a.library)
			if err != nil {
				return err
			}
			reply := checkReply{Config: cfg.Dir, Jails: []string{}, Problems: problems}
			for _, j := range cfg.Jails {
				reply.Jails = append(reply.Jails, j.Name)
			}
			if reply.Problems == nil {
				reply.Problems = []config.Problem{}
			}
			errors := 0
			for _, p := range problems {
				if !p.Warning {
					errors++
				}
			}
			if a.json {
				a.print(reply)
			} else {
				a.printProblems(reply, errors)
			}
			if errors > 0 {
				return errSilent
			}
			return nil
		},
	}
}

func (a *app) printProblems(r checkReply, errors int) {
	for _, p := range r.Problems {
		kind := ""
		if p.Warning {
			kind = "warning: "
		}
		a.printf("%s%s\n", kind, strings.ReplaceAll(safeLines(p.String()), "\n", "\n  "))
		if p.Hint != "" {
			a.printf("  hint: %s\n", safe(p.Hint))
		}
	}
	from := "library defaults"
	if r.Config != "" {
		from = safe(r.Config)
	}
	if errors == 0 {
		a.printf("%s: %s, nothing that keeps one from running\n", from, plural(len(r.Jails), "jail"))
	} else {
		a.printf("%s: %s, %s\n", from, plural(len(r.Jails), "jail"), plural(errors, "error"))
	}
}
