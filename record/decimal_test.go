package record

import (
	"encoding/json"
	"errors"
	"math"
	"math/big"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func decimal(t interface{ Fatalf(string, ...any) }, text string) Decimal {
	d, err := ParseDecimal(text)
	if err != nil {
		t.Fatalf("%q: %v", text, err)
	}
	return d
}

func TestDecimalText(t *testing.T) {
	for text, want := range map[string]string{
		"0": "0", "-0": "0", "0.00": "0", "+1.50": "1.5", "00012.3400": "12.34", ".5": "0.5", "5.": "5",
		"1e3":  "1000",
		"1E-3": "0.001", "-1.5e+2": "-150", "nan": "NaN", "inf": "Infinity", "-INFINITY": "-Infinity",
		"9223372036854775807": "9223372036854775807", "-9223372036854775808": "-9223372036854775808",
		"9223372036854775808000":            "9223372036854775808000",
		"0.0000000000000000000000000000001": "0.0000000000000000000000000000001",
		"100000000000000000000000":          "100000000000000000000000",
	} {
		if got := decimal(t, text).String(); got != want {
			t.Errorf("%q prints as %q, want %q", text, got, want)
		}
	}
	for _, text := range []string{"", "-", ".", "1.2.3", "1e", "1e+", "e1", "1 ", " 1", "1_0", "0x1", "1e1.5",
		"--1", "infinit",
		"nanx", "１"} {
		if _, err := ParseDecimal(text); !errors.Is(err, ErrSyntax) {
			t.Errorf("%q: %v, want a syntax error", text, err)
		}
	}
	for _, text := range []string{"1e131072", "1e-16384", "1e99999999999", "1" + strings.Repeat("0", 131072),
		"1e2147483647", "1e-2147483648", "." + strings.Repeat("0", 16383) + "1"} {
		if _, err := ParseDecimal(text); !errors.Is(err, ErrRange) {
			t.Errorf("%.20q: %v, want a range error", text, err)
		}
	}
}

// drawDecimal makes numbers around every border of the representation.
func drawDecimal(t *rapid.T, label string) Decimal {
	switch rapid.IntRange(0, 9).Draw(t, label+" kind") {
	case 0:
		return rapid.SampledFrom([]Decimal{DecimalNaN, DecimalInfinity, DecimalMinusInfinity, {}}).Draw(t, label)
	case 1:
		digits := rapid.StringMatching(`-?[1-9][0-9]{17,40}`).Draw(t, label)
		n, _ := new(big.Int).SetString(digits, 10)
		return NewBigDecimal(n, rapid.Int32Range(-30, 30).Draw(t, label+" exp"))
	case 2:
		n := rapid.SampledFrom([]int64{math.MaxInt64, math.MinInt64, math.MinInt64 + 1, 1e18, -1e18,
			999999999999999999}).Draw(t, label)
		return NewDecimal(n, rapid.Int32Range(-20, 20).Draw(t, label+" exp"))
	}
	return NewDecimal(rapid.Int64Range(-100_000, 100_000).Draw(t, label), rapid.Int32Range(-6, 6).Draw(t,
		label+" exp"))
}

func rat(d Decimal) *big.Rat {
	r, ok := new(big.Rat).SetString(d.String())
	if !ok {
		panic(d.String())
	}
	return r
}

// TestDecimalAgainstRationals compares finite arithmetic with math/big's exact
// rationals, and the canonical form with equality.
func TestDecimalAgainstRationals(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b := drawDecimal(t, "a"), drawDecimal(t, "b")
		for _, d := range []Decimal{a, b, a.Add(b), a.Sub(b), a.Mul(b), a.Neg()} {
			if back := decimal(t, d.String()); back != d {
				t.Fatalf("%s reads back as another value", d)
			}
			if back := DecimalOfAPD(d.APD()); back != d {
				t.Fatalf("%s comes back from apd as %s", d, back)
			}
			var back Decimal
			if rest, err := back.DecodeState(append(d.AppendState(nil), 7)); err != nil || len(rest) != 1 ||
				back != d {
				t.Fatalf("%s comes back from state as %s, rest %v, error %v", d, back, rest, err)
			}
			if rest, err := back.DecodeOrdered(append(d.AppendOrdered(nil), 7)); err != nil || len(rest) != 1 ||
				back != d {
				t.Fatalf("%s comes back from a key as %s, rest %v, error %v", d, back, rest, err)
			}
		}
		c := strings.Compare(string(a.AppendOrdered(nil)), string(b.AppendOrdered(nil)))
		if c != a.Compare(b) || (c == 0) != (a == b) {
			t.Fatalf("%s and %s: keys %d, Compare %d, == %v", a, b, c, a.Compare(b), a == b)
		}
		if !a.finite() || !b.finite() {
			return
		}
		if a.Compare(b) != rat(a).Cmp(rat(b)) {
			t.Fatalf("%s <=> %s: %d", a, b, a.Compare(b))
		}
		for op, pair := range map[string][2]*big.Rat{
			"+": {rat(a.Add(b)), new(big.Rat).Add(rat(a), rat(b))},
			"-": {rat(a.Sub(b)), new(big.Rat).Sub(rat(a), rat(b))},
			"*": {rat(a.Mul(b)), new(big.Rat).Mul(rat(a), rat(b))},
		} {
			if pair[0].Cmp(pair[1]) != 0 {
				t.Fatalf("%s %s %s gives %s, want %s", a, op, b, pair[0], pair[1])
			}
		}
		n, ok := a.Int64()
		if want := rat(a); ok != (want.IsInt() && want.Num().IsInt64()) || ok && n != want.Num().Int64() {
			t.Fatalf("%s as int64: %d, %v", a, n, ok)
		}
		u, ok := a.Uint64()
		if want := rat(a); ok != (want.IsInt() && want.Num().IsUint64()) || ok && u != want.Num().Uint64() {
			t.Fatalf("%s as uint64: %d, %v", a, u, ok)
		}
		if f, _ := rat(a).Float64(); a.Float64() != f {
			t.Fatalf("%s as float: %v, want %v", a, a.Float64(), f)
		}
	})
}

