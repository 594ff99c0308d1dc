package record

import (
	"math"
	"math/big"
	"strconv"
	"strings"
)

// Decimal is an exact decimal number with PostgreSQL's numeric range, NaN and the
// infinities. It is canonical: two decimals are == exactly where PostgreSQL's
// numeric calls them equal, so it may be a key, and 1.50 is kept, and printed, as
// 1.5. Where the display scale matters keep an apd.Decimal instead, or write into
// a column numeric(p,s), which brings the scale back.
//
// The zero value is 0. Numbers of up to 18 digits need no memory of their own.
type Decimal struct {
	// coef times 10^exp is the value where form is small. It has no trailing zero;
	// zero has exponent 0.
	coef int64
	// big has the digits of a coefficient that int64 does not hold.
	big  string
	exp  int32
	form decimalForm
}

type decimalForm uint8

const (
	small decimalForm = iota
	bigPositive
	bigNegative
	decimalNaN
	plusInf
	minusInf
)

// Numeric's limits: digits before and behind the decimal point.
const (
	maxDecimalExp = 131_072
	minDecimalExp = -16_383
)

// The special decimals. As in PostgreSQL, NaN equals itself and is greater than
// everything else.
var (
	DecimalNaN           = Decimal{form: decimalNaN}
	DecimalInfinity      = Decimal{form: plusInf}
	DecimalMinusInfinity = Decimal{form: minusInf}
)

var pow10 = [19]int64{1, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15,
	1e16, 1e17, 1e18}

// NewDecimal returns coef times 10^exp; NewDecimal(1999, -2) is 19.99.
func NewDecimal(coef int64, exp int32) Decimal {
	if coef == math.MinInt64 {
		return newBigDecimal(big.NewInt(coef), int64(exp))
	}
	return normal(coef, int64(exp))
}

// DecimalOfUint64 returns n.
func DecimalOfUint64(n uint64) Decimal {
	if n > math.MaxInt64 {
		return newBigDecimal(new(big.Int).SetUint64(n), 0)
	}
	return normal(int64(n), 0)
}

// NewBigDecimal returns coef times 10^exp. It keeps nothing of coef.
func NewBigDecimal(coef *big.Int, exp int32) Decimal { return newBigDecimal(coef, int64(exp)) }

// normal makes a small decimal canonical. coef is not MinInt64.
func normal(coef, exp int64) Decimal {
	if coef == 0 {
		return Decimal{}
	}
	for coef%10 == 0 {
		coef /= 10
		exp++
	}
	return Decimal{coef: coef, exp: checkExp(exp)}
}

func newBigDecimal(coef *big.Int, exp int64) Decimal {
	if coef.IsInt64() && coef.Int64() != math.MinInt64 {
		return normal(coef.Int64(), exp)
	}
	digits := coef.Append(nil, 10)
	neg := digits[0] == '-'
	if neg {
		digits = digits[1:]
	}
	return fromDigits(digits, neg, exp)
}

// fromDigits makes a decimal of the digits of a coefficient, without leading
// zeros.
func fromDigits(digits []byte, neg bool, exp int64) Decimal {
	n := len(digits)
	for n > 0 && digits[n-1] == '0' {
		n--
	}
	exp += int64(len(digits) - n)
	digits = digits[:n]
	if n == 0 {
		return Decimal{}
	}
	if n <= 19 {
		var u uint64
		for _, c := range digits {
			u = u*10 + uint64(c-'0')
		}
		if u <= math.MaxInt64 {
			coef := int64(u)
			if neg {
				coef = -coef
			}
			return Decimal{coef: coef, exp: checkExp(exp)}
		}
	}
	form := bigPositive
	if neg {
		form = bigNegative
	}
	return Decimal{big: string(digits), exp: checkExp(exp), form: form}
}

