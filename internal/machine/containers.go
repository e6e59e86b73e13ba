package machine

import (
	"bytes"
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

// Where Podman keeps root's containers, and what it knows of those that run, if storage.conf does not say otherwise:
// graphroot and runroot of containers-storage.conf(5), with the overlay driver.
const (
	podmanFolder = "/var/lib/containers/storage/overlay-containers"
	podmanRuns   = "/run/containers/storage/overlay-containers"
)

// containers are Docker's and Podman's.
func (m Machine) containers() ([]Container, error) {
	dockers, err := m.dockers()
	podmans, err2 := m.podmans()
	out := append(dockers, podmans...)
	slices.SortFunc(out, func(a, b Container) int { return strings.Compare(a.Name, b.Name) })
	return out, errors.Join(err, err2)
}

// podmans are Podman's. Labels and ports are in a database of its own, whose form changes: they are not told. A file
// of their output they have with the log driver k8s-file; with journald, the other usual one, it is the journal.
func (m Machine) podmans() (out []Container, err error) {
	list := path.Join(podmanFolder, "containers.json")
	b, err := m.read(list, maxSmall)
	if err != nil {
		return nil, unless(err)
	}
	// Container of containers/storage, containers.go, and RuntimeContainerMetadata of containers/podman, libpod/storage.go.
	var all []struct {
		ID       string   `json:"id"`
		Names    []string `json:"names"`
		Metadata string   `json:"metadata"`
	}
	if err := json.Unmarshal(b, &all); err != nil {
		return nil, fmt.Errorf("read %s: %w", m.path(list), err)
	}
	for _, v := range all {
		var metadata struct {
			Image string `json:"image-name"`
		}
		if len(v.Names) == 0 || v.ID == "" || strings.Trim(v.ID, "0123456789abcdef") != "" || json.Unmarshal([]byte(v.Metadata), &metadata) != nil {
			continue // another program's than Podman
		}
		pid, err := m.read(path.Join(podmanRuns, v.ID, "userdata/pidfile"), maxSmall)
		if err != nil {
			continue // it has never run since the machine was started
		}
		if _, runs := m.process(number(bytes.TrimSpace(pid))); !runs {
			continue
		}
		c := Container{Name: v.Names[0], Image: metadata.Image}
		log := path.Join(podmanFolder, v.ID, "userdata/ctr.log")
		if f, err := m.open(log); err == nil {
			c.Log = log
			_ = f.Close() // nothing was written
		}
		out = append(out, c)
	}
	return out, nil
}

// dockers are Docker's.
func (m Machine) dockers() ([]Container, error) {
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
