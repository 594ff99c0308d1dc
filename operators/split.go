package operators

import (
	"github.com/tailrace/tailrace/topology"
)

// Branch is one way out of a Split.
type Branch[K comparable, V any] struct {
	// Name is the key of the branch in the result.
	Name string
	// When selects the branch's records; nil selects all that no branch before it
	// took.
	When func(K, V) bool
}

// Split divides a stream: each record goes to the first branch whose When accepts
// it, and nowhere if none does. The result has a stream for each branch name. Under any
// other name, such as a misspelt one, a map holds the zero handle: what is given it panics
// and says where.
//
// Records keep their order; NULL, time and the rest are as for Filter; see Filter.
func Split[K comparable, V any](
	in topology.Stream[K, V], branches ...Branch[K, V],
) map[string]topology.Stream[K, V] {
	out := make(map[string]topology.Stream[K, V], len(branches))
	b := in.Builder()
	for i, br := range branches {
		if _, dup := out[br.Name]; dup || br.Name == "" {
			b.Errorf("topology: split: branch %d is named %q; every branch needs a name of its own", i+1, br.Name)
		}
		before := branches[:i]
		out[br.Name] = Filter(in, func(k K, v V) bool {
			for _, other := range before {
				if other.When == nil || other.When(k, v) {
					return false
				}
			}
			return br.When == nil || br.When(k, v)
		})
	}
	return out
}
