package main

import (
	"context"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/tailrace/tailrace/changelog"
	"github.com/tailrace/tailrace/internal/kafka"
	"github.com/tailrace/tailrace/internal/kafkatest"
	"github.com/tailrace/tailrace/state"
)

// restoreSize is what restore works on.
type restoreSize struct{ records, keys, value, tasks int }

func restoreFlags(flags *flag.FlagSet) runner {
	var size restoreSize
	flags.IntVar(&size.records, "records", 2_000_000, "records of the changelog")
	flags.IntVar(&size.keys, "keys", 1_000_000, "different keys")
	flags.IntVar(&size.value, "value", 100, "bytes of a value, 8 at least")
	flags.IntVar(&size.tasks, "tasks", 1, "tasks that are restored side by side, a partition each")
	return func(ctx context.Context, env *environment) error {
		if size.value < 8 || size.tasks < 1 || size.keys < size.tasks {
			return errors.New("restore: values take 8 bytes, and each task a key")
		}
		return restore(ctx, env, size)
	}
}

// changelogTopic is a changelog of the size on a cluster: record i is of key i*keyStep mod keys,
// which is in the partition key mod tasks, and its value begins with i.
type changelogTopic struct {
	restoreSize
	cluster *kafkatest.Cluster
	client  *kgo.Client
	config  changelog.Config
}

// keyStep visits keys in an order that looks random: it shares no factor with their number,
// which is made sure of.
const keyStep = 7919

// restore restores a changelog that a real broker holds, into an empty state directory,
// and reads it beside that with the client's consumer, which throws it away.
func restore(ctx context.Context, env *environment, size restoreSize) error {
	if size.keys%keyStep == 0 {
		size.keys++
	}
	cluster, err := kafkatest.Start(ctx, kafkatest.Config{})
	if err != nil {
		return err
	}
	defer func() { _ = cluster.Stop() }()
	t := &changelogTopic{restoreSize: size, cluster: cluster}
	if err := t.fill(ctx); err != nil {
		return err
	}
	defer t.client.Close()
	for range env.runs {
		if err := t.discard(ctx, env.unprofiled()); err != nil {
			return err
		}
		if err := t.restore(ctx, env); err != nil {
			return err
		}
	}
	return nil
}

func (t *changelogTopic) key(i int) int { return i * keyStep % t.keys }

// fill writes the changelog in transactions of 10,000 records.
func (t *changelogTopic) fill(ctx context.Context) (err error) {
	if t.client, err = kgo.NewClient(kgo.SeedBrokers(t.cluster.Brokers()...)); err != nil {
		return err
	}
	t.config = changelog.ForStore("bench", "restore", int32(t.tasks))
	if _, err := kafka.NewTopics(t.client).Ensure(ctx, []changelog.Config{t.config}, true); err != nil {
		return err
	}
	cl, err := kgo.NewClient(kgo.SeedBrokers(t.cluster.Brokers()...), kgo.TransactionalID("bench"),
		kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.DefaultProduceTopic(t.config.Topic))
	if err != nil {
		return err
	}
	defer cl.Close()
	random := rand.New(rand.NewPCG(1, 1))
	var once sync.Once
	var failed error
	for i := range t.records {
		if i%10_000 == 0 {
			if i > 0 {
				err = errors.Join(cl.Flush(ctx), cl.EndTransaction(ctx, kgo.TryCommit))
			}
			if err := errors.Join(err, cl.BeginTransaction()); err != nil {
				return err
			}
		}
		value := make([]byte, t.value)
		for j := range value { // half of it says something
			value[j] = byte(random.UintN(16))
		}
		binary.BigEndian.PutUint64(value, uint64(i))
		cl.Produce(ctx, &kgo.Record{
			Partition: int32(t.key(i) % t.tasks),
			Key:       binary.BigEndian.AppendUint64(nil, uint64(t.key(i))), Value: value,
		}, func(_ *kgo.Record, err error) {
			if err != nil {
				once.Do(func() { failed = err })
			}
		})
	}
	return errors.Join(cl.Flush(ctx), failed, cl.EndTransaction(ctx, kgo.TryCommit))
}

// discard reads everything with the client's consumer.
func (t *changelogTopic) discard(ctx context.Context, env *environment) error {
	cl, err := kgo.NewClient(kgo.SeedBrokers(t.cluster.Brokers()...), kgo.ConsumeTopics(t.config.Topic),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	if err != nil {
		return err
	}
	defer cl.Close()
	m, err := env.startMeter()
	if err != nil {
		return err
	}
	for n := 0; n < t.records; {
		fetches := cl.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			return err
		}
		n += fetches.NumRecords()
	}
	r := result{Case: "consumer", Records: int64(t.records)}
	m.stop(&r)
	env.report.add(r)
	return nil
}

func (t *changelogTopic) restore(ctx context.Context, env *environment) (err error) {
	path, remove, err := stateDir()
	if err != nil {
		return err
	}
	defer remove()
	db, err := state.OpenPebble(filepath.Join(path, "db"), state.Options{})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	log := kafka.NewLog(t.client)
	cluster, err := log.Cluster(ctx)
	if err != nil {
		return err
	}
	restorer, err := changelog.NewRestorer(changelog.RestoreConfig{DB: db, Log: log, Now: time.Now})
	if err != nil {
		return err
	}
	m, err := env.startMeter()
	if err != nil {
		return err
	}
	var wait sync.WaitGroup
	errs := make([]error, t.tasks)
	for i := range t.tasks {
		wait.Go(func() {
			_, errs[i] = restorer.Restore(ctx, changelog.Task{
				Name: fmt.Sprint(i), Key: fmt.Appendf(nil, "\x00\x00\x00\x00%d", i),
				Identity: changelog.Identity{Cluster: cluster, App: "bench"},
				Stores: []changelog.Store{{
					Partition: changelog.Partition{Topic: t.config.Topic, Number: int32(i)}, ID: uint32(16 + i),
				}},
			})
		})
	}
	wait.Wait()
	r := result{Case: fmt.Sprintf("restore, %d tasks", t.tasks), Records: int64(t.records)}
	m.stop(&r)
	if err := errors.Join(errs...); err != nil {
		return err
	}
	env.report.add(r)
	fmt.Fprintf(env.out, "  %.0f records/s, %.0f a core\n", r.perSecond(), 1e6/r.cpuPerMillion())
	return t.check(db)
}

// check compares the state with what the last record of each key was.
func (t *changelogTopic) check(db state.DB) error {
	last := make([]int, t.keys)
	for i := range last {
		last[i] = -1
	}
	for i := range t.records {
		last[t.key(i)] = i
	}
	it, err := db.NewIter([]byte{0, 0, 0, 16}, nil)
	if err != nil {
		return err
	}
	defer it.Close()
	for ok := it.First(); ok; ok = it.Next() {
		key := int(binary.BigEndian.Uint64(it.Key()[4:]))
		if got := int(binary.BigEndian.Uint64(it.Value())); got != last[key] {
			return fmt.Errorf("restore: key %d is of record %d, and its last is %d", key, got, last[key])
		}
		last[key] = -1
	}
	for key, i := range last {
		if i >= 0 {
			return fmt.Errorf("restore: key %d of record %d is missing", key, i)
		}
	}
	return it.Error()
}
