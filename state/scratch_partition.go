package state

// partitionScratch is the part of a scratch space that one of several partitions has:
// their stores have the same ids, so that keys begin with the partition.
type partitionScratch struct {
	s      Scratch
	prefix []byte
}

func (p partitionScratch) key(key []byte) []byte {
	return append(append(make([]byte, 0, len(p.prefix)+len(key)), p.prefix...), key...)
}

func (p partitionScratch) bounds(lower, upper []byte) (from, to []byte) {
	if upper == nil {
		return p.key(lower), PrefixEnd(p.prefix)
	}
	return p.key(lower), p.key(upper)
}

func (p partitionScratch) Get(dst, key []byte) (value []byte, ok bool, err error) {
	return p.s.Get(dst, p.key(key))
}

func (p partitionScratch) Set(key, value []byte) error { return p.s.Set(p.key(key), value) }

func (p partitionScratch) DeleteRange(lower, upper []byte) error {
	return p.s.DeleteRange(p.bounds(lower, upper))
}

func (p partitionScratch) NewIter(lower, upper []byte) (Iter, error) {
	it, err := p.s.NewIter(p.bounds(lower, upper))
	if err != nil {
		return nil, err
	}
	return partitionIter{it, p}, nil
}

// Close does nothing: the space belongs to all partitions.
func (p partitionScratch) Close() error { return nil }

// partitionIter shows keys without the partition.
type partitionIter struct {
	Iter
	p partitionScratch
}

func (it partitionIter) Key() []byte            { return it.Iter.Key()[len(it.p.prefix):] }
func (it partitionIter) SeekGE(key []byte) bool { return it.Iter.SeekGE(it.p.key(key)) }
func (it partitionIter) SeekLT(key []byte) bool { return it.Iter.SeekLT(it.p.key(key)) }

// firstPartitionID is behind the ids of all stores.
const firstPartitionID = 0xffff0000
