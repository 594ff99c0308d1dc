package engine

import (
	"bytes"
	"encoding/binary"
	"iter"

	"github.com/tailrace/tailrace/internal/task"
	"github.com/tailrace/tailrace/record"
	"github.com/tailrace/tailrace/state"
)

// epochEvents are the events of an epoch for a target. Each output has its own in commit
// order, in a store that spills; they are merged as they are written, so that no more than
// one event of each output is in memory however many a transaction brings.
type epochEvents struct {
	e       *Engine
	target  *targetRun
	outputs []eventOutput
	// places are the transactions' places in the epoch, doubled; see placeOf.
	places map[*record.Tx]uint32
	// txs are the transactions that have events. An event's key names its transaction by
	// the place in there, which numbers finds by the transaction's place in the epoch,
	// twice for those that are replayed to some topology; see placeOf.
	txs     []queueTx
	numbers map[uint32]uint32
}

type eventOutput struct {
	outputRun
	ready *task.Ready
}

type queuedEvent struct {
	key, value []byte // the key begins with the transaction's number
	replayed   bool
}

// eventsOf finds the events of an epoch for a target.
func (e *Engine) eventsOf(t *targetRun, sealed []*task.Ready) *epochEvents {
	ev := &epochEvents{e: e, target: t}
	used := make([]bool, 2*len(e.epoch.txs))
	for _, o := range t.outputs {
		ready := sealed[e.indexOf(o.run)]
		if ready == nil || !o.spec.Output.Append {
			continue
		}
		seqs := ready.EventTxs(o.node)
		if len(seqs) == 0 {
			continue
		}
		if ev.places == nil {
			ev.places, ev.numbers = make(map[*record.Tx]uint32, len(e.epoch.txs)), map[uint32]uint32{}
			for i, tx := range e.epoch.txs {
				ev.places[tx] = uint32(2 * i)
			}
		}
		for _, seq := range seqs {
			used[ev.placeOf(ready, seq)] = true
		}
		ev.outputs = append(ev.outputs, eventOutput{o, ready})
	}
	for place, has := range used {
		if !has {
			continue
		}
		ev.numbers[uint32(place)] = uint32(len(ev.txs))
		tx := e.epoch.txs[place/2]
		ev.txs = append(ev.txs, queueTx{
			Source: tx.Source, Position: tx.Position, XID: tx.XID, Snapshot: tx.Snapshot, Replayed: place%2 == 1,
			Retry: tx.Retry,
		})
	}
	return ev
}

// placeOf is the place of a topology's transaction in the epoch, and whether its events
// are replayed.
func (ev *epochEvents) placeOf(ready *task.Ready, seq uint32) uint32 {
	tx := ready.Txs[seq]
	place := ev.places[tx]
	if ready.Replayed[tx] {
		place++
	}
	return place
}

// each visits all events in the order of their keys.
func (ev *epochEvents) each(visit func(*queuedEvent) error) error {
	replayed := 0
	counted := func(q *queuedEvent) error {
		if q.replayed {
			replayed++
		}
		return visit(q)
	}
	var err error
	switch len(ev.outputs) {
	case 0:
	case 1:
		err = ev.walk(ev.outputs[0], counted)
	default:
		err = ev.merge(counted)
	}
	if err == nil && replayed > 0 {
		ev.e.cfg.Observe.Replayed(ev.target.name, replayed)
	}
	return err
}

// walk visits the events of one output, which are valid during the call.
func (ev *epochEvents) walk(o eventOutput, visit func(*queuedEvent) error) error {
	var q queuedEvent
	return o.ready.Outputs(o.node, func(out task.Output) error {
		place := ev.placeOf(o.ready, out.Seq)
		q.replayed = place%2 == 1
		q.key = binary.BigEndian.AppendUint32(q.key[:0], ev.numbers[place])
		q.key = state.AppendKeyString(append(q.key, out.Tag[:4]...), string(out.Tag[4:]))
		q.key = binary.BigEndian.AppendUint32(q.key, o.id)
		q.value = binary.AppendUvarint(q.value[:0], uint64(len(out.Key)))
		q.value = append(append(q.value, out.Key...), out.Value...)
		return visit(&q)
	})
}

// merge visits the events of several outputs, the least key first.
func (ev *epochEvents) merge(visit func(*queuedEvent) error) error {
	type walk struct {
		at   *queuedEvent // nil at the end
		next func() (*queuedEvent, error, bool)
	}
	var walks []*walk
	advance := func(w *walk) error {
		at, err, ok := w.next()
		if !ok {
			at = nil
		}
		w.at = at
		return err
	}
	for _, o := range ev.outputs {
		next, stop := iter.Pull2(func(yield func(*queuedEvent, error) bool) {
			err := ev.walk(o, func(q *queuedEvent) error {
				if !yield(q, nil) {
					return errStopItems
				}
				return nil
			})
			if err != nil && err != errStopItems { //nolint:errorlint // It is that very value.
				yield(nil, err)
			}
		})
		defer stop()
		w := &walk{next: next}
		if err := advance(w); err != nil {
			return err
		}
		walks = append(walks, w)
	}
	for {
		var least *walk
		for _, w := range walks {
			if w.at != nil && (least == nil || bytes.Compare(w.at.key, least.at.key) < 0) {
				least = w
			}
		}
		if least == nil {
			return nil
		}
		if err := visit(least.at); err != nil {
			return err
		}
		if err := advance(least); err != nil {
			return err
		}
	}
}
