package file

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"syscall"

	"github.com/tailrace/tailrace/internal/failpoint"
	"github.com/tailrace/tailrace/sinks"
)

// flushBytes is how much is collected before it is written.
const flushBytes = 256 << 10

// Writer is an open file. It implements sinks.Writer.
type Writer struct {
	path    string
	log     *slog.Logger
	streams map[uint32]string
	f       *os.File
	journal *journal
	// check is the last checkpoint; has says that it is in the journal.
	check checkpoint
	has   bool
	skip  map[place]uint64
	// dirty says that the file may be longer than its checkpoint.
	dirty bool
	buf   []byte
}

// open takes the file, cuts what no checkpoint vouches for, and says where to go on.
func (w *Writer) open() error {
	var err error
	if w.f, err = openPlain(w.path, os.O_CREATE); err != nil {
		return err
	}
	if err := lock(w.f); err != nil {
		return err
	}
	var last *checkpoint
	if w.journal, last, err = openJournal(w.path + progressSuffix); err != nil {
		return err
	}
	if err := w.taken(last); err != nil {
		return err
	}
	if last != nil && last.Incarnation == w.check.Incarnation {
		err = w.resume(last)
	} else {
		err = w.recover(last)
	}
	if err != nil {
		return err
	}
	w.dirty = true
	if err := w.cut(); err != nil {
		return err
	}
	return syncDir(filepath.Dir(w.path))
}

// taken returns an error if a checkpoint is somebody else's.
func (w *Writer) taken(last *checkpoint) error {
	if last == nil || last.App == w.check.App && last.Target == w.check.Target {
		return nil
	}
	return fmt.Errorf("%s is the file of app %q, target %q; give this one another path: %w", w.path,
		last.App, last.Target, sinks.ErrConfig)
}

// lookBytes is how much of a file without a checkpoint is looked at beforehand.
const lookBytes = 1 << 20

// look finds what open would refuse, and leaves everything as it is.
func (w *Writer) look() error {
	defer w.release()
	var last *checkpoint
	var size int64
	var err, noFile, noJournal error
	if w.f, noFile = openPlain(w.path, 0); noFile != nil && !errors.Is(noFile, fs.ErrNotExist) {
		return noFile
	}
	var f *os.File
	if f, noJournal = openPlain(w.path+progressSuffix, 0); noJournal == nil {
		if w.journal, last, err = readJournal(f.Name(), f); err != nil {
			return err
		}
	} else if !errors.Is(noJournal, fs.ErrNotExist) {
		return noJournal
	}
	if err := w.taken(last); err != nil {
		return err
	}
	own := last != nil && last.Incarnation == w.check.Incarnation
	if w.f != nil {
		info, err := w.f.Stat()
		if err == nil && !own {
			_, err = scan(w.f, lookBytes)
		}
		if err != nil {
			return err
		}
		size = info.Size()
	}
	if own && size < last.Length {
		return w.short(size, last)
	}
	if noFile == nil && noJournal == nil {
		return nil
	}
	// Only a file that is made shows that one can be.
	probe, err := os.CreateTemp(filepath.Dir(w.path), "."+filepath.Base(w.path)+".check")
	if err != nil {
		return err
	}
	_ = probe.Close()
	return os.Remove(probe.Name())
}

// resume continues after a checkpoint of our own.
func (w *Writer) resume(last *checkpoint) error {
	info, err := w.f.Stat()
	if err != nil {
		return err
	}
	if info.Size() < last.Length {
		return w.short(info.Size(), last)
	}
	if cut := info.Size() - last.Length; cut > 0 {
		w.log.Info("cutting off what was written after the checkpoint", "file", w.path, "bytes", cut)
	}
	w.check, w.has = *last, true
	w.setSkip()
	return nil
}

// short says that a file has lost what a checkpoint of our own counts.
func (w *Writer) short(size int64, last *checkpoint) error {
	return fmt.Errorf("%s has %d bytes, its checkpoint says %d: events are missing; to go on with a "+
		"new file move %[1]s%[4]s away as well, otherwise bring the file back: %[5]w", w.path, size,
		last.Length, progressSuffix, sinks.ErrConfig)
}

// recover goes by the file itself: there is no checkpoint, or one of another
// incarnation, whose epochs have other numbers.
func (w *Writer) recover(last *checkpoint) error {
	found, err := scan(w.f, 1<<62)
	if err != nil {
		return err
	}
	if last != nil {
		for _, s := range last.Skip {
			p := place{s.Stream, s.Source}
			found.upTo[p] = max(found.upTo[p], s.Position)
		}
	}
	w.check.Length = found.length
	for p, position := range found.upTo {
		w.check.Skip = append(w.check.Skip, skip{p.stream, p.source, position})
	}
	slices.SortFunc(w.check.Skip, func(a, b skip) int {
		return cmp.Or(cmp.Compare(a.Stream, b.Stream), cmp.Compare(a.Source, b.Source))
	})
	w.setSkip()
	if found.length > 0 {
		w.log.Info("file without a checkpoint of this state: keeping its complete transactions", "file",
			w.path,
			"bytes", found.length)
	}
	return nil
}

