package sim

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/tailrace/tailrace/internal/engine"
	"github.com/tailrace/tailrace/internal/engine/kafka"
	"github.com/tailrace/tailrace/state"
	"github.com/tailrace/tailrace/topology"
	"github.com/tailrace/tailrace/view"
)

// errCrash ends the engine of a member that has crashed.
var errCrash = errors.New("sim: the process has crashed")

// member is a process of the app and its disk, which outlives it.
type member struct {
	world  *world
	number int

	mu   sync.Mutex
	disk *disk
	life *life // nil while it does not run
}

// life is one run of a member.
type life struct {
	member *member
	net    *network
	disk   *disk
	host   *view.Host
	views  []viewReader
	ctx    context.Context
	stop   context.CancelFunc
	// ended is closed when nothing of it runs any more.
	ended chan struct{}
	// crashed is closed when it has crashed, of which once is the first.
	crashed chan struct{}
	once    sync.Once
}

// begin starts the member over what is on its disk, unless it runs.
func (m *member) begin() error {
	m.mu.Lock()
	disk := m.disk
	running := m.life != nil
	m.mu.Unlock()
	if running {
		return nil
	}
	w := m.world
	l := &life{
		member: m, disk: disk, host: view.NewHost(view.HostOptions{}),
		ended: make(chan struct{}), crashed: make(chan struct{}),
	}
	l.ctx, l.stop = context.WithCancel(context.Background())
	l.net = newNetwork(w, func(key int16) (fate, func()) { return w.faults.request(l, key) })
	m.mu.Lock()
	m.life = l
	m.mu.Unlock()
	e, d, err := l.open()
	if err != nil {
		return fmt.Errorf("member %d: %w", m.number, err)
	}
	w.lives.Go(func() {
		defer close(l.ended)
		err := e.Run(l.ctx)
		closeErr := l.host.Close(context.Background())
		err = errors.Join(err, closeErr, d.Close())
		l.over(err)
	})
	return nil
}

// open opens the state and makes the engine.
func (l *life) open() (*kafka.Engine, *state.Dir, error) {
	m := l.member
	w := m.world
	dir := filepath.Join(w.dir, strconv.Itoa(m.number))
	log := w.logger.With("member", m.number)
	d, err := state.OpenDir(dir, state.Identity{App: w.app}, state.Options{
		FS:         errorfs.Wrap(l.disk, errorfs.InjectorFunc(l.operation)),
		CacheBytes: 1 << 20, MemTableBytes: 64 << 10, MinFreeBytes: -1, Logger: log,
	})
	if err != nil {
		return nil, nil, err
	}
	options := slices.Concat(quiet, []kgo.Opt{kgo.Dialer(l.net.dial), kgo.RebalanceTimeout(rebalance)})
	topo, views, err := w.plan.shape.topology(w, options)
	if err != nil {
		return nil, nil, errors.Join(err, d.Close())
	}
	l.views = views
	instance := ""
	if w.plan.static {
		instance = fmt.Sprint("member-", m.number)
	}
	in, out := engine.Connectors(topo)
	e, err := kafka.New(kafka.Config{
		App: w.app, Topologies: []*topology.Topology{topo}, Dir: d, Host: l.host, Logger: log,
		Sources: in, Targets: out, Brokers: w.brokers, Options: options,
		InstanceID: instance, Standbys: w.plan.standbys, Failpoint: l.hit, Wiped: w.wiped,
		Limits: kafka.Limits{
			CommitInterval: w.plan.interval, SessionTimeout: w.plan.session, TransactionTimeout: w.plan.timeout,
			Memory: 16 << 20,
			// The order of inputs is exact however long a broker does not answer.
			MaxIdle: time.Hour,
		},
	})
	if err != nil {
		return nil, nil, errors.Join(err, d.Close())
	}
	return e, d, nil
}

// quiet are options of all clients: metrics for brokers and compression only cost time here.
var quiet = []kgo.Opt{kgo.DisableClientMetrics(), kgo.ProducerBatchCompression(kgo.NoCompression())}

// rebalance is how long a group waits for members that do not join. In kfake a group may come to
// rest only when this has passed without anybody joining or leaving, which begins it anew: a member
// that leaves, or times out, while its SyncGroup waits is taken off the count of those that have
// joined, to which it did not belong, so that one is lacking however many join. Clients give a
// JoinGroup up after this and 10 s, leave, and join again a second later. With their default of
// 60 s three members in turn never let it pass; 3 s must pass within the 14 s of a turn, of which
// 3 s at most lie between a member's leaving and joining.
const rebalance = 3 * time.Second

// over is called when nothing of it runs any more. A member that has ended by itself is
// started again, as who looks after processes does.
func (l *life) over(err error) {
	m := l.member
	m.mu.Lock()
	itself := m.life == l && l.ctx.Err() == nil
	if m.life == l {
		m.life = nil
	}
	m.mu.Unlock()
	l.stop()
	if itself {
		m.world.ended(m, err)
	}
}

// operation is called before each operation of the disk.
func (l *life) operation(op errorfs.Op) error {
	if op.Kind.ReadOrWrite() == errorfs.OpIsWrite {
		l.member.world.faults.writes(l)
	}
	return nil
}

// hit is called by the engine's loop at the crash points.
func (l *life) hit(point string) error {
	select {
	case <-l.crashed:
		return errCrash
	default:
		return l.member.world.faults.hit(l, point)
	}
}

// crash ends the process at once. What it does after that reaches nobody. The disk loses some
// of what is not synced, or everything. It returns false if that has happened already.
func (l *life) crash(x *fault) (first bool) {
	l.once.Do(func() {
		first = true
		l.net.sever()
		left := newDisk()
		if x.percent >= 0 {
			left = l.disk.crash(x.percent, rand.New(rand.NewPCG(x.seed, 4)))
		}
		m := l.member
		m.mu.Lock()
		if m.life == l {
			m.disk, m.life = left, nil
		}
		m.mu.Unlock()
		l.stop()
		close(l.crashed)
	})
	return first
}

// running is the member's life, nil if it has none now.
func (m *member) running() *life {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.life
}

// leave ends the member in good order.
func (m *member) leave() {
	l := m.running()
	if l == nil {
		return
	}
	l.stop()
	select {
	case <-l.ended:
	case <-l.crashed:
	}
}

// lose has the member, which does not run, lose its disk.
func (m *member) lose() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.disk = newDisk()
}

// newLogger logs to the standard error if it is asked for.
func newLogger() *slog.Logger {
	if os.Getenv("TAILRACE_SIM_LOG") == "" {
		return slog.New(slog.DiscardHandler)
	}
	return slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug}))
}
