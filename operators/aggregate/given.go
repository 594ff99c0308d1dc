package aggregate

import (
	"errors"
	"fmt"
	"reflect"
)

// given returns an aggregator that knows of it if one of the functions it was made with,
// by the constructor of the given name, is nil; Build then says so.
func given[V, R any](constructor string, a Aggregator[V, R], functions ...any) Aggregator[V, R] {
	for _, f := range functions {
		if reflect.ValueOf(f).IsNil() {
			a.problem = errors.Join(a.problem,
				fmt.Errorf("aggregate: %s was given nil as a function; give it one", constructor))
			break
		}
	}
	return a
}
