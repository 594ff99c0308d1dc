package engine

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/tailrace/tailrace/sinks"
	"github.com/tailrace/tailrace/state"
	"github.com/tailrace/tailrace/topology"
)

func eventEntry(place, ordinal uint32, path string, output uint32, body string) (key, value []byte) {
	key = binary.BigEndian.AppendUint32(nil, place)
	key = state.AppendKeyString(binary.BigEndian.AppendUint32(key, ordinal), path)
	key = binary.BigEndian.AppendUint32(key, output)
	value = append(binary.AppendUvarint(nil, 1), 'k')
	return key, append(binary.BigEndian.AppendUint64(value, 99), body...)
}

// Events of an epoch with several transactions: ids come from transaction, node,
// ordinal and path, and the last of each transaction is marked.
func TestNextEventMarksTheLastOfEachTransaction(t *testing.T) {
	run := &targetRun{name: "t", outputs: []outputRun{
		{id: 7, node: &topology.Node{Topology: "topo", Name: "n"}, spec: &sinks.Spec{}},
	}}
	h := &queueHeader{Txs: []queueTx{{Source: "a", Position: 16}, {Source: "b", Position: 32}}}
	var got []string
	yield := func(it sinks.Item) bool {
		ev := it.Event
		got = append(got, fmt.Sprintf("%s %s=%s at %d last=%v", ev.ID, ev.Key, ev.Value, ev.Time, ev.Last))
		return true
	}
	var held *heldEvent
	for _, e := range []struct {
		place, ordinal uint32
		path           string
		output         uint32
	}{
		{0, 0, "", 7},
		{0, 1, "\x00\x00\x00\x02", 7},
		{0, 2, "", 8}, // of an output that is gone
		{1, 0, "", 7},
		{1, 1, "", 7},
	} {
		key, value := eventEntry(e.place, e.ordinal, e.path, e.output, "v")
		next, err := run.nextEvent(h, key, value, held, yield)
		if err != nil && !errors.Is(err, errNoOutput) {
			t.Fatal(err)
		}
		held = next
	}
	want := []string{
		"a/0/10/topo/n/0 k=v at 99 last=false",
		"a/0/10/topo/n/1.00000002 k=v at 99 last=true",
		"b/0/20/topo/n/0 k=v at 99 last=false",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got\n%q, want\n%q", got, want)
	}
	if held == nil || held.item.Event.ID != "b/0/20/topo/n/1" {
		t.Errorf("held back: %+v", held)
	}
}

func TestDamagedQueueEntriesAreCorrupt(t *testing.T) {
	run := &targetRun{name: "t", outputs: []outputRun{{id: 7, node: &topology.Node{}, spec: &sinks.Spec{}}}}
	h := &queueHeader{Txs: []queueTx{{}}}
	key, value := eventEntry(0, 0, "", 7, "v")
	elsewhere, _ := eventEntry(1, 0, "", 7, "v")
	for name, e := range map[string]struct{ key, value []byte }{
		"short key":        {key[:11], value},
		"no value":         {key, nil},
		"short value":      {key, value[:9]},
		"no transaction":   {elsewhere, value},
		"path without end": {append(key[:8:8], "\x00\x00\x00\x02\x00\x00\x00\x07"...), value},
		"length too large": {key, append([]byte{200, 1}, value...)},
	} {
		var it sinks.Item
		if err := run.decodeItem(h, itemEvent, e.key, e.value, &it); !errors.Is(err, state.ErrCorrupt) {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

// The oldest epochs come first, bounded by bytes, and one that is larger comes alone.
func TestWaitingIsBounded(t *testing.T) {
	run := &targetRun{pending: []pendingEpoch{
		{seq: 1, bytes: 2 * deliverBytes}, {seq: 2, bytes: deliverBytes - 1},
		{seq: 3, bytes: 1}, {seq: 4, bytes: 1},
	}}
	for _, want := range [][]uint64{{1}, {2, 3}, {4}} {
		var got []uint64
		for _, p := range run.waiting() {
			got = append(got, p.seq)
		}
		if !slices.Equal(got, want) {
			t.Errorf("got %v, want %v", got, want)
		}
		run.pending = run.pending[len(got):]
	}
}

// A target without progress needs the whole of every table it once held.
func TestMissesRows(t *testing.T) {
	table := func(id uint32) outputRun { return outputRun{id: id, spec: &sinks.Spec{}} }
	events := outputRun{id: 9, spec: &sinks.Spec{Output: sinks.Output{Append: true}}}
	for _, c := range []struct {
		name      string
		delivered uint64
		outputs   []outputRun
		fresh     []uint32
		misses    bool
	}{
		{"first epoch", 0, []outputRun{table(1), events}, []uint32{1, 9}, false},
		{"first of two topologies", 0, []outputRun{table(1), table(2)}, []uint32{1}, false},
		{"events only", 5, []outputRun{events}, nil, false},
		{"rows taken before", 5, []outputRun{table(1), events}, nil, true},
		{"a newcomer's rows only", 5, []outputRun{table(1), table(2)}, []uint32{2}, true},
		{"everything anew", 5, []outputRun{table(1), table(2)}, []uint32{1, 2}, false},
	} {
		run := &targetRun{delivered: c.delivered, outputs: c.outputs}
		if got := run.misses(&queueHeader{Fresh: c.fresh}); got != c.misses {
			t.Errorf("%s: got %v", c.name, got)
		}
	}
}

// What waits for a target is counted, and nothing else: not what the queue remembers of
// what was delivered.
func TestReadQueues(t *testing.T) {
	b := newBench(t, asStream)
	waiting := func() (n int64) {
		b.atRest(func(dir *state.Dir) {
			queues, err := ReadQueues(dir)
			if err != nil || len(queues) != 1 {
				t.Fatalf("queues %v, %v", queues, err)
			}
			n = queues["warehouse"]
		})
		return n
	}
	b.target.open = func() error { return errDown }
	b.source.tx(true, 1)
	if err := b.run(func(*Engine) { wait(t, b.observer.epochs) }); err != nil {
		t.Fatal(err)
	}
	if n := waiting(); n < 50 || n > 500 {
		t.Errorf("%d bytes wait, of one event", n)
	}
	b.target.open = nil
	if err := b.run(func(*Engine) {
		for wait(t, b.source.acks) != 16 {
		}
	}); err != nil {
		t.Fatal(err)
	}
	if n := waiting(); n != 0 {
		t.Errorf("%d bytes wait, of nothing", n)
	}
}
