package timestamp

import (
	"encoding/binary"
	"time"
)

// A stencil is the last date that was read with what stands before it, its seconds and their
// fraction being any digits. What fits on it is the same date but for these, and most lines do:
// they are of the same minute. It knows only dates bound to the start of the line, which no
// other pattern could win.
type stencil struct {
	of    *template // nil for none
	words int       // of eight bytes, least significant first
	text  [stencilWords]uint64
	fixed [stencilWords]uint64 // the bits that must be equal
	digit [stencilWords]uint64 // 0x10 where there is any digit

	// The seconds, what is to be cut out, and the end, from where the stencil is laid: at
	// the start of the line, or at the date if the template has a frame.
	second, start, end, to int

	minute  int64 // Unix seconds at which the date's minute begins
	noYear  bool
	instant time.Time // that of the last second
	last    int64
}

const stencilWords = 6

// fits reports whether text is of the same minute as the stencil's date, and at which second.
func (s *stencil) fits(text []byte) (second int64, ok bool) {
	if len(text) < 8*s.words {
		return 0, false
	}
	for i := range s.words {
		x := binary.LittleEndian.Uint64(text[8*i:])
		if (x^s.text[i])&s.fixed[i] != 0 {
			return 0, false
		}
		// The lower half of a digit is at most 9: 6 more does not carry.
		if d := s.digit[i]; (x&(d-d>>4)+(d>>2|d>>3))&d != 0 {
			return 0, false
		}
	}
	tens := text[s.second] - '0'
	return int64(tens*10 + text[s.second+1] - '0'), tens <= 5
}

// Again is Find for the many lines whose date is, but for the seconds, that of the line before; at is nil
// for others, which are left to Find. What it points to is valid until the next call.
func (d *Detector) Again(text []byte, now time.Time) (at *time.Time, start, end int) {
	s := &d.stencil
	if s.of == nil || s.of != d.winner {
		return nil, 0, 0
	}
	sec := now.Unix()
	if sec < d.now.from || sec >= d.now.to {
		return nil, 0, 0
	}
	lay, cut := 0, s.start
	if f := s.of.frame; f != nil {
		var ok bool
		if lay, cut, ok = f.place(text); !ok {
			return nil, 0, 0
		}
	}
	second, ok := s.fits(text[lay:])
	if !ok {
		return nil, 0, 0
	}
	if t := s.minute + second; t != s.last {
		if s.noYear && t > sec+24*3600 {
			return nil, 0, 0 // it is of the year before
		}
		s.last, s.instant = t, time.Unix(t, 0).In(d.zone)
	}
	s.of.hits++
	s.of.used = sec*1e9 + int64(now.Nanosecond())
	d.end = lay + s.to
	return &s.instant, cut, lay + s.end
}

// Undated reports whether the first bytes of a line tell that Find will find nothing in it, whatever follows, be
// it UTF-8 or not. For false it may be so all the same.
func (d *Detector) Undated(text []byte) bool {
	if d.within != 0 || d.foreign || len(d.frames) > 0 {
		return false
	}
	// Further than that nothing looks for the shapes of a date at the start.
	const look = 32
	for _, c := range text[:min(look, len(text))] {
		if c >= 0x80 {
			return false
		}
	}
	return shapesAtStart(text)&d.starts == 0
}

// cut makes the stencil of what t found in text, where that can be known again.
func (s *stencil) cut(t *template, h *hit, text []byte, at time.Time) {
	s.of = nil
	lay := 0
	if t.frame != nil {
		for _, step := range t.frame.after {
			if step.op != opClose {
				return
			}
		}
		lay = h.date
	}
	end := h.to
	n := follow(text[end:])
	if n == 0 {
		return
	}
	size := end + n - lay
	words := (size + 7) / 8
	if words > stencilWords || len(text)-lay < 8*words {
		return
	}
	var fixed, digit [8 * stencilWords]byte
	for i := range size {
		fixed[i] = 0xff
	}
	wild := func(i int) { fixed[i-lay], digit[i-lay] = 0xf0, 0x10 }
	if h.seconds+2 > end || !isDigit(text[h.seconds+1]) {
		return // a second of one digit
	}
	wild(h.seconds)
	wild(h.seconds + 1)
	if i := h.seconds + 2; i < end && (text[i] == '.' || text[i] == ',') {
		for i++; i < end && isDigit(text[i]); i++ {
			wild(i)
		}
	}
	le := binary.LittleEndian
	for i := range words {
		s.text[i], s.fixed[i], s.digit[i] = le.Uint64(text[lay+8*i:]), le.Uint64(fixed[8*i:]), le.Uint64(digit[8*i:])
	}
	s.words = words
	s.second, s.start, s.end, s.to = h.seconds-lay, h.start-lay, h.end-lay, end-lay
	s.minute, s.noYear = at.Unix()-int64(h.second), h.year < 0
	s.last, s.instant = at.Unix(), at
	s.of = t
}

// follow is how many bytes behind a date tell that it is not longer: no fraction, no more of a zone, and no
// year begins with them. It is 0 where more would have to be looked at.
func follow(text []byte) int {
	if len(text) < 2 {
		return 0
	}
	c, n := text[0], 1
	if c == ' ' {
		c, n = text[1], 2
	} else if isWord(c) {
		return 0
	}
	switch {
	case c <= ' ', c >= 0x7f, isDigit(c), c == '+', c == '-', c == '.', c == ',', c == ':':
		return 0
	}
	switch c | 0x20 {
	case 'z', 'u', 'g':
		return 0
	}
	return n
}
