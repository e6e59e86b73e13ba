package setup

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"bantam/internal/machine"
)

// Labels by which a container says itself what reads its log: names of jails, separated by commas, and the ports that
// they shut, in place of those that it publishes.
const (
	jailLabel = "bantam.jail"
	portLabel = "bantam.jail.port"
)

// Labels that images and Compose give, by which a service shows where the image's name says nothing:
// pre-defined annotation keys of the OCI image specification, and Compose's of docker/compose pkg/api/labels.go.
const (
	titleLabel   = "org.opencontainers.image.title"
	sourceLabel  = "org.opencontainers.image.source"
	composeLabel = "com.docker.compose.service"
)

// isService reports whether a container shows that it is of an image that services name so. The image's name may hold
// more than the part, labels must name it exactly: what somebody calls a service may mean anything.
func isService(c *machine.Container, part string) bool {
	return strings.Contains(c.Image, part) || strings.EqualFold(c.Labels[titleLabel], part) || c.Labels[composeLabel] == part ||
		slices.Contains(strings.Split(strings.TrimSuffix(c.Labels[sourceLabel], "/"), "/"), part)
}

// ports is how a jail names them: numbers and ranges.
var ports = regexp.MustCompile(`^\d{1,5}([:-]\d{1,5})?(,\d{1,5}([:-]\d{1,5})?){0,14}$`)

// maxLabel bounds a label that is looked at, in bytes.
const maxLabel = 256

// labelled gives jails the logs of the containers that name them.
func (l *look) labelled(found map[string]*Found) {
	by := map[string]string{} // the container that a jail was given
	for i := range l.containers {
		c := &l.containers[i]
		label, is := c.Labels[jailLabel]
		if !is {
			continue
		}
		wrong := func(format string, args ...any) {
			l.out.Trouble = append(l.out.Trouble, fmt.Sprintf("container %s: ", c.Name)+fmt.Sprintf(format, args...))
		}
		port := strings.ReplaceAll(c.Labels[portLabel], " ", "")
		switch {
		case len(label) > maxLabel || len(port) > maxLabel:
			wrong("its label %s is longer than %d bytes", jailLabel, maxLabel)
			continue
		case port != "" && !ports.MatchString(port):
			wrong("its label %s = %q names no ports such as 80,443", portLabel, port)
			port = ""
		}
		for name := range strings.SplitSeq(label, ",") {
			name = strings.TrimSpace(name)
			f, lines := found[name], contained(c, port)
			switch {
			case f == nil:
				wrong("its label %s names %q, and there is no such jail", jailLabel, name)
			case c.Log == "":
				wrong("its label names jail %s, and it writes no log file: run it with the log driver json-file or k8s-file", name)
			case lines == nil:
				wrong("its label names jail %s, and its log %q is none that a configuration can name", name, c.Log)
			case by[name] != "":
				wrong("its label names jail %s, which reads the log of container %s already", name, by[name])
			case len(f.Logs) > 0 && len(f.Options) == 0:
				wrong("its label names jail %s, which reads %s already", name, f.Logs[0])
			default:
				by[name] = c.Name
				why := "container " + c.Name
				if !slices.Contains(f.Why, why) {
					f.Why = append(f.Why, why)
				}
				f.Logs, f.Journal, f.Options = []string{c.Log}, false, lines
			}
		}
	}
}
