package serde

import (
	"reflect"
	"strings"
	"unsafe"

	"github.com/tailrace/tailrace/record"
)

// genericOf reports whether t is the named generic type of package record.
func genericOf(t reflect.Type, name string) bool {
	return t.PkgPath() == reflect.TypeFor[record.Dim]().PkgPath() && strings.HasPrefix(t.Name(), name+"[")
}

// rangeElements names the types of the bounds of PostgreSQL's own range types.
var rangeElements = map[string]string{
	"int4range": "integer", "int8range": "bigint", "numrange": "numeric", "daterange": "date",
	"tsrange": "timestamp without time zone", "tstzrange": "timestamp with time zone",
}

// rangeCodec is the codec of record.Range[T] over the codec of T.
func rangeCodec(t reflect.Type, elem *codec) *codec {
	l := rangeLayout{elem: elem, upper: t.Field(1).Offset, bounds: t.Field(2).Offset}
	c := &codec{goType: t, sqlType: elem.rangeType}
	c.alloc = func() unsafe.Pointer { return reflect.New(t).UnsafePointer() }
	c.zero = func(p unsafe.Pointer) { reflect.NewAt(t, p).Elem().SetZero() }
	c.fits = func(col columnType) bool { return !col.array && l.fits(col, col.name) }
	if elem.parse != nil {
		c.parse = func(p unsafe.Pointer, src []byte) error {
			rest, err := l.parse(p, src)
			if err == nil && len(rest) > 0 {
				err = ErrSyntax
			}
			return err
		}
	}
	c.text = l.text
	c.json = func(dst []byte, p unsafe.Pointer, _ *JSONOptions) []byte {
		return AppendJSONString(dst, string(l.text(nil, p)))
	}
	return c
}

// multirangeCodec is the codec of record.Multirange[T].
func multirangeCodec(t reflect.Type, elem *codec) *codec {
	rangeType := t.Elem()
	size := rangeType.Size()
	l := rangeLayout{elem: elem, upper: rangeType.Field(1).Offset, bounds: rangeType.Field(2).Offset}
	c := &codec{goType: t, sqlType: strings.Replace(elem.rangeType, "range", "multirange", 1)}
	c.alloc = func() unsafe.Pointer { return reflect.New(t).UnsafePointer() }
	c.zero = func(p unsafe.Pointer) { reflect.NewAt(t, p).Elem().SetZero() }
	c.fits = func(col columnType) bool {
		return !col.array && l.fits(col, strings.Replace(col.name, "multirange", "range", 1))
	}
	if elem.parse != nil {
		c.parse = func(p unsafe.Pointer, src []byte) error {
			s, err := l.parseMulti(t, src)
			if err == nil {
				reflect.NewAt(t, p).Elem().Set(s)
			}
			return err
		}
	}
	c.text = func(dst []byte, p unsafe.Pointer) []byte {
		dst = append(dst, '{')
		base := *(*unsafe.Pointer)(p)
		for i := range len(*(*[]struct{})(p)) {
			if i > 0 {
				dst = append(dst, ',')
			}
			dst = l.text(dst, unsafe.Add(base, uintptr(i)*size))
		}
		return append(dst, '}')
	}
	c.json = func(dst []byte, p unsafe.Pointer, _ *JSONOptions) []byte {
		return AppendJSONString(dst, string(c.text(nil, p)))
	}
	return c
}

// rangeLayout is where the parts of a record.Range lie.
type rangeLayout struct {
	elem          *codec
	upper, bounds uintptr
}

// fits checks the bounds' type; a range type of the user's own is not refused, its
// bounds are checked when they are read.
func (l rangeLayout) fits(col columnType, rangeName string) bool {
	if col.own || col.name == "" {
		return true
	}
	name, ok := rangeElements[rangeName]
	return ok && l.elem.fits(columnType{name: name})
}

func (l rangeLayout) parts(p unsafe.Pointer) (lower, upper unsafe.Pointer, b *record.Bounds) {
	return p, unsafe.Add(p, l.upper), (*record.Bounds)(unsafe.Add(p, l.bounds))
}

