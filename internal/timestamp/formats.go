package timestamp

import (
	"math"
	"unicode/utf8"
)

// A format is one built-in way to write a date.
type format struct {
	// pattern is the format in the words of a datepattern line. The special
	// words epoch and tai64n stand for formats that have no such pattern.
	pattern string
	// anchor is how the format is bound to the start of the line from the outset;
	// one that is not bound gets a twin that is.
	anchor anchor
	// reader is a hand-written parser that finds exactly what the pattern finds, or nil.
	reader *reader
	// shape is what every date of the format holds; see shapesOf.
	shape shape
}

// A reader parses one format by hand. Its methods take the place where their part
// of the date is to begin and return where it ends, or -1.
type reader struct {
	// whole reads all of the date, where it is not of two parts around the seconds:
	whole func(p *parser, i int) int
	// head reads up to the colon before the seconds. What it does depends on the
	// text of the head alone, so that the same text need not be read twice.
	head func(p *parser, i int) int
	// tail reads what is behind the seconds.
	tail func(p *parser, i int) int
	// begin says which bytes such a date may begin with.
	begin class
	// bare is whether a date of the format is digits, a month's name, and a clock
	// right behind them, into which no other built-in date fits; see Detector.bracketed.
	bare bool
}

var (
	isoReader     = &reader{head: (*parser).iso, tail: (*parser).isoTail, begin: digit}
	isoNearReader = &reader{head: (*parser).isoNear, tail: (*parser).isoTail, begin: digit}
	syslogReader  = &reader{head: (*parser).syslog, tail: (*parser).syslogTail, begin: letter}
	clfReader     = &reader{head: (*parser).clf, tail: (*parser).clfTail, begin: digit | blank, bare: true}
	epochReader   = &reader{whole: (*parser).epoch, begin: digit}
	lepochReader  = &reader{whole: (*parser).lepoch, begin: digit}
	// Anywhere in the line:
	epochInPlaceReader  = &reader{whole: (*parser).epochInPlace, begin: digit}
	lepochInPlaceReader = &reader{whole: (*parser).lepochInPlace, begin: digit}
	taiReader           = &reader{whole: (*parser).tai64n, begin: at}
)

// An anchor says where in a line a date may begin.
type anchor uint8

const (
	anywhere  anchor = iota
	lineBegin        // behind at most two non-word characters: "[", "<14" is too much
	column0
)

const (
	epochWord  = "epoch"
	lepochWord = "lepoch"
	taiWord    = "tai64n"
)

// formats are the built-in formats in the order in which they are tried
// (detection.md 5.2). To read another one, add a row; a parser is optional.
var formats = []format{
	{pattern: `%ExY(?P<sep>[-/.])%m(?P=sep)%d(?:T|  ?)%H:%M:%S(?:[.,]%f)?(?:\s*%z)?`, reader: isoReader, shape: shapeYear},
	{pattern: `(?:%a )?%b %d %k:%M:%S(?:\.%f)?(?: %ExY)?`, reader: syslogReader, shape: shapeName},
	{pattern: `(?:%a )?%b %d %ExY %k:%M:%S(?:\.%f)?`, shape: shapeName},
	{pattern: `%d(?P<sep>[-/])%m(?P=sep)(?:%ExY|%Exy) %k:%M:%S`, shape: shapeDay},
	{pattern: `%d(?P<sep>[-/])%b(?P=sep)%ExY[ :]?%H:%M:%S(?:\.%f)?(?: %z)?`, reader: clfReader, shape: shapeDayName},
	{pattern: `%m/%d/%ExY:%H:%M:%S`, shape: shapeDay},
	{pattern: `%m-%d-%ExY %k:%M:%S(?:\.%f)?`, shape: shapeDay},
	{pattern: epochWord, shape: shapeEpoch},
	{pattern: `%H:%M:%S`, anchor: lineBegin, shape: shapeClock},
	{pattern: `<%m/%d/%Exy@%H:%M:%S>`, anchor: column0, shape: shapeDay},
	{pattern: `%Exy%Exm%Exd  ?%H:%M:%S`, shape: shapeSix},
	{pattern: `%b %d, %ExY %I:%M:%S %p`, shape: shapeName},
	{pattern: `%b-%d-%Exy %k:%M:%S`, anchor: column0, shape: shapeNameDash},
	{pattern: `%ExY%Exm%Exd(?:-|T|  ?)%ExH:?%ExM:?%ExS(?:[.,]%f)?(?:\s*%z)?`, shape: shapeEight},
	{pattern: `(?:%Z )?(?:%a )?%b %d %k:%M:%S(?:\.%f)?(?: %ExY)?`, shape: shapeName | shapeZone},
	{pattern: `(?:%z )?(?:%a )?%b %d %k:%M:%S(?:\.%f)?(?: %ExY)?`, shape: shapeName | shapeZone},
	{pattern: taiWord, shape: shapeTAI},
}

