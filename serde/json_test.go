package serde

import (
	"database/sql"
	"encoding/json"
	"errors"
	"math"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/tailrace/tailrace/record"
)

type line struct {
	Product string
	Price   record.Decimal `json:"unitPrice,omitempty"`
	Secret  string         `json:"-"`
	Only    int            `db:"-" json:"only"`
	Neither int            `db:"-"`
}

type document struct {
	ID       int64
	Big      uint64
	Small    int32
	F        float64
	Text     string
	Lines    []line
	ByDay    map[string]int64
	ByNumber map[int]bool
	Maybe    sql.Null[place]
	Pointer  *place
	None     *int64
	Raw      record.JSON
	At       time.Time
	Civil    record.Timestamp
	Day      record.Date
	Bytes    []byte
	Hash     [3]byte
	Pair     [2]int
	Dec      record.Decimal
	Matrix   record.Array[int32]
	Range    record.Range[int32]
	Forever  record.Instant
	NaN      float64
	audit
}

func TestJSONForm(t *testing.T) {
	j, err := JSONOf[document]()
	if err != nil {
		t.Fatal(err)
	}
	doc := document{ID: 1 << 60, Big: math.MaxUint64, Small: -3, F: 1e21, Text: "a\"\\\n\x01\xff<é\u2028",
		Lines:    []line{{Product: "p", Price: record.NewDecimal(150, -2), Secret: "s", Only: 4, Neither: 5}},
		ByDay:    map[string]int64{"b": 2, "a": 1},
		ByNumber: map[int]bool{10: true, 9: false}, Pointer: &place{"s", "c"}, Raw: "{\n \"x\": [1,\n2]}",
		At: time.Date(2024, 2, 29, 13, 0, 0, 5000, time.FixedZone("", 3600)), Bytes: []byte{1, 2},
		Hash: [3]byte{255}, Pair: [2]int{1, 2},
		Dec: record.NewDecimal(-5, -1), Matrix: record.Array[int32]{Elems: []int32{1, 2, 3, 4},
			Dims: []record.Dim{{Len: 2, Lower: 1}, {Len: 2, Lower: 1}}},
		Range:   record.Range[int32]{Lower: 1, Upper: 5, Bounds: record.LowerIncluded},
		Forever: record.InstantInfinity, NaN: math.NaN()}
	want := `{"id":1152921504606846976,"big":18446744073709551615,"small":-3,"f":1e+21,"text":"a\"\\\n\u0001\ufffd<é` + "\u2028" + `",` +
		`"lines":[{"product":"p","unitPrice":1.5,"only":4}],"by_day":{"a":1,"b":2},"by_number":{"10":true,"9":false},"maybe":null,` +
		`"pointer":{"street":"s","city":"c"},"none":null,"raw":{"x":[1,2]},"at":"2024-02-29T12:00:00.000005Z",` +
		`"civil":"2000-01-01T00:00:00","day":"2000-01-01","bytes":"AQI=","hash":"/wAA","pair":[1,2],"dec":-0.5,` +
		`"matrix":[[1,2],[3,4]],"range":"[\"1\",\"5\")","forever":"infinity","na_n":"NaN","created_at":"0001-01-01T00:00:00Z",` +
		`"changed_by_user":null}`
	got := string(j.Append([]byte("x"), &doc, JSONOptions{}))
	if got != "x"+want {
		t.Errorf("got\n%s, want\nx%s", got, want)
	}
	if !json.Valid([]byte(got[1:])) {
		t.Error("this is no JSON")
	}
	got = string(j.Append(nil, &doc, JSONOptions{NumbersAsStrings: true}))
	for _, part := range []string{`"id":"1152921504606846976"`, `"big":"18446744073709551615"`, `"small":-3`,
		`"unitPrice":"1.5"`,
		`"by_day":{"a":"1","b":"2"}`, `"dec":"-0.5"`, `"f":1e+21`} {
		if !strings.Contains(got, part) {
			t.Errorf("%s is not in %s", part, got)
		}
	}
}

// TestJSONAgreesWithEncodingJSON compares strings and floats with the standard
// library's reading of them.
func TestJSONAgreesWithEncodingJSON(t *testing.T) {
	for _, s := range []string{"", "plain", "\x00\x1f\x7f", "\"\\/", "日本語😀", "\xf0\x9f", "a\xffb",
		"\u2028\u2029"} {
		var got, want string
		b, err := json.Marshal(s)
		if err != nil || json.Unmarshal(b, &want) != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(AppendJSONString(nil, s), &got); err != nil || got != want {
			t.Errorf("%q reads as %q, %v, want %q", s, got, err, want)
		}
	}
	for _, f := range []float64{0, math.Copysign(0, -1), 1, 1e20, 1e21, 1e-6, 1e-7, 0.1, math.MaxFloat64,
		math.SmallestNonzeroFloat64} {
		var got float64
		if err := json.Unmarshal(appendFloat(nil, f, 64), &got); err != nil || got != f ||
			math.Signbit(got) != math.Signbit(f) {
			t.Errorf("%v reads as %v, %v", f, got, err)
		}
	}
}

type compound struct {
	Customer string
	Day      record.Date
	Number   sql.Null[int64]
}

