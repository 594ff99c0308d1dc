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
