package firewall

import (
	"encoding/binary"
	"errors"
	"fmt"
	"syscall"

	"github.com/google/nftables/expr"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// This file is nftables' wire: transactions, dumps and attributes. The nftables
// library describes the rules (package expr); its connection is not used, because
// it drops elements in silence when a message grows past 64 KiB, waits for ever if
// the kernel acknowledges less than was asked for, and does not know
// NFT_MSG_DESTROYSETELEM. The kernel's side is net/netfilter/nfnetlink.c and
// nf_tables_api.c.

// destroySetElem takes an element out whether or not it is there. Linux 6.3 or
// later (NFT_MSG_DESTROYSETELEM of linux/netfilter/nf_tables.h).
const destroySetElem = 0x1e

const (
	// socketBuffer bounds a transaction, which is one datagram, and the
	// acknowledgements of one. It is a limit, not an allocation.
	socketBuffer = 64 << 20
	// receiveBuffer is what the kernel is offered per read. It fills up to
	// 32 KiB of it in a dump (netlink_dump in net/netlink/af_netlink.c); each
	// datagram of a dump walks the set from its start, so few are much faster.
	receiveBuffer = 64 << 10
	headerLen     = unix.NLMSG_HDRLEN
)

var (
	errNoAck       = errors.New("the kernel did not acknowledge the transaction")
	errInterrupted = errors.New("the ruleset changed while it was read")
	errMalformed   = errors.New("malformed netlink message")
)

// A socket is one netlink connection to nf_tables. It is not safe for
// concurrent use.
//
// The kernel handles a request within the call that sends it: afterwards its
// answers lie in the receive buffer, and an empty buffer means that there are no
// more. So nothing here ever waits.
type socket struct {
	conn *netlink.Conn
	raw  syscall.RawConn
	seq  uint32
	buf  []byte
}

// dialSocket opens a socket in a network namespace, 0 for the thread's own.
func dialSocket(netns int) (*socket, error) {
	conn, err := netlink.Dial(unix.NETLINK_NETFILTER, &netlink.Config{NetNS: netns})
	if err != nil {
		return nil, err
	}
	s := &socket{conn: conn, buf: make([]byte, receiveBuffer)}
	if s.raw, err = conn.SyscallConn(); err == nil {
		// Both use the forced variants when allowed to (SO_RCVBUFFORCE).
		err = errors.Join(conn.SetReadBuffer(socketBuffer), conn.SetWriteBuffer(socketBuffer))
	}
	if err != nil {
		_ = conn.Close()
		return nil, err
	}
	// Errors without a copy of the message that caused them, and with the
	// kernel's own words. Old kernels have neither.
	_ = conn.SetOption(netlink.CapAcknowledge, true)
	_ = conn.SetOption(netlink.ExtendedAcknowledge, true)
	return s, nil
}

func (s *socket) close() error { return s.conn.Close() }

// send writes one datagram.
func (s *socket) send(b []byte) error {
	var err error
	ctrl := s.raw.Write(func(fd uintptr) bool {
		for {
			err = unix.Sendto(int(fd), b, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK})
			if !errors.Is(err, unix.EINTR) {
				return true
			}
		}
	})
	return errors.Join(ctrl, err)
}

// receive reads the next datagram, which is valid until the next call. With wait
// it waits for one, else the error is EAGAIN if there is none.
func (s *socket) receive(wait bool) ([]byte, error) {
	var n int
	var err error
	ctrl := s.raw.Read(func(fd uintptr) bool {
		for {
			n, _, err = unix.Recvfrom(int(fd), s.buf, unix.MSG_DONTWAIT|unix.MSG_TRUNC)
			if !errors.Is(err, unix.EINTR) {
				return !wait || !errors.Is(err, unix.EAGAIN)
			}
		}
	})
	if err := errors.Join(ctrl, err); err != nil {
		return nil, err
	}
	if n > len(s.buf) {
		return nil, unix.ENOBUFS
	}
	return s.buf[:n], nil
}

// commit sends a transaction. It is carried out whole or, if there is an error,
// not at all; but after ENOBUFS, or without an acknowledgement, nobody knows.
func (s *socket) commit(b *batch) error {
	data, last, err := b.finish(&s.seq)
	if err != nil {
		return err
	}
	for range 3 {
		// Both come before anything was done.
		if err = s.exchange(data, last); !errors.Is(err, unix.EINTR) && !errors.Is(err, unix.EAGAIN) {
			break
		}
	}
	return err
}

