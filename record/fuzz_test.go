package record

import (
	"bytes"
	"testing"
)

// fuzzed is what every value type offers.
type fuzzed[T any] interface {
	*T
	UnmarshalText(src []byte) error
	String() string
}

// checkText parses any text: whatever is taken has to print as a text that reads
// back as the same value.
func checkText[T comparable, P fuzzed[T]](t *testing.T, src []byte) {
	t.Helper()
	var v, back T
	if P(&v).UnmarshalText(src) != nil {
		return
	}
	text := P(&v).String()
	if err := P(&back).UnmarshalText([]byte(text)); err != nil || back != v {
		t.Errorf("%T: %q prints as %q, which reads as %v, %v", v, src, text, back, err)
	}
}

type fuzzedKey[T any] interface {
	*T
	AppendOrdered(dst []byte) []byte
	DecodeOrdered(src []byte) (rest []byte, err error)
}

// checkKey decodes any bytes: whatever is taken has to be what the encoder writes.
func checkKey[T comparable, P fuzzedKey[T]](t *testing.T, src []byte) {
	t.Helper()
	var v T
	rest, err := P(&v).DecodeOrdered(src)
	if err != nil {
		return
	}
	if again := P(&v).AppendOrdered(nil); !bytes.Equal(again, src[:len(src)-len(rest)]) {
		t.Errorf("%T: %x decodes as %v, which is encoded as %x", v, src, v, again)
	}
}

func FuzzValues(f *testing.F) {
	for _, s := range []string{"1.5", "-0", "1e10", "NaN", "infinity", "2024-02-29", "0044-03-15 BC",
		"24:00:00", "12:00:00-07:52:58",
		"2024-02-29 12:34:56.5+00", "294276-12-31 23:59:59.999999", "1 year 2 mons -3 days +04:05:06.7",
		"a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11", "12345678901234567890.123", "16/B374D848",
		"\x04\x80\x00\x00\x01\x0b\x00"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, src []byte) {
		if len(src) > 200 {
			return
		}
		checkText[Decimal](t, src)
		checkText[Timestamp](t, src)
		checkText[Instant](t, src)
		checkText[Date](t, src)
		checkText[TimeOfDay](t, src)
		checkText[TimeTZ](t, src)
		checkText[Interval](t, src)
		checkText[UUID](t, src)
		checkKey[Decimal](t, src)
		checkKey[Timestamp](t, src)
		checkKey[Date](t, src)
		checkKey[TimeTZ](t, src)
		checkKey[UUID](t, src)
		var d Decimal
		if rest, err := d.DecodeState(src); err == nil && len(rest) > len(src) {
			t.Error("more is left than was there")
		}
	})
}

// FuzzPositions reads positions of any text: what is taken prints as what reads back.
func FuzzPositions(f *testing.F) {
	for _, s := range []string{
		"shop:0/16B3748", "a:1/2,b:FFFFFFFF/FFFFFFFF", "a:1/2,a:3/4", ":", "a:100000000/0", "a:/",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		p, err := ParsePositions(s)
		if err != nil {
			return
		}
		if back, err := ParsePositions(p.String()); err != nil || back.String() != p.String() || !p.Covers(back) ||
			!back.Covers(p) {
			t.Errorf("%q prints as %q, which reads as %q, %v", s, p, back, err)
		}
	})
}
