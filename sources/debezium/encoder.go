package debezium

import (
	"errors"
	"fmt"
	"slices"
	"strconv"

	"github.com/tailrace/tailrace/record"
	"github.com/tailrace/tailrace/serde"
)

// EncoderConfig says what an encoder writes.
type EncoderConfig struct {
	// Prefix is what topic.prefix is for Debezium: the first part of schema names, and
	// source.name.
	Prefix string
	// Table names the columns, their types, and by Column.Key the key.
	Table Table
	// Modes are the forms of values. The zero value is Debezium's default.
	Modes Modes
	// Schemas says that the schemas are put in front of keys and values.
	Schemas bool
	// Version, Connector and DB are written into the source block. Default of Version is
	// "tailrace", of Connector "postgresql", whose source block it is.
	Version, Connector, DB string
}

// Encoder writes changes of one table as Debezium does. It is used by one goroutine.
type Encoder struct {
	cfg     EncoderConfig
	modes   Modes
	columns []encodedColumn
	keys    []int
	schema  string
	name    string
	// keyHead and valueHead are the schemas, up to the payload.
	keyHead, valueHead []byte
}

type encodedColumn struct {
	name []byte // the JSON name and its colon
	conv *conv
	wire *wire
	// unavailable is what stands for a value that is left out, nil where the type has
	// nothing.
	unavailable []byte
	precision   int
}

// EncodedChange is a change to write. Its tuples are in the order of the table's columns.
type EncodedChange struct {
	// Op is c, u, d, r or t.
	Op            byte
	Before, After record.Tuple
	Source        Source
	Tx            Tx
	// Time is the writer's clock in Unix microseconds.
	Time int64
}

