package kafka_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/tailrace/tailrace/changelog"
	"github.com/tailrace/tailrace/internal/await"
	"github.com/tailrace/tailrace/internal/kafka"
	"github.com/tailrace/tailrace/internal/kafkatest"
	"github.com/tailrace/tailrace/state"
)

func TestMain(m *testing.M) { kafkatest.Main(m) }

func client(t testing.TB, c *kafkatest.Cluster, opts ...kgo.Opt) *kgo.Client {
	t.Helper()
	cl, err := kgo.NewClient(append([]kgo.Opt{
		kgo.SeedBrokers(c.Brokers()...), kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.ProducerLinger(0),
		kgo.MetadataMinAge(100 * time.Millisecond),
	}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cl.Close)
	return cl
}

// create creates a compacted topic and waits for its leaders.
func create(t testing.TB, cl *kgo.Client, topic string, partitions int32, configs map[string]string) {
	t.Helper()
	admin := kadm.NewClient(cl)
	settings := map[string]*string{"cleanup.policy": kadm.StringPtr("compact")}
	for k, v := range configs {
		settings[k] = kadm.StringPtr(v)
	}
	if _, err := admin.CreateTopic(t.Context(), partitions, 1, settings, topic); err != nil {
		t.Fatal(err)
	}
	for {
		ends, err := admin.ListEndOffsets(t.Context(), topic)
		if err == nil && ends.Error() == nil {
			return
		}
	}
}

// producer writes transactions of one transactional id.
type producer struct {
	t     testing.TB
	cl    *kgo.Client
	topic string
}

func newProducer(t testing.TB, c *kafkatest.Cluster, topic string, opts ...kgo.Opt) *producer {
	return &producer{t: t, topic: topic, cl: client(t, c, append([]kgo.Opt{
		kgo.TransactionalID(t.Name() + "-" + topic), kgo.TransactionTimeout(5 * time.Second),
	}, opts...)...)}
}

func (p *producer) begin() {
	p.t.Helper()
	if err := p.cl.BeginTransaction(); err != nil {
		p.t.Fatal(err)
	}
}

func (p *producer) write(partition int32, key, value string) {
	p.t.Helper()
	r := &kgo.Record{Topic: p.topic, Partition: partition, Key: []byte(key)}
	if value != "" {
		r.Value = []byte(value)
	}
	if err := p.cl.ProduceSync(p.t.Context(), r).FirstErr(); err != nil {
		p.t.Fatal(err)
	}
}

func (p *producer) end(commit kgo.TransactionEndTry) {
	p.t.Helper()
	if err := p.cl.EndTransaction(p.t.Context(), commit); err != nil {
		p.t.Fatal(err)
	}
}

// standing is a task of one partition of a topic, and its state in memory.
type standing struct {
	t     testing.TB
	db    state.DB
	log   changelog.Log
	task  changelog.Task
	wiped []changelog.Reason
	now   time.Time
}

func newStanding(t testing.TB, cl *kgo.Client, topic string, partitions ...int32) *standing {
	t.Helper()
	s := &standing{t: t, db: state.NewMemory(), log: kafka.NewLog(cl), now: time.Now()}
	id, err := s.log.Cluster(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	s.task = changelog.Task{
		Name: "task", Identity: changelog.Identity{Cluster: id, App: "shop", Topology: "17"},
		Key: []byte{0, 0, 0, 0, 'c'},
	}
	for i, p := range partitions {
		s.task.Stores = append(s.task.Stores, changelog.Store{
			Partition: changelog.Partition{Topic: topic, Number: p}, ID: uint32(16 + i),
		})
	}
	return s
}

func (s *standing) restorer() *changelog.Restorer {
	s.t.Helper()
	r, err := changelog.NewRestorer(changelog.RestoreConfig{
		DB: s.db, Log: s.log, Now: func() time.Time { return s.now },
		Wiped: func(_ string, reason changelog.Reason) { s.wiped = append(s.wiped, reason) },
	})
	if err != nil {
		s.t.Fatal(err)
	}
	return r
}

func (s *standing) restore() changelog.Checkpoint {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), time.Minute)
	defer cancel()
	c, err := s.restorer().Restore(ctx, s.task)
	if err != nil {
		s.t.Fatal(err)
	}
	return c
}

