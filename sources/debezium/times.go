package debezium

import (
	"bytes"
	"math"
	"time"

	"github.com/tailrace/tailrace/record"
)

// epoch is PostgreSQL's, 2000-01-01, counted from Unix's, in days and microseconds.
const (
	epochDays     = 10957
	microsPerDay  = 24 * 3600 * micros
	epochMicros   = epochDays * microsPerDay
	secondsPerDay = 24 * 3600
)

// What Debezium writes for infinite timestamps, in microseconds, and for infinite dates,
// in days: streamed, and in snapshots and arrays.
const (
	stampInfinity      = 9223372036825200000
	stampMinusInfinity = -9223372036832400000

	dateInfinity              = -2147472692
	dateMinusInfinity         = -2147472691
	dateInfinitySnapshot      = -622191234
	dateMinusInfinitySnapshot = -625821272
)

// gregorian is 1582-10-15 in days since 1970. Dates before it are read by snapshots in
// another calendar, and without their era.
const gregorian = -141427

func (v *values) timeNumber(c *conv, n int64) ([]byte, error) {
	switch c.code {
	case asDate:
		return v.date(n)
	case asTime:
		per := int64(c.scale)
		if n < 0 || n > secondsPerDay*per {
			return nil, errRange
		}
		return v.clock(n, per)
	case asTimestamp:
		return v.timestamp(n, int64(c.scale))
	}
	return v.interval(record.Interval{Micros: n / (int64(c.scale) / micros)})
}

func (v *values) date(days int64) ([]byte, error) {
	d := record.Date{}
	switch days {
	case dateInfinity, dateInfinitySnapshot:
		d = record.DateInfinity
	case dateMinusInfinity, dateMinusInfinitySnapshot:
		d = record.DateMinusInfinity
	default:
		v.early = v.early || days < gregorian
		if days < math.MinInt32/8 || days > math.MaxInt32-1 {
			return nil, errRange
		}
		if d = d.AddDays(int(days - epochDays)); d.IsInfinite() {
			return nil, errRange
		}
	}
	start := len(v.arena)
	v.arena, _ = d.AppendText(v.arena) // never fails
	return v.since(start), nil
}

// clock writes a time of day given in parts of a second; what is smaller than a
// microsecond is not PostgreSQL's.
func (v *values) clock(n, per int64) ([]byte, error) {
	us, ok := toMicros(n, per)
	if !ok {
		return nil, errRange
	}
	t, err := record.NewTimeOfDay(time.Duration(us) * time.Microsecond)
	if err != nil {
		return nil, errRange
	}
	start := len(v.arena)
	v.arena, _ = t.AppendText(v.arena) // never fails
	return v.since(start), nil
}

// toMicros converts parts of a second to microseconds.
func toMicros(n, per int64) (int64, bool) {
	if per == nanos {
		return floorDiv(n, 1000), true
	}
	f := micros / per
	if n > math.MaxInt64/f || n < math.MinInt64/f {
		return 0, false
	}
	return n * f, true
}

func floorDiv(a, b int64) int64 {
	q := a / b
	if a%b < 0 {
		q--
	}
	return q
}

func (v *values) timestamp(n, per int64) ([]byte, error) {
	t := record.Timestamp{}
	switch {
	case per == nanos && n == math.MaxInt64, per == micros && n == stampInfinity,
		per == millis && n == stampInfinity/1000:
		t = record.TimestampInfinity
	case per == nanos && n == math.MinInt64, per == micros && n == stampMinusInfinity,
		per == millis && n == stampMinusInfinity/1000:
		t = record.TimestampMinusInfinity
	default:
		us, ok := toMicros(n, per)
		if !ok || us < math.MinInt64+epochMicros {
			return nil, errRange
		}
		if t = t.AddMicros(us - epochMicros); t.IsInfinite() {
			return nil, errRange
		}
	}
	start := len(v.arena)
	v.arena, _ = t.AppendText(v.arena) // never fails
	return v.since(start), nil
}

func (v *values) interval(i record.Interval) ([]byte, error) {
	start := len(v.arena)
	v.arena, _ = i.AppendText(v.arena) // never fails
	return v.since(start), nil
}

// timeText reads times that were written as text.
func (v *values) timeText(c *conv, text []byte) ([]byte, error) {
	if c.unavailable != nil && bytes.Equal(text, c.unavailable) {
		return text, nil
	}
	if c.code == asInterval {
		i, ok := parseISOInterval(text)
		if !ok {
			return nil, errForm
		}
		return v.interval(i)
	}
	switch string(text) {
	case "infinity", "-infinity":
		if c.code == asInstant || c.code == asISOTimestamp || c.code == asISODate {
			return text, nil
		}
		return nil, errForm
	}
	p := isoParser{src: text}
	var days, us, east int64
	if c.code != asISOTime && c.code != asZonedTime {
		days = p.date()
	}
	if c.code == asISOTimestamp || c.code == asInstant {
		p.expect('T')
	}
	if c.code != asISODate {
		us = p.clock()
	}
	east = p.zone()
	if p.bad || p.at != len(text) {
		return nil, errForm
	}
	switch c.code {
	case asISODate:
		return v.date(days)
	case asISOTime:
		return v.clock(us, micros)
	case asZonedTime:
		return v.zonedTime(us, east)
	}
	return v.stamp(c, days, us-east*micros)
}

func (v *values) zonedTime(us, east int64) ([]byte, error) {
	local, err := record.NewTimeOfDay(time.Duration(us) * time.Microsecond)
	if err != nil {
		return nil, errRange
	}
	t, err := record.NewTimeTZ(local, int(east))
	if err != nil {
		return nil, errRange
	}
	start := len(v.arena)
	v.arena, _ = t.AppendText(v.arena) // never fails
	return v.since(start), nil
}

