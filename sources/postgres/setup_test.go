package postgres_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tailrace/tailrace/internal/await"
	"github.com/tailrace/tailrace/internal/pgserver/pgservertest"
	"github.com/tailrace/tailrace/sources"
	"github.com/tailrace/tailrace/sources/postgres"
	"github.com/tailrace/tailrace/sources/sourcetest"
)

// setup is a database that cannot be read as it is.
type setup struct {
	name string
	sql  []string
	want func(f *fixture)
	kind error
	// says are parts of the message: what is wrong, and the remedy.
	says []string
	// mend is the remedy, after which Open works. Empty where there is none by SQL.
	mend []string
	// from is the first version the case is about, until the last; 0 for any.
	from, until int
}

// major is the version of the server under test.
func (f *fixture) major() int {
	f.t.Helper()
	var n int
	if err := f.db.Pool.QueryRow(f.t.Context(), "SELECT current_setting('server_version_num')::int / 10000").
		Scan(&n); err != nil {
		f.t.Fatal(err)
	}
	return n
}

// farPartition makes a partition of t that is somewhere else.
var farPartition = []string{
	"CREATE FOREIGN DATA WRAPPER nowhere", "CREATE SERVER far FOREIGN DATA WRAPPER nowhere",
	"CREATE TABLE half PARTITION OF t FOR VALUES FROM (0) TO (20) PARTITION BY RANGE (id)",
	"CREATE FOREIGN TABLE far PARTITION OF half FOR VALUES FROM (0) TO (10) SERVER far",
}

