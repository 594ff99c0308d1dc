package postgres_test

import (
	"errors"
	"fmt"
	"net/url"
	"strings"
	"testing"

	"github.com/tailrace/tailrace/internal/pgserver/pgservertest"
	"github.com/tailrace/tailrace/sinks"
	"github.com/tailrace/tailrace/sinks/postgres"
	"github.com/tailrace/tailrace/sinks/sinktest"
)

// TestRowSecuritySwitchedOn hides rows from a target at work: what is to be deleted and cannot
// be seen is an error, and is gone once the remedy was run.
func TestRowSecuritySwitchedOn(t *testing.T) {
	t.Parallel()
	db := pgservertest.New(t)
	role := "rls_" + db.Name
	db.Exec(fmt.Sprintf("CREATE ROLE %s LOGIN PASSWORD 'x'", role),
		"CREATE TABLE accounts (id bigint PRIMARY KEY, name text, amount numeric)",
		fmt.Sprintf("GRANT SELECT, INSERT, UPDATE, DELETE ON accounts TO %s", role),
		fmt.Sprintf("GRANT CREATE ON SCHEMA public TO %s", role))
	defer db.Exec(fmt.Sprintf("DROP OWNED BY %[1]s; DROP ROLE %[1]s", role))
	u, err := url.Parse(db.URL)
	if err != nil {
		t.Fatal(err)
	}
	u.User = url.UserPassword(role, "x")
	cfg := postgres.Config{URL: u.String(), CreateTables: true}
	w, err := tryOpen(t, cfg, sinktest.Accounts)
	if err != nil {
		t.Fatal(err)
	}
	whole := sinktest.Whole(sinktest.Epoch(1, sinktest.Put(sinktest.Accounts, 1, "a", "1.5")))
	if err := w.Apply(t.Context(), []sinks.Epoch{whole}); err != nil {
		t.Fatal(err)
	}
	db.Exec("ALTER TABLE accounts ENABLE ROW LEVEL SECURITY")
	gone := sinktest.Epoch(2, sinktest.Del(sinktest.Accounts, 1))
	if err := w.Apply(t.Context(), []sinks.Epoch{gone}); !errors.Is(err, sinks.ErrTargetSchema) {
		t.Fatalf("a row that is hidden was deleted: %v", err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	_, err = tryOpen(t, cfg, sinktest.Accounts)
	if err == nil || !strings.Contains(err.Error(), "BYPASSRLS") {
		t.Fatal(err)
	}
	db.Exec(remedies(t, err)...)
	if w, err = tryOpen(t, cfg, sinktest.Accounts); err != nil {
		t.Fatal(err)
	}
	if err := w.Apply(t.Context(), []sinks.Epoch{gone}); err != nil {
		t.Fatal(err)
	}
	if got := rowsOf(db, sinktest.Accounts); len(got) > 0 {
		t.Errorf("got %q", got)
	}
}
