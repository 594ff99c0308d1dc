package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/tailrace/tailrace/internal/await"
	"github.com/tailrace/tailrace/internal/faultproxy"
	"github.com/tailrace/tailrace/internal/pgserver"
	"github.com/tailrace/tailrace/internal/pgserver/pgservertest"
	"github.com/tailrace/tailrace/sources"
	"github.com/tailrace/tailrace/sources/postgres"
	"github.com/tailrace/tailrace/sources/sourcetest"
)

// pair is a primary, the fixture's own server, and a hot standby that follows it.
type pair struct {
	*fixture
	standby *pgserver.Server
}

func newPair(t *testing.T) *pair {
	t.Helper()
	f := newFixture(t, pgservertest.Version("18"), pgservertest.Private(map[string]string{"fsync": "off"}))
	f.exec("CREATE TABLE t (id int PRIMARY KEY, x int)")
	f.want("public.t", "id;x")
	return &pair{fixture: f, standby: pgservertest.NewStandby(f.db).Server}
}

// ask asks the standby.
func (p *pair) ask(sql string) string {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.t.Context(), 30*time.Second)
	defer cancel()
	c, err := pgx.Connect(ctx, p.standby.URL(p.db.Name))
	if err != nil {
		p.t.Fatal(err)
	}
	defer c.Close(ctx)
	var out string
	if err := c.QueryRow(ctx, "SELECT ("+sql+")::text").Scan(&out); err != nil {
		p.t.Fatalf("%s: %v", sql, err)
	}
	return out
}

// replayed waits until the standby has everything.
func (p *pair) replayed() {
	p.t.Helper()
	lsn := p.db.String("SELECT pg_current_wal_lsn()")
	await.That(p.t, "the standby follows", func() bool {
		return p.ask("pg_last_wal_replay_lsn() >= '"+lsn+"'") == "true"
	})
}

// synchronised gives the standby a copy of the slot that can be used. That takes a slot
// on the primary which has come as far as the standby's own log reaches back: so the
// session reads and acknowledges past a snapshot of the running transactions. We ask
// for the copy; the standby's own worker (sync_replication_slots) looks every 30 s only.
func (p *pair) synchronised(s sources.Session, m *sourcetest.Model) {
	p.t.Helper()
	await.That(p.t, "the slot is synchronised", func() bool {
		p.exec("SELECT pg_log_standby_snapshot()")
		p.readTo(s, m, p.head())
		p.replayed()
		p.onStandby("SELECT pg_sync_replication_slots()")
		return p.ask("SELECT count(*) FROM pg_replication_slots WHERE slot_name = '"+p.cfg.Slot+
			"' AND synced AND NOT temporary") == "1"
	})
}

// failOver loses the primary, and makes the standby one.
func (p *pair) failOver() {
	p.t.Helper()
	if err := p.db.Server.Kill(); err != nil {
		p.t.Fatal(err)
	}
	if p.ask("pg_promote(true, 30)") != "true" {
		p.t.Fatal("not promoted")
	}
}

func (p *pair) onStandby(sql string) {
	p.t.Helper()
	c, err := pgx.Connect(p.t.Context(), p.standby.URL(p.db.Name))
	if err != nil {
		p.t.Fatal(err)
	}
	defer c.Close(context.Background())
	if _, err := c.Exec(p.t.Context(), sql); err != nil {
		p.t.Fatal(err)
	}
}

// both is a URL that finds whichever of the two is the primary.
func (p *pair) both() string {
	return strings.Replace(p.db.URL, p.db.Server.Addr(), p.db.Server.Addr()+","+p.standby.Addr(), 1) +
		"&target_session_attrs=read-write"
}

func timeline(t *testing.T, s sources.Session) uint32 {
	t.Helper()
	b, ok := s.(sources.Branching)
	if !ok {
		t.Fatal("the session does not tell its timeline")
	}
	return b.Timeline()
}