var setups = []setup{
	{
		name: "table missing",
		kind: sources.ErrSchema,
		says: []string{"public.nope", "is not in database", "create it, or correct the name"},
		want: func(f *fixture) { f.want("public.nope", "id;x") },
	},
	{name: "no schema", kind: sources.ErrSchema, says: []string{"table t:", "the name is not schema.table"},
		sql:  []string{"CREATE TABLE t (id int PRIMARY KEY, x int)"},
		want: func(f *fixture) { f.want("t", "id;x") }},
	{name: "column missing", kind: sources.ErrSchema, says: []string{`no column "y"`, "db tag"},
		sql:  []string{"CREATE TABLE t (id int PRIMARY KEY, x int)"},
		mend: []string{"ALTER TABLE t ADD y int"},
		want: func(f *fixture) { f.want("public.t", "id;x,y") }},
	{
		name: "no primary key",
		kind: sources.ErrConfig,
		says: []string{"no primary key", "ADD PRIMARY KEY"},
		sql: []string{
			"CREATE TABLE t (id int NOT NULL, x int)",
		},
		mend: []string{"ALTER TABLE t ADD PRIMARY KEY (id)"},
		want: func(f *fixture) { f.want("public.t", "id;x") },
	},
	{name: "deferrable primary key", kind: sources.ErrConfig, says: []string{"not deferrable"},
		sql:  []string{"CREATE TABLE t (id int PRIMARY KEY DEFERRABLE, x int)"},
		want: func(f *fixture) { f.want("public.t", "id;x") }},
	{name: "another key", kind: sources.ErrSchema, says: []string{"primary key is (a, b)", "key type has (a)"},
		sql:  []string{"CREATE TABLE t (a int, b int, PRIMARY KEY (a, b))"},
		want: func(f *fixture) { f.want("public.t", "a;b") }},
	{
		name: "identity nothing",
		kind: sources.ErrConfig,
		says: []string{"NOTHING", `ALTER TABLE "public"."t" REPLICA IDENTITY DEFAULT;`},
		sql:  []string{"CREATE TABLE t (id int PRIMARY KEY, x int)", "ALTER TABLE t REPLICA IDENTITY NOTHING"},
		mend: []string{`ALTER TABLE "public"."t" REPLICA IDENTITY DEFAULT`},
		want: func(f *fixture) { f.want("public.t", "id;x") },
	},
	{
		name: "identity index",
		kind: sources.ErrSchema,
		says: []string{"replica identity index is (x)", "key type has (id)"},
		sql: []string{"CREATE TABLE t (id int PRIMARY KEY, x int NOT NULL)", "CREATE UNIQUE INDEX u ON t (x)",
			"ALTER TABLE t REPLICA IDENTITY USING INDEX u"},
		mend: []string{"ALTER TABLE t REPLICA IDENTITY DEFAULT"},
		want: func(f *fixture) { f.want("public.t", "id;x") },
	},
	{
		name: "identity index dropped",
		kind: sources.ErrConfig,
		says: []string{"was dropped", "REPLICA IDENTITY DEFAULT"},
		sql: []string{"CREATE TABLE t (id int PRIMARY KEY, x int NOT NULL)", "CREATE UNIQUE INDEX u ON t (x)",
			"ALTER TABLE t REPLICA IDENTITY USING INDEX u", "DROP INDEX u"},
		mend: []string{"ALTER TABLE t REPLICA IDENTITY DEFAULT"},
		want: func(f *fixture) { f.want("public.t", "id;x") },
	},
	{
		name: "view",
		kind: sources.ErrConfig,
		says: []string{"it is a view"},
		sql:  []string{"CREATE VIEW t AS SELECT 1 AS id"},
		want: func(f *fixture) { f.want("public.t", "id;") },
	},
	{
		name: "partitions",
		kind: sources.ErrConfig,
		says: []string{"unlogged", `ALTER TABLE public.low SET LOGGED;`, "NOTHING",
			`ALTER TABLE public.high REPLICA IDENTITY DEFAULT;`, "does not tell the id of rows",
			`ALTER TABLE public.other REPLICA IDENTITY DEFAULT;`},
		sql: []string{"CREATE TABLE t (id int PRIMARY KEY, x int) PARTITION BY RANGE (id)",
			"CREATE UNLOGGED TABLE low PARTITION OF t FOR VALUES FROM (0) TO (10)",
			"CREATE TABLE high PARTITION OF t FOR VALUES FROM (10) TO (20)",
			"ALTER TABLE high REPLICA IDENTITY NOTHING",
			"CREATE TABLE other PARTITION OF t (x NOT NULL UNIQUE) FOR VALUES FROM (20) TO (30)",
			"ALTER TABLE other REPLICA IDENTITY USING INDEX other_x_key",
			"CREATE TABLE more PARTITION OF t (x NOT NULL, UNIQUE (x, id)) FOR VALUES FROM (30) TO (40)",
			"ALTER TABLE more REPLICA IDENTITY USING INDEX more_x_id_key",
			"CREATE TABLE whole PARTITION OF t FOR VALUES FROM (40) TO (50)", "ALTER TABLE whole REPLICA IDENTITY FULL"},
		mend: []string{"ALTER TABLE low SET LOGGED", "ALTER TABLE high REPLICA IDENTITY DEFAULT",
			"ALTER TABLE other REPLICA IDENTITY DEFAULT"},
		want: func(f *fixture) { f.want("public.t", "id;x") },
	},
	{
		name: "partitions of an identity index",
		kind: sources.ErrConfig,
		says: []string{"does not tell the x of rows", `ALTER TABLE public.low REPLICA IDENTITY USING INDEX "low_id_x_idx";`},
		sql: []string{"CREATE TABLE t (id int PRIMARY KEY, x int NOT NULL) PARTITION BY RANGE (id)",
			"CREATE UNIQUE INDEX u ON t (id, x)",
			"CREATE TABLE low PARTITION OF t FOR VALUES FROM (0) TO (10)",
			"ALTER TABLE t REPLICA IDENTITY USING INDEX u"},
		mend: []string{"ALTER TABLE low REPLICA IDENTITY USING INDEX low_id_x_idx"},
		want: func(f *fixture) { f.want("public.t", "id,x;") },
	},
	{
		name: "a partition beside its root",
		kind: sources.ErrConfig,
		says: []string{`table "public"."low": table "public"."t" is read as well, which it is a partition of`,
			`table "public"."half": table "public"."t" is read as well`, `read "public"."t" alone`},
		sql: []string{"CREATE TABLE t (id int PRIMARY KEY, x int) PARTITION BY RANGE (id)",
			"CREATE TABLE half PARTITION OF t FOR VALUES FROM (0) TO (20) PARTITION BY RANGE (id)",
			"CREATE TABLE low PARTITION OF half FOR VALUES FROM (0) TO (10)",
			"CREATE TABLE other PARTITION OF t FOR VALUES FROM (20) TO (30)"},
		mend: []string{"ALTER TABLE half DETACH PARTITION low", "ALTER TABLE t DETACH PARTITION half"},
		want: func(f *fixture) {
			f.want("public.low", "id;x").want("public.t", "id;x").want("public.half", "id;x")
		},
	},
	{
		name: "foreign partition",
		kind: sources.ErrConfig,
		says: []string{`table "public"."t": its partition public.far is a foreign table`,
			`ALTER TABLE public.half DETACH PARTITION public.far;`},
		sql:  slices.Concat([]string{"CREATE TABLE t (id int, x int) PARTITION BY RANGE (id)"}, farPartition),
		mend: []string{"ALTER TABLE public.half DETACH PARTITION public.far"},
		want: func(f *fixture) { f.want("public.t", ";x") },
	},
	{name: "unlogged", kind: sources.ErrConfig, says: []string{"unlogged", "SET LOGGED"},
		sql:  []string{"CREATE UNLOGGED TABLE t (id int PRIMARY KEY)"},
		mend: []string{`ALTER TABLE "public"."t" SET LOGGED`},
		want: func(f *fixture) { f.want("public.t", "id;") }},
	{
		name:  "generated column",
		until: 17,
		kind:  sources.ErrSchema,
		says:  []string{"generated", "from PostgreSQL 18 on"},
		sql:   []string{"CREATE TABLE t (id int PRIMARY KEY, y int GENERATED ALWAYS AS (id + 1) STORED)"},
		want:  func(f *fixture) { f.want("public.t", "id;y") },
	},
	{name: "virtual column", from: 18, kind: sources.ErrSchema, says: []string{"virtual generated"},
		sql:  []string{"CREATE TABLE t (id int PRIMARY KEY, y int GENERATED ALWAYS AS (id + 1) VIRTUAL)"},
		want: func(f *fixture) { f.want("public.t", "id;y") }},
	{
		name: "virtual column in a full identity",
		from: 18,
		kind: sources.ErrConfig,
		says: []string{"virtual generated column",
			"REPLICA IDENTITY DEFAULT"},
		mend: []string{"ALTER TABLE t REPLICA IDENTITY DEFAULT"},
		sql: []string{"CREATE TABLE t (id int PRIMARY KEY, y int GENERATED ALWAYS AS (id + 1) VIRTUAL)",
			"ALTER TABLE t REPLICA IDENTITY FULL"},
		want: func(f *fixture) { f.want("public.t", "id;") },
	},
	{name: "foreign publication lacks the table", kind: sources.ErrConfig,
		says: []string{`not in publication "p"`, `ALTER PUBLICATION "p" ADD TABLE ONLY "public"."t";`},
		sql:  []string{"CREATE TABLE t (id int PRIMARY KEY)", "CREATE PUBLICATION p"},
		mend: []string{`ALTER PUBLICATION "p" ADD TABLE ONLY "public"."t"`},
		want: func(f *fixture) { f.cfg.Publication = "p"; f.want("public.t", "id;") }},
	{
		name: "foreign publication without updates",
		kind: sources.ErrConfig,
		says: []string{
			"doesn't publish its updates",
			`ALTER PUBLICATION "p" SET (publish = 'insert, update, delete, truncate');`,
		},
		sql: []string{
			"CREATE TABLE t (id int PRIMARY KEY)",
			"CREATE PUBLICATION p FOR TABLE t WITH (publish = 'insert')",
		},
		mend: []string{`ALTER PUBLICATION "p" SET (publish = 'insert, update, delete, truncate')`},
		want: func(f *fixture) { f.cfg.Publication = "p"; f.want("public.t", "id;") },
	},
	{name: "foreign publication breaks writes", kind: sources.ErrConfig,
		says: []string{"no replica identity", "REPLICA IDENTITY FULL", "refuses the application's own UPDATE"},
		sql:  []string{"CREATE TABLE t (x int)", "CREATE PUBLICATION p FOR TABLE t"},
		mend: []string{"ALTER PUBLICATION p SET (publish = 'insert')"},
		want: func(f *fixture) { f.cfg.Publication = "p"; f.want("public.t", ";x") }},
	{name: "partitions by leaf", kind: sources.ErrConfig,
		says: []string{"by its root", `ALTER PUBLICATION "p" SET (publish_via_partition_root = true);`},
		sql: []string{"CREATE TABLE t (id int PRIMARY KEY) PARTITION BY RANGE (id)",
			"CREATE TABLE t1 PARTITION OF t FOR VALUES FROM (0) TO (10)", "CREATE PUBLICATION p FOR TABLE t"},
		mend: []string{`ALTER PUBLICATION "p" SET (publish_via_partition_root = true)`},
		want: func(f *fixture) { f.cfg.Publication = "p"; f.want("public.t", "id;") }},
	{
		name: "column list leaves out a column",
		from: 15,
		kind: sources.ErrConfig,
		says: []string{"column list", "leaves out y"},
		sql: []string{
			"CREATE TABLE t (id int PRIMARY KEY, x int, y int)",
			"CREATE PUBLICATION p FOR TABLE t (id, x)",
		},
		mend: []string{"ALTER PUBLICATION p SET TABLE t (id, y)"},
		want: func(f *fixture) { f.cfg.Publication = "p"; f.want("public.t", "id;y") },
	},
	{name: "column list leaves out the key", from: 15, kind: sources.ErrConfig,
		says: []string{"doesn't cover the replica identity", "id missing"},
		sql:  []string{"CREATE TABLE t (id int PRIMARY KEY, x int)", "CREATE PUBLICATION p FOR TABLE t (x)"},
		mend: []string{"ALTER PUBLICATION p SET (publish = 'insert')"},
		want: func(f *fixture) {
			f.cfg.Publication = "p"
			f.req.Tables = append(
				f.req.Tables,
				sources.TableRequest{Name: "public.t", Columns: []string{"x"}, Snapshot: true},
			)
		}},
	{
		name: "column list with a full identity",
		from: 15,
		kind: sources.ErrConfig,
		says: []string{"identity is FULL"},
		sql: []string{"CREATE TABLE t (id int PRIMARY KEY, x int)", "ALTER TABLE t REPLICA IDENTITY FULL",
			"CREATE PUBLICATION p FOR TABLE t (id, x)"},
		mend: []string{"ALTER PUBLICATION p SET TABLE t"},
		want: func(f *fixture) { f.cfg.Publication = "p"; f.want("public.t", "id;x") },
	},
	{
		name: "row filter beyond the key",
		from: 15,
		kind: sources.ErrConfig,
		says: []string{"row filter", "uses x"},
		sql: []string{
			"CREATE TABLE t (id int PRIMARY KEY, x int)",
			"CREATE PUBLICATION p FOR TABLE t WHERE (x > 1)",
		},
		mend: []string{"ALTER PUBLICATION p SET TABLE t WHERE (id > 1)"},
		want: func(f *fixture) { f.cfg.Publication = "p"; f.want("public.t", "id;x") },
	},
	{
		name: "row filter beyond the key with a column list",
		from: 15,
		kind: sources.ErrConfig,
		says: []string{"row filter", "uses x"},
		sql: []string{
			"CREATE TABLE t (id int PRIMARY KEY, x int, y int)",
			"CREATE PUBLICATION p FOR TABLE t (id, x, y) WHERE (x > 1)",
		},
		mend: []string{"ALTER PUBLICATION p SET TABLE t (id, x, y) WHERE (id > 1)"},
		want: func(f *fixture) { f.cfg.Publication = "p"; f.want("public.t", "id;x,y") },
	},
	{
		name: "publications left to others",
		kind: sources.ErrConfig,
		says: []string{`CREATE PUBLICATION "p" FOR TABLE ONLY "public"."t"`,
			`CREATE PUBLICATION "p_insert"`, "publish_via_partition_root = true"},
		sql: []string{"CREATE TABLE t (id int PRIMARY KEY)"},
		mend: []string{
			`CREATE PUBLICATION "p" FOR TABLE ONLY "public"."t" WITH (publish_via_partition_root = true)`,
		},
		want: func(f *fixture) {
			f.cfg.Publication, f.cfg.ManagePublication = "p", postgres.PublicationNever
			f.want("public.t", "id;")
		},
	},
	{name: "failover before 17", until: 16, kind: sources.ErrConfig, says: []string{"Config.Failover", "17"},
		sql:  []string{"CREATE TABLE t (id int PRIMARY KEY)"},
		want: func(f *fixture) { f.cfg.Failover = true; f.want("public.t", "id;") }},
	{name: "origin before 16", until: 15, kind: sources.ErrConfig, says: []string{"Config.LocalOnly", "16"},
		sql:  []string{"CREATE TABLE t (id int PRIMARY KEY)"},
		want: func(f *fixture) { f.cfg.LocalOnly = true; f.want("public.t", "id;") }},
}

