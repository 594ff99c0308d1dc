// Package await has tests wait until something holds that nothing announces, such as what
// a catalog shows or another process has done.
package await

import (
	"testing"
	"time"
)

// Limit is how long That waits.
const Limit = 30 * time.Second

// longest is how long a pause between two questions is at most.
const longest = 100 * time.Millisecond

// That waits until holds returns true, and ends the test where that does not come within
// Limit. what says what is waited for.
func That(t testing.TB, what string, holds func() bool) {
	t.Helper()
	if !Within(Limit, holds) {
		t.Fatalf("does not come: %s", what)
	}
}

// Within reports whether holds returns true in time. Between two questions it pauses as
// long as the last took, and a millisecond at least, so that what is dear to ask takes half
// of a processor at most.
func Within(d time.Duration, holds func() bool) bool {
	end := time.Now().Add(d)
	for {
		asked := time.Now()
		if holds() {
			return true
		}
		now := time.Now()
		if !now.Before(end) {
			return false
		}
		time.Sleep(min(max(now.Sub(asked), time.Millisecond), longest, end.Sub(now)))
	}
}
