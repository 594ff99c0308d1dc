package postgres

import (
	"encoding/binary"
	"sync"
	"time"
)

// ackDelay is how long an acknowledgement waits for more of them.
const ackDelay = 20 * time.Millisecond

// statusSender tells the server how far we are: on a timer, when asked, and soon
// after an acknowledgement. It never reports as flushed what the reader has not
// acknowledged, whatever the server's own position is.
type statusSender struct {
	s        *session
	asked    chan struct{} // the server wants a reply now
	acked    chan struct{} // there is a new acknowledgement
	interval time.Duration
}

func newStatusSender(s *session) *statusSender {
	return &statusSender{s: s, asked: make(chan struct{}, 1), acked: make(chan struct{}, 1),
		interval: s.cfg.StatusInterval}
}

func (t *statusSender) poke()  { signal(t.acked) }
func (t *statusSender) reply() { signal(t.asked) }

// start sends statuses over a connection until the function returned is called, which
// sends the last one.
func (t *statusSender) start(w *wire) (stop func()) {
	done := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		tick := time.NewTicker(min(t.interval, t.s.cfg.askAfter()))
		defer tick.Stop()
		for {
			select {
			case <-done:
				return
			case <-tick.C:
			case <-t.asked:
			case <-t.acked:
				// Acknowledgements come one a commit; a few of them share a status.
				select {
				case <-done:
					return
				case <-t.asked:
				case <-time.After(ackDelay):
				}
			}
			if t.send(w) != nil {
				return // The receiver sees the same connection fail.
			}
		}
	})
	return func() {
		close(done)
		wg.Wait()
	}
}

// send writes one status. All three positions are set: a server takes a missing one
// from another. A server that reads nothing any more is given up as one that says nothing.
func (t *statusSender) send(w *wire) error {
	if err := w.conn.SetWriteDeadline(time.Now().Add(t.s.cfg.silence)); err != nil {
		return err
	}
	if err := t.s.ctx.Err(); err != nil {
		return err // The deadline of its end may just have been put off.
	}
	_, err := w.conn.Write(t.encode(nil))
	return err
}

// encode makes a status, which asks for a reply where nothing was heard for a while.
func (t *statusSender) encode(b []byte) []byte {
	flushed := t.s.acked.Load()
	b = append(b, 'd')
	b = binary.BigEndian.AppendUint32(b, 4+34)
	b = append(b, 'r')
	b = binary.BigEndian.AppendUint64(b, max(t.s.received.Load(), flushed)) // written
	b = binary.BigEndian.AppendUint64(b, flushed)
	b = binary.BigEndian.AppendUint64(b, flushed) // applied
	// The server only shows this clock in pg_stat_replication.
	b = binary.BigEndian.AppendUint64(b, uint64(time.Now().UnixMicro()-pgEpoch))
	if time.Since(time.Unix(0, t.s.heard.Load())) >= t.s.cfg.askAfter() {
		return append(b, 1)
	}
	return append(b, 0)
}

// pgEpoch is 2000-01-01 UTC in Unix microseconds.
const pgEpoch = 946_684_800_000_000

// finish sends the last status and ends the copy, so that the server frees the slot
// at once.
func (t *statusSender) finish(w *wire) {
	w.conn.SetDeadline(time.Now().Add(2 * time.Second))
	b := t.encode(nil)
	b = append(b, 'c', 0, 0, 0, 4, 'X', 0, 0, 0, 4)
	if _, err := w.conn.Write(b); err != nil {
		return
	}
	// What the server still sends is read away, so that its writes do not block the
	// reading of our last message; its end of the connection is the confirmation.
	for {
		w.r, w.w = 0, 0
		if _, err := w.fill(); err != nil {
			return
		}
	}
}
