// Package engine runs topologies against databases and targets without a broker:
// direct mode. It owns the goroutines, the disk and the clock; what is computed is
// the task's business.
//
// One goroutine, the loop, takes whole transactions from the sessions, runs the
// tasks over them and commits epochs. Beside it run a reader for each session, a
// worker for each target, one goroutine for the batch that is on its way to the disk
// (inflight.go), and the joiner where topologies are new (joiner.go). The order of a
// commit is in commit.go and nowhere else.
package engine

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/tailrace/tailrace/record"
	"github.com/tailrace/tailrace/sinks"
	"github.com/tailrace/tailrace/sources"
	"github.com/tailrace/tailrace/state"
	"github.com/tailrace/tailrace/topology"
	"github.com/tailrace/tailrace/view"
)

// Config is what an engine runs. All fields without a default are required.
type Config struct {
	App        string
	Topologies []*topology.Topology
	Dir        *state.Dir
	// Sources and Targets are the connectors by the names of databases and targets.
	Sources map[string]sources.Connector
	Targets map[string]sinks.Connector
	Host    *view.Host
	Logger  *slog.Logger
	Observe Observer
	Limits  Limits
	// StopOnLostState stops with ErrStateLost where the state is gone and events would
	// be delivered again.
	StopOnLostState bool
	// Partitions above 1 cuts topologies and runs them in so many partitions.
	Partitions int
}

// Limits bound the work of an epoch and what waits for targets. Zero fields take
// their defaults.
type Limits struct {
	// EpochRows is the number of rows and messages after which an epoch is committed although
	// more are waiting. A transaction is never split, so an epoch can be larger.
	// Defaults to 20,000.
	EpochRows int
	// OneTransaction commits each transaction as an epoch of its own.
	OneTransaction bool
	// Memory is the budget of all stores in bytes; larger epochs spill to disk.
	// Defaults to 128 MiB.
	Memory int64
	// QueueBytes is how much may wait for one target before the sources stop being
	// read. Defaults to 1 GiB.
	QueueBytes int64
	// IdleCommit is how often an idle database's position is made durable, so that it
	// can forget its log. Defaults to 10 s.
	IdleCommit time.Duration
	// Retry is the longest pause between attempts to reach a source or target.
	// Defaults to 10 s.
	Retry time.Duration
	// MaxIdle is how long transactions wait for a database that may have earlier ones to
	// send and sends nothing, where a topology reads several. Defaults to 1 s.
	MaxIdle time.Duration
	// Stalled is after which time without progress the status says so. Defaults to 30 s.
	Stalled time.Duration
}

func (l Limits) withDefaults() Limits {
	if l.EpochRows <= 0 {
		l.EpochRows = 20_000
	}
	if l.Memory <= 0 {
		l.Memory = 128 << 20
	}
	if l.QueueBytes <= 0 {
		l.QueueBytes = 1 << 30
	}
	if l.IdleCommit <= 0 {
		l.IdleCommit = 10 * time.Second
	}
	if l.Retry <= 0 {
		l.Retry = 10 * time.Second
	}
	if l.MaxIdle <= 0 {
		l.MaxIdle = time.Second
	}
	if l.Stalled <= 0 {
		l.Stalled = 30 * time.Second
	}
	return l
}

// Observer receives what the engine measures. All methods must be cheap and safe
// for concurrent use.
type Observer interface {
	// Epoch reports a commit: transactions, rows, and how long it took to compute
	// and to commit.
	Epoch(e EpochStats)
	// Dropped counts records that a rule dropped.
	Dropped(topology, node, reason string, count int)
	// Delivered reports that a target has taken everything up to a commit time.
	Delivered(target string, epochs int, commitTime time.Time)
	// Emitted counts rows and events that have been queued for a target.
	Emitted(target string, items int)
	// StreamTime reports the stream time of a source node as of a commit.
	StreamTime(topology, node string, at time.Time)
	// Queued reports the bytes that wait for a target.
	Queued(target string, bytes int64)
	// TargetRetry counts a failed attempt to write a target.
	TargetRetry(target string, err error)
	// Replayed counts events that are delivered again after state was lost or rebuilt.
	Replayed(target string, events int)
	// Held reports that a topology stands still for the rest of the run, and why.
	Held(topology string, cause error)
	// Degraded reports how many keys a node has parked.
	Degraded(topology, node string, keys int)
	// Source returns the observer of a source's session.
	Source(database string) sources.Observer
}

// EpochStats describes one commit.
type EpochStats struct {
	Transactions, Rows int
	Compute, Commit    time.Duration
	// CommitTime is the source's commit time of the last transaction.
	CommitTime time.Time
	Positions  record.Positions
	Snapshot   bool
}

