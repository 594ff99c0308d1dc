package demo

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/tailrace/tailrace/examples/orders/orders"
	"github.com/tailrace/tailrace/examples/revenue/revenue"
	"github.com/tailrace/tailrace/record"
)

// Result is what the comparison in the end found.
type Result struct {
	// ViewRows, SinkRows and Events are how many rows and events SQL gives, each of which
	// was compared.
	ViewRows, SinkRows, Events int
	// Differences are the rows and events that are not what SQL gives, in words.
	Differences []string
	// Transactions is how many the app has seen one by one, behind its snapshot; Written and
	// RolledBack are the writers', from before it on.
	Transactions, Written, RolledBack int64
	Position                          record.LSN
}

// String is the line that ends the demo.
func (r Result) String() string {
	return fmt.Sprintf("verified at %s: %d rows compared with SQL (%d in views, %d in sink tables) "+
		"and %d events, differences %d, transactions seen %d (written %d, the first of which the snapshot holds; "+
		"rolled back %d)", r.Position,
		r.ViewRows+r.SinkRows, r.ViewRows, r.SinkRows, r.Events, len(r.Differences), r.Transactions, r.Written,
		r.RolledBack)
}

// compare compares everything with SQL, after the last write.
func (d *demo) compare(ctx context.Context) (Result, error) {
	r := Result{Written: d.writers.Committed(), RolledBack: d.writers.RolledBack()}
	if d.opts.tamper != nil {
		if err := d.opts.tamper(ctx, d); err != nil {
			return r, err
		}
	}
	s, err := pgx.Connect(ctx, d.shop)
	if err != nil {
		return r, err
	}
	defer s.Close(context.WithoutCancel(ctx))
	w, err := pgx.Connect(ctx, d.warehouse)
	if err != nil {
		return r, err
	}
	defer w.Close(context.WithoutCancel(ctx))
	results, err := d.app.Verify(ctx, checks...)
	if err != nil {
		return r, err
	}
	for _, v := range results {
		r.Position = v.Position
		r.ViewRows += v.SQLRows
		for _, diff := range v.Differences {
			r.Differences = append(r.Differences, fmt.Sprintf("view %s: %s: the view has %q, SQL %q %v", v.View,
				diff.Key,
				diff.View, diff.SQL, diff.Columns))
		}
	}
	if err := errors.Join(d.compareSinks(ctx, s, w, &r), d.compareEvents(ctx, s, &r)); err != nil {
		return r, err
	}
	if r.Transactions, err = d.transactions(); err != nil {
		return r, err
	}
	if len(r.Differences) > 0 {
		return r, ErrDifferences
	}
	return r, nil
}

// until repeats try until it finds no difference or patience is over, and keeps what
// the last attempt found.
func (d *demo) until(ctx context.Context, try func() (rows int, differences []string, err error)) (int,
	[]string, error) {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	over := time.After(d.opts.Patience)
	for {
		rows, differences, err := try()
		if err != nil || len(differences) == 0 {
			return rows, differences, err
		}
		select {
		case <-tick.C:
		case <-over:
			return rows, differences, nil
		case <-ctx.Done():
			return rows, differences, ctx.Err()
		}
	}
}

// compareSinks compares the target's tables with SQL.
func (d *demo) compareSinks(ctx context.Context, s, w *pgx.Conn, r *Result) error {
	tables := []struct{ name, want string }{
		{"revenue_per_customer", revenue.SQL},
		{"order_documents", orders.SQL},
	}
	for _, t := range tables {
		rows, differences, err := d.until(ctx, func() (int, []string, error) {
			want, err := rowsOf(ctx, s, t.want)
			if err != nil {
				return 0, nil, err
			}
			have, err := rowsOf(ctx, w, "SELECT * FROM "+pgx.Identifier{t.name}.Sanitize())
			var pg *pgconn.PgError
			if errors.As(err, &pg) && pg.Code == "42P01" {
				err = nil // the target makes it when it is opened
			}
			return len(want), differ("table "+t.name, want, have), err
		})
		if err != nil {
			return err
		}
		r.SinkRows += rows
		r.Differences = append(r.Differences, differences...)
	}
	return nil
}

// rowsOf returns a query's rows in a canonical form, with how often each comes.
func rowsOf(ctx context.Context, c *pgx.Conn, query string) (map[string]int, error) {
	rows, err := c.Query(ctx, "SELECT row_to_json(q)::jsonb::text FROM ("+query+") AS q")
	if err != nil {
		return nil, err
	}
	out := map[string]int{}
	var text string
	_, err = pgx.ForEachRow(rows, []any{&text}, func() error {
		out[text]++
		return nil
	})
	return out, err
}

// differ lists what one side has and the other has not.
func differ(place string, want, have map[string]int) (out []string) {
	for row, n := range want {
		if have[row] < n {
			out = append(out, fmt.Sprintf("%s lacks %s", place, row))
		}
	}
	for row, n := range have {
		if want[row] < n {
			out = append(out, fmt.Sprintf("%s has too many of %s", place, row))
		}
	}
	return out
}

// compareEvents compares the events that came out with those that the writers say
// they sent: each once, enriched as of its own transaction.
func (d *demo) compareEvents(ctx context.Context, s *pgx.Conn, r *Result) error {
	want, err := rowsOf(ctx, s, "SELECT id, kind, order_id, status, customer, city FROM sent")
	if err != nil {
		return err
	}
	rows, differences, err := d.until(ctx, func() (int, []string, error) {
		have, err := d.eventsOut()
		return len(want), differ("outbox", want, have), err
	})
	r.Events = rows
	r.Differences = append(r.Differences, differences...)
	return err
}

// eventsOut reads the events' file, in the form of rowsOf.
func (d *demo) eventsOut() (map[string]int, error) {
	out := map[string]int{}
	f, err := os.Open(d.events)
	if errors.Is(err, os.ErrNotExist) {
		return out, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		text, err := eventRow(lines.Bytes())
		if err != nil {
			return nil, err
		}
		out[text]++
	}
	return out, lines.Err()
}

// eventRow writes an event as jsonb would: shorter names first, a space after each
// colon and comma.
func eventRow(line []byte) (string, error) {
	var l struct {
		Key   string
		Value struct {
			Kind                   string
			OrderID                int64 `json:"order_id"`
			Status, Customer, City *string
		}
	}
	if err := json.Unmarshal(line, &l); err != nil {
		return "", fmt.Errorf("demo: a line of the events: %w", err)
	}
	v := l.Value
	fields := []struct {
		name  string
		value any
	}{
		{"id", l.Key}, {"city", v.City}, {"kind", v.Kind}, {"status", v.Status}, {"customer", v.Customer},
		{"order_id", v.OrderID},
	}
	var parts []string
	for _, f := range fields {
		text, err := json.Marshal(f.value)
		if err != nil {
			return "", err
		}
		parts = append(parts, fmt.Sprintf("%q: %s", f.name, text))
	}
	return "{" + strings.Join(parts, ", ") + "}", nil
}
