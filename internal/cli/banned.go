package cli

import (
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"bantam"
	"bantam/internal/control"
)

func (a *app) bannedCommand() *cobra.Command {
	var jail string
	cmd := &cobra.Command{
		Use:   "banned [ADDRESS|PREFIX]",
		Short: "Who is banned, since when, until when, why",
		Long: `List the running bans, oldest first: all of them, those of one jail, or those that
concern an address or prefix. With an address, the exit code is 1 if it is not banned, as
it is not where bans are only observed. A narrow terminal is shown fewer columns; a pipe
or file gets all.

A ban that would hit somebody who administrates this machine is held back (option
ignorelogins): it is listed, and he is not banned.`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 1 {
				return usageError{errors.New("bantam banned takes one address or prefix")}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			ids, err := parseIDs(args)
			if err != nil {
				return err
			}
			req := control.BansRequest{Jail: jail}
			if len(ids) > 0 {
				req.ID = ids[0]
			}
			reply, printed, err := ask(cmd.Context(), a, control.GetBans, req)
			if err == nil && !printed {
				a.printBans(reply.Bans, req.ID)
			}
			if err != nil || len(ids) == 0 {
				return err
			}
			if !slices.ContainsFunc(reply.Bans, func(b bantam.Ban) bool { return !b.Observed }) {
				return errSilent
			}
			return nil
		},
	}
	cmd.Flags().StringVarP(&jail, "jail", "j", "", "only in this jail")
	a.completeJail(cmd)
	cmd.ValidArgsFunction = a.completeBanned
	return cmd
}

// widestAddress is how many columns the longest prefix takes with its country: it is never cut, so that it can be copied.
const widestAddress = len("1111:2222:3333:4444:5555:6666:7777:8888/127 CN")

func (a *app) printBans(bans []bantam.Ban, asked bantam.ID) {
	if len(bans) == 0 {
		if asked.IsZero() {
			a.printf("nobody is banned\n")
		} else {
			a.printf("%s is not banned\n", asked)
		}
		return
	}
	now := time.Now()
	var rows [][]cell
	var held []bantam.Ban
	for _, b := range bans {
		end, left := "for ever", ""
		if !b.Permanent() {
			end, left = tabled(b.End, now), length(b.End.Sub(now))
		}
		cause := why(b)
		if b.Held() {
			cause = plural(b.Failures, "failure") + ", held back"
			held = append(held, b)
		}
		rows = append(rows, cells(safe(strings.TrimSpace(b.ID.String()+" "+b.Country)), safe(b.Jail), tabled(b.Time, now), end, left, cause))
	}
	a.printTable([]column{
		{title: "ADDRESS", least: widestAddress, yield: 4},
		{title: "JAIL", least: 8, yield: 2},
		{title: "SINCE", drop: 2},
		{title: "UNTIL"},
		{title: "LEFT", drop: 1},
		{title: "WHY", least: 8, yield: 3},
	}, rows)
	if len(held) > 0 {
		a.printf("\nHeld back, not banned:\n")
	}
	for _, b := range held {
		a.printf("  %s in %s: %s\n", safe(b.ID.String()), safe(b.Jail), safe(b.Reason))
	}
}

// why is the reason of a ban in a few words.
func why(b bantam.Ban) string {
	text := plural(b.Failures, "failure")
	if b.By == bantam.ByOperator {
		text = "by hand"
		if b.Reason != "" {
			text += ": " + safe(b.Reason)
		}
	}
	if b.Count > 1 {
		text += ", ban number " + itoa(b.Count)
	}
	switch {
	case b.Held():
		text += ", held back: " + safe(b.Reason)
	case b.Observed:
		text += ", observed only"
	}
	return text
}
