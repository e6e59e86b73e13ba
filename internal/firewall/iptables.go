package firewall

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"os/exec"
	"slices"
	"strings"
	"time"

	"bantam"
)

// programTime is how long iptables may take; it waits for others' changes.
const programTime = 30 * time.Second

// A runner runs programs and waits for them.
type runner struct {
	start func(*exec.Cmd) error
}

// run gives a program its input and returns what it prints.
func (r runner) run(ctx context.Context, in string, name string, args ...string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, programTime)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	var out, said bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(in), &out, &said
	cmd.Env = []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C"}
	cmd.WaitDelay = time.Second
	err := r.start(cmd)
	if err == nil {
		err = cmd.Wait()
	}
	if err == nil {
		return out.Bytes(), nil
	}
	text := said.String()
	err = fmt.Errorf("%s: %w: %.300q", name, err, strings.TrimSpace(text))
	if strings.Contains(text, "Permission denied") {
		err = fmt.Errorf("%w: %w", ErrPrivilege, err)
	}
	return nil, err
}

// restore carries out lines of iptables-restore on the table filter, all of them
// or none.
func (r runner) restore(ctx context.Context, program, lines string) error {
	if lines == "" {
		return nil
	}
	_, err := r.run(ctx, "*filter\n"+lines+"COMMIT\n", program+"-restore", "--noflush", "-w")
	if err != nil {
		return fmt.Errorf("%w: %w", ErrUnknownState, err)
	}
	return nil
}

// A saved is what iptables-save prints of the table filter.
type saved struct {
	chains map[string]bool
	rules  []savedRule
}

type savedRule struct {
	chain, line string // the line without its -A and chain
	words       []string
}

// save reads the table filter back.
func (r runner) save(ctx context.Context, program string) (*saved, error) {
	out, err := r.run(ctx, "", program+"-save", "-t", "filter")
	if err != nil {
		return nil, err
	}
	return parseSaved(string(out)), nil
}

func parseSaved(out string) *saved {
	s := &saved{chains: make(map[string]bool)}
	for line := range strings.Lines(out) {
		line = strings.TrimSuffix(line, "\n")
		if rest, ok := strings.CutPrefix(line, ":"); ok {
			name, _, _ := strings.Cut(rest, " ")
			s.chains[name] = true
			continue
		}
		if rest, ok := strings.CutPrefix(line, "-A "); ok {
			chain, rule, _ := strings.Cut(rest, " ")
			s.rules = append(s.rules, savedRule{chain, rule, strings.Fields(rule)})
		}
	}
	return s
}

// jumpsTo are the rules outside a chain that send packets there.
func (s *saved) jumpsTo(own string) []savedRule {
	return s.rulesWith(func(r savedRule) bool {
		return r.chain != own && followed(r.words, own, "-j", "-g")
	})
}

// lookUps are the rules that look into one of the sets.
func (s *saved) lookUps(sets ...string) []savedRule {
	return s.rulesWith(func(r savedRule) bool {
		return slices.ContainsFunc(sets, func(set string) bool { return followed(r.words, set, "--match-set") })
	})
}

func (s *saved) rulesWith(is func(savedRule) bool) []savedRule {
	var out []savedRule
	for _, r := range s.rules {
		if is(r) {
			out = append(out, r)
		}
	}
	return out
}

// followed reports whether one of options is followed by value.
func followed(words []string, value string, options ...string) bool {
	for i := 1; i < len(words); i++ {
		if words[i] == value && slices.Contains(options, words[i-1]) {
			return true
		}
	}
	return false
}

// drop writes that a rule shall be gone.
func (r savedRule) drop(b *strings.Builder) { fmt.Fprintf(b, "-D %s %s\n", r.chain, r.line) }

// writeRule writes a rule's words as iptables-restore reads them.
func writeRule(b *strings.Builder, command, chain string, words []string) {
	b.WriteString(command + " " + chain)
	if command == "-I" {
		b.WriteString(" 1")
	}
	for _, w := range words {
		b.WriteByte(' ')
		if strings.ContainsAny(w, " \t\"'\\") {
			w = `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(w) + `"`
		}
		b.WriteString(w)
	}
	b.WriteByte('\n')
}

// iptablesStock makes the stock actions' chains of iptables: one for each jail and
// family, with a rule for each ban, and jumps to it. It runs the programs
// iptables-save and iptables-restore: the kernel's side differs between the two
// kinds of iptables, and one run carries out any number of changes at once.
type iptablesStock struct {
	run runner
}

func programsOf(objects []*object) []string {
	var out []string
	for _, o := range objects {
		if !slices.Contains(out, o.Program) {
			out = append(out, o.Program)
		}
	}
	return out
}

// sync writes each chain anew, in one step: packets see either the old rules or
// the new ones.
func (t *iptablesStock) sync(ctx context.Context, objects, _ []*object) error {
	for _, program := range programsOf(objects) {
		if err := t.syncProgram(ctx, program, objects); err != nil {
			return fmt.Errorf("sync %s: %w", program, err)
		}
	}
	return nil
}

