package algebra_test

import (
	"runtime"
	"testing"
	"time"

	"github.com/tailrace/tailrace/internal/algebra"
)

// TestAllocations keeps the hot path of every operator free of allocations: a step of
// twice as many records makes no more of them. Not counted are what a step makes
// whatever its size, what commits do, and what happens once in many records, such as the
// growth of a buffer: one allocation in ten records.
//
// A result that is a list is allocated for each group that changes.
func TestAllocations(t *testing.T) {
	keys := algebra.Keys{
		Orders: 4_000, Customers: 1_000, Clicks: 2_000, RecordTime: 100 * time.Microsecond, Commit: 2_000,
	}
	const step = 100
	for _, c := range algebra.Cases() {
		t.Run(c.Name, func(t *testing.T) {
			one, two := allocations(t, c, keys, step), allocations(t, c, keys, 2*step)
			perRecord := (two - one) / step
			t.Logf("%.3f a record, %.0f a step", perRecord, one-step*perRecord)
			allowed := 0.1
			if c.Lists {
				allowed++
			}
			if perRecord > allowed {
				t.Errorf("%.3f allocations a record, want %.2f at most", perRecord, allowed)
			}
		})
	}
}

// allocations counts those of a step, on average.
func allocations(t *testing.T, c algebra.Case, keys algebra.Keys, step int) float64 {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	run, err := algebra.New(c, keys, step)
	if err != nil {
		t.Fatal(err)
	}
	defer run.Close()
	var total, steps uint64
	feed := func(records int) {
		for done := 0; done < records; done += step {
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			if err := run.Step(); err != nil {
				t.Fatal(err)
			}
			runtime.ReadMemStats(&after)
			total += after.Mallocs - before.Mallocs
			steps++
			if run.Due() {
				if err := run.Commit(); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	feed(algebra.WarmUp(keys))
	total, steps = 0, 0
	feed(8_000)
	return float64(total) / float64(steps)
}
