package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"bantam"
	"bantam/internal/control"
)

func (a *app) unbanCommand() *cobra.Command {
	var jail string
	var all bool
	cmd := &cobra.Command{
		Use:   "unban ADDRESS|PREFIX|COUNTRY|JAIL|TEXT…",
		Short: "Lift bans",
		Long: `Lift the bans of addresses, or of everything inside prefixes, in all jails or in one.
An address that is banned as part of its network lifts the ban of the network. A text is one that a
filter bans in place of an address. A country of two letters, as CN, lifts the bans of addresses that
geodb says are there; the name of a jail lifts all of that jail.`,
		Example: "  bantam unban 192.0.2.7\n  bantam unban 192.0.2.0/24 --jail sshd\n  bantam unban CN\n  bantam unban sshd\n  bantam unban --all",
		RunE: func(cmd *cobra.Command, args []string) error {
			if all == (len(args) > 0) {
				return usageError{errors.New("bantam unban needs an address or prefix, or --all, and not both")}
			}
			requests, err := a.toUnban(cmd.Context(), args)
			if err != nil {
				return err
			}
			if all {
				requests = []control.UnbanRequest{{All: true}}
			}
			bans := []bantam.Ban{}
			for i, r := range requests {
				if r.Jail != "" && jail != "" && r.Jail != jail {
					return usageError{fmt.Errorf("%s and --jail %s are different jails", safe(r.Jail), safe(jail))}
				}
				if r.Jail == "" {
					r.Jail = jail
				}
				reply, err := control.Call(cmd.Context(), control.NewClient(a.socket), control.Unban, r)
				if err != nil {
					return err
				}
				bans = append(bans, reply.Bans...)
				if len(reply.Bans) == 0 && !a.json && !all {
					a.printf("%s\n", unbannedNobody(r, args[i]))
				}
			}
			if a.json {
				a.print(control.UnbanReply{Bans: bans})
				return nil
			}
			for _, b := range bans {
				a.printf("unbanned %s in %s\n", safe(b.ID.String()), safe(b.Jail))
			}
			if all && len(bans) == 0 {
				a.printf("nobody was banned\n")
			}
			return nil
		},
	}
	cmd.Flags().StringVarP(&jail, "jail", "j", "", "only in this jail")
	cmd.Flags().BoolVar(&all, "all", false, "lift every ban")
	a.completeJail(cmd)
	cmd.ValidArgsFunction = func(cmd *cobra.Command, args []string, begin string) ([]string, cobra.ShellCompDirective) {
		banned, directive := a.completeBanned(cmd, args, begin)
		for _, name := range a.jailNames(cmd.Context()) {
			if strings.HasPrefix(name, begin) {
				banned = append(banned, name)
			}
		}
		return banned, directive
	}
	return cmd
}

// unbannedNobody says that what was asked for had nobody banned.
func unbannedNobody(r control.UnbanRequest, arg string) string {
	switch {
	case r.Country != "":
		return "nobody from " + r.Country + " was banned"
	case r.All:
		return "nobody was banned in " + safe(arg)
	}
	return safe(r.ID.String()) + " was not banned"
}

// toUnban reads whom to unban: addresses and prefixes; else a text by which somebody is banned, a jail, a country.
func (a *app) toUnban(ctx context.Context, args []string) ([]control.UnbanRequest, error) {
	requests := make([]control.UnbanRequest, len(args))
	for i, arg := range args {
		id, wrong := parseID(arg)
		requests[i].ID = id
		if wrong == nil {
			continue
		}
		if id.IsZero() {
			return nil, wrong
		}
		reply, err := control.Call(ctx, control.NewClient(a.socket), control.GetBans, control.BansRequest{ID: id})
		if err != nil {
			return nil, err
		}
		switch {
		case len(reply.Bans) > 0:
		case slices.Contains(a.jailNames(ctx), arg):
			requests[i] = control.UnbanRequest{Jail: arg, All: true}
		case country.MatchString(arg):
			requests[i] = control.UnbanRequest{Country: arg}
		default:
			return nil, wrong
		}
	}
	return requests, nil
}
