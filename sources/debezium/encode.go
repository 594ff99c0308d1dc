package debezium

import (
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"math"
	"math/big"
	"strconv"
	"strings"

	"github.com/tailrace/tailrace/serde"
)

// value writes PostgreSQL's text of a value as Debezium does.
func (e *Encoder) value(dst []byte, c *conv, precision int, text []byte) ([]byte, error) {
	switch c.code {
	case asText:
		return serde.AppendJSONString(dst, string(text)), nil
	case asInt:
		if _, err := strconv.ParseInt(string(text), 10, 64); err != nil {
			return dst, errForm
		}
		return append(dst, text...), nil
	case asFloat, asDouble:
		return appendJavaFloat(dst, text, c.wide || c.code == asDouble)
	case asBool, asBit:
		return strconv.AppendBool(dst, string(text) == "t" || string(text) == "1" || string(text) == "true"), nil
	case asBits:
		return e.base64(dst, packBits(text), inBase64), nil
	case asBytes:
		raw, ok := strings.CutPrefix(string(text), `\x`)
		b, err := hex.DecodeString(raw)
		if !ok || err != nil {
			return dst, errForm
		}
		return e.base64(dst, b, c.enc), nil
	case asBase64Text:
		return e.base64(dst, text, c.enc), nil
	case asDecimal, asVariable, asDecimalText:
		return e.decimal(dst, c, text)
	case asArray:
		return e.array(dst, c, precision, text)
	case asHStore, asHStoreMap:
		return e.hstore(dst, c, text)
	case asPoint:
		return e.point(dst, text)
	}
	return e.time(dst, c, precision, text)
}

func (e *Encoder) base64(dst, b []byte, enc encoding) []byte {
	dst = append(dst, '"')
	switch enc {
	case inHex:
		dst = hex.AppendEncode(dst, b)
	case inURL:
		dst = base64.URLEncoding.AppendEncode(dst, b)
	default:
		dst = base64.StdEncoding.AppendEncode(dst, b)
	}
	return append(dst, '"')
}

// packBits makes bytes of a bit string, the last bit first, without zeros at the end.
func packBits(text []byte) []byte {
	out := make([]byte, (len(text)+7)/8)
	for i := range text {
		if text[len(text)-1-i] == '1' {
			out[i/8] |= 1 << (i % 8)
		}
	}
	for len(out) > 0 && out[len(out)-1] == 0 {
		out = out[:len(out)-1]
	}
	return out
}

// appendJavaFloat writes a float as Java does: 1000.0, 1.0E10; what JSON has no number
// for as a string.
func appendJavaFloat(dst, text []byte, wide bool) ([]byte, error) {
	size := 32
	if wide {
		size = 64
	}
	f, err := strconv.ParseFloat(string(text), size)
	switch {
	case err != nil:
		return dst, errForm
	case math.IsNaN(f):
		return append(dst, `"NaN"`...), nil
	case math.IsInf(f, 0):
		return append(dst, map[bool]string{true: `"Infinity"`, false: `"-Infinity"`}[f > 0]...), nil
	}
	abs := math.Abs(f)
	if abs == 0 || abs >= 1e-3 && abs < 1e7 {
		start := len(dst)
		dst = strconv.AppendFloat(dst, f, 'f', -1, size)
		if !strings.ContainsRune(string(dst[start:]), '.') {
			dst = append(dst, ".0"...)
		}
		return dst, nil
	}
	mantissa, exp, _ := strings.Cut(strconv.FormatFloat(f, 'e', -1, size), "e")
	if !strings.Contains(mantissa, ".") {
		mantissa += ".0"
	}
	n, _ := strconv.Atoi(exp)
	return strconv.AppendInt(append(append(dst, mantissa...), 'E'), int64(n), 10), nil
}

func (e *Encoder) decimal(dst []byte, c *conv, text []byte) ([]byte, error) {
	s := string(text)
	if c.code == asDecimalText {
		switch s {
		case "NaN":
			s = "NAN"
		case "Infinity":
			s = "POSITIVE_INFINITY"
		case "-Infinity":
			s = "NEGATIVE_INFINITY"
		}
		return serde.AppendJSONString(dst, s), nil
	}
	whole, frac, _ := strings.Cut(s, ".")
	scale := c.scale
	if c.code == asVariable {
		frac = strings.TrimRight(frac, "0")
		scale = len(frac)
	}
	for len(frac) < scale {
		frac += "0"
	}
	if len(frac) > scale {
		return dst, errRange
	}
	n, ok := new(big.Int).SetString(whole+frac, 10)
	if !ok {
		return dst, refuse(ErrValue, "Debezium has no form for NaN and infinity in a precise decimal; use string")
	}
	if c.code == asDecimal {
		return e.base64(dst, twosComplement(n), inBase64), nil
	}
	dst = strconv.AppendInt(append(dst, `{"scale":`...), int64(scale), 10)
	return append(e.base64(append(dst, `,"value":`...), twosComplement(n), inBase64), '}'), nil
}