// TestFailover follows a promoted standby that has everything we have, through a
// failover slot, in a running session and after a restart.
func TestFailover(t *testing.T) {
	t.Parallel()
	p := newPair(t)
	p.cfg.URL, p.cfg.Failover = p.both(), true
	p.exec("INSERT INTO t SELECT i, 0 FROM generate_series(1, 100) i")
	s := p.open()
	m := sourcetest.NewModel(t)
	p.exec("UPDATE t SET x = 1 WHERE id <= 50")
	p.readTo(s, m, p.head())
	p.replayed()
	p.synchronised(s, m)
	before := timeline(t, s)
	p.failOver()
	p.onStandby(
		"UPDATE t SET x = 2 WHERE id <= 10; DELETE FROM t WHERE id > 90; INSERT INTO t VALUES (1000, 1000)",
	)
	p.readUntil(s, m, func() bool { return m.Tables["public.t"]["1000|"] != nil && m.Open == nil })
	sum := func() string { return fmt.Sprint(len(m.Tables["public.t"])) }
	if got, want := sum(), p.ask("SELECT count(*) FROM t"); got != want {
		t.Errorf("%s rows, want %s", got, want)
	}
	for id, want := range map[string]string{"1|": "2", "11|": "1", "51|": "0", "1000|": "1000"} {
		if got := m.Tables["public.t"][id]["x"]; got != want {
			t.Errorf("row %s is %q, want %q", id, got, want)
		}
	}
	if after := timeline(t, s); after <= before {
		t.Errorf("timeline %d after %d", after, before)
	}
	p.resume(s, m.Position)
	p.req.Timeline = timeline(t, s)
	s.Close()
	s = p.open()
	p.onStandby("INSERT INTO t VALUES (1001, 1)")
	p.readUntil(s, m, func() bool { return m.Tables["public.t"]["1001|"] != nil && m.Open == nil })
}

// TestFailoverLost has a standby that lacks what we have processed, and goes on to write
// more than that. Nothing of it may be delivered, in a running session or after a restart.
func TestFailoverLost(t *testing.T) {
	t.Parallel()
	p := newPair(t)
	p.cfg.URL, p.cfg.Failover = p.both(), true
	s := p.open()
	m := sourcetest.NewModel(t)
	p.exec("INSERT INTO t VALUES (1, 1)")
	p.readTo(s, m, p.head())
	p.replayed()
	p.synchronised(s, m)
	p.onStandby("ALTER SYSTEM SET primary_conninfo = ''")
	p.onStandby("SELECT pg_reload_conf()")
	await.That(t, "the standby is alone", func() bool {
		return p.db.String("SELECT count(*) FROM pg_stat_replication WHERE application_name = 'walreceiver'") == "0"
	})
	p.exec("INSERT INTO t VALUES (2, 2)")
	p.readTo(s, m, p.head())
	p.resume(s, m.Position)
	p.req.Timeline = timeline(t, s)
	p.failOver()
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	for {
		b, err := s.Next(ctx)
		if err != nil {
			if !errors.Is(err, sources.ErrWrongSystem) {
				t.Errorf("while running: %v", err)
			}
			break
		}
		if len(b.Txs) > 0 {
			t.Errorf("the new primary's transaction %d was delivered", b.Txs[0].Tx.XID)
		}
	}
	s.Close()
	// By the restart the standby has written more than we have seen.
	p.onStandby("INSERT INTO t SELECT i, 3 FROM generate_series(100, 5000) i")
	if _, err := p.tryOpen(); !errors.Is(err, sources.ErrWrongSystem) ||
		!strings.Contains(err.Error(), "timeline") || !strings.Contains(err.Error(), "new snapshot") {
		t.Errorf("after a restart: %v", err)
	}
}