// spelled are dates that stock datepatterns spell out and that can be read by hand
// as well; the built-in formats are so, too. A group named _sep is taken for sep.
var spelled = []format{
	{pattern: `%ExY(?P<sep>[-/.])%m(?P=sep)%d[T ]%H:%M:%S(?:[.,]%f)?(?:\s*%z)?`, reader: isoNearReader, shape: shapeYear},
}

// defaults are the built-in templates: those bound to the start of the line come
// before those that are not, because what stands in a line's middle may be text
// that somebody else chose.
func defaults() []*template {
	var ts []*template
	for i := range formats {
		if formats[i].anchor == anywhere {
			ts = append(ts, formats[i].template(lineBegin))
		}
	}
	for i := range formats {
		ts = append(ts, formats[i].template(formats[i].anchor))
	}
	return ts
}

// lineBegins are the built-in formats bound to the start of the line: {^LN-BEG}.
func lineBegins() []*template {
	var ts []*template
	for i := range formats {
		ts = append(ts, formats[i].template(max(formats[i].anchor, lineBegin)))
	}
	return ts
}

// A hit is where a template matched and what it read there.
type hit struct {
	ok         bool
	from, to   int // the whole match
	start, end int // what is to be cut out of it

	fields
	zone      []byte // as written, nil where absent
	sec, nsec int64  // the instant, if epochal

	// What a reader of two parts leaves for the memo: where the date begins and
	// where its seconds do; seconds is 0 if it was read otherwise.
	date, seconds int
	again         bool // the memo knew the head
	sameZone      bool // the zone is as written last
}

// Fields are what can be read in a date.
type fields struct {
	year                 int16 // -1 where absent
	yday                 int16 // day of the year, 0 where absent
	month, day           int8  // 0 where absent
	hour, minute, second int8
	sunWeek, monWeek     int8 // week of the year by its first day, -1 where absent
	weekday              int8 // 0 is Sunday, -1 where absent
	twelve, afternoon    bool // the hour is one of twelve; without afternoon, of the morning
	epochal              bool // seconds since 1970, which are in the hit
}

var noFields = fields{year: -1, sunWeek: -1, monWeek: -1, weekday: -1}

func (h *hit) clear() {
	h.ok, h.fields, h.zone, h.seconds, h.again, h.sameZone = false, noFields, nil, 0, false, false
	h.sec, h.nsec = 0, 0
}

// A template is one pattern ready to be searched for, with its history.
type template struct {
	anchored bool
	anchor   anchor
	shape    shape // zero for what cannot match

	// The first of these that there is finds it.
	nothing bool    // {NONE}
	reader  *reader // perhaps in a frame
	frame   *frame
	regex   *pattern

	// History, for ranking.
	hits     int
	used     int64 // Unix nanoseconds of wall time
	distance int
	base     float64
}

func newTemplate(t template) *template {
	t.distance, t.base = math.MaxInt, 1
	if t.anchored {
		t.base = 100
	}
	return &t
}

