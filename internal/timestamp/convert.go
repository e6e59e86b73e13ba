package timestamp

import "time"

// A yearCache keeps what year it is, because asking the calendar for every line
// costs more than reading the date does.
type yearCache struct {
	from, to int64 // Unix seconds; to is exclusive
	year     int
}

func (c *yearCache) get(now time.Time, zone *time.Location) int {
	if s := now.Unix(); s < c.from || s >= c.to {
		c.year = now.In(zone).Year()
		c.from = time.Date(c.year, 1, 1, 0, 0, 0, 0, zone).Unix()
		c.to = time.Date(c.year+1, 1, 1, 0, 0, 0, 0, zone).Unix()
	}
	return c.year
}

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

// convert turns what was read into an instant; zero if there is none
// (detection.md 5.6). What the line leaves out comes from now: a date without year
// is of this year, or of the last one if it would lie more than a day ahead; a
// time without date is of today, or of yesterday if it would lie ahead.
func (d *Detector) convert(h *hit, now time.Time) time.Time {
	if h.epoch {
		if h.sec > lastSecond {
			return time.Time{}
		}
		return time.Unix(h.sec, h.nsec).In(d.zone)
	}
	zone, offset := d.zone, 0
	if len(h.zone) > 0 {
		var ok bool
		if offset, ok = d.written.get(h.zone); !ok {
			return time.Time{}
		}
		zone = time.UTC
	}
	if !h.clockFields() {
		return time.Time{}
	}
	year, noYear := h.year, h.year < 0
	if year == 0 {
		return time.Time{} // there was none
	}
	if noYear {
		year = d.year.get(now, d.zone)
	}
	month, day := h.month, h.day
	guessedDay, noDate := false, month == 0 || day == 0
	switch {
	case noDate && h.yday > 0:
		year, month, day = dayOfYear(year, h.yday)
	case noDate && h.weekday >= 0 && h.sunWeek >= 0:
		year, month, day = dayOfYear(year, weekDay(year, h.sunWeek, h.weekday, 0))
	case noDate && h.weekday >= 0 && h.monWeek >= 0:
		year, month, day = dayOfYear(year, weekDay(year, h.monWeek, (h.weekday+6)%7, 1))
	case month == 0 && day == 0:
		y, m, today := now.In(zone).Add(time.Duration(offset) * time.Second).Date()
		month, day, guessedDay = int(m), today, true
		if noYear {
			year = y
		}
	case noDate:
		return time.Time{}
	}
	at := func(year int) (int64, bool) {
		if day > daysIn(year, month) {
			return 0, false
		}
		return d.minute.get(year, month, day, h.hour, h.minute, zone) + int64(h.second) - int64(offset), true
	}
	sec, ok := at(year)
	if !ok {
		return time.Time{}
	}
	switch {
	case guessedDay:
		if sec > now.Unix() {
			// By the calendar, not by 24 hours: that is the same hour of yesterday.
			sec = time.Date(year, time.Month(month), day-1, h.hour, h.minute, h.second, 0, zone).Unix() - int64(offset)
		}
	case noYear && sec > now.Unix()+24*3600:
		if sec, ok = at(year - 1); !ok {
			return time.Time{}
		}
	}
	return time.Unix(sec, 0).In(d.zone)
}

// clockFields turns a 12-hour clock into one of 24 and refuses impossible times.
func (h *hit) clockFields() bool {
	switch {
	case !h.twelve:
	case h.afternoon && h.hour != 12:
		h.hour += 12
	case !h.afternoon && h.hour == 12:
		h.hour = 0
	}
	return h.hour <= 23 && h.minute <= 59 && h.second <= 59
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
