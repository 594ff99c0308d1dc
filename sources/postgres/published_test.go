package postgres_test

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tailrace/tailrace/internal/await"
	"github.com/tailrace/tailrace/sources"
	"github.com/tailrace/tailrace/sources/postgres"
	"github.com/tailrace/tailrace/sources/sourcetest"
)

// unpublished is what somebody does to a publication, @pub, that a state goes on with.
type unpublished struct {
	name string
	sql  []string
	// says is part of the message; "" where nothing is lost by it.
	says string
	from int // the first version that knows of it
	// both says that it is about the other table too.
	both bool
}

var unpublisheds = []unpublished{
	{"taken out", []string{"ALTER PUBLICATION @pub DROP TABLE t"}, "it is not in publication", 0, false},
	{"taken out and put back", []string{"ALTER PUBLICATION @pub DROP TABLE t", "INSERT INTO t VALUES (9, 9)",
		"ALTER PUBLICATION @pub ADD TABLE ONLY t"}, "put back", 0, false},
	{"no deletes", []string{"ALTER PUBLICATION @pub SET (publish = 'insert, update, truncate')"}, "deletes", 0, true},
	{"inserts only", []string{"ALTER PUBLICATION @pub SET (publish = 'insert')"},
		"updates, deletes and truncates", 0, true},
	{"a row filter", []string{"ALTER PUBLICATION @pub SET TABLE ONLY t WHERE (id > 5), u"}, "row filter", 15, false},
	{"a row filter for a time", []string{"ALTER PUBLICATION @pub SET TABLE ONLY t WHERE (id > 5), u",
		"ALTER PUBLICATION @pub SET TABLE ONLY t, u"}, "put back", 15, false},
	{"a column list", []string{"ALTER PUBLICATION @pub SET TABLE ONLY t (id), u"}, "column list", 15, false},
	{"another table", []string{"CREATE TABLE other (id int PRIMARY KEY)",
		"ALTER PUBLICATION @pub ADD TABLE other"}, "", 0, false},
	{"another owner", []string{"ALTER PUBLICATION @pub OWNER TO CURRENT_USER",
		"ALTER PUBLICATION @pub SET (publish_via_partition_root = true)"}, "", 0, false},
}

// Changes of a table that was not published while a state stood still are lost: the
// session does not open, the error says what to do, and other tables are not concerned.
// With the table begun anew it opens.
func TestUnpublished(t *testing.T) {
	t.Parallel()
	for _, theirs := range []string{"", "theirs"} {
		for _, c := range unpublisheds {
			t.Run(strings.TrimSpace(theirs+" "+c.name), func(t *testing.T) {
				t.Parallel()
				f := newFixture(t)
				if f.major() < c.from {
					return // There are no column lists and row filters.
				}
				f.exec("CREATE TABLE t (id int PRIMARY KEY, x int)")
				f.exec("CREATE TABLE u (id int PRIMARY KEY, x int)")
				if theirs != "" {
					f.exec("CREATE PUBLICATION theirs FOR TABLE t, u")
					f.cfg.Publication = theirs
				}
				f.want("public.t", "id;x").want("public.u", "id;x")
				f.runOnce()
				pub := f.cfg.Slot
				if theirs != "" {
					pub = theirs
				}
				for _, sql := range c.sql {
					f.exec(strings.ReplaceAll(sql, "@pub", pub))
				}
				_, err := f.tryOpen()
				if c.says == "" {
					if err != nil {
						t.Fatalf("nothing is lost, and it says %v", err)
					}
					return
				}
				checkGap(t, err, c.says, c.both)
				delete(f.published, "public.t")
				if c.both {
					delete(f.published, "public.u")
				}
				if theirs != "" {
					f.exec("ALTER PUBLICATION theirs SET TABLE t, u")
					f.exec("ALTER PUBLICATION theirs SET (publish = 'insert, update, delete, truncate')")
				}
				s := f.open()
				f.exec("INSERT INTO t VALUES (2, 2)")
				f.exec("DELETE FROM t WHERE id = 2")
				m := sourcetest.NewModel(t)
				f.readTo(s, m, f.head())
				if len(m.Events) != 2 {
					t.Errorf("with the table begun anew it delivers %q", m.Events)
				}
			})
		}
	}
}