// checkExp guards the exponent against arithmetic that goes far beyond anything
// numeric can hold.
func checkExp(exp int64) int32 {
	if exp > 1<<30 || exp < -1<<30 {
		panic(ErrRange)
	}
	return int32(exp)
}

// IsNaN reports whether d is not a number.
func (d Decimal) IsNaN() bool { return d.form == decimalNaN }

// IsInfinite reports whether d is one of the infinities.
func (d Decimal) IsInfinite() bool { return d.form == plusInf || d.form == minusInf }

// IsZero reports whether d is 0.
func (d Decimal) IsZero() bool { return d == Decimal{} }

func (d Decimal) finite() bool { return d.form <= bigNegative }

// Sign returns -1, 0 or 1; it is 0 for NaN as well.
func (d Decimal) Sign() int {
	switch d.form {
	case small:
		return compare64(d.coef, 0)
	case bigPositive, plusInf:
		return 1
	case bigNegative, minusInf:
		return -1
	}
	return 0
}

// Int64 returns d as an integer; ok is false where it is none, or does not fit.
func (d Decimal) Int64() (n int64, ok bool) {
	switch {
	case d.form == small && d.exp == 0:
		return d.coef, true
	case d.form == small && d.exp > 0 && d.exp < int32(len(pow10)):
		return mul64(d.coef, pow10[d.exp])
	case d.form == bigNegative && d.exp == 0 && d.big == "9223372036854775808":
		return math.MinInt64, true
	}
	return 0, false
}

// Uint64 returns d as an integer; ok is false where it is none, or does not fit.
func (d Decimal) Uint64() (n uint64, ok bool) {
	if !d.finite() || d.exp < 0 || d.Sign() < 0 || d.exp > 19 || len(d.big) > 20 {
		return 0, false
	}
	coef, exp := d.bigCoef()
	coef.Mul(coef, bigPow10(int64(exp)))
	return coef.Uint64(), coef.IsUint64()
}

// Float64 returns the nearest float.
func (d Decimal) Float64() float64 {
	switch d.form {
	case decimalNaN:
		return math.NaN()
	case plusInf:
		return math.Inf(1)
	case minusInf:
		return math.Inf(-1)
	}
	buf := d.appendCoef(make([]byte, 0, 40))
	buf = strconv.AppendInt(append(buf, 'e'), int64(d.exp), 10)
	f, _ := strconv.ParseFloat(string(buf), 64)
	return f
}

// Compare orders as numeric does: -Infinity, numbers, Infinity, NaN. It returns
// -1, 0 or 1.
func (d Decimal) Compare(e Decimal) int {
	if d.form == small && e.form == small && d.exp == e.exp {
		return compare64(d.coef, e.coef)
	}
	if a, b := d.class(), e.class(); a != b || a != 2 && a != 4 {
		return compare64(int64(a), int64(b))
	}
	var bufD, bufE [20]byte
	x, y := d.digits(bufD[:0]), e.digits(bufE[:0])
	c := compare64(int64(len(x))+int64(d.exp), int64(len(y))+int64(e.exp))
	if c == 0 {
		c = strings.Compare(string(x), string(y))
	}
	return c * d.Sign()
}

// class places a decimal among the others: -Infinity, negative, zero, positive,
// Infinity, NaN.
func (d Decimal) class() int {
	switch d.form {
	case minusInf:
		return 1
	case plusInf:
		return 5
	case decimalNaN:
		return 6
	}
	return 3 + d.Sign()
}

// digits appends the digits of the coefficient, without a sign.
func (d Decimal) digits(dst []byte) []byte {
	if d.form != small {
		return append(dst, d.big...)
	}
	if d.coef < 0 {
		return appendUint(dst, uint64(-d.coef))
	}
	return appendUint(dst, uint64(d.coef))
}

func (d Decimal) appendCoef(dst []byte) []byte {
	if d.Sign() < 0 {
		dst = append(dst, '-')
	}
	return d.digits(dst)
}
