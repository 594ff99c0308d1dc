package pgserver

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

func TestClosedCacheIsNamed(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "cache")
	said := func(err error) {
		t.Helper()
		if !errors.Is(err, ErrUnreachable) || !strings.Contains(err.Error(), filepath.Dir(filepath.Dir(dir))) {
			t.Errorf("cache below a closed directory: %v", err)
		}
	}
	// The directory is closed to all but the one who runs this test.
	other := uint32(os.Getuid()) + 1
	said(checkReachOf(dir, &syscall.Credential{Uid: other, Gid: other}))
	if runAs() == nil {
		return // An ordinary user runs the server itself, and Start may go there.
	}
	t.Setenv(CacheEnv, dir)
	_, err := Start(t.Context(), Config{})
	said(err)
}
