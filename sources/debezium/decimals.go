package debezium

import (
	"bytes"
	"math"
	"math/big"
	"strconv"
	"unsafe"
)

// The bounds of numeric: digits after the point, and before it.
const (
	maxScale  = 16383
	maxDigits = 131072
)

// appendUnscaled writes a two's complement integer with a decimal point before its last
// scale digits.
func appendUnscaled(dst, src []byte, scale int) ([]byte, error) {
	if len(src) == 0 || scale < 0 || scale > maxScale {
		return dst, errRange
	}
	if len(src) <= 8 {
		n := int64(int8(src[0]))
		for _, b := range src[1:] {
			n = n<<8 | int64(b)
		}
		var digits [20]byte
		u := uint64(n)
		if n < 0 {
			dst, u = append(dst, '-'), -u
		}
		return appendPoint(dst, strconv.AppendUint(digits[:0], u, 10), scale), nil
	}
	if len(src) > maxDigits {
		return dst, errRange
	}
	n := new(big.Int).SetBytes(src)
	if src[0] >= 0x80 {
		n.Sub(n, new(big.Int).Lsh(big.NewInt(1), uint(len(src))*8))
	}
	if n.Sign() < 0 {
		dst = append(dst, '-')
		n.Neg(n)
	}
	return appendPoint(dst, n.Append(nil, 10), scale), nil
}

// appendPoint writes digits with a decimal point before the last scale of them.
func appendPoint(dst, digits []byte, scale int) []byte {
	if scale == 0 {
		return append(dst, digits...)
	}
	whole := len(digits) - scale
	if whole <= 0 {
		dst = append(dst, "0."...)
		for ; whole < 0; whole++ {
			dst = append(dst, '0')
		}
		return append(dst, digits...)
	}
	dst = append(dst, digits[:whole]...)
	return append(append(dst, '.'), digits[whole:]...)
}

// appendPlain writes a JSON number without exponent, with scale digits after the point,
// or, with -1, with as many as it has; a float's ".0" is left out then.
func appendPlain(dst, lit []byte, scale int, float bool) ([]byte, error) {
	if lit[0] == '-' {
		lit = lit[1:]
		if bytes.ContainsAny(lit, "123456789") {
			dst = append(dst, '-')
		}
	}
	mantissa, exp := lit, 0
	if at := bytes.IndexAny(lit, "eE"); at >= 0 {
		mantissa = lit[:at]
		n, err := strconv.Atoi(string(lit[at+1:]))
		if err != nil || n > maxDigits || n < -maxDigits {
			return dst, errRange
		}
		exp = n
	}
	whole, frac, _ := bytes.Cut(mantissa, []byte{'.'})
	var buf [64]byte
	digits := append(append(buf[:0], whole...), frac...)
	fraction := len(frac) - exp // digits after the point
	for fraction < 0 {
		digits, fraction = append(digits, '0'), fraction+1
	}
	for float && fraction > max(scale, 0) && len(digits) > 1 && digits[len(digits)-1] == '0' {
		digits, fraction = digits[:len(digits)-1], fraction-1
	}
	if scale < 0 {
		scale = fraction
	}
	for fraction < scale {
		digits, fraction = append(digits, '0'), fraction+1
	}
	for fraction > scale && len(digits) > 1 && digits[len(digits)-1] == '0' {
		digits, fraction = digits[:len(digits)-1], fraction-1
	}
	if fraction > scale && !allZero(digits) || len(digits) > maxDigits {
		return dst, errRange
	}
	for len(digits) > scale+1 && digits[0] == '0' {
		digits = digits[1:]
	}
	return appendPoint(dst, digits, scale), nil
}

func allZero(digits []byte) bool {
	for _, d := range digits {
		if d != '0' {
			return false
		}
	}
	return true
}

// The texts of numeric's special values.
var nan, infinite, minusInfinite = []byte("NaN"), []byte("Infinity"), []byte("-Infinity")

// decimalText reads a decimal that was written as text.
func (v *values) decimalText(c *conv, text []byte) ([]byte, error) {
	switch string(text) {
	case "NAN", "NaN":
		return nan, nil
	case "POSITIVE_INFINITY", "Infinity":
		return infinite, nil
	case "NEGATIVE_INFINITY", "-Infinity":
		return minusInfinite, nil
	}
	if c.unavailable != nil && bytes.Equal(text, c.unavailable) {
		return text, nil
	}
	s := scanner{b: text}
	lit, err := s.number()
	if err != nil || len(lit) != len(text) {
		return nil, errForm
	}
	if !bytes.ContainsAny(lit, "eE") {
		return lit, nil
	}
	start := len(v.arena)
	v.arena, err = appendPlain(v.arena, lit, -1, false)
	return v.since(start), err
}

// float writes a float as PostgreSQL does: the shortest digits that read back as the
// same, with an exponent from 15 digits on (6 for real).
func (v *values) float(c *conv, lit []byte) ([]byte, error) {
	size, limit := 32, 6
	if c.wide {
		size, limit = 64, 15
	}
	// ParseFloat keeps nothing of its argument but in an error, which stays here.
	f, err := strconv.ParseFloat(unsafe.String(unsafe.SliceData(lit), len(lit)), size)
	if err != nil {
		return nil, errRange
	}
	format := byte('f')
	if abs := math.Abs(f); abs != 0 && (abs < 1e-4 || abs >= math.Pow10(limit)) {
		format = 'e'
	}
	start := len(v.arena)
	v.arena = strconv.AppendFloat(v.arena, f, format, -1, size)
	return v.since(start), nil
}
