package serde

import (
	"database/sql"
	"errors"
	"fmt"
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/tailrace/tailrace/record"
)

func bindOrders(t testing.TB) *Binding[order] {
	t.Helper()
	p, err := PlanOf[order]()
	if err != nil {
		t.Fatal(err)
	}
	b, err := p.Bind(orders)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestUnchangedColumnsKeepTheirField decodes an update over the last value.
func TestUnchangedColumnsKeepTheirField(t *testing.T) {
	b := bindOrders(t)
	var old order
	if err := b.Decode(&old, text("1", "open", "a long note", "2024-01-01 00:00:00+00", "1",
		"7")); err != nil {
		t.Fatal(err)
	}
	row := text("1", "paid", "", "2024-01-01 00:00:00+00", "2", "NULL")
	if b.Unchanged(row) {
		t.Error("nothing is unchanged")
	}
	row[2] = record.Value{Kind: record.Unchanged}
	if !b.Unchanged(row) {
		t.Error("the note is unchanged")
	}
	now := old
	if err := b.Decode(&now, row); err != nil {
		t.Fatal(err)
	}
	if *now.Note != "a long note" || now.Status != "paid" || now.CustomerID.Valid || now.CustomerID.V != 0 {
		t.Errorf("the new value is %+v", now)
	}
	if old.Status != "open" || *old.Note != "a long note" || !old.CustomerID.Valid {
		t.Errorf("the old value became %+v", old)
	}
	row[2] = record.Value{Kind: record.Text, Data: []byte("short")}
	if err := b.Decode(&now, row); err != nil || *now.Note != "short" || *old.Note != "a long note" {
		t.Errorf("new note %q, old note %q, error %v", *now.Note, *old.Note, err)
	}
}

// TestErrorsNameTheColumnNeverTheValue decodes values that do not fit. The canary
// stands for a customer's data: it must not be in any message.
func TestErrorsNameTheColumnNeverTheValue(t *testing.T) {
	const canary = "4711canary"
	for _, c := range []struct {
		err    error
		target error
		says   string
	}{
		{errOf[int64]("bigint", canary), ErrSyntax, "public.t.v (bigint) into int64 (int64)"},
		{errOf[int64]("bigint", "9223372036854775808"), ErrRange, "use int64"},
		{errOf[int8]("smallint", "128"), ErrRange, "use int16"},
		{errOf[uint64]("bigint", "-47110815"), ErrRange, "out of the Go type's range; use int64"},
		{errOf[uint32]("bigint", "4294967296"), ErrRange, "use int64"},
		{errOf[int64]("shop.t", canary), ErrUnfit, "use string"},
		{errOf[time.Time]("timestamp with time zone", "infinity"), ErrInfinite, "use record.Instant"},
		{errOf[time.Time]("timestamp with time zone", canary), ErrSyntax, ""},
		{errOf[float64]("double precision", canary), ErrSyntax, ""},
		{errOf[float64]("double precision", "0x4711p1"), ErrSyntax, ""},
		{errOf[float32]("real", "4.711e300"), ErrRange, ""},
		{errOf[record.Decimal]("numeric", canary), ErrSyntax, ""},
		{errOf[[]byte]("bytea", canary), ErrSyntax, "session settings"},
		{errOf[[4]byte]("bytea", `\x471108`), ErrRange, "use []byte"},
		{errOf[netip.Addr]("inet", "47.11.0.0/16"), ErrRange, "use netip.Prefix"},
		{errOf[netip.Addr]("inet", canary), ErrSyntax, ""},
		{errOf[money]("text", canary), ErrRefused, "refuses"},
		{errOf[fussy]("text", canary), ErrRefused, "refuses"},
		{errOf[[]int64]("bigint[]", "{4711,NULL}"), errElementNull, "sql.Null"},
		{errOf[[]int64]("bigint[]", "{{4711}}"), errShape, "record.Array"},
		{errOf[[]int64]("bigint[]", "[0:0]={4711}"), errShape, "record.Array"},
		{errOf[[]int64]("bigint[]", "{"+canary+"}"), ErrSyntax, ""},
		{errOf[record.Range[int64]]("int8range", "["+canary+",)"), ErrSyntax, ""},
	} {
		if !errors.Is(c.err, c.target) {
			t.Errorf("%v: want one that is %v", c.err, c.target)
			continue
		}
		if !strings.Contains(c.err.Error(), c.says) {
			t.Errorf("%v: does not say %q", c.err, c.says)
		}
		if strings.Contains(c.err.Error(), "4711") || strings.Contains(fmt.Sprintf("%v", c.err), "canary") {
			t.Errorf("%v: tells the value", c.err)
		}
	}
	var d *DecodeError
	if err := errOf[fussy]("text", canary); !errors.As(err, &d) || d.Column != "v" {
		t.Errorf("%v is no DecodeError of column v", err)
	}
}

func errOf[T any](sqlType, text string) error {
	_, err := tryDecode[T](sqlType, record.Value{Kind: record.Text, Data: []byte(text)})
	return err
}

// TestDamagedContainers has arrays and ranges that no server writes.
func TestDamagedContainers(t *testing.T) {
	for _, text := range []string{"", "{", "}", "{1", "{1,}", "{,1}", "{,}", "{1}x", "{1}}", "1", "{1,{2}}",
		"{{1},2}",
		"{{1},{2,3}}", "{{1,2},{3}}", "{{1}{2}}", "{{}}", "[1:2]={1}", "[2:1]={}", "[1:1]{1}", "[1]={1}",
		"[1:1]=", "[a:b]={1}",
		"[1:1][1:1]={1}", "[1:99999999999]={1}", `{"1}`, `{"1"2}`, `{1"2"}`, `{1\`, "{{{{{{{1}}}}}}}"} {
		for i, err := range []error{errOf[[]int64]("bigint[]", text), errOf[record.Array[int64]]("bigint[]",
			text),
			errOf[[]string]("text[]", text)} {
			if !errors.Is(err, ErrSyntax) {
				t.Errorf("array %q, type %d: %v, want a syntax error", text, i, err)
			}
		}
	}
	for _, text := range []string{"", "[", "[1", "[1,", "[1,2", "[1,2]x", "1,2", "(1)", "[1,2,3]", "emptyx",
		"empt", "[1,2}",
		`["1,2)`, `[1\`, "[(1,2)"} {
		if err := errOf[record.Range[int64]]("int8range", text); !errors.Is(err, ErrSyntax) {
			t.Errorf("range %q: %v, want a syntax error", text, err)
		}
	}
	for _, text := range []string{"", "{", "{[1,2)", "{[1,2)[3,4)}", "{[1,2),}", "{,}", "{[1,2)}x", "[1,2)"} {
		if err := errOf[record.Multirange[int64]]("int8multirange", text); !errors.Is(err, ErrSyntax) {
			t.Errorf("multirange %q: %v, want a syntax error", text, err)
		}
	}
}

type fussy string

func (f *fussy) UnmarshalText(src []byte) error { return fmt.Errorf("I do not like %q", src) }

func TestNull(t *testing.T) {
	null := record.Value{Kind: record.Null}
	for name, err := range map[string]error{
		"int64": second(tryDecode[int64]("bigint", null)), "string": second(tryDecode[string]("text", null)),
		"[]byte": second(tryDecode[[]byte]("bytea", null)), "[]string": second(tryDecode[[]string]("text[]",
			null)),
		"money": second(tryDecode[money]("bigint", null)), "record.JSON": second(tryDecode[record.JSON]("json",
			null)),
	} {
		if !errors.Is(err, ErrNull) || !strings.Contains(err.Error(), "make the field sql.Null[") {
			t.Errorf("NULL into %s: %v", name, err)
		}
	}
	if v, err := tryDecode[sql.Null[time.Time]]("timestamp with time zone", null); err != nil || v.Valid {
		t.Errorf("NULL into sql.Null: %v, %v", v, err)
	}
	if v, err := tryDecode[*[]byte]("bytea", null); err != nil || v != nil {
		t.Errorf("NULL into a pointer: %v, %v", v, err)
	}
	if v, err := tryDecode[loose]("text", null); err != nil || v.got != nil {
		t.Errorf("NULL into a scanner that takes it: %v, %v", v, err)
	}
	v, err := tryDecode[[]sql.NullString]("text[]", record.Value{Kind: record.Text,
		Data: []byte(`{a,NULL,"NULL"}`)})
	want := []sql.NullString{{String: "a", Valid: true}, {}, {String: "NULL", Valid: true}}
	if err != nil || !reflect.DeepEqual(v, want) {
		t.Errorf("elements that are NULL: %v, %v", v, err)
	}
}

func second[T any](_ T, err error) error { return err }

func TestKeysOfTables(t *testing.T) {
	rel := &record.Relation{Schema: "shop", Name: "lines", Columns: []record.Column{
		{Name: "note", Type: "text"}, {Name: "order_id", Type: "bigint", Key: true}, {Name: "line",
			Type: "integer", Key: true}}}
	type lineKey struct {
		OrderID int64
		Line    int32
	}
	p, err := PlanOf[lineKey]()
	if err != nil {
		t.Fatal(err)
	}
	b, err := p.BindKey(rel)
	if err != nil {
		t.Fatal(err)
	}
	// The old tuple of a delete has the key columns only.
	var k lineKey
	err = b.Decode(&k, record.Tuple{{Kind: record.Null}, {Kind: record.Text, Data: []byte("7")},
		{Kind: record.Text, Data: []byte("2")}})
	if err != nil || k != (lineKey{7, 2}) {
		t.Errorf("key %v, %v", k, err)
	}
	type partKey struct {
		OrderID int64
		Note    string
	}
	q, err := PlanOf[partKey]()
	if err != nil {
		t.Fatal(err)
	}
	_, err = q.BindKey(rel)
	wantProblems(t, err, ErrUnfit, "shop.lines.note is not part of the table's key",
		"shop.lines.line is part of the table's key")
	s, err := ScalarPlan[int64]("")
	if err != nil {
		t.Fatal(err)
	}
	_, err = s.BindKey(rel)
	wantProblems(t, err, ErrUnfit, "(order_id, line)")
	one, err := s.BindKey(orders)
	if err != nil {
		t.Fatal(err)
	}
	var id int64
	if err := one.Decode(&id, text("42", "x", "y", "z", "0", "1")); err != nil || id != 42 {
		t.Errorf("scalar key %d, %v", id, err)
	}
}

func TestKeyColumns(t *testing.T) {
	for _, c := range []struct {
		column     record.Column
		normalized bool
		says       string
	}{
		{record.Column{Type: "bigint"}, false, ""},
		{record.Column{Type: "text"}, false, ""},
		{record.Column{Type: "numeric(10,2)"}, false, ""},
		{record.Column{Type: "text", Collation: "ci"}, false, "nondeterministic collation ci"},
		{record.Column{Type: "text", Collation: "ci"}, true, ""},
		{record.Column{Type: "citext"}, false, "citext"},
		{record.Column{Type: "ext.citext"}, false, "citext"},
		{record.Column{Type: "ext.citext"}, true, ""},
		{record.Column{Type: "email", Base: "citext"}, false, "citext"},
		{record.Column{Type: "double precision"}, true, "exact equality"},
		{record.Column{Type: "jsonb"}, false, "jsonb"},
		{record.Column{Type: "interval"}, false, "30 days"},
		{record.Column{Type: "integer[]"}, false, "array"},
	} {
		c.column.Name = "k"
		err := CheckKeyColumn(&c.column, c.normalized)
		if (err == nil) != (c.says == "") || err != nil && (!strings.Contains(err.Error(), c.says) ||
			!errors.Is(err, ErrKeyColumn)) {
			t.Errorf("%+v: %v, want one that says %q", c.column, err, c.says)
		}
	}
	rel := relationOf("numeric")
	rel.Columns[0].Key = true
	p, err := ScalarPlan[string]("v")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.BindKey(rel); err == nil || !strings.Contains(err.Error(), "record.Decimal") {
		t.Errorf("a numeric key as string: %v", err)
	}
}

// TestCharIsReadWithoutPadding: blanks at the end of char(n) are no part of the value.
func TestCharIsReadWithoutPadding(t *testing.T) {
	padded := record.Value{Kind: record.Text, Data: []byte(" ab  ")}
	for _, typ := range []string{"character(5)", "bpchar", "character"} {
		if v, err := tryDecode[string](typ, padded); v != " ab" || err != nil {
			t.Errorf("%s: %q, %v", typ, v, err)
		}
		if v, err := tryDecode[*string](typ, padded); err != nil || *v != " ab" {
			t.Errorf("%s: %v, %v", typ, v, err)
		}
		if v, err := tryDecode[sql.NullString](typ, padded); v.String != " ab" || err != nil {
			t.Errorf("%s: %v, %v", typ, v, err)
		}
	}
	for _, typ := range []string{"text", "character varying(5)", `"char"`, ""} {
		if v, err := tryDecode[string](typ, padded); v != " ab  " || err != nil {
			t.Errorf("%s: %q, %v", typ, v, err)
		}
	}
	array := record.Value{Kind: record.Text, Data: []byte(`{"a ",NULL,"b  "}`)}
	v, err := tryDecode[[]sql.Null[string]]("character(3)[]", array)
	if err != nil || len(v) != 3 || v[0].V != "a" || v[1].Valid || v[2].V != "b" {
		t.Errorf("array: %v, %v", v, err)
	}
}

type scalars struct {
	A int64
	B bool
	C float64
	D time.Time
	E record.Decimal
	F record.Timestamp
	G record.Date
	H record.TimeOfDay
	I record.Interval
	J record.UUID
	K sql.Null[int32]
	L sql.NullTime
	M uint64
	N record.Instant
	O [16]byte
	P record.TimeTZ
}

type fixed struct {
	scalars
	Q record.Range[int32]
	R netip.Addr
}

// TestFixedSizeTypesDoNotAllocate decodes and encodes a row without a string.
func TestFixedSizeTypesDoNotAllocate(t *testing.T) {
	p, err := PlanOf[fixed]()
	if err != nil {
		t.Fatal(err)
	}
	rel := &record.Relation{Schema: "public", Name: "f"}
	for _, name := range p.Columns() {
		rel.Columns = append(rel.Columns, record.Column{Name: name})
	}
	b, err := p.Bind(rel)
	if err != nil {
		t.Fatal(err)
	}
	j, err := JSONOf[scalars]()
	if err != nil {
		t.Fatal(err)
	}
	row := text("-123456789", "t", "0.1", "2024-02-29 12:34:56.123456+00", "-12345.67", "2024-02-29 12:34:56",
		"2024-02-29",
		"12:34:56.5", "1 mon -2 days +04:05:06", "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11", "NULL",
		"2024-02-29 12:34:56+00",
		"18446744073709551615", "-infinity", `\x000102030405060708090a0b0c0d0e0f`, "12:00:00+05:30", "[1,5)",
		"192.168.0.1")
	buf := make([]byte, 0, 4096)
	n := testing.AllocsPerRun(100, func() {
		var v fixed
		if err := b.Decode(&v, row); err != nil {
			t.Fatal(err)
		}
		for i := range row {
			buf, _ = p.AppendText(buf[:0], i, &v)
		}
		buf = j.Append(buf[:0], &v.scalars, JSONOptions{NumbersAsStrings: true})
	})
	if n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func FuzzDecode(f *testing.F) {
	for _, c := range literalCases {
		for _, l := range c.literals {
			if len(l) < 100 {
				f.Add(l)
			}
		}
	}
	var trips []func(string) (string, error)
	for _, c := range literalCases {
		for _, tr := range c.trips {
			trips = append(trips, func(text string) (string, error) { return tr.run(c.sqlType, text) })
		}
	}
	f.Fuzz(func(t *testing.T, text string) {
		if len(text) > 300 {
			return
		}
		for i, run := range trips {
			out, err := run(text)
			if err != nil {
				continue
			}
			again, err := run(out)
			if err != nil || again != out {
				t.Errorf("trip %d: %q came out as %q, then as %q, %v", i, text, out, again, err)
			}
		}
	})
}
