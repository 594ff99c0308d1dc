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
	// late is set for aggregators with entries, and holds the result instead: a
	// group that was loaded computes it only when a step touches it. Being a pointer
	// it also reaches the copy of the group that the table keeps as the old value.
	late *lateResult[R]
	// shown says that the window has closed and its result is out, where results come
	// out on close.
	shown bool
	// bad says that the result could not be computed, so that what is there is none: the
	// group is parked.
	bad bool
	// fresh says that the group has begun in this step.
	fresh bool
}

type lateResult[R any] struct {
	result R
	known  bool
}

// value is the group's result, which has to be known.
func (g *group[V, R]) value() *R {
	if g.late != nil {
		return &g.late.result
	}
	return &g.result
}

// know computes the result of a group whose entries have not changed since it was
// loaded. That is not a change: the result is derived.
func (g *group[V, R]) know(e *aggregate.Entries) error {
	if g.late == nil || g.late.known || g.bad {
		return nil
	}
	r, err := g.acc.Result(e)
	if err == nil {
		*g.late = lateResult[R]{result: r, known: true}
	}
	return err
}

// What the first byte of a stored group says.
const (
	groupResult byte = 1 << iota // the result follows
	groupShown
	groupBad
	groupFresh
)

// groupBytes is what a group's accumulators take in memory, roughly.
const groupBytes = 128

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
			if *inStep && (g.late == nil || g.late.known) {
				flags |= groupResult
			}
			if g.shown {
				flags |= groupShown
			}
			if g.bad {
				flags |= groupBad
			}
			if g.fresh {
				flags |= groupFresh
			}
			dst = append(dst, flags)
			dst = binary.AppendVarint(dst, g.rows)
			at := len(dst)
			dst = append(dst, 0, 0, 0, 0)
			if g.acc != nil {
				dst = g.acc.AppendState(dst)
			}
			binary.BigEndian.PutUint32(dst[at:], uint32(len(dst)-at-4))
			if flags&groupResult != 0 {
				dst = result.Append(dst, g.value())
			}
			return dst
		},
		Decode: func(src []byte, g *group[V, R]) error {
			return decodeGroup(src, g, agg, result)
		},
		Equal: func(a, b *group[V, R]) bool {
			return a.shown == b.shown && a.bad == b.bad && (a.bad || result.Equal(a.value(), b.value()))
		},
		Size: func(g *group[V, R]) int {
			size := groupBytes
			if result.Size != nil {
				size += result.Size(g.value())
			}
			return size
		},
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
	*g = group[V, R]{rows: rows, acc: agg.New(), shown: flags&groupShown != 0}
	g.bad, g.fresh = flags&groupBad != 0, flags&groupFresh != 0
	if err := g.acc.DecodeState(src[:size]); err != nil {
		return fmt.Errorf("%w: %w", state.ErrCorrupt, err)
	}
	if agg.UsesEntries() {
		g.late = &lateResult[R]{known: flags&groupResult != 0}
	}
	var err error
	switch {
	case flags&groupResult != 0:
		err = result.Decode(src[size:], g.value())
	case g.late == nil && !g.bad:
		g.result, err = g.acc.Result(nil)
	}
	return err
}
