package postgres

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/tailrace/tailrace/internal/faultproxy"
	"github.com/tailrace/tailrace/internal/pgserver/pgservertest"
	"github.com/tailrace/tailrace/internal/pgsilence"
	"github.com/tailrace/tailrace/sources"
)

// losses tells of connections that were lost and were there again.
type losses struct {
	nobody
	lost, back chan error
}

func (l losses) Disconnected(err error) {
	select {
	case l.lost <- err:
	default:
	}
}

func (l losses) Reconnected(err error) { l.back <- err }

// lines is a log that tells of lines with a text.
type lines struct {
	text string
	came chan struct{}
}

func (l lines) Write(p []byte) (int, error) {
	if bytes.Contains(p, []byte(l.text)) {
		signal(l.came)
	}
	return len(p), nil
}

// TestSilentServer keeps the connection of a server that has nothing to say, and gives up
// that of one from which nothing comes though nobody ends it, and so do those who look beside.
func TestSilentServer(t *testing.T) {
	t.Parallel()
	db := pgservertest.New(t)
	db.Exec("CREATE TABLE t (id int PRIMARY KEY)")
	u, err := url.Parse(db.URL)
	if err != nil {
		t.Fatal(err)
	}
	proxy, err := faultproxy.New(u.Host)
	if err != nil {
		t.Fatal(err)
	}
	defer proxy.Close()
	u.Host = proxy.Addr()
	seen := losses{lost: make(chan error, 1), back: make(chan error, 16)}
	blind := lines{"cannot look at slot and tables", make(chan struct{}, 1)}
	s, err := Source(Config{URL: u.String(), StatusInterval: time.Hour, MonitorInterval: 100 * time.Millisecond,
		silence: 3 * time.Second}).Open(t.Context(), sources.OpenRequest{App: "a", Database: "d", Observe: seen,
		Logger: slog.New(slog.NewTextHandler(blind, nil)),
		Tables: []sources.TableRequest{{Name: "public.t", KeyColumns: []string{"id"}, Columns: []string{"id"},
			Changes: true, Snapshot: true}}})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	idle := time.NewTimer(5 * time.Second)
	go func() {
		for {
			b, err := s.Next(t.Context())
			if err != nil {
				return
			}
			b.Release()
		}
	}()
	select {
	case err := <-seen.lost:
		t.Fatalf("an idle server's connection was given up: %v", err)
	case <-idle.C:
	}
	proxy.Blackhole(true)
	select {
	case err := <-seen.lost:
		if !strings.Contains(err.Error(), "has said nothing for 3s") {
			t.Errorf("the connection was given up for %v", err)
		}
	case <-time.After(60 * time.Second):
		t.Fatal("nobody noticed that the server is gone")
	}
	select {
	case <-blind.came:
	case <-time.After(60 * time.Second):
		t.Fatal("the monitor waits for ever")
	}
	proxy.Blackhole(false)
	select {
	case <-seen.back:
	case <-time.After(60 * time.Second):
		t.Fatal("the stream did not come back")
	}
}

// TestSilentServerOfASnapshot reads a snapshot of which the server falls silent in the middle,
// and comes back: every row is there once.
func TestSilentServerOfASnapshot(t *testing.T) {
	t.Parallel()
	const rows = 60_000
	db := pgservertest.New(t)
	db.Exec("CREATE TABLE t (id int PRIMARY KEY, pad text)",
		fmt.Sprintf("INSERT INTO t SELECT i, repeat('p', 500) FROM generate_series(1, %d) i", rows))
	u, err := url.Parse(db.URL)
	if err != nil {
		t.Fatal(err)
	}
	proxy, err := faultproxy.New(u.Host)
	if err != nil {
		t.Fatal(err)
	}
	defer proxy.Close()
	seen := losses{lost: make(chan error, 1), back: make(chan error, 16)}
	s, err := Source(Config{URL: db.URLVia(proxy.Addr()), SnapshotParallelism: 1, SnapshotChunkRows: rows,
		silence: time.Second}).Open(t.Context(), sources.OpenRequest{App: "b", Database: "d", Observe: seen,
		Tables: []sources.TableRequest{{Name: "public.t", KeyColumns: []string{"id"},
			Columns: []string{"id", "pad"}, Changes: true, Snapshot: true}}})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	got := map[string]int{}
	for whole := false; !whole; {
		b, err := s.Next(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if len(got) == 0 {
			proxy.Blackhole(true)
			go func() {
				if err := <-seen.lost; !errors.Is(err, pgsilence.ErrSilent) {
					t.Errorf("the connection was given up for %v", err)
				}
				proxy.Blackhole(false)
			}()
		}
		for _, part := range b.Txs {
			for _, row := range part.Rows {
				got[string(row.New[0].Data)]++
			}
			whole = whole || part.Last
		}
		b.Release()
	}
	for id, n := range got {
		if n != 1 {
			t.Errorf("row %s came %d times", id, n)
		}
	}
	if len(got) != rows {
		t.Errorf("%d rows", len(got))
	}
}
