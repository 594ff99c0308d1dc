package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/tailrace/tailrace"
	"github.com/tailrace/tailrace/examples/revenue/revenue"
	"github.com/tailrace/tailrace/view"
)

func latencyFlags(flags *flag.FlagSet) runner {
	rate := flags.Int("rate", 1000, "transactions per second, each of one row")
	length := flags.Duration("for", 10*time.Second, "how long a run writes")
	return func(ctx context.Context, env *environment) error {
		shop, err := newShop(ctx, env)
		if err != nil {
			return err
		}
		defer shop.close()
		for i := range env.runs {
			raw, err := receiveLatency(ctx, env.unprofiled(), shop, fmt.Sprintf("latency%d", i), *rate, *length)
			if err != nil {
				return err
			}
			raw.Case += ", raw"
			env.report.add(raw)
			r, err := viewLatency(ctx, env, shop, fmt.Sprintf("view%d", i), *rate, *length)
			if err != nil {
				return err
			}
			env.report.add(r)
		}
		return nil
	}
}

// viewLatency measures from just before a transaction is sent to the server until a
// reader that watches the view in this process has seen it.
func viewLatency(
	ctx context.Context, env *environment, shop *shop, slot string, rate int, length time.Duration,
) (r result, err error) {
	r.Case = fmt.Sprintf("%d tx/s, view", rate)
	dir, remove, err := stateDir()
	if err != nil {
		return r, err
	}
	defer remove()
	topo, v, err := revenue.Topology(connector(shop.url, slot), nil)
	if err != nil {
		return r, err
	}
	app, err := startApp(ctx, dir, topo)
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, app.close(), shop.dropSlot(ctx, slot)) }()
	if err := app.ready(ctx); err != nil {
		return r, err
	}
	before, _, _, err := v.Get(ctx, "customer 7")
	if err != nil {
		return r, err
	}
	total := int(float64(rate) * length.Seconds())
	w := &timedWriter{url: shop.url, rate: rate, sent: make(chan time.Time, total), done: make(chan error, 1)}
	m, err := env.startMeter()
	if err != nil {
		return r, err
	}
	go func() { w.done <- w.run(ctx, total) }()
	latencies, err := watchOrders(ctx, v, before.Orders, w, total)
	if err != nil {
		return r, app.explain(err)
	}
	m.stop(&r)
	r.Records = int64(total)
	if pid, err := shop.walSender(ctx, slot); err == nil {
		r.OtherCPU = pidCPU(pid)
	}
	r.P50, r.P99 = quantile(latencies, 0.50), quantile(latencies, 0.99)
	return r, errors.Join(<-w.done, app.verify(ctx, tailrace.Check{View: "revenue", SQL: revenue.SQL}))
}

// watchOrders reads how many orders the customer has as the view changes: with the
// n-th, the first n transactions are in it.
func watchOrders(
	ctx context.Context, v *view.View[string, revenue.Revenue], base int64, w *timedWriter, total int,
) ([]time.Duration, error) {
	latencies := make([]time.Duration, 0, total)
	for e, err := range v.Watch(ctx) {
		if err != nil {
			return nil, err
		}
		if e.Kind != view.EventChange || e.Change.Key != "customer 7" {
			continue
		}
		now := time.Now()
		for int64(len(latencies)) < e.Change.New.Orders-base {
			latencies = append(latencies, now.Sub(<-w.sent))
		}
		if len(latencies) >= total {
			break
		}
	}
	return latencies, ctx.Err()
}

// timedWriter inserts paid orders of one customer at a steady rate. A late one is sent at
// once, and its lateness is its own: the clock starts when it is sent.
type timedWriter struct {
	url  string
	rate int
	sent chan time.Time
	done chan error
}

func (w *timedWriter) run(ctx context.Context, total int) error {
	conn, err := pgx.Connect(ctx, w.url)
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	first := time.Now().UnixNano()
	tick := time.NewTicker(time.Second / time.Duration(w.rate))
	defer tick.Stop()
	for i := range total {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-tick.C:
		}
		w.sent <- time.Now()
		_, err := conn.Exec(ctx, "INSERT INTO orders VALUES ($1, 7, 'paid', 5, '2026-01-01', NULL)", first+int64(i))
		if err != nil {
			return err
		}
	}
	return nil
}
