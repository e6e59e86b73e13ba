package control

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"unicode/utf8"
)

// What Fail2Ban's messages are made of, besides nil, bool, int64, float64 and string.
type (
	// A List is Python's list.
	List []any
	// A Tuple is Python's tuple.
	Tuple []any
	// A Set is Python's set or frozenset.
	Set []any
	// A Dict is Python's dict in its order.
	Dict []Entry
	// An Entry is a key of a Dict and its value.
	Entry struct{ Key, Value any }
	// Bytes is Python's bytes.
	Bytes string
	// An Object is a class with what it was to be called with. It is read from replies only,
	// and nothing is ever called.
	Object struct {
		Class string // "builtins.str"
		Args  Tuple
	}
)

// Bounds of one pickle: whoever sends it cannot make it take more.
const (
	maxPickleDepth = 50
	maxPickleItems = 1 << 20
)

// Unpickle reads a request as any protocol from 0 to 5 writes it. It knows plain data
// and nothing else: an opcode that would look up, build or call anything is an error,
// as is whatever stands behind the end. Time and memory are linear in the length of b.
func Unpickle(b []byte) (any, error) { return unpickle(b, false) }

// UnpickleReply is Unpickle for what a server answers, in which errors and addresses are
// Objects.
func UnpickleReply(b []byte) (any, error) { return unpickle(b, true) }

func unpickle(b []byte, calls bool) (any, error) {
	u := unpickler{rest: b, calls: calls}
	for {
		op, err := u.take(1)
		if err != nil {
			return nil, err
		}
		if op[0] == '.' {
			break
		}
		if err := u.step(op[0]); err != nil {
			return nil, fmt.Errorf("opcode %#02x at byte %d: %w", op[0], len(b)-len(u.rest)-1, err)
		}
	}
	switch {
	case len(u.rest) > 0:
		return nil, fmt.Errorf("%d bytes behind the end of the pickle", len(u.rest))
	case len(u.stack) != 1 || len(u.marks) > 0:
		return nil, errors.New("the pickle ends with nothing, or more than one thing")
	}
	return u.finish(u.stack[0], 0)
}

// A box is a container that is still being filled and may stand in the memo.
type box struct {
	kind  byte // l(ist), d(ict), s(et), t(uple), c(all)
	items []any
	class string
}

// class is a class that is named and not yet called.
type class string

type unpickler struct {
	rest  []byte
	calls bool
	stack []any
	marks []int // heights of the stack
	memo  []any
	far   map[uint64]any // the memo's entries that were not numbered in their order
	items int            // counted by finish
}

var (
	errShort     = errors.New("the pickle is cut off")
	errStack     = errors.New("there is nothing to take")
	errForbidden = errors.New("only plain data is read")
	errTooMuch   = errors.New("the pickle holds too much")
)

func (u *unpickler) take(n uint64) ([]byte, error) {
	if n > uint64(len(u.rest)) {
		return nil, errShort
	}
	b := u.rest[:n]
	u.rest = u.rest[n:]
	return b, nil
}

// number reads a little-endian unsigned number of n bytes.
func (u *unpickler) number(n uint64) (v uint64, err error) {
	b, err := u.take(n)
	if err != nil {
		return 0, err
	}
	var wide [8]byte
	copy(wide[:], b)
	return binary.LittleEndian.Uint64(wide[:]), nil
}

// counted reads n bytes that tell a length, and as many bytes as that.
func (u *unpickler) counted(n uint64) ([]byte, error) {
	length, err := u.number(n)
	if err != nil {
		return nil, err
	}
	return u.take(length)
}

func (u *unpickler) line() (string, error) {
	at := bytes.IndexByte(u.rest, '\n')
	if at < 0 {
		return "", errShort
	}
	line := string(u.rest[:at])
	u.rest = u.rest[at+1:]
	return line, nil
}

func (u *unpickler) push(v any) error {
	if len(u.stack) >= maxPickleItems {
		return errTooMuch
	}
	u.stack = append(u.stack, v)
	return nil
}

// pop takes the last n things, which stand above the last mark.
func (u *unpickler) pop(n int) ([]any, error) {
	floor := 0
	if len(u.marks) > 0 {
		floor = u.marks[len(u.marks)-1]
	}
	if len(u.stack)-floor < n {
		return nil, errStack
	}
	at := len(u.stack) - n
	out := append([]any(nil), u.stack[at:]...)
	u.stack = u.stack[:at]
	return out, nil
}

// popMark takes everything above the last mark, and the mark.
func (u *unpickler) popMark() ([]any, error) {
	if len(u.marks) == 0 {
		return nil, errors.New("there is no mark")
	}
	out, err := u.pop(len(u.stack) - u.marks[len(u.marks)-1])
	u.marks = u.marks[:len(u.marks)-1]
	return out, err
}

