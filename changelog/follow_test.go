package changelog_test

import (
	"bytes"
	"context"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tailrace/tailrace/changelog"
	"github.com/tailrace/tailrace/changelog/changelogtest"
	"github.com/tailrace/tailrace/internal/await"
	"github.com/tailrace/tailrace/state"
)

// TestFollow keeps a standby up, behind an open transaction too, and promotes it.
func TestFollow(t *testing.T) {
	w := newWorld(t, 9)
	p := w.task.Stores[0].Partition
	w.write(20, false)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	done := make(chan error)
	go func() { done <- w.restorer().Follow(ctx, w.task) }()
	at := func() int64 {
		c, _, err := changelog.LoadCheckpoint(w.db, w.task.Key)
		if err != nil {
			t.Error(err)
		}
		at, _ := c.At(p)
		return at.Next
	}
	await.That(t, "it reads to the end", func() bool { return at() == w.cluster.End(p) })
	stable := w.cluster.End(p)
	tx := w.cluster.Begin()
	tx.Append(p, []byte("k"), []byte("open"))
	w.cluster.Append(p, []byte("behind"), []byte("it"))
	w.cluster.Append(w.task.Stores[1].Partition, []byte("k"), []byte("v"))
	await.That(t, "it reads the other store", func() bool {
		_, ok := w.content(w.task.Stores[1])["k"]
		return ok
	})
	if at() != stable {
		t.Errorf("it is at %d, behind the last stable offset %d", at(), stable)
	}
	tx.Commit()
	await.That(t, "it reads the transaction", func() bool { return at() == w.cluster.End(p) })
	cancel()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	w.check()
	w.write(3, false)
	w.mustRestore()
	if len(w.wiped) > 0 {
		t.Errorf("state was given up: %v", w.wiped)
	}
}

// TestFollowKeepsTime: a standby that has read everything is not too old after a day, one
// that stands behind a transaction that stays open is.
func TestFollowKeepsTime(t *testing.T) {
	w := newWorld(t, 10)
	w.write(5, false)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	start := w.mustRestore()
	w.now = w.now.Add(20 * time.Hour)
	done := make(chan error)
	go func() { done <- w.restorer().Follow(ctx, w.task) }()
	await.That(t, "it notes the time", func() bool {
		w.cluster.Append(w.task.Stores[0].Partition, []byte("k"), []byte("v"))
		c, _, _ := changelog.LoadCheckpoint(w.db, w.task.Key)
		return c.Time.Equal(w.now)
	})
	cancel()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if !start.Time.Before(w.now) || len(w.wiped) > 1 {
		t.Errorf("wiped: %v", w.wiped)
	}
	w.mustRestore()
}

// TestVerify finds each kind of difference and nothing else.
func TestVerify(t *testing.T) {
	w := newWorld(t, 11)
	s := w.task.Stores[0]
	w.cluster.Append(s.Partition, []byte("a"), []byte("1"))
	w.cluster.Append(s.Partition, []byte("b"), []byte("1"))
	w.cluster.Append(s.Partition, []byte("c"), []byte("1"))
	w.cluster.Append(s.Partition, []byte("gone"), []byte("1"))
	w.cluster.Append(s.Partition, []byte("gone"), nil)
	w.write(30, false)
	w.cluster.Append(s.Partition, []byte("empty"), []byte{})
	w.mustRestore()
	verify := func() (v changelog.Verification, found []string) {
		v, err := changelog.Verify(t.Context(), w.db, w.cluster.Log(), state.NewMemory(), w.task,
			func(d changelog.Difference) error {
				found = append(found, string(d.Key)+" "+string(d.Kind)+" "+string(d.State)+"/"+string(d.Log))
				return nil
			})
		if err != nil {
			t.Fatal(err)
		}
		return v, found
	}
	v, found := verify()
	keys := int64(len(w.content(w.task.Stores[0])) + len(w.content(w.task.Stores[1])))
	if len(found) > 0 || v.Keys != keys || v.Newer != 0 {
		t.Fatalf("%+v, %q; want %d keys and no difference", v, found, keys)
	}
	b := w.db.NewBatch()
	key := func(k string) []byte { return append([]byte{0, 0, 0, byte(s.ID)}, k...) }
	for _, err := range []error{
		b.Delete(key("a")), b.Set(key("b"), []byte("2")), b.Set(key("gone"), []byte("3")), w.db.Commit(b, true),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	w.cluster.Append(s.Partition, []byte("c"), []byte("9"))
	w.cluster.Compact(s.Topic, false)
	v, found = verify()
	want := []string{"a missing in the state /1", "b different values 2/1", "gone not in the changelog 3/"}
	if diff := cmp.Diff(want, found); diff != "" || v.Differences != 3 || v.Newer != 1 {
		t.Errorf("%+v\n%s", v, diff)
	}
}

// TestVerifyTruncated: a log that ends before the checkpoint is an error, not a difference.
func TestVerifyTruncated(t *testing.T) {
	w := newWorld(t, 12)
	w.write(10, false)
	w.mustRestore()
	w.cluster.Truncate(w.task.Stores[0].Partition, 1)
	_, err := changelog.Verify(t.Context(), w.db, w.cluster.Log(), state.NewMemory(), w.task, nil)
	if err == nil || !bytes.Contains([]byte(err.Error()), []byte("truncated")) {
		t.Error(err)
	}
}

var _ changelog.Log = changelogtest.New("").Log()
