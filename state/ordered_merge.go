package state

import "bytes"

// run is one of the sorted inputs of a scan: the overlay (list is set), scratch
// space, or the DB.
type run struct {
	list    *skiplist
	node    uint32
	iter    Iter
	flagged bool // values begin with a byte that says whether the key is deleted
	own     bool // iter is for one scan
	ok      bool
	cur     []byte // the key it stands on
}

func (r *run) value() []byte {
	switch {
	case r.list != nil:
		return r.list.value(r.node)
	case r.flagged:
		return r.iter.Value()[1:]
	}
	return r.iter.Value()
}

func (r *run) deleted() bool {
	switch {
	case r.list != nil:
		return r.list.deleted(r.node)
	case r.flagged:
		return r.iter.Value()[0] == 1
	}
	return false
}

// stand takes note of the key after a move.
func (r *run) stand(ok bool) {
	switch r.ok = ok; {
	case !ok:
		r.cur = nil
	case r.list != nil:
		r.cur = r.list.key(r.node)
	default:
		r.cur = r.iter.Key()[4:]
	}
}

// seek moves to the first key at or after bound, or with reverse to the last one
// before it; buf is the bound with the store's prefix, and a nil bound is open.
func (r *run) seek(bound, buf []byte, reverse bool) {
	switch {
	case r.list != nil && reverse:
		r.node = r.list.last(bound)
		r.stand(r.node != 0)
	case r.list != nil:
		r.node = r.list.seek(bound)
		r.stand(r.node != 0)
	case reverse && bound == nil:
		r.stand(r.iter.Last())
	case reverse:
		r.stand(r.iter.SeekLT(buf))
	default:
		r.stand(r.iter.SeekGE(buf))
	}
}

func (r *run) step(reverse bool) {
	switch {
	case r.list != nil && reverse:
		r.node = r.list.nodes.at(int(r.node)).prev
		r.stand(r.node != 0)
	case r.list != nil:
		r.node = r.list.next(r.node, 0)
		r.stand(r.node != 0)
	case reverse:
		r.stand(r.iter.Prev())
	default:
		r.stand(r.iter.Next())
	}
}

// runs opens the inputs of a scan, the newest first.
func (o *Ordered) runs(withDB bool) (runs [3]run, err error) {
	if o.err != nil {
		return runs, o.err
	}
	runs[0].list = &o.overlay
	if o.spilled {
		if runs[1], err = o.iterRun(&o.scratch, o.env.scratch); err != nil {
			return runs, err
		}
		runs[1].flagged = true
	}
	if withDB {
		runs[2], err = o.iterRun(&o.db, o.env.DB)
	}
	return runs, err
}

// iterRun uses the kept iterator, or one of its own for a scan inside a scan.
func (o *Ordered) iterRun(kept *Iter, r Reader) (run, error) {
	if *kept != nil && o.walking == 0 {
		return run{iter: *kept}, nil
	}
	it, err := r.NewIter(idBounds(o.id))
	if err != nil {
		return run{}, err
	}
	if o.walking == 0 {
		*kept = it
	}
	return run{iter: it, own: o.walking > 0}, nil
}

// merge visits the keys of all runs between the bounds, each once, as the newest
// run has it.
func (o *Ordered) merge(
	runs [3]run, lower, upper []byte, reverse bool, fn func(key, value []byte, deleted bool) bool,
) error {
	o.walking++
	defer func() { o.walking-- }()
	from, dir := lower, -1
	if reverse {
		from, dir = upper, 1
	}
	o.buf = append(appendID(o.buf[:0], o.id), from...)
	for i := range runs {
		if runs[i].list != nil || runs[i].iter != nil {
			runs[i].seek(from, o.buf, reverse)
		}
	}
	for {
		best := -1
		for i := range runs {
			if runs[i].ok && (best < 0 || bytes.Compare(runs[i].cur, runs[best].cur)*dir > 0) {
				best = i
			}
		}
		if best < 0 || beyond(runs[best].cur, lower, upper, reverse) {
			break
		}
		at := &runs[best]
		if !fn(at.cur, at.value(), at.deleted()) {
			break
		}
		for i := best + 1; i < len(runs); i++ {
			if runs[i].ok && bytes.Equal(runs[i].cur, at.cur) {
				runs[i].step(reverse)
			}
		}
		at.step(reverse)
	}
	var err error
	for i := range runs {
		if runs[i].iter == nil {
			continue
		}
		if e := runs[i].iter.Error(); err == nil {
			err = e
		}
		if runs[i].own {
			if e := runs[i].iter.Close(); err == nil {
				err = e
			}
		}
	}
	return err
}

func beyond(key, lower, upper []byte, reverse bool) bool {
	if reverse {
		return bytes.Compare(key, lower) < 0
	}
	return upper != nil && bytes.Compare(key, upper) >= 0
}
