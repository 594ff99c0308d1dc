package debezium

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
)

// ofObject reads values that are written as objects.
func (v *values) ofObject(c *conv, s *scanner) ([]byte, error) {
	switch c.code {
	case asVariable:
		return v.variable(s)
	case asHStoreMap:
		return v.hstore(s)
	case asPoint:
		p, err := v.numbers(s, "x", "y", "")
		if err != nil {
			return nil, err
		}
		return v.join("(", p[0], ",", p[1], ")"), nil
	case asLine:
		p, err := v.numbers(s, "a", "b", "c")
		if err != nil {
			return nil, err
		}
		return v.join("{", p[0], ",", p[1], ",", p[2], "}"), nil
	case asCircle:
		return v.circle(s)
	case asGeometry:
		return v.geometry(s)
	}
	return nil, errKind
}

// join writes what it is given, strings and texts.
func (v *values) join(parts ...any) []byte {
	start := len(v.arena)
	for _, p := range parts {
		switch p := p.(type) {
		case string:
			v.arena = append(v.arena, p...)
		case []byte:
			v.arena = append(v.arena, p...)
		}
	}
	return v.since(start)
}

// variable reads a decimal that tells its own scale.
func (v *values) variable(s *scanner) ([]byte, error) {
	scale, have := int64(-1), false
	err := s.object(func(name []byte) error {
		switch string(name) {
		case "scale":
			lit, err := s.number()
			if err != nil {
				return errKind
			}
			scale, _ = parseInt64(lit)
		case "value":
			text, err := v.str(s)
			if err != nil {
				return errKind
			}
			if v.tmp, err = base64.StdEncoding.AppendDecode(v.tmp[:0], text); err != nil {
				return errForm
			}
			have = true
		default:
			_, err := s.skip()
			return err
		}
		return nil
	})
	if err == nil && (!have || scale < 0 || scale > maxScale) {
		err = errForm
	}
	if err != nil {
		return nil, err
	}
	start := len(v.arena)
	v.arena, err = appendUnscaled(v.arena, v.tmp, int(scale))
	return v.since(start), err
}

// hstoreText reads an hstore that was written as JSON inside a string.
func (v *values) hstoreText(c *conv, text []byte) ([]byte, error) {
	s := scanner{b: text}
	if s.peek() != '{' {
		return nil, errForm
	}
	out, err := v.hstore(&s)
	if err == nil && !s.end() {
		err = errForm
	}
	return out, err
}

// hstore writes an object's members as an hstore's.
func (v *values) hstore(s *scanner) ([]byte, error) {
	s.take('{')
	out := v.tmp[:0]
	for first := true; ; first = false {
		name, escaped, ok, err := s.member(first)
		if err != nil {
			return nil, err
		}
		if !ok {
			break
		}
		if escaped {
			start := len(v.arena)
			if v.arena, err = unescape(v.arena, name); err != nil {
				return nil, err
			}
			name = v.since(start)
		}
		if !first {
			out = append(out, ", "...)
		}
		out = append(appendQuoted(out, name), "=>"...)
		if s.literal("null") {
			out = append(out, "NULL"...)
			continue
		}
		text, err := v.str(s)
		if err != nil {
			return nil, errKind
		}
		out = appendQuoted(out, text)
	}
	v.tmp = out
	return v.join(out), nil
}

// appendQuoted writes a text in quotes, with backslashes before quotes and backslashes,
// as hstore and arrays do.
func appendQuoted(dst, text []byte) []byte {
	dst = append(dst, '"')
	for _, c := range text {
		if c == '"' || c == '\\' {
			dst = append(dst, '\\')
		}
		dst = append(dst, c)
	}
	return append(dst, '"')
}

// numbers reads the floats of an object's members by name; "" asks for none.
func (v *values) numbers(s *scanner, a, b, c string) (out [3][]byte, err error) {
	if s.peek() != '{' {
		return out, errKind
	}
	wide := &conv{code: asFloat, wide: true}
	err = s.object(func(name []byte) (err error) {
		at := -1
		for i, want := range []string{a, b, c} {
			if want != "" && string(name) == want {
				at = i
			}
		}
		switch {
		case at < 0:
			_, err = s.skip()
		case s.peek() == '{' || s.peek() == '[':
			err = errKind
		default:
			out[at], err = v.text(wide, s)
		}
		return err
	})
	if err == nil && (out[0] == nil || out[1] == nil || c != "" && out[2] == nil) {
		err = errForm
	}
	return out, err
}

