package file

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strconv"
	"time"

	"github.com/tailrace/tailrace/record"
	"github.com/tailrace/tailrace/serde"
	"github.com/tailrace/tailrace/sinks"
)

// linePrefix is how every line begins.
const linePrefix = `{"id":`

// appendLine appends an event as a line of JSON.
func appendLine(buf []byte, stream string, e *sinks.Event) ([]byte, error) {
	buf = serde.AppendJSONString(append(buf, linePrefix...), e.ID)
	buf = serde.AppendJSONString(append(buf, `,"stream":`...), stream)
	var err error
	if buf, err = appendJSON(append(buf, `,"key":`...), e.Key); err != nil {
		return nil, fmt.Errorf("key of an event of %q: %w", stream, err)
	}
	if buf, err = appendJSON(append(buf, `,"value":`...), e.Value); err != nil {
		return nil, fmt.Errorf("value of an event of %q: %w", stream, err)
	}
	buf = serde.AppendJSONString(append(buf, `,"source":`...), e.Source)
	buf = serde.AppendJSONString(append(buf, `,"position":`...), record.LSN(e.Position).String())
	buf = strconv.AppendUint(append(buf, `,"xid":`...), uint64(e.XID), 10)
	buf = time.UnixMicro(e.Time).UTC().AppendFormat(append(buf, `,"time":"`...), time.RFC3339Nano)
	buf = strconv.AppendBool(append(buf, `","last":`...), e.Last)
	if e.Replayed {
		buf = append(buf, `,"replayed":true`...)
	}
	return append(buf, "}\n"...), nil
}

// appendJSON appends a JSON value, on one line.
func appendJSON(buf, v []byte) ([]byte, error) {
	if len(v) == 0 {
		return append(buf, "null"...), nil
	}
	if bytes.IndexByte(v, '\n') < 0 {
		return append(buf, v...), nil
	}
	var flat bytes.Buffer
	if err := json.Compact(&flat, v); err != nil {
		return nil, err
	}
	return append(buf, flat.Bytes()...), nil
}

// place is where the events of one stream from one source are in order.
type place struct{ stream, source string }

// parsedLine is what a start without checkpoint reads from a line.
type parsedLine struct {
	ID       *string `json:"id"`
	Stream   string  `json:"stream"`
	Source   string  `json:"source"`
	Position string  `json:"position"`
	Last     *bool   `json:"last"`
}

// parseLine reads a line, its newline included; ok is false if it is not one of ours, or
// only part of one.
func parseLine(line []byte) (at place, position uint64, last, ok bool) {
	var l parsedLine
	if !bytes.HasPrefix(line, []byte(linePrefix)) || line[len(line)-1] != '\n' {
		return at, 0, false, false
	}
	if json.Unmarshal(line, &l) != nil || l.ID == nil || l.Last == nil {
		return at, 0, false, false
	}
	lsn, err := record.ParseLSN(l.Position)
	return place{l.Stream, l.Source}, uint64(lsn), *l.Last, err == nil
}
