package task

import (
	"cmp"
	"errors"
	"fmt"
	"slices"

	"github.com/tailrace/tailrace/record"
	"github.com/tailrace/tailrace/topology"
)

// Replayed says what became of dead letters that were replayed.
type Replayed struct {
	// Tried are those that were, Failed those of them that were set aside again.
	Tried, Failed int
	// Unreadable says why others could not be tried, by id. They stay as they are.
	Unreadable map[string]error
}

// ReplayLetters tries dead letters again, with the functions that the topology has now:
// those that wanted names by their ids, all for nil. Nothing may be pending. Keys of
// tables come first, with their newest inputs, in one step; then inputs of streams, in
// order, in a step each. The tables are seen as they are now, and time has passed. What
// comes of it is pending, to be committed as an epoch, or to be rolled back after an
// error. number tells this replay from others.
func (t *Task) ReplayLetters(wanted func(id string) bool, number uint64) (Replayed, error) {
	out := Replayed{Unreadable: map[string]error{}}
	if t.pending || len(t.txs) > 0 {
		return out, errors.New("task: letters are replayed between epochs")
	}
	letters, err := t.lettersWanted(wanted)
	if err != nil {
		return out, err
	}
	if err := t.retryParked(wanted, number, &out); err != nil {
		return out, err
	}
	for _, l := range letters {
		if err := t.replayLetter(l, number, &out); err != nil {
			return out, err
		}
	}
	return out, nil
}

// letterAgain is a letter of a stream that is to be replayed.
type letterAgain struct {
	*storedLetter
	tx *record.Tx
}

// lettersWanted reads the letters of streams that are to be replayed.
func (t *Task) lettersWanted(wanted func(id string) bool) (out []letterAgain, err error) {
	if t.letters.store == nil {
		return nil, nil
	}
	_, err = readStored(t.env.DB, t.letters.store.ID(), nil, func(l *storedLetter, tx *record.Tx) bool {
		if wanted == nil || wanted(l.ID) {
			out = append(out, letterAgain{l, tx})
		}
		return true
	})
	return out, err
}

// retryParked has the nodes try parked keys again.
func (t *Task) retryParked(wanted func(id string) bool, number uint64, out *Replayed) error {
	var tx *record.Tx
	type tried struct {
		p   topology.ParkingControl
		key string
	}
	var keys []tried
	for _, p := range t.parkings {
		name := t.names[p.StoreID()]
		err := readParked(
			t.env.DB,
			t.topology.Name(),
			name,
			p.StoreID(),
			nil,
			func(l *DeadLetter, key []byte) bool {
				if wanted != nil && !wanted(l.ID) {
					return true
				}
				if tx == nil {
					tx = &record.Tx{Source: l.Source, Position: t.positions[l.Source], Retry: number}
					tx.CommitStart = tx.Position
				}
				tx.CommitTime = max(tx.CommitTime, l.CommitTime)
				keys = append(keys, tried{p, string(key)})
				return true
			},
		)
		if err != nil {
			return err
		}
	}
	if len(keys) == 0 {
		return nil
	}
	before := t.Letters()
	for _, k := range keys {
		k.p.Retry([]byte(k.key))
	}
	out.Tried += len(keys)
	if err := t.inStep(tx); err != nil {
		return err
	}
	out.Failed += len(keys) - (before - t.Letters())
	return nil
}

// inStep runs a step of one transaction that is not from the log.
func (t *Task) inStep(tx *record.Tx) error {
	if t.replayed == nil {
		t.replayed = map[*record.Tx]bool{}
	}
	if t.cut != nil {
		t.cut.begin(t)
	}
	t.txs, t.replayed[tx] = append(t.txs, tx), true
	t.fed, t.pending = true, true
	return t.Step()
}

