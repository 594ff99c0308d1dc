package kafka

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/tailrace/tailrace/changelog"
	"github.com/tailrace/tailrace/internal/kafka"
	"github.com/tailrace/tailrace/internal/task"
	"github.com/tailrace/tailrace/record"
	"github.com/tailrace/tailrace/sources"
	"github.com/tailrace/tailrace/state"
	"github.com/tailrace/tailrace/topology"
)

// taskRun is a task at work.
type taskRun struct {
	id     taskID
	sub    *subTopology
	env    *state.Env
	inputs []*buffer      // in the order of subTopology.reads
	leases []*kafka.Lease // by inputs (invariant K13)
	beats  []*buffer      // of heartbeats
	all    []*buffer      // inputs and beats
	parts  []*part        // by sub.parts
	// stores are all stores, by their names.
	stores map[string]*storeRun
	// ckpt says up to where the disk holds the changelogs.
	ckpt changelog.Checkpoint
	// ready says that the state is restored, and the inputs are being delivered.
	ready bool
	// asked says that the inputs' ends are those of a moment after the newest record came.
	asked bool
	fed   int               // records since the last commit
	texts map[string]string // names in records of exchanges
	logs  map[kafka.Partition]string
	// app and put are for dead letters.
	app string
	put func(r *kgo.Record)
}

// part is what a task runs of one topology.
type part struct {
	share *share
	task  *task.Task
	// origins say where the transactions of the cycle are from, in their order.
	origins []origin
	out     *sender
}

// origin is the record of a source that a transaction is from.
type origin struct {
	partition kafka.Partition
	offset    int64
	// at is the record's timestamp.
	at time.Time
	// piece tells transactions behind an exchange apart that come from one before it.
	piece uint64
}

// storeRun is a store of a task and its changelog.
type storeRun struct {
	id    uint32
	topic string
	// last is the last record of the transaction under way.
	last *kgo.Record
}

// owner names a task in the state directory.
func (s *subTopology) owner(partition int32) string { return fmt.Sprintf("%s@%d", s.name, partition) }

// newTask makes a task, without state so far.
func (e *Engine) newTask(id taskID, owned map[kafka.Partition]kafka.Owned) (*taskRun, error) {
	r := &taskRun{
		id: id, sub: e.subs[id.sub], stores: map[string]*storeRun{}, texts: map[string]string{},
		logs: map[kafka.Partition]string{}, app: e.cfg.App, put: e.session.Produce,
	}
	var errs []error
	r.sub.reads(id.partition, func(in *input, p kafka.Partition) {
		var decoder sources.TopicDecoder
		if in.exchange == nil {
			var err error
			if decoder, err = in.reader.Decoder(in.request); err != nil {
				errs = append(errs, fmt.Errorf("kafka: topic %q: %w", in.topic, err))
			}
		}
		r.inputs = append(r.inputs, newBuffer(in, p, decoder, owned[p].Offset))
		r.leases = append(r.leases, owned[p].Lease)
	})
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	r.addBeats()
	for _, s := range r.sub.parts {
		for _, name := range s.stores() {
			if err := e.addStore(r, name); err != nil {
				return nil, err
			}
		}
	}
	return r, nil
}

func (e *Engine) addStore(r *taskRun, name string) error {
	id, err := e.cfg.Dir.StoreID(r.sub.owner(r.id.partition), name)
	if err != nil {
		return err
	}
	r.stores[name] = &storeRun{id: id, topic: e.changelogTopic(name)}
	return nil
}

// open makes the tasks over the restored state.
func (e *Engine) open(r *taskRun) error {
	kept, err := e.kept(r)
	if err != nil {
		return err
	}
	r.env = &state.Env{DB: e.cfg.Dir.DB, Memory: e.budget, Scratch: e.cfg.Dir.Scratch}
	for _, s := range r.sub.parts {
		p, err := e.newPart(r, s, kept.Times[s.name()])
		if err != nil {
			return err
		}
		r.parts = append(r.parts, p)
	}
	for _, b := range r.inputs {
		for _, p := range r.parts {
			if p.share.takes(b.input) {
				b.parts = append(b.parts, p)
			}
		}
	}
	r.openBeats(kept.Beats)
	r.ready = true
	return nil
}

func (e *Engine) newPart(r *taskRun, s *share, times map[string]int64) (*part, error) {
	p := &part{share: s}
	p.out = &sender{
		part: p, pieces: map[route]*piece{}, topic: e.repartitionTopic,
		put: func(x *topology.Exchange, rec *kgo.Record) { e.forward(r.sub, x, rec) },
	}
	var idErr error
	cfg := task.Config{
		Topology: s.topology, Env: r.env, Logger: e.log,
		Checkpoint: task.Checkpoint{Positions: record.Positions{}, StreamTimes: times},
		StoreID: func(name string) uint32 {
			if s := r.stores[name]; s != nil {
				return s.id
			}
			if !strings.HasPrefix(name, task.OutputPrefix) && name != task.DeadLetterStore {
				idErr = errors.Join(idErr, fmt.Errorf("kafka: %s has a store %q that no node declares, so nothing "+
					"of it would be in a changelog", s.name(), name))
			}
			// Outputs of an epoch: nothing is committed under their ids.
			id, err := e.cfg.Dir.StoreID(r.sub.owner(r.id.partition), s.name()+":"+name)
			idErr = errors.Join(idErr, err)
			return id
		},
		Drop: func(n *topology.Node, reason string, count int) {
			if e.cfg.Dropped != nil {
				e.cfg.Dropped(s.topology.Name(), n.Name, reason, count)
			}
		},
	}
	if s.sub != nil {
		cfg.Apart = &task.Apart{
			Cut: s.cut, Sub: s.sub, Partition: int(r.id.partition), Send: p.out.send,
			Partitions: func(x *topology.Exchange) int { return int(e.readers[x].tasks()) },
		}
	}
	var err error
	p.task, err = task.New(cfg)
	return p, errors.Join(err, idErr)
}

