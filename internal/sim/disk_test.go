package sim

import (
	"math/rand/v2"
	"slices"
	"strings"
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

// crash returns what a crash leaves: all that was synced, and so much of the rest. Pebble needs a
// disk that keeps the name of a synced file before one that was made later beside it, as those of
// Linux do; where that was left out by chance, everything is kept.
func (d *disk) crash(percent int, r *rand.Rand) *disk {
	d.mu.Lock()
	defer d.mu.Unlock()
	left := d.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: percent, RNG: r})
	if !inOrder(left, "/") {
		left = d.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: 100, RNG: r})
	}
	return &disk{MemFS: left}
}

// inOrder says whether all manifests are there that are named as current.
func inOrder(fs vfs.FS, dir string) bool {
	names, err := fs.List(dir)
	if err != nil {
		return true // a file
	}
	for _, name := range names {
		rest, named := strings.CutPrefix(name, "marker.manifest.")
		_, manifest, _ := strings.Cut(rest, ".")
		if named && !slices.Contains(names, manifest) || !inOrder(fs, fs.PathJoin(dir, name)) {
			return false
		}
	}
	return true
}
