package debezium_test

import (
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/tailrace/tailrace/internal/pgserver/pgservertest"
	"github.com/tailrace/tailrace/sources/debezium"
)

func TestMain(m *testing.M) { pgservertest.Main(m) }

// catalog runs a vector's set-up on a server of our own and reads the tables' catalog.
func catalog(t *testing.T, v *vector) []debezium.Table {
	t.Helper()
	db := pgservertest.New(t)
	db.Exec(v.Setup...)
	var names []string
	for _, row := range db.Strings(`SELECT n.nspname || '.' || c.relname FROM pg_class c
		JOIN pg_namespace n ON n.oid = c.relnamespace
		WHERE c.relkind IN ('r', 'p') AND n.nspname NOT IN ('pg_catalog', 'information_schema') ORDER BY 1`) {
		names = append(names, row[0])
	}
	conn, err := pgx.Connect(t.Context(), db.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	tables, err := debezium.ReadCatalog(t.Context(), conn, names)
	if err != nil {
		t.Fatal(err)
	}
	return tables
}

// TestCheckFindsWhatRecordsHide takes every fixture whose rows differ from the log, or
// lack something, without a sign of it in a record: the check has to name each column.
func TestCheckFindsWhatRecordsHide(t *testing.T) {
	t.Parallel()
	golden, err := os.ReadFile(outcomes)
	if err != nil {
		t.Fatal(err)
	}
	found := 0
	for line := range strings.Lines(string(golden)) {
		name := strings.Split(line, "|")[1]
		columns := listAfter(line, "**differ, found by the check**: ")
		lost := listAfter(line, "**not sent, found by the check**: ")
		if columns == nil && lost == nil {
			continue
		}
		found++
		v := loadVector(t, "testdata/vectors/"+strings.TrimSpace(name)+".json")
		problems, err := debezium.Check(catalog(t, v), v.Options)
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range columns {
			if !slices.ContainsFunc(problems, func(p debezium.Problem) bool { return p.Column == c }) {
				t.Errorf("%s: nothing was found of column %s in %v", name, c, problems)
			}
		}
		for _, op := range lost {
			if !slices.ContainsFunc(problems, func(p debezium.Problem) bool { return p.Lost == op }) {
				t.Errorf("%s: nothing was found of %s in %v", name, op, problems)
			}
		}
	}
	if found < 8 {
		t.Errorf("%d fixtures need the check; the table has changed its form", found)
	}
}

func listAfter(line, mark string) []string {
	_, rest, ok := strings.Cut(line, mark)
	if !ok {
		return nil
	}
	rest, _, _ = strings.Cut(rest, " |")
	rest, _, _ = strings.Cut(rest, ";")
	return strings.Split(rest, ", ")
}

// TestCheckKeys finds tables whose records have a wrong key, or none.
func TestCheckKeys(t *testing.T) {
	t.Parallel()
	for name, want := range map[string][]string{
		"replica-identity": {"public.ri_index: under REPLICA IDENTITY USING INDEX", "public.ri_nothing: with REPLICA"},
		"no-primary-key": {
			"public.nopk: the table has no primary key", "public.uniq: the table has no primary key",
		},
		"partitioned-leaf": {"public.m: with a publication FOR ALL TABLES"},
		"toast-default":    nil,
	} {
		v := loadVector(t, "testdata/vectors/"+name+".json")
		problems, err := debezium.Check(catalog(t, v), v.Options)
		if err != nil {
			t.Fatal(err)
		}
		for _, w := range want {
			if !slices.ContainsFunc(
				problems,
				func(p debezium.Problem) bool { return strings.HasPrefix(p.String(), w) },
			) {
				t.Errorf("%s: %q was not found in %v", name, w, problems)
			}
		}
		for _, p := range problems {
			if p.Column == "" && p.Table != "" && !slices.ContainsFunc(want, func(w string) bool {
				return strings.HasPrefix(p.String(), w)
			}) {
				t.Errorf("%s: found %s", name, p)
			}
		}
	}
}

// TestCatalogTypes reads records without schema by the types of the catalog: a domain
// over a domain, an enum.
func TestCatalogTypes(t *testing.T) {
	t.Parallel()
	db := pgservertest.New(t)
	db.Exec("CREATE TYPE mood AS ENUM ('sad', 'ok')", "CREATE DOMAIN price AS numeric(10,2)",
		"CREATE DOMAIN price2 AS price", "CREATE TABLE t (id int PRIMARY KEY, p price2, m mood, ms mood[])")
	conn, err := pgx.Connect(t.Context(), db.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	tables, err := debezium.ReadCatalog(t.Context(), conn, []string{"public.t"})
	if err != nil {
		t.Fatal(err)
	}
	d, err := debezium.NewDecoder(debezium.Config{Prefix: "tr", Tables: tables})
	if err != nil {
		t.Fatal(err)
	}
	var ev debezium.Event
	r := debezium.Record{Topic: "tr.public.t", Key: []byte(`{"id":1}`), Value: []byte(`{"before":null,"after":` +
		`{"id":1,"p":"B88=","m":"ok","ms":["sad"]},"source":{"schema":"public","table":"t"},"op":"c"}`)}
	if err := d.Decode(&r, &ev); err != nil {
		t.Fatal(err)
	}
	if got := texts(ev.Row.New); got != "1|19.99|ok|{sad}" {
		t.Error(got)
	}
	if _, err := debezium.ReadCatalog(t.Context(), conn, []string{"public.none", "public.t"}); err == nil ||
		!strings.Contains(err.Error(), "public.none") {
		t.Error(err)
	}
}
