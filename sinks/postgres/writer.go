package postgres

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
)

// writer is an open PostgreSQL target. It implements sinks.Writer.
type writer struct {
	cfg                               Config
	conf                              *pgx.ConnConfig
	log                               *slog.Logger
	app, target, incarnation, session string
	progress                          name
	tables                            []*table
	byID                              map[uint32]int

	// mu is held by whoever uses the session: the caller, or the goroutine that renews
	// the lease of an idle writer.
	mu       sync.Mutex
	conn     *pgx.Conn // nil: not connected
	prepared map[string]bool
	chunks   []*chunk
	array    []byte
	// seq is the last epoch the target is known to hold; has says there is one.
	seq    uint64
	has    bool
	fenced error
	// appTargets are all targets of the app.
	appTargets []string

	stop context.CancelFunc
	done chan struct{}
}

// open does all that Connector.Open promises, in the order in which a refusal leaves
// everything as it was: check, then create, then fence.
func (w *writer) open(ctx context.Context) error {
	if err := w.connect(ctx); err != nil {
		return err
	}
	if err := w.prepareTables(ctx); err != nil {
		return err
	}
	w.byID = map[uint32]int{}
	for i, t := range w.tables {
		w.byID[t.id] = i
		w.chunks = append(w.chunks, newChunk(len(t.columns), t.keyLen))
	}
	return w.claim(ctx)
}

// connect makes sure of a session.
func (w *writer) connect(ctx context.Context) error {
	if w.conn != nil && !w.conn.IsClosed() {
		return nil
	}
	w.disconnect()
	conn, err := pgx.ConnectConfig(ctx, w.conf)
	if err != nil {
		return w.connectError(err)
	}
	// A commit that the server's crash may take back would lose what the caller has by
	// then forgotten. Other settings than off are the administrator's choice.
	_, err = conn.Exec(ctx, "SELECT pg_catalog.set_config('synchronous_commit', 'on', false) "+
		"WHERE pg_catalog.current_setting('synchronous_commit') = 'off'")
	if err == nil {
		// Rows that a policy hides from us would be neither updated nor deleted, without a word.
		_, err = conn.Exec(ctx, "SELECT pg_catalog.set_config('row_security', 'off', false)")
	}
	if err == nil {
		// A reconciliation takes as long as it takes. Servers before 17 do not know this one.
		_, err = conn.Exec(ctx, "SELECT pg_catalog.set_config(name, '0', false) FROM pg_catalog.pg_settings "+
			"WHERE name = 'transaction_timeout' AND setting <> '0'")
	}
	if err != nil {
		_ = conn.Close(ctx)
		return w.wrap("setting up the session", nil, err)
	}
	w.conn, w.prepared = conn, map[string]bool{}
	return nil
}

// disconnect ends the session, and with it whatever transaction it was in.
func (w *writer) disconnect() {
	if w.conn == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	_ = w.conn.Close(ctx)
	w.conn = nil
}

func (w *writer) setSeq(seq *int64) {
	w.seq, w.has = 0, seq != nil
	if seq != nil {
		w.seq = uint64(*seq)
	}
}

// Progress implements sinks.Writer. It waits for a commit that is still under way on a
// connection that was lost.
func (w *writer) Progress(ctx context.Context) (seq uint64, ok bool, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.fenced != nil {
		return 0, false, w.fenced
	}
	if err := w.connect(ctx); err != nil {
		return 0, false, err
	}
	row, err := w.progressRow(ctx)
	if err != nil {
		return 0, false, err
	}
	w.setSeq(row)
	return w.seq, w.has, nil
}

// startLease keeps the lease while the writer is idle.
func (w *writer) startLease() {
	ctx, cancel := context.WithCancel(context.Background())
	w.stop, w.done = cancel, make(chan struct{})
	go func() {
		defer close(w.done)
		tick := time.NewTicker(max(w.cfg.Lease/3, time.Millisecond))
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
				w.renewIdle(ctx)
			}
		}
	}()
}

// renewIdle renews unless the session is at work: Apply holds the row itself, and
// extends the lease with its commit. An error is left for the caller's next call to
// meet.
func (w *writer) renewIdle(ctx context.Context) {
	if !w.mu.TryLock() {
		return
	}
	defer w.mu.Unlock()
	if w.fenced != nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, w.cfg.Lease)
	defer cancel()
	err := w.connect(ctx)
	if err == nil {
		err = w.renew(ctx)
	}
	if err != nil {
		w.log.Warn("lease on the target not renewed", "error", err)
		w.disconnect()
	}
}

// Close gives the lease up and ends the session.
func (w *writer) Close() error {
	w.unclaim()
	w.stop()
	<-w.done
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.conn == nil || w.conn.IsClosed() || w.fenced != nil {
		w.disconnect()
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	err := w.release(ctx)
	w.disconnect()
	if err != nil {
		// The lease ends by itself; nothing is lost.
		return fmt.Errorf("sinks/postgres: target %q: giving up the lease: %w", w.target, err)
	}
	return nil
}
