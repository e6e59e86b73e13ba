package cli

import (
	"github.com/spf13/cobra"

	"bantam/internal/control"
)

func (a *app) allowCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "allow",
		Short: "Who is never banned",
		Long: `The allow list holds for every jail and before every ban: what stands on it is never
banned, whatever a log says, and passes even if another rule of Bantam would drop it.
Putting something on it lifts running bans inside it.`,
		Example: "  bantam allow add 192.0.2.10 --reason 'our office'\n  bantam allow list\n  bantam allow remove 192.0.2.10",
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return a.listAllowed(cmd) },
	}
	var reason string
	add := &cobra.Command{
		Use: "add ADDRESS|PREFIX…", Short: "Put addresses or prefixes on the allow list",
		Args: atLeastOne("an address or prefix"),
		RunE: func(cmd *cobra.Command, args []string) error {
			ids, err := parseIDs(args)
			if err != nil {
				return err
			}
			reply, printed, err := ask(cmd.Context(), a, control.Allow, control.AllowRequest{IDs: ids, Reason: reason})
			if err != nil || printed {
				return err
			}
			for _, id := range reply.Changed {
				a.printf("%s is never banned\n", safe(id.String()))
			}
			for _, b := range reply.Lifted {
				a.printf("unbanned %s in %s\n", safe(b.ID.String()), safe(b.Jail))
			}
			return nil
		},
	}
	add.Flags().StringVar(&reason, "reason", "", "why, for those who look later")
	remove := &cobra.Command{
		Use: "remove ADDRESS|PREFIX…", Short: "Take them off it",
		Args: atLeastOne("an address or prefix"),
		RunE: func(cmd *cobra.Command, args []string) error {
			ids, err := parseIDs(args)
			if err != nil {
				return err
			}
			reply, printed, err := ask(cmd.Context(), a, control.Disallow, control.AllowRequest{IDs: ids})
			if err != nil || printed {
				return err
			}
			for _, id := range reply.Changed {
				a.printf("%s may be banned again\n", safe(id.String()))
			}
			return nil
		},
	}
	list := &cobra.Command{
		Use: "list", Short: "Show it", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.listAllowed(cmd) },
	}
	cmd.AddCommand(add, remove, list)
	return cmd
}

func (a *app) listAllowed(cmd *cobra.Command) error {
	reply, printed, err := ask(cmd.Context(), a, control.GetAllow, control.None{})
	if err != nil || printed {
		return err
	}
	if len(reply.Allowed) == 0 {
		a.printf("the allow list is empty\n")
	}
	for _, e := range reply.Allowed {
		if e.Reason == "" {
			a.printf("%s\n", safe(e.Prefix.String()))
		} else {
			a.printf("%s  %s\n", safe(e.Prefix.String()), safe(e.Reason))
		}
	}
	return nil
}
