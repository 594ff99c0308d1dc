package serde

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"math"
	"reflect"
	"strconv"
	"unsafe"

	"github.com/tailrace/tailrace/record"
)

// scalarCodec returns the codec of a type whose kind is a plain scalar, nil for
// any other.
func scalarCodec(t reflect.Type) *codec {
	var c *codec
	switch t.Kind() {
	case reflect.Bool:
		c = boolCodec()
	case reflect.String:
		c = stringCodec()
	case reflect.Float32:
		c = floatCodec[float32](32, "real", "real", "smallint")
	case reflect.Float64:
		c = floatCodec[float64](64, "double precision", "real", "double precision", "smallint", "integer")
	case reflect.Int8:
		c = intCodec[int8]("smallint", 8)
	case reflect.Int16:
		c = intCodec[int16]("smallint", 16)
	case reflect.Int32:
		c = intCodec[int32]("integer", 32)
	case reflect.Int64:
		c = intCodec[int64]("bigint", 64)
	case reflect.Int:
		c = intCodec[int]("bigint", strconv.IntSize)
	case reflect.Uint8:
		c = uintCodec[uint8]("smallint", 8)
	case reflect.Uint16:
		c = uintCodec[uint16]("integer", 16)
	case reflect.Uint32:
		c = uintCodec[uint32]("bigint", 32)
	case reflect.Uint64:
		c = uintCodec[uint64]("numeric(20,0)", 64)
	case reflect.Uint:
		c = uintCodec[uint]("numeric(20,0)", strconv.IntSize)
	default:
		return nil
	}
	c.goType = t
	return c
}

func boolCodec() *codec {
	return leaf(codec{sqlType: "boolean", fits: only("boolean")},
		parseBool,
		func(dst []byte, v *bool) []byte {
			if *v {
				return append(dst, 't')
			}
			return append(dst, 'f')
		},
		func(dst []byte, v *bool, _ *JSONOptions) []byte { return strconv.AppendBool(dst, *v) })
}

func parseBool(v *bool, src []byte) error {
	switch string(src) {
	case "t", "true":
		*v = true
	case "f", "false":
		*v = false
	default:
		return ErrSyntax
	}
	return nil
}

func stringCodec() *codec {
	c := leaf(codec{sqlType: "text", fits: func(columnType) bool { return true }},
		func(v *string, src []byte) error { *v = string(src); return nil },
		func(dst []byte, v *string) []byte { return append(dst, *v...) },
		func(dst []byte, v *string, _ *JSONOptions) []byte { return AppendJSONString(dst, *v) })
	c.parseFor = func(t columnType) parseFunc {
		if blankPadded(t) {
			return func(p unsafe.Pointer, src []byte) error { return c.parse(p, withoutPadding(src)) }
		}
		return c.parse
	}
	return c
}

// blankPadded reports whether a column is char(n), whose text is padded with blanks to
// n. They are no part of the value: the database ignores them when it compares, and
// drops them in a cast to text.
func blankPadded(t columnType) bool { return t.name == "character" && !t.array }

func withoutPadding(src []byte) []byte { return bytes.TrimRight(src, " ") }

type (
	signed interface {
		int8 | int16 | int32 | int64 | int
	}
	unsigned interface {
		uint8 | uint16 | uint32 | uint64 | uint
	}
)

func intCodec[T signed](sqlType string, bits int) *codec {
	lo, hi := int64(-1)<<(bits-1), int64(1)<<(bits-1)-1
	rangeType := map[int]string{32: "int4range", 64: "int8range"}[bits]
	return leaf(codec{sqlType: sqlType, rangeType: rangeType, fits: signedFits(bits)},
		func(v *T, src []byte) error {
			n, err := parseInt(src)
			if err == nil && (n < lo || n > hi) {
				err = ErrRange
			}
			if err != nil {
				return err
			}
			*v = T(n)
			return nil
		},
		func(dst []byte, v *T) []byte { return strconv.AppendInt(dst, int64(*v), 10) },
		func(dst []byte, v *T, o *JSONOptions) []byte {
			return quotedIf(bits == 64 && o.NumbersAsStrings, dst, func(dst []byte) []byte {
				return strconv.AppendInt(dst, int64(*v), 10)
			})
		})
}

