package record

import (
	"database/sql/driver"
	"strconv"
	"strings"
)

// ParseDecimal reads a number in decimal notation, with an exponent if need be,
// or NaN, Infinity, -Infinity in any case. The error is ErrSyntax, or ErrRange
// where it has more than 131072 digits before the point or 16383 behind it.
func ParseDecimal[S ~string | ~[]byte](s S) (Decimal, error) {
	var d Decimal
	err := d.UnmarshalText([]byte(s))
	return d, err
}

// UnmarshalText is ParseDecimal.
func (d *Decimal) UnmarshalText(src []byte) error {
	i, neg := 0, false
	if len(src) > 0 && (src[0] == '-' || src[0] == '+') {
		neg = src[0] == '-'
		i = 1
	}
	// Zeros are folded in only when another digit follows, so that the coefficient
	// comes out without trailing ones.
	var coef, exp int64
	digits, zeros, seen, point := 0, 0, false, false
	for ; i < len(src); i++ {
		c := src[i]
		if c == '.' && !point {
			point = true
			continue
		}
		if c-'0' > 9 {
			break
		}
		seen = true
		if point {
			exp--
		}
		if c == '0' {
			zeros++
			continue
		}
		if coef != 0 {
			digits += zeros
		}
		digits++
		if digits > 18 {
			return d.parseLong(src)
		}
		if coef != 0 {
			coef *= pow10[zeros]
		}
		coef, zeros = coef*10+int64(c-'0'), 0
	}
	if !seen || i < len(src) {
		return d.parseLong(src)
	}
	if coef == 0 {
		*d = Decimal{}
		return nil
	}
	exp += int64(zeros)
	if digits+int(exp) > maxDecimalExp || exp < minDecimalExp {
		return ErrRange
	}
	if neg {
		coef = -coef
	}
	*d = Decimal{coef: coef, exp: int32(exp)}
	return nil
}

// parseLong reads what UnmarshalText's quick way does not: many digits, an
// exponent, a special value.
func (d *Decimal) parseLong(src []byte) error {
	switch strings.ToLower(string(src[:min(len(src), 10)])) {
	case "nan":
		*d = DecimalNaN
		return nil
	case "infinity", "inf", "+infinity", "+inf":
		*d = DecimalInfinity
		return nil
	case "-infinity", "-inf":
		*d = DecimalMinusInfinity
		return nil
	}
	i, neg := 0, false
	if len(src) > 0 && (src[0] == '-' || src[0] == '+') {
		neg = src[0] == '-'
		i = 1
	}
	digits := make([]byte, 0, len(src))
	var exp int64
	seen, point := false, false
	for ; i < len(src); i++ {
		c := src[i]
		if c == '.' && !point {
			point = true
			continue
		}
		if c-'0' > 9 {
			break
		}
		seen = true
		if point {
			exp--
		}
		if c != '0' || len(digits) > 0 {
			digits = append(digits, c)
		}
	}
	if !seen {
		return ErrSyntax
	}
	if i < len(src) {
		e, err := parseExponent(src[i:])
		if err != nil {
			return err
		}
		exp += e
	}
	for len(digits) > 0 && digits[len(digits)-1] == '0' {
		digits = digits[:len(digits)-1]
		exp++
	}
	if len(digits) > 0 && (int64(len(digits))+exp > maxDecimalExp || exp < minDecimalExp) {
		return ErrRange
	}
	*d = fromDigits(digits, neg, exp)
	return nil
}

func parseExponent(src []byte) (int64, error) {
	if src[0] != 'e' && src[0] != 'E' {
		return 0, ErrSyntax
	}
	digits := src[1:]
	if len(digits) > 0 && (digits[0] == '-' || digits[0] == '+') {
		digits = digits[1:]
	}
	if len(digits) == 0 {
		return 0, ErrSyntax
	}
	for _, c := range digits {
		if c-'0' > 9 {
			return 0, ErrSyntax
		}
	}
	e, err := strconv.ParseInt(string(src[1:]), 10, 32)
	if err != nil {
		return 0, ErrRange
	}
	return e, nil
}

// String returns PostgreSQL's text form, without zeros at the end of a fraction.
func (d Decimal) String() string { return string(d.append(nil)) }

func (d Decimal) append(dst []byte) []byte {
	switch d.form {
	case decimalNaN:
		return append(dst, "NaN"...)
	case plusInf:
		return append(dst, "Infinity"...)
	case minusInf:
		return append(dst, "-Infinity"...)
	}
	if d.exp >= 0 {
		dst = d.appendCoef(dst)
		for range d.exp {
			dst = append(dst, '0')
		}
		return dst
	}
	if d.Sign() < 0 {
		dst = append(dst, '-')
	}
	var buf [20]byte
	digits := d.digits(buf[:0])
	point := len(digits) + int(d.exp)
	if point > 0 {
		dst = append(append(dst, digits[:point]...), '.')
		return append(dst, digits[point:]...)
	}
	dst = append(dst, '0', '.')
	for range -point {
		dst = append(dst, '0')
	}
	return append(dst, digits...)
}

// AppendText appends what String returns. It never fails.
func (d Decimal) AppendText(dst []byte) ([]byte, error) { return d.append(dst), nil }

// MarshalText returns what String returns. It never fails.
func (d Decimal) MarshalText() ([]byte, error) { return d.append(nil), nil }

// AppendJSON appends a number; NaN and the infinities, which JSON does not have,
// as strings.
func (d Decimal) AppendJSON(dst []byte) []byte {
	if d.finite() {
		return d.append(dst)
	}
	return appendQuoted(dst, d.append)
}

// MarshalJSON returns what AppendJSON writes. It never fails.
func (d Decimal) MarshalJSON() ([]byte, error) { return d.AppendJSON(nil), nil }

// UnmarshalJSON reads a number, or a string with one.
func (d *Decimal) UnmarshalJSON(src []byte) error {
	if len(src) > 0 && src[0] != '"' && src[0] != 'n' {
		return d.UnmarshalText(src)
	}
	return unmarshalJSONText(d, src)
}

// Scan reads a value of database/sql: a text, an integer or a float.
func (d *Decimal) Scan(src any) error {
	switch n := src.(type) {
	case int64:
		*d = NewDecimal(n, 0)
		return nil
	case float64:
		return d.UnmarshalText(strconv.AppendFloat(nil, n, 'g', -1, 64))
	}
	return scanText(d, src)
}

// Value gives database/sql the text form.
func (d Decimal) Value() (driver.Value, error) { return d.String(), nil }
