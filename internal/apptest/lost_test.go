package apptest

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tailrace/tailrace"
	"github.com/tailrace/tailrace/internal/await"
	"github.com/tailrace/tailrace/internal/pgserver/pgservertest"
	"github.com/tailrace/tailrace/operators"
	"github.com/tailrace/tailrace/record"
	"github.com/tailrace/tailrace/sinks"
	"github.com/tailrace/tailrace/sinks/file"
	"github.com/tailrace/tailrace/sources"
	"github.com/tailrace/tailrace/sources/postgres"
	"github.com/tailrace/tailrace/topology"
)

// notice is a row of an outbox, and letter what leaves: the notice with the
// customer's name.
type (
	notice struct {
		CustomerID int64
		What       string
	}
	customer struct{ Name string }
	letter   struct{ What, Name string }
)

// post is an app whose events a test reads back from a file.
type post struct {
	t    *testing.T
	db   *pgservertest.DB
	cfg  tailrace.Config
	pg   postgres.Config
	path string
	// version is the topology's, plain makes a Stream of the Outbox, table has the
	// customers.
	version int
	plain   bool
	table   string
}

func newPost(t *testing.T) *post {
	db := pgservertest.New(t)
	db.Exec(`create table customers (id bigint primary key, name text not null)`,
		`create table notices (id bigint primary key, customer_id bigint not null, what text not null)`,
		`insert into customers values (1, 'ann'), (2, 'bob')`)
	dir := t.TempDir()
	return &post{
		t: t, db: db, table: "customers", path: filepath.Join(dir, "letters"),
		cfg: tailrace.Config{
			App: "post", StateDir: filepath.Join(dir, "state"), IdleCommit: 20 * time.Millisecond,
		},
		pg: postgres.Config{URL: db.URL, MonitorInterval: 20 * time.Millisecond},
	}
}

func (p *post) topology() *topology.Topology {
	b := topology.New("post", topology.Version(p.version))
	shop := sources.NewDatabase("shop", postgres.Source(p.pg))
	read := sources.Outbox[int64, notice]
	if p.plain {
		read = sources.Stream[int64, notice]
	}
	letters := operators.Enrich("letters", read(b, shop, "public.notices"),
		sources.Table[int64, customer](b, shop, "public."+p.table),
		func(n notice) int64 { return n.CustomerID },
		func(n notice, c customer) letter { return letter{n.What, c.Name} })
	sinks.Stream(letters, sinks.NewTarget("out", file.Target(file.Config{Path: p.path})), "letters")
	topo, err := b.Build()
	if err != nil {
		p.t.Fatal(err)
	}
	return topo
}

func (p *post) insert(ids ...int) {
	for _, id := range ids {
		p.db.Exec(fmt.Sprintf("insert into notices values (%d, %d, 'n%d')", id, 1+id%2, id))
	}
}

// letters are the events in the file, as "key what name", with "again" behind those
// that are marked replayed.
func (p *post) letters() []string {
	p.t.Helper()
	data, err := os.ReadFile(p.path)
	if err != nil && !os.IsNotExist(err) {
		p.t.Fatal(err)
	}
	var out []string
	for line := range strings.Lines(string(data)) {
		if !strings.HasSuffix(line, "\n") {
			break // it is being written
		}
		var ev struct {
			Key      int64
			Value    letter
			Replayed bool
		}
		if err := json.Unmarshal([]byte(line), &ev); err != nil {
			p.t.Fatalf("%v in %s", err, line)
		}
		s := fmt.Sprintf("%d %s %s", ev.Key, ev.Value.What, ev.Value.Name)
		if ev.Replayed {
			s += " again"
		}
		out = append(out, s)
	}
	return out
}

// want waits until the file has the wanted events and the slot everything before
// now, and compares.
func (p *post) want(app started, want ...string) {
	p.t.Helper()
	lsn := p.db.String("select pg_current_wal_lsn()")
	to, _ := record.ParseLSN(lsn)
	var confirmed string
	if !await.Within(30*time.Second, func() bool {
		confirmed = p.db.String("select coalesce(max(confirmed_flush_lsn), '0/0') from pg_replication_slots " +
			"where database = current_database()")
		at, _ := record.ParseLSN(confirmed)
		return at >= to && len(p.letters()) >= len(want) || app.app.Status().Stopped
	}) || app.app.Status().Stopped {
		p.t.Fatalf("the slot is at %s and not at %s; %v; %+v", confirmed, lsn, p.letters(), app.app.Status())
	}
	if got := p.letters(); !slices.Equal(got, want) {
		p.t.Fatalf("got\n%q, want\n%q", got, want)
	}
}

func (p *post) lose() {
	if err := os.RemoveAll(p.cfg.StateDir); err != nil {
		p.t.Fatal(err)
	}
}

func (p *post) stop(app started) {
	p.t.Helper()
	if err := app.stop(); err != nil {
		p.t.Fatal(err)
	}
}

// marked waits until the database shows that the app has gone past its first start.
func (p *post) marked() {
	p.t.Helper()
	await.That(p.t, "a publication that is marked", func() bool {
		return p.db.String(`select count(*) from pg_publication p where obj_description(p.oid, 'pg_publication')
			like '%started%'`) != "0"
	})
}

