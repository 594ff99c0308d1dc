package operators

import (
	"encoding/json"
	"errors"
	"fmt"

	"github.com/tailrace/tailrace/record"
	"github.com/tailrace/tailrace/serde"
	"github.com/tailrace/tailrace/topology"
)

// failed asks a node's error policy about a record that a user function failed on.
func failed[K comparable, V any](
	g *topology.Guard, n *topology.Node, r *record.Record[K, V], ctx record.Context, err error,
) error {
	if !errors.Is(err, topology.ErrUserFunction) {
		err = userError(err)
	}
	f := &topology.Failure{Node: n, Key: r.Key, Tx: r.Tag.Tx, Err: err}
	return g.Failed(f, r.Tag, ctx, func() (key, value []byte) { return inputJSON(&r.Key), inputJSON(&r.Value) })
}

// inputJSON is a value as JSON, in a string as Go prints it where its type has no JSON.
func inputJSON[T any](v *T) (out []byte) {
	defer func() {
		if recover() != nil { // a method of the type fails
			out = printed(v)
		}
	}()
	codec, err := serde.JSONOf[T]()
	if err != nil {
		return printed(v)
	}
	return codec.Append(nil, v, serde.JSONOptions{})
}

func printed[T any](v *T) []byte {
	text, err := json.Marshal(fmt.Sprintf("%+v", *v))
	if err != nil {
		return []byte(`"?"`)
	}
	return text
}
