package kafka

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/tailrace/tailrace/record"
	"github.com/tailrace/tailrace/sinks"
)

// writer is an open Kafka target.
type writer struct {
	cfg                      Config
	app, target, incarnation string
	log                      *slog.Logger
	outputs                  map[uint32]*output

	producer *kgo.Client // the transactional one
	beats    *kgo.Client // outside of transactions: signs of life
	admin    *kadm.Client

	tries bool // topics that are missing are not made, it is only asked whether they could be

	last      progress
	broken    error // an outcome that is unknown: the client's memory is not to be trusted
	stopLease func()

	mu     sync.Mutex
	failed error // the first record of the transaction that could not be written
}

func (w *writer) open(ctx context.Context) error {
	if err := w.connect(ctx); err != nil {
		return err
	}
	if err := w.prepareTopics(ctx); err != nil {
		return err
	}
	return w.claim(ctx)
}

// check finds what open would refuse, without what makes others producers of the past.
func (w *writer) check(ctx context.Context) (err error) {
	if w.beats, err = w.client(); err != nil {
		return err
	}
	w.admin = kadm.NewClient(w.beats)
	if err := w.beats.Ping(ctx); err != nil {
		return w.wrap("reach the brokers", err)
	}
	w.tries = true
	return w.prepareTopics(ctx)
}

// connect makes the clients and reaches the cluster once.
func (w *writer) connect(ctx context.Context) (err error) {
	if w.beats, err = w.client(); err != nil {
		return err
	}
	w.admin = kadm.NewClient(w.beats)
	w.producer, err = w.client(
		kgo.TransactionalID("tailrace-"+w.app+"-"+w.target),
		kgo.TransactionTimeout(w.cfg.TransactionTimeout),
		kgo.ProducerLinger(0),
	)
	if err != nil {
		return err
	}
	if err := w.beats.Ping(ctx); err != nil {
		return w.wrap("reach the brokers", err)
	}
	return nil
}

// Close gives up the lease, so that another instance need not wait for its end.
func (w *writer) Close() error {
	if w.stopLease != nil {
		w.stopLease()
		w.stopLease = nil
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		// Only if nobody has taken over: the lease is theirs then.
		if p, err := w.readProgress(ctx, stable); err == nil && p != nil && p.Session == w.last.Session {
			err := w.beats.ProduceSync(ctx, &kgo.Record{
				Topic: w.progressTopic(), Key: []byte(leaseKey),
			}).FirstErr()
			if err != nil {
				w.log.Warn("the lease on the target was not given up; it ends by itself", "error", err)
			}
		}
	}
	w.close()
	return nil
}

func (w *writer) close() {
	for _, cl := range []*kgo.Client{w.producer, w.beats} {
		if cl != nil {
			cl.Close()
		}
	}
}

// Progress implements sinks.Writer.
func (w *writer) Progress(ctx context.Context) (seq uint64, ok bool, err error) {
	p, err := w.readProgress(ctx, settled)
	if err != nil {
		return 0, false, err
	}
	if p == nil || p.Session != w.last.Session {
		return 0, false, w.fenced()
	}
	return p.Seq, p.Seq > 0, nil
}

func (w *writer) fenced() error {
	return fmt.Errorf("%w: sinks/kafka: app %q, target %q was taken over", sinks.ErrFenced, w.app, w.target)
}

// Apply implements sinks.Writer: one Kafka transaction.
func (w *writer) Apply(ctx context.Context, epochs []sinks.Epoch) error {
	if w.broken != nil {
		return w.broken
	}
	for len(epochs) > 0 && epochs[0].Seq <= w.last.Seq {
		epochs = epochs[1:]
	}
	if len(epochs) == 0 {
		return nil
	}
	if w.last.Seq == 0 && !epochs[0].Reconcile {
		return fmt.Errorf("sinks/kafka: target %q: the first epoch of an incarnation has to reconcile", w.target)
	}
	newest := &epochs[len(epochs)-1]
	next := w.last
	next.Seq, next.Positions, next.CommitTime = newest.Seq, newest.Positions, &newest.CommitTime
	next.Events = map[string]record.Positions{}
	for topic, p := range w.last.Events {
		next.Events[topic] = p.Clone()
	}
	err := w.transaction(ctx, func() error {
		wholes := w.lastWholes(epochs)
		for i := range epochs {
			if err := w.produceEpoch(ctx, &epochs[i], i, wholes, next.Events); err != nil {
				return err
			}
		}
		return w.produceProgress(next)
	})
	if err == nil {
		w.last = next
	}
	return err
}

