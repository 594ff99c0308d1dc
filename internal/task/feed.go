package task

import (
	"fmt"
	"slices"

	"github.com/tailrace/tailrace/record"
	"github.com/tailrace/tailrace/topology"
)

// Begin starts a transaction. Transactions do not overlap. One that the position
// covers is replayed: its events are taken and nothing else.
func (t *Task) Begin(tx *record.Tx) {
	if t.cut != nil {
		t.cut.begin(t)
	}
	t.txs = append(t.txs, tx)
	t.again = false
	if _, ok := t.replay[tx.Source]; !ok || tx.Snapshot {
		return
	}
	if t.again = tx.CommitStart < t.positions[tx.Source]; !t.again {
		delete(t.replay, tx.Source)
		return
	}
	if t.replayed == nil {
		t.replayed = map[*record.Tx]bool{}
	}
	t.replayed[tx] = true
}

// Rows feeds rows of the transaction begun last, in log order. Rows of tables that
// the topology does not read are passed over.
func (t *Task) Rows(tx *record.Tx, rows []record.Row) error {
	for from := 0; from < len(rows); {
		rel := rows[from].Rel
		to := from + 1
		for to < len(rows) && rows[to].Rel == rel {
			to++
		}
		for _, i := range t.readers(tx, rel) {
			if err := t.feed(i, tx, rows[from:to]); err != nil {
				return err
			}
		}
		from = to
	}
	return nil
}

// Probe returns the error that Rows would have because a source of the topology cannot
// decode the rows, without feeding them.
func (t *Task) Probe(tx *record.Tx, rows []record.Row) error {
	for i := range rows {
		for _, n := range t.readers(tx, rows[i].Rel) {
			if err := t.probe(n, tx, rows[i:i+1]); err != nil {
				return err
			}
		}
	}
	return nil
}

func (t *Task) probe(i int, tx *record.Tx, rows []record.Row) (err error) {
	op, ok := t.source(i).(topology.Prober)
	if !ok {
		return nil
	}
	*t.active = i
	defer t.catch(i, &err)
	return op.Probe(tx, rows)
}

// maxRelations bounds how many descriptions of tables are remembered.
const maxRelations = 1024

// readers returns the source nodes that read a table.
func (t *Task) readers(tx *record.Tx, rel *record.Relation) []int {
	nodes, ok := t.byRelation[rel]
	if !ok {
		if len(t.byRelation) >= maxRelations {
			clear(t.byRelation)
		}
		nodes = t.byTable[topology.Input{Database: tx.Source, Table: rel.String()}]
		if was := rel.Opened; was != nil && was.String() != rel.String() {
			// It was renamed since the session began: rows for those who read it under its
			// name of then, and a table in its place for those who read what had this name.
			nodes = append(slices.Clone(nodes), t.byTable[topology.Input{Database: tx.Source, Table: was.String()}]...)
		}
		t.byRelation[rel] = nodes
	}
	return nodes
}

func (t *Task) feed(i int, tx *record.Tx, rows []record.Row) (err error) {
	defer t.catch(i, &err)
	if len(t.replay) > 0 {
		if done, err := t.feedRebuild(i, tx, rows); done {
			return err
		}
	}
	t.fed, t.pending, *t.active = true, true, i
	op, ok := t.source(i).(topology.SourceOperator)
	if !ok {
		return fmt.Errorf("task: %q reads a table but its running form takes no rows", t.nodes[i].Name)
	}
	return op.Feed(tx, t.seq(), rows)
}

// feedRebuild feeds rows while state is rebuilt, where that is not what Feed does:
// events that the new snapshot covers, and rows of the snapshot that were events long
// ago.
func (t *Task) feedRebuild(i int, tx *record.Tx, rows []record.Row) (done bool, err error) {
	op, events := t.source(i).(topology.Replayer)
	if t.again {
		was := rows[0].Rel.Opened
		if !events || was != nil && was.String() != t.nodes[i].Source.Input().Table {
			return true, nil
		}
		t.fed, t.pending, *t.active = true, true, i
		return true, op.FeedReplayed(tx, t.seq(), rows)
	}
	_, rebuilds := t.replay[tx.Source]
	return tx.Snapshot && rebuilds && events && op.SnapshotOnce(), nil
}

// Message feeds a logical message of the transaction begun last.
func (t *Task) Message(tx *record.Tx, m record.Message) (err error) {
	if !m.Transactional {
		t.undated = tx // whoever reads it, its time is no commit's
	}
	in := topology.Input{Database: tx.Source, Messages: m.Prefix}
	for _, i := range t.byTable[in] {
		if err := t.feedMessage(i, tx, m); err != nil {
			return err
		}
	}
	return nil
}

// messageFeeder takes messages: a source of them, whole or divided.
type messageFeeder interface {
	FeedMessage(tx *record.Tx, seq uint32, m record.Message) error
}

func (t *Task) feedMessage(i int, tx *record.Tx, m record.Message) (err error) {
	defer t.catch(i, &err)
	t.fed, t.pending, *t.active = true, true, i
	op, ok := t.source(i).(messageFeeder)
	if !ok {
		return fmt.Errorf("task: %q reads messages but its running form takes none", t.nodes[i].Name)
	}
	if !m.Transactional {
		tx = t.dated(i, tx)
	}
	return op.FeedMessage(tx, t.seq(), m)
}

// seq is the place in the epoch of the transaction begun last.
func (t *Task) seq() uint32 { return uint32(len(t.txs) - 1) }

// End ends the transaction begun last. If the topology needs it, this runs a step.
func (t *Task) End(tx *record.Tx) error {
	if t.again {
		t.advanceReplay(tx.Source, tx.Position)
	} else {
		t.positions[tx.Source] = tx.Position
		t.noteCommit(tx)
	}
	if t.oneStep {
		return t.Step()
	}
	return nil
}

// AdvancePosition moves the position of a source past transactions that hold
// nothing for this topology.
func (t *Task) AdvancePosition(source string, position uint64) {
	t.advanceReplay(source, position)
	t.positions[source] = max(t.positions[source], position)
}

// advanceReplay notes that a source's events up to position have been taken again.
func (t *Task) advanceReplay(source string, position uint64) {
	at, ok := t.replay[source]
	switch {
	case !ok:
	case position >= t.positions[source]:
		delete(t.replay, source)
	default:
		t.replay[source] = max(at, position)
	}
}

// Skip forgets the transactions since the last commit, which held nothing for this
// topology; the positions stay where they have moved to.
func (t *Task) Skip() { t.txs, t.stepped, t.replayed = nil, 0, nil }

// source is what takes the rows of a source node.
func (t *Task) source(i int) topology.Operator {
	if t.cut != nil {
		return t.cut.sources[i]
	}
	return t.ops[i]
}