func (f *format) template(a anchor) *template {
	t := template{anchored: a != anywhere, anchor: a, shape: f.shape, reader: f.reader}
	switch f.pattern {
	case epochWord:
		if t.reader = epochReader; a == anywhere {
			t.reader = epochInPlaceReader
		}
	case lepochWord:
		if t.reader = lepochReader; a == anywhere {
			t.reader = lepochInPlaceReader
		}
	case taiWord:
		t.reader = taiReader
	default:
		t.regex = builtinPattern(f.pattern, a)
	}
	n := newTemplate(t)
	if f.anchor != anywhere {
		n.base = 1 // it is nobody's twin
	}
	return n
}

// weight is how much a template's history speaks for it.
func (t *template) weight() float64 {
	return float64(t.hits) * t.base / float64(max(1, t.distance))
}

// find searches the line. On false h holds nothing of use.
func (t *template) find(p *parser, text []byte, h *hit) bool {
	p.text, p.hit = text, h
	h.ok = false
	switch {
	case t.nothing:
		h.clear()
		h.ok = true
		h.from, h.to, h.start, h.end = 0, 0, 0, 0
	case t.reader == nil:
		h.clear()
		h.ok = t.regex.find(p, text, h)
	case t.frame != nil:
		t.frame.find(p, t)
	case t.anchor == anywhere:
		p.scan(t, 0)
	case len(text) > 0 && classes[text[0]]&word != 0 || t.anchor == column0:
		p.try(t, 0)
	default:
		var starts [3]int
		n := 1
		for n < len(starts) {
			pos := starts[n-1]
			size := nonWord(text[pos:])
			if size == 0 {
				break
			}
			starts[n] = pos + size
			n++
		}
		for n--; n >= 0; n-- {
			if p.try(t, starts[n]) {
				h.from = 0
				break
			}
		}
	}
	return h.ok
}

// findWithin searches text from start to end as if it were all of the line.
func (t *template) findWithin(p *parser, text []byte, start, end int, h *hit) bool {
	start, end = min(start, len(text)), min(end, len(text))
	if t.reader == nil || t.shape == shapeEpoch {
		t.find(p, text[start:end], h)
		h.start, h.end = h.start+start, h.end+start
		h.from, h.to = h.from+start, h.to+start
		return h.ok
	}
	p.text, p.hit = text[:end], h
	h.ok = false
	if !p.try(t, start) {
		p.scan(t, start+1)
	}
	return h.ok
}

// scan tries each place from i on at which a date may begin.
func (p *parser) scan(t *template, i int) {
	for ; i < len(p.text); i++ {
		if classes[p.text[i]]&t.reader.begin != 0 && mayBegin(p.text, i) && p.try(t, i) {
			return
		}
	}
}

// A parser reads one line's date by hand. Its methods named for formats are those
// of readers. They find what the format's pattern finds, end boundary included.
type parser struct {
	text   []byte
	decade int // the last a plausible year may lie in; see plausible
	*hit
	spans   []int // room for groups; here so that no line allocates
	memo    memo
	written zoneCache
}

// A memo keeps the text of the last date up to its seconds and what it says: most
// lines are of the same minute as the one before. Reading the same text by the same
// reader gives the same, so that it never changes what is found.
type memo struct {
	reader *reader
	size   int
	head   [40]byte
	fields
	minute minuteStart
}

// try reads a date that begins at pos.
func (p *parser) try(t *template, pos int) bool {
	r, h := t.reader, p.hit
	var end int
	if r.whole != nil {
		h.clear()
		end = r.whole(p, pos)
	} else {
		var i int
		if m := &p.memo; m.reader == r && len(p.text)-pos > m.size && string(p.text[pos:pos+m.size]) == string(m.head[:m.size]) {
			h.fields, h.zone, h.again, h.sameZone = m.fields, nil, true, false
			i = pos + m.size
		} else {
			h.clear()
			if i = r.head(p, pos); i < 0 {
				return false
			}
		}
		h.date, h.seconds = pos, i
		// Up to 61, as clocks with leap seconds write them, though no such second
		// can be converted.
		if t := p.text; i+1 < len(t) && t[i]-'0' <= 5 && isDigit(t[i+1]) {
			h.second, i = int8((t[i]-'0')*10+t[i+1]-'0'), i+2
		} else if h.second, i = p.upTo(i, 61); i < 0 {
			return false
		}
		end = r.tail(p, i)
	}
	if end < 0 {
		return false // what it left in the hit, another try sets again
	}
	h.ok, h.start, h.end = true, pos, end
	h.from, h.to = pos, end
	return true
}

