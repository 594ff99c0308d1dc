package main

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/tailrace/tailrace/internal/pgserver"
)

// shop is a database of customers and their orders, and a way to change it quickly. All
// that is random in it follows from a seed, so two runs write the same.
type shop struct {
	server *pgserver.Server
	url    string
}

const shopSchema = `
CREATE TABLE customers (
	id bigint PRIMARY KEY,
	name text NOT NULL,
	country text NOT NULL
);
CREATE TABLE orders (
	id bigint PRIMARY KEY,
	customer_id bigint,
	status text NOT NULL,
	cents bigint NOT NULL,
	placed_at timestamptz NOT NULL,
	note text
);
CREATE TABLE shop_state (first_order bigint, next_order bigint);
CREATE PUBLICATION shop FOR TABLE customers, orders;

-- One change: of 100, 55 place an order, 35 change one, 8 delete the oldest, and 2
-- rename a customer. There always are orders, and no change misses its row.
CREATE PROCEDURE shop_change(INOUT lo bigint, INOUT hi bigint, customer_count bigint)
LANGUAGE plpgsql AS $$
DECLARE
	dice int := floor(random() * 100);
	-- Variables, because random() in a WHERE is drawn for each row that is looked at.
	customer bigint := floor(random() * customer_count);
	target bigint := lo + floor(random() * (hi - lo));
BEGIN
	IF dice < 55 OR hi - lo < 100 THEN
		INSERT INTO orders VALUES (hi, customer, 'placed', floor(random() * 100000),
			timestamptz '2026-01-01' + hi * interval '1 second', 'left at the door of number ' || hi);
		hi := hi + 1;
	ELSIF dice < 90 THEN
		UPDATE orders SET status = CASE status WHEN 'placed' THEN 'paid' ELSE 'placed' END,
			cents = floor(random() * 100000)
		WHERE id = target;
	ELSIF dice < 98 THEN
		DELETE FROM orders WHERE id = lo;
		lo := lo + 1;
	ELSE
		UPDATE customers SET name = 'customer ' || floor(random() * 1e9)
		WHERE id = customer;
	END IF;
END $$;

CREATE PROCEDURE shop_work(txs bigint, changes int, customer_count bigint)
LANGUAGE plpgsql AS $$
DECLARE
	lo bigint;
	hi bigint;
BEGIN
	SELECT first_order, next_order INTO lo, hi FROM shop_state;
	FOR t IN 1..txs LOOP
		FOR c IN 1..changes LOOP
			CALL shop_change(lo, hi, customer_count);
		END LOOP;
		COMMIT;
	END LOOP;
	UPDATE shop_state SET first_order = lo, next_order = hi;
END $$;
`

// shopCustomers is how many customers there are.
const shopCustomers = 10_000

// newShop starts a server with a database in its first state: customers and some
// orders, all of it written before any slot.
func newShop(ctx context.Context, env *environment) (*shop, error) {
	fmt.Fprintln(env.out, "  starting PostgreSQL")
	server, err := pgserver.Start(ctx, pgserver.Config{Settings: map[string]string{
		// Enough that no checkpoint falls into a measurement by the amount of WAL alone.
		"max_wal_size":       "8GB",
		"checkpoint_timeout": "1h",
		"autovacuum":         "off",
		"shared_buffers":     "512MB",
	}})
	if err != nil {
		return nil, err
	}
	s := &shop{server: server, url: server.URL("postgres")}
	err = s.exec(ctx, shopSchema,
		`INSERT INTO customers SELECT i, 'customer ' || i, 'country ' || i % 50
			FROM generate_series(0, 9999) i`,
		`INSERT INTO orders SELECT i, i % 10000, 'placed', i, timestamptz '2026-01-01', 'first'
			FROM generate_series(0, 999) i`,
		`INSERT INTO shop_state VALUES (0, 1000)`)
	if err != nil {
		s.close()
		return nil, err
	}
	return s, nil
}

func (s *shop) close() { _ = s.server.Stop() }

func (s *shop) exec(ctx context.Context, statements ...string) error {
	conn, err := pgx.Connect(ctx, s.url)
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	for _, sql := range statements {
		if _, err := conn.Exec(ctx, sql, pgx.QueryExecModeSimpleProtocol); err != nil {
			return fmt.Errorf("%w\nin: %.80s", err, sql)
		}
	}
	return nil
}

// query runs one statement with arguments.
func (s *shop) query(ctx context.Context, sql string, args ...any) error {
	conn, err := pgx.Connect(ctx, s.url)
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	_, err = conn.Exec(ctx, sql, args...)
	return err
}

// createSlot makes a pgoutput slot. Everything written from now on can be read from
// it, again and again as long as nothing is confirmed.
func (s *shop) createSlot(ctx context.Context, name string) error {
	return s.query(ctx, "SELECT pg_create_logical_replication_slot($1, 'pgoutput')", name)
}

func (s *shop) dropSlot(ctx context.Context, name string) error {
	if err := s.awaitFree(ctx, name); err != nil {
		return err
	}
	return s.query(ctx, "SELECT pg_drop_replication_slot($1)", name)
}

// awaitFree waits until the server has noticed that the slot's last reader has gone.
func (s *shop) awaitFree(ctx context.Context, name string) error {
	conn, err := pgx.Connect(ctx, s.url)
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	for active := true; active; {
		row := conn.QueryRow(ctx, "SELECT active FROM pg_replication_slots WHERE slot_name = $1", name)
		if err := row.Scan(&active); err != nil {
			return fmt.Errorf("wait for slot %s: %w", name, err)
		}
	}
	return nil
}

// work writes transactions of some changes each, as fast as the server can by itself.
func (s *shop) work(ctx context.Context, txs, changes int) error {
	return s.exec(ctx, "SET synchronous_commit = off", "SELECT setseed(0.5)",
		fmt.Sprintf("CALL shop_work(%d, %d, %d)", txs, changes, shopCustomers))
}
