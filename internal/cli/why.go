package cli

import (
	"cmp"
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
	return &cobra.Command{
		Use:   "why ADDRESS|PREFIX|TEXT",
		Short: "From a ban back to the log lines, and what follows",
		Long: `Tell everything that is known of an address: the bans that keep it out, the log lines that made
them, when they end, its earlier bans, where it is, and which rule lets it off. Of a prefix it is what
is banned inside it; a text is one that a filter bans in place of an address. The exit code is 1 if
it is not banned.`,
		Example: "  bantam why 192.0.2.7\n  bantam why 192.0.2.0/24\n  bantam why mallory@example.org",
		Args:    exactlyOne("an address or prefix"),
		RunE: func(cmd *cobra.Command, args []string) error {
			id, wrong := parseID(args[0])
			if id.IsZero() {
				return wrong
			}
			reply, err := control.Call(cmd.Context(), control.NewClient(a.socket), control.Why, control.WhyRequest{ID: id})
			switch {
			case err != nil:
				return err
			case wrong != nil && len(reply.Running)+len(reply.Past) == 0:
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
		},
	}
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
		if b.Held() {
			state = "not banned, held back"
		}
		a.printf("\n%s in %s since %s, %s\n  why: %s\n", state, safe(b.Jail), stamp(b.Time, now), end, why(b))
		for _, line := range b.Lines {
			a.printf("    %s\n", safe(line))
		}
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
