package state

import (
	"bytes"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
)

// NewMemory returns a DB that lives in memory, for tests and topologytest. It keeps
// every rule of the contract that a DB on disk keeps, the order of batches among
// them.
func NewMemory() DB { return &memory{} }

// memory is a persistent treap: a commit copies the paths that it changes, so a
// snapshot is a pointer to a root.
type memory struct {
	mu   sync.Mutex // serializes commits
	root atomic.Pointer[treapNode]
}

// treapNode never changes once it can be reached from a root.
type treapNode struct {
	key, value  []byte
	priority    uint64
	left, right *treapNode
}

// treapPriority is a hash of the key, so the shape depends on nothing else.
func treapPriority(key []byte) uint64 {
	h := uint64(14695981039346656037)
	for _, b := range key {
		h = (h ^ uint64(b)) * 1099511628211
	}
	h ^= h >> 32
	h *= 0x9e3779b97f4a7c15
	return h ^ h>>29
}

func (n *treapNode) with(left, right *treapNode) *treapNode {
	return &treapNode{n.key, n.value, n.priority, left, right}
}

// split divides a tree into keys before key and keys at or after it.
func (n *treapNode) split(key []byte) (l, r *treapNode) {
	if n == nil {
		return nil, nil
	}
	if bytes.Compare(n.key, key) < 0 {
		l, r = n.right.split(key)
		return n.with(n.left, l), r
	}
	l, r = n.left.split(key)
	return l, n.with(r, n.right)
}

// merge joins two trees; all keys of l are before those of r.
func merge(l, r *treapNode) *treapNode {
	switch {
	case l == nil:
		return r
	case r == nil:
		return l
	case l.priority >= r.priority:
		return l.with(l.left, merge(l.right, r))
	}
	return r.with(merge(l, r.left), r.right)
}

func (n *treapNode) set(key, value []byte, priority uint64) *treapNode {
	if n == nil {
		return &treapNode{key: key, value: value, priority: priority}
	}
	c := bytes.Compare(key, n.key)
	switch {
	case c == 0:
		return &treapNode{n.key, value, n.priority, n.left, n.right}
	case priority > n.priority:
		l, r := n.split(key)
		return &treapNode{key, value, priority, l, r}
	case c < 0:
		return n.with(n.left.set(key, value, priority), n.right)
	}
	return n.with(n.left, n.right.set(key, value, priority))
}

func (n *treapNode) remove(key []byte) *treapNode {
	if n == nil {
		return nil
	}
	switch c := bytes.Compare(key, n.key); {
	case c == 0:
		return merge(n.left, n.right)
	case c < 0:
		if l := n.left.remove(key); l != n.left {
			return n.with(l, n.right)
		}
	default:
		if r := n.right.remove(key); r != n.right {
			return n.with(n.left, r)
		}
	}
	return n
}

func (n *treapNode) get(key []byte) *treapNode {
	for n != nil {
		switch c := bytes.Compare(key, n.key); {
		case c == 0:
			return n
		case c < 0:
			n = n.left
		default:
			n = n.right
		}
	}
	return nil
}

// ceiling is the first node at or (strict) after key.
func (n *treapNode) ceiling(key []byte, strict bool) (best *treapNode) {
	for n != nil {
		if c := bytes.Compare(n.key, key); c > 0 || c == 0 && !strict {
			best, n = n, n.left
		} else {
			n = n.right
		}
	}
	return best
}

// floor is the last node before key; nil stands for the end.
func (n *treapNode) floor(key []byte) (best *treapNode) {
	for n != nil {
		if key == nil || bytes.Compare(n.key, key) < 0 {
			best, n = n, n.right
		} else {
			n = n.left
		}
	}
	return best
}

func (m *memory) Get(dst, key []byte) ([]byte, bool, error) {
	return memorySnapshot{m.root.Load()}.Get(dst, key)
}

func (m *memory) NewIter(lower, upper []byte) (Iter, error) {
	return memorySnapshot{m.root.Load()}.NewIter(lower, upper)
}

func (m *memory) NewSnapshot() Snapshot { return memorySnapshot{m.root.Load()} }

func (m *memory) NewBatch() Batch { return &memoryBatch{} }

func (m *memory) Close() error { return nil }

