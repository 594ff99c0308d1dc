package postgres

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/tailrace/tailrace/internal/failpoint"
	"github.com/tailrace/tailrace/record"
	"github.com/tailrace/tailrace/sources"
)

// snapshotter reads all tables as of the slot's consistent point, as one transaction.
// Its rows come in the order of the tables asked for and of their place in the table,
// however many readers there are.
type snapshotter struct {
	o     *opening
	point uint64
	// slotConn made the slot. It stays idle: its next command would end the snapshot.
	slotConn *pgconn.PgConn
	// anchor holds the snapshot in a transaction and exported it again.
	anchor *pgx.Conn
	// exported are the snapshot's names, for readers to import.
	exported []string
	// readers are the connections that hold the tables' locks, until readers take them.
	readers []*pgx.Conn
	// taken is the snapshot's time in Unix microseconds.
	taken     int64
	relations map[string]*record.Relation
	limit     *rateLimit
	progress  *progress
	// ordinal is that of the next row; the deliverer's.
	ordinal uint32
}

// beginSnapshot makes the slot and pins its snapshot. It begins again when a table was
// rewritten between the snapshot and the moment it was locked: a rewritten table
// looks empty to an older snapshot.
func (o *opening) beginSnapshot(ctx context.Context) (*snapshotter, error) {
	anchor, err := connect(ctx, o.conn)
	if err != nil {
		return nil, err
	}
	s, err := o.pinSnapshot(ctx, anchor)
	if err != nil {
		anchor.Close(context.WithoutCancel(ctx))
		return nil, err
	}
	o.repl = nil // It is the snapshot's now.
	return s, nil
}

func (o *opening) pinSnapshot(ctx context.Context, anchor *pgx.Conn) (*snapshotter, error) {
	// Until the stream runs the slot isn't active, so that only this lock tells other
	// instances that it has an owner.
	if err := lockSlot(ctx, anchor, o.cfg, o.log); err != nil {
		return nil, err
	}
	for attempt := 1; ; attempt++ {
		if err := o.dropOrphan(ctx); err != nil {
			return nil, err
		}
		s, rewritten, err := o.trySnapshot(ctx, anchor)
		if err == nil && rewritten == "" {
			return s, nil
		}
		background := context.WithoutCancel(ctx)
		if s != nil {
			s.closeReaders(background)
		}
		if e := dropSlot(background, o.query, o.cfg.Slot); err == nil {
			err = e
		}
		if err == nil && attempt == 5 {
			err = fmt.Errorf(
				"postgres: table %s is rewritten or truncated again and again: try when it is not",
				rewritten,
			)
		}
		if err != nil {
			return nil, err
		}
		if _, err := anchor.Exec(ctx, "ROLLBACK"); err != nil {
			return nil, fmt.Errorf("postgres: begin the snapshot again: %w", err)
		}
	}
}

// lockSlot takes an advisory lock named for the slot, for as long as the connection
// lives.
func lockSlot(ctx context.Context, c *pgx.Conn, cfg Config, log *slog.Logger) error {
	said := false
	deadline := time.Now().Add(cfg.SlotWait)
	for pause := 20 * time.Millisecond; ; pause = min(2*pause, time.Second) {
		var ok bool
		err := c.QueryRow(ctx, "SELECT pg_try_advisory_lock(hashtextextended($1, 0))", "tailrace slot "+cfg.Slot).
			Scan(&ok)
		if err != nil {
			return fmt.Errorf("postgres: lock slot %q: %w", cfg.Slot, err)
		}
		if ok {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf(
				"postgres: another process has been taking its first snapshot with slot %q for more than %s:"+
					" stop the other instance of this app: %w",
				cfg.Slot,
				cfg.SlotWait,
				sources.ErrInUse,
			)
		}
		if !said {
			said = true
			log.Warn("another instance of this app is taking its first snapshot: waiting for it to end",
				"slot", cfg.Slot, "at_most", cfg.SlotWait)
		}
		if err := sleep(ctx, pause); err != nil {
			return err
		}
	}
}

