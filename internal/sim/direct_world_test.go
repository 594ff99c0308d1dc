package sim

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"path/filepath"
	"sync"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"github.com/tailrace/tailrace/internal/engine"
	"github.com/tailrace/tailrace/internal/failpoint"
	"github.com/tailrace/tailrace/internal/pgdial"
	"github.com/tailrace/tailrace/internal/sim/walsender"
	"github.com/tailrace/tailrace/operators"
	"github.com/tailrace/tailrace/operators/aggregate"
	"github.com/tailrace/tailrace/sinks"
	"github.com/tailrace/tailrace/sources"
	"github.com/tailrace/tailrace/sources/postgres"
	"github.com/tailrace/tailrace/state"
	"github.com/tailrace/tailrace/topology"
	"github.com/tailrace/tailrace/view"
)

// directWorld is one run of direct mode.
type directWorld struct {
	plan   *directPlan
	dir    string
	logger *slog.Logger
	server *walsender.Server
	script *directScript
	target *directTarget
	later  sync.WaitGroup

	oracleMu sync.Mutex
	oracle   *directOracle

	mu      sync.Mutex
	life    *directLife
	disk    *disk
	closing bool
	calm    bool
	lost    bool   // the slot, so that changes were never seen
	latest  uint64 // end of a transaction with rows that views have shown
	failed  error
	hits    map[string]int
}

// directLife is one run of the app.
type directLife struct {
	world *directWorld
	disk  *disk
	host  *view.Host
	views []directView
	ctx   context.Context
	stop  context.CancelFunc
	ended chan struct{}

	once    sync.Once
	crashed chan struct{}
}

// directView reads all rows of a view at a moment.
type directView struct {
	name string
	rows func(ctx context.Context, m *view.Moment) (rows map[string]string, at uint64, err error)
}

func (l *directLife) isCrashed() bool {
	select {
	case <-l.crashed:
		return true
	default:
		return false
	}
}

type (
	dbOrder struct {
		Customer string
		Cents    int64
		Note     string
	}
	dbCustomer struct{ Name string }
	dbNamed    struct {
		Name  string
		Cents int64
		Note  string
	}
	said struct{ Text string }
)

// directURL names an address that is nobody's.
const directURL = "postgres://tailrace@192.0.2.1:5432/shop?sslmode=disable"

// runDirect simulates a plan, and returns what was wrong.
func runDirect(p *directPlan, dir string, count func(what string)) (err error) {
	orders, customers := directTables(p.full)
	w := &directWorld{
		plan: p, dir: dir, logger: newLogger(), disk: newDisk(), hits: map[string]int{},
		server: walsender.New(p.seed, orders, customers),
	}
	w.oracle = &directOracle{server: w.server}
	w.script = newDirectScript(p, w.server, orders, customers)
	w.target = &directTarget{world: w, tables: map[string]map[string]string{}, events: map[string]int{}}
	defer pgdial.Instead(func(ctx context.Context, _, _ string) (net.Conn, error) {
		return w.server.Dial(ctx)
	})()
	for _, point := range directPoints {
		defer failpoint.Set(point, func(int) error { return w.hit(point) })()
	}
	defer func() {
		w.close()
		err = errors.Join(err, w.server.Unknown())
		w.count(count)
	}()
	if err := w.run(); err != nil {
		w.mu.Lock()
		defer w.mu.Unlock()
		return errors.Join(err, w.failed)
	}
	return nil
}

func (w *directWorld) run() error {
	for range w.plan.before {
		if err := w.script.step(); err != nil {
			return err
		}
	}
	w.reached(w.plan.before)
	if err := w.begin(); err != nil {
		return err
	}
	for i := w.plan.before; i < w.plan.transactions; i++ {
		w.reached(i)
		if err := w.script.step(); err != nil {
			return err
		}
		time.Sleep(time.Duration(w.script.random.Int64N(int64(w.plan.pace) + 1))) // the rate of the load
		if err := w.look(); err != nil {
			return err
		}
	}
	time.Sleep(time.Duration(w.script.random.IntN(3000)) * time.Millisecond) // what is armed may happen still
	if err := w.script.finish(); err != nil {
		return err
	}
	w.mu.Lock()
	w.calm = true
	w.mu.Unlock()
	w.server.Calm()
	w.server.Start()
	return w.settle()
}

