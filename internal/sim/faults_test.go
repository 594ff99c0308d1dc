package sim

// faults is what goes wrong, and when.
type faults struct{ world *world }

func newFaults(w *world) *faults { return &faults{world: w} }

// request is told the kind of each request of a member.
func (f *faults) request(int16) fate { return passes }

// hit is called at the crash points.
func (f *faults) hit(*life, string) error { return nil }