// Every setup that cannot work is refused with its name and remedy before anything is
// made, and opens once the remedy was applied.
func TestSetupProblems(t *testing.T) {
	t.Parallel()
	for _, c := range setups {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t)
			if v := f.major(); v < c.from || c.until != 0 && v > c.until {
				return // Another version's case, which its run of the suite covers.
			}
			for _, sql := range c.sql {
				f.exec(sql)
			}
			c.want(f)
			_, err := f.tryOpen()
			checkProblem(t, err, c.kind, c.says...)
			f.nothingMade()
			for _, sql := range c.mend {
				f.exec(sql)
			}
			if len(c.mend) > 0 {
				s := f.open()
				f.readUntil(s, sourcetest.NewModel(t), func() bool { return true })
			}
		})
	}
}

func checkProblem(t *testing.T, err, kind error, says ...string) {
	t.Helper()
	var setup *postgres.SetupError
	if !errors.As(err, &setup) || !errors.Is(err, kind) {
		t.Fatalf("error is %v", err)
	}
	for _, s := range says {
		if !strings.Contains(err.Error(), s) {
			t.Errorf("error doesn't say %q: %v", s, err)
		}
	}
}

// nothingMade checks that a refused Open left no trace.
func (f *fixture) nothingMade() {
	f.t.Helper()
	var slots, pubs int
	err := f.db.Pool.QueryRow(f.t.Context(), `SELECT (SELECT count(*) FROM pg_replication_slots WHERE slot_name = $1),
		(SELECT count(*) FROM pg_publication WHERE obj_description(oid, 'pg_publication') IS NOT NULL)`, f.cfg.Slot).
		Scan(&slots, &pubs)
	if err != nil {
		f.t.Fatal(err)
	}
	if slots != 0 || pubs != 0 {
		f.t.Errorf("a refused Open left %d slots and %d publications", slots, pubs)
	}
}

