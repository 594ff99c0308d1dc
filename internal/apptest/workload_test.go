package apptest

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strconv"

	"github.com/tailrace/tailrace/record"
	"github.com/tailrace/tailrace/sources"
)

// workload is a random log of a shop, and what its tables hold in the end.
type workload struct {
	db        *scripted
	rng       *rand.Rand
	customers map[int64]wCustomer
	orders    map[int64]wOrder
	notes     int64
	rows      []record.Row // of the transaction at hand
}

func relation(name string, columns ...string) *record.Relation {
	r := &record.Relation{Schema: "public", Name: name}
	for i, c := range columns {
		typ, oid := "bigint", uint32(20)
		if c == "name" || c == "status" || c == "body" {
			typ, oid = "text", 25
		}
		r.Columns = append(r.Columns, record.Column{
			Name: c, Type: typ, TypeOID: oid, TypeMod: -1, Key: i == 0, NotNull: i == 0,
		})
	}
	return r
}

func newWorkload(seed uint64, transactions int) *workload {
	w := &workload{
		db: &scripted{name: "shop", relations: map[string]*record.Relation{
			"public.customers": relation("customers", "id", "name"),
			"public.orders":    relation("orders", "id", "customer_id", "cents", "status"),
			"public.notes":     relation("notes", "id", "customer_id", "body"),
		}},
		rng: rand.New(rand.NewPCG(seed, 1)), customers: map[int64]wCustomer{}, orders: map[int64]wOrder{},
	}
	for range 40 {
		w.change()
	}
	w.rows = slices.DeleteFunc(w.rows, func(r record.Row) bool {
		return r.Rel.Name != "notes" || r.Op != record.Insert
	})
	for _, id := range slices.Sorted(maps.Keys(w.customers)) {
		w.row(record.Insert, "customers", nil, customerTuple(id, w.customers[id]))
	}
	for _, id := range slices.Sorted(maps.Keys(w.orders)) {
		w.row(record.Insert, "orders", nil, orderTuple(id, w.orders[id]))
	}
	w.commit(true)
	for i := range transactions {
		n := 1 + w.rng.IntN(6)
		if i%20 == 19 {
			n = 300
		}
		for range n {
			w.change()
		}
		w.note()
		w.commit(false)
	}
	return w
}

func (w *workload) commit(snapshot bool) {
	n := uint64(len(w.db.log) + 1)
	tx := &record.Tx{
		Source: "shop", Position: n * 100, CommitStart: n*100 - 10, XID: uint32(n), Snapshot: snapshot,
		CommitTime: int64(n)*10_000_000 - int64(w.rng.IntN(50_000_000)),
	}
	if snapshot {
		tx.CommitStart = 0
	}
	for i := range w.rows {
		w.rows[i].Ordinal = uint32(i)
	}
	w.db.log = append(w.db.log, sources.TxRows{Tx: tx, Rows: w.rows})
	w.rows = nil
}

func (w *workload) row(op record.Op, table string, older, newer record.Tuple) {
	r := record.Row{Rel: w.db.relations["public."+table], Op: op, Old: older, New: newer}
	if older != nil {
		r.OldKind = record.OldKey
	}
	w.rows = append(w.rows, r)
}

// change makes one random change of a table.
func (w *workload) change() {
	id := int64(w.rng.IntN(25))
	switch p := w.rng.IntN(100); {
	case p < 8:
		w.note()
	case p < 30:
		w.changeCustomer(id%8, p)
	case p == 99 && w.rng.IntN(8) == 0:
		w.row(record.Truncate, "orders", nil, nil)
		clear(w.orders)
	default:
		w.changeOrder(id, p)
	}
}

func (w *workload) changeCustomer(id int64, p int) {
	c := wCustomer{Name: fmt.Sprintf("name %d", w.rng.IntN(4))}
	_, has := w.customers[id]
	switch {
	case !has:
		w.row(record.Insert, "customers", nil, customerTuple(id, c))
	case p < 14:
		w.row(record.Delete, "customers", customerTuple(id, wCustomer{}), nil)
		delete(w.customers, id)
		return
	default:
		w.row(record.Update, "customers", nil, customerTuple(id, c))
	}
	w.customers[id] = c
}

func (w *workload) changeOrder(id int64, p int) {
	o := wOrder{Cents: int64(w.rng.IntN(100)), Status: []string{"new", "paid", "paid"}[w.rng.IntN(3)]}
	if customer := int64(w.rng.IntN(9)); customer < 8 {
		o.CustomerID = &customer
	}
	_, has := w.orders[id]
	switch {
	case !has:
		w.row(record.Insert, "orders", nil, orderTuple(id, o))
	case p < 50:
		w.row(record.Delete, "orders", orderTuple(id, wOrder{}), nil)
		delete(w.orders, id)
		return
	case p < 60:
		if to := int64(w.rng.IntN(25)); !hasKey(w.orders, to) { // the key moves
			w.row(record.Update, "orders", orderTuple(id, wOrder{}), orderTuple(to, o))
			delete(w.orders, id)
			w.orders[to] = o
			return
		}
		fallthrough
	default:
		w.row(record.Update, "orders", nil, orderTuple(id, o))
	}
	w.orders[id] = o
}

func hasKey[K comparable, V any](m map[K]V, k K) bool {
	_, ok := m[k]
	return ok
}

// note writes to the outbox; now and then the row is deleted at once.
func (w *workload) note() {
	w.notes++
	customer := int64(w.rng.IntN(10))
	w.row(record.Insert, "notes", nil, record.Tuple{
		num(w.notes), num(customer), txt(fmt.Sprintf("note %d", w.notes)),
	})
	if w.rng.IntN(3) == 0 {
		w.row(record.Delete, "notes", record.Tuple{num(w.notes), {}, {}}, nil)
	}
}

func num(n int64) record.Value  { return txt(strconv.FormatInt(n, 10)) }
func txt(s string) record.Value { return record.Value{Kind: record.Text, Data: []byte(s)} }

func customerTuple(id int64, c wCustomer) record.Tuple { return record.Tuple{num(id), txt(c.Name)} }

func orderTuple(id int64, o wOrder) record.Tuple {
	customer := record.Value{Kind: record.Null}
	if o.CustomerID != nil {
		customer = num(*o.CustomerID)
	}
	return record.Tuple{num(id), customer, num(o.Cents), txt(o.Status)}
}
