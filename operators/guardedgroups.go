package operators

import (
	"bytes"
	"errors"

	"github.com/tailrace/tailrace/operators/aggregate"
	"github.com/tailrace/tailrace/record"
	"github.com/tailrace/tailrace/state"
	"github.com/tailrace/tailrace/topology"
)

// An aggregate with an error policy has two places where it parks. A row that the group
// function, or a fresh accumulator, cannot take is held back by a gate, and its group goes
// on with the row that was there. A group whose result fails goes on as well, and shows
// the result that it had.

// gatedInput is a groupInput that can hold rows back.
type gatedInput[V any] interface {
	// guard holds back rows that take panics on.
	guard(rt *topology.Runtime, take func(v *V)) error
	endStep()
}

func (t *tableGroups[K, V, G]) guard(rt *topology.Runtime, take func(v *V)) error {
	in, err := gate(rt, t.in, func(k K, v *V) {
		t.group(k, *v)
		take(v)
	})
	if err == nil && in != t.in {
		t.in, t.gate = in, in
	}
	return err
}

func (t *tableGroups[K, V, G]) endStep() {
	if t.gate != nil {
		t.gate.EndStep()
	}
}

// guard puts the aggregate under the error policy of its node, if that has one.
func (a *aggregation[G, V, R]) guard(rt *topology.Runtime, result state.Codec[R]) (err error) {
	in, ok := a.in.(gatedInput[V])
	if !ok || !a.node.TakesPolicy {
		return nil
	}
	a.result = result
	if a.parking, err = topology.NewParking(rt, ""); err != nil {
		return err
	}
	return in.guard(rt, func(v *V) {
		if err := a.parts.agg.New().Add(aggregate.NewEntries(nowhere{}), nil, v); err != nil {
			panic(err)
		}
	})
}

// nowhere is a place for the entries of a value that is only tried.
type nowhere struct{}

func (nowhere) Set(_, _ []byte) error { return nil }
func (nowhere) Delete([]byte) error   { return nil }

func (nowhere) ScanRange(_, _ []byte, _ bool, _ func(_, _ []byte) bool) error { return nil }

// retry touches the groups that are to be tried again.
func (a *aggregation[G, V, R]) retry(s *topology.Step) error {
	if a.parking == nil {
		return nil
	}
	if n := len(s.Txs); n > 0 {
		a.parking.Begin(s.Txs[n-1])
	}
	for _, encoded := range a.parking.Retries() {
		key, _, err := a.keyCodec.Decode([]byte(encoded))
		if err != nil {
			return err
		}
		v, err := a.table.At(key)
		if err == nil && v.HasNew() {
			_, err = a.edit(key, v.Time)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// settle computes a group's result, or parks the group with the one that it had.
func (a *aggregation[G, V, R]) settle(key G, g *group[V, R]) error {
	var r R
	err := a.parking.Call(func() (err error) {
		r, err = g.acc.Result(a.entries)
		return err
	})
	if err == nil {
		if g.late != nil {
			a.parts.lates.spend(g.late)
			g.late = a.parts.late()
		}
		*g.value(), g.bad, g.fresh = r, false, false
		return a.unpark(key)
	}
	// Of other errors the group may not be the cause, such as of a disk that fails.
	if a.entries == nil || errors.Is(err, aggregate.ErrOverflow) {
		err = userError(err)
	}
	var out []byte
	has := !g.fresh
	a.encoded = a.keyCodec.Append(a.encoded[:0], key)
	was, errWas := a.parking.Get(a.encoded)
	switch {
	case errWas != nil:
		return errWas
	case was != nil:
		out, has = bytes.Clone(was.Out), was.Has
	case has:
		out = a.result.Append(nil, g.value())
	}
	g.bad, g.fresh = true, false
	return a.parking.Park(a.encoded, out, has, topology.FailedInput{
		Key: key, Cause: err, JSON: func() (k, v []byte) { return inputJSON(&key), nil },
	})
}

func (a *aggregation[G, V, R]) unpark(key G) error {
	if a.parking == nil {
		return nil
	}
	a.encoded = a.keyCodec.Append(a.encoded[:0], key)
	return a.parking.Unpark(a.encoded, 0)
}

// freeze puts the results that a parked group shows into the last change, and takes that
// off again where they are the same.
func (a *aggregation[G, V, R]) freeze() error {
	c := &a.out[len(a.out)-1]
	err := a.frozen(c.Key, &c.Old, &c.New, &c.Sides)
	a.out = dropEqual(a.out, a.result.Equal)
	return err
}

// frozenAt is At where groups can be parked.
func (a *aggregation[G, V, R]) frozenAt(
	key G, v *record.Versions[group[V, R]],
) (out record.Versions[R], err error) {
	out.Old, out.New, out.Sides, out.Time = *v.Old.value(), *v.New.value(), v.Sides, v.Time
	err = a.frozen(key, &out.Old, &out.New, &out.Sides)
	return out, err
}

// frozen replaces results by those that a parked group shows.
func (a *aggregation[G, V, R]) frozen(key G, older, newer *R, sides *record.Sides) error {
	a.encoded = a.keyCodec.Append(a.encoded[:0], key)
	parked, err := a.parking.At(a.encoded)
	if err == nil && parked.HasOld() {
		*sides = with(*sides, record.HasOld, parked.Old.Has)
		err = a.thaw(&parked.Old, older)
	}
	if err == nil && parked.HasNew() {
		*sides = with(*sides, record.HasNew, parked.New.Has)
		err = a.thaw(&parked.New, newer)
	}
	return err
}

func (a *aggregation[G, V, R]) thaw(p *topology.Parked, r *R) error {
	var none R
	if *r = none; !p.Has {
		return nil
	}
	return a.result.Decode(p.Out, r)
}

func with(sides, side record.Sides, has bool) record.Sides {
	if has {
		return sides | side
	}
	return sides &^ side
}
