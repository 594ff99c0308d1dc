package kafka

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"slices"
	"strconv"

	"github.com/tailrace/tailrace/changelog"
	"github.com/tailrace/tailrace/internal/kafka"
	"github.com/tailrace/tailrace/sources"
)

// changelogTopic is the topic of a store's changelog.
func (e *Engine) changelogTopic(store string) string { return changelog.Topic(e.cfg.App, store) }

// newBalancer makes the balancer, once the partitions of the inputs are known.
func (e *Engine) newBalancer() (*kafka.Balancer, error) {
	hashes := fnv.New64a()
	var subs []kafka.SubTopology
	for _, s := range e.subs {
		fmt.Fprintf(hashes, "%s %s;", s.name, s.hash)
		sub := kafka.SubTopology{ID: s.name, Whole: s.whole, Stateful: s.stateful()}
		for _, in := range s.inputs {
			sub.Topics = append(sub.Topics, in.topic)
		}
		if !s.whole {
			sub.Tasks = s.tasks()
		}
		subs = append(subs, sub)
	}
	return kafka.NewBalancer(kafka.BalancerConfig{
		Topology: strconv.FormatUint(hashes.Sum64(), 16), SubTopologies: subs, Logger: e.log,
		Process: e.cfg.Dir.Incarnation(), Address: e.cfg.Address, Standbys: e.cfg.Standbys,
		State: e.localState, Assigned: e.assigned,
	})
}

func (s *subTopology) stateful() bool {
	return slices.ContainsFunc(s.parts, func(p *share) bool { return len(p.stores()) > 0 })
}

// localState says of which tasks there is state on the disk, and how far behind it is if it
// is followed. Else that is not looked up: it is what a member left, so any is better than
// none.
func (e *Engine) localState() map[kafka.Task]int64 {
	out := map[kafka.Task]int64{}
	for _, s := range e.subs {
		for p := range s.tasks() {
			_, ok, err := e.cfg.Dir.DB.Get(nil, checkpointKey(s.owner(p)))
			if err == nil && ok {
				task := kafka.Task{SubTopology: s.name, Partition: p}
				out[task] = e.standbys.lag(task)
			}
		}
	}
	return out
}

// assigned notes who has which tasks, and whether the group has refused this member.
func (e *Engine) assigned(a kafka.Assignment) {
	e.members.learn(a.Hosts)
	e.standbys.want(a.Standbys)
	if a.Err != nil {
		e.refused.Store(&a.Err)
		e.wake()
	}
}

// prepare checks the input topics and those of the targets, and makes the internal ones
// at the first start.
func (e *Engine) prepare(ctx context.Context) (err error) {
	topics := kafka.NewTopics(e.admin)
	topics.Logger = e.log
	if e.cluster, err = kafka.NewLog(e.admin).Cluster(ctx); err != nil {
		return fmt.Errorf("kafka: reach the brokers %v: %w", e.cfg.Brokers, err)
	}
	if err := errors.Join(e.lookAtInputs(ctx, topics), e.lookAtHeartbeats(ctx)); err != nil {
		return err
	}
	var errs []error
	for _, t := range e.targets {
		errs = append(errs, t.encoder.Prepare(ctx, e.cluster))
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	if e.restorer, err = e.newRestorer(e.restoring); err != nil {
		return err
	}
	if err := e.makeDeadLetters(ctx, topics); err != nil {
		return err
	}
	return e.makeTopics(ctx, topics)
}

// lookAtInputs notes the partitions of the inputs. Keys are joined partition by partition,
// so that there have to be as many of each, but where one task reads them all.
func (e *Engine) lookAtInputs(ctx context.Context, topics *kafka.Topics) error {
	var inputs []kafka.Input
	for _, sub := range e.subs {
		with := sub.name
		if sub.whole {
			with = ""
		}
		for _, in := range sub.inputs {
			if in.exchange == nil {
				inputs = append(inputs, kafka.Input{Topic: in.topic, With: with})
			}
		}
	}
	infos, err := topics.Inputs(ctx, inputs)
	if err != nil {
		return err
	}
	e.countTasks(infos)
	e.members.count(e.bound)
	return nil
}

// makeTopics creates the internal topics of topologies of which the group has not committed
// anything yet. After that one that is missing is state that is lost.
func (e *Engine) makeTopics(ctx context.Context, topics *kafka.Topics) error {
	committed, err := topics.Offsets(ctx, e.cfg.App)
	if err != nil {
		return err
	}
	if err := e.checkForm(committed); err != nil {
		return err
	}
	begun := e.begunTopologies(committed)
	var there, anew []changelog.Config
	for _, sub := range e.subs {
		for _, s := range sub.parts {
			configs := &anew
			if begun[s.topology] {
				configs = &there
			}
			for _, name := range s.stores() {
				*configs = append(*configs, changelog.ForStore(e.cfg.App, name, sub.tasks()))
			}
			for _, x := range s.reads() {
				*configs = append(*configs, changelog.ForRepartition(e.cfg.App, x.Name, sub.tasks()))
			}
		}
	}
	if _, err = topics.Ensure(ctx, there, false); err != nil {
		return err
	}
	if _, err = topics.Ensure(ctx, anew, true); err != nil {
		return err
	}
	starts := map[string]kafka.Start{}
	for _, sub := range e.subs {
		for _, in := range sub.inputs {
			if in.start != (sources.Start{}) {
				starts[in.topic] = kafka.Start{Latest: in.start.Latest, Time: in.start.Time}
			}
		}
	}
	return topics.CommitStarts(ctx, e.cfg.App, starts)
}
