package cli

import "github.com/spf13/cobra"

func (a *app) importCommand() *cobra.Command {
	return notBuilt("import", "Take over bans of another database or list")
}
