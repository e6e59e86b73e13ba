package cli

import "github.com/spf13/cobra"

func (a *app) watchCommand() *cobra.Command { return notBuilt("watch", "Events as they happen") }
