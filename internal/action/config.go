package action

import (
	"fmt"
	"iter"
	"log/slog"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"time"
)

// Kinds of actions, by who carries them out.
const (
	Native = "native" // the program itself
	Shell  = "shell"  // the system's sh, by the commands of a file of action.d
	Python = "python" // a helper python3, by a class of a file of action.d
)

// Families of addresses as configurations name them; "" is what is no address, and
// every address where an action makes no difference.
const (
	Inet4 = "inet4"
	Inet6 = "inet6"
)

// A Config is one action of one jail.
type Config struct {
	Jail string
	// Name is the action's name: "bantam", or a file of action.d.
	Name string
	// Kind is Native, Shell or Python; only Native actions lack what follows Params.
	Kind string
	// Made is true for a Shell action whose objects the program makes itself, in the kernel; if
	// not, WhyShell says why not, for people.
	Made     bool
	WhyShell string
	// Title tells the actions of one jail apart: actname, or what is made of Name.
	Title string
	// Params are the parameters in its brackets, substituted: port, protocol, type…
	Params map[string]string

	// Python is the file that holds the class, absolute.
	Python string

	// Families is true if something is different for IPv4 and for IPv6. Then Inet4 and
	// Inet6 are what runs for them, and Any is for bans of what is no address.
	// Otherwise all three are alike.
	Families          bool
	Any, Inet4, Inet6 Commands

	OnDemand      bool // it starts with the first ban of a family
	RepairOnUnban bool // a failing unban may repair, too
	NoRestored    bool // it is not for bans from before a restart
	Timeout       time.Duration

	// Properties are all its other options and parameters, tags replaced but for those that
	// depend on family or ban; NAME?family=inet6 for one family.
	Properties map[string]string
	// Places are where its options were written, as far as a file has them.
	Places map[string]Place
}

// A Place is a line of a file, from 1 on.
type Place struct {
	File string
	Line int
}

// Commands are the commands of an action for one family, each a script for sh. All tags
// that are not about a ban are replaced: <ip>, <matches> and their like are left, as
// are those that nothing knows. Empty means that there is nothing to do, but for Reban,
// which is Ban then, and for Repair, which is Stop and Start.
type Commands struct {
	Start, Stop, Flush, Reload, Check, Repair, Ban, Prolong, Reban, Unban string
}

// ByOption are the commands by the options that they are written as.
func (c *Commands) ByOption() iter.Seq2[string, *string] {
	return func(yield func(string, *string) bool) {
		for _, o := range []struct {
			option string
			to     *string
		}{
			{"actionstart", &c.Start},
			{"actionstop", &c.Stop},
			{"actionflush", &c.Flush},
			{"actionreload", &c.Reload},
			{"actioncheck", &c.Check},
			{"actionrepair", &c.Repair},
			{"actionban", &c.Ban},
			{"actionprolong", &c.Prolong},
			{"actionreban", &c.Reban},
			{"actionunban", &c.Unban},
		} {
			if !yield(o.option, o.to) {
				return
			}
		}
	}
}

// For are the commands for a family.
func (c *Config) For(family string) *Commands {
	switch {
	case family == Inet4:
		return &c.Inet4
	case family == Inet6:
		return &c.Inet6
	}
	return &c.Any
}

// key tells actions apart.
func (c *Config) key() string { return c.Jail + "\x00" + c.Title }

// same reports whether the two do the same.
func (c *Config) same(d *Config) bool {
	a, b := *c, *d
	a.Places, b.Places = nil, nil
	return reflect.DeepEqual(a, b)
}

// open makes the worker of an action. Nothing runs yet.
func open(log *slog.Logger, world *World, c Config) (Worker, error) {
	switch c.Kind {
	case Shell:
		return newShell(log, world, &c), nil
	case Python:
		return newPython(log, world, &c), nil
	case Native:
		if c.Name == LogName {
			return newLog(log, world, &c), nil
		}
	}
	return nil, fmt.Errorf("an action of kind %q is not carried out here", c.Kind)
}

// Property is an option or parameter of the action by its name, as status and clients show it:
// commands are those for what is no address, tags replaced but for those of a ban. ok is false if
// there is none of that name.
func (c *Config) Property(name string) (value string, ok bool) {
	switch name {
	case "timeout":
		return strconv.FormatInt(int64(c.Timeout/time.Second), 10), true
	case "actionstart_on_demand":
		return strconv.FormatBool(c.OnDemand), true
	case "actionrepair_on_unban":
		return strconv.FormatBool(c.RepairOnUnban), true
	case "norestored":
		return strconv.FormatBool(c.NoRestored), true
	}
	for option, text := range c.Any.ByOption() {
		if option == name {
			return *text, true
		}
	}
	if value, ok = c.Properties[name]; !ok && c.Kind != Shell {
		value, ok = c.Params[name]
	}
	return value, ok
}

// PropertyNames are the names that Property knows, sorted.
func (c *Config) PropertyNames() []string {
	names := []string{"timeout", "actionstart_on_demand", "actionrepair_on_unban", "norestored"}
	for option := range c.Any.ByOption() {
		names = append(names, option)
	}
	more := c.Properties
	if c.Kind != Shell {
		more = c.Params
	}
	names = slices.AppendSeq(names, maps.Keys(more))
	slices.Sort(names)
	return slices.Compact(names)
}
