package topology

import (
	"reflect"

	"github.com/tailrace/tailrace/record"
	"github.com/tailrace/tailrace/state"
)

// Inspector looks at the output of a node's running form without its types, for
// test drivers and simulators. Everything is boxed: it is not for production.
type Inspector struct {
	// Changes and At are a table's, nil for others; see TableOutput.
	Changes func(op Operator, yield func(record.Change[any, any]) bool) error
	At      func(op Operator, key any) (record.Versions[any], error)
	// Records is a stream's, nil for others; see StreamOutput.
	Records func(op Operator, yield func(record.Record[any, any]) bool) error
	// Equal compares two values of the output as tables do.
	Equal func(a, b any) bool
	// AppendKey encodes a key of the output so that bytes order as keys do; nil where
	// the type has no such encoding.
	AppendKey func(dst []byte, key any) []byte
}

func inspectTable[K comparable, V any]() *Inspector {
	in := inspectValues[K, V]()
	in.Changes = func(op Operator, yield func(record.Change[any, any]) bool) error {
		return op.(TableOutput[K, V]).Changes(func(chunk []record.Change[K, V]) bool {
			for i := range chunk {
				c := &chunk[i]
				if !yield(record.Change[any, any]{Key: c.Key, Old: c.Old, New: c.New, Sides: c.Sides, Time: c.Time}) {
					return false
				}
			}
			return true
		})
	}
	in.At = func(op Operator, key any) (record.Versions[any], error) {
		v, err := op.(TableOutput[K, V]).At(key.(K))
		return record.Versions[any]{Old: v.Old, New: v.New, Sides: v.Sides, Time: v.Time}, err
	}
	return in
}

func inspectStream[K comparable, V any]() *Inspector {
	in := inspectValues[K, V]()
	in.Records = func(op Operator, yield func(record.Record[any, any]) bool) error {
		return op.(StreamOutput[K, V]).Records(func(chunk []record.Record[K, V]) bool {
			for i := range chunk {
				r := &chunk[i]
				if !yield(record.Record[any, any]{Key: r.Key, Value: r.Value, Time: r.Time, Tag: r.Tag}) {
					return false
				}
			}
			return true
		})
	}
	return in
}

func inspectValues[K comparable, V any]() *Inspector {
	in := &Inspector{Equal: func(a, b any) bool { return reflect.DeepEqual(a, b) }}
	if codec, err := state.CodecOf[V](); err == nil {
		in.Equal = func(a, b any) bool {
			x, y := a.(V), b.(V)
			return codec.Equal(&x, &y)
		}
	}
	if codec, err := state.KeyCodecOf[K](); err == nil {
		in.AppendKey = func(dst []byte, key any) []byte { return codec.Append(dst, key.(K)) }
	}
	return in
}