// All problems come at once.
func TestAllProblemsAtOnce(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.exec("CREATE TABLE a (id int)")
	f.exec("CREATE TABLE b (id int PRIMARY KEY)")
	f.exec("CREATE UNLOGGED TABLE c (id int PRIMARY KEY)")
	f.want("public.a", "id;").want("public.b", "id;nope").want("public.c", "id;").want("public.d", "id;")
	_, err := f.tryOpen()
	var setup *postgres.SetupError
	if !errors.As(err, &setup) || len(setup.Problems) < 4 || !errors.Is(err, sources.ErrConfig) ||
		!errors.Is(err, sources.ErrSchema) {
		t.Fatalf("error is %v", err)
	}
	for _, name := range []string{"a", "b", "c", "d"} {
		if !strings.Contains(err.Error(), name) {
			t.Errorf("nothing said about %s: %v", name, err)
		}
	}
}

// A server that is not set up for logical replication, or full.
func TestServerProblems(t *testing.T) {
	t.Parallel()
	f := newFixture(t, pgservertest.Private(map[string]string{"wal_level": "replica", "fsync": "off"}))
	f.exec("CREATE TABLE t (id int PRIMARY KEY)")
	f.want("public.t", "id;")
	_, err := f.tryOpen()
	checkProblem(t, err, sources.ErrConfig, "wal_level", "ALTER SYSTEM SET wal_level = 'logical'", "restart")
	f.exec("ALTER SYSTEM SET wal_level = 'logical'")
	f.exec("ALTER SYSTEM SET max_replication_slots = 1")
	f.exec("ALTER SYSTEM SET max_wal_senders = 1")
	if err := f.db.Server.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	f.db.Pool.Reset()
	f.exec("SELECT pg_create_logical_replication_slot('other', 'pgoutput')")
	_, err = f.tryOpen()
	checkProblem(t, err, sources.ErrConfig, "max_replication_slots", "all 1 slots are in use")
	f.exec("SELECT pg_drop_replication_slot('other')")

	// The only sender is in use: the second session says so.
	s := f.open()
	f.readUntil(s, sourcetest.NewModel(t), func() bool { return true })
	g := &fixture{t: t, db: f.db, cfg: f.cfg, req: f.req, obs: f.obs}
	g.cfg.Slot = "second"
	await.That(t, "the sender shows", func() bool {
		var n int
		_ = f.db.Pool.QueryRow(t.Context(), "SELECT count(*) FROM pg_stat_replication").Scan(&n)
		return n == 1
	})
	_, err = g.tryOpen()
	checkProblem(t, err, sources.ErrConfig, "max_wal_senders", "all 1 are in use")
}

