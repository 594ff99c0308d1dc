package apptest

import (
	"bufio"
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/tailrace/tailrace/internal/await"
	"github.com/tailrace/tailrace/internal/failpoint"
)

// killPoints are where the bank's process ends itself, in turn; "" is at a moment that
// nothing in it knows of.
var killPoints = []string{
	"", failpoint.SinkCommit, failpoint.BatchSync, "", failpoint.SinkCommitted, failpoint.BatchApplied,
}

// killedRound runs the app in a process of its own, reads its views over HTTP, and kills
// it.
func (x *tornTest) killedRound(r *rand.Rand, round int) {
	points, reads := "", 100+r.Int64N(400)
	if point := killPoints[round/2%len(killPoints)]; point != "" {
		points, reads = fmt.Sprintf("%s=exit@%d", point, 3+r.IntN(20)), math.MaxInt64/2
	}
	p := x.startProcess(points, round)
	select {
	case addr := <-p.ready:
		p.read(x.tally, addr, reads, func() {
			if round%8 == 3 {
				x.stall(nil)
			}
		})
	case <-p.done:
	case <-time.After(time.Minute):
		x.t.Errorf("the app is not ready:\n%s", &p.log)
	}
	p.kill()
	x.judge(p, points)
}

// judge sees that a process ended because it was killed, or at its failpoint.
func (x *tornTest) judge(p *process, points string) {
	state := p.cmd.ProcessState
	status, _ := state.Sys().(syscall.WaitStatus)
	switch {
	case points == "" && p.killed.Load() && status.Signaled() && status.Signal() == syscall.SIGKILL:
	case points != "" && state.ExitCode() == failpoint.ExitStatus:
		x.tally.exits++
	default:
		x.t.Errorf("the app ended with %s (failpoints %q):\n%s", state, points, &p.log)
		return
	}
	x.tally.kills++
}

// process runs the bank.
type process struct {
	cmd   *exec.Cmd
	ready chan string   // its address, once
	done  chan struct{} // closed when it has ended
	log   strings.Builder
	// killed says that it was still running when it was killed.
	killed atomic.Bool
}

func (x *tornTest) startProcess(failpoints string, round int) *process {
	x.t.Helper()
	p := &process{cmd: exec.Command(os.Args[0]), ready: make(chan string, 1), done: make(chan struct{})}
	p.cmd.Env = append(os.Environ(), envBankSource+"="+x.db.URL, envBankWarehouse+"="+x.wh.URL,
		envBankDir+"="+x.dir, fmt.Sprintf("%s=%d", envBankRound, round), failpoint.EnvSpec+"="+failpoints)
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	p.cmd.Stderr = &p.log
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		x.t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		x.t.Fatal(err)
	}
	go func() {
		defer close(p.done)
		for lines := bufio.NewScanner(out); lines.Scan(); {
			if addr, ok := strings.CutPrefix(lines.Text(), "ready "); ok {
				p.ready <- addr
			}
		}
		_ = p.cmd.Wait() // it is killed
	}()
	return p
}

// kill ends the process at once, by its id.
func (p *process) kill() {
	if p.cmd.Process.Kill() == nil { // it may have ended by itself, at a failpoint
		p.killed.Store(true)
	}
	<-p.done
}

// read reads the views of the process, and kills it after n reads, beside which during
// runs.
func (p *process) read(c *tornTally, addr string, n int64, during func()) {
	var group sync.WaitGroup
	until, limit := c.remote.Load()+n, time.Now().Add(await.Limit)
	for range 2 {
		group.Go(func() {
			for c.remote.Load() < until && !c.t.Failed() && time.Now().Before(limit) {
				if err := c.readHTTP(addr); err != nil {
					select {
					case <-p.done: // At a failpoint, amid an answer.
					case <-time.After(10 * time.Second):
						c.t.Errorf("the app lives and does not answer: %v", err)
					}
					return
				}
				if !c.behind(reads(), ofView, ofViews) {
					time.Sleep(time.Millisecond) // how often it reads: leaves the machine to the app
				}
			}
			p.kill()
		})
	}
	during()
	group.Wait()
}

// readHTTP reads all views at one position.
func (c *tornTally) readHTTP(addr string) error {
	resp, err := http.Get("http://" + addr + "/views?names=left,right,both&limit=100")
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	var body struct {
		Position string
		Views    map[string]struct {
			Rows []struct{ Value balance }
		}
	}
	if err := json.NewDecoder(resp.Body).Decode(&body); err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("status %s", resp.Status)
	}
	total := func(name string) (n int64) {
		for _, row := range body.Views[name].Rows {
			n += row.Value.Cents
		}
		return n
	}
	c.saw(ofViews, body.Position, total("left")+total("right"))
	c.saw(ofView, body.Position, total("both"))
	c.remote.Add(2)
	return nil
}
