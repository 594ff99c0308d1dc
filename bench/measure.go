package main

import (
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"runtime/pprof"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// meter measures one stretch of one run, in this process.
type meter struct {
	start   time.Time
	cpu     time.Duration
	profile *profile
	heap    *heapProfile
}

// startMeter begins a stretch with an empty heap, so that what came before it is
// neither counted nor collected at its cost.
func (e *environment) startMeter() (*meter, error) {
	runtime.GC()
	debug.FreeOSMemory()
	resetPeakRSS()
	if err := e.profile.resume(); err != nil {
		return nil, err
	}
	return &meter{start: time.Now(), cpu: processCPU(), profile: e.profile, heap: startHeapProfile(e.heap)}, nil
}

// unprofiled is the environment of a stretch that the profile leaves out.
func (e *environment) unprofiled() *environment {
	other := *e
	other.profile, other.heap = &profile{}, ""
	return &other
}

// stop fills in what was used since the start.
func (m *meter) stop(into *result) {
	into.Wall = time.Since(m.start)
	into.CPU = processCPU() - m.cpu
	into.PeakRSS = peakRSS()
	m.profile.pause()
	m.heap.stop()
}

// processCPU is the CPU time of all threads of this process, in user and system mode.
func processCPU() time.Duration {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		return 0
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

// resetPeakRSS makes peakRSS forget what was before. Where the system can't do that,
// the peak is that of the process's life.
func resetPeakRSS() { _ = os.WriteFile("/proc/self/clear_refs", []byte("5"), 0) }

// peakRSS is in bytes; 0 where the system doesn't tell.
func peakRSS() int64 {
	text, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(text)) {
		if value, found := strings.CutPrefix(line, "VmHWM:"); found {
			kib, _ := strconv.ParseInt(strings.Fields(value)[0], 10, 64)
			return kib << 10
		}
	}
	return 0
}

// profile is one CPU profile over the measured stretch of the first run of a workload:
// a profile can't be interrupted and continued.
type profile struct {
	path string
	file *os.File
	done bool
}

func (p *profile) resume() error {
	if p.path == "" || p.done {
		return nil
	}
	file, err := os.Create(p.path)
	if err != nil {
		return fmt.Errorf("profile: %w", err)
	}
	p.file = file
	return pprof.StartCPUProfile(file)
}

func (p *profile) pause() {
	if p.file != nil && !p.done {
		pprof.StopCPUProfile()
		p.done = true
	}
}

func (p *profile) close() error {
	if p.file == nil {
		return nil
	}
	p.pause()
	return p.file.Close()
}

// pidCPU is the CPU time of another process so far; 0 where the system doesn't tell.
func pidCPU(pid uint32) time.Duration {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0
	}
	// The fields after "pid (name)": state is the first, utime the 12th, stime the 13th,
	// in ticks, of which Linux has 100 a second in every interface to programs.
	fields := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:]))
	if len(fields) < 13 {
		return 0
	}
	user, _ := strconv.ParseInt(fields[11], 10, 64)
	system, _ := strconv.ParseInt(fields[12], 10, 64)
	return time.Duration(user+system) * (time.Second / 100)
}
