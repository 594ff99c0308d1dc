package apptest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/tailrace/tailrace"
	"github.com/tailrace/tailrace/internal/await"
	"github.com/tailrace/tailrace/internal/failpoint"
	"github.com/tailrace/tailrace/internal/pgserver/pgservertest"
	"github.com/tailrace/tailrace/record"
	"github.com/tailrace/tailrace/sinks"
	pgsink "github.com/tailrace/tailrace/sinks/postgres"
	"github.com/tailrace/tailrace/sources"
	"github.com/tailrace/tailrace/topology"
)

// refusing is an app whose target refuses some rows.
type refusing struct {
	t      *testing.T
	db, wh *pgservertest.DB
	cfg    tailrace.Config
	policy topology.ErrorPolicy
	app    started
}

func always(v topology.Verdict) topology.ErrorPolicy {
	return func(record.Context, *topology.Failure) topology.Verdict { return v }
}

func newRefusing(t *testing.T, v topology.Verdict) *refusing {
	r := &refusing{
		t: t, db: pgservertest.New(t), wh: pgservertest.New(t), policy: always(v),
		cfg: tailrace.Config{App: "refusing", StateDir: filepath.Join(t.TempDir(), "state")},
	}
	r.db.Exec(itemsSchema, "create table unfit (id bigint primary key, amount bigint not null)")
	r.wh.Exec("create table rows (key bigint primary key, amount bigint not null constraint small check (amount < 100))",
		"create table others (key bigint primary key, amount integer not null unique)")
	return r
}

func (r *refusing) start() {
	r.t.Helper()
	b := topology.New("rows")
	shop := pgSource("shop", r.db)
	warehouse := sinks.NewTarget("warehouse", pgsink.Target(pgsink.Config{URL: r.wh.URL}))
	types := pgsink.Output{Types: map[string]string{"amount": "integer"}}
	sinks.Table(sources.Table[int64, item](b, shop, "public.items"), warehouse, "rows", sinks.OnError(r.policy))
	sinks.Table(sources.Table[int64, item](b, shop, "public.unfit"), warehouse, "others", types,
		sinks.OnError(r.policy))
	r.app = start(r.t, r.cfg, b.MustBuild())
	ready(r.t, r.app)
}

func (r *refusing) stop() {
	r.t.Helper()
	if err := r.app.stop(); err != nil {
		r.t.Error(err)
	}
}

func (r *refusing) has(want string) {
	r.t.Helper()
	var got string
	await.That(r.t, "the target has "+want, func() bool {
		got = fmt.Sprint(r.wh.Strings("select key, amount from rows order by 1"),
			r.wh.Strings("select key, amount from others order by 1"))
		return got == want
	})
}

// letters are the keys that the target has refused, as "sink key".
func (r *refusing) letters() string {
	r.t.Helper()
	var out []string
	for l, err := range r.app.app.DeadLetters(context.Background()) {
		if err != nil {
			r.t.Fatal(err)
		}
		if l.Target != "warehouse" || !l.Parked || l.Error == "" || l.Position == "" || l.Failures < 1 {
			r.t.Errorf("the letter is %+v", l)
		}
		out = append(out, l.Node+string(l.Key)+string(l.Value))
	}
	return strings.Join(out, " ")
}

func (r *refusing) keeps(want string) {
	r.t.Helper()
	await.That(r.t, "what is kept is "+want, func() bool { return r.letters() == want })
}

// TestRefusedRowsSetAside has a target refuse rows of a snapshot and of transactions: the rest
// of each epoch is there, in both tables at once; what is refused is kept, over a restart,
// and comes when it changes, or when it is replayed.
func TestRefusedRowsSetAside(t *testing.T) {
	r := newRefusing(t, topology.DeadLetter)
	r.wh.Exec("insert into rows values (1, 1), (2, 2), (77, 7)", "insert into others values (5, 5)")
	r.db.Exec("insert into items values (1, 10), (2, 200), (3, 300), (4, 40)",
		"insert into unfit values (1, 1), (2, 5000000000)")
	r.start()
	// The row that is refused stays what it was, what is not of the result goes.
	r.has("[[1 10] [2 2] [4 40]] [[1 1]]")
	one := `warehouse/rows{"key":"2"}{"amount":"200","key":"2"}`
	three := `warehouse/rows{"key":"3"}{"amount":"300","key":"3"}`
	big := `warehouse/others{"key":"2"}{"amount":"5000000000","key":"2"}`
	r.keeps(big + " " + one + " " + three)
	// What is kept can be seen before the target's commit is known.
	await.That(t, "the status counts what was refused", func() bool {
		got := r.app.app.Status().Degraded
		return got["rows/warehouse/rows"] == 2 && got["rows/warehouse/others"] == 1
	})
	// A value that is taken over from another row is no conflict, whatever comes first.
	r.db.Exec("begin; update items set amount = 20 where id = 2; update unfit set amount = 2 where id = 1;" +
		" insert into unfit values (0, 1); update items set amount = 400 where id = 4; commit")
	four := `warehouse/rows{"key":"4"}{"amount":"400","key":"4"}`
	r.has("[[1 10] [2 20] [4 40]] [[0 1] [1 2]]")
	r.keeps(big + " " + three + " " + four)
	r.stop()
	r.start()
	r.db.Exec("update items set amount = 30 where id = 3", "delete from unfit where id = 2")
	r.has("[[1 10] [2 20] [3 30] [4 40]] [[0 1] [1 2]]")
	r.keeps(four)
	replay := func(want int) {
		t.Helper()
		got, err := r.app.app.ReplayDeadLetters(context.Background())
		if err != nil || got.Tried != want {
			t.Fatalf("replayed %+v: %v", got, err)
		}
	}
	replay(1)
	await.That(t, "it was refused again", func() bool {
		for l := range r.app.app.DeadLetters(context.Background()) {
			return l.Failures == 2
		}
		return false
	})
	r.wh.Exec("alter table rows drop constraint small")
	replay(1)
	r.has("[[1 10] [2 20] [3 30] [4 400]] [[0 1] [1 2]]")
	r.keeps("")
	await.That(t, "nothing is degraded", func() bool { return len(r.app.app.Status().Degraded) == 0 })
	r.stop()
}

