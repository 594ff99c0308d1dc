package topologytest

import (
	"slices"
	"strings"

	"github.com/tailrace/tailrace/record"
	"github.com/tailrace/tailrace/topology"
)

// Rows returns the rows of any table of the topology, as committed. fmt prints a map
// in order of its keys.
func Rows[K comparable, V any](d *Driver, table topology.Table[K, V]) map[K]V {
	d.t.Helper()
	o := d.observed(table.Node())
	rows := make(map[K]V, len(o.committed))
	for k, v := range o.committed {
		rows[k.(K)] = v.(V)
	}
	return rows
}

// Row returns one row of a table.
func Row[K comparable, V any](d *Driver, table topology.Table[K, V], key K) (row V, ok bool) {
	d.t.Helper()
	v, ok := d.observed(table.Node()).committed[key]
	if ok {
		row = v.(V)
	}
	return row, ok
}

// Changes returns the net changes of a table that have been committed since the last
// call: of each step, one for each key that it changed.
func Changes[K comparable, V any](d *Driver, table topology.Table[K, V]) []record.Change[K, V] {
	d.t.Helper()
	o := d.observed(table.Node())
	out := make([]record.Change[K, V], len(o.changes))
	for i := range o.changes {
		c := &o.changes[i]
		out[i] = record.Change[K, V]{Key: c.Key.(K), Sides: c.Sides, Time: c.Time}
		out[i].Old, _ = c.Old.(V)
		out[i].New, _ = c.New.(V)
	}
	o.changes = nil
	return out
}

// Records returns the records of a stream that have been committed since the last
// call, in order. Their tags tell the transaction that each belongs to.
func Records[K comparable, V any](d *Driver, stream topology.Stream[K, V]) []record.Record[K, V] {
	d.t.Helper()
	o := d.observed(stream.Node())
	out := make([]record.Record[K, V], len(o.records))
	for i := range o.records {
		r := &o.records[i]
		out[i] = record.Record[K, V]{Key: r.Key.(K), Time: r.Time, Tag: r.Tag}
		out[i].Value, _ = r.Value.(V)
	}
	o.records = nil
	return out
}

// Values returns the values of Records.
func Values[K comparable, V any](d *Driver, stream topology.Stream[K, V]) []V {
	d.t.Helper()
	records := Records(d, stream)
	out := make([]V, len(records))
	for i := range records {
		out[i] = records[i].Value
	}
	return out
}

// Dropped returns how many records were dropped for a reason, such as "late" by a
// windowed aggregate or "not-an-insert" by a stream of inserts; see topology.DropReasons.
// A reason that does not exist, and for which nothing was dropped, fails the test.
func (d *Driver) Dropped(reason string) int {
	d.t.Helper()
	n, known := 0, slices.Contains(topology.DropReasons(), reason)
	for k, count := range d.dropped {
		if k.reason == reason {
			n, known = n+count, true
		}
	}
	if !known {
		d.fatalf("nothing is ever dropped as %q; the reasons are %s", reason,
			strings.Join(topology.DropReasons(), ", "))
	}
	return n
}

func (d *Driver) observed(n *topology.Node) *observed {
	d.t.Helper()
	if n == nil || n.ID >= len(d.nodes) || d.nodes[n.ID].node != n {
		d.fatalf("the handle is not of topology %q", d.topology.Name())
	}
	return d.nodes[n.ID]
}
