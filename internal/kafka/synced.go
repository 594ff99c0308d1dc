package kafka

import "github.com/twmb/franz-go/pkg/kgo"

// synced is the group's balancer, which tells the session what each assignment has. The
// client's own callback is not enough: kgo.GroupTransactSession keeps the second of two
// revocations to itself where no transaction has ended in between.
type synced struct {
	kgo.GroupBalancer
	session *Session
}

// ParseSyncAssignment implements kgo.GroupBalancer.
func (b synced) ParseSyncAssignment(raw []byte) (map[string][]int32, error) {
	parts, err := b.GroupBalancer.ParseSyncAssignment(raw)
	if err == nil {
		b.session.synced(parts)
	}
	return parts, err
}

// synced ends the leases of what an assignment does not have any more. The partitions are
// this member's to commit until Prune, or until the client takes them away: what is being
// written for them is part of a transaction that ends as a whole.
func (s *Session) synced(parts map[string][]int32) {
	given := map[Partition]bool{}
	for topic, numbers := range parts {
		for _, n := range numbers {
			given[Partition{Topic: topic, Number: n}] = true
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for p, own := range s.owned {
		if !given[p] {
			own.over = true
			own.lease.gone.Store(true)
		}
	}
	s.rounds++
	s.cfg.Woken()
}

// Prune lets go of partitions that the last assignment does not have. Call it between
// transactions.
func (s *Session) Prune() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for p, own := range s.owned {
		if own.over {
			delete(s.owned, p)
		}
	}
}