// exchange sends a transaction whose last message has the number given, and
// reads what the kernel says to it.
func (s *socket) exchange(data []byte, last uint32) error {
	s.discard()
	if err := s.send(data); err != nil {
		return err
	}
	acked, first := false, error(nil)
	for {
		in, err := s.receive(false)
		if errors.Is(err, unix.EAGAIN) {
			break
		}
		if err != nil {
			return err
		}
		for m, err := range messages(in) {
			if err != nil {
				return err
			}
			if m.kind != unix.NLMSG_ERROR {
				continue // the echo of a change
			}
			if m.seq == last {
				acked = true
			}
			if err := m.errno(); err != nil && first == nil {
				first = err
			}
		}
	}
	if first == nil && !acked {
		return errNoAck
	}
	return first
}

// dump asks for a list and calls each with the attributes of every entry. They
// are valid during the call. errInterrupted means that the list may lack or
// double entries.
func (s *socket) dump(kind int, each func(attrs []byte) error, attrs ...func(*batch)) error {
	var b batch
	b.question(kind, unix.NLM_F_DUMP)
	for _, add := range attrs {
		add(&b)
	}
	return s.list(&b, each)
}

// list is dump for a question already written.
func (s *socket) list(b *batch, each func(attrs []byte) error) error {
	data, seq, err := b.finishOne(&s.seq)
	if err != nil {
		return err
	}
	s.discard()
	if err := s.send(data); err != nil {
		return err
	}
	interrupted, failed := false, error(nil)
	for {
		in, err := s.receive(false)
		if err != nil {
			return err
		}
		for m, err := range messages(in) {
			if err != nil {
				return err
			}
			if m.seq != seq {
				continue
			}
			interrupted = interrupted || m.flags&unix.NLM_F_DUMP_INTR != 0
			switch m.kind {
			case unix.NLMSG_ERROR:
				if err := m.errno(); err != nil {
					return err
				}
				return failed
			case unix.NLMSG_DONE:
				if failed == nil {
					failed = m.errno()
				}
				if failed == nil && interrupted {
					failed = errInterrupted
				}
				return failed
			}
			// What is left of a dump has to be read in any case.
			if failed == nil {
				if len(m.body) < nfgenLen {
					failed = errMalformed
				} else {
					failed = each(m.body[nfgenLen:])
				}
			}
		}
	}
}

// generation is the kernel's count of changes of any ruleset in the namespace.
func (s *socket) generation() (uint32, error) {
	var b batch
	b.question(unix.NFT_MSG_GETGEN, 0)
	return s.askNumber(&b, unix.NFTA_GEN_ID)
}

// askNumber asks a question that has one answer and returns an attribute of it.
func (s *socket) askNumber(b *batch, attr uint16) (uint32, error) {
	data, seq, err := b.finishOne(&s.seq)
	if err != nil {
		return 0, err
	}
	s.discard()
	if err := s.send(data); err != nil {
		return 0, err
	}
	for {
		in, err := s.receive(false)
		if err != nil {
			return 0, err
		}
		for m, err := range messages(in) {
			if err != nil {
				return 0, err
			}
			if m.seq != seq {
				continue
			}
			if m.kind == unix.NLMSG_ERROR {
				return 0, m.errno()
			}
			for typ, data := range attributes(m.body[min(nfgenLen, len(m.body)):]) {
				if typ == attr {
					return uint32(number(data)), nil
				}
			}
			return 0, errMalformed
		}
	}
}

// discard reads away what an earlier request that failed half way left behind.
func (s *socket) discard() {
	for {
		if _, err := s.receive(false); err != nil {
			return
		}
	}
}

// nfgenLen is the size of struct nfgenmsg: family, version, resource.
const nfgenLen = 4

// A message is one netlink message of a datagram.
type message struct {
	kind, flags uint16
	seq, port   uint32
	body        []byte
}

