package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/tailrace/tailrace/internal/await"
	"github.com/tailrace/tailrace/record"
	"github.com/tailrace/tailrace/sources"
	"github.com/tailrace/tailrace/sources/postgres"
	"github.com/tailrace/tailrace/sources/sourcetest"
)

// Whatever a table's identity is: after Open every write of the application works.
func TestWritesNeverFail(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	type kind struct{ name, ddl, after, key string }
	kinds := []kind{
		{"plain", "(id int PRIMARY KEY, x int)", "", "id"},
		{"nokey", "(id int, x int)", "", ""},
		{"nothing", "(id int PRIMARY KEY, x int)", "ALTER TABLE nothing REPLICA IDENTITY NOTHING", ""},
		{"whole", "(id int PRIMARY KEY, x int)", "ALTER TABLE whole REPLICA IDENTITY FULL", "id"},
		{"wholenokey", "(id int, x int)", "ALTER TABLE wholenokey REPLICA IDENTITY FULL", ""},
		{
			"byindex",
			"(id int PRIMARY KEY, x int UNIQUE NOT NULL)",
			"ALTER TABLE byindex REPLICA IDENTITY USING INDEX byindex_x_key",
			"x",
		},
		{"deferred", "(id int PRIMARY KEY DEFERRABLE, x int)", "", ""},
		{
			"parts",
			"(id int PRIMARY KEY, x int) PARTITION BY RANGE (id)",
			"CREATE TABLE parts1 PARTITION OF parts DEFAULT",
			"id",
		},
		{"generated", "(id int PRIMARY KEY, x int, g int GENERATED ALWAYS AS (x + 1) STORED)", "", "id"},
		{"wholegenerated", "(id int PRIMARY KEY, x int, g int GENERATED ALWAYS AS (x + 1) STORED)",
			"ALTER TABLE wholegenerated REPLICA IDENTITY FULL", "id"},
		{
			"indexdropped",
			"(id int, x int UNIQUE NOT NULL)",
			"ALTER TABLE indexdropped REPLICA IDENTITY USING INDEX indexdropped_x_key;" +
				"ALTER TABLE indexdropped DROP CONSTRAINT indexdropped_x_key",
			"",
		},
	}
	if f.major() >= 18 {
		kinds = append(
			kinds,
			kind{"virtual", "(id int PRIMARY KEY, x int, v int GENERATED ALWAYS AS (x + 1) VIRTUAL)", "", "id"},
			kind{"wholevirtual", "(id int, x int, v int GENERATED ALWAYS AS (x + 1) VIRTUAL)",
				"ALTER TABLE wholevirtual REPLICA IDENTITY FULL", ""},
			kind{"generatedkey", "(a int, x int, id int GENERATED ALWAYS AS (a + 1) STORED PRIMARY KEY)", "", "id"},
		)
	}
	for _, k := range kinds {
		f.exec("CREATE TABLE " + k.name + " " + k.ddl)
		for sql := range strings.SplitSeq(k.after, ";") {
			f.exec(sql)
		}
		f.want("public."+k.name, k.key+";id,x")
	}
	s := f.open()
	m := sourcetest.NewModel(t)
	for _, k := range kinds {
		if k.name == "generatedkey" {
			f.exec("INSERT INTO generatedkey (a, x) SELECT i, i FROM generate_series(1, 9) i")
		} else {
			f.exec("INSERT INTO " + k.name + " (id, x) SELECT i, i FROM generate_series(2, 10) i")
		}
		f.exec("UPDATE " + k.name + " SET x = x + 1000 WHERE id > 3")
		f.exec("DELETE FROM " + k.name + " WHERE id = 5")
	}
	f.readTo(s, m, f.head())
	for _, k := range kinds {
		switch {
		case k.key != "":
			f.same(m, "public."+k.name, k.key, "x")
		case len(m.Tables["public."+k.name]) < 9:
			t.Errorf("%s: %d inserts, want 9", k.name, len(m.Tables["public."+k.name]))
		}
	}
	// And again, after a restart that changes nothing.
	f.resume(s, m.Position)
	s.Close()
	f.open()
	for _, k := range kinds {
		f.exec("UPDATE " + k.name + " SET x = x + 1000 WHERE id > 3")
		f.exec("TRUNCATE " + k.name)
	}
}

