package kstreams

import (
	"fmt"
	"time"

	"github.com/tailrace/tailrace/record"
	"github.com/tailrace/tailrace/topology"
	"github.com/tailrace/tailrace/topology/topologytest"
)

// Restart says how often Run restarts Tailrace from its committed state.
type Restart int

const (
	Never Restart = iota
	// Always restarts before every record.
	Always
)

// Run runs a case on Tailrace: each record is a transaction with the record's time as
// its commit time, and an epoch.
func Run(c *Case, restart Restart) (*Result, error) {
	return RunWith(c, func(int) (opts []topologytest.Option, reopen bool) { return nil, restart == Always })
}

// RunWith is Run with a choice before each record, by its number: whether to restart, and
// with which options. Those for the first record are also those of the start.
func RunWith(
	c *Case, choose func(record int) (opts []topologytest.Option, reopen bool),
) (*Result, error) {
	opts, _ := choose(0)
	return run(c, opts, false, func(d *topologytest.Driver, record int) {
		if opts, reopen := choose(record); reopen {
			d.Reopen(opts...)
		}
	})
}

// RunCrashing is Run with options, and crashes before the records that crash chooses. With
// epochs of several records outputs show later than they came to be; what is committed
// last makes one more step.
func RunCrashing(
	c *Case, crash func(record int) bool, opts ...topologytest.Option,
) (*Result, error) {
	return run(c, opts, true, func(d *topologytest.Driver, record int) {
		if crash(record) {
			d.Crash()
		}
	})
}

func run(
	c *Case, opts []topologytest.Option, rest bool, before func(d *topologytest.Driver, record int),
) (r *Result, err error) {
	t := &failures{}
	defer t.cleanup()
	r = &Result{ID: c.ID}
	defer func() {
		switch p := recover().(type) {
		case nil:
		case failure:
			r.Error = string(p)
		case error:
			err = fmt.Errorf("kstreams: %w in %s", p, c)
		default:
			err = fmt.Errorf("kstreams: panic: %v in %s", p, c)
		}
	}()
	b, err := newBuild(c)
	if err != nil {
		return nil, err
	}
	top, err := b.b.Build()
	if err != nil {
		return nil, fmt.Errorf("kstreams: %w", err)
	}
	d := topologytest.New(t, top, opts...)
	for i := range c.Records {
		in := &c.Records[i]
		feed := b.feeds[in.Topic]
		if feed == nil {
			return nil, fmt.Errorf("kstreams: no node reads topic %q", in.Topic)
		}
		before(d, i)
		d.Tx(func(tx *topologytest.Tx) {
			tx.CommitTime(time.UnixMicro(in.TS))
			feed(tx, in)
		})
		r.Steps = append(r.Steps, b.take(d))
	}
	if rest {
		d.Commit()
		r.Steps = append(r.Steps, b.take(d))
	}
	return r, nil
}

// Streams are the compared nodes that are streams, whose records have an order.
func Streams(c *Case) (map[string]bool, error) {
	b, err := newBuild(c)
	if err != nil {
		return nil, err
	}
	streams := map[string]bool{}
	for _, id := range c.Out {
		_, streams[id] = b.nodes[id].(Stream)
	}
	return streams, nil
}

// take returns what the compared nodes put out since the last call.
func (b *Build) take(d *topologytest.Driver) []Output {
	var out []Output
	for _, id := range b.Case.Out {
		switch h := b.nodes[id].(type) {
		case Stream:
			for _, r := range topologytest.Records(d, h) {
				out = append(out, Output{
					Node: id, Key: pointerTo(r.Key), Value: pointerTo(r.Value.V), TS: r.Time,
				})
			}
		case Table:
			for _, c := range topologytest.Changes(d, h) {
				out = append(out, change(id, &c, text(c.Key)))
			}
		case topology.Table[Text, Row]:
			for _, c := range topologytest.Changes(d, h) {
				out = append(out, change(id, &c, c.Key))
			}
		case WindowedTable:
			for _, c := range topologytest.Changes(d, h) {
				o := change(id, &c, text(c.Key.Key))
				o.Window = &[2]int64{c.Key.Window.Start, c.Key.Window.End}
				out = append(out, o)
			}
		default:
			panic(fmt.Errorf("there is no node %q", id))
		}
	}
	return out
}

func change[K comparable](id string, c *record.Change[K, Row], key Text) Output {
	o := Output{Node: id, Key: pointerTo(key), TS: c.Time}
	if c.HasNew() {
		o.Value = pointerTo(c.New.V)
	}
	return o
}

// failures is a topologytest.TB whose failures end Run.
type failures struct{ cleanups []func() }

type failure string

func (*failures) Helper()             {}
func (t *failures) Cleanup(fn func()) { t.cleanups = append(t.cleanups, fn) }
func (*failures) Fatalf(format string, args ...any) {
	panic(failure(fmt.Sprintf(format, args...)))
}

func (t *failures) cleanup() {
	for _, fn := range t.cleanups {
		fn()
	}
}
