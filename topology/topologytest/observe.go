package topologytest

import (
	"fmt"

	"github.com/tailrace/tailrace/record"
	"github.com/tailrace/tailrace/topology"
)

// observed is what a node has put out.
type observed struct {
	node    *topology.Node
	inspect *topology.Inspector

	// rows are a table's rows as of the last step; pending are the changes of the
	// steps that are not committed yet.
	rows    map[any]any
	pending []record.Change[any, any]
	// committed are the rows that a reader may see, changes and records what has been
	// committed and not yet been taken by Changes or Records.
	committed      map[any]any
	changes        []record.Change[any, any]
	pendingRecords []record.Record[any, any]
	records        []record.Record[any, any]
}

func newObserved(n *topology.Node) *observed {
	o := &observed{node: n, rows: map[any]any{}, committed: map[any]any{}}
	if n.Inspect != nil {
		o.inspect = n.Inspect()
	}
	return o
}

// afterStep looks at the outputs of all nodes while they are there.
func (d *Driver) afterStep(*topology.Step) error {
	for i, o := range d.nodes {
		if o.inspect == nil {
			continue
		}
		if err := o.step(d.task.Operators()[i], d.opts.everything); err != nil {
			return fmt.Errorf("%s %q: %w", o.node.Kind, o.node.Name, err)
		}
	}
	return nil
}

func (o *observed) step(op topology.Operator, everything bool) error {
	if o.inspect.Records != nil {
		return o.streamStep(op)
	}
	from := len(o.pending)
	err := o.inspect.Changes(op, func(c record.Change[any, any]) bool {
		o.pending = append(o.pending, c)
		return true
	})
	if err != nil {
		return err
	}
	changed := make(map[any]bool, len(o.pending)-from)
	for _, c := range o.pending[from:] {
		if changed[c.Key] {
			return fmt.Errorf("key %v changes twice in one step", c.Key)
		}
		changed[c.Key] = true
		if err := o.checkChange(op, &c); err != nil {
			return err
		}
		put(o.rows, &c)
	}
	if everything {
		return o.checkUnchanged(op, changed)
	}
	return nil
}

// checkChange holds a change to the contract of tables: it is a change, it begins
// where the last one ended, and look-ups agree with it (invariant T2).
func (o *observed) checkChange(op topology.Operator, c *record.Change[any, any]) error {
	switch {
	case c.Sides == 0:
		return fmt.Errorf("key %v changes from nothing to nothing", c.Key)
	case c.HasOld() && c.HasNew() && o.inspect.Equal(c.Old, c.New):
		return fmt.Errorf("key %v changes from %v to itself", c.Key, c.Old)
	}
	row, has := o.rows[c.Key]
	if has != c.HasOld() || has && !o.inspect.Equal(row, c.Old) {
		return fmt.Errorf("key %v changes from %s, but its value was %s: a function that it is computed with "+
			"must give the same result for the same input", c.Key, show(c.Old, c.HasOld()), show(row, has))
	}
	v, err := o.inspect.At(op, c.Key)
	if err != nil {
		return err
	}
	if v.Sides != c.Sides || c.HasOld() && !o.inspect.Equal(v.Old, c.Old) ||
		c.HasNew() && !o.inspect.Equal(v.New, c.New) {
		return fmt.Errorf("key %v changes from %s to %s, but looked up it does from %s to %s", c.Key,
			show(c.Old, c.HasOld()), show(c.New, c.HasNew()), show(v.Old, v.HasOld()), show(v.New, v.HasNew()))
	}
	return nil
}

// checkUnchanged looks up the rows that did not change.
func (o *observed) checkUnchanged(op topology.Operator, changed map[any]bool) error {
	for key, row := range o.rows {
		if changed[key] {
			continue
		}
		v, err := o.inspect.At(op, key)
		if err != nil {
			return err
		}
		if v.Sides != record.HasOld|record.HasNew ||
			!o.inspect.Equal(v.Old, row) || !o.inspect.Equal(v.New, row) {
			return fmt.Errorf("key %v did not change from %v, but looked up it does from %s to %s", key, row,
				show(v.Old, v.HasOld()), show(v.New, v.HasNew()))
		}
	}
	return nil
}

func show(v any, has bool) string {
	if !has {
		return "nothing"
	}
	return fmt.Sprintf("%v", v)
}

// streamStep takes a step's records; their tags, of which event ids are made, must
// ascend.
func (o *observed) streamStep(op topology.Operator) error {
	var failed error
	var last *record.Tag
	err := o.inspect.Records(op, func(r record.Record[any, any]) bool {
		if last != nil && !ascends(last, &r.Tag) {
			failed = fmt.Errorf("record %v of row %d comes after row %d of the same transaction, or is it again",
				r.Key, r.Tag.Ordinal, last.Ordinal)
			return false
		}
		o.pendingRecords = append(o.pendingRecords, r)
		last = &o.pendingRecords[len(o.pendingRecords)-1].Tag
		return true
	})
	if err != nil {
		return err
	}
	return failed
}

func ascends(a, b *record.Tag) bool {
	return a.Seq < b.Seq || a.Seq == b.Seq && a.Compare(*b) < 0
}

func put(rows map[any]any, c *record.Change[any, any]) {
	if c.HasNew() {
		rows[c.Key] = c.New
	} else {
		delete(rows, c.Key)
	}
}

func (o *observed) commit() {
	for i := range o.pending {
		put(o.committed, &o.pending[i])
	}
	o.changes, o.pending = append(o.changes, o.pending...), nil
	o.records, o.pendingRecords = append(o.records, o.pendingRecords...), nil
}

func (o *observed) rollback() {
	for i := len(o.pending) - 1; i >= 0; i-- {
		c := &o.pending[i]
		if c.HasOld() {
			o.rows[c.Key] = c.Old
		} else {
			delete(o.rows, c.Key)
		}
	}
	o.pending, o.pendingRecords = nil, nil
}
