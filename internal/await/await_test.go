package await

import (
	"testing"
	"testing/synctest"
	"time"
)

// TestWithin: it asks until the condition holds, once more at the end, and pauses as long
// as asking takes.
func TestWithin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		asked, began := 0, time.Now()
		never := func() bool {
			asked++
			time.Sleep(20 * time.Millisecond) // of the bubble's clock: what asking costs
			return false
		}
		if Within(90*time.Millisecond, never) || asked != 3 {
			t.Errorf("holds, or asked %d times", asked)
		}
		if took := time.Since(began); took != 100*time.Millisecond {
			t.Errorf("took %v", took)
		}
		n := 0
		That(t, "five", func() bool { n++; return n == 5 })
		if got := time.Since(began); n != 5 || got != 104*time.Millisecond {
			t.Errorf("%d questions, %v", n, got)
		}
	})
}
