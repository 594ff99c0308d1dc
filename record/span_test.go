package record_test

import (
	"math"
	"testing"
	"time"

	"github.com/tailrace/tailrace/record"
)

func TestSpanMicros(t *testing.T) {
	for _, c := range []struct {
		d     time.Duration
		n     int64
		whole bool
	}{
		{0, 0, true}, {time.Second, 1_000_000, true}, {1, 0, false}, {1001, 1, false}, {-2000, -2, true},
		{-1999, -1, false}, {math.MaxInt64, 9223372036854775, false},
	} {
		if n, whole := record.SpanMicros(c.d); n != c.n || whole != c.whole {
			t.Errorf("%v is %d, %v", c.d, n, whole)
		}
	}
}