func (s *standing) content(store uint32) map[string]string {
	s.t.Helper()
	it, err := s.db.NewIter([]byte{0, 0, 0, byte(store)}, []byte{0, 0, 0, byte(store + 1)})
	if err != nil {
		s.t.Fatal(err)
	}
	defer it.Close()
	got := map[string]string{}
	for ok := it.First(); ok; ok = it.Next() {
		got[string(it.Key()[4:])] = string(it.Value())
	}
	return got
}

func (s *standing) verify() {
	s.t.Helper()
	v, err := changelog.Verify(s.t.Context(), s.db, s.log, state.NewMemory(), s.task,
		func(d changelog.Difference) error {
			return fmt.Errorf("key %q: %s: %q and %q", d.Key, d.Kind, d.State, d.Log)
		})
	if err != nil {
		s.t.Fatal(err)
	}
	if v.Newer > 0 {
		s.t.Errorf("%d keys are newer in the log", v.Newer)
	}
}

// TestRestoreTails restores logs that end in a commit marker, in aborted data with its
// marker, and in a transaction that is open until it times out.
func TestRestoreTails(t *testing.T) {
	c := kafkatest.Shared(t)
	admin := client(t, c)
	create(t, admin, "tails", 3, nil)
	p := newProducer(t, c, "tails")
	want := map[string]string{"a": "1", "b": "2"}
	for partition := range int32(3) {
		p.begin()
		p.write(partition, "a", "1")
		p.write(partition, "b", "2")
		p.write(partition, "c", "3")
		p.end(kgo.TryCommit)
		p.begin()
		p.write(partition, "b", "aborted")
		p.write(partition, "d", "aborted")
		p.end(kgo.TryAbort)
		p.begin()
		p.write(partition, "c", "")
		p.end(kgo.TryCommit)
	}
	p.begin()
	p.write(1, "a", "aborted")
	p.end(kgo.TryAbort)
	p.begin()
	p.write(2, "a", "open")
	for partition := range int32(3) {
		s := newStanding(t, admin, "tails", partition)
		ckpt := s.restore()
		if diff := cmp.Diff(want, s.content(16)); diff != "" {
			t.Errorf("partition %d: %s", partition, diff)
		}
		ends, err := kadm.NewClient(admin).ListEndOffsets(t.Context(), "tails")
		if err != nil {
			t.Fatal(err)
		}
		if end, _ := ends.Lookup("tails", partition); ckpt.Positions[0].Next != end.Offset {
			t.Errorf("partition %d: restored to %d, and the log ends at %d", partition,
				ckpt.Positions[0].Next, end.Offset)
		}
		s.verify()
		s.restore() // nothing is left to do
		if len(s.wiped) > 0 {
			t.Errorf("state was given up: %v", s.wiped)
		}
	}
}