func (w *Writer) setSkip() {
	w.skip = map[place]uint64{}
	for _, s := range w.check.Skip {
		w.skip[place{s.Stream, s.Source}] = s.Position
	}
}

// cut makes the file as long as its checkpoint says.
func (w *Writer) cut() error {
	if !w.dirty {
		return nil
	}
	if err := w.f.Truncate(w.check.Length); err != nil {
		return err
	}
	w.dirty = false
	return nil
}

// Progress implements sinks.Writer.
func (w *Writer) Progress(context.Context) (seq uint64, ok bool, err error) {
	return w.check.Seq, w.has, nil
}

// Apply implements sinks.Writer: the events are durable before the checkpoint that
// counts them is written.
func (w *Writer) Apply(ctx context.Context, epochs []sinks.Epoch) error {
	next := w.check
	if err := w.write(ctx, epochs, &next); err != nil {
		return fmt.Errorf("sinks/file: target %q: %w", w.check.Target, withRemedy(err))
	}
	return nil
}

// withRemedy says what helps. Where there is no room the target counts as down until then.
func withRemedy(err error) error {
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ENOTDIR):
		return fmt.Errorf("%w: %w: the directory of Config.Path has to exist, since a path that is "+
			"misspelt or a file system that is not mounted would be written elsewhere: make it, or name "+
			"another path", err, sinks.ErrConfig)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("%w: %w: the app's user needs the right to write the file and, to make it and "+
			"its %s, its directory", err, sinks.ErrConfig, progressSuffix)
	}
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		return fmt.Errorf("%w: free space on its file system: it is tried again", err)
	}
	return err
}

func (w *Writer) write(ctx context.Context, epochs []sinks.Epoch, next *checkpoint) error {
	if err := w.cut(); err != nil {
		return err
	}
	fresh := false
	w.buf = w.buf[:0]
	for _, e := range epochs {
		if w.has && e.Seq <= w.check.Seq {
			continue
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := w.writeItems(e, next); err != nil {
			return err
		}
		next.Seq, fresh = e.Seq, true
	}
	if !fresh {
		return nil
	}
	if err := w.flush(next); err != nil {
		return err
	}
	if next.Length > w.check.Length {
		if err := w.f.Sync(); err != nil {
			return err
		}
	}
	if err := failpoint.Hit(failpoint.FileWritten); err != nil {
		return err
	}
	if err := w.journal.write(*next); err != nil {
		return err
	}
	w.check, w.has, w.dirty = *next, true, false
	return nil
}

func (w *Writer) writeItems(e sinks.Epoch, next *checkpoint) error {
	var failed error
	err := e.Items(func(it sinks.Item) bool {
		failed = w.add(&e, it, next)
		return failed == nil
	})
	if failed != nil {
		return failed
	}
	return err
}

func (w *Writer) add(e *sinks.Epoch, it sinks.Item, next *checkpoint) error {
	stream, ok := w.streams[it.Output]
	if !ok || it.Event == nil {
		return fmt.Errorf("item of output %d is unknown or no event; this is a bug", it.Output)
	}
	if upTo, ok := w.skip[place{stream, it.Event.Source}]; ok && it.Event.Position <= upTo {
		return nil
	}
	buf, err := appendLine(w.buf, stream, it.Event)
	if err != nil {
		return refused(e, it, err)
	}
	w.buf = buf
	if len(w.buf) >= flushBytes {
		return w.flush(next)
	}
	return nil
}

// flush writes what is collected behind what next counts.
func (w *Writer) flush(next *checkpoint) error {
	if len(w.buf) == 0 {
		return nil
	}
	w.dirty = true
	// Two writes, for the point between them to be one that tests can stop at.
	half := len(w.buf) / 2
	if _, err := w.f.WriteAt(w.buf[:half], next.Length); err != nil {
		return err
	}
	if err := failpoint.Hit(failpoint.FileTorn); err != nil {
		return err
	}
	if _, err := w.f.WriteAt(w.buf[half:], next.Length+int64(half)); err != nil {
		return err
	}
	next.Length += int64(len(w.buf))
	w.buf = w.buf[:0]
	return nil
}

// Close releases the file.
func (w *Writer) Close() error {
	w.release()
	return nil
}

func (w *Writer) release() {
	if w.journal != nil {
		_ = w.journal.f.Close()
	}
	if w.f != nil {
		_ = w.f.Close()
	}
}
