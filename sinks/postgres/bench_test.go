package postgres_test

import (
	"strconv"
	"testing"

	"github.com/tailrace/tailrace/internal/pgserver/pgservertest"
	"github.com/tailrace/tailrace/sinks"
	"github.com/tailrace/tailrace/sinks/postgres"
	"github.com/tailrace/tailrace/sinks/sinktest"
)

// benchEpoch is an epoch of n rows from id first, without garbage of its own.
func benchEpoch(seq uint64, first, n int) sinks.Epoch {
	e := sinktest.Epoch(seq)
	name := []byte("a name of twenty byt")
	e.Items = func(yield func(sinks.Item) bool) error {
		key, amount := make([]byte, 0, 20), strconv.AppendUint(nil, seq, 10)
		it := sinks.Item{Output: sinktest.Accounts.ID, Columns: make([][]byte, 3)}
		for i := range n {
			key = strconv.AppendInt(key[:0], int64(first+i), 10)
			it.Key = key
			it.Columns[0], it.Columns[1], it.Columns[2] = key, name, amount
			if !yield(it) {
				return nil
			}
		}
		return nil
	}
	return e
}

// BenchmarkLoad is the first load: an epoch of 200,000 rows into an empty table.
func BenchmarkLoad(b *testing.B) {
	const n = 200_000
	db := pgservertest.New(b)
	w := openBench(b, db)
	for seq := uint64(1); b.Loop(); seq++ {
		b.StopTimer()
		if seq > 1 {
			db.Exec("TRUNCATE accounts")
		}
		e := benchEpoch(seq, 0, n)
		e.Reconcile = true
		b.StartTimer()
		if err := w.Apply(b.Context(), []sinks.Epoch{e}); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(n)*float64(b.N)/b.Elapsed().Seconds(), "rows/s")
}

// BenchmarkUpsert updates rows of a table of 200,000, in epochs of some rows, several to
// an Apply.
func BenchmarkUpsert(b *testing.B) {
	for _, c := range []struct {
		name         string
		rows, epochs int
	}{{"1 row", 1, 1}, {"100 rows", 100, 1}, {"100 epochs of 1 row", 1, 100}, {"10000 rows", 10_000, 1}} {
		b.Run(c.name, func(b *testing.B) {
			const n = 200_000
			db := pgservertest.New(b)
			w := openBench(b, db)
			first := benchEpoch(1, 0, n)
			first.Reconcile = true
			if err := w.Apply(b.Context(), []sinks.Epoch{first}); err != nil {
				b.Fatal(err)
			}
			seq := uint64(1)
			for b.Loop() {
				var epochs []sinks.Epoch
				for range c.epochs {
					seq++
					epochs = append(epochs, benchEpoch(seq, int(seq*7919)%(n-c.rows), c.rows))
				}
				if err := w.Apply(b.Context(), epochs); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(c.rows*c.epochs)*float64(b.N)/b.Elapsed().Seconds(), "rows/s")
		})
	}
}

func openBench(b *testing.B, db *pgservertest.DB) sinks.Writer {
	b.Helper()
	target := postgres.Target(postgres.Config{URL: db.URL, CreateTables: true})
	w, err := target.Open(b.Context(), sinks.OpenRequest{
		App: sinktest.App, Target: sinktest.TargetName, Incarnation: "one",
		Outputs: []sinks.Output{sinktest.Accounts},
	})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = w.Close() })
	return w
}
