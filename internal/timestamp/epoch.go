package timestamp

import "math"

// epoch is seconds since 1970: ten or eleven digits, perhaps with a fraction of
// three to six. More or fewer digits behind the point are no part of it.
func (p *parser) epoch(i int) int {
	t := p.text
	end := p.digits(i)
	if n := end - i; n != 10 && n != 11 || !p.ends(end) {
		return -1
	}
	p.epochal, p.sec = true, number(t[i:end])
	if end < len(t) && t[end] == '.' {
		if f := p.digits(end + 1); f-end-1 >= 3 && f-end-1 <= 6 && p.ends(f) {
			p.nsec = fractionNanos(t[end+1 : f])
			return f
		}
	}
	return end
}

// epochInPlace and lepochInPlace find such a number where it is sure to be a time:
// at the start of the line, in brackets there, and in the kernel's
// audit(1700000000.123:45).
func (p *parser) epochInPlace(i int) int  { return p.inPlace(i, (*parser).epoch) }
func (p *parser) lepochInPlace(i int) int { return p.inPlace(i, (*parser).lepoch) }

func (p *parser) inPlace(i int, number func(*parser, int) int) int {
	const audit = "audit("
	before := p.text[:i]
	switch n := len(before) - len(audit); {
	case i == 0, string(before) == "[":
	case n >= 0 && string(before[n:]) == audit && (n == 0 || nonWordBefore(before[:n])):
	default:
		return -1
	}
	return number(p, i)
}

// lepoch is seconds, milliseconds or microseconds since 1970 as one number.
// Milliseconds may have a fraction.
func (p *parser) lepoch(i int) int {
	t := p.text
	end := p.digits(i)
	if !p.ends(end) {
		return -1
	}
	switch n := end - i; n {
	case 10, 11:
		p.sec, p.nsec = number(t[i:end]), 0
	case 13, 14:
		p.sec, p.nsec = number(t[i:end-3]), fractionNanos(t[end-3:end])
		if end < len(t) && t[end] == '.' {
			if f := p.digits(end + 1); f > end+1 && f-end-1 <= 6 && p.ends(f) {
				p.nsec += fractionNanos(t[end+1:f]) / 1000
				end = f
			}
		}
	case 16, 17:
		p.sec, p.nsec = number(t[i:end-6]), fractionNanos(t[end-6:end])
	default:
		return -1
	}
	p.epochal = true
	return end
}

// tai64n is @ and 24 hex digits, of which those behind the first are seconds, as
// multilog writes them (https://cr.yp.to/libtai/tai64.html). Fail2Ban's reading is
// kept: neither the leap seconds between TAI and UTC nor the nanoseconds count.
func (p *parser) tai64n(i int) int {
	const size = 1 + 24
	t := p.text
	if len(t)-i < size || t[i] != '@' || !p.ends(i+size) {
		return -1
	}
	var sec uint64
	for k, c := range t[i+1 : i+size] {
		var v uint64
		switch {
		case isDigit(c):
			v = uint64(c - '0')
		case c >= 'a' && c <= 'f':
			v = uint64(c-'a') + 10
		default:
			return -1
		}
		if k >= 1 && k < 16 {
			sec = sec<<4 | v
		}
	}
	if sec > math.MaxInt64/2 {
		return -1
	}
	p.epochal, p.sec = true, int64(sec)
	return i + size
}

// digits is where the run of digits at i ends.
func (p *parser) digits(i int) int {
	for i < len(p.text) && isDigit(p.text[i]) {
		i++
	}
	return i
}

// number is the value of at most 18 digits.
func number(digits []byte) int64 {
	var n int64
	for _, c := range digits {
		n = n*10 + int64(c-'0')
	}
	return n
}

// fractionNanos is the value of at most nine digits behind a point, in nanoseconds.
func fractionNanos(digits []byte) int64 {
	n := number(digits)
	for i := len(digits); i < 9; i++ {
		n *= 10
	}
	return n
}