// transaction runs produce in a transaction that commits, or is given up as a whole.
func (w *writer) transaction(ctx context.Context, produce func() error) error {
	w.mu.Lock()
	w.failed = nil
	w.mu.Unlock()
	if err := w.producer.BeginTransaction(); err != nil {
		return w.lost(ctx, "begin a transaction", err)
	}
	err := produce()
	if err == nil {
		// Not RecordDeliveryTimeout, which counts from the records' own timestamps.
		flush, cancel := context.WithTimeout(ctx, w.cfg.TransactionTimeout)
		err = w.producer.Flush(flush)
		cancel()
	}
	w.mu.Lock()
	failed := w.failed
	w.mu.Unlock()
	if err == nil {
		// A commit takes in what was written and says nothing of what was not.
		err = failed
	}
	if err != nil {
		abortCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
		defer cancel()
		if abortErr := errors.Join(w.producer.AbortBufferedRecords(abortCtx),
			w.producer.EndTransaction(abortCtx, kgo.TryAbort)); abortErr != nil {
			w.broken = w.wrap("give up a transaction", abortErr)
		}
		if failed != nil {
			return w.lost(ctx, "write records", failed)
		}
		return err
	}
	if err := w.producer.EndTransaction(ctx, kgo.TryCommit); err != nil {
		// It may have committed all the same. Only a new client knows what is there.
		w.broken = w.lost(ctx, "commit", err)
		return w.broken
	}
	return nil
}

// lost says why a transaction failed: because somebody has taken over, or otherwise.
// A transaction that took too long looks like the former to a producer, so the
// progress has the last word.
func (w *writer) lost(ctx context.Context, doing string, err error) error {
	for _, e := range []error{
		kerr.ProducerFenced, kerr.InvalidProducerEpoch, kerr.InvalidProducerIDMapping, kerr.InvalidTxnState,
	} {
		if !errors.Is(err, e) {
			continue
		}
		w.broken = w.wrap(doing, err)
		read, cancel := context.WithTimeout(ctx, 30*time.Second)
		p, readErr := w.readProgress(read, settled)
		cancel()
		if readErr == nil && (p == nil || p.Session != w.last.Session) {
			w.broken = errors.Join(w.fenced(), w.broken)
		}
		return w.broken
	}
	for _, e := range []error{kerr.MessageTooLarge, kerr.RecordListTooLarge, kerr.InvalidRecord} {
		if errors.Is(err, e) {
			return fmt.Errorf("%w: %w; raise max.message.bytes of the topic, or make the rows smaller",
				sinks.ErrRejected, w.wrap(doing, err))
		}
	}
	return w.wrap(doing, err)
}

// misconfigured are the broker's answers that do not change by themselves.
var misconfigured = []struct {
	cause  error
	remedy string
}{
	{kerr.SaslAuthenticationFailed, "check user and password in Config.Options"},
	{kerr.UnsupportedSaslMechanism, "use a SASL mechanism in Config.Options that the broker offers"},
	{kerr.TopicAuthorizationFailed, "grant the user read, write and describe on the topics of the target and " +
		"on its progress topic, and create where they are missing"},
	{kerr.TransactionalIDAuthorizationFailed, "grant the user write and describe on the transactional id, " +
		"tailrace-<app>-<target>"},
	{kerr.ClusterAuthorizationFailed, "grant the user create on the cluster, or create the topics beforehand"},
	{kerr.InvalidTransactionTimeout, "lower Config.TransactionTimeout, or raise the brokers' " +
		"transaction.max.timeout.ms"},
	{kerr.InvalidReplicationFactor, "lower Config.ReplicationFactor to the number of brokers"},
}

// wrap names the place, and the remedy where trying again cannot help.
func (w *writer) wrap(doing string, err error) error {
	if err == nil {
		return nil
	}
	for _, known := range misconfigured {
		if errors.Is(err, known.cause) {
			return fmt.Errorf("%w: sinks/kafka: target %q: %s: %w; %s", sinks.ErrConfig, w.target, doing, err,
				known.remedy)
		}
	}
	return fmt.Errorf("sinks/kafka: target %q: %s: %w", w.target, doing, err)
}