func TestKeysInURLs(t *testing.T) {
	scalar, err := JSONOf[int64]()
	if err != nil {
		t.Fatal(err)
	}
	if k, err := scalar.DecodeKey("-42"); err != nil || k != -42 {
		t.Errorf("%d, %v", k, err)
	}
	if _, err := scalar.DecodeKey("4711x"); !errors.Is(err, ErrSyntax) || strings.Contains(err.Error(),
		"4711") {
		t.Errorf("%v", err)
	}
	str, err := JSONOf[string]()
	if err != nil {
		t.Fatal(err)
	}
	if k, err := str.DecodeKey(`"quoted"`); err != nil || k != `"quoted"` {
		t.Errorf("%s, %v", k, err)
	}
	if k, err := str.Decode([]byte(`"quoted"`)); err != nil || k != `quoted` {
		t.Errorf("%s, %v", k, err)
	}
	date, err := JSONOf[record.Date]()
	if err != nil {
		t.Fatal(err)
	}
	if k, err := date.DecodeKey("2024-02-29"); err != nil || k.String() != "2024-02-29" {
		t.Errorf("%s, %v", k, err)
	}
	j, err := JSONOf[compound]()
	if err != nil {
		t.Fatal(err)
	}
	day, _ := record.ParseDate("2024-02-29")
	for _, want := range []compound{{"a", day, sql.Null[int64]{}}, {"", day, sql.Null[int64]{V: 1 << 60,
		Valid: true}}} {
		for _, o := range []JSONOptions{{}, {NumbersAsStrings: true}} {
			src := j.Append(nil, &want, o)
			if got, err := j.DecodeKey(string(src)); err != nil || got != want {
				t.Errorf("%s reads as %v, %v", src, got, err)
			}
		}
	}
	for src, says := range map[string]string{
		`{"customer":"4711","day":"2024-02-30","number":1}`:    "compound.day: ",
		`{"customer":"4711","day":"2024-02-29"}`:               "exactly the fields",
		`{"customer":"4711","day":"2024-02-29","nummer":4711}`: "exactly the fields",
		`{"customer":4711,"day":"2024-02-29","number":1}`:      "compound.customer: ",
		`{"customer":null,"day":"2024-02-29","number":1}`:      "compound.customer: serde: NULL",
		`{"customer":"4711","day":"2024-02-29","number":1.5}`:  "compound.number: ",
		`{"customer":"4711","day":["2024-02-29"],"number":1}`:  "compound.day: ",
		`{"customer":"4711","day":"2024-02-29","number":1} {}`: "not in the form",
		`"4711"`: "not in the form",
		``:       "not in the form",
	} {
		if _, err := j.DecodeKey(src); err == nil || !strings.Contains(err.Error(), says) ||
			strings.Contains(err.Error(), "4711") {
			t.Errorf("%s: %v, want one that says %q", src, err, says)
		}
	}
}

// TestJSONComesBack reads what was written, for all types that can be read.
func TestJSONComesBack(t *testing.T) {
	type readable struct {
		A []string
		B []sql.Null[record.Decimal]
		C *place
		D []byte
		E [3]byte
		F record.JSON
		G record.Instant
		H float64
		I *[]int64
		J record.Range[int32]
	}
	j, err := JSONOf[readable]()
	if err != nil {
		t.Fatal(err)
	}
	want := readable{A: []string{"x", "\""}, B: []sql.Null[record.Decimal]{{}, {V: record.NewDecimal(15, -1),
		Valid: true}},
		C: &place{"s", "c"}, D: []byte{1}, E: [3]byte{1, 2, 3}, F: `{"a":null}`, G: record.InstantInfinity,
		H: math.Inf(-1),
		I: &[]int64{1 << 62}, J: record.Range[int32]{Bounds: record.LowerOpen | record.UpperOpen}}
	src := j.Append(nil, &want, JSONOptions{})
	got, err := j.Decode(src)
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%s\nreads as %+v, %v", src, got, err)
	}
}

type refuses struct{}

func (refuses) MarshalText() ([]byte, error) { return nil, errors.New("never 4711") }

// TestEncodingUserCodeThatFails panics with an error that does not hold the value.
func TestEncodingUserCodeThatFails(t *testing.T) {
	catch := func(f func()) (e *EncodeError) {
		defer func() { e, _ = recover().(*EncodeError) }()
		f()
		return nil
	}
	j, err := JSONOf[struct{ A refuses }]()
	if err != nil {
		t.Fatal(err)
	}
	e := catch(func() { j.Append(nil, &struct{ A refuses }{}, JSONOptions{}) })
	if e == nil || strings.Contains(e.Error(), "4711") || !strings.Contains(e.Error(), "serde.refuses") {
		t.Errorf("MarshalText fails: %v", e)
	}
	raw, err := JSONOf[record.JSON]()
	if err != nil {
		t.Fatal(err)
	}
	broken := record.JSON("{4711")
	if e := catch(func() { raw.Append(nil, &broken, JSONOptions{}) }); e == nil || strings.Contains(e.Error(),
		"4711") {
		t.Errorf("broken JSON: %v", e)
	}
}
