package kafka

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/tailrace/tailrace/record"
	"github.com/tailrace/tailrace/sinks"
)

// progress is the record under "progress" in the progress topic. It is written
// in the transaction of every Apply, and by Open to claim the target. Readers who want
// to know what the topics hold read it read_committed.
type progress struct {
	Incarnation string `json:"incarnation"`
	// Session is new at every Open.
	Session string `json:"session"`
	// Seq is the last epoch, 0 from the moment an incarnation takes over to its first
	// (reconciling) commit.
	Seq        uint64           `json:"seq"`
	Positions  record.Positions `json:"positions"`
	CommitTime *time.Time       `json:"commit_time,omitempty"`
	// Events is up to where each stream's topic holds the events of each source: what a
	// new incarnation is given again is left out.
	Events map[string]record.Positions `json:"events,omitempty"`
}

// lease is the record under "lease": a sign of life.
type lease struct {
	Session string `json:"session"`
	Beat    uint64 `json:"beat"`
}

// The keys of the progress topic.
const (
	progressKey = "progress"
	leaseKey    = "lease"
)

// scanMode says how far a topic is read.
type scanMode uint8

const (
	// stable reads what is committed before the first open transaction.
	stable scanMode = iota
	// settled reads all that is there now, waiting for open transactions to end.
	settled
	// uncommitted reads all that is there now, whether it will count or not.
	uncommitted
)

// readProgress reads the progress, nil where there is none.
func (w *writer) readProgress(ctx context.Context, mode scanMode) (p *progress, err error) {
	err = w.scan(ctx, w.progressTopic(), mode, func(r *kgo.Record) error {
		if string(r.Key) != progressKey {
			return nil
		}
		p = nil
		if r.Value == nil {
			return nil
		}
		p = &progress{}
		return json.Unmarshal(r.Value, p)
	})
	if err != nil {
		return nil, w.wrap("read the progress topic "+w.progressTopic(), err)
	}
	return p, nil
}

// readLease reads the last sign of life, nil where there is none. Signs of life are of
// no transaction, and must be seen behind one that is open.
func (w *writer) readLease(ctx context.Context) (l *lease, err error) {
	err = w.scan(ctx, w.progressTopic(), uncommitted, func(r *kgo.Record) error {
		if string(r.Key) != leaseKey {
			return nil
		}
		l = nil
		if r.Value == nil {
			return nil
		}
		l = &lease{}
		return json.Unmarshal(r.Value, l)
	})
	if err != nil {
		return nil, w.wrap("read the progress topic "+w.progressTopic(), err)
	}
	return l, nil
}

