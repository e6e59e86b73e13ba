package cli

import (
	"context"
	"errors"

	"github.com/spf13/cobra"

	"bantam"
	"bantam/internal/control"
)

func (a *app) unbanCommand() *cobra.Command {
	var jail string
	var all bool
	cmd := &cobra.Command{
		Use:   "unban ADDRESS|PREFIX|TEXT…",
		Short: "Lift bans",
		Long: `Lift the bans of addresses, or of everything inside prefixes, in all jails or in one.
An address that is banned as part of its network lifts the ban of the network. A text is one that a
filter bans in place of an address.`,
		Example: "  bantam unban 192.0.2.7\n  bantam unban 192.0.2.0/24 --jail sshd\n  bantam unban --all",
		RunE: func(cmd *cobra.Command, args []string) error {
			if all == (len(args) > 0) {
				return usageError{errors.New("bantam unban needs an address or prefix, or --all, and not both")}
			}
			ids, err := a.bannedIDs(cmd.Context(), args)
			if err != nil {
				return err
			}
			if all {
				ids = []bantam.ID{{}}
			}
			bans := []bantam.Ban{}
			for _, id := range ids {
				reply, err := control.Call(cmd.Context(), control.NewClient(a.socket), control.Unban,
					control.UnbanRequest{Jail: jail, ID: id, All: all})
				if err != nil {
					return err
				}
				bans = append(bans, reply.Bans...)
				if len(reply.Bans) == 0 && !a.json && !all {
					a.printf("%s was not banned\n", id)
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
	cmd.ValidArgsFunction = a.completeBanned
	return cmd
}

// bannedIDs reads addresses, prefixes and texts; a text by which nobody is banned is a mistake.
func (a *app) bannedIDs(ctx context.Context, args []string) ([]bantam.ID, error) {
	ids := make([]bantam.ID, len(args))
	for i, arg := range args {
		id, wrong := parseID(arg)
		if wrong != nil {
			reply, err := control.Call(ctx, control.NewClient(a.socket), control.GetBans, control.BansRequest{ID: id})
			if err != nil {
				return nil, err
			}
			if id.IsZero() || len(reply.Bans) == 0 {
				return nil, wrong
			}
		}
		ids[i] = id
	}
	return ids, nil
}
