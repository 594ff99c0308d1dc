package tailrace

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tailrace/tailrace/internal/engine"
	"github.com/tailrace/tailrace/internal/engine/kafka"
	"github.com/tailrace/tailrace/record"
	"github.com/tailrace/tailrace/sinks"
	"github.com/tailrace/tailrace/sources"
	"github.com/tailrace/tailrace/state"
	"github.com/tailrace/tailrace/topology"
	"github.com/tailrace/tailrace/view"
)

// App runs topologies in this process: it reads their databases, keeps their state
// and views, and writes their targets. Make it with New, run it once with Run.
type App struct {
	cfg        Config
	log        *slog.Logger
	topologies []*topology.Topology
	metrics    *metrics
	host       *view.Host
	server     *view.Server // nil without Config.Addr
	peers      *view.Peers  // nil in direct mode
	ran        atomic.Bool
	verifying  sync.Mutex    // held while a client has the state verified
	started    chan struct{} // closed when the views are bound
	ended      chan struct{} // closed when Run returns

	mu     sync.Mutex
	runner runner         // nil before it is made, and where that fails
	engine *engine.Engine // in direct mode the same, else nil
	addr   net.Addr
	err    error // of Run, once it has ended

	dirMu sync.RWMutex // held while the state directory is looked at
	dir   *state.Dir   // nil while the app does not run
}

// String names the app; its configuration holds secrets.
func (a *App) String() string { return fmt.Sprintf("tailrace app %q", a.cfg.App) }

// GoString is String.
func (a *App) GoString() string { return a.String() }

// runner is an engine: that of direct mode or that of Kafka mode.
type runner interface {
	Run(ctx context.Context) error
	Status() engine.Status
}

// New checks the configuration and makes an app. It contacts nothing.
func New(cfg Config, topologies ...*topology.Topology) (*App, error) {
	if err := cfg.validate(topologies); err != nil {
		return nil, err
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.Default()
	}
	a := &App{
		cfg: cfg, log: cfg.Logger.With("app", cfg.App), topologies: topologies,
		started: make(chan struct{}), ended: make(chan struct{}),
	}
	a.metrics = newMetrics(cfg.App, a.lags, a.sizes)
	in, out := cfg.connectors(topologies)
	if cfg.Kafka == nil { // else the sources are partitions of topics, and the targets topics
		a.metrics.begin(topologies, &upCollector{
			databases: slices.Sorted(maps.Keys(in)), targets: slices.Sorted(maps.Keys(out)), status: a.Status,
		})
	}
	opts := view.HostOptions{}
	for name := range in {
		if cfg.Kafka == nil { // else the sources are partitions of topics
			opts.Sources = append(opts.Sources, name)
		}
	}
	a.peers = cfg.peers()
	a.host = view.NewHost(opts)
	if cfg.Addr != "" {
		var err error
		if a.server, err = view.NewServer(cfg.Addr, a.handler(), view.ServerOptions{
			Token: cfg.Token, TLS: cfg.TLS, Open: []string{"/livez", "/readyz"},
			Unbounded:   []string{"/verify", "/verify/state", "/deadletters", replayPath, dropPath},
			LargeBodies: map[string]int64{replayPath: maxLetterRequest, dropPath: maxLetterRequest},
		}); err != nil {
			return nil, fmt.Errorf("%w: Config.Addr: %w", ErrConfig, err)
		}
	}
	return a, nil
}

// Run runs the app until ctx ends, which is no error, or until something cannot go
// on. On the way out the last epoch is committed or dropped as a whole; a later Run
// of a new app over the same state directory continues from there.
func (a *App) Run(ctx context.Context) (err error) {
	if a.ran.Swap(true) {
		return ErrRunning
	}
	defer func() {
		a.mu.Lock()
		a.err = err
		close(a.ended)
		a.mu.Unlock()
	}()
	dir, err := state.OpenDir(a.cfg.StateDir, state.Identity{App: a.cfg.App},
		state.Options{Logger: a.log, BatchBytes: a.cfg.batchBytes()})
	if err != nil {
		return err
	}
	a.setDir(dir)
	defer func() { err = errors.Join(err, a.close(ctx, dir)) }()
	if a.server != nil {
		// Before the engine is made: the address is what other members reach this one by.
		if err := a.listen(); err != nil {
			return err
		}
	}
	eng, err := a.newRunner(dir)
	if err != nil {
		return errors.Join(err, a.unlisten())
	}
	close(a.started)
	ctx, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	defer func(stop func() error) { err = errors.Join(err, stop()) }(a.serve(ctx, fail))
	err = eng.Run(ctx)
	if p := (*topology.PanicError)(nil); errors.As(err, &p) {
		a.log.Error("a user function has panicked, and the app stops", "error", err, "stack", string(p.Stack))
	}
	return err
}

// close lets go of the state directory once no reader of a view holds a snapshot of it.
func (a *App) close(ctx context.Context, dir *state.Dir) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeTimeout)
	defer cancel()
	err := a.host.Close(ctx)
	a.setDir(nil)
	if a.peers != nil {
		a.peers.Close()
	}
	if err != nil {
		return fmt.Errorf("tailrace: a view is still being read %v after the end; the state directory %s stays "+
			"open, and locked, until the process ends: %w", closeTimeout, a.cfg.StateDir, err)
	}
	return dir.Close()
}

