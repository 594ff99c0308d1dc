package kafka

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// Lease says whether this member still has a partition that the group has given to it: one
// that is given again has another lease.
type Lease struct {
	session *Session
	gone    atomic.Bool
}

// Held reports whether nobody else can have the partition: it was not taken away, and the
// group has heard of this member within the session timeout, so that it cannot have taken
// it for dead. A process that was stopped for longer holds nothing when it goes on.
func (l *Lease) Held() bool {
	return l.given() && l.session.contact.age() < l.session.cfg.SessionTimeout
}

// given reports whether the partition was not taken away.
func (l *Lease) given() bool { return !l.gone.Load() }

// contact is when the group was last told of this member: a kgo.Hook.
type contact struct {
	mu sync.Mutex
	// sent is when the last request was sent that was answered. What the answer says is not
	// known here; but there is another request only after a good one, or after partitions
	// were taken away. So sure is when the one before it was sent.
	sent, sure time.Time
}

var _ kgo.HookBrokerE2E = (*contact)(nil)

// OnBrokerE2E implements kgo.HookBrokerE2E. What counts is when the request was sent: the
// coordinator has begun to count anew at that time at the earliest.
func (c *contact) OnBrokerE2E(_ kgo.BrokerMetadata, key int16, e2e kgo.BrokerE2E) {
	if e2e.WriteErr != nil || e2e.ReadErr != nil {
		return
	}
	switch kmsg.Key(key) {
	case kmsg.Heartbeat, kmsg.JoinGroup, kmsg.SyncGroup:
		c.mu.Lock()
		defer c.mu.Unlock()
		c.sent, c.sure = time.Now().Add(-e2e.DurationE2E()), c.sent
	}
}

// age is how long ago that was.
func (c *contact) age() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	return time.Since(c.sure)
}
