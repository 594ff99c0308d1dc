package topologytest

import (
	"time"

	"github.com/tailrace/tailrace/record"
	"github.com/tailrace/tailrace/topology"
)

// To is where input goes: a *Tx, or a *Driver, which makes it a transaction of its
// own.
type To interface{ to(func(tx *Tx)) }

// Tx is a transaction of a source database that is being put together.
type Tx struct {
	d    *Driver
	tx   *record.Tx
	list []item
	undo []func()
}

func (d *Driver) to(fn func(tx *Tx)) { d.t.Helper(); d.Tx(fn) }

func (tx *Tx) to(fn func(tx *Tx)) { fn(tx) }

// Tx runs a source transaction: everything that fn puts in commits together.
func (d *Driver) Tx(fn func(tx *Tx)) {
	d.t.Helper()
	d.check(d.TryTx(fn))
}

// TryTx is Tx for a transaction that the topology may fail on. After an error the
// driver goes on as if the transaction had never been.
func (d *Driver) TryTx(fn func(tx *Tx)) error {
	d.t.Helper()
	return d.transact(fn, false)
}

// Snapshot runs fn as the initial snapshot: one transaction of the rows that a
// database holds when the app starts for the first time.
func (d *Driver) Snapshot(fn func(tx *Tx)) {
	d.t.Helper()
	d.check(d.transact(fn, true))
}

func (d *Driver) transact(fn func(tx *Tx), snapshot bool) error {
	d.t.Helper()
	tx := &Tx{d: d, tx: &record.Tx{CommitTime: d.now.UnixMicro(), Snapshot: snapshot}}
	fn(tx)
	if len(tx.list) == 0 {
		return nil
	}
	err := d.apply(&logged{tx: d.stamp(tx.tx), items: tx.list})
	if err == nil {
		return nil
	}
	for i := len(tx.undo) - 1; i >= 0; i-- {
		tx.undo[i]()
	}
	d.log = d.log[:len(d.log)-1]
	d.task.Rollback()
	d.forget()
	d.replay()
	return err
}

// CommitTime sets the commit time of the transaction, which may be before that of
// others. By default it is the driver's Now.
func (tx *Tx) CommitTime(at time.Time) { tx.tx.CommitTime = at.UnixMicro() }

// add appends a row event.
func (tx *Tx) add(table *sourceTable, row record.Row) {
	tx.from(table.database)
	row.Ordinal = uint32(len(tx.list))
	tx.list = append(tx.list, item{row: row})
}

func (tx *Tx) from(database string) {
	if tx.tx.Source != "" && tx.tx.Source != database {
		tx.d.t.Helper()
		tx.d.fatalf("a transaction belongs to one database; this one writes %q and %q", tx.tx.Source, database)
	}
	tx.tx.Source = database
}

// Insert inserts a row into a source table. The key must be new. All nodes that read
// the table get the row; columns that V does not have are NULL for them.
func Insert[K comparable, V any](to To, table topology.Table[K, V], key K, row V) {
	to.to(func(tx *Tx) { tx.d.t.Helper(); rowsOf[K, V](tx.d, table.Node()).insert(tx, key, row) })
}

// Update replaces the row under a key, which must be there.
func Update[K comparable, V any](to To, table topology.Table[K, V], key K, row V) {
	to.to(func(tx *Tx) { tx.d.t.Helper(); rowsOf[K, V](tx.d, table.Node()).update(tx, key, key, row) })
}

// UpdateKey replaces the row under a key by one under another key: an UPDATE of the
// primary key.
func UpdateKey[K comparable, V any](to To, table topology.Table[K, V], key, newKey K, row V) {
	to.to(func(tx *Tx) { tx.d.t.Helper(); rowsOf[K, V](tx.d, table.Node()).update(tx, key, newKey, row) })
}

// Upsert is Insert or Update, whichever fits.
func Upsert[K comparable, V any](to To, table topology.Table[K, V], key K, row V) {
	to.to(func(tx *Tx) {
		tx.d.t.Helper()
		if w := rowsOf[K, V](tx.d, table.Node()); w.has(key) {
			w.update(tx, key, key, row)
		} else {
			w.insert(tx, key, row)
		}
	})
}

// Delete deletes the row under a key, which must be there.
func Delete[K comparable, V any](to To, table topology.Table[K, V], key K) {
	to.to(func(tx *Tx) { tx.d.t.Helper(); rowsOf[K, V](tx.d, table.Node()).delete(tx, key) })
}

// Truncate deletes all rows.
func Truncate[K comparable, V any](to To, table topology.Table[K, V]) {
	to.to(func(tx *Tx) { tx.d.t.Helper(); rowsOf[K, V](tx.d, table.Node()).truncate(tx) })
}

// Emit inserts a row into the table that a stream of inserts reads (sources.Stream,
// sources.Outbox). The key need not be new.
func Emit[K comparable, V any](to To, stream topology.Stream[K, V], key K, row V) {
	to.to(func(tx *Tx) { tx.d.t.Helper(); rowsOf[K, V](tx.d, stream.Node()).emit(tx, key, row) })
}

// Event is a row event of the table that a stream of all events reads
// (sources.Events): Op, Key and New of it count.
func Event[K comparable, V any](
	to To, events topology.Stream[K, record.RowEvent[K, V]], e record.RowEvent[K, V],
) {
	to.to(func(tx *Tx) {
		tx.d.t.Helper()
		w := rowsOf[K, V](tx.d, events.Node())
		switch e.Op {
		case record.Insert:
			w.insert(tx, e.Key, e.New)
		case record.Update:
			w.update(tx, e.Key, e.Key, e.New)
		case record.Delete:
			w.delete(tx, e.Key)
		case record.Truncate:
			w.truncate(tx)
		default:
			tx.d.fatalf("a row event needs an Op")
		}
	})
}

// Message writes a logical message that sources.Messages reads.
func Message(to To, messages topology.Stream[string, []byte], content string) {
	to.to(func(tx *Tx) {
		tx.d.t.Helper()
		n := tx.d.observed(messages.Node()).node
		if n.Source == nil || n.Source.Input().Messages == "" {
			tx.d.fatalf("%s %q does not read messages", n.Kind, n.Name)
		}
		in := n.Source.Input()
		tx.from(in.Database)
		tx.list = append(tx.list, item{message: &record.Message{
			Prefix: in.Messages, Content: []byte(content), Ordinal: uint32(len(tx.list)), Transactional: true,
		}})
	})
}
