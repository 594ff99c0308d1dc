package debezium

import (
	"fmt"
)

// code says how a value is turned into PostgreSQL's text form.
type code uint8

const (
	asText        code = iota + 1 // a string that is the text already
	asInt                         // an integer
	asFloat                       // a float; wide says of 64 bits
	asBool                        // true, false
	asBit                         // a boolean that is one bit
	asBits                        // bytes, the lowest bit first
	asBytes                       // a bytea, encoded as enc says
	asBase64Text                  // the text itself, encoded as enc says
	asDecimal                     // an unscaled integer in base64, or a number
	asDecimalText                 // a decimal as text, with Java's names of NaN and infinities
	asDouble                      // a decimal as a float
	asVariable                    // a struct of scale and unscaled value
	asDate                        // days since 1970
	asISODate
	asTime // parts of a second since midnight; scale says which
	asISOTime
	asZonedTime
	asTimestamp // parts of a second since 1970; scale says which
	asISOTimestamp
	asInstant // timestamptz in ISO 8601
	asInterval
	asDuration // microseconds in which months were given an average length
	asArray
	asVector
	asHStore    // a JSON object inside a string
	asHStoreMap // a JSON object
	asPoint     // x, y
	asGeometry  // well-known binary and its reference system
	asCircle    // center, radius
	asLine      // a, b, c
	asAny       // as it comes
)

// encoding says how bytes are written.
type encoding uint8

const (
	inBase64 encoding = iota
	inURL             // base64 that is safe in URLs
	inHex
)

// encodingOf is that of a binary.handling.mode.
func encodingOf(mode string) encoding {
	switch mode {
	case "hex":
		return inHex
	case "base64-url-safe":
		return inURL
	}
	return inBase64
}

// conv turns the values of one column into text.
type conv struct {
	code code
	// typ is the SQL type that the text is of, "" where it is not known.
	typ string
	// scale is that of a decimal, -1 for none; of a time the units in a second; the
	// length of bits, -1 for a varying one.
	scale int
	wide  bool
	enc   encoding
	elem  *conv
	// unavailable is the text that the placeholder for a value left out turns into, nil
	// where there is none.
	unavailable []byte
	// lossy says which values are lost, "" for none. It is an error only where nobody
	// has accepted it.
	lossy string
}

// convOf finds the way from what a record holds to what the column is. declared may be
// nil: the type is then the one that the record's schema tells.
func convOf(w *wire, declared *Column, m *Modes) (*conv, error) {
	t := sqlType{}
	if declared != nil {
		t = parseSQLType(declared.sqlName())
	}
	if t.dims > 0 && w.kind != kindArray {
		return nil, refuse(ErrLossy, "the connector does not write arrays of this type")
	}
	if declared != nil && m.unknown(t, declared) {
		// include.unknown.datatypes writes the text as if it were a bytea.
		return &conv{code: asBase64Text, enc: encodingOf(m.Binary), typ: declared.sqlName()}, nil
	}
	c, err := resolve(w, t, m)
	if err != nil {
		return nil, err
	}
	if declared != nil && t.base != "money" {
		c.typ = declared.sqlName()
	}
	return c, nil
}

func resolve(w *wire, t sqlType, m *Modes) (*conv, error) {
	if w.kind == kindArray && w.name != nameDoubleVector && w.name != nameFloatVector {
		return resolveArray(w, t, m)
	}
	if c := named(w, t); c != nil {
		return c, nil
	}
	switch w.kind {
	case kindInt:
		return &conv{code: asInt, typ: intType(w.bits)}, nil
	case kindFloat32:
		return &conv{code: asFloat, typ: "real"}, nil
	case kindFloat64:
		if t.base == "numeric" || t.base == "money" {
			return doubleDecimal(t, m), nil
		}
		return &conv{code: asFloat, wide: true, typ: "double precision"}, nil
	case kindBool:
		if t.base == "bit" || t.base == "bit varying" {
			return &conv{code: asBit, typ: "bit(1)"}, nil
		}
		return &conv{code: asBool, typ: "boolean"}, nil
	case kindBytes:
		return &conv{code: asBytes, typ: "bytea"}, nil
	case kindString:
		return resolveString(t, m), nil
	case kindMap:
		if w.elem != nil && w.elem.kind == kindString {
			return &conv{code: asHStoreMap, typ: "hstore"}, nil
		}
	}
	return nil, refuse(
		ErrType,
		fmt.Sprintf("the records' type %q is not known to this reader; leave the column out",
			w.name),
	)
}

func intType(bits int) string {
	switch {
	case bits <= 16:
		return "smallint"
	case bits == 32:
		return "integer"
	}
	return "bigint"
}

// resolveString is the way of a string without semantic type.
func resolveString(t sqlType, m *Modes) *conv {
	switch t.base {
	case "numeric", "money":
		return &conv{code: asDecimalText, typ: "numeric"}
	case "bytea":
		return &conv{code: asBytes, enc: encodingOf(m.Binary), typ: "bytea"}
	case "hstore":
		return &conv{code: asHStore, typ: "hstore"}
	case "name":
		if m.Unknown {
			break
		}
		return &conv{code: asText, lossy: "a column of type name is written as null when it is streamed; " +
			"set include.unknown.datatypes=true, or make the column text"}
	}
	return &conv{code: asText}
}

