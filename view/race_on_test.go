//go:build race

package view

// memoryCost multiplies what an attack may cost in memory: the race detector keeps shadow
// memory of 4 times what the program touches, and its own state of each goroutine.
const memoryCost = 6
