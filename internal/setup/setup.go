// Package setup finds out what serves on this machine, which jails of the library protect it, and who must never be
// banned, and writes the few lines that say so.
//
// It reads what package machine tells, where logs are and how their last lines look; what the jails would have done is
// a replay's to say. Looking changes nothing. Writing makes new files only, whole or not at all; what stands in a
// human's file is never changed.
package setup

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"bantam/internal/config"
	"bantam/internal/machine"
	"bantam/internal/source"
)

// fresh is how long ago a log was last written to, at most, that counts as one in use.
const fresh = 7 * 24 * time.Hour

// A Found is a jail that may protect something here.
type Found struct {
	Jail    string `json:"jail"`
	Service string `json:"service"` // for people
	// Why is what was seen of the service: "unit nginx", "listens on 443/tcp"; empty if only its log is there.
	Why []string `json:"why,omitempty"`
	// Logs are the files that it reads, those that have been written to within a week; empty where it reads the journal.
	Logs    []string `json:"logs,omitempty"`
	Journal bool     `json:"journal,omitempty"`
	// Enabled is true if the configuration has it already; Off if a file of the folder says that it is not to be.
	Enabled bool `json:"enabled,omitempty"`
	Off     bool `json:"off,omitempty"`
	// Propose is whether it is one of those to have, without being asked.
	Propose bool `json:"propose"`
	// Note is what to look at: lines of a form that nobody reads.
	Note string `json:"note,omitempty"`

	// What it would have done in the last day; Replayed is false if that is not known.
	Replayed  bool   `json:"replayed"`
	Lines     int64  `json:"lines,omitempty"`
	Failures  uint64 `json:"failures,omitempty"`
	Bans      int    `json:"bans,omitempty"`
	Offenders int    `json:"offenders,omitempty"`
	Logins    int    `json:"logins_hit,omitempty"` // successful logins of addresses that were banned then
}

// A Never is somebody who must not be banned.
type Never struct {
	Prefix netip.Prefix `json:"prefix"`
	Why    string       `json:"why"`
	// Covered is true if the configuration lets him off already.
	Covered bool `json:"covered,omitempty"`
	// Own is true for this machine's addresses, which need no line: ignoreself lets them off.
	Own bool `json:"own,omitempty"`
}

// A Survey is what was found.
type Survey struct {
	Jails []Found `json:"jails"`
	Never []Never `json:"never"`
	// Trouble is what could not be looked at.
	Trouble []string `json:"trouble,omitempty"`
}

// Look looks at a machine with the configuration in dir, "" for none yet. It takes moments; now is wall time.
func Look(m machine.Machine, dir string, lib fs.FS, now time.Time) (*Survey, error) {
	l := &look{machine: m, now: now, readers: map[string][]string{}, out: &Survey{Jails: []Found{}, Never: []Never{}}}
	own, err := config.Load(dir, lib)
	if err != nil {
		return nil, err
	}
	all, err := everyJail(dir, lib)
	if err != nil {
		return nil, err
	}
	l.see()
	l.jails(own, all)
	l.never(own)
	return l.out, nil
}

// look is one run of Look.
type look struct {
	machine    machine.Machine
	now        time.Time
	units      []string
	listeners  []machine.Listener
	containers []machine.Container
	readers    map[string][]string // the jails that read a log
	out        *Survey
}

func (l *look) trouble(what string, err error) {
	if err != nil {
		l.out.Trouble = append(l.out.Trouble, fmt.Sprintf("%s: %v", what, err))
	}
}

// see asks the machine.
func (l *look) see() {
	var err error
	l.units, err = l.machine.Units()
	l.trouble("look for services", err)
	l.listeners, err = l.machine.Listeners()
	l.trouble("look for open ports", err)
	l.containers, err = l.machine.Containers()
	l.trouble("look for containers", err)
}

// everyJail is the configuration with all the jails of the library and the folder enabled.
func everyJail(dir string, lib fs.FS) (*config.Config, error) {
	names, _ := config.Names(dir, lib)
	var text strings.Builder
	for _, name := range names {
		fmt.Fprintf(&text, "[%s]\nenabled = true\n", name)
	}
	staged, err := Stage(dir, "jail.d/~all.local", text.String())
	if err != nil {
		return nil, err
	}
	cfg, err := config.Load(staged, lib)
	return cfg, errors.Join(err, os.RemoveAll(staged))
}