// TestLostStateDirectory loses the disk while events wait in the log: each is
// delivered, once and marked, enriched as of the new snapshot, and none of the rows
// that the outbox still holds from before.
func TestLostStateDirectory(t *testing.T) {
	for _, plain := range []bool{false, true} {
		t.Run(fmt.Sprintf("plain=%v", plain), func(t *testing.T) {
			p := newPost(t)
			p.plain = plain
			p.insert(1)
			app := start(t, p.cfg, p.topology())
			if err := app.app.WaitReady(deadline(t)); err != nil {
				t.Fatal(err, app.stop())
			}
			p.insert(2, 3)
			before := []string{"1 n1 bob", "2 n2 ann", "3 n3 bob"}
			if plain {
				before = before[1:]
			}
			p.want(app, before...)
			p.marked()
			p.stop(app)
			p.insert(4)
			p.db.Exec("begin; insert into notices values (5, 1, 'n5'); delete from notices where id = 5; commit",
				"update customers set name = 'rob' where id = 2")
			p.insert(6, 7)
			p.lose()
			app = start(t, p.cfg, p.topology())
			after := append(before, "4 n4 ann again", "5 n5 ann again", "6 n6 ann again", "7 n7 rob again")
			p.want(app, after...)
			p.insert(8, 9)
			after = append(after, "8 n8 ann", "9 n9 rob")
			p.want(app, after...)
			// What was replayed is not replayed again, with the state or without it.
			p.stop(app)
			app = start(t, p.cfg, p.topology())
			p.insert(10)
			after = append(after, "10 n10 ann")
			p.want(app, after...)
			p.stop(app)
			p.lose()
			start(t, p.cfg, p.topology())
			p.insert(11)
			lines := p.waitLines(len(after) + 1)
			// 11 was written before or after the new snapshot.
			if got := strings.TrimSuffix(lines[len(lines)-1], " again"); got != "11 n11 rob" {
				t.Errorf("got %q", got)
			}
		})
	}
}

// waitLines waits for a number of events in the file.
func (p *post) waitLines(n int) []string {
	p.t.Helper()
	if !await.Within(30*time.Second, func() bool { return len(p.letters()) >= n }) {
		p.t.Fatalf("fewer than %d events: %q", n, p.letters())
	}
	return p.letters()
}

// TestLostInFirstStart loses the state before anything was delivered: the next start
// is a first one, and the rows of the outbox are events.
func TestLostInFirstStart(t *testing.T) {
	p := newPost(t)
	p.insert(1, 2)
	p.pg.SnapshotRateLimit = 1 // the snapshot never ends
	p.db.Exec("insert into customers select i, 'x' from generate_series(10, 2000) i")
	app := start(t, p.cfg, p.topology())
	await.That(t, "the slot", func() bool { return p.slots() == "1" })
	p.stop(app)
	p.lose()
	p.pg.SnapshotRateLimit = 0
	app = start(t, p.cfg, p.topology())
	p.want(app, "1 n1 bob", "2 n2 ann")
}

// TestRebuildReplaysEvents changes the topology: its tables are read anew, and its
// events go on where they were.
func TestRebuildReplaysEvents(t *testing.T) {
	p := newPost(t)
	p.insert(1)
	app := start(t, p.cfg, p.topology())
	p.want(app, "1 n1 bob")
	p.stop(app)
	p.insert(2, 3)
	p.version++
	app = start(t, p.cfg, p.topology())
	p.want(app, "1 n1 bob", "2 n2 ann again", "3 n3 bob again")
	p.insert(4)
	p.want(app, "1 n1 bob", "2 n2 ann again", "3 n3 bob again", "4 n4 ann")
}

// TestLostSlotAndState has neither the state nor the log that events would come
// from: the app says so instead of going on without them.
func TestLostSlotAndState(t *testing.T) {
	p := newPost(t)
	app := start(t, p.cfg, p.topology())
	p.want(app)
	p.marked()
	p.stop(app)
	p.lose()
	p.dropSlot()
	app = start(t, p.cfg, p.topology())
	err := app.waitEnd(t)
	if err == nil || !strings.Contains(err.Error(), "DROP PUBLICATION") {
		t.Errorf("got %v", err)
	}
}

// dropSlot drops the app's slot once the server has noticed that its reader has gone.
func (p *post) dropSlot() {
	p.t.Helper()
	await.That(p.t, "a slot that is not in use", func() bool {
		return p.db.String("select count(pg_drop_replication_slot(slot_name)) from pg_replication_slots "+
			"where database = current_database() and not active") == "1"
	})
}

// TestStopOnLostState stops instead of delivering again.
func TestStopOnLostState(t *testing.T) {
	p := newPost(t)
	p.cfg.StopOnLostState = true
	p.insert(1)
	app := start(t, p.cfg, p.topology())
	p.want(app, "1 n1 bob")
	p.marked()
	p.stop(app)
	p.insert(2)
	p.lose()
	if err := start(t, p.cfg, p.topology()).waitEnd(t); !errors.Is(err, tailrace.ErrStateLost) {
		t.Errorf("got %v", err)
	}
	p.lose()
	p.cfg.StopOnLostState = false
	p.want(start(t, p.cfg, p.topology()), "1 n1 bob", "2 n2 ann again")
}

// TestLostBesideForeignPublication has a publication that the app may not mark: a
// first start that is cut short is told by the state directory, and a slot without one
// counts as used.
func TestLostBesideForeignPublication(t *testing.T) {
	p := newPost(t)
	p.db.Exec("create publication pub for table customers, notices with (publish_via_partition_root)")
	p.pg.Publication, p.pg.ManagePublication = "pub", postgres.PublicationNever
	p.insert(1)
	p.pg.SnapshotRateLimit = 1
	p.db.Exec("insert into customers select i, 'x' from generate_series(10, 2000) i")
	app := start(t, p.cfg, p.topology())
	await.That(t, "the slot", func() bool { return p.slots() == "1" })
	p.stop(app)
	p.pg.SnapshotRateLimit = 0
	app = start(t, p.cfg, p.topology())
	p.want(app, "1 n1 bob")
	p.stop(app)
	p.insert(2)
	p.lose()
	p.want(start(t, p.cfg, p.topology()), "1 n1 bob", "2 n2 ann again")
}
