package record

import (
	"database/sql/driver"
	"time"
)

// TimeOfDay is a time of day to the microsecond, 00:00:00 to 24:00:00 inclusive:
// PostgreSQL's time. It is comparable and may be a key.
type TimeOfDay struct{ us int64 }

// NewTimeOfDay returns the time that long after midnight. The error is ErrRange
// outside of 0 to 24 hours; nanoseconds are cut off.
func NewTimeOfDay(sinceMidnight time.Duration) (TimeOfDay, error) {
	if sinceMidnight < 0 || sinceMidnight > 24*time.Hour {
		return TimeOfDay{}, ErrRange
	}
	return TimeOfDay{sinceMidnight.Microseconds()}, nil
}

// ParseTimeOfDay reads the form HH:MM:SS[.ffffff]. The error is ErrSyntax.
func ParseTimeOfDay[S ~string | ~[]byte](s S) (TimeOfDay, error) {
	var t TimeOfDay
	err := t.UnmarshalText([]byte(s))
	return t, err
}

// SinceMidnight returns the time as the time passed since midnight.
func (t TimeOfDay) SinceMidnight() time.Duration { return time.Duration(t.us) * time.Microsecond }

// Compare returns -1, 0 or 1 as t is before, equal to or after u.
func (t TimeOfDay) Compare(u TimeOfDay) int { return compare64(t.us, u.us) }

// String returns PostgreSQL's text form.
func (t TimeOfDay) String() string { return string(t.append(nil)) }

func (t TimeOfDay) append(dst []byte) []byte { return appendClock(dst, t.us) }

// AppendText appends PostgreSQL's text form. It never fails.
func (t TimeOfDay) AppendText(dst []byte) ([]byte, error) { return t.append(dst), nil }

// MarshalText returns PostgreSQL's text form. It never fails.
func (t TimeOfDay) MarshalText() ([]byte, error) { return t.append(nil), nil }

// UnmarshalText is ParseTimeOfDay.
func (t *TimeOfDay) UnmarshalText(src []byte) error {
	s := scanner{src: src}
	us := s.clock()
	if s.bad || s.at != len(src) {
		return ErrSyntax
	}
	t.us = us
	return nil
}

// AppendJSON appends the text form as a string.
func (t TimeOfDay) AppendJSON(dst []byte) []byte { return appendQuoted(dst, t.append) }

// MarshalJSON returns what AppendJSON writes. It never fails.
func (t TimeOfDay) MarshalJSON() ([]byte, error) { return t.AppendJSON(nil), nil }

// UnmarshalJSON reads a string with the text form.
func (t *TimeOfDay) UnmarshalJSON(src []byte) error { return unmarshalJSONText(t, src) }

// Scan reads a text of database/sql.
func (t *TimeOfDay) Scan(src any) error { return scanText(t, src) }

// Value gives database/sql the text form.
func (t TimeOfDay) Value() (driver.Value, error) { return t.String(), nil }

// AppendOrdered appends the order-preserving form.
func (t TimeOfDay) AppendOrdered(dst []byte) []byte { return appendOrdered64(dst, t.us) }

// DecodeOrdered reads what AppendOrdered wrote and returns the rest.
func (t *TimeOfDay) DecodeOrdered(src []byte) (rest []byte, err error) {
	t.us, rest, err = decodeOrdered64(src)
	return rest, err
}

// AppendState appends the form of a stored row.
func (t TimeOfDay) AppendState(dst []byte) []byte { return t.AppendOrdered(dst) }

// DecodeState reads what AppendState wrote and returns the rest.
func (t *TimeOfDay) DecodeState(src []byte) (rest []byte, err error) { return t.DecodeOrdered(src) }
