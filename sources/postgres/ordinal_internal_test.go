package postgres

import (
	"encoding/binary"
	"errors"
	"log/slog"
	"testing"

	"github.com/tailrace/tailrace/internal/pgoutput"
	"github.com/tailrace/tailrace/record"
	"github.com/tailrace/tailrace/sources"
)

// message is a message of the log with the prefix "p".
func message(text string) []byte {
	body := append([]byte{1}, make([]byte, 8)...)
	body = append(body, 'p', 0)
	return append(binary.BigEndian.AppendUint32(body, uint32(len(text))), text...)
}

// A transaction may have as many rows as there are ordinals before that of records without a
// row. One more ends the session, for good and with nothing of the transaction complete; where
// all of it is known already nobody counts.
func TestOrdinalsEnd(t *testing.T) {
	for name, c := range map[string]struct {
		from uint64 // everything before is known
		ends bool
	}{"new": {0, true}, "known": {1000, false}} {
		t.Run(name, func(t *testing.T) {
			r := newFuzzed(nil, 1<<20, t.TempDir())
			a := r.s.asm
			a.from = c.from
			if err := a.begin(pgoutput.BeginMessage{CommitLSN: 100, XID: 7}); err != nil {
				t.Fatal(err)
			}
			a.ordinal = record.LateOrdinal - 2
			for i := range 2 {
				if err := a.message(pgoutput.Message, message("x"), r.w.blk); err != nil {
					t.Fatalf("message %d: %v", i, err)
				}
			}
			err := a.message(pgoutput.Message, message("x"), r.w.blk)
			if !c.ends {
				if err != nil || len(a.cur.msgs) != 0 {
					t.Errorf("%d messages, error %v", len(a.cur.msgs), err)
				}
				return
			}
			if !errors.Is(err, ErrTooManyRows) || transient(err) {
				t.Errorf("error is %v", err)
			}
			var got []uint32
			for _, m := range a.cur.msgs {
				got = append(got, m.Ordinal)
			}
			if len(got) != 2 || got[0] != record.LateOrdinal-2 || got[1] != record.LateOrdinal-1 || !a.cur.open() {
				t.Errorf("ordinals are %d, open is %v", got, a.cur.open())
			}
		})
	}
}

// So may a snapshot.
func TestSnapshotOrdinalsEnd(t *testing.T) {
	o := &opening{log: slog.New(slog.DiscardHandler)}
	o.req.Observe = nobody{}
	s := &snapshotter{o: o, ordinal: record.LateOrdinal - 3,
		progress: &progress{observer: nobody{}, rows: map[string]int64{}, estimates: map[string]int64{}}}
	tx := &record.Tx{Snapshot: true}
	piece := func(rows int) *batch {
		b := &batch{}
		b.begin(tx)
		b.rows = make([]record.Row, rows)
		return b
	}
	one := &task{table: &table{}, pieces: make(chan *batch, 3)}
	for _, rows := range []int{1, 2, 1} {
		one.pieces <- piece(rows)
	}
	close(one.pieces)
	out, window := make(chan *sources.Batch, 3), make(chan struct{}, 1)
	window <- struct{}{}
	err := s.deliver(t.Context(), []*task{one}, window, out)
	if !errors.Is(err, ErrTooManyRows) || transient(err) {
		t.Errorf("error is %v", err)
	}
	close(out)
	var got []uint32
	for b := range out {
		for _, part := range b.Txs {
			for _, row := range part.Rows {
				got = append(got, row.Ordinal)
			}
			if part.Last {
				t.Error("the transaction is complete")
			}
		}
	}
	if len(got) != 3 || got[0] != record.LateOrdinal-3 || got[2] != record.LateOrdinal-1 {
		t.Errorf("ordinals are %d", got)
	}
}
