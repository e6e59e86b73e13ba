package action

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"

	"bantam"
	"bantam/internal/tag"
)

// A Worker is an effect that is one action of one jail: it takes decisions one at a time, and
// has a beginning and an end. Its methods are called one at a time.
type Worker interface {
	// Start makes ready. After an error it is called again, with pauses; decisions come
	// all the same.
	Start(ctx context.Context) error
	// Do carries out one decision. If retry is true it is called again with the same one.
	Do(ctx context.Context, d *bantam.Decision) (retry bool, err error)
	// Again are bans that were lost and are to be made once more.
	Again() []bantam.Decision
	// Reload is called when a new configuration is the same as the old one.
	Reload(ctx context.Context) error
	// Lift takes back all bans that it made.
	Lift(ctx context.Context) error
	// Stop puts away what Start made. Nothing is called after it.
	Stop(ctx context.Context) error
}

// errHopeless is wrapped by errors that trying again does not help against.
var errHopeless = errors.New("it is not tried again")

// A held ban is one that an action was told of.
type held struct {
	ban      bantam.Ban
	family   string
	restored bool
	applied  bool // a command for it worked
	lost     bool // a repair has undone it since
}

// A shell is an action that is carried out by the commands of its file (server.md 3.4 to 3.7).
type shell struct {
	log   *slog.Logger
	world *World
	cfg   *Config

	started  map[string]bool // by family, "" where an action makes no difference
	contains map[string]bool // families of which there may be bans
	seen     map[string]bool // families that were ever started or banned into
	bans     map[bantam.ID]*held
	again    []bantam.Decision
}

func newShell(log *slog.Logger, world *World, c *Config) *shell {
	return &shell{
		log: log.With("jail", c.Jail, "action", c.Title), world: world, cfg: c,
		started: map[string]bool{}, contains: map[string]bool{}, seen: map[string]bool{}, bans: map[bantam.ID]*held{},
	}
}

// ticket is what tags stand for in the commands for a family; h is nil for those about no ban.
func (s *shell) ticket(family string, h *held) *ticket {
	t := &ticket{world: s.world, jail: s.cfg.Jail, family: family}
	if h != nil {
		t.ban, t.restored = &h.ban, h.restored
	}
	return t
}

// run runs a command and tells what is wrong with it.
func (s *shell) run(ctx context.Context, text string, value func(string) (string, string, bool)) error {
	if strings.TrimSpace(text) == "" {
		return nil
	}
	args, err := tag.Command(text, value)
	if err != nil {
		return fmt.Errorf("%w: %w", errHopeless, err)
	}
	err = run(ctx, args, s.cfg.Timeout)
	var failed *CommandError
	switch {
	case err == nil:
		s.log.Debug("command worked", "command", short(args[0]))
	case ctx.Err() != nil:
		s.log.Debug("command broken off", "command", short(args[0]))
	case errors.As(err, &failed):
		s.log.Error("command failed", "command", short(args[0]), "stdout", failed.Stdout, "stderr", failed.Stderr, "err", failed.Error())
	}
	return err
}

// short is a script for the log.
func short(text string) string {
	const most = 2000
	if len(text) > most {
		return strings.ToValidUTF8(text[:most], "") + "…"
	}
	return text
}

// families are those that are started in advance.
func (s *shell) families() []string {
	switch {
	case s.cfg.Properties["families"] != "":
		return strings.FieldsFunc(s.cfg.Properties["families"], func(r rune) bool { return r == ',' || r == ' ' || r == '\n' })
	case !s.cfg.Families:
		return []string{""}
	case s.world.NoIPv6:
		return []string{Inet4}
	}
	return []string{Inet4, Inet6}
}

// key is how a family is remembered as started.
func (s *shell) key(family string) string {
	if !s.cfg.Families {
		return ""
	}
	return family
}

// Start runs actionstart, unless that waits for the first ban.
func (s *shell) Start(ctx context.Context) error {
	if s.cfg.OnDemand {
		return nil
	}
	return s.start(ctx, s.families())
}

