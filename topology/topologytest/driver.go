package topologytest

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/tailrace/tailrace/internal/task"
	"github.com/tailrace/tailrace/record"
	"github.com/tailrace/tailrace/state"
	"github.com/tailrace/tailrace/topology"
	"github.com/tailrace/tailrace/view"
)

// TB is the part of testing.TB that a driver needs; *testing.T, *testing.B,
// *testing.F and *rapid.T have it.
type TB interface {
	Helper()
	Fatalf(format string, args ...any)
	Cleanup(func())
}

// Driver runs one topology in memory. It is not safe for concurrent use.
type Driver struct {
	t        TB
	topology *topology.Topology
	opts     options
	db       state.DB
	storeIDs map[string]uint32
	host     *view.Host

	env        *state.Env
	task       *task.Task
	checkpoint task.Checkpoint
	mail       *mail // nil without Delayed
	commits    uint64

	now       time.Time
	positions map[string]uint64 // of the databases' logs
	tables    map[string]*sourceTable
	log       []*logged // what the databases would send again after a crash
	unstepped int       // transactions since the last step

	nodes   []*observed
	dropped map[dropKey]int // committed
	drops   map[dropKey]int // of the running epoch
	closed  bool
}

// logged is an entry of the databases' logs that is not committed here: a
// transaction, or a heartbeat.
type logged struct {
	tx        *record.Tx
	items     []item
	heartbeat bool
}

// item is a row, or a message where that is set.
type item struct {
	row     record.Row
	message *record.Message
}

type dropKey struct{ node, reason string }

// New makes a driver for a topology, with empty state. Whatever goes wrong fails
// the test; in an Example, which has no *testing.T, t is nil and failures panic.
// The driver ends with the test, or with Close.
func New(t TB, top *topology.Topology, opts ...Option) *Driver {
	if t == nil {
		t = panics{}
	}
	t.Helper()
	d := &Driver{
		t: t, topology: top, opts: defaults(), storeIDs: map[string]uint32{},
		now: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC), positions: map[string]uint64{},
		tables: map[string]*sourceTable{}, dropped: map[dropKey]int{}, drops: map[dropKey]int{},
	}
	for _, o := range opts {
		o(&d.opts)
	}
	if d.db = d.opts.db; d.db == nil {
		d.db = state.NewMemory()
	}
	for _, n := range top.Nodes() {
		d.nodes = append(d.nodes, newObserved(n))
	}
	d.host = view.NewHost(view.HostOptions{})
	t.Cleanup(d.Close)
	d.open()
	d.bindViews()
	d.publish()
	return d
}

// panics reports failures of Examples.
type panics struct{}

func (panics) Helper()                           {}
func (panics) Cleanup(func())                    {}
func (panics) Fatalf(format string, args ...any) { panic(fmt.Sprintf(format, args...)) }

func (d *Driver) fatalf(format string, args ...any) {
	d.t.Helper()
	d.t.Fatalf("topologytest: "+format, args...)
}

func (d *Driver) check(err error) {
	if err != nil {
		d.t.Helper()
		d.fatalf("%v", err)
	}
}

// open makes the task from committed state.
func (d *Driver) open() {
	d.t.Helper()
	d.env = &state.Env{DB: d.db}
	if d.opts.memory > 0 {
		d.env.Memory = state.NewBudget(d.opts.memory)
		d.env.Scratch = func() (state.Scratch, error) { return &scratch{DB: state.NewMemory()}, nil }
	}
	var carrier task.Mail
	if d.opts.delayed {
		if d.mail == nil {
			d.mail = newMail(d.opts.seed)
		}
		carrier = d.mail
	}
	var err error
	d.task, err = task.New(task.Config{
		Topology: d.topology, Env: d.env, StoreID: d.storeID, HasStore: d.hasStore, Checkpoint: d.checkpoint,
		Drop:      func(n *topology.Node, reason string, count int) { d.drops[dropKey{n.Name, reason}] += count },
		AfterStep: d.afterStep, Partitions: d.opts.partitions, Encoded: d.opts.encoded, Mail: carrier,
	})
	d.check(err)
}

// firstStoreID leaves room for what is not a store.
const firstStoreID = 16

func (d *Driver) storeID(store string) uint32 {
	id, ok := d.storeIDs[store]
	if !ok {
		id = firstStoreID + uint32(len(d.storeIDs))
		d.storeIDs[store] = id
	}
	return id
}

func (d *Driver) hasStore(store string) bool {
	_, ok := d.storeIDs[store]
	return ok
}

func (d *Driver) bindViews() {
	d.t.Helper()
	for _, n := range d.topology.Nodes() {
		if p, ok := n.Sink.(view.Port); ok {
			d.check(d.host.Bind(p, func(store string) uint32 { return d.storeID(n.StoreName(store)) }))
		}
	}
}

// run feeds a transaction as an engine would.
func (d *Driver) run(l *logged) error {
	if l.heartbeat {
		return d.beat(l)
	}
	d.task.Begin(l.tx)
	var rows []record.Row
	flush := func() error {
		for len(rows) > 0 {
			n := min(len(rows), d.opts.chunk)
			if err := d.task.Rows(l.tx, rows[:n]); err != nil {
				return err
			}
			rows = rows[n:]
		}
		return nil
	}
	for _, it := range l.items {
		if it.message == nil {
			rows = append(rows, it.row)
			continue
		}
		if err := flush(); err != nil {
			return err
		}
		if err := d.task.Message(l.tx, *it.message); err != nil {
			return err
		}
	}
	if err := flush(); err != nil {
		return err
	}
	if err := d.task.End(l.tx); err != nil {
		return err
	}
	d.unstepped++
	if d.opts.steps > 0 && d.unstepped >= d.opts.steps {
		d.unstepped = 0
		return d.task.Step()
	}
	return nil
}

