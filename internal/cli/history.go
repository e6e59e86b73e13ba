package cli

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"bantam"
	"bantam/internal/config"
	"bantam/internal/control"
)

// mostPage is how many bans are asked for at once.
const mostPage = 1000

func (a *app) historyCommand() *cobra.Command {
	var r control.HistoryRequest
	var address, since, until string
	limit := 50
	cmd := &cobra.Command{
		Use:   "history",
		Short: "Bans of the past, and how each ended",
		Long: `List bans of the past, the newest first, those that run among them, with how each ended. The daemon
remembers them as long as dbpurgeage says, a day unless it is set.

A time is a date (2025-03-02, "2025-03-02 10:15") or how long ago it was (1d, 12h).`,
		Example: "  bantam history --since 1d\n  bantam history --address 192.0.2.0/24 --limit 500\n  bantam history --jail sshd --country CN",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			if address != "" {
				if r.ID, err = bantam.ParsePrefix(address); err != nil {
					return usageError{err}
				}
			}
			if r.Country = strings.ToUpper(r.Country); r.Country != "" && !country.MatchString(r.Country) {
				return usageError{fmt.Errorf("--country: %q is no country of two letters, as CN", r.Country)}
			}
			now := time.Now()
			if r.Since, err = ago(since, now); err != nil {
				return usageError{fmt.Errorf("--since: %w", err)}
			}
			if r.Until, err = ago(until, now); err != nil {
				return usageError{fmt.Errorf("--until: %w", err)}
			}
			if limit < 1 {
				return usageError{errors.New("--limit: it must be 1 or more")}
			}
			return a.history(cmd.Context(), r, limit, now)
		},
	}
	f := cmd.Flags()
	f.StringVarP(&r.Jail, "jail", "j", "", "only of this jail")
	f.StringVar(&address, "address", "", "only of this address, or inside this prefix")
	f.StringVar(&r.Country, "country", "", "only from this country, as CN")
	f.StringVar(&since, "since", "", "only bans that began then or later")
	f.StringVar(&until, "until", "", "only bans that began before")
	f.IntVar(&limit, "limit", limit, "how many at most")
	a.completeJail(cmd)
	if err := cmd.RegisterFlagCompletionFunc("address", a.completeBanned); err != nil {
		panic(err) // the flag is missing: seen by whoever starts the program first
	}
	return cmd
}

var country = regexp.MustCompile(`^[A-Z]{2}$`)

// noArgs refuses arguments.
func noArgs(cmd *cobra.Command, args []string) error {
	if len(args) > 0 {
		return usageError{fmt.Errorf("bantam %s takes no %q: say it with a flag", cmd.Name(), args[0])}
	}
	return nil
}

// ago is a moment as people write it: a date in local time, or how long ago it was; "" is the zero time.
func ago(text string, now time.Time) (t time.Time, err error) {
	if text == "" {
		return t, nil
	}
	for _, layout := range []string{time.DateOnly, "2006-01-02 15:04", "2006-01-02T15:04", "2006-01-02T15:04:05", time.DateTime, time.RFC3339} {
		if t, err = time.ParseInLocation(layout, text, now.Location()); err == nil {
			return t, nil
		}
	}
	s, err := config.Seconds(text)
	if err != nil || s < 0 {
		return t, fmt.Errorf("%q is neither a date, as 2025-03-02, nor how long ago it was, as 1d or 12h", text)
	}
	return now.Add(-seconds(s)), nil
}

// history asks for the past page by page, as far as it is wanted.
func (a *app) history(ctx context.Context, r control.HistoryRequest, limit int, now time.Time) error {
	var all control.HistoryReply
	for first := true; ; first = false {
		r.Limit = min(limit-len(all.Bans), mostPage)
		page, err := control.Call(ctx, control.NewClient(a.socket), control.GetHistory, r)
		if err != nil {
			return err
		}
		if first {
			all.Fitting, all.Least, all.Since = page.Fitting, page.Least, page.Since
		}
		all.Bans = append(all.Bans, page.Bans...)
		if len(page.Bans) < r.Limit || len(all.Bans) >= limit {
			break
		}
		last := page.Bans[len(page.Bans)-1]
		r.After = control.PastKey{Time: last.Time, Jail: last.Jail, ID: last.ID}
	}
	if a.json {
		if all.Bans == nil {
			all.Bans = []control.PastBan{}
		}
		a.print(all)
		return nil
	}
	a.printHistory(all, now)
	return nil
}

func (a *app) printHistory(all control.HistoryReply, now time.Time) {
	remembered := "bans are remembered for " + length(now.Sub(all.Since).Round(time.Second)) + " after their end"
	if len(all.Bans) == 0 {
		a.printf("no ban like that is remembered; %s\n", remembered)
		return
	}
	var rows [][]cell
	for i := range all.Bans {
		b := &all.Bans[i]
		rows = append(rows, cells(tabled(b.Time, now), safe(strings.TrimSpace(b.ID.String()+" "+b.Country)), safe(b.Jail), howEnded(b, now), why(b.Ban)))
	}
	a.printTable([]column{
		{title: "SINCE"},
		{title: "ADDRESS", least: widestAddress, yield: 4},
		{title: "JAIL", least: 8, yield: 2},
		{title: "ENDED", least: 8, yield: 1},
		{title: "WHY", least: 10, yield: 3, drop: 1},
	}, rows)
	a.printf("\n")
	switch {
	case all.Least:
		a.printHanging(0, fmt.Sprintf("%s of more than %d shown; %s", plural(len(all.Bans), "ban"), all.Fitting, remembered))
	case all.Fitting > len(all.Bans):
		a.printHanging(0, fmt.Sprintf("%s of %d shown, more with --limit; %s", plural(len(all.Bans), "ban"), all.Fitting, remembered))
	default:
		a.printHanging(0, fmt.Sprintf("%s; %s", plural(len(all.Bans), "ban"), remembered))
	}
}

// howEnded says how a ban ended.
func howEnded(b *control.PastBan, now time.Time) string {
	switch {
	case b.Ended.IsZero() && b.Permanent():
		return "runs for ever"
	case b.Ended.IsZero() && b.End.After(now):
		return "runs, " + length(b.End.Sub(now)) + " left"
	case b.Ended.IsZero():
		return "is just over"
	}
	after := " after " + length(max(0, b.Ended.Sub(b.Time)).Round(time.Second))
	return endings(b.Cause) + after
}

// endings are the causes of a ban's end in words.
func endings(cause string) string {
	switch cause {
	case bantam.CauseExpired, "":
		return "over"
	case bantam.CauseOperator:
		return "unbanned"
	case bantam.CauseAllowed:
		return "allowed"
	case bantam.CauseRemoved:
		return "its jail went"
	}
	return safe(cause)
}
