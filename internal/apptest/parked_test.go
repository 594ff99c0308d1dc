package apptest

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/tailrace/tailrace"
	"github.com/tailrace/tailrace/internal/pgserver/pgservertest"
	"github.com/tailrace/tailrace/operators"
	"github.com/tailrace/tailrace/operators/aggregate"
	"github.com/tailrace/tailrace/record"
	"github.com/tailrace/tailrace/sinks"
	"github.com/tailrace/tailrace/sources"
	"github.com/tailrace/tailrace/topology"
	"github.com/tailrace/tailrace/view"
)

// faulty is a place at which functions fail on numbers by their last digit.
type faulty struct{ digits [4]atomic.Uint32 }

// The places: decoding a row, mapping it, looking its foreign key up, a group's sum.
const (
	faultyRow = iota
	faultyMap
	faultyKey
	faultySum
)

var faults faulty // what decoding goes by, too; TestParkedKeysAndSQL is alone with it

func (f *faulty) fails(place int, n int64) bool { return f.digits[place].Load()>>(n%10)&1 == 1 }

func (f *faulty) check(place int, n int64) {
	if f.fails(place, n) {
		panic(fmt.Sprintf("place %d fails on %d", place, n))
	}
}

// mend mends one digit of a place.
func (f *faulty) mend(place int, digit uint) {
	f.digits[place].And(^(uint32(1) << digit))
}

// fickle is a number that cannot be decoded at times.
type fickle int64

func (n fickle) MarshalText() ([]byte, error) { return fmt.Append(nil, int64(n)), nil }

func (n *fickle) UnmarshalText(text []byte) error {
	if _, err := fmt.Sscan(string(text), (*int64)(n)); err != nil {
		return err
	}
	if faults.fails(faultyRow, int64(*n)) {
		return fmt.Errorf("%d is a fault", *n)
	}
	return nil
}

type part struct {
	Ref   int64
	Kind  int64
	Value fickle
}

// parked is an app over real tables, each node of which may park keys.
type parked struct {
	t      *testing.T
	db     *pgservertest.DB
	cfg    tailrace.Config
	app    started
	tables map[string]func() []string
}

const parkedSchema = `create table parts (id bigint primary key, ref bigint not null, kind bigint not null,
	value bigint not null)`

// parkedSQL is what the views say, with functions that never fail.
var parkedSQL = map[string]string{
	"tripled": "select id || '=' || 3 * value from parts",
	"pairs":   "select l.id || '=' || l.value - r.value from parts l join parts r on r.id = l.ref",
	"sums":    "select kind || '=' || sum(value) from parts group by kind",
	"total":   "select 1 || '=' || sum(3 * value) from parts having count(*) > 0",
}

func parks(record.Context, *topology.Failure) topology.Verdict { return topology.DeadLetter }

func parkedView[K comparable, V any](t *testing.T, in topology.Table[K, V], name string) func() []string {
	v := sinks.View(in, name)
	return func() []string {
		out := shown(t, v)
		slices.Sort(out)
		return out
	}
}

func (p *parked) start() {
	p.t.Helper()
	b := topology.New("parts")
	parts := sources.Table[int64, part](b, pgSource("shop", p.db), "public.parts").OnError(parks)
	tripled := operators.MapValues(parts, func(_ int64, r part) int64 {
		faults.check(faultyMap, int64(r.Value))
		return 3 * int64(r.Value)
	}).OnError(parks)
	pairs := operators.JoinForeignKey("pairs", parts, parts, func(r part) int64 {
		faults.check(faultyKey, r.Ref)
		return r.Ref
	}, func(l, r part) int64 { return int64(l.Value - r.Value) }).OnError(parks)
	sums := operators.Aggregate("sums", operators.GroupBy(parts, func(_ int64, r part) int64 { return r.Kind }),
		aggregate.Map(aggregate.Sum(func(r part) int64 { return int64(r.Value) }), func(n int64) int64 {
			faults.check(faultySum, n)
			return n
		})).OnError(parks)
	total := operators.Aggregate("total", operators.GroupBy(tripled, func(int64, int64) int64 { return 1 }),
		aggregate.Sum(func(n int64) int64 { return n }))
	p.tables = map[string]func() []string{
		"tripled": parkedView(p.t, tripled, "tripled"), "pairs": parkedView(p.t, pairs, "pairs"),
		"sums": parkedView(p.t, sums, "sums"), "total": parkedView(p.t, total, "total"),
	}
	p.app = start(p.t, p.cfg, b.MustBuild())
	if err := p.app.app.WaitReady(deadline(p.t)); err != nil {
		p.t.Fatal(err, p.app.stop())
	}
}

