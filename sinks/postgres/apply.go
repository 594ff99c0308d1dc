package postgres

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/tailrace/tailrace/internal/failpoint"
	"github.com/tailrace/tailrace/record"
	"github.com/tailrace/tailrace/sinks"
)

// Apply implements sinks.Writer: all epochs, all tables and the progress row in one
// transaction.
func (w *writer) Apply(ctx context.Context, epochs []sinks.Epoch) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.fenced != nil {
		return w.fenced
	}
	// The row moves under us only by a commit of our own whose answer was lost, so the
	// second round meets it where it is.
	for range 3 {
		if epochs = w.unapplied(epochs); len(epochs) == 0 {
			return nil
		}
		if !w.has && !epochs[0].Reconcile && w.hasTables() {
			return fmt.Errorf("sinks/postgres: target %q: epoch %d is the first of its incarnation and "+
				"does not reconcile; this is a bug of the caller", w.target, epochs[0].Seq)
		}
		if err := w.connect(ctx); err != nil {
			return err
		}
		err := w.applyOnce(ctx, epochs)
		asked := mayLeaveOut(epochs, err)
		if asked {
			w.disconnect()
			err = w.applyCarefully(ctx, epochs)
		}
		if err == nil {
			return nil
		}
		if !errors.Is(err, errMoved) {
			w.disconnect()
			if !asked {
				w.locate(ctx, epochs, err)
			}
			return err
		}
		if err := w.catchUp(ctx); err != nil {
			return err
		}
	}
	return fmt.Errorf("sinks/postgres: target %q: %w without end; this is a bug", w.target, errMoved)
}

// hasTables reports whether an output is a table, whose rows of before matter.
func (w *writer) hasTables() bool {
	return slices.ContainsFunc(w.tables, func(t *table) bool { return !t.events })
}

// unapplied leaves out the epochs that the target holds.
func (w *writer) unapplied(epochs []sinks.Epoch) []sinks.Epoch {
	for len(epochs) > 0 && w.has && epochs[0].Seq <= w.seq {
		epochs = epochs[1:]
	}
	return epochs
}

// catchUp takes over what the progress row says after it turned out to have moved.
// Only forwards: a row that went back is for the caller to learn from Progress, because
// the epochs between may be gone from its queue.
func (w *writer) catchUp(ctx context.Context) error {
	if _, err := w.conn.Exec(ctx, "ROLLBACK"); err != nil {
		w.disconnect()
		return w.wrap("rolling back", nil, err)
	}
	row, err := w.progressRow(ctx)
	if err != nil {
		return err
	}
	if w.has && (row == nil || uint64(*row) < w.seq) {
		return fmt.Errorf("sinks/postgres: target %q holds less than it took, up to epoch %d: it was "+
			"restored from a backup; ask Progress and reconcile", w.target, w.seq)
	}
	w.setSeq(row)
	return nil
}

func (w *writer) applyOnce(ctx context.Context, epochs []sinks.Epoch) error {
	last := epochs[len(epochs)-1]
	t := &transaction{w: w}
	for _, c := range w.chunks {
		c.reset()
	}
	if err := t.begin(last); err != nil {
		return err
	}
	for _, e := range epochs {
		var err error
		if e.Reconcile {
			err = t.reconcile(ctx, e)
		} else {
			err = t.apply(ctx, e)
		}
		if err != nil {
			return err
		}
	}
	if err := t.flush(ctx); err != nil {
		return err
	}
	if err := t.commit(ctx); err != nil {
		return err
	}
	w.seq, w.has = last.Seq, true
	return nil
}

// transaction is one sink transaction. Statements are queued and sent together, so a
// small one costs two round trips: everything, then COMMIT.
type transaction struct {
	w     *writer
	batch *pgconn.Batch
	// of names the table of each queued statement, nil for one that has none.
	of []*table
	// advance is the index in the batch of the statement that moves the progress row,
	// -1 once it was sent.
	advance int
	// bytes and rows count what the chunks hold.
	bytes, rows int
	event       eventRow
}