// fill puts things into the container below them.
func (u *unpickler) fill(kind byte, items []any, err error) error {
	if err != nil {
		return err
	}
	top, err := u.pop(1)
	if err != nil {
		return err
	}
	b, ok := top[0].(*box)
	if !ok || b.kind != kind || kind == 'd' && len(items)%2 != 0 {
		return errors.New("this does not belong there")
	}
	b.items = append(b.items, items...)
	return u.push(b)
}

// collect pushes a container of things.
func (u *unpickler) collect(kind byte, items []any, err error) error {
	if err != nil {
		return err
	}
	if kind == 'd' && len(items)%2 != 0 {
		return errors.New("a key has no value")
	}
	return u.push(&box{kind: kind, items: items})
}

func (u *unpickler) remember(at uint64, err error) error {
	if err != nil {
		return err
	}
	if len(u.stack) == 0 {
		return errStack
	}
	v := u.stack[len(u.stack)-1]
	switch {
	case at < uint64(len(u.memo)):
		u.memo[at] = v
	case at == uint64(len(u.memo)):
		u.memo = append(u.memo, v)
	default:
		if u.far == nil {
			u.far = map[uint64]any{}
		}
		u.far[at] = v
	}
	return nil
}

func (u *unpickler) recall(at uint64, err error) error {
	if err != nil {
		return err
	}
	if at < uint64(len(u.memo)) {
		return u.push(u.memo[at])
	}
	v, ok := u.far[at]
	if !ok {
		return fmt.Errorf("nothing is remembered as %d", at)
	}
	return u.push(v)
}

// memoNumber reads the number of a memo's entry as protocol 0 writes it.
func (u *unpickler) memoNumber() (uint64, error) {
	text, err := u.line()
	if err != nil {
		return 0, err
	}
	return strconv.ParseUint(text, 10, 64)
}

// step does what one opcode says.
func (u *unpickler) step(op byte) error {
	switch op {
	case 0x80: // PROTO
		v, err := u.number(1)
		if err == nil && v > 5 {
			err = fmt.Errorf("protocol %d is not known", v)
		}
		return err
	case 0x95: // FRAME, whose length tells a reader nothing
		_, err := u.number(8)
		return err
	case 'N', 0x88, 0x89, 'J', 'K', 'M', 0x8a, 'I', 'L', 'F', 'G':
		return u.scalar(op)
	case 'U', 'T', 'S', 'X', 0x8c, 0x8d, 'V', 'C', 'B', 0x8e:
		return u.text(op)
	case '(':
		if len(u.marks) >= maxPickleItems {
			return errTooMuch
		}
		u.marks = append(u.marks, len(u.stack))
		return nil
	case ']', '}', ')', 0x8f: // EMPTY_LIST, EMPTY_DICT, EMPTY_TUPLE, EMPTY_SET
		return u.push(&box{kind: map[byte]byte{']': 'l', '}': 'd', ')': 't', 0x8f: 's'}[op]})
	case 'l', 'd', 't', 0x91: // LIST, DICT, TUPLE, FROZENSET
		items, err := u.popMark()
		return u.collect(map[byte]byte{'l': 'l', 'd': 'd', 't': 't', 0x91: 's'}[op], items, err)
	case 0x85, 0x86, 0x87: // TUPLE1, TUPLE2, TUPLE3
		items, err := u.pop(int(op - 0x84))
		return u.collect('t', items, err)
	case 'a': // APPEND
		items, err := u.pop(1)
		return u.fill('l', items, err)
	case 's': // SETITEM
		items, err := u.pop(2)
		return u.fill('d', items, err)
	case 'e', 'u', 0x90: // APPENDS, SETITEMS, ADDITEMS
		items, err := u.popMark()
		return u.fill(map[byte]byte{'e': 'l', 'u': 'd', 0x90: 's'}[op], items, err)
	case 0x94: // MEMOIZE
		return u.remember(uint64(len(u.memo)), nil)
	case 'q':
		return u.remember(u.number(1))
	case 'r':
		return u.remember(u.number(4))
	case 'p':
		return u.remember(u.memoNumber())
	case 'h':
		return u.recall(u.number(1))
	case 'j':
		return u.recall(u.number(4))
	case 'g':
		return u.recall(u.memoNumber())
	case 'c', 0x93, 'R': // GLOBAL, STACK_GLOBAL, REDUCE
		if u.calls {
			return u.call(op)
		}
	}
	return errForbidden
}

