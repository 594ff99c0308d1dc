package kafka

import (
	"errors"
	"fmt"
	"hash/fnv"
	"slices"
	"strconv"
	"strings"

	"github.com/tailrace/tailrace/changelog"
	"github.com/tailrace/tailrace/internal/kafka"
	"github.com/tailrace/tailrace/sources"
	"github.com/tailrace/tailrace/topology"
)

// share is what a task runs of one topology: all of it, or what lies between exchanges.
type share struct {
	topology *topology.Topology
	// cut and sub are set where it is one sub-topology.
	cut *topology.Cut
	sub *topology.SubTopology
}

// name tells shares apart.
func (s *share) name() string {
	if s.sub == nil {
		return s.topology.Name()
	}
	return s.topology.Name() + "/" + strconv.Itoa(s.sub.Number)
}

func (s *share) nodes() []*topology.Node {
	if s.sub == nil {
		return s.topology.Nodes()
	}
	return s.sub.Nodes
}

// stores are the names of all stores.
func (s *share) stores() []string {
	var names []string
	for _, n := range s.nodes() {
		names = append(names, n.StoreNames()...)
	}
	return names
}

// reads returns the exchanges that feed it.
func (s *share) reads() []*topology.Exchange {
	if s.sub == nil {
		return nil
	}
	return s.sub.Reads
}

// subTopology is what runs together in each task: a share of a topology and all others that
// read one of its topics, which go through their inputs in step, since the group knows one
// offset for each partition. There is a task for each partition of the inputs, unless one
// of the topologies cannot be cut: then one task reads all partitions.
type subTopology struct {
	// name is that of the first share; it names tasks in the state directory.
	name   string
	parts  []*share
	hash   string
	inputs []input
	// beats are heartbeats, which every task reads.
	beats []heartbeats
	// whole says that one task reads all partitions of all inputs.
	whole bool
	// number is its place among all: each comes before those that it feeds.
	number int
	// handedTo says that its tasks take what is handed over: they read nothing but exchanges,
	// and do not wait for each other.
	handedTo bool
	// count is how many tasks there are, and partitions are those of each input, in order
	// of inputs, once the topics are known.
	count      int32
	partitions []int32
}

// tasks is how many there are: one for each partition of the inputs.
func (s *subTopology) tasks() int32 { return max(s.count, 1) }

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

// input is a topic that a sub-topology reads: of tables that it holds for it, or of an
// exchange.
type input struct {
	topic    string
	exchange *topology.Exchange
	database string
	reader   sources.TopicReader
	request  sources.TableRequest
	// beats says that it has heartbeats.
	beats bool
	// start is where it begins without offsets.
	start sources.Start
	// undecodable says what becomes of records that cannot be decoded.
	undecodable sources.Undecodable
}

// table reports whether there are changes of a table in the topic.
func (in *input) table() bool {
	return in.request.Changes || in.exchange != nil && in.exchange.Table
}

// rank orders inputs whose records have the same timestamp.
func (in *input) rank() int {
	switch {
	case in.table():
		return 0
	case in.beats:
		return 2
	}
	return 1
}

// taskID names a task: a partition of a sub-topology.
type taskID struct {
	sub       int
	partition int32
}

// plan finds what the topologies read, and reports all that cannot run on topics.
func (e *Engine) plan() error {
	var errs []error
	cuts := map[*topology.Topology]*topology.Cut{} // of those that can be
	for _, t := range e.cfg.Topologies {
		cut, err := t.CutForTopics()
		if err == nil {
			cuts[t] = cut
			continue
		}
		e.log.Info("the topology runs as one task, on one member", "topology", t.Name(), "because", err)
	}
	e.stayTogether(cuts)
	for _, t := range e.cfg.Topologies {
		for _, s := range shares(t, cuts[t]) {
			sub := &subTopology{name: s.name(), parts: []*share{s}, whole: cuts[t] == nil}
			for _, n := range s.nodes() {
				if spec, ok := n.Source.(*sources.Spec); ok {
					errs = append(errs, e.addInput(sub, n, spec))
				}
			}
			for _, x := range s.reads() {
				sub.add(input{topic: e.repartitionTopic(x), exchange: x})
			}
			e.subs = e.joinSubs(sub)
		}
	}
	for i, sub := range e.subs {
		sub.number = i
		h := fnv.New64a()
		for _, s := range sub.parts {
			fmt.Fprintf(h, "%s %x;", s.name(), s.topology.Hash())
			for _, n := range s.nodes() {
				if n.Parks() { // whose keys would be forgotten by members that do not park
					fmt.Fprintf(h, "parks %s;", n.Name)
				}
			}
			for _, x := range s.reads() {
				e.readers[x] = sub
			}
		}
		sub.hash = strconv.FormatUint(h.Sum64(), 16)
		slices.SortFunc(sub.inputs, func(a, b input) int { return strings.Compare(a.topic, b.topic) })
		e.addHeartbeats(sub)
		sub.handedTo = !sub.whole && len(sub.beats) == 0 &&
			!slices.ContainsFunc(sub.inputs, func(in input) bool { return in.exchange == nil })
	}
	return errors.Join(append(errs, e.checkNames(), e.checkDeadLetters())...)
}

