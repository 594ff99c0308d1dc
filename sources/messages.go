package sources

import (
	"github.com/tailrace/tailrace/record"
	"github.com/tailrace/tailrace/topology"
)

// Messages reads the logical messages with a prefix, which applications write with
// pg_logical_emit_message: an outbox without a table. The key is the prefix, the
// value the content. A message written outside of a transaction is one of its own; the log
// has no time of it, so its time is that of the last commit before it that the app has read
// of the database.
func Messages(b *topology.Builder, db *Database, prefix string) topology.Stream[string, []byte] {
	if db == nil {
		b.Errorf("topology: source-messages %q: no database was given; make one with sources.NewDatabase", prefix)
		db = NewDatabase("none", nil)
	}
	if prefix == "" || prefix == HeartbeatPrefix {
		b.Errorf("topology: source-messages: %q cannot be read; give the prefix your application writes", prefix)
	}
	return topology.AddStream[string, []byte](b, topology.Node{
		Name:   db.Name() + "/messages/" + prefix,
		Kind:   topology.KindSourceMessages,
		Once:   true,
		Source: &Spec{Database: db, Messages: prefix, Check: func(*record.Relation) error { return nil }},
		New: func(*topology.Runtime) (topology.Operator, error) {
			return &messageSource{maxTime: topology.NoTime}, nil
		},
	})
}

// HeartbeatPrefix is the prefix of the logical messages by which Tailrace makes
// time pass in an idle database. Their content is empty; the commit time counts.
const HeartbeatPrefix = "tailrace.heartbeat"

type messageSource struct {
	out     []record.Record[string, []byte]
	maxTime int64
}

// Step does nothing: the records were made by FeedMessage.
func (s *messageSource) Step(*topology.Step) error { return nil }

// EndStep forgets the step's records.
func (s *messageSource) EndStep() {
	clear(s.out)
	s.out, s.maxTime = s.out[:0], topology.NoTime
}

// MaxTime is the largest event time fed in this step.
func (s *messageSource) MaxTime() int64 { return s.maxTime }

// Feed is not called: no table is read.
func (s *messageSource) Feed(*record.Tx, uint32, []record.Row) error { return nil }

// FeedMessage makes a record of a message.
func (s *messageSource) FeedMessage(tx *record.Tx, seq uint32, m record.Message) error {
	s.maxTime = max(s.maxTime, tx.CommitTime)
	s.out = append(s.out, record.Record[string, []byte]{
		Key: m.Prefix, Value: append([]byte(nil), m.Content...), Time: tx.CommitTime,
		Tag: record.Tag{Tx: tx, Seq: seq, Ordinal: m.Ordinal},
	})
	return nil
}

// Division is the prefix, which is the key.
func (s *messageSource) Division(m *record.Message) []byte { return []byte(m.Prefix) }

// Records yields the step's records.
func (s *messageSource) Records(yield func([]record.Record[string, []byte]) bool) error {
	if len(s.out) > 0 {
		yield(s.out)
	}
	return nil
}
