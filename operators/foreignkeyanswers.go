package operators

import (
	"github.com/tailrace/tailrace/record"
	"github.com/tailrace/tailrace/state"
	"github.com/tailrace/tailrace/topology"
)

// partner is what the left side of a foreign-key join in parts knows of the right row
// that a left row refers to: the last answer that held. While the row waits for the
// answer about another foreign key, it is the result from before, if there was one, that
// stands instead.
type partner[F comparable, R, O any] struct {
	About   F
	Has     bool
	Row     R
	Waiting bool
	Held    *O
}

// answeredJoin joins the left rows with the right rows that they refer to, as the answers
// say.
type answeredJoin[K, F comparable, L, R, O any] struct {
	changes[K, O]
	cursor[K]
	// partners are under the keys of left rows that refer to something.
	partners  *state.Table[K, partner[F, R, O]]
	left      topology.TableOutput[K, L]
	replies   topology.TableOutput[K, answer[F, R]]
	fk        func(*L) (F, bool)
	join      joinFunc[L, R, O]
	equalLeft func(a, b *L) bool
	equalOut  func(a, b *O) bool

	// The values at work; see tableJoin.
	l record.Versions[L]
	p record.Versions[partner[F, R, O]]
	o record.Versions[O]
}

func newAnsweredJoin[K, F comparable, L, R, O any](
	rt *topology.Runtime, p *foreignKeyParts[K, F, L, R, O],
) (topology.Operator, error) {
	codec, err := state.CodecOf[partner[F, R, O]]()
	if err != nil {
		return nil, err
	}
	j := &answeredJoin[K, F, L, R, O]{
		cursor:   newCursor[K](rt),
		partners: state.NewTable(rt.Env, rt.StoreIDFor(p.answers), p.codecs.key, codec),
		left:     topology.TableInput[K, L](rt, 0), replies: topology.TableInput[K, answer[F, R]](rt, 1),
		fk: p.fk, join: p.join, equalLeft: p.codecs.equalLeft, equalOut: p.codecs.equalOut,
	}
	j.partners.Own(topology.OwnerOf[K](rt))
	rt.Register(j.partners)
	j.keep = fanOut(rt)
	return j, nil
}

// Step forgets the partners of rows that refer to nothing any more, takes the answers,
// and lets rows wait that have come to a foreign key without one.
func (j *answeredJoin[K, F, L, R, O]) Step(*topology.Step) error {
	if err := j.eachLeft(j.leave); err != nil {
		return err
	}
	if err := j.take(); err != nil {
		return err
	}
	return j.eachLeft(j.wait)
}

func (j *answeredJoin[K, F, L, R, O]) eachLeft(fn func(c *record.Change[K, L]) error) error {
	return eachOf(j.left.Changes, func(c *record.Change[K, L]) error {
		j.at(c.Key)
		return fn(c)
	})
}

func (j *answeredJoin[K, F, L, R, O]) leave(c *record.Change[K, L]) error {
	if c.HasNew() {
		if _, refers := j.fk(&c.New); refers {
			return nil
		}
	}
	return j.partners.Delete(c.Key, c.Time)
}

// take keeps the answers that hold.
func (j *answeredJoin[K, F, L, R, O]) take() error {
	return eachOf(j.replies.Changes, j.answer)
}

// answer keeps an answer, unless it is stale: about a foreign key that is not the row's
// (invariant X6).
func (j *answeredJoin[K, F, L, R, O]) answer(c *record.Change[K, answer[F, R]]) (err error) {
	if j.l, err = j.left.At(c.Key); err != nil || !j.l.HasNew() {
		return err
	}
	j.at(c.Key)
	f, refers := j.fk(&j.l.New)
	if !refers || f != c.New.About {
		return nil
	}
	time := c.Time
	if !c.New.Has {
		// The row that was left behind says nothing of the result.
		if j.p, err = j.partners.At(c.Key); err != nil {
			return err
		}
		if !j.p.HasOld() || j.p.Old.Waiting || j.p.Old.About != f {
			time = j.l.Time
		}
	}
	p := partner[F, R, O]{About: f, Has: c.New.Has, Row: c.New.Row}
	return j.partners.Put(c.Key, p, time)
}

