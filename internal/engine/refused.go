package engine

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/tailrace/tailrace/internal/task"
	"github.com/tailrace/tailrace/record"
	"github.com/tailrace/tailrace/sinks"
	"github.com/tailrace/tailrace/state"
	"github.com/tailrace/tailrace/topology"
)

// What a target refuses and an error policy sets aside is kept in a store of the output,
// under the row's encoded key or the event's id. It is durable before the target's
// transaction that leaves it out, and names the epoch that it was of. It goes when the
// target has taken a later epoch that has the key again, or the whole output; that is
// found in the queue before this is trimmed, so a crash in between changes nothing.

// refusedPrefix begins the names of these stores, and of no other store.
const refusedPrefix = "refused:"

func refusedStore(n *topology.Node) string { return refusedPrefix + n.Name }

// refusedLetter is what is stored of a row or an event.
type refusedLetter struct {
	task.DeadLetter
	// Seq is the epoch that it was refused in, at first or again.
	Seq uint64 `json:"seq"`
	// Row is the row as a queue holds it; Event the event.
	Row   []byte       `json:"row,omitempty"`
	Event *sinks.Event `json:"event,omitempty"`
}

// loadRefused finds what is kept of an output, whose policy may have been taken away.
func (e *Engine) loadRefused(r *topologyRun, o *outputRun) error {
	store := refusedStore(o.node)
	has, err := e.hasStore(r, store)
	if err != nil || !has && o.node.OnError == nil {
		return err
	}
	if o.letters, err = e.storeID(r, store); err != nil {
		return err
	}
	o.refused = map[string]uint64{}
	return e.eachRefused(o, func(key []byte, l *refusedLetter) { o.refused[string(key)] = l.Seq })
}

func (e *Engine) eachRefused(o *outputRun, f func(key []byte, l *refusedLetter)) error {
	_, err := readRefused(e.cfg.Dir.DB, o.letters, nil, func(key []byte, l *refusedLetter) bool {
		f(key, l)
		return true
	})
	return err
}

// readRefused yields what is kept in a store from behind a key on, and returns the last key.
func readRefused(
	db state.Reader, id uint32, after []byte, yield func(key []byte, l *refusedLetter) bool,
) (last []byte, err error) {
	prefix := slices.Clip(binary.BigEndian.AppendUint32(nil, id))
	it, err := db.NewIter(prefix, state.PrefixEnd(prefix))
	if err != nil {
		return after, err
	}
	defer it.Close()
	from := prefix
	if len(after) > 0 {
		from = append(append(prefix, after...), 0)
	}
	last = after
	for ok := it.SeekGE(from); ok; ok = it.Next() {
		l := &refusedLetter{}
		if err := json.Unmarshal(it.Value(), l); err != nil {
			return last, fmt.Errorf("engine: row that a target refused: %w: %w", state.ErrCorrupt, err)
		}
		last = bytes.Clone(it.Key()[len(prefix):])
		if !yield(last, l) {
			break
		}
	}
	return last, it.Error()
}

// asideOf makes what decides about what is refused of an epoch, nil where no output has a
// policy.
func (e *Engine) asideOf(t *targetRun, seq uint64, h *queueHeader) sinks.SetAside {
	if !slices.ContainsFunc(t.outputs, func(o outputRun) bool { return o.node.OnError != nil }) {
		return nil
	}
	a := &aside{
		e: e, t: t, seq: seq, header: h, letters: map[refusedKey]*refusedLetter{}, skipped: map[refusedKey]bool{},
	}
	if t.asides == nil {
		t.asides = map[uint64]*aside{}
	}
	t.asides[seq] = a
	return a
}

// aside is what has been set aside of an epoch. It implements sinks.SetAside.
type aside struct {
	e       *Engine
	t       *targetRun
	seq     uint64
	header  *queueHeader
	letters map[refusedKey]*refusedLetter
	skipped map[refusedKey]bool
}

type refusedKey struct {
	output uint32
	key    string
}

func keyOf(it sinks.Item) refusedKey {
	if it.Event != nil {
		return refusedKey{it.Output, it.Event.ID}
	}
	return refusedKey{it.Output, string(it.Key)}
}

