package postgres_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/tailrace/tailrace/internal/faultproxy"
	"github.com/tailrace/tailrace/internal/pgserver/pgservertest"
	"github.com/tailrace/tailrace/record"
	"github.com/tailrace/tailrace/sources/postgres"
	"github.com/tailrace/tailrace/sources/sourcetest"
)

func TestConformance(t *testing.T) {
	t.Parallel()
	for _, streaming := range []bool{false, true} {
		t.Run(fmt.Sprintf("streaming=%v", streaming), func(t *testing.T) {
			t.Parallel()
			sourcetest.Exercise(t, func(t *testing.T) sourcetest.World { return newWorld(t, streaming) })
		})
	}
}

// newWorld is a database behind a proxy, read in small chunks so that much interleaves. With
// streaming the reader has the documented rights only, else it is a superuser.
func newWorld(t *testing.T, streaming bool) sourcetest.World {
	db := pgservertest.New(t)
	for _, name := range []string{sourcetest.Accounts, sourcetest.Entries} {
		db.Exec("CREATE TABLE "+name+" (id int PRIMARY KEY, name text, note text)",
			"ALTER TABLE "+name+" ALTER note SET STORAGE EXTERNAL")
	}
	proxy, err := faultproxy.New(db.Server.Addr())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { proxy.Close() })
	slot := "s_" + db.Name
	cfg := postgres.Config{
		URL: through(db.URL, proxy.Addr()), Slot: slot, SlotWait: 500 * time.Millisecond, Streaming: streaming,
		StatusInterval: 20 * time.Millisecond, SnapshotChunkRows: 500, SnapshotParallelism: 3,
	}
	if streaming {
		cfg.URL = through(db.Reader(sourcetest.Accounts, sourcetest.Entries).URL, proxy.Addr())
		cfg.ManagePublication = postgres.PublicationNever
		db.Exec("CREATE PUBLICATION " + slot + " FOR TABLE " + sourcetest.Accounts + ", " + sourcetest.Entries)
	}
	return sourcetest.World{
		Connector: postgres.Source(cfg),
		Table:     func(name string) string { return "public." + name },
		Commit:    func(changes ...sourcetest.Change) { commit(t, db, changes) },
		Rows:      func(name string) map[string]map[string]string { return rowsOf(db, name) },
		Confirmed: func() uint64 {
			lsn, err := record.ParseLSN(db.String("SELECT confirmed_flush_lsn FROM pg_replication_slots " +
				"WHERE slot_name = '" + slot + "'"))
			if err != nil {
				t.Error(err)
			}
			return uint64(lsn)
		},
		Cut: proxy.Cut,
	}
}

// statement is the SQL of a change.
func statement(c sourcetest.Change) (sql string, args []any) {
	switch c.Op {
	case sourcetest.Insert:
		return "INSERT INTO %s VALUES ($1, $2, $3)", []any{c.ID, c.Name, c.Note}
	case sourcetest.SetName:
		return "UPDATE %s SET name = $2 WHERE id = $1", []any{c.ID, c.Name}
	case sourcetest.SetNote:
		return "UPDATE %s SET note = $2 WHERE id = $1", []any{c.ID, c.Note}
	case sourcetest.Move:
		return "UPDATE %s SET id = $2 WHERE id = $1", []any{c.ID, c.To}
	case sourcetest.Delete:
		return "DELETE FROM %s WHERE id = $1", []any{c.ID}
	case sourcetest.Fill:
		return "INSERT INTO %s SELECT i, 'row ' || i FROM generate_series($1::int, $2::int) i", []any{c.ID, c.To}
	}
	return "TRUNCATE %s", nil
}

func commit(t *testing.T, db *pgservertest.DB, changes []sourcetest.Change) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	err := pgx.BeginFunc(ctx, db.Pool, func(tx pgx.Tx) error {
		for _, c := range changes {
			sql, args := statement(c)
			if _, err := tx.Exec(ctx, fmt.Sprintf(sql, c.Table), args...); err != nil {
				return fmt.Errorf("%+v: %w", c, err)
			}
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

func rowsOf(db *pgservertest.DB, name string) map[string]map[string]string {
	out := map[string]map[string]string{}
	for _, row := range db.Strings("SELECT id, name IS NULL, name, note IS NULL, note FROM " + name) {
		values := map[string]string{"id": row[0]}
		for i, column := range []string{"name", "note"} {
			if strings.HasPrefix(row[1+2*i], "f") {
				values[column] = row[2+2*i]
			}
		}
		out[row[0]] = values
	}
	return out
}
