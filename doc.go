// Package tailrace turns database change streams into joined, aggregated,
// always-consistent views.
package tailrace
