package doctor

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"bantam/internal/config"
	"bantam/internal/jail"
	"bantam/internal/source"
)

// A log is one source as the daemon says, or as it would be without one.
type log struct {
	source.Status
	jails []string
	names []string // in place of Status, of those that are waited for together
}

// lookAtSources looks whether every jail has something to read, and whether that is understood.
func (e *examination) lookAtSources(context.Context) {
	logs := e.logs()
	served := map[string]bool{} // jails that read something
	for _, l := range logs {
		if l.State == source.Reading || l.State == source.Ended {
			for _, name := range l.jails {
				served[name] = true
			}
		}
	}
	e.lookAtStamps()
	var waiting []log // by what waits for them: the same jails may name several that mean the same
	for _, l := range logs {
		if l.State != source.Waiting {
			e.lookAtLog(l)
			continue
		}
		i := slices.IndexFunc(waiting, func(w log) bool { return slices.Equal(w.jails, l.jails) })
		if i < 0 {
			i = len(waiting)
			waiting = append(waiting, log{jails: l.jails})
		}
		waiting[i].names = append(waiting[i].names, l.Name)
	}
	for _, w := range waiting {
		e.tellWaiting(w, !slices.ContainsFunc(w.jails, func(name string) bool { return !served[name] }))
	}
	for _, j := range e.status.Jails {
		if j.Aside == "" && j.Jail != jail.Manual && len(j.Sources) == 0 {
			e.fault("give it a logpath or a journalmatch", "[%s] has nothing to read", j.Jail)
		}
		for _, f := range j.Faults {
			if f.Overruns > 0 {
				e.doubt("a simpler expression in its filter; bantam regex tries it", "[%s] %s took too many steps in %s, and matched none of them", j.Jail, f.Option, plural(int(f.Overruns), "line"))
			}
			if f.Misses > 0 {
				e.doubt("it is an error in Bantam: please report it", "[%s] %s nearly missed %s", j.Jail, f.Option, were(int(f.Misses), "match", "matches"))
			}
		}
	}
	e.lookAtLimits(logs)
}

// logs are the sources, each once, by name.
func (e *examination) logs() (logs []log) {
	add := func(st source.Status, name string) {
		i := slices.IndexFunc(logs, func(l log) bool { return l.Name == st.Name && l.Match == st.Match })
		if i < 0 {
			i = len(logs)
			logs = append(logs, log{Status: st})
		}
		if !slices.Contains(logs[i].jails, name) {
			logs[i].jails = append(logs[i].jails, name)
		}
	}
	if e.running {
		for _, j := range e.status.Jails {
			for _, st := range j.Sources {
				add(st, j.Jail)
			}
		}
		return logs
	}
	if e.config == nil {
		return nil
	}
	for i := range e.config.Jails {
		if j := &e.config.Jails[i]; j.Err == nil {
			for _, st := range sourcesOf(&j.Source) {
				add(st, j.Name)
			}
		}
	}
	return logs
}

// sourcesOf is what a jail would read.
func sourcesOf(c *source.Config) (all []source.Status) {
	for _, p := range c.Paths {
		if p.Pattern == source.Stdin {
			continue
		}
		paths, _ := filepath.Glob(p.Pattern) // config has refused bad ones
		if len(paths) == 0 {
			all = append(all, source.Status{Name: p.Pattern, State: source.Waiting})
		}
		for _, path := range paths {
			st := source.Status{Name: path, State: source.Reading}
			if f, _, err := openLog(path); err != nil {
				st.State = err.Error()
			} else {
				_ = f.Close()
			}
			all = append(all, st)
		}
	}
	files := slices.ContainsFunc(all, func(st source.Status) bool { return st.State != source.Waiting })
	if c.Backend == source.Systemd || c.JournalMatch != nil && !files && cmp.Or(c.Backend, source.Auto) == source.Auto {
		st := source.Status{Name: source.Journal, State: source.Reading}
		if c.JournalDir == "" && len(c.JournalFiles) == 0 && c.JournalNamespace == "" && !hasJournal() {
			if len(all) > 0 {
				return all // and waits for the files
			}
			st.State = "there is no journal in /var/log/journal or /run/log/journal"
		}
		return []source.Status{st}
	}
	return all
}

func hasJournal() bool {
	for _, dir := range []string{"/var/log/journal", "/run/log/journal"} {
		if found, _ := filepath.Glob(filepath.Join(dir, "*/*.journal")); len(found) > 0 {
			return true
		}
	}
	return false
}

// lookAtLog looks at one source that is there.
func (e *examination) lookAtLog(l log) {
	name, who := l.Name, jailsOf(l.jails)
	if l.Name == source.Journal {
		name = "the journal"
		if l.Match != "" {
			name += " (" + l.Match + ")"
		}
	}
	switch {
	case l.State != source.Reading && l.State != source.Ended && l.State != source.Starting:
		fix := "ls -l shows who may read it"
		if l.Name == source.Journal {
			fix = "journalctl -n 1, as root, shows whether there is one; else name a file as logpath"
		}
		if !e.running && os.Geteuid() != 0 {
			e.doubt("sudo bantam doctor", "%s: %s cannot be read without privilege", who, name)
			return
		}
		e.fault(fix, "%s: %s cannot be read: %s", who, name, l.State)
		return
	case !e.running:
		e.ok("%s: %s is there", who, name)
	case !l.Silent.IsZero():
		e.doubt("does the service run, and does it still log there?", "%s: %s is silent since %s; it used to have %.0f lines an hour",
			who, name, l.Silent.Format(time.DateTime), l.PerHour)
	case !l.Live:
		e.ok("%s: %s, catching up: %s, %d bytes to go", who, name, plural(int(l.Lines), "line"), l.Lag)
	default:
		last := ""
		if !l.Last.IsZero() {
			last = ", the last " + length(e.now.Sub(l.Last)) + " ago"
		}
		e.ok("%s: %s, %s read%s", who, name, plural(int(l.Lines), "line"), last)
	}
	e.lookAtForm(l)
}

