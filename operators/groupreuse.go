package operators

import "github.com/tailrace/tailrace/operators/aggregate"

// reusable keeps the parts of groups that are no longer needed for those that begin, so
// that groups which come and go, as windows do, leave nothing to the garbage collector.
// What is spent in a step is used from the next one on: until then the old value of a
// group may hold it.
type reusable[V, R any] struct {
	agg   aggregate.Aggregator[V, R]
	accs  reuse[aggregate.Accumulator[V, R]]
	lates reuse[*lateResult[R]]
}

// reuse is a pool of one kind of part.
type reuse[T any] struct{ free, spent []T }

// maxFree bounds how many parts wait to be used again.
const maxFree = 16 * chunkSize

func (r *reuse[T]) take() (t T, ok bool) {
	n := len(r.free)
	if n == 0 {
		return t, false
	}
	t = r.free[n-1]
	clear(r.free[n-1:])
	r.free = r.free[:n-1]
	return t, true
}

func (r *reuse[T]) spend(t T) { r.spent = append(r.spent, t) }

// endStep frees what was spent in the step.
func (r *reuse[T]) endStep() {
	if n := max(0, maxFree-len(r.free)); n < len(r.spent) {
		clear(r.spent[n:])
		r.spent = r.spent[:n]
	}
	r.free = append(r.free, r.spent...)
	r.spent = forget(r.spent)
}

// acc is the state of an empty group.
func (r *reusable[V, R]) acc() aggregate.Accumulator[V, R] {
	if acc, ok := r.accs.take(); ok {
		acc.Reset()
		return acc
	}
	return r.agg.New()
}

// late is a result that is known, of no value yet.
func (r *reusable[V, R]) late() *lateResult[R] {
	l, ok := r.lates.take()
	if !ok {
		l = new(lateResult[R])
	}
	*l = lateResult[R]{known: true}
	return l
}

// end takes the parts of a group that ends.
func (r *reusable[V, R]) end(g *group[V, R]) {
	if g.acc != nil {
		r.accs.spend(g.acc)
	}
	if g.late != nil {
		r.lates.spend(g.late)
	}
}

func (r *reusable[V, R]) endStep() {
	r.accs.endStep()
	r.lates.endStep()
}
