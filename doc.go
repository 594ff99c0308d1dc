// Package tailrace turns database change streams into joined, aggregated,
// always-consistent views.
//
// # A tour
//
// A topology says what is computed. Package topology has the builder and the handles
// ([topology.Table] and [topology.Stream]), package sources the nodes that read a
// database, package operators what is done with them, and package sinks where results
// go. A topology is a plain value: it contacts nothing.
//
// An [App] runs topologies: it reads each database by one replication slot, keeps the
// state in a directory, shows views and writes targets. What it shows is always the
// state after some transaction of the source, never one in between.
//
//	app, err := tailrace.New(tailrace.Config{App: "revenue", StateDir: "state"}, topo)
//	...
//	err = app.Run(ctx) // until ctx ends
//
// Views are read through the handles that sinks.View returned (package view), or over
// HTTP at Config.Addr. [App.Verify] compares a view with SQL, at one position of the
// database's log. [App.Destroy] removes what the app made in its databases.
//
// Topologies are tested without a database by package topology/topologytest. The
// programs below examples are complete; `make demo` shows three of them at work.
package tailrace