// stamp writes a timestamp of a day and the microseconds since its midnight.
func (v *values) stamp(c *conv, days, us int64) ([]byte, error) {
	if days > math.MaxInt64/microsPerDay || days < math.MinInt64/microsPerDay {
		return nil, errRange
	}
	sum := us + days*microsPerDay
	if days > 0 && us > 0 && sum < 0 || days < 0 && us < 0 && sum > 0 {
		return nil, errRange
	}
	us = sum
	if c.code == asISOTimestamp {
		return v.timestamp(us, micros)
	}
	if us < math.MinInt64+epochMicros {
		return nil, errRange
	}
	t := record.Instant{}.AddMicros(us - epochMicros)
	if t.IsInfinite() {
		return nil, errRange
	}
	start := len(v.arena)
	v.arena, _ = t.AppendText(v.arena) // never fails
	return v.since(start), nil
}

// isoParser reads ISO 8601 as Java writes it. After something that is not there bad is
// set, and is looked at once, at the end.
type isoParser struct {
	src []byte
	at  int
	bad bool
}

func (p *isoParser) accept(c byte) bool {
	if p.at < len(p.src) && p.src[p.at] == c {
		p.at++
		return true
	}
	return false
}

func (p *isoParser) expect(c byte) { p.bad = !p.accept(c) || p.bad }

// digits reads a number of least to most digits.
func (p *isoParser) digits(least, most int) int64 {
	var n int64
	start := p.at
	for p.at < len(p.src) && p.at-start < most && p.src[p.at]-'0' <= 9 {
		n = n*10 + int64(p.src[p.at]-'0')
		p.at++
	}
	if p.at-start < least {
		p.bad = true
	}
	return n
}

// date reads [+-]YYYY-MM-DD with an astronomical year, and returns days since 1970.
func (p *isoParser) date() int64 {
	neg := p.accept('-')
	if !neg {
		p.accept('+')
	}
	year := p.digits(4, 9)
	if neg {
		year = -year
	}
	p.expect('-')
	month := p.digits(2, 2)
	p.expect('-')
	day := p.digits(2, 2)
	if month < 1 || month > 12 || day < 1 || day > daysIn(year, month) {
		p.bad = true
		return 0
	}
	return daysOf(year, month, day)
}

func daysIn(year, month int64) int64 {
	switch month {
	case 2:
		if year%4 == 0 && (year%100 != 0 || year%400 == 0) {
			return 29
		}
		return 28
	case 4, 6, 9, 11:
		return 30
	}
	return 31
}

// daysOf counts the days from 1970-01-01 to a date of the proleptic Gregorian calendar.
func daysOf(year, month, day int64) int64 {
	if month <= 2 {
		year--
	}
	era := floorDiv(year, 400)
	ofEra := year - era*400
	ofYear := (153*((month+9)%12)+2)/5 + day - 1
	return era*146097 + ofEra*365 + ofEra/4 - ofEra/100 + ofYear - 719468
}

// clock reads hh:mm[:ss[.fraction]] and returns microseconds.
func (p *isoParser) clock() int64 {
	us := p.digits(2, 2) * 3600 * micros
	p.expect(':')
	minute := p.digits(2, 2)
	var second int64
	if p.accept(':') {
		second = p.digits(2, 2)
	}
	us += (minute*60 + second) * micros
	if p.accept('.') {
		start := p.at
		n := p.digits(1, 6)
		for i := p.at - start; i < 6; i++ {
			n *= 10
		}
		for p.at < len(p.src) && p.src[p.at] == '0' {
			p.at++
		}
		us += n
	}
	if minute > 59 || second > 59 || us > secondsPerDay*micros {
		p.bad = true
	}
	return us
}

// zone reads Z, an offset or nothing, and returns seconds east of Greenwich.
func (p *isoParser) zone() int64 {
	if p.at == len(p.src) || p.accept('Z') {
		return 0
	}
	west := p.accept('-')
	if !west {
		p.expect('+')
	}
	east := p.digits(2, 2) * 3600
	if p.accept(':') {
		east += p.digits(2, 2) * 60
		if p.accept(':') {
			east += p.digits(2, 2)
		}
	}
	if west {
		return -east
	}
	return east
}

// parseISOInterval reads P1Y2M3DT4H5M6.78S, in which each part may be negative.
func parseISOInterval(text []byte) (record.Interval, bool) {
	p := isoParser{src: text}
	p.expect('P')
	var out record.Interval
	var months, days, us int64
	clock := false
	for !p.bad && p.at < len(text) {
		if p.accept('T') {
			clock = true
			continue
		}
		neg := p.accept('-')
		n := p.digits(1, 12)
		var frac int64
		if p.accept('.') {
			start := p.at
			frac = p.digits(1, 6)
			for i := p.at - start; i < 6; i++ {
				frac *= 10
			}
		}
		if neg {
			n, frac = -n, -frac
		}
		if p.at >= len(text) {
			return out, false
		}
		unit := text[p.at]
		p.at++
		switch {
		case !clock && unit == 'Y':
			months += n * 12
		case !clock && unit == 'M':
			months += n
		case !clock && unit == 'D':
			days += n
		case clock && unit == 'H':
			us += n * 3600 * micros
		case clock && unit == 'M':
			us += n * 60 * micros
		case clock && unit == 'S':
			us += n*micros + frac
		default:
			return out, false
		}
	}
	if p.bad || months != int64(int32(months)) || days != int64(int32(days)) {
		return out, false
	}
	return record.Interval{Months: int32(months), Days: int32(days), Micros: us}, true
}
