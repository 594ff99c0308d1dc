package record

import (
	"math/big"
	"math/bits"

	"github.com/cockroachdb/apd/v3"
)

// Add returns d+e, exactly. As in numeric, NaN stays NaN, and the sum of both
// infinities is NaN.
func (d Decimal) Add(e Decimal) Decimal {
	if d.form == small && e.form == small {
		if d.exp == e.exp {
			if sum := d.coef + e.coef; (sum > d.coef) == (e.coef > 0) {
				return NewDecimal(sum, d.exp)
			}
		} else if sum, ok := addAligned(d, e); ok {
			return sum
		}
	}
	if !d.finite() || !e.finite() {
		return addSpecial(d, e)
	}
	a, expA := d.bigCoef()
	b, expB := e.bigCoef()
	exp := min(expA, expB)
	a.Mul(a, bigPow10(int64(expA)-int64(exp)))
	b.Mul(b, bigPow10(int64(expB)-int64(exp)))
	return newBigDecimal(a.Add(a, b), int64(exp))
}

// addAligned adds numbers of different exponents if 64 bits are enough.
func addAligned(d, e Decimal) (Decimal, bool) {
	if d.coef == 0 {
		return e, true
	}
	if e.coef == 0 {
		return d, true
	}
	if d.exp < e.exp {
		d, e = e, d
	}
	shift := int64(d.exp) - int64(e.exp)
	if shift >= int64(len(pow10)) {
		return Decimal{}, false
	}
	coef, ok := mul64(d.coef, pow10[shift])
	if !ok {
		return Decimal{}, false
	}
	sum := coef + e.coef
	return NewDecimal(sum, e.exp), (sum > coef) == (e.coef > 0)
}

func addSpecial(d, e Decimal) Decimal {
	switch {
	case d.IsNaN() || e.IsNaN():
		return DecimalNaN
	case d.finite():
		return e
	case e.finite() || d == e:
		return d
	}
	return DecimalNaN
}

// Sub returns d-e, exactly.
func (d Decimal) Sub(e Decimal) Decimal { return d.Add(e.Neg()) }

// Neg returns -d.
func (d Decimal) Neg() Decimal {
	switch d.form {
	case small:
		d.coef = -d.coef
	case bigPositive:
		d.form = bigNegative
	case bigNegative:
		d.form = bigPositive
	case plusInf:
		d.form = minusInf
	case minusInf:
		d.form = plusInf
	}
	return d
}

// Abs returns d without its sign.
func (d Decimal) Abs() Decimal {
	if d.Sign() < 0 {
		return d.Neg()
	}
	return d
}

// Mul returns d*e, exactly. As in numeric, zero times an infinity is NaN. It
// panics with ErrRange where the exponent leaves plus or minus 2^30, far beyond
// what numeric holds.
func (d Decimal) Mul(e Decimal) Decimal {
	if d.form == small && e.form == small {
		if coef, ok := mul64(d.coef, e.coef); ok {
			return normal(coef, int64(d.exp)+int64(e.exp))
		}
	}
	if !d.finite() || !e.finite() {
		sign := d.Sign() * e.Sign()
		switch {
		case d.IsNaN() || e.IsNaN() || sign == 0:
			return DecimalNaN
		case sign > 0:
			return DecimalInfinity
		}
		return DecimalMinusInfinity
	}
	a, expA := d.bigCoef()
	b, expB := e.bigCoef()
	return newBigDecimal(a.Mul(a, b), int64(expA)+int64(expB))
}

// Round returns d rounded to that many digits behind the point, half away from
// zero, as numeric's round does. A negative scale rounds before the point.
func (d Decimal) Round(scale int32) Decimal {
	drop := -int64(scale) - int64(d.exp)
	if !d.finite() || drop <= 0 {
		return d
	}
	coef, _ := d.bigCoef()
	if drop > int64(len(d.big))+20 {
		return Decimal{}
	}
	return newBigDecimal(quoRound(coef, bigPow10(drop)), -int64(scale))
}

