package kstreams

import (
	"fmt"
	"strconv"
	"time"

	"github.com/tailrace/tailrace/operators"
	"github.com/tailrace/tailrace/record"
)

// Processors of one's own: stores that are read, written, deleted from and walked,
// stream time, timers and forwarding, alone, between other operators and two in a row.
var (
	_ = addOp("process", buildProcess)
	_ = addFamily(&Family{Name: "process", Make: makeProcess})
)

func makeProcess(g Gen) *Case {
	c := &Case{Nodes: []Node{{ID: "l", Op: "stream", Topic: "l"}}}
	at, topics := []string{"l"}, []string{"l"}
	if g.Chance(3) {
		topics = []string{"l", "r"}
		c.Nodes = append(c.Nodes, Node{ID: "r", Op: "stream", Topic: "r"},
			Node{ID: "m", Op: "merge", In: []string{"l", "r"}})
		at = []string{"m"}
	}
	add := func(n Node) {
		n.In = at[len(at)-1:]
		c.Nodes, at = append(c.Nodes, n), append(at, n.ID)
	}
	if g.Chance(3) {
		add(Node{ID: "f", Op: "filter", Fn: drawPredicate(g)}) // what it drops lets time pass on both
	}
	if g.Chance(3) {
		add(Node{ID: "k", Op: "rekey", By: drawKey(g)})
	}
	timed := false
	for i := range g.Between(1, 3) {
		n := Node{ID: fmt.Sprintf("p%d", i), Op: "process"}
		n.Fn = Of(g, "count", "previous", "all", "expire", "expire")
		if n.Fn == "expire" {
			if timed { // of two that wait for time Kafka Streams does not say which comes first
				n.Fn = "count"
			}
			timed, n.Limit = true, g.Between(1, 15)
		}
		add(n)
	}
	c.Out = at[len(at)-1:]
	m := StreamMix(topics...)
	m.NullKeys, m.NullValues, m.Jump = 12, 6, 40
	c.Records = g.Records(m)
	return c
}

type (
	processContext = operators.ProcessContext[Text, Text, Row]
	processor      = operators.Processor[Text, Row, Text, Row]
)

func buildProcess(b *Build, n *Node) (any, error) {
	open, ok := processors[n.Fn]
	if !ok {
		return nil, unknown("processor", n.Fn)
	}
	return operators.Process(n.ID, b.Stream(n, 0), func(s *operators.Stores) processor {
		return keyedOnly{open(n, s)}
	}), nil
}

// processors are those of Processors.java under the same names.
var processors = map[string]func(n *Node, s *operators.Stores) processor{
	"count": func(_ *Node, s *operators.Stores) processor {
		return &counter{counts: operators.KeyValueStore[Text, int64](s, "counts")}
	},
	"previous": func(_ *Node, s *operators.Stores) processor {
		return &previous{last: operators.KeyValueStore[Text, Text](s, "last")}
	},
	"all": func(_ *Node, s *operators.Stores) processor {
		return &all{rows: operators.OrderedStore[string, Text](s, "rows")}
	},
	"expire": func(n *Node, s *operators.Stores) processor {
		return &expire{
			last: operators.KeyValueStore[Text, Text](s, "last"),
			due:  operators.KeyValueStore[Text, int64](s, "due"), after: n.Limit,
		}
	},
}

// keyedOnly lets records without a key pass.
type keyedOnly struct{ processor }

func (k keyedOnly) Process(ctx *processContext, r record.Record[Text, Row]) error {
	if !r.Key.Valid {
		ctx.Forward(r.Key, r.Value)
		return nil
	}
	return k.processor.Process(ctx, r)
}

// withoutTimers sets no timers.
type withoutTimers struct{}

func (withoutTimers) Timer(*processContext, Text, time.Time) error {
	return fmt.Errorf("kstreams: a timer of a processor that sets none")
}

type counter struct {
	withoutTimers
	counts *operators.KeyValue[Text, int64]
}

func (p *counter) Process(ctx *processContext, r record.Record[Text, Row]) error {
	n, _ := p.counts.Get(r.Key)
	p.counts.Put(r.Key, n+1)
	ctx.Forward(r.Key, Row{text(printed(r.Value.V) + "#" + strconv.FormatInt(n+1, 10))})
	return nil
}

type previous struct {
	withoutTimers
	last *operators.KeyValue[Text, Text]
}

func (p *previous) Process(ctx *processContext, r record.Record[Text, Row]) error {
	before, _ := p.last.Get(r.Key)
	if r.Value.V.Valid {
		p.last.Put(r.Key, r.Value.V)
	} else {
		p.last.Delete(r.Key)
	}
	ctx.Forward(r.Key, Row{text(printed(before) + "<" + printed(r.Value.V))})
	return nil
}

type all struct {
	withoutTimers
	rows *operators.Ordered[string, Text]
}

func (p *all) Process(ctx *processContext, r record.Record[Text, Row]) error {
	if r.Value.V.Valid {
		p.rows.Put(r.Key.V, r.Value.V)
	} else {
		p.rows.Delete(r.Key.V)
	}
	for key, v := range p.rows.All() {
		ctx.Forward(text(key), Row{v})
	}
	return nil
}

type expire struct {
	last  *operators.KeyValue[Text, Text]
	due   *operators.KeyValue[Text, int64]
	after int64
}

func (p *expire) Process(ctx *processContext, r record.Record[Text, Row]) error {
	due := r.Time + p.after
	if now, ok := ctx.StreamTime(); ok && due <= now.UnixMicro() {
		ctx.Forward(r.Key, Row{text("late-" + printed(r.Value.V))})
		return nil
	}
	if before, waits := p.due.Get(r.Key); waits {
		ctx.UnsetTimer(r.Key, time.UnixMicro(before))
	}
	p.last.Put(r.Key, r.Value.V)
	p.due.Put(r.Key, due)
	ctx.SetTimer(r.Key, time.UnixMicro(due))
	return nil
}

func (p *expire) Timer(ctx *processContext, key Text, _ time.Time) error {
	last, _ := p.last.Get(key)
	p.last.Delete(key)
	p.due.Delete(key)
	ctx.Forward(key, Row{text("gone-" + printed(last))})
	return nil
}
