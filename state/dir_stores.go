package state

import (
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"slices"
)

// ownerKey begins the keys of a topology's stores, below the given kind of them.
func ownerKey(kind, topology string) []byte {
	return AppendKeyString(append(appendID(nil, manifestID), kind...), topology)
}

const (
	present = "store/" // stores of topologies
	coming  = "next/"  // what is to replace them
)

func queueKey(target string) []byte {
	return AppendKeyString(append(appendID(nil, manifestID), "queue/"...), target)
}

// StoreID returns the id of a topology's store: the same one for good, never one
// that another store has had.
func (d *Dir) StoreID(topology, store string) (uint32, error) {
	return d.assign(AppendKeyString(ownerKey(present, topology), store), &d.manifest.NextStore, FirstQueueID)
}

// NextStoreID returns the id of a store that is to take the place of the one that
// StoreID names, and can be used at once but for writing to it, which has to wait for
// ReplaceStores. If that has not come when the directory is closed it is forgotten.
func (d *Dir) NextStoreID(topology, store string) (uint32, error) {
	return d.assign(AppendKeyString(ownerKey(coming, topology), store), &d.manifest.NextStore, FirstQueueID)
}

// QueueID returns the id of a target's queue, from FirstQueueID up.
func (d *Dir) QueueID(target string) (uint32, error) {
	return d.assign(queueKey(target), &d.manifest.NextQueue, 1<<32-1)
}

func (d *Dir) assign(key []byte, next *uint32, limit uint32) (uint32, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	stored, ok, err := d.DB.Get(nil, key)
	switch {
	case err != nil:
		return 0, err
	case ok && len(stored) != 4:
		return 0, corruptError(d.path, errors.New("store id is malformed"))
	case ok:
		return binary.BigEndian.Uint32(stored), nil
	case *next == limit:
		return 0, fmt.Errorf("state: %s has no store id left: remove the directory to have it rebuilt", d.path)
	}
	id := *next
	*next++
	// Not synced: data under the id can only become durable after this.
	err = d.write(false, func(b Batch) error { return b.Set(key, appendID(nil, id)) })
	return id, err
}

var dropPrefix = append(appendID(nil, manifestID), "drop/"...)

// ClearStores empties the stores of a topology, which keep their ids. It is not atomic: a
// crash leaves any part of what was there.
func (d *Dir) ClearStores(topology string) error {
	ids, err := d.named(ownerKey(present, topology))
	if err != nil {
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(ids)) {
		if err := d.DB.DeleteRange(idBounds(ids[name])); err != nil {
			return err
		}
	}
	return nil
}

// DropStores removes the stores of a topology whose names begin with prefix, ""
// meaning all. It is atomic: after a crash either all are as they were or all are
// gone, and a later StoreID gives a new, empty store.
func (d *Dir) DropStores(topology, prefix string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.replace(append(ownerKey(present, topology), prefix...), nil, nil)
}

// ReplaceStores removes the stores of a topology, and those that NextStoreID has made
// take their place. It is atomic: after a crash either all are as they were or all are
// replaced.
func (d *Dir) ReplaceStores(topology string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	from, to := ownerKey(coming, topology), ownerKey(present, topology)
	var moved [][]byte
	stores := map[string][]byte{}
	err := d.each(from, func(key, id []byte) {
		moved = append(moved, key)
		stores[string(to)+string(key[len(from):])] = id
	})
	if err != nil {
		return err
	}
	return d.replace(to, moved, stores)
}

// replace removes the stores whose keys begin with prefix and puts others there, by
// their keys. The keys in gone, which come before those of all stores, are deleted.
func (d *Dir) replace(prefix []byte, gone [][]byte, stores map[string][]byte) error {
	var ids [][]byte
	after := maps.Clone(stores)
	if after == nil {
		after = map[string][]byte{}
	}
	if err := d.each(prefix, func(key, id []byte) {
		ids = append(ids, id)
		after[string(key)] = stores[string(key)] // nil deletes it
	}); err != nil {
		return err
	}
	if len(after) == 0 {
		return nil
	}
	slices.SortFunc(ids, slices.Compare)
	b := d.DB.NewBatch()
	defer b.Close()
	var errs []error
	for _, id := range ids {
		errs = append(errs, b.Set(append(slices.Clip(dropPrefix), id...), nil))
	}
	for _, key := range gone {
		errs = append(errs, b.Delete(key))
	}
	for _, key := range slices.Sorted(maps.Keys(after)) {
		if id := after[key]; id != nil {
			errs = append(errs, b.Set([]byte(key), id))
		} else {
			errs = append(errs, b.Delete([]byte(key)))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	if err := d.DB.Commit(b, true); err != nil {
		return err
	}
	return d.finishDrops()
}

// forgetNext forgets the stores that were to replace others and have not.
func (d *Dir) forgetNext() error {
	b := d.DB.NewBatch()
	defer b.Close()
	var errs []error
	err := d.each(append(appendID(nil, manifestID), coming...), func(key, _ []byte) {
		errs = append(errs, b.Delete(key))
	})
	if err = errors.Join(append(errs, err)...); err != nil || b.Len() == 0 {
		return err
	}
	return d.DB.Commit(b, true)
}

// finishDrops removes the data of dropped stores, also of those that a crash left.
func (d *Dir) finishDrops() error {
	var keys [][]byte
	if err := d.each(dropPrefix, func(key, _ []byte) { keys = append(keys, key) }); err != nil {
		return err
	}
	for _, key := range keys {
		lower := key[len(dropPrefix):]
		_, upper := idBounds(binary.BigEndian.Uint32(lower))
		if err := d.DB.DeleteRange(lower, upper); err != nil {
			return err
		}
		if err := d.remove(key); err != nil {
			return err
		}
	}
	return nil
}

// Stores returns the ids of a topology's stores by name.
func (d *Dir) Stores(topology string) (map[string]uint32, error) {
	return d.named(ownerKey(present, topology))
}
