package operators

import (
	"bytes"
	"reflect"
	"strings"
	"time"

	"github.com/tailrace/tailrace/record"
	"github.com/tailrace/tailrace/state"
	"github.com/tailrace/tailrace/topology"
)

// windowPairs is what joins of streams have in common whatever their sides are.
type windowPairs[K comparable, O any] struct {
	records[K, O]
	*timers
	cursor[K]
	node     *topology.Node
	lates    lates
	keyCodec state.KeyCodec[K]
	null     []byte // the encoding of NULL, nil where no key is NULL
	key      []byte // the encoded key at work
	before   int64  // stream time without the step
	now      int64  // and with it
	index    uint32
	paths    paths
	time     []byte // the encoded time of what is due
	tag      record.Tag
	firing   bool // tag is that of a timer's result
	fired    func(at int64, key []byte) error
}

func newWindowPairs[K comparable, O any](
	rt *topology.Runtime, keyCodec state.KeyCodec[K],
) windowPairs[K, O] {
	p := windowPairs[K, O]{
		cursor: newCursor[K](rt), timers: newTimers(rt, "timers", ofJoin(keyCodec)), node: rt.Node(),
		lates: newLates(rt), keyCodec: keyCodec,
	}
	// The encoding says what is NULL without a look at each key's type.
	if t := reflect.TypeFor[K](); t.PkgPath() == "database/sql" && strings.HasPrefix(t.Name(), "Null") {
		var null K
		p.null = keyCodec.Append(nil, null)
	}
	return p
}

func (p *windowPairs[K, O]) begin(s *topology.Step) {
	p.before, p.now = s.Before[p.node.ID], s.After[p.node.ID]
	p.firing, p.lates.n = false, 0
}

// arrive prepares for a record and reports whether its key is NULL.
func (p *windowPairs[K, O]) arrive(key K, tag record.Tag, side byte) (null bool) {
	p.tag, p.index = tag, 0
	if side == rightSide {
		p.index = 1 << 31 // one row may have made a record of each side
	}
	p.at(key)
	p.key = p.keyCodec.Append(p.key[:0], key)
	return p.null != nil && bytes.Equal(p.key, p.null)
}

// context is that of a result at the given time.
func (p *windowPairs[K, O]) context(at int64) record.Context {
	return record.Context{Node: p.node.Name, Time: time.UnixMicro(at).UTC(), Tx: p.tag.Tx}
}

// put takes what the joiner returned for the record at work.
func (p *windowPairs[K, O]) put(at int64, o O, emit bool, err error) error {
	if err != nil {
		return p.fail(err)
	}
	if !emit {
		return nil
	}
	tag := p.tag
	if !p.firing {
		tag.Path = p.paths.index(tag.Path, p.index)
		p.index++
	}
	p.out = append(p.out, record.Record[K, O]{Key: p.cursor.key, Value: o, Time: at, Tag: tag})
	return nil
}

func (p *windowPairs[K, O]) fail(err error) error {
	return &topology.Failure{Node: p.node, Key: p.cursor.key, Tx: p.tag.Tx, Err: userError(err)}
}

// finish fires what is due and puts the output in order: that of one row may have
// come by ways of different length, and what is due comes by its own time.
func (p *windowPairs[K, O]) finish(s *topology.Step) error {
	p.lates.report()
	p.tag, p.firing = lateTag(s, ""), true
	if err := p.fire(p.now, p.fired); err != nil {
		return err
	}
	inOrder(p.out)
	return nil
}

// duePath orders what goes out without a partner: by time, side, key and arrival.
func (p *windowPairs[K, O]) duePath(at int64, timer []byte, keyEnd int) string {
	p.time = appendTime(p.time[:0], at)
	return p.paths.join("", p.time, timer[:keyEnd], timer[keyEnd+8:])
}

// ofJoin finds the key in the key of a timer: behind the side.
func ofJoin[K comparable](keyCodec state.KeyCodec[K]) func(timer []byte) []byte {
	d, _ := topology.DividerOf[K]()
	return func(timer []byte) []byte {
		_, rest, err := keyCodec.Decode(timer[1:])
		if err != nil {
			return nil // the timer that is fired reports it
		}
		return d.Part(timer[1 : len(timer)-len(rest)])
	}
}
