package apptest

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/tailrace/tailrace"
	"github.com/tailrace/tailrace/internal/await"
	"github.com/tailrace/tailrace/internal/pgserver/pgservertest"
	"github.com/tailrace/tailrace/sinks"
	"github.com/tailrace/tailrace/sources"
	"github.com/tailrace/tailrace/sources/postgres"
	"github.com/tailrace/tailrace/topology"
)

// The log has a transaction as soon as its commit is flushed, which others see a moment later:
// here only when a synchronous standby has confirmed it. A column that it drops and adds again
// is told from the one of before all the same.
func TestCommitThatIsNotSeenYet(t *testing.T) {
	db := pgservertest.New(t, pgservertest.Private(map[string]string{
		"synchronous_standby_names": "nobody", "synchronous_commit": "local", "fsync": "off",
	}))
	db.Exec("create table ticks (id bigint primary key, amount bigint not null)",
		"create table altered (id bigint primary key, amount bigint not null, last bigint not null default 5)",
		"insert into altered values (1, 1), (2, 2)")
	shop := sources.NewDatabase("shop", postgres.Source(postgres.Config{
		URL: db.URL, MonitorInterval: time.Hour,
	}))
	b := topology.New("altered")
	v := sinks.View(sources.Table[int64, undoneRow](b, shop, "public.altered"), "altered")
	other := topology.New("ticks") // An app all of whose topologies are held ends.
	sinks.View(sources.Table[int64, item](other, shop, "public.ticks"), "ticks")
	cfg := tailrace.Config{App: "unseen", StateDir: t.TempDir() + "/state"}
	app := start(t, cfg, b.MustBuild(), other.MustBuild())
	ready(t, app)
	before := shown(t, v)

	conn, err := pgx.Connect(t.Context(), db.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.WithoutCancel(t.Context()))
	done := make(chan error, 1)
	go func() {
		_, err := conn.Exec(t.Context(), `set synchronous_commit = on; do $$ begin
			alter table altered drop column last, add column last bigint not null default 7;
			update altered set last = 9 where id = 1; end $$`)
		done <- err
	}()
	await.That(t, "a look at the catalog ahead of the confirmation", func() bool {
		return db.String(`select count(*) > 0 from pg_stat_activity l join pg_stat_activity w
			on w.wait_event = 'SyncRep' and l.backend_start > w.query_start
			where l.application_name = 'tailrace'`) == "t"
	})
	db.Exec("alter system set synchronous_standby_names = ''")
	db.Exec("select pg_reload_conf()")
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	await.That(t, "the topology is held", func() bool { return app.app.Status().Held["altered"] != nil })
	if held := app.app.Status().Held["altered"]; !errors.Is(held, sources.ErrSchema) ||
		!strings.Contains(held.Error(), "another one: it was dropped and added again") {
		t.Errorf("held for %v", held)
	}
	if after := shown(t, v); !slices.Equal(after, before) {
		t.Errorf("the view shows %q, and before %q", after, before)
	}
	if err := app.stop(); err != nil {
		t.Error(err)
	}
}
