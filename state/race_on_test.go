//go:build race

package state_test

// raceDetector says that the test runs under the race detector, where a read from the
// database takes twenty times as long.
const raceDetector = true