func (v *values) circle(s *scanner) ([]byte, error) {
	var center [3][]byte
	var radius []byte
	if err := s.object(func(name []byte) (err error) {
		switch string(name) {
		case "center":
			center, err = v.numbers(s, "x", "y", "")
		case "radius":
			var lit []byte
			if lit, err = s.number(); err == nil {
				radius, err = v.float(&conv{wide: true}, lit)
			}
		default:
			_, err = s.skip()
		}
		return err
	}); err != nil {
		return nil, err
	}
	if center[0] == nil || radius == nil {
		return nil, errForm
	}
	return v.join("<(", center[0], ",", center[1], "),", radius, ">"), nil
}

// geometry writes PostGIS's text form: the well-known binary in hexadecimal, with the
// reference system in it where there is one.
func (v *values) geometry(s *scanner) ([]byte, error) {
	var wkb []byte
	srid := int64(0)
	if err := s.object(func(name []byte) error {
		switch {
		case string(name) == "wkb" && s.peek() == '"':
			text, err := v.str(s)
			if err != nil {
				return err
			}
			if wkb, err = base64.StdEncoding.AppendDecode(nil, text); err != nil {
				return errForm
			}
		case string(name) == "srid" && s.peek() != 'n':
			lit, err := s.number()
			if err != nil {
				return errKind
			}
			srid, _ = parseInt64(lit)
		default:
			_, err := s.skip()
			return err
		}
		return nil
	}); err != nil {
		return nil, err
	}
	if len(wkb) < 5 || srid < 0 || srid > 1<<31-1 {
		return nil, errForm
	}
	const hasSRID = 0x20000000
	order := binary.AppendByteOrder(binary.LittleEndian)
	read := binary.ByteOrder(binary.LittleEndian)
	if wkb[0] == 0 {
		order, read = binary.BigEndian, binary.BigEndian
	}
	typ := read.Uint32(wkb[1:])
	out := append(v.tmp[:0], wkb[0])
	if srid != 0 && typ&hasSRID == 0 {
		out = order.AppendUint32(out, typ|hasSRID)
		out = order.AppendUint32(out, uint32(srid))
	} else {
		out = append(out, wkb[1:5]...)
	}
	v.tmp = append(out, wkb[5:]...)
	start := len(v.arena)
	v.arena = hex.AppendEncode(v.arena, v.tmp)
	copy(v.arena[start:], bytes.ToUpper(v.arena[start:]))
	return v.since(start), nil
}

// ofArray reads values that are written as arrays.
func (v *values) ofArray(c *conv, s *scanner) ([]byte, error) {
	if c.code != asArray && c.code != asVector {
		return nil, errKind
	}
	open, end := byte('{'), byte('}')
	if c.code == asVector {
		open, end = '[', ']'
	}
	s.take('[')
	out := append(v.list[:0], open)
	for first := true; ; first = false {
		ok, err := s.element(first)
		if err != nil {
			return nil, err
		}
		if !ok {
			break
		}
		if !first {
			out = append(out, ',')
		}
		if s.literal("null") {
			if c.code == asVector {
				return nil, errKind
			}
			out = append(out, "NULL"...)
			continue
		}
		text, err := v.text(c.elem, s)
		if err != nil {
			return nil, err
		}
		if c.elem.code == asDate && v.early {
			return nil, refuse(ErrAmbiguous, "a date before 1582-10-15 in an array may be of another calendar")
		}
		out = appendElement(out, text)
	}
	v.list = append(out, end)
	return v.join(v.list), nil
}

// appendElement writes an array's element, in quotes where PostgreSQL needs them.
func appendElement(dst, text []byte) []byte {
	if len(text) == 0 || bytes.ContainsAny(text, "{},\"\\ \t\n\r\v\f") ||
		len(text) == 4 && bytes.EqualFold(text, []byte("null")) {
		return appendQuoted(dst, text)
	}
	return append(dst, text...)
}
