package firewall

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

const (
	hashIP          = "hash:ip"
	hashNet         = "hash:net"
	ipsetNameLen    = 31 // IPSET_MAXNAMELEN of linux/netfilter/ipset/ip_set.h, with its NUL
	defaultMaxElem  = 65536
	maxIPSetTimeout = 2147483 // seconds: IPSET_MAX_TIMEOUT, UINT_MAX / MSEC_PER_SEC / 2
)

// The wire of ipset: linux/netfilter/ipset/ip_set.h.
const (
	ipsetProtocol = 6

	ipsetCreate  = 2
	ipsetDestroy = 3
	ipsetSwap    = 6
	ipsetList    = 7
	ipsetAdd     = 9
	ipsetDel     = 10
	ipsetType    = 13

	ipsetAttrProtocol = 1
	ipsetAttrName     = 2
	ipsetAttrTypeName = 3 // of swap: the other set
	ipsetAttrRevision = 4
	ipsetAttrFamily   = 5
	ipsetAttrFlags    = 6
	ipsetAttrData     = 7
	ipsetAttrADT      = 8
	ipsetAttrLineNo   = 9

	ipsetAttrIP       = 1
	ipsetAttrCIDR     = 3
	ipsetAttrTimeout  = 6
	ipsetAttrMaxElem  = 19
	ipsetAttrElements = 24
	ipsetAttrIPv4     = 1
	ipsetAttrIPv6     = 2

	ipsetFlagListHeader = 1 << 2
)

// The errors of ipset, by their numbers.
const (
	ipsetErrFindType = unix.Errno(4098)
	ipsetErrBusy     = unix.Errno(4100)
	ipsetErrMismatch = unix.Errno(4102)
	ipsetErrFull     = unix.Errno(4352)
)

// explainIPSet puts ipset's own errors into words.
func explainIPSet(err error) error {
	var errno unix.Errno
	if !errors.As(err, &errno) {
		return err
	}
	words := map[unix.Errno]string{
		ipsetErrFindType: "the kernel does not know the set's type: load ip_set_hash_ip and ip_set_hash_net",
		ipsetErrBusy:     "the set is in use by a rule",
		ipsetErrMismatch: "a set of another type has the name",
		ipsetErrFull:     "the set is full",
	}
	switch text, ok := words[errno]; {
	case ok:
		return errors.New(text)
	case errors.Is(err, unix.EPERM):
		return explain(err)
	case errors.Is(err, unix.EINVAL):
		return fmt.Errorf("%w: is the module ip_set there?", err)
	}
	return err
}

// ipsetStock makes the stock actions' ipsets, with a set of ranges beside each set
// of addresses, and the iptables rules that look them up.
type ipsetStock struct {
	log       *slog.Logger
	sock      *socket
	run       runner
	batch     batch
	revisions map[string]uint8
	room      int // bytes that may be sent at once
}

func openIPSetStock(opts StockOptions) (*ipsetStock, error) {
	sock, err := dialSocket(opts.NetNS)
	if err != nil {
		return nil, fmt.Errorf("open ipset: %w", explain(err))
	}
	room, err := sock.conn.WriteBuffer()
	if err != nil {
		_ = sock.close()
		return nil, fmt.Errorf("open ipset: %w", err)
	}
	return &ipsetStock{log: opts.Log, sock: sock, run: runner{opts.Start}, revisions: make(map[string]uint8), room: room}, nil
}

// message begins a message about a set.
func (n *ipsetStock) message(command uint16, flags uint16, family uint8, set string) {
	b := &n.batch
	b.end()
	b.header(unix.NFNL_SUBSYS_IPSET<<8|command, flags|unix.NLM_F_REQUEST, family, 0)
	b.messages++
	b.attr(ipsetAttrProtocol, []byte{ipsetProtocol})
	if set != "" {
		b.str(ipsetAttrName, set)
	}
}

// send carries out the messages written, each by itself, in order.
func (n *ipsetStock) send() error {
	defer n.batch.reset()
	if n.batch.messages == 0 {
		return nil
	}
	data, last, err := n.batch.finishEach(&n.sock.seq)
	if err == nil {
		err = n.sock.exchange(data, last)
	}
	return err
}

