package state

import (
	"errors"
	"fmt"
	"runtime"
	"slices"
)

// Env is what the typed stores of one task share. The stores of one Env are used
// by one goroutine at a time.
type Env struct {
	// DB is the committed state.
	DB Reader
	// Memory bounds what all stores of the process keep decoded; nil means no
	// bound.
	Memory *Budget
	// Scratch opens the space that stores write to when an uncommitted epoch
	// outgrows Memory; nil means that they never do, so that such an epoch stays in
	// memory whatever its size. It is called once at most.
	Scratch func() (Scratch, error)

	scratch Scratch
	stores  []reliever
	// Of one partition of several; see Partition.
	whole     *Env
	partition uint32
	held      int // see Hold
	// patience is the use of the budget up to which it makes no sense to ask the
	// stores again, because last time they could not give enough.
	patience int64
	spilled  int64 // bytes that stores have moved to scratch space since the last collection
}

// Store is a typed store as a task sees it. Its writes stay in memory (or in
// scratch space) until Flush hands them to the epoch's batch.
type Store interface {
	// ID is the store's key prefix in the DB, four big-endian bytes.
	ID() uint32
	// EndStep forgets the old values of the step.
	EndStep()
	// Flush writes all changes since the last commit in ascending key order.
	Flush(b Batch) error
	// Committed says that the DB, as Env reads it, holds the flushed batch.
	Committed()
	// Rollback drops everything written since the last commit.
	Rollback()
}

// Partition returns an Env for the stores of one of several partitions, which have the
// same ids in each. It is part of e: used by the same goroutine, relieved with it and
// closed by it.
func (e *Env) Partition(i uint32) *Env {
	return &Env{DB: e.DB, Memory: e.Memory, whole: e, partition: i}
}

// all is the Env that this one is part of.
func (e *Env) all() *Env {
	if e.whole != nil {
		return e.whole
	}
	return e
}

// Hold keeps stores from being relieved until the function that it returns is called:
// while several of them are flushed side by side.
func (e *Env) Hold() (release func()) {
	all := e.all()
	all.held++
	return func() { all.held-- }
}

// Close lets go of what the stores hold: memory of the budget, iterators and the
// scratch space. The stores must not be used afterwards.
func (e *Env) Close() error {
	var errs []error
	for _, s := range e.stores {
		errs = append(errs, s.release())
	}
	e.stores = nil
	if e.scratch != nil {
		errs = append(errs, e.scratch.Close())
		e.scratch = nil
	}
	return errors.Join(errs...)
}

// reliever is a store that can give memory back between calls.
type reliever interface {
	Bytes() int64
	// relieve brings the store's memory down as far as it can. The value that its
	// last call returned stays valid.
	relieve() error
	// release gives everything back for good.
	release() error
}

// openScratch returns the scratch space, nil where there is none.
func (e *Env) openScratch() (Scratch, error) {
	if e.whole != nil {
		s, err := e.whole.openScratch()
		if e.scratch == nil && s != nil {
			e.scratch = partitionScratch{s, appendID(nil, firstPartitionID+e.partition)}
		}
		return e.scratch, err
	}
	if e.scratch == nil && e.Scratch != nil {
		s, err := e.Scratch()
		if err != nil {
			return nil, fmt.Errorf("state: open scratch space: %w", err)
		}
		e.scratch = s
	}
	return e.scratch, nil
}

// relieve asks stores for memory, the largest first, until the budget is met with
// some room to spare, or all have given what they can. In that case it waits until
// a good deal more is in use: asking costs time in proportion to what is kept.
func (e *Env) relieve() error {
	if e.whole != nil {
		return e.whole.relieve()
	}
	if e.held > 0 {
		return nil
	}
	if e.Memory.Used() < e.patience {
		return nil
	}
	e.patience = 0
	bySize := slices.Clone(e.stores)
	slices.SortStableFunc(bySize, func(a, b reliever) int {
		switch x, y := a.Bytes(), b.Bytes(); {
		case x > y:
			return -1
		case x < y:
			return 1
		}
		return 0
	})
	target := e.Memory.limit - e.Memory.limit/4
	for _, s := range bySize {
		if e.Memory.Used() <= target {
			break
		}
		if s.Bytes() < e.Memory.quantum() {
			break
		}
		if err := s.relieve(); err != nil {
			return err
		}
	}
	if used := e.Memory.Used(); used > target {
		e.patience = used + used/4
	}
	if e.spilled >= max(e.Memory.limit/4, collectBytes) {
		e.spilled = 0
		runtime.GC()
	}
	return nil
}

// collectBytes is the least that has to be spilled before the garbage collector is
// called: it would let as much garbage again come together as lived when it ran last,
// which may have been just before; now little is alive, so that it costs little.
const collectBytes = 16 << 20

// appendID appends a store's key prefix.
func appendID(dst []byte, id uint32) []byte {
	return append(dst, byte(id>>24), byte(id>>16), byte(id>>8), byte(id))
}

// idBounds returns the half-open key range of a store; the upper bound is nil
// after the last possible id.
func idBounds(id uint32) (lower, upper []byte) {
	lower = appendID(nil, id)
	if id != 1<<32-1 {
		upper = appendID(nil, id+1)
	}
	return lower, upper
}
