package sourcetest

import (
	"context"
	"log/slog"
	"maps"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tailrace/tailrace/sources"
)

// patience bounds every wait of the suite.
const patience = 60 * time.Second

// reader reads a world.
type reader struct {
	*testing.T
	World
	req         sources.OpenRequest
	fences      int
	reconnected atomic.Int64
}

func newReader(t *testing.T, w World) *reader {
	r := &reader{T: t, World: w}
	r.req = sources.OpenRequest{
		App: App, Database: Database, Observe: r, Logger: slog.New(slog.NewTextHandler(testLog{t}, nil)),
	}
	for _, name := range []string{Accounts, Entries} {
		r.req.Tables = append(r.req.Tables, sources.TableRequest{
			Name: w.Table(name), Columns: []string{"id", "name", "note"}, KeyColumns: []string{"id"},
			Changes: true, Snapshot: true,
		})
	}
	return r
}

// SnapshotProgress implements sources.Observer.
func (r *reader) SnapshotProgress(string, int64, int64) {}

// Lag implements sources.Observer.
func (r *reader) Lag(uint64, int64) {}

// Disconnected implements sources.Observer.
func (r *reader) Disconnected(error) {}

// Reconnected implements sources.Observer.
func (r *reader) Reconnected(error) { r.reconnected.Add(1) }

// testLog sends log lines to the test's log.
type testLog struct{ t *testing.T }

func (l testLog) Write(p []byte) (int, error) {
	defer func() { _ = recover() }() // A session that is being closed may log after the test.
	l.t.Log(strings.TrimSpace(string(p)))
	return len(p), nil
}

func (r *reader) tryOpen() (sources.Session, error) {
	ctx, cancel := context.WithTimeout(r.Context(), patience)
	defer cancel()
	s, err := r.Connector.Open(ctx, r.req)
	if err == nil {
		r.Cleanup(func() { _ = s.Close() })
	}
	return s, err
}

func (r *reader) open() sources.Session {
	r.Helper()
	s, err := r.tryOpen()
	if err != nil {
		r.Fatal(err)
	}
	return s
}

// resume makes the next open continue from a position.
func (r *reader) resume(s sources.Session, position uint64) {
	r.req.Resume, r.req.System = position, s.System()
}

func (r *reader) close(s sources.Session) {
	r.Helper()
	if err := s.Close(); err != nil {
		r.Fatal(err)
	}
}

// next takes a batch, which is given back after use.
func (r *reader) next(s sources.Session, use func(b *sources.Batch)) {
	r.Helper()
	ctx, cancel := context.WithTimeout(r.Context(), patience)
	defer cancel()
	b, err := s.Next(ctx)
	if err != nil {
		r.Fatalf("next: %v", err)
	}
	use(b)
	if b.Release != nil {
		b.Release()
	}
}

// until reads until a condition holds between two transactions.
func (r *reader) until(s sources.Session, m *Model, done func() bool) {
	r.Helper()
	for m.Open != nil || !done() {
		r.next(s, m.Apply)
	}
}

// fence commits a row and reads until it is there: everything before it is, too.
func (r *reader) fence(s sources.Session, m *Model) {
	r.Helper()
	r.fences++
	id := 1_000_000 + r.fences
	r.Commit(Change{Table: Entries, Op: Insert, ID: id, Name: Value("fence")})
	r.until(s, m, func() bool { return r.row(m, Entries, id) != nil })
}

// row is a row of the model.
func (r *reader) row(m *Model, name string, id int) map[string]string {
	return m.Tables[r.Table(name)][itoa(id)+"|"]
}

// same compares the model with the source.
func (r *reader) same(m *Model) {
	r.Helper()
	for _, name := range []string{Accounts, Entries} {
		want, got := r.Rows(name), m.Tables[r.Table(name)]
		if len(got) != len(want) {
			r.Errorf("%s has %d rows, the source %d", name, len(got), len(want))
		}
		for id, row := range want {
			if have := got[id+"|"]; !maps.Equal(have, row) {
				r.Errorf("%s: row %s is %.200q, want %.200q", name, id, have, row)
			}
		}
	}
}

// eventually polls until a condition holds.
func (r *reader) eventually(what string, holds func() bool) {
	r.Helper()
	end := time.NewTimer(patience)
	defer end.Stop()
	again := time.NewTicker(10 * time.Millisecond)
	defer again.Stop()
	for !holds() {
		select {
		case <-again.C:
		case <-end.C:
			r.Fatalf("never happened: %s", what)
		}
	}
}
