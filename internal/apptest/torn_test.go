package apptest

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tailrace/tailrace"
	"github.com/tailrace/tailrace/internal/pgserver/pgservertest"
	"github.com/tailrace/tailrace/record"
	"github.com/tailrace/tailrace/view"
)

// reads is how many reads of views the torn test makes. TAILRACE_TEST_READS asks for
// more: see the Makefile's target torn.
func reads() int {
	if n, err := strconv.Atoi(os.Getenv("TAILRACE_TEST_READS")); err == nil {
		return n
	}
	return 20_000
}

// What else the torn test has to see.
const (
	positionsWanted     = 1000
	sinkPositionsWanted = 100
	spillsWanted        = 20
	killsWanted         = 4
)

// TestNeverTorn reads a view by itself, several views at one position, and two sink
// tables in one statement, over and over, while transfers run, the app is ended and
// killed, its partitions are others in each round, and the sink is stalled. Every read
// sees the constant total.
func TestNeverTorn(t *testing.T) {
	db, wh := pgservertest.New(t), pgservertest.New(t)
	db.Exec(bankSchema)
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	long := 5*time.Minute + time.Duration(reads())*2*time.Millisecond
	ctx, cancel := context.WithTimeout(context.Background(), long)
	defer cancel()
	test := &tornTest{t: t, db: db, wh: wh, dir: t.TempDir() + "/state", tally: newTornTally(t)}
	test.seeSpills(ctx)
	c := test.tally
	var others sync.WaitGroup
	stop := make(chan struct{})
	for i := range 2 {
		others.Go(func() { c.transferUntil(db, rand.New(rand.NewPCG(seed, uint64(i))), stop) })
	}
	others.Go(func() { c.readSink(wh, stop) })
	r := rand.New(rand.NewPCG(seed, 9))
	for round := 0; !c.enough() && ctx.Err() == nil && !t.Failed(); round++ {
		if round%2 == 0 {
			test.round(ctx, round)
		} else {
			test.killedRound(r, round)
		}
	}
	close(stop)
	others.Wait()
	t.Logf("%d view reads at %d positions, %d of them over HTTP from apps that were killed %d times, "+
		"%d sink reads at %d positions, %d transfers of %d that spill, 0 torn",
		c.views.Load(), c.positions(), c.remote.Load(), c.kills, c.sink.Load(), len(c.sinkAt),
		c.spilling.Load(), c.transfers.Load())
	if !c.enough() || len(c.sinkAt) < sinkPositionsWanted {
		t.Error("too few reads, positions, kills, transfers that spill, or sink positions")
	}
}

// tornTest is the bank under test.
type tornTest struct {
	t      *testing.T
	db, wh *pgservertest.DB
	dir    string
	tally  *tornTally
}

// app runs the bank in this process until stop.
func (x *tornTest) app(ctx context.Context, round int) (b *bank, stop func()) {
	x.t.Helper()
	b, err := newBank(x.db.URL, x.wh.URL)
	if err != nil {
		x.t.Fatal(err)
	}
	app, err := tailrace.New(b.config(x.dir, round), b.topology)
	if err != nil {
		x.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan error, 1)
	go func() { done <- app.Run(ctx) }()
	if err := app.WaitReady(ctx); err != nil {
		cancel()
		x.t.Fatalf("%v: %v", err, <-done)
	}
	return b, func() {
		cancel()
		if err := <-done; err != nil {
			x.t.Errorf("app: %v", err)
		}
	}
}

// seeSpills makes sure that a transfer of bankSpills is over the bound of memory, and a
// small one is not.
func (x *tornTest) seeSpills(ctx context.Context) {
	x.t.Helper()
	_, stop := x.app(ctx, 0)
	stop() // The snapshot is in.
	b, stop := x.app(ctx, 0)
	defer stop()
	r := rand.New(rand.NewPCG(1, 2))
	for _, n := range []int{10, bankSpills} {
		x.db.Exec(transfer(r, n))
		at := written(x.t, x.db)
		if err := b.both.WaitFor(ctx, record.Positions{"bank": at}); err != nil {
			x.t.Fatal(err)
		}
		entries, err := os.ReadDir(filepath.Join(x.dir, "scratch"))
		if spilled := err == nil && len(entries) > 0; spilled != (n == bankSpills) {
			x.t.Fatalf("a transfer of %d rows of each table: spilled is %v, %v", n, spilled, err)
		}
	}
}

// stall locks the target's table for a moment.
func (x *tornTest) stall() {
	_, err := x.wh.Pool.Exec(context.Background(),
		"begin; lock table left_branches in access exclusive mode; select pg_sleep(0.5); commit")
	if err != nil {
		x.t.Error(err)
	}
}

