//go:build !race

package view

// memoryCost multiplies what an attack may cost in memory; see race_on_test.go.
const memoryCost = 1
