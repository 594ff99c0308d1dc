package debezium_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/tailrace/tailrace/record"
	"github.com/tailrace/tailrace/sources"
	"github.com/tailrace/tailrace/sources/debezium"
)

// texts are a tuple's values with a bar between.
func texts(tuple record.Tuple) string {
	var parts []string
	for _, v := range tuple {
		switch v.Kind {
		case record.Null:
			parts = append(parts, "NULL")
		case record.Unchanged:
			parts = append(parts, "?")
		default:
			parts = append(parts, string(v.Data))
		}
	}
	return strings.Join(parts, "|")
}

func decoder(t testing.TB, change func(*debezium.Config)) *debezium.Decoder {
	t.Helper()
	cfg := debezium.Config{Prefix: "tr", Tables: []debezium.Table{{Name: "public.t", Columns: []debezium.Column{
		{Column: record.Column{Name: "id", Type: "bigint", Key: true}},
		{Column: record.Column{Name: "name", Type: "text"}},
		{Column: record.Column{Name: "price", Type: "numeric(10,2)"}},
		{Column: record.Column{Name: "at", Type: "timestamp with time zone"}},
	}}}}
	if change != nil {
		change(&cfg)
	}
	d, err := debezium.NewDecoder(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

const source = `"source":{"version":"3.6.0.Final","connector":"postgresql","name":"tr","ts_ms":1795308005164,` +
	`"snapshot":"false","db":"shop","sequence":"[\"24023119\",\"24023128\"]","ts_us":1795308005164264,` +
	`"ts_ns":1795308005164264000,"schema":"public","table":"t","txId":860,"lsn":24023128,"xmin":null,` +
	`"origin":"o1","origin_lsn":7},"transaction":{"id":"860:24023128","total_order":3,"data_collection_order":2}`

func change(key, before, after, op string) *debezium.Record {
	return &debezium.Record{Topic: "tr.public.t", Key: []byte(key), Value: []byte(`{"before":` + before +
		`,"after":` + after + `,` + source + `,"op":"` + op + `","ts_ms":1,"ts_us":1795308005174638,"ts_ns":1}`)}
}

const row = `{"id":1,"name":"a \"b\" ","price":"D54=","at":"2018-06-20T15:13:16.945104+02:00"}`

func TestSourceBlock(t *testing.T) {
	t.Parallel()
	var ev debezium.Event
	if err := decoder(t, nil).Decode(change(`{"id":1}`, "null", row, "c"), &ev); err != nil {
		t.Fatal(err)
	}
	if got, want := texts(ev.Row.New), `1|a "b" |39.98|2018-06-20 13:13:16.945104+00`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	s := ev.Source
	if s.XID != 860 || s.LSN != 24023128 || s.CommitLSN != 24023119 || s.Time != 1795308005164264 ||
		s.Snapshot != debezium.Streamed || string(s.Origin) != "o1" || s.OriginLSN != 7 || string(s.DB) != "shop" ||
		string(s.Connector) != "postgresql" || !strings.HasPrefix(string(s.Raw), `{"version"`) {
		t.Errorf("source %+v", s)
	}
	if ev.Tx.XID != 860 || ev.Tx.TotalOrder != 3 || ev.Tx.CollectionOrder != 2 || ev.Time != 1795308005174638 {
		t.Errorf("tx %+v, time %d", ev.Tx, ev.Time)
	}
}

// TestOldSourceBlock reads what releases before 2.0 wrote: a boolean for the snapshot, no
// microseconds.
func TestOldSourceBlock(t *testing.T) {
	t.Parallel()
	for snapshot, want := range map[string]debezium.Snapshot{
		"true": debezium.InSnapshot, "false": debezium.Streamed,
		`"last"`: debezium.LastInSnapshot, "null": debezium.Streamed, `"incremental"`: debezium.Incremental} {
		r := &debezium.Record{
			Topic: "tr.public.t",
			Key:   []byte(`{"id":1}`),
			Value: []byte(`{"before":null,"after":` +
				row + `,"source":{"version":"1.4.0.Final","connector":"postgresql","name":"tr","ts_ms":1610716847249,` +
				`"snapshot":` + snapshot + `,"db":"d","schema":"public","table":"t","txId":5,"lsn":6,"xmin":null},` +
				`"op":"c","ts_ms":1610716847250,"transaction":null}`),
		}
		var ev debezium.Event
		if err := decoder(t, nil).Decode(r, &ev); err != nil {
			t.Fatal(err)
		}
		if ev.Source.Snapshot != want || ev.Source.Time != 1610716847249000 || ev.Time != 1610716847250000 {
			t.Errorf("%s: %+v", snapshot, ev.Source)
		}
	}
}

// TestRefused gives records that cannot be read right: each has its reason, names its
// place, and never holds a value.
func TestRefused(t *testing.T) {
	t.Parallel()
	const secret = "s3cr3t"
	good := func(f string, args ...any) *debezium.Record {
		return change(`{"id":1}`, "null", fmt.Sprintf(f, args...), "u")
	}
	for name, c := range map[string]struct {
		record *debezium.Record
		change func(*debezium.Config)
		want   error
	}{
		"no JSON": {&debezium.Record{Topic: "tr.public.t", Value: []byte("{" + secret)},
			nil, debezium.ErrMalformed},
		"a scalar":      {&debezium.Record{Topic: "tr.public.t", Value: []byte("7")}, nil, debezium.ErrMalformed},
		"cut off":       {good("%s", row[:40]), nil, debezium.ErrMalformed},
		"unknown op":    {change(`{"id":1}`, "null", row, "x"), nil, debezium.ErrMalformed},
		"no row":        {change(`{"id":1}`, "null", "null", "u"), nil, debezium.ErrMalformed},
		"no key":        {change("null", "null", row, "u"), nil, debezium.ErrNoKey},
		"NULL key":      {change(`{"id":null}`, "null", row, "u"), nil, debezium.ErrNoKey},
		"another key":   {change(`{"name":"x"}`, "null", row, "u"), nil, debezium.ErrKey},
		"no column":     {good(`{"id":1,"name":"%s"}`, secret), nil, debezium.ErrMissing},
		"bad base64":    {good(`{"id":1,"name":"","price":"%s!","at":null}`, secret), nil, debezium.ErrValue},
		"bad number":    {good(`{"id":1.5,"name":"","price":null,"at":null}`), nil, debezium.ErrValue},
		"bad time":      {good(`{"id":1,"name":"","price":null,"at":"%s"}`, secret), nil, debezium.ErrValue},
		"zero byte":     {good(`{"id":1,"name":"\u0000","price":null,"at":null}`), nil, debezium.ErrValue},
		"half a pair":   {good(`{"id":1,"name":"\ud800","price":null,"at":null}`), nil, debezium.ErrMalformed},
		"scale exceeds": {good(`{"id":1,"name":"","price":1.234,"at":null}`), nil, debezium.ErrValue},
		"huge exponent": {good(`{"id":1,"name":"","price":1e999999999,"at":null}`), nil, debezium.ErrValue},
		"no types": {good("%s", row),
			func(cfg *debezium.Config) { cfg.Tables[0].Columns = nil }, debezium.ErrNoSchema},
		"not written": {good("%s", row), func(cfg *debezium.Config) {
			cfg.Tables[0].Read = []string{"id", "none"}
		}, debezium.ErrMissing},
		"lossy": {good("%s", row), func(cfg *debezium.Config) {
			cfg.Tables[0].Columns[2].Type, cfg.Tables[0].Read = "numeric", []string{"price"}
			cfg.Modes.Decimal = "double"
		}, debezium.ErrLossy},
		"flattened insert": {&debezium.Record{Topic: "tr.public.t", Key: []byte(`{"id":1}`), Value: []byte(row)},
			func(cfg *debezium.Config) { cfg.Tables[0].InsertsOnly = true }, debezium.ErrNoOperation},
	} {
		var ev debezium.Event
		err := decoder(t, c.change).Decode(c.record, &ev)
		if !errors.Is(err, c.want) {
			t.Errorf("%s: got %v, want %v", name, err, c.want)
			continue
		}
		if strings.Contains(err.Error(), secret) || !strings.Contains(err.Error(), "tr.public.t") {
			t.Errorf("%s: the message is %q", name, err)
		}
		if errors.Is(err, sources.ErrDecode) == errors.Is(err, sources.ErrSchema) {
			t.Errorf("%s: %v has to be the fault either of a record or of a table", name, err)
		}
	}
}

// TestMoves reads a key change as two rows, or as one where both halves arrive in order.
func TestMoves(t *testing.T) {
	t.Parallel()
	del := change(`{"id":1}`, `{"id":1,"name":null,"price":"AA==","at":null}`, "null", "d")
	del.Headers = []debezium.Header{{Key: "__debezium.newkey", Value: []byte(`{"id":2}`)}}
	tomb := &debezium.Record{Topic: del.Topic, Key: del.Key, Headers: del.Headers}
	put := change(
		`{"id":2}`,
		"null",
		`{"id":2,"name":"__debezium_unavailable_value","price":"D54=","at":null}`,
		"c",
	)
	put.Headers = []debezium.Header{
		{Key: "__debezium.oldkey", Value: []byte(`{"schema":{"type":"struct","fields":[` +
			`{"type":"int64","optional":false,"field":"id"}],"optional":false},"payload":{"id":1}}`)},
	}
	for _, c := range []struct {
		single bool
		want   string
	}{
		{false, "DELETE old=1|NULL|NULL|NULL new= moved=2|NULL|NULL|NULL;" +
			"DELETE old=1|NULL|NULL|NULL new= moved=2|NULL|NULL|NULL;INSERT old= new=2|?|39.98|NULL moved=1|NULL|NULL|NULL;"},
		{true, "UPDATE old=1|NULL|NULL|NULL new=2|?|39.98|NULL moved=;"},
	} {
		d := decoder(t, func(cfg *debezium.Config) { cfg.SinglePartition = c.single })
		got := ""
		for _, r := range []*debezium.Record{del, tomb, put} {
			var ev debezium.Event
			if err := d.Decode(r, &ev); err != nil {
				t.Fatal(err)
			}
			if ev.Kind == debezium.Ignored {
				continue
			}
			got += fmt.Sprintf(
				"%v old=%s new=%s moved=%s;",
				ev.Row.Op,
				texts(ev.Row.Old),
				texts(ev.Row.New),
				texts(ev.Moved),
			)
		}
		if got != c.want {
			t.Errorf("single partition %v:\n got %s\nwant %s", c.single, got, c.want)
		}
	}
}

// TestDialectChanges reads a topic whose connector was set up anew in between.
func TestDialectChanges(t *testing.T) {
	t.Parallel()
	d := decoder(t, nil)
	wrapped := change(`{"id":1}`, "null", row, "u")
	wrapped.Value = []byte(`{"schema":null,"payload":` + string(wrapped.Value) + `}`)
	flat := &debezium.Record{Topic: "tr.public.t", Key: []byte(`{"id":1}`), Value: []byte(row)}
	for i, r := range []*debezium.Record{flat, change(`{"id":1}`, "null", row, "u"), flat, wrapped, flat} {
		var ev debezium.Event
		if err := d.Decode(r, &ev); err != nil {
			t.Fatal(i, err)
		}
		if got := texts(ev.Row.New); !strings.HasPrefix(got, "1|a") || ev.Row.Op != record.Update {
			t.Errorf("%d: %v %s", i, ev.Row.Op, got)
		}
	}
}

// TestValuesStay keeps what was decoded until Reset, however much follows.
func TestValuesStay(t *testing.T) {
	t.Parallel()
	d := decoder(t, nil)
	var all []record.Tuple
	for i := range 5000 {
		var ev debezium.Event
		r := change(
			`{"id":1}`,
			"null",
			fmt.Sprintf(`{"id":%d,"name":"n\n%d","price":%d.5,"at":null}`, i, i, i),
			"u",
		)
		if err := d.Decode(r, &ev); err != nil {
			t.Fatal(err)
		}
		all = append(all, ev.Row.New)
	}
	for i, tuple := range all {
		if got, want := texts(tuple), fmt.Sprintf("%d|n\n%d|%d.50|NULL", i, i, i); got != want {
			t.Fatalf("got %q, want %q", got, want)
		}
	}
	d.Reset()
}
