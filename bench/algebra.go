package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/tailrace/tailrace/internal/task"
	"github.com/tailrace/tailrace/record"
	"github.com/tailrace/tailrace/state"
)

// algebraFlags measures each operator by itself, without PostgreSQL: the step machine is
// fed rows as a source hands them over, and the state is in memory.
func algebraFlags(flags *flag.FlagSet) runner {
	records := flags.Int("records", 100_000, "records of each case, in steps of 1, 100 and 10,000")
	only := flags.String("operators", "", "comma-separated operators; empty means all")
	return func(ctx context.Context, env *environment) error {
		for _, op := range algebraOperators {
			if *only != "" && !strings.Contains(","+*only+",", ","+op.name+",") {
				continue
			}
			for _, keys := range []algebraKeys{hotKeys, coldKeys} {
				for _, step := range []int{1, 100, 10_000} {
					for range env.runs {
						if err := ctx.Err(); err != nil {
							return err
						}
						if err := measureOperator(env, op, keys, step, max(*records, 2*step)); err != nil {
							return fmt.Errorf("%s: %w", op.name, err)
						}
					}
				}
			}
		}
		return nil
	}
}

// algebraKeys says how many keys records are spread over, and how much memory there is
// for what operators keep of them.
type algebraKeys struct {
	name   string
	orders int
	memory int64 // 0 means no bound
}

var (
	hotKeys  = algebraKeys{"hot", 1_000, 0}
	coldKeys = algebraKeys{"cold", 100_000, 8 << 20}
)

// algebraCustomers is how many customers orders and clicks refer to.
const algebraCustomers = 1_000

// commitRecords is how many records an epoch has. Its commit is part of the time.
const commitRecords = 20_000

// algebraRun is a task with its input.
type algebraRun struct {
	task  *task.Task
	env   *state.Env
	db    state.DB
	tx    record.Tx
	steps [][]record.Row
}

func measureOperator(
	env *environment, op algebraOperator, keys algebraKeys, step, records int,
) (err error) {
	run, err := newAlgebraRun(op, keys, step)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, run.env.Close()) }()
	if err := run.feed(2*max(step, keys.orders), step); err != nil { // every buffer grown
		return err
	}
	r := result{Case: fmt.Sprintf("%s, %s, steps of %d", op.name, keys.name, step), Records: int64(records)}
	runtime.GC()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	m, err := env.startMeter()
	if err != nil {
		return err
	}
	if err := run.feed(records, step); err != nil {
		return err
	}
	m.stop(&r)
	runtime.ReadMemStats(&after)
	allocs := float64(after.Mallocs-before.Mallocs) / float64(records)
	r.Allocs = &allocs
	env.report.add(r)
	return nil
}

// newAlgebraRun makes a task whose tables hold their rows.
func newAlgebraRun(op algebraOperator, keys algebraKeys, step int) (*algebraRun, error) {
	top, err := op.build()
	if err != nil {
		return nil, err
	}
	run := &algebraRun{db: state.NewMemory(), tx: record.Tx{Source: "shop"}}
	run.env = &state.Env{DB: run.db}
	if keys.memory > 0 {
		run.env.Memory = state.NewBudget(keys.memory)
	}
	id := uint32(16)
	run.task, err = task.New(task.Config{
		Topology: top, Env: run.env, StoreID: func(string) uint32 { id++; return id },
	})
	if err != nil {
		return nil, err
	}
	rng := rand.New(rand.NewPCG(1, 2))
	var rows []record.Row
	for i := range algebraCustomers {
		rows = append(rows, insert(customersRelation, i, "c"+strconv.Itoa(i)))
	}
	for i := range keys.orders {
		rows = append(rows, insert(ordersRelation, i, i%algebraCustomers, 1))
	}
	for from := 0; from < len(rows); from += commitRecords {
		if err := run.step(rows[from:min(len(rows), from+commitRecords)]); err != nil {
			return nil, err
		}
		if err := run.commit(); err != nil {
			return nil, err
		}
	}
	pool := max(step, 20_000)
	for i := 0; i < pool; i += step {
		changes := make([]record.Row, step)
		for j := range changes {
			if op.events {
				changes[j] = insert(clicksRelation, i+j, rng.IntN(algebraCustomers), rng.IntN(1_000))
				continue
			}
			changes[j] = insert(ordersRelation, rng.IntN(keys.orders), rng.IntN(algebraCustomers), rng.IntN(10_000))
			changes[j].Op = record.Update
		}
		run.steps = append(run.steps, changes)
	}
	return run, nil
}

var (
	ordersRelation    = algebraRelation("orders", "id", "customer_id", "cents")
	customersRelation = algebraRelation("customers", "id", "name")
	clicksRelation    = algebraRelation("clicks", "id", "customer_id", "page")
)

func algebraRelation(table string, columns ...string) *record.Relation {
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

// feed feeds records in steps of a transaction each.
func (r *algebraRun) feed(records, step int) error {
	for done, uncommitted := 0, 0; done < records; done += step {
		if err := r.step(r.steps[done/step%len(r.steps)]); err != nil {
			return err
		}
		if uncommitted += step; uncommitted >= commitRecords {
			uncommitted = 0
			if err := r.commit(); err != nil {
				return err
			}
		}
	}
	return r.commit()
}

func (r *algebraRun) step(rows []record.Row) error {
	tx := new(record.Tx)
	*tx = r.tx
	tx.Position += 16
	tx.CommitTime += time.Millisecond.Microseconds()
	r.tx = *tx
	for i := range rows {
		rows[i].Ordinal = uint32(i)
	}
	r.task.Begin(tx)
	if err := r.task.Rows(tx, rows); err != nil {
		return err
	}
	if err := r.task.End(tx); err != nil {
		return err
	}
	return r.task.Step()
}

func (r *algebraRun) commit() error {
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