// A stored generated column is read from 18 on, in the snapshot as in the log.
func TestGeneratedColumn(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	if f.major() < 18 {
		return // TestSetupProblems has the refusal.
	}
	f.exec("CREATE TABLE t (id int PRIMARY KEY, g int GENERATED ALWAYS AS (id * 2) STORED)")
	f.exec("INSERT INTO t VALUES (1)")
	f.want("public.t", "id;g")
	s := f.open()
	m := sourcetest.NewModel(t)
	f.exec("INSERT INTO t VALUES (2)")
	f.readTo(s, m, f.head())
	f.same(m, "public.t", "id", "g")
	if m.Tables["public.t"]["2|"]["g"] != "4" {
		t.Errorf("rows are %v", m.Tables)
	}
}

// Slots and publications have the names of app and database, different for each pair.
func TestDefaultNames(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.exec("CREATE TABLE t (id int PRIMARY KEY)")
	f.want("public.t", "id;")
	f.cfg.Slot = ""
	seen := map[string]bool{}
	pairs := [][2]string{{"a", "b"}, {"a-b", "c"}, {"a", "b-c"}, {"a_b", "c"}, {"a", "b_c"}, {"A", "b"},
		{strings.Repeat("long", 30), "x"}, {strings.Repeat("long", 30), "y"}}
	for _, p := range pairs {
		f.req.App, f.req.Database = p[0], p[1]+f.db.Name
		f.open()
	}
	rows, err := f.db.Pool.Query(
		t.Context(),
		"SELECT slot_name::text FROM pg_replication_slots WHERE database = $1",
		f.db.Name,
	)
	if err != nil {
		t.Fatal(err)
	}
	for rows.Next() {
		var n string
		if err := rows.Scan(&n); err != nil {
			t.Fatal(err)
		}
		seen[n] = true
	}
	if len(seen) != len(pairs) {
		t.Errorf("slots are %v, want %d", seen, len(pairs))
	}
}

// Tables come and go between runs: the publications follow.
func TestPublicationFollows(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	for _, n := range []string{"a", "b", "c"} {
		f.exec("CREATE TABLE " + n + " (id int PRIMARY KEY, x int)")
	}
	f.exec("CREATE TABLE noid (x int)")
	f.want("public.a", "id;x").want("public.noid", ";x")
	s := f.open()
	m := sourcetest.NewModel(t)
	f.readUntil(s, m, func() bool { return len(m.Commits) == 1 })
	f.resume(s, m.Position)
	s.Close()
	f.req.Tables = f.req.Tables[:0]
	f.want("public.b", "id;x").want("public.c", "id;x").want("public.noid", "x;")
	f.exec("ALTER TABLE noid ALTER x SET NOT NULL, ADD PRIMARY KEY (x)")
	s = f.open()
	for _, n := range []string{"a", "b", "c"} {
		f.exec("INSERT INTO " + n + " VALUES (1, 1)")
	}
	f.exec("INSERT INTO noid VALUES (1)")
	f.exec("DELETE FROM noid")
	f.readTo(s, m, f.head())
	want := []string{
		"INSERT public.b old=() new=(1,1)",
		"INSERT public.c old=() new=(1,1)",
		"INSERT public.noid old=() new=(1)",
		"DELETE public.noid old=(1) new=()",
	}
	if !slices.Equal(m.Events, want) {
		t.Errorf("events are %q", m.Events)
	}
}

