package serde

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/tailrace/tailrace/record"
)

// orderedKey is what the key codec of package state asks of a type.
type orderedKey interface{ AppendOrdered(dst []byte) []byte }

type orderedPtr[T any] interface {
	*T
	UnmarshalText(src []byte) error
	DecodeOrdered(src []byte) (rest []byte, err error)
}

// orderCase encodes texts of one type; equal values of the type are ==.
type orderCase struct {
	sqlType string
	encode  func(t *testing.T, text string) []byte
	values  []string
}

func encodeAs[T interface {
	comparable
	orderedKey
}, P orderedPtr[T]]() func(*testing.T, string) []byte {
	return func(t *testing.T, text string) []byte {
		t.Helper()
		var v, back T
		if err := P(&v).UnmarshalText([]byte(text)); err != nil {
			t.Fatalf("%q: %v", text, err)
		}
		key := v.AppendOrdered(nil)
		rest, err := P(&back).DecodeOrdered(append(slices.Clone(key), "rest"...))
		if err != nil || string(rest) != "rest" || back != v {
			t.Errorf("%q: decoded as %v, rest %q, error %v", text, back, rest, err)
		}
		return key
	}
}

func decimalTexts(r *rand.Rand, n int) []string {
	texts := []string{"0", "0.00", "-0", "1", "1.0", "-1", "10", "1e1", "0.1", "NaN", "Infinity", "-Infinity",
		"99", "100",
		"9.9", "-99", "-100", "1e30", "-1e30", "1e-30", "-1e-30", "1.00000000000000000000001",
		"123456789012345678",
		"1234567890123456789", "12345678901234567890", "-12345678901234567890.5", "9223372036854775807",
		"9223372036854775808"}
	for len(texts) < n {
		texts = append(texts, decimalText(r))
	}
	return texts
}

// decimalText makes numbers that are often close to each other, and sometimes
// equal in another spelling.
func decimalText(r *rand.Rand) string {
	digits := 1 + r.IntN(6)
	switch r.IntN(8) {
	case 0:
		digits = 15 + r.IntN(10)
	case 1:
		digits = 1 + r.IntN(60)
	}
	var b strings.Builder
	if r.IntN(2) == 0 {
		b.WriteByte('-')
	}
	point := r.IntN(digits + 1)
	for i := range digits {
		if i == point {
			if i == 0 {
				b.WriteByte('0')
			}
			b.WriteByte('.')
		}
		b.WriteByte("0001234569"[r.IntN(10)])
	}
	if point < digits {
		return b.String()
	}
	return b.String() + strings.Repeat("0", r.IntN(4))
}

// TestKeysSortAsPostgreSQLSorts compares the order and the equality of encoded
// keys with ORDER BY and =.
func TestKeysSortAsPostgreSQLSorts(t *testing.T) {
	s := openSession(t)
	r := rand.New(rand.NewPCG(1, 2))
	cases := []orderCase{
		{"numeric", encodeAs[record.Decimal](), decimalTexts(r, 600)},
		{"timestamp", encodeAs[record.Timestamp](), literalsOf("timestamp without time zone")},
		{"timestamptz", encodeAs[record.Instant](), literalsOf("timestamp with time zone")},
		{"date", encodeAs[record.Date](), literalsOf("date")},
		{"time", encodeAs[record.TimeOfDay](), literalsOf("time without time zone")},
		{"timetz", encodeAs[record.TimeTZ](), append(literalsOf("time with time zone"), "12:00:00+00",
			"13:00:00+01",
			"11:00:00-01", "24:00:00+00", "00:00:00-15:59", "01:00:00+13:00")},
		{"uuid", encodeAs[record.UUID](), literalsOf("uuid")},
	}
	for _, c := range cases {
		t.Run(c.sqlType, func(t *testing.T) {
			var list []string
			for _, v := range c.values {
				list = append(list, fmt.Sprintf("(%s::%s)", quote(v), c.sqlType))
			}
			rows := s.query("SELECT v, dense_rank() OVER (ORDER BY v) FROM (VALUES " + strings.Join(list,
				",") + ") x(v) ORDER BY v")
			var last []byte
			lastRank := ""
			for i, row := range rows {
				key, rank := c.encode(t, string(row[0])), string(row[1])
				if i > 0 {
					want := -1
					if rank == lastRank {
						want = 0
					}
					if got := bytes.Compare(last, key); got != want {
						t.Errorf("%s and %s: keys compare as %d, PostgreSQL says %d", rows[i-1][0], row[0], got, want)
					}
				}
				last, lastRank = key, rank
			}
		})
	}
}

func literalsOf(sqlType string) []string {
	var all []string
	for _, c := range literalCases {
		if c.sqlType == sqlType {
			all = append(all, c.literals...)
		}
	}
	return all
}

// TestDecimalCalculatesAsPostgreSQL compares arithmetic on random pairs.
func TestDecimalCalculatesAsPostgreSQL(t *testing.T) {
	s := openSession(t)
	r := rand.New(rand.NewPCG(3, 4))
	texts := decimalTexts(r, 2000)
	r.Shuffle(len(texts), func(i, j int) { texts[i], texts[j] = texts[j], texts[i] })
	var list []string
	for i := 0; i+1 < len(texts); i += 2 {
		list = append(list, fmt.Sprintf("(%s::numeric,%s::numeric,%d)", quote(texts[i]), quote(texts[i+1]),
			i%9-4))
	}
	rows := s.query(`SELECT a, b, n, a+b, a-b, a*b, CASE WHEN b <> 0 THEN a/b END, -a, abs(a), round(a,n),
		CASE WHEN a<b THEN -1 WHEN a=b THEN 0 ELSE 1 END,
		greatest(CASE WHEN scale(a) IS NULL THEN 0 ELSE scale(a) END, coalesce(scale(b), 0))
		FROM (VALUES ` + strings.Join(list, ",") + ") x(a,b,n)")
	for _, row := range rows {
		a, b := decimalOf(t, row[0]), decimalOf(t, row[1])
		n, scale := number(t, row[2]), number(t, row[11])
		check := func(op string, got record.Decimal, want []byte) {
			t.Helper()
			if w := decimalOf(t, want); got != w {
				t.Errorf("%s %s %s (%d): %s, PostgreSQL says %s", row[0], op, row[1], n, got, want)
			}
		}
		check("+", a.Add(b), row[3])
		check("-", a.Sub(b), row[4])
		check("*", a.Mul(b), row[5])
		if q, ok := a.Quo(b, int32(scale)); ok {
			check("/", q, row[6])
		} else if row[6] != nil {
			t.Errorf("%s / %s: refused, PostgreSQL says %s", row[0], row[1], row[6])
		}
		check("neg", a.Neg(), row[7])
		check("abs", a.Abs(), row[8])
		check("round", a.Round(int32(n)), row[9])
		if got, want := a.Compare(b), number(t, row[10]); got != want {
			t.Errorf("%s <=> %s: %d, PostgreSQL says %d", row[0], row[1], got, want)
		}
		if eq := a == b; eq != (string(row[10]) == "0") {
			t.Errorf("%s == %s: %v", row[0], row[1], eq)
		}
	}
	t.Logf("%d pairs", len(rows))
}

func decimalOf(t *testing.T, text []byte) record.Decimal {
	t.Helper()
	d, err := record.ParseDecimal(text)
	if err != nil {
		t.Fatalf("%q: %v", text, err)
	}
	return d
}

func number(t *testing.T, text []byte) int {
	t.Helper()
	n, err := parseInt(text)
	if err != nil {
		t.Fatalf("%q: %v", text, err)
	}
	return int(n)
}
