package state

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"reflect"
	"slices"
	"strings"
	"unsafe"
)

// structPlan stores a struct as a sequence of fields: four bytes of tag (a hash of
// the name, and the wire form in the low two bits), then the value.
type structPlan struct {
	fields []structField
}

type structField struct {
	tag    uint32
	offset uintptr
	plan   *plan
	path   string
}

const wireMask = 3

func (s *structPlan) append(dst []byte, p unsafe.Pointer) []byte {
	for i := range s.fields {
		f := &s.fields[i]
		at := unsafe.Add(p, f.offset)
		if f.plan.zero(at) {
			continue
		}
		dst = binary.LittleEndian.AppendUint32(dst, f.tag)
		dst = f.plan.asField().append(dst, at)
	}
	return dst
}

// decode expects fields in the order in which append writes them, and looks
// further only where a release in between has changed the struct.
func (s *structPlan) decode(src []byte, p unsafe.Pointer) error {
	next := 0
	for len(src) > 0 {
		if len(src) < 4 {
			return errShort
		}
		tag := binary.LittleEndian.Uint32(src)
		src = src[4:]
		i := s.find(tag, next)
		var err error
		if i < 0 {
			if src, err = skip(src, wire(tag&wireMask)); err != nil {
				return err
			}
			continue
		}
		f := &s.fields[i]
		if f.tag != tag {
			return fmt.Errorf("%w: field %s was stored as another type: declare the change with Version, "+
				"which rebuilds the state", ErrCorrupt, f.path)
		}
		if src, err = f.plan.asField().decode(src, unsafe.Add(p, f.offset)); err != nil {
			return fmt.Errorf("field %s: %w", f.path, err)
		}
		next = i + 1
	}
	return nil
}

func (s *structPlan) find(tag uint32, from int) int {
	for i := from; i < len(s.fields); i++ {
		if s.fields[i].tag&^wireMask == tag&^wireMask {
			return i
		}
	}
	for i := range s.fields[:min(from, len(s.fields))] {
		if s.fields[i].tag&^wireMask == tag&^wireMask {
			return i
		}
	}
	return -1
}

func (p *plan) asField() *plan {
	if p.field != nil {
		return p.field
	}
	return p
}

// storedFields lists the fields of a struct that are stored, and their names.
func storedFields(t reflect.Type) (fields []reflect.StructField, names []string) {
	for i := range t.NumField() {
		f := t.Field(i)
		name, _, _ := strings.Cut(f.Tag.Get("state"), ",")
		switch {
		case name == "-" || f.Name == "_":
			continue
		case name == "":
			name = f.Name
		}
		fields, names = append(fields, f), append(names, name)
	}
	return fields, names
}

func (b *planner) structPlan(t reflect.Type, path string, p *plan) error {
	s := &structPlan{}
	fields, names := storedFields(t)
	seen := map[uint32]string{}
	var errs []error
	sized := false
	for i, f := range fields {
		at := path + "." + f.Name
		fp, err := b.plan(f.Type, at)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		tag := fieldTag(names[i])
		if other, ok := seen[tag]; ok {
			errs = append(errs, fmt.Errorf("state: %s: its stored name %q collides with %q: "+
				"give one of them another with the tag `state:\"name\"`", at, names[i], other))
		}
		seen[tag] = names[i]
		s.fields = append(s.fields, structField{tag, f.Offset, fp, at})
		sized = sized || mayHoldMemory(f.Type)
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	b.later = append(b.later, func() {
		for i := range s.fields {
			s.fields[i].tag |= uint32(s.fields[i].plan.asField().wire)
		}
	})
	p.wire, p.fields = wireBytes, s
	p.append = func(dst []byte, at unsafe.Pointer) []byte {
		start := len(dst)
		return appendLengthOf(s.append(dst, at), start)
	}
	p.decode = func(src []byte, at unsafe.Pointer) ([]byte, error) {
		body, rest, err := cutBytes(src)
		if err != nil {
			return nil, err
		}
		return rest, s.decode(body, at)
	}
	p.equal, p.zero = s.equal, s.zero
	if sized {
		p.size = s.size
	}
	return nil
}

func (s *structPlan) equal(a, b unsafe.Pointer) bool {
	for i := range s.fields {
		f := &s.fields[i]
		if !f.plan.equal(unsafe.Add(a, f.offset), unsafe.Add(b, f.offset)) {
			return false
		}
	}
	return true
}

func (s *structPlan) zero(p unsafe.Pointer) bool {
	for i := range s.fields {
		if !s.fields[i].plan.zero(unsafe.Add(p, s.fields[i].offset)) {
			return false
		}
	}
	return true
}

func (s *structPlan) size(p unsafe.Pointer) int {
	n := 0
	for i := range s.fields {
		if f := &s.fields[i]; f.plan.size != nil {
			n += f.plan.size(unsafe.Add(p, f.offset))
		}
	}
	return n
}

// fieldTag hashes a name; the low bits are left for the wire form.
func fieldTag(name string) uint32 {
	h := fnv.New32a()
	h.Write([]byte(name))
	return h.Sum32() &^ wireMask
}

// shape describes how a type is stored, for the fingerprint. The order of fields
// is not part of it.
func (b *planner) shape(t reflect.Type) string {
	return shapeOf(t, nil)
}

func shapeOf(t reflect.Type, within []reflect.Type) string {
	if i := slices.Index(within, t); i >= 0 {
		return fmt.Sprintf("^%d", len(within)-i)
	}
	within = append(within, t)
	if isNull(t) {
		v, _ := nullFields(t)
		return "*" + shapeOf(v.Type, within)
	}
	if name := leafShape(t); name != "" {
		return name
	}
	switch t.Kind() {
	case reflect.Pointer:
		return "*" + shapeOf(t.Elem(), within)
	case reflect.Slice:
		return "[]" + shapeOf(t.Elem(), within)
	case reflect.Array:
		return fmt.Sprintf("[%d]%s", t.Len(), shapeOf(t.Elem(), within))
	case reflect.Map:
		return "map[" + shapeOf(t.Key(), within) + "]" + shapeOf(t.Elem(), within)
	case reflect.Struct:
		fields, names := storedFields(t)
		parts := make([]string, len(fields))
		for i, f := range fields {
			parts[i] = names[i] + " " + shapeOf(f.Type, within)
		}
		slices.Sort(parts)
		return "{" + strings.Join(parts, ";") + "}"
	}
	return t.Kind().String()
}
