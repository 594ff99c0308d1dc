package kafka_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/tailrace/tailrace/changelog"
	"github.com/tailrace/tailrace/internal/kafka"
	"github.com/tailrace/tailrace/internal/kafkatest"
)

func TestInternalTopics(t *testing.T) {
	c := kafkatest.Shared(t)
	cl := client(t, c)
	topics := kafka.NewTopics(cl)
	want := []changelog.Config{
		changelog.ForStore("dropped", "sums/left", 3), changelog.ForStore("dropped", "rows", 3),
		changelog.ForRepartition("dropped", "by-customer", 2),
	}
	names := []string{want[1].Topic, want[2].Topic, want[0].Topic}
	if _, err := topics.Ensure(t.Context(), want, false); !errors.Is(err, changelog.ErrNoTopic) ||
		strings.Count(err.Error(), "tailrace drop") != 3 {
		t.Errorf("missing: %v", err)
	}
	first, err := topics.Ensure(t.Context(), want, true)
	if err != nil {
		t.Fatal(err)
	}
	again, err := topics.Ensure(t.Context(), want, false)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(first, again); diff != "" || len(first) != 3 {
		t.Errorf("%v: %s", first, diff)
	}
	store, exchange := first[want[0].Topic], first[want[2].Topic]
	if store.Partitions != 3 || !store.Compacted || exchange.Partitions != 2 || exchange.Compacted {
		t.Errorf("created as %+v", first)
	}
	slices.Sort(names)
	create(t, cl, "dropped-other-rows-changelog", 1, nil)
	create(t, cl, "dropped-results", 1, nil)
	var other kadm.Offsets
	other.AddOffset("dropped-results", 0, 0, -1)
	if err := kadm.NewClient(cl).CommitAllOffsets(t.Context(), "dropped-other", other); err != nil {
		t.Fatal(err)
	}
	left, err := topics.OfApp(t.Context(), "dropped")
	if diff := cmp.Diff(names, left); err != nil || diff != "" {
		t.Errorf("%v: %s", err, diff)
	}
	deleted, err := topics.Drop(t.Context(), "dropped", append(left, "dropped-never-changelog"))
	if diff := cmp.Diff(names, deleted); err != nil || diff != "" {
		t.Errorf("%v: %s", err, diff)
	}
	if again, err = topics.Ensure(t.Context(), want, true); err != nil {
		t.Fatal(err)
	}
	for name := range first {
		if again[name].ID == first[name].ID {
			t.Errorf("%s has the id of the topic that was dropped", name)
		}
	}
}

func TestUnfitTopics(t *testing.T) {
	c := kafkatest.Shared(t)
	cl := client(t, c)
	topics := kafka.NewTopics(cl)
	store := changelog.ForStore("unfit", "sums", 3)
	exchange := changelog.ForRepartition("unfit", "by-customer", 2)
	create(t, cl, store.Topic, 2, map[string]string{"cleanup.policy": "compact,delete"})
	create(t, cl, exchange.Topic, 2, map[string]string{"cleanup.policy": "compact", "retention.ms": "5000"})
	_, err := topics.Ensure(t.Context(), []changelog.Config{store, exchange}, true)
	if !errors.Is(err, changelog.ErrTopic) {
		t.Fatal(err)
	}
	for _, text := range []string{
		`"unfit-sums-changelog" has 2 partitions and must have 3`,
		`"unfit-sums-changelog" has cleanup.policy=compact,delete and must have cleanup.policy=compact`,
		`"unfit-by-customer-repartition" has cleanup.policy=compact and must have cleanup.policy=delete`,
		`"unfit-by-customer-repartition" has retention.ms=5000 and must have retention.ms=-1`,
		"--add-config cleanup.policy=compact",
	} {
		if !strings.Contains(err.Error(), text) {
			t.Errorf("%q is not in\n%v", text, err)
		}
	}
}

func TestInputs(t *testing.T) {
	c := kafkatest.Shared(t)
	cl := client(t, c)
	create(t, cl, "in.orders", 2, nil)
	create(t, cl, "in.customers", 3, nil)
	create(t, cl, "in.lines", 2, nil)
	topics := kafka.NewTopics(cl)
	infos, err := topics.Inputs(t.Context(), []kafka.Input{
		{Topic: "in.orders", With: "join a"}, {Topic: "in.lines", With: "join a", Partitions: 2},
		{Topic: "in.customers"},
	})
	if err != nil || infos["in.customers"].Partitions != 3 {
		t.Errorf("%v, %v", infos, err)
	}
	_, err = topics.Inputs(t.Context(), []kafka.Input{
		{Topic: "in.orders", With: "join b"}, {Topic: "in.customers", With: "join b"}, {Topic: "in.missing"},
		{Topic: "in.lines", Partitions: 4},
	})
	for _, want := range []error{kafka.ErrCopartition, changelog.ErrNoTopic, changelog.ErrTopic} {
		if !errors.Is(err, want) {
			t.Errorf("%v is missing in %v", want, err)
		}
	}
	for _, text := range []string{
		`for join b`, `"in.customers" has 3`, `input "in.missing"`, `"in.lines" has 2 partitions and had 4`,
	} {
		if err == nil || !strings.Contains(err.Error(), text) {
			t.Errorf("%q is not in\n%v", text, err)
		}
	}
}

// TestDropWithMembers drops an app only when its group has no members.
func TestDropWithMembers(t *testing.T) {
	c := kafkatest.Shared(t)
	admin := client(t, c)
	topics := kafka.NewTopics(admin)
	config := changelog.ForRepartition("purged", "x", 1)
	if _, err := topics.Ensure(t.Context(), []changelog.Config{config}, true); err != nil {
		t.Fatal(err)
	}
	for range 10 {
		r := &kgo.Record{Topic: config.Topic, Value: []byte("v")}
		if err := admin.ProduceSync(t.Context(), r).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
	member := client(t, c, kgo.ConsumerGroup("purged"), kgo.ConsumeTopics(config.Topic), kgo.DisableAutoCommit(),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	records := member.PollRecords(t.Context(), 7).Records()
	if err := member.CommitRecords(t.Context(), records...); err != nil {
		t.Fatal(err)
	}
	committed, err := topics.Committed(t.Context(), "purged")
	at := committed[changelog.Partition{Topic: config.Topic}]
	if err != nil || at != int64(len(records)) {
		t.Fatalf("%v, %v", committed, err)
	}
	if _, err := topics.Drop(t.Context(), "purged", []string{config.Topic}); !errors.Is(err, kafka.ErrInUse) {
		t.Errorf("with a member: %v", err)
	}
	member.Close()
	deleted, err := topics.Drop(t.Context(), "purged", []string{config.Topic})
	if err != nil || len(deleted) != 1 {
		t.Errorf("%v, %v", deleted, err)
	}
	if committed, err := topics.Committed(t.Context(), "purged"); err != nil || len(committed) != 0 {
		t.Errorf("%v, %v", committed, err)
	}
}
