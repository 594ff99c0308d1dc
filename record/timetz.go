package record

import "database/sql/driver"

// TimeTZ is a time of day with an offset from UTC: PostgreSQL's time with time
// zone. As there, two values are equal only if both parts are; they are ordered by
// the time in UTC first. It is comparable and may be a key.
type TimeTZ struct {
	local TimeOfDay
	east  int32
}

// NewTimeTZ returns a local time at an offset in seconds east of Greenwich. The
// error is ErrRange where the offset is 16 hours or more.
func NewTimeTZ(local TimeOfDay, east int) (TimeTZ, error) {
	if east <= -16*3600 || east >= 16*3600 {
		return TimeTZ{}, ErrRange
	}
	return TimeTZ{local, int32(east)}, nil
}

// ParseTimeTZ reads the form HH:MM:SS[.ffffff]+HH[:MM[:SS]]. The error is
// ErrSyntax.
func ParseTimeTZ[S ~string | ~[]byte](s S) (TimeTZ, error) {
	var t TimeTZ
	err := t.UnmarshalText([]byte(s))
	return t, err
}

// Local returns the time of day without the offset.
func (t TimeTZ) Local() TimeOfDay { return t.local }

// East returns the offset in seconds east of Greenwich.
func (t TimeTZ) East() int { return int(t.east) }

func (t TimeTZ) utc() int64 { return t.local.us - int64(t.east)*microsPerSecond }

// Compare orders by the time in UTC, then the more eastern offset first, as
// PostgreSQL does.
func (t TimeTZ) Compare(u TimeTZ) int {
	if c := compare64(t.utc(), u.utc()); c != 0 {
		return c
	}
	return compare64(int64(u.east), int64(t.east))
}

// String returns PostgreSQL's text form.
func (t TimeTZ) String() string { return string(t.append(nil)) }

func (t TimeTZ) append(dst []byte) []byte {
	dst = t.local.append(dst)
	east, sign := int(t.east), byte('+')
	if east < 0 {
		east, sign = -east, '-'
	}
	dst = appendTwo(append(dst, sign), east/3600)
	if east%3600 != 0 {
		dst = appendTwo(append(dst, ':'), east/60%60)
		if east%60 != 0 {
			dst = appendTwo(append(dst, ':'), east%60)
		}
	}
	return dst
}

// AppendText appends PostgreSQL's text form. It never fails.
func (t TimeTZ) AppendText(dst []byte) ([]byte, error) { return t.append(dst), nil }

// MarshalText returns PostgreSQL's text form. It never fails.
func (t TimeTZ) MarshalText() ([]byte, error) { return t.append(nil), nil }

// UnmarshalText is ParseTimeTZ.
func (t *TimeTZ) UnmarshalText(src []byte) error {
	s := scanner{src: src}
	us := s.clock()
	east := s.zone()
	if s.bad || s.at != len(src) {
		return ErrSyntax
	}
	*t = TimeTZ{TimeOfDay{us}, int32(east)}
	return nil
}

// AppendJSON appends the text form as a string.
func (t TimeTZ) AppendJSON(dst []byte) []byte { return appendQuoted(dst, t.append) }

// MarshalJSON returns what AppendJSON writes. It never fails.
func (t TimeTZ) MarshalJSON() ([]byte, error) { return t.AppendJSON(nil), nil }

// UnmarshalJSON reads a string with the text form.
func (t *TimeTZ) UnmarshalJSON(src []byte) error { return unmarshalJSONText(t, src) }

// Scan reads a text of database/sql.
func (t *TimeTZ) Scan(src any) error { return scanText(t, src) }

// Value gives database/sql the text form.
func (t TimeTZ) Value() (driver.Value, error) { return t.String(), nil }

// AppendOrdered appends the order-preserving form.
func (t TimeTZ) AppendOrdered(dst []byte) []byte {
	return appendOrdered32(appendOrdered64(dst, t.utc()), -t.east)
}

// DecodeOrdered reads what AppendOrdered wrote and returns the rest.
func (t *TimeTZ) DecodeOrdered(src []byte) (rest []byte, err error) {
	utc, rest, err := decodeOrdered64(src)
	if err != nil {
		return nil, err
	}
	west, rest, err := decodeOrdered32(rest)
	if err != nil {
		return nil, err
	}
	t.east = -west
	t.local.us = utc + int64(t.east)*microsPerSecond
	return rest, nil
}

// AppendState appends the form of a stored row.
func (t TimeTZ) AppendState(dst []byte) []byte { return t.AppendOrdered(dst) }

// DecodeState reads what AppendState wrote and returns the rest.
func (t *TimeTZ) DecodeState(src []byte) (rest []byte, err error) { return t.DecodeOrdered(src) }
