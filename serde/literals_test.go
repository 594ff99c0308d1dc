package serde

import (
	"database/sql"
	"encoding/json"
	"net"
	"net/netip"
	"strings"
	"time"
	"unsafe"

	"github.com/cockroachdb/apd/v3"

	"github.com/tailrace/tailrace/record"
)

// trip decodes a text as a column of a SQL type and writes it again.
type trip struct {
	goType string
	run    func(sqlType, text string) (out string, err error)
	// exact says that the text itself must come back, not just an equal value.
	exact bool
}

func tripOf[T any]() trip {
	p, err := ScalarPlan[T]("v")
	if err != nil {
		panic(err)
	}
	return trip{goType: p.typ.String(), exact: true, run: func(sqlType, text string) (string, error) {
		b, err := p.Bind(relationOf(sqlType))
		if err != nil {
			return "", err
		}
		var v T
		row := record.Tuple{{Kind: record.Text, Data: []byte(text)}}
		if err := b.Decode(&v, row); err != nil {
			return "", err
		}
		// Nothing may alias the row.
		for i := range row[0].Data {
			row[0].Data[i] = '!'
		}
		out, null := p.AppendText(nil, 0, &v)
		if null {
			return "", ErrNull
		}
		return string(out), nil
	}}
}

// arrayTrip is tripOf for a slice that is written as an array.
func arrayTrip[T any]() trip {
	return rowTrip[struct {
		V []T `db:"v,array"`
	}]()
}

// uuidTrip is tripOf for a [16]byte that is written as a uuid.
func uuidTrip() trip {
	return rowTrip[struct {
		V [16]byte `db:"v,type=uuid"`
	}]()
}

// rowTrip is tripOf for a struct with one field.
func rowTrip[R any]() trip {
	p, err := PlanOf[R]()
	if err != nil {
		panic(err)
	}
	return trip{goType: p.fields[0].codec.goType.String(), run: func(sqlType, text string) (string, error) {
		b, err := p.Bind(relationOf(sqlType))
		if err != nil {
			return "", err
		}
		var v R
		if err := b.Decode(&v, record.Tuple{{Kind: record.Text, Data: []byte(text)}}); err != nil {
			return "", err
		}
		out, _ := p.AppendText(nil, 0, &v)
		return string(out), nil
	}}
}

func equal(t trip) trip { t.exact = false; return t }

func relationOf(sqlType string) *record.Relation {
	return &record.Relation{Schema: "public", Name: "t", Columns: []record.Column{{Name: "v", Type: sqlType}}}
}

// literalCase is a SQL type, the Go types that hold it in full, and literals.
type literalCase struct {
	sqlType  string
	trips    []trip
	literals []string
}

type status string

func (s status) MarshalText() ([]byte, error) { return []byte(s), nil }
func (s *status) UnmarshalText(b []byte) error {
	*s = status(b)
	return nil
}

var asText = tripOf[string]()