// begin queues the start of the transaction and the move of the progress row.
func (t *transaction) begin(last sinks.Epoch) error {
	positions, err := positionsJSON(last.Positions)
	if err != nil {
		return fmt.Errorf("sinks/postgres: target %q: positions: %w", t.w.target, err)
	}
	var old, commitTime []byte
	if t.w.has {
		old = strconv.AppendUint(nil, t.w.seq, 10)
	}
	if !last.CommitTime.IsZero() {
		commitTime = last.CommitTime.UTC().AppendFormat(nil, time.RFC3339Nano)
	}
	t.batch = &pgconn.Batch{}
	t.queue(nil, "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE")
	// The tables of a target may refer to each other; what counts is the whole epoch.
	t.queue(nil, "SET CONSTRAINTS ALL DEFERRED")
	t.advance = len(t.of)
	t.queue(nil, t.w.progressStmt(advanceSQL), []byte(t.w.app), []byte(t.w.target), []byte(t.w.incarnation),
		[]byte(t.w.session), strconv.AppendUint(nil, last.Seq, 10), positions, commitTime,
		strconv.AppendFloat(nil, t.w.cfg.Lease.Seconds(), 'f', -1, 64), old)
	return t.demandHeld()
}

func (t *transaction) queue(of *table, sql string, params ...[]byte) {
	t.batch.ExecParams(sql, params, nil, nil, nil)
	t.of = append(t.of, of)
}

// send runs what is queued.
func (t *transaction) send(ctx context.Context) error {
	if len(t.of) == 0 {
		return nil
	}
	results := t.w.conn.PgConn().ExecBatch(ctx, t.batch)
	n := 0
	for results.NextResult() {
		if _, err := results.ResultReader().Close(); err != nil {
			break
		}
		n++
	}
	err := results.Close()
	var pg *pgconn.PgError
	if errors.As(err, &pg) && pg.Code == "22012" && t.advance >= 0 {
		switch n {
		case t.advance:
			return errMoved
		case t.advance + 1:
			return t.w.replaced(ctx)
		}
	}
	var of *table
	if n < len(t.of) {
		of = t.of[n]
	}
	t.batch, t.of, t.advance = &pgconn.Batch{}, t.of[:0], -1
	return t.w.wrap("writing", of, err)
}

// apply collects the items of an epoch.
func (t *transaction) apply(ctx context.Context, e sinks.Epoch) error {
	var failed error
	err := e.Items(func(it sinks.Item) bool {
		failed = t.put(ctx, it)
		return failed == nil
	})
	if failed != nil {
		return failed
	}
	return err
}

func (t *transaction) put(ctx context.Context, it sinks.Item) error {
	i, err := t.w.tableOf(it)
	if err != nil {
		return err
	}
	tab, c := t.w.tables[i], t.w.chunks[i]
	key, values := it.Key, it.Columns
	if tab.events {
		key, values = t.event.cells(it.Event)
	}
	t.bytes += c.put(key, values, it.Deleted) + len(key)
	t.rows++
	if t.bytes >= maxChunkBytes || t.rows >= maxChunkRows {
		return t.flush(ctx)
	}
	return nil
}

// tableOf finds an item's table and checks the item's shape, which the statements rely
// on.
func (w *writer) tableOf(it sinks.Item) (int, error) {
	i, ok := w.byID[it.Output]
	if !ok {
		return 0, fmt.Errorf("sinks/postgres: target %q: item of unknown output %d; this is a bug",
			w.target, it.Output)
	}
	t := w.tables[i]
	want := len(t.columns)
	if it.Deleted {
		want = t.keyLen
	}
	if t.events != (it.Event != nil) || !t.events && len(it.Columns) != want {
		return 0, fmt.Errorf("sinks/postgres: target %q: item of output %q has %d columns instead of %d, "+
			"or is of the other kind; this is a bug", w.target, t.output, len(it.Columns), want)
	}
	return i, nil
}

// flush sends what the chunks hold: deletes against the order of the outputs, upserts
// in it, so that a user who lists referenced tables first needs no deferrable keys.
func (t *transaction) flush(ctx context.Context) error {
	if err := t.prepareChunks(ctx); err != nil {
		return err
	}
	for i := len(t.w.tables) - 1; i >= 0; i-- {
		t.queueChunk(i, true)
	}
	for i := range t.w.tables {
		t.queueChunk(i, false)
		t.w.chunks[i].reset()
	}
	t.bytes, t.rows = 0, 0
	return t.send(ctx)
}