// messages cuts a datagram into its messages.
func messages(b []byte) func(yield func(message, error) bool) {
	return func(yield func(message, error) bool) {
		for len(b) > 0 {
			if len(b) < headerLen {
				yield(message{}, errMalformed)
				return
			}
			n := int(binary.NativeEndian.Uint32(b))
			if n < headerLen || n > len(b) {
				yield(message{}, errMalformed)
				return
			}
			m := message{
				kind:  binary.NativeEndian.Uint16(b[4:]),
				flags: binary.NativeEndian.Uint16(b[6:]),
				seq:   binary.NativeEndian.Uint32(b[8:]),
				port:  binary.NativeEndian.Uint32(b[12:]),
				body:  b[headerLen:n],
			}
			if !yield(m, nil) {
				return
			}
			b = b[min(align(n), len(b)):]
		}
	}
}

// errno is the error that an acknowledgement or the end of a dump carries, or nil.
func (m message) errno() error {
	if len(m.body) < 4 {
		if m.kind == unix.NLMSG_DONE {
			return nil
		}
		return errMalformed
	}
	code := int32(binary.NativeEndian.Uint32(m.body))
	if code == 0 {
		return nil
	}
	errno := unix.Errno(-code)
	// The kernel's words stand behind the header of the message in question
	// (NLMSGERR_ATTR_MSG), which CapAcknowledge cut to its header.
	if m.kind == unix.NLMSG_ERROR && m.flags&unix.NLM_F_ACK_TLVS != 0 && m.flags&unix.NLM_F_CAPPED != 0 && len(m.body) > 4+headerLen {
		for typ, data := range attributes(m.body[4+headerLen:]) {
			if typ == unix.NLMSGERR_ATTR_MSG {
				return fmt.Errorf("%w (%s)", errno, text(data))
			}
		}
	}
	return errno
}

// attributes cuts a message's body into its attributes; it stops at the first
// malformed one.
func attributes(b []byte) func(yield func(typ uint16, data []byte) bool) {
	return func(yield func(uint16, []byte) bool) {
		for {
			typ, data, rest, ok := cutAttribute(b)
			if !ok || !yield(typ, data) {
				return
			}
			b = rest
		}
	}
}

// cutAttribute takes the first attribute off b; ok is false if there is none, or
// a malformed one.
func cutAttribute(b []byte) (typ uint16, data, rest []byte, ok bool) {
	if len(b) < unix.NLA_HDRLEN {
		return 0, nil, nil, false
	}
	n := int(binary.NativeEndian.Uint16(b))
	if n < unix.NLA_HDRLEN || n > len(b) {
		return 0, nil, nil, false
	}
	typ = binary.NativeEndian.Uint16(b[2:]) &^ (unix.NLA_F_NESTED | unix.NLA_F_NET_BYTEORDER)
	return typ, b[unix.NLA_HDRLEN:n], b[min(align(n), len(b)):], true
}

// text is a string attribute, without the NUL at its end.
func text(b []byte) string {
	for i, c := range b {
		if c == 0 {
			return string(b[:i])
		}
	}
	return string(b)
}

// number is an unsigned number in network order of any length up to eight bytes.
func number(b []byte) uint64 {
	if len(b) > 8 {
		return 0
	}
	var n uint64
	for _, c := range b {
		n = n<<8 | uint64(c)
	}
	return n
}

func align(n int) int { return (n + 3) &^ 3 }

// A batch is a transaction being written. Its zero value is empty; reset makes it
// so again and keeps the memory, if it is not much.
type batch struct {
	buf      []byte
	last     int // where the last message begins
	messages int
	setID    uint32
	err      error
}

func (b *batch) reset() {
	const much = 1 << 20
	if cap(b.buf) > much {
		b.buf = nil
	}
	*b = batch{buf: b.buf[:0]}
}

// begin starts a message of a transaction.
func (b *batch) begin(kind int, flags uint16) {
	b.end()
	if len(b.buf) == 0 {
		b.mark(unix.NFNL_MSG_BATCH_BEGIN)
		b.end()
	}
	b.question(kind, flags)
	b.messages++
}

// question starts a message about the inet family, on its own.
func (b *batch) question(kind int, flags uint16) {
	b.header(uint16(unix.NFNL_SUBSYS_NFTABLES<<8|kind), flags|unix.NLM_F_REQUEST, unix.NFPROTO_INET, 0)
}

func (b *batch) header(kind, flags uint16, family uint8, resource uint16) {
	b.last = len(b.buf)
	b.buf = binary.NativeEndian.AppendUint32(b.buf, 0) // length, by end
	b.buf = binary.NativeEndian.AppendUint16(b.buf, kind)
	b.buf = binary.NativeEndian.AppendUint16(b.buf, flags)
	b.buf = append(b.buf, 0, 0, 0, 0, 0, 0, 0, 0) // sequence, by finish; port, by the kernel
	b.buf = append(b.buf, family, unix.NFNETLINK_V0)
	b.buf = binary.BigEndian.AppendUint16(b.buf, resource)
}