// An existing publication with a column list and a row filter is read as it says, the
// snapshot like the log.
func TestForeignPublication(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	if f.major() < 15 {
		return // There are no column lists and row filters.
	}
	f.exec("CREATE TABLE t (id int PRIMARY KEY, x int, hidden text)")
	f.exec("INSERT INTO t SELECT i, i, 'h' FROM generate_series(1, 100) i")
	f.exec("CREATE PUBLICATION p FOR TABLE t (id, x) WHERE (id > 90)")
	f.cfg.Publication = "p"
	f.want("public.t", "id;x")
	s := f.open()
	if cols := s.Relations()["public.t"].Columns; len(cols) != 2 {
		t.Errorf("columns are %v", cols)
	}
	m := sourcetest.NewModel(t)
	f.exec("UPDATE t SET x = -x")
	f.exec("UPDATE t SET id = 1000 WHERE id = 1")
	f.exec("UPDATE t SET id = 2 WHERE id = 2; DELETE FROM t WHERE id = 95")
	f.readTo(s, m, f.head())
	if m.Snapshot != 10 {
		t.Errorf("snapshot of %d rows, want 10", m.Snapshot)
	}
	if len(m.Tables["public.t"]) != 10 || m.Tables["public.t"]["91|"]["x"] != "-91" {
		t.Errorf("rows are %v", m.Tables["public.t"])
	}
	f.exec("DROP PUBLICATION p")
	s.Close()
}

// Drop removes what Open made and nothing else, and can be repeated.
func TestDrop(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.exec("CREATE TABLE t (id int PRIMARY KEY)")
	f.exec("CREATE PUBLICATION theirs FOR TABLE t")
	f.want("public.t", "id;")
	s := f.open()
	f.readUntil(s, sourcetest.NewModel(t), func() bool { return true })
	drop := func() error {
		return postgres.Source(f.cfg).Drop(t.Context(), sources.DropRequest{App: "app", Database: "shop"})
	}
	f.cfg.SlotWait = 100e6
	await.That(t, "the slot is in use", func() bool { return errors.Is(drop(), sources.ErrInUse) })
	s.Close()
	f.cfg.SlotWait = 10e9
	for range 2 {
		if err := drop(); err != nil {
			t.Fatal(err)
		}
	}
	f.nothingMade()
	var left int
	if err := f.db.Pool.QueryRow(t.Context(), "SELECT count(*) FROM pg_publication").
		Scan(&left); err != nil ||
		left != 1 {
		t.Errorf("%d publications left, want theirs (%v)", left, err)
	}
	g := *f
	g.cfg.Publication = "theirs"
	if err := postgres.Source(g.cfg).
		Drop(t.Context(), sources.DropRequest{App: "app", Database: "shop"}); err != nil {
		t.Fatal(err)
	}
	if err := f.db.Pool.QueryRow(t.Context(), "SELECT count(*) FROM pg_publication").
		Scan(&left); err != nil ||
		left != 1 {
		t.Errorf("Drop took somebody else's publication (%v)", err)
	}
}

// Drop refuses within seconds where the reader lives, and says who it is; it waits for the
// end of one that does not answer any more.
func TestDropUnderReader(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.exec("CREATE TABLE t (id int PRIMARY KEY)")
	f.want("public.t", "id;")
	s := f.open()
	f.readTo(s, sourcetest.NewModel(t), f.head())
	f.cfg.SlotWait = time.Minute
	drop := func() error {
		return postgres.Source(f.cfg).Drop(t.Context(), sources.DropRequest{App: "app", Database: "shop"})
	}
	start := time.Now()
	err := drop()
	if took := time.Since(start); took > 10*time.Second {
		t.Errorf("it took %s", took)
	}
	if !errors.Is(err, sources.ErrInUse) ||
		!strings.Contains(err.Error(), `application_name "tailrace", client "127`) {
		t.Errorf("got %v", err)
	}
	s.Close()
	// A slot that is active without a word from its reader.
	pid := f.silentReader()
	// Later than it is found that a reader lives.
	time.AfterFunc(3*time.Second, func() { f.exec("SELECT pg_terminate_backend($1)", pid) })
	if err := drop(); err != nil {
		t.Error(err)
	}
	f.nothingMade()
}

