package test

import (
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"path/filepath"
	"testing"
	"time"

	"bantam"
	"bantam/internal/store"
)

const crashJail = `[sshd]
enabled = true
logpath = DIR/auth.log
maxretry = 3
findtime = 1h
bantime = 1h
`

// Killed at a hundred random moments, the daemon loses no ban and doubles none:
// what is in the kernel afterwards is what is in the database, and both are what
// one undisturbed run over the same log decides.
func TestKilledAtRandomMoments(t *testing.T) {
	kills := 100
	if testing.Short() {
		kills = 10
	}
	seed := rand.Uint64()
	rng := rand.New(rand.NewPCG(seed, 3))
	t.Logf("seed %d", seed)
	h := newHost(t, crashJail)
	log := ""
	for range kills {
		p := h.start()
		if rng.IntN(3) == 0 {
			p.ready()
		}
		written := 0
		for range 1 + rng.IntN(3) {
			text := ""
			for range 1 + rng.IntN(20) {
				text += failed(address(rng.IntN(150)))
				written++
			}
			log += text
			h.log("auth.log", text)
		}
		// The moment is when it has printed so many lines: while it starts, reads
		// again what it knows, finds, decides, stores, or hands to the kernel. It
		// prints one line at least for each that is new to it.
		for range 1 + rng.IntN(written) {
			<-p.lines
		}
		p.kill()
	}

	// The last word: an address that fails when all before it has been read.
	last := address(9999)
	end := failed(last) + failed(last) + failed(last)
	log += end
	h.log("auth.log", end)
	p := h.start().ready()
	h.until("the last attacker is banned", func() bool {
		_, ok := h.banned("sshd")[netip.PrefixFrom(last, 32)]
		return ok
	})
	killed := h.bans()
	inKernel := h.banned("sshd")
	p.terminate()

	calm := newHost(t, crashJail)
	calm.write("auth.log", log)
	q := calm.start().ready()
	calm.until("the last attacker is banned", func() bool {
		_, ok := calm.banned("sshd")[netip.PrefixFrom(last, 32)]
		return ok
	})
	undisturbed := calm.bans()
	q.terminate()

	want := describe(undisturbed)
	if got := describe(killed); !equal(got, want) {
		t.Errorf("seed %d: killed, it has %d bans, undisturbed %d\n%v", seed, len(got), len(want), difference(got, want))
	}
	if got := describe(stored(t, h)); !equal(got, want) {
		t.Errorf("seed %d: %d bans are stored, %d are right\n%v", seed, len(got), len(want), difference(got, want))
	}
	if len(inKernel) != len(undisturbed) {
		t.Errorf("seed %d: %d bans are in the kernel, %d are right", seed, len(inKernel), len(undisturbed))
	}
	for _, b := range undisturbed {
		prefix, _ := b.ID.Prefix()
		end, ok := inKernel[prefix]
		if !ok || end.Sub(b.End).Abs() > 2*time.Second {
			t.Errorf("seed %d: %s is in the kernel until %s, not %s", seed, b.ID, end, b.End)
		}
	}
	if len(want) < kills/2 {
		t.Errorf("only %d bans: the test tries nothing", len(want))
	}
}

// A ban that somebody lifted stays lifted, though the lines that led to it are read
// again after a crash; what fails afterwards counts.
func TestALiftedBanStaysLifted(t *testing.T) {
	h := newHost(t, crashJail)
	p := h.start().ready()
	who, other := address(1), address(2)
	h.log("auth.log", failed(who)+failed(who)+failed(other)+failed(who)+failed(other))
	h.until("the attacker is banned", func() bool { return len(h.banned("sshd")) == 1 })
	h.run("unban", who.String())
	p.kill()
	p = h.start().ready()
	h.log("auth.log", failed(who)+failed(who)+failed(other))
	h.until("the other is banned", func() bool { return len(h.banned("sshd")) > 0 })
	if _, again := h.banned("sshd")[netip.PrefixFrom(who, 32)]; again {
		t.Error("the lifted ban is back")
	}
	h.log("auth.log", failed(who))
	h.until("he is banned again for three new failures", func() bool { return len(h.banned("sshd")) == 2 })
	p.terminate()
}

// describe is what two runs must agree on about each ban.
func describe(bans []bantam.Ban) map[string]int {
	out := map[string]int{}
	for _, b := range bans {
		out[fmt.Sprintf("%s %s %s-%s %d failures, number %d", b.Jail, b.ID, b.Time.UTC().Format(time.TimeOnly),
			b.End.UTC().Format(time.TimeOnly), b.Failures, b.Count)]++
	}
	return out
}

func equal(a, b map[string]int) bool { return len(difference(a, b)) == 0 }

func difference(a, b map[string]int) []string {
	var out []string
	for k, n := range a {
		if b[k] != n {
			out = append(out, fmt.Sprintf("+%d %s", n, k))
		}
	}
	for k, n := range b {
		if a[k] != n {
			out = append(out, fmt.Sprintf("-%d %s", n, k))
		}
	}
	return out
}

// stored reads the database of a host whose daemon has ended.
func stored(t *testing.T, h *host) []bantam.Ban {
	t.Helper()
	s, err := store.Open(t.Context(), slog.New(slog.DiscardHandler), filepath.Join(h.dir, "bantam.db"))
	h.check(err)
	defer s.Close()
	bans, err := s.Bans(t.Context(), time.Now())
	h.check(err)
	return bans
}
