package kafka_test

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/tailrace/tailrace/internal/kafka"
)

// group plays a coordinator and its members.
type group struct {
	t        *testing.T
	rng      *rand.Rand
	subs     []kafka.SubTopology
	counts   map[string]int32
	standbys int
	members  []*member
	gen      int32
	made     int
	// silent are members that missed a round and still believe in what they had.
	silent []*member
}

type member struct {
	id, process string
	balancer    *kafka.Balancer
	owned       map[string][]int32
	gen         int32
	topology    string
	state       map[kafka.Task]int64
	got         kafka.Assignment
	raw         string // the last assignment
	// fenced says that it has been taken for dead: what it believes to have, it cannot use.
	fenced bool
}

func newGroup(t *testing.T, seed uint64) *group {
	g := &group{t: t, rng: rand.New(rand.NewPCG(seed, 5)), counts: map[string]int32{}}
	for i := range 1 + g.rng.IntN(4) {
		partitions := int32(1 + g.rng.IntN(6))
		sub := kafka.SubTopology{ID: fmt.Sprintf("s%d", i), Stateful: g.rng.IntN(3) > 0}
		for j := range 1 + g.rng.IntN(3) {
			topic := fmt.Sprintf("t%d-%d", i, j)
			sub.Topics = append(sub.Topics, topic)
			g.counts[topic] = partitions
			if g.rng.IntN(8) == 0 { // merged with a topic that is not divided as it is
				g.counts[topic] = int32(1 + g.rng.IntN(int(partitions)))
			}
		}
		if i > 0 && g.rng.IntN(6) == 0 {
			sub.Topics = append(sub.Topics, fmt.Sprintf("t%d-0", g.rng.IntN(i)))
		}
		g.subs = append(g.subs, sub)
	}
	g.standbys = g.rng.IntN(3)
	return g
}

func (g *group) join() *member { return g.joinFrom("") }

// joinFrom adds a member in a process, "" for one of its own.
func (g *group) joinFrom(process string) *member {
	g.made++
	m := &member{
		id: fmt.Sprintf("m%04d", g.rng.IntN(10000)*100+g.made%100), process: fmt.Sprintf("p%d", g.made),
		topology: "17", state: map[kafka.Task]int64{},
	}
	switch {
	case process != "":
		m.process = process
	case g.rng.IntN(6) == 0 && len(g.members) > 0: // two members in one process
		m.process = g.members[0].process
	}
	g.add(m)
	return m
}

func (g *group) add(m *member) {
	var err error
	m.balancer, err = kafka.NewBalancer(kafka.BalancerConfig{
		Topology: m.topology, SubTopologies: g.subs, Process: m.process, Address: m.id + ":80",
		Standbys: g.standbys, State: func() map[kafka.Task]int64 { return m.state },
		Assigned: func(a kafka.Assignment) { m.got = a },
	})
	if err != nil {
		g.t.Fatal(err)
	}
	m.gen = -1
	g.members = append(g.members, m)
}

func (g *group) topics() []string { return slices.Sorted(maps.Keys(g.counts)) }

// round lets all members join and be synced, one after another; it reports whether any of
// them wants another round, for it has lost something.
func (g *group) round() (again bool) {
	if len(g.members) == 0 {
		return false
	}
	g.gen++
	var joined []kmsg.JoinGroupResponseMember
	for _, m := range g.members {
		owned := map[string][]int32{}
		for topic, parts := range m.owned {
			owned[topic] = slices.Clone(parts)
		}
		one := kmsg.NewJoinGroupResponseMember()
		one.MemberID = m.id
		one.ProtocolMetadata = m.balancer.JoinGroupMetadata(g.topics(), owned, m.gen)
		joined = append(joined, one)
	}
	slices.SortFunc(joined, func(a, b kmsg.JoinGroupResponseMember) int {
		return strings.Compare(a.MemberID, b.MemberID)
	})
	leader := g.members[g.rng.IntN(len(g.members))]
	plan := g.balance(leader, joined)
	for _, i := range g.rng.Perm(len(g.members)) {
		m := g.members[i]
		at := slices.IndexFunc(plan, func(a kmsg.SyncGroupRequestGroupAssignment) bool {
			return a.MemberID == m.id
		})
		if at < 0 {
			g.t.Fatalf("%s is not in the plan", m.id)
		}
		parts, err := m.balancer.ParseSyncAssignment(plan[at].MemberAssignment)
		if err != nil {
			g.t.Fatal(err)
		}
		for topic, had := range m.owned {
			for _, p := range had {
				again = again || !slices.Contains(parts[topic], p)
			}
		}
		m.owned, m.gen, m.raw, m.fenced = parts, g.gen, string(plan[at].MemberAssignment), false
		g.checkDisjoint()
	}
	g.checkWhole()
	return again
}

