package topology

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/tailrace/tailrace/record"
	"github.com/tailrace/tailrace/state"
)

// Parks reports whether the node has an error policy that parks keys.
func (n *Node) Parks() bool { return n.OnError != nil && n.Shape == ShapeTable }

// ParkingControl is a Parking as a driver handles it.
type ParkingControl interface {
	// StoreID is the id of the store.
	StoreID() uint32
	// Node is the node that parks.
	Node() *Node
	// Letters is the number of letters, uncommitted ones included.
	Letters() int
	// Committed is the number of letters as of the last commit.
	Committed() int
	// Retry has the node try a key again in the next step, by its encoding.
	Retry(key []byte)
	// Drop removes the letter of a key, which keeps its output until a later change of it
	// succeeds. It reports whether there was one.
	Drop(key []byte) (bool, error)
}

// Parking holds the keys that a table node's error policy has parked.
//
// The rule: a key whose newest input a user function fails on keeps the output that it
// had. Its inputs change on without it, so the newest counts: the key is tried again
// when its input changes and when it is asked for, and comes back with the first success.
// The output is thus a function of the transactions one by one, for which a node with a
// policy makes each transaction a step of its own.
//
// Keys and outputs are encoded here, so that this is compiled once and not for each pair
// of their types.
type Parking struct {
	Guard
	table *state.Table[string, Parked]
	id    uint32
	// some says that a key is or was parked since the start; without one nothing is
	// looked up.
	some    bool
	letters int
	stable  int // letters as of the last commit
	retry   map[string]bool
	order   []string // of retry
	tx      *record.Tx
	// fresh are the keys parked while their transaction was not complete.
	fresh []string
}

// NewParking makes the parking of the node whose running form is being made, nil where
// it has no error policy and nothing is parked. part tells several of a node apart.
func NewParking(rt *Runtime, part string) (*Parking, error) {
	n := rt.current
	name := ParkedStore(n.Name, part)
	if n.OnError == nil && (rt.HasStore == nil || !rt.HasStore(name)) {
		return nil, nil
	}
	p := &Parking{Guard: NewGuard(rt), id: rt.StoreID(name), retry: map[string]bool{}}
	err := ReadParked(rt.Env.DB, p.id, nil, func(_ []byte, letter *ParkedLetter) bool {
		p.some = true
		if letter != nil {
			p.letters++
		}
		return true
	})
	if err != nil || n.OnError == nil && !p.some {
		return nil, err
	}
	keys, err := state.KeyCodecOf[string]()
	if err != nil {
		return nil, err
	}
	p.stable = p.letters
	p.table = state.NewTable(rt.Env, p.id, keys, parkedCodec)
	rt.Register(parkingStore{p.table, p})
	rt.parkings = append(rt.parkings, p)
	return p, nil
}

// parkingStore keeps the number of letters with the store.
type parkingStore struct {
	*state.Table[string, Parked]
	p *Parking
}

// Committed implements state.Store.
func (s parkingStore) Committed() {
	s.p.stable = s.p.letters
	s.Table.Committed()
}

// Rollback implements state.Store.
func (s parkingStore) Rollback() {
	s.p.letters, s.p.fresh, s.p.order = s.p.stable, nil, nil
	clear(s.p.retry)
	s.Table.Rollback()
}

// StoreID implements ParkingControl.
func (p *Parking) StoreID() uint32 { return p.id }

// Node implements ParkingControl.
func (p *Parking) Node() *Node { return p.node }

// Letters implements ParkingControl.
func (p *Parking) Letters() int { return p.letters }

// Committed implements ParkingControl.
func (p *Parking) Committed() int { return p.stable }

// Retry implements ParkingControl.
func (p *Parking) Retry(key []byte) {
	if k := string(key); !p.retry[k] {
		p.retry[k] = true
		p.order = append(p.order, k)
	}
}

// Drop implements ParkingControl.
func (p *Parking) Drop(key []byte) (bool, error) {
	k := string(key)
	v, err := p.table.At(k)
	if err != nil || !v.HasNew() || v.New.Letter == nil {
		return false, err
	}
	p.letters--
	v.New.Letter = nil
	return true, p.table.Put(k, v.New, v.Time)
}

// Begin says which transaction the inputs that are tried come from.
func (p *Parking) Begin(tx *record.Tx) { p.tx = tx }

// Retries takes the keys that are still to be tried although their input has not
// changed; trying one takes it off.
func (p *Parking) Retries() (keys []string) {
	for _, k := range p.order {
		if p.retry[k] {
			keys = append(keys, k)
		}
	}
	clear(p.retry)
	p.order = p.order[:0]
	return keys
}

