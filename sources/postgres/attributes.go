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
	// stamp is the transaction that made the column, altered it last or dropped it.
	stamp   uint32
	dropped bool
}

// unknownNumber is the number of a column of which nobody can tell which one it is. It
// differs from that of every column.
const unknownNumber = -1

// numbers tells which columns a description in the log is of. It has their names as of its
// own moment, and a name may have been another column's then: but it lists them in the order
// of their numbers. Columns that are there now, and were not added since, were there then;
// columns that are gone were there if they were dropped since. The transactions' ids tell
// which of it was since. What they do not explain, since ids are not given in the order in
// which tables are locked, is tried without them; where that leaves a choice there is no number.
//
// xid is the transaction that wrote what is described, now what the table has in the log.
func numbers(columns []pgoutput.Column, xid uint32, now []attribute) []int16 {
	slices.SortFunc(now, func(a, b attribute) int { return int(a.number) - int(b.number) })
	gone := func(a attribute) bool { return a.dropped && older(a.stamp, xid) }
	then := slices.DeleteFunc(slices.Clone(now), gone)
	out := assign(then, len(columns), func(a attribute) bool { return !a.dropped || a.stamp != xid },
		func(a attribute) bool { return !a.dropped && older(a.stamp, xid) })
	if slices.Contains(out, unknownNumber) {
		out = assign(now, len(columns), func(a attribute) bool { return !a.dropped },
			func(attribute) bool { return false })
	}
	return out
}

// assign gives a number to each of so many columns, which are in the order of the attributes:
// all that are sure, but for those behind the last one, unless these were there as well.
func assign(attributes []attribute, columns int, sure, there func(attribute) bool) []int16 {
	// before counts the sure ones before each, and last is the place of the last one there.
	before, last, count := make([]int, len(attributes)), -1, 0
	for i, a := range attributes {
		before[i] = count
		if sure(a) {
			count++
		}
		if there(a) {
			last = i
		}
	}
	out := make([]int16, columns)
	for c := range out {
		out[c] = unknownNumber
		found := 0
		for i, a := range attributes {
			behind := columns - 1 - c
			needed := 0
			if last > i {
				needed = before[last] - before[i] + 1
				if sure(a) {
					needed--
				}
			}
			if before[i] <= c && c <= i && needed <= behind && behind <= len(attributes)-1-i {
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

// readDropped reads the numbers of dropped columns, each with who dropped it.
func readDropped(ctx context.Context, c *pgx.Conn, oid uint32) ([]attribute, error) {
	rows, err := c.Query(ctx, `SELECT attnum, xmin::text::int8 FROM pg_attribute
		WHERE attrelid = $1::int8::oid AND attnum > 0 AND attisdropped`, int64(oid))
	if err != nil {
		return nil, fmt.Errorf("postgres: read the dropped columns: %w", err)
	}
	var out []attribute
	for rows.Next() {
		a := attribute{dropped: true}
		var stamp int64
		if err := rows.Scan(&a.number, &stamp); err != nil {
			return nil, fmt.Errorf("postgres: read the dropped columns: %w", err)
		}
		a.stamp = uint32(stamp)
		out = append(out, a)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("postgres: read the dropped columns: %w", err)
	}
	return out, nil
}
