package failpoint

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
)

func TestSetAndOff(t *testing.T) {
	if err := Hit(Received); err != nil {
		t.Fatalf("a point that is off: %v", err)
	}
	boom := errors.New("boom")
	off := Set(Received, func(hit int) error {
		if hit == 2 {
			return boom
		}
		return nil
	})
	if err := Hit(Received); err != nil {
		t.Fatalf("first hit: %v", err)
	}
	if err := Hit(BeforeAck); err != nil {
		t.Fatalf("another point: %v", err)
	}
	if err := Hit(Received); !errors.Is(err, boom) {
		t.Fatalf("second hit: %v, want boom", err)
	}
	if n := Hits(Received); n != 2 {
		t.Fatalf("%d hits counted, want 2", n)
	}
	off()
	if err := Hit(Received); err != nil || on.Load() {
		t.Fatalf("after off: %v, on %v", err, on.Load())
	}
}

func TestEnableCountsIntoFile(t *testing.T) {
	log := filepath.Join(t.TempDir(), "hits")
	if err := Enable(SinkCommit+"=count; "+BeforeAck+"=error@2;", log); err != nil {
		t.Fatal(err)
	}
	defer clearAll()
	for i := range 3 {
		if err := Hit(SinkCommit); err != nil {
			t.Fatal(err)
		}
		if err := Hit(BeforeAck); errors.Is(err, ErrInjected) != (i == 1) {
			t.Fatalf("hit %d: %v", i+1, err)
		}
	}
	got, err := os.ReadFile(log)
	if err != nil {
		t.Fatal(err)
	}
	want := SinkCommit + "\n" + SinkCommit + "\n" + BeforeAck + "\n" + SinkCommit + "\n"
	if string(got) != want {
		t.Fatalf("log is\n%swant\n%s", got, want)
	}
}

func clearAll() {
	mu.Lock()
	defer mu.Unlock()
	clear(set)
	on.Store(false)
}

func TestEnableRefusesAllThatIsWrong(t *testing.T) {
	err := Enable("nowhere=exit;"+Received+"=explode;"+BeforeAck+"=exit@0;"+AfterAck+"=count", "")
	if err == nil {
		t.Fatal("accepted")
	}
	if n := len(err.(interface{ Unwrap() []error }).Unwrap()); n != 3 {
		t.Fatalf("%d problems reported, want 3: %v", n, err)
	}
	if on.Load() {
		t.Fatal("part of a wrong specification was switched on")
	}
}

func TestPointsAreDistinct(t *testing.T) {
	names := Points()
	slices.Sort(names)
	if len(slices.Compact(names)) != len(points) {
		t.Fatal("two points have one name")
	}
}

func TestExitEndsProcess(t *testing.T) {
	if os.Getenv("FAILPOINT_CHILD") == "1" {
		_ = Hit(AfterAck)
		_ = Hit(AfterAck)
		os.Exit(0)
	}
	run := func(spec string) (int, string) {
		log := filepath.Join(t.TempDir(), "hits")
		cmd := exec.Command(os.Args[0], "-test.run=^TestExitEndsProcess$")
		cmd.Env = append(os.Environ(), "FAILPOINT_CHILD=1", EnvSpec+"="+spec, EnvLog+"="+log)
		_ = cmd.Run()
		lines, _ := os.ReadFile(log)
		return cmd.ProcessState.ExitCode(), string(lines)
	}
	if status, log := run(AfterAck + "=exit@2"); status != ExitStatus || log != AfterAck+"\n" {
		t.Fatalf("status %d, log %q", status, log)
	}
	if status, _ := run(AfterAck + "=exit@3"); status != 0 {
		t.Fatalf("a point that is not reached ended the process with %d", status)
	}
	if status, _ := run("after-ack=exit"); status != 2 {
		t.Fatalf("a misspelt point gave status %d, want 2", status)
	}
}

func BenchmarkHitOff(b *testing.B) {
	for b.Loop() {
		_ = Hit(Received)
	}
}
