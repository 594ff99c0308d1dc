package topologytest

import (
	"reflect"
	"strings"

	"github.com/tailrace/tailrace/record"
	"github.com/tailrace/tailrace/serde"
	"github.com/tailrace/tailrace/sources"
	"github.com/tailrace/tailrace/topology"
)

// sourceTable is a table of a source database: which keys it has.
type sourceTable struct {
	database string
	keys     map[string]bool
	// writers are the *rows of the nodes that it was written through.
	writers map[*topology.Node]any
}

// rows writes a source table through the types of one node that reads it.
type rows[K comparable, V any] struct {
	d     *Driver
	table *sourceTable
	rel   *record.Relation
	key   *serde.Plan[K] // nil: no key
	value *serde.Plan[V]
	// keyAt and valueAt are the places of the plans' columns in the relation; -1 for
	// a value's column that the key has as well.
	keyAt, valueAt []int
}

// rowsOf returns the writer for a source node.
func rowsOf[K comparable, V any](d *Driver, n *topology.Node) *rows[K, V] {
	d.t.Helper()
	d.observed(n)
	spec, ok := n.Source.(*sources.Spec)
	if !ok || spec.Table.Name == "" {
		d.fatalf("%s %q reads no table: give the handle that a function of package sources returned",
			n.Kind, n.Name)
	}
	name := spec.Database.Name() + "/" + spec.Table.Name
	table := d.tables[name]
	if table == nil {
		table = &sourceTable{
			database: spec.Database.Name(), keys: map[string]bool{}, writers: map[*topology.Node]any{},
		}
		d.tables[name] = table
	}
	if w, ok := table.writers[n]; ok {
		return w.(*rows[K, V])
	}
	w := newRows[K, V](d, table, spec)
	table.writers[n] = w
	return w
}

func newRows[K comparable, V any](d *Driver, table *sourceTable, spec *sources.Spec) *rows[K, V] {
	d.t.Helper()
	w := &rows[K, V]{d: d, table: table}
	var err error
	w.value, err = serde.PlanOf[V]()
	d.check(err)
	schema, name, _ := strings.Cut(spec.Table.Name, ".")
	w.rel = &record.Relation{Schema: schema, Name: name}
	at := map[string]int{}
	column := func(c serde.OutColumn, key bool) int {
		i, ok := at[c.Name]
		if !ok {
			i = len(w.rel.Columns)
			at[c.Name] = i
			w.rel.Columns = append(w.rel.Columns, record.Column{
				Name: c.Name, Type: c.Type, TypeMod: -1, Key: key, NotNull: !c.Nullable,
			})
		}
		return i
	}
	if t := reflect.TypeFor[K](); t != reflect.TypeFor[sources.NoKey]() {
		if serde.IsScalar(t) {
			w.key, err = serde.ScalarPlan[K](keyColumn)
		} else {
			w.key, err = serde.PlanOf[K]()
		}
		d.check(err)
		for _, c := range w.key.OutColumns() {
			w.keyAt = append(w.keyAt, column(c, true))
		}
	}
	for _, c := range w.value.OutColumns() {
		before := len(w.rel.Columns)
		if i := column(c, false); i == before {
			w.valueAt = append(w.valueAt, i)
		} else {
			w.valueAt = append(w.valueAt, -1)
		}
	}
	w.addForeign(spec, func(name string) { column(serde.OutColumn{Name: name, Nullable: true}, false) })
	return w
}

// keyColumn is the name of the column of a scalar key. A field of the row with this
// column gets the key, whatever it is set to.
const keyColumn = "id"

// addForeign adds the columns that other nodes read of the table.
func (w *rows[K, V]) addForeign(spec *sources.Spec, add func(name string)) {
	for _, n := range w.d.topology.Nodes() {
		other, ok := n.Source.(*sources.Spec)
		if ok && other.Database == spec.Database && other.Table.Name == spec.Table.Name {
			for _, c := range other.Table.Columns {
				add(c)
			}
		}
	}
}

// tuple encodes a row, or the key alone.
func (w *rows[K, V]) tuple(key K, row *V) record.Tuple {
	t := make(record.Tuple, len(w.rel.Columns))
	set := func(at int, text []byte, null bool) {
		if at >= 0 && !null {
			t[at] = record.Value{Kind: record.Text, Data: text}
		}
	}
	for i, at := range w.keyAt {
		text, null := w.key.AppendText([]byte{}, i, &key)
		set(at, text, null)
	}
	if row != nil {
		for i, at := range w.valueAt {
			text, null := w.value.AppendText([]byte{}, i, row)
			set(at, text, null)
		}
	}
	return t
}

// name is a key as text: which row it is.
func (w *rows[K, V]) name(key K) string {
	var name []byte
	for _, v := range w.tuple(key, nil) {
		name = append(append(name, v.Data...), 0)
	}
	return string(name)
}

func (w *rows[K, V]) has(key K) bool { return w.table.keys[w.name(key)] }

func (w *rows[K, V]) need(key K, there bool) {
	if w.key == nil {
		w.d.t.Helper()
		w.d.fatalf("table %s has no key; use Emit", w.rel)
	}
	if has := w.has(key); has != there {
		w.d.t.Helper()
		if has {
			w.d.fatalf("table %s has a row under key %v; use Update or Upsert", w.rel, key)
		}
		w.d.fatalf("table %s has no row under key %v; use Insert or Upsert", w.rel, key)
	}
}

func (w *rows[K, V]) set(tx *Tx, key K, there bool) {
	name, before := w.name(key), w.has(key)
	if there {
		w.table.keys[name] = true
	} else {
		delete(w.table.keys, name)
	}
	tx.undo = append(tx.undo, func() {
		if before {
			w.table.keys[name] = true
		} else {
			delete(w.table.keys, name)
		}
	})
}

func (w *rows[K, V]) insert(tx *Tx, key K, row V) {
	w.d.t.Helper()
	w.need(key, false)
	w.set(tx, key, true)
	tx.add(w.table, record.Row{Rel: w.rel, Op: record.Insert, New: w.tuple(key, &row)})
}

func (w *rows[K, V]) emit(tx *Tx, key K, row V) {
	tx.add(w.table, record.Row{Rel: w.rel, Op: record.Insert, New: w.tuple(key, &row)})
}

func (w *rows[K, V]) update(tx *Tx, key, newKey K, row V) {
	w.d.t.Helper()
	w.need(key, true)
	r := record.Row{Rel: w.rel, Op: record.Update, New: w.tuple(newKey, &row)}
	if newKey != key {
		w.need(newKey, false)
		r.OldKind, r.Old = record.OldKey, w.tuple(key, nil)
		w.set(tx, key, false)
		w.set(tx, newKey, true)
	}
	tx.add(w.table, r)
}

func (w *rows[K, V]) delete(tx *Tx, key K) {
	w.d.t.Helper()
	w.need(key, true)
	w.set(tx, key, false)
	tx.add(w.table, record.Row{Rel: w.rel, Op: record.Delete, OldKind: record.OldKey, Old: w.tuple(key, nil)})
}

func (w *rows[K, V]) truncate(tx *Tx) {
	keys := w.table.keys
	w.table.keys = map[string]bool{}
	tx.undo = append(tx.undo, func() { w.table.keys = keys })
	tx.add(w.table, record.Row{Rel: w.rel, Op: record.Truncate})
}