// With exactly the documented grants, and a publication that the owner made, all works
// and the application's writes go on.
func TestLeastPrivilege(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.exec("CREATE SCHEMA shop")
	f.exec("CREATE TABLE shop.orders (id int PRIMARY KEY, status text, secret text)")
	f.exec("CREATE TABLE shop.log (line text)")
	f.exec("INSERT INTO shop.orders SELECT i, 'new', 'x' FROM generate_series(1, 100) i")
	role := "reader_" + f.db.Name
	f.exec(fmt.Sprintf("CREATE ROLE %s LOGIN PASSWORD 'canary-4711'", role))
	defer f.exec(fmt.Sprintf("DROP OWNED BY %[1]s; DROP ROLE %[1]s", role))
	f.exec("REVOKE ALL ON SCHEMA public FROM PUBLIC")
	f.cfg.Publication = "shop_pub"
	f.cfg.URL = asRole(f.db.URL, role, "canary-4711")
	f.want("shop.orders", "id;status").want("shop.log", ";line")

	// Each refusal names the next grant; the SQL it prints is what we run.
	_, err := f.tryOpen()
	checkProblem(t, err, sources.ErrConfig, "REPLICATION", `ALTER ROLE "`+role+`" REPLICATION;`,
		`GRANT USAGE ON SCHEMA "shop" TO "`+role+`";`, `GRANT SELECT ON "shop"."orders" TO "`+role+`";`,
		`GRANT SELECT ON "shop"."log" TO "`+role+`";`, "run as an owner of the tables: CREATE PUBLICATION")
	if strings.Contains(err.Error(), "canary") {
		t.Error("the error shows the password")
	}
	var setup *postgres.SetupError
	errors.As(err, &setup)
	for _, p := range setup.Problems {
		sql := strings.TrimPrefix(p.Fix, "run as an owner of the tables: ")
		if strings.Contains(sql, "SELECT ON \"shop\".\"orders\"") {
			sql = fmt.Sprintf("GRANT SELECT (id, status) ON shop.orders TO %s", role) // Columns are enough.
		}
		f.exec(sql)
	}
	s := f.open()
	m := sourcetest.NewModel(t)
	f.readUntil(s, m, func() bool { return len(m.Commits) == 1 })
	f.exec("UPDATE shop.orders SET status = 'paid' WHERE id < 10")
	f.exec("DELETE FROM shop.orders WHERE id = 50")
	f.exec("INSERT INTO shop.log VALUES ('a'), ('b')")
	f.exec("UPDATE shop.log SET line = 'c' WHERE line = 'a'")
	f.exec("DELETE FROM shop.log")
	f.readTo(s, m, f.head())
	f.same(m, "shop.orders", "id", "status")
	if n := len(m.Tables["shop.log"]); n != 2 {
		t.Errorf("%d log lines, want the 2 inserts", n)
	}
	s.Close()
	if err := postgres.Source(f.cfg).
		Drop(t.Context(), sources.DropRequest{App: "app", Database: "shop"}); err == nil {
		t.Error("Drop of publications of another role says nothing")
	}
}

