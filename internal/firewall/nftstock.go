package firewall

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// setMark is in the user data of sets that we make in tables that others use as
// well: an attribute of a type that nft does not know and passes over
// (set_parse_udata_cb in nftables' src/netlink.c). Sets with it that nobody wants
// are left over from an earlier configuration.
const setMark = "\xb4\x06bantam"

// nftStock makes the stock actions' nftables objects: a table of family inet with
// one base chain, and in it for each jail and family a hash set of addresses, if
// need be an interval set of ranges, and the rules that look them up.
type nftStock struct {
	log  *slog.Logger
	port uint32
	writer
}

func openNFTStock(opts StockOptions) (*nftStock, error) {
	n, err := OpenNFTables(Options{NetNS: opts.NetNS, Log: opts.Log})
	if err != nil {
		return nil, err
	}
	// Only the connection and what was learnt of it.
	return &nftStock{log: n.log, port: n.port, writer: n.writer}, nil
}

func (o *object) keyType() (typ, size uint32) {
	if o.V6 {
		return typeIPv6, 16
	}
	return typeIPv4, 4
}

func (o *object) hostSpec() setSpec {
	s := setSpec{flags: unix.NFT_SET_TIMEOUT, mark: setMark}
	s.keyType, s.keyLen = o.keyType()
	return s
}

func (o *object) rangeSpec() setSpec {
	s := o.hostSpec()
	s.flags |= unix.NFT_SET_INTERVAL
	return s
}

// A stockTable is what stands in one table.
type stockTable struct {
	stands bool
	sets   map[string]setSpec
	chains map[string]chainSpec
	rules  []stockRule
}

// A stockRule is a rule and the sets it looks up.
type stockRule struct {
	chain  string
	handle uint64
	sets   []string
}

func (n *nftStock) read(table string) (*stockTable, error) {
	var t *stockTable
	err := repeat(func() error {
		t = &stockTable{sets: map[string]setSpec{}, chains: map[string]chainSpec{}}
		return n.readInto(table, t)
	})
	return t, err
}

func (n *nftStock) readInto(table string, t *stockTable) error {
	err := n.sock.dump(unix.NFT_MSG_GETTABLE, func(attrs []byte) error {
		for typ, data := range attributes(attrs) {
			t.stands = t.stands || typ == unix.NFTA_TABLE_NAME && text(data) == table
		}
		return nil
	})
	if err != nil || !t.stands {
		return err
	}
	// The name of the table is attribute 1 of all of them.
	in := func(b *batch) { b.str(unix.NFTA_SET_TABLE, table) }
	err = n.sock.dump(unix.NFT_MSG_GETSET, func(attrs []byte) error {
		if s := parseSet(attrs); s.table == table && s.spec.flags&unix.NFT_SET_ANONYMOUS == 0 {
			t.sets[s.name] = s.spec
		}
		return nil
	}, in)
	if err == nil {
		err = n.sock.dump(unix.NFT_MSG_GETCHAIN, func(attrs []byte) error {
			if c := parseChain(attrs); c.table == table {
				t.chains[c.name] = c.spec
			}
			return nil
		}, in)
	}
	if err == nil {
		err = n.sock.dump(unix.NFT_MSG_GETRULE, func(attrs []byte) error {
			name, r := parseRuleEntry(attrs)
			if name == table {
				t.rules = append(t.rules, r)
			}
			return nil
		}, in)
	}
	if errors.Is(err, unix.ENOENT) { // somebody removed the table meanwhile
		return errInterrupted
	}
	return err
}

func parseRuleEntry(attrs []byte) (table string, r stockRule) {
	for typ, data := range attributes(attrs) {
		switch typ {
		case unix.NFTA_RULE_TABLE:
			table = text(data)
		case unix.NFTA_RULE_CHAIN:
			r.chain = text(data)
		case unix.NFTA_RULE_HANDLE:
			r.handle = number(data)
		case unix.NFTA_RULE_EXPRESSIONS:
			for _, e := range attributes(data) {
				name := ""
				for typ, data := range attributes(e) {
					switch {
					case typ == unix.NFTA_EXPR_NAME:
						name = text(data)
					case typ == unix.NFTA_EXPR_DATA && name == "lookup":
						for typ, data := range attributes(data) {
							if typ == unix.NFTA_LOOKUP_SET {
								r.sets = append(r.sets, text(data))
							}
						}
					}
				}
			}
		}
	}
	return table, r
}

