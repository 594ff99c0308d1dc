package state

import (
	"fmt"
	"reflect"
	"strings"
	"unsafe"
)

// planner makes the plans of a type and of all it contains, each type once, so that
// types may contain themselves behind a pointer, slice or map.
type planner struct {
	plans map[reflect.Type]*plan
	depth int
	later []func() // run when all plans are complete
}

func (b *planner) plan(t reflect.Type, path string) (*plan, error) {
	if p, ok := b.plans[t]; ok {
		return p, nil
	}
	p := &plan{}
	b.plans[t] = p
	b.depth++
	err := b.fill(t, path, p)
	b.depth--
	if err != nil {
		delete(b.plans, t)
		return nil, err
	}
	if b.depth == 0 {
		for _, fn := range b.later {
			fn()
		}
		b.later = nil
	}
	return p, nil
}

func (b *planner) fill(t reflect.Type, path string, p *plan) error {
	switch {
	case implements(t, typeStateAppender, typeStateDecoder):
		*p = hookPlan(t)
		return nil
	case t == typeTime:
		*p = timePlan
		return nil
	case t == typeDecimal:
		*p = decimalPlan
		return nil
	case isNull(t):
		return b.nullPlan(t, path, p)
	}
	switch t.Kind() {
	case reflect.Bool, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64, reflect.Uint:
		*p = uintPlan(t)
	case reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64, reflect.Int:
		*p = intPlan(t)
	case reflect.Float32:
		*p = float32Plan
	case reflect.Float64:
		*p = float64Plan
	case reflect.String:
		*p = stringPlan
	case reflect.Pointer:
		return b.pointerPlan(t, path, p)
	case reflect.Slice:
		return b.slicePlan(t, path, p)
	case reflect.Array:
		return b.arrayPlan(t, path, p)
	case reflect.Map:
		return b.mapPlan(t, path, p)
	case reflect.Struct:
		switch {
		case implements(t, typeOrderedKey, typeOrderedKeyDecoder):
			*p = orderedPlan(t)
		case implements(t, typeBinaryMarshaler, typeBinaryUnmarshaler):
			*p = binaryPlan(t)
		case implements(t, typeTextMarshaler, typeTextUnmarshaler):
			*p = textPlan(t)
		case strings.HasPrefix(t.PkgPath(), "sync") || t.PkgPath() == "unique" || t.PkgPath() == "weak":
			return fmt.Errorf("state: %s of type %s cannot be stored: %s", path, t, storeRemedy)
		default:
			return b.structPlan(t, path, p)
		}
	default:
		return fmt.Errorf("state: %s of type %s cannot be stored: %s", path, t, storeRemedy)
	}
	return nil
}

const storeRemedy = "use a concrete type, leave the field out with the tag `state:\"-\"`, " +
	"or implement AppendState and DecodeState on the type that has it"

// implements reports whether *t has both interfaces by itself.
func implements(t, enc, dec reflect.Type) bool {
	pt := reflect.PointerTo(t)
	return pt.Implements(enc) && pt.Implements(dec) && !promoted(t, enc)
}

// leafShape names types that are stored in a form of their own.
func leafShape(t reflect.Type) string {
	switch {
	case implements(t, typeStateAppender, typeStateDecoder):
		return "state:" + t.String()
	case t == typeTime:
		return "time"
	case t == typeDecimal:
		return "decimal"
	case t.Kind() != reflect.Struct:
		return ""
	case implements(t, typeOrderedKey, typeOrderedKeyDecoder):
		return "ordered:" + t.String()
	case implements(t, typeBinaryMarshaler, typeBinaryUnmarshaler):
		return "binary:" + t.String()
	case implements(t, typeTextMarshaler, typeTextUnmarshaler):
		return "text:" + t.String()
	}
	return ""
}

// mayHoldMemory reports whether values of t keep memory alive beside themselves.
func mayHoldMemory(t reflect.Type) bool {
	switch t.Kind() {
	case reflect.String, reflect.Pointer, reflect.Slice, reflect.Map:
		return true
	case reflect.Array:
		return t.Len() > 0 && mayHoldMemory(t.Elem())
	case reflect.Struct:
		if t == typeTime {
			return false
		}
		for i := range t.NumField() {
			if mayHoldMemory(t.Field(i).Type) {
				return true
			}
		}
	}
	return false
}

// framed makes the plan of a type whose stored form is a run of bytes.
func framed(
	enc func(dst []byte, p unsafe.Pointer) []byte, dec func(src []byte, p unsafe.Pointer) error,
	equal func(a, b unsafe.Pointer) bool, zero func(p unsafe.Pointer) bool, size func(p unsafe.Pointer) int,
) plan {
	return plan{
		wire: wireBytes,
		append: func(dst []byte, p unsafe.Pointer) []byte {
			start := len(dst)
			return appendLengthOf(enc(dst, p), start)
		},
		decode: func(src []byte, p unsafe.Pointer) ([]byte, error) {
			b, rest, err := cutBytes(src)
			if err != nil {
				return nil, err
			}
			return rest, dec(b, p)
		},
		equal: equal, zero: zero, size: size,
	}
}
