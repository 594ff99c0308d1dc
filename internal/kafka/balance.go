package kafka

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/tailrace/tailrace/changelog"
)

// groupMember is a member as the leader sees it.
type groupMember struct {
	id      string
	topics  []string
	data    memberData
	plan    planMember
	refusal string // "" if it is not refused
}

// balanceRound is one balancing, by the leader.
type balanceRound struct {
	b        *Balancer
	consumer *kgo.ConsumerBalancer
	members  []*groupMember
	// topology is what the group runs.
	topology string
}

// MemberBalancer implements kgo.GroupBalancer.
func (b *Balancer) MemberBalancer(
	joined []kmsg.JoinGroupResponseMember,
) (kgo.GroupMemberBalancer, map[string]struct{}, error) {
	r := &balanceRound{b: b}
	readable := make([]kmsg.JoinGroupResponseMember, len(joined))
	for i := range joined {
		readable[i] = joined[i]
		m := b.member(&joined[i])
		if m.refusal != "" {
			// What cannot be read must not keep the others from being balanced.
			meta := kmsg.NewConsumerMemberMetadata()
			readable[i].ProtocolMetadata = meta.AppendTo(nil)
		}
		r.members = append(r.members, m)
	}
	r.choose()
	topics := map[string]struct{}{}
	for _, m := range r.members {
		if m.refusal == "" {
			for _, topic := range m.topics {
				topics[topic] = struct{}{}
			}
		}
	}
	var err error
	r.consumer, err = kgo.NewConsumerBalancer(r, readable)
	return r.consumer, topics, err
}

// member reads what a member has said.
func (b *Balancer) member(joined *kmsg.JoinGroupResponseMember) *groupMember {
	m := &groupMember{id: joined.MemberID, plan: planMember{claims: map[changelog.Partition]bool{}}}
	var meta kmsg.ConsumerMemberMetadata
	meta.Default()
	if err := meta.ReadFrom(joined.ProtocolMetadata); err != nil {
		m.refusal = "its metadata cannot be read: " + err.Error()
		return m
	}
	data, err := decodeMember(meta.UserData, b.cfg.Topology, b.ids)
	switch {
	case err != nil:
		m.refusal = "its data cannot be read; is it another program?"
		return m
	case data.version > protocolVersion:
		m.refusal = fmt.Sprintf("it speaks version %d of the group's protocol, and the group up to %d; "+
			"upgrade the other members first", data.version, protocolVersion)
		return m
	}
	m.data, m.topics = data, meta.Topics
	m.plan.process, m.plan.lags, m.plan.generation = data.process, data.lags, meta.Generation
	if meta.Rack != nil {
		m.plan.rack = *meta.Rack
	}
	for _, owned := range meta.OwnedPartitions {
		for _, p := range owned.Partitions {
			m.plan.claims[changelog.Partition{Topic: owned.Topic, Number: p}] = true
		}
	}
	return m
}

// choose finds the topology that the group runs, and refuses who has another one.
func (r *balanceRound) choose() {
	type weight struct{ claims, members int }
	weights := map[string]weight{}
	for _, m := range r.members {
		if m.refusal == "" {
			w := weights[m.data.topology]
			weights[m.data.topology] = weight{w.claims + len(m.plan.claims), w.members + 1}
		}
	}
	first := true
	for _, topology := range slices.Sorted(maps.Keys(weights)) {
		is, best := weights[topology], weights[r.topology]
		if first || cmp.Or(cmp.Compare(is.claims, best.claims), cmp.Compare(is.members, best.members)) > 0 {
			r.topology, first = topology, false
		}
	}
	for _, m := range r.members {
		if m.refusal == "" && m.data.topology != r.topology {
			m.refusal = otherTopology(r.topology, m.data.topology)
		}
	}
}

// Balance implements kgo.ConsumerBalancerBalance.
func (r *balanceRound) Balance(c *kgo.ConsumerBalancer, counts map[string]int32) kgo.IntoSyncAssignment {
	var out syncPlan
	var takers []*groupMember
	for _, m := range r.members {
		if m.refusal != "" {
			r.b.cfg.Logger.Warn("a member is refused", "member", m.id, "reason", m.refusal)
			out.add(m.id, nil, assignmentData{kind: refused, topology: r.topology, text: m.refusal}, nil)
			continue
		}
		takers = append(takers, m)
	}
	data, ok := r.b.checkTopics(counts)
	switch {
	case r.topology != r.b.cfg.Topology, !ok && data.kind == kept:
		// This leader, itself refused, does not know what to distribute, or does not at the
		// moment: all go on with what they have.
		for _, m := range takers {
			out.add(m.id, r.claimed(m, takers), assignmentData{kind: kept, topology: r.topology}, nil)
		}
	case !ok:
		for _, m := range takers {
			out.add(m.id, nil, data, r.b.ids)
		}
	default:
		r.distribute(&out, takers, counts, c.PartitionRacks())
	}
	return out
}

