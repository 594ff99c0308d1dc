package aggregate

// Map computes something from the result of an aggregator.
func Map[V, A, R any](a Aggregator[V, A], f func(A) R) Aggregator[V, R] {
	out := Aggregator[V, R]{
		slots: a.slots, remove: a.remove, merge: a.merge, schema: schemaOf("map", a.schema, typeName[R]()),
		problem: a.Err(),
	}
	if out.problem == nil {
		out.build = func(slot int) Accumulator[V, R] {
			return mapped[V, A, R]{Accumulator: a.build(slot), f: f}
		}
	}
	return given("Map", out, f)
}

// mapped is an accumulator but for its result.
type mapped[V, A, R any] struct {
	Accumulator[V, A]
	f func(A) R
}

func (m mapped[V, A, R]) Merge(other Accumulator[V, R]) error {
	return m.Accumulator.Merge(other.(mapped[V, A, R]).Accumulator)
}

func (m mapped[V, A, R]) Result(e *Entries) (r R, err error) {
	a, err := m.Accumulator.Result(e)
	if err != nil {
		return r, err
	}
	return m.f(a), nil
}
