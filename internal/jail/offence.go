package jail

import (
	"encoding/binary"
	"slices"
	"strings"
	"unsafe"
)

// An offence is what is told about an offender beside the count: the lines, the user and the
// data, as one text, for there may be a million of them and most never come to anything. Empty
// is none yet.
//
// It begins with how many lines and data there are. Then come the lines, the user, and keys and values, each behind a number:
// twice its length for one that is spelt out, and one more for one that the first line has, too, and where.
type offence []byte

// appendOffence packs an offence behind b.
func appendOffence(b []byte, lines []string, user string, data map[string]string) offence {
	b = binary.AppendUvarint(b, uint64(len(lines)))
	b = binary.AppendUvarint(b, uint64(len(data)))
	spell := func(text string) { b = append(binary.AppendUvarint(b, uint64(len(text))<<1), text...) }
	first := ""
	for i, l := range lines {
		if i == 0 {
			first = l
		}
		spell(l)
	}
	put := func(text string) {
		at := strings.Index(first, text)
		if at < 0 || len(text) < 3 {
			spell(text)
			return
		}
		b = binary.AppendUvarint(b, uint64(len(text))<<1|1)
		b = binary.AppendUvarint(b, uint64(at))
	}
	put(user)
	for k, v := range data {
		spell(k)
		put(v)
	}
	return b
}

// unpack is what appendOffence was given; lists and maps of none are nil.
func (o offence) unpack() (lines []string, user string, data map[string]string) {
	return offence(slices.Clone(o)).view()
}

// view is unpack with texts that are parts of o: they are valid as long as it is.
func (o offence) view() (lines []string, user string, data map[string]string) {
	if len(o) == 0 {
		return nil, "", nil
	}
	rest := o
	number := func() uint64 {
		n, width := binary.Uvarint(rest)
		rest = rest[width:]
		return n
	}
	text := func() (s string) {
		n := number()
		length := int(n >> 1)
		if n&1 != 0 {
			at := int(number())
			return lines[0][at : at+length]
		}
		s, rest = unsafe.String(unsafe.SliceData(rest), length), rest[length:]
		return s
	}
	nLines, nData := int(number()), int(number())
	if nLines > 0 {
		lines = make([]string, 0, nLines+1) // one more will often follow
	}
	for range nLines {
		lines = append(lines, text())
	}
	user = text()
	if nData > 0 {
		data = make(map[string]string, nData)
	}
	for range nData {
		key := text()
		data[key] = text()
	}
	return lines, user, data
}

// A shelf holds offences of many sizes without a pointer to each, so that a million of them cost the
// garbage collector nothing. Its zero value is empty.
type shelf struct {
	boards [][]byte // filled one after the other; nil for one that was taken down
	held   []int    // bytes that are still held, by board
	last   int      // the board that is being filled
	dead   int      // bytes that are not held any more, of all boards that stand
	room   int      // bytes of all boards that stand
}

// A spot is where a shelf holds something; 0 is nowhere.
type spot uint64

const (
	board = 256 << 10 // bytes
	// worthIt is how much must be dead for a shelf to be put in order.
	worthIt = 4 * board
)

// put holds a copy.
func (s *shelf) put(o offence) spot {
	size := len(o) + binary.MaxVarintLen32
	if s.last >= len(s.boards) || cap(s.boards[s.last])-len(s.boards[s.last]) < size {
		s.last = 0
		for s.last < len(s.boards) && s.boards[s.last] != nil {
			s.last++
		}
		if s.last == len(s.boards) {
			s.boards, s.held = append(s.boards, nil), append(s.held, 0)
		}
		s.boards[s.last] = make([]byte, 0, max(board, size))
		s.room += cap(s.boards[s.last])
	}
	b := s.boards[s.last]
	at := len(b)
	b = append(binary.AppendUvarint(b, uint64(len(o))), o...)
	s.boards[s.last] = b
	s.held[s.last] += len(b) - at
	return spot(s.last+1)<<32 | spot(at)
}

// find is where the record of a spot stands: its board, its offence, and its bytes in all.
func (s *shelf) find(at spot) (board int, o offence, size int) {
	board = int(at>>32) - 1
	b := s.boards[board][uint32(at):]
	n, width := binary.Uvarint(b)
	return board, offence(b[width : width+int(n)]), width + int(n)
}

// get is what is held at a spot, valid until the next call of put or drop.
func (s *shelf) get(at spot) offence {
	if at == 0 {
		return nil
	}
	_, o, _ := s.find(at)
	return o
}

// drop holds it no more.
func (s *shelf) drop(at spot) {
	if at == 0 {
		return
	}
	i, _, size := s.find(at)
	s.held[i] -= size
	s.dead += size
	if s.held[i] == 0 && i != s.last {
		s.dead -= len(s.boards[i])
		s.room -= cap(s.boards[i])
		s.boards[i] = nil
	}
}

// untidy reports whether more is dead than alive, so that it is time to move what is held to another shelf.
func (s *shelf) untidy() bool { return s.dead > worthIt && s.dead > s.room/2 }