// write runs a transaction of random changes.
func (p *parked) write(r *rand.Rand) {
	sql := "begin;"
	for range 1 + r.IntN(4) {
		id := r.IntN(12)
		switch r.IntN(8) {
		case 0:
			sql += fmt.Sprintf("delete from parts where id = %d;", id)
		case 1: // the row moves to another key
			sql += fmt.Sprintf(
				"update parts set id = %d where id = %d and not exists (select from parts where id = %[1]d);",
				r.IntN(12),
				id,
			)
		default:
			sql += fmt.Sprintf("insert into parts values (%d, %d, %d, %d) on conflict (id) do update set "+
				"ref = excluded.ref, kind = excluded.kind, value = excluded.value;",
				id, r.IntN(12), r.IntN(3), r.IntN(100))
		}
	}
	p.db.Exec(sql + "commit")
}

// letters are the ids of the letters.
func (p *parked) letters() (ids []string) {
	for l, err := range p.app.app.DeadLetters(context.Background()) {
		if err != nil {
			p.t.Fatal(err)
		}
		ids = append(ids, l.ID)
	}
	return ids
}

func (p *parked) reach() {
	p.t.Helper()
	if err := p.app.app.WaitFor(deadline(p.t), head(p.t, p.db)); err != nil {
		p.t.Fatal(err, p.app.app.Status())
	}
}

// TestParkedKeysAndSQL parks random keys of a real table at four kinds of nodes while a
// writer goes on, mends the functions bit by bit, and replays letters one by one in any
// order, through restarts. Whenever nothing is parked all views equal SQL.
func TestParkedKeysAndSQL(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 3))
	p := &parked{t: t, db: pgservertest.New(t)}
	p.db.Exec(parkedSchema)
	most, failed := 0, 0
	for round := range 6 {
		for place := range faults.digits {
			faults.digits[place].Store(uint32(r.IntN(1 << 10)))
		}
		// Anew: a function that comes to fail on rows that it has taken stops.
		p.cfg = tailrace.Config{App: fmt.Sprint("parked", round), StateDir: t.TempDir() + "/state"}
		p.start()
		for range 40 {
			p.write(r)
			if r.IntN(4) == 0 {
				faults.mend(r.IntN(4), uint(r.IntN(10)))
			}
			if ids := p.letters(); len(ids) > 0 && r.IntN(3) == 0 {
				most = max(most, len(ids))
				out, err := p.app.app.ReplayDeadLetters(deadline(t), ids[r.IntN(len(ids))])
				if err != nil {
					t.Fatal(err)
				}
				failed += out.Failed
			}
		}
		p.reach()
		if parked := p.app.app.Status().Degraded; (len(parked) > 0) != (len(p.letters()) > 0) {
			t.Errorf("round %d: degraded says %v, there are %d letters", round, parked, len(p.letters()))
		}
		if r.IntN(2) == 0 {
			if err := p.app.stop(); err != nil {
				t.Fatal(err)
			}
			p.start()
		}
		for place := range faults.digits {
			faults.digits[place].Store(0)
		}
		ids := p.letters()
		r.Shuffle(len(ids), func(i, j int) { ids[i], ids[j] = ids[j], ids[i] })
		for _, id := range ids {
			if out, err := p.app.app.ReplayDeadLetters(
				deadline(t),
				id,
			); err != nil || out.Failed > 0 ||
				len(out.Unreadable) > 0 {
				t.Fatalf("replay of %s: %+v %v", id, out, err)
			}
		}
		p.equal(round)
		if err := errors.Join(p.app.stop(), p.app.app.Destroy(deadline(t))); err != nil {
			t.Fatal(err)
		}
	}
	if most < 3 || failed == 0 {
		t.Errorf(
			"at most %d keys were parked at a time, %d failed again: the test has not seen enough",
			most,
			failed,
		)
	}
}

