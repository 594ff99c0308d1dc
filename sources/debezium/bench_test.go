package debezium_test

import (
	"encoding/json"
	"slices"
	"testing"

	"github.com/tailrace/tailrace/record"
	"github.com/tailrace/tailrace/sources/debezium"
)

// benchEnvelope is what encoding/json reads the records of the benchmark into.
type benchEnvelope struct {
	Before, After *struct {
		ID        int32   `json:"id"`
		FirstName string  `json:"first_name"`
		LastName  string  `json:"last_name"`
		Email     *string `json:"email"`
		Credit    []byte  `json:"credit"`
	}
	Source struct {
		TsUs     int64  `json:"ts_us"`
		Snapshot string `json:"snapshot"`
		Schema   string `json:"schema"`
		Table    string `json:"table"`
		TxID     int64  `json:"txId"`
		LSN      int64  `json:"lsn"`
	} `json:"source"`
	Op string `json:"op"`
}

// BenchmarkDecode decodes an update of a row of five columns, with the source block of
// Debezium 3.6, without and with its schema, against encoding/json into a struct, which
// leaves the values undecoded.
//
//	go test ./sources/debezium -run - -bench Decode -benchmem
func BenchmarkDecode(b *testing.B) {
	v := loadVector(b, "testdata/vectors/basic-crud.json")
	plainRecord := v.Records[3].record()
	with := v.Others["with_schema"][0].record()
	prefix := slices.Index(with.Value, 'p')
	for i := range with.Value {
		if string(with.Value[i:min(len(with.Value), i+10)]) == `"payload":` {
			prefix = i + 10
			break
		}
	}
	withRecord := *plainRecord
	withRecord.Value = slices.Concat(with.Value[:prefix], plainRecord.Value, []byte("}"))
	table := debezium.Table{Name: "public.customers", Columns: []debezium.Column{
		{
			Column: record.Column{Name: "id", Type: "integer", Key: true},
		},
		{Column: record.Column{Name: "first_name", Type: "text"}},
		{
			Column: record.Column{Name: "last_name", Type: "text"},
		},
		{Column: record.Column{Name: "email", Type: "text"}},
		{Column: record.Column{Name: "credit", Type: "numeric(10,2)"}},
	}}
	for name, r := range map[string]*debezium.Record{"without-schema": plainRecord, "with-schema": &withRecord} {
		b.Run(name, func(b *testing.B) {
			d, err := debezium.NewDecoder(debezium.Config{Prefix: "tr", Tables: []debezium.Table{table}})
			if err != nil {
				b.Fatal(err)
			}
			b.SetBytes(int64(len(r.Value) + len(r.Key)))
			b.ReportAllocs()
			var ev debezium.Event
			for b.Loop() {
				if err := d.Decode(r, &ev); err != nil {
					b.Fatal(err)
				}
				d.Reset()
			}
		})
		b.Run(name+"-encoding-json", func(b *testing.B) {
			b.SetBytes(int64(len(r.Value) + len(r.Key)))
			b.ReportAllocs()
			for b.Loop() {
				var err error
				if name == "with-schema" {
					var e struct{ Payload benchEnvelope }
					err = json.Unmarshal(r.Value, &e)
				} else {
					var e benchEnvelope
					err = json.Unmarshal(r.Value, &e)
				}
				if err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