// parse reads one range and returns the rest.
func (l rangeLayout) parse(p unsafe.Pointer, src []byte) ([]byte, error) {
	lower, upper, bounds := l.parts(p)
	l.elem.zero(lower)
	l.elem.zero(upper)
	if rest, ok := strings.CutPrefix(string(src[:min(len(src), 5)]), "empty"); ok && rest == "" {
		*bounds = record.Empty
		return src[5:], nil
	}
	var b record.Bounds
	if len(src) == 0 || src[0] != '[' && src[0] != '(' {
		return nil, ErrSyntax
	}
	if src[0] == '[' {
		b |= record.LowerIncluded
	}
	open, src, err := l.bound(lower, src[1:])
	if err != nil {
		return nil, err
	}
	if open {
		b |= record.LowerOpen
	}
	if len(src) == 0 || src[0] != ',' {
		return nil, ErrSyntax
	}
	open, src, err = l.bound(upper, src[1:])
	if err != nil {
		return nil, err
	}
	if open {
		b |= record.UpperOpen
	}
	if len(src) == 0 || src[0] != ']' && src[0] != ')' {
		return nil, ErrSyntax
	}
	if src[0] == ']' {
		b |= record.UpperIncluded
	}
	*bounds = b
	return src[1:], nil
}

// bound reads one bound; open says that it is not there.
func (l rangeLayout) bound(p unsafe.Pointer, src []byte) (open bool, rest []byte, err error) {
	end, escaped := boundEnd(src)
	switch {
	case end < 0:
		return false, nil, ErrSyntax
	case end == 0:
		return true, src, nil
	case !escaped:
		return false, src[end:], l.elem.parse(p, src[:end])
	}
	return false, src[end:], l.elem.parse(p, unescapeBound(src[:end]))
}

// boundEnd finds what follows a bound, -1 if nothing does; escaped says that there
// are quotes or backslashes in it.
func boundEnd(src []byte) (end int, escaped bool) {
	quoted := false
	for i := 0; i < len(src); i++ {
		switch c := src[i]; {
		case c == '\\':
			escaped = true
			i++
		case c == '"':
			escaped, quoted = true, !quoted
		case !quoted && (c == ',' || c == ']' || c == ')' || c == '(' || c == '['):
			return i, escaped
		}
	}
	return -1, escaped
}

// unescapeBound takes the quotes and backslashes off; inside of quotes a doubled
// quote stands for one.
func unescapeBound(src []byte) []byte {
	b := make([]byte, 0, len(src))
	quoted := false
	for i := 0; i < len(src); i++ {
		switch c := src[i]; {
		case c == '\\' && i+1 < len(src):
			i++
			b = append(b, src[i])
		case c == '"' && quoted && i+1 < len(src) && src[i+1] == '"':
			i++
			b = append(b, '"')
		case c == '"':
			quoted = !quoted
		default:
			b = append(b, c)
		}
	}
	return b
}

func (l rangeLayout) text(dst []byte, p unsafe.Pointer) []byte {
	lower, upper, bounds := l.parts(p)
	if bounds.Has(record.Empty) {
		return append(dst, "empty"...)
	}
	left, right := byte('('), byte(')')
	if bounds.Has(record.LowerIncluded) {
		left = '['
	}
	if bounds.Has(record.UpperIncluded) {
		right = ']'
	}
	dst = append(dst, left)
	if !bounds.Has(record.LowerOpen) {
		dst = appendEscaped(dst, l.elem, lower)
	}
	dst = append(dst, ',')
	if !bounds.Has(record.UpperOpen) {
		dst = appendEscaped(dst, l.elem, upper)
	}
	return append(dst, right)
}

// parseMulti reads {range,range}.
func (l rangeLayout) parseMulti(t reflect.Type, src []byte) (reflect.Value, error) {
	s := reflect.MakeSlice(t, 0, 0)
	if len(src) < 2 || src[0] != '{' {
		return s, ErrSyntax
	}
	if string(src) == "{}" {
		return s, nil
	}
	src = src[1:]
	for {
		v := reflect.New(t.Elem())
		rest, err := l.parse(v.UnsafePointer(), src)
		if err != nil {
			return s, err
		}
		s = reflect.Append(s, v.Elem())
		switch {
		case len(rest) == 1 && rest[0] == '}':
			return s, nil
		case len(rest) > 1 && rest[0] == ',':
			src = rest[1:]
		default:
			return s, ErrSyntax
		}
	}
}
