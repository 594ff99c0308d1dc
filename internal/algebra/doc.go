// Package algebra runs each operator by itself, without a database: the step machine is
// fed rows as a source hands them over, and the state is in memory. What is measured and
// what is held to bounds, the time and the allocations of an operator, is measured here
// in one way: the benchmark and the test of package operators share its cases.
package algebra
