package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
)

func giantFlags(flags *flag.FlagSet) runner {
	rows := flags.Int("rows", 1_000_000, "rows of the transaction")
	return func(ctx context.Context, env *environment) error {
		for range env.runs {
			if err := giant(ctx, env, *rows); err != nil {
				return err
			}
		}
		return nil
	}
}

// giant gives a running app one transaction after another of so many rows: an insert, an
// update and a delete of all, and again an insert and a truncate.
func giant(ctx context.Context, env *environment, rows int) (err error) {
	shop, err := newShop(ctx, env)
	if err != nil {
		return err
	}
	defer shop.close()
	dir, remove, err := stateDir()
	if err != nil {
		return err
	}
	defer remove()
	topo, _, err := linesTopology(connector(shop.url, "giant"))
	if err != nil {
		return err
	}
	app, err := startApp(ctx, dir, topo)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, app.close()) }()
	if err := app.ready(ctx); err != nil {
		return err
	}
	insert := fmt.Sprintf(`INSERT INTO orders SELECT i, i %% 10000, 'paid', i, timestamptz '2026-01-01', 'giant'
		FROM generate_series(1000000, %d) i`, 1_000_000+rows-1)
	for _, step := range []struct{ name, sql string }{
		{"insert", insert},
		{"update", `UPDATE orders SET cents = cents + 1, status = 'shipped' WHERE id >= 1000000`},
		{"delete", `DELETE FROM orders WHERE id >= 1000000`},
		{"insert again", insert},
		{"truncate", `TRUNCATE orders`},
	} {
		if err := giantStep(ctx, env, shop, app, step.name, step.sql, rows); err != nil {
			return fmt.Errorf("%s: %w", step.name, err)
		}
	}
	return nil
}

// giantStep measures from the statement's commit until the views hold it. Peak memory
// is the figure that counts.
func giantStep(
	ctx context.Context, env *environment, shop *shop, app *running, name, sql string, rows int,
) error {
	r := result{Case: fmt.Sprintf("%s %d rows", name, rows), Records: int64(rows)}
	if err := shop.exec(ctx, sql); err != nil {
		return err
	}
	m, err := env.startMeter()
	if err != nil {
		return err
	}
	end, err := shop.position(ctx)
	if err != nil {
		return err
	}
	if err := app.reach(ctx, end); err != nil {
		return err
	}
	m.stop(&r)
	env.report.add(r)
	fmt.Fprintf(env.out, "  %s: %.1f s, %.1f cpu-s, peak %d MB\n", r.Case, r.Wall.Seconds(), r.CPU.Seconds(),
		r.PeakRSS/1e6)
	return app.verify(ctx, linesChecks...)
}
