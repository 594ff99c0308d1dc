package kafkatest

import (
	"context"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
)

// jvm keeps a broker small: it is ready with 210 MB and half the CPU of the defaults.
var jvm = []string{"-Xms64m", "-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"}

// node is one broker.
type node struct {
	id         int
	dir, jars  string
	properties map[string]string

	mu   sync.Mutex
	cmd  *exec.Cmd
	done chan struct{} // closed when the process has ended
	// stopping says that we ended it, so that its end is no failure.
	stopping bool
}

func (n *node) config() string  { return filepath.Join(n.dir, "server.properties") }
func (n *node) logFile() string { return filepath.Join(n.dir, "broker.log") }

func (n *node) java(ctx context.Context, args ...string) *exec.Cmd {
	all := append(slices.Clone(jvm),
		"-Dlog4j2.configurationFile="+filepath.Join(n.jars, "log4j2.properties"),
		"-cp", filepath.Join(n.jars, "libs", "*"))
	return exec.CommandContext(ctx, "java", append(all, args...)...)
}

// format makes the node's data directory.
func (n *node) format(ctx context.Context) error {
	if err := os.MkdirAll(n.dir, 0o755); err != nil {
		return fmt.Errorf("kafkatest: %w", err)
	}
	n.properties["log.dirs"] = filepath.Join(n.dir, "data")
	var b strings.Builder
	for _, k := range slices.Sorted(maps.Keys(n.properties)) {
		fmt.Fprintf(&b, "%s=%s\n", k, n.properties[k])
	}
	if err := os.WriteFile(n.config(), []byte(b.String()), 0o644); err != nil {
		return fmt.Errorf("kafkatest: %w", err)
	}
	cmd := n.java(ctx, "kafka.tools.StorageTool", "format", "-t", clusterID, "-c", n.config())
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%w: format: %w\n%s", ErrStart, err, out)
	}
	return nil
}

// start runs the broker. The process dies with the thread that started it, so a
// goroutine keeps that thread for as long as the broker runs.
func (n *node) start() error {
	log, err := os.OpenFile(n.logFile(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return fmt.Errorf("kafkatest: %w", err)
	}
	cmd := n.java(context.Background(), "kafka.Kafka", n.config())
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = ownGroup()
	started, done := make(chan error), make(chan struct{})
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		defer close(done)
		defer log.Close()
		err := cmd.Start()
		started <- err
		if err == nil {
			_ = cmd.Wait()
		}
	}()
	if err := <-started; err != nil {
		return fmt.Errorf("%w: %w", ErrStart, err)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.cmd, n.done, n.stopping = cmd, done, false
	return nil
}

func (n *node) running() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.done == nil {
		return false
	}
	select {
	case <-n.done:
		return false
	default:
		return true
	}
}

// exited returns why the broker has ended unasked, nil if it has not.
func (n *node) exited() error {
	if n.running() {
		return nil
	}
	n.mu.Lock()
	stopping := n.stopping
	n.mu.Unlock()
	if stopping {
		return nil
	}
	return fmt.Errorf("%w: node %d has ended\n%s", ErrStart, n.id, n.tail())
}

// tail returns the end of the broker's log.
func (n *node) tail() string {
	b, err := os.ReadFile(n.logFile())
	if err != nil {
		return ""
	}
	return string(b[max(0, len(b)-4000):])
}

func (n *node) signal(s syscall.Signal) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.stopping = true
	if n.cmd != nil {
		_ = n.cmd.Process.Signal(s)
	}
}

func (n *node) kill() {
	n.signal(syscall.SIGKILL)
	n.wait(stopTimeout)
}

func (n *node) terminate() { n.signal(syscall.SIGTERM) }

// wait waits for the end of the process, and forces it when time is up.
func (n *node) wait(limit time.Duration) {
	n.mu.Lock()
	done := n.done
	n.mu.Unlock()
	if done == nil {
		return
	}
	select {
	case <-done:
	case <-time.After(limit):
		n.signal(syscall.SIGKILL)
		<-done
	}
}
