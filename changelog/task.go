package changelog

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/tailrace/tailrace/state"
)

// ErrForeign says that local state belongs to another cluster, app or topology, so that it
// cannot be continued and is not thrown away either (K11).
var ErrForeign = errors.New("changelog: local state belongs to something else")

// Store is a store of a task and the partition that its changes are in.
type Store struct {
	Partition
	// ID is the store's id: the first four bytes of its keys in the database.
	ID uint32
}

// bounds are those of the store's keys in the database.
func (s Store) bounds() (lower, upper []byte) {
	return binary.BigEndian.AppendUint32(nil, s.ID), binary.BigEndian.AppendUint32(nil, s.ID+1)
}

// Task is what is restored, followed or verified as one: it has one checkpoint.
type Task struct {
	// Name is for messages and metrics.
	Name string
	Identity
	// Key is where the checkpoint lies in the database: before the keys of all stores.
	Key []byte
	// Stores are those with a changelog, in any order; no two share an id or a partition.
	Stores []Store
}

// Reason says why a task's local state was given up and restored from the beginning.
type Reason string

// The reasons. Nothing else gives state up.
const (
	// ReasonCorrupt: the checkpoint fails its checksum.
	ReasonCorrupt Reason = "corrupt"
	// ReasonRecreated: a changelog is another topic than it was.
	ReasonRecreated Reason = "topic recreated"
	// ReasonOutOfRange: a changelog no longer has what follows the checkpoint.
	ReasonOutOfRange Reason = "offset out of range"
	// ReasonTruncated: a changelog has lost what the state contains.
	ReasonTruncated Reason = "changelog truncated"
	// ReasonOld: tombstones behind the checkpoint may have been removed.
	ReasonOld Reason = "checkpoint too old"
	// ReasonStores: the checkpoint is not one of these changelogs.
	ReasonStores Reason = "other changelogs"
)

// RestoreConfig is what a Restorer works with.
type RestoreConfig struct {
	// DB holds the stores and the checkpoints.
	DB  state.DB
	Log Log
	// Progress is told about a running Restore or Follow, from its goroutine, at most once
	// every ProgressEvery (0 means a second) and at the end. Nil is told nothing.
	Progress      func(Progress)
	ProgressEvery time.Duration
	// Wiped counts the tasks whose state was given up. Nil does not count.
	Wiped func(task string, reason Reason)
	// Now is the clock: time.Now but in tests.
	Now func() time.Time
	// Logger takes what happens; nil discards it.
	Logger *slog.Logger
}

// Restorer brings the local state of tasks up to their changelogs. It is safe for
// concurrent use by different tasks.
type Restorer struct{ cfg RestoreConfig }

// NewRestorer makes a Restorer; it needs DB, Log and Now.
func NewRestorer(cfg RestoreConfig) (*Restorer, error) {
	if cfg.DB == nil || cfg.Log == nil || cfg.Now == nil {
		return nil, errors.New("changelog: RestoreConfig needs DB, Log and Now")
	}
	if cfg.Progress == nil {
		cfg.Progress = func(Progress) {}
	}
	if cfg.ProgressEvery == 0 {
		cfg.ProgressEvery = time.Second
	}
	if cfg.Wiped == nil {
		cfg.Wiped = func(string, Reason) {}
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	return &Restorer{cfg: cfg}, nil
}

// Progress is how far a task has come.
type Progress struct {
	Task string
	// Records and Bytes were applied so far in this run.
	Records, Bytes int64
	// Left is the number of offsets up to the target: for a standby, up to the last stable
	// offset, so that it is the lag.
	Left int64
	// Rate is in offsets a second since the start of the run, 0 at first.
	Rate float64
	// ETA is when the target will be reached at that rate, from now; 0 if unknown.
	ETA time.Duration
	// Done says that the target is reached.
	Done bool
}

// Wipe removes the local state of a task: first, durably, its checkpoint, then its stores.
// A crash in between leaves stores without a checkpoint, which Restore removes.
func (r *Restorer) Wipe(t Task) error {
	b := r.cfg.DB.NewBatch()
	defer b.Close()
	if err := b.Delete(t.Key); err != nil {
		return err
	}
	if err := r.cfg.DB.Commit(b, true); err != nil {
		return fmt.Errorf("changelog: task %s: remove its checkpoint: %w", t.Name, err)
	}
	return r.clear(t)
}

// clear removes what stores hold; those without anything cost a look.
func (r *Restorer) clear(t Task) error {
	for _, s := range t.Stores {
		lower, upper := s.bounds()
		it, err := r.cfg.DB.NewIter(lower, upper)
		if err != nil {
			return err
		}
		used := it.First()
		if err := errors.Join(it.Error(), it.Close()); err != nil {
			return err
		}
		if !used {
			continue
		}
		if err := r.cfg.DB.DeleteRange(lower, upper); err != nil {
			return fmt.Errorf("changelog: task %s: clear store %d: %w", t.Name, s.ID, err)
		}
	}
	return nil
}

// Checkpoint reads the checkpoint of a task's local state; ok is false where it has none.
func (r *Restorer) Checkpoint(t Task) (c Checkpoint, ok bool, err error) {
	return LoadCheckpoint(r.cfg.DB, t.Key)
}

// topics describes the changelogs of a task, which have to be there.
func (r *Restorer) topics(ctx context.Context, t Task) (map[string]TopicInfo, error) {
	var names []string
	for _, s := range t.Stores {
		names = append(names, s.Topic)
	}
	slices.Sort(names)
	infos, err := r.cfg.Log.Topics(ctx, slices.Compact(names))
	if err != nil {
		return nil, err
	}
	for _, s := range t.Stores {
		if info, ok := infos[s.Topic]; !ok || s.Number >= info.Partitions {
			return nil, fmt.Errorf("%w: task %s needs %v, which has %d partitions; if it was deleted, drop the "+
				"app (tailrace drop) to build its state anew from the inputs",
				ErrNoTopic, t.Name, s.Partition, info.Partitions)
		}
	}
	return infos, nil
}
