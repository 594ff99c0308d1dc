// Package mutants puts faults into the code, one at a time, and requires that the tests
// which are there to find such a fault do. Whether each still fits the code is checked with
// all other tests; make mutants builds and runs them.
package mutants
