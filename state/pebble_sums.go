package state

import (
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"strings"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// Pebble takes a damaged end of its log or manifest for a write that a power loss
// cut short, and drops it without a word: for the manifest that can mean whole
// tables. So a clean Close leaves the checksums of those files beside them, and the
// next open compares. (Tables have checksums of their own, which every read checks.)
const sumsFile = "CHECKSUMS"

type fileSum struct {
	Size int64  `json:"size"`
	CRC  uint32 `json:"crc32c"`
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// sums returns the checksums of all files but tables.
func (p *pebbleDB) sums() (map[string]fileSum, error) {
	fs := p.opts.FS
	names, err := fs.List(p.dir)
	if err != nil {
		return nil, err
	}
	sums := map[string]fileSum{}
	for _, name := range names {
		path := fs.PathJoin(p.dir, name)
		info, err := fs.Stat(path)
		if err != nil {
			return nil, err
		}
		if info.IsDir() || name == "LOCK" || strings.HasPrefix(name, sumsFile) || strings.HasSuffix(name, ".sst") {
			continue
		}
		if sums[name], err = sumOf(fs, path); err != nil {
			return nil, err
		}
	}
	return sums, nil
}

func sumOf(fs vfs.FS, path string) (s fileSum, err error) {
	f, err := fs.Open(path, vfs.SequentialReadsOption)
	if err != nil {
		return s, err
	}
	h := crc32.New(castagnoli)
	s.Size, err = io.Copy(h, f)
	s.CRC = h.Sum32()
	return s, errors.Join(err, f.Close())
}

// writeSums leaves the checksums of a database that has been closed.
func (p *pebbleDB) writeSums() error {
	sums, err := p.sums()
	if err != nil {
		return err
	}
	content, err := json.Marshal(sums)
	if err != nil {
		return err
	}
	fs := p.opts.FS
	path := fs.PathJoin(p.dir, sumsFile)
	f, err := fs.Create(path+".tmp", vfs.WriteCategoryUnspecified)
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := fs.Rename(path+".tmp", path); err != nil {
		return err
	}
	return p.syncDir()
}

func (p *pebbleDB) syncDir() error {
	d, err := p.opts.FS.OpenDir(p.dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// checkSums compares the files with the checksums that the last clean Close left.
// After a crash there are none.
func (p *pebbleDB) checkSums() error {
	fs := p.opts.FS
	path := fs.PathJoin(p.dir, sumsFile)
	f, err := fs.Open(path)
	if err != nil {
		if isNotExist(err) {
			return nil
		}
		return err
	}
	content, err := io.ReadAll(f)
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	var want map[string]fileSum
	if err := json.Unmarshal(content, &want); err != nil {
		return corruptError(p.dir, fmt.Errorf("%s: %w", sumsFile, err))
	}
	have, err := p.sums()
	if err != nil {
		return err
	}
	for name, sum := range want {
		if have[name] != sum {
			return corruptError(p.dir, fmt.Errorf("%s has changed since the database was closed", name))
		}
	}
	return nil
}

// removeSums removes the checksums, durably, before anything changes.
func (p *pebbleDB) removeSums() error {
	err := p.opts.FS.Remove(p.opts.FS.PathJoin(p.dir, sumsFile))
	switch {
	case err == nil:
		return p.syncDir()
	case isNotExist(err):
		return nil
	}
	return err
}