// runOnce makes a state of the tables asked for, which the next open goes on with.
func (f *fixture) runOnce() {
	f.t.Helper()
	s := f.open()
	m := sourcetest.NewModel(f.t)
	f.readUntil(s, m, func() bool { return len(m.Commits) == 1 })
	f.resume(s, m.Position)
	s.Close()
	await.That(f.t, "the slot is free", func() bool {
		return f.db.String("SELECT active FROM pg_replication_slots WHERE slot_name = '"+f.cfg.Slot+"'") == "f"
	})
}

// checkGap checks that an error is the gap of table t alone, with the remedy.
func checkGap(t *testing.T, err error, says string, both ...bool) {
	t.Helper()
	if !errors.Is(err, postgres.ErrPublicationChanged) || !errors.Is(err, sources.ErrDataGap) {
		t.Fatalf("error is %v", err)
	}
	for _, word := range []string{says, `"public"."t"`, "topology.Version", "the rows of this table as events"} {
		if !strings.Contains(err.Error(), word) {
			t.Errorf("the error doesn't say %q: %v", word, err)
		}
	}
	var tables sources.TableError
	if !errors.As(err, &tables) {
		t.Fatalf("it does not say which tables it is about: %v", err)
	}
	if tables.Of([]string{"public.t"}) == nil {
		t.Errorf("it is not about t: %v", err)
	}
	if of := tables.Of([]string{"public.u"}); (of != nil) != slices.Contains(both, true) {
		t.Errorf("of u it says %v", of)
	}
}

// A publication of all tables has no members of its own, and is as good.
func TestUnpublishedAllTables(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.exec("CREATE TABLE t (id int PRIMARY KEY, x int)")
	f.exec("CREATE PUBLICATION every FOR ALL TABLES")
	f.cfg.Publication = "every"
	f.want("public.t", "id;x")
	f.runOnce()
	f.open().Close()
	f.exec("ALTER PUBLICATION every SET (publish = 'insert, update')")
	_, err := f.tryOpen()
	checkGap(t, err, "deletes")
	f.exec("DROP PUBLICATION every")
	f.exec("CREATE PUBLICATION every FOR ALL TABLES")
	_, err = f.tryOpen()
	checkGap(t, err, "put back")
}

// A partitioned table that is published by its leaves is lost to who reads the root.
func TestUnpublishedRoot(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.exec("CREATE TABLE t (id int PRIMARY KEY, x int) PARTITION BY RANGE (id)")
	f.exec("CREATE TABLE t1 PARTITION OF t FOR VALUES FROM (0) TO (10)")
	f.want("public.t", "id;x")
	f.runOnce()
	f.exec("ALTER PUBLICATION " + f.cfg.Slot + " SET (publish_via_partition_root = false)")
	_, err := f.tryOpen()
	checkGap(t, err, "root")
}

// A table that is new to the app is added, also after a start that added it and got no
// further: nothing of it is lost, nor of the others.
func TestUnpublishedNewcomer(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.exec("CREATE TABLE t (id int PRIMARY KEY, x int)")
	f.exec("CREATE TABLE later (id int PRIMARY KEY, x int)")
	f.want("public.t", "id;x")
	f.runOnce()
	f.want("public.later", "id;x")
	f.open().Close() // and is killed before the newcomer's first checkpoint
	s := f.open()
	m := sourcetest.NewModel(t)
	f.exec("INSERT INTO later VALUES (1, 1)")
	f.exec("INSERT INTO t VALUES (1, 1)")
	f.readTo(s, m, f.head())
	if len(m.Events) != 2 {
		t.Errorf("events are %q", m.Events)
	}
}

