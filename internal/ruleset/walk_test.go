package ruleset

import (
	"strings"
	"testing"
)

// A want is what Walk shall say of a packet, which is then sent.
type want struct {
	packet  func(w *world) probe
	dropped bool
	doubt   bool   // then whether it arrives is not compared
	by      string // part of the rule that drops it, or lets it through
}

func udp(from string, port uint16) func(*world) probe { return sent(from, "udp", port) }
func tcp(from string, port uint16) func(*world) probe { return sent(from, "tcp", port) }

// A walkTest is a ruleset and what becomes of packets in it.
type walkTest struct {
	name, rules string
	wants       []want
}

func TestWalkSaysWhatBecomesOfAPacket(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.walks(walks, w.clear)
}

// walks runs tests one after the other, in one world that is cleared before each.
func (w *world) walks(tests []walkTest, clear func()) {
	for _, test := range tests {
		w.Run(test.name, func(t *testing.T) {
			here := &world{T: t, net: w.net, client: w.client, container: w.container, arrived: w.arrived}
			clear()
			var probes []probe
			for _, want := range test.wants {
				probes = append(probes, want.packet(here))
			}
			here.nft("flush ruleset")
			here.load(test.rules)
			r := here.read()
			for i, want := range test.wants {
				here.check(r, probes[i], want)
			}
		})
	}
}

func (w *world) check(r *Ruleset, p probe, want want) {
	w.Helper()
	path := r.Walk(p.packet)
	if path.Dropped != want.dropped {
		w.Errorf("of %+v Walk says dropped %v, want %v: %+v", p.packet, path.Dropped, want.dropped, path)
	}
	if (len(path.Doubts) > 0) != want.doubt {
		w.Errorf("of %+v Walk has the doubts %q", p.packet, path.Doubts)
	}
	step := path.By
	if !path.Dropped {
		step = path.Through
	}
	switch {
	case path.Dropped && step == nil:
		w.Errorf("of %+v Walk does not say what drops it", p.packet)
	case want.by != "" && (step == nil || !strings.Contains(step.Chain+": "+step.Rule, want.by)):
		w.Errorf("of %+v Walk says it is %+v, want %q", p.packet, step, want.by)
	}
	if want.doubt {
		return
	}
	if arrives := w.reaches(p, !path.Dropped); arrives == path.Dropped {
		w.Errorf("%+v: Walk says dropped %v, but arrives is %v: %+v", p.packet, path.Dropped, arrives, path)
	}
}

// clear takes all rules away.
func (w *world) clear() {
	w.Helper()
	w.nft("flush ruleset")
	w.run("ipset", "destroy")
}