// literalCases has the values that are known to go wrong somewhere. A literal is
// written without quotes.
var literalCases = []literalCase{
	{"boolean", []trip{tripOf[bool](), asText, tripOf[sql.Null[bool]](), tripOf[*bool]()}, []string{"t", "f",
		"yes", "0"}},
	{"smallint", []trip{tripOf[int16](), tripOf[int64](), tripOf[int](), asText, equal(tripOf[float64]())},
		[]string{"0", "-1", "32767", "-32768"}},
	{"integer", []trip{tripOf[int32](), tripOf[int64](), tripOf[sql.NullInt32](), equal(tripOf[float64]()),
		tripOf[record.Decimal]()},
		[]string{"0", "-1", "2147483647", "-2147483648"}},
	{"bigint", []trip{tripOf[int64](), tripOf[*int64](), tripOf[sql.Null[int64]](), tripOf[record.Decimal](),
		asText},
		[]string{"0", "-1", "9223372036854775807", "-9223372036854775808", "1000000000000000000"}},
	{"oid", []trip{tripOf[uint32](), tripOf[int64]()}, []string{"0", "4294967295"}},
	{"numeric(20,0)", []trip{tripOf[uint64](), tripOf[record.Decimal]()}, []string{"0",
		"18446744073709551615"}},
	{"real", []trip{tripOf[float32](), equal(tripOf[float64]()), asText}, []string{"0", "-0", "1.1",
		"3.4028235e38", "-3.4028235e38",
		"1.4e-45", "1.17549435e-38", "NaN", "Infinity", "-Infinity", "16777217", "0.1"}},
	{"double precision", []trip{tripOf[float64](), tripOf[sql.NullFloat64](), asText}, []string{"0", "-0",
		"0.1",
		"1.7976931348623157e308", "5e-324", "2.2250738585072014e-308", "NaN", "Infinity", "-Infinity",
		"9007199254740993",
		"1e21", "1e20", "1e-7", "0.000001", "123456789.123456789", "-1e-300"}},
	{"numeric", []trip{equal(tripOf[record.Decimal]()), equal(tripOf[apd.Decimal]()), asText,
		equal(tripOf[sql.Null[record.Decimal]]())}, []string{
		"0", "-0", "0.0", "0.000", "1", "-1", "1.50", "100", "1000000000000000000", "9223372036854775807",
		"9223372036854775808", "-9223372036854775808", "-9223372036854775809", "999999999999999999",
		"9999999999999999999",
		"123456789012345678", "0.123456789012345678901234567890", "-0.00000000000000000000000000001",
		"1e100", "1e-100", "NaN", "Infinity", "-Infinity", "12345678901234567890.12345678901234567890",
		"0." + strings.Repeat("0", 16382) + "1", "1" + strings.Repeat("0", 1000), strings.Repeat("9",
			1000) + "." + strings.Repeat("9", 500),
		"1" + strings.Repeat("0", 131071), strings.Repeat("8", 131072), "1.10e5", "0010.0100"}},
	{"numeric(10,2)", []trip{equal(tripOf[record.Decimal]()), tripOf[apd.Decimal](), asText}, []string{"0",
		"1.5", "99999999.99", "-0.01", "NaN"}},
	{"numeric(1000,500)", []trip{equal(tripOf[record.Decimal]()), tripOf[apd.Decimal]()}, []string{"0",
		strings.Repeat("7", 500) + "." + strings.Repeat("3", 500), "0." + strings.Repeat("0", 499) + "1"}},
	{"numeric(5,0)", []trip{tripOf[int64](), tripOf[int32](), tripOf[record.Decimal]()}, []string{"0",
		"-99999", "100"}},
	{"money", []trip{asText}, []string{"0", "-1.5", "92233720368547758.07", "1234567.89"}},
	{"text", []trip{asText, tripOf[status](), tripOf[sql.NullString]()}, []string{"", " ", "NULL", "null",
		"a\tb\nc", `\`, `\\N`, `"q"`,
		"日本語", "\U0001F600", "é", "e\u0301", strings.Repeat("x", 100_000), "{", "a,b", "\x01"}},
	{"character varying(5)", []trip{asText}, []string{"", "abc", "日本語日本", "a    "}},
	{"character(5)", []trip{asText}, []string{"", "a", "abcde", "日本"}},
	{`"char"`, []trip{asText}, []string{"", "a"}},
	{"name", []trip{asText}, []string{"pg_class"}},
	{"bytea", []trip{tripOf[[]byte](), asText, tripOf[*[]byte]()}, []string{"", `\x`, `\x00`, `\xdeadBEEF`,
		`\x5c`, `a\\b`, `\000\377`}},
	{"date", []trip{tripOf[record.Date](), asText, tripOf[sql.Null[record.Date]]()}, []string{"2000-01-01",
		"1970-01-01", "1999-12-31",
		"2024-02-29", "1900-02-28", "2000-02-29", "infinity", "-infinity", "0001-01-01", "0001-12-31 BC",
		"0005-02-29 BC",
		"4714-11-24 BC", "9999-12-31", "10000-01-01", "5874897-12-31", "1582-10-10", "epoch"}},
	{"time without time zone", []trip{tripOf[record.TimeOfDay](), asText}, []string{"00:00:00",
		"23:59:59.999999", "24:00:00",
		"12:34:56.7", "00:00:00.000001", "23:59:60", "allballs"}},
	{"time(3) without time zone", []trip{tripOf[record.TimeOfDay]()}, []string{"12:34:56.7896"}},
	{"time with time zone", []trip{tripOf[record.TimeTZ](), asText}, []string{"00:00:00+00", "24:00:00-15:59",
		"12:34:56.789+05:30",
		"12:00:00-07:52:58", "00:00:00+15:59:59", "23:59:59.999999-00:00:01"}},
	{"timestamp without time zone", []trip{tripOf[record.Timestamp](), asText, tripOf[*record.Timestamp]()},
		[]string{
			"2000-01-01 00:00:00", "1999-12-31 23:59:59.999999", "1970-01-01", "2024-02-29 12:34:56.5", "infinity",
			"-infinity",
			"4714-11-24 00:00:00 BC", "294276-12-31 23:59:59.999999", "0001-01-01 00:00:00",
			"0001-12-31 23:59:59.999999 BC",
			"10000-01-01 00:00:00", "9999-12-31 23:59:59.999999", "0044-03-15 12:00:00 BC", "1582-10-05 00:00:00",
			"2024-01-01 24:00:00", "294247-01-10 04:00:54.775807"}},
	{"timestamp(0) without time zone", []trip{tripOf[record.Timestamp]()}, []string{"2024-02-29 12:34:56.5"}},
	{"timestamp with time zone", []trip{tripOf[record.Instant](), asText}, []string{"infinity", "-infinity"}},
	{"timestamp with time zone", []trip{tripOf[time.Time](), tripOf[record.Instant](), tripOf[sql.NullTime](),
		tripOf[*time.Time](), asText}, []string{
		"2000-01-01 00:00:00+00", "1999-12-31 23:59:59.999999+00", "1970-01-01 00:00:00+00",
		"2024-03-31 02:30:00+02",
		"2024-02-29 12:34:56.5-07:52:58", "4714-11-24 00:00:00+00 BC", "294276-12-31 23:59:59.999999+00",
		"0001-01-01 00:00:00+00", "0001-12-31 23:59:59.999999+00 BC", "10000-01-01 00:00:00+00",
		"1883-11-18 12:03:58+00",
		"0044-03-15 12:00:00+00 BC", "294247-01-10 04:00:54.775807+00", "1677-09-21 00:12:43.145224+00"}},
	{"interval", []trip{tripOf[record.Interval](), asText}, []string{"0", "1 year", "-1 year", "1 mon",
		"-1 mon -1 day", "1 mon -1 day",
		"-1 day 1 hour", "1 year 2 mons 3 days 04:05:06.789", "-1 year -2 mons +3 days -04:05:06.789",
		"13 months", "-13 months",
		"100 hours", "-100 hours", "0.000001 sec", "-0.000001 sec", "178000000 years", "-178000000 years",
		"2147483647 days",
		"-2147483648 days", "590000:59:59.999999", "-590000:59:59.999999", "1 day -00:00:00.5",
		"1 mon 00:00:01", "99:59:59"}},
	{"uuid", []trip{tripOf[record.UUID](), asText, uuidTrip()},
		[]string{"00000000-0000-0000-0000-000000000000",
			"ffffffff-ffff-ffff-ffff-ffffffffffff", "A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11",
			"{a0eebc999c0b4ef8bb6d6bb9bd380a11}"}},
	{"json", []trip{tripOf[record.JSON](), tripOf[json.RawMessage](), asText,
		tripOf[sql.Null[record.JSON]]()}, []string{"null", "{}", "[]", `"x"`, "1e1000",
		`{"a": 1, "a" :2}`, "  [ 1 , 2 ]  ", `{"u":"\u00e9\ud83d\ude00"}`, `"\u0000"`,
		"12345678901234567890.1234567890"}},
	{"jsonb", []trip{tripOf[record.JSON](), tripOf[json.RawMessage](), asText}, []string{"null", "{}", "[]",
		`"x"`, "1e100",
		`{"b": 1, "a" :2, "b":3}`, `"a\nb\"\\"`, "12345678901234567890.1234567890", `{"":""}`, "[[[[[]]]]]"}},
	{"inet", []trip{tripOf[netip.Prefix](), asText}, []string{"192.168.0.1/24", "10.0.0.1/8", "::1/64",
		"fe80::1/10"}},
	{"inet", []trip{equal(tripOf[netip.Prefix]()), tripOf[netip.Addr](), asText}, []string{"192.168.0.1",
		"::1", "::ffff:1.2.3.4",
		"0.0.0.0", "2001:db8::8:800:200c:417a"}},
	{"cidr", []trip{tripOf[netip.Prefix](), asText}, []string{"192.168.0.0/24", "0.0.0.0/0", "::/0",
		"10.1.2.3/32", "2001:db8::/32"}},
	{"macaddr", []trip{tripOf[net.HardwareAddr](), asText}, []string{"08:00:2b:01:02:03", "ffffff-ffffff"}},
	{"macaddr8", []trip{tripOf[net.HardwareAddr](), asText}, []string{"08:00:2b:01:02:03:04:05"}},
	{"bit(3)", []trip{asText}, []string{"101", "000"}},
	{"bit varying(9)", []trip{asText}, []string{"", "1", "000000000"}},
	{"xml", []trip{asText}, []string{"<a>1</a>", "text"}},
	{"tsvector", []trip{asText}, []string{"a fat cat", "'a b':1A,2"}},
	{"tsquery", []trip{asText}, []string{"a & b | !c"}},
	{"point", []trip{asText}, []string{"(1,2)", "(NaN,Infinity)"}},
	{"box", []trip{asText}, []string{"(3,4),(1,2)"}},
	{"polygon", []trip{asText}, []string{"((0,0),(1,1),(2,0))"}},
	{"circle", []trip{asText}, []string{"<(1,2),3>"}},
	{"pg_lsn", []trip{asText}, []string{"16/B374D848", "0/0"}},
	{"mood", []trip{asText, tripOf[status](), tripOf[sql.Null[status]]()}, []string{"sad", "so-so",
		"very happy"}},
	{"positive", []trip{asText}, []string{"1", "2147483647"}},
	{"pair", []trip{asText}, []string{`(1,"a b")`, `(,)`, `(2,"q""q")`}},
	{"citext", []trip{asText}, []string{"ABC", "äÖ"}},
	{"hstore", []trip{asText}, []string{`"a"=>"1", "b"=>NULL`, ""}},
	{"ltree", []trip{asText}, []string{"Top.Science.Astronomy", ""}},
	{"int4range", []trip{tripOf[record.Range[int32]](), asText}, []string{"empty", "[1,5)", "(1,5]", "(,)",
		"[1,)", "(,5)", "[-2147483648,2147483647)"}},
	{"int8range", []trip{tripOf[record.Range[int64]]()}, []string{"empty", "[1,9223372036854775807)", "(,)"}},
	{"numrange", []trip{equal(tripOf[record.Range[record.Decimal]]())}, []string{"empty", "[1.5,2.50]",
		"(-Infinity,NaN]", "(,1e30)", "[1,1]"}},
	{"daterange", []trip{tripOf[record.Range[record.Date]]()}, []string{"empty", "[2024-01-01,2024-02-29]",
		"(,infinity)", "[-infinity,infinity]", "[0044-03-15 BC,)"}},
	{"tsrange", []trip{equal(tripOf[record.Range[record.Timestamp]]())}, []string{"empty",
		`["2024-01-01 00:00:00","2024-02-29 12:34:56.5"]`, "(,infinity]"}},
	{"tstzrange", []trip{equal(tripOf[record.Range[record.Instant]]()),
		equal(tripOf[record.Range[time.Time]]())}, []string{"empty", `["2024-01-01 00:00:00+00",)`}},
	{"tstzrange", []trip{equal(tripOf[record.Range[record.Instant]]())}, []string{"[-infinity,infinity]"}},
	{"textrange", []trip{equal(tripOf[record.Range[string]]())}, []string{`["a ""b\\,","z]"]`, `("",z)`,
		`[a,)`, "empty"}},
	{"int4multirange", []trip{tripOf[record.Multirange[int32]]()}, []string{"{}", "{[1,5)}",
		"{(,1),[3,5),[7,)}"}},
	{"tstzmultirange", []trip{equal(tripOf[record.Multirange[time.Time]]())},
		[]string{`{["2024-01-01 00:00:00+00","2024-01-02 00:00:00+00"),["2024-02-01 00:00:00+00",)}`}},
	{"integer[]", []trip{equal(arrayTrip[int32]()), equal(arrayTrip[int64]()),
		equal(tripOf[record.Array[int32]]()), asText}, []string{"{}", "{1}", "{1,2,-3}"}},
	{"integer[]", []trip{equal(arrayTrip[sql.Null[int32]]()), equal(arrayTrip[*int32]()),
		equal(tripOf[record.Array[sql.Null[int32]]]())}, []string{"{NULL}", "{1,NULL,3}", "{null,2}"}},
	{"integer[]", []trip{equal(tripOf[record.Array[int32]]()), equal(tripOf[record.Array[sql.Null[int32]]]()),
		asText}, []string{
		"{{1,2},{3,4}}", "[0:2]={1,2,3}", "[-1:0][5:6]={{1,2},{3,4}}", "{{{1}}}", "{{1},{2},{3}}",
		"[1:1][-2:-2]={{7}}"}},
	{"text[]", []trip{equal(arrayTrip[string]()), equal(arrayTrip[sql.Null[string]]()),
		equal(tripOf[record.Array[string]]()), asText}, []string{"{}", `{""}`,
		`{"NULL"}`, `{a,b}`, `{"a,b","{}","\"","\\"," x "}`, `{日本語}`, `{"a\tb"}`, "{\"line\nbreak\"}"}},
	{"numeric(6,2)[]", []trip{equal(arrayTrip[record.Decimal]())}, []string{"{1.5,-2,NaN}"}},
	{"timestamp with time zone[]", []trip{equal(arrayTrip[time.Time]())},
		[]string{`{"2024-01-01 00:00:00+00"}`}},
	{"timestamp with time zone[]", []trip{equal(arrayTrip[sql.Null[record.Instant]]())},
		[]string{`{infinity,NULL}`}},
	{"bytea[]", []trip{equal(arrayTrip[[]byte]())}, []string{`{"\\x00ff","\\x"}`}},
	{"uuid[]", []trip{equal(arrayTrip[record.UUID]())}, []string{"{a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11}"}},
	{"boolean[]", []trip{equal(arrayTrip[bool]())}, []string{"{t,f}"}},
	{"mood[]", []trip{equal(arrayTrip[string]()), equal(arrayTrip[status]())}, []string{`{sad,"very happy"}`}},
	{"jsonb[]", []trip{equal(arrayTrip[record.JSON]())}, []string{`{"{\"a\": [1, \"x\\\\\"]}"}`, `{"null"}`}},
	{"box[]", []trip{asText, equal(boxTrip())}, []string{"{(3,4),(1,2);(1,1),(0,0)}"}},
	{"daterange[]", []trip{equal(arrayTrip[record.Range[record.Date]]())},
		[]string{`{"[2024-01-01,2024-01-05)",empty}`}},
	{"interval[]", []trip{equal(arrayTrip[record.Interval]())}, []string{`{"1 mon -1 days","-00:00:01"}`}},
}

// boxTrip reads an array whose delimiter is a semicolon, and writes it so.
func boxTrip() trip {
	p, err := ScalarPlan[[]string]("v")
	if err != nil {
		panic(err)
	}
	return trip{goType: "[]string", run: func(sqlType, text string) (string, error) {
		b, err := p.Bind(relationOf(sqlType))
		if err != nil {
			return "", err
		}
		var v []string
		err = b.Decode(&v, record.Tuple{{Kind: record.Text, Data: []byte(text)}})
		for i, box := range v {
			v[i] = string(appendEscaped(nil, stringCodec(), unsafe.Pointer(&box)))
		}
		return "{" + strings.Join(v, ";") + "}", err
	}}
}
