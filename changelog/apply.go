package changelog

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/tailrace/tailrace/state"
)

// apply makes one batch of what was read: the checkpoint and the last record of each key,
// ascending (K2). It is not synced: a crash loses the end of what was applied, never a
// part in between.
func (run *run) apply(chunks []Chunk) error {
	moved := false
	stable := true
	for i := range chunks {
		c := &chunks[i]
		s := run.stores[c.Partition]
		if s == nil {
			return fmt.Errorf("changelog: task %s: read %v, which is not asked for", run.task.Name, c.Partition)
		}
		at, _ := run.ckpt.At(c.Partition)
		moved = moved || c.Next > at.Next
		if err := run.ckpt.Advance(c.Partition, c.Next, c.Epoch); err != nil {
			return err
		}
		run.passed += c.Next - at.Next
		if run.follows {
			s.target = max(c.Stable, c.Next)
			stable = stable && c.Next >= c.Stable
		}
	}
	if run.follows && stable && len(chunks) == len(run.order) && run.due() {
		run.ckpt.Time = run.cfg.Now()
		moved = true
	}
	if !moved {
		return nil
	}
	return run.commit(chunks)
}

// due reports whether the checkpoint of a standby that has read everything is to be
// written anew though nothing has been read.
func (run *run) due() bool {
	shortest := DefaultDeleteRetention
	for _, info := range run.infos {
		shortest = min(shortest, info.DeleteRetention)
	}
	return run.ckpt.Due(run.cfg.Now(), shortest)
}

func (run *run) commit(chunks []Chunk) error {
	b := run.cfg.DB.NewBatch()
	defer b.Close()
	if err := b.Set(run.task.Key, run.ckpt.Append(nil)); err != nil {
		return err
	}
	for _, s := range run.order {
		if err := run.write(b, s, chunks); err != nil {
			return fmt.Errorf("changelog: task %s, %v: %w", run.task.Name, s.Partition, err)
		}
	}
	if err := run.cfg.DB.Commit(b, false); err != nil {
		return fmt.Errorf("changelog: task %s: apply changelogs: %w", run.task.Name, err)
	}
	run.saved = true
	return nil
}

// write puts one store's records into a batch: sorted, the last of each key.
func (run *run) write(b state.Batch, s *storeRun, chunks []Chunk) error {
	o := &run.sorter
	o.reset(s.ID)
	for i := range chunks {
		if chunks[i].Partition == s.Partition {
			o.add(chunks[i].Records)
		}
	}
	o.sort()
	for i := range o.places {
		r := o.at(i)
		run.counts.Records++
		run.counts.Bytes += int64(len(r.Key) + len(r.Value))
		if o.sameKey(i, i+1) {
			continue
		}
		key := append(o.key[:4], r.Key...)
		o.key = key
		var err error
		if r.Value == nil {
			err = b.Delete(key)
		} else {
			err = b.Set(key, r.Value)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// sorter brings records into the order of their keys, and of their offsets within a key.
// What is moved about is small: the beginning of the key and a number.
type sorter struct {
	records [][]Record // of the chunks
	places  []place
	key     []byte
}

type place struct {
	head  uint64 // the first eight bytes of the key
	chunk uint32
	index uint32
}

func (o *sorter) reset(store uint32) {
	o.records, o.places = o.records[:0], o.places[:0]
	o.key = binary.BigEndian.AppendUint32(o.key[:0], store)
}

func (o *sorter) add(records []Record) {
	chunk := uint32(len(o.records))
	o.records = append(o.records, records)
	for i := range records {
		o.places = append(o.places, place{head: head(records[i].Key), chunk: chunk, index: uint32(i)})
	}
}

// head is the beginning of a key as a number that compares like it.
func head(key []byte) uint64 {
	if len(key) >= 8 {
		return binary.BigEndian.Uint64(key)
	}
	var b [8]byte
	copy(b[:], key)
	return binary.BigEndian.Uint64(b[:])
}

func (o *sorter) at(i int) *Record {
	p := &o.places[i]
	return &o.records[p.chunk][p.index]
}

// sameKey reports whether two places have the same key. Most differ in what is at hand.
func (o *sorter) sameKey(i, j int) bool {
	return j < len(o.places) && o.places[i].head == o.places[j].head && bytes.Equal(o.at(i).Key, o.at(j).Key)
}

func (o *sorter) sort() {
	slices.SortFunc(o.places, func(a, b place) int {
		if c := cmp.Compare(a.head, b.head); c != 0 {
			return c
		}
		if c := bytes.Compare(o.records[a.chunk][a.index].Key, o.records[b.chunk][b.index].Key); c != 0 {
			return c
		}
		return cmp.Or(cmp.Compare(a.chunk, b.chunk), cmp.Compare(a.index, b.index))
	})
}
