package task

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/tailrace/tailrace/record"
	"github.com/tailrace/tailrace/state"
	"github.com/tailrace/tailrace/topology"
)

// DeadLetterStore is the name of the store that a task keeps the inputs in that error
// policies set aside. It is part of the epoch like any other store: an input that was
// left out is in it, at whatever point a crash comes. A driver keeps it where the
// topology's state is rebuilt, since records of streams cannot be had again.
const DeadLetterStore = ":dead-letters"

// DeadLetter is an input that an error policy has set aside.
type DeadLetter struct {
	// ID is stable: source with its log, position of the transaction, topology, node, ordinal of the
	// row and the path of the record that was made from it.
	ID       string `json:"id"`
	Topology string `json:"topology"`
	Node     string `json:"node"`
	Source   string `json:"source"`
	// Log is the log of the source that the position is in, where it has several; see
	// record.Tx.
	Log string `json:"log,omitempty"`
	// Position is the end of the transaction as PostgreSQL writes it, CommitTime its
	// commit time in Unix microseconds.
	Position   string `json:"position"`
	XID        uint32 `json:"xid,omitempty"`
	CommitTime int64  `json:"commit_time"`
	// Snapshot says that the transaction was an initial snapshot.
	Snapshot bool `json:"snapshot,omitempty"`
	// Ordinal is the row's place in its transaction.
	Ordinal uint32 `json:"ordinal"`
	// Key and Value are the input. Of a source they are the row's columns in the
	// database's text form.
	Key   json.RawMessage `json:"key,omitempty"`
	Value json.RawMessage `json:"value,omitempty"`
	Error string          `json:"error"`

	// CommitStart and Path place it in the log.
	CommitStart uint64 `json:"commit_start,omitempty"`
	Path        []byte `json:"path,omitempty"`

	// Parked says that it parks a key of a table: Key is that key, Value the newest input
	// that failed, which the position is of. Since is the commit time of the first one in
	// turn in Unix microseconds, Failures is how many they are.
	Parked   bool  `json:"parked,omitempty"`
	Since    int64 `json:"since,omitempty"`
	Failures int   `json:"failures,omitempty"`
	// Target is the target that has refused it, where one has.
	Target string `json:"target,omitempty"`
}

// storedLetter is a letter with what it takes to replay it.
type storedLetter struct {
	DeadLetter
	EventTime int64            `json:"event_time,omitempty"`
	Relation  *record.Relation `json:"relation,omitempty"`
	// Hash is that of the node, where its name was made up.
	Hash uint64 `json:"hash,omitempty"`
}

// letters is where a task's nodes put what they set aside. The end of a transaction is
// not known before its last row, so what a letter shares with others of its
// transaction is an entry of its own, written at the end of the step.
//
//	0 [source and log][commit start u64]                                the transaction
//	1 [source and log][commit start u64][ordinal u32][path][node]       a letter
type letters struct {
	topology string
	store    *state.Ordered // nil where no node has a policy
	txs      []*record.Tx   // with letters in this step
	key      []byte
	kept     int // letters since the start
	// again is the node that takes a letter again in this step, nil if none does.
	again *topology.Node
}

func newLetters(cfg Config) *letters {
	l := &letters{topology: cfg.Topology.Name()}
	streams := func(n *topology.Node) bool { return n.OnError != nil && n.Shape == topology.ShapeStream }
	if slices.ContainsFunc(cfg.Topology.Nodes(), streams) ||
		cfg.HasStore != nil && cfg.HasStore(DeadLetterStore) {
		l.store = state.NewOrdered(cfg.Env, cfg.StoreID(DeadLetterStore))
	}
	return l
}

func (l *letters) stores() []state.Store {
	if l.store == nil {
		return nil
	}
	return []state.Store{l.store}
}

func txKey(dst []byte, kind byte, tx *record.Tx) []byte {
	source := tx.Source
	if tx.Log != "" {
		source += "\x00" + tx.Log
	}
	dst = state.AppendKeyString(append(dst[:0], kind), source)
	return binary.BigEndian.AppendUint64(dst, tx.CommitStart)
}

// DeadLetter keeps an input; see topology.Letters.
func (l *letters) DeadLetter(n *topology.Node, in *topology.Letter) error {
	tx := in.Tag.Tx
	l.kept++
	if !slices.Contains(l.txs, tx) {
		l.txs = append(l.txs, tx)
	}
	var hash uint64
	if n.Unnamed && n.Source == nil {
		hash = n.Hash()
	}
	path := in.Tag.Path
	if in.Tag.Again() && n != l.again {
		// Other replays, and other steps of this one, may bring about one of the same tag.
		mark := binary.BigEndian.AppendUint64([]byte(path), tx.Retry)
		path = string(binary.BigEndian.AppendUint32(mark, in.Tag.Seq))
	}
	value, err := json.Marshal(&storedLetter{
		DeadLetter: DeadLetter{
			Topology: l.topology, Node: n.Name, Source: tx.Source, Log: tx.Log, Ordinal: in.Tag.Ordinal,
			Path: []byte(path), Key: in.Key, Value: in.Value, Error: in.Err.Error(),
			CommitStart: tx.CommitStart,
		},
		EventTime: in.Time, Relation: in.Relation, Hash: hash,
	})
	if err != nil {
		return fmt.Errorf("task: dead letter of %q: %w", n.Name, err)
	}
	return l.store.Set(l.letterKey(tx, in.Tag.Ordinal, path, n.Name), value)
}

