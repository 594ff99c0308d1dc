package sim

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"strconv"
	"strings"

	"github.com/tailrace/tailrace/internal/pgoutput"
	"github.com/tailrace/tailrace/internal/sim/walsender"
)

// directTables are the tables of the database.
func directTables(full bool) (orders, customers *walsender.Table) {
	orders = &walsender.Table{OID: 16400, Name: "orders", Full: full, Columns: []walsender.Column{
		{Name: "id", Int: true}, {Name: "customer"}, {Name: "cents", Int: true}, {Name: "note"},
	}}
	customers = &walsender.Table{OID: 16410, Name: "customers", Columns: []walsender.Column{
		{Name: "id"}, {Name: "name"},
	}}
	return orders, customers
}

// directState is what the tables hold after some transactions, and what follows from it.
type directState struct {
	rows map[string]map[string]walsender.Row // by table and key
	// said are the messages, each with the end of its transaction.
	said map[string]uint64
	// end is that of the last transaction with rows.
	end uint64
}

func newDirectState() *directState {
	return &directState{
		rows: map[string]map[string]walsender.Row{"orders": {}, "customers": {}}, said: map[string]uint64{},
	}
}

// apply applies a transaction, change by change.
func (s *directState) apply(tx *walsender.Tx) {
	for _, c := range tx.Rows() {
		if c.Kind == pgoutput.Message {
			s.said[c.Content] = tx.End
			continue
		}
		s.end = tx.End
		switch c.Kind {
		case pgoutput.Truncate:
			clear(s.rows[c.Table.Name])
		case pgoutput.Insert:
			s.rows[c.Table.Name][c.New[0]] = c.New
		case pgoutput.Update:
			delete(s.rows[c.Table.Name], c.Old[0])
			s.rows[c.Table.Name][c.New[0]] = c.New
		case pgoutput.Delete:
			delete(s.rows[c.Table.Name], c.Old[0])
		}
	}
}

// results are the rows of views and of the target's tables.
func (s *directState) results() map[string]map[string]string {
	out := map[string]map[string]string{"named": {}, "revenue": {}}
	orders, cents := map[string]int{}, map[string]int{}
	for id, o := range s.rows["orders"] {
		n, _ := strconv.Atoi(o[2])
		orders[o[1]]++
		cents[o[1]] += n
		if c, ok := s.rows["customers"][o[1]]; ok {
			out["named"][id] = strings.Join([]string{c[1], o[2], o[3]}, " ")
		}
	}
	for customer, n := range orders {
		out["revenue"][customer] = fmt.Sprint(n, " ", cents[customer])
	}
	return out
}

// directOracle knows the state at each position.
type directOracle struct {
	server *walsender.Server
	known  []*walsender.Tx
	state  *directState
	n      int // transactions in it
}

// at returns the state at a position.
func (o *directOracle) at(position uint64) *directState {
	o.known = o.server.Committed()
	if o.state == nil || o.n > 0 && o.known[o.n-1].End > position {
		o.state, o.n = newDirectState(), 0
	}
	for o.n < len(o.known) && o.known[o.n].End <= position {
		o.state.apply(o.known[o.n])
		o.n++
	}
	return o.state
}

// directScript writes transactions. Each lane has rows of its own: those that a transaction
// has written are locked.
type directScript struct {
	plan              *directPlan
	server            *walsender.Server
	random            *rand.Rand
	orders, customers *walsender.Table
	lanes             []*lane
	next              int
}

type lane struct {
	number int
	state  *directState // committed
	// tx is the transaction that is open, with what it sees.
	tx   *walsender.Tx
	sees *directState
}

func newDirectScript(p *directPlan, s *walsender.Server, orders, customers *walsender.Table) *directScript {
	d := &directScript{
		plan: p, server: s, random: rand.New(rand.NewPCG(p.seed, 12)), orders: orders, customers: customers,
	}
	for i := range 1 + p.lanes {
		d.lanes = append(d.lanes, &lane{number: i, state: newDirectState()})
	}
	return d
}

// copyState copies what a lane sees.
func copyState(s *directState) *directState {
	out := newDirectState()
	for name, rows := range s.rows {
		maps.Copy(out.rows[name], rows)
	}
	return out
}