// scalar reads a number, a truth value or None.
func (u *unpickler) scalar(op byte) error {
	switch op {
	case 'N':
		return u.push(nil)
	case 0x88, 0x89:
		return u.push(op == 0x88)
	case 'K', 'M':
		v, err := u.number(map[byte]uint64{'K': 1, 'M': 2}[op])
		if err != nil {
			return err
		}
		return u.push(int64(v))
	case 'J':
		v, err := u.number(4)
		if err != nil {
			return err
		}
		return u.push(int64(int32(v)))
	case 0x8a: // LONG1: little-endian two's complement
		b, err := u.counted(1)
		switch {
		case err != nil:
			return err
		case len(b) > 8:
			return errors.New("the number has more than 64 bits")
		case len(b) == 0:
			return u.push(int64(0))
		}
		fill := byte(0)
		if b[len(b)-1] >= 0x80 {
			fill = 0xff
		}
		wide := [8]byte{fill, fill, fill, fill, fill, fill, fill, fill}
		copy(wide[:], b)
		return u.push(int64(binary.LittleEndian.Uint64(wide[:])))
	case 'G':
		b, err := u.take(8)
		if err != nil {
			return err
		}
		return u.push(math.Float64frombits(binary.BigEndian.Uint64(b)))
	}
	text, err := u.line()
	if err != nil {
		return err
	}
	switch {
	case op == 'I' && (text == "00" || text == "01"):
		return u.push(text == "01")
	case op == 'F':
		v, err := strconv.ParseFloat(text, 64)
		if err != nil {
			return errors.New("this is no number")
		}
		return u.push(v)
	}
	v, err := strconv.ParseInt(strings.TrimSuffix(text, "L"), 10, 64)
	if err != nil {
		return errors.New("this is no number of 64 bits")
	}
	return u.push(v)
}

// text reads strings and bytes.
func (u *unpickler) text(op byte) error {
	if op == 'S' || op == 'V' {
		line, err := u.line()
		if err == nil {
			line, err = unescape(line, op == 'S')
		}
		if err != nil {
			return err
		}
		return u.push(line)
	}
	width := map[byte]uint64{'U': 1, 'T': 4, 'X': 4, 0x8c: 1, 0x8d: 8, 'C': 1, 'B': 4, 0x8e: 8}[op]
	b, err := u.counted(width)
	if err != nil {
		return err
	}
	switch op {
	case 'C', 'B', 0x8e:
		return u.push(Bytes(b))
	case 'U', 'T': // Python 2's strings: of their bytes only ASCII means the same everywhere
		if bytes.ContainsFunc(b, func(r rune) bool { return r >= utf8.RuneSelf }) {
			return errors.New("the string is not ASCII")
		}
	}
	return u.push(string(b))
}

// unescape reads a string as protocol 0 writes it: quoted as Python source, or Unicode
// with only \u and \U escaped.
func unescape(s string, quoted bool) (string, error) {
	if quoted {
		if len(s) < 2 || s[0] != s[len(s)-1] || s[0] != '\'' && s[0] != '"' {
			return "", errors.New("the string has no quotes")
		}
		s = s[1 : len(s)-1]
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		c := s[i]
		if c >= utf8.RuneSelf {
			if quoted {
				return "", errors.New("the string is not ASCII")
			}
			b.WriteRune(rune(c)) // Latin-1
			continue
		}
		if c != '\\' || i+1 == len(s) {
			b.WriteByte(c)
			continue
		}
		i++
		digits := map[byte]int{'x': 2}[s[i]]
		if !quoted {
			digits = map[byte]int{'u': 4, 'U': 8}[s[i]]
		}
		plain := strings.IndexByte(`\'"abfnrtv`, s[i])
		switch {
		case digits > 0:
			if i+digits >= len(s) {
				return "", errors.New("an escape is cut off")
			}
			v, err := strconv.ParseUint(s[i+1:i+1+digits], 16, 32)
			if err != nil || quoted && v >= utf8.RuneSelf {
				return "", errors.New("an escape is not understood")
			}
			b.WriteRune(rune(v))
			i += digits
		case quoted && plain >= 0:
			b.WriteByte("\\'\"\a\b\f\n\r\t\v"[plain])
		default:
			b.WriteByte('\\')
			b.WriteByte(s[i])
		}
	}
	return b.String(), nil
}

// call notes which class a reply names, and what it would call it with.
func (u *unpickler) call(op byte) error {
	if op == 'c' {
		module, err := u.line()
		if err != nil {
			return err
		}
		name, err := u.line()
		if err != nil {
			return err
		}
		return u.push(class(module + "." + name))
	}
	pair, err := u.pop(2)
	if err != nil {
		return err
	}
	if op == 0x93 {
		module, ok1 := pair[0].(string)
		name, ok2 := pair[1].(string)
		if !ok1 || !ok2 {
			return errors.New("a class has no name")
		}
		return u.push(class(module + "." + name))
	}
	name, ok1 := pair[0].(class)
	args, ok2 := pair[1].(*box)
	if !ok1 || !ok2 || args.kind != 't' {
		return errors.New("this cannot be called")
	}
	return u.push(&box{kind: 'c', class: string(name), items: []any{args}})
}

