package serde

import (
	"bytes"
	"encoding/json"
	"net"
	"net/netip"
	"reflect"
	"time"
	"unsafe"

	"github.com/cockroachdb/apd/v3"

	"github.com/tailrace/tailrace/record"
)

type (
	parseFunc func(p unsafe.Pointer, src []byte) error
	textFunc  func(dst []byte, p unsafe.Pointer) []byte
	jsonFunc  func(dst []byte, p unsafe.Pointer, o *JSONOptions) []byte
)

// codec knows how values of one Go type are read and written. The pointers that
// its functions take point to a value of that type.
type codec struct {
	goType reflect.Type
	// parse reads the text form of a column. It is nil for a type that no column
	// can be decoded into.
	parse parseFunc
	// fits reports whether every value of a column of this type can be held, or at
	// least recognized as one that cannot. parseFor, if set, gives the parser for a
	// column type instead of parse.
	fits     func(t columnType) bool
	parseFor func(t columnType) parseFunc
	// null sets NULL, isNull reports it; nil where the type has none.
	null   func(p unsafe.Pointer)
	isNull func(p unsafe.Pointer) bool
	// zero sets the zero value, alloc makes a new one.
	zero  func(p unsafe.Pointer)
	alloc func() unsafe.Pointer
	// text appends PostgreSQL's text form, for a column of type sqlType.
	text    textFunc
	sqlType string
	// json appends JSON. parseJSON reads it where it is not the text form as a
	// string, number or boolean.
	json      jsonFunc
	parseJSON parseFunc
	// rangeType is the range type over this type.
	rangeType string
}

// leaf makes the codec of a type that stands for one value.
func leaf[T any](c codec, parse func(*T, []byte) error, text func([]byte, *T) []byte,
	js func([]byte, *T, *JSONOptions) []byte,
) *codec {
	c.goType = reflect.TypeFor[T]()
	c.zero = func(p unsafe.Pointer) { var z T; *(*T)(p) = z }
	c.alloc = func() unsafe.Pointer { return unsafe.Pointer(new(T)) }
	c.parse = func(p unsafe.Pointer, src []byte) error { return parse((*T)(p), src) }
	c.text = func(dst []byte, p unsafe.Pointer) []byte { return text(dst, (*T)(p)) }
	c.json = func(dst []byte, p unsafe.Pointer, o *JSONOptions) []byte { return js(dst, (*T)(p), o) }
	return &c
}

// only makes a fits function of a list of types, none of them an array.
func only(names ...string) func(columnType) bool {
	return func(t columnType) bool {
		if t.array {
			return false
		}
		for _, n := range names {
			if n == t.name {
				return true
			}
		}
		return false
	}
}

// known are the types with a codec of their own, whatever methods they have.
var known = func() map[reflect.Type]*codec {
	m := map[reflect.Type]*codec{}
	for _, c := range []*codec{
		timeCodec(), bytesCodec(), rawJSONCodec(), apdCodec(), macCodec(),
		recordCodec[record.Decimal]("numeric", "numrange", "numeric", "smallint", "integer", "bigint"),
		recordCodec[record.Timestamp]("timestamp", "tsrange", "timestamp without time zone"),
		recordCodec[record.Instant]("timestamptz", "tstzrange", "timestamp with time zone"),
		recordCodec[record.Date]("date", "daterange", "date"),
		recordCodec[record.TimeOfDay]("time", "", "time without time zone"),
		recordCodec[record.TimeTZ]("timetz", "", "time with time zone"),
		recordCodec[record.Interval]("interval", "", "interval"),
		recordCodec[record.UUID]("uuid", "", "uuid"),
		recordJSONCodec(), addrCodec(), prefixCodec(),
	} {
		m[c.goType] = c
	}
	d := m[reflect.TypeFor[record.Decimal]()]
	number := d.json
	d.json = func(dst []byte, p unsafe.Pointer, o *JSONOptions) []byte {
		return quotedIf(o.NumbersAsStrings, dst, func(dst []byte) []byte { return number(dst, p, o) })
	}
	return m
}()

// quotedIf wraps a number in quotes, unless it is in them already.
func quotedIf(quoted bool, dst []byte, f func([]byte) []byte) []byte {
	if !quoted {
		return f(dst)
	}
	start := len(dst) + 1
	dst = f(append(dst, '"'))
	if dst[start] == '"' {
		return append(dst[:start-1], dst[start:]...)
	}
	return append(dst, '"')
}

// recordValue is what the value types of package record have in common.
type recordValue interface {
	AppendText(dst []byte) ([]byte, error)
	AppendJSON(dst []byte) []byte
}

