package kafka

import (
	"bytes"
	"context"
	"crypto/sha256"
	"maps"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// keySet remembers keys by sixteen bytes of their hash each.
type keySet struct{ hashes map[[16]byte]struct{} }

func (s *keySet) add(key []byte) {
	if s.hashes == nil {
		s.hashes = map[[16]byte]struct{}{}
	}
	s.hashes[hashOf(key)] = struct{}{}
}

func (s *keySet) has(key []byte) bool {
	_, ok := s.hashes[hashOf(key)]
	return ok
}

func hashOf(key []byte) (h [16]byte) {
	sum := sha256.Sum256(key)
	copy(h[:], sum[:])
	return h
}

// removeOthers writes tombstones for the rows of a table's topic that are not among the
// keys. It reads the whole topic, up to the transaction that is open, which is ours;
// what it keeps in memory is the rows to remove.
func (w *writer) removeOthers(
	ctx context.Context, o *output, keys *keySet, at time.Time,
) error {
	others := map[[16]byte][]byte{}
	err := w.scan(ctx, o.topic, stable, func(r *kgo.Record) error {
		switch {
		case keys.has(r.Key):
		case r.Value == nil:
			delete(others, hashOf(r.Key))
		default:
			others[hashOf(r.Key)] = r.Key
		}
		return nil
	})
	if err != nil {
		return w.wrap("read topic "+o.topic, err)
	}
	for _, key := range slices.SortedFunc(maps.Values(others), bytes.Compare) {
		w.produce(&kgo.Record{Topic: o.topic, Key: key, Timestamp: at})
	}
	return nil
}

// holds reports whether a topic has any committed record: one that has none, at the first
// load, needs no comparing.
func (w *writer) holds(ctx context.Context, topic string) (bool, error) {
	starts, err := w.admin.ListStartOffsets(ctx, topic)
	if err == nil {
		err = starts.Error()
	}
	if err != nil {
		return false, w.wrap("read topic "+topic, err)
	}
	ends, err := w.admin.ListCommittedOffsets(ctx, topic)
	if err == nil {
		err = ends.Error()
	}
	some := false
	ends.Each(func(o kadm.ListedOffset) {
		start, _ := starts.Lookup(topic, o.Partition)
		some = some || o.Offset > start.Offset
	})
	return some, w.wrap("read topic "+topic, err)
}
