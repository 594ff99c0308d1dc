package sim

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

// read reads all of a topic that is committed, each partition from its beginning.
func (w *world) read(topic string, each func(r *kgo.Record) error) error {
	ctx, cancel := context.WithTimeout(context.Background(), bound)
	defer cancel()
	var ends kadm.ListedOffsets
	for {
		var err error
		if ends, err = kadm.NewClient(w.client).ListEndOffsets(ctx, topic); err == nil {
			err = ends.Error()
		}
		if err == nil {
			break
		}
		if !kerr.IsRetriable(err) {
			return fmt.Errorf("read topic %s: %w", topic, err)
		}
		time.Sleep(100 * time.Millisecond) // the client learns of a leader that has moved
	}
	left := map[int32]int64{}
	ends.Each(func(o kadm.ListedOffset) {
		if o.Offset > 0 {
			left[o.Partition] = o.Offset
		}
	})
	cl, err := w.newClient(
		kgo.ConsumeTopics(topic), kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.KeepControlRecords(),
	)
	if err != nil {
		return err
	}
	defer cl.Close()
	for len(left) > 0 {
		fetches := cl.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			return fmt.Errorf("read topic %s: %w", topic, err)
		}
		fetches.EachRecord(func(r *kgo.Record) {
			if !r.Attrs.IsControl() {
				err = errors.Join(err, each(r))
			}
			if r.Offset+1 >= left[r.Partition] {
				delete(left, r.Partition)
			}
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// outputs follows the topics that the members write, as a reader of committed records.
type outputs struct {
	world  *world
	client *kgo.Client
	stop   context.CancelFunc
	done   chan struct{}

	mu     sync.Mutex
	next   map[string]int64 // by topic and partition: the client may go back where a leader has moved
	tables map[string]map[string]string
	events map[string]map[string]int
	err    error
}

func newOutputs(w *world) (*outputs, error) {
	cl, err := w.newClient(
		kgo.ConsumeTopics(w.plan.shape.outputs...), kgo.FetchIsolationLevel(kgo.ReadCommitted()),
	)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	o := &outputs{
		world: w, client: cl, stop: cancel, done: make(chan struct{}),
		next: map[string]int64{}, tables: map[string]map[string]string{}, events: map[string]map[string]int{},
	}
	go func() {
		defer close(o.done)
		for ctx.Err() == nil {
			fetches := cl.PollFetches(ctx)
			o.mu.Lock()
			fetches.EachRecord(func(r *kgo.Record) { o.err = errors.Join(o.err, o.add(r)) })
			o.mu.Unlock()
		}
	}()
	return o, nil
}

func (o *outputs) close() {
	o.stop()
	<-o.done
	o.client.Close()
}

// isEvents says that an output is no table.
func isEvents(topic string) bool { return topic == "seen" || topic == "checked" }

// add folds a record.
func (o *outputs) add(r *kgo.Record) error {
	log := fmt.Sprintf("%s/%d", r.Topic, r.Partition)
	if r.Offset < o.next[log] {
		return nil
	}
	o.next[log] = r.Offset + 1
	switch r.Topic {
	case "seen":
		count(o.events, r.Topic, string(r.Value))
	case "checked":
		var v struct{ Number int64 }
		if err := json.Unmarshal(r.Value, &v); err != nil {
			return fmt.Errorf("event %s: %w", r.Value, err)
		}
		count(o.events, r.Topic, fmt.Sprint(v.Number))
	case "perMinute":
		var k struct {
			Key    string
			Window struct{ Start int64 }
		}
		var v struct{ Value json.RawMessage }
		err := json.Unmarshal(r.Key, &k)
		if err == nil && r.Value != nil {
			err = json.Unmarshal(r.Value, &v)
		}
		if err != nil {
			return fmt.Errorf("row %s of %s: %w", r.Value, r.Key, err)
		}
		set(o.tables, r.Topic, keyOf(k.Key, k.Window.Start), v.Value)
	default:
		set(o.tables, r.Topic, string(r.Key), r.Value)
	}
	return nil
}

func count(events map[string]map[string]int, topic, event string) {
	if events[topic] == nil {
		events[topic] = map[string]int{}
	}
	events[topic][event]++
}

func set(tables map[string]map[string]string, topic, key string, value []byte) {
	if tables[topic] == nil {
		tables[topic] = map[string]string{}
	}
	if value == nil {
		delete(tables[topic], key)
		return
	}
	tables[topic][key] = string(value)
}

// differences compares what was read so far.
func (o *outputs) differences(want *expected) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	errs := []error{o.err}
	for topic, rows := range want.tables {
		errs = append(errs, different("topic "+topic, o.tables[topic], rows))
	}
	for topic, events := range want.events {
		errs = append(errs, different("topic "+topic, o.events[topic], events))
	}
	return errors.Join(errs...)
}