// Stage makes a copy of the folder dir, "" for an empty one, with one more file, to be looked at before it is
// real. The caller removes it.
func Stage(dir, name, text string) (staged string, err error) {
	staged, err = os.MkdirTemp("", "bantam-setup-")
	if err != nil {
		return "", fmt.Errorf("make a folder to try the configuration in: %w", err)
	}
	if dir != "" {
		err = os.CopyFS(staged, os.DirFS(dir))
	}
	path := filepath.Join(staged, filepath.FromSlash(name))
	if err == nil {
		err = os.MkdirAll(filepath.Dir(path), 0o700)
	}
	if err == nil {
		err = os.WriteFile(path, []byte(text), 0o600)
	}
	if err != nil {
		return "", errors.Join(fmt.Errorf("copy the configuration to try it: %w", err), os.RemoveAll(staged))
	}
	return staged, nil
}

// jails finds the jails worth having, in the order of services and then of the configuration.
func (l *look) jails(own, all *config.Config) {
	found := map[string]*Found{}
	var order []string
	for i := range all.Jails {
		j := &all.Jails[i]
		if j.Err != nil {
			continue
		}
		f := &Found{Jail: j.Name, Service: j.Name, Logs: l.logs(j.Source.Paths)}
		for _, log := range f.Logs {
			l.readers[log] = append(l.readers[log], j.Name)
		}
		f.Journal = len(f.Logs) == 0 && len(j.Source.JournalMatch) > 0 && l.runsUnitOf(j.Source.JournalMatch)
		found[j.Name] = f
		order = append(order, j.Name)
	}
	for _, j := range own.Jails {
		if f := found[j.Name]; f != nil {
			f.Enabled = true
		}
	}
	for name, f := range found {
		v, ok := own.Value(name, "enabled")
		d, inDefault := own.Value("DEFAULT", "enabled")
		f.Off = ok && !f.Enabled && !strings.HasPrefix(v.File, "library/") && own.Dir != "" && !(inDefault && d.File == v.File && d.Line == v.Line)
	}
	place := l.serve(found)
	kept := slices.DeleteFunc(order, func(name string) bool {
		f := found[name]
		return name != "sshd" && !f.Enabled && len(f.Logs) == 0 && !f.Journal && len(f.Why) == 0
	})
	slices.SortStableFunc(kept, func(a, b string) int { return cmp.Compare(place(a), place(b)) })
	for _, name := range kept {
		f := found[name]
		only := slices.ContainsFunc(f.Logs, func(log string) bool { return len(l.readers[log]) == 1 })
		seen := len(f.Why) > 0 && (len(f.Logs) > 0 || f.Journal)
		f.Propose = f.Enabled || !f.Off && !byHand[name] && (name == "sshd" || seen || only)
		l.out.Jails = append(l.out.Jails, *f)
	}
}

// serve notes what is seen of the services, and says at which place each jail is shown.
func (l *look) serve(found map[string]*Found) (place func(jail string) int) {
	places := map[string]int{}
	for i := range services {
		s := &services[i]
		why := l.seen(s)
		for _, name := range s.jails {
			places[name] = len(places) + 1
			f := found[name]
			if f == nil {
				continue
			}
			f.Service, f.Why = s.title, why
			if s.form == nil || len(f.Logs) == 0 {
				continue
			}
			for _, log := range f.Logs {
				if n, understood := l.sample(log, s.form); n > 0 && understood == 0 && (s.form == object || strings.Contains(filepath.Base(log), "access")) {
					f.Note = fmt.Sprintf("%s: none of its last %d lines understood: %s", log, n, s.asked)
				}
			}
		}
	}
	return func(jail string) int {
		if p := places[jail]; p > 0 {
			return p
		}
		return len(places) + 1
	}
}

// seen is what shows that a service is here.
func (l *look) seen(s *service) (why []string) {
	for _, u := range s.units {
		if slices.Contains(l.units, u+".service") {
			why = append(why, "unit "+u)
			break
		}
	}
	var ports []string
	for _, o := range l.listeners {
		port := fmt.Sprintf("%d/%s", o.Addr.Port(), o.Protocol)
		if slices.Contains(s.programs, o.Program) && !slices.Contains(ports, port) {
			ports = append(ports, port)
		}
	}
	if len(ports) > 0 {
		why = append(why, "listens on "+strings.Join(ports[:min(len(ports), 3)], ", "))
	}
	for _, c := range l.containers {
		if slices.ContainsFunc(s.images, func(part string) bool { return strings.Contains(c.Image, part) }) {
			why = append(why, "container "+c.Name)
			break
		}
	}
	return why
}