// start runs actionstart for families that are not started yet; what reads the
// same for several runs once.
func (s *shell) start(ctx context.Context, families []string) error {
	ran := map[string]bool{}
	for _, f := range families {
		if s.started[s.key(f)] {
			continue
		}
		if err := s.once(ctx, ran, s.cfg.For(f).Start, f); err != nil {
			return fmt.Errorf("start the action %s of %s: %w", s.cfg.Title, s.cfg.Jail, err)
		}
		s.started[s.key(f)], s.seen[f] = true, true
	}
	return nil
}

// once runs a command about no ban if the same was not run for another family.
func (s *shell) once(ctx context.Context, ran map[string]bool, text, family string) error {
	as := strings.ReplaceAll(text, "<family>", family)
	if ran[as] {
		return nil
	}
	ran[as] = true
	return s.run(ctx, text, s.ticket(family, nil).values(ctx))
}

// Do carries out one decision.
func (s *shell) Do(ctx context.Context, d *bantam.Decision) (retry bool, err error) {
	h := s.bans[d.Ban.ID]
	verb := "ban"
	switch d.Kind {
	case bantam.Start, bantam.Restore:
		verb, err = s.ban(ctx, h, d)
	case bantam.Prolong:
		verb = "prolong"
		if h == nil {
			return false, nil // its ban is still to come, or did not work
		}
		h.ban = d.Ban
		if h.restored && s.cfg.NoRestored || !h.applied {
			return false, nil
		}
		err = s.attempt(ctx, verb, s.cfg.For(h.family).Prolong, h)
	case bantam.End:
		verb = "unban"
		err = s.unban(ctx, h, d)
	}
	if err == nil {
		return false, nil
	}
	if ctx.Err() == nil {
		s.log.Error(fmt.Sprintf("Failed to execute %s jail '%s' action '%s'", verb, s.cfg.Jail, s.cfg.Title), "addr", d.Ban.ID.String(), "err", err)
	}
	// What was never there cannot be taken away better by trying again.
	return !errors.Is(err, errHopeless) && (d.Kind != bantam.End || h != nil && h.applied), err
}

func (s *shell) ban(ctx context.Context, h *held, d *bantam.Decision) (verb string, err error) {
	verb = "ban"
	switch {
	case h == nil:
		h = &held{family: family(&d.Ban), restored: d.Kind == bantam.Restore}
		s.bans[d.Ban.ID] = h
	case h.applied && !h.lost:
		h.ban = d.Ban
		return verb, nil
	case h.applied:
		verb = "reban"
	}
	h.ban = d.Ban
	if h.restored && s.cfg.NoRestored {
		return verb, nil
	}
	if s.cfg.OnDemand {
		families := []string{h.family}
		if h.family == none && s.cfg.Families {
			families = s.families()
		}
		if err := s.start(ctx, families); err != nil {
			return verb, err
		}
	}
	s.seen[h.family] = true
	command := s.cfg.For(h.family).Ban
	if again := s.cfg.For(h.family).Reban; verb == "reban" && again != "" {
		command = again
	}
	if err := s.attempt(ctx, verb, command, h); err != nil {
		return verb, err
	}
	h.applied, h.lost = true, false
	s.contains[h.family] = true
	return verb, nil
}

func (s *shell) unban(ctx context.Context, h *held, d *bantam.Decision) error {
	if h == nil {
		return nil // it was never made
	}
	h.ban = d.Ban
	if !s.contains[h.family] {
		delete(s.bans, d.Ban.ID)
		return nil
	}
	err := s.attempt(ctx, "unban", s.cfg.For(h.family).Unban, h)
	if err == nil || !h.applied || errors.Is(err, errHopeless) {
		delete(s.bans, d.Ban.ID)
	}
	return err
}

// attempt runs a command and, if it fails, once more, after a look at whether what it
// works on is still there, and its repair.
func (s *shell) attempt(ctx context.Context, verb, text string, h *held) error {
	family := h.family
	value := s.ticket(family, h).values(ctx)
	if verb == "flush" {
		value = s.ticket(family, nil).values(ctx)
	}
	err := s.run(ctx, text, value)
	if err == nil || ctx.Err() != nil || errors.Is(err, errHopeless) {
		return err
	}
	repaired, rerr := s.sane(ctx, verb, family)
	if repaired {
		s.lost(family, h)
	}
	if err = rerr; err == nil {
		err = s.run(ctx, text, value)
	}
	if err != nil {
		return fmt.Errorf("%s %s: %w", verb, h.ban.ID, err)
	}
	return nil
}

