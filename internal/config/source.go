package config

import (
	"fmt"
	"io/fs"
	"net/netip"
	"strconv"
	"strings"

	"bantam"
	"bantam/internal/source"
)

// backendHint names the back ends there are.
const backendHint = "use auto, inotify, polling, systemd, syslog or command"

// backend reads the name of a back end and its parameters.
func (r *jailReader) backend(v *Value, text string) {
	name, params, err := nameParams(trim(text))
	if err != nil {
		r.fail(problemAt(v, err.Error(), optionHint(text, v)))
		return
	}
	s := &r.jail.Source
	switch name := strings.ToLower(name); name {
	case source.Auto, source.Inotify, source.Polling, source.Systemd, source.Syslog, source.Command:
		s.Backend = name
	case "pyinotify":
		s.Backend = source.Inotify
	default:
		hint := backendHint
		if h := commentHint(text, v); h != "" {
			hint = h
		}
		r.fail(problemAt(v, "unknown backend "+quote(name), hint))
		return
	}
	known := backendParams[s.Backend]
	for _, p := range params {
		key := strings.ToLower(p.key)
		read := known[key]
		if read == nil {
			takes := "the backend " + s.Backend + " takes no parameter " + quote(p.key)
			r.warn(problemAt(v, takes, "it takes "+backendTakes[s.Backend]))
			continue
		}
		if err := read(r, v, p); err != nil {
			r.fail(problemAt(v, fmt.Sprintf("%s: %v", printable(key), err), ""))
			return
		}
	}
	switch {
	case s.Backend == source.Syslog && len(s.Listen) == 0:
		r.fail(problemAt(v, "a syslog needs an address to listen at", "write syslog[listen=udp:127.0.0.1:5140]"))
	case s.Backend == source.Command && trim(s.Command) == "":
		r.fail(problemAt(v, "there is no command to run", `write command[run="podman logs --follow --since 0s web"]`))
	case s.Backend == source.Syslog && len(s.From) == 0 && listensAbroad(s.Listen):
		r.warn(problemAt(v, "it listens to the network and takes messages of this machine only", "add from=ADDRESS, or several with blanks between"))
	}
}

// A paramReader reads one parameter of a back end.
type paramReader func(r *jailReader, v *Value, p param) error

// backendTakes are the parameters of each back end, for people.
var backendTakes = map[string]string{
	source.Auto: "envelope", source.Inotify: "envelope", source.Polling: "envelope",
	source.Systemd: "journalpath, journalfiles and namespace",
	source.Syslog:  "listen, from and mode",
	source.Command: "run",
}

// backendParams are the parameters of each back end.
var backendParams = map[string]map[string]paramReader{
	source.Auto:    {"envelope": envelopeParam},
	source.Inotify: {"envelope": envelopeParam},
	source.Polling: {"envelope": envelopeParam},
	source.Systemd: {
		"journalpath": func(r *jailReader, _ *Value, p param) error {
			r.jail.Source.JournalDir = p.value
			return nil
		},
		"journalfiles": func(r *jailReader, _ *Value, p param) error {
			r.jail.Source.JournalFiles = fields(p.value)
			return nil
		},
		"namespace": func(r *jailReader, _ *Value, p param) error {
			r.jail.Source.JournalNamespace = p.value
			return nil
		},
		"journalflags": noEffect,
		"rotated":      noEffect,
	},
	source.Syslog: {
		"listen": func(r *jailReader, _ *Value, p param) error {
			r.jail.Source.Listen = fields(p.value)
			return nil
		},
		"from": func(r *jailReader, _ *Value, p param) error {
			for _, word := range fields(p.value) {
				id, err := bantam.ParsePrefix(word)
				if err != nil {
					return err
				}
				prefix, _ := id.Prefix()
				r.jail.Source.From = append(r.jail.Source.From, prefix)
			}
			return nil
		},
		"mode": func(r *jailReader, _ *Value, p param) error {
			mode, err := strconv.ParseUint(p.value, 8, 32)
			if err != nil || mode == 0 || mode > 0o777 {
				return fmt.Errorf("%s is none: write 0660", quote(p.value))
			}
			r.jail.Source.Mode = fs.FileMode(mode)
			return nil
		},
	},
	source.Command: {
		"run": func(r *jailReader, _ *Value, p param) error {
			r.jail.Source.Command = p.value
			return nil
		},
	},
}

func noEffect(r *jailReader, v *Value, p param) error {
	r.warn(problemAt(v, p.key+" has no effect: journals are read through journalctl, rotated ones included", ""))
	return nil
}

func envelopeParam(r *jailReader, _ *Value, p param) error {
	switch value := strings.ToLower(p.value); value {
	case source.Auto, source.Docker, source.CRI, source.Plain:
		r.jail.Source.Envelope = value
		return nil
	}
	return fmt.Errorf("%s is none: use auto, docker, cri or none", quote(p.value))
}

// listensAbroad reports whether an address can be reached from other machines.
func listensAbroad(listen []string) bool {
	for _, at := range listen {
		network, address, _ := strings.Cut(at, ":")
		if network == "unix" {
			continue
		}
		ap, err := netip.ParseAddrPort(address)
		if err != nil || !ap.Addr().IsLoopback() {
			return true
		}
	}
	return false
}
