package apptest

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/tailrace/tailrace/record"
	"github.com/tailrace/tailrace/sinks"
	"github.com/tailrace/tailrace/sources"
)

// scripted is a database whose whole log is there from the start. It hands the log
// over in pieces of piece rows, pieces of them in one batch.
type scripted struct {
	name      string
	relations map[string]*record.Relation
	log       []sources.TxRows // a whole transaction each, the snapshot first
	piece     int
	pieces    int
	// torn makes a transaction of each piece.
	torn bool
	// gate, if it is not nil, holds back all but the snapshot until it is closed.
	gate <-chan struct{}
}

func (s *scripted) Drop(context.Context, sources.DropRequest) error { return nil }

func (s *scripted) Open(_ context.Context, req sources.OpenRequest) (sources.Session, error) {
	out := &scriptedSession{scripted: s}
	for _, whole := range s.log {
		if whole.Tx.CommitStart < req.Resume { // so the snapshot comes at first only
			continue
		}
		tx := *whole.Tx
		rows := whole.Rows
		for {
			n := min(len(rows), s.piece)
			out.left = append(out.left, sources.TxRows{Tx: &tx, Rows: rows[:n], Last: n == len(rows)})
			if rows = rows[n:]; len(rows) == 0 {
				break
			}
			if s.torn && !tx.Snapshot {
				part := &out.left[len(out.left)-1]
				before := tx
				before.Position = tx.CommitStart + 1
				part.Tx, part.Last = &before, true
				tx.CommitStart++
			}
		}
	}
	return out, nil
}

// end is the log's last position.
func (s *scripted) end() uint64 { return s.log[len(s.log)-1].Tx.Position }

type scriptedSession struct {
	*scripted
	left []sources.TxRows
}

func (s *scriptedSession) System() string                         { return "scripted" }
func (s *scriptedSession) Close() error                           { return nil }
func (s *scriptedSession) Ack(uint64)                             {}
func (s *scriptedSession) Relations() map[string]*record.Relation { return s.relations }

func (s *scriptedSession) Next(ctx context.Context) (*sources.Batch, error) {
	if len(s.left) == 0 {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	n := min(len(s.left), s.pieces)
	if s.gate != nil {
		if !s.left[0].Tx.Snapshot {
			select {
			case <-s.gate:
			case <-ctx.Done():
				return nil, ctx.Err()
			}
		}
		if first := slices.IndexFunc(s.left, func(p sources.TxRows) bool { return !p.Tx.Snapshot }); first > 0 {
			n = min(n, first)
		}
	}
	b := &sources.Batch{Txs: s.left[:n]}
	s.left = s.left[n:]
	return b, nil
}

// remembered is a transactional target that remembers every state that it was in.
type remembered struct {
	database string
	until    uint64

	mu     sync.Mutex
	seq    uint64
	holds  bool
	names  map[uint32]string
	tables map[string]map[string]string // by output, then key
	states states
	events []string
	done   chan struct{} // closed when until is reached
}

// states are what something was, by position.
type states map[uint64]string

// at is the state as of a position: that of the last change up to it.
func (s states) at(position uint64) string {
	last := uint64(0)
	for p := range s {
		if p <= position && p > last {
			last = p
		}
	}
	return s[last]
}

func newRemembered(database string) *remembered {
	return &remembered{database: database, tables: map[string]map[string]string{}, states: states{}}
}

func (r *remembered) Transactional() bool                           { return true }
func (r *remembered) Drop(context.Context, sinks.DropRequest) error { return nil }
func (r *remembered) Close() error                                  { return nil }

func (r *remembered) Open(_ context.Context, req sinks.OpenRequest) (sinks.Writer, error) {
	r.names = map[uint32]string{}
	for _, o := range req.Outputs {
		r.names[o.ID] = o.Name
	}
	return r, nil
}

func (r *remembered) Progress(context.Context) (uint64, bool, error) { return r.seq, r.holds, nil }

func (r *remembered) Apply(_ context.Context, epochs []sinks.Epoch) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	for i := range epochs {
		e := &epochs[i]
		if r.holds && e.Seq <= r.seq {
			continue
		}
		if err := e.Items(r.take); err != nil {
			return err
		}
		r.seq, r.holds = e.Seq, true
		at := e.Positions[r.database]
		r.states[at] = r.print()
		if at >= r.until && r.done != nil {
			close(r.done)
			r.done = nil
		}
	}
	return nil
}

func (r *remembered) take(it sinks.Item) bool {
	name := r.names[it.Output]
	if ev := it.Event; ev != nil {
		r.events = append(r.events, fmt.Sprintf("%s %s %s=%s at %d of %s/%d last %v",
			ev.ID, name, ev.Key, ev.Value, ev.Time, ev.Source, ev.Position, ev.Last))
		return true
	}
	if r.tables[name] == nil {
		r.tables[name] = map[string]string{}
	}
	if it.Deleted {
		delete(r.tables[name], string(it.Key))
		return true
	}
	var row strings.Builder
	for _, c := range it.Columns {
		fmt.Fprintf(&row, " %q", c)
	}
	r.tables[name][string(it.Key)] = row.String()
	return true
}

func (r *remembered) print() string {
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(r.tables)) {
		for _, key := range slices.Sorted(maps.Keys(r.tables[name])) {
			fmt.Fprintf(&b, "%s:%s\n", name, r.tables[name][key])
		}
	}
	return b.String()
}

// wait returns a channel that is closed when the target has reached a position.
func (r *remembered) wait(position uint64) <-chan struct{} {
	r.mu.Lock()
	defer r.mu.Unlock()
	done := make(chan struct{})
	r.until, r.done = position, done
	return done
}