// round runs the app for a while with readers of its views, and ends it.
func (x *tornTest) round(ctx context.Context, round int) {
	b, stop := x.app(ctx, round)
	defer stop()
	c := x.tally
	until, deadline := c.positions()+positionsWanted/8, time.Now().Add(20*time.Second)
	var group sync.WaitGroup
	for range 2 {
		group.Go(func() {
			for c.positions() < until && time.Now().Before(deadline) && !x.t.Failed() {
				at := c.readViews(ctx, b)
				for range 4 {
					c.readViews(ctx, b)
				}
				// So that the readers leave the machine to the app.
				later := record.Positions{"bank": at.Sources["bank"] + 1}
				wait, cancel := context.WithDeadline(ctx, deadline)
				if err := b.both.WaitFor(wait, later); err != nil && wait.Err() == nil {
					x.t.Error(err)
				}
				cancel()
			}
		})
	}
	if round == 2 {
		x.stall()
	}
	group.Wait()
}

// tornTally makes reads and transfers, and counts them.
type tornTally struct {
	t                   *testing.T
	views, remote, sink atomic.Int64
	transfers, spilling atomic.Int64
	kills               int
	mu                  sync.Mutex
	viewAt              map[string]bool
	sinkAt              map[string]bool
}

func newTornTally(t *testing.T) *tornTally {
	return &tornTally{t: t, viewAt: map[string]bool{}, sinkAt: map[string]bool{}}
}

func (c *tornTally) positions() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.viewAt)
}

func (c *tornTally) enough() bool {
	return c.positions() >= positionsWanted && c.views.Load() >= int64(reads()) &&
		c.spilling.Load() >= spillsWanted && c.kills >= killsWanted
}

// saw counts a read of what adds up to total at a position.
func (c *tornTally) saw(what, position string, total int64) {
	if total != bankTotal {
		c.t.Errorf("torn: %s at %s: the total is %d, not %d", what, position, total, bankTotal)
	}
	c.views.Add(1)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.viewAt[position] = true
}

func (c *tornTally) transferUntil(db *pgservertest.DB, r *rand.Rand, stop chan struct{}) {
	for i := 0; ; i++ {
		select {
		case <-stop:
			return
		default:
		}
		n := 1 + r.IntN(10)
		if i%100 == 50 {
			n = bankSpills + r.IntN(10_000-bankSpills) // up to 20,000 rows with both tables
		}
		// Writers lock in the same order; what still deadlocks is rolled back.
		_, err := db.Pool.Exec(context.Background(), "set deadlock_timeout = 20;"+transfer(r, n))
		switch {
		case err == nil && n >= bankSpills:
			c.spilling.Add(1)
		case err != nil && !deadlock(err):
			c.t.Error(err)
			return
		}
		c.transfers.Add(1)
	}
}

// readViews reads one view as it is now, and then all of them at one position, which it
// returns.
func (c *tornTally) readViews(ctx context.Context, b *bank) view.Position {
	total := func(rows *view.Rows[int32, balance]) (n int64) {
		for _, x := range rows.All() {
			n += x.Cents
		}
		if err := rows.Err(); err != nil {
			c.t.Error(err)
		}
		return n
	}
	rows := b.both.Range(ctx, view.Span[int32]{})
	n := total(rows)
	c.saw("the view", rows.Position().String(), n)
	m, err := view.At(ctx, b.left, b.right, b.both)
	if err != nil {
		c.t.Error(err)
		return view.Position{}
	}
	defer m.Close()
	at := m.Position().String()
	c.saw("two views", at, total(b.left.At(m).Range(ctx, view.Span[int32]{}))+
		total(b.right.At(m).Range(ctx, view.Span[int32]{})))
	c.saw("the view beside them", at, total(b.both.At(m).Range(ctx, view.Span[int32]{})))
	return m.Position()
}

// readSink reads both tables of the target with its progress in one statement.
func (c *tornTally) readSink(wh *pgservertest.DB, stop chan struct{}) {
	for {
		select {
		case <-stop:
			return
		default:
		}
		row := wh.Strings(`select coalesce((select sum(cents) from left_branches)
			+ (select sum(cents) from right_branches), 0)::bigint,
			coalesce((select positions->>'bank' from tailrace_progress where app = 'bank'), '')`)[0]
		if row[0] != fmt.Sprint(bankTotal) {
			c.t.Errorf("torn: the sink tables at %s add up to %s, not %d", row[1], row[0], bankTotal)
			return
		}
		c.sink.Add(1)
		c.sinkAt[row[1]] = true
	}
}
