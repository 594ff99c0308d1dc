package record

import (
	"database/sql/driver"
	"math"
	"time"
)

// Timestamp is a civil date and time without a zone, to the microsecond: PostgreSQL's
// timestamp. It has the years 4714 BC to AD 294276 and the two infinities. It is
// comparable and may be a key.
// The zero value is 2000-01-01 00:00:00, where PostgreSQL counts from.
type Timestamp struct{ us int64 }

// The infinities of Timestamp: before and after every other value.
var (
	TimestampMinusInfinity = Timestamp{math.MinInt64}
	TimestampInfinity      = Timestamp{math.MaxInt64}
)

// TimestampOf returns what a clock and a calendar at t's own location show.
// Nanoseconds are cut off; a time outside of PostgreSQL's range, 4714 BC to AD
// 294276, becomes the infinity of its side.
func TimestampOf(t time.Time) Timestamp {
	_, offset := t.Zone()
	return Timestamp(instantOf(t, int64(offset)))
}

// ParseTimestamp reads the form YYYY-MM-DD HH:MM:SS[.ffffff][ BC],
// with T instead of the space if so written, or infinity or -infinity. The error
// is ErrSyntax or ErrRange.
func ParseTimestamp[S ~string | ~[]byte](s S) (Timestamp, error) {
	var t Timestamp
	err := t.UnmarshalText([]byte(s))
	return t, err
}

// IsInfinite reports whether t is one of the infinities.
func (t Timestamp) IsInfinite() bool { return t == TimestampInfinity || t == TimestampMinusInfinity }

// In returns the moment at which a clock in loc shows t. The error is ErrInfinite
// where t is infinite.
func (t Timestamp) In(loc *time.Location) (time.Time, error) {
	if t.IsInfinite() {
		return time.Time{}, ErrInfinite
	}
	days := floorDiv(t.us, microsPerDay)
	year, month, day := civilOf(days)
	us := t.us - days*microsPerDay
	return time.Date(int(year), time.Month(month), day, 0, 0, int(us/microsPerSecond),
		int(us%microsPerSecond)*1000, loc), nil
}

// Date returns t's date; the infinities have the infinite dates.
func (t Timestamp) Date() Date {
	switch t {
	case TimestampInfinity:
		return DateInfinity
	case TimestampMinusInfinity:
		return DateMinusInfinity
	}
	return Date{int32(floorDiv(t.us, microsPerDay))}
}

// Compare returns -1, 0 or 1 as t is before, equal to or after u.
func (t Timestamp) Compare(u Timestamp) int { return compare64(t.us, u.us) }

// Before reports whether t is before u.
func (t Timestamp) Before(u Timestamp) bool { return t.us < u.us }

// Sub returns the microseconds from u to t; ok is false where one of them is
// infinite.
func (t Timestamp) Sub(u Timestamp) (micros int64, ok bool) {
	if t.IsInfinite() || u.IsInfinite() {
		return 0, false
	}
	micros = t.us - u.us
	return micros, (micros < 0) == (t.us < u.us)
}

// AddMicros returns the value that many microseconds later; an infinite one
// stays, and one that leaves the range becomes the infinity of its side.
func (t Timestamp) AddMicros(micros int64) Timestamp {
	if t.IsInfinite() {
		return t
	}
	sum := t.us + micros
	switch {
	case micros < 0 && (sum > t.us || sum < minStamp):
		return TimestampMinusInfinity
	case micros > 0 && (sum < t.us || sum >= endStamp):
		return TimestampInfinity
	}
	return Timestamp{sum}
}

// String returns PostgreSQL's text form.
func (t Timestamp) String() string { return string(t.append(nil, ' ')) }

func (t Timestamp) append(dst []byte, sep byte) []byte {
	switch t {
	case TimestampInfinity:
		return append(dst, "infinity"...)
	case TimestampMinusInfinity:
		return append(dst, "-infinity"...)
	}
	return appendStamp(dst, t.us, sep, "")
}

// AppendText appends PostgreSQL's text form. It never fails.
func (t Timestamp) AppendText(dst []byte) ([]byte, error) { return t.append(dst, ' '), nil }

// MarshalText returns PostgreSQL's text form. It never fails.
func (t Timestamp) MarshalText() ([]byte, error) { return t.append(nil, ' '), nil }

// UnmarshalText is ParseTimestamp.
func (t *Timestamp) UnmarshalText(src []byte) error {
	switch string(src) {
	case "infinity", "Infinity":
		*t = TimestampInfinity
		return nil
	case "-infinity", "-Infinity":
		*t = TimestampMinusInfinity
		return nil
	}
	us, err := parseStamp(src, false)
	if err != nil {
		return err
	}
	t.us = us
	return nil
}

// AppendJSON appends a string as 2006-01-02T15:04:05.999999,
// "infinity" or "-infinity".
func (t Timestamp) AppendJSON(dst []byte) []byte {
	dst = append(dst, '"')
	if t.IsInfinite() {
		dst = t.append(dst, 'T')
	} else {
		dst = appendStamp(dst, t.us, 'T', "")
	}
	return append(dst, '"')
}

// MarshalJSON returns what AppendJSON writes. It never fails.
func (t Timestamp) MarshalJSON() ([]byte, error) { return t.AppendJSON(nil), nil }

// UnmarshalJSON reads a string in one of the forms of ParseTimestamp.
func (t *Timestamp) UnmarshalJSON(src []byte) error { return unmarshalJSONText(t, src) }

// Scan reads a value of database/sql: a time, or a text.
func (t *Timestamp) Scan(src any) error {
	if at, ok := src.(time.Time); ok {
		*t = TimestampOf(at)
		return nil
	}
	return scanText(t, src)
}

// Value gives database/sql the text form.
func (t Timestamp) Value() (driver.Value, error) { return t.String(), nil }

// AppendOrdered appends the order-preserving form.
func (t Timestamp) AppendOrdered(dst []byte) []byte { return appendOrdered64(dst, t.us) }

// DecodeOrdered reads what AppendOrdered wrote and returns the rest.
func (t *Timestamp) DecodeOrdered(src []byte) (rest []byte, err error) {
	t.us, rest, err = decodeOrdered64(src)
	return rest, err
}

// AppendState appends the form of a stored row.
func (t Timestamp) AppendState(dst []byte) []byte { return t.AppendOrdered(dst) }

// DecodeState reads what AppendState wrote and returns the rest.
func (t *Timestamp) DecodeState(src []byte) (rest []byte, err error) { return t.DecodeOrdered(src) }
