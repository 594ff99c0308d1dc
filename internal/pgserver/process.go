package pgserver

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"time"
)

// process is a running postmaster.
type process struct {
	cmd *exec.Cmd
	// done is closed when the postmaster and all who share its log pipe, that is all
	// its children, have ended. err says how it ended, once done is closed.
	done chan struct{}
	err  error
}

// startProcess starts the command; out gets what it and its children write.
func startProcess(cmd *exec.Cmd, out io.Writer) (*process, error) {
	reader, writer, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	cmd.Stdout, cmd.Stderr = writer, writer
	p := &process{cmd: cmd, done: make(chan struct{})}
	started := make(chan error)
	go p.supervise(started, reader, writer, out)
	if err := <-started; err != nil {
		return nil, err
	}
	return p, nil
}

// supervise starts the process and waits for it on one thread: Linux sends the death
// signal when the *thread* that started a child ends, not the process.
func (p *process) supervise(started chan<- error, reader, writer *os.File, out io.Writer) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	err := p.cmd.Start()
	_ = writer.Close()
	if err != nil {
		_ = reader.Close()
		started <- err
		return
	}
	drained := make(chan struct{})
	go p.drain(reader, out, drained)
	started <- nil
	err = p.cmd.Wait()
	<-drained
	if err == nil {
		err = fmt.Errorf("exit status 0")
	}
	p.err = err
	close(p.done)
}

func (p *process) drain(reader *os.File, out io.Writer, drained chan<- struct{}) {
	_, _ = io.Copy(out, reader)
	_ = reader.Close()
	close(drained)
}

func (p *process) pid() int { return p.cmd.Process.Pid }

func (p *process) ended() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// signal ignores a process that has ended already, which is what it is for.
func (p *process) signal(sig os.Signal) { _ = p.cmd.Process.Signal(sig) }

// wait says whether the process and its children ended in time.
func (p *process) wait(timeout time.Duration) bool {
	timer := time.NewTimer(timeout)
	defer timer.Stop()
	select {
	case <-p.done:
		return true
	case <-timer.C:
		return false
	}
}

// kill ends the process and its children at once and waits for them.
func (p *process) kill() error {
	if p.ended() {
		return nil
	}
	killFamily(p.cmd.Process)
	if !p.wait(killTimeout) {
		return fmt.Errorf("pgserver: processes of postmaster %d outlived SIGKILL", p.pid())
	}
	return nil
}
