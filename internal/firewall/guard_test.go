package firewall

import (
	"context"
	"errors"
	"iter"
	"log/slog"
	"net/netip"
	"testing"
	"time"

	"bantam"
)

// flaky is a Recorder that fails when told to.
type flaky struct {
	Recorder
	fail  error
	syncs int
}

func (f *flaky) Sync(ctx context.Context, rules []Rule, allow []netip.Prefix, bans iter.Seq[Element]) error {
	f.syncs++
	if f.fail != nil {
		return f.fail
	}
	return f.Recorder.Sync(ctx, rules, allow, bans)
}

func (f *flaky) Apply(changes []Change) error {
	if f.fail != nil {
		return f.fail
	}
	return f.Recorder.Apply(changes)
}

func decide(kind bantam.Kind, jail, prefix string) bantam.Decision {
	id, _ := bantam.ParsePrefix(prefix)
	return bantam.Decision{Kind: kind, Ban: bantam.Ban{Jail: jail, ID: id, End: time.Now().Add(time.Hour)}}
}

func newTestGuard(t *testing.T, bans ...bantam.Decision) (*Guard, *flaky) {
	t.Helper()
	f := &flaky{}
	g := NewGuard(slog.New(slog.DiscardHandler), f)
	if err := g.Configure(t.Context(), []Rule{{Jail: "sshd"}, {Jail: "web"}}, nil, bans); err != nil {
		t.Fatal(err)
	}
	return g, f
}

func (f *flaky) want(t *testing.T, jail string, n int) {
	t.Helper()
	es, err := f.Elements(jail)
	if err != nil || len(es) != n {
		t.Errorf("%s holds %v, %v, want %d", jail, es, err, n)
	}
}

func TestGuardCarriesDecisionsOut(t *testing.T) {
	g, f := newTestGuard(t, decide(bantam.Restore, "web", "198.51.100.0/24"))
	f.want(t, "web", 1)
	observed := decide(bantam.Start, "sshd", "192.0.2.9")
	observed.Ban.Observed = true
	text := bantam.Decision{Kind: bantam.Start, Ban: bantam.Ban{Jail: "sshd", ID: bantam.TextID("root")}}
	retry, err := g.Do(t.Context(), []bantam.Decision{
		decide(bantam.Start, "sshd", "192.0.2.1"), decide(bantam.Start, "sshd", "192.0.2.2"),
		decide(bantam.End, "sshd", "192.0.2.1"), decide(bantam.Start, "gone", "192.0.2.3"), observed, text,
	})
	if err != nil || retry {
		t.Fatal(retry, err)
	}
	f.want(t, "sshd", 1)
	if f.syncs != 1 {
		t.Errorf("%d syncs", f.syncs)
	}
}

// After an error the kernel's state is in doubt: the next try brings everything.
func TestGuardBringsEverythingAfterAnError(t *testing.T) {
	g, f := newTestGuard(t)
	f.fail = errors.New("no buffer space")
	if retry, err := g.Do(t.Context(), []bantam.Decision{decide(bantam.Start, "sshd", "192.0.2.1")}); !retry || err == nil {
		t.Fatal(retry, err)
	}
	f.fail = nil
	f.Disturb() // whatever was there is lost
	if _, err := g.Do(t.Context(), []bantam.Decision{decide(bantam.Start, "sshd", "192.0.2.2")}); err != nil {
		t.Fatal(err)
	}
	f.want(t, "sshd", 2)
	f.Disturb()
	if err := g.Resync(t.Context()); err != nil {
		t.Fatal(err)
	}
	f.want(t, "sshd", 2)
}

func TestGuardForgetsTheBansOfJailsThatAreGone(t *testing.T) {
	g, f := newTestGuard(t, decide(bantam.Restore, "web", "198.51.100.7"))
	if err := g.Configure(t.Context(), []Rule{{Jail: "sshd"}}, []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}, nil); err != nil {
		t.Fatal(err)
	}
	f.want(t, "web", 0)
	if err := g.Configure(t.Context(), []Rule{{Jail: "sshd"}, {Jail: "web"}}, nil, nil); err != nil {
		t.Fatal(err)
	}
	f.want(t, "web", 0)
	if len(f.Allow()) != 0 {
		t.Errorf("allowed: %v", f.Allow())
	}
}

// A rule on demand alone makes nothing until somebody is banned, and nothing is left where no
// rule asks for more.
func TestGuardMakesNothingForNobody(t *testing.T) {
	f := &flaky{}
	g := NewGuard(slog.New(slog.DiscardHandler), f)
	configure := func(rules ...Rule) {
		t.Helper()
		if err := g.Configure(t.Context(), rules, nil, nil); err != nil {
			t.Fatal(err)
		}
	}
	stands := func(want bool, when string) {
		t.Helper()
		if is, err := f.Stands(); err != nil || is != want {
			t.Errorf("%s: stands %v, %v", when, is, err)
		}
	}
	byHand := Rule{Jail: "manual", OnDemand: true}
	configure(byHand)
	stands(false, "nobody is banned")
	if _, err := g.Do(t.Context(), []bantam.Decision{decide(bantam.Start, "manual", "192.0.2.1")}); err != nil {
		t.Fatal(err)
	}
	stands(true, "somebody is banned")
	f.want(t, "manual", 1)
	if _, err := g.Do(t.Context(), []bantam.Decision{decide(bantam.End, "manual", "192.0.2.1")}); err != nil {
		t.Fatal(err)
	}
	configure(byHand, Rule{Jail: "sshd"})
	stands(true, "a jail has a rule")
	configure(byHand)
	stands(false, "no jail has one any more")
}