// step writes one transaction, or a part of one.
func (d *directScript) step() error {
	r := d.random
	l := d.lanes[r.IntN(len(d.lanes))]
	if l.tx == nil {
		switch r.IntN(16) {
		case 0, 1:
			d.server.Idle()
		case 2:
			d.next++
			d.server.Say("outbox", fmt.Sprint("said ", d.next))
		}
		l.tx, l.sees = d.server.Begin(), copyState(l.state)
	}
	n := 1 + r.IntN(6)
	if r.IntN(25) == 0 {
		n += r.IntN(300)
	}
	d.write(l, n)
	if r.IntN(4) == 0 {
		before, sub := copyState(l.sees), d.server.Sub(l.tx)
		d.writeSub(l, 1+r.IntN(5), sub)
		if l.number > 0 && r.IntN(2) == 0 {
			d.server.Piece(l.tx)
		}
		if r.IntN(2) == 0 {
			d.server.RollbackSub(l.tx, sub)
			l.sees = before
		}
	}
	switch n := r.IntN(10); {
	case l.number > 0 && n < 5: // goes on later
		d.server.Piece(l.tx)
	case n == 9:
		d.server.Rollback(l.tx)
		l.tx = nil
	default:
		return d.commit(l)
	}
	return nil
}

// commit commits the transaction of a lane.
func (d *directScript) commit(l *lane) error {
	tx, sees := l.tx, l.sees
	l.tx = nil
	if err := d.server.Commit(tx); err != nil {
		return nil // The server has ended meanwhile, and with it the transaction.
	}
	l.state = sees
	return nil
}

// finish ends all transactions.
func (d *directScript) finish() error {
	for _, l := range d.lanes {
		if l.tx == nil {
			continue
		}
		if err := d.commit(l); err != nil {
			return err
		}
	}
	return nil
}

func (d *directScript) write(l *lane, n int) { d.writeSub(l, n, 0) }

func (d *directScript) writeSub(l *lane, n int, sub uint32) {
	for range n {
		c := d.change(l)
		c.Sub = sub
		d.server.Change(l.tx, c)
		if c.Kind != pgoutput.Message {
			l.sees.apply(&walsender.Tx{Changes: []walsender.Change{c}})
		}
	}
}

// change chooses a change.
func (d *directScript) change(l *lane) walsender.Change {
	r := d.random
	d.next++
	if n := r.IntN(30); n == 0 {
		return walsender.Change{Kind: pgoutput.Message, Prefix: "outbox", Content: fmt.Sprint("said ", d.next)}
	} else if n == 1 && len(d.lanes) == 1 {
		t := []*walsender.Table{d.orders, d.customers}[r.IntN(2)]
		return walsender.Change{Kind: pgoutput.Truncate, Table: t}
	}
	t, row := d.orders, d.order(l)
	if r.IntN(3) == 0 {
		t, row = d.customers, walsender.Row{
			fmt.Sprintf("c%d.%d", l.number, r.IntN(7)), fmt.Sprint("name", r.IntN(1000)),
		}
	}
	old, there := l.sees.rows[t.Name][row[0]]
	switch {
	case !there:
		return walsender.Change{Kind: pgoutput.Insert, Table: t, New: row}
	case r.IntN(4) == 0:
		return walsender.Change{Kind: pgoutput.Delete, Table: t, Old: old}
	}
	c := walsender.Change{Kind: pgoutput.Update, Table: t, Old: old, New: row}
	if t == d.orders && len(old[3]) > 20 && r.IntN(2) == 0 {
		c.New[3], c.Same = old[3], 1<<3
	}
	if other := d.order(l)[0]; t == d.orders && r.IntN(4) == 0 && l.sees.rows[t.Name][other] == nil {
		c.New[0] = other // another key
	}
	return c
}

func (d *directScript) order(l *lane) walsender.Row {
	r := d.random
	note := fmt.Sprint("note", r.IntN(10))
	if r.IntN(3) == 0 {
		note += strings.Repeat(".", 20+r.IntN(100))
	}
	return walsender.Row{
		strconv.Itoa(1000*l.number + r.IntN(40)), fmt.Sprintf("c%d.%d", r.IntN(len(d.lanes)), r.IntN(7)),
		strconv.Itoa(r.IntN(1000)), note,
	}
}
