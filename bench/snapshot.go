package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/tailrace/tailrace"
)

func snapshotFlags(flags *flag.FlagSet) runner {
	rows := flags.Int("rows", 1_000_000, "rows of the table, each of 8 columns and about 100 bytes")
	return func(ctx context.Context, env *environment) error {
		shop, err := newShop(ctx, env)
		if err != nil {
			return err
		}
		defer shop.close()
		if err := shop.exec(ctx, wideSchema, fmt.Sprintf(wideFill, *rows), "ANALYZE wide"); err != nil {
			return err
		}
		for range env.runs {
			if err := copyOut(ctx, env.unprofiled(), shop, *rows); err != nil {
				return err
			}
			if err := snapshot(ctx, env, shop, *rows); err != nil {
				return err
			}
		}
		return nil
	}
}

// copyOut is the floor: one COPY of the table over one connection, discarded.
func copyOut(ctx context.Context, env *environment, shop *shop, rows int) error {
	conn, err := pgx.Connect(ctx, shop.url)
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	r := result{Case: "COPY, discarded"}
	m, err := env.startMeter()
	if err != nil {
		return err
	}
	tag, err := conn.PgConn().CopyTo(ctx, io.Discard, "COPY wide TO STDOUT")
	if err != nil {
		return err
	}
	m.stop(&r)
	r.Records = tag.RowsAffected()
	r.OtherCPU = pidCPU(conn.PgConn().PID())
	env.report.add(r)
	if r.Records != int64(rows) {
		return fmt.Errorf("copied %d rows of %d", r.Records, rows)
	}
	return nil
}

// snapshot measures the first start of an app until its view can be read.
func snapshot(ctx context.Context, env *environment, shop *shop, rows int) (err error) {
	const slot = "bench_snapshot"
	dir, remove, err := stateDir()
	if err != nil {
		return err
	}
	defer remove()
	topo, err := wideTopology(connector(shop.url, slot))
	if err != nil {
		return err
	}
	r := result{Case: "snapshot", Records: int64(rows)}
	m, err := env.startMeter()
	if err != nil {
		return err
	}
	app, err := startApp(ctx, dir, topo)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, app.close(), shop.dropSlot(ctx, slot)) }()
	if err := app.ready(ctx); err != nil {
		return err
	}
	m.stop(&r)
	env.report.add(r)
	return app.verify(ctx, tailrace.Check{View: "per-shop", SQL: strings.TrimSpace(wideSQL)})
}
