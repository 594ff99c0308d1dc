package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"

	"github.com/tailrace/tailrace"
	"github.com/tailrace/tailrace/examples/revenue/revenue"
)

func revenueFlags(flags *flag.FlagSet) runner { return backlogWorkload(flags, revenueBacklog) }

// Slots of the revenue workload. The app's is copied for each run, as is its state, so
// that each reads the same backlog.
const (
	rawSlot  = "bench_raw"
	baseSlot = "bench_base"
	runSlot  = "bench_run"
)

// revenueBacklog takes a snapshot, stops, lets a backlog be written, and drains it
// several times: by the raw receiver and by the revenue topology in turn, so that what
// else the machine does falls on both.
func revenueBacklog(ctx context.Context, env *environment, shop *shop, size size) error {
	base, remove, err := stateDir()
	if err != nil {
		return err
	}
	defer remove()
	if err := revenueSnapshot(ctx, shop, base); err != nil {
		return err
	}
	if err := shop.createSlot(ctx, rawSlot); err != nil {
		return err
	}
	if err := shop.work(ctx, size.txs, size.changes); err != nil {
		return err
	}
	fmt.Fprintf(env.out, "  backlog %v written\n", size)
	for range env.runs {
		raw, err := receiveBacklog(ctx, env.unprofiled(), shop, rawSlot, size)
		if err != nil {
			return err
		}
		raw.Case += ", raw"
		env.report.add(raw)
		r, err := revenueRun(ctx, env, shop, base, size)
		if err != nil {
			return err
		}
		env.report.add(r)
		fmt.Fprintf(env.out, "  %v: %.0f %% of raw\n", size, 100*r.perSecond()/raw.perSecond())
	}
	if err := shop.dropSlot(ctx, rawSlot); err != nil {
		return err
	}
	return shop.dropSlot(ctx, baseSlot)
}

// revenueSnapshot leaves the state and the slot of an app that has stopped.
func revenueSnapshot(ctx context.Context, shop *shop, dir string) error {
	topo, _, err := revenue.Topology(connector(shop.url, baseSlot), nil)
	if err != nil {
		return err
	}
	app, err := startApp(ctx, dir, topo)
	if err != nil {
		return err
	}
	return errors.Join(app.ready(ctx), app.close())
}

func revenueRun(
	ctx context.Context, env *environment, shop *shop, base string, size size,
) (r result, err error) {
	r.Case = size.String() + ", revenue"
	dir, remove, err := stateDir()
	if err != nil {
		return r, err
	}
	defer remove()
	if err := errors.Join(os.CopyFS(dir, os.DirFS(base)), shop.awaitFree(ctx, baseSlot)); err != nil {
		return r, err
	}
	err = shop.query(ctx, "SELECT pg_copy_logical_replication_slot($1, $2)", baseSlot, runSlot)
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, shop.dropSlot(ctx, runSlot)) }()
	end, err := shop.position(ctx)
	if err != nil {
		return r, err
	}
	topo, _, err := revenue.Topology(connector(shop.url, runSlot), nil)
	if err != nil {
		return r, err
	}
	m, err := env.startMeter()
	if err != nil {
		return r, err
	}
	app, err := startApp(ctx, dir, topo)
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, app.close()) }()
	if err := app.reach(ctx, end); err != nil {
		return r, err
	}
	m.stop(&r)
	r.Records = int64(size.txs) * int64(size.changes)
	pid, err := shop.walSender(ctx, runSlot)
	if err != nil {
		return r, err
	}
	r.OtherCPU = pidCPU(pid)
	return r, app.verify(ctx, tailrace.Check{View: "revenue", SQL: revenue.SQL})
}