// replayLetter feeds an input of a stream to the node that set it aside.
func (t *Task) replayLetter(l letterAgain, number uint64, out *Replayed) (err error) {
	i := slices.IndexFunc(t.nodes, func(n *topology.Node) bool { return n.Name == l.Node })
	if i < 0 || l.tx == nil {
		out.Unreadable[l.ID] = fmt.Errorf("task: the topology has no node %q any more", l.Node)
		return nil
	}
	if l.Hash != 0 && l.Hash != t.nodes[i].Hash() {
		out.Unreadable[l.ID] = fmt.Errorf(
			"task: the topology has changed, and %q may be another node now, since its "+
				"name was made up",
			l.Node,
		)
		return nil
	}
	tx := *l.tx
	tx.Retry = number
	in := &topology.Letter{
		Tag: record.Tag{Tx: &tx, Seq: uint32(len(t.txs)), Ordinal: l.Ordinal, Path: string(l.Path)},
		Key: l.Key, Value: l.Value, Time: cmp.Or(l.EventTime, tx.CommitTime), Relation: l.Relation,
	}
	defer t.catch(i, &err)
	*t.active = i
	if err := t.takeLetter(i, in); err != nil {
		out.Unreadable[l.ID] = err
		return nil
	}
	if err := t.letters.remove(&l.DeadLetter); err != nil {
		return err
	}
	out.Tried++
	kept := t.letters.kept
	t.letters.again = t.nodes[i]
	err = t.inStep(&tx)
	t.letters.again = nil
	if err != nil {
		return err
	}
	if t.letters.kept > kept {
		out.Failed++
	}
	return nil
}

// takeLetter gives an input to the running form that is to take it again.
func (t *Task) takeLetter(i int, in *topology.Letter) error {
	running := t.ops[i]
	if t.cut != nil {
		t.cut.part = 0
		running = t.cut.ops[0][i]
	}
	op, ok := running.(topology.LetterReplayer)
	if !ok {
		return fmt.Errorf("task: %q is another kind of node now", t.nodes[i].Name)
	}
	if t.cut != nil {
		by, err := op.DivideLetter(in)
		if err != nil {
			return err
		}
		t.cut.part = topology.PartitionOf(by, t.cut.count)
		op = t.cut.ops[t.cut.part][i].(topology.LetterReplayer)
	}
	return op.ReplayLetter(in)
}

// DropLetters removes dead letters, those that wanted names by their ids, and returns how
// many there were. A key of a table keeps the output that it had until a later change of
// it succeeds. Nothing may be pending; what comes of it is.
func (t *Task) DropLetters(wanted func(id string) bool) (n int, err error) {
	letters, err := t.lettersWanted(wanted)
	for _, l := range letters {
		if err == nil {
			n, err = n+1, t.letters.remove(&l.DeadLetter)
		}
	}
	for _, p := range t.parkings {
		if err != nil {
			break
		}
		var keys [][]byte
		err = readParked(t.env.DB, t.topology.Name(), t.names[p.StoreID()], p.StoreID(), nil,
			func(l *DeadLetter, key []byte) bool {
				if wanted == nil || wanted(l.ID) {
					keys = append(keys, slices.Clone(key))
				}
				return true
			})
		for _, key := range keys {
			if err != nil {
				break
			}
			var had bool
			if had, err = p.Drop(key); had {
				n++
			}
		}
	}
	t.pending = t.pending || n > 0
	return n, err
}

// Transactions are those since the last commit.
func (t *Task) Transactions() []*record.Tx { return t.txs }

// Letters is the number of keys that are parked with a letter, uncommitted ones included.
func (t *Task) Letters() (n int) {
	for _, p := range t.parkings {
		n += p.Letters()
	}
	return n
}

// Degraded is the number of keys that are parked with a letter as of the last commit, by
// node; of a node that parks at all it is there even if it is 0.
func (t *Task) Degraded() map[*topology.Node]int {
	if len(t.parkings) == 0 {
		return nil
	}
	out := map[*topology.Node]int{}
	for _, p := range t.parkings {
		out[p.Node()] += p.Committed()
	}
	return out
}
