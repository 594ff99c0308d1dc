package record

import "encoding/binary"

// AppendOrdered appends the order-preserving form: the class of the number (its
// sign, or a special value), the power of ten, then the digits by pairs, each a
// byte from 1 to 100, and a zero byte. A negative number has the complement of
// everything behind its class.
func (d Decimal) AppendOrdered(dst []byte) []byte {
	class := d.class()
	dst = append(dst, byte(class))
	if class != 2 && class != 4 {
		return dst
	}
	var buf [20]byte
	digits := d.digits(buf[:0])
	start := len(dst)
	dst = appendOrdered32(dst, d.exp+int32(len(digits)))
	for i := 0; i < len(digits); i += 2 {
		pair := (digits[i] - '0') * 10
		if i+1 < len(digits) {
			pair += digits[i+1] - '0'
		}
		dst = append(dst, pair+1)
	}
	dst = append(dst, 0)
	if class == 2 {
		for i := start; i < len(dst); i++ {
			dst[i] = ^dst[i]
		}
	}
	return dst
}

// DecodeOrdered reads what AppendOrdered wrote and returns the rest.
func (d *Decimal) DecodeOrdered(src []byte) (rest []byte, err error) {
	if len(src) == 0 {
		return nil, ErrEncoding
	}
	class, src := src[0], src[1:]
	switch class {
	case 1, 3, 5, 6:
		*d = [...]Decimal{1: DecimalMinusInfinity, 3: {}, 5: DecimalInfinity, 6: DecimalNaN}[class]
		return src, nil
	case 2, 4:
	default:
		return nil, ErrEncoding
	}
	var mask byte
	if class == 2 {
		mask = 0xff
	}
	if len(src) < 4 {
		return nil, ErrEncoding
	}
	head := binary.BigEndian.Uint32(src) ^ 1<<31
	if class == 2 {
		head = ^head
	}
	var buf [40]byte
	digits := buf[:0]
	for i, c := range src[4:] {
		if c ^= mask; c == 0 {
			return src[4+i+1:], d.fromOrdered(digits, class == 2, int32(head))
		} else if c > 100 {
			return nil, ErrEncoding
		} else {
			digits = appendTwo(digits, int(c-1))
		}
	}
	return nil, ErrEncoding
}

func (d *Decimal) fromOrdered(digits []byte, neg bool, before int32) error {
	n := len(digits)
	if n > 0 && digits[n-1] == '0' {
		n--
	}
	exp := int64(before) - int64(n)
	if n == 0 || digits[0] == '0' || digits[n-1] == '0' || exp > 1<<30 || exp < -1<<30 {
		return ErrEncoding
	}
	*d = fromDigits(digits[:n], neg, exp)
	return nil
}

// AppendState appends the form of a stored row: the form's number, exponent and
// coefficient.
func (d Decimal) AppendState(dst []byte) []byte {
	dst = append(dst, byte(d.form))
	if !d.finite() {
		return dst
	}
	dst = binary.AppendVarint(dst, int64(d.exp))
	if d.form == small {
		return binary.AppendVarint(dst, d.coef)
	}
	return append(binary.AppendUvarint(dst, uint64(len(d.big))), d.big...)
}

// DecodeState reads what AppendState wrote and returns the rest.
func (d *Decimal) DecodeState(src []byte) (rest []byte, err error) {
	if len(src) == 0 || src[0] > byte(minusInf) {
		return nil, ErrEncoding
	}
	v := Decimal{form: decimalForm(src[0])}
	src = src[1:]
	if !v.finite() {
		*d = v
		return src, nil
	}
	exp, n := binary.Varint(src)
	if n <= 0 || exp > 1<<30 || exp < -1<<30 {
		return nil, ErrEncoding
	}
	v.exp, src = int32(exp), src[n:]
	if v.form == small {
		v.coef, n = binary.Varint(src)
		if n <= 0 {
			return nil, ErrEncoding
		}
		*d = v
		return src[n:], nil
	}
	size, n := binary.Uvarint(src)
	if n <= 0 || size > uint64(len(src)-n) {
		return nil, ErrEncoding
	}
	v.big, src = string(src[n:n+int(size)]), src[n+int(size):]
	*d = v
	return src, nil
}
