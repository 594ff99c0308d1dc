package serde

import (
	"reflect"
	"time"

	"github.com/tailrace/tailrace/record"
)

// OutWindowedPlanOf makes the plan of a key in a window (windows.Windowed) that is written
// into columns: the key's, one called key where it is a single value, and then window_start
// and window_end, which are timestamptz. T is a struct of the key and of a struct of start
// and end, int64s of Unix microseconds.
func OutWindowedPlanOf[T any]() (*Plan[T], error) {
	t := reflect.TypeFor[T]()
	b := builder{mode: forColumns}
	key, window := t.Field(0), t.Field(1)
	var fields []field
	path := "Windowed." + key.Name
	if isSingle(key.Type) {
		if c := b.codec(key.Type, path); c != nil {
			fields = append(fields, field{column: "key", json: "key", path: path, codec: c, sqlType: c.sqlType})
		}
	} else {
		b.walk(key.Type, path, key.Offset, &fields)
	}
	// Moments that no timestamptz holds are infinite.
	instant := leaf(codec{sqlType: "timestamptz"}, func(*int64, []byte) error { return ErrSyntax },
		func(dst []byte, v *int64) []byte {
			dst, _ = record.InstantOf(time.UnixMicro(*v)).AppendText(dst)
			return dst
		},
		func(dst []byte, v *int64, _ *JSONOptions) []byte {
			return record.InstantOf(time.UnixMicro(*v)).AppendJSON(dst)
		})
	for i, name := range []string{"window_start", "window_end"} {
		f := window.Type.Field(i)
		fields = append(fields, field{
			column: name, json: name, path: "Windowed.Window." + f.Name, offset: window.Offset + f.Offset,
			codec: instant, sqlType: instant.sqlType,
		})
	}
	b.differ(fields)
	if err := b.err(t); err != nil {
		return nil, err
	}
	return &Plan[T]{typ: t, fields: fields}, nil
}