// TestDocumentedRights takes each right away that docs/postgres-setup.md grants: without any
// of them the source does not open, and with all of them it does.
func TestDocumentedRights(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.exec("CREATE TABLE orders (id int PRIMARY KEY, status text)")
	f.exec("CREATE TABLE customers (id int PRIMARY KEY)")
	f.exec("CREATE PUBLICATION p FOR TABLE orders, customers")
	role := f.db.Reader("orders", "customers")
	f.cfg.URL, f.cfg.Publication, f.cfg.ManagePublication = role.URL, "p", postgres.PublicationNever
	f.want("public.orders", "id;status").want("public.customers", "id;")
	for _, grant := range append(role.Grants, pgservertest.Replication) {
		f.db.Without(role, grant, func() {
			if s, err := f.tryOpen(); err == nil {
				s.Close()
				t.Errorf("it opens without %s", grant)
			} else if !errors.Is(err, sources.ErrConfig) || !strings.Contains(err.Error(), role.Name) {
				t.Errorf("without %s: %v", grant, err)
			}
		})
	}
	f.open().Close()
}

func asRole(raw, role, password string) string {
	u := mustParse(raw)
	u.User = userPassword(role, password)
	return u.String()
}

// Row level security would hide rows from the snapshot that the log has.
func TestRowLevelSecurity(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.exec("CREATE TABLE t (id int PRIMARY KEY)")
	f.exec("ALTER TABLE t ENABLE ROW LEVEL SECURITY")
	role := "rls_" + f.db.Name
	f.exec(fmt.Sprintf("CREATE ROLE %s LOGIN REPLICATION PASSWORD 'x'", role))
	defer f.exec(fmt.Sprintf("DROP OWNED BY %[1]s; DROP ROLE %[1]s", role))
	f.exec("GRANT SELECT ON t TO " + role)
	f.exec("CREATE PUBLICATION p FOR TABLE t")
	f.cfg.URL, f.cfg.Publication = asRole(f.db.URL, role, "x"), "p"
	f.want("public.t", "id;")
	_, err := f.tryOpen()
	checkProblem(t, err, sources.ErrConfig, "row level security", `ALTER ROLE "`+role+`" BYPASSRLS;`)
	f.exec("ALTER ROLE " + role + " BYPASSRLS")
	f.open()
}