// TestReadAsConsumers compares the reader with the client's own consumer, over all
// compressions and batches of many sizes.
func TestReadAsConsumers(t *testing.T) {
	c := kafkatest.Shared(t)
	admin := client(t, c)
	create(t, admin, "codecs", 1, nil)
	for i, codec := range []kgo.CompressionCodec{
		kgo.NoCompression(), kgo.GzipCompression(), kgo.SnappyCompression(), kgo.Lz4Compression(),
		kgo.ZstdCompression(),
	} {
		p := newProducer(t, c, "codecs", kgo.ProducerBatchCompression(codec),
			kgo.ProducerLinger(5*time.Millisecond))
		for n := range 6 {
			p.begin()
			for k := range 200 * n {
				r := &kgo.Record{Topic: "codecs", Key: fmt.Appendf(nil, "%d-%d-%d", i, n, k), Value: make([]byte, 300),
					Headers: []kgo.RecordHeader{{Key: "h", Value: []byte("v")}}}
				if k%7 == 0 {
					r.Value = nil
				}
				p.cl.Produce(t.Context(), r, nil)
			}
			p.write(0, "last", "of the transaction")
			if n%3 == 2 {
				p.end(kgo.TryAbort)
			} else {
				p.end(kgo.TryCommit)
			}
		}
		p.cl.Close()
	}
	log := kafka.NewLog(admin)
	from := changelog.Position{Partition: changelog.Partition{Topic: "codecs"}, Epoch: -1}
	infos, err := log.Topics(t.Context(), []string{"codecs"})
	if err != nil {
		t.Fatal(err)
	}
	from.ID = infos["codecs"].ID
	bounds, err := log.Bounds(t.Context(), []changelog.Position{from})
	if err != nil {
		t.Fatal(err)
	}
	end := bounds[0].End
	for _, from.Next = range []int64{0, 700, end - 3} {
		want := consume(t, c, from.Next, end)
		reader, err := log.Read(t.Context(), []changelog.Position{from})
		if err != nil {
			t.Fatal(err)
		}
		var got []changelog.Record
		for next := from.Next; next < end; {
			chunks, err := reader.Next(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			for _, c := range chunks {
				got = append(got, c.Records...)
				next = c.Next
			}
		}
		reader.Close()
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("from %d: %s", from.Next, diff)
		}
	}
}

func consume(t *testing.T, c *kafkatest.Cluster, from, end int64) (records []changelog.Record) {
	t.Helper()
	cl := client(t, c, kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.KeepControlRecords(),
		kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{"codecs": {0: kgo.NewOffset().At(from)}}))
	for {
		fetches := cl.PollFetches(t.Context())
		if err := fetches.Err(); err != nil {
			t.Fatal(err)
		}
		for it := fetches.RecordIter(); !it.Done(); {
			r := it.Next()
			if !r.Attrs.IsControl() {
				records = append(records, changelog.Record{Offset: r.Offset, Key: r.Key, Value: r.Value})
			}
			if r.Offset == end-1 {
				return records
			}
		}
	}
}

// TestRestoreBrokenLogs deletes records, and the topic, under a checkpoint.
func TestRestoreBrokenLogs(t *testing.T) {
	c := kafkatest.Shared(t)
	admin := client(t, c)
	adm := kadm.NewClient(admin)
	create(t, admin, "broken", 1, map[string]string{"cleanup.policy": "compact,delete"})
	p := newProducer(t, c, "broken")
	transact := func(key, value string) {
		p.begin()
		p.write(0, key, value)
		p.end(kgo.TryCommit)
	}
	transact("a", "1")
	s := newStanding(t, admin, "broken", 0)
	at := s.restore().Positions[0].Next
	transact("b", "1")
	transact("c", "1")
	var offsets kadm.Offsets
	offsets.AddOffset("broken", 0, at+2, -1)
	if _, err := adm.DeleteRecords(t.Context(), offsets); err != nil {
		t.Fatal(err)
	}
	s.restore()
	if diff := cmp.Diff(map[string]string{"c": "1"}, s.content(16)); diff != "" {
		t.Error(diff)
	}
	if _, err := adm.DeleteTopic(t.Context(), "broken"); err != nil {
		t.Fatal(err)
	}
	if _, err := s.restorer().Restore(t.Context(), s.task); !errors.Is(err, changelog.ErrNoTopic) {
		t.Errorf("without the topic: %v", err)
	}
	p.cl.Close()
	create(t, admin, "broken", 1, nil)
	p = newProducer(t, c, "broken")
	for i := range 9 {
		transact("d", strconv.Itoa(i+1))
	}
	s.restore()
	if diff := cmp.Diff(map[string]string{"d": "9"}, s.content(16)); diff != "" {
		t.Error(diff)
	}
	want := []changelog.Reason{changelog.ReasonOutOfRange, changelog.ReasonRecreated}
	if diff := cmp.Diff(want, s.wiped); diff != "" {
		t.Error(diff)
	}
}

