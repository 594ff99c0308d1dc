package sqloracle

import (
	"cmp"
	"database/sql"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tailrace/tailrace/internal/pgserver/pgservertest"
	"github.com/tailrace/tailrace/sources"
	"github.com/tailrace/tailrace/topology"
	"github.com/tailrace/tailrace/topology/topologytest"
)

func TestMain(m *testing.M) { pgservertest.Main(m) }

const schema = `
create table orders (id bigint primary key, customer bigint, product bigint, parent bigint, cents bigint, at bigint);
create table customers (id bigint primary key, name bigint, at bigint);
create table products (id bigint primary key, name bigint);
create table a (id bigint primary key, v bigint);
create table b (id bigint primary key, v bigint);
create table c (id bigint primary key, v bigint);
create table d (id bigint primary key, v bigint);
create table versions (seq bigserial, id bigint, at bigint, name bigint);
create table clicks (id bigint primary key, customer bigint, at bigint);`

type (
	null  = sql.Null[int64]
	order struct {
		Customer, Product, Parent null
		Cents, At                 int64
	}
	// customer has a time of its own.
	customer struct{ Name, At int64 }
	product  struct{ Name int64 }
	single   struct{ V int64 }
	click    struct{ Customer, At int64 }
)

func (o order) when() time.Time    { return time.Unix(o.At, 0) }
func (c customer) when() time.Time { return time.Unix(c.At, 0) }
func (c click) when() time.Time    { return time.Unix(c.At, 0) }

// shop are the sources.
type shop struct {
	b           *topology.Builder
	orders      topology.Table[int64, order]
	customers   topology.Table[int64, customer]
	products    topology.Table[int64, product]
	a, b2, c, d topology.Table[int64, single]
	clicks      topology.Stream[int64, click]
}

func newShop() *shop {
	b, db := topology.New("sql"), sources.NewDatabase("db", nil)
	return &shop{
		b: b, orders: sources.Table[int64, order](b, db, "public.orders"),
		customers: sources.Table[int64](b, db, "public.customers", sources.EventTime(customer.when)),
		products:  sources.Table[int64, product](b, db, "public.products"),
		a:         sources.Table[int64, single](b, db, "public.a"),
		b2:        sources.Table[int64, single](b, db, "public.b"),
		c:         sources.Table[int64, single](b, db, "public.c"),
		d:         sources.Table[int64, single](b, db, "public.d"),
		clicks:    sources.Stream[int64](b, db, "public.clicks", sources.EventTime(click.when)),
	}
}

// rows shows a table as SQL would.
func rows[K comparable, V any](
	table topology.Table[K, V], show func(K, V) []any,
) func(*topologytest.Driver) [][]string {
	return func(d *topologytest.Driver) (out [][]string) {
		for k, v := range topologytest.Rows(d, table) {
			out = append(out, line(show(k, v)))
		}
		return out
	}
}

func line(values []any) (out []string) {
	for _, v := range values {
		switch v := v.(type) {
		case null:
			if out = append(out, pgservertest.Null); v.Valid {
				out[len(out)-1] = fmt.Sprint(v.V)
			}
		default:
			out = append(out, fmt.Sprint(v))
		}
	}
	return out
}

// TestTablesEqualSQL compares after every one of many random transactions.
func TestTablesEqualSQL(t *testing.T) {
	db := pgservertest.New(t)
	db.Exec(schema)
	s := newShop()
	checks := slices.Concat(s.joins(), s.groups(), s.windows(t))
	asOf := s.asOf()
	top, err := s.b.Build()
	if err != nil {
		t.Fatal(err)
	}
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	w := &workload{shop: s, rng: rand.New(rand.NewPCG(seed, 1)), has: map[string]map[int64]int64{}}
	d := topologytest.New(t, top)
	found := map[string]bool{}
	for i := range 120 {
		w.sql = nil
		d.Tx(func(tx *topologytest.Tx) { w.transaction(tx) })
		db.Exec(strings.Join(w.sql, ";\n"))
		for _, c := range checks {
			want := db.Strings(c.sql)
			same(t, c.name, c.rows(d), want)
			found[c.name] = found[c.name] || len(want) > 1
		}
		same(t, "as of", asOf(d), db.Strings(fmt.Sprintf(asOfSQL, w.firstClick)))
		if t.Failed() {
			t.Fatalf("after transaction %d:\n%s", i, strings.Join(w.sql, ";\n"))
		}
		if i%10 == 0 {
			d.Crash()
		}
	}
	for _, c := range checks {
		if !found[c.name] {
			t.Errorf("%s never had two rows: nothing was compared", c.name)
		}
	}
}