func TestDecimalJSON(t *testing.T) {
	for text, want := range map[string]string{"1.50": "1.5", "NaN": `"NaN"`, "-Infinity": `"-Infinity"`,
		"1e20": "100000000000000000000"} {
		b, err := json.Marshal(decimal(t, text))
		if err != nil || string(b) != want {
			t.Errorf("%s: %s, %v, want %s", text, b, err, want)
		}
		var back Decimal
		if err := json.Unmarshal(b, &back); err != nil || back != decimal(t, text) {
			t.Errorf("%s: reads back as %s, %v", b, back, err)
		}
	}
	d := NewDecimal(7, 0)
	if err := json.Unmarshal([]byte("null"), &d); err != nil || d != NewDecimal(7, 0) {
		t.Errorf("null: %s, %v", d, err)
	}
}

// TestDecimalRefusesDamage decodes what no encoder writes.
func TestDecimalRefusesDamage(t *testing.T) {
	good := NewDecimal(-12345, -2).AppendOrdered(nil)
	for i := range good {
		var d Decimal
		if _, err := d.DecodeOrdered(good[:i]); !errors.Is(err, ErrEncoding) {
			t.Errorf("%d bytes of a key: %v", i, err)
		}
	}
	for _, b := range [][]byte{{0}, {7}, {4, 0x80, 0, 0, 1, 0}, {4, 0x80, 0, 0, 1, 102, 0}, {4, 0x80, 0, 0, 1,
		1, 0}} {
		var d Decimal
		if _, err := d.DecodeOrdered(b); !errors.Is(err, ErrEncoding) {
			t.Errorf("key %v: %s, %v", b, d, err)
		}
	}
	for _, b := range [][]byte{{}, {9}, {0}, {0, 0}, {1, 0, 5, '1'}} {
		var d Decimal
		if _, err := d.DecodeState(b); !errors.Is(err, ErrEncoding) {
			t.Errorf("state %v: %s, %v", b, d, err)
		}
	}
}

func TestFixedSizeDecimalsDoNotAllocate(t *testing.T) {
	a, b, text := NewDecimal(1234567, -2), NewDecimal(89, 1), []byte("12345.67")
	var d Decimal
	var buf []byte
	n := testing.AllocsPerRun(100, func() {
		if d.UnmarshalText(text) != nil {
			t.Fatal("syntax")
		}
		d = d.Add(a).Sub(b).Mul(b).Neg()
		buf = d.AppendOrdered(d.AppendState(d.append(buf[:0])))
		if d.Compare(a) == 0 {
			t.Fatal("equal")
		}
	})
	if n != 0 {
		t.Errorf("%v allocations", n)
	}
}
