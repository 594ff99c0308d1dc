package kafka

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// ProtocolName is the name under which members of a group agree on the Balancer.
const ProtocolName = "tailrace"

// Balancer distributes tasks over the members of a group: a cooperative kgo.GroupBalancer.
//
// All input partitions of a task go to one member, and a task that moves is given up as a
// whole before anybody gets it. It stays with its owner, else it goes to where its
// state is, else into the rack of its partitions. No member has over one task more than
// another, neither of one sub-topology nor in all, and no fewer moves can bring that about.
// The same members and the same state always give the same result, and a group that is
// balanced stays as it is.
//
// Which topology a group runs is decided by who has partitions, else by the most members;
// the others are refused: they are assigned nothing, with a reason.
type Balancer struct {
	cfg BalancerConfig
	ids []string // of sub-topologies, ascending

	mu   sync.Mutex
	last Assignment
	// parts are the partitions of each task of last.
	parts map[string][]int32
}

var _ kgo.GroupBalancer = (*Balancer)(nil)

// NewBalancer makes the balancer of one member. An error says that sub-topologies share an
// id or have no topics.
func NewBalancer(cfg BalancerConfig) (*Balancer, error) {
	if cfg.State == nil {
		cfg.State = func() map[Task]int64 { return nil }
	}
	if cfg.Assigned == nil {
		cfg.Assigned = func(Assignment) {}
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	b := &Balancer{cfg: cfg}
	b.cfg.SubTopologies = slices.SortedFunc(slices.Values(cfg.SubTopologies), func(s, t SubTopology) int {
		return cmp.Compare(s.ID, t.ID)
	})
	var problems []error
	for i, s := range b.cfg.SubTopologies {
		if i > 0 && s.ID == b.ids[i-1] {
			problems = append(problems, fmt.Errorf("kafka: two sub-topologies have the id %q", s.ID))
		}
		if len(s.Topics) == 0 {
			problems = append(problems, fmt.Errorf("kafka: sub-topology %q has no topics", s.ID))
		}
		b.ids = append(b.ids, s.ID)
	}
	return b, errors.Join(problems...)
}

// Assignment returns the last assignment of this member.
func (b *Balancer) Assignment() Assignment {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.last
}

// ProtocolName implements kgo.GroupBalancer.
func (b *Balancer) ProtocolName() string { return ProtocolName }

// IsCooperative implements kgo.GroupBalancer.
func (b *Balancer) IsCooperative() bool { return true }

// JoinGroupMetadata implements kgo.GroupBalancer.
func (b *Balancer) JoinGroupMetadata(topics []string, owned map[string][]int32, generation int32) []byte {
	data := memberData{
		version: protocolVersion, topology: b.cfg.Topology, process: b.cfg.Process, address: b.cfg.Address,
		lags: map[Task]int{},
	}
	for task, lag := range b.cfg.State() {
		data.lags[task] = bucket(lag)
	}
	meta := kmsg.NewConsumerMemberMetadata()
	meta.Version, meta.Topics, meta.Generation = 3, topics, generation
	if b.cfg.Rack != "" {
		meta.Rack = &b.cfg.Rack
	}
	for _, topic := range slices.Sorted(maps.Keys(owned)) {
		has := kmsg.NewConsumerMemberMetadataOwnedPartition()
		has.Topic, has.Partitions = topic, owned[topic]
		meta.OwnedPartitions = append(meta.OwnedPartitions, has)
	}
	meta.UserData = data.append(nil, b.ids)
	return meta.AppendTo(nil)
}

// ParseSyncAssignment implements kgo.GroupBalancer. A member that is refused has nothing
// assigned; Assigned tells it why.
func (b *Balancer) ParseSyncAssignment(raw []byte) (map[string][]int32, error) {
	parts := map[string][]int32{}
	var data assignmentData
	if len(raw) > 0 { // who joined too late for the plan has nothing
		var message kmsg.ConsumerMemberAssignment
		if err := message.ReadFrom(raw); err != nil {
			return nil, fmt.Errorf("kafka: read the group's assignment: %w", err)
		}
		var err error
		if data, err = decodeAssignment(message.UserData, b.cfg.Topology, b.ids); err != nil {
			return nil, err
		}
		for _, t := range message.Topics {
			parts[t.Topic] = t.Partitions
		}
	} else {
		data.topology = b.cfg.Topology
	}
	got := b.assignment(data, parts)
	if got.Err != nil {
		parts = map[string][]int32{}
		b.cfg.Logger.Error("the group assigns nothing to this member", "error", got.Err)
	}
	b.mu.Lock()
	b.last, b.parts = got, parts
	b.mu.Unlock()
	b.cfg.Assigned(got)
	return parts, nil
}

// assignment makes an Assignment of what the leader says.
func (b *Balancer) assignment(d assignmentData, parts map[string][]int32) Assignment {
	switch {
	case d.kind == refused:
		return Assignment{Err: fmt.Errorf("%w: %s", ErrRefused, d.text)}
	case d.topology != b.cfg.Topology:
		// A static member that comes back is given what it had before, unseen by the leader.
		return Assignment{Err: fmt.Errorf("%w: %s", ErrRefused, otherTopology(d.topology, b.cfg.Topology))}
	case d.kind == topicsChanged:
		return Assignment{Err: fmt.Errorf("%w: %s", ErrGroupTopics, d.text)}
	case d.kind == kept:
		return b.keep(parts)
	}
	return Assignment{Tasks: d.tasks, Standbys: d.standbys, Hosts: d.hosts}
}

// keep is the last assignment without the tasks that have lost partitions.
func (b *Balancer) keep(parts map[string][]int32) Assignment {
	b.mu.Lock()
	defer b.mu.Unlock()
	kept := b.last
	kept.Tasks = slices.DeleteFunc(slices.Clone(kept.Tasks), func(t Task) bool {
		for _, s := range b.cfg.SubTopologies {
			for _, topic := range s.Topics {
				if s.ID == t.SubTopology && slices.Contains(b.parts[topic], t.Partition) &&
					!slices.Contains(parts[topic], t.Partition) {
					return true
				}
			}
		}
		return false
	})
	return kept
}

func otherTopology(group, member string) string {
	return fmt.Sprintf("the group runs topology %s and this member has %s; stop all members before the "+
		"topology changes and drop the app (tailrace drop), or give the changed app another name", group, member)
}
