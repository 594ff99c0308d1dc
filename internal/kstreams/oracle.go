package kstreams

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"time"
)

// Oracle is a running Java program with Kafka Streams in it. It is safe for
// concurrent use.
type Oracle struct {
	cmd    *exec.Cmd
	stderr bytes.Buffer
	state  string // directory of its stores
	ended  chan struct{}

	write sync.Mutex
	stdin io.WriteCloser

	mu      sync.Mutex
	last    int64
	waiting map[int64]chan *Result
	err     error // why it ended
}

// threads run cases in the Java program; what they wait for is mostly the processor.
const threads = 2

// patience is how long one case may take, when others run beside it.
const patience = 2 * time.Minute

// Start builds the Java program if need be and starts it. The error is ErrJava where
// Java or Maven is missing.
func Start(ctx context.Context) (*Oracle, error) {
	java, err := command("java", "JAVA_HOME")
	if err != nil {
		return nil, err
	}
	dir, err := build(ctx)
	if err != nil {
		return nil, err
	}
	o := &Oracle{waiting: map[int64]chan *Result{}, ended: make(chan struct{})}
	if o.state, err = stateDir(); err != nil {
		return nil, err
	}
	path := filepath.Join(dir, "classes") + string(os.PathListSeparator) + filepath.Join(dir, "lib", "*")
	o.cmd = exec.Command(java, "-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-cp", path,
		"oracle.Oracle", strconv.Itoa(threads), o.state)
	o.cmd.Stderr = &o.stderr
	if o.stdin, err = o.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	stdout, err := o.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	// It ends with its stdin, so also when this process is killed.
	if err := o.cmd.Start(); err != nil {
		return nil, fmt.Errorf("%w: start the program: %w", ErrJava, err)
	}
	go o.read(stdout)
	return o, nil
}

// stateDir makes a directory in memory where there is such a thing: versioned tables
// are on RocksDB, which syncs files when a case begins and ends.
func stateDir() (string, error) {
	dir, err := os.MkdirTemp(filepath.FromSlash("/dev/shm"), "tailrace-kstreams-")
	if err != nil {
		dir, err = os.MkdirTemp("", "tailrace-kstreams-")
	}
	return dir, err
}

func (o *Oracle) read(stdout io.Reader) {
	defer close(o.ended)
	var failed error
	in := bufio.NewReaderSize(stdout, 1<<16)
	for failed == nil {
		line, err := in.ReadBytes('\n')
		if err != nil {
			failed = err
			break
		}
		r := &Result{}
		if failed = json.Unmarshal(line, r); failed == nil {
			o.answer(r)
		}
	}
	if !errors.Is(failed, io.EOF) {
		_ = o.cmd.Process.Kill() // it writes what isn't ours to read
	}
	err := o.cmd.Wait()
	o.mu.Lock()
	defer o.mu.Unlock()
	o.err = fmt.Errorf("kstreams: the Java program has ended: %w\n%s",
		errors.Join(failed, err), o.stderr.Bytes())
	for id, ch := range o.waiting {
		select {
		case ch <- nil:
		default: // one that was asked more than once knows already
		}
		delete(o.waiting, id)
	}
}

func (o *Oracle) answer(r *Result) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if ch, ok := o.waiting[r.ID]; ok {
		ch <- r
		delete(o.waiting, r.ID)
	}
}

// asks is how often a case is asked in that time: on busy machines an answer has been seen to
// stay in the pipe until another one came.
const asks = 6

// Run runs a case on Kafka Streams. That the case fails there is part of the result;
// the error says that it could not be run.
func (o *Oracle) Run(c *Case) (*Result, error) {
	asked := *c
	asked.Records = append([]Input{}, c.Records...) // null is no list
	answers := make(chan *Result, asks)
	for range asks {
		if err := o.ask(&asked, answers); err != nil {
			return nil, err
		}
		late := time.NewTimer(patience / asks)
		select {
		case r := <-answers:
			late.Stop()
			if r == nil {
				return nil, o.failure()
			}
			r.ID = c.ID
			return r, nil
		case <-late.C:
		}
	}
	return nil, fmt.Errorf("kstreams: no answer in %v to %+v", patience, asked)
}

// ask writes a case, as one of its own each time.
func (o *Oracle) ask(c *Case, answers chan *Result) error {
	o.mu.Lock()
	if o.err != nil {
		defer o.mu.Unlock()
		return o.err
	}
	o.last++
	c.ID = o.last
	o.waiting[c.ID] = answers
	o.mu.Unlock()

	line, err := json.Marshal(c)
	if err != nil {
		return fmt.Errorf("kstreams: write a case: %w", err)
	}
	o.write.Lock()
	_, err = o.stdin.Write(append(line, '\n'))
	o.write.Unlock()
	if err != nil {
		<-o.ended
		return o.failure()
	}
	return nil
}

func (o *Oracle) failure() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.err
}

// Close ends the program once it has answered.
func (o *Oracle) Close() error {
	err := o.stdin.Close()
	<-o.ended
	return errors.Join(err, os.RemoveAll(o.state))
}
