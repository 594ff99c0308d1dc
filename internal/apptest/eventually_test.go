package apptest

import (
	"testing"
	"time"
)

// eventually waits until a condition holds that nothing announces, such as what a
// catalog shows, and fails where it does not come.
func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	if !within(30*time.Second, holds) {
		t.Fatalf("does not come: %s", what)
	}
}

// within reports whether a condition comes to hold in time.
func within(d time.Duration, holds func() bool) bool {
	again := time.NewTicker(5 * time.Millisecond)
	defer again.Stop()
	end := time.NewTimer(d)
	defer end.Stop()
	for !holds() {
		select {
		case <-again.C:
		case <-end.C:
			return false
		}
	}
	return true
}
