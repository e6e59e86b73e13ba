package cli

import "github.com/spf13/cobra"

func (a *app) setupCommand() *cobra.Command {
	return notBuilt("setup", "Find services, propose jails, write the configuration")
}
