package cli

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"bantam/internal/config"
	"bantam/internal/control"
)

func (a *app) diffCommand() *cobra.Command {
	var jails []string
	cmd := &cobra.Command{
		Use:   "diff [OLD] NEW",
		Short: "In what the jails of two folders differ",
		Long: `Compare what the files of two folders come to, jail by jail: what is on in one alone, and each option
whose value differs, with the file and line it was written in. OLD is the folder in use unless it is
named; "library" is what is built in. Jails that are on in neither are left out unless --jail names
them. The exit code is 0 whether or not they differ.

What the difference would have done on old logs: bantam replay --against NEW.`,
		Example: "  bantam config diff /etc/bantam.new\n  bantam config diff /etc/fail2ban /etc/bantam\n  bantam config diff library /etc/bantam --jail sshd",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) < 1 || len(args) > 2 {
				return usageError{errors.New("bantam config diff needs one folder, or two")}
			}
			return nil
		},
		ValidArgsFunction: func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
			return nil, cobra.ShellCompDirectiveFilterDirs
		},
		RunE: func(_ *cobra.Command, args []string) error {
			before, after := a.folder(), args[len(args)-1]
			if len(args) == 2 {
				before = args[0]
			}
			return a.configDiff(before, after, jails)
		},
	}
	cmd.Flags().StringSliceVarP(&jails, "jail", "j", nil, "only these jails, whether they are on or not")
	a.completeJail(cmd)
	return cmd
}

// diffReply is in what two configurations differ, as JSON.
type diffReply struct {
	Old   string     `json:"old"` // empty means the library
	New   string     `json:"new"`
	Jails []jailDiff `json:"jails"`
}

type jailDiff struct {
	Jail string `json:"jail"`
	// Only is "old" or "new" if the jail is there or on in that one alone, else empty.
	Only    string       `json:"only,omitempty"`
	Options []optionDiff `json:"options"`
}

// An optionDiff is an option that differs; that which has none has no key.
type optionDiff struct {
	Key string        `json:"key"`
	Old config.Option `json:"old"`
	New config.Option `json:"new"`
}

// A side is one of two configurations.
type side struct {
	folder string
	on     []string // its enabled jails, sorted
	known  []string // all
}

func (a *app) readSide(folder string) (s side, err error) {
	s.folder = config.Find(folder)
	if s.folder != "" {
		if _, err := os.ReadDir(s.folder); err != nil {
			return s, control.Refuse("name the folders that hold jail.conf or jail.local", "%v", err)
		}
	}
	c, err := config.Load(s.folder, a.library)
	if err != nil {
		return s, err
	}
	for i := range c.Jails {
		s.on = append(s.on, c.Jails[i].Name)
	}
	s.known, _ = config.Names(s.folder, a.library)
	return s, nil
}

func (a *app) configDiff(before, after string, only []string) error {
	old, err := a.readSide(before)
	if err != nil {
		return err
	}
	fresh, err := a.readSide(after)
	if err != nil {
		return err
	}
	names := only
	if len(names) == 0 {
		names = append(slices.Clone(old.on), fresh.on...)
		slices.Sort(names)
		names = slices.Compact(names)
	}
	reply := diffReply{Old: old.folder, New: fresh.folder, Jails: []jailDiff{}}
	for _, name := range names {
		d := jailDiff{Jail: name, Options: []optionDiff{}}
		in, out := slices.Contains(old.known, name), slices.Contains(fresh.known, name)
		switch {
		case !in && !out:
			return control.Refuse("bantam config show JAIL shows one; bantam check names those that are on", "neither folder has a jail %q", name)
		case !out, len(only) == 0 && !slices.Contains(fresh.on, name):
			d.Only = "old"
		case !in, len(only) == 0 && !slices.Contains(old.on, name):
			d.Only = "new"
		default:
			if d.Options, err = a.optionDiffs(old.folder, fresh.folder, name); err != nil {
				return err
			}
			if len(d.Options) == 0 {
				continue
			}
		}
		reply.Jails = append(reply.Jails, d)
	}
	if a.json {
		a.print(reply)
		return nil
	}
	a.printDiff(reply, len(names))
	return nil
}

// optionDiffs are the options of a jail that come to something else in another folder.
func (a *app) optionDiffs(before, after, name string) (out []optionDiff, err error) {
	old, err := config.Show(before, a.library, name)
	if err != nil {
		return nil, err
	}
	fresh, err := config.Show(after, a.library, name)
	if err != nil {
		return nil, err
	}
	out = []optionDiff{}
	at := func(options []config.Option, key string) (o config.Option) {
		if i := slices.IndexFunc(options, func(o config.Option) bool { return o.Key == key }); i >= 0 {
			o = options[i]
		}
		return o
	}
	for _, o := range old {
		if n := at(fresh, o.Key); n.Value != o.Value || n.Wrong != o.Wrong {
			out = append(out, optionDiff{o.Key, o, n})
		}
	}
	for _, n := range fresh {
		if o := at(old, n.Key); o.Key == "" && n.Value != "" {
			out = append(out, optionDiff{n.Key, o, n})
		}
	}
	return out, nil
}

func (a *app) printDiff(d diffReply, compared int) {
	named := func(folder string) string {
		if folder == "" {
			return "library"
		}
		return safe(folder)
	}
	if len(d.Jails) == 0 {
		a.printf("no difference in %s\n", plural(compared, "jail"))
		return
	}
	a.printf("- %s\n+ %s\n", named(d.Old), named(d.New))
	for _, j := range d.Jails {
		switch j.Only {
		case "old":
			a.printf("\n- [%s]\n", safe(j.Jail))
			continue
		case "new":
			a.printf("\n+ [%s]\n", safe(j.Jail))
			continue
		}
		a.printf("\n[%s]\n", safe(j.Jail))
		for _, o := range j.Options {
			a.printSide("-", o.Key, o.Old, o.New)
			a.printSide("+", o.Key, o.New, o.Old)
		}
	}
}

// mostDiffered is how many differing lines of an option are printed; those of whole filters nobody compares by eye.
const mostDiffered = 4

// printSide prints what an option is on one side: of several lines those that the other has not.
func (a *app) printSide(sign, key string, o, other config.Option) {
	if o.Key == "" {
		return
	}
	from := ""
	if o.File != "" {
		from = "  (" + origin(o.File, o.Line) + ")"
	}
	theirs := strings.Split(other.Value, "\n")
	lines := slices.DeleteFunc(strings.Split(o.Value, "\n"), func(line string) bool { return slices.Contains(theirs, line) })
	if len(lines) > mostDiffered {
		a.printf("%s %s: %d lines, with --json whole%s\n", sign, safe(key), len(lines), from)
		return
	}
	for _, line := range lines {
		text := fmt.Sprintf("%s %s = %s", sign, safe(key), safe(strings.TrimSpace(line)))
		if a.wide > 0 {
			text = fit(text, a.wide-width(from))
		}
		a.printf("%s%s\n", text, from)
	}
	if o.Wrong != "" {
		a.printf("%s %s ! %s\n", sign, safe(key), safe(o.Wrong))
	}
}