// full sends when enough is written.
func (n *ipsetStock) full() error {
	const (
		most         = 1 << 20
		messageBytes = 70 << 10 // the longest
	)
	if len(n.batch.buf) < most && len(n.batch.buf)+messageBytes < n.room {
		return nil
	}
	return n.send()
}

func familyOf(o *Objects) uint8 {
	if o.V6 {
		return unix.NFPROTO_IPV6
	}
	return unix.NFPROTO_IPV4
}

// An ipsetHeader is what the kernel says of a set without its elements.
type ipsetHeader struct {
	typeName          string
	family            uint8
	maxElem, elements uint32
}

// header asks for a set; nil if there is none.
func (n *ipsetStock) header(set string) (*ipsetHeader, error) {
	n.batch.reset()
	defer n.batch.reset()
	n.message(ipsetList, unix.NLM_F_DUMP, unix.NFPROTO_IPV4, set)
	n.batch.u32(ipsetAttrFlags|unix.NLA_F_NET_BYTEORDER, ipsetFlagListHeader)
	var h *ipsetHeader
	err := n.sock.list(&n.batch, func(attrs []byte) error {
		if h == nil {
			h = parseIPSetHeader(attrs)
		}
		return nil
	})
	if errors.Is(err, unix.ENOENT) {
		return nil, nil
	}
	return h, err
}

func parseIPSetHeader(attrs []byte) *ipsetHeader {
	h := new(ipsetHeader)
	for typ, data := range attributes(attrs) {
		switch typ {
		case ipsetAttrTypeName:
			h.typeName = text(data)
		case ipsetAttrFamily:
			h.family = uint8(number(data))
		case ipsetAttrData:
			for typ, data := range attributes(data) {
				switch typ {
				case ipsetAttrMaxElem:
					h.maxElem = uint32(number(data))
				case ipsetAttrElements:
					h.elements = uint32(number(data))
				}
			}
		}
	}
	return h
}

// revision is the latest form of a type that the kernel knows.
func (n *ipsetStock) revision(o *Objects, typeName string) (uint8, error) {
	key := fmt.Sprint(typeName, o.V6)
	if r, ok := n.revisions[key]; ok {
		return r, nil
	}
	n.batch.reset()
	defer n.batch.reset()
	n.message(ipsetType, 0, familyOf(o), "")
	n.batch.str(ipsetAttrTypeName, typeName)
	n.batch.attr(ipsetAttrFamily, []byte{familyOf(o)})
	revision, err := n.sock.askNumber(&n.batch, ipsetAttrRevision)
	if err != nil {
		return 0, err
	}
	n.revisions[key] = uint8(revision)
	return n.revisions[key], nil
}

// create writes that a set shall be made; that it stands already in another form
// is an error.
func (n *ipsetStock) create(o *object, set, typeName string, maxElem uint32) error {
	revision, err := n.revision(o.Objects, typeName)
	if err != nil {
		return err
	}
	n.message(ipsetCreate, unix.NLM_F_CREATE, familyOf(o.Objects), set)
	b := &n.batch
	b.str(ipsetAttrTypeName, typeName)
	b.attr(ipsetAttrRevision, []byte{revision})
	b.attr(ipsetAttrFamily, []byte{familyOf(o.Objects)})
	data := b.nested(ipsetAttrData)
	b.u32(ipsetAttrTimeout|unix.NLA_F_NET_BYTEORDER, o.timeout)
	b.u32(ipsetAttrMaxElem|unix.NLA_F_NET_BYTEORDER, maxElem)
	b.close(data)
	return nil
}

// An entry is an element of an ipset.
type entry struct {
	prefix netip.Prefix
	end    time.Time
}

