package state

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"reflect"
	"slices"
	"sync"
	"unsafe"
)

// encodeScratch lends buffers to comparisons that go by encoding.
var encodeScratch = sync.Pool{New: func() any { return new([]byte) }}

// optional makes p the plan of a value that may be absent. As a field it is left
// out or stored as its element; elsewhere it is a length, 0 for absent, and the
// element. value returns nil for an absent one, make makes room for one.
func optional(
	p, elem *plan, value, room func(p unsafe.Pointer) unsafe.Pointer, size func(p unsafe.Pointer) int,
) {
	p.zero = func(at unsafe.Pointer) bool { return value(at) == nil }
	p.equal = func(a, b unsafe.Pointer) bool {
		a, b = value(a), value(b)
		if a == nil || b == nil {
			return a == b
		}
		return elem.equal(a, b)
	}
	p.wire = wireBytes
	p.append = func(dst []byte, at unsafe.Pointer) []byte {
		start := len(dst)
		if at = value(at); at != nil {
			dst = elem.append(dst, at)
		}
		return appendLengthOf(dst, start)
	}
	p.decode = func(src []byte, at unsafe.Pointer) ([]byte, error) {
		body, rest, err := cutBytes(src)
		if err != nil || len(body) == 0 {
			return rest, err
		}
		body, err = elem.decode(body, room(at))
		if err == nil && len(body) > 0 {
			err = errTrailing
		}
		return rest, err
	}
	p.size = size
	p.field = &plan{
		append: func(dst []byte, at unsafe.Pointer) []byte { return elem.append(dst, value(at)) },
		decode: func(src []byte, at unsafe.Pointer) ([]byte, error) { return elem.decode(src, room(at)) },
	}
}

func (b *planner) pointerPlan(t reflect.Type, path string, p *plan) error {
	elem, err := b.plan(t.Elem(), path)
	if err != nil {
		return err
	}
	value := func(p unsafe.Pointer) unsafe.Pointer { return *(*unsafe.Pointer)(p) }
	room := func(p unsafe.Pointer) unsafe.Pointer {
		at := reflect.New(t.Elem()).UnsafePointer()
		*(*unsafe.Pointer)(p) = at
		return at
	}
	optional(p, elem, value, room, func(p unsafe.Pointer) int {
		at := *(*unsafe.Pointer)(p)
		if at == nil {
			return 0
		}
		n := int(t.Elem().Size())
		if elem.size != nil {
			n += elem.size(at)
		}
		return n
	})
	b.later = append([]func(){func() { p.field.wire = elem.wire }}, b.later...)
	return nil
}

func (b *planner) nullPlan(t reflect.Type, path string, p *plan) error {
	v, valid := nullFields(t)
	elem, err := b.plan(v.Type, path)
	if err != nil {
		return err
	}
	value := func(p unsafe.Pointer) unsafe.Pointer {
		if !*(*bool)(unsafe.Add(p, valid)) {
			return nil
		}
		return unsafe.Add(p, v.Offset)
	}
	room := func(p unsafe.Pointer) unsafe.Pointer {
		*(*bool)(unsafe.Add(p, valid)) = true
		return unsafe.Add(p, v.Offset)
	}
	var size func(p unsafe.Pointer) int
	if elem.size != nil {
		size = func(p unsafe.Pointer) int { return elem.size(unsafe.Add(p, v.Offset)) }
	}
	optional(p, elem, value, room, size)
	b.later = append([]func(){func() { p.field.wire = elem.wire }}, b.later...)
	return nil
}

// sliceHeader is how a slice lies in memory.
type sliceHeader struct {
	data unsafe.Pointer
	len  int
	cap  int
}

