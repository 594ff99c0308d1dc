package serde

import (
	"encoding/json"
	"errors"
	"reflect"
	"strconv"
	"unsafe"

	"github.com/tailrace/tailrace/record"
)

var (
	errElementNull = errors.New("serde: an element is NULL")
	errShape       = errors.New("serde: an array of another shape")
)

// sliceCodec is the codec of []T over the codec of T: a one-dimensional array that
// begins at 1, or a JSON array.
func sliceCodec(t reflect.Type, elem *codec) *codec {
	size := t.Elem().Size()
	at := func(p unsafe.Pointer, i int) unsafe.Pointer {
		// All slices have the same header, so one of bytes gives the address.
		return unsafe.Add(*(*unsafe.Pointer)(p), uintptr(i)*size)
	}
	length := func(p unsafe.Pointer) int { return len(*(*[]struct{})(p)) }
	c := &codec{goType: t}
	c.alloc = func() unsafe.Pointer { return reflect.New(t).UnsafePointer() }
	c.zero = func(p unsafe.Pointer) { reflect.NewAt(t, p).Elem().SetZero() }
	if elem.parse != nil {
		arrayParsers(c, elem, func(p unsafe.Pointer, r *arrayReader, parse parseFunc) error {
			if len(r.dims) > 1 || len(r.dims) == 1 && r.dims[0].Lower != 1 {
				return errShape
			}
			s := reflect.MakeSlice(t, r.count, r.count)
			if err := r.elements(s.UnsafePointer(), size, elem, parse); err != nil {
				return err
			}
			reflect.NewAt(t, p).Elem().Set(s)
			return nil
		})
	}
	c.json = func(dst []byte, p unsafe.Pointer, o *JSONOptions) []byte {
		dst = append(dst, '[')
		for i := range length(p) {
			if i > 0 {
				dst = append(dst, ',')
			}
			dst = elem.json(dst, at(p, i), o)
		}
		return append(dst, ']')
	}
	c.parseJSON = func(p unsafe.Pointer, src []byte) error {
		var items []json.RawMessage
		if json.Unmarshal(src, &items) != nil {
			return ErrSyntax
		}
		s := reflect.MakeSlice(t, len(items), len(items))
		for i, item := range items {
			if err := decodeJSON(elem, s.Index(i).Addr().UnsafePointer(), item, "["+strconv.Itoa(i)+"]"); err != nil {
				return err
			}
		}
		reflect.NewAt(t, p).Elem().Set(s)
		return nil
	}
	c.sqlType = "jsonb"
	c.text = func(dst []byte, p unsafe.Pointer) []byte { return c.json(dst, p, plainOptions) }
	return c
}

// asArray makes a slice's codec write an array instead of jsonb.
func asArray(c, elem *codec) *codec {
	a := *c
	size := elem.goType.Size()
	a.sqlType = elem.sqlType + "[]"
	a.text = func(dst []byte, p unsafe.Pointer) []byte {
		n := len(*(*[]struct{})(p))
		dims := []record.Dim{{Len: int32(n), Lower: 1}}
		return appendArray(dst, *(*unsafe.Pointer)(p), size, elem, dims, n)
	}
	return &a
}

// arrayCodec is the codec of record.Array[T].
func arrayCodec(t reflect.Type, elem *codec) *codec {
	sliceType := t.Field(0).Type
	dimsOff := t.Field(1).Offset
	size := sliceType.Elem().Size()
	length := func(p unsafe.Pointer) int { return len(*(*[]struct{})(p)) }
	dimsOf := func(p unsafe.Pointer) *[]record.Dim { return (*[]record.Dim)(unsafe.Add(p, dimsOff)) }
	c := &codec{goType: t, sqlType: elem.sqlType + "[]"}
	c.alloc = func() unsafe.Pointer { return reflect.New(t).UnsafePointer() }
	c.zero = func(p unsafe.Pointer) { reflect.NewAt(t, p).Elem().SetZero() }
	if elem.parse != nil {
		arrayParsers(c, elem, func(p unsafe.Pointer, r *arrayReader, parse parseFunc) error {
			s := reflect.MakeSlice(sliceType, r.count, r.count)
			if err := r.elements(s.UnsafePointer(), size, elem, parse); err != nil {
				return err
			}
			reflect.NewAt(sliceType, p).Elem().Set(s)
			*dimsOf(p) = append([]record.Dim(nil), r.dims...)
			return nil
		})
	}
	c.text = func(dst []byte, p unsafe.Pointer) []byte {
		dims := *dimsOf(p)
		checkDims(t, dims, length(p))
		return appendArray(dst, *(*unsafe.Pointer)(p), size, elem, dims, length(p))
	}
	c.json = func(dst []byte, p unsafe.Pointer, o *JSONOptions) []byte {
		dims := *dimsOf(p)
		checkDims(t, dims, length(p))
		w := arrayWriter{elem: elem, size: size, base: *(*unsafe.Pointer)(p), json: o}
		return w.nested(dst, dims, '[', ']')
	}
	return c
}

func checkDims(t reflect.Type, dims []record.Dim, n int) {
	product := 1
	for _, d := range dims {
		product *= int(d.Len)
	}
	if len(dims) == 0 && n != 0 || len(dims) > 0 && product != n {
		panic(&EncodeError{GoType: t.String(), Err: errShape})
	}
}

// arrayParsers sets what reads an array column: fits and parse for the elements'
// type.
func arrayParsers(c, elem *codec, set func(unsafe.Pointer, *arrayReader, parseFunc) error) {
	c.fits = func(t columnType) bool {
		if t.name == "" {
			return true
		}
		inner := t
		inner.array = false
		return t.array && elem.fits(inner)
	}
	c.parseFor = func(t columnType) parseFunc {
		t.array = false
		parse := elem.parse
		if elem.parseFor != nil {
			parse = elem.parseFor(t)
		}
		delim := byte(',')
		if t.name == "box" {
			delim = ';'
		}
		return func(p unsafe.Pointer, src []byte) error {
			r := arrayReader{src: src, delim: delim}
			if err := r.shape(); err != nil {
				return err
			}
			return set(p, &r, parse)
		}
	}
	c.parse = c.parseFor(columnType{})
}