// iso is 2006-01-02T15:04:05.999+07:00 and its relatives with other separators.
func (p *parser) iso(i int) int {
	t := p.text
	if i = p.isoDate(i); i < 0 || i == len(t) {
		return -1
	}
	switch {
	case t[i] == 'T':
		i++
	case t[i] == ' ' && i+1 < len(t) && t[i+1] == ' ':
		i += 2
	case t[i] == ' ':
		i++
	default:
		return -1
	}
	return p.clock(i)
}

// isoNear is iso with no more than one blank between date and time.
func (p *parser) isoNear(i int) int {
	t := p.text
	if i = p.isoDate(i); i < 0 || i == len(t) || t[i] != 'T' && t[i] != ' ' {
		return -1
	}
	return p.clock(i + 1)
}

func (p *parser) isoDate(i int) int {
	t := p.text
	if len(t)-i < len("2006-1-2T3:4:5") {
		return -1
	}
	if i = p.plausibleYear(i); i < 0 {
		return -1
	}
	sep := t[i]
	if sep != '-' && sep != '/' && sep != '.' {
		return -1
	}
	if p.month, i = p.upTo(i+1, 12); i < 0 || p.month == 0 || i == len(t) || t[i] != sep {
		return -1
	}
	return p.dayField(i + 1)
}

func (p *parser) isoTail(i int) int {
	if j := p.fraction(i, ','); j > 0 {
		if k := p.zoneAfter(j, true, false); k > 0 {
			return k
		}
		if p.ends(j) {
			return j
		}
	}
	if k := p.zoneAfter(i, true, false); k > 0 {
		return k
	}
	if p.ends(i) {
		return i
	}
	return -1
}

// syslog is Jan _2 15:04:05, perhaps with weekday, fraction and year: RFC 3164 and asctime.
func (p *parser) syslog(i int) int {
	t := p.text
	if len(t)-i < len("Jan 1 0:0:0") {
		return -1
	}
	if t[i+3] == ' ' && weekdayNumber(t[i:]) >= 0 {
		i += 4
	}
	if i+3 >= len(t) || t[i+3] != ' ' {
		return -1
	}
	if p.month = monthNumber(t[i:]); p.month == 0 {
		return -1
	}
	if i = p.dayField(i + 4); i < 0 || i == len(t) || t[i] != ' ' {
		return -1
	}
	return p.looseClock(i + 1)
}

func (p *parser) syslogTail(i int) int {
	t := p.text
	p.year = -1 // it is behind the time
	if i+1 < len(t) && t[i] == ' ' && !isDigit(t[i+1]) {
		return i
	}
	if j := p.fraction(i, '.'); j > 0 {
		if k := p.yearAfter(j); k > 0 {
			return k
		}
		if p.ends(j) {
			return j
		}
	}
	if k := p.yearAfter(i); k > 0 {
		return k
	}
	if p.ends(i) {
		return i
	}
	return -1
}

// clf is 02/Jan/2006:15:04:05 -0700, the common log format of web servers.
func (p *parser) clf(i int) int {
	t := p.text
	if len(t)-i < len("2/Jan/20063:4:5") {
		return -1
	}
	if i = p.dayField(i); i < 0 || i+10 > len(t) {
		return -1
	}
	sep := t[i]
	if sep != '-' && sep != '/' {
		return -1
	}
	if p.month = monthNumber(t[i+1:]); p.month == 0 || t[i+4] != sep {
		return -1
	}
	if i = p.plausibleYear(i + 5); i < 0 || i == len(t) {
		return -1
	}
	if t[i] == ' ' || t[i] == ':' {
		i++
	}
	return p.clock(i)
}

func (p *parser) clfTail(i int) int {
	if j := p.fraction(i, '.'); j > 0 {
		if k := p.zoneAfter(j, false, true); k > 0 {
			return k
		}
		if p.ends(j) {
			return j
		}
	}
	if k := p.zoneAfter(i, false, true); k > 0 {
		return k
	}
	if p.ends(i) {
		return i
	}
	return -1
}

