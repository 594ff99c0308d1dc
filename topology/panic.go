package topology

import (
	"fmt"
	"path"
	"runtime/debug"
	"slices"
	"strings"
)

// PanicError is a panic of a user function, with the stack it came from.
type PanicError struct {
	Value any
	Stack []byte
	// At is the place in the user's code, such as "main.go:101"; "" if there is none.
	At string
}

// NewPanicError makes an error of what recover gave. It is called in the deferred
// function, where the stack still has the place of the panic.
func NewPanicError(value any) *PanicError {
	stack := debug.Stack()
	return &PanicError{Value: value, Stack: stack, At: userFrame(string(stack))}
}

// Error gives the panic's value and its place.
func (e *PanicError) Error() string {
	if e.At == "" {
		return fmt.Sprintf("panic: %v", e.Value)
	}
	return fmt.Sprintf("panic: %v (%s)", e.Value, e.At)
}

// module is this module's path, a slash behind it.
const module = "github.com/tailrace/tailrace/"

// ownPackages are those of this module that lie between user functions and the task,
// which calls them all. All others, such as the examples, count as the user's.
var ownPackages = []string{"operators", "topology", "internal/engine", "state", "sinks", "sources"}

const taskPackage = module + "internal/task"

// userFrame finds the topmost frame of a stack below the panic that is neither of the
// standard library nor of ownPackages: "file.go:line". Where it comes to the task first,
// no user function was running.
func userFrame(stack string) string {
	_, stack, below := strings.Cut(stack, "\npanic(")
	if !below {
		return ""
	}
	lines := strings.Split(stack, "\n")
	// What remains of panic's own frame is its arguments and its place; then each frame is
	// two lines, the function and its place.
	for i := 2; i+1 < len(lines); i += 2 {
		place, ok := strings.CutPrefix(lines[i+1], "\t")
		if !ok {
			return ""
		}
		place, _, _ = strings.Cut(place, " +0x")
		pkg := packageOf(lines[i])
		switch {
		case strings.Contains(place, "_test.go:") || isUsers(pkg):
			return path.Base(place)
		case pkg == taskPackage || strings.HasPrefix(pkg, "created by "):
			return ""
		}
	}
	return ""
}

// isUsers reports whether a package is the user's.
func isUsers(pkg string) bool {
	if own, ok := strings.CutPrefix(pkg, module); ok {
		return pkg != taskPackage && !slices.ContainsFunc(ownPackages, func(p string) bool {
			return own == p || strings.HasPrefix(own, p+"/")
		})
	}
	if info, ok := debug.ReadBuildInfo(); ok && strings.HasPrefix(pkg+"/", info.Main.Path+"/") {
		return true // Its path may look like one of the standard library.
	}
	first, _, _ := strings.Cut(pkg, "/")
	return pkg == "main" || strings.Contains(first, ".")
}

// packageOf cuts a function of a stack, "host/path/pkg.(*T).f[...](0x1)", to its package.
func packageOf(function string) string {
	dir, name := "", function
	if end := strings.IndexAny(function, "([{"); end >= 0 {
		name = function[:end]
	}
	if slash := strings.LastIndex(name, "/"); slash >= 0 {
		dir, name = name[:slash+1], name[slash+1:]
	}
	name, _, _ = strings.Cut(name, ".")
	return dir + name
}
