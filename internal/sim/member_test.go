package sim

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	engine "github.com/tailrace/tailrace/internal/engine/kafka"
	"github.com/tailrace/tailrace/sinks"
	"github.com/tailrace/tailrace/sources"
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
	disk   *disk
	life   *life // nil while it does not run
}

// life is one run of a member.
type life struct {
	member *member
	net    *network
	disk   *disk
	host   *view.Host
	views  []viewReader
	stop   context.CancelFunc
	// ended is closed when nothing of it runs any more, after which err is set.
	ended chan struct{}
	err   error
	// crashed is closed when it has crashed.
	crashed chan struct{}
	dead    bool // of the engine's loop alone
}

// begin starts the member over what is on its disk.
func (m *member) begin() error {
	w := m.world
	l := &life{
		member: m, disk: m.disk, host: view.NewHost(view.HostOptions{}),
		ended: make(chan struct{}), crashed: make(chan struct{}),
	}
	l.net = newNetwork(&w.virtual, w.faults.request)
	dir := filepath.Join(w.dir, strconv.Itoa(m.number))
	if err := m.disk.MkdirAll(filepath.Join(dir, "db"), 0o700); err != nil {
		return err
	}
	log := w.logger.With("member", m.number)
	d, err := state.OpenDir(dir, state.Identity{App: w.app}, state.Options{
		FS: m.disk, CacheBytes: 1 << 20, MemTableBytes: 64 << 10, MinFreeBytes: -1, Logger: log,
	})
	if err != nil {
		return fmt.Errorf("member %d: %w", m.number, err)
	}
	options := []kgo.Opt{kgo.Dialer(l.net.dial)}
	topo, views, err := w.plan.shape.topology(w, options)
	if err != nil {
		return errors.Join(err, d.Close())
	}
	l.views = views
	e, err := engine.New(engine.Config{
		App: w.app, Topologies: []*topology.Topology{topo}, Dir: d, Host: l.host, Logger: log,
		Sources: connectors(topo), Targets: targets(topo), Brokers: w.brokers, Options: options,
		Standbys: w.plan.standbys, Failpoint: l.hit,
		Limits: engine.Limits{
			CommitInterval: w.plan.interval, SessionTimeout: sessionTimeout, TransactionTimeout: transactionTimeout,
			Memory: 16 << 20,
			// The order of inputs is exact however long a broker does not answer.
			MaxIdle: time.Hour,
		},
	})
	if err != nil {
		return errors.Join(err, d.Close())
	}
	ctx, cancel := context.WithCancel(context.Background())
	l.stop, m.life = cancel, l
	w.lives.Go(func() {
		defer close(l.ended)
		err := e.Run(ctx)
		closeErr := l.host.Close(context.Background())
		l.err = errors.Join(err, closeErr, d.Close())
		cancel()
	})
	return nil
}

// hit is called by the engine's loop at the crash points.
func (l *life) hit(point string) error {
	if l.dead {
		return errCrash
	}
	return l.member.world.faults.hit(l, point)
}

// crash ends the process at once. What it does after that reaches nobody.
func (l *life) crash(percent int) error {
	l.dead = true
	l.net.sever()
	l.member.disk = l.disk.crash(percent, l.member.world.random)
	l.stop()
	close(l.crashed)
	return errCrash
}

// leave ends the member in good order.
func (m *member) leave() {
	l := m.life
	l.stop()
	select {
	case <-l.ended:
	case <-l.crashed:
	}
	m.life = nil
}

func connectors(t *topology.Topology) map[string]sources.Connector {
	out := map[string]sources.Connector{}
	for _, n := range t.Nodes() {
		if s, ok := n.Source.(*sources.Spec); ok {
			out[s.Database.Name()] = s.Database.Connector()
		}
	}
	return out
}

func targets(t *topology.Topology) map[string]sinks.Connector {
	out := map[string]sinks.Connector{}
	for _, n := range t.Nodes() {
		if s, ok := n.Sink.(*sinks.Spec); ok {
			out[s.Target.Name()] = s.Target.Connector()
		}
	}
	return out
}

// newLogger logs to the standard error if it is asked for.
func newLogger() *slog.Logger {
	if os.Getenv("TAILRACE_SIM_LOG") == "" {
		return slog.New(slog.DiscardHandler)
	}
	return slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug}))
}