// newRunner makes the engine of the mode that the configuration asks for.
func (a *App) newRunner(dir *state.Dir) (runner, error) {
	in, out := a.cfg.connectors(a.topologies)
	address, err := a.advertise()
	if err != nil {
		return nil, err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if k := a.cfg.Kafka; k != nil {
		eng, err := kafka.New(kafka.Config{
			App: a.cfg.App, Topologies: a.topologies, Dir: dir, Sources: in, Targets: out,
			Host: a.host, Logger: a.log, Dropped: a.metrics.Dropped, Wiped: a.metrics.Wiped,
			Brokers: k.Brokers, Options: k.Options, InstanceID: k.InstanceID, Limits: k.limits(&a.cfg),
			Address: address, Standbys: k.Standbys, Restored: a.metrics.Restored, Standby: a.metrics.Standby,
		})
		if err != nil {
			return nil, err
		}
		a.runner = eng
		return eng, nil
	}
	eng, err := engine.New(engine.Config{
		App: a.cfg.App, Topologies: a.topologies, Dir: dir, Sources: in, Targets: out,
		Host: a.host, Logger: a.log, Observe: a.metrics, Limits: a.cfg.limits(),
		StopOnLostState: a.cfg.StopOnLostState, Partitions: a.cfg.Partitions,
	})
	if err != nil {
		return nil, err
	}
	a.runner, a.engine = eng, eng
	return eng, nil
}

func (a *App) setDir(d *state.Dir) {
	a.dirMu.Lock()
	defer a.dirMu.Unlock()
	a.dir = d
}

// closeTimeout bounds how long the end of Run waits for readers of views.
const closeTimeout = 10 * time.Second

// WaitReady waits until the views can be read, those of new and rebuilt topologies too:
// until the first snapshots are in and their topologies have come to where the others are,
// or hardly at all where there is state from before. The views of others can be read
// earlier; see WaitFor. Targets are not waited for, nor topologies that are held: /readyz and
// Status tell of those. It fails where Run ends first; Run's error says why.
func (a *App) WaitReady(ctx context.Context) error {
	select {
	case <-a.started:
	case <-a.ended:
		return ErrStopped
	case <-ctx.Done():
		return ctx.Err()
	}
	if err := a.WaitFor(ctx, nil); err != nil {
		return err
	}
	a.mu.Lock()
	eng := a.engine
	a.mu.Unlock()
	if eng == nil {
		return nil // in Kafka mode nobody joins later
	}
	select {
	case <-eng.Joined():
		return nil
	case <-a.ended:
		return ErrStopped
	case <-ctx.Done():
		return ctx.Err()
	}
}

// WaitFor waits until all views show the positions, as View.WaitFor does for one: take the
// position after a commit (pg_current_wal_flush_lsn), wait for it, read. Nil positions wait
// for the first commit. view.At reads several views at one position. It fails with the
// context's error, view.ErrUnknownSource, or ErrStopped where Run has ended.
func (a *App) WaitFor(ctx context.Context, positions record.Positions) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	go func() {
		select {
		case <-a.ended:
			cancel(ErrStopped)
		case <-ctx.Done():
		}
	}()
	err := a.host.WaitFor(ctx, positions)
	if err != nil && (errors.Is(err, view.ErrClosed) || errors.Is(context.Cause(ctx), ErrStopped)) {
		return ErrStopped
	}
	return err
}

// Handler serves the app's views, /metrics, /livez, /readyz, /plan and /deadletters, and
// /verify with Config.VerifySQL, for mounting in a server of your own; Config.Addr makes
// the app serve it itself.
func (a *App) Handler() http.Handler { return a.handler() }

// Addr returns the address that the app serves on, nil if it does not (yet).
func (a *App) Addr() net.Addr {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.addr
}

// Destroy removes what the app has left outside of its state directory: the slot and
// publications in its databases, and its progress in its targets. Results stay. The
// app must not be running: the error is state.ErrLocked where it runs on the same state
// directory, and sources.ErrInUse where its slot has a reader that answers; then targets
// are left alone. That is told within seconds, unless the reader acknowledges nothing and
// the role lacks pg_read_all_stats. In Kafka mode it is DropKafka: group and internal
// topics. The state directory is useless afterwards and is
// removed by whoever made it.
func (a *App) Destroy(ctx context.Context) error {
	in, out := a.cfg.connectors(a.topologies)
	lock, err := state.LockDir(a.cfg.StateDir, state.Options{})
	if err == nil {
		defer lock.Close() //nolint:errcheck // Nothing was written under it.
	} else if !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("tailrace: the app must not be running: %w", err)
	}
	if k := a.cfg.Kafka; k != nil {
		// Targets and sources are topics, of which nothing is the app's alone.
		_, err := DropKafka(ctx, a.cfg.App, *k, a.log)
		return err
	}
	failed := a.dropSources(ctx, in)
	if err := failed.join(); errors.Is(err, sources.ErrInUse) {
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(out)) {
		c := out[name]
		if c == nil {
			failed.add(fmt.Sprintf("target %q", name), errUnbound)
			continue
		}
		if err := c.Drop(ctx, sinks.DropRequest{App: a.cfg.App, Target: name, Logger: a.log}); err != nil {
			failed.add(fmt.Sprintf("target %q", name), err)
		}
	}
	return failed.join()
}

// errUnbound says why nothing was removed of a database or target.
var errUnbound = errors.New("it has no connector, so that what the app has left there stays; bind one and " +
	"destroy again")

// dropSources removes what is in databases, of the app and of its newcomers.
func (a *App) dropSources(ctx context.Context, in map[string]sources.Connector) (failed failures) {
	for _, name := range slices.Sorted(maps.Keys(in)) {
		c := in[name]
		if c == nil {
			failed.add(fmt.Sprintf("database %q", name), errUnbound)
			continue
		}
		if err := c.Drop(ctx, sources.DropRequest{App: a.cfg.App, Database: name, Logger: a.log}); err != nil {
			failed.add(fmt.Sprintf("database %q", name), err)
		}
	}
	return failed
}
