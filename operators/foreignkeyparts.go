package operators

import (
	"errors"

	"github.com/tailrace/tailrace/record"
	"github.com/tailrace/tailrace/state"
	"github.com/tailrace/tailrace/topology"
)

// Where the topology is cut, a foreign-key join runs in three parts:
//
//  1. where the left rows are: each subscribes under its foreign key (an exchange);
//  2. where the right rows are: they keep the index, and answer whoever subscribes, and
//     all subscribers when they change (an exchange back);
//  3. where the left rows are: the answers are kept, and joined with the rows.
//
// An answer says which foreign key it is about. One that is not the row's any more is
// stale and dropped: its row has subscribed elsewhere, and that answer comes, too. A
// row that leaves a foreign key does so silently. The index is the one of the join that
// runs whole, so that the answers can be made up from it (topology.Resumer).
//
// In one process a subscription is answered in its own step. Where the parts run on
// several members, the answer comes in a later one; until then a row that has come to a
// foreign key keeps the result that it had (foreignkeyanswers.go).

// foreignKeyParts is a foreign-key join that can run in parts.
type foreignKeyParts[K, F comparable, L, R, O any] struct {
	index, answers string // stores
	// references, if set, makes the store that counts who refers to each right row.
	references func(rt *topology.Runtime) *state.Table[F, int64]
	codecs     foreignKeyCodecs[K, F, L, O]
	fk         func(*L) (F, bool)
	join       joinFunc[L, R, O]
}

// answer is what a right row tells a left one that refers to it: there is a row, or not.
type answer[F comparable, R any] struct {
	About F
	Has   bool
	Row   R
}

// add returns the parts of the join; the last one gives its result.
func (p *foreignKeyParts[K, F, L, R, O]) add(left, right *topology.Node) []*topology.Node {
	subscribe := topology.TablePart[K, F](topology.Node{
		Inputs: []*topology.Node{left}, Needs: topology.Needs(1, topology.ByKey()),
		New: func(rt *topology.Runtime) (topology.Operator, error) {
			return &subscription[K, F, L]{
				cursor: newCursor[K](rt), in: topology.TableInput[K, L](rt, 0), fk: p.fk,
			}, nil
		},
	})
	stores := []topology.StoreSpec{{Name: p.index}}
	if p.references != nil {
		stores = append(stores, topology.StoreSpec{Name: referencesStore})
	}
	reply := topology.TablePart[K, answer[F, R]](topology.Node{
		Inputs: []*topology.Node{subscribe, right}, Stores: stores,
		Needs: []topology.Need{bySubscription[K, F](), topology.ByKey()}, Divided: topology.DividedOtherwise,
		New: func(rt *topology.Runtime) (topology.Operator, error) {
			a := &answers[K, F, R]{
				foreignKeys:   newForeignKeys(rt, p.index, p.codecs.key, p.codecs.fk),
				subscriptions: topology.TableInput[K, F](rt, 0), right: topology.TableInput[F, R](rt, 1),
				owns: topology.OwnerOf[F](rt),
			}
			if p.references != nil {
				a.references = p.references(rt)
			}
			return a, nil
		},
	})
	result := topology.TablePart[K, O](topology.Node{
		Inputs: []*topology.Node{left, reply}, Needs: topology.Needs(2, topology.ByKey()),
		Stores: []topology.StoreSpec{{Name: p.answers}},
		New: func(rt *topology.Runtime) (topology.Operator, error) {
			return newAnsweredJoin(rt, p)
		},
	})
	return []*topology.Node{subscribe, reply, result}
}

// bySubscription divides subscriptions by their foreign keys.
func bySubscription[K, F comparable]() topology.Need {
	return topology.TableBy(func(*topology.Runtime) func([]byte, K, *F) []byte {
		d, _ := topology.DividerOf[F]() // the codecs have been made
		return func(dst []byte, _ K, f *F) []byte { return d.Of(dst, *f) }
	})
}

// subscription is the table of the left rows' foreign keys, without those that are NULL.
type subscription[K, F comparable, L any] struct {
	changes[K, F]
	cursor[K]
	in topology.TableOutput[K, L]
	fk func(*L) (F, bool)
}

// Step does nothing: the foreign keys are computed when they are walked.
func (s *subscription[K, F, L]) Step(*topology.Step) error { return nil }

// Changes yields the rows that came to another foreign key.
func (s *subscription[K, F, L]) Changes(yield func([]record.Change[K, F]) bool) error {
	return s.in.Changes(func(chunk []record.Change[K, L]) bool {
		s.out = s.out[:0]
		for i := range chunk {
			c := &chunk[i]
			v := record.Versions[L]{Old: c.Old, New: c.New, Sides: c.Sides}
			f := s.of(c.Key, &v)
			if f.Sides == 0 || f.Sides == record.HasOld|record.HasNew && f.Old == f.New {
				continue
			}
			s.out = append(s.out, record.Change[K, F]{
				Key: c.Key, Old: f.Old, New: f.New, Sides: f.Sides, Time: c.Time,
			})
		}
		return len(s.out) == 0 || yield(s.out)
	})
}

