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
	return g.Failed(f, r.Tag, ctx, func(l *topology.Letter) {
		l.Key, l.Value, l.Time = inputJSON(&r.Key), inputJSON(&r.Value), r.Time
	})
}

// fromLetter is the record that was set aside.
func fromLetter[K comparable, V any](l *topology.Letter) (r record.Record[K, V], err error) {
	keys, errK := serde.JSONOf[K]()
	values, errV := serde.JSONOf[V]()
	if err := errors.Join(errK, errV); err != nil {
		return r, fmt.Errorf("operators: the record was kept as Go prints it, since its type has no JSON: %w", err)
	}
	r.Tag, r.Time = l.Tag, l.Time
	r.Key, errK = keys.Decode(l.Key)
	r.Value, errV = values.Decode(l.Value)
	return r, errors.Join(errK, errV)
}

// letterKey is what an input that was set aside is divided by: its key. Keys without an
// encoding are in one partition.
func letterKey[K comparable, V any](l *topology.Letter) ([]byte, error) {
	r, err := fromLetter[K, V](l)
	if err != nil {
		return nil, err
	}
	d, err := topology.DividerOf[K]()
	if err != nil {
		return nil, nil //nolint:nilerr // All of them are in one.
	}
	return d.Of(nil, r.Key), nil
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
