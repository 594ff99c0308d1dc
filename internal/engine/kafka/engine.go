// Package kafka runs topologies as a Kafka consumer group: Kafka mode. What is computed is
// the task's business; here are the group, the transactions and the order of a commit.
//
// One goroutine, the loop, polls the records of all partitions that this member owns, feeds
// them to the tasks in the order of their timestamps, and ends each cycle with one
// transaction that holds the tasks' changelogs, their outputs and the offsets. State
// reaches the disk only after that transaction is known to have committed, together with
// the changelogs' offsets, so it is never ahead of the log (invariants K1 to K4).
package kafka

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/tailrace/tailrace/changelog"
	"github.com/tailrace/tailrace/internal/failpoint"
	"github.com/tailrace/tailrace/internal/kafka"
	"github.com/tailrace/tailrace/sinks"
	"github.com/tailrace/tailrace/sources"
	"github.com/tailrace/tailrace/state"
	"github.com/tailrace/tailrace/topology"
	"github.com/tailrace/tailrace/view"
)

// Option is an option of every client.
type Option = kgo.Opt

// ErrInUse says that an app cannot be dropped, since its group has members.
var ErrInUse = kafka.ErrInUse

// Drop deletes an app's group and its internal topics, which it returns.
func Drop(
	ctx context.Context, brokers []string, options []Option, app string, log *slog.Logger,
) ([]string, error) {
	return kafka.DropApp(ctx, brokers, options, app, log)
}

// Config is what an engine runs. All fields without a default are required.
type Config struct {
	// App names the consumer group and begins the names of all internal topics.
	App        string
	Topologies []*topology.Topology
	Dir        *state.Dir
	Sources    map[string]sources.Connector
	Targets    map[string]sinks.Connector
	Host       *view.Host
	Logger     *slog.Logger
	// Dropped counts records that a rule dropped, Wiped tasks whose local state was given
	// up; nil drops the count.
	Dropped func(topology, node, reason string, count int)
	Wiped   func(task string, reason changelog.Reason)
	// Restored is told how many records of changelogs a task was restored from when it came to
	// this member, Standby how many offsets the state of one that is followed lacks. Nil is not
	// told.
	Restored func(task string, records int64)
	Standby  func(task string, lag int64)

	Brokers []string
	// Options go to every client.
	Options []Option
	// InstanceID makes the member static; "" does not.
	InstanceID string
	// Address is where the other members ask this one for its parts of views, host:port; ""
	// if they cannot.
	Address string
	// Standbys is how many other members follow the changelogs of each task.
	Standbys int
	Limits   Limits
	// Failpoint is called at the named crash points, and its error ends the engine. Nil is
	// failpoint.Hit; a simulation of several members in one process tells them apart by it.
	Failpoint func(point string) error
}

// Limits bound a cycle. Zero fields take their defaults.
type Limits struct {
	// CommitInterval is how long a transaction gathers records. Defaults to 100 ms.
	CommitInterval time.Duration
	// Records is after how many records a transaction ends before that. Defaults to 20,000.
	Records int
	// Memory is the budget of all stores in bytes. Defaults to 128 MiB.
	Memory int64
	// TransactionTimeout is how long the cluster leaves a transaction open that nobody ends.
	// Defaults to 15 s.
	TransactionTimeout time.Duration
	// SessionTimeout is after how long without a sign of life a member counts as gone.
	// Defaults to 45 s.
	SessionTimeout time.Duration
	// Retry is the pause before a new session after one that ended badly. Defaults to 1 s.
	Retry time.Duration
	// MaxIdle is how long a task waits for records that a partition holds, or for the word
	// that it holds none, before it goes on with those of others. Defaults to 10 s.
	MaxIdle time.Duration
}

func (l Limits) withDefaults() Limits {
	if l.CommitInterval <= 0 {
		l.CommitInterval = 100 * time.Millisecond
	}
	if l.Records <= 0 {
		l.Records = 20_000
	}
	if l.Memory <= 0 {
		l.Memory = 128 << 20
	}
	if l.Retry <= 0 {
		l.Retry = time.Second
	}
	if l.TransactionTimeout <= 0 {
		l.TransactionTimeout = 15 * time.Second
	}
	if l.SessionTimeout <= 0 {
		l.SessionTimeout = 45 * time.Second
	}
	if l.MaxIdle <= 0 {
		l.MaxIdle = 10 * time.Second
	}
	return l
}

