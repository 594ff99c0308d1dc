package postgres_test

import (
	"bytes"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/tailrace/tailrace/sources"
	"github.com/tailrace/tailrace/sources/postgres"
	"github.com/tailrace/tailrace/sources/sourcetest"
)

// PostgreSQL refuses updates of a table under REPLICA IDENTITY FULL that has generated columns
// which its publication leaves out. The application never gets to see that.

// newGenerated is a fixture with a table t and a row, nil before PostgreSQL 18.
func newGenerated(t *testing.T, more ...string) *fixture {
	t.Helper()
	f := newFixture(t)
	if f.major() < 18 {
		return nil
	}
	f.exec("CREATE TABLE t (id int PRIMARY KEY, x int)")
	f.exec("INSERT INTO t VALUES (1, 1)")
	for _, sql := range more {
		f.exec(sql)
	}
	f.cfg.MonitorInterval = 20 * time.Millisecond
	f.want("public.t", "id;x")
	return f
}

const (
	fullIdentity = "ALTER TABLE t REPLICA IDENTITY FULL"
	addStored    = "ALTER TABLE t ADD g int GENERATED ALWAYS AS (x + 1) STORED"
	addVirtual   = "ALTER TABLE t ADD g int GENERATED ALWAYS AS (x + 1) VIRTUAL"
	notPublished = "ALTER PUBLICATION @ SET (publish_generated_columns = none)"
)

// goesOn opens, runs the SQL, and checks that the application's update is not refused and read.
func (f *fixture) goesOn(sql ...string) {
	f.t.Helper()
	s, m := f.open(), sourcetest.NewModel(f.t)
	if f.req.Resume != 0 {
		m.Tables["public.t"] = map[string]map[string]string{"1|": {"id": "1", "x": "1"}}
	}
	for _, q := range sql {
		f.exec(q)
	}
	f.exec("UPDATE t SET x = 5")
	f.readTo(s, m, f.head())
	f.same(m, "public.t", "id", "x")
	s.Close()
}

func TestStoredColumnAdded(t *testing.T) {
	t.Parallel()
	if f := newGenerated(t, fullIdentity); f != nil {
		f.goesOn(addStored)
	}
	// A publication of an earlier release is brought to it.
	if f := newGenerated(t, fullIdentity); f != nil {
		f.runOnce()
		f.exec(strings.ReplaceAll(notPublished, "@", f.cfg.Slot))
		f.goesOn(addStored)
	}
	// Rows from before that have no generated columns, and those of a table beside it which has
	// had one all along.
	f := newGenerated(t, "CREATE TABLE u (id int PRIMARY KEY, g int GENERATED ALWAYS AS (id + 1) STORED, y int)")
	if f == nil {
		return
	}
	f.want("public.u", "id;y")
	f.runOnce()
	f.exec("INSERT INTO u (id, y) VALUES (1, 7)")
	f.exec(fullIdentity)
	s, m := f.open(), sourcetest.NewModel(t)
	m.Tables["public.t"] = map[string]map[string]string{"1|": {"id": "1", "x": "1"}}
	f.exec(addStored)
	f.exec("INSERT INTO u (id, y) VALUES (2, 8)")
	f.exec("UPDATE t SET x = 6")
	f.readTo(s, m, f.head())
	f.same(m, "public.t", "id", "x")
	f.same(m, "public.u", "id", "y")
}

// Where the identity becomes FULL later the session is opened anew, which changes the
// publication: also where a partition has it.
func TestIdentityBecomesFull(t *testing.T) {
	t.Parallel()
	for _, full := range []string{"t", "t1"} {
		t.Run(full, func(t *testing.T) {
			t.Parallel()
			f := newGenerated(t, "DROP TABLE t",
				"CREATE TABLE t (id int PRIMARY KEY, x int, g int GENERATED ALWAYS AS (x + 1) STORED) PARTITION BY RANGE (id)",
				"CREATE TABLE t1 PARTITION OF t FOR VALUES FROM (0) TO (10)", "INSERT INTO t VALUES (1, 1)")
			if f == nil {
				return
			}
			s, m := f.open(), sourcetest.NewModel(t)
			f.readUntil(s, m, func() bool { return len(m.Commits) == 1 })
			f.exec("ALTER TABLE t1 REPLICA IDENTITY FULL")
			if full == "t" {
				f.exec(fullIdentity)
			}
			if err := f.readError(s); !errors.Is(err, sources.ErrReopen) ||
				!strings.Contains(err.Error(), "publish_generated_columns = stored") {
				t.Errorf("it ended with %v", err)
			}
			f.resume(s, m.Position)
			s.Close()
			f.goesOn()
		})
	}
}

