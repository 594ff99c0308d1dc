package postgres_test

import (
	"fmt"
	"syscall"
	"testing"
	"time"

	"github.com/tailrace/tailrace/internal/pgserver/pgservertest"
	"github.com/tailrace/tailrace/sources"
	"github.com/tailrace/tailrace/sources/postgres"
)

// cpu is the time this process has spent on its processors.
func cpu(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkSource drains a backlog, and reads a snapshot, discarding the rows: what
// the source alone costs.
//
//	go test ./sources/postgres -run - -bench Source -benchtime 1x
func BenchmarkSource(b *testing.B) {
	for _, perTx := range []int{0, 1, 100, 300_000} {
		name := fmt.Sprintf("rows-per-tx-%d", perTx)
		if perTx == 0 {
			name = "snapshot"
		}
		b.Run(name, func(b *testing.B) { benchmarkSource(b, perTx, 300_000) })
	}
}

func benchmarkSource(b *testing.B, perTx, total int) {
	db := pgservertest.New(b)
	exec := func(sql string) {
		b.Helper()
		if _, err := db.Pool.Exec(b.Context(), sql); err != nil {
			b.Fatal(err)
		}
	}
	exec(
		"CREATE TABLE t (id bigint PRIMARY KEY, a int, b int, c text, d text, e timestamptz, f numeric, g bool)",
	)
	row := "%s, 17, 42, 'some text of this row', 'more of it, and some', now(), 12345.67, true"
	if perTx == 0 {
		exec(fmt.Sprintf("INSERT INTO t SELECT "+row+" FROM generate_series(1, %d) i", "i", total))
		exec("VACUUM ANALYZE t")
	}
	cfg := postgres.Config{URL: db.URL, Slot: "bench_" + db.Name}
	req := sources.OpenRequest{App: "bench", Database: "shop", Tables: []sources.TableRequest{
		{
			Name: "public.t",
			Columns: []string{
				"id",
				"a",
				"b",
				"c",
				"d",
				"e",
				"f",
				"g",
			},
			KeyColumns: []string{"id"},
			Changes:    true,
			Snapshot:   true,
		},
	}}
	s, err := postgres.Source(cfg).Open(b.Context(), req)
	if err != nil {
		b.Fatal(err)
	}
	defer func() { s.Close() }()
	read := func(rows int) {
		for rows > 0 {
			in, err := s.Next(b.Context())
			if err != nil {
				b.Fatal(err)
			}
			for _, tx := range in.Txs {
				rows -= len(tx.Rows)
				if tx.Last {
					s.Ack(tx.Tx.Position)
					req.Resume = tx.Tx.Position
				}
			}
			in.Release()
		}
	}
	if perTx > 0 {
		for req.Resume == 0 { // The empty snapshot.
			in, err := s.Next(b.Context())
			if err != nil {
				b.Fatal(err)
			}
			req.Resume = in.Txs[0].Tx.Position
			in.Release()
		}
		s.Ack(req.Resume)
		s.Close()
		req.System = s.System()
		exec(fmt.Sprintf(`DO $$ DECLARE n int := 0; BEGIN WHILE n < %d LOOP
			INSERT INTO t SELECT `+row+` FROM generate_series(1, %d) i; n := n + %d; COMMIT; END LOOP; END $$`,
			total, "n + i", perTx, perTx))
		if s, err = postgres.Source(cfg).Open(b.Context(), req); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportAllocs()
	b.ResetTimer()
	start, before := time.Now(), cpu(b)
	read(total)
	b.ReportMetric(float64(total)/time.Since(start).Seconds(), "rows/s")
	b.ReportMetric((cpu(b)-before).Seconds()*1e6/float64(total), "cpu-s/M")
}
