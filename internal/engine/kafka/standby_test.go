package kafka

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/tailrace/tailrace/changelog"
	"github.com/tailrace/tailrace/internal/await"
)

// told is what a member says of restoring and following.
type told struct {
	mu       sync.Mutex
	restored map[string]int64
	lags     map[string]int64
}

func (m *told) to(cfg *Config) {
	m.restored, m.lags = map[string]int64{}, map[string]int64{}
	cfg.Standbys = 1
	cfg.Restored = func(task string, records int64) {
		m.mu.Lock()
		defer m.mu.Unlock()
		m.restored[task] += records
	}
	cfg.Standby = func(task string, lag int64) {
		m.mu.Lock()
		defer m.mu.Unlock()
		m.lags[task] = lag
	}
}

// TestStandbyTakesOver: a member whose owner is gone without a word, as one that was killed,
// is followed by one that has its state but for a little.
func TestStandbyTakesOver(t *testing.T) {
	w := newWorld(t, 2)
	const orders = 10_000
	var records []*kgo.Record
	for i := range orders {
		records = append(records, &kgo.Record{
			Topic: w.app + ".public.orders", Key: fmt.Append(nil, "o", i),
			Value: fmt.Appendf(nil, `{"customer":"c%d","cents":%d}`, i%7, i),
		})
	}
	if err := w.client.ProduceSync(t.Context(), records...).FirstErr(); err != nil {
		t.Fatal(err)
	}
	var a, b told
	first := w.startWith(t.TempDir(), w.shown(), func(cfg *Config) {
		a.to(cfg)
		cfg.InstanceID = "a" // so it does not say that it leaves
	})
	second := w.startWith(t.TempDir(), w.shown(), func(cfg *Config) {
		b.to(cfg)
		cfg.InstanceID = "b"
	})
	// Each of the two has half of the four tasks and follows the others.
	await.That(t, "the standbys are up", func() bool {
		b.mu.Lock()
		defer b.mu.Unlock()
		up := len(b.lags) >= 2
		for _, lag := range b.lags {
			up = up && lag == 0
		}
		has := second.engine.verifiable.Load()
		return up && has != nil && len(*has) == 2 && w.settled(orders)
	})
	b.mu.Lock()
	clear(b.restored)
	followed := len(b.lags)
	b.mu.Unlock()
	w.end(first)
	await.That(t, "the other one takes over", func() bool {
		tasks := second.engine.verifiable.Load()
		return tasks != nil && len(*tasks) == 4
	})
	w.verifies(second)
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.restored) != 2 {
		t.Errorf("restored were %v", b.restored)
	}
	for task, n := range b.restored {
		if n > 10_000/4 {
			t.Errorf("task %s was restored from %d records with a standby", task, n)
		}
	}
	t.Logf("followed %d tasks; restored %v", followed, b.restored)
	w.end(second)
}

// verifies compares the state of a member with its changelogs, as it is and with differences
// that are put into it.
func (w *world) verifies(m *memberRun) {
	w.t.Helper()
	var found []string
	verify := func() (keys int64) {
		w.t.Helper()
		found = nil
		tasks, err := m.engine.Verify(w.t.Context(), func(task string, d changelog.Difference) error {
			found = append(found, fmt.Sprintf("%s %s %q", task, d.Kind, d.Key))
			return nil
		})
		if err != nil || len(tasks) != 4 {
			w.t.Fatalf("%d tasks: %v", len(tasks), err)
		}
		for _, t := range tasks {
			keys += t.Keys
		}
		return keys
	}
	if keys := verify(); keys < 30_000 || len(found) > 0 {
		w.t.Errorf("%d keys, differences %q", keys, found)
	}
	task, err := m.engine.taskOf(m.engine.subs[0], 0)
	if err != nil {
		w.t.Fatal(err)
	}
	key := append(binary.BigEndian.AppendUint32(nil, task.Stores[0].ID), "nobody"...)
	b := m.engine.cfg.Dir.DB.NewBatch()
	err = errors.Join(b.Set(key, []byte("x")), m.engine.cfg.Dir.DB.Commit(b, false), b.Close())
	if err != nil {
		w.t.Fatal(err)
	}
	verify()
	if want := []string{task.Name + ` not in the changelog "nobody"`}; !slices.Equal(found, want) {
		w.t.Errorf("differences %q, want %q", found, want)
	}
}

// settled reports whether the changelog of the orders holds all of them: more than a takeover
// may restore.
func (w *world) settled(orders int64) bool {
	w.t.Helper()
	ends, err := kadm.NewClient(w.client).ListCommittedOffsets(w.t.Context(),
		changelog.Topic(w.app, "view/orders"), changelog.Topic(w.app, "view/orders/by-customer"))
	if err == nil {
		err = ends.Error()
	}
	if err != nil {
		return false // the topics are not there yet
	}
	var sum int64
	ends.Each(func(o kadm.ListedOffset) { sum += o.Offset })
	return sum > 2*orders
}
