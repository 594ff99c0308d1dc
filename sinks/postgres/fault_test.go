package postgres_test

import (
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tailrace/tailrace/internal/pgserver/pgservertest"
	"github.com/tailrace/tailrace/sinks"
	"github.com/tailrace/tailrace/sinks/postgres"
	"github.com/tailrace/tailrace/sinks/sinktest"
)

// TestRejectedRows has rows that the target refuses: the error names table, key columns
// and rule, never a value, and nothing of the epoch is written.
func TestRejectedRows(t *testing.T) {
	t.Parallel()
	const canary = "canary-value"
	for _, c := range []struct{ name, ddl, code, key, want string }{
		{"check", "CHECK (name IS NULL OR name <> '" + canary + "')", "23514", "37",
			`constraint "accounts_name_check"`},
		{"second unique", "UNIQUE (name)", "23505", "", `constraint "accounts_name_key"`},
		{"deferred unique", "UNIQUE (name) DEFERRABLE INITIALLY DEFERRED", "23505", "",
			`constraint "accounts_name_key"`},
		{"foreign key", "FOREIGN KEY (name) REFERENCES names", "23503", "37", "DEFERRABLE"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			db := pgservertest.New(t)
			db.Exec("CREATE TABLE names (n text PRIMARY KEY); INSERT INTO names VALUES ('fine')",
				"CREATE TABLE accounts (id bigint PRIMARY KEY, name text, amount numeric, "+c.ddl+")")
			w := open(t, postgres.Config{URL: db.URL}, "one", sinktest.Accounts)
			first := sinktest.Whole(sinktest.Epoch(1, sinktest.Put(sinktest.Accounts, 1, nil, 1)))
			if err := w.Apply(t.Context(), []sinks.Epoch{first}); err != nil {
				t.Fatal(err)
			}
			var rows []sinks.Item
			for i := range 100 {
				rows = append(rows, sinktest.Put(sinktest.Accounts, i, nil, i))
			}
			rows[37] = sinktest.Put(sinktest.Accounts, 37, canary, 37)
			rows[38] = sinktest.Put(sinktest.Accounts, 38, canary, 37)
			err := w.Apply(t.Context(), []sinks.Epoch{sinktest.Epoch(2, rows...)})
			var rejected *postgres.RejectedError
			if !errors.Is(err, sinks.ErrRejected) || !errors.As(err, &rejected) || rejected.Code != c.code {
				t.Fatalf("got %v, want code %s", err, c.code)
			}
			if key := strings.Join(rejected.Key, ","); key != c.key || !strings.Contains(err.Error(), "shop:0/200;") {
				t.Errorf("the row is %q, want %q; the message is %v", key, c.key, err)
			}
			text := err.Error()
			if strings.Contains(text, canary) || !strings.Contains(text, "accounts") ||
				!strings.Contains(text, c.want) {
				t.Fatalf("the message is %s", text)
			}
			if got := rowsOf(db, sinktest.Accounts); !slices.Equal(got, []string{"1|NULL|1"}) {
				t.Fatalf("a refused epoch left %q", got)
			}
			// Mended, the same epoch goes through.
			db.Exec("INSERT INTO names VALUES ('" + canary + "')")
			for _, con := range db.Strings("SELECT conname FROM pg_constraint WHERE conrelid = " +
				"'accounts'::regclass " +
				"AND contype <> 'p' AND conname LIKE 'accounts_name%'") {
				db.Exec(fmt.Sprintf("ALTER TABLE accounts DROP CONSTRAINT %q", con[0]))
			}
			if err := w.Apply(t.Context(), []sinks.Epoch{sinktest.Epoch(2, rows...)}); err != nil {
				t.Fatal(err)
			}
			if got := rowsOf(db, sinktest.Accounts); len(got) != 100 {
				t.Fatalf("%d rows", len(got))
			}
		})
	}
}

