package pgservertest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"testing"

	"go.uber.org/goleak"

	"github.com/tailrace/tailrace/internal/pgserver"
)

// shared has the servers of this process by version. A version that failed to start
// is not tried again: its error serves every test.
var shared struct {
	sync.Mutex
	servers map[string]*sharedEntry
}

type sharedEntry struct {
	once   sync.Once
	server *pgserver.Server
	err    error
}

func sharedServer(version string) (*pgserver.Server, error) {
	shared.Lock()
	if shared.servers == nil {
		shared.servers = make(map[string]*sharedEntry)
	}
	entry := shared.servers[version]
	if entry == nil {
		entry = new(sharedEntry)
		shared.servers[version] = entry
	}
	shared.Unlock()
	entry.once.Do(func() {
		entry.server, entry.err = pgserver.Start(context.Background(), pgserver.Config{
			Version:  version,
			Settings: map[string]string{"fsync": "off", "full_page_writes": "off"},
		})
	})
	return entry.server, entry.err
}

// StopShared stops the shared servers. Calling it is good manners, not a need: a
// server dies with the process, and its directory is removed then. A later New starts
// a server anew.
func StopShared() error {
	shared.Lock()
	servers := shared.servers
	shared.servers = nil
	shared.Unlock()
	var errs []error
	for version, entry := range servers {
		if entry.server != nil {
			if err := entry.server.Stop(); err != nil {
				errs = append(errs, fmt.Errorf("stop the shared PostgreSQL %s: %w", version, err))
			}
		}
	}
	return errors.Join(errs...)
}

// Main is a TestMain: it runs the tests, stops the shared servers and exits.
func Main(m *testing.M) {
	code := m.Run()
	if err := StopShared(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = max(code, 1)
	}
	os.Exit(code)
}

// IgnoreShared makes goleak overlook the goroutines that watch over a shared server.
func IgnoreShared() []goleak.Option {
	const process = "github.com/tailrace/tailrace/internal/pgserver.(*process)."
	return []goleak.Option{
		goleak.IgnoreAnyFunction(process + "supervise"),
		goleak.IgnoreAnyFunction(process + "drain"),
	}
}