func (g *group) balance(
	leader *member, joined []kmsg.JoinGroupResponseMember,
) []kmsg.SyncGroupRequestGroupAssignment {
	b, topics, err := leader.balancer.MemberBalancer(joined)
	if err != nil {
		g.t.Fatal(err)
	}
	counts := map[string]int32{}
	for topic := range topics {
		counts[topic] = g.counts[topic]
	}
	into, err := b.(kgo.GroupMemberBalancerOrError).BalanceOrError(counts)
	if err != nil {
		g.t.Fatal(err)
	}
	return into.IntoSyncAssignment()
}

// checkDisjoint: at no moment do two members have a partition.
func (g *group) checkDisjoint() {
	has := map[string]string{}
	for _, m := range g.members {
		for topic, parts := range m.owned {
			if m.fenced {
				break
			}
			for _, p := range parts {
				name := fmt.Sprint(topic, "/", p)
				if other := has[name]; other != "" {
					g.t.Fatalf("%s and %s have %s", other, m.id, name)
				}
				if p >= g.counts[topic] {
					g.t.Fatalf("%s has %s, which does not exist", m.id, name)
				}
				has[name] = m.id
			}
		}
	}
}

func (g *group) tasks(s kafka.SubTopology) (n int32) {
	for _, topic := range s.Topics {
		n = max(n, g.counts[topic])
	}
	return n
}

// checkWhole: who has a partition has all partitions of its tasks, and is told so.
func (g *group) checkWhole() {
	for _, m := range g.members {
		var want []kafka.Task
		for _, s := range g.subs {
			for p := range g.tasks(s) {
				have, of := 0, 0
				for _, topic := range s.Topics {
					if p < g.counts[topic] {
						of++
						if slices.Contains(m.owned[topic], p) {
							have++
						}
					}
				}
				if have > 0 && have < of {
					g.t.Fatalf("%s has %d of %d partitions of %s_%d", m.id, have, of, s.ID, p)
				}
				if have > 0 {
					want = append(want, kafka.Task{SubTopology: s.ID, Partition: p})
				}
			}
		}
		if diff := cmp.Diff(want, m.got.Tasks); diff != "" {
			g.t.Fatalf("%s is told of other tasks than it has: %s", m.id, diff)
		}
		for _, task := range m.got.Tasks {
			m.state[task] = 0
		}
	}
}

// settle plays rounds until nobody wants another, and checks what then has to hold.
func (g *group) settle() {
	if len(g.members) == 0 {
		return
	}
	rounds := 1
	for ; g.round(); rounds++ {
		if rounds > 3 {
			g.t.Fatalf("not settled after %d rounds", rounds)
		}
	}
	g.checkBalanced()
	g.checkStandbys()
	raw := map[string]string{}
	for _, m := range g.members {
		for _, task := range m.got.Standbys {
			if _, has := m.state[task]; !has {
				m.state[task] = 0
			}
		}
		raw[m.id] = m.raw
	}
	// Nothing happens: nothing changes.
	for range 2 {
		if g.round() {
			g.t.Fatal("a settled group goes on balancing")
		}
		for _, m := range g.members {
			if m.raw != raw[m.id] {
				g.t.Fatalf("%s is assigned something else though nothing has happened", m.id)
			}
		}
	}
}

// units are the sets of sub-topologies that share topics.
func (g *group) units() (units [][]kafka.SubTopology) {
	for _, s := range g.subs {
		merged := []kafka.SubTopology{s}
		var rest [][]kafka.SubTopology
		for _, u := range units {
			if slices.ContainsFunc(u, func(o kafka.SubTopology) bool {
				return slices.ContainsFunc(o.Topics, func(t string) bool { return slices.Contains(s.Topics, t) })
			}) {
				merged = append(merged, u...)
			} else {
				rest = append(rest, u)
			}
		}
		units = append(rest, merged)
	}
	return units
}