// dropOrphan removes a slot of ours that no state continues from: that of a start which ended
// before its state was there, or of an app whose state directory is lost.
func (o *opening) dropOrphan(ctx context.Context) error {
	s, err := o.waitForSlot(ctx)
	if err != nil || s == nil {
		return err
	}
	o.log.Warn("dropping the app's replication slot, which no state continues from: an earlier start ended "+
		"before its first commit, or the state directory is lost; a new slot and snapshot follow", "slot", s.name)
	return dropSlot(ctx, o.query, o.cfg.Slot)
}

// trySnapshot makes the slot, imports its snapshot and locks the tables. It names a
// table that was rewritten meanwhile.
func (o *opening) trySnapshot(
	ctx context.Context,
	anchor *pgx.Conn,
) (s *snapshotter, rewritten string, err error) {
	slow := time.AfterFunc(10*time.Second, func() {
		o.log.Warn(
			"waiting for transactions that were open before, to create the replication slot",
			"slot",
			o.cfg.Slot,
		)
	})
	name, point, err := createSlot(ctx, o.repl, o.cfg)
	slow.Stop()
	if err != nil {
		return nil, "", err
	}
	if err := failpoint.Hit(failpoint.SlotCreated); err != nil {
		return nil, "", err
	}
	o.log.Info("created replication slot", "slot", o.cfg.Slot, "position", record.LSN(point).String())
	s = &snapshotter{
		o:        o,
		point:    point,
		limit:    newRateLimit(o.cfg.SnapshotRateLimit),
		anchor:   anchor,
		slotConn: o.repl,
	}
	if err := importSnapshot(ctx, anchor.PgConn(), name); err != nil {
		return s, "", err
	}
	var again string
	err = anchor.QueryRow(ctx, "SELECT pg_export_snapshot(), (extract(epoch FROM now()) * 1000000)::int8").
		Scan(&again, &s.taken)
	if err != nil {
		return s, "", fmt.Errorf("postgres: export the snapshot: %w", err)
	}
	s.exported = []string{again, name}
	if rewritten, err = s.lockTables(ctx); err == nil && rewritten == "" {
		err = o.asLooked(ctx)
	}
	return s, rewritten, err
}

// importSnapshot begins a transaction that sees the exported snapshot.
func importSnapshot(ctx context.Context, c *pgconn.PgConn, name string) error {
	sql := "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET TRANSACTION SNAPSHOT " + literal(name) +
		"; SET LOCAL row_security = off; SET LOCAL synchronize_seqscans = off" +
		"; SET LOCAL max_parallel_workers_per_gather = 0; SET LOCAL jit = off" +
		fmt.Sprintf("; SET LOCAL lock_timeout = %d", lockWait.Milliseconds())
	if err := c.Exec(ctx, sql).Close(); err != nil {
		return fmt.Errorf("postgres: import the snapshot: %w", err)
	}
	return nil
}

// tables are those the snapshot reads, in the order asked for.
func (s *snapshotter) tables() []*table {
	var out []*table
	for _, t := range s.o.plan.tables {
		if t.req.Snapshot {
			out = append(out, t)
		}
	}
	return out
}

// selection is what the snapshot selects of a table.
type selection struct {
	list string
	at   []int // where in the relation each selected column is
}

func (s *snapshotter) selected(t *table, rel *record.Relation) selection {
	var out selection
	var cols []string
	want := t.readable()
	for i, c := range rel.Columns {
		if want[c.Name] {
			cols = append(cols, ident(c.Name))
			out.at = append(out.at, i)
		}
	}
	out.list = strings.Join(cols, ", ")
	return out
}

