package postgres_test

import (
	"context"
	"log/slog"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tailrace/tailrace/internal/pgserver/pgservertest"
	"github.com/tailrace/tailrace/record"
	"github.com/tailrace/tailrace/sources"
	"github.com/tailrace/tailrace/sources/postgres"
	"github.com/tailrace/tailrace/sources/sourcetest"
)

// observer counts what a session reports.
type observer struct {
	mu       sync.Mutex
	lost     int
	mended   int
	causes   []error
	head     uint64
	retained int64
	rows     map[string]int64
}

func (o *observer) SnapshotProgress(table string, rows, _ int64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.rows == nil {
		o.rows = map[string]int64{}
	}
	o.rows[table] = rows
}

func (o *observer) Lag(head uint64, retained int64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.head, o.retained = head, retained
}

func (o *observer) Disconnected(cause error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.lost++
	o.causes = append(o.causes, cause)
}

func (o *observer) Reconnected(error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.mended++
}

// count is how many connections were lost, or could not be had.
func (o *observer) count() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.lost
}

// standbys is how often a standby was met in place of the primary.
func (o *observer) standbys() (n int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, err := range o.causes {
		if strings.Contains(err.Error(), "it is a standby") {
			n++
		}
	}
	return n
}

// back is how many losses were mended.
func (o *observer) back() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.mended
}

// fixture is a database and what a test reads of it.
type fixture struct {
	t   *testing.T
	db  *pgservertest.DB
	cfg postgres.Config
	req sources.OpenRequest
	obs *observer
	// published is what the session said that the next open continues.
	published map[string]string
}

func newFixture(t *testing.T, opts ...pgservertest.Option) *fixture {
	t.Helper()
	db := pgservertest.New(t, opts...)
	obs := &observer{}
	f := &fixture{t: t, db: db, obs: obs}
	f.cfg = postgres.Config{URL: db.URL, SlotWait: 5 * time.Second, StatusInterval: 50 * time.Millisecond,
		Slot: "s_" + db.Name, MonitorInterval: 100 * time.Millisecond}
	f.req = sources.OpenRequest{
		App:      "app",
		Database: "shop",
		Observe:  obs,
		Logger:   slog.New(slog.NewTextHandler(testLog{t}, nil)),
	}
	return f
}

// testLog sends log lines to the test's log, and checks them for secrets.
type testLog struct{ t *testing.T }

func (l testLog) Write(p []byte) (int, error) {
	defer func() { _ = recover() }() // A session that is being closed may log after the test.
	l.t.Log(strings.TrimSpace(string(p)))
	return len(p), nil
}

func (f *fixture) exec(sql string, args ...any) {
	f.t.Helper()
	if _, err := f.db.Pool.Exec(f.t.Context(), sql, args...); err != nil {
		f.t.Fatalf("%s: %v", sql, err)
	}
}

// want adds a table to the request. Columns are given as "key1,key2;col1,col2".
func (f *fixture) want(name, columns string) *fixture {
	k, rest, _ := strings.Cut(columns, ";")
	split := func(s string) []string {
		if s == "" {
			return nil
		}
		return strings.Split(s, ",")
	}
	f.req.Tables = append(f.req.Tables, sources.TableRequest{Name: name, KeyColumns: split(k),
		Columns: append(split(k), split(rest)...), Changes: k != "", Snapshot: true})
	return f
}

func (f *fixture) open() sources.Session {
	f.t.Helper()
	s, err := f.tryOpen()
	if err != nil {
		f.t.Fatal(err)
	}
	return s
}

func (f *fixture) tryOpen() (sources.Session, error) {
	ctx, cancel := context.WithTimeout(f.t.Context(), 60*time.Second)
	defer cancel()
	req := f.req
	if f.published != nil {
		req.Tables = slices.Clone(req.Tables)
		for i := range req.Tables {
			said, ok := f.published[req.Tables[i].Name]
			req.Tables[i].Published, req.Tables[i].Added = said, !ok
		}
	}
	s, err := postgres.Source(f.cfg).Open(ctx, req)
	if err == nil {
		f.t.Cleanup(func() { s.Close() })
	}
	return s, err
}

