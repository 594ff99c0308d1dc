package state

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
)

var vfsNotExist = fs.ErrNotExist

// health is what Pebble reports of itself: it fails once, for good. Pebble answers
// a full disk by retrying its flush for ever, and a failed log by calling Fatalf,
// which must not return; both leave the writer waiting, so writers wait for failed
// as well.
type health struct {
	dir    string
	log    *slog.Logger
	once   sync.Once
	failed chan struct{}
	err    error // set before failed is closed
}

func newHealth(dir string, log *slog.Logger) *health {
	return &health{dir: dir, log: log, failed: make(chan struct{})}
}

func (h *health) fail(err error) {
	h.once.Do(func() {
		h.err = err
		h.log.Error("state: database failed", "dir", h.dir, "error", err)
		close(h.failed)
	})
}

// Infof takes Pebble's routine messages.
func (h *health) Infof(format string, args ...any) {
	if h.log.Enabled(context.Background(), slog.LevelDebug) {
		h.log.Debug("pebble: " + fmt.Sprintf(format, args...))
	}
}

// Errorf takes Pebble's errors that it goes on from.
func (h *health) Errorf(format string, args ...any) {
	h.log.Warn("pebble: " + fmt.Sprintf(format, args...))
}

// Fatalf takes errors after which Pebble's memory and files may disagree. The
// calling goroutine stops here: were it to go on it might write more.
func (h *health) Fatalf(format string, args ...any) {
	var err error
	for _, a := range args {
		if e, ok := a.(error); ok {
			err = e
		}
	}
	if err == nil {
		err = fmt.Errorf(format, args...)
	}
	h.fail(wrapStorageError(h.dir, err))
	select {}
}

func (h *health) events() *pebble.EventListener {
	l := pebble.EventListener{
		BackgroundError: func(err error) {
			err = wrapStorageError(h.dir, err)
			if errors.Is(err, ErrDiskFull) || errors.Is(err, ErrCorrupt) || isIOError(err) {
				h.fail(err)
				return
			}
			h.log.Warn("state: background work failed", "dir", h.dir, "error", err)
		},
		DataCorruption: func(info pebble.DataCorruptionInfo) {
			h.fail(corruptError(h.dir, fmt.Errorf("%s: %w", info.Path, info.Details)))
		},
		DiskSlow: func(info pebble.DiskSlowInfo) { h.log.Warn("state: disk is slow", "info", info.String()) },
		WriteStallBegin: func(info pebble.WriteStallBeginInfo) {
			h.log.Info("state: writes wait for the disk", "dir", h.dir, "reason", info.Reason)
		},
	}
	l.EnsureDefaults(nil)
	return &l
}

// isIOError reports whether the operating system refused a read, write or sync. After
// a failed sync nothing is known of what the disk holds, so it is not tried again.
func isIOError(err error) bool {
	var path *os.PathError
	var errno syscall.Errno
	return errors.As(err, &path) || errors.As(err, &errno)
}

// wrapStorageError gives an error of Pebble the name that DB promises.
func wrapStorageError(dir string, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, ErrDiskFull), errors.Is(err, ErrCorrupt), errors.Is(err, ErrLocked),
		errors.Is(err, ErrMismatch):
		return err
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return fmt.Errorf("%w: %s: free space on its file system and start again; nothing committed is lost: %w",
			ErrDiskFull, dir, err)
	case pebble.IsCorruptionError(err):
		return corruptError(dir, err)
	}
	return fmt.Errorf("state: %s: %w", dir, err)
}

func corruptError(dir string, err error) error {
	return fmt.Errorf("%w: %s: check the disk, then restore the directory from a backup, or remove it to have "+
		"the state rebuilt from the sources: %w", ErrCorrupt, dir, err)
}

// roomInterval is how often the free space is looked up at most while little is
// written.
const roomInterval = 200 * time.Millisecond

// checkRoom returns ErrDiskFull where the file system has less free space than
// MinFreeBytes plus what is about to be written. The clock only spares system
// calls; no result depends on it.
func (p *pebbleDB) checkRoom(n int) error {
	select {
	case <-p.health.failed:
		return p.health.err
	default:
	}
	if p.opts.MinFreeBytes < 0 {
		return nil
	}
	r := &p.room
	r.Lock()
	defer r.Unlock()
	r.written += n
	now := time.Now()
	if int64(r.written) < p.opts.MinFreeBytes/8 && now.Sub(r.checked) < roomInterval {
		return nil
	}
	usage, err := p.opts.FS.GetDiskUsage(p.dir)
	if errors.Is(err, vfs.ErrUnsupported) {
		return nil
	}
	if err != nil {
		return p.wrap(err)
	}
	// Twice: the log (or table) and the memtable's flush are on disk together.
	if need := uint64(p.opts.MinFreeBytes) + 2*uint64(n); usage.AvailBytes < need {
		r.checked = time.Time{}
		return fmt.Errorf("%w: %s: %d MiB free, %d MiB needed: free space on its file system; "+
			"nothing committed is lost", ErrDiskFull, p.dir, usage.AvailBytes>>20, need>>20)
	}
	r.checked, r.written = now, 0
	return nil
}
