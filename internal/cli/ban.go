package cli

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"bantam"
	"bantam/internal/config"
	"bantam/internal/control"
)

func (a *app) banCommand() *cobra.Command {
	var jail, reason, length string
	var force bool
	cmd := &cobra.Command{
		Use:   "ban ADDRESS|PREFIX…",
		Short: "Ban by hand",
		Long: `Ban addresses or prefixes. Without --jail the jail "manual" bans them, on all ports,
for ever unless --for says how long. A country is not banned as a whole: a jail of bancountry = CN and
maxretry = 1 bans who fails once from there, bantime.country says for how long.

It answers when the ban is written down and the kernel has it.`,
		Example: "  bantam ban 192.0.2.7\n  bantam ban 2001:db8:9::/64 --for 1w --reason 'scans us'\n  bantam ban 192.0.2.7 --jail sshd",
		Args:    atLeastOne("an address or prefix to ban"),
		RunE: func(cmd *cobra.Command, args []string) error {
			ids, err := parseIDs(args)
			if err != nil {
				return a.noneToBan(cmd.Context(), args, err)
			}
			var seconds float64
			if length != "" {
				if seconds, err = config.Seconds(length); err != nil {
					return usageError{fmt.Errorf("--for: %w", err)}
				}
				if seconds == 0 {
					return usageError{fmt.Errorf("--for: a ban of no length is none")}
				}
			}
			return a.ban(cmd.Context(), ids, control.BanRequest{Jail: jail, Seconds: seconds, Reason: reason, Force: force})
		},
	}
	cmd.Flags().StringVarP(&jail, "jail", "j", "", "the jail that bans (default manual)")
	cmd.Flags().StringVar(&length, "for", "", "how long, as 10m, 2h, 1w; -1 is for ever")
	cmd.Flags().StringVar(&reason, "reason", "", "why, for those who look later")
	cmd.Flags().BoolVar(&force, "force", false, "ban even what ignoreip, ignoreself or an administrator's login protects")
	a.completeJail(cmd)
	return cmd
}

// noneToBan explains what is no address: a country or a jail has another way.
func (a *app) noneToBan(ctx context.Context, args []string, wrong error) error {
	for _, arg := range args {
		if _, err := bantam.ParsePrefix(arg); err == nil {
			continue
		}
		if country.MatchString(arg) {
			return usageError{&control.Error{
				Text: fmt.Sprintf("%s is a country, not an address", arg),
				Hint: fmt.Sprintf("a jail of bancountry = %s and maxretry = 1 bans who fails once from there; bantime.country = %[1]s:1w bans them for longer", strings.ToLower(arg)),
			}}
		}
		if slices.Contains(a.jailNames(ctx), arg) {
			return usageError{&control.Error{
				Text: fmt.Sprintf("%s is a jail, not an address", safe(arg)),
				Hint: "bantam ban ADDRESS --jail " + inShell(arg) + " bans somebody in it",
			}}
		}
		break
	}
	return wrong
}

func (a *app) ban(ctx context.Context, ids []bantam.ID, r control.BanRequest) error {
	var replies []control.BanReply
	for _, id := range ids {
		r.ID = id
		reply, err := control.Call(ctx, control.NewClient(a.socket), control.Ban, r)
		if err != nil {
			return err
		}
		if replies = append(replies, reply); a.json {
			continue
		}
		verb := "banned"
		if reply.Already {
			verb = "already banned"
		}
		a.printf("%s %s in %s %s\n", verb, safe(reply.Ban.ID.String()), safe(reply.Ban.Jail), until(reply.Ban, time.Now()))
	}
	if a.json {
		a.print(replies)
	}
	return nil
}

// atLeastOne refuses a command line without arguments, saying what is missing.
func atLeastOne(what string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) == 0 {
			return usageError{fmt.Errorf("bantam %s needs %s", cmd.Name(), what)}
		}
		return nil
	}
}

func exactlyOne(what string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) != 1 {
			return usageError{fmt.Errorf("bantam %s needs %s", strings.TrimPrefix(cmd.CommandPath(), "bantam "), what)}
		}
		return nil
	}
}

// completeJail lets the shell complete --jail with the jails that run.
func (a *app) completeJail(cmd *cobra.Command) {
	err := cmd.RegisterFlagCompletionFunc("jail", func(cmd *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
		return a.jailNames(cmd.Context()), cobra.ShellCompDirectiveNoFileComp
	})
	if err != nil {
		panic(err) // the flag is missing: seen by whoever starts the program first
	}
}

func (a *app) jailNames(ctx context.Context) []string {
	st, err := control.Call(ctx, control.NewClient(a.socket), control.GetStatus, control.None{})
	if err != nil {
		return nil
	}
	names := make([]string, len(st.Jails))
	for i, j := range st.Jails {
		names[i] = j.Jail
	}
	return names
}
