package firewall

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"maps"
	"net/netip"
	"regexp"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// transactionElements bounds a transaction. The kernel's work for one grows
	// faster than its size: a million elements took it 5 to 20 s at once, and
	// 2.6 s by fifty thousand.
	transactionElements = 50_000
	// elementBytes is what an element may take of a transaction: an IPv6
	// address added, deleted, and added with a timeout, and its part of the
	// messages' heads.
	elementBytes = 28 + 28 + 40 + 4
	// rawPriority runs our chain before connection tracking (-200) and before
	// addresses and ports are rewritten (-100): NF_IP_PRI_RAW.
	rawPriority = -300
	// dumpAttempts is how often a list is read again that changed meanwhile.
	dumpAttempts = 20
	// expirySlack is how near its end an element may be and rightly be gone
	// already when the kernel is read back.
	expirySlack = 2 * time.Second
)

// Options say where an NFTables works.
type Options struct {
	// Table is the name of the table, of family inet, that belongs to us;
	// "bantam" if empty.
	Table string
	// NetNS is an open file of the network namespace; 0 means the process's own.
	NetNS int
	// Log hears what had to be repaired; nil for nobody.
	Log *slog.Logger
}

// NFTables is the backend that speaks netlink to nf_tables.
//
// It owns one table, with one base chain in the prerouting hook before
// connection tracking, so that a ban ends running connections as well and the
// ports are those the client dialled. What comes from an allowed prefix leaves
// that chain at once. The rest is sent, by protocol and port, to the chains of
// the jails. These have one rule for each prefix length in use, which looks the
// address, cut to that length, up in a hash set: so each ban is added and
// removed in constant time and knows nothing of other bans that contain it.
//
// Elements carry their remaining time as a timeout, which the kernel counts
// while the machine is awake. No other table is ever read or changed.
//
// Its methods may be called at once; one waits for the other.
type NFTables struct {
	table string
	netns int
	log   *slog.Logger
	port  uint32 // of our socket: the mark of our own changes in the kernel's notices

	mu sync.Mutex
	writer
	jails map[string]bool   // those the last Sync made rules for
	sets  map[setKey]string // the sets that stand in the kernel, with their names; nil before the first Sync
}

// A writer sends transactions to nf_tables.
type writer struct {
	sock    *socket // nil when closed
	destroy bool    // whether the kernel knows destroySetElem
	room    int     // bytes that a transaction may have
	batch   batch
	// generation is what the kernel's count of ruleset changes is if nobody but
	// us has changed anything since the last sync began.
	generation uint32
}

// element is an element of one set.
type element struct {
	addr netip.Addr
	end  time.Time
}

