package pgserver

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/tailrace/tailrace/internal/await"
)

// TestMain: with childEnv set the binary is the child of TestServerDiesWithItsOwner.
func TestMain(m *testing.M) {
	if os.Getenv(childEnv) != "" {
		ownServerUntilKilled()
	}
	os.Exit(m.Run())
}

const childEnv = "PGSERVER_TEST_CHILD"

func start(t *testing.T, config Config) *Server {
	t.Helper()
	server, err := Start(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := server.Stop(); err != nil {
			t.Error(err)
		}
	})
	return server
}

func query(t *testing.T, server *Server, sql string) string {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), server.URL("postgres"))
	if err != nil {
		t.Fatalf("%v; log:\n%s", err, server.Log())
	}
	defer conn.Close(context.Background())
	results, err := conn.PgConn().Exec(t.Context(), sql).ReadAll()
	if err != nil {
		t.Fatalf("%v\nin: %s", err, sql)
	}
	rows := results[len(results)-1].Rows
	if len(rows) == 0 {
		return ""
	}
	return string(rows[0][0])
}

func TestSettings(t *testing.T) {
	server := start(t, Config{Settings: map[string]string{"max_wal_senders": "7", "cluster_name": "it's"}})
	for name, want := range map[string]string{
		"wal_level": "logical", "max_replication_slots": "20", "max_wal_senders": "7",
		"cluster_name": "it's", "fsync": "on", "server_version": "18.1",
	} {
		if got := query(t, server, "SHOW "+name); got != want {
			t.Errorf("%s = %q, want %q", name, got, want)
		}
	}
	query(t, server, "ALTER SYSTEM SET max_wal_senders = 9")
	if err := server.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := query(t, server, "SHOW max_wal_senders"); got != "9" {
		t.Errorf("max_wal_senders = %s after ALTER SYSTEM", got)
	}
}

func TestPasswordIsAskedFor(t *testing.T) {
	server := start(t, Config{})
	url := strings.Replace(server.URL("postgres"), server.Password(), "wrong", 1)
	if conn, err := pgx.Connect(t.Context(), url); err == nil {
		conn.Close(t.Context())
		t.Error("connected with a wrong password")
	}
}

func TestKillLeavesNobodyAndRestartRecovers(t *testing.T) {
	server := start(t, Config{})
	query(t, server, "CREATE TABLE t AS SELECT 1 AS n")
	busy, err := pgx.Connect(t.Context(), server.URL("postgres"))
	if err != nil {
		t.Fatal(err)
	}
	defer busy.Close(context.Background())
	running := make(chan error, 1)
	go func() {
		// A backend in a loop of its own doesn't notice that the postmaster has gone.
		_, err := busy.Exec(context.Background(), "DO $$ BEGIN LOOP END LOOP; END $$")
		running <- err
	}()
	for query(t, server, "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'DO $$%'") != "1" {
		runtime.Gosched()
	}
	before := time.Now()
	if err := server.Kill(); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(before); took > killTimeout/2 {
		t.Errorf("Kill took %v", took)
	}
	if err := <-running; err == nil {
		t.Error("the busy session ended without an error")
	}
	if server.Running() {
		t.Error("Running after Kill")
	}
	if _, err := net.Dial("tcp", server.Addr()); err == nil {
		t.Error("somebody listens after Kill")
	}
	port := server.Port()
	if err := server.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := query(t, server, "SELECT n FROM t"); got != "1" || server.Port() != port {
		t.Errorf("row %q, port %d after crash recovery, before it %d", got, server.Port(), port)
	}
	if !strings.Contains(server.Log(), "not properly shut down") {
		t.Errorf("no crash recovery in the log:\n%s", server.Log())
	}
}

