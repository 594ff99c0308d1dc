package operators_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tailrace/tailrace/operators"
	"github.com/tailrace/tailrace/sources"
	"github.com/tailrace/tailrace/topology"
	"github.com/tailrace/tailrace/topology/topologytest"
)

type session struct {
	ID   int64
	User string
}

// TestTTL compares with plain maps: a row shows while the clock is before its last
// change plus the time to live, in whatever number of partitions, and with another one
// after each restart.
func TestTTL(t *testing.T) {
	const ttl = 10 * time.Second
	for seed := range uint64(20) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			r := rand.New(rand.NewPCG(seed, 0))
			b := topology.New("ttl")
			db := sources.NewDatabase("shop", nil)
			in := sources.Table[int64, session](b, db, "public.sessions")
			live := operators.TTL("live", in, ttl)
			partitions := func() topologytest.Option {
				return topologytest.Partitions([]int{0, 1, 3, 16}[r.IntN(4)])
			}
			options := []topologytest.Option{
				topologytest.Epochs(1 + int(seed%4)), topologytest.Chunks(1 + r.IntN(3)),
				topologytest.Memory([]int64{0, 1, 2000}[r.IntN(3)]), topologytest.CheckEverything(), partitions(),
			}
			if seed%2 == 0 {
				options = append(options, topologytest.Encoded())
			}
			d := topologytest.New(t, b.MustBuild(), options...)
			rows := map[int64]session{}
			ends := map[int64]time.Time{}
			for range 60 {
				switch id := r.Int64N(6); r.IntN(4) {
				case 0:
					d.AdvanceTime(time.Duration(r.IntN(6)) * time.Second)
				case 1:
					if _, ok := rows[id]; ok {
						topologytest.Delete(d, in, id)
						delete(rows, id)
					}
				case 2:
					if d.Crash(); r.IntN(2) == 0 {
						d.Reopen(partitions())
					}
				default:
					row := session{ID: id, User: fmt.Sprint(r.IntN(3))}
					if rows[id] != row {
						ends[id] = d.Now().Add(ttl)
					}
					topologytest.Upsert(d, in, id, row)
					rows[id] = row
				}
				d.Commit()
				want := map[int64]session{}
				for id, row := range rows {
					if d.Now().Before(ends[id]) {
						want[id] = row
					}
				}
				if diff := cmp.Diff(want, topologytest.Rows(d, live)); diff != "" {
					t.Fatalf("rows (-want +got):\n%s", diff)
				}
			}
		})
	}
}

// TestTTLOfInfinity keeps a row whose end lies behind the last time there is.
func TestTTLOfInfinity(t *testing.T) {
	b := topology.New("ttl")
	in := sources.Table[int64, session](b, sources.NewDatabase("shop", nil), "public.sessions",
		sources.EventTime(func(session) time.Time { return time.UnixMicro(math.MaxInt64 - 1) }))
	live := operators.TTL("live", in, time.Second)
	d := topologytest.New(t, b.MustBuild())
	topologytest.Upsert(d, in, 1, session{ID: 1})
	topologytest.Upsert(d, in, 2, session{ID: 2})
	if got := len(topologytest.Rows(d, live)); got != 2 {
		t.Errorf("%d rows live, want 2", got)
	}
}
