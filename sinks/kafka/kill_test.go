package kafka_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tailrace/tailrace/sinks"
	"github.com/tailrace/tailrace/sinks/kafka"
	"github.com/tailrace/tailrace/sinks/sinktest"
)

// childEnv makes the test binary a writer of epochs: "app brokers".
const childEnv = "TAILRACE_TEST_KAFKA_WRITER"

// kills is how often TestKill kills the writer.
const kills = 6

// killOutputs are a table and a stream, so that both have to be whole.
func killOutputs() []sinks.Output { return []sinks.Output{sinktest.Accounts, sinktest.Stream} }

// killEpoch is what epoch seq holds: a function of seq, so that the parent knows what
// has to be there. Rows come and go.
func killEpoch(seq uint64) sinks.Epoch {
	rng := rand.New(rand.NewPCG(seq, 0))
	var items []sinks.Item
	for i := range 40 {
		switch rng.IntN(4) {
		case 0:
			items = append(items, sinktest.Del(sinktest.Accounts, i))
		case 1:
			items = append(items, sinktest.Put(sinktest.Accounts, i, fmt.Sprint("n", seq), seq))
		}
	}
	items = append(items, sinktest.Transaction(seq, 1+rng.IntN(5))...)
	e := sinktest.Epoch(seq, items...)
	e.Reconcile = seq == 1
	return e
}

// writeUntilKilled is the child: it applies epochs and prints how far it is told that
// it has come.
func writeUntilKilled(spec string) error {
	app, brokers, _ := strings.Cut(spec, " ")
	ctx := context.Background()
	c := &renamed{kafka.Target(kafka.Config{
		Brokers: strings.Split(brokers, ","), CreateTopics: true, Partitions: 1,
		TransactionTimeout: 10 * time.Second,
	}), app}
	w, err := c.Open(ctx, sinks.OpenRequest{
		App: sinktest.App, Target: sinktest.TargetName, Incarnation: "one", Outputs: killOutputs(),
	})
	if err != nil {
		return err
	}
	seq, _, err := w.Progress(ctx)
	if err != nil {
		return err
	}
	for {
		var epochs []sinks.Epoch
		for range 1 + seq%3 {
			seq++
			epochs = append(epochs, killEpoch(seq))
		}
		if err := w.Apply(ctx, epochs); err != nil {
			return err
		}
		fmt.Println(seq)
	}
}

// TestKill kills the writer at random moments. What a read_committed consumer then sees
// is exactly the epochs up to the progress: no row, no event lost, doubled or torn.
func TestKill(t *testing.T) {
	t.Parallel()
	c, cfg, app := newTarget(t)
	rng := rand.New(rand.NewPCG(7, uint64(time.Now().UnixNano())))
	applied := uint64(0)
	for cycle := range kills {
		applied = max(applied, runAndKill(t, app, c.Brokers(), time.Duration(rng.IntN(120_000))*time.Microsecond))
		w, err := (&renamed{kafka.Target(cfg), app}).Open(t.Context(), sinks.OpenRequest{
			App: sinktest.App, Target: sinktest.TargetName, Incarnation: "one", Outputs: killOutputs(),
		})
		if err != nil {
			t.Fatal(err)
		}
		seq, ok, err := w.Progress(t.Context())
		if err != nil || !ok || seq < applied {
			t.Fatalf("cycle %d: progress is %d, %v, %v; the writer was told of %d", cycle, seq, ok, err, applied)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		model := sinktest.NewModel([]sinks.Output{sinktest.Accounts})
		var wantEvents []string
		for s := uint64(1); s <= seq; s++ {
			_ = killEpoch(s).Items(func(it sinks.Item) bool {
				switch {
				case it.Event != nil:
					wantEvents = append(wantEvents, it.Event.ID)
				case it.Deleted:
					delete(model[it.Output], string(it.Key))
				default:
					model[it.Output][string(it.Key)] = sinktest.Text(it.Columns)
				}
				return true
			})
		}
		var rows, events []string
		for _, value := range c.Latest(t, app+"."+sinktest.Accounts.Name) {
			rows = append(rows, rowText(t, sinktest.Accounts, value))
		}
		slices.Sort(rows)
		for _, r := range c.Read(t, app+"."+sinktest.Stream.Name) {
			events = append(events, header(r, "tailrace-id"))
		}
		if want := model.Rows(sinktest.Accounts.ID); !slices.Equal(rows, want) {
			t.Fatalf("cycle %d, epoch %d: the table holds\n%q\nwant\n%q", cycle, seq, rows, want)
		}
		if !slices.Equal(events, wantEvents) {
			t.Fatalf("cycle %d, epoch %d: %d events, want %d", cycle, seq, len(events), len(wantEvents))
		}
	}
	t.Logf("%d kills, %d epochs", kills, applied)
}

// runAndKill runs a writer, kills it some time after its first commit, and returns the
// last epoch that it was told is committed.
func runAndKill(t *testing.T, app string, brokers []string, after time.Duration) (last uint64) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childEnv+"="+app+" "+strings.Join(brokers, ","))
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	for armed := false; lines.Scan(); {
		fmt.Sscan(lines.Text(), &last)
		if !armed {
			armed = true
			time.AfterFunc(after, func() { _ = cmd.Process.Kill() })
		}
	}
	var exit *exec.ExitError
	if err := cmd.Wait(); !errors.As(err, &exit) || exit.Exited() || last == 0 {
		t.Fatalf("the writer ended by itself: %v", err)
	}
	return last
}
