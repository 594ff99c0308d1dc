package operators

import "github.com/tailrace/tailrace/record"

// Joins as a policy sees them: see computed.

func (j *tableJoin[K, L, R, O]) load(key K) (err error) {
	if j.l, err = j.left.At(key); err == nil {
		j.r, err = j.right.At(key)
	}
	j.at(key)
	return err
}

func (j *tableJoin[K, L, R, O]) eval(newer bool, o *O) bool {
	if newer {
		return j.join(&j.l.New, j.l.HasNew(), &j.r.New, j.r.HasNew(), o)
	}
	return j.join(&j.l.Old, j.l.HasOld(), &j.r.Old, j.r.HasOld(), o)
}

func (j *tableJoin[K, L, R, O]) changedAt() int64 { return lastTime(&j.l, &j.r) }
func (j *tableJoin[K, L, R, O]) input() []byte    { return sidesJSON(&j.l, &j.r) }

func (j *foreignKeyJoin[K, F, L, R, O]) load(key K) (err error) {
	if j.l, err = j.left.At(key); err == nil {
		j.r, err = j.rightOf(key)
	}
	j.at(key)
	return err
}

func (j *foreignKeyJoin[K, F, L, R, O]) eval(newer bool, o *O) bool {
	if newer {
		return j.join(&j.l.New, j.l.HasNew(), &j.r.New, j.r.HasNew(), o)
	}
	return j.join(&j.l.Old, j.l.HasOld(), &j.r.Old, j.r.HasOld(), o)
}

func (j *foreignKeyJoin[K, F, L, R, O]) changedAt() int64 { return lastTime(&j.l, &j.r) }
func (j *foreignKeyJoin[K, F, L, R, O]) input() []byte    { return sidesJSON(&j.l, &j.r) }

// sidesJSON is what a joiner was given.
func sidesJSON[L, R any](l *record.Versions[L], r *record.Versions[R]) []byte {
	out := []byte(`{"left":`)
	if l.HasNew() {
		out = append(out, inputJSON(&l.New)...)
	} else {
		out = append(out, "null"...)
	}
	out = append(out, `,"right":`...)
	if r.HasNew() {
		out = append(out, inputJSON(&r.New)...)
	} else {
		out = append(out, "null"...)
	}
	return append(out, '}')
}
