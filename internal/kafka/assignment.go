package kafka

import (
	"errors"
	"fmt"
	"log/slog"
)

// ErrRefused says that the group does not take this member; the message says why and what
// to do. The others go on.
var ErrRefused = errors.New("kafka: refused by the group")

// ErrGroupTopics says that the topics that the group reads are not what it was started
// with: one is missing, or has another number of partitions.
var ErrGroupTopics = errors.New("kafka: topics of the group have changed")

// ErrTopologyChanged says that another form of a topology has made the app's state: its
// changelogs and offsets. The message says which input tells, and the ways on.
var ErrTopologyChanged = errors.New("kafka: the topology has changed")

// SubTopology is what the balancer knows of one.
type SubTopology struct {
	// ID is unique in the group.
	ID string
	// Topics are all that its tasks read through the group: sources and repartition topics.
	// Task p reads partition p of each that has one. Sub-topologies that share a topic go
	// to the same member, partition by partition.
	Topics []string
	// Tasks is how many there are: the partitions of its topics. 0 takes what the topics
	// have; another number that they do not have is ErrGroupTopics.
	Tasks int32
	// Whole says that there is one task, which reads all partitions of all topics, and those
	// of sub-topologies that share one with it. Tasks is 0 then.
	Whole bool
	// Stateful says that its tasks keep state, so that they can have standbys.
	Stateful bool
}

// Task is the unit that is assigned: a sub-topology and a partition.
type Task struct {
	SubTopology string
	Partition   int32
}

// String is the sub-topology's id and the partition, as revenue/0_3.
func (t Task) String() string { return fmt.Sprintf("%s_%d", t.SubTopology, t.Partition) }

// BalancerConfig says what is balanced, and what this member has to say.
type BalancerConfig struct {
	// Topology is the hash of everything that the members have to agree on.
	Topology string
	// SubTopologies are those of the app, the same for all members.
	SubTopologies []SubTopology
	// Process identifies the state directory: standbys never share it with their task.
	Process string
	// Address is where this member answers queries, host:port; "" if it does not.
	Address string
	// Rack is where this member is; "" if unknown. Tasks prefer members in the rack of
	// their partitions' leaders, standbys another rack than that of their task.
	Rack string
	// Standbys is how many each stateful task has, as far as there are members.
	Standbys int
	// State returns, for each task with local state, how many records of its changelogs
	// that lacks. It is called with each join, from the client's goroutine. Nil says that
	// there is none.
	State func() map[Task]int64
	// Assigned is called with each assignment, from the client's goroutine, before the
	// session's own callbacks. Nil is not called. It must not call the client.
	Assigned func(Assignment)
	// Logger takes what happens; nil discards it.
	Logger *slog.Logger
}

// Assignment is what the leader has sent to this member.
type Assignment struct {
	// Tasks are those that this member runs; all their partitions are assigned to it.
	Tasks []Task
	// Standbys are the tasks whose state this member follows.
	Standbys []Task
	// Hosts are the members that answer queries, with what they have, in order of their
	// addresses.
	Hosts []Host
	// Err is ErrRefused or ErrGroupTopics where nothing is assigned for that reason. The
	// member has to leave the group then.
	Err error
}

// Host is a member that answers queries.
type Host struct {
	Address string
	// Tasks run there, Standbys are followed there.
	Tasks, Standbys []Task
}