func (l *letters) letterKey(tx *record.Tx, ordinal uint32, path, node string) []byte {
	l.key = binary.BigEndian.AppendUint32(txKey(l.key, 1, tx), ordinal)
	l.key = state.AppendKeyString(state.AppendKeyString(l.key, path), node)
	return l.key
}

// remove takes a letter away, and with the last one of a transaction what is kept of
// that.
func (l *letters) remove(d *DeadLetter) error {
	tx := &record.Tx{Source: d.Source, Log: d.Log, CommitStart: d.CommitStart}
	if err := l.store.Delete(l.letterKey(tx, d.Ordinal, string(d.Path), d.Node)); err != nil {
		return err
	}
	last := true
	err := l.store.Scan(txKey(nil, 1, tx), false, func(_, _ []byte) bool {
		last = false
		return false
	})
	if err == nil && last {
		err = l.store.Delete(txKey(nil, 0, tx))
	}
	return err
}

// endStep notes the transactions of the step's letters, which are complete now.
func (l *letters) endStep() error {
	for _, tx := range l.txs {
		value, err := json.Marshal(tx)
		if err != nil {
			return err
		}
		l.key = txKey(l.key, 0, tx)
		if err := l.store.Set(l.key, value); err != nil {
			return err
		}
	}
	l.txs = nil
	return nil
}

// HoldsLetters reports whether a topology's store of that name holds dead letters.
func HoldsLetters(store string) bool {
	return store == DeadLetterStore || strings.HasPrefix(store, topology.ParkedPrefix)
}

// ReadDeadLetters yields the letters of one store of a topology, from behind a key on,
// until yield returns false: those of streams in order of source, transaction and row,
// those of a table in order of its keys. It returns the key of the last one; nil is before
// all keys.
func ReadDeadLetters(
	db state.Reader, name, store string, id uint32, after []byte, yield func(*DeadLetter) bool,
) (last []byte, err error) {
	if store == DeadLetterStore {
		return readStored(db, id, after, func(l *storedLetter, _ *record.Tx) bool { return yield(&l.DeadLetter) })
	}
	last = after
	err = readParked(db, name, store, id, after, func(l *DeadLetter, key []byte) bool {
		last = bytes.Clone(key)
		return yield(l)
	})
	return last, err
}

// readParked yields the letters of one store of parked keys, from behind a key on.
func readParked(
	db state.Reader, name, store string, id uint32, after []byte, yield func(l *DeadLetter, key []byte) bool,
) error {
	return topology.ReadParked(db, id, after, func(key []byte, p *topology.ParkedLetter) bool {
		if p == nil {
			return true
		}
		return yield(&DeadLetter{
			ID: topology.ParkedID(name, store, key), Topology: name, Node: p.Node, Source: p.Source,
			Position: record.LSN(p.Position).String(), XID: p.XID, CommitTime: p.CommitTime, Snapshot: p.Snapshot,
			Key: p.Key, Value: p.Value, Error: p.Error, Parked: true, Since: p.Since, Failures: p.Failures,
		}, key)
	})
}

// readStored yields the letters of streams, from behind a key on, with their transactions
// as far as they are known.
func readStored(
	db state.Reader, id uint32, after []byte, yield func(l *storedLetter, tx *record.Tx) bool,
) (last []byte, err error) {
	prefix := slices.Clip(binary.BigEndian.AppendUint32(nil, id))
	it, err := db.NewIter(prefix, state.PrefixEnd(prefix))
	if err != nil {
		return after, err
	}
	defer it.Close()
	from := append(prefix, 1)
	if len(after) > 0 {
		from = append(append(prefix, after...), 0)
	}
	last = after
	var tx *record.Tx
	var txAt []byte
	for ok := it.SeekGE(from); ok; ok = it.Next() {
		l := &storedLetter{}
		if err := json.Unmarshal(it.Value(), l); err != nil {
			return last, fmt.Errorf("task: dead letter: %w: %w", state.ErrCorrupt, err)
		}
		shared := txKey(nil, 0, &record.Tx{Source: l.Source, Log: l.Log, CommitStart: l.CommitStart})
		if !bytes.Equal(shared, txAt) {
			txAt = shared
			if tx, err = letterTx(db, append(prefix, shared...)); err != nil {
				return last, err
			}
		}
		l.complete(tx)
		last = bytes.Clone(it.Key()[len(prefix):])
		if !yield(l, tx) {
			break
		}
	}
	return last, it.Error()
}

// letterTx reads a transaction that has letters, nil where it is not there.
func letterTx(db state.Reader, key []byte) (*record.Tx, error) {
	value, ok, err := db.Get(nil, key)
	if err != nil || !ok {
		return nil, err
	}
	tx := &record.Tx{}
	if err := json.Unmarshal(value, tx); err != nil {
		return nil, fmt.Errorf("task: transaction of a dead letter: %w: %w", state.ErrCorrupt, err)
	}
	return tx, nil
}

// complete fills in what a letter shares with others of its transaction, and its id.
func (l *DeadLetter) complete(tx *record.Tx) {
	if tx != nil {
		l.Position = record.LSN(tx.Position).String()
		l.XID, l.CommitTime, l.Snapshot = tx.XID, tx.CommitTime, tx.Snapshot
	}
	source := l.Source
	if l.Log != "" {
		source += "/" + l.Log
	}
	l.ID = record.EventID(source, l.Position, l.Topology, l.Node, l.Ordinal, string(l.Path))
}
