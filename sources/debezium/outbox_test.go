package debezium_test

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/tailrace/tailrace/record"
	"github.com/tailrace/tailrace/sources/debezium"
)

// outboxOutcome compares what the outbox event router made of rows with the rows that
// were inserted.
func outboxOutcome(t *testing.T, v *vector, w *wal) string {
	t.Helper()
	id, key, payload := "id", "aggregateid", "payload"
	for option, at := range map[string]*string{"id": &id, "key": &key, "payload": &payload} {
		if name := v.Options["transforms.outbox.table.field.event."+option]; name != "" {
			*at = name
		}
	}
	equal := 0
	sets := map[string][]vectorRecord{"": v.Records}
	for name, rs := range v.Others {
		if name == "with_schema" {
			sets[name] = rs
		}
	}
	for name, rs := range sets {
		inserts := w.rows
		for _, r := range rs {
			for inserts[0].op != record.Insert {
				inserts = inserts[1:]
			}
			row := inserts[0]
			inserts = inserts[1:]
			rec := r.record()
			if name != "" {
				rec.Headers = []debezium.Header{{Key: "id", Value: []byte(column(row, id))}}
			}
			ev, err := debezium.DecodeOutbox(rec)
			if err != nil {
				t.Fatal(v.Name, err)
			}
			if string(ev.ID) != column(row, id) || string(ev.Key) != column(row, key) {
				t.Errorf(
					"%s: id %s, key %s; the log has %s, %s",
					v.Name,
					ev.ID,
					ev.Key,
					column(row, id),
					column(row, key),
				)
				continue
			}
			if !samePayload(string(ev.Payload), column(row, payload), v) {
				t.Errorf("%s: payload %s, the log has %s", v.Name, ev.Payload, column(row, payload))
				continue
			}
			equal++
		}
	}
	return fmt.Sprintf("%d equal to the log (DecodeOutbox)", equal)
}

func column(row walRow, name string) string {
	for i, c := range row.rel.Columns {
		if c.Name == name {
			return string(row.new[i].Data)
		}
	}
	return "no column " + name
}

// samePayload compares a payload with the column: texts byte for byte, expanded ones as
// JSON without nulls, bytea by its bytes; blank ones are tombstones if the router is set
// so.
func samePayload(got, want string, v *vector) bool {
	if got == want {
		return true
	}
	if v.Options["transforms.outbox.route.tombstone.on.empty.payload"] == "true" &&
		strings.TrimSpace(want) == "" {
		return got == ""
	}
	if raw, ok := strings.CutPrefix(want, `\x`); ok {
		b, err := hex.DecodeString(raw)
		return err == nil && base64.StdEncoding.EncodeToString(b) == got
	}
	var a, b map[string]any
	if json.Unmarshal([]byte(got), &a) != nil || json.Unmarshal([]byte(want), &b) != nil {
		return false
	}
	for k, val := range b {
		if val == nil {
			delete(b, k)
		}
	}
	return v.Options["transforms.outbox.table.expand.json.payload"] == "true" && reflect.DeepEqual(a, b)
}