// checkTopics compares the topics with what the sub-topologies were made for. Partitions
// that are missing may be missing in the client's view only; more of them are real.
func (b *Balancer) checkTopics(counts map[string]int32) (assignmentData, bool) {
	var grown, missing []string
	for _, s := range b.cfg.SubTopologies {
		var most int32
		for _, topic := range s.Topics {
			n := counts[topic]
			most = max(most, n)
			switch {
			case n == 0:
				missing = append(missing, topic)
			case s.Tasks > 0 && n > s.Tasks:
				grown = append(grown, fmt.Sprintf("topic %q has %d partitions and had %d at most", topic, n, s.Tasks))
			}
		}
		if most < s.Tasks {
			missing = append(missing, s.Topics...)
		}
	}
	data := assignmentData{topology: b.cfg.Topology}
	switch {
	case len(grown) > 0:
		data.kind = topicsChanged
		data.text = strings.Join(grown, "; ") + "; the state is divided by the old number: drop the app " +
			"(tailrace drop) to build it anew"
	case len(missing) > 0:
		b.cfg.Logger.Warn("topics are missing, or partitions of them: nothing is distributed anew",
			"topics", missing)
		data.kind = kept
	default:
		return data, true
	}
	return data, false
}

// claimed is what a member has and nobody else claims.
func (r *balanceRound) claimed(m *groupMember, all []*groupMember) map[string][]int32 {
	parts := map[string][]int32{}
	for p := range m.plan.claims {
		if !slices.ContainsFunc(all, func(o *groupMember) bool { return o != m && o.plan.claims[p] }) {
			parts[p.Topic] = append(parts[p.Topic], p.Number)
		}
	}
	return parts
}

func (r *balanceRound) distribute(
	out *syncPlan, takers []*groupMember, counts map[string]int32, racks map[string][]string,
) {
	members := make([]planMember, len(takers))
	for i, m := range takers {
		members[i] = m.plan
	}
	p := newPlan(r.b.cfg.SubTopologies, counts, racks, members)
	p.distribute()
	p.settle()
	p.follow(r.b.cfg.Standbys)
	tasks := make([][]Task, len(takers))
	parts := make([]map[string][]int32, len(takers))
	var hosts []Host
	for i, m := range takers {
		parts[i] = map[string][]int32{}
		for _, t := range p.assigned[i] {
			tasks[i] = append(tasks[i], p.names(&p.tasks[t])...)
			for _, part := range p.tasks[t].partitions {
				parts[i][part.Topic] = append(parts[i][part.Topic], part.Number)
			}
		}
		slices.SortFunc(tasks[i], compareTasks)
		slices.SortFunc(p.standbys[i], compareTasks)
		if m.data.address != "" {
			hosts = append(hosts, Host{m.data.address, tasks[i], p.standbys[i]})
		}
	}
	slices.SortFunc(hosts, func(a, b Host) int { return cmp.Compare(a.Address, b.Address) })
	for i, m := range takers {
		out.add(m.id, parts[i], assignmentData{
			kind: assigned, topology: r.topology, tasks: tasks[i], standbys: p.standbys[i], hosts: hosts,
		}, r.b.ids)
	}
}

// syncPlan is what the leader sends.
type syncPlan []kmsg.SyncGroupRequestGroupAssignment

func (s *syncPlan) add(member string, parts map[string][]int32, data assignmentData, ids []string) {
	message := kmsg.NewConsumerMemberAssignment()
	for _, topic := range slices.Sorted(maps.Keys(parts)) {
		t := kmsg.NewConsumerMemberAssignmentTopic()
		t.Topic, t.Partitions = topic, slices.Sorted(slices.Values(parts[topic]))
		message.Topics = append(message.Topics, t)
	}
	message.UserData = data.append(nil, ids)
	one := kmsg.NewSyncGroupRequestGroupAssignment()
	one.MemberID, one.MemberAssignment = member, message.AppendTo(nil)
	*s = append(*s, one)
}

// IntoSyncAssignment implements kgo.IntoSyncAssignment.
func (s syncPlan) IntoSyncAssignment() []kmsg.SyncGroupRequestGroupAssignment {
	return slices.SortedFunc(slices.Values(s), func(a, b kmsg.SyncGroupRequestGroupAssignment) int {
		return cmp.Compare(a.MemberID, b.MemberID)
	})
}
