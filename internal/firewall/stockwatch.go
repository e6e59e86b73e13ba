package firewall

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// ipsetLook is how often the ipsets are looked at: the kernel tells nobody
	// when one is flushed. It costs some microseconds for each set.
	ipsetLook = 500 * time.Millisecond
	// iptablesLook is how often the rules of iptables are looked at, which takes
	// a process; also where the kernel gives no notice, as with the legacy kind.
	iptablesLook = 10 * time.Second
	// iptablesSettle is how long a notice waits for others before the rules are
	// looked at.
	iptablesSettle = 100 * time.Millisecond
)

// Watch looks out for what others take away from our objects: by the kernel's
// notices for nftables and the iptables that is built on it, by looking for the
// others. What it finds is in doubt from then on, and notify is called, after
// which the caller has to call Repair; so it is every ten seconds while something
// that failed is still to be done. It waits at most a second, but up to ten
// for rules of iptables-legacy.
//
// It returns nil when ctx ends, and an error when it cannot listen.
func (s *Stock) Watch(ctx context.Context, notify func()) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	poke := make(chan struct{}, 1)
	poked := func() {
		select {
		case poke <- struct{}{}:
		default:
		}
	}
	var wg sync.WaitGroup
	defer wg.Wait()
	var one sync.Mutex // notify is called by one at a time
	tell := func() {
		one.Lock()
		defer one.Unlock()
		notify()
	}
	wg.Go(func() { s.look(ctx, poke, tell) })
	err := s.listen(ctx, tell, poked)
	if errors.Is(err, ErrUnsupported) {
		err = nil
		<-ctx.Done()
	}
	cancel()
	if err != nil {
		return fmt.Errorf("watch the firewall: %w", err)
	}
	return nil
}

// listen hears the notices of nf_tables.
func (s *Stock) listen(ctx context.Context, tell, poke func()) error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return errClosed
	}
	_, err := s.ware(KindNFTables)
	n := s.nft
	s.mu.Unlock()
	if err != nil {
		return err
	}
	foreign := false // the notice was of nftables, not of iptables
	w := watcher{
		netns: s.opts.NetNS, port: n.port,
		disturbs: func(m message) bool {
			if filterChanged(m, n.port) {
				poke()
			}
			hit := s.disturbed(n, m)
			foreign = foreign || hit
			return hit
		},
		notify: func() {
			if foreign {
				foreign = false
				s.doubt(KindNFTables)
				tell()
			}
		},
		overrun: func() {
			s.log.Warn("the kernel had more news of rule changes than could be read")
			s.doubt(KindNFTables)
			poke()
			tell()
		},
	}
	w.missed = func() (bool, error) {
		poke() // what went before we listened
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.nft == nil {
			return false, errClosed
		}
		if n.generation == 0 {
			return false, nil
		}
		now, err := n.sock.generation()
		foreign = now != n.generation
		return foreign, err
	}
	return w.run(ctx)
}

// disturbed reports whether a notice concerns our tables and sets.
func (s *Stock) disturbed(n *nftStock, m message) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	ours := make(map[string]bool)
	for _, o := range s.objects { // few, and notices of others are rare
		if o.Kind == KindNFTables && o.started {
			ours[o.Table], ours[o.Table+" "+o.Set], ours[o.Table+" "+o.RangeSet] = true, true, true
		}
	}
	return n.disturbs(m, ours)
}

// filterChanged reports whether a notice tells that something went from the table
// filter of iptables-nft.
func filterChanged(m message, port uint32) bool {
	if m.kind>>8 != unix.NFNL_SUBSYS_NFTABLES || m.port == port || len(m.body) < nfgenLen || m.body[0] != unix.NFPROTO_IPV4 && m.body[0] != unix.NFPROTO_IPV6 {
		return false
	}
	switch m.kind & 0xff {
	case unix.NFT_MSG_DELTABLE, unix.NFT_MSG_DELCHAIN, unix.NFT_MSG_DELRULE:
	default:
		return false
	}
	for typ, data := range attributes(m.body[nfgenLen:]) {
		if typ == unix.NFTA_TABLE_NAME {
			return text(data) == "filter"
		}
	}
	return false
}

// doubt says that the objects of a kind have to be made equal again.
func (s *Stock) doubt(kind Kind) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, o := range s.objects {
		if o.Kind == kind && o.started {
			o.clean = false
		}
	}
}

// look looks after what the kernel does not tell of.
func (s *Stock) look(ctx context.Context, poke <-chan struct{}, tell func()) {
	sets, rules := time.NewTicker(ipsetLook), time.NewTicker(iptablesLook)
	defer sets.Stop()
	defer rules.Stop()
	settled := time.NewTimer(iptablesSettle)
	settled.Stop()
	defer settled.Stop()
	for {
		var found bool
		var err error
		select {
		case <-ctx.Done():
			return
		case <-poke:
			settled.Reset(iptablesSettle)
			continue
		case <-sets.C:
			found, err = s.lookAtSets()
		case <-rules.C:
			found, err = s.lookAtRules(ctx)
			found = found || s.doubtful() // what failed before is tried again
		case <-settled.C:
			found, err = s.lookAtRules(ctx)
		}
		if err != nil && ctx.Err() == nil {
			s.log.Warn("cannot look whether the firewall still holds what it should", "err", err)
		}
		if found {
			tell()
		}
	}
}

// doubtful reports whether something has to be made equal.
func (s *Stock) doubtful() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.ContainsFunc(s.objects, func(o *object) bool { return !o.clean })
}

// lookAtSets finds ipsets that somebody emptied or took away.
func (s *Stock) lookAtSets() (found bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ipset == nil {
		return false, nil
	}
	now := time.Now()
	for _, o := range s.objects {
		if o.Kind != KindIPSet || !o.started || !o.clean {
			continue
		}
		lacks, err := s.ipset.lacks(o, now)
		if err != nil {
			return found, explainIPSet(err)
		}
		if lacks {
			o.clean, found = false, true
		}
	}
	return found, nil
}

// lookAtRules finds objects whose rules of iptables somebody took away. Reading
// them takes a process, which nobody waits for unless there is always something
// else to do meanwhile.
func (s *Stock) lookAtRules(ctx context.Context) (found bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var some []*object
	for _, o := range s.objects {
		if o.Kind != KindNFTables && o.started && o.clean {
			some = append(some, o)
		}
	}
	run := runner{s.opts.Start}
	for _, program := range programsOf(some) {
		turns := s.turns
		s.mu.Unlock()
		have, err := run.save(ctx, program)
		s.mu.Lock()
		if err == nil && turns != s.turns {
			have, err = run.save(ctx, program)
		}
		if err != nil {
			return found, err
		}
		for _, o := range some {
			if o.Program == program && o.started && o.clean && slices.Contains(s.objects, o) && !o.complete(have) {
				o.clean, found = false, true
			}
		}
	}
	return found, nil
}
