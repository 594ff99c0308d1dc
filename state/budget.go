package state

import (
	"math"
	"sync/atomic"
)

// Budget is a bound on the memory that stores take for decoded and uncommitted
// data. It is shared by all tasks of a process and safe for concurrent use. Stores
// first let go of what they can read again, then write uncommitted data to scratch
// space; what a single call needs may exceed the bound for a moment.
type Budget struct {
	limit int64
	used  atomic.Int64
}

// NewBudget returns a budget of so many bytes; 0 or less means no bound.
func NewBudget(limit int64) *Budget { return &Budget{limit: limit} }

// Used is the number of bytes in use.
func (b *Budget) Used() int64 {
	if b == nil {
		return 0
	}
	return b.used.Load()
}

// Limit is the bound in bytes, 0 for none.
func (b *Budget) Limit() int64 {
	if b == nil || b.limit < 0 {
		return 0
	}
	return b.limit
}

// quantum is how much a store may change before it tells the budget.
func (b *Budget) quantum() int64 {
	if b.Limit() == 0 {
		return math.MaxInt64
	}
	return max(min(b.limit/64, 256<<10), 1)
}

// account is what one store takes of the budget, told in steps of a quantum.
type account struct {
	budget  *Budget
	quantum int64
	bytes   int64 // in use
	told    int64 // of which the budget knows
}

func newAccount(b *Budget) account { return account{budget: b, quantum: b.quantum()} }

// add changes what is in use and reports whether it is time to call settle.
func (a *account) add(n int64) (due bool) {
	a.bytes += n
	return a.due()
}

func (a *account) due() bool {
	d := a.bytes - a.told
	return d >= a.quantum || -d >= a.quantum
}

// settle tells the budget, and reports whether it is exceeded.
func (a *account) settle() (exceeded bool) {
	if a.budget.Limit() == 0 {
		return false
	}
	used := a.budget.used.Add(a.bytes - a.told)
	a.told = a.bytes
	return used > a.budget.limit
}