func (n *nftStock) sync(ctx context.Context, objects, all []*object) error {
	generation, err := n.sock.generation()
	if err != nil {
		return fmt.Errorf("sync nftables: %w: %w", ErrUnknownState, explain(err))
	}
	n.generation = generation
	for _, table := range tablesOf(objects) {
		some := slices.DeleteFunc(slices.Clone(objects), func(o *object) bool { return o.Table != table })
		if err := n.syncTable(ctx, table, some, all); err != nil {
			return fmt.Errorf("sync table %s: %w", table, err)
		}
	}
	return nil
}

func tablesOf(objects []*object) []string {
	names := make(map[string]bool)
	for _, o := range objects {
		names[o.Table] = true
	}
	return slices.Sorted(maps.Keys(names))
}

func (n *nftStock) syncTable(ctx context.Context, table string, objects, all []*object) error {
	have, err := n.read(table)
	if err != nil {
		return fmt.Errorf("read what is there: %w: %w", ErrUnknownState, explain(err))
	}
	type load struct {
		*object
		hosts []element
		kept  bool // the set stood there in the right form
	}
	now, total := time.Now(), 0
	var loads []load
	n.batch.reset()
	b := &n.batch
	b.newTable(table)
	for _, o := range objects {
		_, stands := have.sets[o.Set]
		_, rangesStand := have.sets[o.RangeSet]
		if o.started = stands && o.started; !stands && o.idle() {
			continue
		}
		hosts := o.hosts(now)
		if spec, ok := have.chains[o.Chain]; ok && spec != o.chain() {
			return fmt.Errorf("the chain %s stands there with another hook or priority than the action has; delete it, or name another", o.Chain)
		}
		b.newBaseChain(table, o.Chain, o.chain())
		for _, r := range have.rules {
			if slices.Contains(r.sets, o.Set) || slices.Contains(r.sets, o.RangeSet) {
				b.deleteRule(table, r)
			}
		}
		l := load{object: o, hosts: hosts, kept: stands && have.sets[o.Set] == o.hostSpec()}
		if stands && !l.kept {
			b.deleteSet(table, o.Set)
		}
		if !l.kept {
			b.newSet(table, o.Set, o.hostSpec())
		}
		pieces := o.cut(now)
		o.ranges = rangesStand || len(pieces) > 0
		keptRanges := rangesStand && have.sets[o.RangeSet] == o.rangeSpec()
		if rangesStand && !keptRanges {
			b.deleteSet(table, o.RangeSet)
		}
		if o.ranges && !keptRanges {
			b.newSet(table, o.RangeSet, o.rangeSpec())
		}
		o.rulesFor(b)
		if keptRanges {
			b.flushSet(table, o.RangeSet)
		}
		b.intervals(unix.NFT_MSG_NEWSETELEM, table, o.RangeSet, pieces, true, now)
		o.pieces = pieces
		total += len(hosts)
		loads = append(loads, l)
	}
	n.stale(b, table, have, all)
	if len(loads) == 0 && b.messages == 1 {
		b.reset()
		return nil
	}
	// A few elements go in with the structure, the old ones out: packets see
	// either the one or the other. So do those of a set that is replaced.
	whole := total <= n.limit()
	for _, l := range loads {
		_, stood := have.sets[l.Set]
		if whole && l.kept {
			b.flushSet(table, l.Set)
		}
		if whole || stood && !l.kept {
			b.elements(unix.NFT_MSG_NEWSETELEM, table, l.Set, l.hosts, true, now)
		}
	}
	if err := n.next(ctx); err != nil {
		return err
	}
	for _, l := range loads {
		_, stood := have.sets[l.Set]
		if !whole && (l.kept || !stood) {
			if err := n.fill(ctx, l.object, l.hosts, l.kept); err != nil {
				return err
			}
		}
		l.started = true
	}
	return nil
}

// stale writes that our sets that nobody wants any more shall be gone.
func (n *nftStock) stale(b *batch, table string, have *stockTable, objects []*object) {
	for name, spec := range have.sets {
		wanted := slices.ContainsFunc(objects, func(o *object) bool { return o.Set == name || o.RangeSet == name })
		if wanted || spec.mark != setMark {
			continue
		}
		for _, r := range have.rules {
			if slices.Contains(r.sets, name) {
				b.deleteRule(table, r)
			}
		}
		b.deleteSet(table, name)
	}
}

