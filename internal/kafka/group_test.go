package kafka_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/tailrace/tailrace/internal/await"
	"github.com/tailrace/tailrace/internal/kafka"
	"github.com/tailrace/tailrace/internal/kafkatest"
)

// realMember is a member of a group on a real cluster that reads nothing.
type realMember struct {
	name   string
	cl     *kgo.Client
	cancel context.CancelFunc

	mu      sync.Mutex
	owned   map[string]map[int32]bool
	got     kafka.Assignment
	revoked int
}

var realSubs = []kafka.SubTopology{
	{ID: "shop/0", Topics: []string{"g-orders", "g-customers"}, Tasks: 8, Stateful: true},
	{ID: "shop/1", Topics: []string{"g-repartition"}, Tasks: 4, Stateful: true},
}

func joinReal(t *testing.T, c *kafkatest.Cluster, group, name, topology string, opts ...kgo.Opt) *realMember {
	t.Helper()
	m := &realMember{name: name, owned: map[string]map[int32]bool{}}
	balancer, err := kafka.NewBalancer(kafka.BalancerConfig{
		Topology: topology, SubTopologies: realSubs, Process: name, Address: name + ":80", Standbys: 1,
		State: func() map[kafka.Task]int64 {
			m.mu.Lock()
			defer m.mu.Unlock()
			state := map[kafka.Task]int64{}
			for _, task := range slices.Concat(m.got.Tasks, m.got.Standbys) {
				state[task] = 0
			}
			return state
		},
		Assigned: func(a kafka.Assignment) {
			m.mu.Lock()
			defer m.mu.Unlock()
			m.got = a
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	change := func(has bool) func(context.Context, *kgo.Client, map[string][]int32) {
		return func(_ context.Context, _ *kgo.Client, parts map[string][]int32) {
			m.mu.Lock()
			defer m.mu.Unlock()
			for topic, numbers := range parts {
				for _, p := range numbers {
					if m.owned[topic] == nil {
						m.owned[topic] = map[int32]bool{}
					}
					if has {
						m.owned[topic][p] = true
					} else {
						delete(m.owned[topic], p)
						m.revoked++
					}
				}
			}
		}
	}
	m.cl = client(t, c, append([]kgo.Opt{
		kgo.ConsumerGroup(group), kgo.ConsumeTopics("g-orders", "g-customers", "g-repartition"),
		kgo.Balancers(balancer), kgo.DisableAutoCommit(), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.HeartbeatInterval(200 * time.Millisecond), kgo.SessionTimeout(6 * time.Second),
		kgo.OnPartitionsAssigned(change(true)), kgo.OnPartitionsRevoked(change(false)),
		kgo.OnPartitionsLost(change(false)),
	}, opts...)...)
	ctx, cancel := context.WithCancel(context.Background())
	m.cancel = cancel
	go func() {
		for ctx.Err() == nil {
			m.cl.PollFetches(ctx)
		}
	}()
	t.Cleanup(cancel)
	return m
}

// tasks are those that the member is told of, if they are those that it has.
func (m *realMember) tasks() []kafka.Task {
	m.mu.Lock()
	defer m.mu.Unlock()
	parts := 0
	for _, task := range m.got.Tasks {
		for _, s := range realSubs {
			for _, topic := range s.Topics {
				if s.ID == task.SubTopology && m.owned[topic][task.Partition] {
					parts++
				}
			}
		}
	}
	all := 0
	for _, owned := range m.owned {
		all += len(owned)
	}
	if parts != all {
		return nil
	}
	return m.got.Tasks
}

func (m *realMember) assignment() kafka.Assignment {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.got
}

// TestRealGroup lets members join, be refused, leave and come back on a real coordinator.
func TestRealGroup(t *testing.T) {
	c := kafkatest.Shared(t)
	admin := client(t, c)
	create(t, admin, "g-orders", 8, nil)
	create(t, admin, "g-customers", 8, nil)
	create(t, admin, "g-repartition", 4, nil)
	counts := func(want []int, members ...*realMember) func() bool {
		return func() bool {
			var got []int
			for _, m := range members {
				got = append(got, len(m.tasks()))
			}
			return slices.Equal(got, want)
		}
	}
	a := joinReal(t, c, "real", "a", "17")
	await.That(t, "one member has all", counts([]int{12}, a))
	all := a.tasks()
	b := joinReal(t, c, "real", "b", "17")
	await.That(t, "each member has half", counts([]int{6, 6}, a, b))
	if a.revoked != 10 { // four tasks of two topics, two of one
		t.Errorf("a lost %d partitions", a.revoked)
	}
	for _, task := range a.tasks() {
		if !slices.Contains(all, task) {
			t.Errorf("a has %v, which it did not have", task)
		}
	}
	await.That(t, "standbys", func() bool {
		return len(a.assignment().Standbys) == 6 && len(b.assignment().Standbys) == 6
	})
	hosts := b.assignment().Hosts
	if len(hosts) != 2 || hosts[0].Address != "a:80" || !slices.Equal(hosts[0].Tasks, a.tasks()) ||
		!slices.Equal(hosts[0].Standbys, b.tasks()) {
		t.Errorf("hosts are %+v", hosts)
	}

	kept := a.tasks()
	alien := joinReal(t, c, "real", "alien", "18")
	await.That(t, "it is refused", func() bool { return errors.Is(alien.assignment().Err, kafka.ErrRefused) })
	await.That(t, "each member has half", counts([]int{6, 6}, a, b))
	if !slices.Equal(kept, a.tasks()) || a.assignment().Err != nil {
		t.Errorf("a is disturbed: %+v", a.assignment())
	}
	alien.cancel()
	alien.cl.Close()

	b.cancel()
	b.cl.Close()
	await.That(t, "one member has all", counts([]int{12}, a))
}

// TestStaticMemberReturns: a static member that comes back within the session timeout has
// what it had, and nobody else notices.
func TestStaticMemberReturns(t *testing.T) {
	c := kafkatest.Shared(t)
	admin := client(t, c)
	for topic, n := range map[string]int32{"g-orders": 8, "g-customers": 8, "g-repartition": 4} {
		if infos, err := kafka.NewLog(admin).Topics(t.Context(), []string{topic}); err != nil || len(infos) == 0 {
			create(t, admin, topic, n, nil)
		}
	}
	a := joinReal(t, c, "static", "a", "17", kgo.InstanceID("a"))
	b := joinReal(t, c, "static", "b", "17", kgo.InstanceID("b"))
	settled := func() bool { return len(a.tasks()) == 6 && len(b.tasks()) == 6 }
	await.That(t, "the group is settled", settled)
	had, lost := b.tasks(), a.revoked
	b.cancel()
	b.cl.CloseAllowingRebalance() // a static member that closes does not leave
	b = joinReal(t, c, "static", "b", "17", kgo.InstanceID("b"))
	await.That(t, "the group is settled", settled)
	if !slices.Equal(had, b.tasks()) || a.revoked != lost {
		t.Errorf("b had %v and has %v; a has lost %d", had, b.tasks(), a.revoked-lost)
	}
	b.cancel()
	b.cl.CloseAllowingRebalance()
	changed := joinReal(t, c, "static", "b", "18", kgo.InstanceID("b"))
	await.That(t, "it is refused", func() bool { return errors.Is(changed.assignment().Err, kafka.ErrRefused) })
	if err := changed.assignment().Err; fmt.Sprint(changed.tasks()) != "[]" {
		t.Errorf("with another topology it has %v, %v", changed.tasks(), err)
	}
}
