package cli

import (
	"bytes"
	_ "embed"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"bantam"
	"bantam/internal/control"
)

// bashCompletion is what bash needs. The script that comes with cobra calls functions of the package bash-completion, which
// a bare server lacks: there every tab would print an error.
//
//go:embed completion.bash
var bashCompletion string

func (a *app) completionCommand(root *cobra.Command) *cobra.Command {
	shells := []string{"bash", "zsh", "fish"}
	return &cobra.Command{
		Use:   "completion bash|zsh|fish",
		Short: "Commands, jails and addresses completed by the shell",
		Long: `Print what a shell needs to complete Bantam's commands, flags, jails and banned addresses. Packages
have installed it already.`,
		Example:   "  source <(bantam completion bash)\n  bantam completion zsh > \"${fpath[1]}/_bantam\"\n  bantam completion fish > ~/.config/fish/completions/bantam.fish",
		ValidArgs: shells,
		Args:      exactlyOne("a shell: bash, zsh or fish"),
		RunE: func(_ *cobra.Command, args []string) (err error) {
			var script bytes.Buffer
			switch args[0] {
			case "bash":
				script.WriteString(bashCompletion)
			case "zsh":
				err = root.GenZshCompletion(&script)
			case "fish":
				err = root.GenFishCompletion(&script, true)
			default:
				err = usageError{errors.New("bantam completes for bash, zsh and fish")}
			}
			if err != nil {
				return err
			}
			if a.json {
				a.print(completionReply{args[0], script.String()})
				return nil
			}
			if _, err := a.stdout.Write(script.Bytes()); err != nil {
				return fmt.Errorf("print: %w", err)
			}
			return nil
		},
	}
}

// completionReply is a shell's script as JSON.
type completionReply struct {
	Shell  string `json:"shell"`
	Script string `json:"script"`
}

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
