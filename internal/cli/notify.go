package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"bantam/internal/config"
	"bantam/internal/control"
	"bantam/internal/outbox"
	"bantam/internal/smtp"
)

func (a *app) notifyCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "notify",
		Short: "Who is told of bans, and how that goes",
		Long: `Show the channels: each way to somebody that a jail's action names, such as smtp, gmail,
telegram or webhook. What cannot be delivered waits and is tried again; it delays no ban.`,
		Example: "  bantam notify\n  bantam notify test smtp\n  bantam notify queue\n  bantam notify login gmail",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			reply, printed, err := ask(cmd.Context(), a, control.GetChannels, control.None{})
			if err == nil && !printed {
				a.printChannels(reply)
			}
			return err
		},
	}
	cmd.AddCommand(a.notifyTestCommand(), a.notifyQueueCommand(), a.notifyLoginCommand())
	return cmd
}

func (a *app) printChannels(reply control.Channels) {
	if len(reply.Channels) == 0 {
		a.printf("nobody is told of bans\nhint: add a line to a jail's action, as in smtp[to=you@example.org, relay=mail.example.org]\n")
		return
	}
	now := time.Now()
	var rows [][]cell
	for _, c := range reply.Channels {
		last := "-"
		if !c.Last.IsZero() {
			last = tabled(c.Last, now)
		}
		waiting, trouble := 0, c.Trouble
		for _, l := range reply.Letters {
			if l.Channel != c.Channel {
				continue
			}
			if waiting++; l.Err != "" {
				trouble = l.Err
			}
		}
		rows = append(rows, cells(safe(c.Channel), safe(c.Kind), safe(strings.Join(c.On, " ")), safe(strings.Join(c.Jails, " ")), last, letters(waiting), safe(trouble)))
	}
	a.printTable([]column{
		{title: "CHANNEL", least: 8, yield: 1},
		{title: "KIND"},
		{title: "TOLD OF", least: 7, yield: 2},
		{title: "JAILS", least: 8, yield: 4},
		{title: "LAST"},
		{title: "WAITING"},
		{title: "TROUBLE", least: 9, yield: 3},
	}, rows)
}

func letters(n int) string {
	if n == 0 {
		return "-"
	}
	return plural(n, "letter")
}

func (a *app) notifyTestCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "test CHANNEL",
		Short: "Send a message by a channel and say what became of it",
		Args:  exactlyOne("a channel; bantam notify shows them"),
		RunE: func(cmd *cobra.Command, args []string) error {
			_, printed, err := ask(cmd.Context(), a, control.TestChannel, control.ChannelRequest{Channel: args[0]})
			if err == nil && !printed {
				a.printf("%s has taken the message\n", safe(args[0]))
			}
			return err
		},
		ValidArgsFunction: func(cmd *cobra.Command, args []string, _ string) (names []string, _ cobra.ShellCompDirective) {
			if reply, err := control.Call(cmd.Context(), control.NewClient(a.socket), control.GetChannels, control.None{}); err == nil && len(args) == 0 {
				for _, c := range reply.Channels {
					names = append(names, c.Channel)
				}
			}
			return names, cobra.ShellCompDirectiveNoFileComp
		},
	}
	return cmd
}

func (a *app) notifyQueueCommand() *cobra.Command {
	var retry, drop string
	cmd := &cobra.Command{
		Use:   "queue",
		Short: "What waits to be delivered, or will never be",
		Long: `Show the letters of all channels, reports to abuse desks among them, that wait, that their receivers
have refused, or whose channel is gone.`,
		Example: "  bantam notify queue\n  bantam notify queue --retry KEY\n  bantam notify queue --drop KEY",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if retry != "" || drop != "" {
				if retry != "" && drop != "" {
					return usageError{errors.New("--retry and --drop are two different things")}
				}
				_, printed, err := ask(cmd.Context(), a, control.Letter, control.LetterRequest{Key: retry + drop, Drop: drop != ""})
				if err == nil && !printed {
					a.printf("%s is %s\n", safe(retry+drop), map[bool]string{true: "forgotten", false: "tried again"}[drop != ""])
				}
				return err
			}
			reply, err := control.Call(cmd.Context(), control.NewClient(a.socket), control.GetChannels, control.None{})
			if err != nil {
				return err
			}
			if a.json {
				a.print(reply.Letters)
				return nil
			}
			a.printLetters(reply.Letters)
			return nil
		},
	}
	cmd.Flags().StringVar(&retry, "retry", "", "try this letter again at once")
	cmd.Flags().StringVar(&drop, "drop", "", "forget this letter")
	return cmd
}

func (a *app) printLetters(list []outbox.Letter) {
	if len(list) == 0 {
		a.printf("nothing waits\n")
		return
	}
	now := time.Now()
	var rows [][]cell
	for _, l := range list {
		next := tabled(l.Due, now)
		switch {
		case l.Failed:
			next = "never"
		case !l.Due.After(now):
			next = "now"
		}
		rows = append(rows, cells(safe(l.Channel), safe(l.About), tabled(l.Made, now), itoa(l.Tries), next, safe(l.Err), safe(l.Key)))
	}
	a.printTable([]column{
		{title: "CHANNEL", least: 8, yield: 1},
		{title: "ABOUT", least: 14, yield: 2},
		{title: "WRITTEN"},
		{title: "TRIES", right: true},
		{title: "NEXT"},
		{title: "TROUBLE", least: 9, yield: 3},
		{title: "KEY"},
	}, rows)
}

