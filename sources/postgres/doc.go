// Package postgres is the source that reads PostgreSQL's own log, by logical replication
// with the pgoutput plugin: a snapshot of the tables as one transaction, then every
// transaction in commit order, without gap or duplicate between the two.
package postgres
