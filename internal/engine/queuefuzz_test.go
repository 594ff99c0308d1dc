package engine

import (
	"encoding/binary"
	"errors"
	"slices"
	"testing"

	"github.com/tailrace/tailrace/record"
	"github.com/tailrace/tailrace/sinks"
	"github.com/tailrace/tailrace/state"
	"github.com/tailrace/tailrace/topology"
)

// FuzzQueueItem reads entries of a queue from any bytes: each is an item or damaged, and
// what was written comes out.
func FuzzQueueItem(f *testing.F) {
	run := &targetRun{name: "t", outputs: []outputRun{{
		id: 7, node: &topology.Node{Topology: "topo", Name: "n"}, spec: &sinks.Spec{},
	}}}
	h := &queueHeader{Txs: []queueTx{{Source: "s", Position: 16}, {Source: "s", Position: 32, Retry: 3}}}
	key, value := eventEntry(0, 0, "", 7, "v")
	f.Add(key, value)
	key, value = eventEntry(1, record.LateOrdinal, "a/1", 7, "")
	f.Add(key, value)
	// Lengths that no value has, among them the one that a sum with it makes small.
	for _, size := range []uint64{1 << 30, 1<<63 - 1, 1<<64 - 1, 1<<64 - 8} {
		f.Add(key, append(binary.AppendUvarint(nil, size), "123456789"...))
	}
	f.Fuzz(func(t *testing.T, key, value []byte) {
		var it sinks.Item
		err := run.decodeItem(h, itemEvent, key, value, &it)
		switch {
		case errors.Is(err, state.ErrCorrupt) || errors.Is(err, errNoOutput):
		case err != nil:
			t.Errorf("got %v", err)
		case len(it.Event.Key)+len(it.Event.Value)+8 > len(value):
			t.Errorf("%d bytes hold a key of %d and a value of %d", len(value), len(it.Event.Key), len(it.Event.Value))
		}
		// What a sink writes: the fuzzed bytes as the path and the value.
		wroteKey, wrote := eventEntry(1, 5, string(key), 7, string(value))
		it = sinks.Item{}
		if err := run.decodeItem(h, itemEvent, wroteKey, wrote, &it); err != nil {
			t.Fatal(err)
		}
		if it.Output != 7 || !slices.Equal(it.Event.Value, value) || it.Event.Position != 32 ||
			it.Event.ID != record.EventID("s", "0/20", "topo", "n", 5, string(key)) {
			t.Errorf("got %+v", it.Event)
		}
	})
}
