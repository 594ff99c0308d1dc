package apptest

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tailrace/tailrace"
	"github.com/tailrace/tailrace/internal/pgserver/pgservertest"
	"github.com/tailrace/tailrace/operators"
	"github.com/tailrace/tailrace/operators/aggregate"
	"github.com/tailrace/tailrace/sinks"
	pgsink "github.com/tailrace/tailrace/sinks/postgres"
	"github.com/tailrace/tailrace/sources"
	"github.com/tailrace/tailrace/sources/postgres"
	"github.com/tailrace/tailrace/topology"
	"github.com/tailrace/tailrace/view"
)

// The bank: money moves between accounts of two tables, a transfer is one
// transaction of up to 20,000 rows, and the total of both never changes.
const (
	bankAccounts = 12_000 // in each table
	bankBranches = 16
	bankTotal    = 2 * bankAccounts * 1000
	bankSchema   = `
create table left_accounts (id int primary key, branch int not null, cents bigint not null);
create table right_accounts (id int primary key, branch int not null, cents bigint not null);
insert into left_accounts select i, i % 16, 1000 from generate_series(1, 12000) i;
insert into right_accounts select i, i % 16, 1000 from generate_series(1, 12000) i;`
)

type account struct {
	Branch int32
	Cents  int64
}

type balance struct {
	Cents int64 `db:"cents"`
}

type bank struct {
	topology    *topology.Topology
	left, right *view.View[int32, balance]
}

func newBank(url, warehouse string) (*bank, error) {
	b := topology.New("bank")
	db := sources.NewDatabase("bank", postgres.Source(postgres.Config{URL: url}))
	target := sinks.NewTarget("warehouse", pgsink.Target(pgsink.Config{URL: warehouse, CreateTables: true}))
	out := &bank{}
	branches := func(name string) topology.Table[int32, balance] {
		t := operators.Aggregate(name+"-branches",
			operators.GroupBy(sources.Table[int32, account](b, db, "public."+name+"_accounts"),
				func(_ int32, a account) int32 { return a.Branch }),
			aggregate.Sum(func(a account) int64 { return a.Cents }))
		m := operators.MapValues(t, func(_ int32, cents int64) balance { return balance{cents} })
		sinks.Table(m, target, name+"_branches")
		return m
	}
	out.left = sinks.View(branches("left"), "left")
	out.right = sinks.View(branches("right"), "right")
	var err error
	out.topology, err = b.Build()
	return out, err
}

// transfer moves money from left to right and back, n rows of each.
func transfer(r *rand.Rand, n int) string {
	from, amount := 1+r.IntN(bankAccounts-n+1), 1+r.IntN(50)
	back := 1 + r.IntN(bankAccounts-n+1)
	return fmt.Sprintf(`begin;
update left_accounts set cents = cents - %d where id between %d and %d;
update right_accounts set cents = cents + %d where id between %d and %d;
update left_accounts set branch = (branch + %d) %% 16 where id = %d;
commit;`, amount, from, from+n-1, amount, back, back+n-1, r.IntN(16), from)
}

// reads and positions are what the torn test has to see. TAILRACE_TEST_READS asks for
// more reads: see the Makefile's target torn.
func reads() int {
	if n, err := strconv.Atoi(os.Getenv("TAILRACE_TEST_READS")); err == nil {
		return n
	}
	return 20_000
}

const positionsWanted = 1000

// TestNeverTorn reads two views at one position, and two sink tables in one
// transaction, over and over, while transfers run, the app is restarted and the sink
// is stalled. Every read sees the constant total.
func TestNeverTorn(t *testing.T) {
	db, wh := pgservertest.New(t), pgservertest.New(t)
	db.Exec(bankSchema)
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	long := 5*time.Minute + time.Duration(reads())*2*time.Millisecond
	ctx, cancel := context.WithTimeout(context.Background(), long)
	defer cancel()
	dir := t.TempDir() + "/state"
	var tally tornTally
	var writers sync.WaitGroup
	stopWriting := make(chan struct{})
	for i := range 2 {
		writers.Go(func() { transferUntil(t, db, rand.New(rand.NewPCG(seed, uint64(i))), stopWriting) })
	}
	var sinkReader sync.WaitGroup
	sinkReader.Go(func() { tally.readSink(ctx, t, wh, stopWriting) })
	for round := 0; !tally.enough() && ctx.Err() == nil && !t.Failed(); round++ {
		tally.round(ctx, t, dir, db, wh, round)
	}
	close(stopWriting)
	writers.Wait()
	sinkReader.Wait()
	t.Logf("%d view reads at %d positions, %d sink reads at %d positions, 0 torn",
		tally.views.Load(), tally.positions(), tally.sink.Load(), len(tally.sinkAt))
	if tally.views.Load() < int64(reads()) || len(tally.sinkAt) < 50 {
		t.Error("too few reads or sink positions")
	}
}

