package sim

import (
	"math/rand/v2"
	"sync"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// disk is a member's disk.
type disk struct {
	*vfs.MemFS
	mu sync.Mutex // MemFS.Link and CrashClone lock each other out
}

func newDisk() *disk { return &disk{MemFS: vfs.NewCrashableMem()} }

// Link implements vfs.FS.
func (d *disk) Link(oldname, newname string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.MemFS.Link(oldname, newname)
}

// crash returns what a crash leaves: all that was synced, and so much of the rest.
func (d *disk) crash(percent int, r *rand.Rand) *disk {
	d.mu.Lock()
	defer d.mu.Unlock()
	return &disk{MemFS: d.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: percent, RNG: r})}
}
