package debezium

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
)

// Modes are the connector's options that decide what values look like in records. They
// matter where records carry no schema; the zero value is Debezium's default.
type Modes struct {
	// Decimal is decimal.handling.mode: "precise" (default), "double" or "string".
	Decimal string
	// Time is time.precision.mode: "adaptive" (default), "adaptive_time_microseconds",
	// "connect", "isostring", "microseconds" or "nanoseconds".
	Time string
	// Binary is binary.handling.mode: "bytes" (default), "base64", "base64-url-safe" or
	// "hex". It matters with schemas, too, where it makes a bytea a plain string.
	Binary string
	// Interval is interval.handling.mode: "numeric" (default) or "string".
	Interval string
	// HStore is hstore.handling.mode: "json" (default) or "map".
	HStore string
	// MoneyDigits is money.fraction.digits, default 2.
	MoneyDigits int
	// Unknown is include.unknown.datatypes, default false.
	Unknown bool
	// Placeholder is unavailable.value.placeholder, default __debezium_unavailable_value.
	Placeholder string
}

// DefaultPlaceholder is what Debezium writes for a large value that an update left
// alone.
const DefaultPlaceholder = "__debezium_unavailable_value"

var modeOptions = []struct {
	option string
	at     func(*Modes) *string
	values []string
}{
	{
		"decimal.handling.mode",
		func(m *Modes) *string { return &m.Decimal },
		[]string{"precise", "double", "string"},
	},
	{"time.precision.mode", func(m *Modes) *string { return &m.Time }, []string{"adaptive",
		"adaptive_time_microseconds", "connect", "isostring", "microseconds", "nanoseconds"}},
	{"binary.handling.mode", func(m *Modes) *string { return &m.Binary }, []string{"bytes", "base64",
		"base64-url-safe", "hex"}},
	{"interval.handling.mode", func(m *Modes) *string { return &m.Interval }, []string{"numeric", "string"}},
	{"hstore.handling.mode", func(m *Modes) *string { return &m.HStore }, []string{"json", "map"}},
}

// ModesOf reads the modes out of a connector's configuration, as Kafka Connect's REST
// interface returns it. All unknown values are reported at once.
func ModesOf(config map[string]string) (Modes, error) {
	m := Modes{MoneyDigits: 2, Placeholder: DefaultPlaceholder}
	var errs []error
	for _, o := range modeOptions {
		if v, ok := config[o.option]; ok {
			*o.at(&m) = v
		}
	}
	if v, ok := config["money.fraction.digits"]; ok {
		n, err := strconv.Atoi(v)
		if err != nil || n < 0 {
			errs = append(errs, fmt.Errorf("debezium: money.fraction.digits is %q, which is no number", v))
		}
		m.MoneyDigits = n
	}
	m.Unknown = config["include.unknown.datatypes"] == "true"
	if v := config["unavailable.value.placeholder"]; v != "" {
		m.Placeholder = v
	}
	m, err := m.withDefaults()
	return m, errors.Join(append(errs, err)...)
}

// withDefaults fills in the defaults and checks the words.
func (m Modes) withDefaults() (Modes, error) {
	var errs []error
	for _, o := range modeOptions {
		at := o.at(&m)
		if *at == "" {
			*at = o.values[0]
		}
		if !slices.Contains(o.values, *at) {
			errs = append(errs, fmt.Errorf("debezium: %s is %q; this reader knows %q", o.option, *at, o.values))
		}
	}
	if m.MoneyDigits == 0 {
		m.MoneyDigits = 2
	}
	if m.Placeholder == "" {
		m.Placeholder = DefaultPlaceholder
	}
	return m, errors.Join(errs...)
}

// wireOf returns the form in which a connector with these modes writes a column: what
// its schema would say if the records had one. nil: the connector leaves the column out.
func (m *Modes) wireOf(c *Column) *wire {
	t := parseSQLType(c.sqlName())
	if t.dims == 0 {
		return m.scalarWire(t, c)
	}
	switch t.base {
	case "money", "interval", "bit varying", "xml", "point", "line", "lseg", "box", "path", "polygon", "circle":
		return nil
	}
	elem := m.scalarWire(t, c)
	if elem == nil {
		return nil
	}
	return &wire{kind: kindArray, optional: true, elem: elem}
}

