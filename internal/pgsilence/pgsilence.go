// Package pgsilence gives up connections to a PostgreSQL server from which nothing comes any
// more though something is waited for, as where the network or the machine is gone without a
// word. A server that works on a long statement, or waits for a lock, says nothing either, so
// it is asked over a second connection before the first is given up.
package pgsilence

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// Limit is after how much silence a server is asked, unless a caller says otherwise.
const Limit = time.Minute

// looks is how often a connection is looked at in that time, and askLimit how long the server
// may take to answer when it is asked.
const (
	looks    = 4
	askLimit = 10 * time.Second
)

// ErrSilent says that a connection was given up.
var ErrSilent = errors.New("the server has said nothing, and does not say over another connection that it " +
	"is at work")

// Guard makes each connection of a configuration one that is given up after a limit, at most
// a quarter of it more, and 10 s for the asking. It is not for replication connections.
//
// It looks below TLS: what is above has to remain a *tls.Conn, by which pgconn knows that
// it can bind a password to the channel.
func Guard(cfg *pgx.ConnConfig, limit time.Duration) {
	plain := cfg.Copy()
	cfg.DialFunc = func(ctx context.Context, network, addr string) (net.Conn, error) {
		c, err := plain.DialFunc(ctx, network, addr)
		if err != nil {
			return nil, err
		}
		g := &conn{Conn: c, plain: plain, network: network, addr: addr, limit: limit}
		g.mu.Lock()
		defer g.mu.Unlock()
		g.timer = time.AfterFunc(limit/looks, g.look)
		return g, nil
	}
	cfg.AfterConnect = func(ctx context.Context, c *pgconn.PgConn) error {
		below := c.Conn()
		if t, ok := below.(*tls.Conn); ok {
			below = t.NetConn()
		}
		g, ok := below.(*conn)
		if !ok {
			return fmt.Errorf("pgsilence: a connection of type %T is not looked at", below)
		}
		// What the protocol says of it is not true where a pooler is between.
		results, err := c.Exec(ctx, "SELECT pg_catalog.pg_backend_pid()").ReadAll()
		if err != nil {
			return err
		}
		pid, err := strconv.ParseInt(string(results[0].Rows[0][0]), 10, 32)
		if err != nil {
			return fmt.Errorf("the server's process: %w", err)
		}
		g.pid.Store(pid)
		return nil
	}
}

// silence is the error of a connection that was given up. It is a net.Error: others are lost
// inside of pgconn.
type silence struct {
	limit time.Duration
	cause error
}

func (s *silence) Error() string   { return fmt.Sprintf("%v, for %s: %v", ErrSilent, s.limit, s.cause) }
func (s *silence) Unwrap() []error { return []error{ErrSilent, s.cause} }

// Timeout implements net.Error.
func (s *silence) Timeout() bool { return true }

// Temporary implements net.Error.
func (s *silence) Temporary() bool { return false }

// conn is a connection that is looked at.
type conn struct {
	net.Conn
	plain *pgx.ConnConfig
	// network and addr are what was dialled: a URL may name several servers.
	network, addr string
	limit         time.Duration
	pid           atomic.Int64 // 0 while it is not known
	// busy counts the reads and writes that wait, moved those that are done.
	busy  atomic.Int32
	moved atomic.Uint64
	// silent is why it was given up.
	silent atomic.Pointer[silence]

	mu     sync.Mutex
	timer  *time.Timer
	closed bool

	// seen is moved at the last look, quiet for how many looks it has been that; they are
	// the timer's.
	seen  uint64
	quiet int
}

// Read implements net.Conn.
func (c *conn) Read(b []byte) (int, error) { return c.wait(b, c.Conn.Read) }

// Write implements net.Conn.
func (c *conn) Write(b []byte) (int, error) { return c.wait(b, c.Conn.Write) }

func (c *conn) wait(b []byte, do func([]byte) (int, error)) (int, error) {
	c.busy.Add(1)
	n, err := do(b)
	c.busy.Add(-1)
	c.moved.Add(1)
	if err != nil {
		if why := c.silent.Load(); why != nil {
			return n, why
		}
	}
	return n, err
}

// Close implements net.Conn.
func (c *conn) Close() error {
	c.mu.Lock()
	c.closed = true
	c.timer.Stop()
	c.mu.Unlock()
	return c.Conn.Close()
}

// look is called by the timer.
func (c *conn) look() {
	if moved := c.moved.Load(); c.busy.Load() == 0 || moved != c.seen {
		c.seen, c.quiet = moved, 0
	} else {
		c.quiet++
	}
	if c.quiet >= looks {
		c.quiet = 0
		if err := c.ask(); err != nil && c.busy.Load() > 0 && c.moved.Load() == c.seen {
			c.silent.Store(&silence{c.limit, err})
			c.Conn.Close()
			return
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.closed {
		c.timer.Reset(c.limit / looks)
	}
}

var (
	errNoProcess = errors.New("it has not said which of its processes it is")
	errIdle      = errors.New("its process is gone, or waits for us")
)

// ask returns why a server is not at work for us.
func (c *conn) ask() error {
	pid := c.pid.Load()
	if pid == 0 {
		return errNoProcess
	}
	ctx, cancel := context.WithTimeout(context.Background(), askLimit)
	defer cancel()
	works, err := c.works(ctx, pid)
	var refused *pgconn.PgError
	switch {
	case errors.As(err, &refused):
		return nil // It is there, and may well be at work.
	case err == nil && !works:
		return errIdle
	}
	return err
}

// works asks whether a process of the server is at work. What the role may not see of it counts
// as work.
func (c *conn) works(ctx context.Context, pid int64) (works bool, err error) {
	cfg := c.plain.Copy()
	cfg.DialFunc = func(ctx context.Context, _, _ string) (net.Conn, error) {
		return c.plain.DialFunc(ctx, c.network, c.addr)
	}
	second, err := pgx.ConnectConfig(ctx, cfg)
	if err != nil {
		return false, err
	}
	defer second.Close(ctx)
	err = second.QueryRow(ctx, `SELECT EXISTS (SELECT FROM pg_catalog.pg_stat_activity WHERE pid = $1
		AND coalesce(state, '') NOT LIKE 'idle%'
		AND coalesce(wait_event, '') NOT IN ('ClientRead', 'ClientWrite'))`, pid).Scan(&works)
	return works, err
}
