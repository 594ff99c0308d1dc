package sim

import (
	"os"
	"os/exec"
	"strconv"
	"testing"
	"testing/synctest"
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
	for seed := first; seed < first+seeds; seed++ {
		simulate(t, uint64(seed), dir)
		if t.Failed() {
			break
		}
		if done := seed - first + 1; done%500 == 0 || done == seeds {
			t.Logf("%d seeds from %d on, no difference", done, first)
		}
	}
}

// simulate runs one seed in a bubble of its own.
func simulate(t *testing.T, seed uint64, dir string) {
	p := newPlan(seed)
	if setting("TAILRACE_SIM_SEEDS", 500) < 20 {
		t.Log(p)
	}
	synctest.Test(t, func(t *testing.T) {
		if err := run(p, dir); err != nil {
			t.Errorf("%v:\n%v\nRun it again with: make sim SEEDS=1 FIRST=%d", p, err, seed)
		}
	})
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