// TestReconnectMeetsStandby loses the primary where the address leads to the standby before that
// is promoted: nothing is said to be lost as long as it is one. Then a session goes on whose
// slot it has, and one whose slot it lacks ends.
func TestReconnectMeetsStandby(t *testing.T) {
	t.Parallel()
	p := newPair(t)
	proxy, err := faultproxy.New(p.db.Server.Addr())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { proxy.Close() })
	p.cfg.URL, p.cfg.Failover = through(p.db.URL, proxy.Addr()), true
	s := p.open()
	m := sourcetest.NewModel(t)
	p.exec("INSERT INTO t VALUES (1, 1)")
	p.readTo(s, m, p.head())
	p.synchronised(s, m)
	lacking := *p.fixture
	lacking.obs = &observer{}
	lacking.cfg.Slot, lacking.cfg.Publication, lacking.cfg.Failover = p.cfg.Slot+"_lacking", "lacking", false
	lacking.req.Observe = lacking.obs
	without := lacking.open()
	lacking.readTo(without, sourcetest.NewModel(t), p.head())
	p.replayed()

	// What is looked up for a changed table fails on the standby, too.
	proxy.Redirect(p.standby.Addr())
	p.exec("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'tailrace'" +
		" AND backend_type = 'client backend'")
	p.exec("ALTER TABLE t ADD COLUMN y int")
	p.exec("INSERT INTO t VALUES (2, 2)")
	for _, o := range []*observer{p.obs, lacking.obs} {
		await.That(t, "the standby is met", func() bool { return o.standbys() > 0 })
	}
	proxy.Redirect(p.db.Server.Addr())
	p.readUntil(s, m, func() bool { return m.Tables["public.t"]["2|"] != nil && m.Open == nil })
	p.synchronised(s, m)

	met, metToo := p.obs.standbys(), lacking.obs.standbys()
	proxy.Redirect(p.standby.Addr())
	proxy.Cut()
	await.That(t, "both meet the standby", func() bool {
		return p.obs.standbys() > met && lacking.obs.standbys() > metToo
	})
	p.failOver()
	p.onStandby("INSERT INTO t VALUES (3, 3)")
	p.readUntil(s, m, func() bool { return m.Tables["public.t"]["3|"] != nil && m.Open == nil })
	if err := lacking.readError(without); !errors.Is(err, postgres.ErrSlotMissing) {
		t.Errorf("without the slot: %v", err)
	}
}

// TestStartMeetsStandby opens where the address leads to a standby: without state, that is a
// mistake in the URL; with state, or where only the state of tables is new, a failover that passes.
func TestStartMeetsStandby(t *testing.T) {
	t.Parallel()
	p := newPair(t)
	primary := p.cfg.URL
	p.cfg.URL, p.cfg.Failover = p.standby.URL(p.db.Name), true
	if _, err := postgres.Source(p.cfg).Open(t.Context(), p.req); !errors.Is(err, sources.ErrConfig) ||
		!strings.Contains(err.Error(), "target_session_attrs=read-write") {
		t.Fatalf("a first start on a standby: %v", err)
	}
	p.cfg.URL = primary
	s := p.open()
	m := sourcetest.NewModel(t)
	p.exec("INSERT INTO t VALUES (1, 1)")
	p.readTo(s, m, p.head())
	p.synchronised(s, m)
	p.resume(s, m.Position)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	p.replayed()
	p.cfg.URL = p.standby.URL(p.db.Name)
	anew := p.req
	anew.Resume, anew.System = 0, s.System()
	for _, req := range []sources.OpenRequest{p.req, anew} {
		_, err := postgres.Source(p.cfg).Open(t.Context(), req)
		if err == nil || errors.Is(err, sources.ErrPermanent) || !strings.Contains(err.Error(), "standby") ||
			!strings.Contains(err.Error(), "target_session_attrs=read-write") {
			t.Errorf("a restart on a standby: %v", err)
		}
	}
	p.failOver()
	p.onStandby("INSERT INTO t VALUES (2, 2)")
	s = p.open()
	p.readUntil(s, m, func() bool { return m.Tables["public.t"]["2|"] != nil && m.Open == nil })
}

// TestFailoverWithoutSlot names the slot that a promoted standby lacks, and how standbys
// come to have it.
func TestFailoverWithoutSlot(t *testing.T) {
	t.Parallel()
	p := newPair(t)
	p.cfg.URL = p.both()
	s := p.open()
	m := sourcetest.NewModel(t)
	p.exec("INSERT INTO t VALUES (1, 1)")
	p.readTo(s, m, p.head())
	p.replayed()
	p.failOver()
	err := p.readError(s)
	if !errors.Is(err, postgres.ErrSlotMissing) || !strings.Contains(err.Error(), "Config.Failover") ||
		!strings.Contains(err.Error(), "ALTER SYSTEM SET sync_replication_slots = on;") {
		t.Errorf("got %v", err)
	}
}