// The same with the rights of docs/postgres-setup.md, by which the server does not tell how its
// reader is.
func TestDropUnderReaderWithDocumentedRights(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.exec("CREATE TABLE t (id int PRIMARY KEY)")
	f.cfg.Publication, f.cfg.ManagePublication = "theirs", postgres.PublicationNever
	f.exec("CREATE PUBLICATION theirs FOR TABLE t")
	f.cfg.URL = f.db.Reader("t").URL
	f.want("public.t", "id;")
	s := f.open()
	m := sourcetest.NewModel(t)
	f.readTo(s, m, f.head())
	read := make(chan error, 1)
	go func() {
		for {
			b, err := s.Next(t.Context())
			if err != nil {
				read <- err
				return
			}
			m.Apply(b)
			if b.Release != nil {
				b.Release()
			}
			s.Ack(m.Position)
		}
	}()
	f.cfg.SlotWait = time.Minute
	drop := func() error {
		return postgres.Source(f.cfg).Drop(t.Context(), sources.DropRequest{App: "app", Database: "shop"})
	}
	start := time.Now()
	err := drop()
	if took := time.Since(start); took > 10*time.Second {
		t.Errorf("it took %s", took)
	}
	if !errors.Is(err, sources.ErrInUse) {
		t.Errorf("got %v", err)
	}
	s.Close()
	<-read
	pid := f.silentReader()
	time.AfterFunc(3*time.Second, func() { f.exec("SELECT pg_terminate_backend($1)", pid) })
	if err := drop(); err != nil {
		t.Error(err)
	}
}

// silentReader streams from the slot and never says anything. It returns the process.
func (f *fixture) silentReader() (pid uint32) {
	f.t.Helper()
	var c *pgconn.PgConn
	await.That(f.t, "the slot is free", func() bool {
		cfg, err := pgconn.ParseConfig(f.cfg.URL)
		if err != nil {
			f.t.Fatal(err)
		}
		cfg.RuntimeParams["replication"] = "database"
		if c, err = pgconn.ConnectConfig(f.t.Context(), cfg); err != nil {
			f.t.Fatal(err)
		}
		err = pglogrepl.StartReplication(f.t.Context(), c, f.cfg.Slot, 0, pglogrepl.StartReplicationOptions{
			PluginArgs: []string{"proto_version '1'", "publication_names '" + f.cfg.Slot + "'"},
		})
		if err != nil {
			c.Close(f.t.Context())
		}
		return err == nil
	})
	f.t.Cleanup(func() { c.Close(context.Background()) })
	return c.PID()
}

