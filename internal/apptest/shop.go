// Package apptest tests whole apps against a real PostgreSQL: views and sinks
// against SQL, never-torn reads, and crashes.
package apptest

import (
	"database/sql"
	"fmt"
	"math/rand/v2"
	"strings"

	"github.com/tailrace/tailrace/operators"
	"github.com/tailrace/tailrace/operators/aggregate"
	"github.com/tailrace/tailrace/record"
	"github.com/tailrace/tailrace/sinks"
	"github.com/tailrace/tailrace/sources"
	"github.com/tailrace/tailrace/topology"
	"github.com/tailrace/tailrace/view"
)

// ShopSchema makes the tables of the shop, replica identity default. bio and note
// are stored out of line and uncompressed, so an update that does not touch them
// leaves them out of the log.
const ShopSchema = pairsSchema + `
create table customers (id bigint primary key, name text not null, region text, bio text);
alter table customers alter bio set storage external;
create table orders (id bigint primary key, customer_id bigint, status text not null, note text);
alter table orders alter note set storage external;
create table lines (order_id bigint, no int, cents bigint not null, qty numeric, weight double precision,
	primary key (order_id, no));
create table outbox (id bigint primary key, customer_id bigint not null, what text not null);`

// pairsSchema makes two tables whose rows with the same id always carry the same stamp
// when a transaction commits, and exist together.
const pairsSchema = `
create table pair_a (id bigint primary key, stamp bigint not null);
create table pair_b (id bigint primary key, stamp bigint not null);`

// Row types of the shop.
type (
	Customer struct {
		Name   string
		Region sql.Null[string]
		Bio    sql.Null[string]
	}
	Order struct {
		CustomerID sql.Null[int64]
		Status     string
		Note       sql.Null[string]
	}
	LineKey struct {
		OrderID int64
		No      int32
	}
	Line struct {
		OrderID int64
		Cents   int64
		Qty     sql.Null[record.Decimal]
		Weight  sql.Null[float64]
	}
	Pair   struct{ Stamp int64 }
	Outbox struct {
		CustomerID int64
		What       string
	}
	Totals struct {
		Lines int64 `db:"lines"`
		Cents int64 `db:"cents"`
	}
	// Doc is a row of the view "docs".
	Doc struct {
		Status   string           `db:"status"`
		Customer sql.Null[string] `db:"customer"`
		NoteLen  int64            `db:"note_len"`
		BioLen   int64            `db:"bio_len"`
		Lines    int64            `db:"lines"`
		Cents    int64            `db:"cents"`
	}
	// Enriched is an event of the stream "events".
	Enriched struct {
		What     string           `db:"what"`
		Customer sql.Null[string] `db:"customer"`
	}
)

// Shop is the topology over the tables and the handles of its views.
type Shop struct {
	Topology *topology.Topology
	Docs     *view.View[int64, Doc]
	Regions  *view.View[sql.Null[string], Totals]
	Pairs    *view.View[int64, Pair]
	Sums     *view.View[int64, Sums]
}

// SQL that each result equals.
const (
	DocsSQL = `select o.id, o.status, c.name, coalesce(length(o.note),0), coalesce(length(c.bio),0),
		(select count(*) from lines l where l.order_id=o.id),
		(select coalesce(sum(cents),0) from lines l where l.order_id=o.id)
		from orders o left join customers c on c.id=o.customer_id order by o.id`
	RegionsSQL = `select c.region, sum((select count(*) from lines l where l.order_id=o.id))::bigint,
		sum((select coalesce(sum(cents),0) from lines l where l.order_id=o.id))::bigint
		from orders o join customers c on c.id=o.customer_id where o.status='paid'
		group by c.region order by c.region nulls first`
	PairsSQL = `select id, stamp from pair_a order by id`
)