// NewEncoder makes an encoder. The error lists the columns whose types Debezium has no
// form for.
func NewEncoder(cfg EncoderConfig) (*Encoder, error) {
	modes, err := cfg.Modes.withDefaults()
	errs := []error{err}
	if cfg.Version == "" {
		cfg.Version = "tailrace"
	}
	if cfg.Connector == "" {
		cfg.Connector = "postgresql"
	}
	e := &Encoder{cfg: cfg, modes: modes}
	e.schema, e.name = cfg.Table.schemaAndName()
	for i := range cfg.Table.Columns {
		c := &cfg.Table.Columns[i]
		w := e.modes.wireOf(c)
		if w == nil {
			errs = append(errs, &Error{Table: cfg.Table.Name, Column: c.Name, Err: ErrType,
				Reason: "Debezium has no form for " + c.Type + "; write it as text"})
			continue
		}
		conv, err := convOf(w, c, &e.modes)
		if err != nil {
			errs = append(errs, at(err, cfg.Table.Name, c.Name))
			continue
		}
		w.optional = !c.NotNull
		col := encodedColumn{conv: conv, wire: w, precision: parseSQLType(c.sqlName()).precision()}
		col.name = append(serde.AppendJSONString(nil, c.Name), ':')
		if forms := placeholderForms(conv, e.modes.Placeholder); len(forms) > 0 {
			col.unavailable = []byte(forms[0])
		}
		if c.Key {
			e.keys = append(e.keys, len(e.columns))
		}
		e.columns = append(e.columns, col)
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	if cfg.Schemas {
		e.heads()
	}
	return e, nil
}

// AppendKey writes the key of a row; the tuple has at least the key columns.
func (e *Encoder) AppendKey(dst []byte, row record.Tuple) ([]byte, error) {
	if len(e.keys) == 0 {
		return append(dst, "null"...), nil
	}
	dst = append(append(dst, e.keyHead...), '{')
	var err error
	for n, i := range e.keys {
		if n > 0 {
			dst = append(dst, ',')
		}
		if dst, err = e.member(dst, i, row); err != nil {
			return dst, err
		}
	}
	return e.close(append(dst, '}')), nil
}

func (e *Encoder) close(dst []byte) []byte {
	if e.cfg.Schemas {
		return append(dst, '}')
	}
	return dst
}

// AppendValue writes a change's envelope.
func (e *Encoder) AppendValue(dst []byte, c *EncodedChange) ([]byte, error) {
	dst = append(append(dst, e.valueHead...), `{"before":`...)
	dst, err := e.AppendRow(dst, c.Before)
	if err != nil {
		return dst, err
	}
	if dst, err = e.AppendRow(append(dst, `,"after":`...), c.After); err != nil {
		return dst, err
	}
	dst = e.source(append(dst, `,"source":`...), &c.Source)
	dst = append(dst, `,"transaction":`...)
	if len(c.Tx.ID) == 0 {
		dst = append(dst, "null"...)
	} else {
		dst = serde.AppendJSONString(append(dst, `{"id":`...), string(c.Tx.ID))
		dst = strconv.AppendInt(append(dst, `,"total_order":`...), c.Tx.TotalOrder, 10)
		dst = strconv.AppendInt(append(dst, `,"data_collection_order":`...), c.Tx.CollectionOrder, 10)
		dst = append(dst, '}')
	}
	dst = append(append(append(dst, `,"op":"`...), c.Op), '"')
	return e.close(append(appendClocks(append(dst, ','), c.Time, true), '}')), nil
}

// AppendRow writes a row as an object, null for a nil tuple.
func (e *Encoder) AppendRow(dst []byte, row record.Tuple) ([]byte, error) {
	if row == nil {
		return append(dst, "null"...), nil
	}
	dst = append(dst, '{')
	var err error
	for i := range e.columns {
		if i > 0 {
			dst = append(dst, ',')
		}
		if dst, err = e.member(dst, i, row); err != nil {
			return dst, err
		}
	}
	return append(dst, '}'), nil
}

func (e *Encoder) member(dst []byte, i int, row record.Tuple) ([]byte, error) {
	c := &e.columns[i]
	dst = append(dst, c.name...)
	if i >= len(row) {
		return dst, refuse(ErrMissing, "the row has fewer columns than the table")
	}
	switch row[i].Kind {
	case record.Null:
		return append(dst, "null"...), nil
	case record.Unchanged:
		if c.unavailable == nil {
			return dst, &Error{Table: e.cfg.Table.Name, Column: e.cfg.Table.Columns[i].Name, Err: ErrValue,
				Reason: "the type has no placeholder for a value that was left out"}
		}
		return append(dst, c.unavailable...), nil
	}
	out, err := e.value(dst, c.conv, c.precision, row[i].Data)
	return out, at(err, e.cfg.Table.Name, e.cfg.Table.Columns[i].Name)
}

// snapshotWords are the words of the snapshot marker.
var snapshotWords = [...]string{"false", "true", "first", "first_in_data_collection",
	"last_in_data_collection", "last", "incremental"}

// source writes the source block of Debezium's PostgreSQL connector.
func (e *Encoder) source(dst []byte, s *Source) []byte {
	text := func(name string, value []byte, otherwise string) {
		dst = serde.AppendJSONString(append(append(dst, name...), ':'), otherwise)
		if value != nil {
			dst = dst[:len(dst)-len(serde.AppendJSONString(nil, otherwise))]
			dst = serde.AppendJSONString(dst, string(value))
		}
		dst = append(dst, ',')
	}
	number := func(name string, n uint64) {
		dst = append(append(dst, name...), ':')
		if n == 0 {
			dst = append(dst, "null,"...)
			return
		}
		dst = append(strconv.AppendUint(dst, n, 10), ',')
	}
	dst = append(dst, '{')
	text(`"version"`, s.Version, e.cfg.Version)
	text(`"connector"`, s.Connector, e.cfg.Connector)
	text(`"name"`, s.Name, e.cfg.Prefix)
	dst = strconv.AppendInt(append(dst, `"ts_ms":`...), floorDiv(s.Time, 1000), 10)
	dst = append(append(append(dst, `,"snapshot":"`...), snapshotWords[s.Snapshot]...), `",`...)
	text(`"db"`, s.DB, e.cfg.DB)
	dst = append(dst, `"sequence":`...)
	if s.LSN == 0 {
		dst = append(dst, "null"...)
	} else {
		commit := "null"
		if s.CommitLSN != 0 {
			commit = `\"` + strconv.FormatUint(s.CommitLSN, 10) + `\"`
		}
		dst = append(dst, `"[`+commit+`,\"`+strconv.FormatUint(s.LSN, 10)+`\"]"`...)
	}
	dst = appendClocks(append(dst, ','), s.Time, false)
	dst = append(dst, ',')
	text(`"schema"`, s.Schema, e.schema)
	text(`"table"`, s.Table, e.name)
	number(`"txId"`, uint64(s.XID))
	number(`"lsn"`, s.LSN)
	dst = append(dst, `"xmin":null,"origin":`...)
	if s.Origin == nil {
		dst = append(dst, "null,"...)
	} else {
		dst = append(serde.AppendJSONString(dst, string(s.Origin)), ',')
	}
	number(`"origin_lsn"`, s.OriginLSN)
	return append(dst[:len(dst)-1], '}')
}

// appendClocks writes a time as ts_ms (if asked for), ts_us and ts_ns.
func appendClocks(dst []byte, us int64, ms bool) []byte {
	if ms {
		dst = strconv.AppendInt(append(dst, `"ts_ms":`...), floorDiv(us, 1000), 10)
		dst = append(dst, ',')
	}
	dst = strconv.AppendInt(append(dst, `"ts_us":`...), us, 10)
	return strconv.AppendInt(append(dst, `,"ts_ns":`...), us*1000, 10)
}

// heads makes the schemas.
func (e *Encoder) heads() {
	name := topicName(e.cfg.Prefix, e.cfg.Table.Name)
	fields := func(columns []int) []byte {
		var dst []byte
		for n, i := range columns {
			if n > 0 {
				dst = append(dst, ',')
			}
			dst = e.columns[i].wire.appendSchema(dst, e.cfg.Table.Columns[i].Name)
		}
		return dst
	}
	all := make([]int, len(e.columns))
	for i := range all {
		all[i] = i
	}
	e.keyHead = fmt.Appendf(nil,
		`{"schema":{"type":"struct","fields":[%s],"optional":false,"name":%q},"payload":`,
		fields(e.keys), name+".Key")
	row := fields(all)
	side := func(field string) string {
		return fmt.Sprintf(`{"type":"struct","fields":[%s],"optional":true,"name":%q,"field":%q}`,
			row, name+".Value", field)
	}
	rows := side("before") + "," + side("after") + ","
	e.valueHead = slices.Concat([]byte(`{"schema":{"type":"struct","fields":[`+rows), []byte(sourceSchema),
		[]byte(`],"optional":false,"name":`+strconv.Quote(name+".Envelope")+
			`,"version":2},"payload":`))
}

// sourceSchema are the schemas of what stands beside the rows.
const sourceSchema = `{"type":"struct","fields":[` +
	`{"type":"string","optional":false,"field":"version"},` +
	`{"type":"string","optional":false,"field":"connector"},` +
	`{"type":"string","optional":false,"field":"name"},{"type":"int64","optional":false,"field":"ts_ms"},` +
	`{"type":"string","optional":true,"name":"io.debezium.data.Enum","version":1,"parameters":{"allowed":` +
	`"true,first,first_in_data_collection,last_in_data_collection,last,false,incremental"},"default":"false",` +
	`"field":"snapshot"},{"type":"string","optional":false,"field":"db"},` +
	`{"type":"string","optional":true,"field":"sequence"},{"type":"int64","optional":true,"field":"ts_us"},` +
	`{"type":"int64","optional":true,"field":"ts_ns"},{"type":"string","optional":false,"field":"schema"},` +
	`{"type":"string","optional":false,"field":"table"},{"type":"int64","optional":true,"field":"txId"},` +
	`{"type":"int64","optional":true,"field":"lsn"},{"type":"int64","optional":true,"field":"xmin"},` +
	`{"type":"string","optional":true,"field":"origin"},` +
	`{"type":"int64","optional":true,"field":"origin_lsn"}],` +
	`"optional":false,"name":"io.debezium.connector.postgresql.Source","version":1,"field":"source"},` +
	`{"type":"struct","fields":[{"type":"string","optional":false,"field":"id"},` +
	`{"type":"int64","optional":false,"field":"total_order"},` +
	`{"type":"int64","optional":false,"field":"data_collection_order"}],"optional":true,"name":"event.block",` +
	`"version":1,"field":"transaction"},{"type":"string","optional":false,"field":"op"},` +
	`{"type":"int64","optional":true,"field":"ts_ms"},{"type":"int64","optional":true,"field":"ts_us"},` +
	`{"type":"int64","optional":true,"field":"ts_ns"}`

// appendSchema writes a schema as JsonConverter does; field is "" for an element.
func (w *wire) appendSchema(dst []byte, field string) []byte {
	dst = append(append(append(dst, `{"type":"`...), w.typeName()...), '"')
	switch {
	case w.kind == kindArray:
		dst = w.elem.appendSchema(append(dst, `,"items":`...), "")
	case w.kind == kindMap:
		dst = append(dst, `,"keys":{"type":"string","optional":false},"values":`...)
		dst = w.elem.appendSchema(dst, "")
	case w.name == nameVariableScale:
		dst = append(dst, `,"fields":[{"type":"int32","optional":false,"field":"scale"},{"type":"bytes",`+
			`"optional":false,"field":"value"}]`...)
	case w.name == namePoint:
		dst = append(dst, `,"fields":[{"type":"double","optional":false,"field":"x"},{"type":"double",`+
			`"optional":false,"field":"y"},{"type":"bytes","optional":true,"field":"wkb"},{"type":"int32",`+
			`"optional":true,"field":"srid"}]`...)
	}
	dst = strconv.AppendBool(append(dst, `,"optional":`...), w.optional)
	if w.name != "" {
		dst = append(append(append(dst, `,"name":"`...), w.name...), `","version":1`...)
	}
	switch w.name {
	case connectDecimal:
		dst = strconv.AppendInt(append(dst, `,"parameters":{"scale":"`...), int64(w.scale), 10)
		if w.precision > 0 {
			dst = strconv.AppendInt(append(dst, `","connect.decimal.precision":"`...), int64(w.precision), 10)
		}
		dst = append(dst, `"}`...)
	case nameBits:
		length := int64(w.length)
		if length < 0 {
			length = 1<<31 - 1
		}
		dst = append(strconv.AppendInt(append(dst, `,"parameters":{"length":"`...), length, 10), `"}`...)
	}
	if field != "" {
		dst = serde.AppendJSONString(append(dst, `,"field":`...), field)
	}
	return append(dst, '}')
}

func (w *wire) typeName() string {
	switch w.kind {
	case kindInt:
		return "int" + strconv.Itoa(w.bits)
	case kindFloat32:
		return "float"
	case kindFloat64:
		return "double"
	case kindBool:
		return "boolean"
	case kindString:
		return "string"
	case kindBytes:
		return "bytes"
	case kindArray:
		return "array"
	case kindMap:
		return "map"
	}
	return "struct"
}
