package changelog_test

import (
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tailrace/tailrace/changelog"
	"github.com/tailrace/tailrace/state"
)

func someCheckpoint() changelog.Checkpoint {
	return changelog.Checkpoint{
		Identity: changelog.Identity{Cluster: "abc", App: "shop", Topology: "17"},
		Time:     time.UnixMilli(1_700_000_000_123).UTC(),
		Positions: []changelog.Position{
			{Partition: changelog.Partition{Topic: "a", Number: 3}, ID: changelog.TopicID{1, 2}, Next: 70, Epoch: -1},
			{Partition: changelog.Partition{Topic: "b", Number: 3}, ID: changelog.TopicID{3}, Next: 1 << 40, Epoch: 5},
		},
	}
}

func TestCheckpointRoundTrip(t *testing.T) {
	want := someCheckpoint()
	got, err := changelog.DecodeCheckpoint(want.Append(nil))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// TestCheckpointDamage flips every bit and cuts at every place: never a checkpoint.
func TestCheckpointDamage(t *testing.T) {
	c := someCheckpoint()
	good := c.Append(nil)
	for i := range good {
		for bit := range 8 {
			bad := append([]byte(nil), good...)
			bad[i] ^= 1 << bit
			if _, err := changelog.DecodeCheckpoint(bad); !errors.Is(err, state.ErrCorrupt) &&
				!errors.Is(err, changelog.ErrFormat) {
				t.Fatalf("bit %d of byte %d: %v", bit, i, err)
			}
		}
		if _, err := changelog.DecodeCheckpoint(good[:i]); !errors.Is(err, state.ErrCorrupt) {
			t.Fatalf("cut at %d: %v", i, err)
		}
	}
	good[0]++
	if _, err := changelog.DecodeCheckpoint(good); !errors.Is(err, changelog.ErrFormat) {
		t.Fatalf("newer format: %v", err)
	}
}

func TestCheckpointNeverGoesBack(t *testing.T) {
	c := someCheckpoint()
	a := changelog.Partition{Topic: "a", Number: 3}
	if err := c.Advance(a, 69, 0); err == nil {
		t.Error("it went back")
	}
	if err := c.Advance(changelog.Partition{Topic: "a", Number: 4}, 100, 0); err == nil {
		t.Error("it has a position that it had not")
	}
	if err := c.Advance(a, 71, 2); err != nil {
		t.Error(err)
	}
	if at, _ := c.At(a); at.Next != 71 || at.Epoch != 2 {
		t.Errorf("it is at %+v", at)
	}
}
