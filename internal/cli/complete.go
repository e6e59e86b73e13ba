package cli

import (
	"strings"

	"github.com/spf13/cobra"

	"bantam"
	"bantam/internal/control"
)

// mostCompleted is how many values a shell is offered: more nobody looks through.
const mostCompleted = 200

// completeBanned offers whom the daemon has banned.
func (a *app) completeBanned(cmd *cobra.Command, _ []string, begin string) ([]string, cobra.ShellCompDirective) {
	reply, err := control.Call(cmd.Context(), control.NewClient(a.socket), control.GetBans, control.BansRequest{Begin: begin, Limit: mostCompleted})
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return completions(reply.Bans, begin), cobra.ShellCompDirectiveNoFileComp
}

// completions are the IDs of bans that begin so, each once. What a shell would not take as one plain word is left out.
func completions(bans []bantam.Ban, begin string) (out []string) {
	seen := map[string]bool{}
	for _, b := range bans {
		text := b.ID.String()
		if seen[text] || !strings.HasPrefix(text, begin) || inShell(text) != text || safe(text) != text || len(out) == mostCompleted {
			continue
		}
		seen[text] = true
		out = append(out, text)
	}
	return out
}
