package aggregate

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// Combine2 computes two aggregates of the same group and joins their results.
func Combine2[V, A, B, R any](a Aggregator[V, A], b Aggregator[V, B], join func(A, B) R) Aggregator[V, R] {
	out := Aggregator[V, R]{
		slots:   a.slots + b.slots,
		remove:  a.remove && b.remove,
		merge:   a.merge && b.merge,
		schema:  schemaOf("combine(", a.schema, b.schema, ")"),
		problem: errors.Join(a.Err(), b.Err()),
	}
	if out.problem == nil {
		out.build = func(slot int) Accumulator[V, R] {
			return &pair[V, A, B, R]{a: a.build(slot), b: b.build(slot + a.slots), join: join}
		}
	}
	return given("Combine2", out, join)
}

// Combine3 computes three aggregates of the same group and joins their results; see
// Combine2.
func Combine3[V, A, B, C, R any](
	a Aggregator[V, A], b Aggregator[V, B], c Aggregator[V, C], join func(A, B, C) R,
) Aggregator[V, R] {
	type ab struct {
		a A
		b B
	}
	return given("Combine3", Combine2(Combine2(a, b, func(a A, b B) ab { return ab{a, b} }), c,
		func(x ab, c C) R { return join(x.a, x.b, c) }), join)
}

// Combine4 computes four aggregates of the same group and joins their results; see
// Combine2.
func Combine4[V, A, B, C, D, R any](
	a Aggregator[V, A], b Aggregator[V, B], c Aggregator[V, C], d Aggregator[V, D],
	join func(A, B, C, D) R,
) Aggregator[V, R] {
	type abc struct {
		a A
		b B
		c C
	}
	return given("Combine4", Combine2(Combine3(a, b, c, func(a A, b B, c C) abc { return abc{a, b, c} }), d,
		func(x abc, d D) R { return join(x.a, x.b, x.c, d) }), join)
}

type pair[V, A, B, R any] struct {
	a    Accumulator[V, A]
	b    Accumulator[V, B]
	join func(A, B) R
}

func (p *pair[V, A, B, R]) Add(e *Entries, id []byte, v *V) error {
	if err := p.a.Add(e, id, v); err != nil {
		return err
	}
	return p.b.Add(e, id, v)
}

func (p *pair[V, A, B, R]) Remove(e *Entries, id []byte, v *V) error {
	if err := p.a.Remove(e, id, v); err != nil {
		return err
	}
	return p.b.Remove(e, id, v)
}

func (p *pair[V, A, B, R]) Merge(other Accumulator[V, R]) error {
	o := other.(*pair[V, A, B, R])
	if err := p.a.Merge(o.a); err != nil {
		return err
	}
	return p.b.Merge(o.b)
}

func (p *pair[V, A, B, R]) Result(e *Entries) (R, error) {
	a, errA := p.a.Result(e)
	b, errB := p.b.Result(e)
	if err := errors.Join(errA, errB); err != nil {
		var none R
		return none, err
	}
	return p.join(a, b), nil
}

func (p *pair[V, A, B, R]) Clear(e *Entries) error {
	return errors.Join(p.a.Clear(e), p.b.Clear(e))
}

func (p *pair[V, A, B, R]) Reset() {
	p.a.Reset()
	p.b.Reset()
}

func (p *pair[V, A, B, R]) AppendState(dst []byte) []byte {
	at := len(dst)
	dst = p.a.AppendState(append(dst, 0, 0, 0, 0))
	binary.BigEndian.PutUint32(dst[at:], uint32(len(dst)-at-4))
	return p.b.AppendState(dst)
}

func (p *pair[V, A, B, R]) DecodeState(src []byte) error {
	if len(src) < 4 {
		return fmt.Errorf("aggregate: combination of %d bytes", len(src))
	}
	n := binary.BigEndian.Uint32(src)
	if src = src[4:]; uint64(n) > uint64(len(src)) {
		return fmt.Errorf("aggregate: combination of %d bytes, first part %d", len(src), n)
	}
	if err := p.a.DecodeState(src[:n]); err != nil {
		return err
	}
	return p.b.DecodeState(src[n:])
}
