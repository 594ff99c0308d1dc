package operators_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/tailrace/tailrace/operators"
	"github.com/tailrace/tailrace/record"
	"github.com/tailrace/tailrace/sources"
	"github.com/tailrace/tailrace/topology"
	"github.com/tailrace/tailrace/topology/topologytest"
)

// reminder passes records on, and puts out another one a while behind each.
type reminder struct {
	name  string
	after time.Duration
}

func (p reminder) Process(
	ctx *operators.ProcessContext[int64, int64, timed], r record.Record[int64, timed],
) error {
	ctx.Forward(r.Key, r.Value)
	ctx.SetTimer(r.Key, time.UnixMicro(r.Time).Add(p.after))
	return nil
}

func (p reminder) Timer(ctx *operators.ProcessContext[int64, int64, timed], key int64, _ time.Time) error {
	ctx.Forward(key, timed{V: p.name})
	return nil
}

// TestTimersOfTimers has time jump over the timers of one operator and those of the one
// behind it: what both put out is in one order, that of the records' tags, however the
// topology is divided.
func TestTimersOfTimers(t *testing.T) {
	for _, partitions := range []int{0, 1, 16} {
		b := topology.New("timers")
		db := sources.NewDatabase("db", nil)
		in := sources.Stream[int64, timed](b, db, "public.in", sources.EventTime(timeOf))
		rows := operators.Versioned("rows", sources.Table[int64, cell](b, db, "public.rows"), us(50))
		remind := func(name string, in topology.Stream[int64, timed], after int64) topology.Stream[int64, timed] {
			return operators.Process(name, in,
				func(*operators.Stores) operators.Processor[int64, timed, int64, timed] {
					return reminder{name, us(after)}
				})
		}
		first := remind("first", in, 15)
		second := remind("second", first, 5)
		waited := operators.LeftEnrichAsOf("waited", first, rows, func(timed) int64 { return 0 },
			func(r timed, _ cell, _ bool) timed { return r }, operators.WaitForRows(us(2)))
		d := topologytest.New(t, b.MustBuild(), topologytest.Partitions(partitions))
		topologytest.Emit(d, in, 1, timed{moment(100), "a"})
		topologytest.Emit(d, in, 2, timed{moment(200), "b"})
		for what, c := range map[string]struct {
			stream topology.Stream[int64, timed]
			want   string
		}{
			"timers behind timers":  {second, "[a@100 b@200 second@105 first@115 second@120]"},
			"waiting behind timers": {waited, "[a@100 first@115]"},
		} {
			var got []string
			for _, r := range topologytest.Records(d, c.stream) {
				got = append(got, fmt.Sprintf("%s@%d", r.Value.V, r.Time-epoch.UnixMicro()))
			}
			if fmt.Sprint(got) != c.want {
				t.Errorf("%s, %d partitions: %v, want %s", what, partitions, got, c.want)
			}
		}
	}
}