// slicePlan stores a slice as a length (0: nil), a count, and the elements.
func (b *planner) slicePlan(t reflect.Type, path string, p *plan) error {
	if t.Elem().Kind() == reflect.Uint8 {
		*p = byteSlicePlan
		return nil
	}
	elem, err := b.plan(t.Elem(), path+"[]")
	if err != nil {
		return err
	}
	stride := t.Elem().Size()
	*p = framed(
		func(dst []byte, at unsafe.Pointer) []byte {
			h := (*sliceHeader)(at)
			if h.data == nil {
				return dst
			}
			dst = binary.AppendUvarint(dst, uint64(h.len))
			for i := range h.len {
				dst = elem.append(dst, unsafe.Add(h.data, uintptr(i)*stride))
			}
			return dst
		},
		func(src []byte, at unsafe.Pointer) error {
			if len(src) == 0 {
				return nil
			}
			n, src, err := cutCount(src)
			if err != nil {
				return err
			}
			s := reflect.MakeSlice(t, n, n)
			*(*sliceHeader)(at) = sliceHeader{s.UnsafePointer(), n, n}
			return decodeElements(src, s.UnsafePointer(), n, stride, elem)
		},
		func(x, y unsafe.Pointer) bool {
			a, b := (*sliceHeader)(x), (*sliceHeader)(y)
			if a.len != b.len || (a.data == nil) != (b.data == nil) {
				return false
			}
			for i := range a.len {
				off := uintptr(i) * stride
				if !elem.equal(unsafe.Add(a.data, off), unsafe.Add(b.data, off)) {
					return false
				}
			}
			return true
		},
		func(at unsafe.Pointer) bool { return (*sliceHeader)(at).data == nil },
		func(at unsafe.Pointer) int {
			h := (*sliceHeader)(at)
			n := h.cap * int(stride)
			if elem.size != nil {
				for i := range h.len {
					n += elem.size(unsafe.Add(h.data, uintptr(i)*stride))
				}
			}
			return n
		})
	return nil
}

// cutCount reads the number of elements that follow; each takes a byte at least.
func cutCount(src []byte) (int, []byte, error) {
	n, k := binary.Uvarint(src)
	if k <= 0 || n > uint64(len(src)-k) {
		return 0, nil, errShort
	}
	return int(n), src[k:], nil
}

func decodeElements(src []byte, at unsafe.Pointer, n int, stride uintptr, elem *plan) (err error) {
	for i := range n {
		if src, err = elem.decode(src, unsafe.Add(at, uintptr(i)*stride)); err != nil {
			return err
		}
	}
	if len(src) > 0 {
		return errTrailing
	}
	return nil
}

var byteSlicePlan = framed(
	func(dst []byte, p unsafe.Pointer) []byte {
		b := *(*[]byte)(p)
		if b == nil {
			return dst
		}
		return append(append(dst, 1), b...)
	},
	func(src []byte, p unsafe.Pointer) error {
		if len(src) > 0 {
			*(*[]byte)(p) = append([]byte{}, src[1:]...)
		}
		return nil
	},
	func(x, y unsafe.Pointer) bool {
		a, b := *(*[]byte)(x), *(*[]byte)(y)
		return (a == nil) == (b == nil) && bytes.Equal(a, b)
	},
	func(p unsafe.Pointer) bool { return *(*[]byte)(p) == nil },
	func(p unsafe.Pointer) int { return cap(*(*[]byte)(p)) },
)

func (b *planner) arrayPlan(t reflect.Type, path string, p *plan) error {
	n, stride := t.Len(), t.Elem().Size()
	if t.Elem().Kind() == reflect.Uint8 {
		*p = byteArrayPlan(t)
		return nil
	}
	elem, err := b.plan(t.Elem(), path+"[]")
	if err != nil {
		return err
	}
	all := func(fn func(off uintptr) bool) bool {
		for i := range n {
			if !fn(uintptr(i) * stride) {
				return false
			}
		}
		return true
	}
	var size func(p unsafe.Pointer) int
	if elem.size != nil {
		size = func(at unsafe.Pointer) (sum int) {
			all(func(off uintptr) bool { sum += elem.size(unsafe.Add(at, off)); return true })
			return sum
		}
	}
	*p = framed(
		func(dst []byte, at unsafe.Pointer) []byte {
			for i := range n {
				dst = elem.append(dst, unsafe.Add(at, uintptr(i)*stride))
			}
			return dst
		},
		func(src []byte, at unsafe.Pointer) error { return decodeElements(src, at, n, stride, elem) },
		func(x, y unsafe.Pointer) bool {
			return all(func(off uintptr) bool { return elem.equal(unsafe.Add(x, off), unsafe.Add(y, off)) })
		},
		func(at unsafe.Pointer) bool {
			return all(func(off uintptr) bool { return elem.zero(unsafe.Add(at, off)) })
		},
		size)
	return nil
}

