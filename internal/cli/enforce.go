package cli

import "github.com/spf13/cobra"

func (a *app) enforceCommand() *cobra.Command {
	return notBuilt("enforce", "Leave observe mode; undone in 60 s unless confirmed")
}