// TestBadValues are values that are none of their type; they are in the server's message
// but must not be in ours.
func TestBadValues(t *testing.T) {
	t.Parallel()
	db := pgservertest.New(t)
	w := open(t, postgres.Config{URL: db.URL, CreateTables: true}, "one", sinktest.Accounts)
	seq := uint64(0)
	for _, reconcile := range []bool{true, false} {
		for _, bad := range []sinks.Item{
			sinktest.Put(sinktest.Accounts, "canary", nil, 1), sinktest.Put(sinktest.Accounts, 1, nil,
				"canary"),
			sinktest.Put(sinktest.Accounts, 1, "canary\x00", 1), sinktest.Put(sinktest.Accounts, 1,
				"canary\xff", 1),
			sinktest.Put(sinktest.Accounts, 1, "canary", nil),
		} {
			e := sinktest.Epoch(seq+1, bad)
			e.Reconcile = reconcile
			err := w.Apply(t.Context(), []sinks.Epoch{e})
			if !errors.Is(err, sinks.ErrRejected) || strings.Contains(err.Error(), "canary") {
				t.Fatalf("reconcile %v: got %v", reconcile, err)
			}
			var rejected *postgres.RejectedError
			if !errors.As(err, &rejected) || !slices.Equal(rejected.Key, []string{string(bad.Columns[0])}) {
				t.Errorf("reconcile %v: the row is %+v, want %q", reconcile, rejected, bad.Columns[0])
			}
			if text := rejected.Code == "22021"; text != strings.Contains(err.Error(), "by a MapValues") {
				t.Errorf("reconcile %v: the remedy is %v", reconcile, err)
			}
		}
		if reconcile {
			seq = 1
			if err := w.Apply(t.Context(), []sinks.Epoch{sinktest.Whole(sinktest.Epoch(1))}); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// TestTableChangedUnderUs drops and alters tables while they are written.
func TestTableChangedUnderUs(t *testing.T) {
	t.Parallel()
	db := pgservertest.New(t)
	w := open(t, postgres.Config{URL: db.URL, CreateTables: true}, "one", sinktest.Accounts)
	put := func(seq uint64) error {
		e := sinktest.Epoch(seq, sinktest.Put(sinktest.Accounts, seq, "a", 1))
		e.Reconcile = seq == 1
		return w.Apply(t.Context(), []sinks.Epoch{e})
	}
	if err := errors.Join(put(1), put(2)); err != nil {
		t.Fatal(err)
	}
	for seq, c := range []struct{ breaks, mends string }{
		{"ALTER TABLE accounts RENAME TO away", "ALTER TABLE away RENAME TO accounts"},
		{"ALTER TABLE accounts RENAME amount TO cents", "ALTER TABLE accounts RENAME cents TO amount"},
		{"ALTER TABLE accounts DROP CONSTRAINT accounts_pkey", "ALTER TABLE accounts ADD PRIMARY KEY (id)"},
	} {
		db.Exec(c.breaks)
		err := put(uint64(seq) + 3)
		if !errors.Is(err, sinks.ErrTargetSchema) || !strings.Contains(err.Error(), "accounts") {
			t.Fatalf("%s: got %v", c.breaks, err)
		}
		db.Exec(c.mends)
		if err := put(uint64(seq) + 3); err != nil {
			t.Fatalf("%s: %v", c.mends, err)
		}
	}
	// A further column, and another order, are none of our business.
	db.Exec("ALTER TABLE accounts ADD note text")
	if err := put(9); err != nil {
		t.Fatal(err)
	}
}

// TestServerDies kills and restarts the server while epochs are applied.
func TestServerDies(t *testing.T) {
	t.Parallel()
	db := pgservertest.New(t, pgservertest.Private(nil))
	db.Exec(counterSQL)
	w := open(t, postgres.Config{URL: db.URL, Lease: 300 * time.Millisecond}, "one", counter)
	stop, done := make(chan struct{}), make(chan error, 1)
	var last uint64
	var applied atomic.Uint64 // the same, for others
	errs := 0
	go func() {
		for seq := uint64(1); ; seq++ {
			e := sinktest.Epoch(seq, sinktest.Put(counter, 1, seq))
			e.Reconcile = seq == 1
			for {
				err := w.Apply(t.Context(), []sinks.Epoch{e})
				if err == nil {
					break
				}
				if errors.Is(err, sinks.ErrFenced) || errors.Is(err, sinks.ErrRejected) ||
					errors.Is(err, sinks.ErrTargetSchema) {
					done <- err
					return
				}
				errs++
				<-time.After(5 * time.Millisecond) // the caller's backoff
			}
			last = seq
			applied.Store(seq)
			select {
			case <-stop:
				done <- nil
				return
			default:
			}
		}
	}()
	for range 3 {
		for from := applied.Load(); applied.Load() < from+20; { // it is at work
			select {
			case err := <-done:
				t.Fatal(err)
			case <-time.After(time.Millisecond):
			}
		}
		if err := db.Server.Kill(); err != nil {
			t.Fatal(err)
		}
		if err := db.Server.Restart(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	close(stop)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if got := db.String("SELECT n FROM counter"); got != uintText(last) {
		t.Fatalf("the table holds %s, want %d", got, last)
	}
	twice := db.Strings("SELECT seq FROM writes GROUP BY seq HAVING count(*) > 1")
	if len(twice) > 0 || db.String("SELECT count(*) FROM writes") != uintText(last) {
		t.Fatalf("%s writes of %d epochs, twice: %v", db.String("SELECT count(*) FROM writes"), last, twice)
	}
	if errs == 0 {
		t.Fatal("no error was met")
	}
	t.Logf("%d epochs, %d errors", last, errs)
}

// TestRestoredTarget puts the database back to an earlier state, as a restored backup
// would: going on would leave a gap.
func TestRestoredTarget(t *testing.T) {
	t.Parallel()
	db := pgservertest.New(t)
	w := open(t, postgres.Config{URL: db.URL, CreateTables: true}, "one", sinktest.Accounts)
	put := func(seq uint64) sinks.Epoch {
		return sinktest.Epoch(seq, sinktest.Put(sinktest.Accounts, seq, nil, 1))
	}
	for _, e := range []sinks.Epoch{sinktest.Whole(put(1)), put(2), put(3)} {
		if err := w.Apply(t.Context(), []sinks.Epoch{e}); err != nil {
			t.Fatal(err)
		}
	}
	db.Exec("BEGIN; DELETE FROM accounts WHERE id = 3; UPDATE tailrace_progress SET seq = 2; COMMIT")
	for range 2 {
		if err := w.Apply(t.Context(), []sinks.Epoch{put(4)}); err == nil ||
			!strings.Contains(err.Error(), "backup") {
			t.Fatalf("got %v", err)
		}
	}
	if seq, ok, err := w.Progress(t.Context()); seq != 2 || !ok || err != nil {
		t.Fatalf("progress %d, %v, %v", seq, ok, err)
	}
	if err := w.Apply(t.Context(), []sinks.Epoch{put(3), put(4)}); err != nil {
		t.Fatal(err)
	}
	if got, want := rowsOf(db, sinktest.Accounts), []string{"1|NULL|1", "2|NULL|1", "3|NULL|1",
		"4|NULL|1"}; !slices.Equal(got, want) {
		t.Fatalf("got %q", got)
	}
}

// TestReadersSeeWholeEpochs reads table and progress in one transaction while epochs are
// applied: they always fit.
func TestReadersSeeWholeEpochs(t *testing.T) {
	t.Parallel()
	db := pgservertest.New(t)
	outputs := []sinks.Output{sinktest.Accounts, sinktest.Places}
	w := open(t, postgres.Config{URL: db.URL, CreateTables: true}, "one", outputs...)
	whole := func(seq uint64) sinks.Epoch {
		items := []sinks.Item{sinktest.Put(sinktest.Places, nil, "x", seq), sinktest.Put(sinktest.Places,
			"EU", "x", seq)}
		for i := range 200 {
			items = append(items, sinktest.Put(sinktest.Accounts, i, nil, seq))
		}
		return sinktest.Epoch(seq, items...)
	}
	if err := w.Apply(t.Context(), []sinks.Epoch{sinktest.Whole(whole(1))}); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() {
		var err error
		for seq := uint64(2); seq < 150 && err == nil; seq++ {
			e := whole(seq)
			e.Reconcile = seq%10 == 0
			err = w.Apply(t.Context(), []sinks.Epoch{e})
		}
		done <- err
	}()
	seen := map[string]bool{}
	for reads := 0; ; reads++ {
		row := db.Strings(`SELECT (SELECT count(DISTINCT amount) FROM accounts), (SELECT min(amount) FROM accounts),
			(SELECT sum(n) FROM places), seq, ('x' || lpad(replace(positions->>'shop', '0/', ''), 16,
				'0'))::bit(64)::bigint,
			(SELECT count(*) FROM accounts) FROM tailrace_progress`)[0]
		var distinct, amount, sum, seq, position, count uint64
		if _, err := fmt.Sscan(strings.Join(row, " "), &distinct, &amount, &sum, &seq, &position,
			&count); err != nil {
			t.Fatal(err)
		}
		if distinct != 1 || amount != seq || sum != 2*seq || position != seq<<8 || count != 200 {
			t.Fatalf("torn: %v", row)
		}
		seen[row[3]] = true
		select {
		case err := <-done:
			if err != nil {
				t.Fatal(err)
			}
			t.Logf("%d reads at %d positions", reads, len(seen))
			return
		default:
		}
	}
}

// TestLargeEpochInBoundedMemory applies epochs far larger than what may be held.
func TestLargeEpochInBoundedMemory(t *testing.T) { // not parallel: it looks at the heap
	db := pgservertest.New(t)
	w := open(t, postgres.Config{URL: db.URL, CreateTables: true}, "one", sinktest.Accounts)
	const n = 200_000
	text := []byte(strings.Repeat("x", 200))
	var peak uint64
	epoch := func(seq uint64) sinks.Epoch {
		e := sinktest.Epoch(seq)
		e.Items = func(yield func(sinks.Item) bool) error {
			key := make([]byte, 0, 20)
			it := sinks.Item{Output: sinktest.Accounts.ID}
			for i := range n {
				key = fmt.Appendf(key[:0], "%d", i)
				it.Key, it.Columns = key, [][]byte{key, text, []byte(uintText(seq))}
				if !yield(it) {
					return nil
				}
				if i%20_000 == 0 {
					var m runtime.MemStats
					runtime.GC()
					runtime.ReadMemStats(&m)
					peak = max(peak, m.HeapAlloc)
				}
			}
			return nil
		}
		return e
	}
	for seq, name := range []string{"first load", "update of every row", "reconcile with nothing to do"} {
		e := epoch(uint64(min(seq, 1)) + 1)
		e.Seq, e.Reconcile = uint64(seq)+1, seq != 1
		peak = 0
		start := time.Now()
		if err := w.Apply(t.Context(), []sinks.Epoch{e}); err != nil {
			t.Fatal(err)
		}
		t.Logf("%s: %d rows in %s, heap at most %d MiB", name, n,
			time.Since(start).Round(time.Millisecond), peak>>20)
		// The rows are 40 MB and more.
		if peak > 32<<20 {
			t.Errorf("%s: heap of %d MiB", name, peak>>20)
		}
	}
	if got := db.String("SELECT count(*) || '/' || count(DISTINCT amount) || '/' || min(amount) FROM " +
		"accounts"); got != "200000/1/2" {
		t.Fatalf("table has %s", got)
	}
}

// TestEventsTable writes a stream into a table of events.
func TestEventsTable(t *testing.T) {
	t.Parallel()
	sinktest.ExerciseEvents(t, func(t *testing.T) sinktest.Events {
		db := pgservertest.New(t)
		db.Exec(`CREATE SEQUENCE arrival`, `CREATE TABLE "paid-orders" (id text PRIMARY KEY,
			key json, value jsonb, source text, position pg_lsn, xid bigint, time timestamptz, last boolean,
			replayed boolean, n bigint DEFAULT nextval('arrival'))`)
		return sinktest.Events{
			Connector: postgres.Target(postgres.Config{URL: db.URL, Lease: 200 * time.Millisecond}),
			IDs: func() (ids []string) {
				for _, row := range db.Strings(`SELECT id FROM "paid-orders" ORDER BY n`) {
					ids = append(ids, row[0])
				}
				return ids
			},
		}
	})
}