// produce hands a record to the client. Failures show at the end of the transaction.
func (w *writer) produce(r *kgo.Record) {
	// A context of its own: one that ends would leave the record out and go on.
	w.producer.Produce(context.Background(), r, func(r *kgo.Record, err error) {
		if err != nil {
			w.mu.Lock()
			if w.failed == nil {
				w.failed = fmt.Errorf("topic %s: %w", r.Topic, err)
			}
			w.mu.Unlock()
		}
	})
}

func (w *writer) produceProgress(p progress) error {
	value, err := json.Marshal(p)
	if err != nil {
		return err
	}
	w.produce(&kgo.Record{Topic: w.progressTopic(), Key: []byte(progressKey), Value: value})
	return nil
}

// lastWholes says which epoch is the last that holds a table as a whole, -1 for none.
func (w *writer) lastWholes(epochs []sinks.Epoch) map[uint32]int {
	last := map[uint32]int{}
	for id, o := range w.outputs {
		last[id] = -1
		for i := range epochs {
			if !o.Append && epochs[i].Whole(id) {
				last[id] = i
			}
		}
	}
	return last
}

// produceEpoch writes the i-th epoch. Of a table that a later one holds as a whole,
// nothing is written: it would be replaced at once.
func (w *writer) produceEpoch(
	ctx context.Context, e *sinks.Epoch, i int, lastWholes map[uint32]int, events map[string]record.Positions,
) error {
	whole := map[uint32]*keySet{}
	for id, last := range lastWholes {
		if last != i {
			continue
		}
		switch some, err := w.holds(ctx, w.outputs[id].topic); {
		case err != nil:
			return err
		case some:
			whole[id] = &keySet{}
		}
	}
	var enc encoder
	var failed error
	err := e.Items(func(it sinks.Item) bool {
		o := w.outputs[it.Output]
		switch {
		case o == nil:
			failed = fmt.Errorf("sinks/kafka: target %q: no output %d", w.target, it.Output)
		case it.Event != nil:
			w.produceEvent(o, it.Event, events)
		case i >= lastWholes[it.Output]:
			var r, tombstone *kgo.Record
			if o.envelopes != nil {
				r, tombstone, failed = o.envelopes.row(o, &it, e.CommitTime, e.Whole(it.Output))
			} else {
				r, failed = enc.row(o, &it)
			}
			if failed != nil {
				break
			}
			r.Timestamp = e.CommitTime
			if set := whole[it.Output]; set != nil {
				set.add(r.Key)
			}
			w.produce(r)
			if tombstone != nil {
				w.produce(tombstone)
			}
		}
		return failed == nil
	})
	if err == nil {
		err = failed
	}
	if err != nil {
		return err
	}
	for id, set := range whole {
		if err := w.removeOthers(ctx, w.outputs[id], set, e.CommitTime); err != nil {
			return err
		}
	}
	return nil
}

// produceEvent writes an event, unless the topic has it from an incarnation before.
func (w *writer) produceEvent(o *output, ev *sinks.Event, events map[string]record.Positions) {
	at := events[o.topic]
	if at == nil {
		at = record.Positions{}
		events[o.topic] = at
	}
	if ev.Position <= w.last.Events[o.topic][ev.Source] {
		return
	}
	at[ev.Source] = max(at[ev.Source], ev.Position)
	w.produce(eventRecord(o, ev))
}

// eventRecord is the record of an event.
func eventRecord(o *output, ev *sinks.Event) *kgo.Record {
	headers := []kgo.RecordHeader{
		{Key: "tailrace-id", Value: []byte(ev.ID)},
		{Key: "tailrace-source", Value: []byte(ev.Source)},
		{Key: "tailrace-position", Value: []byte(record.LSN(ev.Position).String())},
	}
	for _, flag := range []struct {
		name string
		set  bool
	}{{"tailrace-last", ev.Last}, {"tailrace-replayed", ev.Replayed}} {
		if flag.set {
			headers = append(headers, kgo.RecordHeader{Key: flag.name, Value: []byte("true")})
		}
	}
	return &kgo.Record{
		Topic: o.topic, Key: append([]byte(nil), ev.Key...), Value: append([]byte(nil), ev.Value...),
		Headers: headers, Timestamp: time.UnixMicro(ev.Time).UTC(),
	}
}
