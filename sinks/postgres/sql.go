package postgres

import (
	"fmt"
	"strings"
)

// Every statement is set-based: a source with many rows on the right, the target's
// table on the left. The source is either the parameters, one text array a column, or
// a staging table.
//
// A key column that is NULL never matches in SQL, and ON CONFLICT never meets it under
// a plain unique index. So rows are told apart by which of their key columns are NULL,
// the mask (bit i for key column i): mask 0 upserts with ON CONFLICT, any other mask
// updates what is there and inserts what is not, with IS NULL for those columns, which
// an index serves. Only we write the table (invariant of the progress row), so nothing
// comes between the two.

// rows is where a statement takes its rows from.
type rows struct {
	// from is the FROM item, named s.
	from string
	// value returns the expression of column i, of the target column's type.
	value func(i int) string
	// where holds of the rows meant, "" for all.
	where string
}

// fromParams is the rows that come as parameters, the first n columns of them.
func (t *table) fromParams(n int) rows {
	var args, names []string
	for i := range n {
		args = append(args, fmt.Sprintf("$%d::text[]", i+1))
		names = append(names, fmt.Sprintf("c%d", i))
	}
	return rows{
		from:  fmt.Sprintf("unnest(%s) AS s(%s)", strings.Join(args, ", "), strings.Join(names, ", ")),
		value: func(i int) string { return fmt.Sprintf("s.c%d::%s", i, t.columns[i].cast) },
	}
}

// fromStage is the rows of the staging table that have the key mask.
func (t *table) fromStage(mask uint32) rows {
	value := func(i int) string { return "s." + quote(t.columns[i].name) }
	var where []string
	for i := range t.keyLen {
		if t.columns[i].nullable {
			not := " NOT"
			if mask&(1<<i) != 0 {
				not = ""
			}
			where = append(where, fmt.Sprintf("%s IS%s NULL", value(i), not))
		}
	}
	return rows{from: t.stage() + " AS s", value: value, where: strings.Join(where, " AND ")}
}

// stage is the name of the table's staging table.
func (t *table) stage() string { return fmt.Sprintf("pg_temp.tailrace_stage_%d", t.id) }

// match is the condition that row t of the target has the key of row s of r.
func (t *table) match(r rows, mask uint32) string {
	var parts []string
	for i := range t.keyLen {
		if mask&(1<<i) != 0 {
			parts = append(parts, "t."+quote(t.columns[i].name)+" IS NULL")
		} else {
			parts = append(parts, "t."+quote(t.columns[i].name)+" = "+r.value(i))
		}
	}
	return strings.Join(parts, " AND ")
}

// deleteSQL deletes the rows whose keys r has.
func (t *table) deleteSQL(r rows, mask uint32) string {
	return fmt.Sprintf("DELETE FROM %s AS t USING %s WHERE %s", t.name.sql(), r.from, t.match(r, mask))
}

// upsertSQL returns the statements that make the rows of r be in the table.
func (t *table) upsertSQL(r rows, mask uint32) []string {
	if mask == 0 {
		return []string{t.insertSQL(r, "") + t.onConflict()}
	}
	var out []string
	if set, differs := t.set(r.value); set != "" {
		where := and(t.match(r, mask), differs, r.where)
		out = append(out, fmt.Sprintf("UPDATE %s AS t SET %s FROM %s WHERE %s", t.name.sql(), set,
			r.from, where))
	}
	absent := fmt.Sprintf("NOT EXISTS (SELECT FROM %s AS t WHERE %s)", t.name.sql(), t.match(r, mask))
	return append(out, t.insertSQL(r, absent))
}

func (t *table) insertSQL(r rows, condition string) string {
	values := make([]string, len(t.columns))
	for i := range values {
		values[i] = r.value(i)
	}
	s := fmt.Sprintf("INSERT INTO %s AS t (%s) SELECT %s FROM %s", t.name.sql(),
		t.list(0, len(t.columns), quote), strings.Join(values, ", "), r.from)
	if where := and(condition, r.where); where != "" {
		s += " WHERE " + where
	}
	return s
}