func (m *Modes) scalarWire(t sqlType, c *Column) *wire {
	w := &wire{optional: true, scale: -1, precision: -1, length: -1}
	set := func(k kind, bits int, name string) *wire {
		w.kind, w.bits, w.name = k, bits, name
		return w
	}
	switch t.base {
	case "boolean":
		return set(kindBool, 0, "")
	case "smallint":
		return set(kindInt, 16, "")
	case "integer":
		return set(kindInt, 32, "")
	case "bigint", "oid":
		return set(kindInt, 64, "")
	case "real":
		return set(kindFloat32, 0, "")
	case "double precision":
		return set(kindFloat64, 0, "")
	case "numeric", "money":
		return m.decimalWire(t, w)
	case "bit", "bit varying":
		if len(t.args) == 1 && t.args[0] == 1 || t.base == "bit" && len(t.args) == 0 {
			return set(kindBool, 0, "")
		}
		if len(t.args) == 1 {
			w.length = t.args[0]
		}
		return set(kindBytes, 0, nameBits)
	case "bytea":
		if m.Binary == "bytes" {
			return set(kindBytes, 0, "")
		}
		return set(kindString, 0, "")
	case "interval":
		if m.Interval == "string" {
			return set(kindString, 0, nameInterval)
		}
		return set(kindInt, 64, nameMicroDuration)
	case "hstore":
		if m.HStore == "map" {
			w.elem = &wire{kind: kindString, optional: true}
			return set(kindMap, 0, "")
		}
		return set(kindString, 0, nameJSON)
	case "name":
		return set(kindString, 0, "")
	case "point":
		return set(kindStruct, 0, namePoint)
	case "geometry", "geography":
		return set(kindStruct, 0, nameGeometry)
	case "vector", "halfvec":
		return vectorWire(t, w)
	case "date", "time without time zone", "time with time zone", "timestamp without time zone",
		"timestamp with time zone":
		return m.timeWire(t, w)
	}
	switch {
	case plainTexts[t.base] || c.Enum:
		return set(kindString, 0, "")
	case m.Unknown && m.Binary == "bytes":
		return set(kindBytes, 0, "")
	case m.Unknown:
		return set(kindString, 0, "")
	}
	return nil
}

// written are the types that Debezium knows besides plainTexts.
var written = map[string]bool{"boolean": true, "smallint": true, "integer": true, "bigint": true, "oid": true,
	"real": true, "double precision": true, "numeric": true, "money": true, "bit": true, "bit varying": true,
	"bytea": true, "interval": true, "hstore": true, "name": true, "point": true, "geometry": true,
	"geography": true, "vector": true, "halfvec": true, "date": true, "time without time zone": true,
	"time with time zone": true, "timestamp without time zone": true, "timestamp with time zone": true}

// unknown reports whether the connector does not know a column's type.
func (m *Modes) unknown(t sqlType, c *Column) bool {
	return m.Unknown && t.dims == 0 && !c.Enum && !plainTexts[t.base] && !written[t.base]
}

func vectorWire(t sqlType, w *wire) *wire {
	w.kind, w.name, w.elem = kindArray, nameDoubleVector, &wire{kind: kindFloat64}
	if t.base == "halfvec" {
		w.name, w.elem = nameFloatVector, &wire{kind: kindFloat32}
	}
	return w
}

func (m *Modes) decimalWire(t sqlType, w *wire) *wire {
	switch m.Decimal {
	case "double":
		w.kind = kindFloat64
	case "string":
		w.kind = kindString
	default:
		w.kind, w.name = kindBytes, connectDecimal
		switch {
		case t.base == "money":
			w.scale = m.MoneyDigits
		case len(t.args) == 2:
			w.precision, w.scale = t.args[0], t.args[1]
		case len(t.args) == 1:
			w.precision, w.scale = t.args[0], 0
		default:
			w.kind, w.name = kindStruct, nameVariableScale
		}
	}
	return w
}

func (m *Modes) timeWire(t sqlType, w *wire) *wire {
	switch t.base {
	case "time with time zone":
		w.kind, w.name = kindString, nameZonedTime
		return w
	case "timestamp with time zone":
		w.kind, w.name = kindString, nameZonedTimestamp
		return w
	}
	names := map[string][3]string{ // date, time, timestamp
		"connect":      {connectDate, connectTime, connectTimestamp},
		"isostring":    {nameIsoDate, nameIsoTime, nameIsoTimestamp},
		"microseconds": {nameDate, nameMicroTime, nameMicroTimestamp},
		"nanoseconds":  {nameDate, nameNanoTime, nameNanoTimestamp},
	}
	short := t.precision() <= 3
	adaptive := [3]string{nameDate, nameMicroTime, nameMicroTimestamp}
	if short {
		adaptive[2] = nameTimestamp
		if m.Time == "adaptive" {
			adaptive[1] = nameTime
		}
	}
	form, ok := names[m.Time]
	if !ok {
		form = adaptive
	}
	i := map[string]int{"date": 0, "time without time zone": 1, "timestamp without time zone": 2}[t.base]
	w.name, w.kind, w.bits = form[i], kindInt, 64
	switch w.name {
	case nameDate, nameTime, connectDate, connectTime:
		w.bits = 32
	}
	if m.Time == "isostring" {
		w.kind = kindString
	}
	return w
}
