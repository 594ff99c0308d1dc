package apptest

import (
	"context"
	"math"
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

// What else the torn test has to see. The positions are those of each kind of read.
const (
	positionsWanted = 1000
	spillsWanted    = 20
	killsWanted     = 4
	stallsWanted    = 2
)

// sinkReadsWanted is how many reads of the sink there are at least.
func sinkReadsWanted() int { return reads() / 10 }

// The kinds of reads.
const (
	ofView  = "one view"
	ofViews = "two views at one position"
	ofSink  = "two tables of the sink"
)

var readKinds = []string{ofView, ofViews, ofSink}

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
	others.Go(func() { test.readSink(stop) })
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
	for _, kind := range readKinds {
		t.Logf("%d reads of %s at %d positions", c.count(kind), kind, c.positions(kind))
	}
	t.Logf("%d reads over HTTP from apps that were killed %d times, %d of them at a failpoint; %d stalls; "+
		"%d transfers of %d spill; torn %d", c.remote.Load(), c.kills, c.exits, c.stalls,
		c.spilling.Load(), c.transfers.Load(), c.torn.Load())
	if !c.enough() {
		t.Error("too few reads, positions, kills, stalls, or transfers that spill")
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
func (x *tornTest) app(ctx context.Context, round int) (b *bank, app *tailrace.App, stop func()) {
	x.t.Helper()
	b, err := newBank(x.db.URL, x.wh.URL)
	if err != nil {
		x.t.Fatal(err)
	}
	if app, err = tailrace.New(b.config(x.dir, round), b.topology); err != nil {
		x.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan error, 1)
	go func() { done <- app.Run(ctx) }()
	if err := app.WaitReady(ctx); err != nil {
		cancel()
		x.t.Fatalf("%v: %v", err, <-done)
	}
	return b, app, func() {
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
	_, _, stop := x.app(ctx, 0)
	stop() // The snapshot is in.
	b, _, stop := x.app(ctx, 0)
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

// round runs the app for a while with readers of its views, and ends it.
func (x *tornTest) round(ctx context.Context, round int) {
	b, app, stop := x.app(ctx, round)
	defer stop()
	c := x.tally
	until, deadline := c.fewest()+positionsWanted/8, time.Now().Add(20*time.Second)
	var group sync.WaitGroup
	for range 2 {
		group.Go(func() {
			for c.fewest() < until && time.Now().Before(deadline) && !x.t.Failed() {
				at := c.readViews(ctx, b)
				for i := 0; i < 20 && c.behind(reads(), ofView, ofViews); i++ {
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
	if round%8 == 2 {
		x.stall(app)
	}
	group.Wait()
}

// tornTally makes reads and transfers, and counts them.
type tornTally struct {
	t                   *testing.T
	remote, torn        atomic.Int64
	transfers, spilling atomic.Int64
	kills, exits        int // exits are the kills at a failpoint
	stalls              int
	mu                  sync.Mutex
	reads               map[string]int // by kind
	at                  map[string]map[string]bool
}

func newTornTally(t *testing.T) *tornTally {
	c := &tornTally{t: t, reads: map[string]int{}, at: map[string]map[string]bool{}}
	for _, kind := range readKinds {
		c.at[kind] = map[string]bool{}
	}
	return c
}

// positions is at how many positions reads of a kind were made.
func (c *tornTally) positions(kind string) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.at[kind])
}

// fewest is at how many positions each kind of read was made at least.
func (c *tornTally) fewest() int {
	n := math.MaxInt
	for _, kind := range readKinds {
		n = min(n, c.positions(kind))
	}
	return n
}

// count is how many reads of the kinds were made.
func (c *tornTally) count(kinds ...string) (n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, kind := range kinds {
		n += c.reads[kind]
	}
	return n
}

// behind reports whether reads of the kinds are fewer a position than they have to be
// in the end.
func (c *tornTally) behind(wanted int, kinds ...string) bool {
	return c.count(kinds...)*positionsWanted < wanted*c.fewest()
}

func (c *tornTally) enough() bool {
	return c.fewest() >= positionsWanted && c.count(ofView, ofViews) >= reads() &&
		c.count(ofSink) >= sinkReadsWanted() && c.spilling.Load() >= spillsWanted &&
		c.kills >= killsWanted && c.stalls >= stallsWanted
}

// saw counts a read of what adds up to total at a position.
func (c *tornTally) saw(kind, position string, total int64) {
	if total != bankTotal {
		c.torn.Add(1)
		c.t.Errorf("torn: %s at %s: the total is %d, not %d", kind, position, total, bankTotal)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.reads[kind]++
	c.at[kind][position] = true
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
	c.saw(ofView, rows.Position().String(), n)
	m, err := view.At(ctx, b.left, b.right, b.both)
	if err != nil {
		c.t.Error(err)
		return view.Position{}
	}
	defer m.Close()
	at := m.Position().String()
	c.saw(ofViews, at, total(b.left.At(m).Range(ctx, view.Span[int32]{}))+
		total(b.right.At(m).Range(ctx, view.Span[int32]{})))
	c.saw(ofView, at, total(b.both.At(m).Range(ctx, view.Span[int32]{})))
	return m.Position()
}