// sane runs actioncheck after a failed command, and repairs what it finds wanting.
func (s *shell) sane(ctx context.Context, verb, family string) (repaired bool, err error) {
	c := s.cfg.For(family)
	if strings.TrimSpace(c.Check) == "" {
		return false, nil
	}
	// Nothing about a ban is known to these commands.
	static := func(name string) (string, string, bool) { return family, name, name == "family" }
	if s.run(ctx, c.Check, static) == nil {
		return false, nil
	}
	if (verb == "unban" || verb == "flush") && !s.cfg.RepairOnUnban {
		what := strings.ToUpper(verb[:1]) + verb[1:]
		s.log.Error("Invariant check failed. " + what + " is impossible.")
		return false, fmt.Errorf("the check failed, %s is impossible: %w", verb, errHopeless)
	}
	s.log.Error("Invariant check failed. Trying to restore a sane environment")
	if strings.TrimSpace(c.Repair) != "" {
		err = s.run(ctx, c.Repair, static)
	} else {
		_ = s.run(ctx, c.Stop, s.ticket(family, nil).values(ctx)) // what is not there cannot be stopped
		err = s.run(ctx, c.Start, s.ticket(family, nil).values(ctx))
	}
	if err == nil {
		err = s.run(ctx, c.Check, static)
	}
	if err != nil {
		s.log.Error("Unable to restore environment", "err", err)
		return false, fmt.Errorf("unable to restore environment: %w", err)
	}
	return true, nil
}

// lost has the bans of a family made again, after a repair that has emptied it.
func (s *shell) lost(family string, but *held) {
	for _, h := range s.bans {
		if h != but && h.applied && !h.lost && h.family == family {
			h.lost = true
			s.again = append(s.again, bantam.Decision{Kind: bantam.Restore, Ban: h.ban})
		}
	}
}

// Again are the bans that a repair has lost.
func (s *shell) Again() []bantam.Decision {
	again := s.again
	s.again = nil
	return again
}

// Reload runs actionreload for what is started.
func (s *shell) Reload(ctx context.Context) error {
	ran := map[string]bool{}
	var errs []error
	for _, f := range []string{"", Inet4, Inet6} {
		if s.started[f] {
			errs = append(errs, s.once(ctx, ran, s.cfg.For(f).Reload, f))
		}
	}
	return errors.Join(errs...)
}

// Lift takes back all bans: at once where the action can, else one by one.
func (s *shell) Lift(ctx context.Context) error {
	var errs []error
	flushed := map[string]bool{}
	for _, f := range []string{"", Inet4, Inet6, none} {
		c := s.cfg.For(f)
		if !s.contains[f] || strings.TrimSpace(c.Flush) == "" {
			continue
		}
		s.log.Info("Flush ticket(s) with " + s.cfg.Title)
		if as := strings.ReplaceAll(c.Flush, "<family>", f); !flushed[as] {
			flushed[as] = true
			errs = append(errs, s.attempt(ctx, "flush", c.Flush, &held{family: f}))
		}
		s.contains[f] = false // the single ones are gone with it, or lost with it
	}
	for _, h := range s.bans {
		if ctx.Err() != nil {
			errs = append(errs, fmt.Errorf("lift the bans: %w", context.Cause(ctx)))
			break
		}
		if s.contains[h.family] {
			errs = append(errs, s.attempt(ctx, "unban", s.cfg.For(h.family).Unban, h))
		}
	}
	clear(s.bans)
	clear(s.contains)
	return errors.Join(errs...)
}

// Stop runs actionstop for every family that was started or banned into.
func (s *shell) Stop(ctx context.Context) error {
	var errs []error
	ran := map[string]bool{}
	for _, f := range []string{"", Inet4, Inet6, none} {
		if s.seen[f] && (f != none || !s.cfg.Families) {
			errs = append(errs, s.once(ctx, ran, s.cfg.For(f).Stop, f))
		}
	}
	clear(s.seen)
	clear(s.started)
	return errors.Join(errs...)
}
