package machine

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"net/netip"
	"time"
)

// An entry is a record of utmp or wtmp.
type entry struct {
	kind int16
	pid  int
	line string // the terminal
	user string
	addr netip.Addr // not valid if it came from nowhere else
	at   time.Time
}

// Kinds of entries: utmp(5).
const (
	userProcess = 7
	deadProcess = 8
	lastKind    = 9
)

// A record is glibc's struct utmp (sysdeps/gnu/bits/utmp.h), in the order of the machine that wrote it:
//
//	short type, 2 bytes of nothing, int pid, line[32], id[4], user[32], host[256], exit[2]short
//
// and then, where 64-bit programs keep the 32-bit form (x86-64, ppc64, riscv64 …), int session, int seconds and
// microseconds, 16 bytes of address, 20 of nothing; elsewhere (arm64) long session, long seconds and
// microseconds, the same address.
const (
	atPID  = 4
	atLine = 8
	atUser = 44

	shortRecord, shortTime, shortAddr = 384, 340, 348
	longRecord, longTime, longAddr    = 400, 344, 360
)

// entries reads a file of records: the newest of them, oldest first.
func (m Machine) entries(name string) ([]entry, error) {
	f, err := m.open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	// What both forms fit must begin where a record of either does.
	const both = shortRecord * longRecord
	from := int64(0)
	if size := info.Size(); size > maxRecords {
		from = (size - maxRecords + both - 1) / both * both
	}
	b, err := io.ReadAll(io.LimitReader(io.NewSectionReader(f, from, maxRecords), maxRecords))
	return parseEntries(b), errors.Join(err)
}

// parseEntries reads records of whichever form they have. What is behind the last whole one is left out.
func parseEntries(b []byte) []entry {
	if plausible(b, shortRecord) >= plausible(b, longRecord) {
		return parseForm(b, shortRecord, shortTime, shortAddr)
	}
	return parseForm(b, longRecord, longTime, longAddr)
}

// plausible is how many of the first records of a form could be some.
func plausible(b []byte, size int) (n int) {
	for i := 0; i < 64 && len(b) >= size; i++ {
		kind := binary.NativeEndian.Uint16(b)
		if kind > lastKind || b[2] != 0 || b[3] != 0 {
			break
		}
		if kind != 0 {
			n++
		}
		b = b[size:]
	}
	return n
}

func parseForm(b []byte, size, atTime, atAddr int) (out []entry) {
	for ; len(b) >= size; b = b[size:] {
		e := entry{
			kind: int16(binary.NativeEndian.Uint16(b)),
			pid:  int(int32(binary.NativeEndian.Uint32(b[atPID:]))),
			line: text(b[atLine : atLine+32]),
			user: text(b[atUser : atUser+32]),
			addr: recordAddr(b[atAddr : atAddr+16]),
		}
		if size == longRecord {
			e.at = time.Unix(int64(binary.NativeEndian.Uint64(b[atTime:])), 0)
		} else {
			// Unsigned, so that it lasts until 2106, as newer glibc has it.
			e.at = time.Unix(int64(binary.NativeEndian.Uint32(b[atTime:])), 0)
		}
		out = append(out, e)
	}
	return out
}

// recordAddr is the address of a record: of IPv4 it has the first word alone.
func recordAddr(b []byte) netip.Addr {
	addr, _ := netip.AddrFromSlice(b)
	if bytes.Equal(b[4:], make([]byte, 12)) {
		addr, _ = netip.AddrFromSlice(b[:4])
	}
	if addr = addr.Unmap(); addr.IsUnspecified() {
		return netip.Addr{}
	}
	return addr
}

// text is what stands before the first zero byte.
func text(b []byte) string {
	b, _, _ = bytes.Cut(b, []byte{0})
	return string(b)
}
