package postgres_test

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"net/url"
	"slices"
	"testing"
	"time"

	"github.com/tailrace/tailrace/internal/failpoint"
	"github.com/tailrace/tailrace/internal/faultproxy"
	"github.com/tailrace/tailrace/internal/pgserver/pgservertest"
	"github.com/tailrace/tailrace/sinks"
	"github.com/tailrace/tailrace/sinks/postgres"
	"github.com/tailrace/tailrace/sinks/sinktest"
)

// through returns the database's URL by way of a proxy.
func through(t *testing.T, db *pgservertest.DB) (*faultproxy.Proxy, string) {
	t.Helper()
	proxy, err := faultproxy.New(db.Server.Addr())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = proxy.Close() })
	u, err := url.Parse(db.URL)
	if err != nil {
		t.Fatal(err)
	}
	u.Host = proxy.Addr()
	return proxy, u.String()
}

// counter is a table with a trigger that notes every row which an upsert proposes, so
// that an epoch which is applied twice shows, although its rows end up the same. (A
// trigger after the write would not see the second time: what does not differ is not
// written.)
var counter = sinks.Output{ID: 3, Name: "counter", KeyLen: 1, Columns: []sinks.Column{
	{Name: "id", Type: "bigint"}, {Name: "n", Type: "bigint"},
}}

const counterSQL = `CREATE TABLE counter (id bigint PRIMARY KEY, n bigint NOT NULL);
	CREATE TABLE writes (seq bigint);
	CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS
		$$BEGIN INSERT INTO writes VALUES (NEW.n); RETURN NEW; END$$;
	CREATE TRIGGER note BEFORE INSERT ON counter FOR EACH ROW EXECUTE FUNCTION note()`

func open(t *testing.T, cfg postgres.Config, incarnation string, outputs ...sinks.Output) sinks.Writer {
	t.Helper()
	w, err := postgres.Target(cfg).Open(t.Context(), sinks.OpenRequest{
		App: sinktest.App, Target: sinktest.TargetName, Incarnation: incarnation, Outputs: outputs,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = w.Close() })
	return w
}

// The server's words around a commit: what the client sends, and what it answers.
var (
	commitSent   = []byte("COMMIT\x00")
	commitAnswer = []byte("COMMIT\x00Z")
)

