package debezium_test

import (
	"errors"
	"testing"
	"unicode/utf8"

	"github.com/tailrace/tailrace/record"
	"github.com/tailrace/tailrace/sources/debezium"
)

// FuzzDecode gives a decoder records that nobody wrote: it must not panic, its errors
// are of its own kind, and what it takes are texts that PostgreSQL could have written.
func FuzzDecode(f *testing.F) {
	for _, v := range loadVectors(f) {
		for _, r := range v.Records {
			rec := r.record()
			f.Add(rec.Topic, rec.Key, rec.Value, len(v.Name)%2 == 0)
		}
		for _, rs := range v.Others {
			for _, r := range rs {
				f.Add(r.Topic, []byte(r.Key), []byte(r.Value), true)
			}
		}
	}
	var configs []debezium.Config
	for _, v := range loadVectors(f) {
		if cfg := (debezium.Config{Prefix: "tr", Tables: declared(v, readWAL(f, v))}); len(cfg.Tables) > 0 {
			if modes, err := debezium.ModesOf(v.Options); err == nil {
				cfg.Modes, cfg.SinglePartition = modes, len(configs)%2 == 0
				configs = append(configs, cfg)
			}
		}
	}
	f.Fuzz(func(t *testing.T, topic string, key, value []byte, open bool) {
		cfgs := configs
		if open {
			cfgs = []debezium.Config{{Prefix: "tr", AcceptLossy: []string{"public.t.iv"}}}
		}
		r := debezium.Record{Topic: topic, Key: key, Value: value, Headers: []debezium.Header{
			{Key: "__debezium.oldkey", Value: key}, {Key: "id", Value: key},
		}}
		for _, cfg := range cfgs {
			d, err := debezium.NewDecoder(cfg)
			if err != nil {
				t.Fatal(err)
			}
			for range 2 { // the second time by what the first has taught
				check(t, d, &r)
			}
		}
		var e *debezium.Error
		if _, err := debezium.DecodeOutbox(&r); err != nil && !errors.As(err, &e) {
			t.Fatalf("%T %v", err, err)
		}
	})
}

func check(t *testing.T, d *debezium.Decoder, r *debezium.Record) {
	t.Helper()
	var ev debezium.Event
	if err := d.Decode(r, &ev); err != nil {
		var e *debezium.Error
		if !errors.As(err, &e) || e.Err == nil {
			t.Fatalf("%T %v", err, err)
		}
		return
	}
	if ev.Kind == 0 {
		t.Fatal("an event of no kind")
	}
	for _, tuple := range []record.Tuple{ev.Row.Old, ev.Row.New} {
		if tuple != nil && len(tuple) != len(ev.Row.Rel.Columns) {
			t.Fatalf("%d values for %d columns", len(tuple), len(ev.Row.Rel.Columns))
		}
		for _, v := range tuple {
			if v.Kind == record.Text && !utf8.Valid(v.Data) {
				t.Fatalf("%q is no text", v.Data)
			}
		}
	}
}