// A virtual generated column cannot be published: the table leaves the publication of updates,
// and its readers are told.
func TestVirtualColumnAdded(t *testing.T) {
	t.Parallel()
	f := newGenerated(t, fullIdentity)
	if f == nil {
		return
	}
	f.exec("CREATE TABLE u (id int PRIMARY KEY)")
	f.want("public.u", "id;")
	s, m := f.open(), sourcetest.NewModel(t)
	f.readUntil(s, m, func() bool { return len(m.Commits) == 1 })
	f.exec("INSERT INTO t VALUES (2, 2)")
	f.readTo(s, m, f.head())
	f.exec(addVirtual)
	if err := f.readError(s); !errors.Is(err, sources.ErrReopen) ||
		!strings.Contains(err.Error(), "virtual generated column") {
		t.Errorf("it ended with %v", err)
	}
	f.resume(s, m.Position)
	s.Close()
	_, err := f.tryOpen()
	const mend = `ALTER TABLE "public"."t" REPLICA IDENTITY DEFAULT`
	checkProblem(t, err, sources.ErrConfig, "virtual generated column", mend)
	var tables sources.TableError
	if !errors.As(err, &tables) || tables.Of([]string{"public.u"}) != nil {
		t.Errorf("it is not about t alone: %v", err)
	}
	f.exec("UPDATE t SET x = 5")
	f.exec(mend)
	_, err = f.tryOpen()
	checkGap(t, err, "it is not in publication")
}

// A table that is read as events goes among those of which inserts are published, also while
// others are held.
func TestVirtualColumnOfEvents(t *testing.T) {
	t.Parallel()
	for _, partial := range []bool{false, true} {
		f := newGenerated(t, fullIdentity)
		if f == nil {
			return
		}
		f.req.Tables[0].Changes = false
		s, m := f.open(), sourcetest.NewModel(t)
		f.readUntil(s, m, func() bool { return len(m.Commits) == 1 })
		f.exec(addVirtual)
		if err := f.readError(s); !errors.Is(err, sources.ErrReopen) {
			t.Errorf("it ended with %v", err)
		}
		f.resume(s, m.Position)
		s.Close()
		f.req.Partial = partial
		s = f.open()
		f.exec("UPDATE t SET x = 5")
		f.exec("INSERT INTO t VALUES (3, 3)")
		before := len(m.Events)
		f.readTo(s, m, f.head())
		if len(m.Events) != before+1 {
			t.Errorf("events are %q", m.Events)
		}
	}
}

// A publication that is not ours to change is said to want it, and refused only once the column
// is there.
func TestGeneratedColumnsOfOthersPublication(t *testing.T) {
	t.Parallel()
	f := newGenerated(t, fullIdentity, "CREATE PUBLICATION p FOR TABLE t")
	if f == nil {
		return
	}
	f.cfg.Publication = "p"
	var lines bytes.Buffer
	f.req.Logger = slog.New(slog.NewTextHandler(&lines, nil))
	f.runOnce()
	const mend = `ALTER PUBLICATION "p" SET (publish_generated_columns = stored)`
	if said := strings.ReplaceAll(lines.String(), `\"`, `"`); !strings.Contains(said, mend) {
		t.Errorf("it said %s", said)
	}
	f.exec(addStored)
	_, err := f.tryOpen()
	checkProblem(t, err, sources.ErrConfig, mend+";")
	f.exec(mend)
	f.goesOn()

	g := newGenerated(t, fullIdentity)
	g.runOnce()
	g.exec(strings.ReplaceAll(notPublished, "@", g.cfg.Slot))
	g.cfg.ManagePublication = postgres.PublicationNever
	g.open().Close()
	g.exec(addStored)
	_, err = g.tryOpen()
	checkProblem(t, err, sources.ErrConfig, "publish_generated_columns = stored")
}
