// Package crash kills a running app, and the database under it, over and over, and
// compares what it shows with SQL and with the log after each restart.
package crash