func (p *parked) equal(round int) {
	p.t.Helper()
	if ids := p.letters(); len(ids) > 0 || len(p.app.app.Status().Degraded) > 0 {
		p.t.Errorf("round %d: letters are left: %q %v", round, ids, p.app.app.Status().Degraded)
	}
	for name, sql := range parkedSQL {
		var want []string
		for _, row := range p.db.Strings(sql) {
			want = append(want, row[0])
		}
		if slices.Sort(want); !slices.Equal(p.tables[name](), want) {
			p.t.Errorf("round %d: %s is %q, SQL says %q", round, name, p.tables[name](), want)
		}
	}
}

// TestPolicyTakenAway parks a key, and goes on without the policy: the key stays as it is
// until it is replayed, and meanwhile the topology cannot run in partitions, as it cannot
// with the policy.
func TestPolicyTakenAway(t *testing.T) {
	db := pgservertest.New(t)
	db.Exec(itemsSchema, "insert into items values (1, 5)")
	dir := t.TempDir() + "/state"
	var mended atomic.Bool
	config := func(partitions int) tailrace.Config {
		return tailrace.Config{App: "taken", StateDir: dir, Partitions: partitions}
	}
	build := func(policy topology.ErrorPolicy) (*topology.Topology, *view.View[int64, int64]) {
		b := topology.New("ratios")
		ratios := operators.MapValues(sources.Table[int64, item](b, pgSource("shop", db), "public.items"),
			func(_ int64, i item) int64 {
				if i.Amount == 0 && mended.Load() {
					return -1
				}
				return 100 / i.Amount
			})
		if policy != nil {
			ratios = ratios.OnError(policy)
		}
		v := sinks.View(ratios, "ratios")
		return b.MustBuild(), v
	}
	run := func(policy topology.ErrorPolicy, partitions int) (started, *view.View[int64, int64]) {
		top, v := build(policy)
		return start(t, config(partitions), top), v
	}
	is := func(app started, v *view.View[int64, int64], want int64) {
		t.Helper()
		if err := app.app.WaitReady(deadline(t)); err != nil {
			t.Fatal(err, app.stop())
		}
		if err := v.WaitFor(deadline(t), head(t, db)); err != nil {
			t.Fatal(err)
		}
		if n, _, _, err := v.Get(deadline(t), 1); n != want || err != nil {
			t.Errorf("the key has %d, want %d: %v", n, want, err)
		}
	}
	app, v := run(parks, 0)
	is(app, v, 20)
	db.Exec("update items set amount = 0 where id = 1")
	is(app, v, 20)
	if err := app.stop(); err != nil {
		t.Fatal(err)
	}
	top, _ := build(parks)
	if _, err := tailrace.New(config(2), top); !errors.Is(err, topology.ErrParks) {
		t.Errorf("in partitions with the policy New says %v", err)
	}
	refused, _ := run(nil, 2)
	if err := refused.waitEnd(t); err == nil || !strings.Contains(err.Error(), "taken away") {
		t.Errorf("in partitions with parked keys the app says %v", err)
	}
	app, v = run(nil, 0)
	is(app, v, 20)
	if _, err := app.app.ReplayDeadLetters(deadline(t)); err == nil || !strings.Contains(err.Error(), "divide") {
		t.Errorf("the replay of a function that still fails says %v", err)
	}
	is(app, v, 20)
	mended.Store(true)
	if out, err := app.app.ReplayDeadLetters(deadline(t)); err != nil || out.Tried != 1 || out.Failed != 0 {
		t.Errorf("the replay says %+v, %v", out, err)
	}
	is(app, v, -1)
	if err := app.stop(); err != nil {
		t.Fatal(err)
	}
	app, v = run(nil, 2)
	is(app, v, -1)
	if err := app.stop(); err != nil {
		t.Fatal(err)
	}
}