// TestRestoreCompacted restores, from its start and from a checkpoint, a log of which the
// cleaner has removed most: single records, whole batches, and the content of the last
// batches before the one that is written to.
func TestRestoreCompacted(t *testing.T) {
	c, err := kafkatest.Start(t.Context(), kafkatest.Config{Properties: map[string]string{
		"log.cleaner.backoff.ms": "100", "log.retention.check.interval.ms": "1000",
	}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Stop(); err != nil {
			t.Error(err)
		}
	})
	admin := client(t, c)
	create(t, admin, "compacted", 1, map[string]string{
		"segment.ms": "300", "min.cleanable.dirty.ratio": "0.01", "delete.retention.ms": "86400000",
	})
	p := newProducer(t, c, "compacted")
	early := newStanding(t, admin, "compacted", 0)
	want := map[string]string{}
	write := func(n int) {
		p.begin()
		for k := range 10 {
			key, value := strconv.Itoa(k*n%7), strconv.Itoa(n+1)
			if k%5 == 4 {
				value = ""
			}
			p.write(0, key, value)
			if want[key] = value; value == "" {
				delete(want, key)
			}
		}
		p.end(kgo.TryCommit)
		p.begin()
		p.write(0, "aborted", "x")
		p.end(kgo.TryAbort)
	}
	count := func() (records int, first int64) {
		from := changelog.Position{Partition: changelog.Partition{Topic: "compacted"}, Epoch: -1}
		infos, err := early.log.Topics(t.Context(), []string{"compacted"})
		if err != nil {
			t.Fatal(err)
		}
		from.ID = infos["compacted"].ID
		bounds, err := early.log.Bounds(t.Context(), []changelog.Position{from})
		if err != nil {
			t.Fatal(err)
		}
		reader, err := early.log.Read(t.Context(), []changelog.Position{from})
		if err != nil {
			t.Fatal(err)
		}
		defer reader.Close()
		for next := int64(0); next < bounds[0].End; {
			chunks, err := reader.Next(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			for _, c := range chunks {
				records += len(c.Records)
				next = c.Next
			}
		}
		return records, bounds[0].End
	}
	for n := range 5 {
		write(n)
	}
	early.restore()
	for n := range 20 {
		write(n)
	}
	var records int
	var end int64
	await.That(t, "it is compacted", func() bool {
		write(3) // a segment is closed by what comes after it
		records, end = count()
		return records*4 < int(end)
	})
	t.Logf("%d records are left at %d offsets", records, end)
	late := newStanding(t, admin, "compacted", 0)
	for _, s := range []*standing{early, late} {
		s.restore()
		if diff := cmp.Diff(want, s.content(16)); diff != "" {
			t.Error(diff)
		}
		s.verify()
		if len(s.wiped) > 0 {
			t.Errorf("state was given up: %v", s.wiped)
		}
	}
}

// TestFollowRecreated: a reader that is at work notices that its topic is another one.
func TestFollowRecreated(t *testing.T) {
	c := kafkatest.Shared(t)
	admin := client(t, c)
	create(t, admin, "followed", 1, nil)
	p := newProducer(t, c, "followed")
	p.begin()
	p.write(0, "a", "1")
	p.end(kgo.TryCommit)
	s := newStanding(t, admin, "followed", 0)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- s.restorer().Follow(ctx, s.task) }()
	await.That(t, "the record is there", func() bool { return s.content(16)["a"] == "1" })
	if _, err := kadm.NewClient(admin).DeleteTopic(t.Context(), "followed"); err != nil {
		t.Fatal(err)
	}
	p.cl.Close()
	select {
	case err := <-done:
		if !errors.Is(err, changelog.ErrNoTopic) {
			t.Errorf("without its topic: %v", err)
		}
	case <-time.After(30 * time.Second):
		t.Error("it does not notice that its topic is gone")
	}
	cancel()
	create(t, admin, "followed", 1, nil)
	p = newProducer(t, c, "followed")
	p.begin()
	p.write(0, "b", "1")
	p.end(kgo.TryCommit)
	s.restore()
	if diff := cmp.Diff(map[string]string{"b": "1"}, s.content(16)); diff != "" {
		t.Error(diff)
	}
}

