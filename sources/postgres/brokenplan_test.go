package postgres_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/tailrace/tailrace/sources"
	"github.com/tailrace/tailrace/sources/postgres"
	"github.com/tailrace/tailrace/sources/sourcetest"
)

// The SQL that is printed for publications goes by what they have to be once all else is
// mended: a table whose primary key was lost stays where it is, since among tables of which
// only inserts are published its updates would be missed.
func TestPublicationsBesideLostKey(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.exec("CREATE TABLE a (id int PRIMARY KEY)")
	f.exec("CREATE TABLE b (id int PRIMARY KEY)")
	f.exec("CREATE TABLE other (id int PRIMARY KEY)")
	f.want("public.a", "id;").want("public.b", "id;")
	f.cfg.Publication = "p"
	_ = f.open().Close()
	pub := `"p"`
	f.exec("ALTER PUBLICATION " + pub + " SET TABLE a, other")
	f.exec("ALTER TABLE a DROP CONSTRAINT a_pkey")
	f.cfg.ManagePublication = postgres.PublicationNever
	_, err := f.tryOpen()
	set := "ALTER PUBLICATION " + pub + ` SET TABLE ONLY "public"."a", ONLY "public"."b";`
	checkProblem(t, err, sources.ErrConfig, "no primary key", set)
	if strings.Contains(err.Error(), `_insert" ADD TABLE`) {
		t.Errorf("a table is to be moved: %v", err)
	}
	f.exec(set)
	f.exec("ALTER TABLE a ADD PRIMARY KEY (id)")
	s := f.open()
	f.readUntil(s, sourcetest.NewModel(t), func() bool { return true })

	// One that is nowhere yet is left out, as the application's updates of it would fail.
	g := newFixture(t)
	g.exec("CREATE TABLE a (id int NOT NULL)")
	g.exec("CREATE TABLE b (id int PRIMARY KEY)")
	g.want("public.a", "id;").want("public.b", "id;")
	g.cfg.ManagePublication = postgres.PublicationNever
	_, err = g.tryOpen()
	checkProblem(t, err, sources.ErrConfig, `FOR TABLE ONLY "public"."b" WITH`,
		`"public"."a", which has no key, is not among them`)
}

// A table that is read as events and loses its key leaves the publication of updates, were it
// the last one in it: PostgreSQL would refuse the application's own updates.
func TestEventsLoseTheirKey(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.exec("CREATE TABLE log (id int PRIMARY KEY, line text)")
	f.want("public.log", ";line")
	_ = f.open().Close()
	f.exec("INSERT INTO log VALUES (1, 'a')")
	f.exec("ALTER TABLE log DROP CONSTRAINT log_pkey")
	_ = f.open().Close()
	f.exec("UPDATE log SET line = 'b'")
	f.exec("DELETE FROM log")
}

// The same while it is read: the session is opened anew.
func TestEventsLoseTheirKeyWhileRead(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.exec("CREATE TABLE log (id int PRIMARY KEY, line text)")
	f.want("public.log", ";line")
	f.cfg.MonitorInterval = 20 * time.Millisecond
	s, m := f.open(), sourcetest.NewModel(t)
	f.readUntil(s, m, func() bool { return len(m.Commits) == 1 })
	f.exec("INSERT INTO log VALUES (1, 'a')")
	f.readTo(s, m, f.head())
	f.exec("ALTER TABLE log DROP CONSTRAINT log_pkey")
	if err := f.readError(s); !errors.Is(err, sources.ErrReopen) {
		t.Errorf("it ended with %v", err)
	}
	f.resume(s, m.Position)
	s.Close()
	s = f.open()
	f.exec("UPDATE log SET line = 'b'")
	f.exec("INSERT INTO log VALUES (2, 'c')")
	f.readTo(s, m, f.head())
	if len(m.Events) != 2 {
		t.Errorf("events are %q", m.Events)
	}
}