func (t *table) onConflict() string {
	key := t.list(0, t.keyLen, quote)
	set, differs := t.set(func(i int) string { return "excluded." + quote(t.columns[i].name) })
	if set == "" || t.events {
		return fmt.Sprintf(" ON CONFLICT (%s) DO NOTHING", key)
	}
	return fmt.Sprintf(" ON CONFLICT (%s) DO UPDATE SET %s WHERE %s", key, set, differs)
}

// set returns the SET list over the columns beside the key, and the condition that one
// of them differs; both are "" where there are none. The rows are compared by their
// bytes (the operator that materialized views use), not by =, under which 1.0 is 1.00,
// and which json has not at all.
func (t *table) set(value func(i int) string) (list, differs string) {
	var sets, olds, news []string
	for i := t.keyLen; i < len(t.columns); i++ {
		col := quote(t.columns[i].name)
		sets = append(sets, col+" = "+value(i))
		olds = append(olds, "t."+col)
		news = append(news, value(i))
	}
	if len(sets) == 0 {
		return "", ""
	}
	return strings.Join(sets, ", "), fmt.Sprintf("ROW(%s)::record OPERATOR(pg_catalog.*<>) ROW(%s)::record",
		strings.Join(olds, ", "), strings.Join(news, ", "))
}

// sweepSQL deletes the rows of the table that are not staged. A nullable key column is
// compared through its text, which unlike IS NOT DISTINCT FROM can be hashed.
func (t *table) sweepSQL() string {
	var parts []string
	for i := range t.keyLen {
		col := quote(t.columns[i].name)
		if t.columns[i].nullable {
			parts = append(parts, fmt.Sprintf("(s.%[1]s IS NULL) = (t.%[1]s IS NULL)", col),
				fmt.Sprintf("coalesce(s.%[1]s::text, '') = coalesce(t.%[1]s::text, '')", col))
		} else {
			parts = append(parts, fmt.Sprintf("s.%[1]s = t.%[1]s", col))
		}
	}
	return fmt.Sprintf("DELETE FROM %s AS t WHERE NOT EXISTS (SELECT FROM %s AS s WHERE %s)",
		t.name.sql(), t.stage(), strings.Join(parts, " AND "))
}

// stageSQL makes the staging table, with the very types of the target.
func (t *table) stageSQL() string {
	return fmt.Sprintf("CREATE TEMPORARY TABLE %s ON COMMIT DROP AS SELECT %s FROM %s WITH NO DATA",
		t.stage(), t.list(0, len(t.columns), quote), t.name.sql())
}

// masksSQL lists the key masks among the staged rows; "" where only mask 0 can be.
func (t *table) masksSQL() string {
	var parts []string
	for i := range t.keyLen {
		if t.columns[i].nullable {
			parts = append(parts, fmt.Sprintf("(%s IS NULL)::int::bigint * %d", quote(t.columns[i].name),
				1<<i))
		}
	}
	if len(parts) == 0 {
		return ""
	}
	return fmt.Sprintf("SELECT DISTINCT %s FROM %s", strings.Join(parts, " + "), t.stage())
}

func (t *table) copySQL(into string) string {
	return fmt.Sprintf("COPY %s (%s) FROM STDIN", into, t.list(0, len(t.columns), quote))
}

// keyStageSQL makes a staging table for keys alone.
func (t *table) keyStageSQL() string {
	return fmt.Sprintf("CREATE TEMPORARY TABLE %s ON COMMIT DROP AS SELECT %s FROM %s WITH NO DATA",
		t.stage(), t.list(0, t.keyLen, quote), t.name.sql())
}

// copyKeysSQL copies into the table that keyStageSQL makes.
func (t *table) copyKeysSQL() string {
	return fmt.Sprintf("COPY %s (%s) FROM STDIN", t.stage(), t.list(0, t.keyLen, quote))
}

func and(conditions ...string) string {
	var parts []string
	for _, c := range conditions {
		if c != "" {
			parts = append(parts, c)
		}
	}
	return strings.Join(parts, " AND ")
}
