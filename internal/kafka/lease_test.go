package kafka

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// TestLease: a partition is held while it was not taken away and the group has heard of the
// member; the answer to the first request after a pause does not count, since it may say that
// the member was taken for dead.
func TestLease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &Session{
			cfg:   SessionConfig{SessionTimeout: 6 * time.Second, Woken: func() {}},
			owned: map[Partition]*ownedPartition{},
		}
		p := Partition{Topic: "orders"}
		l := &Lease{session: s}
		s.owned[p] = &ownedPartition{lease: l}
		is := func(what string, want bool) {
			t.Helper()
			if l.Held() != want {
				t.Errorf("%s: held %v, want %v", what, l.Held(), want)
			}
		}
		sent := func(key kmsg.Key, e2e kgo.BrokerE2E) {
			s.contact.OnBrokerE2E(kgo.BrokerMetadata{}, int16(key), e2e)
		}
		is("nothing was heard", false)
		sent(kmsg.JoinGroup, kgo.BrokerE2E{})
		sent(kmsg.SyncGroup, kgo.BrokerE2E{})
		is("joined", true)
		time.Sleep(5 * time.Second) // of the bubble's clock: the age of a contact
		sent(kmsg.Heartbeat, kgo.BrokerE2E{ReadErr: errors.New("cut")})
		sent(kmsg.Fetch, kgo.BrokerE2E{})
		is("5 s later", true)
		time.Sleep(time.Second) // the same
		is("6 s later", false)
		sent(kmsg.Heartbeat, kgo.BrokerE2E{})
		is("an answer that may be a refusal", false)
		sent(kmsg.Heartbeat, kgo.BrokerE2E{TimeToRead: 5 * time.Second})
		is("there was another request", true)
		sent(kmsg.Heartbeat, kgo.BrokerE2E{})
		time.Sleep(2 * time.Second) // the same
		is("of one that was sent 7 s ago", false)
		sent(kmsg.Heartbeat, kgo.BrokerE2E{})
		is("of one that was sent 2 s ago", true)
		s.revoked(t.Context(), nil, map[string][]int32{"orders": {0}})
		is("taken away", false)
	})
}

// TestSynced: what an assignment does not have any more is not held from then on, and is let
// go between transactions, also where the client does not tell that it was taken away.
func TestSynced(t *testing.T) {
	s := &Session{
		cfg:   SessionConfig{SessionTimeout: time.Hour, Woken: func() {}},
		owned: map[Partition]*ownedPartition{},
	}
	for range 2 {
		s.contact.OnBrokerE2E(kgo.BrokerMetadata{}, int16(kmsg.Heartbeat), kgo.BrokerE2E{})
	}
	kept, lost := Partition{Topic: "orders"}, Partition{Topic: "orders", Number: 1}
	for _, p := range []Partition{kept, lost} {
		s.owned[p] = &ownedPartition{fetched: true, lease: &Lease{session: s}}
	}
	before, rounds := s.Owned()
	s.synced(map[string][]int32{"orders": {0}})
	during, next := s.Owned()
	if len(during) != 2 || next == rounds {
		t.Errorf("before the transaction is over there are %d partitions, and %d changes", len(during), next-rounds)
	}
	if !before[kept].Lease.Held() || before[lost].Lease.Held() {
		t.Errorf("held: %v, %v", before[kept].Lease.Held(), before[lost].Lease.Held())
	}
	s.Prune()
	if after, _ := s.Owned(); len(after) != 1 || after[kept].Lease != before[kept].Lease {
		t.Errorf("left are %v", after)
	}
}
