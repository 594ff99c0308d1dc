package fetched_test

import (
	"errors"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/tailrace/tailrace/internal/fetched"
)

// TestOnce has many want the same thing at once: it is got once, after a failure again,
// and nothing is left beside it.
func TestOnce(t *testing.T) {
	t.Setenv(fetched.Env, t.TempDir())
	cache, err := fetched.Dir("things")
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(cache, "v1")
	boom := errors.New("no network")
	if err := fetched.Once(dir, "bin", func(string) (string, error) { return "", boom }); !errors.Is(err, boom) {
		t.Fatalf("got %v", err)
	}
	var got atomic.Int32
	var group sync.WaitGroup
	for range 8 {
		group.Go(func() {
			err := fetched.Once(dir, "bin", func(part string) (string, error) {
				got.Add(1)
				whole := filepath.Join(part, "whole")
				return whole, errors.Join(os.Mkdir(whole, 0o755), os.WriteFile(filepath.Join(whole, "bin"), nil, 0o644))
			})
			if err != nil {
				t.Error(err)
			}
			if _, err := os.Stat(filepath.Join(dir, "bin")); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	if got.Load() != 1 {
		t.Errorf("got %d times", got.Load())
	}
	left, err := filepath.Glob(filepath.Join(cache, "*.part-*"))
	if err != nil || len(left) > 0 {
		t.Errorf("left %v, %v", left, err)
	}
}