// runsUnitOf reports whether a unit runs that one of some journal matches names.
func (l *look) runsUnitOf(matches [][]string) bool {
	for _, m := range matches {
		for _, word := range m {
			if u, ok := strings.CutPrefix(word, "_SYSTEMD_UNIT="); ok && slices.Contains(l.units, u) {
				return true
			}
		}
	}
	return false
}

// mostLogs is how many files one jail's patterns may name.
const mostLogs = 200

// logs are the files of some patterns that have been written to lately.
func (l *look) logs(patterns []source.Path) (out []string) {
	for _, pattern := range patterns {
		paths, _ := filepath.Glob(l.machine.Root + pattern.Pattern) // a pattern that is none names nothing
		for _, path := range paths {
			info, err := os.Stat(path)
			if err != nil || !info.Mode().IsRegular() || info.Size() == 0 || l.now.Sub(info.ModTime()) > fresh || len(out) == mostLogs {
				continue
			}
			if name := strings.TrimPrefix(path, l.machine.Root); !slices.Contains(out, name) {
				out = append(out, name)
			}
		}
	}
	return out
}

// sampleSize is how much of a log's end is looked at for its form.
const sampleSize = 256 << 10

// sample counts the last lines of a log and those that a form fits.
func (l *look) sample(log string, form interface{ Match([]byte) bool }) (lines, understood int) {
	f, err := os.OpenFile(l.machine.Root+log, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return 0, 0
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return 0, 0
	}
	from := max(0, info.Size()-sampleSize)
	text, err := io.ReadAll(io.NewSectionReader(f, from, sampleSize))
	if err != nil {
		return 0, 0
	}
	if from > 0 {
		_, text, _ = bytes.Cut(text, []byte("\n"))
	}
	for line := range bytes.Lines(text) {
		lines++
		if form.Match(bytes.TrimRight(line, "\r\n")) {
			understood++
		}
	}
	return lines, understood
}

// never finds who must not be banned.
func (l *look) never(own *config.Config) {
	add := func(addr netip.Addr, why string) {
		addr = addr.Unmap().WithZone("")
		if !addr.IsValid() || addr.IsLoopback() || addr.IsUnspecified() {
			return
		}
		p := netip.PrefixFrom(addr, addr.BitLen())
		if i := slices.IndexFunc(l.out.Never, func(n Never) bool { return n.Prefix == p }); i >= 0 {
			if n := &l.out.Never[i]; !strings.Contains(n.Why, why) {
				n.Why += ", " + why
			}
			return
		}
		l.out.Never = append(l.out.Never, Never{Prefix: p, Why: why, Covered: covered(own, p)})
	}
	sessions, err := l.machine.Sessions(l.now)
	l.trouble("look who is logged in", err)
	slices.SortStableFunc(sessions, func(a, b machine.Session) int { return cmp.Compare(rank(a), rank(b)) })
	for _, s := range sessions {
		switch {
		case s.Mine:
			add(s.Addr, "your session")
		case s.Live:
			add(s.Addr, "a session that lasts")
		default:
			add(s.Addr, "a login of the last day")
		}
	}
	gateways, err := l.machine.Gateways()
	l.trouble("look for gateways", err)
	for _, a := range gateways {
		add(a, "gateway")
	}
	resolvers, err := l.machine.Resolvers()
	l.trouble("look for name servers", err)
	for _, a := range resolvers {
		add(a, "name server")
	}
	addresses, err := l.machine.Addresses()
	l.trouble("look for own addresses", err)
	for _, p := range addresses {
		at := len(l.out.Never)
		add(p.Addr(), "this machine")
		if len(l.out.Never) > at {
			l.out.Never[at].Own = true
		}
	}
}

// rank is the order in which sessions are told.
func rank(s machine.Session) int {
	switch {
	case s.Mine:
		return 0
	case s.Live:
		return 1
	}
	return 2
}

// covered reports whether ignoreip of [DEFAULT] names an address already.
func covered(c *config.Config, p netip.Prefix) bool {
	v, _ := c.Value("DEFAULT", "ignoreip")
	for _, word := range strings.FieldsFunc(v.Text, func(r rune) bool { return strings.ContainsRune(" \t\r\n,", r) }) {
		if q, err := netip.ParsePrefix(word); err == nil && q.Masked().Overlaps(p) && q.Bits() <= p.Bits() {
			return true
		}
		if a, err := netip.ParseAddr(word); err == nil && a == p.Addr() {
			return true
		}
	}
	return false
}
