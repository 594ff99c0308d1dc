package compare

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tailrace/tailrace/record"
)

// pair is a row of a view: key and value as JSON.
type pair struct{ key, value string }

func compare(t *testing.T, view []pair, types map[string]string, names []string,
	sql ...string) ([]Difference, error) {
	t.Helper()
	r := Rows{KeyScalar: true}
	for _, p := range view {
		if err := r.AddView([]byte(p.key), []byte(p.value)); err != nil {
			t.Fatal(err)
		}
	}
	var columns []record.Column
	for _, n := range names {
		columns = append(columns, record.Column{Name: n, Type: types[n]})
	}
	if err := r.Prepare(columns); err != nil {
		return nil, err
	}
	for _, object := range sql {
		if err := r.AddSQL([]byte(object)); err != nil {
			return nil, err
		}
	}
	_, _, differ := r.Result()
	return differ, nil
}

func TestDifferences(t *testing.T) {
	view := []pair{{`1`, `{"name":"a","n":1}`}, {`2`, `{"name":"b","n":2}`}, {`3`, `{"name":"c","n":3}`}}
	got, err := compare(t, view, map[string]string{"key": "bigint", "name": "text", "n": "bigint"},
		[]string{"key", "n", "name"},
		`{"key":1,"n":1,"name":"a"}`, `{"key":2,"n":20,"name":"b"}`, `{"key":4,"n":4,"name":"d"}`,
		`{"key":1,"n":1,"name":"a"}`)
	want := []Difference{
		{Key: `{"key":1}`, SQL: `{"key":1,"n":1,"name":"a"}`}, // SQL has it twice
		{Key: `{"key":2}`, View: `{"key":2,"n":2,"name":"b"}`, SQL: `{"key":2,"n":20,"name":"b"}`,
			Columns: []string{"n"}},
		{Key: `{"key":3}`, View: `{"key":3,"n":3,"name":"c"}`},
		{Key: `{"key":4}`, SQL: `{"key":4,"n":4,"name":"d"}`},
	}
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Errorf("error %v, differences (-want +got):\n%s", err, diff)
	}
}

func TestValues(t *testing.T) {
	for _, c := range []struct {
		sqlType, view, sql string
		equal              bool
	}{
		{"numeric", `1.5`, `1.50`, true},
		{"numeric", `1.5`, `1.5000000000000000001`, false},
		{"numeric", `"1.50"`, `1.5`, true},
		{"numeric", `"NaN"`, `"NaN"`, true},
		{"bigint", `9007199254740993`, `9007199254740992`, false},
		{"double precision", `0.30000000000000004`, `0.3`, true},
		{"double precision", `0.3000001`, `0.3`, false},
		{"double precision", `"NaN"`, `"NaN"`, true},
		{"double precision", `"Infinity"`, `"-Infinity"`, false},
		{"double precision", `null`, `0`, false},
		{"double precision[]", `[0.30000000000000004,1]`, `[0.3,1]`, true},
		{"double precision[]", `[1,2]`, `[2,1]`, false},
		{"text", `"a"`, `"b"`, false},
		{"text", `"1.0"`, `"1"`, false},
		{"text", `"2026-11-22T03:00:00Z"`, `"2026-11-22T03:00:00+00:00"`, false},
		{"text", `null`, `""`, false},
		{"text", `null`, `"null"`, false},
		{"boolean", `true`, `false`, false},
		{"bytea", `"AQI="`, `"\\x0102"`, true},
		{"bytea", `"AQI="`, `"\\x0103"`, false},
		{"timestamp with time zone", `"2026-11-22T03:00:00.5Z"`, `"2026-11-22T04:00:00.5+01:00"`, true},
		{"timestamp with time zone", `"2026-11-22T03:00:00Z"`, `"2026-11-22T03:00:00.000001+00:00"`, false},
		{"jsonb", `{"a":1.0,"b":[{"c":null}]}`, `{"b":[{"c":null}],"a":1}`, true},
		{"jsonb", `{"a":1}`, `{"a":1,"b":null}`, false},
		{"json", `[1,2]`, `[2,1]`, false},
		{"json", `{"at":"2026-11-22T03:00:00Z"}`, `{"at":"2026-11-22T03:00:00+00:00"}`, true},
	} {
		got, err := compare(t, []pair{{`1`, `{"v":` + c.view + `}`}}, map[string]string{"key": "bigint",
			"v": c.sqlType},
			[]string{"key", "v"}, `{"key":1,"v":`+c.sql+`}`)
		if err != nil || (len(got) == 0) != c.equal {
			t.Errorf(
				"%s: %s and %s: differences %v, error %v, want equal %v",
				c.sqlType,
				c.view,
				c.sql,
				got,
				err,
				c.equal,
			)
		}
	}
}

func TestKeys(t *testing.T) {
	// A key that both sides write in their own way is one key.
	got, err := compare(t, []pair{{`"2026-11-22T03:00:00Z"`, `{"v":1}`}},
		map[string]string{"key": "timestamp with time zone", "v": "integer"}, []string{"v", "key"},
		`{"v":1,"key":"2026-11-22T03:00:00+00:00"}`)
	if len(got) != 0 || err != nil {
		t.Errorf("got %v, %v", got, err)
	}
	// A view without rows tells no columns; what SQL gives is missing in it.
	got, err = compare(t, nil, nil, []string{"any"}, `{"any":1}`)
	if len(got) != 1 || got[0].SQL != `{"any":1}` || err != nil {
		t.Errorf("got %v, %v", got, err)
	}
}

func TestColumns(t *testing.T) {
	view := []pair{{`1`, `{"n":1}`}}
	for _, names := range [][]string{{"key"}, {"key", "n", "m"}, {"key", "N"}, {"key", "n", "n"}} {
		types := map[string]string{"key": "bigint", "n": "bigint", "m": "bigint", "N": "bigint"}
		if _, err := compare(t, view, types, names); !errors.Is(err, ErrColumns) {
			t.Errorf("columns %v: error %v, want ErrColumns", names, err)
		}
	}
}
