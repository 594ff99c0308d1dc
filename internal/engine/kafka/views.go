package kafka

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/tailrace/tailrace/internal/kafka"
	"github.com/tailrace/tailrace/record"
	"github.com/tailrace/tailrace/state"
	"github.com/tailrace/tailrace/topology"
	"github.com/tailrace/tailrace/view"
)

// A view's rows lie in a store for each task. Readers see them as one: the view is bound to
// an id of its own, under which nothing is stored, and snapshots put the tasks' stores
// there together.

// boundStore is a store of a view under the id that readers know.
type boundStore struct {
	id    uint32
	view  string
	sub   *subTopology
	store string
	// byKey says that the view's rows are divided by their encoded keys.
	byKey bool
}

// byKey reports whether the rows that a node without a state of its own is given are divided
// by their encoded keys.
func (s *share) byKey(n *topology.Node) bool {
	return s.cut != nil && s.cut.ByKeys(s.cut.Input(n, 0))
}

// bindViews gives the views of all topologies their ids.
func (e *Engine) bindViews() error {
	if e.cfg.Host != nil {
		e.members.self = e.cfg.Address
		e.cfg.Host.Join(&e.members)
	}
	for _, sub := range e.subs {
		for _, s := range sub.parts {
			for _, n := range s.nodes() {
				port, ok := n.Sink.(view.Port)
				if !ok {
					continue
				}
				var idErr error
				err := e.cfg.Host.Bind(port, func(store string) uint32 {
					name := n.StoreName(store)
					id, err := e.cfg.Dir.StoreID(sub.name+"@all", name)
					if err != nil {
						idErr = err
					}
					e.bound = append(e.bound, boundStore{id, port.Name(), sub, name, s.byKey(n)})
					return id
				})
				if err == nil {
					err = idErr
				}
				if err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// collect is called before the stores are told of the commit, as long as they know what
// they have written.
func (e *Engine) collect(work []*sealed) error {
	if e.cfg.Host == nil {
		return nil
	}
	return e.cfg.Host.Collect(func(p view.Port) view.Changed {
		var all changedRows
		for _, s := range work {
			for i, part := range s.run.sub.parts {
				for _, n := range part.nodes() {
					if port, ok := n.Sink.(view.Port); ok && port == p {
						all = append(all, s.run.parts[i].task.Operators()[n.ID].(view.Changed))
					}
				}
			}
		}
		if len(all) == 0 {
			return nil
		}
		return all
	})
}

// changedRows are what several tasks have written of one view.
type changedRows []view.Changed

// Dirty implements view.Changed.
func (c changedRows) Dirty(fn func(key, value []byte, deleted bool) bool) error {
	for _, part := range c {
		more := true
		err := part.Dirty(func(key, value []byte, deleted bool) bool {
			more = fn(key, value, deleted)
			return more
		})
		if err != nil || !more {
			return err
		}
	}
	return nil
}

// publish shows what is committed to readers. A change of the tasks shows other rows, and
// resets who watches.
func (e *Engine) publish(work []*sealed) error {
	if e.cfg.Host == nil {
		return nil
	}
	positions := record.Positions{}
	var asOf int64
	for _, r := range e.tasks {
		if !r.ready {
			return nil // before its state is restored there is nothing to show
		}
		for _, b := range r.inputs {
			positions[b.partition.String()] = uint64(max(b.committed.Next, 0))
		}
	}
	for _, s := range work {
		for _, ready := range s.ready {
			if n := len(ready.Txs); n > 0 {
				asOf = max(asOf, ready.Txs[n-1].CommitTime)
			}
		}
	}
	e.seq++
	err := e.cfg.Host.Publish(view.Commit{
		Seq: e.seq, Positions: positions, AsOf: asOf, Snapshot: e.union(e.cfg.Dir.DB.NewSnapshot()),
		Parts: e.parts(),
	})
	if err != nil {
		return fmt.Errorf("kafka: views: %w", err)
	}
	e.status.shown()
	return nil
}

// parts are what the tasks have of views.
func (e *Engine) parts() map[string][]view.Part {
	out := map[string][]view.Part{}
	for _, id := range e.order() {
		r := e.tasks[id]
		part := view.Part{Number: id.partition, Held: r.held()}
		for _, b := range r.inputs {
			part.Inputs = append(part.Inputs, b.partition.String())
		}
		for _, b := range e.bound {
			have := out[b.view]
			known := slices.ContainsFunc(have, func(p view.Part) bool { return p.Number == part.Number })
			if b.sub == r.sub && !known { // a view has several stores
				out[b.view] = append(have, part)
			}
		}
	}
	return out
}

// held returns what tells whether the task still is this member's.
func (r *taskRun) held() func() bool {
	leases := r.leases
	return func() bool {
		return !slices.ContainsFunc(leases, func(l *kafka.Lease) bool { return !l.Held() })
	}
}

// union is a snapshot in which views are whole.
func (e *Engine) union(s state.Snapshot) state.Snapshot {
	u := &unionSnapshot{Snapshot: s, bound: e.bound, parts: map[uint32][]storePart{}}
	for _, b := range e.bound {
		u.parts[b.id] = []storePart{}
		for _, id := range e.order() {
			if r := e.tasks[id]; r.sub == b.sub {
				u.parts[b.id] = append(u.parts[b.id], storePart{id.partition, r.stores[b.store].id})
			}
		}
	}
	return u
}

type unionSnapshot struct {
	state.Snapshot
	bound []boundStore
	parts map[uint32][]storePart // by the id of the whole
}

// storePart is a task's store.
type storePart struct {
	number int32
	id     uint32
}

var _ view.Divided = (*unionSnapshot)(nil)

// Only implements view.Divided.
func (u *unionSnapshot) Only(name string, numbers []int32) state.Reader {
	only := &unionSnapshot{Snapshot: u.Snapshot, parts: map[uint32][]storePart{}}
	for _, b := range u.bound {
		if b.view == name {
			only.parts[b.id] = slices.DeleteFunc(slices.Clone(u.parts[b.id]), func(p storePart) bool {
				return !slices.Contains(numbers, p.number)
			})
		}
	}
	return only
}

// Get implements state.Reader.
func (u *unionSnapshot) Get(dst, key []byte) ([]byte, bool, error) {
	if len(key) >= 4 {
		if parts, ok := u.parts[binary.BigEndian.Uint32(key)]; ok {
			for _, part := range parts {
				value, ok, err := u.Snapshot.Get(dst, under(part.id, key))
				if ok || err != nil {
					return value, ok, err
				}
			}
			return dst, false, nil
		}
	}
	return u.Snapshot.Get(dst, key)
}

// under is a key of the whole as it stands in a part.
func under(id uint32, key []byte) []byte {
	return append(binary.BigEndian.AppendUint32(nil, id), key[4:]...)
}

// NewIter implements state.Reader.
func (u *unionSnapshot) NewIter(lower, upper []byte) (state.Iter, error) {
	if len(lower) < 4 {
		return u.Snapshot.NewIter(lower, upper)
	}
	whole := binary.BigEndian.Uint32(lower)
	parts, ok := u.parts[whole]
	if !ok {
		return u.Snapshot.NewIter(lower, upper)
	}
	it := &unionIter{whole: whole}
	for _, part := range parts {
		id := part.id
		to := binary.BigEndian.AppendUint32(nil, id+1)
		if len(upper) >= 4 && binary.BigEndian.Uint32(upper) == whole {
			to = under(id, upper)
		}
		rows, err := u.Snapshot.NewIter(under(id, lower), to)
		if err != nil {
			_ = it.Close()
			return nil, err
		}
		it.parts, it.ids = append(it.parts, rows), append(it.ids, id)
	}
	return it, nil
}

// unionIter walks the parts in the order of their keys. A key is in one part only.
type unionIter struct {
	whole uint32
	parts []state.Iter
	ids   []uint32 // by parts
	at    int      // the part that the iterator stands in, -1 for none
	back  bool
	key   []byte
}

func (u *unionIter) First() bool {
	return u.all(false, state.Iter.First)
}

func (u *unionIter) Last() bool {
	return u.all(true, state.Iter.Last)
}

func (u *unionIter) SeekGE(key []byte) bool {
	return u.all(false, func(it state.Iter) bool { return it.SeekGE(u.in(it, key)) })
}

func (u *unionIter) SeekLT(key []byte) bool {
	return u.all(true, func(it state.Iter) bool { return it.SeekLT(u.in(it, key)) })
}

// in is a key as it stands in a part: before or behind all of it where the key lies
// outside of the whole.
func (u *unionIter) in(it state.Iter, key []byte) []byte {
	id := u.ids[slices.Index(u.parts, it)]
	switch prefix := binary.BigEndian.Uint32(key); {
	case prefix < u.whole:
		return binary.BigEndian.AppendUint32(nil, id)
	case prefix > u.whole:
		return binary.BigEndian.AppendUint32(nil, id+1)
	}
	return under(id, key)
}

// all moves every part, and then stands on the first of their keys.
func (u *unionIter) all(back bool, move func(state.Iter) bool) bool {
	u.back = back
	for _, p := range u.parts {
		move(p)
	}
	return u.choose()
}

func (u *unionIter) choose() bool {
	u.at = -1
	for i, p := range u.parts {
		if !p.Valid() {
			continue
		}
		if u.at >= 0 {
			c := bytes.Compare(p.Key()[4:], u.parts[u.at].Key()[4:])
			if u.back == (c < 0) {
				continue
			}
		}
		u.at = i
	}
	return u.at >= 0
}

func (u *unionIter) Next() bool { return u.move(false) }
func (u *unionIter) Prev() bool { return u.move(true) }

func (u *unionIter) move(back bool) bool {
	if u.at < 0 {
		return false
	}
	if back != u.back {
		// The other parts stand on the far side.
		key := bytes.Clone(u.Key())
		if back {
			return u.SeekLT(key)
		}
		u.all(false, func(it state.Iter) bool { return it.SeekGE(u.in(it, key)) })
		if u.at < 0 || !bytes.Equal(u.Key(), key) {
			return u.at >= 0
		}
	}
	if back {
		u.parts[u.at].Prev()
	} else {
		u.parts[u.at].Next()
	}
	return u.choose()
}

func (u *unionIter) Valid() bool { return u.at >= 0 && u.parts[u.at].Valid() }

func (u *unionIter) Key() []byte {
	u.key = append(binary.BigEndian.AppendUint32(u.key[:0], u.whole), u.parts[u.at].Key()[4:]...)
	return u.key
}

func (u *unionIter) Value() []byte { return u.parts[u.at].Value() }

func (u *unionIter) Error() error {
	for _, p := range u.parts {
		if err := p.Error(); err != nil {
			return err
		}
	}
	return nil
}

func (u *unionIter) Close() error {
	var first error
	for _, p := range u.parts {
		if err := p.Close(); err != nil && first == nil {
			first = err
		}
	}
	return first
}
