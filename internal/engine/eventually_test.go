package engine

import (
	"testing"
	"time"
)

// eventually waits until a condition holds that nothing announces.
func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	again := time.NewTicker(time.Millisecond)
	defer again.Stop()
	end := time.NewTimer(20 * time.Second)
	defer end.Stop()
	for !holds() {
		select {
		case <-again.C:
		case <-end.C:
			t.Fatalf("does not come: %s", what)
		}
	}
}