// close lets go of the task's memory; its state stays on the disk, as it was committed.
func (r *taskRun) close() error {
	if r.env == nil {
		return nil
	}
	return r.env.Close()
}

// log returns what transactions of a partition of a source call it: offsets of two
// partitions are alike, and behind an exchange their records meet.
func (r *taskRun) log(p kafka.Partition) string {
	s, ok := r.logs[p]
	if !ok {
		s = p.String()
		r.logs[p] = s
	}
	return s
}

// feed gives a record to all topologies that read its topic.
func (r *taskRun) feed(b *buffer, rec *kgo.Record) error {
	switch {
	case b.input.exchange != nil:
		return r.feedExchanged(b, rec)
	case b.input.beats:
		return r.feedBeat(b, rec)
	}
	at := rec.Timestamp.UnixMicro()
	rows, err := b.decoder.Decode(b.record(rec))
	if errors.Is(err, sources.ErrReopen) {
		return fmt.Errorf("%w: %s offset %d: %w", errSession, b.partition, rec.Offset, err)
	}
	if err != nil {
		return r.refuse(b, rec, err)
	}
	if len(rows.Rows) == 0 {
		return nil
	}
	tx := b.newTx()
	*tx = record.Tx{
		Source: b.input.database, Log: r.log(b.partition),
		Position: uint64(rec.Offset) + 1, CommitStart: uint64(rec.Offset), XID: rows.XID,
		CommitTime: at, Snapshot: rows.Snapshot,
	}
	if rows.CommitTime != 0 {
		tx.CommitTime = rows.CommitTime
	}
	for _, h := range rows.Headers {
		tx.Headers = append(tx.Headers, record.Header(h))
	}
	if err := b.probe(tx, rows.Rows); err != nil {
		return r.refuse(b, rec, err)
	}
	for _, p := range b.parts {
		p.origins = append(p.origins, origin{partition: b.partition, offset: rec.Offset, at: rec.Timestamp})
		p.task.Begin(tx)
		if err := p.task.Rows(tx, rows.Rows); err != nil {
			return undecodable(err)
		}
		if err := p.task.End(tx); err != nil {
			return err
		}
		p.out.flush()
	}
	r.fed++
	return nil
}

// takes reports whether the share is given what comes in an input.
func (s *share) takes(in *input) bool {
	if in.exchange != nil {
		return slices.Contains(s.reads(), in.exchange)
	}
	return slices.ContainsFunc(s.nodes(), func(n *topology.Node) bool { return readsInput(n, in) })
}

// readsInput reports whether a node is a source of what comes in an input.
func readsInput(n *topology.Node, in *input) bool {
	spec, ok := n.Source.(*sources.Spec)
	return ok && spec.Database.Name() == in.database && spec.Table.Name == in.request.Name
}

// rollback drops what was computed since the last commit, and what was polled.
func (r *taskRun) rollback() {
	for _, p := range r.parts {
		p.task.Rollback()
		p.origins = nil
		p.out.reset()
	}
	for _, b := range r.all {
		b.reset()
	}
	r.asked = false
	for _, s := range r.stores {
		s.last = nil
	}
	r.fed = 0
}

// maxMetadata is what a broker keeps beside an offset by default, in bytes
// (offset.metadata.max.bytes).
const maxMetadata = 4096

// offsetMetadata is what is committed beside a task's offsets.
type offsetMetadata struct {
	// Topology is the hash of what has processed the records before the offset.
	Topology string `json:"topology"`
	// Times are the stream times that go with the offset, by topology and source node.
	Times map[string]map[string]int64 `json:"times,omitempty"`
	// Beats are the next offsets in the topics of heartbeats, by partition.
	Beats map[string]int64 `json:"beats,omitempty"`
}

func (r *taskRun) metadata(times map[string]map[string]int64) (string, error) {
	text, err := json.Marshal(offsetMetadata{r.sub.hash, times, r.beatsAt()})
	if err == nil && len(text) > maxMetadata {
		err = fmt.Errorf("kafka: the stream times of the sources take %d bytes, and a broker keeps %d beside an "+
			"offset; use fewer sources in a topology", len(text), maxMetadata)
	}
	return string(text), err
}

// kept reads what metadata wrote: it is the same beside all offsets that were
// committed. Offsets that another topology has left are refused (invariant K11).
func (e *Engine) kept(r *taskRun) (m offsetMetadata, err error) {
	for _, b := range r.inputs {
		if b.committed.Metadata == "" {
			continue
		}
		if m, err = readMetadata(b.partition, b.committed); err != nil {
			return m, err
		}
		break
	}
	if m.Topology != "" && m.Topology != r.sub.hash {
		return m, e.errChanged("task "+r.owner(), m.Topology, r.sub.hash)
	}
	return m, nil
}
