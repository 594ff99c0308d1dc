package postgres

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/tailrace/tailrace/record"
	"github.com/tailrace/tailrace/sources"
)

// pieceBytes is about how much of a chunk is handed on at once, and piecesAhead how
// many pieces of a chunk wait for their turn.
const (
	pieceBytes  = 1 << 20
	piecesAhead = 8
)

// task is a chunk of a table: the rows in a range of its pages.
type task struct {
	table  *table
	rel    *record.Relation
	sel    selection
	sql    string
	pieces chan *batch // closed when the chunk is complete
	sent   int         // rows handed on, which a repetition leaves out
}

// tasks divides the tables into chunks of pages. Rows that the snapshot sees lie in
// pages that are there by now, and the last range of a table has no end.
func (s *snapshotter) tasks(ctx context.Context) ([]*task, error) {
	s.progress = &progress{observer: s.o.req.Observe, rows: map[string]int64{}, estimates: map[string]int64{}}
	var tasks []*task
	for _, t := range s.tables() {
		parts, err := s.parts(ctx, t)
		if err != nil {
			return nil, err
		}
		rel := s.relations[t.req.Name]
		sel := s.selected(t, rel)
		for _, p := range parts {
			s.progress.estimates[t.req.Name] += int64(p.estimate())
			for _, where := range p.ranges(s.o.cfg.SnapshotChunkRows) {
				sql := "SELECT " + sel.list + " FROM " + p.from + " WHERE " + where
				if f := s.o.plan.filter(t); f != "" {
					sql += " AND (" + f + ")"
				}
				tasks = append(tasks, &task{table: t, rel: rel, sel: sel, sql: "COPY (" + sql + ") TO STDOUT",
					pieces: make(chan *batch, piecesAhead)})
			}
		}
	}
	for table, estimate := range s.progress.estimates {
		s.o.req.Observe.SnapshotProgress(table, 0, estimate) // so that all there is to do is known
	}
	return tasks, nil
}

// filter returns the row filter that the log of a table has.
func (p *planner) filter(t *table) string {
	pubs := p.covering(t)
	if len(pubs) == 0 {
		return ""
	}
	for _, pub := range pubs[1:] {
		if pub.members[t.oid].filter == "" {
			return "" // Publications add up.
		}
	}
	return pubs[0].members[t.oid].filter
}

// tablePart is a table, or a partition of one.
type tablePart struct {
	from  string // for FROM
	whole bool   // has no pages of its own
	pages int64
	rows  float64 // estimated, negative if never analysed
	known int64   // pages when they were estimated
}

func (p tablePart) perPage() float64 {
	if p.rows > 0 && p.known > 0 {
		return max(p.rows/float64(p.known), 0.01)
	}
	return 60
}

func (p tablePart) estimate() float64 { return p.perPage() * float64(p.pages) }

// ranges returns the conditions that divide a part into chunks.
func (p tablePart) ranges(rows int) []string {
	if p.whole {
		return []string{"true"}
	}
	step := max(int64(float64(rows)/p.perPage()), 1)
	var out []string
	for at := int64(0); ; at += step {
		where := fmt.Sprintf("ctid >= '(%d,0)'", at)
		if at+step >= p.pages {
			return append(out, where)
		}
		out = append(out, where+fmt.Sprintf(" AND ctid < '(%d,0)'", at+step))
	}
}

// parts returns the table itself, or its partitions. A table that our role may read
// only some columns of, which the place of a row is none of, is read in one piece, and
// so is one with partitions that it may not read by themselves.
func (s *snapshotter) parts(ctx context.Context, t *table) ([]tablePart, error) {
	if len(s.selected(t, s.relations[t.req.Name]).at) == 0 && t.kind == 'p' {
		return []tablePart{{from: t.sql(), whole: true}}, nil
	}
	rows, err := s.anchor.Query(
		ctx,
		`SELECT n.nspname::text, c.relname::text, c.relkind::text, c.reltuples::float8,
		c.relpages::int8, pg_relation_size(c.oid) / current_setting('block_size')::int8,
		has_table_privilege(c.oid, 'SELECT') AND has_schema_privilege(n.oid, 'USAGE') AND (NOT c.relrowsecurity OR $2 <> 'p')
		FROM (SELECT $1::int8::oid AS relid WHERE $2 <> 'p'
			UNION ALL SELECT relid::oid FROM pg_partition_tree($1::int8::oid::regclass) WHERE isleaf AND $2 = 'p') p
		JOIN pg_class c ON c.oid = p.relid JOIN pg_namespace n ON n.oid = c.relnamespace
		ORDER BY c.oid`,
		int64(t.oid),
		string(t.kind),
	)
	if err != nil {
		return nil, fmt.Errorf("postgres: size of table %s: %w", t.sql(), err)
	}
	var out []tablePart
	direct := true
	for rows.Next() {
		var schema, name, kind string
		var readable bool
		var p tablePart
		if err := rows.Scan(&schema, &name, &kind, &p.rows, &p.known, &p.pages, &readable); err != nil {
			return nil, fmt.Errorf("postgres: size of table %s: %w", t.sql(), err)
		}
		p.from = "ONLY " + ident(schema, name)
		direct = direct && kind == "r" && readable
		out = append(out, p)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("postgres: size of table %s: %w", t.sql(), err)
	}
	if !direct {
		whole := tablePart{from: t.rows(), whole: true}
		for _, p := range out {
			whole.pages += p.pages
		}
		return []tablePart{whole}, nil
	}
	return out, nil
}

