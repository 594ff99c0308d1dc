package task

import (
	"errors"
	"fmt"

	"github.com/tailrace/tailrace/topology"
)

// Step computes everything that was fed since the last step: whole transactions. If
// nothing was, but a heartbeat has let time pass up to where a node waits for, it
// computes what falls due. After an error the epoch must be rolled back.
func (t *Task) Step() error {
	if t.cut != nil && t.cut.failed != nil {
		return t.cut.failed
	}
	t.advanceTimes()
	if !t.fed && !t.due() {
		t.keepTimes()
		t.stepped = len(t.txs)
		return nil
	}
	t.pending = true
	t.step.Txs = t.txs[t.stepped:]
	t.step.FirstSeq = uint32(t.stepped)
	for i := range t.schedule {
		if err := t.run(&t.schedule[i]); err != nil {
			return err
		}
	}
	t.keepTimes()
	if err := t.letters.endStep(); err != nil {
		return err
	}
	if t.after != nil {
		if err := t.look(); err != nil {
			return err
		}
	}
	t.endStep()
	t.stepped, t.fed = len(t.txs), false
	return nil
}

func (t *Task) endStep() {
	for i := range t.schedule {
		t.schedule[i].Operator.EndStep()
	}
}

func (t *Task) run(r *topology.Running) (err error) {
	defer t.catch(r.Node.ID, &err)
	*t.active = r.Node.ID
	switch {
	case t.cut != nil:
		return t.cut.run(t, r)
	case t.apart != nil:
		return t.apart.run(t, r)
	}
	return r.Operator.Step(&t.step)
}

// look calls AfterStep, which may be the first to walk a node that nothing reads.
func (t *Task) look() (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = t.failure(*t.active, panicError(p))
		}
	}()
	return t.after(&t.step)
}

// catch turns a panic in a node's code into an error that names node and key, and
// gives an error without a node the one at work. The state stays at the last epoch.
func (t *Task) catch(i int, err *error) {
	if p := recover(); p != nil {
		// The user function may be another node's, which this one walked.
		*err = t.failure(*t.active, panicError(p))
		return
	}
	if known := (*topology.Failure)(nil); *err != nil && !errors.As(*err, &known) {
		*err = t.failure(i, *err)
	}
}

func panicError(p any) error {
	return fmt.Errorf("%w: %w", topology.ErrUserFunction, topology.NewPanicError(p))
}

// failure says where an error comes from: the node, the key at work and the
// transaction begun last.
func (t *Task) failure(i int, err error) error {
	f := &topology.Failure{Err: err}
	if len(t.txs) > 0 {
		f.Tx = t.txs[len(t.txs)-1]
	}
	var op topology.Operator
	switch {
	case t.cut != nil:
		f.Node, op = t.cut.at(i)
	case t.apart != nil:
		f.Node, op = t.apart.at(i)
	default:
		f.Node, op = t.nodes[i], t.ops[i]
	}
	if c, ok := op.(interface{ CurrentKey() any }); ok {
		f.Key = c.CurrentKey()
	}
	return f
}