func (s *subscription[K, F, L]) of(key K, l *record.Versions[L]) (f record.Versions[F]) {
	s.at(key)
	var ok bool
	if l.HasOld() {
		if f.Old, ok = s.fk(&l.Old); ok {
			f.Sides |= record.HasOld
		}
	}
	if l.HasNew() {
		if f.New, ok = s.fk(&l.New); ok {
			f.Sides |= record.HasNew
		}
	}
	return f
}

// At returns a row's foreign key.
func (s *subscription[K, F, L]) At(key K) (record.Versions[F], error) {
	v, err := s.in.At(key)
	if err != nil {
		return record.Versions[F]{}, err
	}
	f := s.of(key, &v)
	f.Time = v.Time
	return f, nil
}

// answers keeps who has subscribed to which right row, and answers.
type answers[K, F comparable, R any] struct {
	*foreignKeys[K, F]
	subscriptions topology.TableOutput[K, F]
	right         topology.TableOutput[F, R]
	owns          func(encoded []byte) bool // nil: all foreign keys are the partition's
	resuming      bool
	out           []record.Change[K, answer[F, R]]
}

// Step brings the index up to date: subscribers that have left hear no more.
func (a *answers[K, F, R]) Step(*topology.Step) error {
	return eachOf(a.subscriptions.Changes, func(c *record.Change[K, F]) error {
		return reindex(a.foreignKeys, c, isKey[F])
	})
}

func isKey[F comparable](f *F) (F, bool) { return *f, true }

// Resume answers all subscribers in the step's place.
func (a *answers[K, F, R]) Resume() error {
	a.resuming = true
	return nil
}

// EndStep forgets the step.
func (a *answers[K, F, R]) EndStep() {
	a.resuming = false
	a.out = forget(a.out)
	if a.references != nil {
		a.references.EndStep()
	}
}

// Changes yields an answer for each row that has subscribed in this step, or whose right
// row has changed: one for each.
func (a *answers[K, F, R]) Changes(yield func([]record.Change[K, answer[F, R]]) bool) error {
	if a.resuming {
		return a.all(yield)
	}
	var failed error
	more := true
	err := a.right.Changes(func(chunk []record.Change[F, R]) bool {
		for i := range chunk {
			c := &chunk[i]
			v := record.Versions[R]{New: c.New, Sides: c.Sides, Time: c.Time}
			if more, failed = a.toAll(c.Key, &v, yield); !more || failed != nil {
				return false
			}
		}
		return true
	})
	if err = firstError(err, failed); err != nil || !more {
		return err
	}
	err = a.subscriptions.Changes(func(chunk []record.Change[K, F]) bool {
		for i := range chunk {
			if chunk[i].HasNew() {
				if failed = a.reply(chunk[i].Key, chunk[i].New); failed != nil {
					return false
				}
			}
		}
		more = a.pass(yield, chunkSize)
		return more
	})
	if err = firstError(err, failed); err == nil && more {
		a.pass(yield, 0)
	}
	return err
}

// reply appends the answer to a row that subscribes. Rows whose right row has changed as
// well are answered twice, in the same words.
func (a *answers[K, F, R]) reply(key K, f F) error {
	v, err := a.right.At(f)
	if err == nil {
		a.append(key, f, &v)
	}
	return err
}

func (a *answers[K, F, R]) append(key K, f F, v *record.Versions[R]) {
	c := record.Change[K, answer[F, R]]{Key: key, Sides: record.HasNew, Time: v.Time}
	if c.New.About, c.New.Has = f, v.HasNew(); c.New.Has {
		c.New.Row = v.New
	}
	a.out = append(a.out, c)
}

// toAll answers all subscribers of a right row.
func (a *answers[K, F, R]) toAll(
	f F, v *record.Versions[R], yield func([]record.Change[K, answer[F, R]]) bool,
) (more bool, err error) {
	a.find(f)
	for {
		found, err := a.nextChildren()
		if err != nil || !found {
			return true, err
		}
		for _, key := range a.children {
			a.append(key, f, v)
		}
		if !a.pass(yield, chunkSize) {
			return false, nil
		}
	}
}

// pass yields what there is, if it is at least so much.
func (a *answers[K, F, R]) pass(yield func([]record.Change[K, answer[F, R]]) bool, least int) bool {
	if len(a.out) == 0 || len(a.out) < least {
		return true
	}
	more := yield(a.out)
	clear(a.out)
	a.out = a.out[:0]
	return more
}

// all answers everyone in the index.
func (a *answers[K, F, R]) all(yield func([]record.Change[K, answer[F, R]]) bool) error {
	var failed error
	err := a.index.ScanRange(nil, nil, false, func(key, _ []byte) bool {
		f, rest, err := a.fkCodec.Decode(key)
		if err != nil {
			failed = err
			return false
		}
		if a.owns != nil && !a.owns(key[:len(key)-len(rest)]) {
			return true
		}
		k, _, err := a.keyCodec.Decode(rest)
		if err == nil {
			err = a.reply(k, f)
		}
		failed = err
		return err == nil && a.pass(yield, chunkSize)
	})
	if err = firstError(err, failed); err == nil {
		a.pass(yield, 0)
	}
	return err
}

// At is not asked: answers are exchanged, and walked there.
func (a *answers[K, F, R]) At(K) (record.Versions[answer[F, R]], error) {
	return record.Versions[answer[F, R]]{}, errNotKept
}

var errNotKept = errors.New("operators: answers are exchanged, not looked up")
