package postgres

import (
	"context"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/tailrace/tailrace/internal/pgoutput"
)

// attribute is a column of a table as the catalog has it now, dropped ones included.
// Numbers are never given twice, so whatever a column is called, its number says which it is.
type attribute struct {
	number int16
	// name is its name now, "" for a dropped one.
	name string
	// stamp is the transaction that made the column, altered it last or dropped it, by stampOf.
	stamp   uint32
	dropped bool
}

// unknownNumber is the number of a column of which nobody can tell which one it is. It
// differs from that of every column.
const unknownNumber = -1

// numbers tells which columns a description in the log is of. It has their names as of its
// own moment, and a name may have been another column's then: but it lists them in the order
// of their numbers. A column that was altered last by an older transaction was there, under
// its name of now; one that an older transaction dropped was not. Of all others an id does
// not tell whether the rows or the alteration came first: a transaction may write with an
// older id, or alter in a subtransaction, which has a later one. These get what places are
// left by order, and where that leaves a choice there is no number.
//
// Where the older transactions do not explain what is described, since ids are not given in
// the order in which tables are locked, nothing but the order counts.
//
// xid is the transaction that wrote what is described, now what the table has in the log.
func numbers(columns []pgoutput.Column, xid uint32, now []attribute) []int16 {
	slices.SortFunc(now, func(a, b attribute) int { return int(a.number) - int(b.number) })
	var out []int16
	var between []attribute
	for _, a := range now {
		switch {
		case !older(a.stamp, xid):
			between = append(between, a)
		case !a.dropped:
			rest := columns[len(out):]
			n := slices.IndexFunc(rest, func(c pgoutput.Column) bool { return c.Name == a.name })
			if n < 0 || n < lives(between) || n > len(between) {
				return assign(now, len(columns), false)
			}
			out = append(append(out, assign(between, n, true)...), a.number)
			between = nil
		}
	}
	if len(columns)-len(out) > len(between) {
		return assign(now, len(columns), false)
	}
	return append(out, assign(between, len(columns)-len(out), false)...)
}

func lives(attributes []attribute) (n int) {
	for _, a := range attributes {
		if !a.dropped {
			n++
		}
	}
	return n
}

// assign gives a number to each of so many columns, which are in the order of the attributes.
// Dropped ones may have been there. Of the others all were that are before one that was, and
// the last ones where there was one behind them.
func assign(attributes []attribute, columns int, behind bool) []int16 {
	out := make([]int16, columns)
	for c := range out {
		out[c] = unknownNumber
		found := 0
		for i, a := range attributes {
			rest, needed := columns-1-c, 0
			if behind {
				needed = lives(attributes[i+1:])
			}
			if lives(attributes[:i]) <= c && c <= i && needed <= rest && rest <= len(attributes)-1-i {
				found++
				out[c] = a.number
			}
		}
		if found != 1 {
			out[c] = unknownNumber
		}
	}
	return out
}

// older reports whether a transaction id is before another, in the order in which they are
// given out, which is a circle but for the first three.
func older(a, b uint32) bool { return a < 3 || int32(a-b) < 0 }

// frozen is the id that is before all others.
const frozen = 2

// stampOf is a transaction id as it can be compared with those in the log. A catalog's row
// keeps the id of who wrote it for ever, and once that is half a circle away it seems to be
// yet to come: age, by the server, is how many transactions ago it was.
func stampOf(xmin uint32, age int32) uint32 {
	if age < 0 || age > 1<<30 {
		return frozen
	}
	return xmin
}

// readDropped reads the numbers of dropped columns, each with who dropped it.
func readDropped(ctx context.Context, c *pgx.Conn, oid uint32) ([]attribute, error) {
	rows, err := c.Query(ctx, `SELECT attnum, xmin::text::int8, age(xmin) FROM pg_attribute
		WHERE attrelid = $1::int8::oid AND attnum > 0 AND attisdropped`, int64(oid))
	if err != nil {
		return nil, fmt.Errorf("postgres: read the dropped columns: %w", err)
	}
	var out []attribute
	for rows.Next() {
		a := attribute{dropped: true}
		var xmin int64
		var age int32
		if err := rows.Scan(&a.number, &xmin, &age); err != nil {
			return nil, fmt.Errorf("postgres: read the dropped columns: %w", err)
		}
		a.stamp = stampOf(uint32(xmin), age)
		out = append(out, a)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("postgres: read the dropped columns: %w", err)
	}
	return out, nil
}
