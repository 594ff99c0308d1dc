package sim

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/tailrace/tailrace/changelog"
)

// world is one run.
type world struct {
	plan    *plan
	app     string
	dir     string // of the members' state, on their disks
	random  *rand.Rand
	logger  *slog.Logger
	virtual kfake.VirtualNetwork
	cluster *kfake.Cluster
	brokers []string
	client  *kgo.Client // of producers
	faults  *faults
	members []*member
	lives   sync.WaitGroup
	drains  sync.WaitGroup // connections that members have given up
	outputs *outputs

	mu      sync.Mutex
	closing bool
	ends    []error // of members that have ended by themselves
	failed  error   // of one that could not begin
}

// bound is how long everything may take to come to rest once nothing bad happens any more.
const bound = 3 * time.Minute

// run simulates a plan, and returns what was wrong.
func run(p *plan, dir string, count func(what string)) (err error) {
	w := &world{
		plan: p, app: "sim", dir: dir, random: rand.New(rand.NewPCG(p.seed, 3)), logger: newLogger(),
	}
	w.faults = newFaults(w)
	if err := w.open(); err != nil {
		return err
	}
	defer func() {
		w.close()
		w.count(count)
	}()
	for _, m := range w.members {
		if err := m.begin(); err != nil {
			return err
		}
	}
	if err := w.write(); err != nil {
		return err
	}
	time.Sleep(time.Duration(w.random.IntN(3000)) * time.Millisecond) // what is armed may happen still
	w.faults.end()
	want, err := w.expected()
	if err != nil {
		return err
	}
	if err := w.compare(want); err != nil {
		return err
	}
	return w.restored(want)
}

// restored has a member with an empty disk take over from all others, and compares what it
// makes of the changelogs. Outputs are to stay as they were.
func (w *world) restored(want *expected) error {
	for _, m := range w.members {
		m.leave()
	}
	m := &member{world: w, number: len(w.members), disk: newDisk()}
	w.members = append(w.members, m)
	if err := m.begin(); err != nil {
		return err
	}
	if err := w.compare(want); err != nil {
		return fmt.Errorf("after all was restored from the changelogs: %w", err)
	}
	return nil
}

