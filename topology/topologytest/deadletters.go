package topologytest

import (
	"maps"
	"slices"

	"github.com/tailrace/tailrace/internal/task"
)

// DeadLetter is an input that an error policy has set aside.
type DeadLetter = task.DeadLetter

// DeadLetters returns what error policies have set aside so far, as committed: of streams
// in order of source, transaction and row, and then the keys that tables have parked. It
// is empty without a policy that does so.
func (d *Driver) DeadLetters() []DeadLetter {
	d.t.Helper()
	var out []DeadLetter
	for _, store := range slices.Sorted(maps.Keys(d.storeIDs)) {
		if !task.HoldsLetters(store) {
			continue
		}
		_, err := task.ReadDeadLetters(d.db, d.topology.Name(), store, d.storeIDs[store], nil,
			func(l *task.DeadLetter) bool {
				out = append(out, *l)
				return true
			})
		d.check(err)
	}
	return out
}

// ReplayDeadLetters commits what was fed, has dead letters tried again, by their ids or
// all where none is given, and commits what comes of it. It returns how many were tried
// and how many of them have failed again; letters that cannot be read fail the test.
func (d *Driver) ReplayDeadLetters(ids ...string) (tried, failed int) {
	d.t.Helper()
	d.check(d.commit())
	out, err := d.task.ReplayLetters(wanted(ids), d.commits)
	d.check(err)
	for id, err := range out.Unreadable {
		d.fatalf("dead letter %s: %v", id, err)
	}
	if out.Tried > 0 {
		d.check(d.commit())
	}
	return out.Tried, out.Failed
}

// DropDeadLetters commits what was fed and removes dead letters, by their ids or all where
// none is given. It returns how many there were.
func (d *Driver) DropDeadLetters(ids ...string) int {
	d.t.Helper()
	d.check(d.commit())
	n, err := d.task.DropLetters(wanted(ids))
	d.check(err)
	if n > 0 {
		d.check(d.commit())
	}
	return n
}

func wanted(ids []string) func(string) bool {
	if len(ids) == 0 {
		return nil
	}
	named := map[string]bool{}
	for _, id := range ids {
		named[id] = true
	}
	return func(id string) bool { return named[id] }
}
