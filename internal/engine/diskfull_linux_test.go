package engine

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"github.com/tailrace/tailrace/internal/await"
	"github.com/tailrace/tailrace/sinks"
	"github.com/tailrace/tailrace/sources"
	"github.com/tailrace/tailrace/state"
	"github.com/tailrace/tailrace/topology"
)

// smallDisk is a file system of its own that can be filled.
type smallDisk struct {
	path string
	// leave fills it but for about so many bytes, room empties it again.
	leave func(bytes int64)
	room  func()
	fs    vfs.FS // nil: the system's own
}

// newSmallDisk mounts one in memory. Where that is not allowed a file system that refuses
// to write stands for it, which is said.
func newSmallDisk(t *testing.T) *smallDisk {
	d := &smallDisk{path: t.TempDir()}
	err := syscall.Mount("tmpfs", d.path, "tmpfs", 0, "size=512m")
	if err != nil {
		t.Logf("no file system can be mounted (%v): one that gives ENOSPC on request stands for it", err)
		d.refuseWrites()
		return d
	}
	t.Cleanup(func() {
		// A database that failed keeps its files open.
		if err := syscall.Unmount(d.path, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	ballast := filepath.Join(d.path, "ballast")
	d.leave = func(bytes int64) {
		var fs syscall.Statfs_t
		if err := syscall.Statfs(d.path, &fs); err != nil {
			t.Fatal(err)
		}
		f, err := os.Create(ballast)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if err := syscall.Fallocate(int(f.Fd()), 0, 0, int64(fs.Bavail)*fs.Bsize-bytes); err != nil {
			t.Fatal(err)
		}
	}
	d.room = func() {
		if err := os.Remove(ballast); err != nil {
			t.Fatal(err)
		}
	}
	return d
}

func (d *smallDisk) refuseWrites() {
	var left atomic.Int64 // writes, which are taken for a page each
	const plenty = 1 << 40
	left.Store(plenty)
	d.leave = func(bytes int64) { left.Store(bytes >> 12) }
	d.room = func() { left.Store(plenty) }
	d.fs = errorfs.Wrap(vfs.Default, errorfs.InjectorFunc(func(op errorfs.Op) error {
		switch op.Kind {
		case errorfs.OpFileWrite, errorfs.OpFileWriteAt, errorfs.OpFilePreallocate, errorfs.OpCreate:
			if left.Add(-1) < 0 {
				return &os.PathError{Op: "write", Path: op.Path, Err: syscall.ENOSPC}
			}
		}
		return nil
	}))
}

// TestDiskFull fills the file system of the state directory, with nothing left at once and
// by what waits for a target that is down. The engine ends with the error that says so,
// the source keeps what is not durable, and after room was made nothing is lost and
// nothing comes twice.
func TestDiskFull(t *testing.T) {
	for name, left := range map[string]int64{"state": 0, "queue": 4 << 20} {
		t.Run(name, func(t *testing.T) {
			disk := newSmallDisk(t)
			b := newBench(t, func(b *topology.Builder, db *sources.Database, out *sinks.Target) {
				sinks.Table(sources.Table[int64, item](b, db, "public.items", sources.As[item]("rows")), out, "rows")
				sinks.Stream(sources.Stream[int64, item](b, db, "public.items"), out, "events")
			})
			b.path = filepath.Join(disk.path, "state")
			// Nothing is looked up beforehand: it is the file system that refuses.
			b.options = state.Options{MinFreeBytes: -1, FS: disk.fs}
			b.source.pad = 32 << 10
			b.limits.QueueBytes = 1 << 30
			b.source.tx(true)
			b.source.tx(false, 1)
			if err := b.run(func(*Engine) { wait(t, b.target.taken); wait(t, b.target.taken) }); err != nil {
				t.Fatal(err)
			}
			b.target.refuse = func() error { return errDown }
			b.full = true
			const most = 400
			if err := b.run(func(e *Engine) {
				disk.leave(left)
				for key := 2; key <= most; key++ {
					b.source.tx(false, key)
				}
				await.That(t, "its end", func() bool { return e.Status().Stopped })
			}); !errors.Is(err, state.ErrDiskFull) {
				t.Fatalf("the engine ended with %v", err)
			}
			if at := b.source.durable(); at > 32 {
				t.Errorf("the source forgets up to %d, and events from 48 on are not delivered", at)
			}
			disk.room()
			// A database that failed is held until its process ends: the next one finds its files.
			was := b.path
			b.path = filepath.Join(disk.path, "again")
			if err := os.CopyFS(b.path, os.DirFS(was)); err != nil {
				t.Fatal(err)
			}
			b.full, b.target.refuse, b.target.taken = false, nil, make(chan deliveredItem, 2*most)
			if err := b.run(func(*Engine) {
				for rows, events := 2, 2; rows <= most || events <= most; {
					d := wait(t, b.target.taken)
					next, got := &rows, d.columns
					if d.event.ID != "" {
						next, got = &events, []string{string(d.event.Key)}
					}
					if got[0] != fmt.Sprint(*next) {
						t.Fatalf("%v came, want %d", got[0], *next)
					}
					*next++
				}
				if len(b.target.taken) > 0 {
					t.Errorf("%v came too", wait(t, b.target.taken))
				}
			}); err != nil {
				t.Fatal(err)
			}
		})
	}
}