// sweep takes away our sets in tables that no object is in any more, with the
// tables if nothing else is there. The tables of objects are swept by sync.
func (n *nftStock) sweep(ctx context.Context, objects []*object) error {
	left := make(map[string]bool)
	err := repeat(func() error {
		clear(left)
		return n.sock.dump(unix.NFT_MSG_GETSET, func(attrs []byte) error {
			if s := parseSet(attrs); s.spec.mark == setMark {
				left[s.table] = true
			}
			return nil
		})
	})
	if err != nil {
		return fmt.Errorf("look for sets that are left over: %w", explain(err))
	}
	for _, o := range objects {
		delete(left, o.Table)
	}
	for table := range left {
		have, err := n.read(table)
		if err != nil {
			return fmt.Errorf("look for sets that are left over in table %s: %w", table, explain(err))
		}
		n.batch.reset()
		n.stale(&n.batch, table, have, nil)
		foreign := 0
		for _, spec := range have.sets {
			if spec.mark != setMark {
				foreign++
			}
		}
		if foreign == 0 {
			n.batch.reset()
			n.batch.deleteTable(table)
		}
		if err := n.next(ctx); err != nil {
			return fmt.Errorf("take away what is left over in table %s: %w", table, err)
		}
	}
	return nil
}

// fill puts elements into a set by parts, and takes out of it, if it stood there,
// what is not among them. What a set holds already is left alone.
func (n *nftStock) fill(ctx context.Context, o *object, hosts []element, kept bool) error {
	var found map[netip.Addr]time.Time
	if kept {
		var err error
		if found, err = n.sock.members(ctx, o.Table, o.Set); err != nil {
			return fmt.Errorf("read set %s: %w: %w", o.Set, ErrUnknownState, err)
		}
		lacking := hosts[:0:0]
		for _, e := range hosts {
			end, ok := found[e.addr]
			if !ok || end.IsZero() != e.end.IsZero() || end.Sub(e.end).Abs() > expirySlack {
				lacking = append(lacking, e)
			}
			delete(found, e.addr)
		}
		hosts = lacking
	}
	for part := range slices.Chunk(hosts, n.limit()) {
		n.batch.reset()
		n.put(o.Table, o.Set, part, kept, time.Now())
		if err := n.next(ctx); err != nil {
			return err
		}
	}
	surplus := make([]element, 0, len(found))
	for a := range found {
		surplus = append(surplus, element{addr: a})
	}
	for part := range slices.Chunk(surplus, n.limit()) {
		n.batch.reset()
		n.take(o.Table, o.Set, part)
		if err := n.next(ctx); err != nil {
			return err
		}
	}
	return nil
}

func (n *nftStock) apply(ctx context.Context, works []work) error {
	n.batch.reset()
	count, now := 0, time.Now()
	// room makes room for more elements of one set.
	room := func(more int) error {
		if count+more <= n.limit() {
			count += more
			return nil
		}
		count = more
		return n.next(ctx)
	}
	for _, w := range works {
		var put, take []element
		ranges := false
		for _, e := range w.put {
			switch {
			case !e.Prefix.IsSingleIP():
				ranges = true
			case e.ended(now):
				take = append(take, element{addr: e.Prefix.Addr()})
			default:
				put = append(put, element{e.Prefix.Addr(), e.End})
			}
		}
		for _, p := range w.take {
			if p.IsSingleIP() {
				take = append(take, element{addr: p.Addr()})
			} else {
				ranges = true
			}
		}
		for part := range slices.Chunk(take, n.limit()) {
			if err := room(len(part)); err != nil {
				return n.failed(w, err)
			}
			n.take(w.Table, w.Set, part)
		}
		for part := range slices.Chunk(put, n.limit()) {
			if err := room(len(part)); err != nil {
				return n.failed(w, err)
			}
			n.put(w.Table, w.Set, part, true, now)
		}
		if ranges {
			n.applyRanges(w.object, now)
		}
	}
	if err := n.next(ctx); err != nil {
		return fmt.Errorf("apply changes to nftables: %w", err)
	}
	return nil
}

func (n *nftStock) failed(w work, err error) error {
	return fmt.Errorf("apply %d changes to set %s: %w", len(w.put)+len(w.take), w.Set, err)
}

