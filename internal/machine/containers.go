package machine

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"path"
	"slices"
	"strconv"
	"strings"
)

// dockerFolder is where Docker keeps what it has, if its daemon.json does not say otherwise.
const dockerFolder = "/var/lib/docker"

// containers are Docker's. Podman keeps names and ports in a database of its own, whose form changes.
func (m Machine) containers() ([]Container, error) {
	folder := dockerFolder
	var daemon struct {
		Root string `json:"data-root"`
	}
	if b, err := m.read("/etc/docker/daemon.json", maxSmall); err == nil && json.Unmarshal(b, &daemon) == nil && path.IsAbs(daemon.Root) {
		folder = daemon.Root
	}
	folder = path.Join(folder, "containers")
	names, err := m.names(folder)
	errs := []error{unless(err)}
	var out []Container
	for _, name := range names {
		b, err := m.read(path.Join(folder, name, "config.v2.json"), maxSmall)
		if err != nil {
			errs = append(errs, unless(err))
			continue
		}
		host, err := m.read(path.Join(folder, name, "hostconfig.json"), maxSmall)
		errs = append(errs, unless(err))
		c, runs, err := parseContainer(b, host)
		switch {
		case err != nil:
			errs = append(errs, fmt.Errorf("read %s: %w", m.path(path.Join(folder, name)), err))
		case runs:
			out = append(out, c)
		}
	}
	slices.SortFunc(out, func(a, b Container) int { return strings.Compare(a.Name, b.Name) })
	return out, errors.Join(errs...)
}

// A binding is where a port is published; empty fields leave it to Docker.
type binding struct{ HostIP, HostPort string }

// parseContainer reads config.v2.json, container.Container of Moby's daemon/container, and hostconfig.json,
// api/types/container.HostConfig. host may be empty.
func parseContainer(config, host []byte) (c Container, runs bool, err error) {
	var v struct {
		Name    string
		LogPath string
		State   struct{ Running bool }
		Config  struct {
			Image  string
			Labels map[string]string
		}
		NetworkSettings struct{ Ports map[string][]binding }
	}
	if err := json.Unmarshal(config, &v); err != nil {
		return c, false, err
	}
	var wanted struct{ PortBindings map[string][]binding }
	if len(host) > 0 {
		if err := json.Unmarshal(host, &wanted); err != nil {
			return c, false, err
		}
	}
	c = Container{Name: strings.TrimPrefix(v.Name, "/"), Image: v.Config.Image, Labels: v.Config.Labels, Log: v.LogPath}
	// What was asked for says less than what is: "any port".
	c.Ports = published(wanted.PortBindings)
	if ports := published(v.NetworkSettings.Ports); len(ports) > 0 {
		c.Ports = ports
	}
	return c, v.State.Running, nil
}

// published reads ports as Docker writes them: "80/tcp" with the places where they are published.
func published(all map[string][]binding) (out []Published) {
	for _, key := range slices.Sorted(maps.Keys(all)) {
		inside, protocol, _ := strings.Cut(key, "/")
		in, err := strconv.ParseUint(inside, 10, 16)
		if err != nil {
			continue
		}
		for _, b := range all[key] {
			addr, err := netip.ParseAddr(cmp.Or(b.HostIP, "0.0.0.0"))
			port, err2 := strconv.ParseUint(b.HostPort, 10, 16)
			if err == nil && err2 == nil && port > 0 {
				out = append(out, Published{cmp.Or(protocol, "tcp"), netip.AddrPortFrom(addr, uint16(port)), uint16(in)})
			}
		}
	}
	return out
}