// ends reports whether a date may end before i: not in the middle of a word.
// Every date that a parser reads ends with a word character.
func (p *parser) ends(i int) bool {
	if i < len(p.text) && p.text[i] < utf8.RuneSelf {
		return classes[p.text[i]]&word == 0
	}
	return i == len(p.text) || nonWord(p.text[i:]) > 0
}

// plausibleYear reads a four-digit year of a plausible decade.
func (p *parser) plausibleYear(i int) int {
	t := p.text
	if i+4 > len(t) || !isDigit(t[i]) || !isDigit(t[i+1]) || !isDigit(t[i+2]) || !isDigit(t[i+3]) {
		return -1
	}
	decade := int(t[i]-'0')*100 + int(t[i+1]-'0')*10 + int(t[i+2]-'0')
	if decade < firstDecade || decade > p.decade {
		return -1
	}
	p.year = int16(decade*10 + int(t[i+3]-'0'))
	return i + 4
}

// yearAfter reads a blank and a plausible year behind a date.
func (p *parser) yearAfter(i int) int {
	if i == len(p.text) || p.text[i] != ' ' {
		return -1
	}
	if j := p.plausibleYear(i + 1); j > 0 {
		if p.ends(j) {
			return j
		}
		p.year = -1
	}
	return -1
}

// upTo reads one or two digits of at most limit; two where that is possible.
func (p *parser) upTo(i int, limit int8) (n int8, end int) {
	t := p.text
	if i >= len(t) || !isDigit(t[i]) {
		return 0, -1
	}
	n, i = int8(t[i]-'0'), i+1
	if i < len(t) && isDigit(t[i]) {
		if two := n*10 + int8(t[i]-'0'); two <= limit {
			return two, i + 1
		}
	}
	return n, i
}

// dayField reads 1 to 31, with a zero or a blank before a single digit.
func (p *parser) dayField(i int) int {
	if i < len(p.text) && p.text[i] == ' ' {
		if i++; i == len(p.text) || p.text[i] < '1' || p.text[i] > '9' {
			return -1
		}
		p.day = int8(p.text[i] - '0')
		return i + 1
	}
	if p.day, i = p.upTo(i, 31); p.day == 0 {
		return -1
	}
	return i
}

// clock reads hours and minutes, each with a colon behind.
func (p *parser) clock(i int) int {
	if p.hour, i = p.upTo(i, 23); i < 0 {
		return -1
	}
	return p.minutes(i)
}

// looseClock is clock, with a blank before the hour and hours up to 29, which do
// not exist.
func (p *parser) looseClock(i int) int {
	if i < len(p.text) && p.text[i] == ' ' {
		i++
	}
	if p.hour, i = p.upTo(i, 29); i < 0 {
		return -1
	}
	return p.minutes(i)
}

// minutes reads a colon, the minutes, and another colon.
func (p *parser) minutes(i int) int {
	t := p.text
	if i == len(t) || t[i] != ':' {
		return -1
	}
	if p.minute, i = p.upTo(i+1, 59); i < 0 || i == len(t) || t[i] != ':' {
		return -1
	}
	return i + 1
}

// fraction reads a point or the other mark and one to six digits, and no more than that.
func (p *parser) fraction(i int, mark byte) int {
	t := p.text
	if i == len(t) || t[i] != '.' && t[i] != mark {
		return -1
	}
	first := i + 1
	for i = first; i < len(t) && isDigit(t[i]); i++ {
	}
	if n := i - first; n < 1 || n > 6 {
		return -1
	}
	return i
}