// scan calls fn for the records of a topic, of each partition in order. Control records
// are kept: the end of the log is one, and without it the end would not be seen.
func (w *writer) scan(
	ctx context.Context, topic string, mode scanMode, fn func(*kgo.Record) error,
) error {
	list, isolation := w.admin.ListEndOffsets, kgo.ReadCommitted()
	switch mode {
	case stable:
		list = w.admin.ListCommittedOffsets
	case uncommitted:
		isolation = kgo.ReadUncommitted()
	}
	ends, err := list(ctx, topic)
	if err == nil {
		err = ends.Error()
	}
	if err != nil {
		return err
	}
	starts, err := w.admin.ListStartOffsets(ctx, topic)
	if err == nil {
		err = starts.Error()
	}
	if err != nil {
		return err
	}
	left := map[int32]int64{}
	from := map[int32]kgo.Offset{}
	for _, o := range ends.Offsets()[topic] {
		start, _ := starts.Lookup(topic, o.Partition)
		if o.At > start.Offset {
			left[o.Partition] = o.At
			from[o.Partition] = kgo.NewOffset().At(start.Offset)
		}
	}
	if len(left) == 0 {
		return nil
	}
	cl, err := w.client(kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: from}),
		kgo.FetchIsolationLevel(isolation), kgo.KeepControlRecords())
	if err != nil {
		return err
	}
	defer cl.Close()
	for len(left) > 0 {
		fetches := cl.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			return err
		}
		fetches.EachRecord(func(r *kgo.Record) {
			to, reading := left[r.Partition]
			if reading && r.Offset < to && !r.Attrs.IsControl() && err == nil {
				err = fn(r)
			}
			if reading && r.Offset >= to-1 {
				delete(left, r.Partition)
			}
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// claim makes the target ours: it waits for the lease of another incarnation to run
// out, ends what our predecessors left open, and writes a session of our own.
func (w *writer) claim(ctx context.Context) error {
	p, err := w.readProgress(ctx, stable)
	if err != nil {
		return err
	}
	if p != nil && p.Incarnation != w.incarnation {
		if err := w.waitForLease(ctx); err != nil {
			return err
		}
	}
	// This fences whoever else has the transactional id, and ends the transaction that it
	// left open; only then is the progress what it will stay.
	if _, _, err := w.producer.ProducerID(ctx); err != nil {
		return w.wrap("begin as producer", err)
	}
	if p, err = w.readProgress(ctx, settled); err != nil {
		return err
	}
	w.last = progress{Positions: record.Positions{}, Events: map[string]record.Positions{}}
	if p != nil {
		w.last = *p
		if p.Incarnation != w.incarnation {
			w.last.Seq = 0
		}
	}
	w.last.Incarnation, w.last.Session = w.incarnation, rand.Text()
	return w.transaction(ctx, func() error { return w.produceProgress(w.last) })
}

// waitForLease waits as long as a lease lasts without a sign of life. No clocks are
// compared: a sign is a record that was not there before.
func (w *writer) waitForLease(ctx context.Context) error {
	seen, err := w.readLease(ctx)
	if err != nil || seen == nil {
		return err
	}
	w.log.Info("waiting for the lease of another instance on the target to end", "at_most", w.cfg.Lease)
	deadline := time.Now().Add(w.cfg.Lease)
	for {
		wait := time.NewTimer(min(time.Until(deadline), w.cfg.Lease/8))
		select {
		case <-ctx.Done():
			wait.Stop()
			return w.held(context.Cause(ctx))
		case <-wait.C:
		}
		now, err := w.readLease(ctx)
		switch {
		case err != nil:
			return err
		case now == nil: // it has stopped
			return nil
		case *now != *seen:
			return w.held(nil)
		case !time.Now().Before(deadline):
			return nil
		}
	}
}

func (w *writer) held(cause error) error {
	err := fmt.Errorf("%w: sinks/kafka: app %q, target %q belongs to another incarnation, which renews its "+
		"lease; stop the other instance, or give this app another name", sinks.ErrHeld, w.app, w.target)
	return errors.Join(err, cause)
}

// keepLease shows signs of life until Close.
func (w *writer) keepLease() {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	session := w.last.Session
	w.stopLease = func() { cancel(); <-done }
	go func() {
		defer close(done)
		tick := time.NewTicker(w.cfg.Lease / 4)
		defer tick.Stop()
		for beat := uint64(1); ; beat++ {
			value, _ := json.Marshal(lease{Session: session, Beat: beat})
			w.beats.Produce(ctx, &kgo.Record{
				Topic: w.progressTopic(), Key: []byte(leaseKey), Value: value,
			}, nil)
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
		}
	}()
}

// drop removes the progress.
func (w *writer) drop(ctx context.Context) error {
	if err := w.connect(ctx); err != nil {
		return err
	}
	topics, err := w.admin.ListTopics(ctx, w.progressTopic())
	if err != nil {
		return w.wrap("list the topics", err)
	}
	if d, ok := topics[w.progressTopic()]; !ok || d.Err != nil {
		return nil
	}
	p, err := w.readProgress(ctx, stable)
	if err != nil || p == nil {
		return err
	}
	if err := w.waitForLease(ctx); err != nil {
		return err
	}
	if _, _, err := w.producer.ProducerID(ctx); err != nil {
		return w.wrap("begin as producer", err)
	}
	return w.transaction(ctx, func() error {
		for _, key := range []string{progressKey, leaseKey} {
			w.produce(&kgo.Record{Topic: w.progressTopic(), Key: []byte(key)})
		}
		return nil
	})
}