// check is an operator's result and the query that says the same.
type check struct {
	name string
	rows func(*topologytest.Driver) [][]string
	sql  string
}

func same(t *testing.T, name string, got, want [][]string) {
	t.Helper()
	for _, x := range [][][]string{got, want} {
		slices.SortFunc(x, func(a, b []string) int {
			return cmp.Compare(strings.Join(a, "|"), strings.Join(b, "|"))
		})
	}
	if g, w := fmt.Sprint(got), fmt.Sprint(want); g != w {
		t.Errorf("%s:\n%s\nSQL says\n%s", name, g, w)
	}
}

// workload makes transactions for both sides.
type workload struct {
	*shop
	rng        *rand.Rand
	has        map[string]map[int64]int64 // keys that there are, by table, with their times
	sql        []string
	clicked    int64
	firstClick int64 // of the transaction
}

const keys = 6

func (w *workload) transaction(tx *topologytest.Tx) {
	w.firstClick = w.clicked + 1
	for range 1 + w.rng.IntN(6) {
		id := w.rng.Int64N(keys)
		switch w.rng.IntN(8) {
		case 0, 1, 2:
			o := order{
				Customer: w.reference(), Product: w.reference(), Parent: w.reference(),
				Cents: w.rng.Int64N(5), At: w.time(),
			}
			change(w, tx, "orders", w.orders, id*3+w.rng.Int64N(3), o, o.Customer, o.Product, o.Parent, o.Cents, o.At)
		case 3:
			c := customer{Name: w.rng.Int64N(3), At: w.time()}
			at, had := w.has["customers"][id]
			if change(w, tx, "customers", w.customers, id, c, c.Name, c.At) {
				w.run("insert into versions (id, at, name) values (%d, %d, %d)", id, c.At, c.Name)
			} else if had {
				w.run("insert into versions (id, at) values (%d, %d)", id, at)
			}
			if _, has := w.has["customers"][id]; has {
				w.has["customers"][id] = c.At
			}
		case 4:
			p := product{Name: w.rng.Int64N(3)}
			change(w, tx, "products", w.products, id, p, p.Name)
		case 5:
			w.clicked++
			c := click{Customer: id, At: w.time()}
			topologytest.Emit(tx, w.clicks, w.clicked, c)
			w.run("insert into clicks values (%d, %d, %d)", w.clicked, c.Customer, c.At)
		default:
			tables := []topology.Table[int64, single]{w.a, w.b2, w.c, w.d}
			i, v := w.rng.IntN(4), single{V: w.rng.Int64N(3)}
			change(w, tx, "abcd"[i:i+1], tables[i], id, v, v.V)
		}
	}
}

func (w *workload) run(statement string, args ...any) {
	w.sql = append(w.sql, fmt.Sprintf(statement, args...))
}

// change writes a row, or deletes it if it is there, on both sides.
func change[V any](
	w *workload, tx *topologytest.Tx, name string, table topology.Table[int64, V], id int64, v V, columns ...any,
) (written bool) {
	if w.has[name] == nil {
		w.has[name] = map[int64]int64{}
	}
	if _, has := w.has[name][id]; has && w.rng.IntN(3) == 0 {
		delete(w.has[name], id)
		topologytest.Delete(tx, table, id)
		w.run("delete from %s where id = %d", name, id)
		return false
	}
	w.has[name][id] = 0
	topologytest.Upsert(tx, table, id, v)
	texts := strings.Join(line(append([]any{id}, columns...)), ", ")
	values := strings.ReplaceAll(texts, pgservertest.Null, "null")
	w.run("delete from %s where id = %d; insert into %s values (%s)", name, id, name, values)
	return true
}

func (w *workload) reference() null {
	if w.rng.IntN(5) == 0 {
		return null{}
	}
	return null{V: w.rng.Int64N(keys), Valid: true}
}

// time is within four days around the end of winter time in Berlin.
func (w *workload) time() int64 {
	return time.Date(2026, 3, 27, 0, 0, 0, 0, time.UTC).Unix() + w.rng.Int64N(4*24*3600)
}
