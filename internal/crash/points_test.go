package crash

import (
	"fmt"
	"os"
	"strings"

	"github.com/tailrace/tailrace/internal/failpoint"
)

// cyclePoints are the crash points that cycles go through in turn; the others are
// met in the beginning, when state is lost, or when the server is killed.
var cyclePoints = []string{
	failpoint.Received,
	failpoint.MidTransaction,
	failpoint.StateSpill,
	failpoint.StateIngest,
	failpoint.StateIngested,
	failpoint.BatchSync,
	failpoint.BatchApplied,
	failpoint.BeforeAck,
	failpoint.AfterAck,
	failpoint.SinkApplied,
	failpoint.SinkCommit,
	failpoint.SinkCommitted,
	failpoint.FileWritten,
	failpoint.FileTorn,
	failpoint.JoinerSync,
	failpoint.Joining,
}

// cyclePoint is where the app ends in each third cycle.
func cyclePoint(n int) string { return cyclePoints[n/3%len(cyclePoints)] }

// reconnects reports whether the app ends before it reads the log again, in a cycle that
// kills the server.
func reconnects(n int) bool { return n%2 == 0 }

// due are the crash points that a run of cycles has to reach.
func due(first, cycles int) map[string]bool {
	out := map[string]bool{
		failpoint.SlotCreated: true, failpoint.SnapshotRows: true, failpoint.SnapshotTable: true,
		failpoint.SnapshotSwitch: true, failpoint.SnapshotDone: true, failpoint.SinkReconcile: true,
	}
	for n := first; n < first+cycles; n++ {
		switch n % 3 {
		case 0:
			out[cyclePoint(n)] = true
		case 2:
			out[failpoint.AfterAckServer] = true
			// A kill after which the app goes on reconnects in most cases only.
			if reconnects(n) {
				out[failpoint.Reconnect] = true
			}
		}
	}
	return out
}

// hits is how often each crash point was reached.
func (s *suite) hits() map[string]int {
	data, err := os.ReadFile(s.app.hits)
	if err != nil {
		s.t.Fatal(err)
	}
	hits := map[string]int{}
	for line := range strings.Lines(string(data)) {
		hits[strings.TrimSpace(line)]++
	}
	return hits
}

// checkPoints fails where a crash point that is due was never reached, or what is
// compared at one could not have been otherwise. It says which the cycles leave out.
func (s *suite) checkPoints(first, cycles int) {
	hits := s.hits()
	s.t.Logf("crash points: %v; %d of %d cycles applied transactions; %d of %d kills of the server took "+
		"acknowledgements back; slots compared with checkpoints: %v and %v", hits, s.applied, cycles, s.behind,
		s.kills, s.app.checked, s.tables.checked)
	due := due(first, cycles)
	var out []string
	for _, point := range failpoint.Points() {
		switch {
		case hits[point] > 0:
		case due[point]:
			s.t.Errorf("crash point %s was never reached", point)
		default:
			out = append(out, point)
		}
	}
	if len(out) > 0 {
		fmt.Printf("crash points that cycles %d to %d do not have: %s\n", first, first+cycles-1,
			strings.Join(out, ", "))
	}
	if s.kills > 1 && s.behind == 0 {
		s.t.Error("the slot never stood behind what was acknowledged before the server was killed")
	}
	for _, a := range []*app{s.app, s.tables} {
		for database := range a.reads() {
			if a.checked[database] == 0 {
				s.t.Errorf("the slot %s was never compared with the checkpoint", a.slot(database))
			}
		}
	}
	if s.stocked.Load() == 0 {
		s.t.Error("nothing was written to the second database")
	}
}
