package kafkatest

import (
	"context"
	"fmt"
	"os"
	"sync"
	"testing"
)

var shared struct {
	sync.Mutex
	cluster *Cluster
	err     error
}

// Main runs a package's tests and then stops the cluster that Shared started, and what
// else the tests share.
func Main(m *testing.M, others ...func() error) {
	code := m.Run()
	if shared.cluster != nil {
		others = append(others, shared.cluster.Stop)
	}
	for _, stop := range others {
		if err := stop(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = max(code, 1)
		}
	}
	os.Exit(code)
}

// Shared returns the one-node cluster of this package's tests, which Main stops. Tests
// keep apart by the names of their topics and apps.
func Shared(t testing.TB) *Cluster {
	t.Helper()
	shared.Lock()
	defer shared.Unlock()
	if shared.cluster == nil && shared.err == nil {
		shared.cluster, shared.err = Start(context.Background(), Config{})
	}
	if shared.err != nil {
		t.Fatal(shared.err)
	}
	return shared.cluster
}

// New returns a one-node cluster that ends with the test.
func New(t testing.TB) *Cluster {
	t.Helper()
	cluster, err := Start(t.Context(), Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := cluster.Stop(); err != nil {
			t.Error(err)
		}
	})
	return cluster
}
