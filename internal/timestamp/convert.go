package timestamp

import "time"

// A minuteCache keeps the instant at which a written minute begins. Zones change
// at whole minutes since long before there were logs, so seconds can be added.
type minuteCache struct {
	key   minuteKey
	start int64 // Unix seconds
}

// A minuteKey is a minute as written, in one number, and its zone.
type minuteKey struct {
	minute int64
	zone   *time.Location
}

func (c *minuteCache) get(year, month, day, hour, minute int, zone *time.Location) int64 {
	k := minuteKey{(((int64(year)*16+int64(month))*32+int64(day))*32+int64(hour))*64 + int64(minute), zone}
	if k != c.key {
		c.key = k
		c.start = time.Date(year, time.Month(month), day, hour, minute, 0, 0, zone).Unix()
	}
	return c.start
}

// A zoneCache keeps the offset of the zone written last, which most lines share.
type zoneCache struct {
	text    string
	seconds int
	ok      bool
}

func (c *zoneCache) get(text []byte) (seconds int, ok bool) {
	if string(text) != c.text {
		c.text = string(text)
		c.seconds, c.ok = zoneOffset(c.text)
	}
	return c.seconds, c.ok
}

// lastSecond is the last of the year 9999: later times cannot be written in four
// digits, in JSON for one, and are nobody's.
const lastSecond = 253402300799

// A minuteStart is the answer to when the minute of a memo begins.
type minuteStart struct {
	known bool
	sec   int64 // Unix seconds, the offset of a written zone not yet taken away
	zoned bool  // a zone was written
	year  int16 // as written, -1 for none
}

// A span of wall time in which the year is the same, so that asking the calendar
// need not be done for every line: it costs more than reading the date does.
type span struct {
	from, to int64 // Unix seconds; to is exclusive
	year     int   // in the zone of stamps without one

	sec, nsec int64 // since 1970, of the line at hand
}

// turn sets what depends on now and is the same for the rest of the year.
func (d *Detector) turn(now time.Time) {
	y := now.UTC().Year()
	d.now = span{
		from: time.Date(y, 1, 1, 0, 0, 0, 0, time.UTC).Unix(),
		to:   time.Date(y+1, 1, 1, 0, 0, 0, 0, time.UTC).Unix(),
		year: now.In(d.zone).Year(),
	}
	d.now.from = max(d.now.from, time.Date(d.now.year, 1, 1, 0, 0, 0, 0, d.zone).Unix())
	d.now.to = min(d.now.to, time.Date(d.now.year+1, 1, 1, 0, 0, 0, 0, d.zone).Unix())
	d.parser.decade = plausible(y) / 10
	d.parser.memo.reader, d.parser.memo.minute.known = nil, false
	d.stencil.of = nil
}

// convert turns what was read into an instant; zero if there is none
// (detection.md 5.6). What the line leaves out comes from now: a date without year
// is of this year, or of the last one if it would lie more than a day ahead; a
// time without date is of today, or of yesterday if it would lie ahead.
func (d *Detector) convert(h *hit) time.Time {
	if h.epochal {
		if h.sec > lastSecond {
			return time.Time{}
		}
		return time.Unix(h.sec, h.nsec).In(d.zone)
	}
	offset := 0
	if len(h.zone) > 0 {
		var ok bool
		if z := &d.parser.written; h.sameZone {
			offset, ok = z.seconds, z.ok
		} else {
			offset, ok = z.get(h.zone)
		}
		if !ok {
			return time.Time{}
		}
	}
	m := &d.parser.memo.minute
	var sec int64
	ok := h.again && m.known && h.year == m.year && len(h.zone) > 0 == m.zoned && h.second <= 59
	if ok {
		sec = m.sec + int64(h.second) - int64(offset)
		ok = h.year >= 0 || sec <= d.now.sec+24*3600
	}
	if !ok {
		if sec, ok = d.civil(h, offset); !ok {
			return time.Time{}
		}
	}
	return time.Unix(sec, 0).In(d.zone)
}

