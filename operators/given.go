package operators

import (
	"fmt"
	"reflect"
	"time"

	"github.com/tailrace/tailrace/record"
	"github.com/tailrace/tailrace/topology"
)

// function is one that the user gives an operator, by the name of the parameter.
type function struct {
	name string
	f    any
}

// given reports to Build those functions of an operator that are nil, of which otherwise
// the first record would tell, and whether there are none.
func given(b *topology.Builder, operator string, functions ...function) bool {
	all := true
	for _, g := range functions {
		if reflect.ValueOf(g.f).IsNil() {
			b.Errorf("topology: %s: its %s is nil; give it a function", operator, g.name)
			all = false
		}
	}
	return all
}

// checkSpan reports a span of time that is shorter than it may be, or that event times
// cannot tell.
func checkSpan(what string, d, least time.Duration) error {
	_, whole := record.SpanMicros(d)
	switch {
	case d < least && least == 0:
		return fmt.Errorf("the %s is %v; it must not be negative", what, d)
	case d < least:
		return fmt.Errorf("the %s is %v; it must be at least %v", what, d, least)
	case !whole:
		return fmt.Errorf("the %s is %v; times are whole microseconds, so give a multiple of one", what, d)
	}
	return nil
}

// named is an operator with its name, as given reports it.
func named(operator, name string) string { return fmt.Sprintf("%s %q", operator, name) }

// reading is an operator that has no name of its own, with what it reads.
func reading(operator string, in handle) string { return operator + inputName(in.Node()) }
