package crash

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/tailrace/tailrace"
	"github.com/tailrace/tailrace/internal/apptest"
	"github.com/tailrace/tailrace/internal/failpoint"
	"github.com/tailrace/tailrace/sinks"
	"github.com/tailrace/tailrace/sinks/file"
	pgsink "github.com/tailrace/tailrace/sinks/postgres"
	"github.com/tailrace/tailrace/sources"
	"github.com/tailrace/tailrace/sources/postgres"
	"github.com/tailrace/tailrace/topology"
)

// The environment of a child process.
const (
	envChild     = "TAILRACE_CRASH_CHILD" // the app's name
	envSource    = "TAILRACE_CRASH_SOURCE"
	envDepot     = "TAILRACE_CRASH_DEPOT" // the second database, or empty
	envWarehouse = "TAILRACE_CRASH_WAREHOUSE"
	envDir       = "TAILRACE_CRASH_DIR"
	envEvents    = "TAILRACE_CRASH_EVENTS" // not empty if it writes events
	envBeside    = "TAILRACE_CRASH_BESIDE" // the name of a topology beside the shop's, or empty
)

// runChild is the process that is killed: an app as a user would write it. It tells
// its address on standard output when its views can be read.
func runChild() error {
	dir := os.Getenv(envDir)
	var events *sinks.Target
	if os.Getenv(envEvents) != "" {
		events = sinks.NewTarget("events", file.Target(file.Config{Path: filepath.Join(dir, "events.jsonl")}))
	}
	shop := sources.NewDatabase("shop", postgres.Source(postgres.Config{
		URL: os.Getenv(envSource), SnapshotChunkRows: 1000,
	}))
	warehouse := sinks.NewTarget("warehouse", pgsink.Target(pgsink.Config{
		URL: os.Getenv(envWarehouse), CreateTables: true, Lease: time.Second,
	}))
	s, err := apptest.NewShop(shop, warehouse, events)
	if err != nil {
		return err
	}
	topologies := []*topology.Topology{s.Topology}
	if url := os.Getenv(envDepot); url != "" {
		depot := sources.NewDatabase("depot", postgres.Source(postgres.Config{URL: url}))
		stock, err := apptest.NewStock(shop, depot, warehouse)
		if err != nil {
			return err
		}
		topologies = append(topologies, stock)
	}
	if name := os.Getenv(envBeside); name != "" {
		own := sinks.NewTarget(name, file.Target(file.Config{Path: filepath.Join(dir, name+".jsonl")}))
		beside, err := apptest.NewBeside(name, shop, warehouse, own)
		if err != nil {
			return err
		}
		topologies = append(topologies, beside.Topology)
	}
	app, err := tailrace.New(tailrace.Config{
		App: os.Getenv(envChild), StateDir: filepath.Join(dir, "state"), Addr: "127.0.0.1:0",
		IdleCommit: 100 * time.Millisecond, EpochRows: 200, Memory: 2 << 20,
		Logger: slog.New(slog.NewTextHandler(os.Stderr, nil)),
	}, topologies...)
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	go func() {
		if app.WaitReady(ctx) == nil {
			fmt.Println("ready", app.Addr())
		}
	}()
	return app.Run(ctx)
}

// child is a running child process.
type child struct {
	cmd   *exec.Cmd
	ready chan string   // its address, once
	done  chan struct{} // closed when it has ended
	log   *strings.Builder
	// dumped says that it was ended by dump.
	dumped bool
}

// app is what a child process runs.
type app struct {
	name, dir         string
	source, warehouse string // their URLs
	depot             string // the second database's, or empty
	events            string // "yes" if it writes events
	hits              string // the file that counts hits of failpoints
	beside            int    // the number of the topology beside the shop's, 0 for none

	identity string         // its state directory's
	checked  map[string]int // how often each database's slot was compared with the checkpoint
}

// reads are the topologies that read each database and are never added beside others.
func (a *app) reads() map[string][]string {
	if a.depot == "" {
		return map[string][]string{"shop": {"shop"}}
	}
	return map[string][]string{"shop": {"shop", "stock"}, "depot": {"stock"}}
}

// slot is the name of its slot in a database.
func (a *app) slot(database string) string { return "tailrace_" + a.name + "_" + database }

// besideName is the name of the topology beside the shop's, "" if there is none.
func (a *app) besideName() string {
	if a.beside == 0 {
		return ""
	}
	return fmt.Sprintf("beside-%d", a.beside)
}

// start starts the app. failpoints may be empty.
func (a *app) start(t *testing.T, failpoints string) *child {
	t.Helper()
	c := &child{ready: make(chan string, 1), done: make(chan struct{}), log: &strings.Builder{}}
	c.cmd = exec.Command(os.Args[0])
	c.cmd.Env = append(os.Environ(), envChild+"="+a.name, envDir+"="+a.dir, envSource+"="+a.source,
		envDepot+"="+a.depot, envWarehouse+"="+a.warehouse, envEvents+"="+a.events, envBeside+"="+a.besideName(),
		failpoint.EnvSpec+"="+failpoints, failpoint.EnvLog+"="+a.hits)
	c.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	c.cmd.Stderr = c.log
	out, err := c.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(c.done)
		text, _ := io.ReadAll(io.TeeReader(out, readyWriter(c.ready)))
		if err := c.cmd.Wait(); err != nil {
			var exit *exec.ExitError
			if !errors.As(err, &exit) {
				fmt.Fprintln(c.log, err, string(text))
			}
		}
	}()
	return c
}

// readyWriter hands on the address of a line "ready ADDRESS".
type readyWriter chan string

func (w readyWriter) Write(p []byte) (int, error) {
	if rest, ok := strings.CutPrefix(string(p), "ready "); ok {
		w <- strings.TrimSpace(rest)
	}
	return len(p), nil
}

// kill ends the process at once, by its id. A process that had ended before fails the
// test: it had no failpoint to end at.
func (c *child) kill(t *testing.T) {
	t.Helper()
	err := c.cmd.Process.Kill()
	<-c.done
	status, _ := c.cmd.ProcessState.Sys().(syscall.WaitStatus)
	if (err != nil || !status.Signaled() || status.Signal() != syscall.SIGKILL) && !c.dumped {
		t.Errorf("the app ended by itself, %s, before it was killed:\n%s", c.cmd.ProcessState, c.log)
	}
}

// exited waits until the process has ended at its failpoint.
func (c *child) exited(t *testing.T, point string) {
	t.Helper()
	select {
	case <-c.done:
	case <-time.After(30 * time.Second):
		c.dump()
		t.Fatalf("the app did not reach %s:\n%s", point, c.log)
	}
	if code := c.cmd.ProcessState.ExitCode(); code != failpoint.ExitStatus {
		t.Fatalf("at %s the app ended with status %d:\n%s", point, code, c.log)
	}
}

// dump ends the process so that its log has the stacks of its goroutines.
func (c *child) dump() {
	c.dumped = true
	_ = c.cmd.Process.Signal(syscall.SIGQUIT)
	<-c.done
}
