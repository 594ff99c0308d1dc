package shop

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"

	"github.com/jackc/pgx/v5"
)

// place writes an order with its lines, and says so in the outbox.
func place(ctx context.Context, tx *change) error {
	customer, err := pick(ctx, tx, "customers", "FOR KEY SHARE")
	if err != nil {
		return err
	}
	var reference any
	if customer != 0 && tx.r.IntN(20) > 0 {
		reference = customer
	}
	var order int64
	err = tx.QueryRow(ctx, `INSERT INTO orders (id, customer_id, status, cents, note)
		VALUES (nextval('order_ids'), $1, 'open', 0, $2) RETURNING id`, reference, note(tx.r)).Scan(&order)
	if err != nil {
		return err
	}
	for line := range 1 + tx.r.IntN(4) {
		if err := addLine(ctx, tx, order, line+1); err != nil {
			return err
		}
	}
	if err := total(ctx, tx, order); err != nil {
		return err
	}
	return send(ctx, tx, "OrderPlaced", order)
}

// note is seldom there, and then long enough to be stored out of line.
func note(r *rand.Rand) any {
	if r.IntN(30) > 0 {
		return nil
	}
	text := make([]byte, 6000)
	for i := range text {
		text[i] = byte('a' + r.IntN(26))
	}
	return string(text)
}

func addLine(ctx context.Context, tx *change, order int64, line int) error {
	_, err := tx.Exec(ctx, `INSERT INTO order_lines
		SELECT $1, $2, id, $3::integer, cents * $3::integer FROM products WHERE id = $4 ON CONFLICT DO NOTHING`,
		order, line, 1+tx.r.IntN(5), 1+tx.r.IntN(productsMentioned))
	return err
}

// productsMentioned is how many products are ever ordered.
const productsMentioned = 50

// total brings an order's sum up to date with its lines.
func total(ctx context.Context, tx *change, order int64) error {
	_, err := tx.Exec(ctx, `UPDATE orders SET cents =
		(SELECT coalesce(sum(cents), 0) FROM order_lines WHERE order_id = $1) WHERE id = $1`, order)
	return err
}

// advance moves an order on, mostly forward.
func advance(ctx context.Context, tx *change) error {
	order, err := pick(ctx, tx, "orders", "FOR UPDATE")
	if err != nil || order == 0 {
		return err
	}
	status := [...]string{"paid", "paid", "shipped", "cancelled", "open"}[tx.r.IntN(5)]
	if _, err := tx.Exec(ctx, `UPDATE orders SET status = $2 WHERE id = $1`, order, status); err != nil {
		return err
	}
	return send(ctx, tx, "OrderAdvanced", order)
}

// changeLines changes, adds or removes a line of an order.
func changeLines(ctx context.Context, tx *change) error {
	order, err := pick(ctx, tx, "orders", "FOR UPDATE")
	if err != nil || order == 0 {
		return err
	}
	line := 1 + tx.r.IntN(4)
	switch tx.r.IntN(3) {
	case 0:
		_, err = tx.Exec(
			ctx,
			`UPDATE order_lines SET quantity = quantity + 1, cents = cents / quantity * (quantity + 1)
			WHERE order_id = $1 AND line = $2`,
			order,
			line,
		)
	case 1:
		err = addLine(ctx, tx, order, line)
	default:
		_, err = tx.Exec(ctx, `DELETE FROM order_lines WHERE order_id = $1 AND line = $2`, order, line)
	}
	if err != nil {
		return err
	}
	return total(ctx, tx, order)
}

// moveToCustomer gives an order to another customer: a foreign key moves.
func moveToCustomer(ctx context.Context, tx *change) error {
	order, err := pick(ctx, tx, "orders", "FOR UPDATE")
	if err != nil || order == 0 {
		return err
	}
	customer, err := pick(ctx, tx, "customers", "")
	if err != nil {
		return err
	}
	_, err = tx.Exec(ctx, `UPDATE orders SET customer_id = nullif($2::bigint, 0) WHERE id = $1`, order, customer)
	return err
}

// moveLine moves a line from one order to another: a group loses what another wins.
func moveLine(ctx context.Context, tx *change) error {
	from, err := pick(ctx, tx, "orders", "FOR UPDATE")
	if err != nil || from == 0 {
		return err
	}
	to, err := pick(ctx, tx, "orders", "FOR UPDATE")
	if err != nil || to == 0 || to == from {
		return err
	}
	_, err = tx.Exec(ctx, `UPDATE order_lines SET order_id = $2,
			line = (SELECT 1 + coalesce(max(line), 0) FROM order_lines WHERE order_id = $2)
		WHERE (order_id, line) IN (SELECT order_id, line FROM order_lines WHERE order_id = $1 LIMIT 1)`, from, to)
	if err != nil {
		return err
	}
	return errors.Join(total(ctx, tx, from), total(ctx, tx, to))
}

// renameCustomer changes what all orders of a customer are joined to.
func renameCustomer(ctx context.Context, tx *change) error {
	customer, err := pick(ctx, tx, "customers", "FOR UPDATE")
	if err != nil || customer == 0 {
		return err
	}
	// Few names, so that customers share some: groups of more than one customer.
	_, err = tx.Exec(ctx, `UPDATE customers SET name = $2 WHERE id = $1`, customer,
		fmt.Sprintf("customer %d", 1+tx.r.IntN(2000)))
	return err
}

