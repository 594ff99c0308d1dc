package postgres

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/tailrace/tailrace/record"
	"github.com/tailrace/tailrace/sources"
)

// session implements sources.Session. One goroutine receives and decodes into the
// assembler's batch while the reader works on the batch it took before; another
// tells the server what was acknowledged.
type session struct {
	cfg       Config
	conn      *pgx.ConnConfig
	log       *slog.Logger
	req       sources.OpenRequest
	observer  sources.Observer
	server    *server
	system    string
	relations map[string]*record.Relation
	pubs      []string
	watch     *watch

	// snapshot is where the snapshot's pieces come from, nil without or when it is over.
	snapshot chan *sources.Batch
	// snapshotOut is the same channel for the sender.
	snapshotOut chan *sources.Batch

	mu  sync.Mutex // guards asm and err
	asm *assembler
	err error
	// spare guards free. Who gives a batch back does not wait for the receiver, which holds
	// the other lock while it asks the catalog.
	spare sync.Mutex
	free  []*batch

	// wake tells Next that there may be something, space tells the receiver that the
	// batch was taken. Both hold one token.
	wake, space chan struct{}

	timeline atomic.Uint32
	// acked is what the reader acknowledged; handed bounds it: what Next gave out.
	acked, handed atomic.Uint64
	// received is the end of what arrived, for the server's statistics.
	received atomic.Uint64
	// busy is when the last transaction arrived, in Unix nanoseconds.
	busy atomic.Int64
	// heard is when the server was heard last, in Unix nanoseconds.
	heard  atomic.Int64
	status *statusSender
	// reconnecting says that there was a connection before, lost why there is none now; the
	// stream's goroutine uses them.
	reconnecting bool
	lost         error
	// whole says that transactions are asked for once they have committed, whatever Streaming
	// says: the server cannot decode them otherwise. It is the stream's goroutine's.
	whole bool
	// guard holds the lock on the slot's name while the slot isn't active; it is the
	// run's goroutine's.
	guard *pgx.Conn

	// mark is the SQL that marks the publication as started, "" where that is done or
	// not ours to do; it is the monitor's.
	mark string
	// markWarned says that the log tells why it could not be marked yet.
	markWarned bool

	ctx    context.Context
	cancel context.CancelCauseFunc
	wg     sync.WaitGroup
	closed sync.Once
}

// System returns the server's system identifier and the database's name.
func (s *session) System() string { return s.system }

// Relations returns the tables' shapes when the session was opened.
func (s *session) Relations() map[string]*record.Relation { return s.relations }

// Next returns what has arrived. While large transactions come in pieces, small ones
// come whole.
func (s *session) Next(ctx context.Context) (*sources.Batch, error) {
	for {
		if err := ctx.Err(); err != nil {
			return nil, context.Cause(ctx)
		}
		if s.snapshot != nil {
			b, err := s.nextSnapshot(ctx)
			if b != nil || err != nil {
				return b, err
			}
			continue
		}
		s.mu.Lock()
		b, err := s.take(), s.err
		s.mu.Unlock()
		if b != nil {
			return b, nil
		}
		if err != nil {
			return nil, err
		}
		select {
		case <-s.wake:
		case <-ctx.Done():
		}
	}
}