func uintCodec[T unsigned](sqlType string, bits int) *codec {
	return leaf(codec{sqlType: sqlType, fits: unsignedFits(bits)},
		func(v *T, src []byte) error {
			n, err := parseUint(src)
			if err == nil && uint64(T(n)) != n {
				err = ErrRange
			}
			if err != nil {
				return err
			}
			*v = T(n)
			return nil
		},
		func(dst []byte, v *T) []byte { return strconv.AppendUint(dst, uint64(*v), 10) },
		func(dst []byte, v *T, o *JSONOptions) []byte {
			return quotedIf(bits == 64 && o.NumbersAsStrings, dst, func(dst []byte) []byte {
				return strconv.AppendUint(dst, uint64(*v), 10)
			})
		})
}

// signedFits takes integer columns that are no wider than the Go type. int8, for
// which there is no SQL type, takes smallint and meets the rest at run time.
func signedFits(bits int) func(columnType) bool {
	return func(t columnType) bool {
		if t.array {
			return false
		}
		switch t.name {
		case "smallint":
			return true
		case "integer":
			return bits >= 32
		case "bigint", "oid", "xid", "cid":
			return bits == 64
		}
		return integral(t, map[int]int{32: 9, 64: 18}[bits])
	}
}

// unsignedFits takes what signedFits takes, and the column types that sinks make
// for the Go type. Negative values are met at run time.
func unsignedFits(bits int) func(columnType) bool {
	return func(t columnType) bool {
		if t.array {
			return false
		}
		switch t.name {
		case "smallint":
			return true
		case "integer":
			return bits >= 16
		case "bigint", "oid", "xid", "cid":
			return bits >= 32
		case "xid8":
			return bits == 64
		}
		return integral(t, map[int]int{32: 9, 64: 20}[bits])
	}
}

// integral reports whether t is numeric(p,0) of at most that many digits.
func integral(t columnType, digits int) bool {
	return t.name == "numeric" && len(t.args) > 0 && t.args[0] <= digits &&
		(len(t.args) == 1 || t.args[1] == 0)
}

// parseInt reads an integer of 64 bits.
func parseInt(src []byte) (int64, error) {
	digits := src
	neg := len(src) > 0 && src[0] == '-'
	if neg {
		digits = src[1:]
	}
	n, err := parseUint(digits)
	switch {
	case err != nil:
		return 0, err
	case neg && n <= 1<<63:
		return -int64(n), nil
	case neg || n > math.MaxInt64:
		return 0, ErrRange
	}
	return int64(n), nil
}

// parseUint reads an unsigned integer of 64 bits. A minus is no syntax error but
// out of range, so that the message is right.
func parseUint(src []byte) (uint64, error) {
	if len(src) == 0 {
		return 0, ErrSyntax
	}
	var n uint64
	for i, c := range src {
		d := uint64(c - '0')
		if d > 9 {
			if i == 0 && c == '-' && len(src) > 1 {
				return negative(src[1:])
			}
			return 0, ErrSyntax
		}
		if n > (math.MaxUint64-d)/10 {
			return 0, overflow(src[i:])
		}
		n = n*10 + d
	}
	return n, nil
}

// negative tells a negative number, which is out of range, from minus zero and
// from nonsense.
func negative(src []byte) (uint64, error) {
	zero := true
	for _, c := range src {
		if c-'0' > 9 {
			return 0, ErrSyntax
		}
		zero = zero && c == '0'
	}
	if zero {
		return 0, nil
	}
	return 0, ErrRange
}

func overflow(rest []byte) error {
	for _, c := range rest {
		if c-'0' > 9 {
			return ErrSyntax
		}
	}
	return ErrRange
}

func floatCodec[T float32 | float64](bits int, sqlType string, columns ...string) *codec {
	return leaf(codec{sqlType: sqlType, fits: only(columns...)},
		func(v *T, src []byte) error {
			// ParseFloat keeps nothing of its argument but in an error, which stays here.
			f, err := strconv.ParseFloat(unsafe.String(unsafe.SliceData(src), len(src)), bits)
			if err != nil || !plainFloat(src) {
				if isRange(err) {
					return ErrRange
				}
				return ErrSyntax
			}
			*v = T(f)
			return nil
		},
		func(dst []byte, v *T) []byte { return appendFloat(dst, float64(*v), bits) },
		func(dst []byte, v *T, _ *JSONOptions) []byte {
			f := float64(*v)
			return quotedIf(math.IsNaN(f) || math.IsInf(f, 0), dst, func(dst []byte) []byte {
				return appendFloat(dst, f, bits)
			})
		})
}