// change writes that entries shall be in a set, or not be in it.
func (n *ipsetStock) change(command uint16, set string, es []entry, now time.Time) error {
	for part := range slices.Chunk(splitZero(es), messageElements) {
		n.message(command, 0, unix.NFPROTO_IPV4, set)
		b := &n.batch
		b.u32(ipsetAttrLineNo, 0)
		list := b.nested(ipsetAttrADT)
		for _, e := range part {
			data := b.nested(ipsetAttrData)
			ip := b.nested(ipsetAttrIP)
			if e.prefix.Addr().Is4() {
				a := e.prefix.Addr().As4()
				b.attr(ipsetAttrIPv4|unix.NLA_F_NET_BYTEORDER, a[:])
			} else {
				a := e.prefix.Addr().As16()
				b.attr(ipsetAttrIPv6|unix.NLA_F_NET_BYTEORDER, a[:])
			}
			b.close(ip)
			if !e.prefix.IsSingleIP() {
				b.attr(ipsetAttrCIDR, []byte{byte(e.prefix.Bits())})
			}
			if command == ipsetAdd {
				b.u32(ipsetAttrTimeout|unix.NLA_F_NET_BYTEORDER, secondsLeft(e.end, now))
			}
			b.close(data)
		}
		b.close(list)
		if err := n.full(); err != nil {
			return err
		}
	}
	return n.batch.err
}

// secondsLeft is an element's timeout; 0 for ever, and for a time that is longer
// than ipset can count.
func secondsLeft(end, now time.Time) uint32 {
	if end.IsZero() {
		return 0
	}
	left := (end.Sub(now) + time.Second - 1) / time.Second
	if left > maxIPSetTimeout {
		return 0
	}
	return uint32(max(left, 1))
}

// splitZero makes two halves of a prefix of all addresses, which no hash:net takes.
func splitZero(es []entry) []entry {
	if !slices.ContainsFunc(es, func(e entry) bool { return e.prefix.Bits() == 0 }) {
		return es
	}
	var out []entry
	for _, e := range es {
		if e.prefix.Bits() != 0 {
			out = append(out, e)
			continue
		}
		low := netip.PrefixFrom(e.prefix.Addr(), 1)
		out = append(out, entry{low, e.end}, entry{netip.PrefixFrom(lastOf(low).Next(), 1), e.end})
	}
	return out
}

// entries sorts what is wanted into the set of addresses and that of ranges.
func (o *object) entries(now time.Time) map[string][]entry {
	out := map[string][]entry{o.Set: nil}
	if o.ranges {
		out[o.RangeSet] = nil
	}
	for p, end := range o.want {
		if !(Element{End: end}).ended(now) {
			set := o.setOf(p)
			out[set] = append(out[set], entry{p, end})
		}
	}
	return out
}

// setOf is the set that a prefix belongs to.
func (o *object) setOf(p netip.Prefix) string {
	if p.IsSingleIP() {
		return o.Set
	}
	return o.RangeSet
}

func (o *object) typeOf(set string) string {
	if set == o.Set {
		return o.setType
	}
	return hashNet
}

// enough is how large a set of so many elements is made: as large as the action
// says, or more if that is too small.
func (o *object) enough(elements int) uint32 {
	size := max(o.maxElem, 1)
	for uint64(size) < uint64(elements) && size < 1<<30 {
		size *= 2
	}
	return size
}

func (n *ipsetStock) sync(ctx context.Context, objects, _ []*object) error {
	standing := make([]*object, 0, len(objects))
	for _, o := range objects {
		stands, err := n.syncSets(ctx, o)
		if err != nil {
			n.batch.reset()
			return fmt.Errorf("sync ipset %s: %w: %w", o.Set, ErrUnknownState, explainIPSet(err))
		}
		if stands {
			standing = append(standing, o)
		}
	}
	for _, program := range programsOf(standing) {
		if err := n.syncRules(ctx, program, standing); err != nil {
			return fmt.Errorf("sync %s: %w", program, err)
		}
	}
	for _, o := range standing {
		o.started = true
	}
	return nil
}

// temporary is the name of a set that is to take another's place.
func temporary(set string) string { return companion(set, set, "bantam-"+set, ipsetNameLen) }

