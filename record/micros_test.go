package record_test

import (
	"math"
	"testing"
	"time"

	"github.com/tailrace/tailrace/record"
)

func TestMicros(t *testing.T) {
	for at, want := range map[time.Time]int64{
		time.UnixMicro(-7): -7,
		time.Date(9999, 12, 31, 23, 59, 59, 999999000, time.UTC): 253402300799999999,
		time.Date(294276, 12, 31, 0, 0, 0, 0, time.UTC):          math.MaxInt64,
		time.Date(-4713, 11, 24, 0, 0, 0, 0, time.UTC):           -210866803200000000,
		time.Date(-400000, 1, 1, 0, 0, 0, 0, time.UTC):           math.MinInt64 + 1,
	} {
		if got := record.Micros(at); got != want {
			t.Errorf("%s is %d, want %d", at, got, want)
		}
	}
}
