package topologytest

import "github.com/tailrace/tailrace/internal/task"

// DeadLetter is an input that an error policy has set aside.
type DeadLetter = task.DeadLetter

// DeadLetters returns what error policies have set aside so far, as committed, in order
// of source, transaction and row.
func (d *Driver) DeadLetters() []DeadLetter {
	d.t.Helper()
	var out []DeadLetter
	id, ok := d.storeIDs[task.DeadLetterStore]
	if !ok {
		return nil
	}
	_, err := task.ReadDeadLetters(d.db, id, nil, func(l *task.DeadLetter) bool {
		out = append(out, *l)
		return true
	})
	d.check(err)
	return out
}
