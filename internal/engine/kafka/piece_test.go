package kafka

import (
	"bytes"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/tailrace/tailrace/internal/kafka"
	"github.com/tailrace/tailrace/internal/task"
	"github.com/tailrace/tailrace/record"
	"github.com/tailrace/tailrace/topology"
)

// What a transaction sends comes out of the records of an exchange: messages, origin, time.
// What is long goes on in further records, whose transactions can be told apart.
func TestPieces(t *testing.T) {
	x := &topology.Exchange{Name: "x"}
	at := time.UnixMilli(1700000000123)
	var out []*kgo.Record
	s := &sender{
		part: &part{origins: []origin{
			{partition: kafka.Partition{Topic: "in", Number: 3}, offset: 41, at: at},
			{partition: kafka.Partition{Topic: "in", Number: 3}, offset: 42, at: at, piece: 7},
		}},
		pieces: map[route]*piece{}, topic: func(*topology.Exchange) string { return "x-topic" },
		put: func(_ *topology.Exchange, r *kgo.Record) { out = append(out, r) },
	}
	tx := &record.Tx{
		Source: "db", Position: 1 << 40, CommitStart: 9, XID: 4, CommitTime: -5, Origin: "far", Snapshot: true,
		Headers: []record.Header{{Key: "h", Value: []byte{0, 255}}, {Key: "none"}, {Key: "", Value: []byte{}}},
	}
	big := bytes.Repeat([]byte("v"), pieceSize)
	type sent struct {
		seq, partition int
		key, value     []byte
	}
	for _, m := range []sent{
		{0, 1, []byte("a"), []byte("1")}, {0, 0, []byte("b"), nil}, {0, 1, []byte("c"), big},
		{0, 1, []byte("d"), []byte("2")}, {1, 1, []byte("e"), []byte("3")},
	} {
		err := s.send(task.Message{
			Exchange: x, Tx: tx, Time: 77,
			Message: topology.Message{Partition: m.partition, Key: m.key, Value: m.value, Seq: uint32(m.seq)},
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	s.flush()
	var got []string
	for _, r := range out {
		is := &record.Tx{}
		e, err := readExchanged(r, is, map[string]string{})
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(tx, is); d != "" || e.time != 77 || !e.origin.at.Equal(at) || r.Topic != "x-topic" {
			t.Errorf("%+v: %s", e, d)
		}
		line := fmt.Sprintf("to %d, from %s@%d piece %d:",
			r.Partition, e.origin.partition, e.origin.offset, e.origin.piece)
		for {
			k, v, ok, err := e.next()
			if err != nil {
				t.Fatal(err)
			}
			if !ok {
				break
			}
			line += fmt.Sprintf(" %s=%d", k, len(v))
		}
		got = append(got, line)
	}
	want := []string{
		"to 1, from in/3@41 piece 0: a=1 c=65536",
		"to 1, from in/3@41 piece 1: d=1",
		"to 1, from in/3@42 piece 458752: e=1",
		"to 0, from in/3@41 piece 0: b=0",
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

// A record that is cut off or of another format is an error, wherever it is cut.
func TestPiecesCutOff(t *testing.T) {
	var out []*kgo.Record
	s := &sender{
		part:   &part{origins: []origin{{partition: kafka.Partition{Topic: "in"}, offset: 300}}},
		pieces: map[route]*piece{}, topic: func(*topology.Exchange) string { return "" },
		put: func(_ *topology.Exchange, r *kgo.Record) { out = append(out, r) },
	}
	m := task.Message{Exchange: &topology.Exchange{}, Tx: &record.Tx{Source: "db", Origin: "o", Position: 999,
		Headers: []record.Header{{Key: "h", Value: []byte("value")}, {Key: "none"}}}}
	m.Key, m.Value = []byte("key"), []byte("value")
	if err := s.send(m); err != nil {
		t.Fatal(err)
	}
	s.flush()
	whole := out[0].Value
	read := func(value []byte) (messages int, err error) {
		e, err := readExchanged(&kgo.Record{Value: value}, &record.Tx{}, map[string]string{})
		for err == nil {
			var ok bool
			if _, _, ok, err = e.next(); !ok {
				break
			}
			messages++
		}
		return messages, err
	}
	if n, err := read(whole); n != 1 || err != nil {
		t.Fatalf("%d messages, %v", n, err)
	}
	for n := range whole {
		messages, err := read(whole[:n])
		if !errors.Is(err, errExchange) && !(err == nil && messages == 0) {
			t.Errorf("cut off after %d of %d bytes: %d messages, %v", n, len(whole), messages, err)
		}
	}
	if _, err := read(append([]byte{9}, whole[1:]...)); !errors.Is(err, errExchange) {
		t.Errorf("another format: %v", err)
	}
}
