package main

import (
	"context"
	"encoding/binary"
	"fmt"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
)

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
	go func() { written <- writeTimed(ctx, shop, epoch, rate, total) }()
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

// writeTimed inserts single rows at a steady rate. A row's cents tell when it was sent,
// in nanoseconds since the epoch.
func writeTimed(ctx context.Context, shop *shop, epoch time.Time, rate, total int) error {
	first := time.Now().UnixNano()
	return writePaced(ctx, shop.url, rate, total, func(conn *pgx.Conn, i int) error {
		_, err := conn.Exec(ctx, "INSERT INTO orders VALUES ($1, 1, 'placed', $2, '2026-01-01', NULL)",
			first+int64(i), int64(time.Since(epoch)))
		return err
	})
}

// latencyWriters is over how many connections rows are written: a single one waits for
// each commit to be on the server's disk before it sends the next, and is slow.
const latencyWriters = 8

// writePaced calls write for each number below total at a steady rate, for each residue
// by latencyWriters on a connection of its own. A late row is sent at once, and its
// lateness is its own: the clock starts when it is sent.
func writePaced(
	ctx context.Context, url string, rate, total int, write func(conn *pgx.Conn, i int) error,
) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var writers sync.WaitGroup
	begin := time.Now()
	for w := range latencyWriters {
		writers.Go(func() {
			conn, err := pgx.Connect(ctx, url)
			if err != nil {
				cancel(err)
				return
			}
			defer conn.Close(context.WithoutCancel(ctx))
			for i := w; i < total && err == nil && ctx.Err() == nil; i += latencyWriters {
				time.Sleep(time.Until(begin.Add(time.Duration(i) * time.Second / time.Duration(rate))))
				err = write(conn, i)
			}
			if err != nil {
				cancel(err)
			}
		})
	}
	writers.Wait()
	return context.Cause(ctx)
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
