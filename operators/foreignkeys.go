package operators

import (
	"github.com/tailrace/tailrace/record"
	"github.com/tailrace/tailrace/state"
	"github.com/tailrace/tailrace/topology"
)

// foreignKeys is an index from foreign key to left key.
type foreignKeys[K, F comparable] struct {
	keyCodec state.KeyCodec[K]
	fkCodec  state.KeyCodec[F]
	index    *state.Ordered // fk bytes, left key bytes -> nothing
	// references counts the left keys under each foreign key, where somebody has to
	// know which are referred to; else nil.
	references *state.Table[F, int64]

	buf      []byte
	prefix   []byte
	upper    []byte // the end of the prefix
	from     []byte
	more     bool // there may be children from "from" on
	children []K
}

// newForeignKeys makes an index in the given store of the node that is being made.
func newForeignKeys[K, F comparable](
	rt *topology.Runtime, store string, keyCodec state.KeyCodec[K], fkCodec state.KeyCodec[F],
) *foreignKeys[K, F] {
	x := &foreignKeys[K, F]{
		keyCodec: keyCodec, fkCodec: fkCodec, index: state.NewOrdered(rt.Env, rt.StoreIDFor(store)),
	}
	rt.Register(x.index)
	return x
}

// reindex takes a change of a left row, whose foreign key is fk.
func reindex[K, F comparable, L any](
	x *foreignKeys[K, F], c *record.Change[K, L], fk func(*L) (F, bool),
) error {
	var oldFK, newFK F
	var hadFK, hasFK bool
	if c.HasOld() {
		oldFK, hadFK = fk(&c.Old)
	}
	if c.HasNew() {
		newFK, hasFK = fk(&c.New)
	}
	if hadFK == hasFK && oldFK == newFK {
		return nil
	}
	if hadFK {
		if err := x.index.Delete(x.indexKey(oldFK, c.Key)); err != nil {
			return err
		}
		if err := x.count(oldFK, -1, c.Time); err != nil {
			return err
		}
	}
	if hasFK {
		if err := x.index.Set(x.indexKey(newFK, c.Key), nil); err != nil {
			return err
		}
		return x.count(newFK, 1, c.Time)
	}
	return nil
}

func (x *foreignKeys[K, F]) indexKey(f F, k K) []byte {
	x.buf = x.keyCodec.Append(x.fkCodec.Append(x.buf[:0], f), k)
	return x.buf
}

// count adds to the number of left keys under a foreign key. Its time is the largest of
// all that it was made of, as a group's: so the order in which keys are taken, which is
// another one where the topology is divided, makes no difference.
func (x *foreignKeys[K, F]) count(f F, by, time int64) error {
	if x.references == nil {
		return nil
	}
	old, err := x.references.At(f)
	if err != nil {
		return err
	}
	if old.Sides != 0 {
		by += old.New
		time = max(time, old.Time)
	}
	if by == 0 {
		return x.references.Delete(f, time)
	}
	return x.references.Put(f, by, time)
}

// find begins to collect the left keys under a foreign key.
func (x *foreignKeys[K, F]) find(f F) {
	x.prefix = x.fkCodec.Append(x.prefix[:0], f)
	x.from, x.more = append(x.from[:0], x.prefix...), true
	x.upper = state.AppendPrefixEnd(x.upper[:0], x.prefix)
}

// nextChildren collects up to chunkSize left keys of those that find asked for;
// found is false at the end. Collecting them in pieces bounds memory whatever their
// number.
func (x *foreignKeys[K, F]) nextChildren() (found bool, err error) {
	x.children = x.children[:0]
	if !x.more {
		return false, nil
	}
	var failed error
	x.more = false
	err = x.index.ScanRange(x.from, x.upper, false, func(key, _ []byte) bool {
		if len(x.children) == chunkSize {
			x.from, x.more = append(x.from[:0], key...), true
			return false
		}
		k, _, err := x.keyCodec.Decode(key[len(x.prefix):])
		if err != nil {
			failed = err
			return false
		}
		x.children = append(x.children, k)
		return true
	})
	return len(x.children) > 0, firstError(err, failed)
}
