package record

import (
	"database/sql/driver"
	"math"
	"time"
)

// Date is a date of the civil calendar: PostgreSQL's date, with the years 4714 BC
// to AD 5874897 and the two infinities. The zero value is 2000-01-01. It is
// comparable and may be a key.
type Date struct{ days int32 }

// The infinite dates: before and after every other.
var (
	DateMinusInfinity = Date{math.MinInt32}
	DateInfinity      = Date{math.MaxInt32}
)

// NewDate returns a date; year 0 is 1 BC, -1 is 2 BC and so on. The error is
// ErrRange where there is no such day.
func NewDate(year int, month time.Month, day int) (Date, error) {
	if year < -5000 || year > 5_874_898 || !validDay(int64(year), int(month), day) {
		return Date{}, ErrRange
	}
	days := daysOf(int64(year), int(month), day)
	if days < minDays || days >= endDays {
		return Date{}, ErrRange
	}
	return Date{int32(days)}, nil
}

// DateOf returns the date that a calendar at t's own location shows.
func DateOf(t time.Time) Date { return TimestampOf(t).Date() }

// ParseDate reads the form YYYY-MM-DD[ BC], infinity or -infinity. The error is
// ErrSyntax or ErrRange.
func ParseDate[S ~string | ~[]byte](s S) (Date, error) {
	var d Date
	err := d.UnmarshalText([]byte(s))
	return d, err
}

// IsInfinite reports whether d is one of the infinities.
func (d Date) IsInfinite() bool { return d == DateInfinity || d == DateMinusInfinity }

// Civil returns year, month and day; year 0 is 1 BC. The infinities give zeros.
func (d Date) Civil() (year int, month time.Month, day int) {
	if d.IsInfinite() {
		return 0, 0, 0
	}
	y, m, n := civilOf(int64(d.days))
	return int(y), time.Month(m), n
}

// In returns the beginning of the day in loc. The error is ErrInfinite where d is
// infinite.
func (d Date) In(loc *time.Location) (time.Time, error) {
	if d.IsInfinite() {
		return time.Time{}, ErrInfinite
	}
	year, month, day := d.Civil()
	return time.Date(year, month, day, 0, 0, 0, 0, loc), nil
}

// AddDays returns the date n days later; an infinite one stays, and one that
// leaves the range becomes the infinity of its side.
func (d Date) AddDays(n int) Date {
	switch sum := int64(d.days) + int64(n); {
	case d.IsInfinite():
		return d
	case sum < minDays:
		return DateMinusInfinity
	case sum >= endDays:
		return DateInfinity
	default:
		return Date{int32(sum)}
	}
}

// Sub returns the days from e to d; ok is false where one of them is infinite.
func (d Date) Sub(e Date) (days int, ok bool) {
	if d.IsInfinite() || e.IsInfinite() {
		return 0, false
	}
	return int(int64(d.days) - int64(e.days)), true
}

// Compare returns -1, 0 or 1 as d is before, equal to or after e.
func (d Date) Compare(e Date) int { return compare64(int64(d.days), int64(e.days)) }

// String returns PostgreSQL's text form.
func (d Date) String() string { return string(d.append(nil)) }

func (d Date) append(dst []byte) []byte {
	switch d {
	case DateInfinity:
		return append(dst, "infinity"...)
	case DateMinusInfinity:
		return append(dst, "-infinity"...)
	}
	year, month, day := civilOf(int64(d.days))
	return appendEra(appendYMD(dst, year, month, day), year)
}

// AppendText appends PostgreSQL's text form. It never fails.
func (d Date) AppendText(dst []byte) ([]byte, error) { return d.append(dst), nil }

// MarshalText returns PostgreSQL's text form. It never fails.
func (d Date) MarshalText() ([]byte, error) { return d.append(nil), nil }

// UnmarshalText is ParseDate.
func (d *Date) UnmarshalText(src []byte) error {
	switch string(src) {
	case "infinity", "Infinity":
		*d = DateInfinity
		return nil
	case "-infinity", "-Infinity":
		*d = DateMinusInfinity
		return nil
	}
	s := scanner{src: src}
	year, month, day := s.date()
	year = s.era(year)
	if s.bad || !validDay(year, month, day) {
		return ErrSyntax
	}
	days := daysOf(year, month, day)
	if days < minDays || days >= endDays {
		return ErrRange
	}
	d.days = int32(days)
	return nil
}

// AppendJSON appends the text form as a string.
func (d Date) AppendJSON(dst []byte) []byte { return appendQuoted(dst, d.append) }

// MarshalJSON returns what AppendJSON writes. It never fails.
func (d Date) MarshalJSON() ([]byte, error) { return d.AppendJSON(nil), nil }

// UnmarshalJSON reads a string with the text form.
func (d *Date) UnmarshalJSON(src []byte) error { return unmarshalJSONText(d, src) }

// Scan reads a value of database/sql: a time, or a text.
func (d *Date) Scan(src any) error {
	if at, ok := src.(time.Time); ok {
		*d = DateOf(at)
		return nil
	}
	return scanText(d, src)
}

// Value gives database/sql the text form.
func (d Date) Value() (driver.Value, error) { return d.String(), nil }

// AppendOrdered appends the order-preserving form.
func (d Date) AppendOrdered(dst []byte) []byte { return appendOrdered32(dst, d.days) }

// DecodeOrdered reads what AppendOrdered wrote and returns the rest.
func (d *Date) DecodeOrdered(src []byte) (rest []byte, err error) {
	d.days, rest, err = decodeOrdered32(src)
	return rest, err
}

// AppendState appends the form of a stored row.
func (d Date) AppendState(dst []byte) []byte { return d.AppendOrdered(dst) }

// DecodeState reads what AppendState wrote and returns the rest.
func (d *Date) DecodeState(src []byte) (rest []byte, err error) { return d.DecodeOrdered(src) }