// syncSets makes an object's sets anew and puts them in the place of those that
// stand, so that packets see either the old elements or the new ones.
func (n *ipsetStock) syncSets(ctx context.Context, o *object) (stands bool, err error) {
	have := make(map[string]*ipsetHeader)
	for _, set := range []string{o.Set, o.RangeSet} {
		if have[set], err = n.header(set); err != nil {
			return false, err
		}
	}
	if o.started = o.started && have[o.Set] != nil; o.idle() && have[o.Set] == nil {
		return false, nil
	}
	now := time.Now()
	o.ranges = have[o.RangeSet] != nil || len(o.wide) > 0
	if o.sizes == nil {
		o.sizes = make(map[string]uint32)
	}
	for set, es := range o.entries(now) {
		if err := ctx.Err(); err != nil {
			return false, err
		}
		h := have[set]
		if h != nil && (h.typeName != o.typeOf(set) || h.family != familyOf(o.Objects)) {
			if err := n.clear(ctx, o, set); err != nil {
				return false, err
			}
			h = nil
		}
		size, name := o.enough(len(es)), set
		if size > o.maxElem {
			n.log.Info("an ipset is made larger than its action says, or bans would be lost", "jail", o.jail, "set", set, "maxelem", size)
		}
		if h != nil {
			name = temporary(set)
			n.message(ipsetDestroy, 0, unix.NFPROTO_IPV4, name)
			_ = n.send() // one left over; mostly there is none
		}
		if err := n.create(o, name, o.typeOf(set), size); err != nil {
			return false, err
		}
		if err := n.change(ipsetAdd, name, es, now); err != nil {
			return false, err
		}
		if h != nil {
			n.message(ipsetSwap, 0, unix.NFPROTO_IPV4, name)
			n.batch.str(ipsetAttrTypeName, set)
			n.message(ipsetDestroy, 0, unix.NFPROTO_IPV4, name)
		}
		if err := n.send(); err != nil {
			return false, err
		}
		o.sizes[set] = size
	}
	return true, nil
}

// clear takes a set of another type away, with the rules that look at it. The
// kernel neither swaps sets of different types nor renames one in use.
func (n *ipsetStock) clear(ctx context.Context, o *object, set string) error {
	n.log.Warn("an ipset of another type stands under the name of ours and is replaced", "jail", o.jail, "set", set)
	have, err := n.run.save(ctx, o.Program)
	if err != nil {
		return err
	}
	var b strings.Builder
	for _, r := range have.lookUps(set) {
		r.drop(&b)
	}
	if err := n.run.restore(ctx, o.Program, b.String()); err != nil {
		return err
	}
	n.message(ipsetDestroy, 0, unix.NFPROTO_IPV4, set)
	return n.send()
}

// syncRules writes the rules of objects anew, in one step for each program.
func (n *ipsetStock) syncRules(ctx context.Context, program string, objects []*object) error {
	have, err := n.run.save(ctx, program)
	if err != nil {
		return fmt.Errorf("read what is there: %w: %w", ErrUnknownState, err)
	}
	var b strings.Builder
	for _, o := range objects {
		if o.Program != program {
			continue
		}
		for _, r := range have.lookUps(o.Set, o.RangeSet) {
			r.drop(&b)
		}
		o.lookUpRules(&b, o.Set)
		if o.ranges && o.RangeSet != o.Set {
			o.lookUpRules(&b, o.RangeSet)
		}
	}
	return n.run.restore(ctx, program, b.String())
}

// lookUpRules writes an object's rules for one of its sets.
func (o *object) lookUpRules(b *strings.Builder, set string) {
	for _, j := range o.jumps {
		words := slices.Clone(j.words)
		words[slices.Index(words, "--match-set")+1] = set
		writeRule(b, "-I", j.chain, words)
	}
}

func (n *ipsetStock) apply(ctx context.Context, works []work) error {
	now := time.Now()
	for _, w := range works {
		if err := n.applyOne(ctx, w, now); err != nil {
			n.batch.reset()
			return fmt.Errorf("apply %d changes to ipset %s: %w: %w", len(w.put)+len(w.take), w.Set, ErrUnknownState, explainIPSet(err))
		}
	}
	if err := n.send(); err != nil {
		return fmt.Errorf("apply changes to ipsets: %w: %w", ErrUnknownState, explainIPSet(err))
	}
	return nil
}

