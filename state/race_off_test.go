//go:build !race

package state_test

// raceDetector says that the test runs under the race detector.
const raceDetector = false