func transferUntil(t *testing.T, db *pgservertest.DB, r *rand.Rand, stop chan struct{}) {
	for i := 0; ; i++ {
		select {
		case <-stop:
			return
		default:
		}
		n := 1 + r.IntN(10)
		if i%200 == 100 {
			n = 1000 + r.IntN(9000) // up to 20,000 rows with both tables
		}
		// Writers lock in the same order; what still deadlocks is rolled back.
		_, err := db.Pool.Exec(context.Background(), "set deadlock_timeout = 20;"+transfer(r, n))
		if err != nil && !deadlock(err) {
			t.Error(err)
			return
		}
	}
}

// tornTally counts what was read.
type tornTally struct {
	views, sink atomic.Int64
	mu          sync.Mutex
	viewAt      map[string]bool
	sinkAt      map[string]bool
}

func (c *tornTally) positions() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.viewAt)
}

func (c *tornTally) enough() bool {
	return c.positions() >= positionsWanted && c.views.Load() >= int64(reads())
}

// round runs the app for a while with readers of its views, and ends it.
func (c *tornTally) round(
	ctx context.Context, t *testing.T, dir string, db, wh *pgservertest.DB, round int,
) {
	bank, err := newBank(db.URL, wh.URL)
	if err != nil {
		t.Fatal(err)
	}
	app, err := tailrace.New(tailrace.Config{
		App: "bank", StateDir: dir, EpochRows: 1 + round%3*500,
		// Small enough that the largest transfers spill.
		Memory: 2 << 20,
	}, bank.topology)
	if err != nil {
		t.Fatal(err)
	}
	runCtx, stop := context.WithCancel(ctx)
	done := make(chan error, 1)
	go func() { done <- app.Run(runCtx) }()
	if err := app.WaitReady(runCtx); err != nil {
		stop()
		t.Fatalf("%v: %v", err, <-done)
	}
	var readers sync.WaitGroup
	until := c.positions() + positionsWanted/4
	deadline := time.Now().Add(20 * time.Second)
	for range 2 {
		readers.Go(func() {
			for c.positions() < until && time.Now().Before(deadline) && !t.Failed() {
				c.readViews(runCtx, t, bank)
			}
		})
	}
	if round == 1 { // a lock stalls the sink for a moment
		wh.Exec("begin; lock table left_branches in access exclusive mode; select pg_sleep(0.5); commit")
	}
	readers.Wait()
	stop()
	if err := <-done; err != nil {
		t.Errorf("app: %v", err)
	}
}

func (c *tornTally) readViews(ctx context.Context, t *testing.T, b *bank) {
	m, err := view.At(ctx, b.left, b.right)
	if err != nil {
		t.Error(err)
		return
	}
	defer m.Close()
	total := int64(0)
	for _, v := range []*view.View[int32, balance]{b.left, b.right} {
		rows := v.At(m).Range(ctx, view.Span[int32]{})
		for _, x := range rows.All() {
			total += x.Cents
		}
		if err := rows.Err(); err != nil {
			t.Error(err)
			return
		}
	}
	if total != bankTotal {
		t.Errorf("torn: the views at %s add up to %d, not %d", m.Position(), total, bankTotal)
	}
	c.views.Add(1)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.viewAt == nil {
		c.viewAt = map[string]bool{}
	}
	c.viewAt[m.Position().String()] = true
}

// readSink reads both tables of the target with its progress in one statement.
func (c *tornTally) readSink(ctx context.Context, t *testing.T, wh *pgservertest.DB, stop chan struct{}) {
	c.sinkAt = map[string]bool{}
	for {
		select {
		case <-stop:
			return
		default:
		}
		if wh.String(
			"select to_regclass('right_branches') is null or to_regclass('tailrace_progress') is null",
		) == "t" {
			select { // nothing announces the tables of another program
			case <-time.After(10 * time.Millisecond):
			case <-stop:
			}
			continue
		}
		row := wh.Strings(`select coalesce((select sum(cents) from left_branches)
			+ (select sum(cents) from right_branches), 0)::bigint,
			coalesce((select positions->>'bank' from tailrace_progress where app = 'bank'), '')`)[0]
		if row[1] == "" {
			continue // nothing delivered yet
		}
		if row[0] != fmt.Sprint(bankTotal) {
			t.Errorf("torn: the sink tables at %s add up to %s, not %d", row[1], row[0], bankTotal)
			return
		}
		c.sink.Add(1)
		c.sinkAt[row[1]] = true
	}
}
