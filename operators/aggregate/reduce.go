package aggregate

import "errors"

// ReduceTable combines the values of a table's group; the first one stands for itself.
// remove takes a value out of a combination again: the two must undo each other, and
// the order of adding and removing must not matter. Old values are removed before new
// ones are added. For streams there is Reduce.
func ReduceTable[V any](combine, remove func(acc, v V) V) Aggregator[V, V] {
	type reduced struct {
		Value V
		Has   bool
	}
	f := Fold[V, reduced, V]{
		Result: func(s reduced) V { return s.Value },
	}
	if combine != nil {
		f.Add = func(s reduced, v V) reduced {
			if s.Has {
				v = combine(s.Value, v)
			}
			return reduced{Value: v, Has: true}
		}
	}
	if remove != nil {
		f.Remove = func(s reduced, v V) reduced { return reduced{Value: remove(s.Value, v), Has: true} }
	}
	a := Custom(f)
	if combine == nil {
		a.problem = errors.New("aggregate: ReduceTable needs a function that combines")
	}
	return a
}