// zoneAfter reads what may stand before a zone, one blank or any white space, and
// the zone: Z, UTC, GMT or an offset.
func (p *parser) zoneAfter(i int, anySpace, foldCase bool) int {
	t := p.text
	if anySpace {
		for i < len(t) && (t[i] >= '\t' && t[i] <= '\r' || t[i] >= 0x1c && t[i] <= ' ') {
			i++
		}
	} else if i < len(t) && t[i] == ' ' {
		i++
	} else {
		return -1
	}
	if i == len(t) {
		return -1
	}
	end, name := -1, ""
	switch c := t[i]; {
	case c == '+' || c == '-':
		// That there are minutes makes it the longest that can be read here.
		if z := p.written.text; len(z) >= len("+0000") && i+len(z) <= len(t) && string(t[i:i+len(z)]) == z && p.ends(i+len(z)) {
			end, p.sameZone = i+len(z), true
			break
		}
		end = p.offset(i)
	case c == 'Z' || foldCase && c == 'z':
		name = "Z"
	case c == 'U' || foldCase && c == 'u':
		name = "UTC"
	case c == 'G' || foldCase && c == 'g':
		name = "GMT"
	}
	if j := i + len(name); name != "" && j <= len(t) && p.ends(j) &&
		(string(t[i:j]) == name || foldCase && foldEqual(t[i:j], name)) {
		end = j
	}
	if end > 0 {
		p.zone = t[i:end]
	}
	return end
}

// offset reads a sign, an hour below 20, and perhaps minutes, of which there may be 99.
func (p *parser) offset(i int) int {
	t := p.text
	if i+3 > len(t) || t[i+1] > '1' || !isDigit(t[i+1]) || !isDigit(t[i+2]) {
		return -1
	}
	i += 3
	j := i
	if j < len(t) && t[j] == ':' {
		j++
	}
	if j+2 <= len(t) && isDigit(t[j]) && isDigit(t[j+1]) && p.ends(j+2) {
		return j + 2
	}
	if p.ends(i) {
		return i
	}
	return -1
}

// foldEqual compares ASCII letters of any case with a name in capitals.
func foldEqual(b []byte, name string) bool {
	for i, c := range b {
		if c&^0x20 != name[i] {
			return false
		}
	}
	return true
}

// monthNumber is the month whose English abbreviation b begins with, or 0.
func monthNumber(b []byte) int8 {
	if len(b) < 3 || !isLetter(b[0]) || !isLetter(b[1]) || !isLetter(b[2]) {
		return 0
	}
	switch uint32(b[0]|0x20)<<16 | uint32(b[1]|0x20)<<8 | uint32(b[2]|0x20) {
	case 'j'<<16 | 'a'<<8 | 'n':
		return 1
	case 'f'<<16 | 'e'<<8 | 'b':
		return 2
	case 'm'<<16 | 'a'<<8 | 'r':
		return 3
	case 'a'<<16 | 'p'<<8 | 'r':
		return 4
	case 'm'<<16 | 'a'<<8 | 'y':
		return 5
	case 'j'<<16 | 'u'<<8 | 'n':
		return 6
	case 'j'<<16 | 'u'<<8 | 'l':
		return 7
	case 'a'<<16 | 'u'<<8 | 'g':
		return 8
	case 's'<<16 | 'e'<<8 | 'p':
		return 9
	case 'o'<<16 | 'c'<<8 | 't':
		return 10
	case 'n'<<16 | 'o'<<8 | 'v':
		return 11
	case 'd'<<16 | 'e'<<8 | 'c':
		return 12
	}
	return 0
}

// weekdayNumber is the weekday whose English abbreviation b begins with, Sunday
// being 0, or -1.
func weekdayNumber(b []byte) int8 {
	if len(b) < 3 || !isLetter(b[0]) || !isLetter(b[1]) || !isLetter(b[2]) {
		return -1
	}
	switch uint32(b[0]|0x20)<<16 | uint32(b[1]|0x20)<<8 | uint32(b[2]|0x20) {
	case 's'<<16 | 'u'<<8 | 'n':
		return 0
	case 'm'<<16 | 'o'<<8 | 'n':
		return 1
	case 't'<<16 | 'u'<<8 | 'e':
		return 2
	case 'w'<<16 | 'e'<<8 | 'd':
		return 3
	case 't'<<16 | 'h'<<8 | 'u':
		return 4
	case 'f'<<16 | 'r'<<8 | 'i':
		return 5
	case 's'<<16 | 'a'<<8 | 't':
		return 6
	}
	return -1
}
