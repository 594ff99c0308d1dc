package main

import (
	"context"
	"encoding/binary"
	"flag"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

func pgrawLatencyFlags(flags *flag.FlagSet) runner {
	rate := flags.Int("rate", 1000, "transactions per second, each of one row")
	length := flags.Duration("for", 5*time.Second, "how long a run writes")
	return func(ctx context.Context, env *environment) error {
		shop, err := newShop(ctx, env)
		if err != nil {
			return err
		}
		defer shop.close()
		for i := range env.runs {
			r, err := receiveLatency(ctx, env, shop, fmt.Sprintf("latency%d", i), *rate, *length)
			if err != nil {
				return err
			}
			env.report.add(r)
		}
		return nil
	}
}

// receiveLatency measures from just before a transaction is sent to the server until
// its commit has come back through replication: the time in which a view could know of
// it at best, the server's own commit included.
func receiveLatency(
	ctx context.Context, env *environment, shop *shop, slot string, rate int, length time.Duration,
) (result, error) {
	r := result{Case: fmt.Sprintf("%d tx/s", rate)}
	if err := shop.createSlot(ctx, slot); err != nil {
		return r, err
	}
	raw, err := dialRaw(ctx, shop, slot)
	if err != nil {
		return r, err
	}
	defer raw.close()
	if err := raw.start(ctx); err != nil {
		return r, err
	}
	m, err := env.startMeter()
	if err != nil {
		return r, err
	}
	total := int(float64(rate) * length.Seconds())
	written := make(chan error, 1)
	epoch := time.Now()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() { written <- writePaced(ctx, shop, epoch, rate, total) }()
	latencies := make([]time.Duration, 0, total)
	var sent time.Duration
	for len(latencies) < total {
		if err := raw.next(); err != nil {
			return r, err
		}
		switch {
		case len(raw.last) == 0:
		case raw.last[0] == 'I':
			sent = sentAt(raw.last)
		case raw.last[0] == 'C':
			latencies = append(latencies, time.Since(epoch)-sent)
		}
	}
	m.stop(&r)
	r.Records = raw.changes
	r.OtherCPU = raw.serverCPU()
	r.P50, r.P99 = quantile(latencies, 0.50), quantile(latencies, 0.99)
	return r, <-written
}

// writePaced inserts single rows at a steady rate. A row's cents tell when it was sent,
// in nanoseconds since the epoch. A late row is sent at once, and its lateness is its
// own: the clock starts when it is sent.
func writePaced(ctx context.Context, shop *shop, epoch time.Time, rate, total int) error {
	conn, err := pgx.Connect(ctx, shop.url)
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	first := time.Now().UnixNano()
	tick := time.NewTicker(time.Second / time.Duration(rate))
	defer tick.Stop()
	for i := range total {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-tick.C:
		}
		_, err := conn.Exec(ctx, "INSERT INTO orders VALUES ($1, 1, 'placed', $2, '2026-01-01', NULL)",
			first+int64(i), int64(time.Since(epoch)))
		if err != nil {
			return err
		}
	}
	return nil
}

// sentAt reads the fourth column of an Insert message: 'I', relation (4 bytes), 'N',
// number of columns (2), then for each column 't', length (4), text.
func sentAt(message []byte) time.Duration {
	rest := message[8:]
	for range 3 {
		rest = rest[5+binary.BigEndian.Uint32(rest[1:]):]
	}
	var nanoseconds int64
	for _, digit := range rest[5 : 5+binary.BigEndian.Uint32(rest[1:])] {
		nanoseconds = nanoseconds*10 + int64(digit-'0')
	}
	return time.Duration(nanoseconds)
}
