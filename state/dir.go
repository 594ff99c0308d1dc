package state

import (
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// Identity says whose state a directory holds.
type Identity struct {
	// App is the name of the app.
	App string
	// Systems maps the name of a source to the id of the system behind it, as far as
	// it is known when the directory is opened; see Dir.BindSystem for later.
	Systems map[string]string
}

// Store ids are the first four bytes of each key.
const (
	// FirstStoreID is the lowest id of a store. Lower ones are the engine's own, with
	// the checkpoint under 0, and the directory's (manifestID).
	FirstStoreID = 16
	// FirstQueueID is the lowest id of a queue. Queues come after all stores, so that
	// a batch with state and then queue rows ascends.
	FirstQueueID = 0xF0000000

	manifestID = 1
)

// dirFormat is the layout of a state directory that this release writes, and the only
// one it reads. Raise it with every change after which what is stored under some key
// would be read wrongly: the encoding of keys or values of stores, of the engine's own
// space, and of the items in queues. What merely adds a key or a field that is absent in
// older directories needs no new number. No format has been released yet. They were:
//
//	1  paths of events in queues had no end mark
//	2  paths are encoded as keys encode strings
//	3  each epoch in a queue has an entry, without which nobody knows of it
const dirFormat = 3

// Dir is an open state directory: the database, and who it belongs to. It is safe
// for concurrent use.
type Dir struct {
	// DB is the database.
	DB DB

	path     string
	opts     Options
	lock     io.Closer
	readOnly bool

	mu       sync.Mutex
	manifest manifest
	scratch  int
}

// manifest is stored in the database, so that it changes together with the data.
type manifest struct {
	Format             int               `json:"format"`
	FormatMajorVersion uint64            `json:"format_major_version"`
	App                string            `json:"app"`
	Incarnation        string            `json:"incarnation"`
	Systems            map[string]string `json:"systems"`
	Timelines          map[string]uint32 `json:"timelines,omitempty"`
	NextStore          uint32            `json:"next_store"`
	NextQueue          uint32            `json:"next_queue"`
}

// OpenDir opens the state directory of an app, or makes it with mode 0700. The
// error is ErrLocked where another process has it open and ErrMismatch where it
// belongs to another app or source system, is of another format, or is no state
// directory; it says which and what to do.
func OpenDir(path string, id Identity, o Options) (*Dir, error) {
	if id.App == "" {
		return nil, errors.New("state: a state directory needs the name of its app")
	}
	path = filepath.Clean(path)
	d := &Dir{path: path, opts: o.withDefaults()}
	if err := prepareDir(d.opts.FS, path); err != nil {
		return nil, err
	}
	var err error
	if d.lock, err = lockDir(d.opts, path); err != nil {
		return nil, err
	}
	if err := d.open(id); err != nil {
		return nil, errors.Join(err, d.Close())
	}
	return d, nil
}

func (d *Dir) open(id Identity) error {
	if err := os.RemoveAll(filepath.Join(d.path, "scratch")); err != nil {
		return wrapStorageError(d.path, err)
	}
	db := filepath.Join(d.path, "db")
	if err := makeDir(d.opts.FS, db); err != nil {
		return wrapStorageError(d.path, err)
	}
	p, err := openPebble(db, d.opts, false)
	if err != nil {
		return err
	}
	d.DB = p
	if err := d.loadManifest(id); err != nil {
		return err
	}
	for source, system := range id.Systems {
		if err := d.BindSystem(source, system); err != nil {
			return err
		}
	}
	if err := d.finishDrops(); err != nil {
		return err
	}
	return d.forgetNext()
}

// makeDir makes a directory that a crash of the machine leaves, where it is there already, too:
// who made it may not have come so far. What is synced within is lost with its name.
func makeDir(fs vfs.FS, path string) error {
	parents := []string{fs.PathDir(path)}
	for {
		above := parents[len(parents)-1]
		if _, err := fs.Stat(above); err == nil || fs.PathDir(above) == above {
			break
		}
		parents = append(parents, fs.PathDir(above))
	}
	if err := fs.MkdirAll(path, 0o700); err != nil {
		return err
	}
	for _, above := range parents {
		if err := syncDir(fs, above); err != nil {
			return err
		}
	}
	return nil
}

// syncDir syncs a directory, unless we may not read it: then we have made nothing in it, or
// cannot do better.
func syncDir(fs vfs.FS, path string) error {
	dir, err := fs.OpenDir(path)
	if errors.Is(err, os.ErrPermission) {
		return nil
	}
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

// prepareDir makes the directory, or checks that it is one of ours.
func prepareDir(fs vfs.FS, path string) error {
	info, err := os.Lstat(path)
	if errors.Is(err, os.ErrNotExist) {
		return wrapStorageError(path, makeDir(fs, path))
	}
	switch {
	case err != nil:
		return wrapStorageError(path, err)
	case info.Mode()&os.ModeSymlink != 0:
		return fmt.Errorf("%w: %s is a symbolic link: give the directory itself", ErrMismatch, path)
	case !info.IsDir():
		return fmt.Errorf("%w: %s is not a directory: give another path", ErrMismatch, path)
	}
	entries, err := os.ReadDir(path)
	if err != nil {
		return wrapStorageError(path, err)
	}
	for _, e := range entries {
		if !slices.Contains([]string{"LOCK", "db", "scratch"}, e.Name()) {
			return fmt.Errorf("%w: %s holds %q, which is not part of a state directory: give an empty directory",
				ErrMismatch, path, e.Name())
		}
		if e.Type()&os.ModeSymlink != 0 {
			return fmt.Errorf("%w: %s is a symbolic link: state directories must lie on one file system",
				ErrMismatch, filepath.Join(path, e.Name()))
		}
	}
	if info.Mode().Perm()&0o077 != 0 {
		if err := os.Chmod(path, 0o700); err != nil {
			return wrapStorageError(path, err)
		}
	}
	return wrapStorageError(path, syncDir(fs, fs.PathDir(path)))
}

func lockDir(o Options, path string) (io.Closer, error) {
	lock, err := o.FS.Lock(filepath.Join(path, "LOCK"))
	switch {
	case err == nil:
		return lock, nil
	case errors.Is(err, syscall.EAGAIN), errors.Is(err, syscall.EACCES),
		strings.Contains(err.Error(), "held by current process"):
		return nil, lockedBy(path, err)
	}
	return nil, wrapStorageError(path, err)
}

// lockedBy says who has a state directory open, and what helps.
func lockedBy(path string, err error) error {
	file := filepath.Join(path, "LOCK")
	switch pid := lockHolder(file); {
	case strings.Contains(err.Error(), "held by current process"), pid == os.Getpid():
		return fmt.Errorf("%w: %s: this process has it open itself, in another app or a reader that was "+
			"not closed: close that, or give each app a directory of its own: %w", ErrLocked, path, err)
	case pid > 0:
		return fmt.Errorf("%w: %s: process %d has it open (ps -p %[3]d): stop that other process, or give "+
			"this one a directory of its own: %w", ErrLocked, path, pid, err)
	}
	return fmt.Errorf("%w: %s: another process has it open (fuser %s tells which): stop the other process, "+
		"or give this one a directory of its own: %w", ErrLocked, path, file, err)
}

func makePrivateFile(name string, open io.Closer) error {
	if err := os.Chmod(name, 0o600); err != nil {
		return errors.Join(wrapStorageError(name, err), open.Close())
	}
	return nil
}

// Close closes the database and releases the directory. After a failure that
// stopped the database the directory stays locked until the process ends.
func (d *Dir) Close() error {
	var err error
	if d.DB != nil {
		if err = d.DB.Close(); err != nil {
			return err
		}
	}
	if !d.readOnly {
		err = os.RemoveAll(filepath.Join(d.path, "scratch"))
	}
	return errors.Join(err, d.lock.Close())
}

// Incarnation is the random name that the directory was given when it was made. A
// sink that meets another one knows that the state was lost and made anew.
func (d *Dir) Incarnation() string { return d.manifest.Incarnation }

// Path is where the directory is.
func (d *Dir) Path() string { return d.path }

// Scratch makes scratch space below the directory; it suits Env.Scratch.
func (d *Dir) Scratch() (Scratch, error) {
	d.mu.Lock()
	d.scratch++
	dir := filepath.Join(d.path, "scratch", fmt.Sprint(d.scratch))
	d.mu.Unlock()
	return OpenScratch(dir, Options{Logger: d.opts.Logger, MinFreeBytes: d.opts.MinFreeBytes, FS: d.opts.FS})
}

var manifestKey = append(appendID(nil, manifestID), "manifest"...)

func (d *Dir) loadManifest(id Identity) error {
	stored, ok, err := d.DB.Get(nil, manifestKey)
	if err != nil {
		return err
	}
	if !ok {
		return d.makeManifest(id)
	}
	m := &d.manifest
	if err := json.Unmarshal(stored, m); err != nil {
		return corruptError(d.path, err)
	}
	if err := d.checkFormat(); err != nil {
		return err
	}
	if m.App != id.App {
		return fmt.Errorf("%w: %s holds the state of app %q, not %q: give each app a directory of its own",
			ErrMismatch, d.path, m.App, id.App)
	}
	if m.FormatMajorVersion != uint64(FormatMajorVersion) {
		m.FormatMajorVersion = uint64(FormatMajorVersion)
		return d.write(true, nil)
	}
	return nil
}

// checkFormat refuses a directory of another layout.
func (d *Dir) checkFormat() error {
	m := &d.manifest
	if m.Format < dirFormat {
		return fmt.Errorf("%w: %s has format %d and this release reads %d: let the release that wrote it deliver "+
			"what waits for targets, and remove the directory to have the state built anew",
			ErrMismatch, d.path, m.Format, dirFormat)
	}
	if m.Format > dirFormat || m.FormatMajorVersion > uint64(FormatMajorVersion) {
		return fmt.Errorf("%w: %s has format %d (files %d), this release reads up to %d (files %d): "+
			"use the release that wrote it", ErrMismatch, d.path, m.Format, m.FormatMajorVersion,
			dirFormat, FormatMajorVersion)
	}
	return nil
}

func (d *Dir) makeManifest(id Identity) error {
	it, err := d.DB.NewIter(nil, nil)
	if err != nil {
		return err
	}
	used := it.First()
	if err := it.Close(); err != nil {
		return err
	}
	if used {
		return fmt.Errorf("%w: %s holds a database that Tailrace did not make: give an empty directory",
			ErrMismatch, d.path)
	}
	random := make([]byte, 16)
	if _, err := rand.Read(random); err != nil {
		return err
	}
	d.manifest = manifest{
		Format: dirFormat, FormatMajorVersion: uint64(FormatMajorVersion), App: id.App,
		Incarnation: hex.EncodeToString(random), Systems: map[string]string{},
		NextStore: FirstStoreID, NextQueue: FirstQueueID,
	}
	return d.write(true, nil)
}

// write commits the manifest together with other keys, which must follow it.
func (d *Dir) write(sync bool, more func(b Batch) error) error {
	value, err := json.Marshal(&d.manifest)
	if err != nil {
		return err
	}
	b := d.DB.NewBatch()
	defer b.Close()
	if err := b.Set(manifestKey, value); err != nil {
		return err
	}
	if more != nil {
		if err := more(b); err != nil {
			return err
		}
	}
	return d.DB.Commit(b, sync)
}

// BindSystem ties the directory to the system behind a source, such as PostgreSQL's
// system identifier: at first it is noted, later another one is ErrMismatch.
func (d *Dir) BindSystem(source, system string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	known, ok := d.manifest.Systems[source]
	switch {
	case ok && known == system:
		return nil
	case ok:
		return fmt.Errorf("%w: %s holds state of source %q on system %s, which is now %s: connect to the "+
			"system that the state is from, or remove the directory to start anew with this one",
			ErrMismatch, d.path, source, known, system)
	}
	d.manifest.Systems[source] = system
	if err := d.write(true, nil); err != nil {
		delete(d.manifest.Systems, source)
		return err
	}
	return nil
}

// System returns the system that BindSystem has tied a source to, "" if none.
func (d *Dir) System(source string) string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.manifest.Systems[source]
}

// SetTimeline notes the branch of a source's log that the state's position lies on, and
// all that is read from now on.
func (d *Dir) SetTimeline(source string, timeline uint32) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	known := d.manifest.Timelines[source]
	if known == timeline {
		return nil
	}
	if d.manifest.Timelines == nil {
		d.manifest.Timelines = map[string]uint32{}
	}
	d.manifest.Timelines[source] = timeline
	if err := d.write(true, nil); err != nil {
		d.manifest.Timelines[source] = known
		return err
	}
	return nil
}

// Timeline returns what SetTimeline has noted, 0 if nothing.
func (d *Dir) Timeline(source string) uint32 {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.manifest.Timelines[source]
}

// each visits copies of all pairs under a prefix.
func (d *Dir) each(prefix []byte, fn func(key, value []byte)) error {
	it, err := d.DB.NewIter(prefix, PrefixEnd(prefix))
	if err != nil {
		return err
	}
	defer it.Close()
	for ok := it.First(); ok; ok = it.Next() {
		fn(slices.Clone(it.Key()), slices.Clone(it.Value()))
	}
	return it.Error()
}

// remove deletes a key durably.
func (d *Dir) remove(key []byte) error {
	b := d.DB.NewBatch()
	defer b.Close()
	if err := b.Delete(key); err != nil {
		return err
	}
	return d.DB.Commit(b, true)
}