// prepareChunks prepares the statements that the chunks need.
func (t *transaction) prepareChunks(ctx context.Context) error {
	for i, tab := range t.w.tables {
		for _, kind := range t.w.chunks[i].groups() {
			for _, s := range tab.statementsFor(kind) {
				if t.w.prepared[s.name] {
					continue
				}
				if _, err := t.w.conn.PgConn().Prepare(ctx, s.name, s.sql, nil); err != nil {
					return t.w.wrap("preparing", tab, err)
				}
				t.w.prepared[s.name] = true
			}
		}
	}
	return nil
}

// statement is a prepared statement.
type statement struct{ name, sql string }

// statementsFor are what writes a kind of rows, taking its columns as parameters.
func (t *table) statementsFor(kind chunkRow) []statement {
	if s, ok := t.statements[kind]; ok {
		return s
	}
	texts := []string{t.deleteSQL(t.fromParams(t.keyLen), kind.mask)}
	if !kind.deleted {
		texts = t.upsertSQL(t.fromParams(len(t.columns)), kind.mask)
	}
	var out []statement
	for i, sql := range texts {
		name := fmt.Sprintf("tailrace_%d_%t_%d_%d", t.id, kind.deleted, kind.mask, i)
		out = append(out, statement{name, sql})
	}
	t.statements[kind] = out
	return out
}

func (t *transaction) queueChunk(i int, deleted bool) {
	tab, c := t.w.tables[i], t.w.chunks[i]
	for _, kind := range c.groups() {
		if kind.deleted != deleted {
			continue
		}
		n := len(tab.columns)
		if deleted {
			n = tab.keyLen
		}
		params := t.params(c, kind, n)
		for _, s := range tab.statementsFor(kind) {
			t.batch.ExecPrepared(s.name, params, binaryFormat, nil)
			t.of = append(t.of, tab)
		}
	}
}

var binaryFormat = []int16{1}

// params encodes the first n columns of a kind of rows.
func (t *transaction) params(c *chunk, kind chunkRow, n int) [][]byte {
	buf := t.w.array[:0]
	ends := make([]int, n)
	for i := range n {
		buf = c.array(buf, kind, i)
		ends[i] = len(buf)
	}
	t.w.array = buf
	params := make([][]byte, n)
	from := 0
	for i, end := range ends {
		params[i] = buf[from:end]
		from = end
	}
	return params
}

// commit sends COMMIT by itself: when its answer is lost, all that is in doubt is
// whether the transaction is there, and the progress row tells.
func (t *transaction) commit(ctx context.Context) error {
	if err := failpoint.Hit(failpoint.SinkCommit); err != nil {
		return err
	}
	results, err := t.w.conn.PgConn().Exec(ctx, "COMMIT").ReadAll()
	if err != nil {
		return t.w.wrap("committing", nil, err)
	}
	if tag := results[0].CommandTag.String(); tag != "COMMIT" {
		return fmt.Errorf("sinks/postgres: target %q: the server answered COMMIT with %s", t.w.target, tag)
	}
	return failpoint.Hit(failpoint.SinkCommitted)
}

// eventRow turns events into rows of an events table.
type eventRow struct {
	columns [9][]byte
	buf     []byte
}

// cells returns the row; it is valid until the next call.
func (r *eventRow) cells(e *sinks.Event) (key []byte, values [][]byte) {
	id := []byte(e.ID)
	r.buf = time.UnixMicro(e.Time).UTC().AppendFormat(r.buf[:0], time.RFC3339Nano)
	r.columns = [9][]byte{
		id, e.Key, e.Value, []byte(e.Source), []byte(record.LSN(e.Position).String()),
		strconv.AppendUint(nil, uint64(e.XID), 10), r.buf, boolText(e.Last), boolText(e.Replayed),
	}
	return id, r.columns[:]
}

func boolText(b bool) []byte {
	if b {
		return []byte("t")
	}
	return []byte("f")
}
