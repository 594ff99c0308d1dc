package engine

import (
	"testing"
	"time"

	"github.com/tailrace/tailrace/record"
	"github.com/tailrace/tailrace/sinks"
	"github.com/tailrace/tailrace/sources"
	"github.com/tailrace/tailrace/topology"
	"github.com/tailrace/tailrace/view"
)

// A row that a publication's filter has kept from us may be deleted all the same: nobody asks
// when a row was that there never was.
func TestDeleteOfARowThatIsNotHeld(t *testing.T) {
	var v *view.View[int64, item]
	b := newBench(t, func(b *topology.Builder, db *sources.Database, _ *sinks.Target) {
		at := func(i item) time.Time {
			if i.Name == "" {
				t.Error("the time of a row that is not there is asked for")
			}
			return time.Unix(1, 0)
		}
		v = sinks.View(sources.Table[int64, item](b, db, "public.items", sources.EventTime(at)), "items")
	})
	b.source.tx(true, 1)
	b.source.tx(false)
	b.source.log[1].Rows = []record.Row{{
		Rel: items, Op: record.Delete, OldKind: record.OldKey,
		Old: record.Tuple{{Kind: record.Text, Data: []byte("7")}, {}},
	}}
	if err := b.run(func(*Engine) {
		if err := v.WaitFor(t.Context(), record.Positions{"shop": 32}); err != nil {
			t.Error(err)
		}
	}); err != nil {
		t.Fatal(err)
	}
}
