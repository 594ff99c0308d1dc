package operators

import (
	"encoding/binary"
	"fmt"

	"github.com/tailrace/tailrace/operators/aggregate"
	"github.com/tailrace/tailrace/state"
)

// group is what is stored for a group: its number of rows, which decides when it
// ends, and the aggregator's state. The result is a function of these (and of the
// group's entries) and is kept beside them in memory once it is known.
type group[V, R any] struct {
	rows   int64
	acc    aggregate.Accumulator[V, R]
	result R
	ready  bool // result is that of rows and acc as they were at the step's start, or are now
}

// groupCodec stores groups without their results. Within a step it adds them: a
// group that is encoded then is spilled for want of memory, and its old result
// could not be found again once the entries have changed.
func groupCodec[V, R any](
	agg aggregate.Aggregator[V, R], result state.Codec[R], inStep *bool,
) state.Codec[group[V, R]] {
	return state.Codec[group[V, R]]{
		Fingerprint: agg.Schema(),
		Append: func(dst []byte, g *group[V, R]) []byte {
			flags := byte(0)
			if *inStep && g.ready {
				flags = 1
			}
			dst = append(dst, flags)
			dst = binary.AppendVarint(dst, g.rows)
			at := len(dst)
			dst = append(dst, 0, 0, 0, 0)
			if g.acc != nil {
				dst = g.acc.AppendState(dst)
			}
			binary.BigEndian.PutUint32(dst[at:], uint32(len(dst)-at-4))
			if flags == 1 {
				dst = result.Append(dst, &g.result)
			}
			return dst
		},
		Decode: func(src []byte, g *group[V, R]) error {
			return decodeGroup(src, g, agg, result)
		},
		Equal: func(a, b *group[V, R]) bool { return result.Equal(&a.result, &b.result) },
	}
}

func decodeGroup[V, R any](
	src []byte, g *group[V, R], agg aggregate.Aggregator[V, R], result state.Codec[R],
) error {
	if len(src) < 1 {
		return fmt.Errorf("%w: empty group", state.ErrCorrupt)
	}
	flags := src[0]
	rows, n := binary.Varint(src[1:])
	if n <= 0 || len(src) < 1+n+4 {
		return fmt.Errorf("%w: group of %d bytes", state.ErrCorrupt, len(src))
	}
	src = src[1+n:]
	size := int(binary.BigEndian.Uint32(src))
	if src = src[4:]; size > len(src) {
		return fmt.Errorf("%w: group state of %d bytes, %d there", state.ErrCorrupt, size, len(src))
	}
	*g = group[V, R]{rows: rows, acc: agg.New()}
	if err := g.acc.DecodeState(src[:size]); err != nil {
		return fmt.Errorf("%w: %w", state.ErrCorrupt, err)
	}
	var err error
	switch {
	case flags == 1:
		g.ready = true
		err = result.Decode(src[size:], &g.result)
	case !agg.UsesEntries():
		g.ready = true
		g.result, err = g.acc.Result(nil)
	}
	return err
}