// settle waits until views and target hold everything.
func (w *directWorld) settle() error {
	all := w.server.Committed()
	end := all[len(all)-1].End
	deadline := time.Now().Add(2 * bound)
	for {
		at, err := w.shown()
		if err != nil {
			return err
		}
		w.target.mu.Lock()
		lacks := w.target.check(end) // at which it need not stand: nothing may have come for it
		w.target.mu.Unlock()
		w.mu.Lock()
		failed := w.failed
		w.mu.Unlock()
		switch {
		case failed != nil:
			return failed
		case at >= end && lacks == nil:
			return nil
		case time.Now().After(deadline):
			return fmt.Errorf("the log ends at %X, views are at %X, the target: %w", end, at, lacks)
		}
		time.Sleep(200 * time.Millisecond) // virtual, between two looks
	}
}

// look compares the views with what they are to show, and tells of what else is wrong.
func (w *directWorld) look() error {
	_, err := w.shown()
	w.mu.Lock()
	defer w.mu.Unlock()
	return errors.Join(err, w.failed)
}

// shown is the position that the views show, 0 where they show none.
func (w *directWorld) shown() (uint64, error) {
	w.mu.Lock()
	l := w.life
	w.mu.Unlock()
	if l == nil {
		return 0, nil
	}
	ctx := context.Background()
	m, err := l.host.At(ctx)
	if err != nil {
		return 0, nil // There is none yet, or the app has ended.
	}
	defer m.Close()
	position, end := uint64(0), uint64(0)
	for _, v := range l.views {
		rows, at, err := v.rows(ctx, m)
		if err != nil || at == 0 {
			return 0, nil // not yet
		}
		w.oracleMu.Lock()
		state := w.oracle.at(at)
		want := state.results()[v.name]
		end = state.end
		w.oracleMu.Unlock()
		if err := different(fmt.Sprintf("view %s at %X", v.name, at), rows, want); err != nil {
			return 0, err
		}
		position = at
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if end < w.latest && !w.lost {
		return 0, fmt.Errorf("views have had the transaction up to %X and are at %X", w.latest, position)
	}
	w.latest = max(w.latest, end)
	return position, nil
}

// fail notes what is wrong.
func (w *directWorld) fail(err error) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.failed = errors.Join(w.failed, err)
	return err
}

// begin starts the app over what is on its disk, unless it runs.
func (w *directWorld) begin() error {
	w.mu.Lock()
	if w.life != nil || w.closing {
		w.mu.Unlock()
		return nil
	}
	l := &directLife{
		world: w, disk: w.disk, host: view.NewHost(view.HostOptions{}),
		ended: make(chan struct{}), crashed: make(chan struct{}),
	}
	l.ctx, l.stop = context.WithCancel(context.Background())
	w.life = l
	w.mu.Unlock()
	e, d, err := l.open()
	if err != nil {
		return err
	}
	w.later.Go(func() {
		err := e.Run(l.ctx)
		err = errors.Join(err, l.host.Close(context.Background()), d.Close())
		w.over(l, err)
	})
	return nil
}

func (l *directLife) open() (*engine.Engine, *state.Dir, error) {
	w := l.world
	dir := filepath.Join(w.dir, "direct")
	d, err := state.OpenDir(dir, state.Identity{App: "sim"}, state.Options{
		FS:         errorfs.Wrap(l.disk, errorfs.InjectorFunc(l.operation)),
		CacheBytes: 1 << 20, MemTableBytes: 64 << 10, MinFreeBytes: -1, Logger: w.logger,
	})
	if err != nil {
		return nil, nil, err
	}
	source := postgres.Source(postgres.Config{
		URL: directURL, Streaming: w.plan.streaming, SnapshotChunkRows: 20,
	})
	topo, err := l.topology(source)
	if err != nil {
		return nil, nil, errors.Join(err, d.Close())
	}
	e, err := engine.New(engine.Config{
		App: "sim", Topologies: []*topology.Topology{topo}, Dir: d, Host: l.host, Logger: w.logger,
		Sources: map[string]sources.Connector{"shop": source},
		Targets: map[string]sinks.Connector{"out": directConnector{w.target, l}},
		Limits: engine.Limits{
			EpochRows: w.plan.epochRows, OneTransaction: w.plan.single, Memory: w.plan.memory,
			QueueBytes: w.plan.queue, IdleCommit: time.Second, Retry: time.Second,
		},
	})
	if err != nil {
		return nil, nil, errors.Join(err, d.Close())
	}
	return e, d, nil
}

