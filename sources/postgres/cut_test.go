package postgres_test

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/tailrace/tailrace/internal/await"
	"github.com/tailrace/tailrace/internal/faultproxy"
	"github.com/tailrace/tailrace/internal/pgserver/pgservertest"
	"github.com/tailrace/tailrace/sources"
	"github.com/tailrace/tailrace/sources/postgres"
	"github.com/tailrace/tailrace/sources/sourcetest"
)

// cutsApart is how far the places are apart where a connection is cut, or less where more
// are asked for: see the Makefile's target cuts.
func cutsApart(bytes int) int {
	if n, err := strconv.Atoi(os.Getenv("TAILRACE_TEST_CUTS")); err == nil && n > 0 {
		return max(bytes/n, 1)
	}
	return bytes
}

// lane is a session that reaches its database by way of a proxy of its own.
type lane struct {
	*fixture
	proxy *faultproxy.Proxy
	s     sources.Session
	m     *sourcetest.Model
	cuts  int
}

// lanes are fixtures of one database, whose pauses between two connections run beside one
// another.
func lanes(t *testing.T, n int, opts ...pgservertest.Option) []*lane {
	t.Helper()
	first := newFixture(t, opts...)
	out := make([]*lane, n)
	for i := range out {
		proxy, err := faultproxy.New(first.db.Server.Addr())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { proxy.Close() })
		f := *first
		f.obs = &observer{}
		f.req.Observe = f.obs
		f.cfg.URL = through(f.db.URL, proxy.Addr())
		f.cfg.Slot = fmt.Sprintf("%s_%d", first.cfg.Slot, i)
		f.cfg.MonitorInterval = time.Hour // Its bytes would blur where the cut is.
		out[i] = &lane{fixture: &f, proxy: proxy}
	}
	return out
}

// stream opens the session of table t, and leaves it with the stream's connection and the
// idle one of the monitor.
func (l *lane) stream() {
	l.t.Helper()
	l.s, l.m = l.open(), sourcetest.NewModel(l.t)
	l.exec("INSERT INTO t SELECT coalesce(max(id), -1000) + 1, 0, 'first' FROM t WHERE id < 0")
	l.readTo(l.s, l.m, l.head())
	await.That(l.t, "the monitor has done its work, and the snapshot's connections are gone", func() bool {
		l.obs.mu.Lock()
		defer l.obs.mu.Unlock()
		return l.obs.head > 0 && l.proxy.Open() == 2 && l.db.String("SELECT obj_description(oid) LIKE '%started%' "+
			"FROM pg_publication WHERE pubname = '"+l.cfg.Slot+"'") == "t"
	})
}

// cut ends what there is, and lets the next connections pass n bytes.
func (l *lane) cut(direction faultproxy.Direction, n int) {
	l.proxy.Cut()
	l.proxy.CutAfter(direction, n)
	l.cuts++
}

// goes reads all that was written, over the cut and behind it.
func (l *lane) goes(at int) {
	l.t.Helper()
	l.readTo(l.s, l.m, l.head())
	await.That(l.t, fmt.Sprintf("the cut at %d", at), func() bool { return l.proxy.Cuts() == l.cuts })
}

// A connection that is made anew is cut after n bytes, for n from its first byte to what
// it streams: nothing is lost or comes twice, and what a cut leaves of a message or of an
// answer is never taken for another fault.
func TestNewConnectionCut(t *testing.T) {
	t.Parallel()
	all := lanes(t, 8)
	all[0].exec("CREATE TABLE t (id int PRIMARY KEY, x int, pad text)")
	id, places := 0, 0
	write := func() {
		all[0].exec("INSERT INTO t SELECT $1::int + i, 0, repeat('p', 50) FROM generate_series(1, 10) i", id)
		all[0].exec("UPDATE t SET x = x + 1, pad = 'q' WHERE id % 3 = 0 AND id > $1", id-10)
		id += 10
	}
	for _, l := range all {
		l.want("public.t", "id;x,pad")
		l.stream()
	}
	for _, direction := range []faultproxy.Direction{faultproxy.ToClient, faultproxy.ToServer} {
		// How far there is to go: the greetings of two connections, and a round of the stream.
		begins := all[0].proxy.Passed(direction)
		all[0].proxy.Cut()
		write()
		for _, l := range all {
			l.readTo(l.s, l.m, l.head())
		}
		last := int(all[0].proxy.Passed(direction) - begins)
		for n, step := 0, cutsApart(53); n < last; n += step * len(all) {
			for i, l := range all {
				l.cut(direction, n+i*step)
			}
			write()
			for i, l := range all {
				if at := n + i*step; at < last {
					l.goes(at)
					places++
				} else { // Behind the end it comes with what is written next, or not at all.
					l.proxy.CutWhen(direction, nil)
					l.cuts = l.proxy.Cuts()
				}
			}
		}
	}
	write()
	for i, l := range all {
		l.readTo(l.s, l.m, l.head())
		l.same(l.m, "public.t", "id", "x", "pad")
		if n := len(l.m.Commits); n != len(all)-i+1+id/5 {
			t.Errorf("%d transactions came, want %d", n, len(all)-i+1+id/5)
		}
		// A cut in the goodbye of the connection that looks at the slot is nobody's loss.
		if lost := l.obs.count(); lost < 2*l.cuts-10 {
			t.Errorf("%d losses were noticed of %d", lost, 2*l.cuts)
		}
	}
	t.Logf("cut at %d places", places)
}

