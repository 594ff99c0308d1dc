package state

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
)

// ReadDir opens the state directory of any app for looking at it: nothing in it is
// changed, and what would change it fails. The error is os.ErrNotExist where there is
// none, ErrLocked where an app is running on it, and else as with OpenDir.
func ReadDir(path string, o Options) (*Dir, error) {
	path = filepath.Clean(path)
	d := &Dir{path: path, opts: o.withDefaults(), readOnly: true}
	d.opts.readOnly = true
	var err error
	if d.lock, err = LockDir(path, d.opts); err != nil {
		return nil, err
	}
	if err := d.read(); err != nil {
		return nil, errors.Join(err, d.Close())
	}
	return d, nil
}

// LockDir keeps others from opening a state directory until the result is closed. The
// error is os.ErrNotExist where there is none, and ErrLocked where an app is running on
// it.
func LockDir(path string, o Options) (io.Closer, error) {
	path = filepath.Clean(path)
	if _, err := os.Stat(filepath.Join(path, "db")); err != nil {
		if errors.Is(err, os.ErrNotExist) {
			return nil, fmt.Errorf("state: %s holds no state: %w", path, os.ErrNotExist)
		}
		return nil, wrapStorageError(path, err)
	}
	return lockDir(o.withDefaults(), path)
}

func (d *Dir) read() error {
	p, err := openPebble(filepath.Join(d.path, "db"), d.opts, false)
	if err != nil {
		return err
	}
	d.DB = p
	stored, ok, err := d.DB.Get(nil, manifestKey)
	if err != nil {
		return err
	}
	if !ok {
		return fmt.Errorf("%w: %s holds a database that Tailrace did not make", ErrMismatch, d.path)
	}
	if err := json.Unmarshal(stored, &d.manifest); err != nil {
		return corruptError(d.path, err)
	}
	return d.checkFormat()
}

// App is the name of the app that the directory belongs to.
func (d *Dir) App() string { return d.manifest.App }

// Topologies returns the names under which stores have been made, in order.
func (d *Dir) Topologies() ([]string, error) {
	prefix := append(appendID(nil, manifestID), present...)
	var names []string
	var bad error
	err := d.each(prefix, func(key, _ []byte) {
		name, _, err := DecodeKeyString(key[len(prefix):])
		if err != nil {
			bad = corruptError(d.path, errors.New("the name of a store is malformed"))
		} else if len(names) == 0 || names[len(names)-1] != name {
			names = append(names, name)
		}
	})
	return names, errors.Join(err, bad)
}

// Queues returns the ids of the queues by target.
func (d *Dir) Queues() (map[string]uint32, error) {
	return d.named(append(appendID(nil, manifestID), "queue/"...))
}

// named reads the ids of all stores or queues under a prefix.
func (d *Dir) named(prefix []byte) (map[string]uint32, error) {
	ids := map[string]uint32{}
	var bad error
	err := d.each(prefix, func(key, id []byte) {
		name, _, err := DecodeKeyString(key[len(prefix):])
		if err != nil || len(id) != 4 {
			bad = corruptError(d.path, errors.New("the name of a store or queue is malformed"))
			return
		}
		ids[name] = binary.BigEndian.Uint32(id)
	})
	return ids, errors.Join(err, bad)
}

// countedBytes bounds how much of a store is read to tell its size. It is above what
// can wait in memory for being written to tables.
const countedBytes = 64 << 20

// StoreBytes is the size of a store, by its id; see RangeBytes.
func (d *Dir) StoreBytes(id uint32) (int64, error) { return d.RangeBytes(idBounds(id)) }

// RangeBytes is the size of what lies between two keys, a nil upper one being the end:
// the bytes of keys and values up to 64 MiB, and of a larger range what it takes on disk
// by Pebble's estimate, from the first key that is there on. (That counts whole blocks and
// leaves out what was written last, so it says nothing of small ranges.)
func (d *Dir) RangeBytes(lower, upper []byte) (int64, error) {
	it, err := d.DB.NewIter(lower, upper)
	if err != nil {
		return 0, err
	}
	defer it.Close()
	onDisk, err := d.onDisk(it, upper)
	if err != nil || onDisk >= countedBytes {
		return onDisk, err
	}
	s, _, err := count(it, countedBytes)
	return s.Bytes, err
}

// Size is how large a store is, in bytes of keys and values and in entries.
type Size struct{ Bytes, Entries int64 }

// sampledBytes bounds how much of a store SampleStore reads.
const sampledBytes = 1 << 20

// SampleStore estimates the size of a store, by its id, for little work: it is exact up to
// 1 MiB. Of a larger store the bytes are those on disk by Pebble's estimate (compressed,
// without what was written last), though never fewer than were read, and the entries are
// as many as if all were like those in the first MiB.
func (d *Dir) SampleStore(id uint32) (Size, error) {
	lower, upper := idBounds(id)
	it, err := d.DB.NewIter(lower, upper)
	if err != nil {
		return Size{}, err
	}
	defer it.Close()
	onDisk, err := d.onDisk(it, upper)
	if err != nil {
		return Size{}, err
	}
	s, all, err := count(it, sampledBytes)
	if !all && onDisk > s.Bytes {
		s = Size{Bytes: onDisk, Entries: int64(float64(s.Entries) * float64(onDisk) / float64(s.Bytes))}
	}
	return s, err
}

// onDisk is Pebble's estimate of what lies from the first key of an iterator on; 0 without
// a Pebble, a key or an end.
func (d *Dir) onDisk(it Iter, upper []byte) (int64, error) {
	p, is := d.DB.(*pebbleDB)
	if !is || upper == nil || !it.First() {
		return 0, it.Error()
	}
	n, err := p.db.EstimateDiskUsage(it.Key(), upper)
	if err != nil {
		return 0, p.wrap(err)
	}
	return int64(n), nil
}

// count reads from the start until it has so many bytes, and reports whether that is all.
func count(it Iter, limit int64) (s Size, all bool, err error) {
	ok := it.First()
	for ; ok && s.Bytes < limit; ok = it.Next() {
		s.Bytes += int64(len(it.Key()) + len(it.Value()))
		s.Entries++
	}
	return s, !ok, it.Error()
}