func (l *directLife) topology(source sources.Connector) (*topology.Topology, error) {
	b := topology.New("sales")
	db := sources.NewDatabase("shop", source)
	out := sinks.NewTarget("out", directConnector{})
	orders := sources.Table[int64, dbOrder](b, db, "public.orders")
	customers := sources.Table[string, dbCustomer](b, db, "public.customers")
	named := operators.JoinForeignKey("named", orders, customers,
		func(o dbOrder) string { return o.Customer },
		func(o dbOrder, c dbCustomer) dbNamed { return dbNamed{c.Name, o.Cents, o.Note} })
	showDirect(l, named, out, "named", func(n dbNamed) string {
		return fmt.Sprint(n.Name, " ", n.Cents, " ", n.Note)
	})
	sum := operators.Aggregate("revenue",
		operators.GroupBy(orders, func(_ int64, o dbOrder) string { return o.Customer }), aggregate.Combine2(
			aggregate.Count[dbOrder](), aggregate.Sum(func(o dbOrder) int64 { return o.Cents }),
			func(n, cents int64) revenue { return revenue{n, cents} }))
	showDirect(l, sum, out, "revenue", func(r revenue) string { return fmt.Sprint(r.Orders, " ", r.Cents) })
	if !l.world.plan.streaming {
		messages := operators.MapStreamValues(sources.Messages(b, db, "outbox"),
			func(_ string, text []byte) said { return said{string(text)} })
		sinks.Stream(messages, out, "said")
	}
	return b.Build()
}

// showDirect writes a table to the target, and shows it as a view.
func showDirect[K comparable, V any](
	l *directLife, t topology.Table[K, V], out *sinks.Target, name string, text func(V) string,
) {
	sinks.Table(t, out, name)
	v := sinks.View(t, name)
	l.views = append(l.views, directView{name, func(
		ctx context.Context, m *view.Moment,
	) (map[string]string, uint64, error) {
		all, reader := map[string]string{}, v.At(m)
		rows := reader.Range(ctx, view.All[K]())
		for key, value := range rows.All() {
			all[fmt.Sprint(key)] = text(value)
		}
		return all, rows.Position().Sources["shop"], rows.Err()
	}})
}

// over is called when nothing of a life runs any more. An app that has ended by itself is an
// error, unless the slot was lost: then it begins anew, as an operator does.
func (w *directWorld) over(l *directLife, err error) {
	w.mu.Lock()
	itself := !l.isCrashed() && l.ctx.Err() == nil
	if w.life == l {
		w.life = nil
	}
	w.mu.Unlock()
	l.stop()
	defer close(l.ended)
	switch {
	case !itself:
		if !l.isCrashed() && err != nil {
			_ = w.fail(fmt.Errorf("the app has ended in good order with: %w", err))
		}
	case errors.Is(err, sources.ErrDataGap) && w.lost:
		w.server.Drop()
		w.mu.Lock()
		w.disk = newDisk()
		w.mu.Unlock()
		w.beginLater(l, time.Second)
	default:
		_ = w.fail(fmt.Errorf("the app has ended by itself: %w", err))
	}
}

// beginLater starts the app again when a life of it is over.
func (w *directWorld) beginLater(l *directLife, after time.Duration) {
	w.later.Go(func() {
		<-l.ended
		time.Sleep(after) // how long it is gone
		if err := w.begin(); err != nil {
			_ = w.fail(err)
		}
	})
}

// operation is called before each operation of the disk.
func (l *directLife) operation(op errorfs.Op) error {
	if op.Kind.ReadOrWrite() == errorfs.OpIsWrite {
		if f := l.world.find(func(f *directFault) bool { return f.harm == dCrashDisk }); f != nil {
			l.crash(f)
		}
	}
	return nil
}

// crash ends the process at once: what it does after that reaches nobody.
func (l *directLife) crash(f *directFault) {
	l.once.Do(func() {
		w := l.world
		left := l.disk.crash(f.percent, rand.New(rand.NewPCG(f.seed, 4)))
		close(l.crashed)
		w.server.Disconnect()
		w.mu.Lock()
		w.disk = left
		w.mu.Unlock()
		l.stop()
		w.beginLater(l, f.lasts)
	})
}

// close ends everything.
func (w *directWorld) close() {
	w.mu.Lock()
	w.closing = true
	l := w.life
	w.mu.Unlock()
	if l != nil {
		l.stop()
	}
	w.later.Wait()
	w.server.Close()
}
