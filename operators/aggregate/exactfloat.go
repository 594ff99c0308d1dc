package aggregate

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/bits"
)

// exactFloat is a sum of finite floats without rounding: an integer of any length,
// in two's complement, that counts the smallest float, 2^-1074. Every finite float
// is a whole number of these.
//
// Only the 32-bit limbs that are in use are kept: limbs[i] counts for
// 2^(32*(base+i)), and beyond the last one all bits are those of the sign. Sums of
// numbers of like size take two to four limbs.
type exactFloat struct {
	base  int
	limbs []uint32
	neg   bool
}

// smallestExp is the exponent of the smallest float.
const smallestExp = -1074

// add adds a finite float. -f takes f out.
func (x *exactFloat) add(f float64) {
	b := math.Float64bits(f)
	mantissa, exp := b&(1<<52-1), int(b>>52&0x7ff)
	if exp == 0 {
		exp = 1 // subnormal: the exponent of the smallest normal, no hidden bit
	} else {
		mantissa |= 1 << 52
	}
	if mantissa == 0 {
		return
	}
	// The mantissa is shifted within a limb, so that it lies across three of them.
	shift := exp - 1
	hi, lo := mantissa>>(64-shift%32), mantissa<<(shift%32)
	part := [3]uint32{uint32(lo), uint32(lo >> 32), uint32(hi)}
	at := x.reach(shift/32, 3)
	if b>>63 == 0 {
		x.plus(at, part)
	} else {
		x.minus(at, part)
	}
}

// reach makes sure that limbs from index first on, n of them, are kept, and returns
// where the first is.
func (x *exactFloat) reach(first, n int) int {
	if len(x.limbs) == 0 && !x.neg {
		x.base = first
	}
	if first < x.base {
		more := make([]uint32, x.base-first, x.base-first+len(x.limbs)+1)
		x.limbs, x.base = append(more, x.limbs...), first
	}
	for len(x.limbs) < first-x.base+n {
		x.limbs = append(x.limbs, x.sign())
	}
	return first - x.base
}

// sign is a limb beyond the last one.
func (x *exactFloat) sign() uint32 {
	if x.neg {
		return math.MaxUint32
	}
	return 0
}

func (x *exactFloat) plus(at int, part [3]uint32) {
	var carry uint32
	for i, p := range part {
		x.limbs[at+i], carry = bits.Add32(x.limbs[at+i], p, carry)
	}
	for i := at + 3; carry != 0 && i < len(x.limbs); i++ {
		x.limbs[i], carry = bits.Add32(x.limbs[i], 0, carry)
	}
	switch {
	case carry == 0:
	case x.neg: // all ones plus one: the sign limbs become zero
		x.neg = false
	default:
		x.limbs = append(x.limbs, 1)
	}
}

func (x *exactFloat) minus(at int, part [3]uint32) {
	var borrow uint32
	for i, p := range part {
		x.limbs[at+i], borrow = bits.Sub32(x.limbs[at+i], p, borrow)
	}
	for i := at + 3; borrow != 0 && i < len(x.limbs); i++ {
		x.limbs[i], borrow = bits.Sub32(x.limbs[i], 0, borrow)
	}
	switch {
	case borrow == 0:
	case !x.neg: // zero minus one: the sign limbs become all ones
		x.neg = true
	default:
		x.limbs = append(x.limbs, math.MaxUint32-1)
	}
}

// merge adds another sum, limb by limb.
func (x *exactFloat) merge(o *exactFloat) {
	for i, l := range o.limbs {
		if l != 0 {
			x.plus(x.reach(o.base+i, 3), [3]uint32{l})
		}
	}
	if o.neg { // the sign limbs stand for minus one in the limb behind the last
		x.minus(x.reach(o.base+len(o.limbs), 3), [3]uint32{1})
	}
}

// magnitude returns limb i of the absolute value, given whether all limbs below
// are zero.
func (x *exactFloat) magnitude(i int, zeroBelow bool) uint32 {
	switch {
	case !x.neg:
		return x.limbs[i]
	case zeroBelow:
		return -x.limbs[i]
	}
	return ^x.limbs[i]
}

// round returns the sum divided by 2^shift as the nearest float64, ties to even.
func (x *exactFloat) round(shift int) float64 {
	low := 0 // the first limb that is not zero
	for low < len(x.limbs) && x.limbs[low] == 0 {
		low++
	}
	if low == len(x.limbs) {
		if !x.neg {
			return 0
		}
		// The limbs are zero and the sign limbs ones: minus one in the next limb.
		return -x.scale(1, len(x.limbs)*32, shift)
	}
	top := len(x.limbs) - 1
	for top > low && x.magnitude(top, false) == 0 {
		top--
	}
	// The first 64 to 96 bits decide, with a bit that says whether more follow.
	hi := uint64(x.magnitude(top, top == low))
	var lo uint64
	if top > low {
		hi = hi<<32 | uint64(x.magnitude(top-1, top-1 == low))
	} else {
		hi <<= 32
	}
	if top-2 >= low {
		lo = uint64(x.magnitude(top-2, top-2 == low)) << 32
	}
	lead := bits.LeadingZeros64(hi)
	hi = hi<<lead | lo>>(64-lead)
	sticky := lo<<lead != 0 || top-3 >= low
	if sticky {
		hi |= 1
	}
	f := x.scale(hi, (top-1)*32-lead, shift)
	if x.neg {
		f = -f
	}
	return f
}

// scale returns m * 2^(bit + 32*base + smallestExp - shift), rounded once. The last
// bit of m stands for itself and all that follows it.
func (x *exactFloat) scale(m uint64, bit, shift int) float64 {
	exp := bit + 32*x.base + smallestExp - shift
	if m == 0 {
		return 0
	}
	// Drop bits until 53 are left, or until the last one is the smallest float.
	drop := max(64-bits.LeadingZeros64(m)-53, smallestExp-exp, 0)
	if drop > 64 {
		return 0
	}
	var rest, half uint64
	if drop > 0 {
		rest, half = m&(1<<drop-1), 1<<(drop-1)
		m >>= drop
	}
	if rest > half || rest == half && drop > 0 && m&1 == 1 {
		m++
	}
	return math.Ldexp(float64(m), exp+drop)
}

// append writes the sum in its shortest form, the same for the same sum.
func (x *exactFloat) append(dst []byte) []byte {
	from, to := 0, len(x.limbs)
	for from < to && x.limbs[from] == 0 {
		from++
	}
	for to > from && x.limbs[to-1] == x.sign() {
		to--
	}
	if from == to && !x.neg {
		return dst
	}
	flags := byte(0)
	if x.neg {
		flags = 1
	}
	dst = append(dst, flags, byte(x.base+from))
	for _, l := range x.limbs[from:to] {
		dst = binary.LittleEndian.AppendUint32(dst, l)
	}
	return dst
}

func (x *exactFloat) decode(src []byte) error {
	*x = exactFloat{limbs: x.limbs[:0]}
	if len(src) == 0 {
		return nil
	}
	if len(src)%4 != 2 {
		return fmt.Errorf("aggregate: float sum of %d bytes", len(src))
	}
	x.neg, x.base = src[0] == 1, int(src[1])
	for src = src[2:]; len(src) > 0; src = src[4:] {
		x.limbs = append(x.limbs, binary.LittleEndian.Uint32(src))
	}
	return nil
}
