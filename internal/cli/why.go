package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/spf13/cobra"

	"bantam"
	"bantam/internal/control"
	"bantam/internal/geo"
)

func (a *app) whyCommand() *cobra.Command {
	var line string
	var jails []string
	cmd := &cobra.Command{
		Use:   "why ADDRESS|PREFIX|TEXT|LINE|-",
		Short: "From a ban back to the log lines, or what becomes of a line",
		Long: `Tell everything that is known of an address: the bans that keep it out, the log lines that made
them and the rule they matched, when they end, its earlier bans, how near it is to a ban elsewhere, where it is, who
was told, and which rule lets it off. Of a prefix it is what is banned inside it; a text is one that a filter bans in
place of an address. The exit code is 1 if it is not banned.

A log line (what has a blank in it, or --line) is judged as if it were read now, by each jail that runs, or by those
that --jail names: which expression matches, what it captures, how the counter stands and what would follow; or the
first stage that refuses it. Nothing is counted. With - the lines of standard input are judged, one after the other.
Where no daemon runs, the configuration judges. The exit code is 1 if no line would count.`,
		Example: "  bantam why 192.0.2.7\n  bantam why 192.0.2.0/24\n  bantam why mallory@example.org\n" +
			"  bantam why 'Mar  2 10:15:04 gate sshd[812]: Failed password for root from 192.0.2.7 port 4022 ssh2'\n" +
			"  tail -n 20 /var/log/auth.log | bantam why - --jail sshd",
		Args: func(cmd *cobra.Command, args []string) error {
			if line != "" && len(args) == 0 {
				return nil
			}
			if line != "" {
				return usageError{errors.New("bantam why takes --line or an argument, not both")}
			}
			return exactlyOne("an address, a prefix, a log line in quotes, or - for standard input")(cmd, args)
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			switch {
			case line != "":
				return a.whyLines(cmd.Context(), line, jails)
			case args[0] == "-":
				return a.whyLines(cmd.Context(), "", jails)
			case strings.ContainsAny(strings.TrimSpace(args[0]), " \t"):
				return a.whyLines(cmd.Context(), args[0], jails)
			case len(jails) > 0:
				return usageError{errors.New("--jail is for log lines; of an address all jails are told")}
			}
			return a.whyID(cmd.Context(), args[0])
		},
	}
	cmd.Flags().StringVar(&line, "line", "", "a log line to judge")
	cmd.Flags().StringSliceVarP(&jails, "jail", "j", nil, "judge the line by this jail only; may be repeated")
	a.completeJail(cmd)
	cmd.ValidArgsFunction = a.completeBanned
	return cmd
}

// whyID tells what is known of an address, a prefix or a text.
func (a *app) whyID(ctx context.Context, arg string) error {
	id, wrong := parseID(arg)
	if id.IsZero() {
		return wrong
	}
	reply, err := control.Call(ctx, control.NewClient(a.socket), control.Why, control.WhyRequest{ID: id})
	switch {
	case err != nil:
		return err
	case wrong != nil && len(reply.Running)+len(reply.Past)+len(reply.Standing) == 0:
		return wrong // and nobody was banned by this name
	case a.json:
		a.print(reply)
	default:
		a.printWhy(id, reply, time.Now())
	}
	if len(reply.Running) == 0 {
		return errSilent
	}
	return nil
}