// Types read the same from the snapshot and from the log, whatever the database's
// settings are: the same text, under the settings the contract names.
func TestTypesAlike(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	for _, s := range []string{"datestyle = 'SQL, DMY'", "intervalstyle = 'iso_8601'", "timezone = 'Asia/Tokyo'",
		"extra_float_digits = -10", "bytea_output = 'escape'", "search_path = 'public'"} {
		f.exec("ALTER DATABASE " + f.db.Name + " SET " + s)
	}
	f.db.Pool.Reset()
	f.exec(`CREATE DOMAIN price AS numeric(12,3); CREATE DOMAIN cheap AS price`)
	f.exec(`CREATE TYPE mood AS ENUM ('sad', 'it''s "ok"')`)
	f.exec(
		`CREATE TABLE t (id int PRIMARY KEY, ts timestamptz, d date, iv interval, f8 float8, f4 float4, by bytea,
		n numeric, c cheap, m mood, j jsonb, a text[], r int4range, money money, reg regclass, ti time, u uuid, b bool, x xml)`,
	)
	insert := `INSERT INTO t SELECT $1::int + i, ts::timestamptz, d::date, iv::interval, f8::float8, f8::float4, by::bytea, n::numeric,
		nullif(n, 'NaN')::numeric, 'it''s "ok"', '{"a": "\\ \u0001 \n"}', ARRAY['a"b', NULL, E'\\', E'\t\n'], '[1,5)',
		'1234.5'::float8::numeric::money, 'public.t', '24:00', 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11', true, '<a>é</a>'
		FROM (VALUES (1, '2024-02-29 12:00:00.123456+09', '0044-03-15 BC', '1 year -2 days 03:04:05.678', '0.1', E'\\x00ff5c'::bytea, '1.50'),
		(2, 'infinity', 'infinity', '-178000000 years', 'NaN', ''::bytea, 'NaN'),
		(3, '294276-12-31 23:59:59.999999+00', '-infinity', '0', '1e30', NULL, '123456789.123')) v(i, ts, d, iv, f8, by, n)`
	f.exec(insert, 0)
	f.want("public.t", "id;ts,d,iv,f8,f4,by,n,c,m,j,a,r,money,reg,ti,u,b,x")
	s := f.open()
	m := sourcetest.NewModel(t)
	f.readUntil(s, m, func() bool { return len(m.Commits) == 1 })
	f.exec(insert, 10)
	f.readTo(s, m, f.head())
	rows := m.Tables["public.t"]
	for i := 1; i <= 3; i++ {
		snap, log := rows[fmt.Sprint(i)+"|"], rows[fmt.Sprint(10+i)+"|"]
		if snap == nil || log == nil {
			t.Fatalf("rows are %v", rows)
		}
		for col := range snap {
			if col != "id" && snap[col] != log[col] {
				t.Errorf("row %d column %s: snapshot %q, log %q", i, col, snap[col], log[col])
			}
		}
	}
	for col, want := range map[string]string{"ts": "2024-02-29 03:00:00.123456+00", "d": "0044-03-15 BC",
		"iv": "1 year -2 days +03:04:05.678", "f8": "0.1", "by": `\x00ff5c`, "c": "1.500", "reg": "public.t"} {
		if got := rows["11|"][col]; got != want {
			t.Errorf("column %s is %q, want %q", col, got, want)
		}
	}
	for _, c := range s.Relations()["public.t"].Columns {
		if c.Name == "c" && (c.Type != "public.cheap" || c.Base != "numeric(12,3)") {
			t.Errorf("domain is %+v", c)
		}
	}
}