// tellWaiting tells of files that the same jails wait for. served is true if each of those reads another: then it may be
// meant, and is if the library names them for another distribution.
func (e *examination) tellWaiting(l log, served bool) {
	state := Wrong
	if served {
		state = Doubtful
		if !slices.ContainsFunc(l.jails, func(name string) bool { return !e.fromLibrary(name) }) {
			state = OK
		}
	}
	which := "which is not there"
	if len(l.names) > 1 {
		which = "of which none is there"
	}
	e.add(state, waitsFor(l.names[0]), "%s waits for %s, %s", jailsOf(l.jails), of(l.names), which)
}

// fromLibrary reports whether a jail's logpath is the one that comes with the program.
func (e *examination) fromLibrary(jail string) bool {
	if e.config == nil {
		return false
	}
	v, ok := e.config.Value(jail, "logpath")
	return ok && strings.HasPrefix(v.File, "library/")
}

// waitsFor is the way on of a jail whose file is not there: those that look like it.
func waitsFor(path string) string {
	similar := alike(path)
	if len(similar) == 0 {
		dir := filepath.Dir(path)
		if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
			return "there is no folder " + dir + " either: is the service installed? set logpath to where it logs, or enabled = false"
		}
		return "set logpath to where the service logs, or enabled = false; it is read as soon as it is there"
	}
	return "is it one of " + strings.Join(similar, ", ") + "? then write that as logpath"
}

// alike are files that a path may have meant: in its folder or the one above, with a name that begins alike.
func alike(path string) (found []string) {
	const most = 3
	base := strings.ToLower(filepath.Base(path))
	stem := strings.FieldsFunc(base, func(r rune) bool { return strings.ContainsRune(".-_*?[]", r) })
	if len(stem) == 0 {
		return nil
	}
	front := stem[0][:min(4, len(stem[0]))]
	for _, pattern := range []string{filepath.Join(filepath.Dir(path), "*"), filepath.Join(filepath.Dir(path), "*", "*"), filepath.Join(filepath.Dir(filepath.Dir(path)), "*")} {
		paths, _ := filepath.Glob(pattern)
		for _, p := range paths[:min(len(paths), 10_000)] {
			name := strings.ToLower(filepath.Base(p))
			if len(found) == most || !strings.HasPrefix(name, front) || slices.Contains(found, p) || rotated(name) {
				continue
			}
			if info, err := os.Stat(p); err == nil && info.Mode().IsRegular() {
				found = append(found, p)
			}
		}
	}
	return found
}

// rotated reports whether a name is that of a log's older part: auth.log.1, auth.log.2.gz.
func rotated(name string) bool {
	end := filepath.Ext(name)
	_, err := strconv.Atoi(strings.TrimPrefix(end, "."))
	return err == nil || slices.Contains([]string{".gz", ".xz", ".zst", ".bz2"}, end)
}

// lookAtLimits compares what the kernel lets a user watch and a process open with what the logs take.
func (e *examination) lookAtLimits(logs []log) {
	files := 0
	for _, l := range logs {
		if filepath.IsAbs(l.Name) {
			files++
		}
	}
	if files == 0 {
		return
	}
	sysctl := func(name string) (n int) {
		n, _ = strconv.Atoi(strings.TrimSpace(string(readSome(filepath.Join(e.Machine.Root, "/proc/sys/fs/inotify", name), 64))))
		return n
	}
	// Each file takes a watch or two, of its folder and those that links lead to; others of the user have the rest.
	if n := sysctl("max_user_watches"); n > 0 && n < 4*files {
		e.doubt(fmt.Sprintf("sudo sysctl fs.inotify.max_user_watches=%d, and a line in /etc/sysctl.d to keep it", max(8192, 8*files)),
			"%s and a limit of %s: the rest is polled", plural(files, "log"), were(n, "inotify watch", "inotify watches"))
	}
	if n := sysctl("max_user_instances"); n > 0 && n < 8 {
		e.doubt("sudo sysctl fs.inotify.max_user_instances=128, and a line in /etc/sysctl.d to keep it", "a limit of %s for each user: logs may be polled", plural(n, "inotify instance"))
	}
	if !e.running {
		return
	}
	if most, err := openFiles(e.status.PID); err == nil && most < uint64(4*files+64) {
		e.fault("LimitNOFILE=65536 in a drop-in: sudo systemctl edit bantam", "%s and a limit of %s for the daemon", plural(files, "log"), plural(int(most), "open file"))
	}
}

// openFiles is how many files a process may have open.
func openFiles(pid int) (uint64, error) {
	var limit unix.Rlimit
	err := unix.Prlimit(pid, unix.RLIMIT_NOFILE, nil, &limit)
	return limit.Cur, err
}

// jailOf is the configuration of a jail, nil if there is none that works.
func (e *examination) jailOf(name string) *config.Jail {
	if e.config == nil {
		return nil
	}
	for i := range e.config.Jails {
		if j := &e.config.Jails[i]; j.Name == name && j.Err == nil {
			return j
		}
	}
	return nil
}
