package record

import (
	"database/sql/driver"
	"math"
	"strconv"
)

// Interval is PostgreSQL's interval: months, days and microseconds, which do not
// convert into each other, and from PostgreSQL 17 on the infinities. It is
// comparable by its parts but may not be a key: to PostgreSQL, 1 month and 30 days
// are equal.
type Interval struct {
	Months, Days int32
	Micros       int64
}

// The infinite intervals.
var (
	IntervalMinusInfinity = Interval{math.MinInt32, math.MinInt32, math.MinInt64}
	IntervalInfinity      = Interval{math.MaxInt32, math.MaxInt32, math.MaxInt64}
)

// ParseInterval reads the form of IntervalStyle=postgres, such as
// "1 year 2 mons -3 days +04:05:06.7". The error is ErrSyntax or ErrRange.
func ParseInterval[S ~string | ~[]byte](s S) (Interval, error) {
	var v Interval
	err := v.UnmarshalText([]byte(s))
	return v, err
}

// IsInfinite reports whether v is one of the infinities.
func (v Interval) IsInfinite() bool { return v == IntervalInfinity || v == IntervalMinusInfinity }

// UnmarshalText is ParseInterval.
func (v *Interval) UnmarshalText(src []byte) error {
	switch string(src) {
	case "infinity":
		*v = IntervalInfinity
		return nil
	case "-infinity":
		*v = IntervalMinusInfinity
		return nil
	case "":
		return ErrSyntax
	}
	p := intervalParser{src: src}
	for p.at < len(p.src) {
		if err := p.part(); err != nil {
			return err
		}
		if p.at < len(p.src) {
			if p.src[p.at] != ' ' {
				return ErrSyntax
			}
			p.at++
			if p.at == len(p.src) {
				return ErrSyntax
			}
		}
	}
	if p.months != int64(int32(p.months)) || p.days != int64(int32(p.days)) {
		return ErrRange
	}
	*v = Interval{int32(p.months), int32(p.days), p.micros}
	return nil
}

type intervalParser struct {
	src          []byte
	at           int
	months, days int64
	micros       int64
	// last is the rank of the last part read; parts come in falling order.
	last int
}

// part reads "N unit" or the clock.
func (p *intervalParser) part() error {
	neg := false
	if c := p.src[p.at]; c == '-' || c == '+' {
		neg = c == '-'
		p.at++
	}
	n, ok := p.number(10)
	if !ok {
		return ErrSyntax
	}
	if p.at < len(p.src) && p.src[p.at] == ':' {
		return p.clock(neg, n)
	}
	if neg {
		n = -n
	}
	if p.at == len(p.src) || p.src[p.at] != ' ' {
		return ErrSyntax
	}
	p.at++
	start := p.at
	for p.at < len(p.src) && p.src[p.at] >= 'a' && p.src[p.at] <= 'z' {
		p.at++
	}
	rank := 0
	switch string(p.src[start:p.at]) {
	case "year", "years":
		rank = 1
		p.months += n * 12
	case "mon", "mons":
		rank = 2
		p.months += n
	case "day", "days":
		rank = 3
		p.days += n
	}
	if rank <= p.last {
		return ErrSyntax
	}
	p.last = rank
	return nil
}

// clock reads what follows the hours of [-]H+:MM:SS[.ffffff].
func (p *intervalParser) clock(neg bool, hours int64) error {
	if p.last > 3 {
		return ErrSyntax
	}
	p.last = 4
	// The hours go beyond a day, so scanner.clock reads the rest under a zero hour.
	var buf [32]byte
	rest := append(buf[:0], '0', '0')
	for p.at < len(p.src) && len(rest) < len(buf) && p.src[p.at] != ' ' {
		rest = append(rest, p.src[p.at])
		p.at++
	}
	s := scanner{src: rest}
	us := s.clock()
	if s.bad || s.at != len(rest) {
		return ErrSyntax
	}
	const maxHours = math.MaxInt64 / microsPerHour
	if hours > maxHours {
		return ErrRange
	}
	// Counted downwards, since only the negative side reaches -2^63.
	us = -us - hours*microsPerHour
	if us > 0 || !neg && us == math.MinInt64 {
		return ErrRange
	}
	if !neg {
		us = -us
	}
	p.micros = us
	return nil
}

func (p *intervalParser) number(maxDigits int) (n int64, ok bool) {
	start := p.at
	for p.at < len(p.src) && p.src[p.at]-'0' <= 9 && p.at-start <= maxDigits {
		n = n*10 + int64(p.src[p.at]-'0')
		p.at++
	}
	return n, p.at > start && p.at-start <= maxDigits
}

// String returns PostgreSQL's text form under IntervalStyle=postgres.
func (v Interval) String() string { return string(v.append(nil)) }

func (v Interval) append(dst []byte) []byte {
	switch v {
	case IntervalInfinity:
		return append(dst, "infinity"...)
	case IntervalMinusInfinity:
		return append(dst, "-infinity"...)
	}
	start := len(dst)
	neg := false
	unit := func(n int32, name string) {
		if n == 0 {
			return
		}
		if len(dst) > start {
			dst = append(dst, ' ')
			// A positive part behind a negative one shows its sign.
			if neg && n > 0 {
				dst = append(dst, '+')
			}
		}
		dst = append(strconv.AppendInt(dst, int64(n), 10), name...)
		if n != 1 {
			dst = append(dst, 's')
		}
		neg = n < 0
	}
	unit(v.Months/12, " year")
	unit(v.Months%12, " mon")
	unit(v.Days, " day")
	if v.Micros == 0 && len(dst) > start {
		return dst
	}
	if len(dst) > start {
		dst = append(dst, ' ')
	}
	us := uint64(v.Micros)
	if v.Micros < 0 {
		us = -us
		dst = append(dst, '-')
	} else if neg {
		dst = append(dst, '+')
	}
	hours := us / microsPerHour
	if hours < 10 {
		dst = append(dst, '0')
	}
	dst = appendUint(dst, hours)
	dst = appendTwo(append(dst, ':'), int(us/microsPerMinute%60))
	dst = appendTwo(append(dst, ':'), int(us/microsPerSecond%60))
	return appendFraction(dst, int64(us%microsPerSecond))
}

// AppendText appends what String returns. It never fails.
func (v Interval) AppendText(dst []byte) ([]byte, error) { return v.append(dst), nil }

// MarshalText returns what String returns. It never fails.
func (v Interval) MarshalText() ([]byte, error) { return v.append(nil), nil }

// AppendJSON appends the text form as a string.
func (v Interval) AppendJSON(dst []byte) []byte { return appendQuoted(dst, v.append) }

// Scan reads a text of database/sql.
func (v *Interval) Scan(src any) error { return scanText(v, src) }

// Value gives database/sql the text form.
func (v Interval) Value() (driver.Value, error) { return v.String(), nil }
