package sim

import (
	"fmt"
	"maps"
	"testing"
	"time"
)

// script makes inputs of lines: a table, a key, and a row in JSON or nothing; a second apart.
func script(t *testing.T, lines ...[3]string) []input {
	t.Helper()
	at := time.Unix(1000, 0)
	var out []input
	for _, l := range lines {
		var value []byte
		if l[2] != "" {
			value = []byte(l[2])
		}
		in, ok, err := readInput(l[0], []byte(l[1]), value, at, false)
		if err != nil || !ok {
			t.Fatalf("%v: %v, %v", l, ok, err)
		}
		out = append(out, in)
		at = at.Add(time.Second)
	}
	return out
}

// What the oracle expects, worked out by hand.
func TestOracle(t *testing.T) {
	for _, c := range []struct {
		shape  string
		in     [][3]string
		output string
		want   map[string]string // rows, or how often events came
	}{
		{"filter", [][3]string{
			{"orders", "a", `{"customer":"x","cents":100}`}, {"orders", "b", `{"customer":"x","cents":100}`},
			{"orders", "b", `{"customer":"x","cents":500}`}, {"orders", "c", `{"customer":"x","cents":9}`},
			{"orders", "c", ""},
		}, "cheap", map[string]string{`"a"`: `{"key":"a","customer":"x!","cents":101}`}},
		{"filter", [][3]string{
			{"clicks", "a", `{"number":1,"card":"x"}`}, {"clicks", "a", `{"number":2,"card":"x"}`},
			{"clicks", "b", `{"number":2,"card":"x"}`},
		}, "seen", map[string]string{`{"number":2,"card":"x"}`: "2"}},
		{"join", [][3]string{
			{"orders", "a", `{"customer":"x","cents":150}`}, {"orders", "b", `{"customer":"x","cents":100}`},
			{"rates", "a", `{"percent":50}`}, {"rates", "a", `{"percent":10}`}, {"rates", "c", `{"percent":10}`},
		}, "priced", map[string]string{`"a"`: `{"key":"a","customer":"x","cents":165}`}},
		{"foreign-key", [][3]string{
			{"orders", "a", `{"customer":"x","cents":1}`}, {"orders", "b", `{"customer":"x","cents":2}`},
			{"orders", "b", `{"customer":"y","cents":3}`}, {"customers", "x", `{"name":"old"}`},
			{"customers", "x", `{"name":"new"}`},
		}, "named", map[string]string{`"a"`: `{"key":"a","name":"new","cents":1}`}},
		{"aggregate", [][3]string{
			{"orders", "a", `{"customer":"x","cents":10}`}, {"orders", "b", `{"customer":"x","cents":20}`},
			{"rates", "a", `{"percent":0}`}, {"rates", "b", `{"percent":100}`},
			{"orders", "c", `{"customer":"y","cents":5}`},
		}, "revenue", map[string]string{`"x"`: `{"key":"x","orders":2,"cents":50}`}},
		{"walks", [][3]string{
			{"steps", "a", `{"walk":"a!","number":1}`}, {"steps", "a", `{"walk":"a!","number":3}`},
			{"steps", "a", `{"walk":"a!","number":4}`},
		}, "walks", map[string]string{`"a!"`: `{"key":"a!","steps":3,"last":4,"broken":1}`}},
		{"enrich", [][3]string{
			{"limits", "x", `{"cents":1}`}, {"clicks", "a", `{"number":1,"card":"x"}`},
			{"clicks", "a", `{"number":2,"card":"y"}`},
		}, "checked", map[string]string{"1": "1", "2": "1"}},
		{"windows", [][3]string{
			{"clicks", "a", `{"number":1,"card":"x"}`}, {"clicks", "b", `{"number":2,"card":"x"}`},
			{"clicks", "b", `{"number":3,"card":"y"}`},
		}, "perMinute", map[string]string{keyOf("x", 1e9): "2", keyOf("y", 1e9): "1"}},
	} {
		var e *expected
		for _, s := range shapes {
			if s.name == c.shape {
				e = s.expect(script(t, c.in...))
			}
		}
		got := map[string]string{}
		maps.Copy(got, e.tables[c.output])
		for event, n := range e.events[c.output] {
			got[event] = fmt.Sprint(n)
		}
		if !maps.Equal(got, c.want) {
			t.Errorf("%s: %s has %v, want %v", c.shape, c.output, got, c.want)
		}
	}
}

// Debezium's records are read as the rows that they are about.
func TestOracleReadsDebezium(t *testing.T) {
	at := time.Unix(1000, 0)
	key := []byte(`{"key":"a"}`)
	update := []byte(`{"op":"u","before":null,"after":{"key":"a","cents":5}}`)
	in, ok, err := readInput("orders", key, update, at, true)
	if err != nil || !ok || in.key != "a" || in.row == nil || in.row.Cents != 5 {
		t.Errorf("an update: %+v, %v, %v", in, ok, err)
	}
	in, ok, err = readInput("orders", key, []byte(`{"op":"d","before":{"key":"a"},"after":null}`), at, true)
	if err != nil || !ok || in.key != "a" || in.row != nil {
		t.Errorf("a delete: %+v, %v, %v", in, ok, err)
	}
	if _, ok, err = readInput("orders", key, nil, at, true); err != nil || ok {
		t.Errorf("the record behind a delete: %v, %v", ok, err)
	}
}
