package postgres_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/tailrace/tailrace/sources"
	"github.com/tailrace/tailrace/sources/postgres"
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
