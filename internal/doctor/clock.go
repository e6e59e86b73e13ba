package doctor

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"bantam/internal/config"
)

const (
	// maxSkew is how far stamps may be off that are told from old ones: zones lie up to 26 hours apart.
	maxSkew = 26 * time.Hour
	// minSkew is from how far off on stamps are told.
	minSkew = 10 * time.Minute
	// Zones differ by quarters of an hour; a line takes so long at most to be written.
	zoneStep = 15 * time.Minute
	zoneSlip = 90 * time.Second
)

// lookAtZone tells of a log whose last line is stamped in another zone than the jail reads it in. That line was written
// when the file was; what differs by anything else than a zone may be a file that somebody has copied.
func (e *examination) lookAtZone(j *config.Jail, path string, f *form) {
	if f.skewed && !e.skewed[j.Name] && isZone(f.skew) {
		e.skewed[j.Name] = e.tellSkew(j, path, f.skew)
	}
}

// isZone reports whether two clocks that differ by so much may be right, in two zones.
func isZone(off time.Duration) bool {
	return off.Round(zoneStep).Abs() <= maxSkew && (off-off.Round(zoneStep)).Abs() <= zoneSlip
}

// year is what a stamp without one may be off beside what it is: those that seem to lie in the future are read as
// last year's.
const year = 365 * 24 * time.Hour

// tellSkew says that a log's stamps are off, and which zone they seem to be in. It reports whether it is worth it.
func (e *examination) tellSkew(j *config.Jail, path string, off time.Duration) bool {
	for _, y := range []time.Duration{year, year + 24*time.Hour} {
		if isZone(off + y) {
			off += y
		}
	}
	if off.Abs() < minSkew {
		return false
	}
	group := e.group
	e.group = Time
	defer func() { e.group = group }()
	way := "behind"
	if off > 0 {
		way = "ahead of"
	}
	fix := "is the clock of who writes it right?"
	if isZone(off) {
		off = off.Round(zoneStep)
		fix = fmt.Sprintf("set the service's zone to the machine's, or logtimezone in [%s] to the log's", j.Name)
	}
	if isZone(off) && j.Filter.LogTimezone == "" {
		_, here := e.now.Zone()
		there := time.Duration(here)*time.Second + off
		sign := '+'
		if there < 0 {
			sign = '-'
		}
		fix = fmt.Sprintf("logtimezone = UTC%c%02d%02d in [%s], or set the service's zone to the machine's", sign, there.Abs()/time.Hour, there.Abs()%time.Hour/time.Minute, j.Name)
	}
	e.fault(fix, "[%s] the stamps in %s are %s %s the clock: after a restart its lines count at the wrong time", j.Name, path, length(off), way)
	return true
}

// lookAtTime looks at the clock and at the zone in which stamps are read.
func (e *examination) lookAtTime(context.Context) {
	var t unix.Timex
	switch _, err := unix.Adjtimex(&t); {
	case err != nil:
		e.unseen("whether the clock is synchronised", err)
	case t.Status&unix.STA_UNSYNC != 0:
		e.doubt("sudo timedatectl set-ntp true, or install chrony", "the clock is %s and nothing keeps it right", e.now.Format(time.DateTime))
	default:
		e.ok("the clock is %s and synchronised", e.now.Format(time.DateTime+" MST"))
	}
	e.lookAtLocal()
}

// lookAtLocal compares the zone of the daemon with the machine's.
func (e *examination) lookAtLocal() {
	environ, zone := filepath.Join(e.Machine.Root, "/proc/self/environ"), "the program's"
	if e.running {
		environ, zone = e.proc("environ"), "the daemon's"
	}
	text, err := os.ReadFile(environ)
	if err != nil {
		e.unseen("the zone of the daemon", err)
		return
	}
	name, set := "", false
	for word := range bytes.SplitSeq(text, []byte{0}) {
		if value, is := strings.CutPrefix(string(word), "TZ="); is {
			name, set = strings.TrimPrefix(value, ":"), true
		}
	}
	machine, where := machineZone(e.Machine.Root)
	if !set {
		e.ok("stamps without a zone are read as %s", where)
		return
	}
	its, err := zoneNamed(name)
	if err != nil {
		e.fault("take TZ out of the unit, or name a zone of /usr/share/zoneinfo", "%s zone TZ=%q is none: stamps are read as UTC", zone, name)
		return
	}
	_, here := e.now.In(machine).Zone()
	if _, there := e.now.In(its).Zone(); here != there {
		e.doubt("take TZ out of the unit's environment if logs are written in the machine's zone",
			"stamps without a zone are read as TZ=%s, the machine's zone is %s", name, where)
		return
	}
	e.ok("stamps without a zone are read as %s, as the machine's", name)
}

func zoneNamed(name string) (*time.Location, error) {
	if filepath.IsAbs(name) {
		text, err := os.ReadFile(name)
		if err != nil {
			return nil, err
		}
		return time.LoadLocationFromTZData(name, text)
	}
	return time.LoadLocation(name)
}

// machineZone is what /etc/localtime says, as the file and as people name it; UTC without one.
func machineZone(root string) (*time.Location, string) {
	path := filepath.Join(root, "/etc/localtime")
	text, err := os.ReadFile(path)
	if err != nil {
		return time.UTC, "UTC"
	}
	zone, err := time.LoadLocationFromTZData("localtime", text)
	if err != nil {
		return time.UTC, "UTC"
	}
	if link, err := os.Readlink(path); err == nil {
		if _, name, found := strings.Cut(link, "zoneinfo/"); found {
			return zone, name
		}
	}
	return zone, "the zone of /etc/localtime"
}

// lookAtEntries compares the clock with the last that the database knows.
func (e *examination) lookAtEntries(last time.Time) {
	ahead := last.Sub(e.now)
	if ahead < minSkew {
		return
	}
	group := e.group
	e.group = Time
	defer func() { e.group = group }()
	e.fault("set the clock, then sudo systemctl restart bantam", "the clock is behind: the database has a ban from %s, %s from now", last.Format(time.DateTime), length(ahead))
}
