package state

import (
	"fmt"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/objstorage/objstorageprovider"
	"github.com/cockroachdb/pebble/v2/sstable"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// ingestDir is where tables wait for ingestion, below the database's directory.
const ingestDir = "ingest"

type batchState uint8

const (
	batchOpen batchState = iota
	batchCommitted
	// batchAbandoned: the commit failed and may still hold on to the batch.
	batchAbandoned
)

// pebbleBatch keeps its writes in memory up to a size, and from there on in sorted
// tables that Pebble takes over at commit, all in one atomic ingestion. That is why
// keys have to ascend.
type pebbleBatch struct {
	p     *pebbleDB
	order batchOrder
	batch *pebble.Batch
	bytes int
	state batchState

	writer *sstable.Writer
	inFile int
	tables []string
}

func (p *pebbleDB) NewBatch() Batch { return &pebbleBatch{p: p, batch: p.db.NewBatch()} }

func (b *pebbleBatch) Len() int { return b.bytes }

func (b *pebbleBatch) Set(key, value []byte) error {
	if err := b.order.check(key); err != nil {
		return err
	}
	b.bytes += len(key) + len(value)
	if b.batch != nil && b.bytes <= b.p.opts.BatchBytes {
		return b.p.wrap(b.batch.Set(key, value, nil))
	}
	return b.p.wrap(b.writeTable(sstable.InternalKeyKindSet, key, value))
}

func (b *pebbleBatch) Delete(key []byte) error {
	if err := b.order.check(key); err != nil {
		return err
	}
	b.bytes += len(key)
	if b.batch != nil && b.bytes <= b.p.opts.BatchBytes {
		return b.p.wrap(b.batch.Delete(key, nil))
	}
	return b.p.wrap(b.writeTable(sstable.InternalKeyKindDelete, key, nil))
}

// writeTable writes to the current table, and before it what was in memory.
func (b *pebbleBatch) writeTable(kind pebble.InternalKeyKind, key, value []byte) error {
	if b.batch != nil {
		if err := b.moveToTable(); err != nil {
			return err
		}
	}
	if b.writer != nil && b.inFile >= b.p.tableBytes() {
		if err := b.closeTable(); err != nil {
			return err
		}
	}
	if b.writer == nil {
		if err := b.openTable(); err != nil {
			return err
		}
	}
	b.inFile += len(key) + len(value)
	if kind == sstable.InternalKeyKindDelete {
		return b.writer.Delete(key)
	}
	return b.writer.Set(key, value)
}

func (b *pebbleBatch) moveToTable() error {
	old := b.batch
	b.batch = nil
	for r := old.Reader(); ; {
		kind, key, value, ok, err := r.Next()
		if err != nil {
			return err
		}
		if !ok {
			return old.Close()
		}
		if err := b.writeTable(kind, key, value); err != nil {
			return err
		}
	}
}

// tableBytes is the size at which a batch starts its next table.
func (p *pebbleDB) tableBytes() int { return max(2*p.opts.BatchBytes, 8<<10) }

func (b *pebbleBatch) openTable() error {
	p := b.p
	if err := p.checkRoom(p.tableBytes()); err != nil {
		return err
	}
	path := p.opts.FS.PathJoin(p.dir, ingestDir, fmt.Sprintf("%d.sst", p.tables.Add(1)))
	f, err := p.opts.FS.Create(path, vfs.WriteCategoryUnspecified)
	if err != nil {
		return err
	}
	b.tables = append(b.tables, path)
	b.inFile = 0
	b.writer = sstable.NewWriter(objstorageprovider.NewFileWritable(f),
		p.popts.MakeWriterOptions(0, p.db.TableFormat()))
	return nil
}

// closeTable finishes the current table and syncs it.
func (b *pebbleBatch) closeTable() error {
	w := b.writer
	b.writer = nil
	return w.Close()
}

func (b *pebbleBatch) apply(sync bool) error {
	if b.batch != nil {
		return b.p.db.Apply(b.batch, b.p.writeOptions(sync))
	}
	if b.writer != nil {
		if err := b.closeTable(); err != nil {
			return err
		}
	}
	return b.p.ingest(b.tables)
}

// Close releases the batch and removes the tables of one that was not committed.
func (b *pebbleBatch) Close() error {
	if b.state == batchAbandoned {
		return nil
	}
	var err error
	if b.batch != nil {
		err = b.batch.Close()
		b.batch = nil
	}
	if b.writer != nil {
		_ = b.closeTable()
	}
	if b.state == batchOpen {
		for _, path := range b.tables {
			if e := b.p.opts.FS.Remove(path); err == nil && e != nil {
				err = e
			}
		}
	}
	b.state, b.tables = batchCommitted, nil
	return b.p.wrap(err)
}

// clearTables removes the tables that a crash left waiting, and makes their place.
func (p *pebbleDB) clearTables() error {
	fs := p.opts.FS
	dir := fs.PathJoin(p.dir, ingestDir)
	if err := fs.RemoveAll(dir); err != nil && !isNotExist(err) {
		return err
	}
	return fs.MkdirAll(dir, 0o700)
}