func recordCodec[T recordValue, P interface {
	*T
	UnmarshalText(src []byte) error
}](sqlType, rangeType string, columns ...string) *codec {
	return leaf(codec{sqlType: sqlType, rangeType: rangeType, fits: only(columns...)},
		func(v *T, src []byte) error { return P(v).UnmarshalText(src) },
		func(dst []byte, v *T) []byte { dst, _ = (*v).AppendText(dst); return dst },
		func(dst []byte, v *T, _ *JSONOptions) []byte { return (*v).AppendJSON(dst) })
}

func timeCodec() *codec {
	return leaf(codec{sqlType: "timestamptz", rangeType: "tstzrange", fits: only("timestamp with time zone")},
		func(v *time.Time, src []byte) (err error) {
			*v, err = record.ParseTime(src)
			return err
		},
		func(dst []byte, v *time.Time) []byte { dst, _ = record.InstantOf(*v).AppendText(dst); return dst },
		func(dst []byte, v *time.Time, _ *JSONOptions) []byte { return record.InstantOf(*v).AppendJSON(dst) })
}

func apdCodec() *codec {
	return leaf(codec{sqlType: "numeric", fits: only("numeric", "smallint", "integer", "bigint")},
		parseAPD,
		func(dst []byte, v *apd.Decimal) []byte { return v.Append(dst, 'f') },
		func(dst []byte, v *apd.Decimal, o *JSONOptions) []byte {
			quoted := o.NumbersAsStrings || v.Form != apd.Finite
			return quotedIf(quoted, dst, func(dst []byte) []byte { return v.Append(dst, 'f') })
		})
}

// parseAPD keeps the digits as they stand, so the display scale as well. apd's own
// parser refuses numbers beyond 100,000 digits, which numeric has.
func parseAPD(v *apd.Decimal, src []byte) error {
	// The record's parser says what is right; it also knows the special values.
	var checked record.Decimal
	if err := checked.UnmarshalText(src); err != nil {
		return err
	}
	if checked.IsNaN() || checked.IsInfinite() || bytes.ContainsAny(src, "eE") {
		*v = *checked.APD()
		return nil
	}
	digits, behind, point := make([]byte, 0, len(src)), 0, false
	for _, c := range src {
		switch {
		case c == '.':
			point = true
		case c-'0' <= 9:
			digits = append(digits, c)
			if point {
				behind++
			}
		}
	}
	// A value of its own: the old coefficient may be shared.
	var d apd.Decimal
	d.Coeff.SetString(string(digits), 10)
	d.Exponent = -int32(behind)
	d.Negative = src[0] == '-'
	*v = d
	return nil
}

func recordJSONCodec() *codec {
	c := leaf(codec{sqlType: "jsonb", fits: only("json", "jsonb")},
		func(v *record.JSON, src []byte) error { *v = record.JSON(src); return nil },
		func(dst []byte, v *record.JSON) []byte { return appendRawText(dst, string(*v)) },
		func(dst []byte, v *record.JSON, _ *JSONOptions) []byte { return appendRawJSON(dst, string(*v)) })
	c.parseJSON = c.parse
	return c
}

func rawJSONCodec() *codec {
	c := leaf(codec{sqlType: "jsonb", fits: only("json", "jsonb")},
		func(v *json.RawMessage, src []byte) error { *v = append(json.RawMessage{}, src...); return nil },
		func(dst []byte, v *json.RawMessage) []byte { return appendRawText(dst, string(*v)) },
		func(dst []byte, v *json.RawMessage, _ *JSONOptions) []byte { return appendRawJSON(dst, string(*v)) })
	c.parseJSON = c.parse
	return c
}

func addrCodec() *codec {
	return leaf(codec{sqlType: "inet", fits: only("inet")},
		parseAddr,
		func(dst []byte, v *netip.Addr) []byte { return v.AppendTo(dst) },
		func(dst []byte, v *netip.Addr, _ *JSONOptions) []byte {
			return append(v.AppendTo(append(dst, '"')), '"')
		})
}

func prefixCodec() *codec {
	return leaf(codec{sqlType: "inet", fits: only("inet", "cidr")},
		parsePrefix,
		func(dst []byte, v *netip.Prefix) []byte { return v.AppendTo(dst) },
		func(dst []byte, v *netip.Prefix, _ *JSONOptions) []byte {
			return append(v.AppendTo(append(dst, '"')), '"')
		})
}

func macCodec() *codec {
	return leaf(codec{sqlType: "macaddr8", fits: only("macaddr", "macaddr8")},
		func(v *net.HardwareAddr, src []byte) (err error) {
			if *v, err = net.ParseMAC(string(src)); err != nil {
				return ErrSyntax
			}
			return nil
		},
		func(dst []byte, v *net.HardwareAddr) []byte { return append(dst, v.String()...) },
		func(dst []byte, v *net.HardwareAddr, _ *JSONOptions) []byte {
			return append(append(append(dst, '"'), v.String()...), '"')
		})
}
