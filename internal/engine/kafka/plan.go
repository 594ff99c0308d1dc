package kafka

import (
	"errors"
	"fmt"
	"hash/fnv"
	"slices"
	"strconv"
	"strings"

	"github.com/tailrace/tailrace/internal/kafka"
	"github.com/tailrace/tailrace/sources"
	"github.com/tailrace/tailrace/topology"
)

// subTopology is what runs together in each task: a topology and all others that read one
// of its topics, which go through their inputs in step, since the group knows one offset
// for each partition. Without exchanges there is a task for each partition of the inputs.
// With one, what belongs together is spread over partitions, and one task reads them all.
type subTopology struct {
	// name is that of the first topology; it names tasks in the state directory.
	name   string
	parts  []*topology.Topology
	hash   string
	inputs []input
	// whole says that one task reads all partitions of all inputs: there are exchanges.
	whole bool
	// partitions are those of each input, in order of inputs, once the topics are known.
	partitions []int32
}

// tasks is how many there are: one for each partition of the inputs.
func (s *subTopology) tasks() int32 {
	if s.whole || len(s.partitions) == 0 {
		return 1
	}
	return s.partitions[0]
}

// reads calls fn for each partition that a task reads.
func (s *subTopology) reads(task int32, fn func(in *input, p kafka.Partition)) {
	for i := range s.inputs {
		in := &s.inputs[i]
		if !s.whole {
			fn(in, kafka.Partition{Topic: in.topic, Number: task})
			continue
		}
		for n := range s.partitions[i] {
			fn(in, kafka.Partition{Topic: in.topic, Number: n})
		}
	}
}

// input is a topic that a sub-topology reads, and the tables that it holds for it.
type input struct {
	topic    string
	database string
	reader   sources.TopicReader
	request  sources.TableRequest
}

// taskID names a task: a partition of a sub-topology.
type taskID struct {
	sub       int
	partition int32
}

// plan finds what the topologies read, and reports all that cannot run on topics.
func (e *Engine) plan() error {
	var errs []error
	for _, t := range e.cfg.Topologies {
		sub := &subTopology{name: t.Name(), parts: []*topology.Topology{t}}
		for _, n := range t.Nodes() {
			if spec, ok := n.Source.(*sources.Spec); ok {
				errs = append(errs, e.addInput(sub, n, spec))
			}
		}
		cut, err := t.Cut()
		// What cannot be cut runs whole as well.
		sub.whole = err != nil || len(cut.Exchanges) > 0
		e.subs = e.joinSubs(sub)
	}
	for _, sub := range e.subs {
		h := fnv.New64a()
		for _, t := range sub.parts {
			fmt.Fprintf(h, "%s %x;", t.Name(), t.Hash())
			for _, n := range t.Nodes() {
				if n.Parks() { // whose keys would be forgotten by members that do not park
					fmt.Fprintf(h, "parks %s;", n.Name)
				}
			}
		}
		sub.hash = strconv.FormatUint(h.Sum64(), 16)
		slices.SortFunc(sub.inputs, func(a, b input) int { return strings.Compare(a.topic, b.topic) })
	}
	return errors.Join(append(errs, e.checkStores())...)
}

// joinSubs adds a sub-topology, and makes one of those that read a topic in common.
func (e *Engine) joinSubs(sub *subTopology) []*subTopology {
	var apart []*subTopology
	for _, other := range e.subs {
		common := slices.ContainsFunc(other.inputs, func(in input) bool { return sub.find(in.topic) != nil })
		if !common {
			apart = append(apart, other)
			continue
		}
		for _, in := range sub.inputs {
			other.add(in)
		}
		other.parts = append(other.parts, sub.parts...)
		other.whole = other.whole || sub.whole
		sub = other
	}
	return append(apart, sub)
}

// checkStores refuses two stores of one name: a changelog is named for its store alone.
func (e *Engine) checkStores() error {
	owners := map[string]string{}
	var errs []error
	for _, t := range e.cfg.Topologies {
		for _, n := range t.Nodes() {
			for _, name := range n.StoreNames() {
				if other, dup := owners[name]; dup {
					errs = append(errs, fmt.Errorf("kafka: topologies %q and %q both have a store %q, whose "+
						"changelog would be one topic; name one of the nodes otherwise", other, t.Name(), name))
				}
				owners[name] = t.Name()
			}
		}
	}
	return errors.Join(errs...)
}

func (e *Engine) addInput(sub *subTopology, n *topology.Node, spec *sources.Spec) error {
	name, owner := spec.Database.Name(), n.Topology
	if spec.Messages != "" {
		return fmt.Errorf("kafka: topology %q: node %q reads logical messages, which topics do not hold; run "+
			"it in direct mode", owner, n.Name)
	}
	reader, ok := e.cfg.Sources[name].(sources.TopicReader)
	if !ok {
		return fmt.Errorf("kafka: topology %q: database %q is read by %T, and not from topics; bind a connector "+
			"of topics, such as Config.Bind(%q, debezium.Source(...))", owner, name, e.cfg.Sources[name], name)
	}
	sub.add(input{topic: reader.Topic(spec.Table.Name), database: name, reader: reader, request: spec.Table})
	return nil
}

func (s *subTopology) find(topic string) *input {
	for i := range s.inputs {
		if s.inputs[i].topic == topic {
			return &s.inputs[i]
		}
	}
	return nil
}

// add adds an input; nodes that read one table share its records.
func (s *subTopology) add(in input) {
	have := s.find(in.topic)
	if have == nil {
		s.inputs = append(s.inputs, in)
		return
	}
	req := &have.request
	for _, c := range in.request.Columns {
		if !slices.Contains(req.Columns, c) {
			req.Columns = append(slices.Clip(req.Columns), c)
		}
	}
	req.Changes = req.Changes || in.request.Changes
	req.Snapshot = req.Snapshot || in.request.Snapshot
}

// topics are all topics that the group reads.
func (e *Engine) topics() []string {
	var out []string
	for _, sub := range e.subs {
		for _, in := range sub.inputs {
			out = append(out, in.topic)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}