// twosComplement is Java's BigInteger.toByteArray.
func twosComplement(n *big.Int) []byte {
	if n.Sign() >= 0 {
		b := n.Bytes()
		if len(b) == 0 || b[0] >= 0x80 {
			b = append([]byte{0}, b...)
		}
		return b
	}
	size := uint(new(big.Int).Not(n).BitLen()/8 + 1)
	return new(big.Int).Add(n, new(big.Int).Lsh(big.NewInt(1), size*8)).FillBytes(make([]byte, size))
}

// array writes a one-dimensional array.
func (e *Encoder) array(dst []byte, c *conv, precision int, text []byte) ([]byte, error) {
	elems, ok := splitArray(text)
	if !ok {
		return dst, refuse(ErrValue, "Debezium has no form for arrays of several dimensions or other bounds")
	}
	dst = append(dst, '[')
	var err error
	for i, el := range elems {
		if i > 0 {
			dst = append(dst, ',')
		}
		if el == nil {
			dst = append(dst, "null"...)
			continue
		}
		if dst, err = e.value(dst, c.elem, precision, el); err != nil {
			return dst, err
		}
	}
	return append(dst, ']'), nil
}

// splitArray takes an array's text apart; a NULL is nil.
func splitArray(text []byte) (elems [][]byte, ok bool) {
	if len(text) < 2 || text[0] != '{' || text[len(text)-1] != '}' {
		return nil, false
	}
	in := text[1 : len(text)-1]
	for len(in) > 0 {
		el := []byte{}
		if in[0] == '"' {
			i := 1
			for ; i < len(in) && in[i] != '"'; i++ {
				if in[i] == '\\' && i+1 < len(in) {
					i++
				}
				el = append(el, in[i])
			}
			if i >= len(in) {
				return nil, false
			}
			in = in[i+1:]
		} else {
			i := 0
			for i < len(in) && in[i] != ',' {
				if in[i] == '{' {
					return nil, false
				}
				i++
			}
			el, in = in[:i:i], in[i:]
			if string(el) == "NULL" {
				el = nil
			}
		}
		elems = append(elems, el)
		if len(in) > 0 {
			if in[0] != ',' || len(in) == 1 {
				return nil, false
			}
			in = in[1:]
		}
	}
	return elems, true
}

// hstore writes an hstore as a JSON object, in a string or by itself.
func (e *Encoder) hstore(dst []byte, c *conv, text []byte) ([]byte, error) {
	out := []byte{'{'}
	in := string(text)
	quoted := func() (string, bool) {
		if !strings.HasPrefix(in, `"`) {
			return "", false
		}
		var b strings.Builder
		for i := 1; i < len(in); i++ {
			switch in[i] {
			case '\\':
				i++
				if i < len(in) {
					b.WriteByte(in[i])
				}
			case '"':
				in = in[i+1:]
				return b.String(), true
			default:
				b.WriteByte(in[i])
			}
		}
		return "", false
	}
	for in != "" {
		key, ok := quoted()
		if !ok || !strings.HasPrefix(in, "=>") {
			return dst, errForm
		}
		in = in[2:]
		out = append(serde.AppendJSONString(out, key), ':')
		if rest, ok := strings.CutPrefix(in, "NULL"); ok {
			in, out = rest, append(out, "null"...)
		} else {
			value, ok := quoted()
			if !ok {
				return dst, errForm
			}
			out = serde.AppendJSONString(out, value)
		}
		if in = strings.TrimPrefix(in, ", "); in != "" {
			out = append(out, ',')
		}
	}
	out = append(out, '}')
	if c.code == asHStoreMap {
		return append(dst, out...), nil
	}
	return serde.AppendJSONString(dst, string(out)), nil
}

func (e *Encoder) point(dst, text []byte) ([]byte, error) {
	x, y, ok := strings.Cut(strings.Trim(string(text), "()"), ",")
	fx, errX := strconv.ParseFloat(x, 64)
	fy, errY := strconv.ParseFloat(y, 64)
	if !ok || errX != nil || errY != nil {
		return dst, errForm
	}
	wkb := []byte{1, 1, 0, 0, 0}
	wkb = binary.LittleEndian.AppendUint64(wkb, math.Float64bits(fx))
	wkb = binary.LittleEndian.AppendUint64(wkb, math.Float64bits(fy))
	dst, _ = appendJavaFloat(append(dst, `{"x":`...), []byte(x), true) // parsed above
	dst, _ = appendJavaFloat(append(dst, `,"y":`...), []byte(y), true)
	return append(e.base64(append(dst, `,"wkb":`...), wkb, inBase64), `,"srid":null}`...), nil
}