// run reads everything and sends it to out, the last piece marked as such.
func (s *snapshotter) run(ctx context.Context, out chan<- *sources.Batch) error {
	ctx, cancel := context.WithCancelCause(ctx)
	var wg sync.WaitGroup
	defer func() {
		cancel(nil)
		wg.Wait()
		s.closeReaders(ctx)
		s.slotConn.Close(context.WithoutCancel(ctx))
	}()
	tasks, err := s.tasks(ctx)
	if err != nil {
		return err
	}
	tx := &record.Tx{Source: s.o.req.Database, Position: s.point, CommitTime: s.taken, Snapshot: true}
	todo := make(chan *task)
	window := make(chan struct{}, 2*s.o.cfg.SnapshotParallelism)
	wg.Go(func() { // Hands tasks out in order, so that the first undelivered one is always in work.
		defer close(todo)
		for _, t := range tasks {
			select {
			case window <- struct{}{}:
			case <-ctx.Done():
				return
			}
			select {
			case todo <- t:
			case <-ctx.Done():
				return
			}
		}
	})
	for _, c := range s.readers {
		wg.Go(func() {
			if err := (&reader{s: s, tx: tx, locked: c}).run(ctx, todo); err != nil {
				cancel(err)
			}
		})
	}
	s.readers = nil // They are the readers' now.
	if err := s.deliver(ctx, tasks, window, out); err != nil {
		return ctxError(ctx, err)
	}
	// The tables' locks go; the one on the slot stays until the stream runs.
	if _, err := s.anchor.Exec(ctx, "COMMIT"); err != nil && ctx.Err() == nil {
		s.o.log.Warn("the snapshot's connection was lost after the last row", "error", err)
	}
	last := &batch{}
	last.spans = append(last.spans, span{tx: tx, last: true})
	return send(ctx, out, last.seal(func(*batch) {}))
}

// deliver passes the pieces on in the order of the tasks, and numbers the rows.
func (s *snapshotter) deliver(
	ctx context.Context,
	tasks []*task,
	window chan struct{},
	out chan<- *sources.Batch,
) error {
	for i, t := range tasks {
		for {
			var b *batch
			var ok bool
			select {
			case b, ok = <-t.pieces:
			case <-ctx.Done():
				return context.Cause(ctx)
			}
			if !ok {
				break
			}
			if err := s.number(b.rows); err != nil {
				return err
			}
			rows := len(b.rows)
			if err := s.handOn(ctx, out, b.seal(func(*batch) {})); err != nil {
				return err
			}
			s.progress.add(t.table.req.Name, rows)
		}
		<-window
		point := failpoint.SnapshotRows
		if i+1 == len(tasks) || tasks[i+1].table != t.table {
			point = failpoint.SnapshotTable
		}
		if err := failpoint.Hit(point); err != nil {
			return err
		}
	}
	return nil
}

// number gives rows their places in the snapshot's transaction.
func (s *snapshotter) number(rows []record.Row) error {
	if uint64(len(rows)) > uint64(record.LateOrdinal-s.ordinal) {
		return fmt.Errorf("postgres: snapshot: %w; begin with fewer topologies and add the others later, each of "+
			"which has a snapshot of its own, or publish the rows that matter only (a row filter)", ErrTooManyRows)
	}
	for i := range rows {
		rows[i].Ordinal = s.ordinal
		s.ordinal++
	}
	return nil
}

func send(ctx context.Context, out chan<- *sources.Batch, b *sources.Batch) error {
	select {
	case out <- b:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// progress counts rows for the observer; only the deliverer uses it.
type progress struct {
	observer        sources.Observer
	rows, estimates map[string]int64
}

func (p *progress) add(table string, rows int) {
	p.rows[table] += int64(rows)
	p.observer.SnapshotProgress(table, p.rows[table], max(p.estimates[table], p.rows[table]))
}

// rateLimit spreads rows over time, for all readers together.
type rateLimit struct {
	mu   sync.Mutex
	each time.Duration
	next time.Time
}

func newRateLimit(rowsPerSecond int) *rateLimit {
	if rowsPerSecond <= 0 {
		return nil
	}
	return &rateLimit{each: time.Second / time.Duration(rowsPerSecond)}
}

// wait returns when that many more rows may be read.
func (l *rateLimit) wait(ctx context.Context, rows int) error {
	if l == nil {
		return nil
	}
	l.mu.Lock()
	now := time.Now()
	if l.next.Before(now) {
		l.next = now
	}
	l.next = l.next.Add(time.Duration(rows) * l.each)
	pause := l.next.Sub(now)
	l.mu.Unlock()
	return sleep(ctx, pause)
}