func (t *iptablesStock) syncProgram(ctx context.Context, program string, objects []*object) error {
	some := slices.DeleteFunc(slices.Clone(objects), func(o *object) bool { return o.Program != program })
	// At the first ban there is nothing to read where iptables cannot be run.
	if !slices.ContainsFunc(some, func(o *object) bool { return !o.idle() }) {
		if _, err := exec.LookPath(program + "-save"); err != nil {
			return nil //nolint:nilerr // nothing of ours stands where there is no iptables
		}
	}
	have, err := t.run.save(ctx, program)
	if err != nil {
		return fmt.Errorf("read what is there: %w: %w", ErrUnknownState, err)
	}
	var b strings.Builder
	for _, o := range some {
		if o.started = o.started && have.chains[o.Own]; o.idle() && !have.chains[o.Own] {
			continue
		}
		o.rewrite(&b, have)
	}
	if err := t.run.restore(ctx, program, b.String()); err != nil {
		return err
	}
	for _, o := range some {
		o.started = o.started || !o.idle() || have.chains[o.Own]
	}
	return nil
}

// rewrite writes a chain with all its rules and the jumps to it.
func (o *object) rewrite(b *strings.Builder, have *saved) {
	now := time.Now()
	fmt.Fprintf(b, ":%s - [0:0]\n", o.Own) // makes it, or empties it
	o.held = make(map[netip.Prefix]bool, len(o.want))
	for _, p := range slices.SortedFunc(maps.Keys(o.want), netip.Prefix.Compare) {
		if !(Element{End: o.want[p]}).ended(now) {
			o.banRule(b, "-A", prefixText(p))
			o.held[p] = true
		}
	}
	for _, words := range o.last {
		writeRule(b, "-A", o.Own, words)
	}
	for _, r := range have.jumpsTo(o.Own) {
		r.drop(b)
	}
	for _, j := range o.jumps {
		writeRule(b, "-I", j.chain, j.words)
	}
}

func (o *object) banRule(b *strings.Builder, command, source string) {
	writeRule(b, command, o.Own, append([]string{"-s", source}, o.rule...))
}

func (t *iptablesStock) apply(ctx context.Context, works []work) error {
	texts := make(map[string]*strings.Builder)
	for _, w := range works {
		b := texts[w.Program]
		if b == nil {
			b = new(strings.Builder)
			texts[w.Program] = b
		}
		now := time.Now()
		for _, p := range w.take {
			if w.held[p] {
				w.banRule(b, "-D", prefixText(p))
				delete(w.held, p)
			}
		}
		for _, e := range w.put {
			switch {
			case e.ended(now) && w.held[e.Prefix]:
				w.banRule(b, "-D", prefixText(e.Prefix))
				delete(w.held, e.Prefix)
			case !e.ended(now) && !w.held[e.Prefix]:
				w.banRule(b, "-I", prefixText(e.Prefix))
				w.held[e.Prefix] = true
			}
		}
	}
	var errs []error
	for program, b := range texts {
		if err := t.run.restore(ctx, program, b.String()); err != nil {
			errs = append(errs, fmt.Errorf("apply changes: %w", err))
		}
	}
	return errors.Join(errs...)
}

// prefixText is an address, or a prefix.
func prefixText(p netip.Prefix) string { return bantam.PrefixID(p).String() }

// remove takes chains and the jumps to them away.
func (t *iptablesStock) remove(ctx context.Context, objects []*object) error {
	for _, program := range programsOf(objects) {
		some := slices.DeleteFunc(slices.Clone(objects), func(o *object) bool { return o.Program != program || !o.started && len(o.want) == 0 })
		if len(some) == 0 {
			continue
		}
		have, err := t.run.save(ctx, program)
		if err != nil {
			return fmt.Errorf("remove chains of %s: read what is there: %w", program, err)
		}
		var b strings.Builder
		for _, o := range some {
			if !have.chains[o.Own] {
				continue
			}
			for _, r := range have.jumpsTo(o.Own) {
				r.drop(&b)
			}
			fmt.Fprintf(&b, "-F %s\n-X %s\n", o.Own, o.Own)
		}
		if err := t.run.restore(ctx, program, b.String()); err != nil {
			return fmt.Errorf("remove chains of %s: %w", program, err)
		}
		for _, o := range some {
			o.held = nil
		}
	}
	return nil
}

// complete reports whether what is wanted of an object stands in the table.
func (o *object) complete(have *saved) bool {
	if o.Kind == KindIPSet {
		n := len(o.jumps)
		if o.ranges && o.RangeSet != o.Set {
			n *= 2
		}
		return len(have.lookUps(o.Set, o.RangeSet)) == n
	}
	if !have.chains[o.Own] || len(have.jumpsTo(o.Own)) != len(o.jumps) {
		return false
	}
	rules := have.rulesWith(func(r savedRule) bool { return r.chain == o.Own })
	return len(rules) >= len(o.held)+len(o.last)
}