func TestStop(t *testing.T) {
	server := start(t, Config{})
	conn, err := pgx.Connect(t.Context(), server.URL("postgres"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	if err := server.Stop(); err != nil {
		t.Fatal(err)
	}
	if err := server.Stop(); err != nil {
		t.Errorf("second Stop: %v", err)
	}
	if _, err := os.Stat(server.base); !os.IsNotExist(err) {
		t.Errorf("temporary directory after Stop: %v", err)
	}
	if err := server.Restart(t.Context()); !errors.Is(err, ErrStopped) {
		t.Errorf("Restart after Stop: %v", err)
	}
}

func TestDataDirIsKept(t *testing.T) {
	// t.TempDir's parent is closed to others, so as root it would be out of reach.
	base, err := temporaryBase()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(base) })
	dir := filepath.Join(base, "cluster")
	first := start(t, Config{Version: "17", DataDir: dir})
	query(t, first, "CREATE TABLE kept AS SELECT 42 AS n")
	if err := first.Stop(); err != nil {
		t.Fatal(err)
	}
	second := start(t, Config{Version: "17.7.0", DataDir: dir})
	if got := query(t, second, "SELECT n FROM kept"); got != "42" {
		t.Errorf("got %q from the cluster of the first start", got)
	}
	if strings.Contains(second.Log(), "not properly shut down") {
		t.Error("Stop didn't shut the kept cluster down tidily")
	}
	if _, err := Start(t.Context(), Config{Version: "16", DataDir: dir}); !errors.Is(err, ErrVersion) {
		t.Errorf("another major version on the directory: %v", err)
	}
}

func TestErrors(t *testing.T) {
	if _, err := Start(t.Context(), Config{Version: "9.6"}); !errors.Is(err, ErrVersion) {
		t.Errorf("unknown version: %v", err)
	}
	_, err := Start(t.Context(), Config{Settings: map[string]string{"wal_level": "mostly"}})
	if !errors.Is(err, ErrStart) || !strings.Contains(err.Error(), "mostly") {
		t.Errorf("bad setting: %v", err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Start(ended, Config{}); !errors.Is(err, context.Canceled) {
		t.Errorf("ended context: %v", err)
	}
}

// TestFetchFails makes the library's way to the network fail.
func TestFetchFails(t *testing.T) {
	cache, err := temporaryBase()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(cache) })
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), childEnv+"=1", CacheEnv+"="+cache,
		"HTTP_PROXY=http://127.0.0.1:1", "HTTPS_PROXY=http://127.0.0.1:1")
	out, err := cmd.CombinedOutput()
	said := string(out)
	if err == nil || !strings.Contains(said, ErrFetch.Error()) || !strings.Contains(said, CacheEnv) {
		t.Errorf("%v, %s", err, out)
	}
	if left, _ := filepath.Glob(filepath.Join(cache, "postgres", "*.part-*")); len(left) > 0 {
		t.Errorf("left in the cache: %v", left)
	}
}

func TestParallelStarts(t *testing.T) {
	var group sync.WaitGroup
	for range 4 {
		group.Go(func() {
			server, err := Start(t.Context(), Config{})
			if err != nil {
				t.Error(err)
				return
			}
			if err := server.Stop(); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
}

// ownServerUntilKilled tells its parent where its server is, and waits for death.
func ownServerUntilKilled() {
	server, err := Start(context.Background(), Config{})
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	fmt.Println(server.process.pid(), server.base)
	select {}
}

func TestServerDiesWithItsOwner(t *testing.T) {
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), childEnv+"=1")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	var pid int
	var base string
	if _, err := fmt.Sscan(line, &pid, &base); err != nil {
		t.Fatalf("child said %q", line)
	}
	if err := syscall.Kill(pid, 0); err != nil {
		t.Fatalf("the child's postmaster: %v", err)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	await.That(t, "the end of server and directory after their owner's", func() bool {
		_, err := os.Stat(base)
		return os.IsNotExist(err) && errors.Is(syscall.Kill(pid, 0), syscall.ESRCH)
	})
}
