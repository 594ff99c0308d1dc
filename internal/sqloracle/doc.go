// Package sqloracle compares the operators on tables with SQL: its test gives the same
// random transactions to PostgreSQL and to a topology, and after each of them every
// operator's rows must be those of a query.
package sqloracle