// What else the log carries: truncation of several tables, key changes, old rows under
// FULL, messages, partitions by their root, DDL in the middle.
func TestEvents(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.exec("CREATE TABLE parent (id int PRIMARY KEY, x int)")
	f.exec("CREATE TABLE child (id int PRIMARY KEY, p int REFERENCES parent, unwanted int)")
	f.exec("CREATE TABLE part (id int PRIMARY KEY, x int) PARTITION BY RANGE (id)")
	f.exec("CREATE TABLE part1 PARTITION OF part FOR VALUES FROM (0) TO (100)")
	f.exec("CREATE TABLE part2 (x int, id int NOT NULL)") // Other column order.
	f.exec("ALTER TABLE part ATTACH PARTITION part2 FOR VALUES FROM (100) TO (200)")
	f.exec("CREATE TABLE whole (id int PRIMARY KEY, big text, x int)")
	f.exec("ALTER TABLE whole REPLICA IDENTITY FULL; ALTER TABLE whole ALTER big SET STORAGE EXTERNAL")
	f.exec("INSERT INTO part VALUES (1, 1), (101, 2)")
	f.want("public.parent", "id;x").
		want("public.child", "id;p").
		want("public.part", "id;x").
		want("public.whole", "id;big,x")
	f.req.Messages = []string{"mine"}
	s := f.open()
	m := sourcetest.NewModel(t)
	f.readUntil(s, m, func() bool { return len(m.Commits) == 1 })
	if m.Snapshot != 2 {
		t.Fatalf("snapshot of %d rows", m.Snapshot)
	}
	m.Events = nil
	big := strings.Repeat("b", 5000)
	f.exec("INSERT INTO parent VALUES (1, 1)")
	f.exec("INSERT INTO child VALUES (1, 1, 0)")
	f.exec("UPDATE child SET id = 2, p = NULL")
	f.exec("TRUNCATE parent CASCADE")
	f.exec("UPDATE part SET id = 102 WHERE id = 1") // Moves to the other partition.
	f.exec("INSERT INTO whole VALUES (1, $1, 1)", big)
	f.exec("UPDATE whole SET x = 2")
	f.exec("SELECT pg_logical_emit_message(true, 'mine', 'in'), pg_logical_emit_message(true, 'theirs', 'no')")
	f.exec("SELECT pg_logical_emit_message(false, 'mine', 'out')")
	f.exec("BEGIN; ALTER TABLE parent ADD y text DEFAULT 'd'; INSERT INTO parent VALUES (3, 3, 'y'); COMMIT")
	f.exec("ALTER TABLE parent RENAME x TO z")
	f.exec("INSERT INTO parent VALUES (4, 4, 'y')")
	f.exec("ALTER TABLE parent DROP COLUMN z")
	f.exec("INSERT INTO parent VALUES (5, 'y')")
	f.exec("ALTER TABLE parent ALTER y TYPE varchar(7)")
	f.exec("INSERT INTO parent VALUES (6, 'y')")
	f.exec("INSERT INTO whole VALUES (9, '', 0)") // After the last message, which has no table's row.
	f.readTo(s, m, f.head())
	want := []string{
		"INSERT public.parent old=() new=(1,1)",
		"INSERT public.child old=() new=(1,1,0)",
		"UPDATE public.child old=(1,NULL,NULL) new=(2,NULL,0)",
		"TRUNCATE public.child old=() new=()", "TRUNCATE public.parent old=() new=()",
		"DELETE public.part old=(1,NULL) new=()", "INSERT public.part old=() new=(102,1)",
		"INSERT public.whole old=() new=(1," + big + ",1)",
		"UPDATE public.whole old=(1," + big + ",1) new=(1," + big + ",2)",
		"INSERT public.parent old=() new=(3,3,y)", "INSERT public.parent old=() new=(4,4,y)",
		"INSERT public.parent old=() new=(5,y)", "INSERT public.parent old=() new=(6,y)",
		"INSERT public.whole old=() new=(9,,0)",
	}
	if len(m.Events) > 4 && m.Events[3] > m.Events[4] { // The order of a cascade is the server's.
		m.Events[3], m.Events[4] = m.Events[4], m.Events[3]
	}
	for i := range max(len(want), len(m.Events)) {
		if i >= len(want) || i >= len(m.Events) || m.Events[i] != want[i] {
			t.Fatalf(
				"event %d of %d, want %d: %.200q",
				i,
				len(m.Events),
				len(want),
				m.Events[min(i, len(m.Events)-1):],
			)
		}
	}
	if got := fmt.Sprint(m.Messages); got != "[mine=in mine=out]" {
		t.Errorf("messages are %s", got)
	}
}

// A relation's pointer says "same shape": it stays over transactions and restarts of
// the connection, and changes with the shape.
func TestRelationPointers(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.exec("CREATE TABLE t (id int PRIMARY KEY, x varchar(5))")
	f.want("public.t", "id;x")
	s := f.open()
	seen := map[*record.Relation]int{}
	var last *record.Relation
	read := func() {
		head, at := f.head(), uint64(0)
		for at < head {
			b, err := s.Next(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			for _, tx := range b.Txs {
				for _, r := range tx.Rows {
					seen[r.Rel]++
					last = r.Rel
				}
				at = tx.Tx.Position
			}
			at = max(at, b.Idle)
			s.Ack(at)
			b.Release()
		}
	}
	f.exec("INSERT INTO t VALUES (1, 'a'), (2, 'b')")
	f.exec("INSERT INTO t VALUES (3, 'c')")
	f.exec("ANALYZE t") // Makes the server describe the table again, with the same shape.
	f.exec("INSERT INTO t VALUES (4, 'c')")
	read()
	if len(seen) != 1 || last != s.Relations()["public.t"] {
		t.Errorf("%d relations for one shape", len(seen))
	}
	f.exec("ALTER TABLE t ALTER x TYPE varchar(9)")
	f.exec("INSERT INTO t VALUES (5, 'd')")
	read()
	if len(seen) != 2 || last.Columns[1].Type != "character varying(9)" {
		t.Errorf("%d relations, the last %v", len(seen), last)
	}
}