// NewShop builds the topology. events may be nil.
func NewShop(shop *sources.Database, warehouse, events *sinks.Target) (*Shop, error) {
	s := &Shop{}
	b := topology.New("shop")
	customers := sources.Table[int64, Customer](b, shop, "public.customers")
	orders := sources.Table[int64, Order](b, shop, "public.orders")
	lines := sources.Table[LineKey, Line](b, shop, "public.lines")
	totals := operators.Aggregate("order-totals",
		operators.GroupBy(lines, func(k LineKey, _ Line) int64 { return k.OrderID }),
		aggregate.Combine2(aggregate.Count[Line](), aggregate.Sum(func(l Line) int64 { return l.Cents }),
			func(n, cents int64) Totals { return Totals{n, cents} }))
	type priced struct {
		Order  Order
		Totals Totals
	}
	full := operators.LeftJoin("order-lines", orders, totals,
		func(o Order, t Totals, _ bool) priced { return priced{o, t} })
	docs := operators.LeftJoinForeignKeyNull("order-customer", full, customers,
		func(p priced) sql.Null[int64] { return p.Order.CustomerID },
		func(p priced, c Customer, ok bool) Doc {
			return Doc{
				Status: p.Order.Status, Customer: sql.Null[string]{V: c.Name, Valid: ok},
				NoteLen: int64(len(p.Order.Note.V)), BioLen: int64(len(c.Bio.V)),
				Lines: p.Totals.Lines, Cents: p.Totals.Cents,
			}
		})
	s.Docs = sinks.View(docs, "docs")
	type sale struct {
		Region sql.Null[string]
		Totals Totals
	}
	paid := operators.Filter(full, func(_ int64, p priced) bool { return p.Order.Status == "paid" })
	sales := operators.JoinForeignKeyNull("sale-customer", paid, customers,
		func(p priced) sql.Null[int64] { return p.Order.CustomerID },
		func(p priced, c Customer) sale { return sale{c.Region, p.Totals} })
	regions := operators.Aggregate("region-totals",
		operators.GroupBy(sales, func(_ int64, x sale) sql.Null[string] { return x.Region }),
		aggregate.Combine2(aggregate.Sum(func(x sale) int64 { return x.Totals.Lines }),
			aggregate.Sum(func(x sale) int64 { return x.Totals.Cents }),
			func(n, cents int64) Totals { return Totals{n, cents} }))
	s.Regions = sinks.View(regions, "regions")
	pairs := joinPairs(b, shop)
	s.Pairs = sinks.View(pairs, "pair-rows")
	sums := lineSums(lines)
	s.Sums = sinks.View(sums, "sums")
	if warehouse != nil {
		sinks.Table(docs, warehouse, "docs")
		sinks.Table(operators.MapValues(pairs, func(_ int64, p Pair) Pair { return p }), warehouse, "pairs")
		sinks.Table(sums, warehouse, "sums")
	}
	if events != nil {
		sinks.Stream(enriched(b, shop, customers), events, "events")
	}
	var err error
	s.Topology, err = b.Build()
	return s, err
}

// RandomTx returns one transaction of the shop: a few statements over several
// tables, with key changes, moves, NULLs and sometimes a truncate. stamp is unique a
// transaction.
func RandomTx(r *rand.Rand, stamp int64) string {
	var b strings.Builder
	b.WriteString("begin;")
	for range 1 + r.IntN(6) {
		b.WriteString(randomStatement(r))
	}
	if r.IntN(2) == 0 {
		b.WriteString(pairStatement(r, stamp))
	}
	if r.IntN(3) == 0 {
		fmt.Fprintf(&b, "insert into outbox values (%d, %d, 'what %d');", stamp, r.IntN(40), stamp)
		if r.IntN(4) == 0 {
			fmt.Fprintf(&b, "delete from outbox where id=%d;", stamp)
		}
	}
	if stamp%200 == 0 {
		b.WriteString([]string{"truncate lines;", "truncate orders, lines;", "truncate customers;"}[r.IntN(3)])
	}
	b.WriteString("commit;")
	return b.String()
}

