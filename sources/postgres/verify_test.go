package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/tailrace/tailrace/sources"
	"github.com/tailrace/tailrace/sources/postgres"
)

// snapshotAt pins the fixture's database for a verification.
func (f *fixture) snapshotAt() sources.Snapshot {
	f.t.Helper()
	s, err := postgres.Source(f.cfg).(sources.Verifier).SnapshotAt(f.t.Context(), sources.SnapshotRequest{
		App: "app", Database: "shop",
	})
	if err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(func() { _ = s.Close() })
	return s
}

// verified is what a verification does with a query.
func verified(ctx context.Context, s sources.Snapshot, query string) (columns, rows []string, err error) {
	described, err := s.Columns(ctx, query)
	if err != nil {
		return nil, nil, err
	}
	for _, c := range described {
		columns = append(columns, c.Name+" "+c.Type)
	}
	err = s.Query(ctx, query, func(object []byte) error {
		rows = append(rows, string(object))
		return nil
	})
	return columns, rows, err
}

// TestVerifyQueries runs queries as users write them.
func TestVerifyQueries(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.exec("CREATE TABLE t (id int PRIMARY KEY, price numeric(8,2))")
	f.exec("INSERT INTO t VALUES (1, 2.50)")
	s := f.snapshotAt()
	f.exec("INSERT INTO t VALUES (2, 9)") // after the position
	for _, query := range []string{
		"SELECT id, price FROM t",
		" TABLE t ; ",
		"SELECT * FROM t -- all of them",
		"WITH all_of_them AS (SELECT * FROM t)\nSELECT * FROM all_of_them ORDER BY id;\n",
	} {
		columns, rows, err := verified(t.Context(), s, query)
		if got := fmt.Sprint(
			columns,
			rows,
		); err != nil ||
			got != `[id integer price numeric] [{"id":1,"price":2.50}]` {
			t.Errorf("%q: %s, %v", query, got, err)
		}
	}
}

// TestVerifyRefusesQueries tells the user's mistakes by a sentinel, where PostgreSQL found
// them in the query as it was given, and not in what we make of it.
func TestVerifyRefusesQueries(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.exec("CREATE TABLE t (id int PRIMARY KEY, x int)")
	f.exec("INSERT INTO t VALUES (1, 0)")
	for query, says := range map[string]string{
		"SELECT id FORM t":                     `syntax error at or near "t"`,
		"SELECT id FROM t WHERE":               "syntax error at end of input",
		"SELECT id FROM t) AS q; DROP TABLE t": `syntax error at or near ")"`,
		"SELECT id FROM t; DROP TABLE t":       "cannot insert multiple commands",
		"SELECT idd FROM t":                    `column "idd" does not exist`,
		"SELECT * FROM nowhere":                `relation "nowhere" does not exist`,
		"SELECT id FROM t WHERE x = $1":        "has parameters",
		"SELECT 1 / x AS id FROM t":            "division by zero",
		"DELETE FROM t":                        "no query",
		"DELETE FROM t RETURNING id":           "no query",
		"SHOW wal_level":                       "no query",
		"":                                     "no query",
		"SELECT id AS id FROM t FOR UPDATE":    "read-only transaction",
		"SELECT nextval('s')":                  `"s" does not exist`,
	} {
		s := f.snapshotAt() // an error ends the transaction of the last
		_, _, err := verified(t.Context(), s, query)
		if !errors.Is(err, sources.ErrQuery) || errors.Is(err, sources.ErrConfig) ||
			!strings.Contains(err.Error(), says) {
			t.Errorf("%q: got %v, want %s", query, err, says)
		}
		if strings.HasPrefix(says, "syntax") && strings.Contains(query, "FORM") &&
			!strings.Contains(err.Error(), "character 16") {
			t.Errorf("%q: the place is missing in %v", query, err)
		}
		_ = s.Close()
	}
	if n := f.db.String("SELECT count(*) FROM t"); n != "1" {
		t.Errorf("%s rows are left", n)
	}
	s := f.snapshotAt()
	f.exec("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'client backend' " +
		"AND query LIKE '%SET TRANSACTION SNAPSHOT%' AND datname = current_database() AND pid <> pg_backend_pid()")
	if _, _, err := verified(t.Context(), s, "TABLE t"); err == nil || errors.Is(err, sources.ErrQuery) {
		t.Errorf("a lost connection: got %v", err)
	}
}