// wait holds the result of a row that has come to a foreign key and has no answer about
// it. A row that waits already, and comes back to the foreign key that it knows of, goes
// on waiting: it had unsubscribed, and what it knows may be of old.
func (j *answeredJoin[K, F, L, R, O]) wait(c *record.Change[K, L]) (err error) {
	if !c.HasNew() {
		return nil
	}
	f, refers := j.fk(&c.New)
	if !refers {
		return nil
	}
	if j.p, err = j.partners.At(c.Key); err != nil {
		return err
	}
	if j.p.HasNew() && (j.p.New.Waiting || j.p.New.About == f) {
		return nil
	}
	waiting := partner[F, R, O]{Waiting: true}
	j.l = record.Versions[L]{Old: c.Old, Sides: c.Sides & record.HasOld}
	j.at(c.Key)
	if j.result(); j.o.HasOld() {
		held := j.o.Old
		waiting.Held = &held
	}
	return j.partners.Put(c.Key, waiting, c.Time)
}

// result computes the result of a left row and its partner, which are at hand: old with
// old and new with new (invariant T3).
func (j *answeredJoin[K, F, L, R, O]) result() {
	j.o = record.Versions[O]{Time: j.l.Time}
	if hasPartner(&j.p) {
		j.o.Time = lastTime(&j.l, &j.p)
	}
	if j.side(&j.l.Old, j.l.HasOld(), &j.p.Old, &j.o.Old) {
		j.o.Sides |= record.HasOld
	}
	if j.side(&j.l.New, j.l.HasNew(), &j.p.New, &j.o.New) {
		j.o.Sides |= record.HasNew
	}
}

// hasPartner reports whether there is a right row, or was one before the step.
func hasPartner[F comparable, R, O any](p *record.Versions[partner[F, R, O]]) bool {
	return p.HasOld() && p.Old.Has || p.HasNew() && p.New.Has
}

func (j *answeredJoin[K, F, L, R, O]) side(l *L, hasL bool, p *partner[F, R, O], o *O) bool {
	if !p.Waiting {
		return j.join(l, hasL, &p.Row, p.Has, o)
	}
	if p.Held != nil {
		*o = *p.Held
	}
	return p.Held != nil
}

// Changes yields the changes of the results: of the left rows that changed, then of those
// about which there was an answer.
func (j *answeredJoin[K, F, L, R, O]) Changes(yield func([]record.Change[K, O]) bool) error {
	return j.walk(j.compute, yield)
}

func (j *answeredJoin[K, F, L, R, O]) compute(yield func([]record.Change[K, O]) bool) error {
	return j.each(j, j.equalOut, yield)
}

// touched visits the rows that changed, or about which there was an answer.
func (j *answeredJoin[K, F, L, R, O]) touched(visit func(key K) error) error {
	return touchedSides(&j.cursor, j.left, j.partners, &j.l, &j.p, j.equalLeft, visit)
}

// combine joins a row and its partner, which are at hand.
func (j *answeredJoin[K, F, L, R, O]) combine(c *record.Change[K, O]) error {
	j.result()
	c.Old, c.New, c.Sides, c.Time = j.o.Old, j.o.New, j.o.Sides, j.o.Time
	return nil
}

// At returns the result of a left row.
func (j *answeredJoin[K, F, L, R, O]) At(key K) (v record.Versions[O], err error) {
	if j.l, err = j.left.At(key); err != nil {
		return v, err
	}
	if j.p, err = j.partners.At(key); err != nil {
		return v, err
	}
	j.at(key)
	j.result()
	return j.o, nil
}

// Resume makes the partners anew from all answers. Parts that resume later read the
// result as what has been there all along: no state was without it.
func (j *answeredJoin[K, F, L, R, O]) Resume() error {
	if err := j.partners.Clear(0, nil); err != nil {
		return err
	}
	if err := j.take(); err != nil {
		return err
	}
	j.partners.EndStep()
	return nil
}

// EndStep forgets the step's output and old values.
func (j *answeredJoin[K, F, L, R, O]) EndStep() {
	j.changes.EndStep()
	j.partners.EndStep()
}