// Engine runs once.
type Engine struct {
	cfg    Config
	limits Limits
	log    *slog.Logger
	hit    func(point string) error
	budget *state.Budget

	subs    []*subTopology
	readers map[*topology.Exchange]*subTopology
	// exchangeTopics are the names of their topics, once they were asked for.
	exchangeTopics map[*topology.Exchange]string

	targets []*target
	bound   []boundStore // of views

	members  members
	standbys standbys
	session  *kafka.Session
	// admin is for everything outside of the group, restorer for the changelogs.
	admin *kgo.Client
	// beats reads heartbeats, nil while no task needs any.
	beats    *kgo.Client
	restorer *changelog.Restorer
	cluster  string
	rounds   int  // of the session's ownership that tasks reflects
	begun    bool // a transaction is open
	// Of the deletion of consumed records: when it is due, up to where it was asked for; purging
	// holds one entry while one is under way.
	purgeEvery time.Duration
	purgeNext  time.Time
	purged     map[kafka.Partition]int64
	purging    chan struct{}
	// handoverNext is when the ends of exchanges may be asked for again.
	handoverNext time.Time
	// throughTopics hands nothing over; tests set it.
	throughTopics bool
	tasks         map[taskID]*taskRun
	seq           uint64 // of commits, for views
	status        status
	// running ends with Run; verifiable are the tasks that other goroutines may look at.
	running    context.Context
	ended      context.CancelFunc
	verifiable atomic.Pointer[[]changelog.Task]
	woken      chan struct{}
	// refused is why the group gives this member nothing, for good.
	refused atomic.Pointer[error]
}

// New checks that the topologies can run on topics, and contacts nothing.
func New(cfg Config) (*Engine, error) {
	e := &Engine{
		cfg: cfg, limits: cfg.Limits.withDefaults(), log: cfg.Logger, hit: cfg.Failpoint,
		tasks: map[taskID]*taskRun{}, woken: make(chan struct{}, 1),
		readers: map[*topology.Exchange]*subTopology{}, exchangeTopics: map[*topology.Exchange]string{},
		purgeEvery: defaultPurge, purged: map[kafka.Partition]int64{}, purging: make(chan struct{}, 1),
	}
	if e.hit == nil {
		e.hit = failpoint.Hit
	}
	if e.log == nil {
		e.log = slog.New(slog.DiscardHandler)
	}
	e.running, e.ended = context.WithCancel(context.Background())
	e.budget = state.NewBudget(e.limits.Memory)
	if err := e.plan(); err != nil {
		return nil, err
	}
	if err := e.groupTargets(); err != nil {
		return nil, err
	}
	return e, e.bindViews()
}

// Run processes until ctx ends or something cannot go on; what was committed stays.
// Ending by ctx is no error.
func (e *Engine) Run(ctx context.Context) (err error) {
	defer e.ended()
	defer func() { e.status.stopped(err) }()
	for {
		err := e.runSession(ctx)
		switch {
		case ctx.Err() != nil:
			return nil
		case err == nil || !errors.Is(err, errSession):
			return err
		}
		e.status.lost(e.cfg.App, err)
		e.log.Warn("the group session has ended; a new one begins from what is committed", "error", err)
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(e.limits.Retry):
		}
	}
}

// errSession marks what a new session mends.
var errSession = errors.New("kafka engine: session")

// sessionError marks an error of the cluster that passes.
func sessionError(err error) error {
	if err == nil || !kafka.Passes(err) {
		return err
	}
	return fmt.Errorf("%w: %w", errSession, err)
}

// runSession joins the group and runs cycles until something fails. Nothing of it
// survives but what the disk holds.
func (e *Engine) runSession(ctx context.Context) (err error) {
	if e.admin, err = kgo.NewClient(append(
		[]kgo.Opt{kgo.SeedBrokers(e.cfg.Brokers...), kgo.ClientID("tailrace")}, e.cfg.Options...,
	)...); err != nil {
		return fmt.Errorf("kafka: Config.Kafka: %w", err)
	}
	defer e.endPurge()
	defer e.admin.Close()
	if err := e.prepare(ctx); err != nil {
		return sessionError(err)
	}
	balancer, err := e.newBalancer()
	if err != nil {
		return err
	}
	e.session, err = kafka.OpenSession(ctx, kafka.SessionConfig{
		Brokers: e.cfg.Brokers, Options: e.cfg.Options, Group: e.cfg.App,
		TransactionalID: e.cfg.App + "-" + e.cfg.Dir.Incarnation(),
		InstanceID:      e.cfg.InstanceID, Topics: e.topics(), Balancer: balancer,
		TransactionTimeout: e.limits.TransactionTimeout, SessionTimeout: e.limits.SessionTimeout,
		Woken: e.wake, Logger: e.log,
	})
	if err != nil {
		return sessionError(err)
	}
	e.rounds, e.begun = -1, false
	defer func() {
		e.members.forget()
		e.restartBeats()
		e.verifiable.Store(nil)
		e.standbys.want(nil)
		e.unfollowAll()
		err = errors.Join(err, e.hit(failpoint.KafkaClosing), e.closeTasks())
		e.session.Close()
	}()
	for ctx.Err() == nil {
		if err := e.cycle(ctx); err != nil {
			return err
		}
	}
	return nil
}

func (e *Engine) wake() {
	select {
	case e.woken <- struct{}{}:
	default:
	}
}