// Refused implements sinks.SetAside.
func (a *aside) Refused(it sinks.Item, err error) bool {
	o, ok := a.t.output(it.Output)
	if !ok || o.node.OnError == nil {
		return false
	}
	f := &topology.Failure{Node: o.node, Err: err}
	ctx := record.Context{Node: o.node.Name, Time: a.header.commitTime()}
	if ev := it.Event; ev != nil {
		f.Key, f.Tx = ev.ID, &record.Tx{Source: ev.Source, Position: ev.Position, XID: ev.XID}
		ctx.Time = time.UnixMicro(ev.Time).UTC()
	} else {
		f.Key = rowText(o, it.Columns[:o.spec.Output.KeyLen])
	}
	ctx.Tx = f.Tx
	switch o.node.OnError(ctx, f) {
	case topology.Skip:
		a.skipped[keyOf(it)] = true
		return true
	case topology.DeadLetter:
		a.letters[keyOf(it)] = a.letter(o, it, err)
		return true
	}
	return false
}

// rowText are columns by name, in the target's text form.
func rowText(o *outputRun, columns [][]byte) map[string]*string {
	out := map[string]*string{}
	for i, c := range columns {
		out[o.spec.Output.Columns[i].Name] = nil
		if c != nil {
			text := string(c)
			out[o.spec.Output.Columns[i].Name] = &text
		}
	}
	return out
}

func (a *aside) letter(o *outputRun, it sinks.Item, err error) *refusedLetter {
	k := keyOf(it)
	l := &refusedLetter{Seq: a.seq, DeadLetter: task.DeadLetter{
		ID:       o.run.name() + "/" + o.node.Name + "#" + hex.EncodeToString([]byte(k.key)),
		Topology: o.run.name(), Node: o.node.Name, Target: a.t.name, Error: err.Error(),
		CommitTime: a.header.CommitTime, Parked: it.Event == nil,
	}}
	if ev := it.Event; ev != nil {
		event := *ev
		event.Key, event.Value = bytes.Clone(ev.Key), bytes.Clone(ev.Value)
		l.Event, l.ID = &event, ev.ID
		l.Key, l.Value, l.Source = event.Key, event.Value, ev.Source
		l.Position, l.XID = record.LSN(ev.Position).String(), ev.XID
		return l
	}
	l.Key, _ = json.Marshal(rowText(o, it.Columns[:o.spec.Output.KeyLen]))
	if !it.Deleted {
		l.Value, _ = json.Marshal(rowText(o, it.Columns))
	}
	l.Row = sinks.EncodeRow(nil, it.Columns, it.Deleted)
	var at []string
	for _, d := range a.e.databases {
		if position, ok := a.header.Positions[d.name]; ok && o.run.reads(d.name) {
			l.Source = cmp.Or(l.Source, d.name)
			at = append(at, record.LSN(position).String())
		}
	}
	l.Position = strings.Join(at, ",")
	return l
}

// Keep implements sinks.SetAside.
func (a *aside) Keep() error {
	if len(a.letters) == 0 {
		return nil
	}
	a.t.lettersMu.Lock()
	defer a.t.lettersMu.Unlock()
	b := a.e.cfg.Dir.DB.NewBatch()
	defer b.Close()
	keys := slices.SortedFunc(maps.Keys(a.letters), a.t.byStore)
	for _, k := range keys {
		o, _ := a.t.output(k.output)
		l, key := a.letters[k], binary.BigEndian.AppendUint32(nil, o.letters)
		key = append(key, k.key...)
		if err := a.since(l, key); err != nil {
			return storage(err)
		}
		value, err := json.Marshal(l)
		if err != nil {
			return storage(err)
		}
		if err := b.Set(key, value); err != nil {
			return storage(err)
		}
	}
	if err := a.e.cfg.Dir.DB.Commit(b, true); err != nil {
		return storage(err)
	}
	for _, k := range keys {
		o, _ := a.t.output(k.output)
		o.refused[k.key] = a.seq
	}
	return nil
}

// since says of a key that is refused in turn since when and how often it is.
func (a *aside) since(l *refusedLetter, key []byte) error {
	value, ok, err := a.e.cfg.Dir.DB.Get(nil, key)
	if err != nil {
		return err
	}
	before := &refusedLetter{}
	if ok && json.Unmarshal(value, before) != nil {
		return state.ErrCorrupt
	}
	l.Since, l.Failures = cmp.Or(before.Since, l.CommitTime), before.Failures+1
	if before.Seq == l.Seq {
		l.Failures = max(before.Failures, 1) // the epoch is written again
	}
	return nil
}