func (a *app) printWhy(id bantam.ID, reply control.WhyReply, now time.Time) {
	a.printf("%s%s\n", safe(id.String()), whereabouts(reply.Place))
	if len(reply.Running) == 0 {
		a.printf("is not banned\n")
	}
	for _, b := range reply.Running {
		end := "for ever"
		if !b.Permanent() {
			end = fmt.Sprintf("until %s, %s from now", stamp(b.End, now), length(b.End.Sub(now)))
		}
		if b.ID != id {
			end += ", as part of " + safe(b.ID.String())
		}
		state := "banned"
		switch {
		case b.Held():
			state = "not banned, held back"
		case b.Observed:
			state = "observed only, not banned,"
		}
		a.printf("\n")
		a.printHanging(4, fmt.Sprintf("%s in %s since %s, %s", state, safe(b.Jail), stamp(b.Time, now), end))
		a.printf("  why: ")
		a.printHanging(7, why(b))
		if len(b.Lines) > 0 { // those that open a session or close it are among them, so they are no count
			a.printf("  its last %s:\n", plural(len(b.Lines), "line"))
		}
		for _, line := range b.Lines {
			a.printf("    %s\n", safe(line))
		}
		a.printMatches(b, reply.Matches)
	}
	for _, s := range reply.Standing {
		text := fmt.Sprintf("%s of %d within %s", plural(s.Count, "failure"), s.MaxRetry, length(seconds(s.FindTime)))
		switch {
		case len(s.Users) > 0:
			named := slices.Clone(s.Users)
			if i := slices.Index(named, ""); i >= 0 {
				named[i] = "(no name)"
			}
			text = fmt.Sprintf("%d of %d within %s, different users count: %s", s.Count, s.MaxRetry, length(seconds(s.FindTime)), safe(few(named)))
		case s.User != "":
			text += ", as " + safe(s.User)
		}
		a.printf("\nnot banned in %s: %s, the last at %s\n", safe(s.Jail), text, stamp(s.Last, now))
	}
	running := func(p bantam.Ban) bool {
		return slices.ContainsFunc(reply.Running, func(b bantam.Ban) bool { return b.Jail == p.Jail && b.ID == p.ID && b.Time.Equal(p.Time) })
	}
	if past := slices.DeleteFunc(slices.Clone(reply.Past), running); len(past) > 0 {
		a.printf("\nearlier bans:\n")
		const most = 10
		for _, b := range past[:min(len(past), most)] {
			a.printf("  %s  %s  %s\n", stamp(b.Time, now), safe(b.Jail), why(b))
		}
		if len(past) > most {
			a.printf("  and %d more\n", len(past)-most)
		}
	}
	if len(reply.Told) > 0 {
		a.printf("\n")
	}
	for _, t := range reply.Told {
		at := ""
		if !t.At.IsZero() {
			at = ", " + stamp(t.At, now)
		}
		a.printf("told: %s %s%s\n", safe(t.Channel), safe(t.What), at)
	}
	if len(reply.Ignored) > 0 {
		a.printf("\n")
	}
	for _, jail := range slices.Sorted(maps.Keys(reply.Ignored)) {
		a.printf("let off in %s by %s\n", safe(jail), safe(reply.Ignored[jail]))
	}
	if len(reply.Running) == 0 {
		return
	}
	if _, is := id.Prefix(); is {
		a.printf("\nNext: bantam unban %s | bantam allow add %s\n", id, id)
	} else {
		a.printf("\nNext: bantam unban %s\n", safe(inShell(id.String())))
	}
}

// printMatches prints which rule the lines of a ban matched, by the rules of now, and what it captured of the last.
func (a *app) printMatches(b bantam.Ban, matches []control.Match) {
	var rules []control.Rule
	var last *control.Match
	for i := range matches {
		m := &matches[i]
		if m.Jail != b.Jail || !slices.Contains(b.Lines, m.Line) {
			continue
		}
		if last = m; !slices.Contains(rules, m.Rule) {
			rules = append(rules, m.Rule)
		}
	}
	for i := range rules {
		a.printRule("rule:", &rules[i])
	}
	if last != nil {
		a.printData(last.Data)
	}
}

// whereabouts is where an address is, in brackets.
func whereabouts(p geo.Place) string {
	var parts []string
	if country := cmp.Or(p.CountryName, p.Country); country != "" {
		parts = append(parts, safe(strings.Join(slices.DeleteFunc([]string{p.City, country}, func(s string) bool { return s == "" }), ", ")))
	}
	if p.ASN != 0 {
		parts = append(parts, strings.TrimSpace(fmt.Sprintf("AS%d %s", p.ASN, safe(p.ASOrg))))
	}
	if parts == nil {
		return ""
	}
	return " (" + strings.Join(parts, ", ") + ")"
}

// inShell is a text as one word of a shell.
func inShell(s string) string {
	if s != "" && !strings.ContainsFunc(s, func(r rune) bool {
		return !unicode.IsLetter(r) && !unicode.IsDigit(r) && !strings.ContainsRune("@%+=:,./-_", r)
	}) && s[0] != '-' {
		return s
	}
	return "-- '" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}
