package debezium

import (
	"math"
	"strconv"
	"strings"

	"github.com/tailrace/tailrace/record"
)

// time writes dates, times and intervals.
func (e *Encoder) time(dst []byte, c *conv, precision int, text []byte) ([]byte, error) {
	switch c.code {
	case asDate, asISODate:
		return encodeDate(dst, c, text)
	case asTime, asISOTime:
		t, err := record.ParseTimeOfDay(text)
		if err != nil {
			return dst, errForm
		}
		us := t.SinceMidnight().Microseconds()
		if c.code == asTime {
			if c.scale == nanos {
				return strconv.AppendInt(dst, us*1000, 10), nil
			}
			return strconv.AppendInt(dst, us/(micros/int64(c.scale)), 10), nil
		}
		return append(appendISOClock(append(dst, '"'), us%microsPerDay, -1), `Z"`...), nil
	case asZonedTime:
		t, err := record.ParseTimeTZ(text)
		if err != nil {
			return dst, errForm
		}
		us := t.Local().SinceMidnight().Microseconds() - int64(t.East())*micros
		us = (us%microsPerDay + microsPerDay) % microsPerDay
		return append(appendISOClock(append(dst, '"'), us, -1), `Z"`...), nil
	case asTimestamp, asISOTimestamp:
		return encodeTimestamp(dst, c, text)
	case asInstant:
		return encodeInstant(dst, precision, text)
	case asInterval, asDuration:
		v, err := record.ParseInterval(text)
		if err != nil {
			return dst, errForm
		}
		return encodeInterval(dst, c, v), nil
	}
	return dst, refuse(ErrType, "Debezium has no form for this type")
}

func encodeDate(dst []byte, c *conv, text []byte) ([]byte, error) {
	d, err := record.ParseDate(text)
	if err != nil {
		return dst, errForm
	}
	days, finite := d.Sub(record.Date{})
	n := int64(days) + epochDays
	if !finite {
		n = dateInfinity
		if d == record.DateMinusInfinity {
			n = dateMinusInfinity
		}
	}
	if c.code == asDate {
		return strconv.AppendInt(dst, n, 10), nil
	}
	return append(appendISODate(append(dst, '"'), n), `Z"`...), nil
}

func encodeTimestamp(dst []byte, c *conv, text []byte) ([]byte, error) {
	t, err := record.ParseTimestamp(text)
	if err != nil {
		return dst, errForm
	}
	us, finite := t.Sub(record.Timestamp{})
	switch {
	case finite && us > math.MaxInt64-epochMicros:
		return dst, errRange
	case finite:
		us += epochMicros
	case t == record.TimestampInfinity:
		us = stampInfinity
	default:
		us = stampMinusInfinity
	}
	switch {
	case c.code == asISOTimestamp:
		dst = append(appendISODate(append(dst, '"'), floorDiv(us, microsPerDay)), 'T')
		return append(appendISOClock(dst, us-floorDiv(us, microsPerDay)*microsPerDay, -1), `Z"`...), nil
	case c.scale == micros:
		return strconv.AppendInt(dst, us, 10), nil
	case c.scale == millis:
		return strconv.AppendInt(dst, floorDiv(us, 1000), 10), nil
	case t == record.TimestampInfinity:
		return strconv.AppendInt(dst, math.MaxInt64, 10), nil
	case t == record.TimestampMinusInfinity:
		return strconv.AppendInt(dst, math.MinInt64, 10), nil
	case us > math.MaxInt64/1000 || us < math.MinInt64/1000:
		return dst, refuse(ErrValue, "the timestamp does not fit into nanoseconds")
	}
	return strconv.AppendInt(dst, us*1000, 10), nil
}

func encodeInstant(dst []byte, precision int, text []byte) ([]byte, error) {
	var t record.Instant
	if err := t.UnmarshalText(text); err != nil {
		return dst, errForm
	}
	if t.IsInfinite() {
		return append(append(append(dst, '"'), text...), '"'), nil
	}
	us, _ := t.Sub(record.Instant{})
	if us > math.MaxInt64-epochMicros {
		return dst, errRange
	}
	us += epochMicros
	day := floorDiv(us, microsPerDay)
	dst = append(appendISODate(append(dst, '"'), day), 'T')
	return append(appendISOClock(dst, us-day*microsPerDay, precision), `Z"`...), nil
}

// appendISODate writes YYYY-MM-DD with an astronomical year, as Java does.
func appendISODate(dst []byte, days int64) []byte {
	year, month, day := civil(days)
	if year < 0 {
		dst, year = append(dst, '-'), -year
	} else if year > 9999 {
		dst = append(dst, '+')
	}
	dst = appendPadded(dst, year, 4)
	dst = appendPadded(append(dst, '-'), month, 2)
	return appendPadded(append(dst, '-'), day, 2)
}

// civil is the inverse of daysOf.
func civil(days int64) (year, month, day int64) {
	z := days + 719468
	era := floorDiv(z, 146097)
	doe := z - era*146097
	yoe := (doe - doe/1460 + doe/36524 - doe/146096) / 365
	doy := doe - (365*yoe + yoe/4 - yoe/100)
	mp := (5*doy + 2) / 153
	day, month, year = doy-(153*mp+2)/5+1, mp+3, yoe+era*400
	if month > 12 {
		month, year = month-12, year+1
	}
	return year, month, day
}

func appendPadded(dst []byte, n int64, width int) []byte {
	digits := strconv.Itoa(int(n))
	for range width - len(digits) {
		dst = append(dst, '0')
	}
	return append(dst, digits...)
}

// appendISOClock writes hh:mm:ss with that many digits of a fraction, with -1 as many as
// are needed.
func appendISOClock(dst []byte, us int64, digits int) []byte {
	dst = appendPadded(dst, us/3600/micros, 2)
	dst = appendPadded(append(dst, ':'), us/60/micros%60, 2)
	dst = appendPadded(append(dst, ':'), us/micros%60, 2)
	frac := string(appendPadded(nil, us%micros, 6))
	if digits < 0 {
		frac = strings.TrimRight(frac, "0")
	} else {
		frac = frac[:min(digits, 6)]
	}
	if frac == "" {
		return dst
	}
	return append(append(dst, '.'), frac...)
}

func encodeInterval(dst []byte, c *conv, v record.Interval) []byte {
	if c.code == asDuration {
		// 30.4375 days of 86,400 seconds a month.
		us := int64(v.Months)*2_629_800*micros + int64(v.Days)*microsPerDay + v.Micros
		return strconv.AppendInt(dst, us, 10)
	}
	part := func(n int64, unit byte) {
		dst = append(strconv.AppendInt(dst, n, 10), unit)
	}
	dst = append(dst, `"P`...)
	part(int64(v.Months/12), 'Y')
	part(int64(v.Months%12), 'M')
	part(int64(v.Days), 'D')
	dst = append(dst, 'T')
	part(v.Micros/3600/micros, 'H')
	part(v.Micros/60/micros%60, 'M')
	seconds := v.Micros % (60 * micros)
	if seconds < 0 {
		dst, seconds = append(dst, '-'), -seconds
	}
	dst = strconv.AppendInt(dst, seconds/micros, 10)
	if frac := strings.TrimRight(string(appendPadded(nil, seconds%micros, 6)), "0"); frac != "" {
		dst = append(append(dst, '.'), frac...)
	}
	return append(dst, `S"`...)
}