// byStore compares by the stores of outputs, then by key.
func (t *targetRun) byStore(a, b refusedKey) int {
	one, _ := t.output(a.output)
	other, _ := t.output(b.output)
	return cmp.Or(cmp.Compare(one.letters, other.letters), cmp.Compare(a.key, b.key))
}

// noteRefused counts what was left out of epochs that the target has taken now.
func (e *Engine) noteRefused(t *targetRun, epochs []sinks.Epoch) {
	left := 0
	for i := range epochs {
		a := t.asides[epochs[i].Seq]
		if a == nil {
			continue
		}
		for k := range a.skipped {
			o, _ := t.output(k.output)
			e.cfg.Observe.Dropped(o.run.name(), o.node.Name, topology.DropSkipped, 1)
		}
		for k := range a.letters {
			o, _ := t.output(k.output)
			e.cfg.Observe.Dropped(o.run.name(), o.node.Name, topology.DropDeadLetter, 1)
		}
		left += len(a.skipped) + len(a.letters)
	}
	if left > 0 {
		e.log.Warn("the target refuses rows, which its error policy has left out", "target", t.name, "rows", left)
	}
}

// releaseRefused adds to a batch the removal of what is kept of keys that the target has
// taken with these epochs. t.lettersMu is held.
func (e *Engine) releaseRefused(b state.Batch, t *targetRun, epochs []pendingEpoch) error {
	gone := map[refusedKey]bool{}
	for _, p := range epochs {
		if t.refusedCount() == 0 {
			break
		}
		a := t.asides[p.seq]
		taken := func(k refusedKey) {
			o, ok := t.output(k.output)
			if !ok {
				return
			}
			at, kept := o.refused[k.key]
			// A row that was refused in another attempt at this epoch has been taken in this one.
			if kept && (at < p.seq || at == p.seq && a != nil && a.letters[k] == nil) {
				gone[k] = true
			}
		}
		for i := range t.outputs {
			o := &t.outputs[i]
			if !p.begins(o.id) || o.spec.Output.Append {
				continue
			}
			for key := range o.refused {
				taken(refusedKey{o.id, key})
			}
		}
		if err := e.eachQueuedKey(t, p.seq, taken); err != nil {
			return err
		}
	}
	for _, k := range slices.SortedFunc(maps.Keys(gone), t.byStore) {
		o, _ := t.output(k.output)
		delete(o.refused, k.key)
		if err := b.Delete(append(binary.BigEndian.AppendUint32(nil, o.letters), k.key...)); err != nil {
			return err
		}
	}
	return nil
}

// eachQueuedKey yields the keys of an epoch's rows, and of events that were replayed.
func (e *Engine) eachQueuedKey(t *targetRun, seq uint64, yield func(refusedKey)) error {
	for _, kind := range []byte{itemRow, itemAgain} {
		it, err := e.cfg.Dir.DB.NewIter(itemKey(nil, t.queue, seq, kind), itemKey(nil, t.queue, seq, kind+1))
		if err != nil {
			return err
		}
		for ok := it.First(); ok; ok = it.Next() {
			if k := it.Key(); len(k) >= itemKeyLen+4 {
				yield(refusedKey{binary.BigEndian.Uint32(k[itemKeyLen:]), string(k[itemKeyLen+4:])})
			}
		}
		if err := errors.Join(it.Error(), it.Close()); err != nil {
			return err
		}
	}
	return nil
}

// refusedCount is how many rows and events are kept. t.lettersMu is held.
func (t *targetRun) refusedCount() (n int) {
	for i := range t.outputs {
		n += len(t.outputs[i].refused)
	}
	return n
}

// noteRefusedKeys counts the keys of tables that are set aside, by topology and node.
func (e *Engine) noteRefusedKeys(t *targetRun) {
	counts := map[string]int{}
	t.lettersMu.Lock()
	for i := range t.outputs {
		o := &t.outputs[i]
		if o.refused == nil || o.spec.Output.Append {
			continue
		}
		e.cfg.Observe.Degraded(o.run.name(), o.node.Name, len(o.refused))
		counts[o.run.name()+"/"+o.node.Name] = len(o.refused)
	}
	t.lettersMu.Unlock()
	e.status.refusedKeys(counts)
}
