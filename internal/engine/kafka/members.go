package kafka

import (
	"slices"
	"sync"

	"github.com/tailrace/tailrace/internal/kafka"
	"github.com/tailrace/tailrace/topology"
	"github.com/tailrace/tailrace/view"
)

// members is what this member knows of the group, for queries: who has which tasks, as the
// group's leader has said last, and which tasks have a view. Queries come from other
// goroutines.
type members struct {
	self string // this member's address

	mu    sync.Mutex
	hosts []kafka.Host // nil without a session
	views map[string]viewParts
}

// viewParts is of which tasks a view is.
type viewParts struct {
	sub   string
	count int32
	// byKey says that a key tells its task.
	byKey bool
}

var _ view.Members = (*members)(nil)

// learn takes what the group's leader says. Where it says nothing, as when it distributes
// nothing anew, what was known may be so no longer, and who is asked in vain says so.
func (m *members) learn(hosts []kafka.Host) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.hosts = hosts
}

// forget says that there is no session.
func (m *members) forget() { m.learn(nil) }

// count takes the numbers of tasks, once the topics are known.
func (m *members) count(bound []boundStore) {
	views := map[string]viewParts{}
	for _, b := range bound {
		views[b.view] = viewParts{b.sub.name, b.sub.tasks(), b.byKey}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.views = views
}

func (m *members) view(name string) viewParts {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.views[name]
}

// Parts implements view.Members.
func (m *members) Parts(name string) int32 { return m.view(name).count }

// PartOf implements view.Members: records of an exchange are divided by their encoded keys,
// those of a source as its producer does it.
func (m *members) PartOf(name string, key []byte) (int32, bool) {
	switch v := m.view(name); {
	case v.count == 1:
		return 0, true
	case v.count > 0 && v.byKey:
		return int32(topology.PartitionOf(key, int(v.count))), true
	}
	return 0, false
}

// Where implements view.Members.
func (m *members) Where(name string, part int32) string {
	m.mu.Lock()
	defer m.mu.Unlock()
	task := kafka.Task{SubTopology: m.views[name].sub, Partition: part}
	for _, h := range m.hosts {
		if slices.Contains(h.Tasks, task) {
			return h.Address
		}
	}
	return ""
}

// Self implements view.Members.
func (m *members) Self() string { return m.self }

// Others implements view.Members.
func (m *members) Others() (out []string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, h := range m.hosts {
		if h.Address != m.self {
			out = append(out, h.Address)
		}
	}
	return out
}
