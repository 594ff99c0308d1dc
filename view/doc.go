// Package view is the reading side of Tailrace: typed handles of the views that
// topologies keep, the host that shows them one committed moment at a time, and
// the HTTP server in front of it.
//
// # One moment, one snapshot
//
// Every read is of one moment: a snapshot of the state together with the
// position in the sources that the same commit recorded. A moment never mixes
// commits, so a source transaction is either wholly in it or not at all
// (contract 1), also across several views (see [At]).
//
// The engine has one committer. After each durable commit, and before the next
// one begins, it opens a snapshot of the database and hands it to
// [Host.Publish] with the commit's positions. That order is all that keeps
// snapshot and position together, and readers need no lock: they load one
// pointer. Opening a snapshot at every commit was chosen over opening it when a
// reader first asks, because it is cheap: Publish with Pebble takes about 1.5
// microseconds, snapshot included (BenchmarkPublish), beside the 20 or more of a small
// commit. A lazy snapshot would need a lock around every commit to save that.
//
// A snapshot is counted: the host holds it while it is current, each reader while
// it reads, each HTTP cursor for at most its time to live. The last one closes it.
//
// When only the frontier moves (the sources are idle, or only tables that no
// topology reads are busy) the engine calls [Host.Advance]: same snapshot, later
// position. [View.WaitFor] is therefore satisfied on an idle database too.
//
// # Watching
//
// [View.Watch] delivers whole epochs. The publisher never waits for a watcher: each
// has a bounded buffer, and one that is outrun gets a reset event, after which it
// reads on from a later position. Changes are looked up only for views that
// somebody watches; the old values come from the previous moment's snapshot.
package view