// Where it is forced it hides rows from the table's owner, too.
func TestForcedRowLevelSecurity(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.exec("CREATE TABLE t (id int PRIMARY KEY)")
	f.exec("ALTER TABLE t ENABLE ROW LEVEL SECURITY")
	role := "owner_" + f.db.Name
	f.exec(fmt.Sprintf("CREATE ROLE %s LOGIN REPLICATION PASSWORD 'x'", role))
	defer f.exec(fmt.Sprintf("DROP OWNED BY %[1]s CASCADE; DROP ROLE %[1]s", role))
	f.exec(fmt.Sprintf("GRANT CREATE ON DATABASE %s TO %s", f.db.Name, role))
	f.exec("ALTER TABLE t OWNER TO " + role)
	f.cfg.URL = asRole(f.db.URL, role, "x")
	f.want("public.t", "id;")
	f.open().Close() // An owner sees all rows.
	f.exec("ALTER TABLE t FORCE ROW LEVEL SECURITY")
	_, err := f.tryOpen()
	const mend = `ALTER TABLE "public"."t" NO FORCE ROW LEVEL SECURITY;`
	checkProblem(t, err, sources.ErrConfig, "row level security", `ALTER ROLE "`+role+`" BYPASSRLS;`, mend)
	f.exec(mend)
	f.open()
}

// Names are quoted wherever they go: each of these reads exactly its own table.
func TestHostileNames(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	names := []string{
		`a"b`,
		`a;drop table t--`,
		`"`,
		`a.b`,
		`O'Brien`,
		`Übergröße`,
		`x\y`,
		strings.Repeat("n", 63),
	}
	for i, n := range names {
		quoted := `"` + strings.ReplaceAll(n, `"`, `""`) + `"`
		f.exec("CREATE TABLE " + quoted + ` (id int PRIMARY KEY, "Col ""x""" text)`)
		f.exec("INSERT INTO "+quoted+" VALUES ($1, 'snap')", i)
		f.req.Tables = append(
			f.req.Tables,
			sources.TableRequest{Name: "public." + n, Columns: []string{"id", `Col "x"`},
				KeyColumns: []string{"id"}, Changes: true, Snapshot: true},
		)
	}
	f.exec("CREATE TABLE t AS SELECT 1 AS victim")
	const tables = "SELECT string_agg(concat(relname, ' ', relkind, ' ', relnatts), ', ' ORDER BY relname) " +
		"FROM pg_class WHERE relnamespace = 'public'::regnamespace"
	before := f.db.String(tables)
	f.cfg.Publication = `pub"'; DROP TABLE t --`
	s := f.open()
	m := sourcetest.NewModel(t)
	f.readUntil(s, m, func() bool { return len(m.Commits) == 1 })
	for _, n := range names {
		quoted := `"` + strings.ReplaceAll(n, `"`, `""`) + `"`
		f.exec("UPDATE " + quoted + ` SET "Col ""x""" = 'log'`)
	}
	f.readTo(s, m, f.head())
	for i, n := range names {
		if got := m.Tables["public."+n][fmt.Sprint(i)+"|"][`Col "x"`]; got != "log" {
			t.Errorf("table %q has %q", n, got)
		}
	}
	for _, slot := range []string{
		"a;b", "a b", `a"b`, "a'b", "a\x00b", "a-b", "Upper", "\u00fc", "pg_catalog.x", strings.Repeat("s", 64),
		"a;drop table t--", "a\n", `a") LOGICAL pgoutput; DROP TABLE t; --`,
	} {
		bad := f.cfg
		bad.Slot = slot
		if _, err := postgres.Source(bad).Open(t.Context(), f.req); !errors.Is(err, sources.ErrConfig) {
			t.Errorf("slot %q: %v", slot, err)
		}
	}
	for _, name := range []string{"public.nul\x00", "public." + strings.Repeat("n", 64), "pg_catalog.pg_class"} {
		g := &fixture{t: t, db: f.db, cfg: f.cfg, obs: f.obs}
		g.req = sources.OpenRequest{App: "app", Database: "x"}
		g.want(name, "oid;")
		if _, err := g.tryOpen(); !errors.Is(err, sources.ErrSchema) && !errors.Is(err, sources.ErrConfig) {
			t.Errorf("table %q: %v", name, err)
		}
	}
	if after := f.db.String(tables); after != before {
		t.Errorf("there were the tables %s, and are %s", before, after)
	}
}

