package debezium

import (
	"encoding/json"
	"strconv"
)

// kind is a Kafka Connect type.
type kind uint8

const (
	kindInt kind = iota + 1
	kindFloat32
	kindFloat64
	kindBool
	kindString
	kindBytes
	kindArray
	kindMap
	kindStruct
)

// The semantic types by which Debezium and Kafka Connect name what a value means.
const (
	connectDecimal   = "org.apache.kafka.connect.data.Decimal"
	connectDate      = "org.apache.kafka.connect.data.Date"
	connectTime      = "org.apache.kafka.connect.data.Time"
	connectTimestamp = "org.apache.kafka.connect.data.Timestamp"

	nameVariableScale = "io.debezium.data.VariableScaleDecimal"
	nameBits          = "io.debezium.data.Bits"
	nameJSON          = "io.debezium.data.Json"
	nameXML           = "io.debezium.data.Xml"
	nameUUID          = "io.debezium.data.Uuid"
	nameTsvector      = "io.debezium.data.Tsvector"
	nameDoubleVector  = "io.debezium.data.DoubleVector"
	nameFloatVector   = "io.debezium.data.FloatVector"

	nameDate           = "io.debezium.time.Date"
	nameTime           = "io.debezium.time.Time"
	nameMicroTime      = "io.debezium.time.MicroTime"
	nameNanoTime       = "io.debezium.time.NanoTime"
	nameTimestamp      = "io.debezium.time.Timestamp"
	nameMicroTimestamp = "io.debezium.time.MicroTimestamp"
	nameNanoTimestamp  = "io.debezium.time.NanoTimestamp"
	nameZonedTime      = "io.debezium.time.ZonedTime"
	nameZonedTimestamp = "io.debezium.time.ZonedTimestamp"
	nameIsoDate        = "io.debezium.time.IsoDate"
	nameIsoTime        = "io.debezium.time.IsoTime"
	nameIsoTimestamp   = "io.debezium.time.IsoTimestamp"
	nameMicroDuration  = "io.debezium.time.MicroDuration"
	nameNanoDuration   = "io.debezium.time.NanoDuration"
	nameInterval       = "io.debezium.time.Interval"

	namePoint     = "io.debezium.data.geometry.Point"
	nameGeometry  = "io.debezium.data.geometry.Geometry"
	nameGeography = "io.debezium.data.geometry.Geography"
	nameCircle    = "io.debezium.data.geometry.Circle"
	nameLine      = "io.debezium.data.geometry.Line"
)

// wire is a Kafka Connect schema: what a value looks like in a record.
type wire struct {
	kind kind
	// bits is the width of an integer.
	bits int
	// name is the semantic type, "" for a plain value.
	name string
	// optional says that the value may be null.
	optional bool
	// scale and precision are those of a Decimal, length that of Bits; -1 where unknown.
	scale, precision, length int
	elem                     *wire
	fields                   []wireField
}

type wireField struct {
	name string
	wire *wire
}

// field returns a field's schema, nil if there is none.
func (w *wire) field(name string) *wire {
	for i := range w.fields {
		if w.fields[i].name == name {
			return w.fields[i].wire
		}
	}
	return nil
}

// connectSchema is a schema as JsonConverter writes it.
type connectSchema struct {
	Type       string            `json:"type"`
	Name       string            `json:"name"`
	Field      string            `json:"field"`
	Optional   bool              `json:"optional"`
	Parameters map[string]string `json:"parameters"`
	Fields     []connectSchema   `json:"fields"`
	Items      *connectSchema    `json:"items"`
	Values     *connectSchema    `json:"values"`
}

// maxDepth bounds how deep a schema may nest.
const maxDepth = 32

// parseConnectSchema reads the schema part of a record.
func parseConnectSchema(text []byte) (*wire, error) {
	var s connectSchema
	if err := json.Unmarshal(text, &s); err != nil {
		return nil, refuse(ErrMalformed, "the schema part of the record cannot be read")
	}
	return s.wire(0)
}

var connectKinds = map[string]wire{
	"int8": {kind: kindInt, bits: 8}, "int16": {kind: kindInt, bits: 16}, "int32": {kind: kindInt, bits: 32},
	"int64": {kind: kindInt, bits: 64}, "float": {kind: kindFloat32}, "float32": {kind: kindFloat32},
	"double": {kind: kindFloat64}, "float64": {kind: kindFloat64}, "boolean": {kind: kindBool},
	"string": {kind: kindString}, "bytes": {kind: kindBytes}, "array": {kind: kindArray},
	"map": {kind: kindMap}, "struct": {kind: kindStruct},
}

func (s *connectSchema) wire(depth int) (*wire, error) {
	w, ok := connectKinds[s.Type]
	if !ok || depth > maxDepth {
		return nil, refuse(ErrMalformed, "the schema part of the record has an unknown type")
	}
	w.name, w.optional = s.Name, s.Optional
	w.scale, w.precision, w.length = s.number("scale"), s.number("connect.decimal.precision"), s.number("length")
	var err error
	switch w.kind {
	case kindArray:
		w.elem, err = s.Items.inner(depth)
	case kindMap:
		w.elem, err = s.Values.inner(depth)
	case kindStruct:
		for i := range s.Fields {
			var f *wire
			if f, err = s.Fields[i].wire(depth + 1); err != nil {
				return nil, err
			}
			w.fields = append(w.fields, wireField{s.Fields[i].Field, f})
		}
	}
	return &w, err
}

func (s *connectSchema) inner(depth int) (*wire, error) {
	if s == nil {
		return nil, refuse(ErrMalformed, "an array or map of the record's schema has no element type")
	}
	return s.wire(depth + 1)
}

func (s *connectSchema) number(parameter string) int {
	if n, err := strconv.Atoi(s.Parameters[parameter]); err == nil {
		return n
	}
	return -1
}