// nextSnapshot returns the snapshot's next piece, or nothing when it is over.
func (s *session) nextSnapshot(ctx context.Context) (*sources.Batch, error) {
	select {
	case b, ok := <-s.snapshot:
		if !ok {
			s.snapshot = nil
			return nil, s.failure()
		}
		for _, tx := range b.Txs {
			if tx.Last {
				s.handed.Store(tx.Tx.Position)
			}
		}
		return b, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// take hands the current batch over if there is something in it that can be used.
func (s *session) take() *sources.Batch {
	b := s.asm.cur
	if len(b.spans) == 1 && b.open() && !b.full() && b.idle == 0 || b.empty() {
		return nil
	}
	next := s.newBatch()
	b.splitTail(next)
	if b.open() {
		s.asm.handOver()
	}
	s.asm.cur = next
	out := b.seal(s.recycle)
	for _, tx := range out.Txs {
		if tx.Last {
			s.handed.Store(tx.Tx.Position)
		}
	}
	if b.idle > s.handed.Load() {
		s.handed.Store(b.idle)
	}
	signal(s.space)
	return out
}

// newBatch returns an empty batch.
func (s *session) newBatch() *batch {
	s.spare.Lock()
	defer s.spare.Unlock()
	if n := len(s.free); n > 0 {
		b := s.free[n-1]
		s.free = s.free[:n-1]
		return b
	}
	return &batch{}
}

// recycle keeps a few batches, whose slices have grown to what is usual.
func (s *session) recycle(b *batch) {
	s.spare.Lock()
	defer s.spare.Unlock()
	if len(s.free) < 4 {
		s.free = append(s.free, b)
	}
}

// Ack lets the server forget everything up to position. A position that was not
// handed out counts as the last one that was.
func (s *session) Ack(position uint64) {
	position = min(position, s.handed.Load())
	for {
		old := s.acked.Load()
		if position <= old {
			return
		}
		if s.acked.CompareAndSwap(old, position) {
			s.status.poke()
			return
		}
	}
}

// Close ends the session, after telling the server what was acknowledged.
func (s *session) Close() error {
	s.closed.Do(func() {
		s.cancel(ErrClosed)
		s.fail(ErrClosed)
	})
	s.wg.Wait()
	return nil
}

// fail ends the session with an error, which Next returns after what has arrived.
func (s *session) fail(err error) {
	s.mu.Lock()
	if s.err == nil {
		s.err = err
	}
	s.mu.Unlock()
	s.cancel(err)
	signal(s.wake)
}

func (s *session) failure() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

// run is the session's life: the snapshot, if there is one, then the stream.
func (s *session) run(snap *snapshotter) {
	defer s.wg.Done()
	if snap != nil {
		s.guard = snap.anchor
		defer s.unguard()
		out := s.snapshotOut
		err := snap.run(s.ctx, out)
		if err != nil {
			s.fail(err)
		}
		close(out)
		if err != nil {
			return
		}
	}
	s.streamLoop()
}

// unguard gives up the lock on the slot's name, once the slot is active.
func (s *session) unguard() {
	if s.guard != nil {
		s.guard.Close(context.WithoutCancel(s.ctx))
		s.guard = nil
	}
}

// streamLoop streams, over as many connections as it takes.
func (s *session) streamLoop() {
	var pause time.Duration
	var inUseSince time.Time
	var again repeated
	var undecoded decoding
	for {
		began, received := time.Now(), s.received.Load()
		err := s.streamOnce()
		if s.ctx.Err() != nil {
			s.fail(context.Cause(s.ctx))
			return
		}
		if sqlState(err) == "55006" {
			if inUseSince.IsZero() {
				inUseSince = began
			} else if time.Since(inUseSince) > s.cfg.SlotWait {
				err = errors.Join(err, (&slot{name: s.cfg.Slot}).inUse(s.cfg.SlotWait))
			}
		} else {
			inUseSince = time.Time{}
		}
		err = s.judgeDecoding(&undecoded, err)
		if err = again.judge(err, s.received.Load()); !transient(err) {
			s.fail(err)
			return
		}
		s.log.Warn("lost the connection to PostgreSQL, reconnecting", "slot", s.cfg.Slot, "error", err)
		s.lost = err
		s.observer.Disconnected(err)
		if s.received.Load() > received {
			pause = 0 // That connection was good for something.
		}
		pause = min(max(2*pause, 50*time.Millisecond), 10*time.Second)
		if sleep(s.ctx, pause) != nil {
			s.fail(context.Cause(s.ctx))
			return
		}
	}
}

// mended tells of a connection that was lost and is there again.
func (s *session) mended() {
	if s.lost != nil {
		s.observer.Reconnected(s.lost)
		s.lost = nil
	}
}

// signal leaves a token where there is none.
func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
