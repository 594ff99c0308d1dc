package engine

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tailrace/tailrace/record"
	"github.com/tailrace/tailrace/sinks"
	"github.com/tailrace/tailrace/sources"
	"github.com/tailrace/tailrace/state"
	"github.com/tailrace/tailrace/topology"
	"github.com/tailrace/tailrace/view"
)

var items = &record.Relation{Schema: "public", Name: "items", Columns: []record.Column{
	{Name: "id", Type: "bigint", TypeOID: 20, TypeMod: -1, Key: true, NotNull: true},
	{Name: "name", Type: "text", TypeOID: 25, TypeMod: -1, NotNull: true},
}}

// moreItems is a table of which nothing comes.
var moreItems = &record.Relation{Schema: "public", Name: "more", Columns: items.Columns}

type item struct{ Name string }

// scriptedSource is a connector over a log that the test appends to.
type scriptedSource struct {
	name  string // of the database
	idle  uint64 // the frontier of which each session tells once the log has been read
	mu    sync.Mutex
	log   []sources.TxRows
	more  chan struct{} // closed, and made anew, when there is more
	asked int           // calls of Next that found a transaction
	acks  chan uint64
	acked uint64
	// fails ends a session once the log has been read, refuses fails Open, and
	// refusesJoining that of a session beside another.
	fails, refuses, refusesJoining error
	// timeline is what sessions tell, opens what Open was asked.
	timeline atomic.Uint32
	opens    []sources.OpenRequest
	// gate holds up the snapshots of sessions beside another until it is closed, if it is
	// not nil; dropped names the apps whose slots were dropped.
	gate    chan struct{}
	dropped []string
	// endsJoining is asked where a session beside another has given all there is, nil if
	// such sessions never end.
	endsJoining func() error
	// opening is called by Open, nil if that takes no time.
	opening func()
	// breaks is asked before each look at the log, of a session beside another or not, nil if
	// no session ends so.
	breaks func(joins bool) error
	// pad is by how much items' names are made longer.
	pad int
	// refusesDrops is why no slot can be dropped, nil if they can; drops counts attempts.
	refusesDrops error
	drops        int
	closed       int // sessions
}

func newSource() *scriptedSource {
	return &scriptedSource{name: "shop", more: make(chan struct{}), acks: make(chan uint64, 1000)}
}

// tx appends a transaction that inserts items, named for their keys.
func (s *scriptedSource) tx(snapshot bool, keys ...int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := uint64(len(s.log) + 1)
	tx := &record.Tx{
		Source: s.name, Position: n * 16, CommitStart: n*16 - 8, CommitTime: int64(n), Snapshot: snapshot,
	}
	if snapshot {
		tx.CommitStart = 0
	}
	p := sources.TxRows{Tx: tx, Last: true}
	for i, key := range keys {
		id := strconv.Itoa(key)
		name := "item " + id + strings.Repeat(".", s.pad)
		p.Rows = append(p.Rows, record.Row{Rel: items, Op: record.Insert, Ordinal: uint32(i), New: record.Tuple{
			{Kind: record.Text, Data: []byte(id)}, {Kind: record.Text, Data: []byte(name)},
		}})
	}
	s.log = append(s.log, p)
	s.tell()
}

// tell lets all sessions look again. s.mu is held.
func (s *scriptedSource) tell() {
	close(s.more)
	s.more = make(chan struct{})
}

// handedOut is how many transactions sessions have given away.
func (s *scriptedSource) handedOut() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.asked
}

func (s *scriptedSource) durable() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.acked
}

func (s *scriptedSource) Identify(context.Context) (string, error) { return "scripted", nil }

func (s *scriptedSource) Open(_ context.Context, req sources.OpenRequest) (sources.Session, error) {
	if s.opening != nil {
		s.opening()
	}
	s.mu.Lock()
	refuses := s.refuses
	if refuses == nil {
		s.opens = append(s.opens, req)
	}
	s.mu.Unlock()
	if refuses != nil {
		return nil, refuses
	}
	if req.Joins != "" && s.refusesJoining != nil {
		return nil, s.refusesJoining
	}
	for i := range s.log {
		if s.log[i].Tx.Snapshot && req.Observe != nil {
			req.Observe.SnapshotProgress("public.items", int64(len(s.log[i].Rows)), 0)
		}
	}
	session := &scriptedSession{source: s, resume: req.Resume, joins: req.Joins != ""}
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, p := range s.log {
		if p.Tx.Snapshot && req.Resume == 0 {
			session.at = i // a later snapshot is what there is now
		}
	}
	return session, nil
}

func (s *scriptedSource) Drop(_ context.Context, req sources.DropRequest) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.drops++; s.refusesDrops == nil {
		s.dropped = append(s.dropped, req.App)
	}
	return s.refusesDrops
}

type scriptedSession struct {
	source *scriptedSource
	resume uint64
	at     int
	idle   uint64 // what it has said of that
	joins  bool
}