// TestRefusedRowsSkipped leaves rows out without keeping them; the next change of such a key
// is given again.
func TestRefusedRowsSkipped(t *testing.T) {
	r := newRefusing(t, topology.Skip)
	r.db.Exec("insert into items values (1, 10)")
	r.start()
	r.has("[[1 10]] []")
	r.db.Exec("begin; update items set amount = 1000 where id = 1; insert into items values (2, 20); commit")
	r.has("[[1 10] [2 20]] []")
	await.That(t, "the row is counted", func() bool {
		return scrape(t, r.app.app, "tailrace_records_dropped_total{"+
			`app="refusing",node="warehouse/rows",reason="skipped",topology="rows"}`) == 1
	})
	r.keeps("")
	r.db.Exec("update items set amount = 11 where id = 1")
	r.has("[[1 11] [2 20]] []")
	r.stop()
}

// TestRefusedRowStops asks a policy that stops at one constraint and not at another.
func TestRefusedRowStops(t *testing.T) {
	r := newRefusing(t, topology.Stop)
	r.policy = func(ctx record.Context, f *topology.Failure) topology.Verdict {
		if ctx.Node != f.Node.Name {
			t.Errorf("asked about %+v, %+v", ctx, f)
		}
		if strings.Contains(f.Err.Error(), `constraint "small"`) {
			return topology.DeadLetter
		}
		return topology.Stop
	}
	r.start()
	r.db.Exec("insert into items values (1, 1000)", "insert into items values (2, 2)")
	r.has("[[2 2]] []")
	r.db.Exec("begin; insert into items values (3, 3), (4, 4000); insert into unfit values (1, 5000000000); commit")
	err := r.app.wait(t)
	var refused *pgsink.RejectedError
	if !errors.As(err, &refused) || !slices.Equal(refused.Key, []string{"1"}) || refused.Code != "22003" ||
		len(refused.Positions) == 0 {
		t.Fatalf("got %v", err)
	}
	r.has("[[2 2]] []") // nothing of the epoch
}

// TestRefusedRowsAtRandom compares the target with a recomputation from the transactions one
// by one, through connections that are lost before and after the commit, and restarts.
func TestRefusedRowsAtRandom(t *testing.T) {
	r := newRefusing(t, topology.DeadLetter)
	r.cfg.OneTransaction = true
	rnd := rand.New(rand.NewPCG(8, 15))
	points := []string{failpoint.SinkCommit, failpoint.SinkCommitted, failpoint.SinkApplied}
	now, shown, refused := map[int]int{}, map[int]int{}, map[int]bool{}
	write := func() {
		text := "begin;"
		touched := map[int]bool{}
		for range 1 + rnd.IntN(4) {
			key, amount := rnd.IntN(8), rnd.IntN(200)
			touched[key] = true
			if rnd.IntN(4) == 0 {
				text += fmt.Sprintf("delete from items where id = %d;", key)
				delete(now, key)
				continue
			}
			text += fmt.Sprintf("insert into items values (%d, %d) on conflict (id) do update set amount = %[2]d;",
				key, amount)
			now[key] = amount
		}
		r.db.Exec(text + "commit")
		for key := range touched {
			amount, ok := now[key]
			if refused[key] = ok && amount >= 100; ok && !refused[key] {
				shown[key] = amount
			} else if !ok {
				delete(shown, key)
			}
		}
	}
	for range 4 {
		r.start()
		for range 5 {
			off := failpoint.Set(points[rnd.IntN(len(points))], func(hit int) error {
				if hit%3 == 1 {
					return failpoint.ErrInjected
				}
				return nil
			})
			for range 4 {
				write()
			}
			var want []string
			for _, key := range slices.Sorted(maps.Keys(shown)) {
				want = append(want, fmt.Sprintf("[%d %d]", key, shown[key]))
			}
			r.has("[" + strings.Join(want, " ") + "] []")
			var kept []string
			for _, key := range slices.Sorted(maps.Keys(refused)) {
				if refused[key] {
					kept = append(kept, fmt.Sprintf(`warehouse/rows{"key":"%d"}{"amount":"%d","key":"%[1]d"}`, key, now[key]))
				}
			}
			r.keeps(strings.Join(kept, " "))
			off()
		}
		r.stop()
	}
}