// shares are how many tasks of each unit each member has.
func (g *group) shares() (shares [][]int, sizes []int) {
	for _, u := range g.units() {
		size := int32(0)
		for _, s := range u {
			size = max(size, g.tasks(s))
		}
		row := make([]int, len(g.members))
		for i, m := range g.members {
			for p := range size {
				if slices.ContainsFunc(u, func(s kafka.SubTopology) bool {
					return slices.ContainsFunc(s.Topics, func(t string) bool { return slices.Contains(m.owned[t], p) })
				}) {
					row[i]++
				}
			}
		}
		shares, sizes = append(shares, row), append(sizes, int(size))
	}
	return shares, sizes
}

func (g *group) checkBalanced() {
	shares, sizes := g.shares()
	total := make([]int, len(g.members))
	for u, row := range shares {
		sum := 0
		for i, n := range row {
			sum += n
			total[i] += n
		}
		if sum != sizes[u] {
			g.t.Fatalf("%d of %d tasks are assigned", sum, sizes[u])
		}
		if slices.Max(row)-slices.Min(row) > 1 {
			g.t.Fatalf("a sub-topology is unbalanced: %v", row)
		}
	}
	if slices.Max(total)-slices.Min(total) > 1 {
		g.t.Fatalf("unbalanced in all: %v", total)
	}
}

func (g *group) checkStandbys() {
	processes := map[string]bool{}
	for _, m := range g.members {
		processes[m.process] = true
	}
	for _, s := range g.subs {
		for p := range g.tasks(s) {
			task := kafka.Task{SubTopology: s.ID, Partition: p}
			on := map[string]bool{}
			active := ""
			for _, m := range g.members {
				if slices.Contains(m.got.Tasks, task) {
					active = m.process
				}
				if slices.Contains(m.got.Standbys, task) {
					if on[m.process] {
						g.t.Fatalf("%v has two standbys in process %s", task, m.process)
					}
					on[m.process] = true
				}
			}
			want := 0
			if s.Stateful {
				want = min(g.standbys, len(processes)-1)
			}
			if on[active] || len(on) != want {
				g.t.Fatalf("%v in process %s has standbys in %v, want %d elsewhere", task, active, on, want)
			}
		}
	}
}

// most is how many tasks can stay where they are in a balanced assignment: every way to
// give the members' extra tasks is tried.
func most(shares [][]int, sizes []int, members int) int {
	all := 0
	for _, n := range sizes {
		all += n % members
	}
	low, high := all/members, (all+members-1)/members
	seen := map[string]int{}
	var try func(u int, extras []int) int
	try = func(u int, extras []int) int {
		if u == len(sizes) {
			if slices.Max(extras) > high || slices.Min(extras) < low {
				return -1 << 30
			}
			return 0
		}
		key := fmt.Sprint(u, extras)
		if n, ok := seen[key]; ok {
			return n
		}
		best := -1 << 30
		for set := range 1 << members {
			n, kept := 0, 0
			next := slices.Clone(extras)
			for m := range members {
				quota := sizes[u] / members
				if set>>m&1 == 1 {
					quota++
					n++
					next[m]++
				}
				kept += min(quota, shares[u][m])
			}
			if n == sizes[u]%members {
				best = max(best, kept+try(u+1, next))
			}
		}
		seen[key] = best
		return best
	}
	return try(0, make([]int, members))
}

// owners is who has each partition.
func (g *group) owners() map[string]string {
	owners := map[string]string{}
	for _, m := range g.members {
		for _, u := range g.units() {
			for _, s := range u {
				for _, topic := range s.Topics {
					for _, p := range m.owned[topic] {
						owners[fmt.Sprint(u[0].ID, "_", p)] = m.id
					}
				}
			}
		}
	}
	return owners
}

// event changes the membership or the topics.
func (g *group) event() {
	n := len(g.members)
	switch k := g.rng.IntN(10); {
	case n == 0, k < 4 && n < 5:
		g.join()
	case k < 6: // leaves, or crashes and is found dead
		g.members = slices.Delete(g.members, 0, 1)
	case k < 7: // crashes, and comes back with its state under another id
		m := g.members[n-1]
		g.members = g.members[:n-1]
		back := g.joinFrom(m.process)
		for task := range m.state {
			back.state[task] = int64(g.rng.IntN(3) * 1_000_000)
		}
	case k < 8: // misses a round
		g.members[n-1].fenced = true
		g.silent = append(g.silent, g.members[n-1])
		g.members = g.members[:n-1]
	case k < 9 && len(g.silent) > 0: // and comes back with what it believes to have
		g.members = append(g.members, g.silent[0])
		g.silent = g.silent[1:]
	default:
		topic := g.topics()[g.rng.IntN(len(g.counts))]
		g.counts[topic]++
	}
}

