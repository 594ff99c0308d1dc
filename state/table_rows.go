package state

// What the tableCore asks of the keys and values.

func (t *Table[K, V]) count() int                 { return len(t.index) }
func (t *Table[K, V]) slots() uint32              { return t.slab.next }
func (t *Table[K, V]) at(slot uint32) *entryState { return &t.slab.at(slot).entryState }

func (t *Table[K, V]) appendKey(dst []byte, slot uint32) []byte {
	return t.keys.Append(dst, t.slab.at(slot).key)
}

func (t *Table[K, V]) appendValue(dst []byte, slot uint32) []byte {
	return t.vals.Append(dst, &t.slab.at(slot).value)
}

func (t *Table[K, V]) decodeValue(slot uint32, encoded []byte) error {
	return t.vals.Decode(encoded, &t.slab.at(slot).value)
}

func (t *Table[K, V]) appendOld(dst []byte, touch uint32) []byte {
	return t.vals.Append(dst, t.olds.at(int(touch)))
}

func (t *Table[K, V]) addOld(present bool, encoded []byte) error {
	var old V
	if present {
		if err := t.vals.Decode(encoded, &old); err != nil {
			return err
		}
	}
	t.olds.add(old)
	return nil
}

func (t *Table[K, V]) forgetOlds() { t.olds.reset() }

func (t *Table[K, V]) releaseOlds(keep *uint32) {
	olds := t.olds
	t.olds = chunks[V]{}
	if keep != nil {
		t.olds.add(*olds.at(int(*keep)))
	}
}

func (t *Table[K, V]) takeEdited() {
	e := t.slab.at(t.edited - 1)
	if t.moved != nil {
		e.value = t.moved.value
		t.moved = nil
	}
	t.edited = 0
	t.resize(e)
}

func (t *Table[K, V]) drop(slot uint32) {
	e := t.slab.at(slot)
	delete(t.index, e.key)
	*e = tableEntry[K, V]{}
	t.slab.give(slot)
}

// rebuild moves the entries that keep chooses, all touched ones among them, to a new
// cache in which there are no holes. It never changes a value in the old one, so
// pointers into it stay readable; where one was given out for editing, moved
// remembers it.
func (t *Table[K, V]) rebuild(keep func(slot uint32, e *entryState) bool) {
	old, index, edited := t.slab, t.index, t.edited
	t.slab = slab[tableEntry[K, V]]{}
	t.index = make(map[K]uint32, len(index)/4)
	t.emptied()
	for i := range old.next {
		from := old.at(i)
		if s, ok := index[from.key]; !ok || s != i || !keep(i, &from.entryState) {
			continue
		}
		s := t.slab.take()
		e := t.slab.at(s)
		*e = *from
		t.index[e.key] = s
		t.entered(&e.entryState, s)
		if edited == i+1 {
			t.edited = s + 1
			if t.moved == nil {
				t.moved = from
			}
		}
	}
}

func (t *Table[K, V]) releaseRows() {
	t.index, t.slab, t.olds = nil, slab[tableEntry[K, V]]{}, chunks[V]{}
}

func (t *Table[K, V]) decodeKey(key []byte) (K, error) {
	k, rest, err := t.keys.Decode(key[4:])
	if err == nil && len(rest) > 0 {
		err = errTrailing
	}
	if err != nil {
		return k, t.corrupt(key, err)
	}
	return k, nil
}

func (t *Table[K, V]) decodeSpare(key []byte, r *spilledRow) (_ *entryState, err error) {
	e := &t.spare
	*e = tableEntry[K, V]{entryState: r.state()}
	if e.key, err = t.decodeKey(key); err != nil {
		return nil, err
	}
	if e.flags&entryPresent != 0 {
		if err := t.vals.Decode(r.value(), &e.value); err != nil {
			return nil, t.corrupt(key, err)
		}
	}
	return &e.entryState, nil
}

func (t *Table[K, V]) appendSpare(dst []byte) []byte { return t.vals.Append(dst, &t.spare.value) }