// finish makes plain values of boxes. One that holds itself is as deep as it likes and
// one that is remembered may stand in many places, hence the bounds.
func (u *unpickler) finish(v any, depth int) (any, error) {
	if u.items++; u.items > maxPickleItems || depth > maxPickleDepth {
		return nil, errTooMuch
	}
	b, ok := v.(*box)
	if !ok {
		if _, ok := v.(class); ok {
			return nil, errForbidden
		}
		return v, nil
	}
	items := make([]any, 0, min(len(b.items), 64))
	for _, item := range b.items {
		done, err := u.finish(item, depth+1)
		if err != nil {
			return nil, err
		}
		items = append(items, done)
	}
	switch b.kind {
	case 'l':
		return List(items), nil
	case 't':
		return Tuple(items), nil
	case 's':
		return Set(items), nil
	case 'c':
		return Object{b.class, items[0].(Tuple)}, nil
	}
	d := make(Dict, 0, len(items)/2)
	for i := 0; i < len(items); i += 2 {
		d = append(d, Entry{items[i], items[i+1]})
	}
	return d, nil
}

// Pickle writes a value in protocol 4, which every Python since 3.4 reads. It takes the
// types that Unpickle gives, and int, []string and *Exception; anything else is an error
// in the program. Bytes of a string that are no UTF-8 become U+FFFD.
func Pickle(v any) ([]byte, error) {
	b, err := appendPickle([]byte{0x80, 4}, v, 0)
	return append(b, '.'), err
}

func appendPickle(b []byte, v any, depth int) (_ []byte, err error) {
	if depth > maxPickleDepth {
		return b, errTooMuch
	}
	all := func(items []any) {
		for _, item := range items {
			if err == nil {
				b, err = appendPickle(b, item, depth+1)
			}
		}
	}
	switch v := v.(type) {
	case nil:
		b = append(b, 'N')
	case bool:
		b = append(b, map[bool]byte{true: 0x88, false: 0x89}[v])
	case int:
		return appendPickle(b, int64(v), depth)
	case int64:
		switch {
		case v >= 0 && v <= 0xff:
			b = append(b, 'K', byte(v))
		case v >= 0 && v <= 0xffff:
			b = binary.LittleEndian.AppendUint16(append(b, 'M'), uint16(v))
		case v >= math.MinInt32 && v <= math.MaxInt32:
			b = binary.LittleEndian.AppendUint32(append(b, 'J'), uint32(v))
		default:
			b = binary.LittleEndian.AppendUint64(append(b, 0x8a, 8), uint64(v))
		}
	case float64:
		b = binary.BigEndian.AppendUint64(append(b, 'G'), math.Float64bits(v))
	case string:
		b = appendString(b, v)
	case Bytes:
		b = append(binary.LittleEndian.AppendUint32(append(b, 'B'), uint32(len(v))), v...)
	case []string:
		b = append(b, ']', '(')
		for _, s := range v {
			b = appendString(b, s)
		}
		b = append(b, 'e')
	case List:
		b = append(b, ']', '(')
		all(v)
		b = append(b, 'e')
	case Set:
		b = append(b, 0x8f, '(')
		all(v)
		b = append(b, 0x90)
	case Tuple:
		if len(v) == 0 {
			return append(b, ')'), nil
		}
		if len(v) > 3 {
			b = append(b, '(')
		}
		all(v)
		b = append(b, [...]byte{0x85, 0x86, 0x87, 't'}[min(len(v), 4)-1])
	case Dict:
		b = append(b, '}', '(')
		for _, e := range v {
			all([]any{e.Key, e.Value})
		}
		b = append(b, 'u')
	case Object:
		at := strings.LastIndexByte(v.Class, '.')
		if at < 0 {
			return b, fmt.Errorf("the class %q has no module", v.Class)
		}
		b = append(appendString(appendString(b, v.Class[:at]), v.Class[at+1:]), 0x93)
		all([]any{v.Args})
		b = append(b, 'R')
	case *Exception:
		return appendPickle(b, Object(*v), depth)
	default:
		return b, fmt.Errorf("a value of type %T cannot be sent", v)
	}
	return b, err
}

func appendString(b []byte, s string) []byte {
	s = strings.ToValidUTF8(s, "\ufffd")
	if len(s) <= 0xff {
		b = append(b, 0x8c, byte(len(s)))
	} else {
		b = binary.LittleEndian.AppendUint32(append(b, 'X'), uint32(len(s)))
	}
	return append(b, s...)
}