func (m *memory) Commit(b Batch, _ bool) error {
	mb, ok := b.(*memoryBatch)
	if !ok || mb.committed {
		return errForeignBatch
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	mb.committed = true
	root := m.root.Load()
	for _, w := range mb.writes {
		if w.deleted {
			root = root.remove(w.key)
		} else {
			root = root.set(w.key, w.value, treapPriority(w.key))
		}
	}
	m.root.Store(root)
	return nil
}

func (m *memory) Apply(b Batch) (durable func() error, err error) {
	return func() error { return nil }, m.Commit(b, true)
}

func (m *memory) DeleteRange(lower, upper []byte) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	left, rest := m.root.Load().split(lower)
	var right *treapNode
	if upper != nil {
		_, right = rest.split(upper)
	}
	m.root.Store(merge(left, right))
	return nil
}

type memorySnapshot struct{ root *treapNode }

func (s memorySnapshot) Get(dst, key []byte) ([]byte, bool, error) {
	n := s.root.get(key)
	if n == nil {
		return dst, false, nil
	}
	return append(dst, n.value...), true, nil
}

func (s memorySnapshot) NewIter(lower, upper []byte) (Iter, error) {
	return &memoryIter{root: s.root, lower: bytes.Clone(lower), upper: bytes.Clone(upper)}, nil
}

func (s memorySnapshot) Close() error { return nil }

type memoryIter struct {
	root         *treapNode
	lower, upper []byte
	at           *treapNode
}

func (it *memoryIter) stand(n *treapNode) bool {
	if n != nil &&
		(bytes.Compare(n.key, it.lower) < 0 || it.upper != nil && bytes.Compare(n.key, it.upper) >= 0) {
		n = nil
	}
	it.at = n
	return n != nil
}

func (it *memoryIter) First() bool { return it.stand(it.root.ceiling(it.lower, false)) }
func (it *memoryIter) Last() bool  { return it.stand(it.root.floor(it.upper)) }

func (it *memoryIter) SeekGE(key []byte) bool {
	if bytes.Compare(key, it.lower) < 0 {
		key = it.lower
	}
	return it.stand(it.root.ceiling(key, false))
}

func (it *memoryIter) SeekLT(key []byte) bool {
	if it.upper != nil && bytes.Compare(key, it.upper) > 0 {
		key = it.upper
	}
	if len(key) == 0 {
		return it.stand(nil)
	}
	return it.stand(it.root.floor(key))
}

func (it *memoryIter) Next() bool {
	return it.at != nil && it.stand(it.root.ceiling(it.at.key, true))
}

func (it *memoryIter) Prev() bool {
	if it.at == nil || len(it.at.key) == 0 {
		return it.stand(nil)
	}
	return it.stand(it.root.floor(it.at.key))
}

func (it *memoryIter) Valid() bool   { return it.at != nil }
func (it *memoryIter) Key() []byte   { return it.at.key }
func (it *memoryIter) Value() []byte { return it.at.value }
func (it *memoryIter) Error() error  { return nil }
func (it *memoryIter) Close() error  { return nil }

var errForeignBatch = errors.New("state: batch is not of this database or was committed before")

// batchOrder holds batches to ascending keys, each at most once.
type batchOrder struct{ last []byte }

func (o *batchOrder) check(key []byte) error {
	if o.last != nil && bytes.Compare(key, o.last) <= 0 {
		return fmt.Errorf("state: batch got key %x after %x: keys must ascend", key, o.last)
	}
	o.last = append(append(o.last[:0], key...), 0)[:len(key)]
	return nil
}

type memoryWrite struct {
	key, value []byte
	deleted    bool
}

type memoryBatch struct {
	order     batchOrder
	writes    []memoryWrite
	bytes     int
	committed bool
}

func (b *memoryBatch) Set(key, value []byte) error {
	if err := b.order.check(key); err != nil {
		return err
	}
	buf := append(append(make([]byte, 0, len(key)+len(value)), key...), value...)
	b.writes = append(b.writes, memoryWrite{key: buf[:len(key):len(key)], value: buf[len(key):]})
	b.bytes += len(buf)
	return nil
}

func (b *memoryBatch) Delete(key []byte) error {
	if err := b.order.check(key); err != nil {
		return err
	}
	b.writes = append(b.writes, memoryWrite{key: bytes.Clone(key), deleted: true})
	b.bytes += len(key)
	return nil
}

func (b *memoryBatch) Len() int     { return b.bytes }
func (b *memoryBatch) Close() error { b.writes = nil; return nil }