// histories is the number of histories of TestGroupHistories, of five memberships each;
// TAILRACE_HISTORIES sets another.
func histories(t *testing.T) uint64 {
	if s := os.Getenv("TAILRACE_HISTORIES"); s != "" {
		n, err := strconv.ParseUint(s, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	return 2_000
}

// TestGroupHistories plays random histories of groups: see the checks.
func TestGroupHistories(t *testing.T) {
	for seed := range histories(t) {
		g := newGroup(t, seed)
		for range 1 + g.rng.IntN(3) {
			g.join()
		}
		g.settle()
		for range 4 {
			silent, topics := len(g.silent), maps.Clone(g.counts)
			g.event()
			simple := len(g.silent) >= silent && maps.Equal(topics, g.counts) && len(g.members) > 0
			if g.rng.IntN(4) == 0 { // another event before the group has settled
				g.round()
				g.event()
				simple = false
			}
			before := g.owners()
			want := 0
			if simple {
				shares, sizes := g.shares()
				want = most(shares, sizes, len(g.members))
			}
			g.settle()
			if !simple {
				continue
			}
			stayed := 0
			after := g.owners()
			for task, m := range before {
				if after[task] == m {
					stayed++
				}
			}
			if stayed != want {
				t.Fatalf("seed %d: %d tasks stay, and %d can", seed, stayed, want)
			}
		}
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
}

// TestStateDecides: orphans go to who has the freshest state.
func TestStateDecides(t *testing.T) {
	g := newGroup(t, 1)
	g.subs = []kafka.SubTopology{{ID: "s", Topics: []string{"in"}, Stateful: true}}
	g.counts = map[string]int32{"in": 3}
	for i := range 3 {
		m := g.join()
		m.state[kafka.Task{SubTopology: "s", Partition: int32(2 - i)}] = 50_000
		m.state[kafka.Task{SubTopology: "s", Partition: int32((4 - i) % 3)}] = 5_000_000
	}
	g.settle()
	for i, m := range g.members {
		if diff := cmp.Diff([]kafka.Task{{SubTopology: "s", Partition: int32(2 - i)}}, m.got.Tasks); diff != "" {
			t.Errorf("%s: %s", m.id, diff)
		}
	}
}

// TestRefused: who has another topology, or speaks a newer protocol, or cannot be read, is
// told so; the others are not disturbed, whoever leads.
func TestRefused(t *testing.T) {
	for seed := range uint64(20) {
		g := newGroup(t, seed)
		for range 3 {
			g.join()
		}
		g.settle()
		before := g.owners()
		alien := &member{id: "alien", process: "alien", topology: "18", state: map[kafka.Task]int64{}}
		g.add(alien)
		g.subs = slices.Clone(g.subs)
		g.round()
		if !errors.Is(alien.got.Err, kafka.ErrRefused) || !strings.Contains(alien.got.Err.Error(), "topology 17") {
			t.Errorf("the alien gets %v", alien.got.Err)
		}
		if diff := cmp.Diff(before, g.owners()); diff != "" {
			t.Errorf("the others are disturbed: %s", diff)
		}
		for _, m := range g.members[:3] {
			if m.got.Err != nil || len(m.got.Tasks) == 0 && len(before) > 3 {
				t.Errorf("%s gets %+v", m.id, m.got)
			}
		}
	}
}

// TestNewerProtocol: a member of a later release is refused by an older leader, with a
// reason that it can read; bytes of another program's as well.
func TestNewerProtocol(t *testing.T) {
	g := newGroup(t, 2)
	m := g.join()
	join := func(data []byte) kmsg.JoinGroupResponseMember {
		meta := kmsg.NewConsumerMemberMetadata()
		meta.Topics, meta.UserData = []string{"other"}, data
		one := kmsg.NewJoinGroupResponseMember()
		one.MemberID, one.ProtocolMetadata = "z", meta.AppendTo(nil)
		return one
	}
	ours := kmsg.NewJoinGroupResponseMember()
	ours.MemberID, ours.ProtocolMetadata = m.id, m.balancer.JoinGroupMetadata(g.topics(), nil, 1)
	unreadable := kmsg.NewJoinGroupResponseMember()
	unreadable.MemberID, unreadable.ProtocolMetadata = "z", []byte{0}
	for _, c := range []struct {
		other kmsg.JoinGroupResponseMember
		want  string
	}{
		{join([]byte{2, 1, 2, 3}), "version 2"}, {join([]byte("xy")), "version 120"},
		{join(nil), "another program"}, {join([]byte{1, 9}), "another program"}, {unreadable, "cannot be read"},
	} {
		plan := g.balance(m, []kmsg.JoinGroupResponseMember{ours, c.other})
		other, err := kafka.NewBalancer(kafka.BalancerConfig{Topology: "17", SubTopologies: g.subs})
		if err != nil {
			t.Fatal(err)
		}
		for _, a := range plan {
			if a.MemberID == m.id {
				if parts, err := m.balancer.ParseSyncAssignment(a.MemberAssignment); err != nil || len(parts) == 0 {
					t.Errorf("the member is disturbed: %v, %v", parts, err)
				}
				continue
			}
			parts, err := other.ParseSyncAssignment(a.MemberAssignment)
			got := other.Assignment().Err
			if err != nil || len(parts) > 0 || !errors.Is(got, kafka.ErrRefused) ||
				!strings.Contains(got.Error(), c.want) {
				t.Errorf("want %s: %v, %v, %v", c.want, parts, err, got)
			}
		}
	}
}

// TestStaticMember: an assignment for another topology, which a coordinator hands to a
// static member that comes back, is not taken.
func TestStaticMember(t *testing.T) {
	g := newGroup(t, 3)
	m := g.join()
	g.settle()
	changed, err := kafka.NewBalancer(kafka.BalancerConfig{Topology: "18", SubTopologies: g.subs})
	if err != nil {
		t.Fatal(err)
	}
	parts, err := changed.ParseSyncAssignment([]byte(m.raw))
	if got := changed.Assignment().Err; err != nil || len(parts) > 0 || !errors.Is(got, kafka.ErrRefused) {
		t.Errorf("it gets %v, %v, %v", parts, err, got)
	}
}

// TestTopicsChange: partitions that were added stop the group, those that are missing keep
// it as it is.
func TestTopicsChange(t *testing.T) {
	g := newGroup(t, 4)
	g.subs = []kafka.SubTopology{{ID: "s", Topics: []string{"in", "other"}, Tasks: 4}}
	g.counts = map[string]int32{"in": 4, "other": 4}
	g.join()
	g.join()
	g.settle()
	before := g.owners()
	counts := g.counts
	for _, missing := range []map[string]int32{{"in": 4}, {"in": 2, "other": 2}} {
		g.counts = missing
		raw := g.members[0].owned
		g.balanceOnly()
		if !maps.EqualFunc(raw, g.members[0].owned, slices.Equal) {
			t.Errorf("with %v: %v became %v", missing, raw, g.members[0].owned)
		}
		if len(g.members[0].got.Tasks) != 2 || g.members[0].got.Err != nil {
			t.Errorf("with %v: %+v", missing, g.members[0].got)
		}
	}
	g.counts = counts
	if diff := cmp.Diff(before, g.owners()); diff != "" {
		t.Error(diff)
	}
	g.counts = map[string]int32{"in": 5, "other": 4}
	g.balanceOnly()
	for _, m := range g.members {
		if !errors.Is(m.got.Err, kafka.ErrGroupTopics) || !strings.Contains(m.got.Err.Error(), `topic "in" has 5`) {
			t.Errorf("%s gets %v", m.id, m.got.Err)
		}
	}
}

// balanceOnly is a round without its checks.
func (g *group) balanceOnly() {
	var joined []kmsg.JoinGroupResponseMember
	for _, m := range g.members {
		one := kmsg.NewJoinGroupResponseMember()
		one.MemberID = m.id
		one.ProtocolMetadata = m.balancer.JoinGroupMetadata(g.topics(), maps.Clone(m.owned), m.gen)
		joined = append(joined, one)
	}
	for _, a := range g.balance(g.members[0], joined) {
		for _, m := range g.members {
			if m.id == a.MemberID {
				var err error
				if m.owned, err = m.balancer.ParseSyncAssignment(a.MemberAssignment); err != nil {
					g.t.Fatal(err)
				}
			}
		}
	}
}
