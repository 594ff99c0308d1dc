package record

import (
	"database/sql/driver"
	"math"
	"time"
)

// Instant is a moment in time to the microsecond that can also be infinite:
// PostgreSQL's timestamptz in full. Where infinity does not occur, time.Time does.
// It is comparable and may be a key.
// The zero value is 2000-01-01 00:00:00 UTC, where PostgreSQL counts from.
type Instant struct{ us int64 }

// The infinities of Instant: before and after every other value.
var (
	InstantMinusInfinity = Instant{math.MinInt64}
	InstantInfinity      = Instant{math.MaxInt64}
)

// InstantOf returns the moment t.
// Nanoseconds are cut off; a time outside of PostgreSQL's range, 4714 BC to AD
// 294276, becomes the infinity of its side.
func InstantOf(t time.Time) Instant {
	return instantOf(t, 0)
}

// ParseInstant reads the form YYYY-MM-DD HH:MM:SS[.ffffff]+HH[:MM[:SS]][ BC],
// with T instead of the space if so written, or infinity or -infinity. The error
// is ErrSyntax or ErrRange.
func ParseInstant[S ~string | ~[]byte](s S) (Instant, error) {
	var t Instant
	err := t.UnmarshalText([]byte(s))
	return t, err
}

// IsInfinite reports whether t is one of the infinities.
func (t Instant) IsInfinite() bool { return t == InstantInfinity || t == InstantMinusInfinity }

// Time returns the moment in UTC. The error is ErrInfinite where t is infinite.
func (t Instant) Time() (time.Time, error) {
	if t.IsInfinite() {
		return time.Time{}, ErrInfinite
	}
	sec := floorDiv(t.us, microsPerSecond)
	return time.Unix(sec+epochDays*86400, (t.us-sec*microsPerSecond)*1000).UTC(), nil
}

// instantOf shifts a time by an offset in seconds.
func instantOf(t time.Time, offset int64) Instant {
	sec := t.Unix() - epochDays*86400 + offset
	switch {
	case sec < minStamp/microsPerSecond:
		return InstantMinusInfinity
	case sec >= endStamp/microsPerSecond:
		return InstantInfinity
	}
	return Instant{sec*microsPerSecond + int64(t.Nanosecond()/1000)}
}

// ParseTime reads a finite timestamptz as a time in UTC; the error is ErrInfinite
// for one that is infinite, ErrSyntax or ErrRange.
func ParseTime(src []byte) (time.Time, error) {
	var t Instant
	if err := t.UnmarshalText(src); err != nil {
		return time.Time{}, err
	}
	return t.Time()
}

// Compare returns -1, 0 or 1 as t is before, equal to or after u.
func (t Instant) Compare(u Instant) int { return compare64(t.us, u.us) }

// Before reports whether t is before u.
func (t Instant) Before(u Instant) bool { return t.us < u.us }

// Sub returns the microseconds from u to t; ok is false where one of them is
// infinite.
func (t Instant) Sub(u Instant) (micros int64, ok bool) {
	if t.IsInfinite() || u.IsInfinite() {
		return 0, false
	}
	micros = t.us - u.us
	return micros, (micros < 0) == (t.us < u.us)
}

// AddMicros returns the value that many microseconds later; an infinite one
// stays, and one that leaves the range becomes the infinity of its side.
func (t Instant) AddMicros(micros int64) Instant {
	if t.IsInfinite() {
		return t
	}
	sum := t.us + micros
	switch {
	case micros < 0 && (sum > t.us || sum < minStamp):
		return InstantMinusInfinity
	case micros > 0 && (sum < t.us || sum >= endStamp):
		return InstantInfinity
	}
	return Instant{sum}
}

// String returns PostgreSQL's text form.
func (t Instant) String() string { return string(t.append(nil, ' ')) }

func (t Instant) append(dst []byte, sep byte) []byte {
	switch t {
	case InstantInfinity:
		return append(dst, "infinity"...)
	case InstantMinusInfinity:
		return append(dst, "-infinity"...)
	}
	return appendStamp(dst, t.us, sep, "+00")
}

// AppendText appends PostgreSQL's text form. It never fails.
func (t Instant) AppendText(dst []byte) ([]byte, error) { return t.append(dst, ' '), nil }

// MarshalText returns PostgreSQL's text form. It never fails.
func (t Instant) MarshalText() ([]byte, error) { return t.append(nil, ' '), nil }

// UnmarshalText is ParseInstant.
func (t *Instant) UnmarshalText(src []byte) error {
	switch string(src) {
	case "infinity", "Infinity":
		*t = InstantInfinity
		return nil
	case "-infinity", "-Infinity":
		*t = InstantMinusInfinity
		return nil
	}
	us, err := parseStamp(src, true)
	if err != nil {
		return err
	}
	t.us = us
	return nil
}

// AppendJSON appends a string as 2006-01-02T15:04:05.999999Z,
// "infinity" or "-infinity".
func (t Instant) AppendJSON(dst []byte) []byte {
	dst = append(dst, '"')
	if t.IsInfinite() {
		dst = t.append(dst, 'T')
	} else {
		dst = appendStamp(dst, t.us, 'T', "Z")
	}
	return append(dst, '"')
}

// MarshalJSON returns what AppendJSON writes. It never fails.
func (t Instant) MarshalJSON() ([]byte, error) { return t.AppendJSON(nil), nil }

// UnmarshalJSON reads a string in one of the forms of ParseInstant.
func (t *Instant) UnmarshalJSON(src []byte) error { return unmarshalJSONText(t, src) }

// Scan reads a value of database/sql: a time, or a text.
func (t *Instant) Scan(src any) error {
	if at, ok := src.(time.Time); ok {
		*t = InstantOf(at)
		return nil
	}
	return scanText(t, src)
}

// Value gives database/sql the text form.
func (t Instant) Value() (driver.Value, error) { return t.String(), nil }

// AppendOrdered appends the order-preserving form.
func (t Instant) AppendOrdered(dst []byte) []byte { return appendOrdered64(dst, t.us) }

// DecodeOrdered reads what AppendOrdered wrote and returns the rest.
func (t *Instant) DecodeOrdered(src []byte) (rest []byte, err error) {
	t.us, rest, err = decodeOrdered64(src)
	return rest, err
}

// AppendState appends the form of a stored row.
func (t Instant) AppendState(dst []byte) []byte { return t.AppendOrdered(dst) }

// DecodeState reads what AppendState wrote and returns the rest.
func (t *Instant) DecodeState(src []byte) (rest []byte, err error) { return t.DecodeOrdered(src) }
