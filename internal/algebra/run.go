package algebra

import (
	"fmt"
	"math/rand/v2"
	"strconv"
	"time"

	"github.com/tailrace/tailrace/internal/task"
	"github.com/tailrace/tailrace/record"
	"github.com/tailrace/tailrace/state"
)

// Keys says how many keys records are spread over, and how much memory there is for
// what operators keep of them.
type Keys struct {
	Name string
	// Orders and Customers are how many there are. Records are spread evenly.
	Orders, Customers int
	// Clicks is after how many of them their keys begin again.
	Clicks int
	// RecordTime is by how much a record lets event time advance. A window of Span
	// holds as many records whatever the size of steps.
	RecordTime time.Duration
	// Commit is how many records an epoch has at least.
	Commit int
	// Memory bounds the memory of what operators keep; 0 means no bound.
	Memory int64
}

// customers is how many customers there are at least.
const customers = 1_000

// Run is a task with its input.
type Run struct {
	keys        Keys
	task        *task.Task
	env         *state.Env
	db          state.DB
	tx          record.Tx
	steps       [][]record.Row
	next        int
	uncommitted int
}

// New makes a task whose tables hold their rows, and input for it in steps of the given
// size.
func New(c Case, keys Keys, step int) (*Run, error) {
	top, err := c.Build()
	if err != nil {
		return nil, err
	}
	r := &Run{keys: keys, db: state.NewMemory(), tx: record.Tx{Source: "shop"}}
	r.env = &state.Env{DB: r.db}
	if keys.Memory > 0 {
		r.env.Memory = state.NewBudget(keys.Memory)
	}
	id := uint32(16)
	r.task, err = task.New(task.Config{
		Topology: top, Env: r.env, StoreID: func(string) uint32 { id++; return id },
	})
	if err != nil {
		return nil, err
	}
	var rows []record.Row
	for i := range keys.Customers {
		rows = append(rows, insert(customersRelation, i, "c"+strconv.Itoa(i)))
	}
	for i := range keys.Orders {
		rows = append(rows, insert(ordersRelation, i, i%keys.Customers, 1))
	}
	for from := 0; from < len(rows); from += keys.Commit {
		if err := r.feed(rows[from:min(len(rows), from+keys.Commit)]); err != nil {
			return nil, err
		}
		if err := r.Commit(); err != nil {
			return nil, err
		}
	}
	r.makeSteps(c.Events, keys, step)
	return r, nil
}

// makeSteps makes the input, which comes round again and again.
func (r *Run) makeSteps(events bool, keys Keys, step int) {
	rng := rand.New(rand.NewPCG(1, 2))
	for i := 0; i < max(step, keys.Clicks); i += step {
		changes := make([]record.Row, step)
		for j := range changes {
			if events {
				changes[j] = insert(clicksRelation, i+j, rng.IntN(keys.Customers), rng.IntN(1_000))
			} else {
				changes[j] = insert(ordersRelation, rng.IntN(keys.Orders), rng.IntN(keys.Customers), rng.IntN(10_000))
				changes[j].Op = record.Update
			}
			changes[j].Ordinal = uint32(j)
		}
		r.steps = append(r.steps, changes)
	}
}

var (
	ordersRelation    = relation("orders", "id", "customer_id", "cents")
	customersRelation = relation("customers", "id", "name")
	clicksRelation    = relation("clicks", "id", "customer_id", "page")
)

func relation(table string, columns ...string) *record.Relation {
	r := &record.Relation{Schema: "public", Name: table}
	for i, c := range columns {
		r.Columns = append(r.Columns, record.Column{Name: c, Key: i == 0})
	}
	return r
}

func insert(rel *record.Relation, values ...any) record.Row {
	tuple := make(record.Tuple, len(values))
	for i, v := range values {
		tuple[i] = record.Value{Kind: record.Text, Data: fmt.Append(nil, v)}
	}
	return record.Row{Rel: rel, Op: record.Insert, New: tuple}
}

// WarmUp is how many records bring every key and every buffer to where they stay.
func WarmUp(keys Keys) int {
	return max(2*keys.Clicks, 2*keys.Orders, 6*int(Span/keys.RecordTime))
}

// Step feeds the next step, which is a transaction.
func (r *Run) Step() error {
	rows := r.steps[r.next%len(r.steps)]
	r.next++
	return r.feed(rows)
}

func (r *Run) feed(rows []record.Row) error {
	tx := new(record.Tx)
	*tx = r.tx
	tx.Position += 16
	tx.CommitTime += r.keys.RecordTime.Microseconds() * int64(len(rows))
	r.tx = *tx
	r.uncommitted += len(rows)
	r.task.Begin(tx)
	if err := r.task.Rows(tx, rows); err != nil {
		return err
	}
	if err := r.task.End(tx); err != nil {
		return err
	}
	return r.task.Step()
}

// Due reports whether the epoch is full.
func (r *Run) Due() bool { return r.uncommitted >= r.keys.Commit }

// Commit ends the epoch.
func (r *Run) Commit() error {
	r.uncommitted = 0
	ready, err := r.task.Seal()
	if err != nil {
		return err
	}
	batch := r.db.NewBatch()
	defer batch.Close()
	for _, s := range ready.Stores {
		if err := s.Flush(batch); err != nil {
			return err
		}
	}
	if err := r.db.Commit(batch, false); err != nil {
		return err
	}
	r.task.Committed(ready.Checkpoint)
	return nil
}

// Close gives up the state.
func (r *Run) Close() error { return r.env.Close() }
