package state_test

import (
	"testing"

	"github.com/tailrace/tailrace/state"
)

// Plans are handed pointers to keys on the stack. Wherever a stack grows on the way
// there or in them, and so moves, the key that they read or write has to be the one
// that moved along. The race detector adds calls, at which stacks grow as well.
func TestKeysMoveWithTheirStack(t *testing.T) {
	type key struct {
		A, B int64
	}
	codec, err := state.KeyCodecOf[key]()
	must(t, err)
	var encode func(depth int, k key) (again [2]key, err error)
	encode = func(depth int, k key) (again [2]key, err error) {
		if depth > 0 {
			return encode(depth-1, k)
		}
		fields := codec.AppendFields(nil, k, 2)
		whole := codec.Append(nil, k)
		again[0], _, err = codec.Decode(fields)
		if err == nil {
			again[1], _, err = codec.Decode(whole)
		}
		return again, err
	}
	type result struct {
		keys [2]key
		err  error
	}
	results := make(chan result)
	const depths = 2000
	for depth := range depths {
		go func() { // a new stack, small
			k, err := encode(depth, key{int64(depth), -1})
			results <- result{k, err}
		}()
		r := <-results
		want := key{int64(depth), -1}
		if r.keys != [2]key{want, want} || r.err != nil {
			t.Fatalf("at depth %d: %v, %v; want %v", depth, r.keys, r.err, want)
		}
	}
}
