package firewall

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/bits"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// Watch calls notify when somebody else took something out of our table or
// changed what it does: a flush, a removed set, chain or rule, a rule of their
// own. The caller then has to Sync. Changes made through n, elements that end
// by their timeout and elements added by hand are not reported. What happened
// between the last Sync and the beginning of Watch is made up for by one call
// at its beginning, also if it may have been somebody else's table; so is what
// the kernel could not deliver.
//
// It returns nil when ctx ends, and an error when it cannot listen. notify is
// called by Watch's own goroutine, which hears nothing meanwhile, but loses
// nothing either.
func (n *NFTables) Watch(ctx context.Context, notify func()) error {
	w := watcher{
		netns: n.netns, port: n.port, disturbs: n.disturbs, missed: n.missed, notify: notify,
		overrun: func() {
			n.log.Warn("the kernel had more news of rule changes than could be read", "table", n.table)
			notify()
		},
	}
	if err := w.run(ctx); err != nil {
		return fmt.Errorf("watch table %s: %w", n.table, err)
	}
	return nil
}

// A watcher hears what others change in the rulesets of nf_tables.
type watcher struct {
	netns    int
	port     uint32               // of the socket whose own changes are not told
	disturbs func(message) bool   // whether a notice is of interest
	missed   func() (bool, error) // whether there was something before we listened
	notify   func()               // after a transaction with something of interest
	overrun  func()               // the kernel could not deliver all notices
}

// run listens until ctx ends.
func (w *watcher) run(ctx context.Context) error {
	sock, err := dialSocket(w.netns)
	if err != nil {
		return explain(err)
	}
	stop := context.AfterFunc(ctx, func() { _ = sock.close() }) // ends a waiting receive
	defer func() {
		if stop() {
			_ = sock.close()
		}
	}()
	err = subscribe(sock, w.port)
	missed := false
	if err == nil {
		missed, err = w.missed()
	}
	if err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return explain(err)
	}
	if missed {
		w.notify()
	}
	dirty := false
	for {
		in, err := sock.receive(true)
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, unix.ENOBUFS):
			w.overrun()
			continue
		case err != nil:
			return err
		}
		for m, err := range messages(in) {
			if err != nil {
				return err
			}
			// The news of one transaction ends with its generation.
			if dirty = dirty || w.disturbs(m); dirty && m.kind == unix.NFNL_SUBSYS_NFTABLES<<8|unix.NFT_MSG_NEWGEN {
				dirty = false
				w.notify()
			}
		}
	}
}

// subscribe joins the group in which the kernel tells of every change of a
// ruleset. Our own changes are left out before they take up room in the buffer:
// a Sync would fill it, and that would ask for the next one.
func subscribe(sock *socket, port uint32) error {
	if binary.NativeEndian.Uint16([]byte{1, 0}) == 1 {
		port = bits.ReverseBytes32(port) // filters load in network order
	}
	filter, err := bpf.Assemble([]bpf.Instruction{
		bpf.LoadAbsolute{Off: 12, Size: 4}, // nlmsg_pid; all messages of a datagram share it
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: port, SkipTrue: 1},
		bpf.RetConstant{Val: 1<<32 - 1},
		bpf.RetConstant{Val: 0},
	})
	if err != nil {
		return err
	}
	return errors.Join(sock.conn.SetBPF(filter), sock.conn.JoinGroup(unix.NFNLGRP_NFTABLES))
}

// disturbs reports whether a notice tells that somebody else took something out
// of our table or changed what it does.
func (n *NFTables) disturbs(m message) bool {
	if m.kind>>8 != unix.NFNL_SUBSYS_NFTABLES || m.port == n.port || m.port == 0 || len(m.body) < nfgenLen || m.body[0] != unix.NFPROTO_INET {
		return false
	}
	switch m.kind & 0xff {
	case unix.NFT_MSG_DELTABLE, unix.NFT_MSG_DELCHAIN, unix.NFT_MSG_DELRULE, unix.NFT_MSG_DELSET, unix.NFT_MSG_DELSETELEM, unix.NFT_MSG_DELOBJ,
		unix.NFT_MSG_NEWTABLE, unix.NFT_MSG_NEWCHAIN, unix.NFT_MSG_NEWRULE:
	default:
		return false
	}
	for typ, data := range attributes(m.body[nfgenLen:]) {
		if typ == unix.NFTA_TABLE_NAME { // 1, as is the table of all the others
			return text(data) == n.table
		}
	}
	return false
}

// missed reports whether any ruleset was changed since the last Sync began,
// other than by us.
func (n *NFTables) missed() (bool, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.sock == nil {
		return false, errClosed
	}
	if n.sets == nil {
		return false, nil
	}
	now, err := n.sock.generation()
	return now != n.generation, err
}
