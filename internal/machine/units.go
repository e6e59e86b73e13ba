package machine

import (
	"bytes"
	"errors"
	"path"
	"slices"
	"strings"
)

// Where systemd's services have their groups: one hierarchy for all, or one of its own beside the older ones.
var serviceFolders = []string{"/sys/fs/cgroup/system.slice", "/sys/fs/cgroup/unified/system.slice", "/sys/fs/cgroup/systemd/system.slice"}

// maxDepth bounds slices within slices.
const maxDepth = 4

func (m Machine) units() ([]string, error) {
	var out []string
	var errs []error
	for _, folder := range serviceFolders {
		errs = append(errs, m.unitsIn(folder, maxDepth, &out))
	}
	slices.Sort(out)
	return slices.Compact(out), errors.Join(errs...)
}

func (m Machine) unitsIn(folder string, depth int, out *[]string) error {
	names, err := m.names(folder)
	var errs []error
	for _, name := range names {
		inside := path.Join(folder, name)
		switch {
		case strings.HasSuffix(name, ".slice") && depth > 1:
			errs = append(errs, m.unitsIn(inside, depth-1, out))
		case strings.HasSuffix(name, ".service") && m.populated(inside, maxDepth):
			*out = append(*out, strings.TrimPrefix(name, "_")) // cg_escape in systemd's cgroup-util.c
		}
	}
	return errors.Join(append(errs, unless(err))...)
}

// populated reports whether a group has a process in it or below: Documentation/admin-guide/cgroup-v2.rst of the
// kernel. The older hierarchies have no cgroup.events.
func (m Machine) populated(group string, depth int) bool {
	if events, err := m.read(path.Join(group, "cgroup.events"), maxSmall); err == nil {
		return bytes.Contains(events, []byte("populated 1"))
	}
	if procs, err := m.read(path.Join(group, "cgroup.procs"), 1); err == nil && len(procs) > 0 {
		return true
	}
	if depth <= 1 {
		return false
	}
	names, _ := m.names(group)
	return slices.ContainsFunc(names, func(name string) bool { return m.populated(path.Join(group, name), depth-1) })
}
