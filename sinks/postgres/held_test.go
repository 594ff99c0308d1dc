package postgres_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/tailrace/tailrace/internal/pgserver/pgservertest"
	"github.com/tailrace/tailrace/sinks"
	"github.com/tailrace/tailrace/sinks/postgres"
	"github.com/tailrace/tailrace/sinks/sinktest"
)

// TestTablesMadeAgain takes tables, and columns, of a target away between two runs and makes
// them again: without the rows of before nothing goes on, and once all rows are on their way
// it does. What only looks like that is let be.
func TestTablesMadeAgain(t *testing.T) {
	t.Parallel()
	const table = "CREATE TABLE accounts (id bigint PRIMARY KEY, name text, amount numeric)"
	for _, c := range []struct {
		name string
		sql  []string
		want string // what the problem says; nothing is wrong for ""
	}{
		{"dropped", []string{"DROP TABLE accounts"}, "there is no table"},
		{"made again", []string{"DROP TABLE accounts", table}, "not the one"},
		{"in the place of another", []string{"ALTER TABLE accounts RENAME TO was", table}, "not the one"},
		{"column", []string{"ALTER TABLE accounts DROP name", "ALTER TABLE accounts ADD name text"},
			`lack their values: "name"`},
		{"column dropped", []string{"ALTER TABLE accounts DROP name"}, `ADD COLUMN "name"`},
		{"further column", []string{"ALTER TABLE accounts ADD note text"}, ""},
		{"other type", []string{"ALTER TABLE accounts ALTER name TYPE varchar"}, ""},
		{"rewritten", []string{"CLUSTER accounts USING accounts_pkey", "VACUUM FULL accounts"}, ""},
		{"renamed and back", []string{"ALTER TABLE accounts RENAME TO x", "ALTER TABLE x RENAME TO accounts"}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			db := pgservertest.New(t)
			cfg := postgres.Config{URL: db.URL, CreateTables: true}
			w, err := tryOpen(t, cfg, sinktest.Accounts, sinktest.Places)
			if err != nil {
				t.Fatal(err)
			}
			whole := sinktest.Epoch(1, sinktest.Put(sinktest.Accounts, 1, "a", "1.5"))
			apply := func(e sinks.Epoch) {
				t.Helper()
				if err := w.Apply(t.Context(), []sinks.Epoch{e}); err != nil {
					t.Fatal(err)
				}
			}
			apply(sinktest.Whole(whole))
			if err := w.Close(); err != nil {
				t.Fatal(err)
			}
			db.Exec(c.sql...)
			w, err = tryOpen(t, cfg, sinktest.Accounts, sinktest.Places)
			if c.want == "" {
				if err != nil {
					t.Fatal(err)
				}
				return
			}
			if got := problemsOf(t, err); len(got) != 1 || !strings.Contains(got[0], c.want) ||
				!strings.Contains(got[0], "Version") {
				t.Fatalf("got %q", got)
			}
			if c.name == "column dropped" {
				db.Exec(remedies(t, err)...)
				if _, err = tryOpen(t, cfg, sinktest.Accounts, sinktest.Places); err == nil {
					t.Fatal("the rows of before lack the column's values")
				}
			}
			anew := sinktest.Accounts
			anew.Whole = true
			if w, err = tryOpen(t, cfg, anew, sinktest.Places); err != nil {
				t.Fatal(err)
			}
			fresh := sinktest.Whole(sinktest.Epoch(2, sinktest.Put(sinktest.Accounts, 1, "a", "1.5")))
			fresh.Fresh = []uint32{sinktest.Accounts.ID}
			apply(fresh)
			if got := rowsOf(db, sinktest.Accounts); !slices.Equal(got, []string{"1|a|1.5"}) {
				t.Fatalf("got %q", got)
			}
			if err := w.Close(); err != nil {
				t.Fatal(err)
			}
			if _, err = tryOpen(t, cfg, sinktest.Accounts, sinktest.Places); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// TestProgressOfOlderVersion opens a target that was written before the progress row kept what
// was written to: with the printed SQL it goes on, and keeps it from then on.
func TestProgressOfOlderVersion(t *testing.T) {
	t.Parallel()
	db := pgservertest.New(t)
	cfg := postgres.Config{URL: db.URL, CreateTables: true}
	w, err := tryOpen(t, cfg, sinktest.Accounts)
	if err != nil {
		t.Fatal(err)
	}
	whole := sinktest.Whole(sinktest.Epoch(1, sinktest.Put(sinktest.Accounts, 1, "a", "1.5")))
	if err := w.Apply(t.Context(), []sinks.Epoch{whole}); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	db.Exec("ALTER TABLE tailrace_progress DROP COLUMN held")
	_, err = tryOpen(t, cfg, sinktest.Accounts)
	db.Exec(remedies(t, err)...)
	if w, err = tryOpen(t, cfg, sinktest.Accounts); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	db.Exec("DROP TABLE accounts")
	if _, err := tryOpen(t, cfg, sinktest.Accounts); err == nil {
		t.Error("it does not know which table it took")
	}
}

// TestTablesTakenAsTheyAre: after a restore from a dump the tables are others and hold all rows,
// and the printed SQL says so.
func TestTablesTakenAsTheyAre(t *testing.T) {
	t.Parallel()
	db := pgservertest.New(t)
	cfg := postgres.Config{URL: db.URL, CreateTables: true}
	w, err := tryOpen(t, cfg, sinktest.Accounts)
	if err != nil {
		t.Fatal(err)
	}
	whole := sinktest.Whole(sinktest.Epoch(1, sinktest.Put(sinktest.Accounts, 1, "a", "1.5")))
	if err := w.Apply(t.Context(), []sinks.Epoch{whole}); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	db.Exec("CREATE TABLE other (LIKE accounts INCLUDING ALL)", "INSERT INTO other SELECT * FROM accounts",
		"DROP TABLE accounts", "ALTER TABLE other RENAME TO accounts")
	_, err = tryOpen(t, cfg, sinktest.Accounts)
	_, sql, ok := strings.Cut(problemsOf(t, err)[0], "run: ")
	if !ok {
		t.Fatal(err)
	}
	db.Exec(sql)
	for range 2 {
		w, err := tryOpen(t, cfg, sinktest.Accounts)
		if err != nil {
			t.Fatal(err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
	}
	db.Exec("DROP TABLE accounts")
	if _, err := tryOpen(t, cfg, sinktest.Accounts); err == nil {
		t.Error("it has forgotten the table that it took")
	}
}

// TestTableReplacedAtWork puts another table in the place of one that is written.
func TestTableReplacedAtWork(t *testing.T) {
	t.Parallel()
	db := pgservertest.New(t)
	w, err := tryOpen(t, postgres.Config{URL: db.URL, CreateTables: true}, sinktest.Accounts, sinktest.Stream)
	if err != nil {
		t.Fatal(err)
	}
	apply := func(e sinks.Epoch) error { return w.Apply(t.Context(), []sinks.Epoch{e}) }
	first := sinktest.Whole(sinktest.Epoch(1, sinktest.Put(sinktest.Accounts, 1, "a", "1.5")))
	if err := apply(first); err != nil {
		t.Fatal(err)
	}
	db.Exec(`ALTER TABLE "paid-orders" RENAME TO rotated`,
		`CREATE TABLE "paid-orders" (LIKE rotated INCLUDING ALL)`)
	second := sinktest.Epoch(2, sinktest.Put(sinktest.Accounts, 2, "b", 2))
	if err := apply(second); err != nil {
		t.Errorf("an events table may be rotated: %v", err)
	}
	db.Exec("ALTER TABLE accounts RENAME TO was", "CREATE TABLE accounts (LIKE was INCLUDING ALL)")
	third := sinktest.Epoch(3, sinktest.Put(sinktest.Accounts, 3, "c", 3))
	if err := apply(third); !errors.Is(err, sinks.ErrTargetSchema) {
		t.Fatalf("another table is written: %v", err)
	}
	db.Exec("DROP TABLE accounts", "ALTER TABLE was RENAME TO accounts")
	if err := apply(third); err != nil {
		t.Fatal(err)
	}
	want := []string{"1|a|1.5", "2|b|2", "3|c|3"}
	if got := rowsOf(db, sinktest.Accounts); !slices.Equal(got, want) {
		t.Errorf("got %q", got)
	}
}

// TestRetypedForAllRows changes the type of a column where no value of before can be converted:
// all rows come anew.
func TestRetypedForAllRows(t *testing.T) {
	t.Parallel()
	db := pgservertest.New(t)
	db.Exec("CREATE TABLE accounts (id bigint PRIMARY KEY, name bytea, amount uuid NOT NULL)",
		"INSERT INTO accounts VALUES (1, 'a', gen_random_uuid())")
	anew := sinktest.Accounts
	anew.Whole = true
	cfg := postgres.Config{URL: db.URL, CreateTables: true}
	_, err := tryOpen(t, cfg, anew)
	db.Exec(remedies(t, err)...)
	w, err := tryOpen(t, cfg, anew)
	if err != nil {
		t.Fatal(err)
	}
	whole := sinktest.Whole(sinktest.Epoch(1, sinktest.Put(sinktest.Accounts, 1, "a", "1.5")))
	if err := w.Apply(t.Context(), []sinks.Epoch{whole}); err != nil {
		t.Fatal(err)
	}
	if got := rowsOf(db, sinktest.Accounts); !slices.Equal(got, []string{"1|a|1.5"}) {
		t.Errorf("got %q", got)
	}
}