// resume makes the next open continue from a position.
func (f *fixture) resume(s sources.Session, position uint64) {
	f.req.Resume, f.req.System = position, s.System()
	if p, ok := s.(sources.Publishing); ok {
		f.published = p.Published()
	}
}

// head is the server's present position.
func (f *fixture) head() uint64 {
	f.t.Helper()
	var text string
	if err := f.db.Pool.QueryRow(f.t.Context(), "SELECT pg_current_wal_lsn()::text").Scan(&text); err != nil {
		f.t.Fatal(err)
	}
	lsn, err := record.ParseLSN(text)
	if err != nil {
		f.t.Fatal(err)
	}
	return uint64(lsn)
}

// readTo reads until the model has reached a position, acknowledging as it goes.
func (f *fixture) readTo(s sources.Session, m *sourcetest.Model, position uint64) {
	f.t.Helper()
	f.readUntil(s, m, func() bool { return m.Position >= position && m.Open == nil })
}

func (f *fixture) readUntil(s sources.Session, m *sourcetest.Model, done func() bool) {
	f.t.Helper()
	ctx, cancel := context.WithTimeout(f.t.Context(), 60*time.Second)
	defer cancel()
	for !done() {
		b, err := s.Next(ctx)
		if err != nil {
			f.t.Fatalf("next: %v", err)
		}
		m.Apply(b)
		if b.Release != nil {
			b.Release()
		}
		if m.Open == nil {
			s.Ack(m.Position)
		}
	}
}

// readError reads until the session ends, and returns why.
func (f *fixture) readError(s sources.Session) error {
	f.t.Helper()
	ctx, cancel := context.WithTimeout(f.t.Context(), 60*time.Second)
	defer cancel()
	for {
		b, err := s.Next(ctx)
		if err != nil {
			return err
		}
		if b.Release != nil {
			b.Release()
		}
	}
}

// same compares a table of the model with the database's, by the database's own text.
func (f *fixture) same(m *sourcetest.Model, name, keyColumn string, columns ...string) {
	f.t.Helper()
	columns = append([]string{keyColumn}, columns...)
	exprs := make([]string, len(columns))
	for i, c := range columns {
		exprs[i] = c + "::text"
	}
	rows, err := f.db.Pool.Query(f.t.Context(), "SELECT ARRAY["+strings.Join(exprs, ",")+"] FROM "+name)
	if err != nil {
		f.t.Fatal(err)
	}
	seen := 0
	for rows.Next() {
		var vals []*string
		if err := rows.Scan(&vals); err != nil {
			f.t.Fatal(err)
		}
		seen++
		got, ok := m.Tables[name][*vals[0]+"|"]
		if !ok {
			f.t.Errorf("%s: row %s is missing", name, *vals[0])
			continue
		}
		for i, c := range columns {
			v, has := got[c]
			if has != (vals[i] != nil) || has && v != *vals[i] {
				f.t.Errorf("%s: row %s column %s is %q (%v)", name, *vals[0], c, v, has)
			}
		}
	}
	if err := rows.Err(); err != nil {
		f.t.Fatal(err)
	}
	if n := len(m.Tables[name]); n != seen {
		f.t.Errorf("%s: %d rows, the database has %d", name, n, seen)
	}
}

// confirmed is how far the server believes us to be.
func (f *fixture) confirmed() uint64 {
	f.t.Helper()
	var text string
	err := f.db.Pool.QueryRow(f.t.Context(), "SELECT confirmed_flush_lsn::text FROM pg_replication_slots WHERE slot_name = $1",
		f.cfg.Slot).
		Scan(&text)
	if err != nil {
		f.t.Fatal(err)
	}
	lsn, err := record.ParseLSN(text)
	if err != nil {
		f.t.Fatal(err)
	}
	return uint64(lsn)
}

// through returns a URL that goes by way of another address.
func through(raw, addr string) string {
	u, err := url.Parse(raw)
	if err != nil {
		panic(err)
	}
	u.Host = addr
	return u.String()
}

func mustParse(raw string) *url.URL {
	u, err := url.Parse(raw)
	if err != nil {
		panic(err)
	}
	return u
}

func userPassword(user, password string) *url.Userinfo { return url.UserPassword(user, password) }
