package dev

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"time"
)

// shop is the shop of internal/shop without a database: its rows are in memory.
type shop struct {
	r         *rand.Rand
	customers map[int64]*customer
	orders    map[int64]*order
	products  []int64 // their prices; the first has the id 1
	next      int64   // id of an order or a customer
	changes   []change
}

type customer struct{ name, city string }

type order struct {
	customer int64 // 0 is NULL
	status   string
	cents    int64
	placed   time.Time
	lines    map[int]line
}

type line struct{ product, quantity, cents int64 }

var cities = []string{"Hamburg", "Berlin", "Bremen", "Kiel", "Rostock"}

// newShop makes a shop with its first rows, which are a snapshot.
func newShop(seed uint64, count int) *shop {
	s := &shop{
		r: rand.New(rand.NewPCG(seed, 1)), customers: map[int64]*customer{}, orders: map[int64]*order{},
	}
	for i := range 50 {
		s.products = append(s.products, 99+137*int64(i+1)%9901)
		s.note(products, 'r', i+1, fmt.Sprint("product ", i+1), s.products[i])
	}
	for range max(20, count/10) {
		s.newCustomer('r')
	}
	for range count {
		s.place('r')
	}
	return s
}

// take returns what has changed since it was called last.
func (s *shop) take() []change {
	c := s.changes
	s.changes = nil
	return c
}

func (s *shop) note(table int, op byte, values ...any) {
	s.changes = append(s.changes, change{table, op, values})
}

// act makes one transaction.
func (s *shop) act() {
	switch n := s.r.IntN(100); {
	case n < 40:
		s.place('c')
	case n < 65:
		s.advance()
	case n < 75:
		s.changeLine()
	case n < 83:
		s.moveToCustomer()
	case n < 88:
		s.rename()
	case n < 92:
		s.newCustomer('c')
	case n < 95:
		s.deleteCustomer()
	default:
		s.deleteOrder()
	}
}

// pick returns some key of a map, 0 where it is empty.
func pick[V any](r *rand.Rand, rows map[int64]V) int64 {
	if len(rows) == 0 {
		return 0
	}
	keys := slices.Sorted(maps.Keys(rows))
	return keys[r.IntN(len(keys))]
}

func (s *shop) newCustomer(op byte) {
	s.next++
	s.customers[s.next] = &customer{fmt.Sprint("customer ", 1+s.r.IntN(60)), cities[s.r.IntN(len(cities))]}
	s.putCustomer(op, s.next)
}

func (s *shop) putCustomer(op byte, id int64) {
	c := s.customers[id]
	s.note(customers, op, id, c.name, c.city)
}

func (s *shop) place(op byte) {
	s.next++
	id := s.next
	o := &order{status: "open", placed: time.Now(), lines: map[int]line{}}
	if s.r.IntN(20) > 0 {
		o.customer = pick(s.r, s.customers)
	}
	if op == 'r' {
		o.status = []string{"open", "paid", "paid", "shipped"}[s.r.IntN(4)]
	}
	s.orders[id] = o
	for n := range 1 + s.r.IntN(4) {
		s.putLine(op, id, n+1)
	}
	s.putOrder(op, id)
	if op == 'c' {
		s.send("OrderPlaced", id)
	}
}

// putLine writes a line of an order.
func (s *shop) putLine(op byte, id int64, n int) {
	o := s.orders[id]
	l := line{product: 1 + s.r.Int64N(int64(len(s.products))), quantity: 1 + s.r.Int64N(5)}
	l.cents = s.products[l.product-1] * l.quantity
	o.cents += l.cents - o.lines[n].cents
	o.lines[n] = l
	s.note(orderLines, op, id, n, l.product, l.quantity, l.cents)
}

func (s *shop) putOrder(op byte, id int64) {
	o := s.orders[id]
	var reference any
	if o.customer != 0 {
		reference = o.customer
	}
	s.note(orders, op, id, reference, o.status, o.cents, o.placed, nil)
}

func (s *shop) send(kind string, id int64) {
	var b [16]byte
	for i := range b {
		b[i] = byte(s.r.IntN(256))
	}
	var reference any
	if c := s.orders[id].customer; c != 0 {
		reference = c
	}
	uuid := fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
	s.note(outbox, 'c', uuid, kind, id, reference, fmt.Sprintf(`{"order": %d}`, id), time.Now())
}

func (s *shop) advance() {
	id := pick(s.r, s.orders)
	if id == 0 {
		return
	}
	s.orders[id].status = []string{"paid", "paid", "shipped", "cancelled", "open"}[s.r.IntN(5)]
	s.putOrder('u', id)
	s.send("OrderAdvanced", id)
}

func (s *shop) changeLine() {
	id := pick(s.r, s.orders)
	if id == 0 {
		return
	}
	n := 1 + s.r.IntN(4)
	o := s.orders[id]
	l, there := o.lines[n]
	switch {
	case !there:
		s.putLine('c', id, n)
	case s.r.IntN(3) > 0:
		s.putLine('u', id, n)
	default:
		o.cents -= l.cents
		delete(o.lines, n)
		s.note(orderLines, 'd', id, n)
	}
	s.putOrder('u', id)
}

// moveToCustomer gives an order to another customer: a foreign key moves.
func (s *shop) moveToCustomer() {
	if id := pick(s.r, s.orders); id != 0 {
		s.orders[id].customer = pick(s.r, s.customers)
		s.putOrder('u', id)
	}
}

func (s *shop) rename() {
	if id := pick(s.r, s.customers); id != 0 {
		s.customers[id].name = fmt.Sprint("customer ", 1+s.r.IntN(60))
		s.putCustomer('u', id)
	}
}

// deleteCustomer removes a customer. The orders stay, and dangle.
func (s *shop) deleteCustomer() {
	if id := pick(s.r, s.customers); id != 0 {
		delete(s.customers, id)
		s.note(customers, 'd', id)
	}
}

func (s *shop) deleteOrder() {
	id := pick(s.r, s.orders)
	if id == 0 {
		return
	}
	for _, n := range slices.Sorted(maps.Keys(s.orders[id].lines)) {
		s.note(orderLines, 'd', id, n)
	}
	delete(s.orders, id)
	s.note(orders, 'd', id)
}

func (s *shop) revenue() map[string][2]int64 {
	out := map[string][2]int64{}
	for _, o := range s.orders {
		if c := s.customers[o.customer]; c != nil && o.status == "paid" {
			sum := out[c.name]
			out[c.name] = [2]int64{sum[0] + 1, sum[1] + o.cents}
		}
	}
	return out
}
