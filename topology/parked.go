package topology

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/tailrace/tailrace/state"
)

// ParkedPrefix begins the names of the stores in which table nodes keep the keys that
// their error policies have parked, and of no other store.
const ParkedPrefix = ":parked"

// ParkedStore is the name of such a store. part tells apart several in one node, "" where
// there is one.
func ParkedStore(node, part string) string { return ParkedPrefix + part + "/" + node }

// HeldRows is the part of a node's parked keys that are those of rows of its input.
const HeldRows = "-rows"

func (n *Node) parkedParts() []string {
	switch {
	case !n.TakesPolicy || n.Shape != ShapeTable:
		return nil
	case n.HoldsRows:
		return []string{"", HeldRows}
	}
	return []string{""}
}

// HasParked returns the first of the nodes at which keys are parked, be it that its policy
// has been taken away; nil if there are none.
func HasParked(t *Topology, rt *Runtime) (*Node, error) {
	for _, n := range t.nodes {
		for _, part := range n.parkedParts() {
			store := ParkedStore(n.Name, part)
			if rt.HasStore == nil || !rt.HasStore(store) {
				continue
			}
			some := false
			err := ReadParked(rt.Env.DB, rt.StoreID(store), nil, func([]byte, *ParkedLetter) bool {
				some = true
				return false
			})
			if some || err != nil {
				return n, err
			}
		}
	}
	return nil, nil
}

// Parked is what is kept of a key that is parked at a node.
type Parked struct {
	// Letter is a ParkedLetter in JSON, nil of a key that was skipped or whose letter was
	// dropped: it keeps its output all the same.
	Letter []byte
	// Out is the node's output for the key, as of before the first failure; Has says
	// whether there is one. It is encoded by the node. (A source keeps what it needs to
	// decode the row instead.)
	Out []byte
	Has bool
}

// ParkedLetter describes the input that parked a key, the newest where several have
// failed in turn.
type ParkedLetter struct {
	Node       string `json:"node"`
	Source     string `json:"source"`
	Position   uint64 `json:"position"`
	XID        uint32 `json:"xid,omitempty"`
	CommitTime int64  `json:"commit_time"`
	Snapshot   bool   `json:"snapshot,omitempty"`
	// Since is the commit time of the first failure in turn, Failures how many they are.
	Since    int64           `json:"since"`
	Failures int             `json:"failures"`
	Key      json.RawMessage `json:"key,omitempty"`
	Value    json.RawMessage `json:"value,omitempty"`
	Error    string          `json:"error"`
}

// parkedCodec stores a flag for whether there is an output, the letter with its length
// before it, and the output.
var parkedCodec = state.Codec[Parked]{
	Fingerprint: "parked-1",
	Append: func(dst []byte, v *Parked) []byte {
		dst = append(dst, 0)
		if v.Has {
			dst[len(dst)-1] = 1
		}
		dst = append(binary.AppendUvarint(dst, uint64(len(v.Letter))), v.Letter...)
		return append(dst, v.Out...)
	},
	Decode: func(src []byte, v *Parked) error {
		letter, rest, err := splitParked(src)
		if err != nil {
			return err
		}
		*v = Parked{Has: src[0] == 1, Out: bytes.Clone(rest)}
		if len(letter) > 0 {
			v.Letter = bytes.Clone(letter)
		}
		return nil
	},
	Equal: func(a, b *Parked) bool {
		return a.Has == b.Has && bytes.Equal(a.Letter, b.Letter) && bytes.Equal(a.Out, b.Out)
	},
	Size: func(v *Parked) int { return len(v.Letter) + len(v.Out) },
}

func splitParked(src []byte) (letter, rest []byte, err error) {
	if len(src) > 1 {
		if n, w := binary.Uvarint(src[1:]); w > 0 && n <= uint64(len(src)-1-w) {
			return src[1+w : 1+w+int(n)], src[1+w+int(n):], nil
		}
	}
	return nil, nil, fmt.Errorf("%w: parked key", state.ErrCorrupt)
}

// rowTime is what the table stores before the value: the time of the row.
const rowTime = 8

// ReadParked yields the keys in a store of parked ones, encoded and valid during the
// call, and their letters, nil where there is none, from behind a key on until yield
// returns false. Nil is before all keys.
func ReadParked(
	db state.Reader, id uint32, after []byte, yield func(key []byte, l *ParkedLetter) bool,
) error {
	prefix := slices.Clip(binary.BigEndian.AppendUint32(nil, id))
	from := prefix
	if len(after) > 0 {
		from = append(state.AppendKeyString(prefix, string(after)), 0)
	}
	it, err := db.NewIter(prefix, state.PrefixEnd(prefix))
	if err != nil {
		return err
	}
	defer it.Close()
	for ok := it.SeekGE(from); ok; ok = it.Next() {
		if len(it.Value()) < rowTime {
			return fmt.Errorf("%w: parked key", state.ErrCorrupt)
		}
		letter, _, err := splitParked(it.Value()[rowTime:])
		if err != nil {
			return err
		}
		var l *ParkedLetter
		if len(letter) > 0 {
			l = &ParkedLetter{}
			if err := json.Unmarshal(letter, l); err != nil {
				return fmt.Errorf("topology: letter of a parked key: %w: %w", state.ErrCorrupt, err)
			}
		}
		key, _, err := state.DecodeKeyString(it.Key()[len(prefix):])
		if err != nil {
			return err
		}
		if !yield([]byte(key), l) {
			break
		}
	}
	return it.Error()
}

// ParkedID is the id of the letter of a parked key.
func ParkedID(topology, store string, key []byte) string {
	part, node, _ := strings.Cut(store[len(ParkedPrefix):], "/")
	return topology + "/" + node + part + "#" + hex.EncodeToString(key)
}
