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
	"regexp"
	"slices"
	"strings"
	"syscall"
	"time"

	"bantam/internal/config"
	"bantam/internal/filter"
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
	// Options are lines of its section beside enabled: where a container's log is, and at which ports it is reached.
	Options []string `json:"options,omitempty"`
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

// Stage makes a folder that looks like dir, "" for an empty one, with one more file, to be looked at before it is real.
// It is made of links, so that nothing is copied. The caller removes it.
func Stage(dir, name, text string) (staged string, err error) {
	staged, err = os.MkdirTemp("", "bantam-setup-")
	if err != nil {
		return "", fmt.Errorf("make a folder to try the configuration in: %w", err)
	}
	path := filepath.Join(staged, filepath.FromSlash(name))
	folder := filepath.Dir(filepath.FromSlash(name))
	if err = os.MkdirAll(filepath.Dir(path), 0o700); err == nil && dir != "" {
		err = link(dir, staged, folder)
		if err == nil && folder != "." {
			err = link(filepath.Join(dir, folder), filepath.Join(staged, folder), "")
		}
	}
	var f *os.File
	if err == nil {
		f, err = os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600) // not through a link
	}
	if err == nil {
		_, err = f.WriteString(text)
		err = errors.Join(err, f.Close())
	}
	if err != nil {
		return "", errors.Join(fmt.Errorf("try the configuration: %w", err), os.RemoveAll(staged))
	}
	return staged, nil
}

// link links to all that is in the folder from, but one name.
func link(from, to, but string) error {
	from, err := filepath.Abs(from)
	if err != nil {
		return err
	}
	entries, err := os.ReadDir(from)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	for _, e := range entries {
		if e.Name() != but && err == nil {
			err = os.Symlink(filepath.Join(from, e.Name()), filepath.Join(to, e.Name()))
		}
	}
	return err
}