// The first open is cut after n bytes, for n from the first byte of its first connection to
// the end of the snapshot: it fails as one that may be repeated, and the next one finds
// what it left.
func TestFirstOpenCut(t *testing.T) {
	t.Parallel()
	permanent := []error{sources.ErrConfig, sources.ErrSchema, sources.ErrDataGap, sources.ErrWrongSystem,
		sources.ErrDecode, sources.ErrInUse, postgres.ErrClosed}
	for _, direction := range []faultproxy.Direction{faultproxy.ToClient, faultproxy.ToServer} {
		l := lanes(t, 1)[0]
		l.exec("CREATE TABLE t (id int PRIMARY KEY, x int, pad text)")
		l.exec("INSERT INTO t SELECT i, 0, repeat('p', 50) FROM generate_series(1, 20) i")
		l.want("public.t", "id;x,pad")
		places := 0
		for n, step := 0, cutsApart(1499); ; n += step {
			l.proxy.CutAfter(direction, n)
			s, err := l.tryOpen()
			for _, kind := range permanent {
				if errors.Is(err, kind) {
					t.Errorf("cut after %d bytes: %v", n, err)
				}
			}
			if err == nil {
				s.Close()
				break
			}
			places++
		}
		l.proxy.CutWhen(direction, nil)
		l.exec("UPDATE t SET x = 1 WHERE id = 7")
		l.s, l.m = l.open(), sourcetest.NewModel(t)
		l.readTo(l.s, l.m, l.head())
		l.same(l.m, "public.t", "id", "x", "pad")
		if n := l.db.String("SELECT count(*) FROM pg_replication_slots WHERE database = current_database()"); n != "1" {
			t.Errorf("%s slots", n)
		}
		if places < 5 {
			t.Errorf("cut at %d places only", places)
		}
		t.Logf("cut at %d places", places)
	}
}

// Transactions that are streamed before they commit are cut in every part of them, those
// that are rolled back among them: what had come is forgotten and comes again.
func TestStreamedTransactionCut(t *testing.T) {
	t.Parallel()
	all := lanes(t, 6,
		pgservertest.Private(map[string]string{"logical_decoding_work_mem": "64kB", "fsync": "off"}))
	all[0].exec("CREATE TABLE t (id int PRIMARY KEY, x int, pad text)")
	for i, l := range all {
		l.cfg.Streaming, l.cfg.StreamMemory, l.cfg.TempDir = true, 64<<20, t.TempDir()
		if i%2 == 1 {
			l.cfg.StreamMemory = 20_000
		}
		l.want("public.t", "id;x,pad")
		l.stream()
	}
	const insert = "INSERT INTO t SELECT %d + i, 0, repeat('p', 100) FROM generate_series(1, 600) i;"
	id := 0
	step := cutsApart(19_001)
	for n, last := 1500, 220_000; n < last; n += step * len(all) {
		for i, l := range all {
			l.cut(faultproxy.ToClient, min(n+i*step, last))
		}
		all[0].db.Exec(fmt.Sprintf("BEGIN;"+insert+"SAVEPOINT a;"+insert+"ROLLBACK TO a;"+insert+
			"UPDATE t SET x = x + 1 WHERE id %% 100 = 1 AND id >= %[1]d; COMMIT", id, id+1000, id+2000))
		id += 3000
		for i, l := range all {
			l.goes(n + i*step)
		}
	}
	for i, l := range all {
		l.readTo(l.s, l.m, l.head())
		l.same(l.m, "public.t", "id", "x", "pad")
		if n := len(l.m.Commits); n != len(all)-i+1+id/3000 {
			t.Errorf("%d transactions came, want %d", n, len(all)-i+1+id/3000)
		}
	}
	if n := all[0].db.String("SELECT count(*) FROM pg_stat_replication_slots WHERE stream_count > 0"); n != "6" {
		t.Errorf("%s of 6 slots were streamed", n)
	}
}
