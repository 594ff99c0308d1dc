package postgres_test

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/tailrace/tailrace/internal/await"
	"github.com/tailrace/tailrace/sources"
	"github.com/tailrace/tailrace/sources/postgres"
	"github.com/tailrace/tailrace/sources/sourcetest"
)

// Beside a publication that the app may not mark as started a slot counts as used, though
// the publication has the comment of one that the app has made: its owner has run our SQL.
func TestSlotBesideAnothersPublication(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	role := "kept_" + f.db.Name
	f.exec(fmt.Sprintf("CREATE ROLE %s LOGIN REPLICATION PASSWORD 'x'", role))
	defer f.exec(fmt.Sprintf("DROP OWNED BY %[1]s; DROP ROLE %[1]s", role))
	f.cfg.Publication = "p"
	f.exec("CREATE PUBLICATION p")
	f.exec(fmt.Sprintf("COMMENT ON PUBLICATION p IS 'made by Tailrace for app app, database shop, slot %s'",
		f.cfg.Slot))
	f.exec("SELECT pg_create_logical_replication_slot($1, 'pgoutput')", f.cfg.Slot)
	kept := func() bool {
		t.Helper()
		at, ok, err := postgres.Source(f.cfg).(sources.Keeper).Kept(t.Context(),
			sources.KeptRequest{App: "app", Database: "shop"})
		if err != nil || ok != (at > 0) {
			t.Fatalf("kept up to %d, %v: %v", at, ok, err)
		}
		return ok
	}
	if kept() {
		t.Error("the owner would have marked it: nothing was acknowledged")
	}
	f.cfg.URL = asRole(f.db.URL, role, "x")
	if !kept() {
		t.Error("the slot counts as one of a first start, and what it holds is lost")
	}
	err := postgres.Source(f.cfg).Drop(t.Context(), sources.DropRequest{App: "app", Database: "shop"})
	if err == nil || !strings.Contains(err.Error(), `run as that role: DROP PUBLICATION IF EXISTS "p";`) {
		t.Errorf("dropped: %v", err)
	}
}

// What keeps the publication from being marked for a while is not taken for good: unmarked,
// and with the state lost, the slot would count as one of a first start, and be dropped.
func TestMarkedOnceItCanBe(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.exec("CREATE TABLE t (id int PRIMARY KEY, x int)")
	f.want("public.t", "id;x")
	failed := make(chan struct{}, 1)
	f.req.Logger = slog.New(slog.NewTextHandler(onLine{"cannot mark the publication as started", failed}, nil))
	s, m := f.open(), sourcetest.NewModel(t)
	defer s.Close()
	tx, err := f.db.Pool.Begin(t.Context()) // before anything is acknowledged
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = tx.Rollback(context.WithoutCancel(t.Context())) }()
	if _, err := tx.Exec(t.Context(), "COMMENT ON PUBLICATION "+f.cfg.Slot+" IS 'held'"); err != nil {
		t.Fatal(err)
	}
	f.exec("INSERT INTO t VALUES (1, 1)")
	at := f.head()
	f.readTo(s, m, at)
	s.Ack(at)
	await.That(t, "an attempt that is cancelled", func() bool {
		return f.db.String("SELECT coalesce(bool_or(pg_cancel_backend(pid)), false) FROM pg_stat_activity "+
			"WHERE datname = current_database() AND wait_event_type = 'Lock' AND query LIKE 'COMMENT ON PUBLICATION%'") == "t"
	})
	<-failed
	if err := tx.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	await.That(t, "the mark", func() bool {
		return f.db.String("SELECT obj_description(oid) LIKE '%started%' "+
			"FROM pg_publication WHERE pubname = '"+f.cfg.Slot+"'") == "t"
	})
}
