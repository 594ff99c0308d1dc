// Package shop is a small shop in a PostgreSQL database, for the examples and the
// demo: a schema, rows to begin with, and writers that change them in concurrent
// transactions over several tables.
package shop

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// Schema makes the shop's tables. There are no foreign keys on purpose: a shop that
// deletes a customer and keeps the orders shows what a join does with dangling
// references, and a customer_id can be NULL.
//
// outbox may be emptied by the transaction that fills it; sent keeps what every event
// should be enriched with, written by the same transaction, so that the events that
// come out can be checked.
const Schema = `
CREATE TABLE customers (
	id   bigint PRIMARY KEY,
	name text NOT NULL,
	city text NOT NULL
);
CREATE TABLE products (
	id    bigint PRIMARY KEY,
	name  text NOT NULL,
	cents bigint NOT NULL
);
CREATE TABLE orders (
	id          bigint PRIMARY KEY,
	customer_id bigint,
	status      text NOT NULL,
	cents       bigint NOT NULL,
	placed_at   timestamptz NOT NULL DEFAULT now(),
	note        text
);
CREATE INDEX ON orders (customer_id);
CREATE TABLE order_lines (
	order_id   bigint,
	line       integer,
	product_id bigint NOT NULL,
	quantity   integer NOT NULL,
	cents      bigint NOT NULL,
	PRIMARY KEY (order_id, line)
);
CREATE TABLE outbox (
	id          uuid PRIMARY KEY,
	kind        text NOT NULL,
	order_id    bigint NOT NULL,
	customer_id bigint,
	payload     jsonb NOT NULL,
	written_at  timestamptz NOT NULL DEFAULT now()
);
CREATE TABLE sent (
	id          uuid PRIMARY KEY,
	kind        text NOT NULL,
	order_id    bigint NOT NULL,
	customer_id bigint,
	customer    text,
	city        text,
	status      text,
	xid         xid8 NOT NULL DEFAULT pg_current_xact_id()
);
CREATE INDEX ON sent (xid);
CREATE SEQUENCE order_ids START 1000000;
CREATE SEQUENCE customer_ids START 1000000;
`

// Size says how many rows a shop begins with.
type Size struct{ Customers, Products, Orders int }

// Create makes the schema and the first rows, in one transaction.
func Create(ctx context.Context, c *pgx.Conn, size Size) error {
	statements := []string{
		Schema,
		fmt.Sprintf(`INSERT INTO customers SELECT i, 'customer ' || i,
			(ARRAY['Hamburg', 'Berlin', 'Bremen', 'Kiel', 'Rostock'])[1 + i %% 5]
			FROM generate_series(1, %d) AS i`, size.Customers),
		fmt.Sprintf(`INSERT INTO products SELECT i, 'product ' || i, 99 + 137 * i %% 9901
			FROM generate_series(1, %d) AS i`, size.Products),
		fmt.Sprintf(`INSERT INTO order_lines SELECT o, l, p.id, 1 + (o + l) %% 4, p.cents * (1 + (o + l) %% 4)
			FROM generate_series(1, %d) AS o, generate_series(1, 3) AS l, products AS p
			WHERE p.id = 1 + (7 * o + 11 * l) %% %d`, size.Orders, size.Products),
		fmt.Sprintf(`INSERT INTO orders SELECT o, 1 + (o * 31) %% %d,
			(ARRAY['open', 'paid', 'paid', 'shipped'])[1 + o %% 4], sum(l.cents), now(),
			CASE WHEN o %% 50 = 0 THEN repeat('a long note that is stored out of line ', 200) END
			FROM generate_series(1, %d) AS o JOIN order_lines AS l ON l.order_id = o GROUP BY o`,
			size.Customers, size.Orders),
	}
	tx, err := c.Begin(ctx)
	if err != nil {
		return fmt.Errorf("shop: %w", err)
	}
	defer tx.Rollback(context.WithoutCancel(ctx))
	for _, sql := range statements {
		if _, err := tx.Exec(ctx, sql); err != nil {
			return fmt.Errorf("shop: %w", err)
		}
	}
	if err := tx.Commit(ctx); err != nil {
		return fmt.Errorf("shop: %w", err)
	}
	return nil
}
