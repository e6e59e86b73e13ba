package cli

import "github.com/spf13/cobra"

func (a *app) historyCommand() *cobra.Command { return notBuilt("history", "Bans of the past") }
