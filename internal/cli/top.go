package cli

import "github.com/spf13/cobra"

func (a *app) topCommand() *cobra.Command { return notBuilt("top", "Live screen") }