// shares are what a topology is divided into: one where there are no exchanges.
func shares(t *topology.Topology, cut *topology.Cut) []*share {
	if cut == nil || len(cut.Exchanges) == 0 {
		return []*share{{topology: t}}
	}
	var out []*share
	for _, s := range cut.SubTopologies {
		out = append(out, &share{t, cut, s})
	}
	return out
}

// stayTogether leaves no cut of a topology that shares topics with one that has none.
func (e *Engine) stayTogether(cuts map[*topology.Topology]*topology.Cut) {
	for again := true; again; {
		again = false
		for _, t := range e.cfg.Topologies {
			for _, u := range e.cfg.Topologies {
				if cuts[t] == nil && cuts[u] != nil && shareInputs(t, u) {
					delete(cuts, u)
					again = true
				}
			}
		}
	}
}

func shareInputs(t, u *topology.Topology) bool {
	return slices.ContainsFunc(t.Nodes(), func(n *topology.Node) bool {
		return n.Source != nil && slices.ContainsFunc(u.Nodes(), func(m *topology.Node) bool {
			return m.Source != nil && m.Source.Input() == n.Source.Input()
		})
	})
}

// repartitionTopic is the topic of an exchange.
func (e *Engine) repartitionTopic(x *topology.Exchange) string {
	name, ok := e.exchangeTopics[x]
	if !ok {
		name = changelog.RepartitionTopic(e.cfg.App, x.Name)
		e.exchangeTopics[x] = name
	}
	return name
}

// joinSubs adds a sub-topology, and makes one of those that read a topic in common, in the
// place of the first: each comes before those that it feeds.
func (e *Engine) joinSubs(sub *subTopology) []*subTopology {
	var out []*subTopology
	at := -1
	for _, other := range e.subs {
		common := slices.ContainsFunc(other.inputs, func(in input) bool { return sub.find(in.topic) != nil })
		switch {
		case !common:
			out = append(out, other)
			continue
		case at < 0:
			at = len(out)
			out = append(out, other)
		}
		for _, in := range sub.inputs {
			other.add(in)
		}
		other.parts = append(other.parts, sub.parts...)
		sub, out[at] = other, other
	}
	if at < 0 {
		out = append(out, sub)
	}
	return out
}

// checkNames refuses two stores of one name, and two exchanges: topics are named for them
// alone.
func (e *Engine) checkNames() error {
	var errs []error
	once := func(owners map[string]string, what, name, owner string) {
		if other, dup := owners[name]; dup {
			errs = append(errs, fmt.Errorf("kafka: topologies %q and %q both have %s %q, whose topic would be "+
				"the same; name one of the nodes otherwise", other, owner, what, name))
		}
		owners[name] = owner
	}
	stores, exchanges := map[string]string{}, map[string]string{}
	for _, sub := range e.subs {
		for _, s := range sub.parts {
			for _, name := range s.stores() {
				once(stores, "a store", name, s.topology.Name())
			}
			for _, x := range s.reads() {
				once(exchanges, "an exchange", x.Name, s.topology.Name())
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
	in := input{
		topic: reader.Topic(spec.Table.Name), database: name, reader: reader, request: spec.Table,
		undecodable: e.policyOf(reader),
	}
	if from, ok := reader.(sources.StartReader); ok {
		in.start = from.Start(spec.Table.Name)
	}
	if in.start != (sources.Start{}) && spec.Table.Changes {
		return fmt.Errorf("%w: topology %q: %q is a table, which needs all that topic %q holds, and its Start is "+
			"not the beginning; leave Start out, or read it with sources.Stream",
			sources.ErrConfig, owner, n.Name, in.topic)
	}
	sub.add(in)
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

// countTasks says how many tasks each sub-topology has: as many as its topics have
// partitions; where it reads exchanges alone, as what feeds it.
func (e *Engine) countTasks(infos map[string]changelog.TopicInfo) {
	for _, sub := range e.subs {
		sub.partitions, sub.count = sub.partitions[:0], 0
		for _, in := range sub.inputs {
			sub.partitions = append(sub.partitions, infos[in.topic].Partitions)
			sub.count = max(sub.count, infos[in.topic].Partitions)
		}
		if sub.whole {
			sub.count = 1
		}
	}
	fixed := map[*subTopology]bool{}
	for _, sub := range e.subs {
		fixed[sub] = sub.count > 0
	}
	for again := true; again; {
		again = false
		for _, sub := range e.subs {
			for _, s := range sub.parts {
				if s.sub == nil {
					continue
				}
				for _, x := range s.sub.Writes {
					if to := e.readers[x]; !fixed[to] && to.count < sub.count {
						to.count, again = sub.count, true
					}
				}
			}
		}
	}
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
