package state

import (
	"errors"
	"io"
	"os"
	"strings"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// logFS stops the database when its log cannot be written. Pebble panics then, with
// a lock released that a deferred call releases again, so the process would die of
// it without a message of ours; and after a failed sync nothing may be tried again.
type logFS struct {
	vfs.FS
	health *health
}

func (f logFS) Unwrap() vfs.FS { return f.FS }

func (f logFS) Create(name string, category vfs.DiskWriteCategory) (vfs.File, error) {
	file, err := f.FS.Create(name, category)
	return f.wrap(name, file, err)
}

func (f logFS) ReuseForWrite(old, name string, category vfs.DiskWriteCategory) (vfs.File, error) {
	file, err := f.FS.ReuseForWrite(old, name, category)
	return f.wrap(name, file, err)
}

// OpenDir wraps directories for the same reason: a new log counts once its directory
// is synced.
func (f logFS) OpenDir(name string) (vfs.File, error) {
	dir, err := f.FS.OpenDir(name)
	if err != nil {
		return nil, err
	}
	return logFile{dir, f.health}, nil
}

func (f logFS) wrap(name string, file vfs.File, err error) (vfs.File, error) {
	if !strings.HasSuffix(name, ".log") {
		return file, err
	}
	f.health.stopOn(err)
	return logFile{file, f.health}, nil
}

// stopOn fails the database with an error and does not return then.
func (h *health) stopOn(err error) {
	if err != nil {
		h.fail(wrapStorageError(h.dir, err))
		select {}
	}
}

// logFile is a log that is being written, or a directory.
type logFile struct {
	vfs.File
	health *health
}

func (f logFile) Write(p []byte) (int, error) {
	n, err := f.File.Write(p)
	f.health.stopOn(err)
	return n, nil
}

func (f logFile) Sync() error {
	f.health.stopOn(f.File.Sync())
	return nil
}

func (f logFile) SyncData() error {
	f.health.stopOn(f.File.SyncData())
	return nil
}

func (f logFile) SyncTo(length int64) (full bool, err error) {
	full, err = f.File.SyncTo(length)
	f.health.stopOn(err)
	return full, nil
}

func (f logFile) Close() error {
	f.health.stopOn(f.File.Close())
	return nil
}

// privateFS keeps the files of a state directory from other users of the machine.
type privateFS struct{ vfs.FS }

func (f privateFS) Unwrap() vfs.FS { return f.FS }

func (f privateFS) Create(name string, category vfs.DiskWriteCategory) (vfs.File, error) {
	file, err := f.FS.Create(name, category)
	return file, makePrivate(name, file, err)
}

func (f privateFS) ReuseForWrite(old, name string, category vfs.DiskWriteCategory) (vfs.File, error) {
	file, err := f.FS.ReuseForWrite(old, name, category)
	return file, makePrivate(name, file, err)
}

func (f privateFS) OpenReadWrite(
	name string, category vfs.DiskWriteCategory, opts ...vfs.OpenOption,
) (vfs.File, error) {
	file, err := f.FS.OpenReadWrite(name, category, opts...)
	return file, makePrivate(name, file, err)
}

func (f privateFS) Lock(name string) (io.Closer, error) {
	lock, err := f.FS.Lock(name)
	if err != nil {
		return nil, err
	}
	return lock, makePrivateFile(name, lock)
}

func makePrivate(name string, file vfs.File, err error) error {
	if err != nil {
		return err
	}
	if err := os.Chmod(name, 0o600); err != nil {
		return errors.Join(err, file.Close())
	}
	return nil
}

// unsyncedFS leaves it to the system when files reach the disk: for what no crash has
// to leave behind.
type unsyncedFS struct{ vfs.FS }

func (f unsyncedFS) Unwrap() vfs.FS { return f.FS }

func (f unsyncedFS) Create(name string, category vfs.DiskWriteCategory) (vfs.File, error) {
	return unsynced(f.FS.Create(name, category))
}

func (f unsyncedFS) ReuseForWrite(old, name string, category vfs.DiskWriteCategory) (vfs.File, error) {
	return unsynced(f.FS.ReuseForWrite(old, name, category))
}

func (f unsyncedFS) OpenReadWrite(
	name string, category vfs.DiskWriteCategory, opts ...vfs.OpenOption,
) (vfs.File, error) {
	return unsynced(f.FS.OpenReadWrite(name, category, opts...))
}

func (f unsyncedFS) OpenDir(name string) (vfs.File, error) { return unsynced(f.FS.OpenDir(name)) }

func unsynced(file vfs.File, err error) (vfs.File, error) {
	if err != nil {
		return nil, err
	}
	return unsyncedFile{file}, nil
}

type unsyncedFile struct{ vfs.File }

func (unsyncedFile) Sync() error                { return nil }
func (unsyncedFile) SyncData() error            { return nil }
func (unsyncedFile) SyncTo(int64) (bool, error) { return false, nil }
