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
	total := int(float64(rate) * length.Seconds())
	sent, err := sentOrders(ctx, v, total)
	if err != nil {
		return r, err
	}
	m, err := env.startMeter()
	if err != nil {
		return r, err
	}
	written := make(chan error, 1)
	go func() { written <- writeOrders(ctx, shop.url, sent, rate, total) }()
	latencies, err := watchOrders(ctx, v, sent, total)
	if err != nil {
		return r, app.explain(err)
	}
	m.stop(&r)
	r.Records = int64(total)
	if pid, err := shop.walSender(ctx, slot); err == nil {
		r.OtherCPU = pidCPU(pid)
	}
	r.P50, r.P99 = quantile(latencies, 0.50), quantile(latencies, 0.99)
	return r, errors.Join(<-written, app.verify(ctx, tailrace.Check{View: "revenue", SQL: revenue.SQL}))
}

// sentTo is when orders of one customer were sent, each customer's over a connection of
// its own, so that they come to the view in the order in which they were sent.
type sentTo struct {
	customer string
	base     int64 // orders in the view before
	seen     int64
	at       chan time.Time
}

// sentOrders prepares a customer for each writer. The first ones have a row in the view
// or none.
func sentOrders(ctx context.Context, v *view.View[string, revenue.Revenue], total int) ([]sentTo, error) {
	sent := make([]sentTo, latencyWriters)
	for i := range sent {
		customer := fmt.Sprintf("customer %d", i)
		before, _, _, err := v.Get(ctx, customer)
		if err != nil {
			return nil, err
		}
		sent[i] = sentTo{customer: customer, base: before.Orders, at: make(chan time.Time, total)}
	}
	return sent, nil
}

// writeOrders inserts paid orders at a steady rate.
func writeOrders(ctx context.Context, url string, sent []sentTo, rate, total int) error {
	first := time.Now().UnixNano()
	return writePaced(ctx, url, rate, total, func(conn *pgx.Conn, i int) error {
		customer := i % len(sent)
		sent[customer].at <- time.Now()
		_, err := conn.Exec(ctx, "INSERT INTO orders VALUES ($1, $2, 'paid', 5, '2026-01-01', NULL)",
			first+int64(i), customer)
		return err
	})
}

// watchOrders reads how many orders the customers have as the view changes: with the
// n-th of a customer, the first n transactions of its writer are in it.
func watchOrders(
	ctx context.Context, v *view.View[string, revenue.Revenue], sent []sentTo, total int,
) ([]time.Duration, error) {
	latencies := make([]time.Duration, 0, total)
	for e, err := range v.Watch(ctx) {
		if err != nil {
			return nil, err
		}
		if e.Kind != view.EventChange {
			continue
		}
		now := time.Now()
		for i := range sent {
			s := &sent[i]
			for s.customer == e.Change.Key && s.seen < e.Change.New.Orders-s.base {
				latencies = append(latencies, now.Sub(<-s.at))
				s.seen++
			}
		}
		if len(latencies) >= total {
			break
		}
	}
	return latencies, ctx.Err()
}
