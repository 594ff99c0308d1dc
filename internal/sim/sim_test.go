package sim

import (
	"fmt"
	"maps"
	"os"
	"os/exec"
	"runtime/pprof"
	"slices"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tailrace/tailrace/internal/failpoint"
)

func setting(name string, or int) int {
	if n, err := strconv.Atoi(os.Getenv(name)); err == nil {
		return n
	}
	return or
}

// TestSim simulates seeds: TAILRACE_SIM_SEEDS of them, from TAILRACE_SIM_FIRST on. Without
// the build tag synctests it runs itself with it.
func TestSim(t *testing.T) {
	if !simulates {
		again(t)
		return
	}
	first, seeds := setting("TAILRACE_SIM_FIRST", 1), setting("TAILRACE_SIM_SEEDS", 500)
	dir := t.TempDir()
	counts := map[string]int{}
	for seed := first; seed < first+seeds; seed++ {
		simulate(t, uint64(seed), dir, func(what string) { counts[what]++ })
		if t.Failed() {
			break
		}
		if done := seed - first + 1; done%500 == 0 || done == seeds {
			t.Logf("%d seeds from %d on, no difference", done, first)
		}
	}
	for _, point := range failpoint.KafkaPoints() {
		if seeds >= 500 && counts[fmt.Sprint(crashAt, " ", point)] == 0 {
			t.Errorf("no member has crashed at %s", point)
		}
	}
	for _, what := range slices.Sorted(maps.Keys(counts)) {
		t.Logf("%6d %s", counts[what], what)
	}
}

// A member that stood still while others consumed the records of an exchange, and deleted them,
// goes on: it asks for what is gone, and has lost its place in the group by then.
func TestStoppedBehindPurge(t *testing.T) {
	if !simulates {
		again(t)
		return
	}
	for i := range 10 {
		p := newPlan(uint64(i))
		p.shape, p.debezium, p.partitions, p.brokers, p.members, p.standbys = shapeOf("walks"), false, 4, 1, 3, 0
		p.static, p.session, p.timeout = true, 4*time.Second, 13*time.Second
		p.events, p.pace, p.interval = 170, 500*time.Millisecond, 185*time.Millisecond
		p.faults = []*fault{{
			after: 27, nth: 1, harm: pauseAt, point: failpoint.KafkaCommitted, lasts: 7400 * time.Millisecond,
		}}
		simulatePlan(t, p, t.TempDir(), func(string) {})
	}
}

// patience is how long a seed may take, which takes a tenth of a second by itself.
const patience = 2 * time.Minute

// simulate runs one seed in a bubble of its own.
func simulate(t *testing.T, seed uint64, dir string, count func(what string)) {
	simulatePlan(t, newPlan(seed), dir, count)
}

func simulatePlan(t *testing.T, p *plan, dir string, count func(what string)) {
	if err := try(t, p, dir, count); err != nil {
		t.Errorf("%v:\n%v\nRun it again with: make sim SEEDS=1 FIRST=%d", p, err, p.seed)
	}
}

func try(t *testing.T, p *plan, dir string, count func(what string)) error {
	return inBubble(t, p, func() error { return run(p, dir, count) })
}

// inBubble runs a plan in a bubble of its own, and ends the process if that hangs.
func inBubble(t *testing.T, p fmt.Stringer, run func() error) (err error) {
	if os.Getenv("TAILRACE_SIM_TRACE") != "" {
		fmt.Fprintln(os.Stderr, p) // also of a run that does not end
	}
	// Real time: that of the bubble stands still while anything runs in it.
	hangs := time.AfterFunc(patience, func() {
		fmt.Fprintf(os.Stderr, "%v\nhas not come to an end within %v\n", p, patience)
		_ = pprof.Lookup("goroutine").WriteTo(os.Stderr, 2) // on the way out
		os.Exit(2)
	})
	defer hangs.Stop()
	synctest.Test(t, func(*testing.T) { err = run() })
	return err
}

// again runs the test with the build tag that simulating needs.
func again(t *testing.T) {
	args := []string{"test", "-tags", "synctests", "-count=1", "-timeout=0", "-run", "^" + t.Name() + "$"}
	if testing.Verbose() {
		args = append(args, "-v")
	}
	cmd := exec.CommandContext(t.Context(), "go", append(args, ".")...)
	// Goroutines that run one at a time make a seed's runs more alike.
	cmd.Env = append(os.Environ(), "GOMAXPROCS=1")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Errorf("%v:\n%s", err, out)
	} else {
		t.Logf("%s", out)
	}
}
