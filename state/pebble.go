package state

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/bloom"
	"github.com/cockroachdb/pebble/v2/sstable"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/tailrace/tailrace/internal/failpoint"
)

// FormatMajorVersion is the format of the Pebble files that this release writes. A
// release that raises it can no longer be followed by an older one.
const FormatMajorVersion = pebble.FormatTableFormatV6

// Options are the settings of a DB on disk.
type Options struct {
	// CacheBytes is the size of the block cache, 64 MiB by default.
	CacheBytes int64
	// MemTableBytes is the size of a memtable, 64 MiB by default; up to four can
	// exist for a moment.
	MemTableBytes uint64
	// BatchBytes is the size from which a batch is written to sorted tables that are
	// ingested at commit, instead of being kept in memory; 16 MiB by default.
	BatchBytes int
	// MinFreeBytes is the free space of the file system below which commits fail
	// with ErrDiskFull, 256 MiB by default; below 0 nothing is checked.
	MinFreeBytes int64
	// Logger takes what Pebble has to say; slog.Default() by default. Routine events
	// are logged at debug level.
	Logger *slog.Logger
	// FS replaces the disk in tests.
	FS vfs.FS

	readOnly bool
}

func (o Options) withDefaults() Options {
	if o.CacheBytes == 0 {
		o.CacheBytes = 64 << 20
	}
	if o.MemTableBytes == 0 {
		o.MemTableBytes = 64 << 20
	}
	if o.BatchBytes == 0 {
		o.BatchBytes = 16 << 20
	}
	if o.MinFreeBytes == 0 {
		o.MinFreeBytes = 256 << 20
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	if o.FS == nil {
		o.FS = privateFS{vfs.Default}
	}
	return o
}

// OpenPebble opens the database in a directory, which is made if it is missing.
// Errors are ErrLocked, ErrMismatch (a newer format), ErrCorrupt or ErrDiskFull
// where that is the reason.
func OpenPebble(dir string, o Options) (DB, error) {
	db, err := openPebble(dir, o.withDefaults(), false)
	if err != nil {
		return nil, err
	}
	return db, nil
}

// pebbleDB is a DB on disk.
type pebbleDB struct {
	db     *pebble.DB
	dir    string
	opts   Options
	popts  *pebble.Options
	health *health
	tables atomic.Uint64 // names files that wait for ingestion

	room struct {
		sync.Mutex
		checked time.Time
		written int
	}
}

func openPebble(dir string, o Options, scratch bool) (*pebbleDB, error) {
	p := &pebbleDB{dir: dir, opts: o, health: newHealth(dir, o.Logger)}
	prepares := []func() error{p.checkSums, p.checkFormat, p.clearTables, p.removeSums}
	if o.readOnly {
		prepares = prepares[:2]
	}
	for _, prepare := range prepares {
		if err := prepare(); err != nil {
			return nil, p.wrap(err)
		}
	}
	cache := pebble.NewCache(o.CacheBytes)
	defer cache.Unref()
	p.popts = &pebble.Options{
		FS:                          logFS{o.FS, p.health},
		FormatMajorVersion:          FormatMajorVersion,
		Cache:                       cache,
		MemTableSize:                o.MemTableBytes,
		MemTableStopWritesThreshold: 4,
		DisableWAL:                  scratch,
		ReadOnly:                    o.readOnly,
		MaxOpenFiles:                1000,
		Logger:                      p.health,
		EventListener:               p.health.events(),
	}
	for i := range p.popts.Levels {
		p.popts.Levels[i].FilterPolicy = bloom.FilterPolicy(10)
		if scratch {
			p.popts.Levels[i].Compression = func() *sstable.CompressionProfile { return sstable.NoCompression }
		}
	}
	p.popts.EnsureDefaults()
	db, err := openGuarded(dir, p.popts, p.health)
	if isNotExist(err) {
		return nil, corruptError(dir, err) // the manifest names files that are gone
	}
	if err != nil {
		return nil, p.wrap(err)
	}
	p.db = db
	return p, nil
}

// openGuarded opens the database and returns also when Pebble gives up by Fatalf,
// which never comes back.
func openGuarded(dir string, o *pebble.Options, h *health) (*pebble.DB, error) {
	type opened struct {
		db  *pebble.DB
		err error
	}
	done := make(chan opened, 1)
	go func() {
		db, err := pebble.Open(dir, o)
		done <- opened{db, err}
	}()
	select {
	case r := <-done:
		return r.db, r.err
	case <-h.failed:
		return nil, h.err
	}
}

// checkFormat refuses files that a newer release wrote.
func (p *pebbleDB) checkFormat() error {
	desc, err := pebble.Peek(p.dir, p.opts.FS)
	switch {
	case err != nil && isNotExist(err):
		return nil
	case err != nil:
		return p.wrap(err)
	case desc.Exists && desc.FormatMajorVersion > FormatMajorVersion:
		return fmt.Errorf("%w: %s has file format %d, this release reads up to %d: use the release that wrote it",
			ErrMismatch, p.dir, desc.FormatMajorVersion, FormatMajorVersion)
	}
	return nil
}

func (p *pebbleDB) wrap(err error) error { return wrapStorageError(p.dir, err) }

// Close waits for running flushes and compactions. After a failure that stopped
// Pebble it returns that failure and leaves the directory locked, because what
// still runs might write to it.
func (p *pebbleDB) Close() error {
	select {
	case <-p.health.failed:
	default:
		err := p.db.Close()
		if err == nil && !p.popts.DisableWAL && !p.popts.ReadOnly {
			err = p.writeSums()
		}
		return p.wrap(err)
	}
	done := make(chan struct{})
	go func() {
		_ = p.db.Close() // What failed before is what p.health has.
		close(done)
	}()
	select {
	case <-done:
	case <-time.After(closeAfterFailure):
	}
	return p.health.err
}

// closeAfterFailure is how long Close waits for a database that has failed.
const closeAfterFailure = 5 * time.Second

func (p *pebbleDB) Get(dst, key []byte) ([]byte, bool, error) { return p.get(p.db, dst, key) }

func (p *pebbleDB) get(r pebble.Reader, dst, key []byte) ([]byte, bool, error) {
	v, closer, err := r.Get(key)
	if errors.Is(err, pebble.ErrNotFound) {
		return dst, false, nil
	}
	if err != nil {
		return dst, false, p.wrap(err)
	}
	dst = append(dst, v...)
	return dst, true, p.wrap(closer.Close())
}

func (p *pebbleDB) NewIter(lower, upper []byte) (Iter, error) { return p.iter(p.db, lower, upper) }

func (p *pebbleDB) iter(r pebble.Reader, lower, upper []byte) (Iter, error) {
	it, err := r.NewIter(&pebble.IterOptions{LowerBound: bytes.Clone(lower), UpperBound: bytes.Clone(upper)})
	if err != nil {
		return nil, p.wrap(err)
	}
	return &pebbleIter{it, p}, nil
}

func (p *pebbleDB) NewSnapshot() Snapshot { return &pebbleSnapshot{p.db.NewSnapshot(), p} }

func (p *pebbleDB) DeleteRange(lower, upper []byte) error {
	if upper == nil {
		it, err := p.db.NewIter(&pebble.IterOptions{LowerBound: lower})
		if err != nil {
			return p.wrap(err)
		}
		if it.Last() {
			upper = append(bytes.Clone(it.Key()), 0)
		}
		if err := it.Close(); err != nil || upper == nil {
			return p.wrap(err)
		}
	}
	if bytes.Compare(lower, upper) >= 0 {
		return nil
	}
	return p.guarded(func() error { return p.db.DeleteRange(lower, upper, p.writeOptions(true)) })
}

func (p *pebbleDB) writeOptions(sync bool) *pebble.WriteOptions {
	if sync && !p.popts.DisableWAL {
		return pebble.Sync
	}
	return pebble.NoSync
}

// guarded runs a write that blocks for good when Pebble can neither finish a flush
// nor report why (a full disk, a failed log), and returns the reason then.
func (p *pebbleDB) guarded(write func() error) error {
	done := make(chan error, 1)
	go func() { done <- write() }()
	select {
	case err := <-done:
		return p.wrap(err)
	case <-p.health.failed:
		return p.health.err
	}
}

// Commit applies a batch; see DB.
func (p *pebbleDB) Commit(b Batch, sync bool) error {
	pb, err := p.commitBatch(b)
	if err != nil {
		return err
	}
	return pb.write(func() error { return pb.apply(sync) })
}

// Apply applies a batch in two halves; see DB. Tables that are ingested are durable
// with the first.
func (p *pebbleDB) Apply(b Batch) (durable func() error, err error) {
	pb, err := p.commitBatch(b)
	if err != nil {
		return nil, err
	}
	if pb.batch == nil || p.popts.DisableWAL {
		return func() error { return nil }, pb.write(func() error { return pb.apply(true) })
	}
	durable = func() error { return pb.write(pb.batch.SyncWait) }
	return durable, pb.write(func() error { return p.db.ApplyNoSyncWait(pb.batch, pebble.Sync) })
}

// commitBatch checks that a batch may be committed now, and notes that it is.
func (p *pebbleDB) commitBatch(b Batch) (*pebbleBatch, error) {
	pb, ok := b.(*pebbleBatch)
	if !ok || pb.p != p || pb.state != batchOpen {
		return nil, errForeignBatch
	}
	if err := p.checkRoom(pb.Len()); err != nil {
		return nil, err
	}
	pb.state = batchCommitted
	return pb, nil
}

// write runs a part of the commit; after an error it may still hold on to the batch.
func (b *pebbleBatch) write(part func() error) error {
	err := b.p.guarded(part)
	if err != nil {
		b.state = batchAbandoned
	}
	return err
}

type pebbleSnapshot struct {
	s *pebble.Snapshot
	p *pebbleDB
}

func (s *pebbleSnapshot) Get(dst, key []byte) ([]byte, bool, error) { return s.p.get(s.s, dst, key) }

func (s *pebbleSnapshot) NewIter(lower, upper []byte) (Iter, error) {
	return s.p.iter(s.s, lower, upper)
}

func (s *pebbleSnapshot) Close() error { return s.p.wrap(s.s.Close()) }

// pebbleIter adds the names of our errors to Pebble's iterator, whose methods are
// the rest of the contract.
type pebbleIter struct {
	*pebble.Iterator
	p *pebbleDB
}

func (it *pebbleIter) Error() error { return it.p.wrap(it.Iterator.Error()) }
func (it *pebbleIter) Close() error { return it.p.wrap(it.Iterator.Close()) }

// DiskUsage is the number of bytes that the database takes on disk.
func (p *pebbleDB) DiskUsage() uint64 { return p.db.Metrics().DiskSpaceUsage() }

// ingest adds tables to the database, all of them or none.
func (p *pebbleDB) ingest(paths []string) error {
	// What earlier commits wrote without sync goes to disk first: a crash must not
	// lose a commit and keep a later one.
	if p.popts.DisableWAL {
		return p.db.Ingest(context.Background(), paths)
	}
	if err := p.db.LogData(nil, pebble.Sync); err != nil {
		return err
	}
	if err := failpoint.Hit(failpoint.StateIngest); err != nil {
		return err
	}
	if err := p.db.Ingest(context.Background(), paths); err != nil {
		return err
	}
	return failpoint.Hit(failpoint.StateIngested)
}

func isNotExist(err error) bool { return errors.Is(err, vfsNotExist) }
