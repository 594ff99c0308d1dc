package topology

import "testing"

// TestUserFrame finds the place of a panic in stacks as the runtime prints them.
func TestUserFrame(t *testing.T) {
	const (
		top   = "goroutine 1 [running]:\nruntime/debug.Stack()\n\truntime/debug/stack.go:26 +0x5e\n"
		raise = "panic({0x1, 0x2?})\n\truntime/panic.go:860 +0x13a\n"
		task  = "github.com/tailrace/tailrace/internal/task.(*Task).step(0x1)\n\t/x/internal/task/task.go:9 +0x1\n" +
			"main.main()\n\t/x/main.go:1 +0x1\n"
		op    = "github.com/tailrace/tailrace/operators.(*mapValues[...]).Step(0x1)\n\t/x/operators/map.go:5 +0x1\n"
		mine  = "main.run.func1(0x1)\n\t/home/me/main.go:101 +0x2\n"
		std   = "runtime.panicdivide()\n\truntime/panic.go:6 +0x1\nstrings.Map(...)\n\tstrings/strings.go:7\n"
		other = "example.com/shop/v2.Fn[...](...)\n\t/home/me/shop/fn.go:7\n"
		sum   = "github.com/tailrace/tailrace/examples/revenue/revenue.F({0x1, 0x2})\n\t/x/revenue.go:8 +0x1\n"
	)
	for name, c := range map[string]struct{ stack, want string }{
		"main":                     {top + raise + mine + op + task, "main.go:101"},
		"below the runtime":        {top + raise + std + mine + op + task, "main.go:101"},
		"the topmost":              {top + raise + other + mine + op + task, "fn.go:7"},
		"an example of the module": {top + raise + op + sum + op + task, "revenue.go:8"},
		"nobody's but ours":        {top + raise + op + task, ""},
		"another goroutine's": {top + raise + op +
			"created by main.main in goroutine 1\n\t/home/me/main.go:3 +0x1\n", ""},
		"a panic above another":  {top + raise + other + raise + mine + op + task, "fn.go:7"},
		"what defers, above":     {top + mine + raise + other + op + task, "fn.go:7"},
		"no panic in the stack":  {top + mine, ""},
		"a stack that ends soon": {top + "panic(", ""},
	} {
		if got := userFrame(c.stack); got != c.want {
			t.Errorf("%s: got %q, want %q", name, got, c.want)
		}
	}
}