// mark writes the message that opens or closes a transaction.
func (b *batch) mark(kind uint16) {
	b.header(kind, unix.NLM_F_REQUEST, unix.NFPROTO_UNSPEC, unix.NFNL_SUBSYS_NFTABLES)
}

// end closes the message that was begun last.
func (b *batch) end() {
	if len(b.buf) > b.last {
		binary.NativeEndian.PutUint32(b.buf[b.last:], uint32(len(b.buf)-b.last))
	}
}

// finish closes the transaction, asks for an acknowledgement of its last message
// and numbers the messages from seq on. It returns the number of the last.
func (b *batch) finish(seq *uint32) (data []byte, last uint32, err error) {
	if b.err != nil {
		return nil, 0, b.err
	}
	b.end()
	flags := b.buf[b.last+6:]
	binary.NativeEndian.PutUint16(flags, binary.NativeEndian.Uint16(flags)|unix.NLM_F_ACK)
	asked := b.last
	b.mark(unix.NFNL_MSG_BATCH_END)
	b.end()
	for at := 0; at < len(b.buf); {
		*seq++
		if at == asked {
			last = *seq
		}
		binary.NativeEndian.PutUint32(b.buf[at+8:], *seq)
		at += int(binary.NativeEndian.Uint32(b.buf[at:]))
	}
	return b.buf, last, nil
}

// finishOne closes a question.
func (b *batch) finishOne(seq *uint32) (data []byte, last uint32, err error) {
	b.end()
	*seq++
	binary.NativeEndian.PutUint32(b.buf[8:], *seq)
	return b.buf, *seq, b.err
}

// attr appends an attribute.
func (b *batch) attr(typ uint16, data []byte) {
	at := b.open(typ)
	b.buf = append(b.buf, data...)
	b.close(at)
}

// str appends a string attribute with the NUL the kernel wants.
func (b *batch) str(typ uint16, s string) {
	at := b.open(typ)
	b.buf = append(append(b.buf, s...), 0)
	b.close(at)
}

func (b *batch) u32(typ uint16, v uint32) {
	at := b.open(typ)
	b.buf = binary.BigEndian.AppendUint32(b.buf, v)
	b.close(at)
}

func (b *batch) u64(typ uint16, v uint64) {
	at := b.open(typ)
	b.buf = binary.BigEndian.AppendUint64(b.buf, v)
	b.close(at)
}

// open begins an attribute that close ends. What comes between is its value.
func (b *batch) open(typ uint16) (at int) {
	at = len(b.buf)
	b.buf = append(b.buf, 0, 0, 0, 0)
	binary.NativeEndian.PutUint16(b.buf[at+2:], typ)
	return at
}

func (b *batch) close(at int) {
	n := len(b.buf) - at
	if n > 0xffff && b.err == nil {
		// The length would wrap and the kernel see a part of it.
		b.err = fmt.Errorf("a netlink attribute of %d bytes is longer than 65535", n)
	}
	binary.NativeEndian.PutUint16(b.buf[at:], uint16(n))
	for len(b.buf)%4 != 0 {
		b.buf = append(b.buf, 0)
	}
}

// nested begins an attribute made of attributes.
func (b *batch) nested(typ uint16) (at int) { return b.open(typ | unix.NLA_F_NESTED) }

// rule appends a rule to the end of a chain.
func (b *batch) rule(table, chain string, exprs ...expr.Any) {
	b.begin(unix.NFT_MSG_NEWRULE, unix.NLM_F_CREATE|unix.NLM_F_APPEND)
	b.str(unix.NFTA_RULE_TABLE, table)
	b.str(unix.NFTA_RULE_CHAIN, chain)
	list := b.nested(unix.NFTA_RULE_EXPRESSIONS)
	for _, e := range exprs {
		data, err := expr.Marshal(unix.NFPROTO_INET, e)
		if err != nil && b.err == nil {
			b.err = fmt.Errorf("write a rule of chain %s: %w", chain, err)
		}
		b.attr(unix.NFTA_LIST_ELEM|unix.NLA_F_NESTED, data)
	}
	b.close(list)
}