func byteArrayPlan(t reflect.Type) plan {
	n := t.Len()
	zeros := make([]byte, n)
	raw := func(p unsafe.Pointer) []byte { return unsafe.Slice((*byte)(p), n) }
	return framed(
		func(dst []byte, p unsafe.Pointer) []byte { return append(dst, raw(p)...) },
		func(src []byte, p unsafe.Pointer) error {
			if len(src) != n {
				return fmt.Errorf("%w: %d bytes stored for %s", ErrCorrupt, len(src), t)
			}
			copy(raw(p), src)
			return nil
		},
		func(a, b unsafe.Pointer) bool { return bytes.Equal(raw(a), raw(b)) },
		func(p unsafe.Pointer) bool { return bytes.Equal(raw(p), zeros) },
		nil)
}

// mapPlan stores a map as a length (0: nil), a count, and the entries in order of
// their encoded keys. Maps are the one place where values are reached by
// reflection on each call; a sorted slice is cheaper in a hot value.
func (b *planner) mapPlan(t reflect.Type, path string, p *plan) error {
	key, err := b.plan(t.Key(), path+"[key]")
	if err != nil {
		return err
	}
	elem, err := b.plan(t.Elem(), path+"[]")
	if err != nil {
		return err
	}
	m := &mapCodec{t, key, elem}
	*p = framed(m.append, m.decode, m.equal,
		func(p unsafe.Pointer) bool { return *(*unsafe.Pointer)(p) == nil }, m.size)
	return nil
}

type mapCodec struct {
	t         reflect.Type
	key, elem *plan
}

func (m *mapCodec) at(p unsafe.Pointer) reflect.Value { return reflect.NewAt(m.t, p).Elem() }

// each visits the entries in any order, as copies.
func (m *mapCodec) each(p unsafe.Pointer, fn func(key, elem unsafe.Pointer)) {
	k, v := reflect.New(m.t.Key()), reflect.New(m.t.Elem())
	for it := m.at(p).MapRange(); it.Next(); {
		k.Elem().SetIterKey(it)
		v.Elem().SetIterValue(it)
		fn(k.UnsafePointer(), v.UnsafePointer())
	}
}

func (m *mapCodec) append(dst []byte, p unsafe.Pointer) []byte {
	if *(*unsafe.Pointer)(p) == nil {
		return dst
	}
	var entries [][]byte // key and value, sorted as a whole: keys are self-delimiting
	m.each(p, func(k, v unsafe.Pointer) {
		entries = append(entries, m.elem.append(m.key.append(nil, k), v))
	})
	slices.SortFunc(entries, bytes.Compare)
	dst = binary.AppendUvarint(dst, uint64(len(entries)))
	for _, e := range entries {
		dst = append(dst, e...)
	}
	return dst
}

func (m *mapCodec) decode(src []byte, p unsafe.Pointer) error {
	if len(src) == 0 {
		return nil
	}
	n, src, err := cutCount(src)
	if err != nil {
		return err
	}
	out := reflect.MakeMapWithSize(m.t, n)
	for range n {
		k, v := reflect.New(m.t.Key()), reflect.New(m.t.Elem())
		if src, err = m.key.decode(src, k.UnsafePointer()); err != nil {
			return err
		}
		if src, err = m.elem.decode(src, v.UnsafePointer()); err != nil {
			return err
		}
		out.SetMapIndex(k.Elem(), v.Elem())
	}
	if len(src) > 0 {
		return errTrailing
	}
	m.at(p).Set(out)
	return nil
}

// equal compares encodings, which also settles keys that == cannot match, NaN and
// times among them.
func (m *mapCodec) equal(a, b unsafe.Pointer) bool {
	if (*(*unsafe.Pointer)(a) == nil) != (*(*unsafe.Pointer)(b) == nil) || m.at(a).Len() != m.at(b).Len() {
		return false
	}
	return bytes.Equal(m.append(nil, a), m.append(nil, b))
}

func (m *mapCodec) size(p unsafe.Pointer) int {
	sum := 0
	m.each(p, func(k, v unsafe.Pointer) {
		sum += int(m.t.Key().Size()+m.t.Elem().Size()) + 8
		if m.key.size != nil {
			sum += m.key.size(k)
		}
		if m.elem.size != nil {
			sum += m.elem.size(v)
		}
	})
	return sum
}
