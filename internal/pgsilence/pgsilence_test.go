package pgsilence_test

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/tailrace/tailrace/internal/await"
	"github.com/tailrace/tailrace/internal/faultproxy"
	"github.com/tailrace/tailrace/internal/pgserver/pgservertest"
	"github.com/tailrace/tailrace/internal/pgsilence"
)

func TestMain(m *testing.M) { pgservertest.Main(m) }

const limit = 400 * time.Millisecond

// through connects by way of a proxy, which connections to a server do not notice.
func through(t *testing.T, db *pgservertest.DB) (*pgx.Conn, *faultproxy.Proxy) {
	t.Helper()
	u, err := url.Parse(db.URL)
	if err != nil {
		t.Fatal(err)
	}
	proxy, err := faultproxy.New(u.Host)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { proxy.Close() })
	cfg, err := pgx.ParseConfig(db.URLVia(proxy.Addr()))
	if err != nil {
		t.Fatal(err)
	}
	pgsilence.Guard(cfg, limit)
	c, err := pgx.ConnectConfig(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close(context.Background()) })
	return c, proxy
}

// A server that works is waited for, and so is one that waits for a lock; a connection that
// nobody uses is left alone.
func TestSlowServer(t *testing.T) {
	t.Parallel()
	db := pgservertest.New(t)
	db.Exec("CREATE TABLE t (id int)")
	c, _ := through(t, db)
	tx, err := db.Pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec(t.Context(), "LOCK TABLE t"); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() {
		_, err := c.Exec(t.Context(), "INSERT INTO t VALUES (1)")
		done <- err
	}()
	select {
	case err := <-done:
		t.Fatalf("it did not wait for the lock: %v", err)
	case <-time.After(4 * limit):
	}
	if err := tx.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if _, err := c.Exec(t.Context(), "SELECT pg_sleep($1)", (3 * limit).Seconds()); err != nil {
		t.Fatal(err)
	}
	time.Sleep(3 * limit) // for it to be given up, if anybody did
	if _, err := c.Exec(t.Context(), "SELECT 1"); err != nil {
		t.Fatal(err)
	}
}

// givesUp waits until a question is given up.
func givesUp(t *testing.T, c *pgx.Conn) {
	t.Helper()
	done := make(chan error, 1)
	began := time.Now()
	go func() {
		_, err := c.Exec(t.Context(), "SELECT 1")
		done <- err
	}()
	select {
	case err := <-done:
		if !errors.Is(err, pgsilence.ErrSilent) {
			t.Errorf("got %v", err)
		}
		if took := time.Since(began); took < limit/2 {
			t.Errorf("given up after %s", took)
		}
	case <-time.After(await.Limit):
		t.Fatal("it waits for ever")
	}
}

// A server that nobody reaches any more is given up.
func TestServerGone(t *testing.T) {
	t.Parallel()
	c, proxy := through(t, pgservertest.New(t))
	proxy.Blackhole(true)
	givesUp(t, c)
}

// mute is a connection that loses what is written once it is on.
type mute struct {
	net.Conn
	on *atomic.Bool
}

func (m mute) Write(b []byte) (int, error) {
	if m.on.Load() {
		return len(b), nil
	}
	return m.Conn.Write(b)
}

// So is a connection of which the server says that it waits for us.
func TestServerWaits(t *testing.T) {
	t.Parallel()
	cfg, err := pgx.ParseConfig(pgservertest.New(t).URL)
	if err != nil {
		t.Fatal(err)
	}
	var on atomic.Bool
	dials, dial := 0, cfg.DialFunc
	cfg.DialFunc = func(ctx context.Context, network, addr string) (net.Conn, error) {
		c, err := dial(ctx, network, addr)
		if dials++; err == nil && dials == 1 {
			c = mute{c, &on}
		}
		return c, err
	}
	pgsilence.Guard(cfg, limit)
	c, err := pgx.ConnectConfig(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close(context.Background())
	on.Store(true)
	givesUp(t, c)
}

// Over TLS a connection is looked at, too, and a password can be bound to the channel.
func TestChannelBinding(t *testing.T) {
	t.Parallel()
	db := pgservertest.New(t, pgservertest.Private(nil))
	ca := pgservertest.NewAuthority(t, "ours")
	ca.Certify(db, net.IPv4(127, 0, 0, 1), time.Now().Add(time.Hour))
	for _, sslmode := range []string{"disable", "verify-full&channel_binding=require&sslrootcert=" + ca.Path} {
		cfg, err := pgx.ParseConfig(strings.Replace(db.URL, "sslmode=disable", "sslmode="+sslmode, 1))
		if err != nil {
			t.Fatal(err)
		}
		pgsilence.Guard(cfg, limit)
		c, err := pgx.ConnectConfig(t.Context(), cfg)
		if err != nil {
			t.Fatal(err)
		}
		_, encrypted := c.PgConn().Conn().(*tls.Conn)
		if want := sslmode != "disable"; encrypted != want {
			t.Errorf("sslmode=%s: encrypted %v", sslmode, encrypted)
		}
		if err := c.Close(t.Context()); err != nil {
			t.Error(err)
		}
	}
}
