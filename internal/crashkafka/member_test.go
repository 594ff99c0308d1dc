package crashkafka

import (
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/tailrace/tailrace/internal/await"
)

// member is a process of the group.
type member struct {
	cmd   *exec.Cmd
	log   *lines
	ended chan struct{} // closed when the process is gone
}

// start starts a member process, with further variables in its environment.
func (s *suite) start(i int, env ...string) *member {
	s.t.Helper()
	exe, err := os.Executable()
	if err != nil {
		s.t.Fatal(err)
	}
	m := &member{cmd: exec.Command(exe), log: &lines{}, ended: make(chan struct{})}
	m.cmd.Env = append(os.Environ(), envApp+"="+s.app, envDir+"="+s.dirs[i], envAddr+"="+s.addrs[i],
		envBrokers+"="+strings.Join(s.cluster.Brokers(), ","))
	m.cmd.Env = append(m.cmd.Env, env...)
	m.cmd.Stderr = m.log
	if err := m.cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	go func() {
		_ = m.cmd.Wait() // its status is looked at where it counts
		close(m.ended)
	}()
	s.procs[i] = m
	return m
}

func (m *member) signal(sig syscall.Signal) { _ = m.cmd.Process.Signal(sig) }

// wipe is what package changelog logs where it gives local state up.
const wipe = "local state is given up"

// end waits for the end of a process that was told to go.
func (s *suite) end(i int) {
	<-s.procs[i].ended
	s.wipes += strings.Count(s.procs[i].log.text(), wipe)
}

func (s *suite) kill(i int) {
	s.procs[i].signal(syscall.SIGKILL)
	s.end(i)
}

// alive fails the test where a member has ended by itself.
func (s *suite) alive() {
	for i, m := range s.procs {
		select {
		case <-m.ended:
			s.t.Errorf("member %d has ended by itself", i)
		default:
		}
	}
}

// waitFor waits until a log has a text.
func (s *suite) waitFor(log *lines, text string) {
	if !await.Within(time.Minute, func() bool { return strings.Contains(log.text(), text) }) {
		s.t.Fatalf("the log never says %q", text)
	}
}

// lines is a log in memory.
type lines struct {
	mu  sync.Mutex
	all []byte
}

// Write implements io.Writer.
func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all = append(l.all, p...)
	return len(p), nil
}

func (l *lines) text() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return string(l.all)
}

// tail is the last lines.
func (l *lines) tail(n int) string {
	all := strings.Split(l.text(), "\n")
	return strings.Join(all[max(0, len(all)-n):], "\n")
}
