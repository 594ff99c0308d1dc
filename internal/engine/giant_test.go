package engine

import (
	"context"
	"runtime/metrics"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/tailrace/tailrace/record"
	"github.com/tailrace/tailrace/sinks"
	"github.com/tailrace/tailrace/sources"
	"github.com/tailrace/tailrace/topology"
)

// giantSource is a database whose second transaction, after an empty snapshot, inserts so
// many items.
type giantSource struct{ rows int }

func (g giantSource) Drop(context.Context, sources.DropRequest) error { return nil }

func (g giantSource) Open(context.Context, sources.OpenRequest) (sources.Session, error) {
	return &giantSession{rows: g.rows, snapshot: true}, nil
}

type giantSession struct {
	rows, at int
	snapshot bool
	tx       *record.Tx
}

func (s *giantSession) System() string { return "giant" }
func (s *giantSession) Close() error   { return nil }
func (s *giantSession) Ack(uint64)     {}

func (s *giantSession) Relations() map[string]*record.Relation {
	return map[string]*record.Relation{items.String(): items}
}

func (s *giantSession) Next(ctx context.Context) (*sources.Batch, error) {
	switch {
	case s.snapshot:
		s.snapshot = false
		tx := &record.Tx{Source: "shop", Position: 16, CommitTime: 1, Snapshot: true}
		return &sources.Batch{Txs: []sources.TxRows{{Tx: tx, Last: true}}}, nil
	case s.at == s.rows:
		<-ctx.Done()
		return nil, ctx.Err()
	case s.tx == nil:
		s.tx = &record.Tx{Source: "shop", Position: 32, CommitStart: 24, CommitTime: 2}
	}
	p := sources.TxRows{Tx: s.tx}
	for range min(1000, s.rows-s.at) {
		id := strconv.Itoa(s.at)
		p.Rows = append(p.Rows, record.Row{
			Rel: items, Op: record.Insert, Ordinal: uint32(s.at), New: record.Tuple{
				{Kind: record.Text, Data: []byte(id)}, {Kind: record.Text, Data: []byte("the name of item " + id)},
			}})
		s.at++
	}
	p.Last = s.at == s.rows
	return &sources.Batch{Txs: []sources.TxRows{p}}, nil
}

// countingTarget checks the order of events and keeps none.
type countingTarget struct {
	t     *testing.T
	want  int
	taken chan int
}

func (c *countingTarget) Transactional() bool                            { return true }
func (c *countingTarget) Drop(context.Context, sinks.DropRequest) error  { return nil }
func (c *countingTarget) Close() error                                   { return nil }
func (c *countingTarget) Progress(context.Context) (uint64, bool, error) { return 0, false, nil }
func (c *countingTarget) Open(context.Context, sinks.OpenRequest) (sinks.Writer, error) {
	return c, nil
}

func (c *countingTarget) Apply(_ context.Context, epochs []sinks.Epoch) error {
	n := 0
	for _, e := range epochs {
		err := e.Items(func(it sinks.Item) bool {
			if want := strconv.Itoa(n / 2); string(it.Event.Key) != want || it.Event.Last != (n == c.want-1) {
				c.t.Errorf("event %d is of item %s", n, it.Event.Key)
				return false
			}
			n++
			return true
		})
		if err != nil {
			return err
		}
	}
	if n > 0 {
		c.taken <- n
	}
	return nil
}

// peakHeap samples how much the last collection left on the heap, until stopped.
func peakHeap() (stop func() uint64) {
	var peak uint64
	done := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		sample := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
		tick := time.NewTicker(2 * time.Millisecond)
		defer tick.Stop()
		for {
			metrics.Read(sample)
			peak = max(peak, sample[0].Value.Uint64())
			select {
			case <-tick.C:
			case <-done:
				return
			}
		}
	})
	return func() uint64 { close(done); wg.Wait(); return peak }
}

// TestGiantTransactionOfEvents: what the events of one transaction take of memory does not
// grow with their number. They reach the target in order, those of several outputs too.
func TestGiantTransactionOfEvents(t *testing.T) {
	const rows, memory = 600_000, 16 << 20
	peak := giantEvents(t, rows, memory)
	t.Logf("%d events, live heap at most %d MiB", 2*rows, peak>>20)
	if most := uint64(150 << 20); peak > most {
		t.Errorf("a peak of %d MiB on the heap with stores of %d MiB, want %d MiB at most",
			peak>>20, memory>>20, most>>20)
	}
}

func giantEvents(t *testing.T, rows int, memory int64) (peak uint64) {
	b := newBench(t, func(b *topology.Builder, db *sources.Database, target *sinks.Target) {
		in := sources.Stream[int64, item](b, db, "public.items")
		sinks.Stream(in, target, "items")
		sinks.Stream(in, target, "more")
	})
	b.limits.Memory = memory
	target := &countingTarget{t: t, want: 2 * rows, taken: make(chan int, 1)}
	b.in, b.out = giantSource{rows}, target
	stop := peakHeap()
	if err := b.run(func(*Engine) {
		select {
		case <-target.taken:
		case <-time.After(5 * time.Minute):
			t.Error("nothing comes")
		}
	}); err != nil {
		t.Fatal(err)
	}
	return stop()
}
