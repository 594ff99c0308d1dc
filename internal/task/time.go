package task

import (
	"github.com/tailrace/tailrace/record"
	"github.com/tailrace/tailrace/topology"
)

// timedNode is a node that waits for stream time.
type timedNode struct {
	id   int
	name string
	op   topology.TimedOperator
}

// AdvanceTime takes a heartbeat of a database, written at the given time in Unix
// microseconds: it moves the stream time of the database's sources as far as each of
// them trusts it. A heartbeat is an entry of the log as any other, so that reading it
// again gives the same times; it is fed between Begin and End of its transaction.
func (t *Task) AdvanceTime(database string, at int64) {
	for i, n := range t.nodes {
		if n.Source != nil && n.Source.Input().Database == database {
			t.moved[i] = max(t.moved[i], n.Source.HeartbeatTime(at))
		}
	}
}

// noteCommit moves the stream time of sources of messages to the commit time of a
// transaction, whatever is in it: messages outside of transactions are dated by it.
func (t *Task) noteCommit(tx *record.Tx) {
	if tx == t.undated {
		return
	}
	for _, i := range t.messages[tx.Source] {
		t.moved[i] = max(t.moved[i], tx.CommitTime)
	}
}

// dated returns the transaction of a message that was written outside of one. The log has
// no time of it, and when the server sends it is another time whenever it is sent again. So
// it has that of the last commit before it, or, before the first, the one it came with.
func (t *Task) dated(node int, tx *record.Tx) *record.Tx {
	at := max(t.times[node], t.moved[node])
	if op, ok := t.source(node).(topology.SourceOperator); ok {
		at = max(at, op.MaxTime())
	}
	if at == topology.NoTime {
		return tx
	}
	with := *tx
	with.CommitTime = at
	return &with
}

// advanceTimes computes stream time before and after the step for every node: a
// source's own, elsewhere the largest of the inputs'.
func (t *Task) advanceTimes() {
	if t.apart != nil {
		t.apart.advanceTimes(t)
		return
	}
	for i, n := range t.nodes {
		t.step.Before[i], t.step.After[i] = t.times[i], max(t.times[i], t.moved[i])
		if n.Source != nil {
			if op, ok := t.source(i).(topology.SourceOperator); ok {
				t.step.After[i] = max(t.step.After[i], op.MaxTime())
			}
		}
		for _, in := range n.Inputs {
			t.step.Before[i] = max(t.step.Before[i], t.step.Before[in.ID])
			t.step.After[i] = max(t.step.After[i], t.step.After[in.ID])
		}
	}
}

// timeBefore is the stream time of a node before the step that is being fed.
func (t *Task) timeBefore(n *topology.Node) int64 {
	if t.apart != nil {
		return t.apart.timeBefore(t, n)
	}
	at := t.times[n.ID]
	for _, in := range n.Inputs {
		at = max(at, t.timeBefore(in))
	}
	return at
}

// keepTimes makes the time after the step the time before the next one.
func (t *Task) keepTimes() {
	for i, n := range t.nodes {
		if n.Source != nil && t.runs(n) {
			t.times[i], t.moved[i] = t.step.After[i], topology.NoTime
		}
	}
	if t.apart != nil {
		t.apart.keepTimes()
	}
}

// due reports whether a node waits for a time that has come.
func (t *Task) due() bool {
	for _, n := range t.timed {
		if at, ok := n.op.NextTimer(); ok && at <= t.step.After[n.id] {
			return true
		}
	}
	return false
}

// timers is the next time that each node waits for, by name.
func (t *Task) timers() map[string]int64 {
	var next map[string]int64
	for _, n := range t.timed {
		if at, ok := n.op.NextTimer(); ok {
			if next == nil {
				next = make(map[string]int64, len(t.timed))
			}
			if first, known := next[n.name]; !known || at < first {
				next[n.name] = at
			}
		}
	}
	return next
}
