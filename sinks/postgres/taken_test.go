package postgres_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/tailrace/tailrace/internal/pgserver/pgservertest"
	"github.com/tailrace/tailrace/sinks"
	"github.com/tailrace/tailrace/sinks/postgres"
	"github.com/tailrace/tailrace/sinks/sinktest"
)

// TestTableTaken lets two apps, and two targets of one app, write one table: the second
// is refused, whether the first runs or not, until the remedy in the message is run.
func TestTableTaken(t *testing.T) {
	t.Parallel()
	db := pgservertest.New(t)
	open := func(app, target string, outputs ...sinks.Output) (sinks.Writer, error) {
		t.Helper()
		return openChecked(t, postgres.Config{URL: db.URL, CreateTables: true}, sinks.OpenRequest{
			App: app, Target: target, Incarnation: "of " + app, Outputs: outputs,
		})
	}
	first, err := open("it's", "warehouse", sinktest.Accounts)
	if err != nil {
		t.Fatal(err)
	}
	db.Exec("CREATE SCHEMA elsewhere")
	qualified := sinktest.Accounts
	qualified.Name = "public." + qualified.Name
	refused := func() error {
		t.Helper()
		var last error
		for _, who := range [][2]string{{"other", "warehouse"}, {"it's", "lake"}} {
			_, err := open(who[0], who[1], qualified)
			if !errors.Is(err, sinks.ErrTableTaken) || !errors.Is(err, sinks.ErrTargetSchema) ||
				!strings.Contains(err.Error(), "public.accounts") {
				t.Errorf("%v: got %v", who, err)
			}
			last = err
		}
		return last
	}
	refused()
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	// The first one again, and still nobody else.
	if first, err = open("it's", "warehouse", sinktest.Accounts); err != nil {
		t.Fatal(err)
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	err = refused()
	_, sql, ok := strings.Cut(err.Error(), "run: ")
	if !ok {
		t.Fatalf("no remedy in %v", err)
	}
	db.Exec(sql)
	second, err := open("other", "warehouse", qualified)
	if err != nil {
		t.Fatal(err)
	}
	if err := second.Close(); err != nil {
		t.Fatal(err)
	}
	// An app that keeps its progress in another schema.
	_, err = postgres.Target(postgres.Config{
		URL: db.URL, CreateTables: true, ProgressTable: "elsewhere.tailrace_progress",
	}).
		Open(t.Context(), sinks.OpenRequest{
			App: "elsewhere", Target: "warehouse", Incarnation: "of elsewhere", Outputs: []sinks.Output{qualified},
		})
	if !errors.Is(err, sinks.ErrTableTaken) || !strings.Contains(err.Error(), `"other"`) {
		t.Errorf("with its progress elsewhere: %v", err)
	}
	// Two names of one table.
	if _, err := open("third", "warehouse", sinktest.Places, func() sinks.Output {
		o := sinktest.Places
		o.ID, o.Name = 99, "public."+o.Name
		return o
	}()); !errors.Is(err, sinks.ErrTargetSchema) {
		t.Errorf("got %v", err)
	}
}