func (n *ipsetStock) applyOne(ctx context.Context, w work, now time.Time) error {
	put, take := make(map[string][]entry), make(map[string][]entry)
	for _, p := range w.take {
		take[w.setOf(p)] = append(take[w.setOf(p)], entry{prefix: p})
	}
	for _, e := range w.put {
		set, to := w.setOf(e.Prefix), put
		if e.ended(now) {
			to = take
		}
		to[set] = append(to[set], entry{e.Prefix, e.End})
	}
	if !w.ranges && len(put[w.RangeSet]) > 0 && w.RangeSet != w.Set {
		// The first range: its set, then the rules that look there. What is
		// written for others goes first.
		if err := n.send(); err != nil {
			return err
		}
		if _, err := n.syncSets(ctx, w.object); err != nil {
			return err
		}
		return n.syncRules(ctx, w.Program, []*object{w.object})
	}
	for set, es := range take {
		if set == w.Set || w.ranges {
			if err := n.change(ipsetDel, set, es, now); err != nil {
				return err
			}
		}
	}
	for set, es := range put {
		if uint64(w.count(set))+1 >= uint64(w.sizes[set]) { // a range of all addresses takes two
			if err := n.send(); err != nil {
				return err
			}
			_, err := n.syncSets(ctx, w.object) // grows it, and has all that is wanted
			return err
		}
		if err := n.change(ipsetAdd, set, es, now); err != nil {
			return err
		}
	}
	return nil
}

// count is how many elements of a set are wanted.
func (o *object) count(set string) int {
	switch {
	case o.Set == o.RangeSet:
		return len(o.want)
	case set == o.RangeSet:
		return len(o.wide)
	}
	return len(o.want) - len(o.wide)
}

func (n *ipsetStock) remove(ctx context.Context, objects []*object) error {
	for _, program := range programsOf(objects) {
		var b strings.Builder
		var have *saved
		for _, o := range objects {
			h, err := n.header(o.Set)
			if err != nil {
				return fmt.Errorf("remove ipset %s: %w", o.Set, explainIPSet(err))
			}
			if o.Program != program || h == nil {
				continue
			}
			if have == nil {
				if have, err = n.run.save(ctx, program); err != nil {
					return fmt.Errorf("remove ipset %s: read the rules: %w", o.Set, err)
				}
			}
			for _, r := range have.lookUps(o.Set, o.RangeSet) {
				r.drop(&b)
			}
		}
		if err := n.run.restore(ctx, program, b.String()); err != nil {
			return fmt.Errorf("remove rules of %s: %w", program, err)
		}
	}
	for _, o := range objects {
		for _, set := range slices.Compact([]string{o.Set, o.RangeSet}) {
			n.message(ipsetDestroy, 0, unix.NFPROTO_IPV4, set)
			if err := n.send(); err != nil && !errors.Is(err, unix.ENOENT) {
				return fmt.Errorf("remove ipset %s: %w", set, explainIPSet(err))
			}
		}
		o.ranges = false
	}
	return nil
}

// lacks reports whether sets hold less than is wanted.
func (n *ipsetStock) lacks(o *object, now time.Time) (bool, error) {
	want := make(map[string]int)
	for p, end := range o.want {
		// What is about to end may be gone already.
		if end.IsZero() || end.Sub(now) > expirySlack {
			want[o.setOf(p)]++
		}
	}
	for _, set := range slices.Compact([]string{o.Set, o.RangeSet}) {
		if set == o.RangeSet && !o.ranges && set != o.Set {
			continue
		}
		h, err := n.header(set)
		if err != nil {
			return false, err
		}
		if h == nil || int(h.elements) < want[set] {
			return true, nil
		}
	}
	return false, nil
}

// finishEach asks for an acknowledgement of the last of several messages that are
// no transaction, and numbers them. The kernel tells of each that fails.
func (b *batch) finishEach(seq *uint32) (data []byte, last uint32, err error) {
	if b.err != nil {
		return nil, 0, b.err
	}
	b.end()
	flags := b.buf[b.last+6:]
	binary.NativeEndian.PutUint16(flags, binary.NativeEndian.Uint16(flags)|unix.NLM_F_ACK)
	for at := 0; at < len(b.buf); {
		*seq++
		binary.NativeEndian.PutUint32(b.buf[at+8:], *seq)
		at += int(binary.NativeEndian.Uint32(b.buf[at:]))
	}
	return b.buf, *seq, nil
}