// jails finds the jails worth having, in the order of services and then of the configuration.
func (l *look) jails(own, all *config.Config) {
	found := map[string]*Found{}
	stale := map[string]string{} // by jail: a log that is there and that nobody writes
	var order []string
	for i := range all.Jails {
		j := &all.Jails[i]
		if j.Err != nil {
			continue
		}
		f := &Found{Jail: j.Name, Service: j.Name}
		var old string
		if f.Logs, old = l.logs(j.Source.Paths); len(f.Logs) == 0 && old != "" {
			stale[j.Name] = old
		}
		for _, log := range f.Logs {
			l.readers[log] = append(l.readers[log], j.Name)
		}
		f.Journal = len(f.Logs) == 0 && old == "" && len(j.Source.JournalMatch) > 0 && l.runsUnitOf(j.Source.JournalMatch)
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
	l.labelled(found)
	kept := slices.DeleteFunc(order, func(name string) bool {
		f := found[name]
		return name != "sshd" && !f.Enabled && len(f.Logs) == 0 && !f.Journal && len(f.Why) == 0
	})
	slices.SortStableFunc(kept, func(a, b string) int { return cmp.Compare(place(a), place(b)) })
	filters := map[string]*filter.Config{}
	for i := range all.Jails {
		filters[all.Jails[i].Name] = &all.Jails[i].Filter
	}
	for _, name := range kept {
		f := found[name]
		only := slices.ContainsFunc(f.Logs, func(log string) bool { return len(l.readers[log]) == 1 })
		seen := len(f.Why) > 0 && (len(f.Logs) > 0 || f.Journal)
		f.Propose = f.Enabled || !f.Off && !byHand[name] && (name == "sshd" || seen || only)
		if old := stale[name]; f.Propose && old != "" && (len(f.Why) > 0 || name == "sshd") {
			f.Note = old + " is there, and nobody has written to it for a week. It is read, and the journal is not, until the file is gone or backend = systemd says so"
		}
		if f.Propose && f.Note == "" {
			f.Note = l.dates(f.Logs, filters[name])
		}
		l.out.Jails = append(l.out.Jails, *f)
	}
}

// serve notes what is seen of the services, and says at which place each jail is shown.
func (l *look) serve(found map[string]*Found) (place func(jail string) int) {
	places := map[string]int{}
	for i := range services {
		s := &services[i]
		why := l.seen(s)
		var unread []string // jails whose log is the output of a container, which is in no file
		for _, name := range s.jails {
			places[name] = len(places) + 1
			f := found[name]
			if f == nil {
				continue
			}
			f.Service, f.Why = s.title, why
			if c := l.container(s); c != nil && len(f.Logs) == 0 && !f.Journal {
				if lines := contained(c, ""); lines != nil {
					f.Logs, f.Options = []string{c.Log}, lines
				} else if c.Log == "" {
					unread = append(unread, name)
				}
			}
			if s.form == nil || len(f.Logs) == 0 {
				continue
			}
			for _, log := range f.Logs {
				if n, understood := l.sample(log, s.form); n > 0 && understood == 0 && (s.form == object || strings.Contains(filepath.Base(log), "access")) {
					f.Note = fmt.Sprintf("%s: none of its last %d lines understood: %s", log, n, s.asked)
				}
			}
		}
		if len(unread) > 0 {
			c := l.container(s)
			l.out.Trouble = append(l.out.Trouble, fmt.Sprintf("container %s: its output is in no file; if it is in the journal, this has %s read it: backend = systemd, journalmatch = CONTAINER_NAME=%s",
				c.Name, strings.Join(unread, ", "), c.Name))
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
	if c := l.container(s); c != nil {
		why = append(why, "container "+c.Name)
	}
	return why
}

// container is one that the service runs in, nil if there is none.
func (l *look) container(s *service) *machine.Container {
	for i := range l.containers {
		c := &l.containers[i]
		if slices.ContainsFunc(s.images, func(part string) bool { return isService(c, part) }) {
			return c
		}
	}
	return nil
}

// Names that containers are given, the paths of their logs that mean themselves in a configuration, and the numbers in
// their place: 64 hexadecimal digits, of Docker and Podman alike.
var (
	containerName   = regexp.MustCompile(`^[\w.-]{1,64}$`)
	containerLog    = regexp.MustCompile(`^(?:/[\w.@:+,=~-]+)+$`)
	containerNumber = regexp.MustCompile(`[0-9a-f]{64}`)
)

// contained are the lines of a jail whose service is in a container, none if its log cannot be named. Its log has the
// container's number in its path, which the next one of the same service has not. ports are those to shut, "" for those
// that it publishes.
func contained(c *machine.Container, ports string) (lines []string) {
	if len(c.Log) > 1024 || !containerLog.MatchString(c.Log) {
		return nil
	}
	if containerName.MatchString(c.Name) {
		lines = append(lines, "# The container "+c.Name+", and those that come after it:")
	}
	lines = append(lines, "logpath = "+containerNumber.ReplaceAllString(c.Log, "*"))
	var published []string
	for _, p := range c.Ports {
		if port := fmt.Sprint(p.Outside.Port()); p.Protocol == "tcp" && !p.Outside.Addr().IsLoopback() && !slices.Contains(published, port) {
			published = append(published, port)
		}
	}
	if ports = cmp.Or(ports, strings.Join(published, ",")); ports != "" {
		lines = append(lines, "port = "+ports)
	}
	return lines
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

// logs are the files of some patterns that have been written to lately, and one that has not.
func (l *look) logs(patterns []source.Path) (out []string, old string) {
	for _, pattern := range patterns {
		paths, _ := filepath.Glob(l.machine.Root + pattern.Pattern) // a pattern that is none names nothing
		for _, path := range paths {
			info, err := os.Stat(path)
			if err != nil || !info.Mode().IsRegular() {
				continue
			}
			switch name := strings.TrimPrefix(path, l.machine.Root); {
			case l.now.Sub(info.ModTime()) > fresh:
				old = name
			case len(out) < mostLogs && !slices.Contains(out, name):
				out = append(out, name)
			}
		}
	}
	return out, old
}

// Bounds of looking into logs.
const (
	sampleSize  = 256 << 10 // bytes of a log's end
	sampleDates = 200       // lines of it that a date is looked for in
	sampleLogs  = 5         // logs of one jail
)

// end is the lines at the end of a log, and when it was last written to.
func (l *look) end(log string) (lines [][]byte, written time.Time) {
	f, err := os.OpenFile(l.machine.Root+log, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, written // whoever reads it later says why that cannot be
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, written
	}
	from := max(0, info.Size()-sampleSize)
	text, err := io.ReadAll(io.NewSectionReader(f, from, sampleSize))
	if err != nil {
		return nil, written
	}
	if from > 0 {
		_, text, _ = bytes.Cut(text, []byte("\n"))
	}
	for line := range bytes.Lines(text) {
		lines = append(lines, bytes.TrimRight(line, "\r\n"))
	}
	return lines, info.ModTime()
}

// sample counts the last lines of a log and those that a form fits.
func (l *look) sample(log string, form *regexp.Regexp) (lines, understood int) {
	end, _ := l.end(log)
	for _, line := range end {
		if form.Match(line) {
			understood++
		}
	}
	return len(end), understood
}

// dates says what is odd about the dates in a jail's logs: none that is understood, as in a language that nobody reads,
// or those of another zone.
func (l *look) dates(logs []string, c *filter.Config) string {
	rules, err := filter.Compile(*c)
	if err != nil {
		return "" // check says so
	}
	for _, log := range logs[:min(len(logs), sampleLogs)] {
		lines, written := l.end(log)
		lines = lines[max(0, len(lines)-sampleDates):]
		f := filter.New(rules)
		var last time.Time
		zoned := false // the date names its zone, so that it is right
		for _, line := range lines {
			if at, ok := f.Time(line, written); ok {
				last, zoned = at, zone.Match(line)
			}
		}
		switch apart := written.Sub(last); {
		case len(lines) == 0, !last.IsZero() && zoned:
		case last.IsZero():
			return fmt.Sprintf("%s: none of its last %d lines bears a date that is understood; datepattern can say how it is written", log, len(lines))
		case isZone(apart):
			return fmt.Sprintf("%s: its last line is dated %s before it was written; if that is its time zone, logtimezone says so", log, apart.Round(zoneStep))
		case isZone(-apart):
			return fmt.Sprintf("%s: its last line is dated %s after it was written; if that is its time zone, logtimezone says so", log, (-apart).Round(zoneStep))
		}
	}
	return ""
}

// zone is how dates name their zone.
var zone = regexp.MustCompile(`\d(?:Z| ?[+-]\d\d:?\d\d)\b`)

// zoneStep is what zones differ by, or a multiple of it: IANA's tzdata has none that is not, at present.
const zoneStep = 15 * time.Minute

// isZone reports whether two clocks that are so far apart may be of two zones.
func isZone(d time.Duration) bool {
	off := d - d.Round(zoneStep)
	return d >= 2*zoneStep-time.Minute && d <= 26*time.Hour && off.Abs() < time.Minute
}

// mostLogins is how many addresses the logins of the last day may come to: where there are more, they are hardly administrators'.
const mostLogins = 20

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
	may, err := l.machine.Administrators()
	l.trouble("look who administrates this machine", err)
	slices.SortStableFunc(sessions, func(a, b machine.Session) int { return cmp.Compare(rank(a), rank(b)) })
	for _, s := range sessions {
		switch {
		case rank(s) == 2 && !may.Has(s.User), rank(s) == 2 && len(l.out.Never) >= mostLogins:
			continue
		case s.Mine:
			add(s.Addr, "your session")
		case s.Live:
			add(s.Addr, "a session that lasts")
		default:
			add(s.Addr, "an administrator's login of the last day")
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
