package main

import (
	"os"
	"runtime"
	"runtime/pprof"
	"time"
)

// heapProfile watches the heap of a stretch and writes a profile whenever it has grown
// well beyond the largest seen before.
type heapProfile struct {
	end, ended chan struct{}
}

// largestHeap is that of this process's life, in bytes.
var largestHeap uint64

func startHeapProfile(path string) *heapProfile {
	if path == "" {
		return nil
	}
	h := &heapProfile{end: make(chan struct{}), ended: make(chan struct{})}
	go func() {
		defer close(h.ended)
		tick := time.NewTicker(100 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-h.end:
				return
			case <-tick.C:
				writeLargerHeap(path)
			}
		}
	}()
	return h
}

func writeLargerHeap(path string) {
	var m runtime.MemStats
	if runtime.ReadMemStats(&m); m.HeapInuse < largestHeap+largestHeap/20 {
		return
	}
	largestHeap = m.HeapInuse
	file, err := os.Create(path)
	if err != nil {
		return // the figures don't depend on it
	}
	_ = pprof.Lookup("heap").WriteTo(file, 0)
	_ = file.Close()
}

func (h *heapProfile) stop() {
	if h != nil {
		close(h.end)
		<-h.ended
	}
}
