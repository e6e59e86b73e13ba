package cli

import (
	"errors"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"bantam/internal/config"
	"bantam/internal/daemon"
)

// replayReply is what replay prints as JSON with --against.
type replayReply struct {
	Before     *daemon.Replay          `json:"before"`
	After      *daemon.Replay          `json:"after"`
	Difference daemon.ReplayDifference `json:"difference"`
}

func (a *app) replayCommand() *cobra.Command {
	var o daemon.ReplayOptions
	var against string
	var summary bool
	cmd := &cobra.Command{
		Use:   "replay [LOG…]",
		Short: "What a configuration would have done on old logs",
		Long: `Run a configuration over old logs, each line at the time it bears, and print the bans
it would have made. Nothing is banned, written or sent.

Without LOG every jail reads what its logpath and journalmatch name, with the files that
rotation has left of it, compressed ones (gz, bz2, xz, zst) included, oldest first. With
LOG the jails of --jail read these files as one log; - is standard input.

With --against another configuration is run over the same logs, and the difference is
shown: what it would ban and what not, and which successful logins (of sshd, dovecot
and postfix) either would have hit.

Host names are not asked for unless --dns is given: the answers are today's. The daemon's
allow list and bans made by hand are not known here.`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 0 && len(o.Jails) == 0 {
				return usageError{errors.New("bantam replay takes logs together with --jail, which says who reads them")}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			show := &replayProgress{progress: progress{out: terminal(a.stderr)}}
			o.Config, o.Library, o.Logs = a.folder(), a.library, args
			if show.out != nil {
				o.Progress = show.add
			}
			options := []daemon.ReplayOptions{o}
			if against != "" {
				for _, log := range args {
					if log == "-" {
						return usageError{errors.New("standard input can be read once, and --against reads it twice")}
					}
				}
				other := o
				other.Config = config.Find(against)
				options = append(options, other)
			}
			show.runs = int64(len(options))
			replays := make([]*daemon.Replay, len(options))
			g, ctx := errgroup.WithContext(cmd.Context())
			for i, options := range options {
				g.Go(func() (err error) {
					replays[i], err = daemon.RunReplay(ctx, options)
					return err
				})
			}
			err := g.Wait()
			show.end()
			switch {
			case err != nil:
				return err
			case against != "":
				a.printDifference(replays[0], replays[1], summary)
			case a.json:
				a.print(replays[0])
			default:
				a.printReplay(replays[0], summary)
			}
			return nil
		},
	}
	cmd.Flags().StringArrayVarP(&o.Jails, "jail", "j", nil, "replay only this jail; may be repeated")
	cmd.Flags().StringVar(&against, "against", "", "folder of another configuration to compare with")
	cmd.Flags().BoolVar(&o.DNS, "dns", false, "ask for the addresses of host names")
	cmd.Flags().BoolVar(&summary, "summary", false, "print the figures and not every ban")
	return cmd
}

// replayProgress shows how far several runs are.
type replayProgress struct {
	mu sync.Mutex // guards what follows
	progress
	runs  int64
	lines int64
}

func (p *replayProgress) add(read, size, lines int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.size = size * p.runs
	p.read += read
	p.lines += lines
	p.show(p.lines)
}

// moment is an event time as a table shows it.
func moment(t time.Time) string { return t.Local().Format(time.DateTime) }

func replayEnd(b *daemon.ReplayBan) string {
	if b.End.IsZero() {
		return "for ever"
	}
	return "until " + moment(b.End)
}

// replayNote is what else there is to say about a ban.
func replayNote(b *daemon.ReplayBan) string {
	note := plural(b.Failures, "failure")
	if b.Held != "" {
		note += ", held back"
	}
	if b.Count > 1 {
		note += ", ban " + strconv.Itoa(b.Count)
	}
	if b.Prolonged > 0 {
		note += ", prolonged " + plural(b.Prolonged, "time")
	}
	return note
}