var tableName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_.-]{0,99}$`)

// OpenNFTables connects to the kernel and changes nothing there. Its error wraps
// ErrPrivilege or ErrUnsupported where that is the reason.
func OpenNFTables(opts Options) (*NFTables, error) {
	if opts.Table == "" {
		opts.Table = "bantam"
	}
	if !tableName.MatchString(opts.Table) {
		return nil, fmt.Errorf("open nftables: %.120q is no name for a table", opts.Table)
	}
	if opts.Log == nil {
		opts.Log = slog.New(slog.DiscardHandler)
	}
	sock, err := dialSocket(opts.NetNS)
	if err != nil {
		return nil, fmt.Errorf("open nftables: %w", explain(err))
	}
	n := &NFTables{table: opts.Table, netns: opts.NetNS, log: opts.Log, port: sock.conn.PID(), writer: writer{sock: sock}}
	if n.room, err = sock.conn.WriteBuffer(); err == nil {
		err = n.probe()
	}
	if err != nil {
		_ = sock.close()
		return nil, fmt.Errorf("open nftables: %w", err)
	}
	return n, nil
}

// probe asks whether we may, and whether the kernel knows destroySetElem, by a
// transaction that cannot succeed: it names a set that no table has.
func (n *NFTables) probe() error {
	n.batch.reset()
	none := element{addr: netip.AddrFrom4([4]byte{})}
	n.batch.elements(destroySetElem, n.table, "no such set", []element{none}, false, time.Time{})
	switch err := n.sock.commit(&n.batch); {
	case err == nil, errors.Is(err, unix.ENOENT):
		n.destroy = true
		return nil
	case errors.Is(err, unix.EINVAL):
		return nil // an unknown message, says nfnetlink_rcv_batch
	default:
		return explain(err)
	}
}

// explain adds a reason to an errno that has one.
func explain(err error) error {
	switch {
	case errors.Is(err, unix.EPERM), errors.Is(err, unix.EACCES):
		return fmt.Errorf("%w (%w)", ErrPrivilege, err)
	case errors.Is(err, unix.EOPNOTSUPP), errors.Is(err, unix.EPROTONOSUPPORT), errors.Is(err, unix.EAFNOSUPPORT):
		return fmt.Errorf("%w: load the module nf_tables, or use a kernel with CONFIG_NF_TABLES and CONFIG_NF_TABLES_INET (%w)", ErrUnsupported, err)
	}
	return err
}

// commit carries out the batch and empties it. Any error means that the caller
// has to Sync.
func (n *writer) commit() error {
	defer n.batch.reset()
	if n.batch.messages == 0 {
		return nil
	}
	if err := n.sock.commit(&n.batch); err != nil {
		return fmt.Errorf("%w: %w", ErrUnknownState, explain(err))
	}
	if n.generation++; n.generation == 0 {
		n.generation++ // as nft_base_seq_inc does
	}
	return nil
}

// Sync makes the kernel equal to rules, allow and bans, whatever stood in our
// table before. First everything wanted is put in, then what is not wanted is
// taken out; a ban that was in the kernel and is still wanted drops packets all
// the while. Bans that have ended are left out, of two for one prefix the last
// counts, and a ban for a jail without a rule is an error.
//
// Nothing was changed if the error does not wrap ErrUnknownState. When ctx ends,
// Sync stops between two transactions, and the error wraps both.
//
// Counters go on counting. A ban takes about 2 µs if there is no table yet, and
// 3 to 10 µs, growing with their number, if there is one, which has to be read
// back.
func (n *NFTables) Sync(ctx context.Context, rules []Rule, allow []netip.Prefix, bans iter.Seq[Element]) error {
	if err := checkRules(rules); err != nil {
		return fmt.Errorf("sync table %s: %w", n.table, err)
	}
	w, err := newWanted(rules, allow, bans)
	if err != nil {
		return fmt.Errorf("sync table %s: %w", n.table, err)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.sock == nil {
		return errClosed
	}
	if err := n.sync(ctx, w); err != nil {
		return fmt.Errorf("sync table %s: %w", n.table, err)
	}
	return nil
}

// wanted is what Sync shall bring about.
type wanted struct {
	rules []Rule
	jails map[string]string // by object name
	allow map[setKey][]element
	bans  map[setKey]map[netip.Addr]time.Time // with their ends
}

func newWanted(rules []Rule, allow []netip.Prefix, bans iter.Seq[Element]) (*wanted, error) {
	w := &wanted{rules: rules, jails: make(map[string]string), bans: make(map[setKey]map[netip.Addr]time.Time)}
	known := make(map[string]bool)
	for _, r := range rules {
		known[r.Jail] = true
		w.jails[objectName(r.Jail)] = r.Jail
		for _, k := range addressSets(r.Jail) {
			w.bans[k] = make(map[netip.Addr]time.Time)
		}
	}
	var err error
	if w.allow, err = allowElements(allow); err != nil {
		return nil, err
	}
	if bans == nil {
		return w, nil
	}
	now := time.Now()
	for e := range bans {
		if !known[e.Jail] {
			return nil, fmt.Errorf("ban %s in jail %q: %w", e.Prefix, e.Jail, ErrUnknownJail)
		}
		p, err := canonical(e.Prefix)
		if err != nil {
			return nil, fmt.Errorf("ban in jail %q: %w", e.Jail, err)
		}
		k := keyOf(e.Jail, p)
		switch {
		case e.ended(now):
			delete(w.bans[k], p.Addr())
		case w.bans[k] == nil:
			w.bans[k] = map[netip.Addr]time.Time{p.Addr(): e.End}
		default:
			w.bans[k][p.Addr()] = e.End
		}
	}
	return w, nil
}

// addressSets are the two sets that every jail has, also when empty: those of
// single addresses.
func addressSets(jail string) []setKey {
	return []setKey{{jail: jail, bits: 32}, {jail: jail, v6: true, bits: 128}}
}

// allowElements sorts an allow list into its sets.
func allowElements(allow []netip.Prefix) (map[setKey][]element, error) {
	sets := make(map[setKey][]element)
	for _, p := range allow {
		c, err := canonical(p)
		if err != nil {
			return nil, fmt.Errorf("allow: %w", err)
		}
		k := keyOf("", c)
		sets[k] = append(sets[k], element{addr: c.Addr()})
	}
	return sets, nil
}

// keys are those of a map in a fixed order: jail, family, full length first.
func keys[V any](m map[setKey]V) []setKey {
	family := func(k setKey) int { return int(k.length()) }
	return slices.SortedFunc(maps.Keys(m), func(a, b setKey) int {
		return cmp.Or(cmp.Compare(a.jail, b.jail), family(a)-family(b), int(b.bits)-int(a.bits))
	})
}

func (n *NFTables) sync(ctx context.Context, w *wanted) error {
	var err error
	if n.generation, err = n.sock.generation(); err != nil {
		return fmt.Errorf("%w: %w", ErrUnknownState, explain(err))
	}
	have, err := n.read()
	if err != nil {
		return fmt.Errorf("read what is there: %w: %w", ErrUnknownState, explain(err))
	}
	// Sets of other prefix lengths that hold nothing wanted any more go last.
	sets := make(map[setKey]string)
	for k := range w.bans {
		sets[k] = k.name()
	}
	surplus := false
	for name, spec := range have.sets {
		k, ok := parseSetName(name, w.jails)
		if ok && k.jail != "" && spec == k.spec() && sets[k] == "" {
			sets[k], surplus = name, true
		}
	}
	kept := n.structure(have, w, sets)

	// All of what stood in a set that had to be replaced comes back in the same
	// transaction; then the rest, as much at a time as is good.
	order := keys(w.bans)
	slices.SortStableFunc(order, func(a, b setKey) int { return rank(have, kept, a) - rank(have, kept, b) })
	now, count := time.Now(), 0
	for _, k := range order {
		all := elementsOf(w.bans[k])
		for part := range slices.Chunk(all, messageElements) {
			if count+len(part) > n.limit() && rank(have, kept, k) > 0 || n.full(len(part)) {
				if err := n.next(ctx); err != nil {
					return err
				}
				now, count = time.Now(), 0
			}
			count += len(part)
			n.put(n.table, sets[k], part, kept[k], now)
		}
	}
	if err := n.next(ctx); err != nil {
		return err
	}
	n.jails = make(map[string]bool, len(w.rules))
	for _, r := range w.rules {
		n.jails[r.Jail] = true
	}
	for k := range w.allow {
		sets[k] = k.name()
	}
	n.sets = sets

	for _, k := range keys(kept) {
		if k.jail == "" {
			continue
		}
		if err := n.removeSurplus(ctx, k, w.bans[k]); err != nil {
			return err
		}
	}
	if !surplus {
		return nil
	}
	if have, err = n.read(); err != nil {
		return fmt.Errorf("read what is there: %w: %w", ErrUnknownState, explain(err))
	}
	left := make(map[setKey]string)
	for k, name := range sets {
		if _, ok := w.bans[k]; ok {
			left[k] = name
		}
	}
	n.structure(have, w, left)
	if err := n.next(ctx); err != nil {
		return err
	}
	for k := range sets {
		if _, ok := w.bans[k]; !ok && k.jail != "" {
			delete(sets, k)
		}
	}
	return nil
}

// limit is how many elements go into one transaction. Where we may not enlarge
// the socket's buffer, as in a container with users of its own, it is some
// thousand.
func (n *writer) limit() int {
	return max(messageElements, min(transactionElements, n.room/elementBytes-messageElements))
}

// full reports whether the transaction has no room for more elements.
func (n *NFTables) full(more int) bool {
	return len(n.batch.buf)+more*elementBytes > n.room
}

// rank puts replaced sets before all others.
func rank(have *present, kept map[setKey]bool, k setKey) int {
	if _, stood := have.sets[k.name()]; stood && !kept[k] {
		return 0
	}
	return 1
}

// next carries out the batch unless ctx has ended.
func (n *writer) next(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		n.batch.reset()
		return fmt.Errorf("%w: %w", ErrUnknownState, err)
	}
	return n.commit()
}

func elementsOf(m map[netip.Addr]time.Time) []element {
	es := make([]element, 0, len(m))
	for a, end := range m {
		es = append(es, element{a, end})
	}
	return es
}

// structure begins a transaction that replaces all chains and rules and leaves
// the given sets, those of the jails, besides the allow list's: what stood
// there in the right form is kept with its elements. It returns the kept ones.
//
// The kernel shows packets either all of the old rules and sets or all of the
// new ones (nf_tables_commit switches one generation counter).
func (n *NFTables) structure(have *present, w *wanted, sets map[setKey]string) (kept map[setKey]bool) {
	n.batch.reset()
	b := &n.batch
	all := maps.Clone(sets)
	for k := range w.allow {
		all[k] = k.name()
	}
	kept = make(map[setKey]bool)
	for k, name := range all {
		if spec, ok := have.sets[name]; ok && spec == k.spec() {
			kept[k] = true
		}
	}
	chains := map[string]bool{baseChain: true, allowChain: true}
	for name := range w.jails {
		chains[jailPrefix+name] = true
	}

	b.begin(unix.NFT_MSG_NEWTABLE, unix.NLM_F_CREATE)
	b.str(unix.NFTA_TABLE_NAME, n.table)
	b.u32(unix.NFTA_TABLE_FLAGS, 0) // also wakes a table that somebody made dormant
	if have.table {
		b.begin(unix.NFT_MSG_DELRULE, 0)
		b.str(unix.NFTA_RULE_TABLE, n.table)
		keep := make(map[string]bool)
		for k := range kept {
			keep[all[k]] = true
		}
		for name := range have.sets {
			if !keep[name] {
				b.begin(unix.NFT_MSG_DELSET, 0)
				b.str(unix.NFTA_SET_TABLE, n.table)
				b.str(unix.NFTA_SET_NAME, name)
			}
		}
		for name, spec := range have.chains {
			if !chains[name] || spec != chainSpecOf(name) {
				b.begin(unix.NFT_MSG_DELCHAIN, 0)
				b.str(unix.NFTA_CHAIN_TABLE, n.table)
				b.str(unix.NFTA_CHAIN_NAME, name)
			}
		}
		for name := range have.counters {
			if !chains[name] {
				b.begin(unix.NFT_MSG_DELOBJ, 0)
				b.str(unix.NFTA_OBJ_TABLE, n.table)
				b.str(unix.NFTA_OBJ_NAME, name)
				b.u32(unix.NFTA_OBJ_TYPE, unix.NFT_OBJECT_COUNTER)
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(chains)) {
		b.newChain(n.table, name)
	}
	for _, name := range slices.Sorted(maps.Keys(w.jails)) {
		if have.counters[jailPrefix+name] {
			continue
		}
		b.begin(unix.NFT_MSG_NEWOBJ, unix.NLM_F_CREATE)
		b.str(unix.NFTA_OBJ_TABLE, n.table)
		b.str(unix.NFTA_OBJ_NAME, jailPrefix+name)
		b.u32(unix.NFTA_OBJ_TYPE, unix.NFT_OBJECT_COUNTER)
		data := b.nested(unix.NFTA_OBJ_DATA)
		b.u64(unix.NFTA_COUNTER_BYTES, 0)
		b.u64(unix.NFTA_COUNTER_PACKETS, 0)
		b.close(data)
	}
	for _, k := range keys(all) {
		if kept[k] {
			b.lookupRule(n.table, k)
		} else {
			b.newJailSet(n.table, k)
		}
		if k.jail == "" {
			if kept[k] {
				b.flushSet(n.table, all[k])
			}
			b.elements(unix.NFT_MSG_NEWSETELEM, n.table, all[k], w.allow[k], false, time.Time{})
		}
	}
	b.rule(n.table, baseChain, jumpTo(allowChain))
	for _, r := range w.rules {
		b.jumpRules(n.table, r)
	}
	return kept
}

// put writes into the batch that es shall be in a set, with the time they have
// left. known says that some of them may be there already: the kernel before 6.12
// does not change the timeout of an element that stands, so it is taken out first.
func (n *writer) put(table, set string, es []element, known bool, now time.Time) {
	if known {
		n.take(table, set, es)
	}
	n.batch.elements(unix.NFT_MSG_NEWSETELEM, table, set, es, true, now)
}

// take writes into the batch that es shall not be in a set. The elements need
// not be there: where the kernel refuses to delete what is missing, each is
// added before.
func (n *writer) take(table, set string, es []element) {
	if n.destroy {
		n.batch.elements(destroySetElem, table, set, es, false, time.Time{})
		return
	}
	n.batch.elements(unix.NFT_MSG_NEWSETELEM, table, set, es, false, time.Time{})
	n.batch.elements(unix.NFT_MSG_DELSETELEM, table, set, es, false, time.Time{})
}

// removeSurplus takes out of a set what is not wanted, after having seen there
// everything that is.
func (n *NFTables) removeSurplus(ctx context.Context, k setKey, bans map[netip.Addr]time.Time) error {
	found, err := n.members(ctx, k)
	if err != nil {
		return fmt.Errorf("read set %s: %w: %w", k.name(), ErrUnknownState, err)
	}
	var surplus []element
	for a := range found {
		if _, ok := bans[a]; !ok {
			surplus = append(surplus, element{addr: a})
		}
	}
	missing, soon := 0, time.Now().Add(expirySlack)
	for a, end := range bans {
		if _, ok := found[a]; !ok && (end.IsZero() || end.After(soon)) {
			missing++
		}
	}
	if missing > 0 {
		return fmt.Errorf("%w: set %s lacks %d of %d elements that were put in", ErrUnknownState, k.name(), missing, len(bans))
	}
	if len(surplus) > 0 {
		n.log.Debug("removing bans that are in the kernel and not wanted", "set", k.name(), "elements", len(surplus))
	}
	for part := range slices.Chunk(surplus, n.limit()) {
		n.batch.reset()
		n.take(n.table, k.name(), part)
		if err := n.next(ctx); err != nil {
			return err
		}
	}
	return nil
}

// Apply carries out changes in order; of several for one prefix the last counts.
// Up to 50,000 take effect together (fewer where the socket's buffer cannot be
// enlarged), more in several steps. Adding what is there gives it the new end,
// removing what is not there is no error, and adding what has ended removes it.
//
// An error that does not wrap ErrUnknownState means that nothing was changed: a
// jail is unknown (ErrUnknownJail), or a prefix is none.
func (n *NFTables) Apply(changes []Change) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.sock == nil {
		return errClosed
	}
	if err := checkChanges(changes, n.jails); err != nil {
		return err
	}
	for part := range slices.Chunk(changes, n.limit()) {
		if err := n.apply(part); err != nil {
			return fmt.Errorf("apply %d changes to table %s: %w", len(changes), n.table, err)
		}
	}
	return nil
}

// change is what becomes of one set.
type change struct{ put, take []element }

func (n *NFTables) apply(changes []Change) error {
	n.batch.reset()
	now := time.Now()
	sets := make(map[setKey]*change)
	one := func(c Change) {
		p, _ := canonical(c.Prefix)
		k := keyOf(c.Jail, p)
		set := sets[k]
		if set == nil {
			set = new(change)
			sets[k] = set
		}
		if e := (element{p.Addr(), c.End}); c.Remove || c.ended(now) {
			set.take = append(set.take, e)
		} else {
			set.put = append(set.put, e)
		}
	}
	if len(changes) == 1 {
		one(changes[0])
	} else {
		last := make(map[place]int, len(changes))
		for i, c := range changes {
			p, _ := canonical(c.Prefix)
			last[place{c.Jail, p}] = i
		}
		for i, c := range changes {
			p, _ := canonical(c.Prefix)
			if last[place{c.Jail, p}] == i {
				one(c)
			}
		}
	}
	var made []setKey
	for k, set := range sets {
		name, stands := n.sets[k]
		if !stands {
			if len(set.put) == 0 {
				continue
			}
			name = k.name()
			n.batch.newJailSet(n.table, k)
			made = append(made, k)
		} else if len(set.take) > 0 {
			n.take(n.table, name, set.take)
		}
		n.put(n.table, name, set.put, stands, now)
	}
	if err := n.commit(); err != nil {
		return err
	}
	for _, k := range made {
		n.sets[k] = k.name()
	}
	return nil
}

// SetAllow replaces the allow list, in one step. Prefixes may overlap and
// contain each other. It needs a Sync before it.
func (n *NFTables) SetAllow(allow []netip.Prefix) error {
	sets, err := allowElements(allow)
	if err != nil {
		return fmt.Errorf("set the allow list of table %s: %w", n.table, err)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.sock == nil {
		return errClosed
	}
	if n.sets == nil {
		return fmt.Errorf("set the allow list of table %s before the first sync: %w", n.table, ErrUnknownState)
	}
	n.batch.reset()
	var made []setKey
	for k, name := range n.sets {
		if k.jail == "" {
			n.batch.flushSet(n.table, name)
		}
	}
	for _, k := range keys(sets) {
		if n.sets[k] == "" {
			n.batch.newJailSet(n.table, k)
			made = append(made, k)
		}
		n.batch.elements(unix.NFT_MSG_NEWSETELEM, n.table, k.name(), sets[k], false, time.Time{})
	}
	if err := n.commit(); err != nil {
		return fmt.Errorf("set the allow list of table %s: %w", n.table, err)
	}
	for _, k := range made {
		n.sets[k] = k.name()
	}
	return nil
}

// Stands reports whether our table is there.
func (n *NFTables) Stands() (bool, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.sock == nil {
		return false, errClosed
	}
	have, err := n.read()
	if err != nil {
		return false, fmt.Errorf("look for table %s: %w", n.table, err)
	}
	return have.table, nil
}

// Remove takes the whole table away, with all bans. It is no error if there is
// none. A Sync may follow.
func (n *NFTables) Remove() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.sock == nil {
		return errClosed
	}
	n.batch.reset()
	n.batch.begin(unix.NFT_MSG_NEWTABLE, unix.NLM_F_CREATE) // deleting what is missing is an error
	n.batch.str(unix.NFTA_TABLE_NAME, n.table)
	n.batch.begin(unix.NFT_MSG_DELTABLE, 0)
	n.batch.str(unix.NFTA_TABLE_NAME, n.table)
	if err := n.commit(); err != nil {
		return fmt.Errorf("remove table %s: %w", n.table, err)
	}
	n.jails, n.sets = nil, nil
	return nil
}

// Close disconnects and leaves everything in the kernel as it is.
func (n *NFTables) Close() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.sock == nil {
		return nil
	}
	err := n.sock.close()
	n.sock = nil
	return err
}
