package operators

import (
	"fmt"
	"iter"
	"slices"

	"github.com/tailrace/tailrace/state"
	"github.com/tailrace/tailrace/topology"
)

// Stores hands a processor its stores. A failure of a store, such as a full disk, ends
// the epoch whatever the processor does, so that methods of stores have no error.
type Stores struct {
	rt    *topology.Runtime // nil at Build
	specs []topology.StoreSpec
	errs  []error
	err   error
	ends  []func()
}

func (s *Stores) fail(err error) {
	if s.err == nil {
		s.err = err
	}
}

func (s *Stores) endStep() {
	s.err = nil
	for _, end := range s.ends {
		end()
	}
}

// add takes note of a store; open reports whether it is to be opened now.
func (s *Stores) add(name, schema string, errs ...error) (open bool) {
	for _, err := range errs {
		if err != nil {
			s.errs = append(s.errs, fmt.Errorf("store %q: %w", name, err))
		}
	}
	switch {
	case name == "" || name == "timers":
		s.errs = append(s.errs, fmt.Errorf("a store is named %q; give it another name", name))
	case slices.ContainsFunc(s.specs, func(o topology.StoreSpec) bool { return o.Name == name }):
		s.errs = append(s.errs, fmt.Errorf("two stores are named %q; give one another name", name))
	}
	s.specs = append(s.specs, topology.StoreSpec{Name: name, Schema: schema})
	return s.rt != nil
}

// KeyValue is a store of values under keys. Make it with KeyValueStore.
type KeyValue[K comparable, V any] struct {
	stores *Stores
	table  *state.Table[K, V]
}

// KeyValueStore gives a processor a store of values under keys, with a name of its own
// in the processor. Hot values stay decoded in memory.
func KeyValueStore[K comparable, V any](s *Stores, name string) *KeyValue[K, V] {
	keyCodec, errK := state.KeyCodecOf[K]()
	codec, errV := state.CodecOf[V]()
	kv := &KeyValue[K, V]{stores: s}
	if s.add(name, "key-value "+codec.Fingerprint, errK, errV) {
		kv.table = state.NewTable(s.rt.Env, s.rt.StoreIDFor(name), keyCodec, codec)
		s.rt.Register(kv.table)
		s.ends = append(s.ends, kv.table.EndStep)
	}
	return kv
}

// Get returns the value of a key; ok is false, and the value zero, if there is none.
// What the value points to (slices, maps, pointers) must be replaced, not changed.
func (s *KeyValue[K, V]) Get(key K) (v V, ok bool) {
	p, err := s.table.Get(key)
	s.stores.fail(err)
	if p == nil {
		return v, false
	}
	return *p, true
}

// Put sets the value of a key.
func (s *KeyValue[K, V]) Put(key K, v V) { s.stores.fail(s.table.Put(key, v, 0)) }

// Delete removes a key; of one that is absent it is no change.
func (s *KeyValue[K, V]) Delete(key K) { s.stores.fail(s.table.Delete(key, 0)) }

// Ordered is a store of values under keys that can be walked in order. Make it with
// OrderedStore.
type Ordered[K comparable, V any] struct {
	stores   *Stores
	store    *state.Ordered
	keyCodec state.KeyCodec[K]
	codec    state.Codec[V]
	work     V // a local value that is handed to a codec would be an allocation
	key, val []byte
}

// OrderedStore gives a processor a store whose keys have an order: that of a struct's
// fields, one after the other. It has a name of its own in the processor.
func OrderedStore[K comparable, V any](s *Stores, name string) *Ordered[K, V] {
	keyCodec, errK := state.KeyCodecOf[K]()
	codec, errV := state.CodecOf[V]()
	o := &Ordered[K, V]{stores: s, keyCodec: keyCodec, codec: codec}
	if s.add(name, "ordered "+codec.Fingerprint, errK, errV) {
		o.store = state.NewOrdered(s.rt.Env, s.rt.StoreIDFor(name))
		s.rt.Register(o.store)
	}
	return o
}

// Get returns the value of a key; ok is false, and the value zero, if there is none.
func (o *Ordered[K, V]) Get(key K) (v V, ok bool) {
	o.key = o.keyCodec.Append(o.key[:0], key)
	o.work = v
	var err error
	if o.val, ok, err = o.store.Get(o.val[:0], o.key); err == nil && ok {
		err = o.codec.Decode(o.val, &o.work)
	}
	o.stores.fail(err)
	return o.work, ok
}

// Put sets the value of a key.
func (o *Ordered[K, V]) Put(key K, v V) {
	o.key = o.keyCodec.Append(o.key[:0], key)
	o.work = v
	o.val = o.codec.Append(o.val[:0], &o.work)
	o.stores.fail(o.store.Set(o.key, o.val))
}

// Delete removes a key; of one that is absent it is no change.
func (o *Ordered[K, V]) Delete(key K) {
	o.key = o.keyCodec.Append(o.key[:0], key)
	o.stores.fail(o.store.Delete(o.key))
}

// Range walks over from <= key < to in ascending order. The store may be changed
// meanwhile; whether the walk sees a change ahead of it is not said.
func (o *Ordered[K, V]) Range(from, to K) iter.Seq2[K, V] {
	return o.walk(o.keyCodec.Append(nil, from), o.keyCodec.Append(nil, to))
}

// Prefix walks over the keys that have the same first n fields as key, in ascending
// order, as Range does. K must be a struct of at least n fields.
func (o *Ordered[K, V]) Prefix(key K, n int) iter.Seq2[K, V] {
	if o.keyCodec.AppendFields == nil {
		o.stores.fail(fmt.Errorf("operators: Prefix on a store with keys of type %T; they must be structs", key))
		return func(func(K, V) bool) {}
	}
	prefix := o.keyCodec.AppendFields(nil, key, n)
	return o.walk(prefix, state.PrefixEnd(prefix))
}

// All walks over the whole store in ascending order, as Range does.
func (o *Ordered[K, V]) All() iter.Seq2[K, V] { return o.walk(nil, nil) }

// walkChunk is how many entries a walk reads ahead.
const walkChunk = 64

type walked[K comparable, V any] struct {
	key K
	val V
}

// walk reads a few entries at a time, so that the store may be changed between them.
func (o *Ordered[K, V]) walk(from, to []byte) iter.Seq2[K, V] {
	return func(yield func(K, V) bool) {
		var chunk []walked[K, V]
		at := from // a second walk begins anew
		for {
			chunk = chunk[:0]
			var failed error
			err := o.store.ScanRange(at, to, false, func(key, val []byte) bool {
				var w walked[K, V]
				if w.key, _, failed = o.keyCodec.Decode(key); failed == nil {
					failed = o.codec.Decode(val, &w.val)
				}
				if failed != nil {
					return false
				}
				chunk = append(chunk, w)
				return len(chunk) < walkChunk
			})
			if err = firstError(err, failed); err != nil {
				o.stores.fail(err)
				return
			}
			for i := range chunk {
				if !yield(chunk[i].key, chunk[i].val) {
					return
				}
			}
			if len(chunk) < walkChunk {
				return
			}
			// The next key there can be.
			at = append(o.keyCodec.Append(nil, chunk[len(chunk)-1].key), 0)
		}
	}
}
