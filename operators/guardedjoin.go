package operators

import "github.com/tailrace/tailrace/record"

// Joins as a policy sees them: see computed. They are walked as without one, but for each
// key by itself.

func (j *tableJoin[K, L, R, O]) touched(visit func(key K) error) error {
	var failed error
	err := j.left.Changes(func(chunk []record.Change[K, L]) bool {
		for i := range chunk {
			c := &chunk[i]
			if j.r, failed = j.right.At(c.Key); failed == nil {
				j.l = record.Versions[L]{Old: c.Old, New: c.New, Sides: c.Sides, Time: c.Time}
				j.at(c.Key)
				failed = visit(c.Key)
			}
			if failed != nil {
				return false
			}
		}
		return true
	})
	if err != nil || failed != nil {
		return firstError(err, failed)
	}
	err = j.right.Changes(func(chunk []record.Change[K, R]) bool {
		for i := range chunk {
			c := &chunk[i]
			if j.l, failed = j.left.At(c.Key); failed != nil {
				return false
			}
			if changed(&j.l, j.equalLeft) {
				continue // the left side has led here (invariant T2)
			}
			j.r = record.Versions[R]{Old: c.Old, New: c.New, Sides: c.Sides, Time: c.Time}
			j.at(c.Key)
			if failed = visit(c.Key); failed != nil {
				return false
			}
		}
		return true
	})
	return firstError(err, failed)
}

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

func (j *foreignKeyJoin[K, F, L, R, O]) touched(visit func(key K) error) error {
	var failed error
	err := j.left.Changes(func(chunk []record.Change[K, L]) bool {
		for i := range chunk {
			c := &chunk[i]
			j.l = record.Versions[L]{Old: c.Old, New: c.New, Sides: c.Sides, Time: c.Time}
			if j.r, failed = j.rightOf(c.Key); failed == nil {
				j.at(c.Key)
				failed = visit(c.Key)
			}
			if failed != nil {
				return false
			}
		}
		return true
	})
	if err != nil || failed != nil {
		return firstError(err, failed)
	}
	err = j.right.Changes(func(chunk []record.Change[F, R]) bool {
		for i := range chunk {
			c := &chunk[i]
			r := record.Versions[R]{Old: c.Old, New: c.New, Sides: c.Sides, Time: c.Time}
			if failed = j.touchedChildren(c.Key, &r, visit); failed != nil {
				return false
			}
		}
		return true
	})
	return firstError(err, failed)
}

// touchedChildren visits the left rows under a right row that changed, but for those
// that changed themselves.
func (j *foreignKeyJoin[K, F, L, R, O]) touchedChildren(
	f F, r *record.Versions[R], visit func(key K) error,
) error {
	j.find(f)
	for {
		found, err := j.nextChildren()
		if err != nil || !found {
			return err
		}
		for _, key := range j.children {
			if j.l, err = j.left.At(key); err != nil {
				return err
			}
			if changed(&j.l, j.equalLeft) {
				continue
			}
			j.r = *r // again for each row: who visits may look rows up here
			j.at(key)
			if err := visit(key); err != nil {
				return err
			}
		}
	}
}

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