// takeovers is the number of takeovers of TestTakeover; TAILRACE_TAKEOVERS sets another.
func takeovers(t *testing.T) int {
	if s := os.Getenv("TAILRACE_TAKEOVERS"); s != "" {
		n, err := strconv.Atoi(s)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	return 100
}

// TestTakeover restores while the transaction before is being committed. Its marker may
// come to the offsets before it comes to the changelog's 64 partitions: what is restored
// holds all that belongs to the offsets all the same.
func TestTakeover(t *testing.T) {
	const partitions = 64
	c := kafkatest.Shared(t)
	admin := client(t, c)
	create(t, admin, "takeover", partitions, nil)
	create(t, admin, "input", 1, nil)
	p := newProducer(t, c, "takeover")
	all := make([]int32, partitions)
	for i := range all {
		all[i] = int32(i)
	}
	s := newStanding(t, admin, "takeover", all...)
	for n := 1; n <= takeovers(t); n++ {
		p.begin()
		for i := range all {
			p.cl.Produce(t.Context(), &kgo.Record{
				Topic: "takeover", Partition: all[i], Key: []byte("n"), Value: []byte(strconv.Itoa(n)),
			}, nil)
		}
		if err := p.cl.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		commitOffset(t, p.cl, p.cl, int64(n))
		ended := make(chan struct{})
		go func() { defer close(ended); p.end(kgo.TryCommit) }()
		at := stableOffset(t, admin)
		s.restore()
		for store := range uint32(partitions) {
			has, _ := strconv.ParseInt(s.content(16 + store)["n"], 10, 64)
			if has < at {
				t.Fatalf("takeover %d: offset %d is committed, and partition %d was restored to %d", n, at, store, has)
			}
		}
		<-ended
	}
}

// commitOffset commits an offset of the input in the producer's transaction.
func commitOffset(t *testing.T, cl, producer *kgo.Client, offset int64) {
	t.Helper()
	id, epoch, err := producer.ProducerID(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	req := kmsg.NewPtrTxnOffsetCommitRequest()
	req.TransactionalID, req.Group = t.Name()+"-takeover", "takeover"
	req.ProducerID, req.ProducerEpoch, req.Generation = id, epoch, -1
	topic := kmsg.NewTxnOffsetCommitRequestTopic()
	topic.Topic = "input"
	partition := kmsg.NewTxnOffsetCommitRequestTopicPartition()
	partition.Offset = offset
	topic.Partitions = append(topic.Partitions, partition)
	req.Topics = append(req.Topics, topic)
	for {
		resp, err := req.RequestWith(t.Context(), cl)
		if err == nil {
			err = kerr.ErrorForCode(resp.Topics[0].Partitions[0].ErrorCode)
		}
		if err == nil {
			return
		}
		if !errors.Is(err, kerr.ConcurrentTransactions) { // the one before is being ended
			t.Fatal(err)
		}
	}
}

// stableOffset reads the committed offset of the input when no transaction is pending.
func stableOffset(t *testing.T, cl *kgo.Client) int64 {
	t.Helper()
	for {
		req := kmsg.NewPtrOffsetFetchRequest()
		req.RequireStable = true
		group := kmsg.NewOffsetFetchRequestGroup()
		group.Group = "takeover"
		topic := kmsg.NewOffsetFetchRequestGroupTopic()
		topic.Topic, topic.Partitions = "input", []int32{0}
		group.Topics = append(group.Topics, topic)
		req.Groups = append(req.Groups, group)
		resp, err := req.RequestWith(t.Context(), cl)
		if err != nil {
			t.Fatal(err)
		}
		p := resp.Groups[0].Topics[0].Partitions[0]
		switch err := kerr.ErrorForCode(p.ErrorCode); {
		case err == nil:
			return p.Offset
		case !errors.Is(err, kerr.UnstableOffsetCommit):
			t.Fatal(err)
		}
	}
}
