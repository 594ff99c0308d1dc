package engine

import (
	"strconv"
	"testing"
)

// A target is told which outputs it is yet to be given as a whole: what their tables hold does
// not matter then.
func TestOutputsThatComeWhole(t *testing.T) {
	b := newBench(t, asTable)
	down := make(chan struct{}, 1000)
	refuse := func() error {
		down <- struct{}{}
		return errDown
	}
	b.source.tx(true, 1)
	for i, step := range []struct {
		name          string
		version       int
		refuses, want bool
	}{
		{"the first start", 0, true, true},
		{"nothing is taken yet", 0, true, true},
		{"about to be taken", 0, false, true},
		{"taken", 0, false, false},
		{"another version", 1, true, true},
		{"of which nothing is taken", 1, false, true},
		{"of which all is", 1, false, false},
	} {
		key := strconv.Itoa(10 + i)
		if step.name == "another version" {
			b.source.tx(true, 1, 2)
		}
		b.source.tx(false, 10+i)
		b.version, b.target.refuse = step.version, nil
		if step.refuses {
			b.target.refuse = refuse
		}
		if err := b.run(func(*Engine) {
			if step.refuses {
				wait(t, down)
				return
			}
			for wait(t, b.target.taken).columns[0] != key {
			}
		}); err != nil {
			t.Fatal(err)
		}
		if whole := b.target.opened.Outputs[0].Whole; whole != step.want {
			t.Errorf("%s: the output comes whole: %v, want %v", step.name, whole, step.want)
		}
	}
}