func isRange(err error) bool {
	return errors.Is(err, strconv.ErrRange)
}

// plainFloat refuses what ParseFloat takes beyond PostgreSQL's form: underscores
// and hexadecimal numbers.
func plainFloat(src []byte) bool {
	for _, c := range src {
		if c == '_' || c == 'x' || c == 'X' || c == 'p' || c == 'P' {
			return false
		}
	}
	return true
}

// appendFloat writes the shortest number that reads back as the same, in the
// notation that encoding/json uses, which PostgreSQL reads as well.
func appendFloat(dst []byte, f float64, bits int) []byte {
	switch {
	case math.IsNaN(f):
		return append(dst, "NaN"...)
	case math.IsInf(f, 1):
		return append(dst, "Infinity"...)
	case math.IsInf(f, -1):
		return append(dst, "-Infinity"...)
	}
	format := byte('f')
	if abs := math.Abs(f); abs != 0 && (abs < 1e-6 || abs >= 1e21) {
		format = 'e'
	}
	return strconv.AppendFloat(dst, f, format, -1, bits)
}

func bytesCodec() *codec {
	c := leaf(codec{sqlType: "bytea", fits: only("bytea")},
		func(v *[]byte, src []byte) error {
			if len(src) < 2 || src[0] != '\\' || src[1] != 'x' || len(src)%2 != 0 {
				return ErrSyntax
			}
			b := make([]byte, (len(src)-2)/2)
			if _, err := hex.Decode(b, src[2:]); err != nil {
				return ErrSyntax
			}
			*v = b
			return nil
		},
		func(dst []byte, v *[]byte) []byte { return hex.AppendEncode(append(dst, `\x`...), *v) },
		func(dst []byte, v *[]byte, _ *JSONOptions) []byte { return appendBase64(dst, *v) })
	c.parseJSON = func(p unsafe.Pointer, src []byte) error {
		b, err := parseBase64(src)
		*(*[]byte)(p) = b
		return err
	}
	return c
}

// byteArrayCodec is the codec of [N]byte: a bytea of that length, or a uuid if N
// is 16.
func byteArrayCodec(t reflect.Type) *codec {
	n := t.Len()
	view := func(p unsafe.Pointer) []byte { return unsafe.Slice((*byte)(p), n) }
	c := &codec{goType: t, sqlType: "bytea"}
	c.fits = func(col columnType) bool {
		return only("bytea")(col) || n == 16 && only("uuid")(col)
	}
	c.zero = func(p unsafe.Pointer) { clear(view(p)) }
	c.alloc = func() unsafe.Pointer { return reflect.New(t).UnsafePointer() }
	c.parse = func(p unsafe.Pointer, src []byte) error {
		if n == 16 && len(src) == 36 && src[0] != '\\' {
			return parseUUID(view(p), src)
		}
		if len(src) < 2 || src[0] != '\\' || src[1] != 'x' {
			return ErrSyntax
		}
		if len(src) != 2+2*n {
			return ErrRange
		}
		if _, err := hex.Decode(view(p), src[2:]); err != nil {
			return ErrSyntax
		}
		return nil
	}
	c.text = func(dst []byte, p unsafe.Pointer) []byte { return hex.AppendEncode(append(dst, `\x`...), view(p)) }
	c.json = func(dst []byte, p unsafe.Pointer, _ *JSONOptions) []byte { return appendBase64(dst, view(p)) }
	c.parseJSON = func(p unsafe.Pointer, src []byte) error {
		b, err := parseBase64(src)
		if err == nil && len(b) != n {
			err = ErrRange
		}
		copy(view(p), b)
		return err
	}
	return c
}

func appendBase64(dst, b []byte) []byte {
	return append(base64.StdEncoding.AppendEncode(append(dst, '"'), b), '"')
}

func parseUUID(dst, src []byte) error {
	var u record.UUID
	if err := u.UnmarshalText(src); err != nil {
		return err
	}
	copy(dst, u[:])
	return nil
}