func randomStatement(r *rand.Rand) string {
	customer, order := r.IntN(40), r.IntN(120)
	fk := fmt.Sprint(r.IntN(44))
	if r.IntN(8) == 0 {
		fk = "null"
	}
	switch n := r.IntN(200); {
	case n < 30:
		return fmt.Sprintf(
			"insert into orders values (%d,%s,'%s',%s) on conflict (id) do update set customer_id=excluded.customer_id, status=excluded.status;",
			order,
			fk,
			status(r),
			large(r),
		)
	case n < 60:
		return fmt.Sprintf(
			"insert into lines values (%d,%d,%d,%s,%s) on conflict (order_id,no) do update "+
				"set cents=excluded.cents, qty=excluded.qty, weight=excluded.weight;",
			order, r.IntN(4), r.IntN(1000), magnitude(r, 20, 30), magnitude(r, 20, 200))
	case n < 80:
		return fmt.Sprintf(
			"insert into customers values (%d,'n%d',%s,%s) on conflict (id) do update set name=excluded.name;",
			customer,
			r.IntN(1000),
			region(r),
			large(r),
		)
	case n < 100:
		return fmt.Sprintf("update customers set region=%s where id=%d;", region(r), customer)
	case n < 120:
		return fmt.Sprintf("update orders set customer_id=%s where id=%d;", fk, order)
	case n < 135:
		return fmt.Sprintf("update orders set status='%s' where id %% 7 = %d;", status(r), r.IntN(7))
	case n < 145:
		return fmt.Sprintf("update orders set status=status where id=%d;", order)
	case n < 155:
		return fmt.Sprintf("delete from orders where id=%d;", order)
	case n < 165:
		return fmt.Sprintf("delete from customers where id=%d;", customer)
	case n < 175:
		return fmt.Sprintf("delete from lines where order_id=%d;", order)
	case n < 183:
		return fmt.Sprintf("update orders set id=%d where id=%d and not exists (select from orders where id=%d);",
			order, r.IntN(120), order)
	case n < 190:
		return fmt.Sprintf(
			"update customers set id=%d where id=%d and not exists (select from customers where id=%d);",
			customer, r.IntN(40), customer)
	default:
		return fmt.Sprintf("update lines set order_id=%d, cents=cents+1 "+
			"where order_id=%d and not exists (select from lines where order_id=%d);",
			order, r.IntN(120), order)
	}
}

// pairStatement changes both rows of some pairs together, one table after the other.
// The lock keeps other writers out until the transaction ends: between its two
// statements another one could commit a pair that only the second one sees.
func pairStatement(r *rand.Rand, stamp int64) string {
	const lock = "select pg_advisory_xact_lock(1);"
	id := r.IntN(20)
	switch r.IntN(4) {
	case 0:
		return lock + fmt.Sprintf("delete from pair_a where id=%d; delete from pair_b where id=%d;", id, id)
	case 1:
		return lock + fmt.Sprintf(
			"update pair_a set stamp=%d where id%%3=%d; update pair_b set stamp=%d where id%%3=%d;",
			stamp,
			id%3,
			stamp,
			id%3,
		)
	}
	return lock + fmt.Sprintf(
		"insert into pair_a values (%d,%d) on conflict (id) do update set stamp=excluded.stamp;"+
			"insert into pair_b values (%d,%d) on conflict (id) do update set stamp=excluded.stamp;",
		id,
		stamp,
		id,
		stamp,
	)
}

func status(r *rand.Rand) string { return []string{"open", "paid", "paid", "void"}[r.IntN(4)] }

func region(r *rand.Rand) string {
	return []string{"null", "'north'", "'south'", "'east'"}[r.IntN(4)]
}

// large is a text that is stored out of line, or NULL.
func large(r *rand.Rand) string {
	if r.IntN(3) == 0 {
		return "null"
	}
	return fmt.Sprintf("repeat('x', %d)", 2500+r.IntN(100))
}
