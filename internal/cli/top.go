package cli

import (
	"github.com/spf13/cobra"

	"bantam/internal/control"
)

func (a *app) topCommand() *cobra.Command {
	return &cobra.Command{Use: "top", RunE: func(*cobra.Command, []string) error {
		return control.Refuse("bantam status shows the same once", "x")
	}}
}
