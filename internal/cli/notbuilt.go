package cli

import (
	"github.com/spf13/cobra"

	"bantam/internal/control"
)

// notBuilt is a command that there is not yet, which says so.
func notBuilt(use, short string) *cobra.Command {
	return &cobra.Command{
		Use: use, Short: short, Hidden: true,
		RunE: func(*cobra.Command, []string) error {
			return control.Refuse("bantam help shows what there is", "bantam %s is not built yet", use)
		},
	}
}
