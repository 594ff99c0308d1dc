package topology

import (
	"fmt"
	"runtime"
	"slices"
	"strings"
)

// orPanic returns b. Where it is nil the handle is the zero one and there is no builder
// whose Build could report it: the node would be missing without a word.
func orPanic(b *Builder) *Builder {
	if b == nil {
		function, place := wiringCall()
		panic(fmt.Sprintf("topology: %s, called at %s, has no input: its handle is the zero one, which no source "+
			"and no operator returned; look for a misspelt branch of Split and for a variable that is not assigned",
			function, place))
	}
	return b
}

// wiringCall returns which function of the packages that topologies are made with is
// being called, and from where.
func wiringCall() (function, place string) {
	var pcs [64]uintptr
	frames := runtime.CallersFrames(pcs[:runtime.Callers(3, pcs[:])])
	for {
		f, more := frames.Next()
		name, ours := strings.CutPrefix(f.Function, module)
		pkg, _, _ := strings.Cut(name, ".")
		if !ours || !slices.Contains([]string{"operators", "sinks", "topology"}, pkg) {
			return function, fmt.Sprintf("%s:%d", f.File, f.Line)
		}
		function = strings.ReplaceAll(name, "[...]", "")
		if !more {
			return function, "an unknown place"
		}
	}
}