// civil turns fields into Unix seconds.
func (d *Detector) civil(h *hit, offset int) (sec int64, ok bool) {
	zone := d.zone
	if len(h.zone) > 0 {
		zone = time.UTC
	}
	hour, ok := h.clockHour()
	if !ok {
		return 0, false
	}
	year, noYear := int(h.year), h.year < 0
	if year == 0 {
		return 0, false // there was none
	}
	if noYear {
		year = d.now.year
	}
	month, day := int(h.month), int(h.day)
	guessedDay, noDate := false, month == 0 || day == 0
	switch weekday := int(h.weekday); {
	case noDate && h.yday > 0:
		year, month, day = dayOfYear(year, int(h.yday))
	case noDate && weekday >= 0 && h.sunWeek >= 0:
		year, month, day = dayOfYear(year, weekDay(year, int(h.sunWeek), weekday, 0))
	case noDate && weekday >= 0 && h.monWeek >= 0:
		year, month, day = dayOfYear(year, weekDay(year, int(h.monWeek), (weekday+6)%7, 1))
	case month == 0 && day == 0:
		y, m, today := time.Unix(d.now.sec, 0).In(zone).Add(time.Duration(offset) * time.Second).Date()
		month, day, guessedDay = int(m), today, true
		if noYear {
			year = y
		}
	case noDate:
		return 0, false
	}
	at := func(year int) (int64, bool) {
		if day > daysIn(year, month) {
			return 0, false
		}
		return d.minute.get(year, month, day, hour, int(h.minute), zone) + int64(h.second) - int64(offset), true
	}
	if sec, ok = at(year); !ok {
		return 0, false
	}
	switch {
	case guessedDay:
		if sec > d.now.sec {
			// By the calendar, not by 24 hours: that is the same hour of yesterday.
			sec = time.Date(year, time.Month(month), day-1, hour, int(h.minute), int(h.second), 0, zone).Unix() - int64(offset)
		}
		return sec, true
	case noYear && sec > d.now.sec+24*3600:
		return at(year - 1)
	}
	if h.again {
		d.parser.memo.minute = minuteStart{
			known: true, sec: sec - int64(h.second) + int64(offset), year: h.year, zoned: len(h.zone) > 0,
		}
	}
	return sec, true
}

// clockHour is the hour of 24, unless there is no such time.
func (h *hit) clockHour() (hour int, ok bool) {
	hour = int(h.hour)
	switch {
	case !h.twelve:
	case h.afternoon && hour != 12:
		hour += 12
	case !h.afternoon && hour == 12:
		hour = 0
	}
	return hour, hour <= 23 && h.minute <= 59 && h.second <= 59
}

// dayOfYear is the date of the year's nth day, which may lie in another year.
func dayOfYear(year, n int) (y, month, day int) {
	date := time.Date(year, 1, n, 0, 0, 0, 0, time.UTC)
	return date.Year(), int(date.Month()), date.Day()
}

func leap(year int) bool { return year%4 == 0 && (year%100 != 0 || year%400 == 0) }

func daysIn(year, month int) int {
	switch month {
	case 2:
		if leap(year) {
			return 29
		}
		return 28
	case 4, 6, 9, 11:
		return 30
	}
	return 31
}

// weekDay is the day of the year, from 1 on, of a weekday of a week. Weeks are
// counted as strftime's %U and %W do: week 1 begins with the year's first
// firstDay, and the days before it are week 0, which Python takes
// for the first week if there are none. Weekday counts from firstDay.
func weekDay(year, week, weekday, firstDay int) int {
	newYear := (int(time.Date(year, 1, 1, 0, 0, 0, 0, time.UTC).Weekday()) - firstDay + 7) % 7
	if week == 0 {
		return 1 + weekday - newYear
	}
	firstWeek := (7 - newYear) % 7 // days before week 1
	return firstWeek + 7*(week-1) + weekday + 1
}
