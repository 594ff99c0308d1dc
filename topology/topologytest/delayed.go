package topologytest

import (
	"bytes"
	"math/rand/v2"
	"slices"

	"github.com/tailrace/tailrace/topology"
)

// mail is what is under way between partitions.
type mail struct {
	rand   *rand.Rand
	settle bool // all arrives
	// pending is by the names of the exchanges, which each task makes anew.
	pending map[string][]letter
	// committed is pending as of the last commit.
	committed map[string][]letter
}

// letter is a message on its way from a partition.
type letter struct {
	from    int
	message topology.Message
}

func newMail(seed uint64) *mail {
	return &mail{
		rand: rand.New(rand.NewPCG(seed, 0)), pending: map[string][]letter{},
		committed: map[string][]letter{},
	}
}

// Send takes a message.
func (m *mail) Send(e *topology.Exchange, from int, msg topology.Message) {
	msg.Key, msg.Value = bytes.Clone(msg.Key), bytes.Clone(msg.Value)
	m.pending[e.Name] = append(m.pending[e.Name], letter{from, msg})
}

// Arrive yields some of what is on the way to a partition: of each partition the oldest.
func (m *mail) Arrive(e *topology.Exchange, to int, yield func(topology.Message) error) error {
	held := map[int]bool{} // partitions of which the rest comes later
	var failed error
	m.pending[e.Name] = slices.DeleteFunc(m.pending[e.Name], func(l letter) bool {
		if l.message.Partition != to || held[l.from] || failed != nil {
			return false
		}
		if !m.settle && m.rand.IntN(3) == 0 {
			held[l.from] = true
			return false
		}
		failed = yield(l.message)
		return true
	})
	return failed
}

func (m *mail) empty() bool {
	for _, letters := range m.pending {
		if len(letters) > 0 {
			return false
		}
	}
	return true
}

func (m *mail) commit() { m.committed = cloneLetters(m.pending) }

func (m *mail) rollback() { m.pending = cloneLetters(m.committed) }

func cloneLetters(in map[string][]letter) map[string][]letter {
	out := make(map[string][]letter, len(in))
	for e, letters := range in {
		out[e] = slices.Clone(letters)
	}
	return out
}

// Settle lets everything arrive that Delayed has held back, and commits.
func (d *Driver) Settle() {
	d.t.Helper()
	if d.mail == nil {
		d.fatalf("Settle is for drivers with Delayed")
	}
	d.mail.settle = true
	d.check(d.task.Step())
	for !d.mail.empty() {
		d.task.Arrive()
		d.check(d.task.Step())
	}
	d.mail.settle = false
	d.Commit()
}