// What happens to the publication while it is read ends the session, also where it is put
// back before anybody looks.
func TestUnpublishedWhileRead(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, sql string }{
		{"it is not in publication", "ALTER PUBLICATION @pub DROP TABLE t"},
		{"put back", "ALTER PUBLICATION @pub DROP TABLE t; ALTER PUBLICATION @pub ADD TABLE ONLY t"},
		{"deletes", "ALTER PUBLICATION @pub SET (publish = 'insert, update, truncate')"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t)
			f.exec("CREATE TABLE t (id int PRIMARY KEY, x int)")
			f.want("public.t", "id;x")
			f.cfg.MonitorInterval = 20 * time.Millisecond
			s := f.open()
			m := sourcetest.NewModel(t)
			f.readUntil(s, m, func() bool { return len(m.Commits) == 1 })
			f.exec("INSERT INTO t VALUES (1, 1)")
			f.readTo(s, m, f.head())
			f.exec(strings.ReplaceAll(c.sql, "@pub", f.cfg.Slot))
			checkGap(t, f.readError(s), c.name)
		})
	}
}

// A newcomer that reads a partition of what the others read, or the root of it, is refused as
// a whole, before the publication is changed: the others go on when it is gone. Where a table
// that is read was attached to another one its readers alone are concerned.
func TestPartitionBesideItsRoot(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ first, second string }{{"t", "t1"}, {"t1", "t"}} {
		t.Run(c.first, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t)
			f.exec("CREATE TABLE t (id int PRIMARY KEY, x int) PARTITION BY RANGE (id)")
			f.exec("CREATE TABLE t1 PARTITION OF t FOR VALUES FROM (0) TO (10)")
			f.want("public."+c.first, "id;x")
			f.runOnce()
			alone := f.req.Tables
			f.want("public."+c.second, "id;x")
			_, err := f.tryOpen()
			checkProblem(t, err, sources.ErrConfig, "which it is a partition of")
			var tables sources.TableError
			if errors.As(err, &tables) {
				t.Errorf("it is about some tables only: %v", err)
			}
			f.req.Tables = alone
			s := f.open()
			m := sourcetest.NewModel(t)
			f.exec("INSERT INTO t VALUES (1, 1)")
			f.readTo(s, m, f.head())
			if len(m.Events) != 1 {
				t.Errorf("events are %q", m.Events)
			}
		})
	}
}

// A partition of which nothing is in the log ends the session where it is attached while it is
// read; who opens another one is told.
func TestForeignPartitionAttached(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.exec("CREATE TABLE t (id int, x int) PARTITION BY RANGE (id)")
	f.want("public.t", ";x")
	f.cfg.MonitorInterval = 20 * time.Millisecond
	s := f.open()
	m := sourcetest.NewModel(t)
	f.readUntil(s, m, func() bool { return len(m.Commits) == 1 })
	for _, sql := range farPartition {
		f.exec(sql)
	}
	err := f.readError(s)
	if !errors.Is(err, sources.ErrReopen) || !strings.Contains(err.Error(), "public.far is a foreign table") {
		t.Errorf("it ended with %v", err)
	}
	f.resume(s, m.Position)
	_, err = f.tryOpen()
	checkProblem(t, err, sources.ErrConfig, "public.far is a foreign table")
}

func TestPartitionAttachedToWhatIsRead(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.exec("CREATE TABLE t (id int PRIMARY KEY, x int) PARTITION BY RANGE (id)")
	f.exec("CREATE TABLE t1 (id int PRIMARY KEY, x int)")
	f.want("public.t", "id;x").want("public.t1", "id;x")
	f.runOnce()
	f.exec("ALTER TABLE t ATTACH PARTITION t1 FOR VALUES FROM (0) TO (10)")
	_, err := f.tryOpen()
	var tables sources.TableError
	if !errors.As(err, &tables) || !errors.Is(err, sources.ErrConfig) {
		t.Fatalf("error is %v", err)
	}
	if tables.Of([]string{"public.t1"}) == nil || tables.Of([]string{"public.t"}) != nil {
		t.Errorf("it is about other tables than t1: %v", err)
	}
}