// reader reads chunks over a connection of its own.
type reader struct {
	s  *snapshotter
	tx *record.Tx
	w  *wire
	// locked is the connection to begin with, which holds the tables' locks.
	locked *pgx.Conn
	// lost is why there is no connection, nil if there was none yet or there is one.
	lost error
}

// run reads chunks until there are none.
func (r *reader) run(ctx context.Context, todo <-chan *task) error {
	defer r.disconnect()
	for t := range todo {
		if err := r.readAgain(ctx, t); err != nil {
			return fmt.Errorf("postgres: snapshot of table %s: %w", t.table.sql(), err)
		}
	}
	return nil
}

// readAgain reads a chunk, over as many connections as it takes. A new connection
// cannot lock the tables while somebody waits to lock one exclusively, who in turn
// waits for the anchor: unless he gives up, the snapshot has to.
func (r *reader) readAgain(ctx context.Context, t *task) error {
	var refusedSince time.Time
	var again repeated
	for pause := 50 * time.Millisecond; ; pause = min(2*pause, 5*time.Second) {
		err := r.read(ctx, t)
		if err == nil {
			return nil
		}
		r.disconnect()
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		err = again.judge(err, uint64(t.sent))
		switch refused := lockRefused(err); {
		case !refused && !transient(err):
			return err
		case !refused:
			refusedSince = time.Time{}
		case refusedSince.IsZero():
			refusedSince = time.Now()
		case time.Since(refusedSince) > r.s.o.cfg.SlotWait:
			return fmt.Errorf("after a lost connection the tables cannot be locked again, as a transaction waits"+
				" to change or truncate one (start again: the snapshot begins anew): %w", err)
		}
		r.s.o.log.Warn(
			"a snapshot reader lost its connection, reconnecting",
			"table",
			t.table.req.Name,
			"error",
			err,
		)
		r.lost = err
		r.s.o.req.Observe.Disconnected(err)
		if err := sleep(ctx, pause); err != nil {
			return err
		}
	}
}

func (r *reader) disconnect() {
	if r.locked != nil {
		r.locked.Close(context.Background())
		r.locked = nil
	}
	if r.w != nil {
		r.w.close()
		r.w = nil
	}
}

// connect takes the connection that holds the tables' locks, or opens another one that
// sees the snapshot and locks them.
func (r *reader) connect(ctx context.Context) error {
	if c := r.locked; c != nil {
		var err error
		if r.w, err = hijack(ctx, c.PgConn()); err == nil {
			r.locked = nil
		}
		return err
	}
	var gone error
	for _, name := range r.s.exported {
		c, err := connect(ctx, r.s.o.conn)
		if err != nil {
			return err
		}
		if err = importSnapshot(ctx, c.PgConn(), name); err == nil {
			if _, err = r.s.lock(ctx, c.PgConn()); err == nil {
				r.w, err = hijack(ctx, c.PgConn())
			}
			if err != nil {
				c.Close(ctx)
			}
			return err
		}
		c.Close(ctx)
		if transient(err) {
			return err
		}
		gone = err
	}
	return fmt.Errorf(
		"the snapshot ended with the connection that held it (start again: it begins anew): %w",
		gone,
	)
}

// read reads a chunk, but for the rows it has handed on before.
func (r *reader) read(ctx context.Context, t *task) error {
	if r.w == nil {
		if err := r.connect(ctx); err != nil {
			return err
		}
		if r.lost != nil {
			r.s.o.req.Observe.Reconnected(r.lost)
			r.lost = nil
		}
	}
	w := r.w
	if err := w.startCopy(ctx, t.sql, 'H'); err != nil {
		if code := sqlState(err); code == "42703" || code == "42P01" {
			err = errors.Join(err, sources.ErrSchema) // A column or table was dropped just now.
		}
		return err
	}
	stop := w.interrupt(ctx)
	defer stop()
	b, seen, done := r.piece(), 0, false
	defer func() {
		if !done {
			b.reset()
		}
	}()
	for {
		kind, body, err := w.next()
		if err != nil {
			return ctxError(ctx, err)
		}
		switch kind {
		case 'd':
			if seen++; seen <= t.sent {
				continue
			}
			if err := r.row(b, t, body); err != nil {
				return err
			}
			if b.bytes >= pieceBytes || len(b.rows) >= maxBatchRows {
				if err := r.handOn(ctx, t, b); err != nil {
					return err
				}
				b = r.piece()
			}
		case 'E':
			return serverError(body)
		case 'Z':
			err := r.handOn(ctx, t, b)
			if err == nil {
				close(t.pieces)
				done = true
			}
			return err
		case 'c', 'C', 'N', 'S':
		default:
			return fmt.Errorf("postgres: message %q in a copy: %w", kind, errProtocol)
		}
	}
}

func (r *reader) piece() *batch {
	b := &batch{}
	b.begin(r.tx)
	return b
}

func (r *reader) row(b *batch, t *task, line []byte) error {
	vals := b.tuple(len(t.rel.Columns))
	clear(vals)
	if err := copyRow(line, t.sel.at, vals); err != nil {
		return err
	}
	b.hold(r.w.blk)
	b.bytes += len(line)
	b.rows = append(b.rows, record.Row{Rel: t.rel, Op: record.Insert, New: vals})
	return nil
}

// handOn passes a piece to the deliverer.
func (r *reader) handOn(ctx context.Context, t *task, b *batch) error {
	if err := r.s.limit.wait(ctx, len(b.rows)); err != nil {
		return err
	}
	rows := len(b.rows)
	select {
	case t.pieces <- b:
		t.sent += rows
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