func (a *app) notifyLoginCommand() *cobra.Command {
	var client, token string
	cmd := &cobra.Command{
		Use:   "login gmail",
		Short: "Let Bantam send mail by your account at Google",
		Long: `Agree, in a browser, that Bantam may send mail by Gmail's API: send, and nothing else. What Google answers is
written to a file that the action gmail-api uses.

It needs the OAuth client of a project of yours: in Google's console turn on the Gmail API, make
credentials of the kind "desktop app" and download them as JSON.

On a server without a browser, open the address elsewhere. The page that comes last will not load; paste
its address here.`,
		Example: "  bantam notify login gmail --client client.json",
		Args:    exactlyOne("gmail, the only account there is a login for"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if args[0] != "gmail" {
				return usageError{fmt.Errorf("there is no login for %q, only for gmail", args[0])}
			}
			var in io.Reader = os.Stdin
			out := a.stdout
			if a.json {
				out = a.stderr
			}
			if err := (smtp.Login{Client: client, Token: token, Out: out, In: in}).Run(cmd.Context()); err != nil {
				return err
			}
			if a.json {
				a.print(map[string]string{"token": token})
				return nil
			}
			a.printf("%s is written; now name it in a jail's action: gmail-api[from=YOU@gmail.com, to=YOU@gmail.com]\n", safe(token))
			return nil
		},
		ValidArgs: []string{"gmail"},
	}
	cmd.Flags().StringVar(&client, "client", config.GmailClient, "the client, as Google's console gives it for download")
	cmd.Flags().StringVar(&token, "token", config.GmailToken, "where to write the token")
	return cmd
}

func (a *app) reportCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "report",
		Short: "What abuse desks and lists are told",
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return a.listReports(cmd.Context()) },
	}
	var channel string
	var force bool
	preview := &cobra.Command{
		Use:   "preview ADDRESS",
		Short: "Show a report as it would be sent now, without sending it",
		Args:  exactlyOne("an address"),
		RunE: func(cmd *cobra.Command, args []string) error {
			ids, err := parseIDs(args)
			if err != nil {
				return err
			}
			reply, printed, err := ask(cmd.Context(), a, control.PreviewReport, control.ReportRequest{ID: ids[0], Channel: channel})
			if err == nil && !printed {
				a.printf("%s\n", safeLines(strings.TrimRight(strings.ReplaceAll(reply.Text, "\r\n", "\n"), "\n")))
			}
			return err
		},
	}
	send := &cobra.Command{
		Use:   "send ADDRESS",
		Short: "Report an address now",
		Long: `Report a banned address now, without waiting for others of the same network. The interval, the caps
and the rules of automatic reports hold it back all the same, unless --force says otherwise.`,
		Args: exactlyOne("an address"),
		RunE: func(cmd *cobra.Command, args []string) error {
			ids, err := parseIDs(args)
			if err != nil {
				return err
			}
			reply, printed, err := ask(cmd.Context(), a, control.SendReport, control.ReportRequest{ID: ids[0], Channel: channel, Force: force})
			if err == nil && !printed {
				a.printf("the report about %s goes to %s; bantam report list shows what becomes of it\n", safe(reply.Report.ID.String()), safe(strings.Join(reply.Report.To, ", ")))
			}
			return err
		},
	}
	for _, c := range []*cobra.Command{preview, send} {
		c.Flags().StringVar(&channel, "channel", "", "which way to report (default the first to an abuse desk)")
	}
	send.Flags().BoolVar(&force, "force", false, "send it though it is held back")
	list := &cobra.Command{
		Use: "list", Short: "What was reported, and what is to be", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.listReports(cmd.Context()) },
	}
	cmd.AddCommand(list, preview, send)
	return cmd
}

func (a *app) listReports(ctx context.Context) error {
	reply, printed, err := ask(ctx, a, control.GetReports, control.None{})
	if err != nil || printed {
		return err
	}
	if len(reply.Reports) == 0 {
		a.printf("nothing was reported, and nothing is to be\n")
		return nil
	}
	now := time.Now()
	var rows [][]cell
	for _, r := range reply.Reports {
		to := slices.Clone(r.To)
		if len(to) == 0 {
			to = []string{"-"}
		}
		rows = append(rows, cells(safe(r.ID.String()), safe(r.Jail), safe(strings.Join(to, ", ")), safe(r.State), tabled(r.At, now), itoa(r.Count), safe(r.Err)))
	}
	a.printTable([]column{
		{title: "ADDRESS", least: widestAddress, yield: 4},
		{title: "JAIL", least: 8, yield: 1},
		{title: "TO", least: 9, yield: 2},
		{title: "STATE"},
		{title: "WHEN"},
		{title: "REPORTS", right: true, drop: 1},
		{title: "TROUBLE", least: 9, yield: 3},
	}, rows)
	return nil
}