// Engine runs once.
type Engine struct {
	cfg    Config
	limits Limits
	log    *slog.Logger
	env    *state.Env

	runs      []*topologyRun
	databases []*databaseRun
	targets   []*targetRun

	seq    uint64           // the last commit
	before record.Positions // the frontier before the commit at hand
	epoch  epoch
	// inflight is the commit under way, nil without one.
	inflight *inflight
	// failed is the commit that failed, after which there is none: the stores hold what
	// the database may lack.
	failed error
	// known are the systems of databases that were not open when targets were checked.
	known map[string]string
	// delivering says that the targets' workers run.
	delivering bool
	// lingering ends the wait of an epoch that lingers.
	lingering *time.Timer
	// inOrder says that transactions are taken in the order of their commit times, waiting
	// is since when one of them has waited for a silent database, zero if none does.
	inOrder bool
	waiting time.Time
	until   []failedTx // see epoch.careful
	quietAt time.Time  // when positions alone were last made durable
	moved   bool       // positions or times are further than what is durable, or is becoming so
	pins    chan *pin
	due     []*pin
	// joiner brings new topologies up to the others, nil where there are none; asked is
	// its request to be let in. joins is set in the engine that a joiner runs: it names
	// the one that the topologies are to join.
	joiner *joiner
	asked  *joinAsk
	joins  *Engine
	// keep is what the sources have to keep for events of topologies that are joining,
	// which are not delivered before they have joined. Guarded by ackMu.
	keep record.Positions
	// withheld are databases of which nothing may be acknowledged yet; see withholdNew.
	// Guarded by ackMu.
	withheld map[string]bool
	// chosen says that it has been decided who joins by a joiner, joinedAll that none does
	// any more, when joined is closed.
	chosen, joinedAll bool
	joined            chan struct{}
	ended             chan struct{} // closed when Run has ended

	status status
	// nullGaps are the columns that warnNullGaps has named.
	nullGaps sync.Map
	// ackMu guards what acknowledge reads: committed, replay, old, held, joining
	// and unbegun of topologyRun, session and acked of databaseRun, and keep. The loop alone writes them,
	// and reads them without the lock; but while a topology is joining its old, and the
	// session that it hands over, are the joiner's.
	ackMu sync.Mutex
}

// New checks that everything fits together and loads the checkpoints. It contacts
// nothing but the state directory.
func New(cfg Config) (*Engine, error) {
	e := &Engine{
		cfg: cfg, limits: cfg.Limits.withDefaults(), log: cfg.Logger,
		pins: make(chan *pin, 16), ended: make(chan struct{}), joined: make(chan struct{}),
		lingering: time.NewTimer(0),
	}
	if e.log == nil {
		e.log = slog.New(slog.DiscardHandler)
	}
	if e.cfg.Observe == nil {
		e.cfg.Observe = nopObserver{}
	}
	e.env = &state.Env{
		DB: stores{e}, Memory: state.NewBudget(e.limits.Memory), Scratch: cfg.Dir.Scratch,
	}
	if err := e.loadSeq(); err != nil {
		return nil, err
	}
	for _, t := range cfg.Topologies {
		r, err := e.loadTopology(t)
		if err != nil {
			return nil, err
		}
		e.runs = append(e.runs, r)
	}
	if err := errors.Join(e.groupDatabases(), e.groupTargets(), e.bindViews()); err != nil {
		return e, err
	}
	e.inOrder = e.joinsDatabases()
	return e, e.dropOrphans()
}

// Run processes until ctx ends or something cannot go on; what was committed stays.
// Ending by ctx is no error.
func (e *Engine) Run(asked context.Context) (err error) {
	ctx, cancel := context.WithCancelCause(asked)
	defer close(e.ended)
	defer cancel(nil)
	var workers sync.WaitGroup
	defer func() {
		cancel(nil)
		workers.Wait()
		e.closeSessions() // when a joiner does not hand over any more
		err = errors.Join(err, e.env.Close())
	}()

	for _, d := range e.databases {
		e.status.openingSource(d.name)
	}
	for _, t := range e.targets {
		e.status.opening(t.name)
	}
	if err := e.publish(e.cfg.Dir.DB.NewSnapshot(), &epoch{}); err != nil {
		return e.outcome(asked, ctx, err, nil)
	}
	e.noteDegraded()
	for _, t := range e.targets {
		e.noteRefusedKeys(t)
	}
	if err := e.start(ctx); err != nil {
		return e.outcome(asked, ctx, err, e.failed)
	}
	if j := e.joiner; j != nil {
		joining, stop := context.WithCancel(ctx)
		j.stop, j.over = stop, make(chan struct{})
		workers.Go(func() {
			defer close(j.over) // and not stop: a session that it hands over is read under the same context
			if err := j.run(joining); err != nil && joining.Err() == nil {
				cancel(err)
			}
		})
	}
	e.delivering = true
	for _, t := range e.targets {
		workers.Go(func() {
			if err := e.deliver(ctx, t); err != nil {
				cancel(fmt.Errorf("engine: target %q: %w", t.name, err))
			}
		})
	}
	err = e.loop(ctx)
	// What is on its way to the disk arrives, and whoever is told of it may be.
	last := e.settle()
	if last == nil {
		last = e.failed
	}
	return e.outcome(asked, ctx, err, last)
}

// outcome turns the end of a run into its result. The caller's own context may end
// with any cause, which is no error; one that it does not have came from a worker. last is
// why the last commit failed, nil if it did not, which is one however the run ends.
func (e *Engine) outcome(asked, ctx context.Context, err, last error) error {
	if cause := context.Cause(ctx); cause != nil {
		err = cause
		if own := context.Cause(asked); own != nil && errors.Is(cause, own) {
			err = nil
		}
	}
	if last != nil && !errors.Is(err, last) {
		err = errors.Join(err, last)
	}
	e.status.stopped(err)
	return err
}

type nopObserver struct{}

func (nopObserver) Epoch(EpochStats)                     {}
func (nopObserver) Dropped(string, string, string, int)  {}
func (nopObserver) Delivered(string, int, time.Time)     {}
func (nopObserver) Emitted(string, int)                  {}
func (nopObserver) StreamTime(string, string, time.Time) {}
func (nopObserver) Queued(string, int64)                 {}
func (nopObserver) TargetRetry(string, error)            {}
func (nopObserver) Replayed(string, int)                 {}
func (nopObserver) Held(string, error)                   {}
func (nopObserver) Degraded(string, string, int)         {}
func (nopObserver) Source(string) sources.Observer       { return nil }
