package postgres

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net/url"
	"testing"
	"time"

	"github.com/tailrace/tailrace/internal/faultproxy"
	"github.com/tailrace/tailrace/internal/pgoutput"
	"github.com/tailrace/tailrace/internal/pgserver/pgservertest"
	"github.com/tailrace/tailrace/record"
	"github.com/tailrace/tailrace/sources"
)

// slowCatalog knows no table before it was asked.
type slowCatalog struct {
	anyTable
	asked, answer chan bool
}

func (slowCatalog) describe(pgoutput.RelationMessage, uint32) (*record.Relation, bool) {
	return nil, false
}

func (c slowCatalog) look(m pgoutput.RelationMessage, xid uint32) (*record.Relation, error) {
	c.asked <- true
	<-c.answer
	rel, _ := c.anyTable.describe(m, xid)
	return rel, nil
}

// While the catalog is asked about a table a reader takes what was there before, and the rows
// behind the description come with what the catalog said.
func TestTakeWhileDescribing(t *testing.T) {
	u64 := func(n uint64) []byte { return binary.BigEndian.AppendUint64(nil, n) }
	join := func(parts ...[]byte) []byte { return bytes.Join(parts, nil) }
	begin := join([]byte("B"), u64(100), u64(0), []byte{0, 0, 0, 7})
	commit := join([]byte("C\x00"), u64(100), u64(108), u64(0))
	relation := []byte("R\x00\x00\x00\x09public\x00t\x00d\x00\x01\x01id\x00\x00\x00\x00\x17\xff\xff\xff\xff")
	insert := []byte("I\x00\x00\x00\x09N\x00\x01t\x00\x00\x00\x011")
	var all []byte
	// A message that is no part of a transaction comes first, then a row.
	for _, msg := range [][]byte{
		join([]byte("M\x00"), u64(50), []byte("p\x00\x00\x00\x00\x01x")), begin, relation, insert, commit,
	} {
		all = append(all, framed(msg)...)
	}
	r := newFuzzed(bytes.NewReader(all), 1<<20, t.TempDir())
	catalog := slowCatalog{asked: make(chan bool), answer: make(chan bool)}
	s := r.s
	s.asm.describe, s.wake, s.space = catalog, make(chan struct{}, 1), make(chan struct{}, 1)
	if _, err := r.w.fill(); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() {
		_, err := r.drain()
		done <- err
	}()
	<-catalog.asked
	b, err := s.Next(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if len(b.Txs) != 1 || len(b.Txs[0].Messages) != 1 {
		t.Errorf("taken were %+v", b.Txs)
	}
	catalog.answer <- true
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if b, err = s.Next(t.Context()); err != nil {
		t.Fatal(err)
	}
	if len(b.Txs) != 1 || len(b.Txs[0].Rows) != 1 || !b.Txs[0].Last ||
		b.Txs[0].Rows[0].Rel.String() != "public.t" {
		t.Errorf("then came %+v", b.Txs)
	}
}

// Tables that are described one after the other cost one connection.
func TestDescribeTogether(t *testing.T) {
	t.Parallel()
	const tables = 12
	db := pgservertest.New(t)
	u, err := url.Parse(db.URL)
	if err != nil {
		t.Fatal(err)
	}
	proxy, err := faultproxy.New(u.Host)
	if err != nil {
		t.Fatal(err)
	}
	defer proxy.Close()
	req := sources.OpenRequest{App: "c", Database: "d"}
	var inserts string
	for i := range tables {
		db.Exec(fmt.Sprintf("CREATE TABLE t%d (id int PRIMARY KEY)", i))
		inserts += fmt.Sprintf("INSERT INTO t%d VALUES (1);", i)
		req.Tables = append(req.Tables, sources.TableRequest{Name: fmt.Sprintf("public.t%d", i),
			KeyColumns: []string{"id"}, Columns: []string{"id"}, Changes: true, Snapshot: true})
	}
	s, err := Source(Config{URL: db.URLVia(proxy.Addr()), MonitorInterval: time.Hour}).Open(t.Context(), req)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	read := func(until func(*sources.Batch) bool) {
		t.Helper()
		for done := false; !done; {
			b, err := s.Next(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			done = until(b)
			b.Release()
		}
	}
	read(func(b *sources.Batch) bool { return len(b.Txs) == 0 && b.Idle > 0 }) // the stream runs
	before, rows := proxy.Accepted(), 0
	db.Exec("BEGIN;" + inserts + "COMMIT")
	read(func(b *sources.Batch) bool {
		for _, part := range b.Txs {
			rows += len(part.Rows)
		}
		return rows == tables
	})
	if n := proxy.Accepted() - before; n != 1 {
		t.Errorf("%d connections for the descriptions of %d tables", n, tables)
	}
}