func (s *scriptedSession) System() string { return "scripted" }

func (s *scriptedSession) Close() error {
	s.source.mu.Lock()
	defer s.source.mu.Unlock()
	s.source.closed++
	return nil
}

func (s *scriptedSession) Timeline() uint32 { return s.source.timeline.Load() }

func (s *scriptedSession) Relations() map[string]*record.Relation {
	return map[string]*record.Relation{items.String(): items, moreItems.String(): moreItems}
}

func (s *scriptedSession) Next(ctx context.Context) (*sources.Batch, error) {
	if s.joins && s.source.gate != nil {
		select {
		case <-s.source.gate:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	for {
		if s.source.breaks != nil {
			if err := s.source.breaks(s.joins); err != nil {
				return nil, err
			}
		}
		b, more := s.take()
		if b != nil {
			return b, nil
		}
		if s.source.fails != nil {
			return nil, s.source.fails
		}
		if s.joins && s.source.endsJoining != nil {
			if err := s.source.endsJoining(); err != nil {
				return nil, err
			}
		}
		select {
		case <-more:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

func (s *scriptedSession) take() (*sources.Batch, <-chan struct{}) {
	s.source.mu.Lock()
	defer s.source.mu.Unlock()
	for s.at < len(s.source.log) {
		p := s.source.log[s.at]
		s.at++
		if p.Tx.Snapshot && s.resume == 0 || !p.Tx.Snapshot && p.Tx.CommitStart >= s.resume {
			s.source.asked++
			return &sources.Batch{Txs: []sources.TxRows{p}}, nil
		}
	}
	if s.source.idle > s.idle {
		s.idle = s.source.idle
		return &sources.Batch{Idle: s.source.idle}, nil
	}
	return nil, s.source.more
}

func (s *scriptedSession) Ack(position uint64) {
	if s.joins {
		return // of a slot of its own
	}
	s.source.mu.Lock()
	s.source.acked = position
	s.source.mu.Unlock()
	s.source.acks <- position
}

// memoryTarget is a transactional target in memory.
type memoryTarget struct {
	mu     sync.Mutex
	seq    uint64
	holds  bool
	check  func(sinks.OpenRequest) error // nil: nothing is wrong
	open   func() error                  // nil: it opens
	refuse func() error                  // nil: it takes everything
	opened sinks.OpenRequest             // the last one
	taken  chan deliveredItem            // what it took
	walks  [][]deliveredItem             // what each Apply was given, refused ones too
	hides  bool                          // does not wrap what items fail with
}

type deliveredItem struct {
	seq     uint64
	deleted bool
	columns []string
	event   sinks.Event
	fresh   bool
	time    int64 // of the epoch's last commit, in Unix microseconds
}

func newTarget() *memoryTarget { return &memoryTarget{taken: make(chan deliveredItem, 1000)} }

func (m *memoryTarget) Transactional() bool                           { return true }
func (m *memoryTarget) Drop(context.Context, sinks.DropRequest) error { return nil }

func (m *memoryTarget) Check(_ context.Context, req sinks.OpenRequest) error {
	if m.check != nil {
		return m.check(req)
	}
	return nil
}

func (m *memoryTarget) Open(_ context.Context, req sinks.OpenRequest) (sinks.Writer, error) {
	m.mu.Lock()
	m.opened = req
	m.mu.Unlock()
	if m.open != nil {
		if err := m.open(); err != nil {
			return nil, err
		}
	}
	return m, nil
}

func (m *memoryTarget) Close() error { return nil }

func (m *memoryTarget) Progress(context.Context) (uint64, bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.seq, m.holds, nil
}

func (m *memoryTarget) Apply(_ context.Context, epochs []sinks.Epoch) error {
	var all []deliveredItem
	for _, e := range epochs {
		err := e.Items(func(it sinks.Item) bool {
			d := deliveredItem{seq: e.Seq, deleted: it.Deleted, fresh: e.Whole(it.Output),
				time: e.CommitTime.UnixMicro()}
			for _, c := range it.Columns {
				d.columns = append(d.columns, string(c))
			}
			if it.Event != nil {
				d.event = *it.Event
			}
			all = append(all, d)
			return true
		})
		if err != nil && m.hides {
			return errors.New("something went wrong")
		}
		if err != nil {
			return err
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.walks = append(m.walks, all)
	if m.refuse != nil {
		if err := m.refuse(); err != nil {
			return err
		}
	}
	m.seq, m.holds = epochs[len(epochs)-1].Seq, true
	for _, d := range all {
		m.taken <- d
	}
	return nil
}

// watched tells a test of commits and queue sizes.
type watched struct {
	nopObserver
	epochs  chan EpochStats
	onEpoch func()
	onHeld  func() // nil: nothing
	mu      sync.Mutex
	queued  []int64
}

func (w *watched) Epoch(s EpochStats) {
	w.epochs <- s
	if w.onEpoch != nil {
		w.onEpoch()
	}
}

func (w *watched) Held(string, error) {
	if w.onHeld != nil {
		w.onHeld()
	}
}

func (w *watched) Queued(_ string, bytes int64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.queued = append(w.queued, bytes)
}

// bench is an engine over scripted ends. Its directory outlives the engine.
type bench struct {
	t        *testing.T
	path     string
	source   *scriptedSource
	target   *memoryTarget
	observer *watched
	limits   Limits
	logger   *slog.Logger // nil for the default
	options  state.Options
	full     bool // the directory's disk, so that it cannot be closed in order
	version  int  // of the topology
	wrapDB   func(state.DB) state.DB
	build    func(b *topology.Builder, db *sources.Database, target *sinks.Target)
	beside   func(b *topology.Builder, db *sources.Database) // a second topology, or nil
	depot    *scriptedSource                                 // a second database, or nil
	// besideName is the name of the topology that beside builds; "beside" if empty.
	besideName string
	// stopOnLost is StopOnLostState.
	stopOnLost bool
	// in, depotIn and out stand for source, depot and target, if they are not nil.
	in, depotIn sources.Connector
	out         sinks.Connector
}

func newBench(t *testing.T, build func(*topology.Builder, *sources.Database, *sinks.Target)) *bench {
	return &bench{
		t: t, path: filepath.Join(t.TempDir(), "state"), source: newSource(), target: newTarget(),
		observer: &watched{epochs: make(chan EpochStats, 1000)}, build: build,
		limits: Limits{OneTransaction: true, Retry: time.Millisecond},
	}
}

func asTable(b *topology.Builder, db *sources.Database, target *sinks.Target) {
	sinks.Table(sources.Table[int64, item](b, db, "public.items"), target, "items")
}

func asStream(b *topology.Builder, db *sources.Database, target *sinks.Target) {
	in := sources.Stream[int64, item](b, db, "public.items", sources.WithSnapshot[item]())
	sinks.Stream(in, target, "items")
}

// run runs an engine until during returns, or until it ends by itself.
func (b *bench) run(during func(e *Engine)) error {
	return b.runUnder(b.t.Context(), context.Canceled, during)
}

func (b *bench) runUnder(ctx context.Context, cause error, during func(e *Engine)) (err error) {
	b.t.Helper()
	dir, err := state.OpenDir(b.path, state.Identity{App: "app"}, b.options)
	if err != nil {
		b.t.Fatal(err)
	}
	if b.wrapDB != nil {
		dir.DB = b.wrapDB(dir.DB)
	}
	defer func() {
		if err := dir.Close(); err != nil && !(b.full && errors.Is(err, state.ErrDiskFull)) {
			b.t.Error(err)
		}
	}()
	builder := topology.New("topo", topology.Version(b.version))
	shop := sources.NewDatabase("shop", b.source)
	b.build(builder, shop, sinks.NewTarget("warehouse", b.target))
	topologies := []*topology.Topology{builder.MustBuild()}
	if b.beside != nil {
		other := topology.New(cmp.Or(b.besideName, "beside"))
		b.beside(other, shop)
		topologies = append(topologies, other.MustBuild())
	}
	in, out := cmp.Or[sources.Connector](b.in, b.source), cmp.Or[sinks.Connector](b.out, b.target)
	connectors := map[string]sources.Connector{"shop": in}
	if b.depot != nil {
		connectors["depot"] = cmp.Or[sources.Connector](b.depotIn, b.depot)
	}
	host := view.NewHost(view.HostOptions{})
	defer host.Close(context.Background())
	e, err := New(Config{
		App: "app", Topologies: topologies, Dir: dir, Host: host, Sources: connectors,
		Targets: map[string]sinks.Connector{"warehouse": out}, Observe: b.observer, Limits: b.limits,
		Logger: b.logger, StopOnLostState: b.stopOnLost,
	})
	if err != nil {
		b.t.Fatal(err)
	}
	ctx, cancel := context.WithCancelCause(ctx)
	ended := make(chan error, 1)
	done := make(chan struct{})
	go func() {
		defer close(done)
		ended <- e.Run(ctx)
	}()
	// Also where during ends the test: the directory must not be closed under Run.
	defer func() {
		cancel(nil)
		<-done
	}()
	if during == nil {
		select {
		case err := <-ended:
			cancel(nil)
			return err
		case <-time.After(20 * time.Second):
			cancel(nil)
			b.t.Fatalf("the engine goes on: %v, %+v", <-ended, e.Status())
		}
	}
	during(e)
	cancel(cause)
	return <-ended
}

// wait returns the next of what a channel brings.
func wait[T any](t *testing.T, c <-chan T) T {
	t.Helper()
	select {
	case v := <-c:
		return v
	case <-time.After(20 * time.Second):
		t.Fatal("nothing comes")
	}
	panic("unreachable")
}