// The URL's password is nowhere: not in errors, not in anything printed.
func TestSecrets(t *testing.T) {
	t.Parallel()
	const canary = "canary-81c2"
	for _, url := range []string{
		"postgres://u:" + canary + "@127.0.0.1:1/db?sslmode=disable&connect_timeout=1",
		"postgres://u:" + canary + "/x@127.0.0.1:1/db",
		"postgres://u:" + canary + "@[::1/db",
		"host=127.0.0.1 port=1 user=u password=" + canary + " sslmode=nonsense",
		"host=127.0.0.1 port=" + canary,
		"postgres://u:" + canary + "@127.0.0.1:1/db?sslrootcert=/nonexistent/" + canary + "&sslmode=verify-full",
	} {
		cfg := postgres.Config{URL: url}
		c := postgres.Source(cfg)
		_, err := c.Open(t.Context(), sources.OpenRequest{App: "a", Database: "d"})
		if err == nil {
			t.Errorf("%s opened", url)
		}
		db := sources.NewDatabase("d", c)
		for _, s := range []string{err.Error(), fmt.Sprintf("%v %+v %#v %s", cfg, cfg, cfg, cfg),
			fmt.Sprintf("%v %+v %#v %s", c, c, c, c), fmt.Sprintf("%v %+v %#v", db, db, db), cfg.LogValue().String()} {
			if strings.Contains(s, canary) {
				t.Errorf("%s shows the password", s)
			}
		}
	}
	start := time.Now()
	_, err := postgres.Source(postgres.Config{URL: "postgres://u:x@127.0.0.1:1/db?sslmode=disable"}).
		Open(t.Context(), sources.OpenRequest{App: "a", Database: "d"})
	if err == nil || !strings.Contains(err.Error(), `connect to 127.0.0.1:1 database "db"`) ||
		time.Since(start) > 10*time.Second {
		t.Errorf("no server: %v after %s", err, time.Since(start))
	}
}

// A wrong password is named as a matter of configuration.
func TestWrongPassword(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.cfg.URL = asRole(f.db.URL, "nobody_"+f.db.Name, "canary-99")
	_, err := f.tryOpen()
	if !errors.Is(err, sources.ErrConfig) || strings.Contains(err.Error(), "canary") {
		t.Errorf("error is %v", err)
	}
	f.cfg.URL = strings.Replace(f.db.URL, f.db.Name, "nowhere", 1)
	if _, err = f.tryOpen(); !errors.Is(err, sources.ErrConfig) ||
		!strings.Contains(err.Error(), `CREATE DATABASE "nowhere"`) {
		t.Errorf("error is %v", err)
	}
	role := "guest_" + f.db.Name
	f.db.Exec(`create role "` + role + `" login replication password 'canary-98'; ` +
		`revoke connect on database "` + f.db.Name + `" from public`)
	defer f.db.Exec(`drop role "` + role + `"`)
	f.cfg.URL = asRole(f.db.URL, role, "canary-98")
	if _, err = f.tryOpen(); !errors.Is(err, sources.ErrConfig) ||
		!strings.Contains(err.Error(), `GRANT CONNECT ON DATABASE "`+f.db.Name+`" TO "`+role+`"`) {
		t.Errorf("error is %v", err)
	}
}

// TestInsecureIsSaidOnce opens a connector over and over, as retries do.
func TestInsecureIsSaidOnce(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	var out bytes.Buffer
	c := postgres.Source(postgres.Config{URL: "postgres://u:p@db.invalid/shop?sslmode=disable"})
	for range 3 {
		if _, err := c.Open(ctx, sources.OpenRequest{
			App: "app", Database: "shop", Logger: slog.New(slog.NewTextHandler(&out, nil)),
		}); err == nil {
			t.Fatal("it opened")
		}
	}
	if n := strings.Count(out.String(), "may be unencrypted"); n != 1 {
		t.Errorf("said %d times:\n%s", n, out.String())
	}
}
