package apptest

import (
	"strings"
	"testing"

	"github.com/tailrace/tailrace"
	"github.com/tailrace/tailrace/internal/pgserver/pgservertest"
	"github.com/tailrace/tailrace/sinks"
	"github.com/tailrace/tailrace/sources"
	"github.com/tailrace/tailrace/topology"
)

// TestFirstStartRefused starts an app with a type that does not fit one table, and with
// another table that is not there: the error says both, and nothing is created.
func TestFirstStartRefused(t *testing.T) {
	db := pgservertest.New(t)
	db.Exec(itemsSchema)
	source := pgSource("shop", db)
	b := topology.New("t")
	sinks.View(sources.Table[int64, struct{ Extra int64 }](b, source, "public.items"), "extra")
	sinks.View(sources.Table[int64, item](b, source, "public.gone"), "gone")
	topo, err := b.Build()
	if err != nil {
		t.Fatal(err)
	}
	app := start(t, tailrace.Config{App: "refused", StateDir: t.TempDir() + "/state"}, topo)
	err = app.waitEnd(t)
	for _, word := range []string{"public.gone", "Extra"} {
		if err == nil || !strings.Contains(err.Error(), word) {
			t.Errorf("the error does not say %q: %v", word, err)
		}
	}
	nothingLeft(t, db)

	b = topology.New("t")
	sinks.View(sources.Table[int64, struct{ Extra int64 }](b, source, "public.items"), "extra")
	if topo, err = b.Build(); err != nil {
		t.Fatal(err)
	}
	app = start(t, tailrace.Config{App: "refused", StateDir: t.TempDir() + "/state"}, topo)
	if err := app.waitEnd(t); err == nil || !strings.Contains(err.Error(), "Extra") {
		t.Errorf("the app ended with %v", err)
	}
	nothingLeft(t, db)
}
