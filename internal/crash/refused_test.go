package crash

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/tailrace/tailrace"
	"github.com/tailrace/tailrace/internal/await"
	"github.com/tailrace/tailrace/internal/failpoint"
	"github.com/tailrace/tailrace/internal/pgserver/pgservertest"
	"github.com/tailrace/tailrace/record"
	"github.com/tailrace/tailrace/sinks"
	pgsink "github.com/tailrace/tailrace/sinks/postgres"
	"github.com/tailrace/tailrace/sources"
	"github.com/tailrace/tailrace/sources/postgres"
	"github.com/tailrace/tailrace/topology"
)

// runRefusedChild is an app whose target refuses rows, which are set aside.
func runRefusedChild() error {
	keep := func(record.Context, *topology.Failure) topology.Verdict { return topology.DeadLetter }
	shop := sources.NewDatabase("shop", postgres.Source(postgres.Config{URL: os.Getenv(envSource)}))
	warehouse := sinks.NewTarget("warehouse", pgsink.Target(pgsink.Config{
		URL: os.Getenv(envWarehouse), Lease: time.Second,
	}))
	b := topology.New("rows")
	sinks.Table(sources.Table[int64, ratioRow](b, shop, "public.items"), warehouse, "rows", sinks.OnError(keep))
	app, err := tailrace.New(tailrace.Config{
		App: "refused", StateDir: filepath.Join(os.Getenv(envDir), "state"), IdleCommit: time.Hour,
		Logger: slog.New(slog.NewTextHandler(os.Stderr, nil)),
	}, b.MustBuild())
	if err != nil {
		return err
	}
	return runArmed(app)
}

// TestRefusedKilled kills the app at each point between the target's refusal of a row and
// the end of what follows, and the same when the row's next change is taken: afterwards the
// row is kept exactly as long as it is refused, and the rest of each transaction is there.
func TestRefusedKilled(t *testing.T) {
	r := &replayed{t: t, db: pgservertest.New(t), wh: pgservertest.New(t)}
	r.app = &app{dir: t.TempDir(), source: r.db.URL, warehouse: r.wh.URL}
	r.db.Exec("create table items (id bigint primary key, amount bigint not null)")
	r.wh.Exec("create table rows (key bigint primary key, amount bigint not null check (amount < 100))")
	for i, point := range []string{failpoint.SinkCommit, failpoint.SinkCommitted, failpoint.SinkApplied} {
		bad, good := 2*i+1, 2*i+2
		killed := func(write string, letters int, want ...string) {
			t.Helper()
			c, addr := r.start("refused")
			r.get(addr + "/arm?point=" + point)
			r.db.Exec(write)
			c.exited(t, point)
			c, addr = r.start("refused")
			defer c.kill(t)
			text := "select amount from rows where key in (%d, %d) order by key"
			var got, kept string
			if !await.Within(20*time.Second, func() bool {
				got = fmt.Sprint(r.wh.Strings(fmt.Sprintf(text, bad, good)))
				kept = r.get(addr + "/deadletters")
				return got == fmt.Sprint(want) && strings.Count(kept, "\n") == letters
			}) {
				t.Fatalf("%s: the target has %s, kept is %s", point, got, kept)
			}
			if letters > 0 && (!strings.Contains(kept, `"failures":1,"target":"warehouse"`) ||
				!strings.Contains(kept, `{"amount":"1000"`)) {
				t.Errorf("%s: kept is %s", point, kept)
			}
		}
		killed(fmt.Sprintf("insert into items values (%d, 1000), (%d, 20)", bad, good), 1, "[20]")
		killed(fmt.Sprintf("update items set amount = 10 where id = %d", bad), 0, "[10]", "[20]")
	}
}

// TestRefusedReplayKilled kills the app while rows that a target has refused, and takes by now,
// are queued for it again: none is lost, and each arrives.
func TestRefusedReplayKilled(t *testing.T) {
	r := &replayed{t: t, db: pgservertest.New(t), wh: pgservertest.New(t)}
	r.app = &app{dir: t.TempDir(), source: r.db.URL, warehouse: r.wh.URL}
	r.db.Exec("create table items (id bigint primary key, amount bigint not null)")
	r.wh.Exec("create table rows (key bigint primary key, amount bigint not null, constraint small check (amount < 100))")
	for i, point := range []string{failpoint.ReplayingRefused, failpoint.SinkCommit, failpoint.SinkApplied} {
		c, addr := r.start("refused")
		r.db.Exec(fmt.Sprintf("insert into items values (%d, 1000)", i))
		await.That(t, "the refusal", func() bool { return strings.Count(r.get(addr+"/deadletters"), "\n") == 1 })
		r.wh.Exec("alter table rows drop constraint small")
		r.get(addr + "/arm?point=" + point)
		_ = r.post(addr+"/deadletters/replay", `{"all":true}`) // the app dies over it, with or without an answer
		c.exited(t, point)
		c, addr = r.start("refused")
		if point == failpoint.ReplayingRefused {
			if kept := r.get(addr + "/deadletters"); strings.Count(kept, "\n") != 1 {
				t.Errorf("%s: kept is %q", point, kept)
			}
			if err := r.post(addr+"/deadletters/replay", `{"all":true}`); err != nil {
				t.Error(err)
			}
		}
		await.That(t, "the row", func() bool {
			return r.wh.String(fmt.Sprintf("select count(*) from rows where key = %d and amount = 1000", i)) == "1" &&
				r.get(addr+"/deadletters") == ""
		})
		c.kill(t)
		r.wh.Exec("alter table rows add constraint small check (amount < 100) not valid")
	}
}