// wiped is told that a task's state was given up, for which there is no reason here but that
// the cluster has deleted what the state lacks.
func (w *world) wiped(task string, reason changelog.Reason) {
	if reason == changelog.ReasonOutOfRange && w.faults.compacted() {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.failed = errors.Join(w.failed, fmt.Errorf("the state of task %s was given up: %s", task, reason))
}

// count tells what has happened.
func (w *world) count(count func(what string)) {
	for _, x := range w.plan.faults {
		if x.done {
			count(x.kind())
		}
	}
	for _, err := range w.ends {
		text := err.Error()
		count("a member ended by itself: " + text[:min(len(text), 150)])
	}
}

// ended notes that a member has ended by itself, and starts it again. The only reason for that
// is a record that a broker does not take.
func (w *world) ended(m *member, err error) {
	w.mu.Lock()
	w.ends = append(w.ends, err)
	if !errors.Is(err, kerr.MessageTooLarge) {
		w.failed = errors.Join(w.failed, fmt.Errorf("member %d has ended by itself: %w", m.number, err))
	}
	w.mu.Unlock()
	w.beginLater(m, time.Second)
}

// beginLater starts a member after a while, unless it runs then.
func (w *world) beginLater(m *member, after time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closing {
		return
	}
	w.lives.Go(func() {
		time.Sleep(after) // how long it is gone
		w.mu.Lock()
		closing := w.closing
		w.mu.Unlock()
		if closing {
			return
		}
		if err := m.begin(); err != nil {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.failed = errors.Join(w.failed, err)
		}
	})
}

func (w *world) open() (err error) {
	ports := make([]int, w.plan.brokers)
	for i := range ports {
		ports[i] = 9092 + i
		w.brokers = append(w.brokers, fmt.Sprintf("localhost:%d", ports[i]))
	}
	var topics []string
	for _, name := range w.plan.shape.inputs {
		topics = append(topics, w.topic(name))
	}
	w.cluster, err = kfake.NewCluster(kfake.NumBrokers(w.plan.brokers), kfake.Ports(ports...),
		kfake.ListenFn(w.virtual.Listen), kfake.SeedTopics(w.plan.partitions, topics...),
		kfake.GroupMinSessionTimeout(time.Second),
		kfake.BrokerConfigs(map[string]string{"group.initial.rebalance.delay.ms": "0"}))
	if err != nil {
		return err
	}
	w.client, err = w.newClient(kgo.ProducerLinger(0))
	if err != nil {
		return err
	}
	compact := "compact"
	for _, name := range w.plan.shape.outputs {
		configs := map[string]*string{"cleanup.policy": &compact}
		if isEvents(name) {
			configs = nil
		}
		_, err = kadm.NewClient(w.client).CreateTopic(context.Background(), w.plan.partitions, 1, configs, name)
		if err != nil {
			return err
		}
	}
	if w.outputs, err = newOutputs(w); err != nil {
		return err
	}
	for i := range w.plan.members {
		w.members = append(w.members, &member{world: w, number: i, disk: newDisk()})
	}
	return nil
}

func (w *world) topic(input string) string { return w.app + ".public." + input }

// newClient makes a client that nothing happens to.
func (w *world) newClient(options ...kgo.Opt) (*kgo.Client, error) {
	return kgo.NewClient(slices.Concat(quiet, []kgo.Opt{
		kgo.SeedBrokers(w.brokers...), kgo.Dialer(w.virtual.DialContext),
	}, options)...)
}

// close ends everything that runs.
func (w *world) close() {
	w.mu.Lock()
	w.closing = true
	w.mu.Unlock()
	for _, m := range w.members {
		if l := m.running(); l != nil {
			l.stop()
		}
	}
	w.lives.Wait()
	if w.outputs != nil {
		w.outputs.close()
	}
	if w.client != nil {
		w.client.Close()
	}
	w.cluster.Close()
	w.drains.Wait()
}

// write writes the inputs, each record with a later timestamp than those before it. What is
// written at once has different keys, so that no order is unknown that counts.
func (w *world) write() error {
	g, err := newGenerator(w.plan, w.app)
	if err != nil {
		return err
	}
	var batch []*kgo.Record
	keys := map[string]bool{}
	flush := func() error {
		err := w.client.ProduceSync(context.Background(), batch...).FirstErr()
		batch = nil
		clear(keys)
		return err
	}
	for i := range w.plan.events {
		if err := w.faults.reached(i); err != nil {
			return err
		}
		time.Sleep(time.Millisecond) // so that each has a time of its own
		key, records, err := g.next(time.Now())
		if err != nil {
			return err
		}
		if keys[key] || len(batch) > 20 {
			if err := flush(); err != nil {
				return err
			}
			time.Sleep(time.Duration(w.random.Int64N(int64(w.plan.pace) + 1))) // the rate of the load
		}
		keys[key] = true
		batch = append(batch, records...)
	}
	return flush()
}

// expected reads the inputs and asks the oracle.
func (w *world) expected() (*expected, error) {
	var inputs []input
	for _, name := range w.plan.shape.inputs {
		err := w.read(w.topic(name), func(r *kgo.Record) error {
			in, ok, err := readInput(name, r.Key, r.Value, r.Timestamp, w.plan.debezium)
			if ok {
				inputs = append(inputs, in)
			}
			return err
		})
		if err != nil {
			return nil, err
		}
	}
	sortInputs(inputs)
	return w.plan.shape.expect(inputs), nil
}

// compare waits until outputs and views are as expected.
func (w *world) compare(want *expected) error {
	deadline := time.Now().Add(bound)
	for {
		err := errors.Join(w.outputs.differences(want), w.viewDifferences(want))
		w.mu.Lock()
		failed := w.failed
		w.mu.Unlock()
		if err == nil && failed == nil {
			return nil
		}
		if failed != nil || time.Now().After(deadline) {
			return errors.Join(failed, err, w.group())
		}
		time.Sleep(200 * time.Millisecond) // virtual, between two looks
	}
}

// group says who is in the group, and has what, for those who look into a failure.
func (w *world) group() error {
	groups, err := kadm.NewClient(w.client).DescribeGroups(context.Background(), w.app)
	if err != nil {
		return err
	}
	var b strings.Builder
	for _, g := range groups {
		fmt.Fprintf(&b, "the group is %s", g.State)
		for _, m := range g.Members {
			fmt.Fprintf(&b, "\n  %s %s", m.MemberID, m.ClientHost)
			if a, ok := m.Assigned.AsConsumer(); ok {
				for _, t := range a.Topics {
					fmt.Fprintf(&b, " %s%v", t.Topic, t.Partitions)
				}
			}
		}
	}
	return errors.New(b.String())
}

// viewDifferences compares the rows of views that all members have together.
func (w *world) viewDifferences(want *expected) error {
	got := map[string]map[string]string{}
	for _, m := range w.members {
		l := m.running()
		if l == nil {
			continue
		}
		for _, v := range l.views {
			rows, err := v.rows(context.Background())
			if err != nil {
				return fmt.Errorf("view %s of member %d: %w", v.name, m.number, err)
			}
			if got[v.name] == nil {
				got[v.name] = map[string]string{}
			}
			maps.Copy(got[v.name], rows)
		}
	}
	var errs []error
	for name, rows := range want.views {
		errs = append(errs, different("view "+name, got[name], rows))
	}
	return errors.Join(errs...)
}

// different says how rows differ from those wanted.
func different[V comparable](what string, got, want map[string]V) error {
	if maps.Equal(got, want) {
		return nil
	}
	var lines []string
	for _, key := range slices.Sorted(maps.Keys(want)) {
		if v, ok := got[key]; !ok {
			lines = append(lines, fmt.Sprintf("lacks %s: %v", key, want[key]))
		} else if v != want[key] {
			lines = append(lines, fmt.Sprintf("%s is %v, not %v", key, v, want[key]))
		}
	}
	for _, key := range slices.Sorted(maps.Keys(got)) {
		if _, ok := want[key]; !ok {
			lines = append(lines, fmt.Sprintf("has %s: %v", key, got[key]))
		}
	}
	if n := len(lines); n > 5 {
		lines = append(lines[:5], fmt.Sprintf("and %d more", n-5))
	}
	return fmt.Errorf("%s: %s", what, strings.Join(lines, "; "))
}
