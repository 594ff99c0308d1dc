package engine

import (
	"log/slog"
	"sync"
	"time"
)

// snapshotPause is the time between two lines about a snapshot.
const snapshotPause = 5 * time.Second

// snapshotLog tells from time to time how far the snapshot of a database is, how fast it
// goes, and when it will be complete.
type snapshotLog struct {
	log *slog.Logger

	mu            sync.Mutex
	rows, of      map[string]int64 // by table
	began, spoken time.Time
}

func newSnapshotLog(log *slog.Logger, database string) *snapshotLog {
	return &snapshotLog{log: log.With("database", database)}
}

// progress takes the rows that have been copied of a table, and how many it has by the
// source's estimate. Rows that become fewer are those of a snapshot that began anew.
func (l *snapshotLog) progress(table string, rows, estimate int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	if l.rows == nil || rows < l.rows[table] {
		l.rows, l.of = map[string]int64{}, map[string]int64{}
		l.began, l.spoken = now, now
	}
	l.rows[table], l.of[table] = rows, estimate
	if now.Sub(l.spoken) < snapshotPause {
		return
	}
	l.spoken = now
	copied, of, rate := l.total(now)
	args := []any{"rows", copied, "of_about", of, "rows_per_second", int64(rate)}
	if rate > 0 {
		args = append(args, "eta", time.Duration(float64(of-copied)/rate*float64(time.Second)).Round(time.Second))
	}
	l.log.Info("the snapshot is being read", args...)
}

func (l *snapshotLog) total(now time.Time) (rows, of int64, rate float64) {
	for table := range l.rows {
		rows += l.rows[table]
		of += max(l.of[table], l.rows[table])
	}
	if took := now.Sub(l.began).Seconds(); took > 0 {
		rate = float64(rows) / took
	}
	return rows, of, rate
}

// complete tells that the snapshot is durable, if there was one.
func (l *snapshotLog) complete() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.rows == nil {
		return
	}
	now := time.Now()
	rows, _, rate := l.total(now)
	l.log.Info("the snapshot is complete", "tables", len(l.rows), "rows", rows,
		"took", now.Sub(l.began).Round(time.Millisecond), "rows_per_second", int64(rate))
	l.rows = nil
}
