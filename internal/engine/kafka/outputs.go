package kafka

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/tailrace/tailrace/internal/kafka"
	"github.com/tailrace/tailrace/internal/task"
	"github.com/tailrace/tailrace/record"
	"github.com/tailrace/tailrace/sinks"
	"github.com/tailrace/tailrace/topology"
)

// target is what several sinks write together.
type target struct {
	name    string
	encoder sinks.TopicEncoder
	outputs map[*topology.Node]uint32 // ids of outputs
}

// groupTargets finds the targets and makes their encoders.
func (e *Engine) groupTargets() error {
	requests := map[string]*sinks.OpenRequest{}
	byName := map[string]*target{}
	var names []string
	for _, t := range e.cfg.Topologies {
		for _, n := range t.Nodes() {
			spec, ok := n.Sink.(*sinks.Spec)
			if !ok {
				continue
			}
			name := spec.Target.Name()
			if requests[name] == nil {
				requests[name] = &sinks.OpenRequest{App: e.cfg.App, Target: name, Logger: e.log}
				byName[name] = &target{name: name, outputs: map[*topology.Node]uint32{}}
				names = append(names, name)
			}
			out := spec.Output
			out.ID = uint32(len(requests[name].Outputs))
			requests[name].Outputs = append(requests[name].Outputs, out)
			byName[name].outputs[n] = out.ID
		}
	}
	slices.Sort(names)
	var errs []error
	for _, name := range names {
		w, ok := e.cfg.Targets[name].(sinks.TopicWriter)
		if !ok {
			errs = append(errs, fmt.Errorf("kafka: target %q is %T, and Kafka mode writes topics; give it a "+
				"target of sinks/kafka, and bring its topics from there to where they are needed",
				name, e.cfg.Targets[name]))
			continue
		}
		var err error
		if byName[name].encoder, err = w.Encoder(*requests[name]); err != nil {
			errs = append(errs, err)
		}
		e.targets = append(e.targets, byName[name])
	}
	return errors.Join(errs...)
}

// produceOutputs writes what a task's sinks put out.
func (e *Engine) produceOutputs(s *sealed) error {
	for _, t := range e.targets {
		for i, p := range s.run.parts {
			for _, n := range p.share.nodes() {
				id, ok := t.outputs[n]
				if !ok {
					continue
				}
				err := s.ready[i].Outputs(n, func(out task.Output) error {
					return e.produceOutput(t, p, id, s.ready[i], out)
				})
				if err != nil {
					return err
				}
			}
		}
	}
	return nil
}

func (e *Engine) produceOutput(t *target, p *part, id uint32, ready *task.Ready, out task.Output) error {
	item := sinks.Item{Output: id, Key: out.Key}
	at := time.Time{}
	if out.Event {
		from, tx := p.origins[out.Seq], ready.Txs[out.Seq]
		at = time.UnixMicro(int64(binary.BigEndian.Uint64(out.Value))).UTC()
		item.Event = &sinks.Event{
			ID:  eventID(from, out),
			Key: out.Key, Value: out.Value[8:], Time: at.UnixMicro(),
			Source: from.partition.String(), Position: tx.Position, XID: tx.XID,
		}
	} else {
		var err error
		spec := out.Node.Sink.(*sinks.Spec)
		if item.Columns, item.Deleted, err = spec.Row(out.Value, nil); err != nil {
			return err
		}
		if n := len(ready.Txs); n > 0 {
			at = time.UnixMicro(ready.Txs[n-1].CommitTime).UTC()
		}
	}
	rec, err := t.encoder.Encode(&item, at)
	if err != nil {
		return err
	}
	r := &kgo.Record{
		Topic: rec.Topic, Partition: kafka.AnyPartition, Key: rec.Key, Value: rec.Value, Timestamp: rec.Time,
	}
	if out.Event {
		for _, h := range ready.Txs[out.Seq].Headers {
			r.Headers = append(r.Headers, kgo.RecordHeader(h))
		}
	}
	for _, h := range rec.Headers {
		r.Headers = append(r.Headers, kgo.RecordHeader(h))
	}
	e.session.Produce(r)
	return nil
}

// eventID is the stable id of an event (invariant K10): the input's topic, partition and
// offset, the node, and the row with the index path among its outputs.
func eventID(from origin, out task.Output) string {
	id := record.EventID(from.partition.String(), strconv.FormatInt(from.offset, 10),
		out.Node.Topology, out.Node.Name, binary.BigEndian.Uint32(out.Tag), string(out.Tag[4:]))
	if from.piece > 0 {
		id += fmt.Sprintf("~%d", from.piece)
	}
	return id
}