func resolveArray(w *wire, t sqlType, m *Modes) (*conv, error) {
	inner := t
	inner.dims = 0
	if t.base != "" && t.dims == 0 {
		return nil, refuse(ErrType, "the records hold an array, the column is none")
	}
	elem, err := resolve(w.elem, inner, m)
	if err != nil {
		return nil, err
	}
	if elem.code == asArray || elem.code == asHStoreMap && elem.typ != "hstore" {
		return nil, refuse(ErrType, "an array of arrays is not known to this reader")
	}
	c := &conv{code: asArray, elem: elem, lossy: elem.lossy}
	if elem.typ != "" {
		c.typ = elem.typ + "[]"
	}
	switch {
	case t.base == "bit":
		c.lossy = "an array of bits is always written as null"
	case elem.code == asTime && t.base != "" && t.precision() > 3, elem.code == asISOTime && t.precision() > 3:
		c.lossy = "elements of type time are cut to milliseconds"
	}
	return c, nil
}

// doubleDecimal is the way of a decimal that was written as a float: exact as long as
// all its digits fit into one.
func doubleDecimal(t sqlType, m *Modes) *conv {
	c := &conv{code: asDouble, typ: "numeric", scale: -1}
	const reason = "a float does not hold every value of the column; set decimal.handling.mode=string or precise"
	switch {
	case t.base == "money":
		c.scale, c.lossy = m.MoneyDigits, reason
	case len(t.args) == 0 || t.args[0] > 15:
		c.lossy = reason
	}
	if len(t.args) == 2 {
		c.scale = t.args[1]
	} else if len(t.args) == 1 {
		c.scale = 0
	}
	return c
}

// named is the way of a value with a semantic type, nil for others.
func named(w *wire, t sqlType) *conv {
	switch w.name {
	case connectDecimal:
		c := &conv{code: asDecimal, typ: "numeric", scale: w.scale}
		if w.precision > 0 && w.scale >= 0 {
			c.typ = fmt.Sprintf("numeric(%d,%d)", w.precision, w.scale)
		}
		return c
	case nameVariableScale:
		return &conv{code: asVariable, typ: "numeric"}
	case nameBits:
		if t.base == "bit varying" || t.base == "" && (w.length < 0 || w.length == 1<<31-1) {
			return &conv{code: asBits, typ: "bit varying", scale: -1,
				lossy: "the length of a bit string and its leading zeros are not written"}
		}
		c := &conv{code: asBits, typ: fmt.Sprintf("bit(%d)", w.length), scale: w.length}
		if t.base == "" {
			c.lossy = "the records do not tell bit(n) from bit varying(n); declare the table's columns"
		}
		return c
	case nameJSON:
		if t.base == "hstore" {
			return &conv{code: asHStore, typ: "hstore"}
		}
		return &conv{code: asText, typ: "json"}
	case nameXML:
		return &conv{code: asText, typ: "xml"}
	case nameUUID:
		return &conv{code: asText, typ: "uuid"}
	case nameTsvector:
		return &conv{code: asText, typ: "tsvector"}
	case nameDoubleVector, nameFloatVector:
		return &conv{code: asVector, elem: &conv{code: asFloat, wide: w.name == nameDoubleVector}}
	case namePoint:
		return &conv{code: asPoint, typ: "point"}
	case nameGeometry, nameGeography:
		return &conv{code: asGeometry}
	case nameCircle:
		return &conv{code: asCircle, typ: "circle"}
	case nameLine:
		return &conv{code: asLine, typ: "line"}
	}
	return namedTime(w, t)
}

// Units of a second.
const (
	millis = 1_000
	micros = 1_000_000
	nanos  = 1_000_000_000
)

func namedTime(w *wire, t sqlType) *conv {
	const (
		cut   = "the time is cut to milliseconds; set time.precision.mode=adaptive"
		clock = "time without time zone"
		stamp = "timestamp without time zone"
	)
	lossyIf := func(c *conv, cond bool, why string) *conv {
		if cond {
			c.lossy = why
		}
		return c
	}
	fine := t.base != "" && t.precision() > 3
	switch w.name {
	case nameDate, connectDate:
		return &conv{code: asDate, typ: "date"}
	case nameIsoDate:
		return &conv{code: asISODate, typ: "date"}
	case nameTime, connectTime:
		return lossyIf(&conv{code: asTime, scale: millis, typ: clock}, fine, cut)
	case nameMicroTime:
		return &conv{code: asTime, scale: micros, typ: clock}
	case nameNanoTime:
		return &conv{code: asTime, scale: nanos, typ: clock}
	case nameIsoTime:
		return &conv{code: asISOTime, typ: clock}
	case nameZonedTime:
		return &conv{code: asZonedTime, typ: "time with time zone",
			lossy: "the zone of a time with time zone is not written"}
	case nameTimestamp, connectTimestamp:
		return lossyIf(&conv{code: asTimestamp, scale: millis, typ: stamp}, fine, cut)
	case nameMicroTimestamp:
		return &conv{code: asTimestamp, scale: micros, typ: stamp}
	case nameNanoTimestamp:
		return &conv{code: asTimestamp, scale: nanos, typ: stamp}
	case nameIsoTimestamp:
		return &conv{code: asISOTimestamp, typ: stamp}
	case nameZonedTimestamp:
		return &conv{code: asInstant, typ: "timestamp with time zone"}
	case nameInterval:
		return &conv{code: asInterval, typ: "interval"}
	case nameMicroDuration, nameNanoDuration:
		c := &conv{code: asDuration, scale: micros, typ: "interval", lossy: "months are written as 30.4375 days; " +
			"set interval.handling.mode=string"}
		if w.name == nameNanoDuration {
			c.scale = nanos
		}
		return c
	}
	return nil
}