// Quo returns d/e, rounded as numeric's division rounds it: to at least 16
// significant digits, and to at least minScale digits behind the point, which is
// the larger display scale of the two (a Decimal does not keep its own; 0 will
// do but for quotients of 16 and more digits before the point). ok is false where
// e is zero.
func (d Decimal) Quo(e Decimal, minScale int32) (q Decimal, ok bool) {
	switch {
	case d.IsNaN() || e.IsNaN() || d.IsInfinite() && e.IsInfinite():
		return DecimalNaN, true
	case e.IsZero():
		return Decimal{}, false
	case d.IsInfinite():
		if e.Sign() < 0 {
			return d.Neg(), true
		}
		return d, true
	case e.IsInfinite() || d.IsZero():
		return Decimal{}, true
	}
	scale := int64(quoScale(d, e, minScale))
	a, expA := d.bigCoef()
	b, expB := e.bigCoef()
	if shift := scale + int64(expA) - int64(expB); shift >= 0 {
		a.Mul(a, bigPow10(shift))
	} else {
		b.Mul(b, bigPow10(-shift))
	}
	return newBigDecimal(quoRound(a, b), -scale), true
}

// quoScale is PostgreSQL's select_div_scale: it estimates the weight of the
// quotient from the first digits to the base of 10000.
func quoScale(d, e Decimal, minScale int32) int32 {
	weightD, firstD := d.leading()
	weightE, firstE := e.leading()
	weight := weightD - weightE
	if firstD <= firstE {
		weight--
	}
	scale := max(16-weight*4, int64(minScale), -int64(d.exp), -int64(e.exp), 0)
	return int32(min(scale, 1000))
}

// leading returns the power of 10000 and the value of the first digit to that
// base.
func (d Decimal) leading() (weight, first int64) {
	var buf [20]byte
	digits := d.digits(buf[:0])
	before := int64(len(digits)) + int64(d.exp)
	weight = floorDiv(before-1, 4)
	n := int(before - weight*4)
	for i := range n {
		first *= 10
		if i < len(digits) {
			first += int64(digits[i] - '0')
		}
	}
	return weight, first
}

// quoRound divides integers, half away from zero.
func quoRound(a, b *big.Int) *big.Int {
	neg := a.Sign()*b.Sign() < 0
	q, r := new(big.Int).QuoRem(a.Abs(a), b.Abs(b), new(big.Int))
	if r.Lsh(r, 1).Cmp(b) >= 0 {
		q.Add(q, big.NewInt(1))
	}
	if neg {
		q.Neg(q)
	}
	return q
}

// bigCoef returns the coefficient of a finite decimal in a new integer.
func (d Decimal) bigCoef() (*big.Int, int32) {
	if d.form == small {
		return big.NewInt(d.coef), d.exp
	}
	n, _ := new(big.Int).SetString(d.big, 10)
	if d.form == bigNegative {
		n.Neg(n)
	}
	return n, d.exp
}

func bigPow10(n int64) *big.Int {
	return new(big.Int).Exp(big.NewInt(10), big.NewInt(n), nil)
}

// mul64 multiplies; ok is false where the product does not fit, or is MinInt64.
func mul64(a, b int64) (int64, bool) {
	x, y := uint64(a), uint64(b)
	if a < 0 {
		x = -x
	}
	if b < 0 {
		y = -y
	}
	hi, lo := bits.Mul64(x, y)
	if hi != 0 || lo > 1<<63-1 {
		return 0, false
	}
	if (a < 0) != (b < 0) {
		return -int64(lo), true
	}
	return int64(lo), true
}

// DecimalOfAPD returns the value of an apd.Decimal, without its display scale.
func DecimalOfAPD(a *apd.Decimal) Decimal {
	switch a.Form {
	case apd.NaN, apd.NaNSignaling:
		return DecimalNaN
	case apd.Infinite:
		if a.Negative {
			return DecimalMinusInfinity
		}
		return DecimalInfinity
	}
	coef := new(big.Int).Set(a.Coeff.MathBigInt())
	if a.Negative {
		coef.Neg(coef)
	}
	return newBigDecimal(coef, int64(a.Exponent))
}

// APD returns d as an apd.Decimal.
func (d Decimal) APD() *apd.Decimal {
	switch d.form {
	case decimalNaN:
		return &apd.Decimal{Form: apd.NaN}
	case plusInf, minusInf:
		return &apd.Decimal{Form: apd.Infinite, Negative: d.form == minusInf}
	}
	coef, exp := d.bigCoef()
	return apd.NewWithBigInt(new(apd.BigInt).SetMathBigInt(coef), exp)
}
