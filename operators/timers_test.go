package operators_test

import (
	"testing"
	"time"

	"github.com/tailrace/tailrace/operators"
	"github.com/tailrace/tailrace/operators/aggregate"
	"github.com/tailrace/tailrace/record"
	"github.com/tailrace/tailrace/sources"
	"github.com/tailrace/tailrace/state"
	"github.com/tailrace/tailrace/topology"
	"github.com/tailrace/tailrace/topology/topologytest"
	"github.com/tailrace/tailrace/windows"
)

// TestNothingDueReadsNothing counts what steps read from the database in which nothing
// falls due: of what the operators wait for, they know the first. Once it is due they find
// it, also after a restart.
func TestNothingDueReadsNothing(t *testing.T) {
	type in = topology.Stream[int64, timed]
	all := func(int64, timed) string { return "all" }
	for name, add := range map[string]func(in in) func(*topologytest.Driver) int{
		"window": func(in in) func(*topologytest.Driver) int {
			out := operators.Aggregate("out", operators.Window(operators.GroupBy(in, all),
				windows.Tumbling(us(1000))), aggregate.Count[timed](), operators.EmitOnClose())
			return func(d *topologytest.Driver) int { return len(topologytest.Changes(d, out)) }
		},
		"suppress": func(in in) func(*topologytest.Driver) int {
			counts := operators.Aggregate("counts", operators.GroupBy(in, all), aggregate.Count[timed]())
			out := operators.SuppressUntilTimeLimit("out", counts, us(1000))
			return func(d *topologytest.Driver) int { return len(topologytest.Changes(d, out)) }
		},
		"process": func(in in) func(*topologytest.Driver) int {
			out := operators.Process("out", in,
				func(*operators.Stores) operators.Processor[int64, timed, int64, timed] { return silent{} })
			return func(d *topologytest.Driver) int { return len(topologytest.Records(d, out)) }
		},
	} {
		t.Run(name, func(t *testing.T) {
			b := topology.New("waiting")
			stream := sources.Stream[int64, timed](b, sources.NewDatabase("db", nil), "public.in",
				sources.EventTime(timeOf))
			fired := add(stream)
			db := &touched{DB: state.NewMemory()}
			d := topologytest.New(t, b.MustBuild(), topologytest.DB(db), topologytest.Epochs(1000))
			topologytest.Emit(d, stream, 1, timed{moment(1), "first"})
			d.Commit()
			d.Reopen()
			topologytest.Emit(d, stream, 1, timed{moment(2), "again"})
			db.read = 0
			for i := range int64(100) {
				topologytest.Emit(d, stream, 1, timed{moment(3 + i), "soon"})
			}
			if db.read > 0 {
				t.Errorf("100 steps without anything due have read %d entries", db.read)
			}
			d.Commit()
			if n := fired(d); n != 0 {
				t.Errorf("%d results before anything is due", n)
			}
			topologytest.Emit(d, stream, 1, timed{moment(5000), "late"})
			d.Commit()
			if n := fired(d); n != 1 {
				t.Errorf("%d results once the first time has come, want 1", n)
			}
		})
	}
}

// silent puts out a record when its timer fires, and none before.
type silent struct{}

func (silent) Process(
	ctx *operators.ProcessContext[int64, int64, timed], r record.Record[int64, timed],
) error {
	ctx.SetTimer(r.Key, moment(1000))
	return nil
}

func (silent) Timer(ctx *operators.ProcessContext[int64, int64, timed], key int64, _ time.Time) error {
	ctx.Forward(key, timed{V: "fired"})
	return nil
}
