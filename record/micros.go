package record

import (
	"math"
	"time"
)

// Micros returns a time in Unix microseconds. A time that int64 has no room for, which is
// one before the year -290307 or after 294246, becomes the nearest that it has.
func Micros(t time.Time) int64 {
	switch s := t.Unix(); {
	case s >= math.MaxInt64/1_000_000:
		return math.MaxInt64
	case s <= math.MinInt64/1_000_000:
		return math.MinInt64 + 1 // The least one means that there is no time.
	}
	return t.UnixMicro()
}

// SpanMicros returns a span of time in microseconds, of which all times are made, and whether
// it is a whole number of them.
func SpanMicros(d time.Duration) (n int64, whole bool) {
	return d.Microseconds(), d%time.Microsecond == 0
}
