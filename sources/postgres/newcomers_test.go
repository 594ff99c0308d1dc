package postgres_test

import (
	"bytes"
	"log/slog"
	"slices"
	"strings"
	"testing"

	"github.com/tailrace/tailrace/internal/await"
	"github.com/tailrace/tailrace/sources"
	"github.com/tailrace/tailrace/sources/postgres"
	"github.com/tailrace/tailrace/sources/sourcetest"
)

// leaves opens and closes a session, so that its slot stays.
func (f *fixture) leaves(app, database, joins string) {
	f.t.Helper()
	g := *f
	g.req.App, g.req.Database, g.req.Joins = app, database, joins
	s := g.open()
	g.readUntil(s, sourcetest.NewModel(f.t), func() bool { return true })
	s.Close()
}

func (f *fixture) slots() []string {
	var names []string
	for _, row := range f.db.Strings("SELECT slot_name FROM pg_replication_slots WHERE database = current_database()") {
		names = append(names, row[0])
	}
	slices.Sort(names)
	return names
}

// Drop finds what the app's newcomers left, whose names nobody has given it, and leaves
// the slots of apps and databases whose names begin or go on alike.
func TestDropNewcomers(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.exec("CREATE TABLE t (id int PRIMARY KEY)")
	f.want("public.t", "id;")
	f.cfg.Slot = ""
	d := strings.ReplaceAll(f.db.Name, "_", "") // a slot's name is the server's
	long := strings.Repeat("long", 20)
	f.leaves("shop", d, "")
	f.leaves("shop-join-a", d, "shop")
	f.leaves("shop-join-"+long, d, "shop")
	mine := f.slots()
	if len(mine) != 3 {
		t.Fatalf("slots are %q", mine)
	}
	f.leaves("shop", d+"-join", "")
	f.leaves("shop", d+"-join-0a0b0c0d", "")
	f.leaves("shop-join-a", d, "")
	f.leaves("shop-join", d, "")
	f.leaves("shop-join-join-a", d, "shop-join")
	f.leaves("sho", d, "")
	f.leaves("sho-join-p", d, "sho")
	f.leaves("shop-join-a", d+"-join", "shop")
	f.leaves(long, d, "")
	f.leaves(long+"-join-a", d, long)
	f.exec("SELECT pg_create_logical_replication_slot($1, 'pgoutput')", mine[0]+"_join_theirs")
	others := slices.DeleteFunc(f.slots(), func(name string) bool { return slices.Contains(mine, name) })
	if len(others) != 11 {
		t.Fatalf("the others' slots are %q", others)
	}
	req := sources.DropRequest{App: "shop", Database: d}
	if err := postgres.Source(f.cfg).Drop(t.Context(), req); err != nil {
		t.Fatal(err)
	}
	if left := f.slots(); !slices.Equal(left, others) {
		t.Errorf("left are %q, want %q", left, others)
	}
	for _, name := range others {
		f.exec("SELECT pg_drop_replication_slot($1)", name)
	}
}

// The first start says what it creates in the database, with the names; a later one has
// nothing to say.
func TestSaysWhatItCreates(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.exec("CREATE TABLE t (id int PRIMARY KEY)")
	f.want("public.t", "id;")
	var log bytes.Buffer
	f.req.Logger = slog.New(slog.NewTextHandler(&log, nil))
	said := func() string { return log.String() }
	f.runOnce()
	for _, word := range []string{"created publication", f.cfg.Slot + `\" FOR TABLE`, f.cfg.Slot + `_insert\"`,
		`msg="created replication slot" slot=` + f.cfg.Slot} {
		if !strings.Contains(said(), word) {
			t.Errorf("the first start does not say %q: %s", word, said())
		}
	}
	log.Reset()
	s := f.open()
	await.That(t, "the slot is read", func() bool {
		return f.db.String("SELECT active FROM pg_replication_slots WHERE slot_name = '"+f.cfg.Slot+"'") == "t"
	})
	s.Close()
	if strings.Contains(said(), "created") {
		t.Errorf("a later start says %s", said())
	}
}
