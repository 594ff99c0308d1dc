package topologytest_test

import (
	"testing"
	"time"

	"github.com/tailrace/tailrace/operators"
	"github.com/tailrace/tailrace/record"
	"github.com/tailrace/tailrace/sources"
	"github.com/tailrace/tailrace/topology"
	"github.com/tailrace/tailrace/topology/topologytest"
)

// noRowInputs are what the enrichments of TestNoRow join.
type noRowInputs struct {
	events  topology.Stream[int64, Customer]
	table   topology.Table[int64, Customer]
	history operators.VersionedTable[int64, Customer]
	global  topology.GlobalTable[int64, Customer]
}

// TestNoRow says that an inner enrichment counts the records that it drops because there
// is no row, and that one whose joiner is told counts nothing.
func TestNoRow(t *testing.T) {
	key := func(e Customer) int64 { return int64(len(e.Name)) }
	keyOf := func(_ int64, e Customer) int64 { return key(e) }
	inner := func(_, c Customer) string { return c.Name }
	left := func(_, c Customer, _ bool) string { return c.Name }
	type out = topology.Stream[int64, string]
	for name, c := range map[string]struct {
		add           func(in noRowInputs) out
		came, dropped int
	}{
		"Enrich": {func(in noRowInputs) out {
			return operators.Enrich("x", in.events, in.table, key, inner)
		}, 2, 3},
		"LeftEnrich": {func(in noRowInputs) out {
			return operators.LeftEnrich("x", in.events, in.table, key, left)
		}, 5, 0},
		"EnrichContext": {func(in noRowInputs) out {
			return operators.EnrichContext("x", in.events, in.table,
				func(_ record.Context, _ int64, e Customer) (int64, bool, error) { return key(e), true, nil },
				func(_ record.Context, _ int64, _, c Customer, has bool) (string, bool, error) {
					return c.Name, has, nil
				})
		}, 2, 0},
		"EnrichAsOf": {func(in noRowInputs) out {
			return operators.EnrichAsOf("x", in.events, in.history, key, inner)
		}, 2, 3},
		"EnrichAsOf with WaitForRows": {func(in noRowInputs) out {
			return operators.EnrichAsOf("x", in.events, in.history, key, inner, operators.WaitForRows(time.Second))
		}, 2, 3},
		"LeftEnrichAsOf": {func(in noRowInputs) out {
			return operators.LeftEnrichAsOf("x", in.events, in.history, key, left)
		}, 5, 0},
		"EnrichGlobal": {func(in noRowInputs) out {
			return operators.EnrichGlobal("x", in.events, in.global, keyOf, inner)
		}, 2, 3},
		"LeftEnrichGlobal": {func(in noRowInputs) out {
			return operators.LeftEnrichGlobal("x", in.events, in.global, keyOf, left)
		}, 5, 0},
	} {
		t.Run(name, func(t *testing.T) {
			b := topology.New("no-row")
			shop := sources.NewDatabase("shop", nil)
			in := noRowInputs{
				events: sources.Stream[int64, Customer](b, shop, "public.events"),
				table:  sources.Table[int64, Customer](b, shop, "public.customers"),
				global: sources.GlobalTable[int64, Customer](b, shop, "public.countries"),
			}
			in.history = operators.Versioned("history", in.table, time.Hour)
			joined := c.add(in)
			// Nodes that nothing reads are refused; the joiner of these is told.
			operators.LeftEnrich("left", in.events, in.table, key, left)
			operators.LeftEnrichAsOf("left-as-of", in.events, in.history, key, left)
			operators.LeftEnrichGlobal("left-global", in.events, in.global, keyOf, left)
			d := topologytest.New(t, b.MustBuild())
			topologytest.Insert(d, in.table, 1, Customer{"one"})
			topologytest.Insert(d, in.global.Table(), 1, Customer{"one"})
			d.AdvanceTime(time.Minute)
			for i, names := range [][]string{{"a", "bb", "cc"}, {"dd"}, {"e"}} {
				d.Tx(func(tx *topologytest.Tx) {
					for j, name := range names {
						topologytest.Emit(tx, in.events, int64(10*i+j), Customer{name})
					}
				})
			}
			d.AdvanceTime(time.Minute)
			topologytest.Emit(d, in.events, 99, Customer{"a"}) // lets time pass
			came := len(topologytest.Values(d, joined))
			if name != "EnrichAsOf with WaitForRows" {
				came-- // The last one does not wait.
			}
			if dropped := d.Dropped("no-row"); came != c.came || dropped != c.dropped {
				t.Errorf("%d came, %d were dropped; want %d and %d", came, dropped, c.came, c.dropped)
			}
		})
	}
}