// applyRanges changes the set of ranges to what is wanted now.
func (n *nftStock) applyRanges(o *object, now time.Time) {
	pieces := o.cut(now)
	b := &n.batch
	if !o.ranges {
		if len(pieces) == 0 {
			return
		}
		b.newSet(o.Table, o.RangeSet, o.rangeSpec())
		for _, m := range o.matches {
			b.stockRule(o.Objects, m, o.RangeSet)
		}
		o.ranges = true
	}
	old := make(map[piece]bool, len(o.pieces))
	for _, p := range o.pieces {
		old[p] = true
	}
	var more []piece
	for _, p := range pieces {
		if old[p] {
			delete(old, p)
		} else {
			more = append(more, p)
		}
	}
	less := slices.Collect(maps.Keys(old))
	if n.destroy {
		b.intervals(destroySetElem, o.Table, o.RangeSet, less, false, now)
	} else if len(less) > 0 {
		// What has ended by itself cannot be deleted by kernels before 6.3,
		// and cannot be added as long as it overlaps: all of it anew.
		b.flushSet(o.Table, o.RangeSet)
		more = pieces
	}
	b.intervals(unix.NFT_MSG_NEWSETELEM, o.Table, o.RangeSet, more, true, now)
	o.pieces = pieces
}

func (n *nftStock) remove(ctx context.Context, objects []*object) error {
	for _, table := range tablesOf(objects) {
		have, err := n.read(table)
		if err != nil {
			return fmt.Errorf("remove from table %s: read what is there: %w", table, explain(err))
		}
		if !have.stands {
			continue
		}
		n.batch.reset()
		left := len(have.sets)
		for _, o := range objects {
			if o.Table != table {
				continue
			}
			for _, set := range []string{o.Set, o.RangeSet} {
				if _, ok := have.sets[set]; !ok {
					continue
				}
				for _, r := range have.rules {
					if slices.Contains(r.sets, set) {
						n.batch.deleteRule(table, r)
					}
				}
				n.batch.deleteSet(table, set)
				left--
			}
		}
		if left == 0 { // the last one turns off the light
			n.batch.reset()
			n.batch.deleteTable(table)
		}
		if err := n.next(ctx); err != nil {
			return fmt.Errorf("remove from table %s: %w", table, err)
		}
	}
	return nil
}

// disturbs reports whether a notice tells that somebody took something of ours
// away, or of the tables that we share.
func (n *nftStock) disturbs(m message, tables map[string]bool) bool {
	if m.kind>>8 != unix.NFNL_SUBSYS_NFTABLES || m.port == n.port || m.port == 0 || len(m.body) < nfgenLen || m.body[0] != unix.NFPROTO_INET {
		return false
	}
	switch m.kind & 0xff {
	case unix.NFT_MSG_DELTABLE, unix.NFT_MSG_DELCHAIN, unix.NFT_MSG_DELRULE, unix.NFT_MSG_DELSET, unix.NFT_MSG_DELSETELEM, unix.NFT_MSG_NEWTABLE, unix.NFT_MSG_NEWCHAIN:
	default:
		return false
	}
	table, set := "", ""
	for typ, data := range attributes(m.body[nfgenLen:]) {
		switch typ {
		case unix.NFTA_TABLE_NAME: // 1, as is the table of all the others
			table = text(data)
		case unix.NFTA_SET_ELEM_LIST_SET:
			if m.kind&0xff == unix.NFT_MSG_DELSETELEM {
				set = text(data)
			}
		}
	}
	if set != "" {
		return tables[table+" "+set]
	}
	return tables[table]
}

// rulesFor appends the rules of an object's sets.
func (o *object) rulesFor(b *batch) {
	for _, m := range o.matches {
		b.stockRule(o.Objects, m, o.Set)
	}
	if !o.ranges {
		return
	}
	for _, m := range o.matches {
		b.stockRule(o.Objects, m, o.RangeSet)
	}
}

func (o *object) chain() chainSpec {
	return chainSpec{base: true, hook: o.hook, priority: uint32(o.priority), kind: "filter"}
}

func (b *batch) newTable(table string) {
	b.begin(unix.NFT_MSG_NEWTABLE, unix.NLM_F_CREATE)
	b.str(unix.NFTA_TABLE_NAME, table)
	b.u32(unix.NFTA_TABLE_FLAGS, 0) // also wakes a table that somebody made dormant
}

func (b *batch) deleteTable(table string) {
	b.begin(unix.NFT_MSG_DELTABLE, 0)
	b.str(unix.NFTA_TABLE_NAME, table)
}

func (b *batch) deleteRule(table string, r stockRule) {
	b.begin(unix.NFT_MSG_DELRULE, 0)
	b.str(unix.NFTA_RULE_TABLE, table)
	b.str(unix.NFTA_RULE_CHAIN, r.chain)
	b.u64(unix.NFTA_RULE_HANDLE, r.handle)
}

func (b *batch) deleteSet(table, name string) {
	b.begin(unix.NFT_MSG_DELSET, 0)
	b.str(unix.NFTA_SET_TABLE, table)
	b.str(unix.NFTA_SET_NAME, name)
}
