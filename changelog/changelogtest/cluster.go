// Package changelogtest is a cluster in memory that has logs with what real ones have:
// transactions that are open, committed or aborted, control records, compaction, logs that
// are cut at both ends, and topics that are created again. It is for tests.
package changelogtest

import (
	"fmt"
	"sync"
	"time"

	"github.com/tailrace/tailrace/changelog"
)

// Cluster is a cluster in memory. It is safe for concurrent use.
type Cluster struct {
	// ID is the cluster's id.
	ID string
	// ChunkSize is how many offsets a reader is given of a partition at once; 0 means 100.
	ChunkSize int

	mu      sync.Mutex
	topics  map[string]*topic
	created byte
	changed chan struct{} // closed and replaced by each change
}

type topic struct {
	info changelog.TopicInfo
	logs []*log
}

type log struct {
	start   int64
	entries []entry // ascending offsets, with gaps
	history []entry // the same before compaction
	end     int64
	epoch   int32
}

type entry struct {
	changelog.Record
	tx      *Tx // nil: of no transaction
	control bool
	epoch   int32
}

// New makes a cluster without topics.
func New(id string) *Cluster {
	return &Cluster{ID: id, topics: map[string]*topic{}, changed: make(chan struct{})}
}

// Create creates a topic, in place of one of its name.
func (c *Cluster) Create(name string, partitions int32) {
	c.change(func() {
		c.created++
		t := &topic{info: changelog.TopicInfo{
			ID: changelog.TopicID{c.created}, Partitions: partitions,
			DeleteRetention: changelog.DefaultDeleteRetention, Compacted: true,
		}}
		for range partitions {
			t.logs = append(t.logs, &log{})
		}
		c.topics[name] = t
	})
}

// Delete deletes a topic.
func (c *Cluster) Delete(name string) { c.change(func() { delete(c.topics, name) }) }

// SetDeleteRetention sets the topic's delete.retention.ms.
func (c *Cluster) SetDeleteRetention(name string, d time.Duration) {
	c.change(func() { c.topics[name].info.DeleteRetention = d })
}

// change makes a change and wakes the readers.
func (c *Cluster) change(fn func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	fn()
	close(c.changed)
	c.changed = make(chan struct{})
}

func (c *Cluster) log(p changelog.Partition) (*log, error) {
	t := c.topics[p.Topic]
	if t == nil || int(p.Number) >= len(t.logs) {
		return nil, &changelog.PartitionError{Partition: p, Err: changelog.ErrNoTopic}
	}
	return t.logs[p.Number], nil
}

func (c *Cluster) mustLog(p changelog.Partition) *log {
	l, err := c.log(p)
	if err != nil {
		panic(fmt.Sprintf("changelogtest: %v", err))
	}
	return l
}

func (l *log) append(e entry) {
	e.Offset, e.epoch = l.end, l.epoch
	l.entries = append(l.entries, e)
	l.history = append(l.history, e)
	l.end++
}

// Append writes a record outside of transactions; a nil value is a tombstone.
func (c *Cluster) Append(p changelog.Partition, key, value []byte) {
	c.change(func() { c.mustLog(p).append(entry{Record: changelog.Record{Key: key, Value: value}}) })
}

// Tx is a transaction.
type Tx struct {
	cluster *Cluster
	state   txState
	parts   []changelog.Partition
}

type txState uint8

const (
	open txState = iota
	committed
	aborted
)

// Begin begins a transaction.
func (c *Cluster) Begin() *Tx { return &Tx{cluster: c} }

// Append writes a record in the transaction.
func (t *Tx) Append(p changelog.Partition, key, value []byte) {
	t.cluster.change(func() {
		t.cluster.mustLog(p).append(entry{Record: changelog.Record{Key: key, Value: value}, tx: t})
		for _, q := range t.parts {
			if q == p {
				return
			}
		}
		t.parts = append(t.parts, p)
	})
}

// Commit commits the transaction: a marker in every partition that it has written to.
func (t *Tx) Commit() { t.end(committed) }

// Abort aborts it.
func (t *Tx) Abort() { t.end(aborted) }

func (t *Tx) end(s txState) {
	t.cluster.change(func() {
		t.state = s
		for _, p := range t.parts {
			t.cluster.mustLog(p).append(entry{control: true})
		}
	})
}

// Compact removes the committed records of a topic that later committed ones replace, and
// aborted ones, all but the last record of a log; with tombstones also those.
func (c *Cluster) Compact(name string, tombstones bool) {
	c.change(func() {
		for _, l := range c.topics[name].logs {
			l.compact(tombstones)
		}
	})
}

func (l *log) compact(tombstones bool) {
	stable := l.stable()
	last := map[string]int64{}
	for _, e := range l.entries {
		if e.Offset < stable && e.visible() {
			last[string(e.Key)] = e.Offset
		}
	}
	var kept []entry
	for i, e := range l.entries {
		gone := e.visible() && (last[string(e.Key)] != e.Offset || tombstones && e.Value == nil) ||
			e.tx != nil && e.tx.state == aborted
		if e.Offset >= stable || !gone || i == len(l.entries)-1 {
			kept = append(kept, e)
		}
	}
	l.entries = kept
}

// DeleteBefore removes what lies before an offset.
func (c *Cluster) DeleteBefore(p changelog.Partition, offset int64) {
	c.change(func() {
		l := c.mustLog(p)
		l.start = offset
		for len(l.entries) > 0 && l.entries[0].Offset < offset {
			l.entries = l.entries[1:]
		}
	})
}

// Truncate cuts off what lies at and behind an offset, as a leader does that had not
// received it, and begins the next leader epoch.
func (c *Cluster) Truncate(p changelog.Partition, offset int64) {
	c.change(func() {
		l := c.mustLog(p)
		for n := len(l.entries); n > 0 && l.entries[n-1].Offset >= offset; n-- {
			l.entries = l.entries[:n-1]
		}
		for n := len(l.history); n > 0 && l.history[n-1].Offset >= offset; n-- {
			l.history = l.history[:n-1]
		}
		l.end = offset
		l.epoch++
	})
}

// End returns the high watermark of a partition.
func (c *Cluster) End(p changelog.Partition) int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.mustLog(p).end
}

// visible reports whether a reader of committed records is given the entry.
func (e *entry) visible() bool { return !e.control && (e.tx == nil || e.tx.state == committed) }

// stable is the last stable offset.
func (l *log) stable() int64 {
	for i := range l.entries {
		if tx := l.entries[i].tx; tx != nil && tx.state == open {
			return l.entries[i].Offset
		}
	}
	return l.end
}

// Fold returns what the committed records of a partition before an offset amount to,
// those included that compaction has removed.
func (c *Cluster) Fold(p changelog.Partition, before int64) map[string]string {
	c.mu.Lock()
	defer c.mu.Unlock()
	content := map[string]string{}
	for _, e := range c.mustLog(p).history {
		switch {
		case e.Offset < c.mustLog(p).start || e.Offset >= before || !e.visible():
		case e.Value == nil:
			delete(content, string(e.Key))
		default:
			content[string(e.Key)] = string(e.Value)
		}
	}
	return content
}

// Changed returns the keys that committed records at or behind an offset change.
func (c *Cluster) Changed(p changelog.Partition, from int64) map[string]bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	keys := map[string]bool{}
	for _, e := range c.mustLog(p).history {
		if e.Offset >= from && e.visible() {
			keys[string(e.Key)] = true
		}
	}
	return keys
}
