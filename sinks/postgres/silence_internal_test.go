package postgres

import (
	"errors"
	"fmt"
	"net/url"
	"testing"
	"time"

	"github.com/tailrace/tailrace/internal/faultproxy"
	"github.com/tailrace/tailrace/internal/pgserver/pgservertest"
	"github.com/tailrace/tailrace/internal/pgsilence"
	"github.com/tailrace/tailrace/sinks"
	"github.com/tailrace/tailrace/sinks/sinktest"
)

// TestSilentTarget gives up a target from which nothing comes though nobody ends the
// connection, and writes the same epoch when it is back.
func TestSilentTarget(t *testing.T) {
	t.Parallel()
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
	// The lease is long, so that nobody but the test uses the connection.
	target := Target(Config{
		URL: db.URLVia(proxy.Addr()), CreateTables: true, Lease: time.Hour, silence: time.Second,
	})
	open := func() sinks.Writer {
		w, err := target.Open(t.Context(), sinks.OpenRequest{App: sinktest.App, Target: sinktest.TargetName,
			Incarnation: "one", Outputs: []sinks.Output{sinktest.Accounts}})
		if err != nil {
			t.Fatal(err)
		}
		return w
	}
	w := open()
	first := sinktest.Whole(sinktest.Epoch(1, sinktest.Put(sinktest.Accounts, 1, nil, 1)))
	if err := w.Apply(t.Context(), []sinks.Epoch{first}); err != nil {
		t.Fatal(err)
	}
	second := []sinks.Epoch{sinktest.Epoch(2, sinktest.Put(sinktest.Accounts, 2, nil, 2))}
	proxy.Blackhole(true)
	if err := w.Apply(t.Context(), second); !errors.Is(err, pgsilence.ErrSilent) {
		t.Fatalf("got %v", err)
	}
	_ = w.Close()
	proxy.Blackhole(false)
	w = open()
	defer w.Close()
	if seq, ok, err := w.Progress(t.Context()); err != nil || !ok || seq != 1 && seq != 2 {
		t.Fatalf("it holds %d, %v, %v", seq, ok, err)
	}
	if err := w.Apply(t.Context(), second); err != nil {
		t.Fatal(err)
	}
	if rows := db.Strings("SELECT id FROM accounts ORDER BY id"); len(rows) != 2 || rows[1][0] != "2" {
		t.Errorf("rows are %v", rows)
	}
}

// A database may end sessions of others by its settings, and not those of a target.
func TestTimeoutsOfTheDatabase(t *testing.T) {
	t.Parallel()
	db := pgservertest.New(t)
	var set []string
	for _, name := range []string{
		"statement_timeout", "lock_timeout", "idle_session_timeout", "transaction_timeout",
	} {
		if db.String("SELECT count(*) FROM pg_settings WHERE name = '"+name+"'") == "0" {
			continue // from 17 on
		}
		set = append(set, name)
		db.Exec(fmt.Sprintf("ALTER ROLE CURRENT_USER IN DATABASE %q SET %s = '1h'", db.String("SELECT current_database()"),
			name))
	}
	c := Target(Config{URL: db.URL}).(*connector)
	w, err := c.newWriter(sinks.OpenRequest{App: sinktest.App, Target: sinktest.TargetName, Incarnation: "one"})
	if err != nil {
		t.Fatal(err)
	}
	defer w.disconnect()
	if err := w.connect(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, name := range set {
		var value string
		if err := w.conn.QueryRow(t.Context(), "SHOW "+name).Scan(&value); err != nil || value != "0" {
			t.Errorf("%s is %s, %v", name, value, err)
		}
	}
}