// At returns what is parked under a key, before the step and now.
func (p *Parking) At(key []byte) (record.Versions[Parked], error) {
	if !p.some {
		return record.Versions[Parked]{}, nil
	}
	return p.table.At(string(key))
}

// Get returns what is parked under a key, nil if nothing is. The pointer is valid until
// the next call.
func (p *Parking) Get(key []byte) (*Parked, error) {
	if !p.some {
		return nil, nil
	}
	return p.table.Get(string(key))
}

// Unpark says that a key's newest input has been processed.
func (p *Parking) Unpark(key []byte, at int64) error {
	if len(p.retry) > 0 {
		delete(p.retry, string(key))
	}
	was, err := p.Get(key)
	if err != nil || was == nil {
		return err
	}
	if was.Letter != nil {
		p.letters--
	}
	return p.table.Delete(string(key), at)
}

// Clear takes back everything, because the table has been emptied.
func (p *Parking) Clear(at int64) error {
	if !p.some {
		return nil
	}
	p.letters = 0
	return p.table.Clear(at, nil)
}

// FailedInput is an input that fails.
type FailedInput struct {
	// Key is its key as it is printed, Time its event time in Unix microseconds.
	Key   any
	Time  int64
	Cause error
	// JSON is key and value for people.
	JSON func() (k, v []byte)
}

// Park asks the policy about a key whose newest input fails, and parks it with the output
// that is given, or returns the failure.
func (p *Parking) Park(key, out []byte, has bool, in FailedInput) error {
	if len(p.retry) > 0 {
		delete(p.retry, string(key))
	}
	cause := in.Cause
	f := &Failure{Node: p.node, Key: in.Key, Tx: p.tx, Err: cause}
	if !p.On() || !errors.Is(cause, ErrInput) && !errors.Is(cause, ErrUserFunction) {
		return f
	}
	was, err := p.Get(key)
	if err != nil {
		return err
	}
	now := Parked{Out: bytes.Clone(out), Has: has}
	ctx := record.Context{Node: p.node.Name, Time: time.UnixMicro(in.Time).UTC(), Tx: p.tx}
	switch p.node.OnError(ctx, f) {
	case Skip:
		p.drop(p.node, DropSkipped, 1)
	case DeadLetter:
		p.drop(p.node, DropDeadLetter, 1)
		if now.Letter, err = p.letter(was, in); err != nil {
			return err
		}
		p.letters++
		p.fresh = append(p.fresh, string(key))
	default:
		return f
	}
	if was != nil && was.Letter != nil {
		p.letters--
	}
	p.some = true
	return p.table.Put(string(key), now, in.Time)
}

func (p *Parking) letter(was *Parked, in FailedInput) ([]byte, error) {
	l := ParkedLetter{Node: p.node.Name, Error: in.Cause.Error()}
	l.Key, l.Value = in.JSON()
	if was != nil && was.Letter != nil {
		var old ParkedLetter
		if err := json.Unmarshal(was.Letter, &old); err != nil {
			return nil, fmt.Errorf("topology: letter of a parked key: %w: %w", state.ErrCorrupt, err)
		}
		l.Since, l.Failures = old.Since, old.Failures
	}
	return p.date(&l)
}

// date notes the transaction in a letter.
func (p *Parking) date(l *ParkedLetter) ([]byte, error) {
	if tx := p.tx; tx != nil {
		l.Source, l.Position, l.XID, l.Snapshot = tx.Source, tx.Position, tx.XID, tx.Snapshot
		l.CommitTime = tx.CommitTime
	}
	if l.Failures++; l.Failures == 1 {
		l.Since = l.CommitTime
	}
	return json.Marshal(l)
}

// Complete dates the letters of the step anew: where rows come before the end of their
// transaction its position was not known.
func (p *Parking) Complete(tx *record.Tx) error {
	for _, key := range p.fresh {
		v, err := p.table.At(key)
		if err != nil {
			return err
		}
		if !v.HasNew() || v.New.Letter == nil {
			continue
		}
		var l ParkedLetter
		if err := json.Unmarshal(v.New.Letter, &l); err != nil {
			return err
		}
		p.tx, l.Failures = tx, l.Failures-1
		if v.New.Letter, err = p.date(&l); err != nil {
			return err
		}
		if err := p.table.Put(key, v.New, v.Time); err != nil {
			return err
		}
	}
	p.fresh = p.fresh[:0]
	return nil
}

// EndStep forgets the step's old values.
func (p *Parking) EndStep() {
	p.fresh = p.fresh[:0]
	p.table.EndStep()
}