func (a *app) printReplay(r *daemon.Replay, summary bool) {
	if !summary && len(r.Bans) > 0 {
		rows := make([][]cell, len(r.Bans))
		for i := range r.Bans {
			b := &r.Bans[i]
			rows[i] = cells(moment(b.Time), safe(b.Jail), safe(b.ID.String()), replayEnd(b), replayNote(b))
		}
		a.printTable([]column{{}, {least: 8, yield: 1}, {}, {drop: 2}, {least: 10, yield: 2, drop: 1}}, rows)
		a.printf("\n")
	}
	var rows [][]cell
	for _, j := range r.Jails {
		note := ""
		switch {
		case j.Logs == 0:
			note = "no log of it is there"
		case j.Observe:
			note = "observes only"
		case j.Held > 0:
			note = fmt.Sprintf("held back: %d", j.Held)
		}
		rows = append(rows, cells(safe(j.Jail), fmt.Sprint(j.Failures), fmt.Sprint(j.Ignored), itoa(j.Bans), itoa(j.Offenders), note))
	}
	a.printTable([]column{
		{title: "JAIL", least: 8},
		{title: "FAILURES", right: true},
		{title: "IGNORED", right: true},
		{title: "BANS", right: true},
		{title: "OFFENDERS", right: true},
		{},
	}, rows)
	a.printf("\n%s of %s", plural64(r.Lines, "line"), plural(len(r.Logs), "log"))
	if !r.From.IsZero() {
		a.printf(", failures from %s to %s", moment(r.From), moment(r.To))
	}
	a.printf("\n")
	if r.Unresolved > 0 {
		a.printf("%s bore only a host name and counted for nobody\n", plural(r.Unresolved, "failure"))
	}
	a.replayTrouble(r)
	a.printHeld(r)
	if r.Logins > 0 {
		a.printf("%s, %d of them of who would have been banned then\n", plural(r.Logins, "successful login"), len(r.Hits))
		a.printHits(r.Hits)
	}
}

// printHeld says which bans would have been held back, and why.
func (a *app) printHeld(r *daemon.Replay) {
	n := 0
	for i := range r.Bans {
		b := &r.Bans[i]
		if b.Held == "" {
			continue
		}
		switch n++; {
		case n == 1:
			a.printf("would have been held back, to spare who administrates this machine:\n")
		case n > maxHits:
			a.printf("  … and more\n")
			return
		}
		a.printf("  %s  %s in %s:\n    %s\n", moment(b.Time), safe(b.ID.String()), safe(b.Jail), safe(b.Held))
	}
}

// replayTrouble says what was not replayed.
func (a *app) replayTrouble(r *daemon.Replay) {
	for _, gone := range r.Aside {
		fmt.Fprintf(a.stderr, "bantam: %s is not replayed: %s\n", safe(gone.Jail), safeLines(gone.Err))
	}
	for _, p := range r.Problems {
		fmt.Fprintln(a.stderr, "bantam: "+strings.ReplaceAll(safeLines(p), "\n", "\nbantam: "))
	}
}

// maxHits is how many logins are shown.
const maxHits = 20

func (a *app) printHits(hits []daemon.ReplayHit) {
	rows := make([][]cell, 0, maxHits)
	for _, h := range hits[:min(maxHits, len(hits))] {
		rows = append(rows, cells("  "+moment(h.Time), safe(h.Addr.String()), "as "+safe(h.User), "banned in "+safe(h.Jail)))
	}
	a.printTable(make([]column, 4), rows)
	if more := len(hits) - maxHits; more > 0 {
		a.printf("  … and %d more\n", more)
	}
}

func (a *app) printDifference(before, after *daemon.Replay, summary bool) {
	d := daemon.Difference(before, after)
	if a.json {
		a.print(replayReply{before, after, d})
		return
	}
	more, fewer, moved := 0, 0, 0
	var rows [][]cell
	for _, c := range d.Bans {
		sign, b, note := "+", c.After, ""
		switch {
		case c.Before == nil:
			more++
		case c.After == nil:
			sign, b = "-", c.Before
			fewer++
		default:
			sign, note = "~", "was "+replayEnd(c.Before)
			moved++
		}
		rows = append(rows, cells(sign, moment(b.Time), safe(b.Jail), safe(b.ID.String()), replayEnd(b), note))
	}
	if len(rows) > 0 && !summary {
		a.printTable([]column{{}, {}, {least: 8, yield: 1}, {}, {}, {drop: 1}}, rows)
		a.printf("\n")
	}
	a.printf("%s: %s\n%s: %s\n", configName(before), plural(len(before.Bans), "ban"), configName(after), plural(len(after.Bans), "ban"))
	a.printf("%d more, %d fewer, %d with another end\n", more, fewer, moved)
	a.replayTrouble(before)
	a.replayTrouble(after)
	a.printf("%s: %d hit no more, %d hit anew\n", plural(max(before.Logins, after.Logins), "successful login"), len(d.Spared), len(d.Hit))
	if len(d.Spared) > 0 {
		a.printf("hit no more:\n")
		a.printHits(d.Spared)
	}
	if len(d.Hit) > 0 {
		a.printf("hit anew:\n")
		a.printHits(d.Hit)
	}
}

func configName(r *daemon.Replay) string {
	if r.Config == "" {
		return "library"
	}
	return safe(filepath.Clean(r.Config))
}