// TestAmbiguousCommit cuts the connection around COMMIT: before the server gets it, or
// before we get the answer. Each epoch must be there exactly once either way.
func TestAmbiguousCommit(t *testing.T) {
	t.Parallel()
	db := pgservertest.New(t)
	db.Exec(counterSQL)
	proxy, u := through(t, db)
	w := open(t, postgres.Config{URL: u}, "one", counter)
	rng := rand.New(rand.NewPCG(1, 2))
	epoch := func(seq uint64) sinks.Epoch {
		e := sinktest.Epoch(seq, sinktest.Put(counter, 1, seq))
		e.Reconcile = seq == 1
		return e
	}
	const rounds = 600
	lost, unsent := 0, 0
	for seq := uint64(1); seq <= rounds; {
		batch := []sinks.Epoch{epoch(seq)}
		if seq > 1 && rng.IntN(3) == 0 {
			batch = append(batch, epoch(seq+1))
		}
		direction, mark := faultproxy.ToClient, commitAnswer
		if rng.IntN(4) == 0 {
			direction, mark = faultproxy.ToServer, commitSent
		}
		proxy.CutWhen(direction, func(piece []byte) int {
			// "COMMIT\0" of the other direction never passes here, and each of the two
			// is small enough to come in one piece.
			if i := bytes.Index(piece, mark); i >= 0 {
				return rng.IntN(i + 1)
			}
			return faultproxy.Pass
		})
		if err := w.Apply(t.Context(), batch); err == nil {
			t.Fatalf("epoch %d: the cut was not noticed", seq)
		} else if errors.Is(err, sinks.ErrFenced) || errors.Is(err, sinks.ErrRejected) {
			t.Fatal(err)
		}
		if direction == faultproxy.ToClient {
			lost++
		} else {
			unsent++
		}
		// Half of the callers ask, half simply repeat.
		if rng.IntN(2) == 0 {
			held, ok, err := w.Progress(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if last := batch[len(batch)-1].Seq; direction == faultproxy.ToClient && (!ok || held != last) {
				t.Fatalf("the server committed epoch %d, progress says %d, %v", last, held, ok)
			}
		}
		seq = batch[len(batch)-1].Seq + 1
		if rng.IntN(2) == 0 { // what is repeated may be grouped otherwise
			batch = append(batch, epoch(seq))
			seq++
		}
		if err := w.Apply(t.Context(), batch); err != nil {
			t.Fatal(err)
		}
	}
	// Each write has the number of the last epoch of its transaction; none may repeat.
	twice := db.Strings("SELECT seq, count(*) FROM writes GROUP BY seq HAVING count(*) > 1")
	if len(twice) > 0 {
		t.Fatalf("applied more than once: %v", twice)
	}
	held, _, err := w.Progress(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if got := db.String("SELECT n FROM counter"); got != uintText(held) {
		t.Fatalf("table is at epoch %s, progress at %d", got, held)
	}
	t.Logf("%d answers and %d commits lost, %d transactions", lost, unsent,
		len(db.Strings("SELECT * FROM writes")))
}

func uintText(n uint64) string { return string(sinktest.Put(counter, n, n).Columns[0]) }

// TestCutAnywhere cuts the connection after any number of bytes, in either direction,
// and compares with the oracle.
func TestCutAnywhere(t *testing.T) {
	t.Parallel()
	db := pgservertest.New(t)
	proxy, u := through(t, db)
	outputs := []sinks.Output{sinktest.Accounts, sinktest.Places}
	w := open(t, postgres.Config{URL: u, CreateTables: true}, "one", outputs...)
	rng := rand.New(rand.NewPCG(7, 8))
	model := sinktest.NewModel(outputs)
	cuts := 0
	for seq := uint64(1); seq < 120; seq++ {
		e := sinktest.RandomEpoch(rng, seq, 20)
		if seq == 1 || rng.IntN(10) == 0 {
			content := sinktest.NewModel(outputs)
			content.Apply(e)
			e = sinktest.WholeOf(seq, content, outputs...)
		}
		model.Apply(e)
		proxy.CutAfter(faultproxy.Direction(rng.IntN(2)), rng.IntN(3000))
		for {
			err := w.Apply(t.Context(), []sinks.Epoch{e})
			if err == nil {
				break
			}
			if errors.Is(err, sinks.ErrFenced) || errors.Is(err, sinks.ErrRejected) || errors.Is(err,
				sinks.ErrTargetSchema) {
				t.Fatal(err)
			}
			cuts++
		}
		for _, o := range outputs {
			if got, want := rowsOf(db, o), model.Rows(o.ID); !slices.Equal(got, want) {
				t.Fatalf("after epoch %d, %s holds\n%q\nwant\n%q", seq, o.Name, got, want)
			}
		}
	}
	if cuts < 40 {
		t.Fatalf("only %d cuts hit", cuts)
	}
	t.Logf("%d cuts", cuts)
}

// TestFailpoints stops at each point of the sink's transaction; dp8 are the two sides of
// an unknown COMMIT, dp12 is a reconciliation with rows staged.
func TestFailpoints(t *testing.T) { // not parallel: failpoints are the process's
	for _, point := range []string{failpoint.SinkCommit, failpoint.SinkCommitted, failpoint.SinkReconcile} {
		t.Run(point, func(t *testing.T) {
			db := pgservertest.New(t)
			outputs := []sinks.Output{sinktest.Accounts, sinktest.Places}
			cfg := postgres.Config{URL: db.URL, CreateTables: true}
			w := open(t, cfg, "one", outputs...)
			rng := rand.New(rand.NewPCG(9, 9))
			model := sinktest.NewModel(outputs)
			apply := func(w sinks.Writer, e sinks.Epoch) {
				model.Apply(e)
				for {
					err := w.Apply(t.Context(), []sinks.Epoch{e})
					if err == nil {
						return
					}
					if !errors.Is(err, failpoint.ErrInjected) {
						t.Fatal(err)
					}
				}
			}
			apply(w, sinktest.Whole(sinktest.RandomEpoch(rng, 1, 60)))
			off := failpoint.Set(point, func(hit int) error {
				if hit%2 == 1 {
					return failpoint.ErrInjected
				}
				return nil
			})
			defer off()
			for seq := uint64(2); seq < 20; seq++ {
				apply(w, sinktest.RandomEpoch(rng, seq, 60))
			}
			_ = w.Close()
			w = open(t, cfg, "two", outputs...)
			content := sinktest.NewModel(outputs)
			content.Apply(sinktest.RandomEpoch(rng, 1, 60))
			apply(w, sinktest.WholeOf(1, content, outputs...))
			for _, o := range outputs {
				if got, want := rowsOf(db, o), model.Rows(o.ID); !slices.Equal(got, want) {
					t.Fatalf("%s holds\n%q\nwant\n%q", o.Name, got, want)
				}
			}
			if failpoint.Hits(point) == 0 {
				t.Fatal("the point was not hit")
			}
		})
	}
}

// TestZombieInTransaction has an instance freeze in the middle of its transaction, be
// replaced, and wake up.
func TestZombieInTransaction(t *testing.T) {
	t.Parallel()
	db := pgservertest.New(t)
	db.Exec(counterSQL)
	cfg := postgres.Config{URL: db.URL, Lease: 300 * time.Millisecond}
	for round, incarnation := range []string{"one", "two"} { // the same state, and another
		db.Exec("DROP TABLE IF EXISTS tailrace_progress", "TRUNCATE counter", "TRUNCATE writes")
		zombie := open(t, cfg, "one", counter)
		first := sinktest.Whole(sinktest.Epoch(1, sinktest.Put(counter, 1, 1)))
		if err := zombie.Apply(t.Context(), []sinks.Epoch{first}); err != nil {
			t.Fatal(err)
		}
		frozen, wake := make(chan struct{}), make(chan struct{})
		slow := sinktest.Epoch(2)
		slow.Items = func(yield func(sinks.Item) bool) error {
			close(frozen)
			<-wake
			yield(sinktest.Put(counter, 1, 666))
			return nil
		}
		result := make(chan error, 1)
		go func() { result <- zombie.Apply(context.Background(), []sinks.Epoch{slow}) }()
		<-frozen
		// The zombie has sent nothing yet and its lease runs out.
		w := open(t, cfg, incarnation, counter)
		next := sinktest.Whole(sinktest.Epoch(2, sinktest.Put(counter, 1, 2)))
		if err := w.Apply(t.Context(), []sinks.Epoch{next}); err != nil {
			t.Fatal(err)
		}
		close(wake)
		if err := <-result; !errors.Is(err, sinks.ErrFenced) {
			t.Fatalf("round %d: the zombie got %v", round, err)
		}
		if got := db.String("SELECT n FROM counter"); got != "2" {
			t.Fatalf("round %d: the table holds %s", round, got)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
	}
}