// beat lets time pass in a database. What was fed before is judged before it.
func (d *Driver) beat(l *logged) error {
	if err := d.task.Step(); err != nil {
		return err
	}
	d.task.Begin(l.tx)
	d.task.AdvanceTime(l.tx.Source, l.tx.CommitTime)
	if err := d.task.End(l.tx); err != nil {
		return err
	}
	return d.task.Step()
}

// apply runs an entry of the log and commits if it is time to.
func (d *Driver) apply(l *logged) error {
	d.log = append(d.log, l)
	if err := d.run(l); err != nil {
		return err
	}
	if d.opts.epochs > 0 && len(d.log) >= d.opts.epochs {
		return d.commit()
	}
	return nil
}

func (d *Driver) commit() error {
	ready, err := d.task.Seal()
	if err != nil {
		return err
	}
	d.unstepped = 0
	batch := d.db.NewBatch()
	defer batch.Close()
	for _, s := range ready.Stores {
		if err := s.Flush(batch); err != nil {
			return err
		}
	}
	if err := d.db.Commit(batch, true); err != nil {
		return err
	}
	d.checkpoint = ready.Checkpoint
	d.publish()
	d.task.Committed(ready.Checkpoint)
	if d.mail != nil {
		d.mail.commit()
	}
	for _, n := range d.nodes {
		n.commit()
	}
	for k, n := range d.drops {
		d.dropped[k] += n
	}
	clear(d.drops)
	d.log = nil
	return nil
}

// publish shows the committed state to the readers of views.
func (d *Driver) publish() {
	d.t.Helper()
	d.commits++
	c := view.Commit{
		Seq: d.commits, Positions: d.checkpoint.Positions, AsOf: d.now.UnixMicro(), Snapshot: d.db.NewSnapshot(),
	}
	if d.commits > 1 {
		c.Changes = func(p view.Port) view.Changed {
			for i, n := range d.topology.Nodes() {
				if n.Sink == p {
					changed, _ := d.task.Operators()[i].(view.Changed)
					return changed
				}
			}
			return nil
		}
	}
	d.check(d.host.Publish(c))
}

// Commit ends the running epoch: what has been fed becomes durable and visible to
// Rows, Changes, Records and views. It is needed only with Epochs.
func (d *Driver) Commit() {
	d.t.Helper()
	d.check(d.commit())
}

// Crash loses everything that is not committed, as kill -9 does, and goes on from
// the committed state; the databases send what was lost again.
func (d *Driver) Crash() {
	d.t.Helper()
	d.reopen()
	d.replay()
}

// replay has the databases send again what is not committed.
func (d *Driver) replay() {
	d.t.Helper()
	lost := d.log
	d.log = nil
	for _, l := range lost {
		d.check(d.apply(l))
	}
}

// forget drops what was seen of the epoch that is lost.
func (d *Driver) forget() {
	for _, n := range d.nodes {
		n.rollback()
	}
	clear(d.drops)
	d.unstepped = 0
	if d.mail != nil {
		d.mail.rollback()
	}
}

// Reopen commits, stops, and goes on from the committed state: a clean restart. Options
// that are given take the place of those so far, but for DB.
func (d *Driver) Reopen(opts ...Option) {
	d.t.Helper()
	d.Commit()
	for _, o := range opts {
		o(&d.opts)
	}
	d.reopen()
}

func (d *Driver) reopen() {
	d.t.Helper()
	d.check(d.env.Close())
	d.forget()
	d.open()
}

// Now is the time on the databases' clock, which stands still but for AdvanceTime.
// It begins at 2026-01-01 00:00 UTC. Transactions carry it as commit time.
func (d *Driver) Now() time.Time { return d.now }

// AdvanceTime lets time pass in the databases, and logs a heartbeat in each, so that
// stream time passes too.
func (d *Driver) AdvanceTime(by time.Duration) {
	d.t.Helper()
	d.now = d.now.Add(by)
	var beaten []string
	for _, n := range d.topology.Nodes() {
		if n.Source == nil || slices.Contains(beaten, n.Source.Input().Database) {
			continue
		}
		db := n.Source.Input().Database
		beaten = append(beaten, db)
		d.check(
			d.apply(&logged{tx: d.stamp(&record.Tx{Source: db, CommitTime: d.now.UnixMicro()}), heartbeat: true}),
		)
	}
}

// stamp gives a transaction its place in its database's log.
func (d *Driver) stamp(tx *record.Tx) *record.Tx {
	d.positions[tx.Source] += 16
	tx.Position = d.positions[tx.Source]
	tx.CommitStart = tx.Position - 8
	tx.XID = uint32(tx.Position / 16)
	return tx
}

// Close ends the driver. It is called at the end of the test.
func (d *Driver) Close() {
	if d.closed {
		return
	}
	d.closed = true
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	d.check(d.host.Close(ctx))
	d.check(d.env.Close())
	d.check(d.db.Close())
}

// scratch is space for spilled data, in memory.
type scratch struct{ state.DB }

func (s *scratch) Set(key, value []byte) error {
	b := s.NewBatch()
	if err := b.Set(key, value); err != nil {
		return err
	}
	return s.Commit(b, false)
}
