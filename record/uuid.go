package record

import (
	"bytes"
	"database/sql/driver"
	"encoding/hex"
)

// UUID is PostgreSQL's uuid. It is comparable and may be a key.
type UUID [16]byte

// ParseUUID reads 32 hexadecimal digits, with or without the four dashes. The
// error is ErrSyntax.
func ParseUUID[S ~string | ~[]byte](s S) (UUID, error) {
	var u UUID
	err := u.UnmarshalText([]byte(s))
	return u, err
}

// Compare orders by bytes, as PostgreSQL does.
func (u UUID) Compare(v UUID) int { return bytes.Compare(u[:], v[:]) }

// String returns the form with dashes.
func (u UUID) String() string { return string(u.append(nil)) }

func (u UUID) append(dst []byte) []byte {
	dst = append(hex.AppendEncode(dst, u[:4]), '-')
	dst = append(hex.AppendEncode(dst, u[4:6]), '-')
	dst = append(hex.AppendEncode(dst, u[6:8]), '-')
	dst = append(hex.AppendEncode(dst, u[8:10]), '-')
	return hex.AppendEncode(dst, u[10:])
}

// AppendText appends the form with dashes. It never fails.
func (u UUID) AppendText(dst []byte) ([]byte, error) { return u.append(dst), nil }

// MarshalText returns the form with dashes. It never fails.
func (u UUID) MarshalText() ([]byte, error) { return u.append(nil), nil }

// UnmarshalText is ParseUUID.
func (u *UUID) UnmarshalText(src []byte) error {
	var v UUID
	var digits [32]byte
	switch {
	case len(src) == 32:
		copy(digits[:], src)
	case len(src) == 36 && src[8] == '-' && src[13] == '-' && src[18] == '-' && src[23] == '-':
		copy(digits[:], src[:8])
		copy(digits[8:], src[9:13])
		copy(digits[12:], src[14:18])
		copy(digits[16:], src[19:23])
		copy(digits[20:], src[24:])
	default:
		return ErrSyntax
	}
	if _, err := hex.Decode(v[:], digits[:]); err != nil {
		return ErrSyntax
	}
	*u = v
	return nil
}

// AppendJSON appends the text form as a string.
func (u UUID) AppendJSON(dst []byte) []byte { return appendQuoted(dst, u.append) }

// Scan reads a text of database/sql.
func (u *UUID) Scan(src any) error { return scanText(u, src) }

// Value gives database/sql the text form.
func (u UUID) Value() (driver.Value, error) { return u.String(), nil }

// AppendOrdered appends the 16 bytes.
func (u UUID) AppendOrdered(dst []byte) []byte { return append(dst, u[:]...) }

// DecodeOrdered reads what AppendOrdered wrote and returns the rest.
func (u *UUID) DecodeOrdered(src []byte) (rest []byte, err error) {
	if len(src) < len(u) {
		return nil, ErrEncoding
	}
	return src[copy(u[:], src):], nil
}
