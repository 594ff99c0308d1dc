package sim

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"time"
)

// The oracle makes of the input topics, read as a whole, what a shape has to put out. It
// shares nothing with what it judges: plain maps, one record after the other.

// input is a record of an input topic.
type input struct {
	table string
	key   string
	row   *row // nil where it deletes
	at    time.Time
}

// row has the columns of all tables.
type row struct {
	Customer, Name, Card, Walk string
	Cents, Percent, Number     int64
}

// expected is what outputs and views hold in the end.
type expected struct {
	// tables are the rows of outputs, by topic and key, as JSON.
	tables map[string]map[string]string
	// events are how often each is in an output.
	events map[string]map[string]int
	// views are rows as fmt prints them.
	views map[string]map[string]string
}

// readInput reads a record in either form; ok says that it is a row's.
func readInput(table string, key, value []byte, at time.Time, debezium bool) (in input, ok bool, err error) {
	in = input{table: table, key: string(key), at: at}
	if !debezium {
		if value != nil {
			err = json.Unmarshal(value, &in.row)
		}
		return in, true, err
	}
	var k struct{ Key string }
	if err := json.Unmarshal(key, &k); err != nil || value == nil {
		return in, false, err // behind each delete there is a record without a value
	}
	var change struct {
		Op    string
		After *row
	}
	err = json.Unmarshal(value, &change)
	in.key, in.row = k.Key, change.After
	return in, true, err
}

// latest are the rows that a table has in the end.
func latest(in []input, table string) map[string]row {
	out := map[string]row{}
	for _, r := range in {
		switch {
		case r.table != table:
		case r.row == nil:
			delete(out, r.key)
		default:
			out[r.key] = *r.row
		}
	}
	return out
}

func newExpected() *expected {
	return &expected{map[string]map[string]string{}, map[string]map[string]int{}, map[string]map[string]string{}}
}

// show expects a table in a topic and as a view.
func (e *expected) show(name string) (set func(key, value, shown string)) {
	rows, view := map[string]string{}, map[string]string{}
	e.tables[name], e.views[name] = rows, view
	return func(key, value, shown string) {
		rows[strconv.Quote(key)] = fmt.Sprintf(`{"key":%q,%s}`, key, value)
		view[key] = shown
	}
}

func expectFilter(in []input) *expected {
	e := newExpected()
	set := e.show("cheap")
	for key, o := range latest(in, "orders") {
		if o.Cents < 500 {
			set(key, fmt.Sprintf(`"customer":%q,"cents":%d`, o.Customer+"!", o.Cents+1),
				fmt.Sprintf("{%s %d}", o.Customer+"!", o.Cents+1))
		}
	}
	seen := map[string]int{}
	e.events["seen"] = seen
	for _, r := range in {
		if r.table == "clicks" && r.row.Number%2 == 0 {
			seen[fmt.Sprintf(`{"number":%d,"card":%q}`, r.row.Number, r.row.Card)]++
		}
	}
	return e
}

func joined(in []input) map[string]row {
	out := map[string]row{}
	rates := latest(in, "rates")
	for key, o := range latest(in, "orders") {
		if r, ok := rates[key]; ok {
			out[key] = row{Customer: o.Customer, Cents: o.Cents * (100 + r.Percent) / 100}
		}
	}
	return out
}

func expectJoin(in []input) *expected {
	e := newExpected()
	set := e.show("priced")
	for key, p := range joined(in) {
		set(key, fmt.Sprintf(`"customer":%q,"cents":%d`, p.Customer, p.Cents),
			fmt.Sprintf("{%s %d}", p.Customer, p.Cents))
	}
	return e
}

func expectForeignKey(in []input) *expected {
	e := newExpected()
	set := e.show("named")
	customers := latest(in, "customers")
	for key, o := range latest(in, "orders") {
		if c, ok := customers[o.Customer]; ok {
			set(key, fmt.Sprintf(`"name":%q,"cents":%d`, c.Name, o.Cents), fmt.Sprintf("{%s %d}", c.Name, o.Cents))
		}
	}
	return e
}

func expectAggregate(in []input) *expected {
	e := expectJoin(in)
	orders, cents := map[string]int64{}, map[string]int64{}
	for _, p := range joined(in) {
		orders[p.Customer]++
		cents[p.Customer] += p.Cents
	}
	set := e.show("revenue")
	for c, n := range orders {
		set(c, fmt.Sprintf(`"orders":%d,"cents":%d`, n, cents[c]), fmt.Sprintf("{%d %d}", n, cents[c]))
	}
	return e
}

func expectWalks(in []input) *expected {
	e := newExpected()
	steps, last, broken := map[string]int64{}, map[string]int64{}, map[string]int64{}
	for _, r := range in {
		walk := r.row.Walk
		if r.row.Number != last[walk]+1 {
			broken[walk]++
		}
		steps[walk]++
		last[walk] = r.row.Number
	}
	set := e.show("walks")
	for walk, n := range steps {
		set(walk, fmt.Sprintf(`"steps":%d,"last":%d,"broken":%d`, n, last[walk], broken[walk]),
			fmt.Sprintf("{%d %d %d}", n, last[walk], broken[walk]))
	}
	return e
}

// Each click is looked up once, whenever that was.
func expectEnrich(in []input) *expected {
	e := newExpected()
	e.events["checked"] = map[string]int{}
	for _, r := range in {
		if r.table == "clicks" {
			e.events["checked"][fmt.Sprint(r.row.Number)]++
		}
	}
	return e
}

const minute = 10 * time.Second // a short one

func expectWindows(in []input) *expected {
	e := newExpected()
	counts := map[string]int{}
	for _, r := range in {
		start := r.at.Truncate(minute)
		counts[fmt.Sprintf("%s %d", r.row.Card, start.UnixMicro())]++
	}
	e.tables["perMinute"], e.views["perMinute"] = map[string]string{}, map[string]string{}
	for group, n := range counts {
		e.tables["perMinute"][group] = fmt.Sprint(n)
		e.views["perMinute"][group] = fmt.Sprint(n)
	}
	return e
}

// sortInputs puts the records of all topics into the order in which they were written.
func sortInputs(in []input) {
	slices.SortStableFunc(in, func(a, b input) int { return a.at.Compare(b.at) })
}