// renameProduct changes many documents at once.
func renameProduct(ctx context.Context, tx *change) error {
	_, err := tx.Exec(ctx, `UPDATE products SET name = $2 WHERE id = $1`, 1+tx.r.IntN(productsMentioned),
		fmt.Sprintf("product %d", tx.r.IntN(10_000)))
	return err
}

// deleteOrder removes an order and its lines.
func deleteOrder(ctx context.Context, tx *change) error {
	order, err := pick(ctx, tx, "orders", "FOR UPDATE")
	if err != nil || order == 0 {
		return err
	}
	if _, err := tx.Exec(ctx, `DELETE FROM order_lines WHERE order_id = $1`, order); err != nil {
		return err
	}
	_, err = tx.Exec(ctx, `DELETE FROM orders WHERE id = $1`, order)
	return err
}

// renumberOrder changes an order's primary key, and that of its lines.
func renumberOrder(ctx context.Context, tx *change) error {
	order, err := pick(ctx, tx, "orders", "FOR UPDATE")
	if err != nil || order == 0 {
		return err
	}
	var id int64
	err = tx.QueryRow(ctx, `UPDATE orders SET id = nextval('order_ids') WHERE id = $1 RETURNING id`,
		order).Scan(&id)
	if err != nil {
		return err
	}
	_, err = tx.Exec(ctx, `UPDATE order_lines SET order_id = $2 WHERE order_id = $1`, order, id)
	return err
}

// renumberCustomer changes a customer's primary key. Its orders follow half of the
// time; otherwise they refer to nobody from then on.
func renumberCustomer(ctx context.Context, tx *change) error {
	customer, err := pick(ctx, tx, "customers", "FOR UPDATE")
	if err != nil || customer == 0 {
		return err
	}
	var id int64
	err = tx.QueryRow(ctx, `UPDATE customers SET id = nextval('customer_ids') WHERE id = $1 RETURNING id`,
		customer).Scan(&id)
	if err != nil || tx.r.IntN(2) == 0 {
		return err
	}
	_, err = tx.Exec(ctx, `UPDATE orders SET customer_id = $2 WHERE customer_id = $1`, customer, id)
	return err
}

// newCustomer adds a customer.
func newCustomer(ctx context.Context, tx *change) error {
	_, err := tx.Exec(ctx, `INSERT INTO customers VALUES (nextval('customer_ids'), $1, 'Bremen')`,
		fmt.Sprintf("customer %d", 1+tx.r.IntN(2000)))
	return err
}

// deleteCustomer removes a customer. The orders stay, and dangle.
func deleteCustomer(ctx context.Context, tx *change) error {
	customer, err := pick(ctx, tx, "customers", "FOR UPDATE")
	if err != nil || customer == 0 {
		return err
	}
	_, err = tx.Exec(ctx, `DELETE FROM customers WHERE id = $1`, customer)
	return err
}

// pick returns the key of some row that nobody else works on, 0 where there is none.
func pick(ctx context.Context, tx *change, table, lock string) (id int64, err error) {
	if lock != "" {
		lock += " SKIP LOCKED"
	}
	// Half of the time a row of those that came last, whose keys are from 1,000,000 on.
	from, order := tx.r.Int64N(3000), "id"
	if tx.r.IntN(2) == 0 {
		from = 1_000_000 + tx.r.Int64N(3000)
	}
	for range 2 {
		err = tx.QueryRow(ctx, "SELECT id FROM "+table+" WHERE id >= $1 ORDER BY "+order+" LIMIT 1 "+lock,
			from).Scan(&id)
		if !errors.Is(err, pgx.ErrNoRows) {
			return id, err
		}
		from, order = 0, "id DESC"
	}
	return 0, nil
}

// send writes an event about an order. The order and its customer are locked, so that
// no other transaction changes them before this one commits.
func send(ctx context.Context, tx *change, kind string, order int64) error {
	if !tx.sends {
		return nil
	}
	var customer any
	err := tx.QueryRow(ctx, `SELECT customer_id FROM orders WHERE id = $1 FOR UPDATE`, order).Scan(&customer)
	if err != nil {
		return err
	}
	if _, err := tx.Exec(ctx, `SELECT FROM customers WHERE id = $1 FOR SHARE`, customer); err != nil {
		return err
	}
	_, err = tx.Exec(ctx, `WITH event AS (
			INSERT INTO outbox (id, kind, order_id, customer_id, payload)
			VALUES (gen_random_uuid(), $1, $2, $3::bigint, jsonb_build_object('order', $2::bigint))
			RETURNING id, kind, order_id, customer_id)
		INSERT INTO sent (id, kind, order_id, customer_id) SELECT * FROM event`, kind, order, customer)
	return err
}

// settle notes what the transaction's events should be enriched with: order and
// customer as the transaction leaves them, and not as they were when it sent the event.
func settle(ctx context.Context, tx *change) error {
	_, err := tx.Exec(ctx, `UPDATE sent SET customer = e.name, city = e.city, status = e.status
		FROM (SELECT s.id, c.name, c.city, o.status FROM sent AS s
			LEFT JOIN customers AS c ON c.id = s.customer_id LEFT JOIN orders AS o ON o.id = s.order_id
			WHERE s.xid = pg_current_xact_id()) AS e
		WHERE sent.id = e.id`)
	return err
}

// empty deletes the transaction's events from the outbox: they count although their
// rows do not outlive the transaction.
func empty(ctx context.Context, tx *change) error {
	_, err := tx.Exec(ctx,
		`DELETE FROM outbox WHERE id IN (SELECT id FROM sent WHERE xid = pg_current_xact_id())`)
	return err
}
