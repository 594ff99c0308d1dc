package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"runtime"
	"strings"
	"time"

	"github.com/tailrace/tailrace/internal/algebra"
)

// algebraFlags measures each operator by itself, without PostgreSQL: the step machine is
// fed rows as a source hands them over, and the state is in memory.
func algebraFlags(flags *flag.FlagSet) runner {
	records := flags.Int("records", 100_000, "records of each case, in steps of 1, 100 and 10,000")
	only := flags.String("operators", "", "comma-separated operators; empty means all")
	return func(ctx context.Context, env *environment) error {
		for _, op := range algebra.Cases() {
			if *only != "" && !strings.Contains(","+*only+",", ","+op.Name+",") {
				continue
			}
			for _, keys := range []algebra.Keys{hotKeys, coldKeys} {
				for _, step := range []int{1, 100, 10_000} {
					for range env.runs {
						if err := ctx.Err(); err != nil {
							return err
						}
						if err := measureOperator(env, op, keys, step, max(*records, 2*step)); err != nil {
							return fmt.Errorf("%s: %w", op.Name, err)
						}
					}
				}
			}
		}
		return nil
	}
}

var (
	hotKeys = algebra.Keys{
		Name: "hot", Orders: 1_000, Customers: 1_000, Clicks: 20_000, RecordTime: 10 * time.Microsecond,
		Commit: 20_000,
	}
	coldKeys = algebra.Keys{
		Name: "cold", Orders: 100_000, Customers: 1_000, Clicks: 100_000, RecordTime: 10 * time.Microsecond,
		Commit: 20_000, Memory: 8 << 20,
	}
)

func measureOperator(
	env *environment, op algebra.Case, keys algebra.Keys, step, records int,
) (err error) {
	run, err := algebra.New(op, keys, step)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, run.Close()) }()
	var warm algebraMeter
	if err := warm.feed(run, algebra.WarmUp(keys), step); err != nil { // every buffer grown
		return err
	}
	r := result{Case: fmt.Sprintf("%s, %s, steps of %d", op.Name, keys.Name, step), Records: int64(records)}
	m, err := env.startMeter()
	if err != nil {
		return err
	}
	var parts algebraMeter
	if err := parts.feed(run, records, step); err != nil {
		return err
	}
	m.stop(&r)
	inSteps, inCommits := parts.steps.allocs/float64(records), parts.commits.allocs/float64(records)
	r.Steps, r.Allocs, r.CommitAllocs = parts.steps.took, &inSteps, &inCommits
	env.report.add(r)
	return nil
}

// algebraMeter tells what steps cost from what commits do.
type algebraMeter struct{ steps, commits algebraPart }

type algebraPart struct {
	allocs float64
	took   time.Duration
}

// add measures one part of the work.
func (p *algebraPart) add(work func() error) error {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	start := time.Now()
	err := work()
	p.took += time.Since(start)
	runtime.ReadMemStats(&after)
	p.allocs += float64(after.Mallocs - before.Mallocs)
	return err
}

// feed feeds records in steps of a transaction each.
func (m *algebraMeter) feed(run *algebra.Run, records, step int) error {
	for done := 0; done < records; {
		err := m.steps.add(func() error {
			for done < records && !run.Due() {
				if err := run.Step(); err != nil {
					return err
				}
				done += step
			}
			return nil
		})
		if err != nil {
			return err
		}
		if err := m.commits.add(run.Commit); err != nil {
			return err
		}
	}
	return nil
}
