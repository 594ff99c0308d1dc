package record_test

import (
	"testing"

	"github.com/tailrace/tailrace/record"
)

// Ids are kept by targets: they never change.
func TestEventID(t *testing.T) {
	for want, got := range map[string]string{
		"shop/0/1F/orders/warehouse/lines/7": record.EventID(
			"shop", record.LSN(31).String(), "orders", "warehouse/lines", 7, "",
		),
		"lines-3/41/orders/out/0.00ff2e": record.EventID("lines-3", "41", "orders", "out", 0, "\x00\xff."),
	} {
		if got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
