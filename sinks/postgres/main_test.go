package postgres_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tailrace/tailrace/internal/pgserver/pgservertest"
	"github.com/tailrace/tailrace/sinks"
	"github.com/tailrace/tailrace/sinks/postgres"
	"github.com/tailrace/tailrace/sinks/sinktest"
)

func TestMain(m *testing.M) { pgservertest.Main(m) }

// rowsOf reads a table as sinktest wants it.
func rowsOf(db *pgservertest.DB, o sinks.Output) []string {
	columns := make([]string, len(o.Columns))
	for i, c := range o.Columns {
		columns[i] = `"` + strings.ReplaceAll(c.Name, `"`, `""`) + `"`
	}
	var rows []string
	for _, row := range db.Strings("SELECT " + strings.Join(columns, ", ") + " FROM " + o.Name) {
		rows = append(rows, strings.Join(row, "|"))
	}
	slices.Sort(rows)
	return rows
}

// TestConformance writes with the documented rights only.
func TestConformance(t *testing.T) {
	t.Parallel()
	sinktest.ExerciseTables(t, func(t *testing.T) sinktest.Tables {
		db := pgservertest.New(t)
		return sinktest.Tables{
			Connector: postgres.Target(postgres.Config{URL: db.Writer().URL, CreateTables: true,
				Lease: 600 * time.Millisecond}),
			Rows: func(o sinks.Output) []string { return rowsOf(db, o) },
		}
	})
}
