package changelog

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/tailrace/tailrace/state"
)

// DifferenceKind says how state and changelog differ in a key.
type DifferenceKind string

// The kinds of differences.
const (
	// Missing: the changelog has the key, the state has not.
	Missing DifferenceKind = "missing in the state"
	// Extra: the state has the key, the changelog has not.
	Extra DifferenceKind = "not in the changelog"
	// Unequal: both have it, with different values.
	Unequal DifferenceKind = "different values"
)

// Difference is a key in which state and changelog differ.
type Difference struct {
	Store
	Kind DifferenceKind
	// Key, State and Log are valid during the call.
	Key, State, Log []byte
}

// Verification is what Verify has compared.
type Verification struct {
	// Checkpoint is where the state stands.
	Checkpoint Checkpoint
	// Keys were compared. Newer were not: the changelog goes on behind the checkpoint and
	// has changed them since, so that compaction may have removed what the state is from.
	Keys, Newer, Differences int64
}

// Verify compares the local state of a task with the fold of its changelogs, K1: state ==
// fold(changelog). It looks at one moment of the state, so that the task may be at work.
// The logs are folded into scratch, an empty database that Verify may use as it likes and
// that the caller removes. found is told every difference.
//
// It restores nothing by the code of Restore; what they share is the Log.
func Verify(
	ctx context.Context, db state.DB, log Log, scratch state.DB, t Task, found func(Difference) error,
) (Verification, error) {
	snapshot := db.NewSnapshot()
	defer snapshot.Close()
	ckpt, ok, err := LoadCheckpoint(snapshot, t.Key)
	if err == nil && !ok {
		err = errors.New("it has no local state")
	}
	if err != nil {
		return Verification{}, fmt.Errorf("changelog: verify task %s: %w", t.Name, err)
	}
	v := &verifier{task: t, log: log, scratch: scratch, found: found}
	v.result.Checkpoint = ckpt
	for _, s := range t.Stores {
		at, ok := ckpt.At(s.Partition)
		if !ok {
			return v.result, fmt.Errorf("changelog: verify task %s: the checkpoint has no position in %v",
				t.Name, s.Partition)
		}
		err := v.fold(ctx, s, at)
		if err == nil {
			err = v.compare(s, at, snapshot)
		}
		if err != nil {
			return v.result, fmt.Errorf("changelog: verify task %s, %v: %w", t.Name, s.Partition, err)
		}
	}
	return v.result, nil
}

type verifier struct {
	task    Task
	log     Log
	scratch state.DB
	found   func(Difference) error
	result  Verification
}

// fold writes the last record of each key into scratch: its offset, and its value behind a
// byte that says whether there is one.
func (v *verifier) fold(ctx context.Context, s Store, at Position) error {
	bounds, err := v.log.Bounds(ctx, []Position{at})
	if err != nil {
		return err
	}
	end := bounds[0].End
	if end < at.Next {
		return fmt.Errorf("the log ends at %d, before the checkpoint at %d: it was truncated", end, at.Next)
	}
	at.Next = bounds[0].Start
	if at.Next >= end {
		return nil
	}
	reader, err := v.log.Read(ctx, []Position{at})
	if err != nil {
		return err
	}
	defer reader.Close()
	for next := at.Next; next < end; {
		chunks, err := reader.Next(ctx)
		if err != nil {
			return err
		}
		for i := range chunks {
			if err := v.keep(s, chunks[i].Records); err != nil {
				return err
			}
			next = chunks[i].Next
		}
	}
	return nil
}

func (v *verifier) keep(s Store, records []Record) error {
	prefix, _ := s.bounds()
	last := map[string][]byte{}
	for _, r := range records {
		value := binary.BigEndian.AppendUint64(nil, uint64(r.Offset))
		if r.Value != nil {
			value = append(append(value, 1), r.Value...)
		}
		last[string(prefix)+string(r.Key)] = value
	}
	b := v.scratch.NewBatch()
	defer b.Close()
	for _, key := range slices.Sorted(maps.Keys(last)) {
		if err := b.Set([]byte(key), last[key]); err != nil {
			return err
		}
	}
	return v.scratch.Commit(b, false)
}

// compare walks state and fold side by side.
func (v *verifier) compare(s Store, at Position, snapshot state.Reader) error {
	lower, upper := s.bounds()
	have, err := snapshot.NewIter(lower, upper)
	if err != nil {
		return err
	}
	defer have.Close()
	want, err := v.scratch.NewIter(lower, upper)
	if err != nil {
		return err
	}
	defer want.Close()
	haveOK, wantOK := have.First(), want.First()
	for haveOK || wantOK {
		var order int
		switch {
		case !wantOK:
			order = -1
		case !haveOK:
			order = 1
		default:
			order = bytes.Compare(have.Key(), want.Key())
		}
		var is, must []byte
		if order <= 0 {
			is = have.Value()
		}
		if order >= 0 {
			must = want.Value()
		}
		key := have.Key
		if order > 0 {
			key = want.Key
		}
		if err := v.pair(s, at, key()[4:], is, order <= 0, must); err != nil {
			return err
		}
		if order <= 0 {
			haveOK = have.Next()
		}
		if order >= 0 {
			wantOK = want.Next()
		}
	}
	return errors.Join(have.Error(), want.Error())
}

// pair compares a key. folded is as fold wrote it, nil where the log never had the key.
func (v *verifier) pair(s Store, at Position, key, is []byte, has bool, folded []byte) error {
	d := Difference{Store: s, Key: key, State: is}
	logged := false
	if folded != nil {
		if int64(binary.BigEndian.Uint64(folded)) >= at.Next {
			v.result.Newer++
			return nil
		}
		if logged = len(folded) > 8; logged {
			d.Log = folded[9:]
		}
	}
	switch {
	case !has && !logged:
		return nil // deleted
	case !has:
		d.Kind = Missing
	case !logged:
		d.Kind = Extra
	case !bytes.Equal(is, d.Log):
		d.Kind = Unequal
	}
	v.result.Keys++
	if d.Kind == "" {
		return nil
	}
	v.result.Differences++
	return v.found(d)
}
